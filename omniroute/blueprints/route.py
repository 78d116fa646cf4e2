"""What a row of the table of tiers is made of: methods at a rule, whom it admits, whose dialect its answers speak."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from omniroute.services.access import Power


class Tier(StrEnum):
    """Whom a route admits. The letters are those of the route lists in the documentation."""

    P = "P"
    """Anyone; the answer carries no configuration."""
    C = "C"
    """Inference callers: API key, environment key, keyless loopback where allowed, session with CSRF token."""
    M_READ = "M:r"
    M_WRITE = "M:w"
    M_ADMIN = "M:a"
    X = "X"
    """Like M:a (or the row's power), and a credential is required even when login is switched off."""
    L = "L"
    """Loopback callers with admin power."""
    S = "S"
    """Starts processes: a dashboard session from anywhere, or admin power from loopback."""
    T = "T"
    """A single-use ticket that the view itself checks."""
    D = "D"
    """Dashboard page: a session, otherwise the login page."""


class Family(StrEnum):
    """Whose dialect the answers of a path speak."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    OLLAMA = "ollama"
    MANAGEMENT = "management"
    PAGE = "page"
    PLAIN = "plain"


_POWER_OF_TIER: Final = {
    Tier.M_READ: Power.READ,
    Tier.M_WRITE: Power.WRITE,
    Tier.M_ADMIN: Power.ADMIN,
    Tier.X: Power.ADMIN,
    Tier.L: Power.ADMIN,
    Tier.S: Power.ADMIN,
}


@dataclass(frozen=True, slots=True)
class Route:
    """One row: methods at a rule, and what a caller needs there.

    Attributes:
        power: management power needed; by default that of the tier.
        endpoint: name of an inference endpoint as keys list it in `allowedEndpoints`.
        scope: key scope that opens an inference route instead of the inference scopes.
        checks_origin: origin or CSRF token are checked although the tier asks for no credential.
        is_reduced: a caller without any credential gets a reduced answer instead of 401.
        is_open_on_loopback: a loopback caller needs no credential.
        is_upload: its body is a file, which may be larger than other bodies.
    """

    methods: tuple[str, ...]
    rule: str
    tier: Tier
    family: Family = Family.MANAGEMENT
    power: Power | None = None
    endpoint: str = ""
    scope: str | None = None
    checks_origin: bool = False
    is_reduced: bool = False
    is_open_on_loopback: bool = False
    is_upload: bool = False

    @property
    def needed_power(self) -> Power | None:
        """The management power that the row asks for; None where management power plays no part."""
        return self.power if self.power is not None else _POWER_OF_TIER.get(self.tier)


GET: Final = ("GET",)
POST: Final = ("POST",)
PUT: Final = ("PUT",)
PATCH: Final = ("PATCH",)
DELETE: Final = ("DELETE",)
CHANGE: Final = ("PUT", "PATCH")
"""PUT and PATCH are aliases of each other wherever one is listed."""

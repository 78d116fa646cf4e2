"""What a caller asked of routing in the headers of one request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Asks:
    """Routing headers with usable values; the defaults stand for headers that were not sent.

    Attributes:
        session: the session key that the caller named.
        native_session: the one that a client sends of its own accord.
        mode: one of the words of `X-OmniRoute-Mode`.
        budget_nano: highest cost of the request in nano-USD.
        is_budget_strict: refuse rather than exceed the budget; None leaves it to the settings.
        has_priority: asks for the quota reserve; whether it may have it is the key's to say.
        connection_id: the only connection that may serve.
        warnings: a word for each header that could not be used.
    """

    session: str | None = None
    native_session: str | None = None
    mode: str = ""
    budget_nano: int | None = None
    is_budget_strict: bool | None = None
    has_priority: bool = False
    connection_id: str | None = None
    warnings: tuple[str, ...] = ()


NO_ASKS: Final = Asks()
"""None of the headers was sent."""

MOST_SESSION_CHARACTERS: Final = 256


def is_session_key(text: str) -> bool:
    """Say whether a text can name a session: 1 to 256 printable characters."""
    return 0 < len(text) <= MOST_SESSION_CHARACTERS and text.isprintable() and not text.isspace()


def ignored(what: str) -> str:
    """Return the warning that something could not be used and counts as not sent."""
    return f"{what}:ignored"

"""What is true at one instant: rests, load, latency, prices do not stand still. Frozen values, read through `View`.

Planning asks a view only for what it needs. What a view answered is what a decision record keeps, so that the same
plan can be made again. Times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Protocol

from msgspec import Struct

from omniroute.routing.options import Account


class BreakerState(StrEnum):
    """State of a provider's breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Rest(Struct, frozen=True, omit_defaults=True, gc=False):
    """Why something is left out, and until when.

    Attributes:
        reason: a word of `plan.Reason`.
        until: when it ends; None where only somebody's action ends it.
        needs_probe: it has ended by time, and one request has to try before all may.
        kind: the failure that led to it (`rate`, `quota`, `auth`, …).
        hint_source: where the time came from; None when we computed it.
        since: when it began.
    """

    reason: str
    until: float | None = None
    needs_probe: bool = False
    kind: str | None = None
    hint_source: str | None = None
    detail: str | None = None
    since: float | None = None


class QuotaWindow(Struct, frozen=True, gc=False):
    """How much of a provider's grant is used. `used` is a fraction, None when not known.

    Attributes:
        kind: `credit` for what lasts until it is spent: it neither lapses nor is any of it held back.
        read_at, stale_at: when it was read, and from when on the reading is too old to go by; None for never.
        family: the family of models, or the one model, that it is about; "" for all.
    """

    id: str
    used: float | None = None
    resets_at: float | None = None
    length_s: float | None = None
    kind: str = ""
    source: str = ""
    read_at: float = 0.0
    stale_at: float | None = None
    family: str = ""


class Load(Struct, frozen=True, omit_defaults=True, gc=False):
    """How busy an account is.

    Attributes:
        in_flight: requests that it serves now, as far as this worker knows.
        last_used_at: when an attempt last started; 0 is never.
        free_at: when its pacing lets the next request start; 0 is now.
        is_full: all its places are taken.
        windows: its quota windows; empty when nothing is known.
    """

    in_flight: int = 0
    last_used_at: float = 0.0
    free_at: float = 0.0
    is_full: bool = False
    windows: tuple[QuotaWindow, ...] = ()


class Breaker(Struct, frozen=True, omit_defaults=True, gc=False):
    """A provider's breaker."""

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    until: float | None = None
    is_degraded: bool = False
    """Closed, but above the threshold at which operators want to know."""


class Figures(Struct, frozen=True, omit_defaults=True, gc=False):
    """How an option has done lately. Milliseconds; None is not known.

    Attributes:
        ok, total: outcomes of the last 15 minutes.
        failed_at: times of the failures of the last 10 minutes, newest last.
        output_mean: tokens of an answer.
        low_score_until: out for a bad score until then; 0 is not.
        low_score_trips: how often in a row.
        needs_probe: back from a bad score, and one request has to try before all may.
    """

    ok: int = 0
    total: int = 0
    failed_at: tuple[float, ...] = ()
    ttft_p50: float | None = None
    ttft_p95: float | None = None
    total_p50: float | None = None
    total_p95: float | None = None
    output_mean: float | None = None
    low_score_until: float = 0.0
    low_score_trips: int = 0
    needs_probe: bool = False

    @property
    def success(self) -> float:
        """Success ratio with a prior: 0.8 when nothing is known."""
        return (self.ok + 4) / (self.total + 5)


class Binding(Struct, frozen=True, omit_defaults=True, gc=False):
    """Where a session stays at a provider."""

    connection_id: str
    target: str | None = None


IDLE: Final = Load()
CLOSED: Final = Breaker()
UNKNOWN: Final = Figures()


class Parties(Struct, frozen=True):
    """Whose health and load a block depends on: accounts by provider, and the providers."""

    accounts: Mapping[str, tuple[Account, ...]]
    providers: frozenset[str]


NOBODY: Final[frozenset[str]] = frozenset()


class View(Protocol):
    """The numbers of one instant."""

    def calm(self, parties: Parties) -> frozenset[str]:
        """Return providers of which nothing is known that speaks against their accounts.

        Neither they nor any of the accounts rest, are locked out of a model, count failures for a breaker, or have to
        be waited for. Where these are all, it is `parties.providers` itself. Who is left out may be calm all the same:
        a view that is only asked now and then need not find that out.
        """
        ...

    def rest(self, account_id: str, rest_scope: str) -> Rest | None:
        """Return why an account rests (cooling, dead, no credit, spent quota); None when it does not."""
        ...

    def lockout(self, account_id: str, model: str) -> Rest | None:
        """Return why a model is locked out on an account; None when it is not."""
        ...

    def breaker(self, provider: str) -> Breaker:
        """Return the breaker of a provider."""
        ...

    def load(self, account_id: str) -> Load:
        """Return how busy an account is."""
        ...

    def figures(self, option_name: str) -> Figures:
        """Return how an option has done lately."""
        ...

    def uses(self, scope: str, step_id: str, window_min: int) -> int:
        """Return how many requests a step of a combo has served within a window."""
        ...

    def counter(self, scope: str, kind: str) -> Any:
        """Return what a strategy keeps under a scope (a JSON value); None when nothing is kept."""
        ...

    def binding(self, session: str, provider: str) -> Binding | None:
        """Return where a session stays at a provider; None when it is not bound."""
        ...

    def last_good(self, scope: str, session: str) -> str | None:
        """Return the name of the option that last served a session ("" for all) under a scope; None for none."""
        ...


class Still:
    """A view of given numbers: for replay, simulation and tests. What is not given is at rest, idle and unknown."""

    def __init__(
        self,
        *,
        rests: Mapping[str, Rest] | None = None,
        lockouts: Mapping[tuple[str, str], Rest] | None = None,
        breakers: Mapping[str, Breaker] | None = None,
        loads: Mapping[str, Load] | None = None,
        figures: Mapping[str, Figures] | None = None,
        uses: Mapping[tuple[str, str], int] | None = None,
        counters: Mapping[tuple[str, str], Any] | None = None,
        bindings: Mapping[tuple[str, str], Binding] | None = None,
        last_good: Mapping[tuple[str, str], str] | None = None,
    ) -> None:
        self._rests = rests or {}
        self._lockouts = lockouts or {}
        self._breakers = breakers or {}
        self._loads = loads or {}
        self._figures = figures or {}
        self._uses = uses or {}
        self._counters = counters or {}
        self._bindings = bindings or {}
        self._last_good = last_good or {}

    def calm(self, parties: Parties) -> frozenset[str]:
        """See :class:`View`: here each account is asked about."""
        del parties
        return NOBODY

    def rest(self, account_id: str, rest_scope: str) -> Rest | None:
        """See :class:`View`."""
        return self._rests.get(account_id) or self._rests.get(rest_scope)

    def lockout(self, account_id: str, model: str) -> Rest | None:
        """See :class:`View`."""
        return self._lockouts.get((account_id, model))

    def breaker(self, provider: str) -> Breaker:
        """See :class:`View`."""
        return self._breakers.get(provider, CLOSED)

    def load(self, account_id: str) -> Load:
        """See :class:`View`."""
        return self._loads.get(account_id, IDLE)

    def figures(self, option_name: str) -> Figures:
        """See :class:`View`."""
        return self._figures.get(option_name, UNKNOWN)

    def uses(self, scope: str, step_id: str, window_min: int) -> int:
        """See :class:`View`."""
        del window_min
        return self._uses.get((scope, step_id), 0)

    def counter(self, scope: str, kind: str) -> Any:
        """See :class:`View`."""
        return self._counters.get((scope, kind))

    def binding(self, session: str, provider: str) -> Binding | None:
        """See :class:`View`."""
        return self._bindings.get((session, provider))

    def last_good(self, scope: str, session: str) -> str | None:
        """See :class:`View`."""
        return self._last_good.get((scope, session))

"""What a caller's budgets and limits say to one more request.

A request is let in while what was spent and what others in flight may still cost stay below the limit: so the last one
may cross it, and the overspend is bounded by what is in flight at that moment. What a request may cost is held from
before it is sent until its row is in the log, whose sum is what was spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from omniroute.money.periods import Window, window_at
from omniroute.records import Budget, RateRule, TokenLimit

EVERYBODY: Final = "*"
"""The scope of all callers together."""
KEYLESS: Final = "local"
_BUCKETS: Final = 60
_DAY_S: Final = 86_400


class Kind(StrEnum):
    """What a limit counts."""

    BUDGET = "budget"
    TOKENS = "tokens"
    REQUESTS = "requests"


@dataclass(frozen=True, slots=True)
class Hold:
    """A limit that a request falls under, in the window that holds now.

    Attributes:
        id: `budget:<scope>:<period>`, `tokens:<limit>` or `requests:<key>:<seconds>`.
        scope_id: whose it is.
        amount: what the request may use of it: nano-USD, tokens, or 1.
        window: for requests, their bucket and the time at which it no longer counts.
        of: the provider or `provider/model` that it is about; None for everything.
        since: for requests, the time after which buckets begin that count.
    """

    kind: Kind
    id: str
    scope_id: str
    period: str
    window: Window
    limit: int
    amount: int = 1
    of: tuple[str, str] | None = None
    since: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a limit is used: what is settled, and what requests in flight hold.

    Attributes:
        resets_at: epoch second at which some of it is free again.
    """

    hold: Hold
    used: int
    reserved: int = 0
    resets_at: int = 0

    @property
    def is_open(self) -> bool:
        """Whether one more request may start."""
        if self.hold.kind is Kind.REQUESTS:
            return self.used + self.hold.amount <= self.hold.limit
        return self.used + self.reserved < self.hold.limit

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left, whatever becomes of the requests in flight."""
        return self.used >= self.hold.limit

    @property
    def remaining(self) -> int:
        """What is left of it for others."""
        return max(0, self.hold.limit - self.used - self.reserved)


def budget_hold(budget: Budget, at: float, nano_usd: int = 0) -> Hold:
    """Return a budget as a limit of a request that is expected to cost so much."""
    window = window_at(budget.period, at, reset_time=budget.reset_time, time_zone=budget.time_zone)
    name = budget_id(budget.scope_id, budget.period)
    return Hold(Kind.BUDGET, name, budget.scope_id, budget.period, window, budget.limit_nano_usd, nano_usd)


def budget_id(scope_id: str, period: str) -> str:
    """Return what reservations of a budget are kept under."""
    return f"{Kind.BUDGET}:{scope_id}:{period}"


def token_hold(limit: TokenLimit, at: float, tokens: int = 0) -> Hold:
    """Return a token limit as a limit of a request that is expected to use so many."""
    window = window_at(limit.period, at)
    of = None if limit.scope_type == "global" else (limit.scope_type, limit.scope_value or "")
    return Hold(
        Kind.TOKENS, f"{Kind.TOKENS}:{limit.id}", limit.scope_id, limit.period, window, limit.token_limit, tokens, of
    )


def rate_hold(key_id: str, limit: int, window_s: int, at: float) -> Hold:
    """Return a rule of at most `limit` requests in any `window_s` seconds.

    Requests are counted in buckets of a sixtieth of that. All that may hold a request of the last `window_s` seconds
    count in full, so that the rule is never exceeded, and holds up to a sixtieth longer than it says.
    """
    bucket_s = max(1, window_s // _BUCKETS)
    start = int(at) - int(at) % bucket_s
    window = Window(start, start + bucket_s + window_s)
    name = f"{Kind.REQUESTS}:{key_id}:{window_s}"
    return Hold(Kind.REQUESTS, name, key_id, f"{window_s}s", window, limit, since=int(at) - window_s - bucket_s)


def concerns(of: tuple[str, str] | None, provider: str, model: str) -> bool:
    """Say whether a limit of this provider or model counts a request that `provider/model` answers."""
    if of is None:
        return True
    scope_type, value = of
    if scope_type == "provider":
        return value == provider
    return value in (f"{provider}/{model}", model)


def rules_in_force(own: tuple[RateRule, ...], default_per_day: int) -> tuple[RateRule, ...]:
    """Return the rules of a key: its own, or else the one for keys without any; 0 stands for no such rule."""
    if own or not default_per_day:
        return own
    return (RateRule(default_per_day, _DAY_S),)


def concurrency_scope(key_id: str) -> str:
    """Return what the places of a key's running requests are kept under."""
    return f"key:{key_id}"


def sessions_scope(key_id: str) -> str:
    """Return what the places of a key's sessions are kept under."""
    return f"sessions:{key_id}"


def scopes_of(key_id: str | None) -> tuple[str, ...]:
    """Return the scopes that a caller's requests count for."""
    return (key_id, EVERYBODY) if key_id else (EVERYBODY,)


@dataclass(frozen=True, slots=True)
class Used:
    """What one settled request used."""

    time: float
    key_id: str | None
    provider: str
    model: str
    nano_usd: int
    tokens: int
    is_unpriced: bool = False


@dataclass(slots=True)
class Sum:
    """What requests used of one limit in one window."""

    window: Window
    amount: int = 0
    requests: int = 0
    unpriced: int = 0


def spent_of_budgets(used: Iterable[Used], budgets: Mapping[str, Sequence[Budget]]) -> dict[tuple[str, str, int], Sum]:
    """Add settled requests up by (scope, period, start of its window).

    A request counts for the window in which it began, whenever it ends.
    """
    sums: dict[tuple[str, str, int], Sum] = {}
    for one in used:
        for scope in scopes_of(one.key_id):
            for budget in budgets.get(scope, ()):
                hold = budget_hold(budget, one.time)
                key = (scope, budget.period, hold.window.start)
                found = sums.setdefault(key, Sum(hold.window))
                found.amount += one.nano_usd
                found.requests += 1
                found.unpriced += one.is_unpriced
    return sums


def used_of_limits(used: Iterable[Used], limits: Mapping[str, Sequence[TokenLimit]]) -> dict[tuple[str, int], Sum]:
    """Add the tokens of settled requests up by (limit, start of its window)."""
    sums: dict[tuple[str, int], Sum] = {}
    for one in used:
        for scope in scopes_of(one.key_id):
            for limit in limits.get(scope, ()):
                hold = token_hold(limit, one.time)
                if not one.tokens or not concerns(hold.of, one.provider, one.model):
                    continue
                found = sums.setdefault((hold.id, hold.window.start), Sum(hold.window))
                found.amount += one.tokens
                found.requests += 1
    return sums

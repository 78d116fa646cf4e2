"""How far the limits of an API key are used: its request rules, what it does at once, its sessions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from omniroute.money.limits import Standing, concurrency_scope, rate_hold, rules_in_force, sessions_scope
from omniroute.records import ApiKey
from omniroute.storage.ledger import Ledger


class RequestRuleDocument(TypedDict):
    """A rule of so many requests in so many seconds, and how far it is used."""

    limit: int
    windowSeconds: int
    used: int
    remaining: int
    resetsAt: str | None


class BoundDocument(TypedDict):
    """How much of something a key may have at once, null for any number, and how much it has, where that is counted."""

    limit: int | None
    inUse: int | None


class KeyLimitsDocument(TypedDict):
    """What limits a key beside its budgets and token limits."""

    requests: list[RequestRuleDocument]
    concurrency: BoundDocument
    sessions: BoundDocument
    throttleDelayMs: int


@dataclass(frozen=True, slots=True)
class RuleState:
    """A rule of so many requests in so many seconds, and how many there were."""

    window_s: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class Bound:
    """How much of something a key may have at once, None for any number, and how much it has.

    Only what is bounded is counted: without a bound `in_use` is None.
    """

    limit: int | None
    in_use: int | None


@dataclass(frozen=True, slots=True)
class KeyLimitsState:
    """What limits a key beside its budgets and token limits."""

    rules: tuple[RuleState, ...]
    concurrency: Bound
    sessions: Bound
    throttle_ms: int


_NOTHING = KeyLimitsState((), Bound(None, None), Bound(None, None), 0)


class KeyLimits:
    """Looks at the limits that stand on keys themselves."""

    def __init__(self, *, ledger: Ledger, default_per_day: int, now: Callable[[], float]) -> None:
        """`default_per_day`: requests of a key without rules of its own; 0 for no such rule."""
        self._ledger = ledger
        self._default_per_day = default_per_day
        self._now = now

    def of(self, key: ApiKey | None) -> KeyLimitsState:
        """Return how far a key's limits are used; None is a caller without a key, who has none."""
        if key is None:
            return _NOTHING
        now = self._now()
        rules = rules_in_force(key.rate_limits, self._default_per_day)
        holds = [rate_hold(key.id, rule.limit, rule.window_seconds, now) for rule in rules]
        standings = self._ledger.standings(holds, now) if holds else []
        bounds = ((key.max_concurrent, concurrency_scope(key.id)), (key.max_sessions, sessions_scope(key.id)))
        scopes = [scope for limit, scope in bounds if limit]
        taken = dict(zip(scopes, self._ledger.taken(scopes, now) if scopes else (), strict=True))
        concurrency, sessions = (Bound(limit or None, taken.get(scope)) for limit, scope in bounds)
        return KeyLimitsState(
            rules=tuple(
                RuleState(rule.window_seconds, standing) for rule, standing in zip(rules, standings, strict=True)
            ),
            concurrency=concurrency,
            sessions=sessions,
            throttle_ms=key.throttle_delay_ms or 0,
        )


def document(state: KeyLimitsState, iso_time: Callable[[float | None], str | None]) -> KeyLimitsDocument:
    """Return limits as the key itself and the management API see them."""
    return {
        "requests": [
            {
                "limit": one.standing.hold.limit,
                "windowSeconds": one.window_s,
                "used": one.standing.used,
                "remaining": one.standing.remaining,
                "resetsAt": iso_time(one.standing.resets_at) if one.standing.used else None,
            }
            for one in state.rules
        ],
        "concurrency": {"limit": state.concurrency.limit, "inUse": state.concurrency.in_use},
        "sessions": {"limit": state.sessions.limit, "inUse": state.sessions.in_use},
        "throttleDelayMs": state.throttle_ms,
    }

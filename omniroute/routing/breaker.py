"""The breaker of a provider: after many failures in a row it is left alone for a while, then asked by one request.

Theory. What counts is a request from end to end: one that failed at the provider after all its retries there is one
failure, one that was served is one success. A closed breaker keeps the times of the failures since the last success and
forgets those older than ten minutes. At the threshold it opens for a time that grows with each opening in a row. When
that time is over it is half open, which is a matter of the clock and not written down: one request, whose claim is won
elsewhere, probes. Its success closes, its failure opens again, and an end without a verdict changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from omniroute.routing.events import ProviderFailed, ProviderServed
from omniroute.routing.failures import counts_for_breaker
from omniroute.routing.marks import (
    BREAKER_CLOSED,
    BREAKER_OPENED,
    HealthRow,
    Key,
    Kind,
    Notice,
    State,
    cleared,
    provider_scope,
    row_at,
)
from omniroute.routing.options import AuthClass
from omniroute.routing.resilience import BreakerRule, ResilienceSettings
from omniroute.routing.view import CLOSED, Breaker, BreakerState

CONSECUTIVE_FOR_S: Final = 600.0
"""Failures older than this do not count as in a row with a new one."""


def breaker_key(provider: str) -> Key:
    """Return the key of a provider's breaker."""
    return provider_scope(provider), Kind.BREAKER


def breaker_of(row: HealthRow | None, now: float, settings: ResilienceSettings) -> Breaker:
    """Return a breaker as planning sees it."""
    match _state(row, now):
        case BreakerState.CLOSED:
            if row is None or row.is_clear:
                return CLOSED
            failures = len(_recent(row, now))
            degraded_at = settings.breaker.of(_auth(row)).degraded_at
            return Breaker(failures=failures, is_degraded=0 < degraded_at <= failures)
        case state:
            return Breaker(state, _count(row), None if row is None else row.until)


def failed(
    row: HealthRow | None, event: ProviderFailed, settings: ResilienceSettings, now: float
) -> tuple[HealthRow | None, list[Notice]]:
    """Return the row after a request failed at a provider, None where nothing changes."""
    if not counts_for_breaker(event.failure):
        return None, []
    rule = settings.breaker.of(event.auth)
    match _state(row, now):
        case BreakerState.OPEN:  # one that was on its way before
            return None, []
        case BreakerState.HALF_OPEN:
            assert row is not None  # noqa: S101 -- without a row it is closed
            if event.started_at < row.number("since"):
                return None, []
            return _opened(row, event, rule, _count(row) + 1, now)
        case BreakerState.CLOSED:
            times = [*(() if row is None else _recent(row, now)), now]
            if len(times) >= rule.threshold:
                return _opened(row, event, rule, len(times), now)
            data = {"failures": times, "auth": event.auth.value, "last_error": _told(event)}
            base = row_at(breaker_key(event.provider), row, now)
            return replace(base, state=State.CLOSED, step=0, until=None, data=data, updated_at=now), []


def served(row: HealthRow | None, event: ProviderServed, now: float) -> tuple[HealthRow | None, list[Notice]]:
    """Return the row after a provider served a request, None where nothing changes."""
    if row is None or row.is_clear:
        return None, []
    match _state(row, now):
        case BreakerState.CLOSED:
            return cleared(row, now), []
        case BreakerState.HALF_OPEN if event.started_at >= row.number("since"):
            return closed(row, now, by="probe")
        case _:  # one that was on its way before it opened
            return None, []


def closed(row: HealthRow, now: float, *, by: str) -> tuple[HealthRow, list[Notice]]:
    """Return the row after a breaker was closed, by a `probe` or the `operator`."""
    if row.state is not State.OPEN:
        return cleared(row, now), []
    told = {
        "provider": row.scope.partition(":")[2],
        "openSeconds": round(max(0.0, now - row.number("opened_at", now)), 3),
        "by": by,
    }
    return cleared(row, now), [Notice(BREAKER_CLOSED, told)]


def multiplier(rule: BreakerRule, openings: int) -> int:
    """Return how many times `reset_ms` an opening lasts that is the n-th in a row."""
    doublings = max(0, openings - rule.multiplier_after)
    return int(min(rule.max_multiplier, 2 ** min(doublings, 20)))


def is_forgotten(row: HealthRow, now: float) -> bool:
    """Say whether a breaker's row says nothing any more."""
    return row.is_clear or (row.state is State.CLOSED and not _recent(row, now))


def _opened(
    row: HealthRow | None, event: ProviderFailed, rule: BreakerRule, failures: int, now: float
) -> tuple[HealthRow, list[Notice]]:
    openings, first = 1, now
    if row is not None and row.state is State.OPEN:
        openings, first = row.step + 1, row.number("opened_at", now)
    times = multiplier(rule, openings)
    until = now + rule.reset_ms / 1000 * times
    data = {
        "since": now,
        "opened_at": first,
        "count": failures,
        "multiplier": times,
        "auth": event.auth.value,
        "last_error": _told(event),
    }
    base = row_at(breaker_key(event.provider), row, now)
    opened = replace(
        base, state=State.OPEN, step=openings, until=until, reason=event.failure.kind, data=data, updated_at=now
    )
    told = {
        "provider": event.provider,
        "failures": failures,
        "lastError": _told(event),
        "until": until,
        "multiplier": times,
    }
    return opened, [Notice(BREAKER_OPENED, told)]


def _told(event: ProviderFailed) -> dict[str, Any]:
    return {"class": event.failure.failure_class.value, "status": event.failure.status}


def _state(row: HealthRow | None, now: float) -> BreakerState:
    if row is None or row.state is not State.OPEN:
        return BreakerState.CLOSED
    return BreakerState.OPEN if row.until is None or now < row.until else BreakerState.HALF_OPEN


def _recent(row: HealthRow, now: float) -> list[float]:
    times = _times(row.data)
    return [time for time in times if now - time <= CONSECUTIVE_FOR_S]


def _times(data: Mapping[str, Any]) -> list[float]:
    times = data.get("failures")
    return [time for time in times if isinstance(time, int | float)] if isinstance(times, list | tuple) else []


def _count(row: HealthRow | None) -> int:
    return 0 if row is None else int(row.number("count"))


def _auth(row: HealthRow) -> AuthClass:
    value = row.data.get("auth")
    return next((auth for auth in AuthClass if auth.value == value), AuthClass.API_KEY)

"""The transitions of health: what an event does to the rows that it concerns. Rows in, changed rows out.

    keys = scopes_of(event)                                        # the rows that it may concern
    rows, notices = transition(before, event, settings, now, rng)  # `before`: those of them that exist

Only changed rows come back. Where nothing rests, a success concerns nothing: `transition` of it without rows returns
nothing at once. Who may probe what has rested is claimed elsewhere; here stands only that somebody has to.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from omniroute.routing import breaker, rests, standing
from omniroute.routing.events import (
    AttemptFailed,
    AttemptServed,
    Cleared,
    ClearedBy,
    Event,
    ProbeEnded,
    ProviderFailed,
    ProviderServed,
)
from omniroute.routing.marks import HealthRow, Key, Kind, Notice, cleared
from omniroute.routing.resilience import ResilienceSettings

__all__ = [
    "AttemptFailed",
    "AttemptServed",
    "Cleared",
    "ClearedBy",
    "Event",
    "HealthRow",
    "Key",
    "Kind",
    "Notice",
    "ProbeEnded",
    "ProviderFailed",
    "ProviderServed",
    "is_forgotten",
    "scopes_of",
    "transition",
]

Changes = tuple[list[HealthRow], list[Notice]]


def scopes_of(event: Event) -> tuple[Key, ...]:
    """Return the keys of all rows that an event may concern."""
    match event:
        case AttemptFailed():
            return rests.keys_of_failure(event)
        case AttemptServed():
            return rests.keys_of_success(event)
        case ProviderFailed() | ProviderServed():
            return (breaker.breaker_key(event.provider),)
        case Cleared():
            return event.keys
        case ProbeEnded():
            return ()


def transition(
    before: Mapping[Key, HealthRow], event: Event, settings: ResilienceSettings, now: float, rng: random.Random
) -> Changes:
    """Return the rows that an event changes, and what operators want to hear of it; `now` is epoch seconds."""
    match event:
        case AttemptServed():
            if not before and event.paused_until is None:
                return [], []
            return rests.served(before, event, settings, now), []
        case AttemptFailed():
            return rests.failed(before, event, rests.Moment(settings, now, rng))
        case ProviderServed():
            row, notices = breaker.served(before.get(breaker.breaker_key(event.provider)), event, now)
            return _changed(row), notices
        case ProviderFailed():
            old = before.get(breaker.breaker_key(event.provider))
            row, notices = breaker.failed(old, event, settings, now)
            return _changed(row), notices
        case ProbeEnded():  # its claim is let go, and the next request may win it
            return [], []
        case Cleared():
            return _cleared(before, event, now)


def is_forgotten(row: HealthRow, now: float) -> bool:
    """Say whether a row says nothing any more, so that it may be deleted."""
    return breaker.is_forgotten(row, now) if row.kind is Kind.BREAKER else standing.is_forgotten(row, now)


def _changed(row: HealthRow | None) -> list[HealthRow]:
    return [] if row is None else [row]


def _cleared(before: Mapping[Key, HealthRow], event: Cleared, now: float) -> Changes:
    rows: list[HealthRow] = []
    notices: list[Notice] = []
    for key in event.keys:
        row = before.get(key)
        if row is None or row.is_clear or not _ends(event.by, row):
            continue
        if row.kind is Kind.BREAKER:
            row, told = breaker.closed(row, now, by="operator")
            notices += told
        else:
            row = cleared(row, now)
        rows.append(row)
    return rows, notices


def _ends(by: ClearedBy, row: HealthRow) -> bool:
    """Say whether somebody, or something, has a say about a row."""
    match by:
        case ClearedBy.OPERATOR:
            return True
        case ClearedBy.TEST | ClearedBy.EDIT:
            return row.kind is not Kind.BREAKER
        case ClearedBy.READING:
            return row.reason in {"quota", "no_credit"} and row.kind is not Kind.BREAKER
        case ClearedBy.CATALOGUE:
            return row.kind is Kind.LOCKOUT and row.reason == "model_missing"

"""Limits of a connection that its provider let us know: how many requests may run at once, and pauses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from omniroute.routing.marks import HealthRow, Key, Kind, State, connection_scope, row_at
from omniroute.routing.options import Account

_LEARNED_FOR_S: Final = 600.0
_LONGEST_PAUSE_S: Final = 3600.0
"""Limit headers that say more are not believed: the provider will say it again with a refusal."""
_WORTH_NOTING_S: Final = 1.0
"""What is over sooner is over before other workers know of it."""


def learned_key(connection_id: str) -> Key:
    """Return the key of what a provider let us know about a connection's limits."""
    return connection_scope(connection_id), Kind.LEARNED


def learned_of(row: HealthRow | None, now: float) -> tuple[int | None, float | None]:
    """Return how many requests may run at once, and until when none may start; None for what is not known."""
    if row is None or row.state is not State.NOTED:
        return None, None
    slots = int(row.number("slots")) if now < row.number("slots_until") else None
    paused_until = row.number("paused_until")
    return slots, paused_until if now < paused_until else None


def refused_at(old: HealthRow | None, account: Account, in_flight: int, now: float) -> list[HealthRow]:
    """Return the row after a provider refused one of so many requests because they ran at once."""
    slots = max(1, in_flight - 1)
    known, _ = learned_of(old, now)
    if known is not None:
        slots = min(slots, known)
    return _noted(old, account, {"slots": slots, "slots_until": now + _LEARNED_FOR_S}, now)


def paused(old: HealthRow | None, account: Account, until: float, now: float) -> list[HealthRow]:
    """Return the row after limit headers said that nothing is left until a time."""
    until = min(until, now + _LONGEST_PAUSE_S)
    _, known = learned_of(old, now)
    if until < max(now, known or 0.0) + _WORTH_NOTING_S:
        return []
    return _noted(old, account, {"paused_until": until}, now)


def _noted(old: HealthRow | None, account: Account, news: Mapping[str, float], now: float) -> list[HealthRow]:
    base = row_at(learned_key(account.id), old, now)
    noted = replace(
        base,
        state=State.NOTED,
        data={**base.data, "connection": account.id, "provider": account.provider, **news},
        updated_at=now,
    )
    return [replace(noted, until=max(noted.number("slots_until", now), noted.number("paused_until", now)))]

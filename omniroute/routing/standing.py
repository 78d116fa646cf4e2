"""How accounts and models stand, as planning sees it: which rows concern them, and what those rows say now."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from omniroute.routing.families import families_of
from omniroute.routing.marks import HealthRow, Key, Kind, State, connection_scope, family_scope, model_scope, rest_scope
from omniroute.routing.options import Account
from omniroute.routing.plan import Reason
from omniroute.routing.view import Rest

_REMEMBERED_S: Final = 600.0
"""How long, at least, something that has rested is tried by one request first."""


def rest_keys(account: Account) -> tuple[Key, Key]:
    """Return the keys of everything that may rest an account as a whole: its cooldown, and its dead mark."""
    return (rest_scope(account), Kind.COOLDOWN), (connection_scope(account.id), Kind.DEAD)


def lockout_keys(connection_id: str, model: str) -> tuple[Key, ...]:
    """Return the keys of everything that may rest a model on a connection."""
    families = (family_scope(connection_id, family) for family in families_of(model))
    return tuple((scope, Kind.LOCKOUT) for scope in (model_scope(connection_id, model), *families))


def rest_of(rows: Iterable[HealthRow], now: float) -> Rest | None:
    """Return why an account rests, out of the rows of :func:`rest_keys`; the one that lasts longest counts."""
    return _longest(_seen(row, now, _reason(row)) for row in rows if row.kind in {Kind.COOLDOWN, Kind.DEAD})


def lockout_of(rows: Iterable[HealthRow], now: float) -> Rest | None:
    """Return why a model rests on an account, out of the rows of :func:`lockout_keys`."""
    return _longest(_seen(row, now, Reason.LOCKED_OUT) for row in rows if row.kind is Kind.LOCKOUT)


def early_probe_at(row: HealthRow) -> float | None:
    """Return from when one request may try what rests for long, before its guessed end; None when none may."""
    probe_at = row.data.get("probe_at")
    if row.state is not State.RESTING or not isinstance(probe_at, int | float):
        return None
    return float(probe_at) if row.until is None or probe_at < row.until else None


def steps_left(row: HealthRow | None, now: float) -> int:
    """Return the failures in a row that still count: one fewer for every two lengths of the last rest."""
    if row is None or row.step <= 0:
        return 0
    length_s = row.number("length_s")
    if length_s <= 0:
        return row.step
    return max(0, row.step - int(max(0.0, now - row.number("since", now)) // (2 * length_s)))


def is_forgotten(row: HealthRow, now: float) -> bool:
    """Say whether a row says nothing any more, so that it may be deleted."""
    match row.state:
        case State.RESTING:
            if row.until is None or row.kind is Kind.DEAD:
                return False
            return now >= row.until + _REMEMBERED_S and steps_left(row, now) == 0
        case State.SERVED:
            return steps_left(row, now) == 0
        case State.NOTED:
            return row.until is None or now >= row.until
        case _:
            return row.is_clear


def _seen(row: HealthRow, now: float, reason: str) -> Rest | None:
    if row.state is not State.RESTING or is_forgotten(row, now):
        return None
    probe_at = early_probe_at(row)
    is_over = row.until is not None and now >= row.until
    source, message = row.data.get("source"), row.data.get("message")
    return Rest(
        reason=reason,
        until=row.until,
        needs_probe=is_over or (probe_at is not None and now >= probe_at),
        kind=row.reason,
        hint_source=source if isinstance(source, str) else None,
        detail=message if isinstance(message, str) else None,
        since=row.number("since", row.updated_at),
    )


def _longest(rests: Iterable[Rest | None]) -> Rest | None:
    return max((rest for rest in rests if rest is not None), key=_rank, default=None)


def _rank(rest: Rest) -> tuple[bool, float]:
    return not rest.needs_probe, math.inf if rest.until is None else rest.until


_REASONS: Final[Mapping[str | None, Reason]] = {
    "account_blocked": Reason.ACCOUNT_BLOCKED,
    "no_credit": Reason.NO_CREDIT,
    "quota": Reason.QUOTA_EXHAUSTED,
}


def _reason(row: HealthRow) -> Reason:
    found = _REASONS.get(row.reason)
    if found is not None:
        return found
    return Reason.CREDENTIAL_DEAD if row.kind is Kind.DEAD else Reason.COOLING

"""Budgets, token limits, what was used of them, and what requests in flight hold.

What was spent is only ever written together with the rows of the request log that it is the sum of. Reservations are
read before what was spent: a request that settles in between counts twice for a moment, and never not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, and_, case, func, or_, select
from sqlalchemy import Connection as Sql

from omniroute.money.limits import (
    EVERYBODY,
    Hold,
    Kind,
    Standing,
    Used,
    budget_hold,
    budget_id,
    spent_of_budgets,
    token_hold,
    used_of_limits,
)
from omniroute.money.periods import Window
from omniroute.records import Budget, TokenLimit
from omniroute.storage import dialects, postgres
from omniroute.storage.models import Budget as BudgetRow
from omniroute.storage.models import BudgetLedger, LimitUsage, RequestLog, Reservation, UsageHourly
from omniroute.storage.models import TokenLimit as TokenLimitRow
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.request_log import POSITIONS, Row

BUDGETS: Final = table_of(BudgetRow)
LEDGER: Final = table_of(BudgetLedger)
LIMITS: Final = table_of(TokenLimitRow)
USAGE: Final = table_of(LimitUsage)
RESERVATIONS: Final = table_of(Reservation)
_LOG: Final = table_of(RequestLog)
_HOURS: Final = table_of(UsageHourly)
_HOUR_S: Final = 3600
_COUNTING: Final = "counting"
_BATCH: Final = 400


@dataclass(frozen=True, slots=True)
class Crossing:
    """A budget that has reached its warning threshold, or its limit, for the first time in a window."""

    budget: Budget
    window: Window
    spent_nano_usd: int
    is_exceeded: bool


# --- what is set -----------------------------------------------------------------------------------------------------


def load_budgets(sql: Sql) -> dict[str, tuple[Budget, ...]]:
    """Return all budgets by scope, those of a scope in the order of their periods' names."""
    rows = sql.execute(select(BUDGETS).order_by(BUDGETS.c.scope_id, BUDGETS.c.period)).mappings()
    budgets = [Budget(**row) for row in rows]
    return {scope: tuple(some) for scope, some in groupby(budgets, key=lambda budget: budget.scope_id)}


def load_token_limits(sql: Sql) -> dict[str, tuple[TokenLimit, ...]]:
    """Return all token limits by scope, disabled ones included."""
    rows = sql.execute(select(LIMITS).order_by(LIMITS.c.scope_id, LIMITS.c.created_at, LIMITS.c.id)).mappings()
    limits = [TokenLimit(**{**row, "enabled": bool(row["enabled"])}) for row in rows]
    return {scope: tuple(some) for scope, some in groupby(limits, key=lambda limit: limit.scope_id)}


def save_budget(sql: Sql, budget: Budget, now: float) -> None:
    """Set a budget, and count what was spent in the window that holds now."""
    values = {name: getattr(budget, name) for name in BUDGETS.c.keys()}  # noqa: SIM118 - a column collection
    insert = dialects.of(sql).insert_into(BUDGETS).values(**values)
    changed = {name: insert.excluded[name] for name in values if name not in ("scope_id", "period", "created_at")}
    sql.execute(insert.on_conflict_do_update(index_elements=[BUDGETS.c.scope_id, BUDGETS.c.period], set_=changed))
    _recount_budget(sql, budget, now)


def delete_budget(sql: Sql, scope_id: str, period: str) -> bool:
    """Remove a budget with all that was counted for it; False if there was none."""
    sql.execute(LEDGER.delete().where(LEDGER.c.scope_id == scope_id, LEDGER.c.period == period))
    sql.execute(RESERVATIONS.delete().where(RESERVATIONS.c.scope == budget_id(scope_id, period)))
    return sql.execute(BUDGETS.delete().where(BUDGETS.c.scope_id == scope_id, BUDGETS.c.period == period)).rowcount == 1


def save_token_limit(sql: Sql, limit: TokenLimit, now: float) -> None:
    """Set a token limit, and count what was used in the window that holds now."""
    values = {name: getattr(limit, name) for name in LIMITS.c.keys()}  # noqa: SIM118 - a column collection
    values["enabled"] = 1 if limit.enabled else 0
    insert = dialects.of(sql).insert_into(LIMITS).values(**values)
    changed = {name: insert.excluded[name] for name in values if name not in ("id", "created_at")}
    sql.execute(insert.on_conflict_do_update(index_elements=[LIMITS.c.id], set_=changed))
    _recount_limit(sql, limit, now)


def delete_token_limit(sql: Sql, limit_id: str) -> bool:
    """Remove a token limit with all that was counted for it; False if there was none."""
    name = f"{Kind.TOKENS}:{limit_id}"
    sql.execute(USAGE.delete().where(USAGE.c.limit_id == name))
    sql.execute(RESERVATIONS.delete().where(RESERVATIONS.c.scope == name))
    return sql.execute(LIMITS.delete().where(LIMITS.c.id == limit_id)).rowcount == 1


def delete_scope(sql: Sql, scope_id: str) -> int:
    """Remove all budgets and token limits of a scope; return how many there were."""
    budgets = load_budgets(sql).get(scope_id, ())
    limits = load_token_limits(sql).get(scope_id, ())
    return sum(delete_budget(sql, scope_id, one.period) for one in budgets) + sum(
        delete_token_limit(sql, one.id) for one in limits
    )


# --- a request -------------------------------------------------------------------------------------------------------


def standings(sql: Sql, holds: Sequence[Hold], now: float) -> list[Standing]:
    """Return how far limits are used, in the given order."""
    reserved = _reserved(sql, [hold for hold in holds if hold.kind is not Kind.REQUESTS], now)
    spent = _spent(sql, [hold for hold in holds if hold.kind is Kind.BUDGET])
    found = spent | _used(sql, [hold for hold in holds if hold.kind is Kind.TOKENS])

    def standing(hold: Hold) -> Standing:
        if hold.kind is Kind.REQUESTS:
            return _counted(sql, hold)
        key = (hold.id, hold.window.start)
        return Standing(hold, found.get(key, 0), reserved.get(key, 0), hold.window.end)

    return [standing(hold) for hold in holds]


def lock(sql: Sql, holds: Iterable[Hold]) -> None:
    """Wait until nobody else judges requests by one of these limits."""
    dialects.of(sql).lock_names(sql, postgres.NAMES_LIMITS, {hold.id for hold in holds})


def reserve(sql: Sql, holds: Iterable[Hold], *, request_id: str, owner: str, until: float) -> None:
    """Hold what a request may use of its limits, and count it where requests are counted."""
    rows = []
    for hold in holds:
        if hold.kind is Kind.REQUESTS:
            _count(sql, hold.id, hold.window, hold.amount)
        else:
            rows.append((request_id, hold.id, hold.window.start, hold.amount, owner, until))
    if rows:
        columns = list(RESERVATIONS.c)
        head = f"INSERT INTO {RESERVATIONS.name} ({', '.join(column.name for column in columns)})"
        dialects.of(sql).insert_many(sql, head, columns, rows, "ON CONFLICT (request_id, scope) DO NOTHING")


def renew(sql: Sql, request_ids: Sequence[str], *, until: float) -> int:
    """Hold the reservations of requests for longer; return how many those are."""
    return sum(
        sql.execute(RESERVATIONS.update().where(RESERVATIONS.c.request_id.in_(some)).values(expires_at=until)).rowcount
        for some in _batches(request_ids)
    )


def release(sql: Sql, request_ids: Sequence[str]) -> int:
    """Let go of what requests hold; return how many reservations those were."""
    return sum(
        sql.execute(RESERVATIONS.delete().where(RESERVATIONS.c.request_id.in_(some))).rowcount
        for some in _batches(request_ids)
    )


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + _BATCH] for at in range(0, len(ids), _BATCH))


def prune(sql: Sql, now: float) -> int:
    """Remove reservations that have ended by time: their worker is no more, or their row was written."""
    return sql.execute(RESERVATIONS.delete().where(RESERVATIONS.c.expires_at <= now)).rowcount


def settle(sql: Sql, rows: Sequence[Row], now: float) -> list[Crossing]:
    """Count rows of the request log that were just inserted, in the same transaction, and let go of their holds."""
    _lock_counting(sql)
    budgets, limits = load_budgets(sql), load_token_limits(sql)
    if not budgets and not limits:
        return []
    used = [one for row in rows if (one := used_of(row)) is not None]
    crossings: list[Crossing] = []
    spent = spent_of_budgets(used, budgets)
    by_key = {(one.scope_id, one.period): one for some in budgets.values() for one in some}
    for key in sorted(spent):  # in one order, so that two workers lock the same rows in the same order
        scope_id, period, start = key
        found = spent[key]
        _spend(sql, key, found.amount, found.requests, found.unpriced)
        crossings += _crossings(sql, by_key[scope_id, period], Window(start, found.window.end), now)
    counted = used_of_limits(used, limits)
    for name, start in sorted(counted):
        _count(sql, name, counted[name, start].window, counted[name, start].amount)
    release(sql, [row[0] for row in rows])
    return crossings


_TIME: Final = POSITIONS["time"]
_KIND: Final = POSITIONS["kind"]
_KEY: Final = POSITIONS["api_key_id"]
_PROVIDER: Final = POSITIONS["provider"]
_MODEL: Final = POSITIONS["model"]
_COST: Final = POSITIONS["cost_nano_usd"]
_COST_KIND: Final = POSITIONS["cost_kind"]
_EXTRA: Final = POSITIONS["extra_nano_usd"]
_IN: Final = POSITIONS["tokens_in"]
_OUT: Final = POSITIONS["tokens_out"]


def used_of(row: Row) -> Used | None:
    """Return what a row of the log used; None for tests of connections, which nobody pays for out of a budget."""
    if row[_KIND] != "request":
        return None
    billed = row[_COST] or 0 if row[_COST_KIND] == "billed" else 0
    return Used(
        time=row[_TIME],
        key_id=row[_KEY],
        provider=row[_PROVIDER] or "",
        model=row[_MODEL] or "",
        nano_usd=billed + row[_EXTRA],
        tokens=(row[_IN] or 0) + (row[_OUT] or 0),
        is_unpriced=row[_COST_KIND] == "unpriced",
    )


# --- one statement each ----------------------------------------------------------------------------------------------


def _reserved(sql: Sql, holds: Sequence[Hold], now: float) -> dict[tuple[str, int], int]:
    if not holds:
        return {}
    table = RESERVATIONS
    wanted = or_(*(and_(table.c.scope == hold.id, table.c.window_start == hold.window.start) for hold in holds))
    statement = (
        select(table.c.scope, table.c.window_start, func.sum(table.c.amount))
        .where(wanted, table.c.expires_at > now)
        .group_by(table.c.scope, table.c.window_start)
    )
    return {(scope, start): int(amount) for scope, start, amount in sql.execute(statement)}


def _spent(sql: Sql, holds: Sequence[Hold]) -> dict[tuple[str, int], int]:
    if not holds:
        return {}
    keys = {(hold.scope_id, hold.period, hold.window.start): hold.id for hold in holds}
    wanted = or_(
        *(
            and_(LEDGER.c.scope_id == scope, LEDGER.c.period == period, LEDGER.c.period_start == start)
            for scope, period, start in keys
        )
    )
    rows = sql.execute(
        select(LEDGER.c.scope_id, LEDGER.c.period, LEDGER.c.period_start, LEDGER.c.spent_nano_usd).where(wanted)
    )
    return {(keys[scope, period, start], start): int(spent) for scope, period, start, spent in rows}


def _used(sql: Sql, holds: Sequence[Hold]) -> dict[tuple[str, int], int]:
    if not holds:
        return {}
    wanted = or_(*(and_(USAGE.c.limit_id == hold.id, USAGE.c.window_start == hold.window.start) for hold in holds))
    rows = sql.execute(select(USAGE.c.limit_id, USAGE.c.window_start, USAGE.c.used).where(wanted))
    return {(name, start): int(used) for name, start, used in rows}


def _counted(sql: Sql, hold: Hold) -> Standing:
    """Return how many requests a rule has seen lately; the oldest are the first to count no longer."""
    recent = (USAGE.c.limit_id == hold.id, USAGE.c.window_start > hold.since)
    used, oldest = sql.execute(
        select(func.coalesce(func.sum(USAGE.c.used), 0), func.min(USAGE.c.window_end)).where(*recent)
    ).one()
    return Standing(hold, int(used), resets_at=hold.window.end if oldest is None else int(oldest))


def _spend(sql: Sql, key: tuple[str, str, int], nano_usd: int, requests: int, unpriced: int) -> None:
    scope_id, period, start = key
    insert = (
        dialects.of(sql)
        .insert_into(LEDGER)
        .values(
            scope_id=scope_id,
            period=period,
            period_start=start,
            spent_nano_usd=nano_usd,
            requests=requests,
            unpriced=unpriced,
        )
    )
    names = ("spent_nano_usd", "requests", "unpriced")
    sql.execute(
        insert.on_conflict_do_update(
            index_elements=[LEDGER.c.scope_id, LEDGER.c.period, LEDGER.c.period_start],
            set_={name: LEDGER.c[name] + insert.excluded[name] for name in names},
        )
    )


def _count(sql: Sql, name: str, window: Window, amount: int) -> None:
    values = {"limit_id": name, "window_start": window.start, "window_end": window.end, "used": amount}
    insert = dialects.of(sql).insert_into(USAGE).values(**values)
    sql.execute(
        insert.on_conflict_do_update(
            index_elements=[USAGE.c.limit_id, USAGE.c.window_start],
            set_={"used": USAGE.c.used + insert.excluded.used},
        )
    )


def note_refusal(sql: Sql, hold: Hold, now: float) -> bool:
    """Note that a budget has refused a request; True for the first one of its window."""
    key = (hold.scope_id, hold.period, hold.window.start)
    _spend(sql, key, 0, 0, 0)
    return _mark(sql, key, "exceeded_at", now)


def _crossings(sql: Sql, budget: Budget, window: Window, now: float) -> list[Crossing]:
    key = (budget.scope_id, budget.period, window.start)
    spent = int(sql.execute(select(LEDGER.c.spent_nano_usd).where(*_is(key))).scalar_one())
    if spent < budget.limit_nano_usd * budget.warning_threshold or not _mark(sql, key, "warned_at", now):
        return []
    return [Crossing(budget, window, spent, is_exceeded=False)]


def _mark(sql: Sql, key: tuple[str, str, int], name: str, now: float) -> bool:
    unmarked = LEDGER.c[name].is_(None)
    return sql.execute(LEDGER.update().where(*_is(key), unmarked).values({name: now})).rowcount == 1


def _is(key: tuple[str, str, int]) -> tuple[ColumnElement[bool], ...]:
    scope_id, period, start = key
    return (LEDGER.c.scope_id == scope_id, LEDGER.c.period == period, LEDGER.c.period_start == start)


# --- counting anew ---------------------------------------------------------------------------------------------------


def _lock_counting(sql: Sql) -> None:
    """Let nobody else count until this transaction ends.

    Whoever counts anew must not see rows that are being counted, and those must not miss a limit that is being set.
    """
    dialects.of(sql).lock_names(sql, postgres.NAMES_LIMITS, (_COUNTING,))


def spent_in(sql: Sql, scope_id: str, window: Window) -> tuple[int, int, int]:
    """Return what a scope spent in a window in nano-USD, with how many requests, and how many of unknown price."""
    billed = case((_LOG.c.cost_kind == "billed", func.coalesce(_LOG.c.cost_nano_usd, 0)), else_=0)
    unpriced = case((_LOG.c.cost_kind == "unpriced", 1), else_=0)
    of_rows = (func.sum(billed + _LOG.c.extra_nano_usd), func.count(), func.sum(unpriced))
    of_hours = (func.sum(_HOURS.c.billed_nano_usd), func.sum(_HOURS.c.requests), func.sum(_HOURS.c.unpriced))
    spent, requests, unknown = _sums(sql, scope_id, window, of_rows=of_rows, of_hours=of_hours)
    return spent, requests, unknown


def _recount_budget(sql: Sql, budget: Budget, now: float) -> None:
    _lock_counting(sql)
    window = budget_hold(budget, now).window
    spent, requests, unknown = spent_in(sql, budget.scope_id, window)
    key = (budget.scope_id, budget.period, window.start)
    sql.execute(LEDGER.delete().where(*_is(key)))
    _spend(sql, key, spent, requests, unknown)


def _recount_limit(sql: Sql, limit: TokenLimit, now: float) -> None:
    _lock_counting(sql)
    hold = token_hold(limit, now)
    tokens = func.coalesce(_LOG.c.tokens_in, 0) + func.coalesce(_LOG.c.tokens_out, 0)
    of_hours = (func.sum(_HOURS.c.tokens_in + _HOURS.c.tokens_out),)
    (used,) = _sums(sql, limit.scope_id, hold.window, of_rows=(func.sum(tokens),), of_hours=of_hours, of=hold.of)
    sql.execute(USAGE.delete().where(USAGE.c.limit_id == hold.id))
    _count(sql, hold.id, hold.window, used)


def _sums(
    sql: Sql,
    scope_id: str,
    window: Window,
    *,
    of_rows: Sequence[ColumnElement[Any]],
    of_hours: Sequence[ColumnElement[Any]],
    of: tuple[str, str] | None = None,
) -> tuple[int, ...]:
    """Add up a window: whole hours from the sums by hour, which are kept for longer than rows, the rest from rows."""
    first_hour = -(-window.start // _HOUR_S) * _HOUR_S
    rows = select(*of_rows).where(
        _LOG.c.kind == "request", _LOG.c.time >= window.start, _LOG.c.time < first_hour, *_by(_LOG, scope_id, of)
    )
    hours = select(*of_hours).where(
        _HOURS.c.bucket >= first_hour, _HOURS.c.bucket < window.end, *_by(_HOURS, scope_id, of)
    )
    both = zip(sql.execute(rows).one(), sql.execute(hours).one(), strict=True)
    return tuple(int(one or 0) + int(other or 0) for one, other in both)


def _by(table: Table, scope_id: str, of: tuple[str, str] | None) -> Iterator[ColumnElement[bool]]:
    if scope_id != EVERYBODY:
        yield table.c.api_key_id == scope_id
    match of:
        case ("provider", provider):
            yield table.c.provider == provider
        case ("model", model):
            yield or_(table.c.model == model, table.c.provider + "/" + table.c.model == model)


def ledger_of(sql: Sql, holds: Sequence[Hold]) -> dict[str, Mapping[str, Any]]:
    """Return the rows of budgets in their windows, by the id of the hold."""
    found: dict[str, Mapping[str, Any]] = {}
    for hold in holds:
        row = (
            sql.execute(select(LEDGER).where(*_is((hold.scope_id, hold.period, hold.window.start)))).mappings().first()
        )
        if row is not None:
            found[hold.id] = dict(row)
    return found

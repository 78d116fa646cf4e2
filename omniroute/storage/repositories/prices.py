"""Prices that operators set or that were imported. What is built in is no row."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, func, select
from sqlalchemy import Connection as Sql

from omniroute.money.book import IMPORT, OVERRIDE, PRICES, check
from omniroute.records import PriceRow, PriceStep
from omniroute.storage import dialects
from omniroute.storage.models import Price, UsageDaily
from omniroute.storage.models.base import table_of

log = logging.getLogger(__name__)

TABLE: Final = table_of(Price)
_USED: Final = table_of(UsageDaily)
_KEY: Final = ("provider", "model", "source")
_STEP: Final = ("input", "output", "cache_read", "cache_write")


def load_all(sql: Sql) -> tuple[PriceRow, ...]:
    """Return every row that can be a price; one that cannot is left out, so that the others stay in force."""
    found: list[PriceRow] = []
    unusable: list[str] = []
    rows = sql.execute(select(TABLE).order_by(TABLE.c.provider, TABLE.c.model, TABLE.c.source))
    for row in rows.mappings():
        try:
            record = _record(row)
            check(record)
        except (ValueError, TypeError, KeyError):
            unusable.append(f"{row['provider']}/{row['model']}")
        else:
            found.append(record)
    if unusable:
        log.warning("%d stored prices cannot be read and count as not set, such as %s", len(unusable), unusable[0])
    return tuple(found)


def find(sql: Sql, provider: str, model: str, source: str = OVERRIDE) -> PriceRow | None:
    """Return one row; None if there is none or it cannot be read."""
    where = _is(provider, model, source)
    row = sql.execute(select(TABLE).where(where)).mappings().first()
    try:
        return _record(row) if row is not None else None
    except (ValueError, TypeError, KeyError):
        return None


def count(sql: Sql, source: str) -> int:
    """Return how many rows a source has."""
    return sql.execute(select(func.count()).select_from(TABLE).where(TABLE.c.source == source)).scalar_one()


def put(sql: Sql, row: PriceRow) -> None:
    """Store a row in place of the one with the same provider, model and source."""
    insert = dialects.of(sql).insert_into(TABLE)
    values = _values(row)
    changed = {name: insert.excluded[name] for name in values if name not in _KEY}
    sql.execute(insert.on_conflict_do_update(index_elements=[TABLE.c[name] for name in _KEY], set_=changed), values)


def replace_imported(sql: Sql, rows: Iterable[PriceRow]) -> None:
    """Store imported rows in place of all that were imported before."""
    sql.execute(TABLE.delete().where(TABLE.c.source == IMPORT))
    values = [_values(row) for row in rows]
    if values:
        sql.execute(TABLE.insert(), values)


def delete(sql: Sql, provider: str, model: str, source: str = OVERRIDE) -> bool:
    """Remove one row; False if there was none."""
    return sql.execute(TABLE.delete().where(_is(provider, model, source))).rowcount == 1


def delete_of_provider(sql: Sql, provider: str) -> int:
    """Remove every row of a provider or node; return how many those were."""
    return sql.execute(TABLE.delete().where(TABLE.c.provider == provider)).rowcount


def used_pairs(sql: Sql, since: float) -> dict[tuple[str, str], int]:
    """Return the provider and model of what was used since a day, with the number of requests."""
    requests = func.sum(_USED.c.requests)
    rows = sql.execute(
        select(_USED.c.provider, _USED.c.model, requests)
        .where(_USED.c.bucket >= since, _USED.c.provider != "", _USED.c.model != "")
        .group_by(_USED.c.provider, _USED.c.model)
        .order_by(requests.desc(), _USED.c.provider, _USED.c.model)
    )
    return {(provider, model): int(number) for provider, model, number in rows}


def _is(provider: str, model: str, source: str) -> ColumnElement[bool]:
    return (TABLE.c.provider == provider) & (TABLE.c.model == model) & (TABLE.c.source == source)


def _values(row: PriceRow) -> dict[str, Any]:
    steps = [{"above": step.above} | _given(step) for step in row.tiers]
    return {
        "provider": row.provider,
        "model": row.model,
        "source": row.source,
        **{name: getattr(row, name) for name in PRICES},
        "tiers_json": json.dumps(steps, separators=(",", ":")) if steps else None,
        "note": row.note,
        "valid_from": row.valid_from,
        "updated_at": row.updated_at,
    }


def _given(step: PriceStep) -> dict[str, str]:
    return {name: price for name in _STEP if (price := getattr(step, name)) is not None}


def _record(row: RowMapping) -> PriceRow:
    if row["source"] not in (OVERRIDE, IMPORT):
        raise ValueError("unknown source")
    return PriceRow(
        provider=row["provider"],
        model=row["model"],
        source=row["source"],
        **{name: row[name] for name in PRICES},
        tiers=tuple(_step(given) for given in json.loads(row["tiers_json"] or "[]")),
        note=row["note"],
        valid_from=row["valid_from"],
        updated_at=row["updated_at"],
    )


def _step(given: dict[str, Any]) -> PriceStep:
    above = given["above"]
    prices = {name: given.get(name) for name in _STEP}
    if not isinstance(above, int) or above < 0 or any(not isinstance(price, str | None) for price in prices.values()):
        raise ValueError("is no step")
    return PriceStep(above, **prices)

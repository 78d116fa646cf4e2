"""How combos have done, by step and target: added up from the request log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection as Sql
from sqlalchemy import case, func, select

from omniroute.storage.models import RequestLog
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(RequestLog)


@dataclass(frozen=True, slots=True)
class Sum:
    """The requests of a combo that ended at one target; `fallbacks` needed more than one attempt."""

    combo_id: str
    step_id: str | None
    provider: str | None
    model: str | None
    requests: int
    succeeded: int
    fallbacks: int
    duration_ms: float
    """Of those that succeeded, together."""


def sums(sql: Sql, *, since: float, combo_id: str | None = None) -> list[Sum]:
    """Return the sums since a time, of one combo or of all."""
    has_served = TABLE.c.outcome == "success"
    target = (TABLE.c.combo_id, TABLE.c.step_id, TABLE.c.provider, TABLE.c.model)
    chosen = select(
        *target,
        func.count(),
        func.sum(case((has_served, 1), else_=0)),
        func.sum(case((TABLE.c.attempts > 1, 1), else_=0)),
        func.sum(case((has_served, TABLE.c.duration_ms), else_=0.0)),
    ).where(TABLE.c.time >= since, TABLE.c.kind == "request")
    if combo_id is None:
        chosen = chosen.where(TABLE.c.combo_id.is_not(None))
    else:
        chosen = chosen.where(TABLE.c.combo_id == combo_id)
    rows = sql.execute(chosen.group_by(*target).order_by(*target))
    return [
        Sum(combo, step, provider, model, int(requests), int(served), int(more), float(total_ms))
        for combo, step, provider, model, requests, served, more, total_ms in rows
    ]

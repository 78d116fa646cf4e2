"""What is removed of the tables of limits and quotas when its time is over."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection as Sql

from omniroute.storage.models import BudgetLedger, LimitUsage
from omniroute.storage.models.base import table_of

LEDGER: Final = table_of(BudgetLedger)
LIMIT_USAGE: Final = table_of(LimitUsage)


def prune_ledger(sql: Sql, before: float) -> int:
    """Remove what was spent in periods that began before a time; return how many rows."""
    return sql.execute(LEDGER.delete().where(LEDGER.c.period_start < before)).rowcount


def prune_limit_usage(sql: Sql, before: float) -> int:
    """Remove what was used in windows that ended before a time; return how many rows."""
    return sql.execute(LIMIT_USAGE.delete().where(LIMIT_USAGE.c.window_end < before)).rowcount

"""What the operator chose for providers as a whole. The table has more columns than routing reads; they stay."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection as Sql
from sqlalchemy import or_, select

from omniroute.records import ProviderRouting
from omniroute.storage import dialects
from omniroute.storage.models import ProviderSetting
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.rows import flag

TABLE: Final = table_of(ProviderSetting)

_CHOSEN: Final = ("account_strategy", "sticky_limit", "blocked")


def load_all(sql: Sql) -> dict[str, ProviderRouting]:
    """Return what was chosen, by provider id; providers left to the global settings are left out."""
    chosen = or_(TABLE.c.account_strategy.is_not(None), TABLE.c.sticky_limit.is_not(None), TABLE.c.blocked != 0)
    columns = (TABLE.c.provider, *(TABLE.c[name] for name in _CHOSEN))
    rows = sql.execute(select(*columns).where(chosen).order_by(TABLE.c.provider))
    return {
        provider: ProviderRouting(provider, strategy, sticky_limit, bool(blocked))
        for provider, strategy, sticky_limit, blocked in rows
    }


def put(sql: Sql, record: ProviderRouting, now: float) -> None:
    """Store what was chosen for a provider in place of what was there."""
    insert = dialects.of(sql).insert_into(TABLE)
    changed = {name: insert.excluded[name] for name in (*_CHOSEN, "updated_at")}
    row = {
        "provider": record.provider,
        "account_strategy": record.account_strategy,
        "sticky_limit": record.sticky_limit,
        "blocked": flag(record.is_blocked),
        "created_at": now,
        "updated_at": now,
    }
    sql.execute(insert.on_conflict_do_update(index_elements=[TABLE.c.provider], set_=changed), row)

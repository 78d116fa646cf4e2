"""Address rules: ranges on the list, and bans for a while."""

from __future__ import annotations

from sqlalchemy import Connection as Sql
from sqlalchemy import select

from omniroute.records import IpRule
from omniroute.storage.models import IpRule as Model
from omniroute.storage.models.base import table_of

TABLE = table_of(Model)


def load_all(sql: Sql) -> tuple[IpRule, ...]:
    """Return every rule, the oldest first."""
    rows = sql.execute(select(TABLE).order_by(TABLE.c.created_at, TABLE.c.cidr, TABLE.c.id)).mappings()
    return tuple(
        IpRule(
            id=row["id"],
            cidr=row["cidr"],
            kind=row["kind"],
            reason=row["reason"],
            until=row["until"],
            created_at=row["created_at"],
        )
        for row in rows
    )


def insert(sql: Sql, rule: IpRule) -> None:
    """Store a new rule."""
    sql.execute(
        TABLE.insert(),
        {
            "id": rule.id,
            "cidr": rule.cidr,
            "kind": rule.kind,
            "reason": rule.reason,
            "until": rule.until,
            "created_at": rule.created_at,
            "updated_at": rule.created_at,
        },
    )


def delete(sql: Sql, rule_id: str) -> bool:
    """Remove a rule; False if there was none."""
    return sql.execute(TABLE.delete().where(TABLE.c.id == rule_id)).rowcount == 1


def delete_ended(sql: Sql, now: float) -> int:
    """Remove bans that are over."""
    return sql.execute(TABLE.delete().where(TABLE.c.until.is_not(None), TABLE.c.until <= now)).rowcount

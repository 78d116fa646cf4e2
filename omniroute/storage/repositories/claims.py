"""Work with a single winner, and when jobs ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, select
from sqlalchemy import Connection as Sql

from omniroute.storage import dialects
from omniroute.storage.models import Claim, JobRun
from omniroute.storage.models.base import table_of

CLAIMS: Final = table_of(Claim)
RUNS: Final = table_of(JobRun)


@dataclass(frozen=True, slots=True)
class Run:
    """When a job ran last."""

    name: str
    last_start_at: float | None
    last_success_at: float | None
    last_error: str | None


def acquire(sql: Sql, name: str, owner: str, *, now: float, until: float) -> bool:
    """Win a claim that is free, expired or already ours; False if somebody else holds it."""
    return _take(sql, name, owner, until, (CLAIMS.c.until <= now) | (CLAIMS.c.owner == owner))


def win(sql: Sql, name: str, owner: str, *, now: float, until: float) -> bool:
    """Win a claim that is free or expired; False while anybody holds it, even ourselves: one try, one winner."""
    return _take(sql, name, owner, until, CLAIMS.c.until <= now)


def prune(sql: Sql, now: float) -> int:
    """Remove claims that have ended by time: they are as free as those that nobody ever won."""
    return sql.execute(CLAIMS.delete().where(CLAIMS.c.until <= now)).rowcount


def release(sql: Sql, name: str, owner: str) -> bool:
    """Give a claim back; False if it is no longer ours."""
    return sql.execute(CLAIMS.delete().where(CLAIMS.c.name == name, CLAIMS.c.owner == owner)).rowcount == 1


def record_start(sql: Sql, job: str, at: float) -> None:
    """Store that a job begins."""
    _put(sql, {"name": job, "last_start_at": at})


def record_end(sql: Sql, job: str, at: float, error: str | None = None) -> None:
    """Store that a job succeeded at a time, or what went wrong."""
    _put(sql, {"name": job, "last_error": error} | ({} if error else {"last_success_at": at}))


def runs(sql: Sql) -> dict[str, Run]:
    """Return when each job ran last, by name."""
    return {row["name"]: Run(**row) for row in sql.execute(select(RUNS)).mappings()}


def _take(sql: Sql, name: str, owner: str, until: float, may_take: ColumnElement[bool]) -> bool:
    """Insert the claim, or take it over where that is allowed; in one statement, so that one of many wins."""
    insert = dialects.of(sql).insert_into(CLAIMS)
    statement = insert.on_conflict_do_update(
        index_elements=[CLAIMS.c.name],
        set_={"owner": insert.excluded.owner, "until": insert.excluded.until},
        where=may_take,
    )
    values = {"name": name, "owner": owner, "until": until}
    return sql.execute(statement.returning(CLAIMS.c.name), values).first() is not None


def _put(sql: Sql, values: dict[str, Any]) -> None:
    insert = dialects.of(sql).insert_into(RUNS)
    new = {name: insert.excluded[name] for name in values if name != "name"}
    sql.execute(insert.on_conflict_do_update(index_elements=[RUNS.c.name], set_=new), values)

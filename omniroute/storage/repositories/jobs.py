"""Long work that callers asked for: its state, and the lease that its worker renews."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import RowMapping, delete, select

from omniroute.records import JobState, LongJob
from omniroute.storage.models import Job
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.rows import mapping_of, to_json

TABLE: Final = table_of(Job)
_OPEN: Final = (JobState.QUEUED, JobState.RUNNING)


def insert(sql: Sql, job: LongJob) -> None:
    """Store new work."""
    values = {
        "id": job.id,
        "kind": job.kind,
        "state": job.state.value,
        "owner": job.owner,
        "lease_until": job.lease_until,
        "created_at": job.created_at,
        "updated_at": job.created_at,
    }
    sql.execute(TABLE.insert(), values)


def get(sql: Sql, job_id: str) -> LongJob | None:
    """Return one, or None."""
    row = sql.execute(select(TABLE).where(TABLE.c.id == job_id)).mappings().first()
    return _record(row) if row is not None else None


def load_newest(sql: Sql, limit: int) -> list[LongJob]:
    """Return the newest, newest first."""
    rows = sql.execute(select(TABLE).order_by(TABLE.c.created_at.desc(), TABLE.c.id.desc()).limit(limit)).mappings()
    return [_record(row) for row in rows]


def set_running(sql: Sql, job_id: str, *, now: float, until: float) -> bool:
    """Store that work begins; False if it is not waiting any more."""
    statement = TABLE.update().where(TABLE.c.id == job_id, TABLE.c.state == JobState.QUEUED.value)
    values = {"state": JobState.RUNNING.value, "lease_until": until, "updated_at": now}
    return sql.execute(statement, values).rowcount == 1


def set_progress(sql: Sql, job_id: str, progress: float, *, now: float) -> None:
    """Store how far work is."""
    statement = TABLE.update().where(TABLE.c.id == job_id, TABLE.c.state == JobState.RUNNING.value)
    sql.execute(statement, {"progress": progress, "updated_at": now})


def renew(sql: Sql, job_ids: Iterable[str], *, until: float) -> None:
    """Store that the worker of these lives."""
    statement = TABLE.update().where(TABLE.c.id.in_(list(job_ids)), TABLE.c.state.in_(_OPEN))
    sql.execute(statement, {"lease_until": until})


def finish(
    sql: Sql,
    job_id: str,
    state: JobState,
    *,
    now: float,
    result: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
) -> None:
    """Store how work ended."""
    values: dict[str, Any] = {
        "state": state.value,
        "result_json": to_json(result),
        "error": to_json(error),
        "lease_until": None,
        "finished_at": now,
        "updated_at": now,
    }
    if state is JobState.SUCCEEDED:
        values["progress"] = 1.0
    sql.execute(TABLE.update().where(TABLE.c.id == job_id, TABLE.c.state.in_(_OPEN)), values)


def interrupt(sql: Sql, now: float, error: Mapping[str, Any]) -> int:
    """Store that work has failed whose worker is no more; return how much."""
    statement = TABLE.update().where(TABLE.c.state.in_(_OPEN), TABLE.c.lease_until <= now)
    values = {
        "state": JobState.FAILED.value,
        "error": to_json(error),
        "lease_until": None,
        "finished_at": now,
        "updated_at": now,
    }
    return sql.execute(statement, values).rowcount


def prune(sql: Sql, before: float) -> int:
    """Remove what ended before a time; return how much."""
    return sql.execute(delete(TABLE).where(TABLE.c.finished_at < before)).rowcount


def _record(row: RowMapping) -> LongJob:
    return LongJob(
        id=row["id"],
        kind=row["kind"],
        state=JobState(row["state"]),
        created_at=row["created_at"],
        progress=row["progress"],
        result=mapping_of(row["result_json"]) if row["state"] == JobState.SUCCEEDED.value else None,
        error=mapping_of(row["error"]) or None,
        owner=row["owner"],
        lease_until=row["lease_until"],
        finished_at=row["finished_at"],
        updated_at=row["updated_at"],
    )

"""`/api/storage/health`, `/api/db/health` and `/api/settings/database`: the database and what it takes."""

from __future__ import annotations

from typing import Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import Query, Time, operation
from omniroute.blueprints.management.bodies import Fields, answer, integer, iso_time, query_flag
from omniroute.blueprints.management.jobs import AcceptedDocument, accepted
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.services.database_care import Check, Facts, Sizes
from omniroute.services.setting_definitions import BY_NAME, Tab
from omniroute.services.settings import SettingState

blueprint = Blueprint("management_database", __name__)

_RETENTION: Final = (
    "callLogRetentionDays",
    "callLogMaxRows",
    "usageHourlyRetentionDays",
    "usageDailyRetentionDays",
    "auditRetentionDays",
)
_CHANGE: Final = Fields(
    *(integer(name, nullable=True, minimum=BY_NAME[name].minimum, maximum=BY_NAME[name].maximum) for name in _RETENTION)
)


class StorageHealthDocument(TypedDict):
    """Bytes of everything that grows; null where there is none or nobody knows."""

    dialect: str
    dbBytes: int | None
    walBytes: int | None
    freeBytes: int | None
    backupsBytes: int
    backups: int
    lastBackupAt: Time | None
    logsBytes: int
    spoolBytes: int


class DatabaseHealthDocument(TypedDict):
    """Whether the database is whole, and what is wrong with it."""

    status: str
    problems: list[str]
    isThorough: bool
    checkedAt: Time
    durationMs: float


class RetentionSettingDocument(TypedDict):
    """How much is kept, and who said so: `env`, `db` or `default`."""

    value: int
    default: int
    source: str
    fixedBy: str | None


class DatabaseSettingsDocument(TypedDict):
    """The database: where it is, how large, how it is set up, and how long what grows is kept."""

    dialect: str
    version: str
    file: str | None
    bytes: int
    reusableBytes: int | None
    pragmas: dict[str, str | int]
    retention: dict[str, RetentionSettingDocument]


@blueprint.get("/api/storage/health")
@operation(StorageHealthDocument)
def storage() -> Response:
    """Show what the database, its backups and the logs take on the disk, and what is free."""
    return answer(shown_sizes(container().database_care.sizes()))


@blueprint.get("/api/db/health")
@operation(
    DatabaseHealthDocument,
    query=(Query("thorough", "Compare indexes with their tables as well: takes much longer.", "boolean"),),
    refusals=(409,),
)
def check() -> Response:
    """Look whether the database is whole."""
    return answer(shown_check(container().database_care.check(is_thorough=bool(query_flag(request, "thorough")))))


@blueprint.post("/api/db/health")
@operation(AcceptedDocument, status=202, refusals=(409,))
def repair() -> Response:
    """Mend what can be mended without losing anything: write the log back, build the indexes anew.

    The work is a job; its result is `{actions, problemsBefore, problemsAfter, isWhole}`. Others can read meanwhile, and
    write when it is done. What stays broken needs a backup.
    """
    return accepted(container().database_care.repair(origin()))


@blueprint.get("/api/settings/database")
@operation(DatabaseSettingsDocument)
def settings() -> Response:
    """Show the database: file, size, its own settings, and how long what grows is kept."""
    return answer(_settings())


@blueprint.route("/api/settings/database", methods=["PATCH", "PUT"])
@operation(DatabaseSettingsDocument, body=_CHANGE, refusals=(409,))
def change() -> Response:
    """Change how long what grows is kept; null gives a field back to its default.

    The same fields are part of the settings of the tab General.
    """
    values = _CHANGE.read(request)
    if values:
        container().runtime_settings.change({Tab.GENERAL: values}, origin())
    return answer(_settings())


@blueprint.post("/api/settings/database/vacuum")
@operation(AcceptedDocument, status=202, refusals=(409,))
def vacuum() -> Response:
    """Give the pages that are not used back to the disk.

    The work is a job; its result is `{bytesBefore, bytesAfter}`. Others can read meanwhile, and write when it is done;
    settled requests wait in their spool.
    """
    return accepted(container().database_care.vacuum(origin()))


def _settings() -> DatabaseSettingsDocument:
    own = container()
    states = {state.definition.name: state for state in own.runtime_settings.states()}
    path = own.database.path
    retention = {name: _shown_state(states[name]) for name in _RETENTION}
    return shown_facts(own.database_care.facts(), str(path) if path is not None else None, retention)


def shown_facts(
    facts: Facts, file: str | None, retention: dict[str, RetentionSettingDocument]
) -> DatabaseSettingsDocument:
    """Return what the database says of itself as management answers show it."""
    return {
        "dialect": _dialect(),
        "version": facts.version,
        "file": file,
        "bytes": facts.bytes,
        "reusableBytes": facts.reusable_bytes,
        "pragmas": dict(facts.pragmas),
        "retention": retention,
    }


def shown_sizes(sizes: Sizes) -> StorageHealthDocument:
    """Return sizes as management answers show them."""
    return {
        "dialect": _dialect(),
        "dbBytes": sizes.db,
        "walBytes": sizes.wal,
        "freeBytes": sizes.free,
        "backupsBytes": sizes.backups,
        "backups": sizes.backup_count,
        "lastBackupAt": iso_time(sizes.last_backup_at),
        "logsBytes": sizes.logs,
        "spoolBytes": sizes.spool,
    }


def shown_check(found: Check) -> DatabaseHealthDocument:
    """Return what a check found as management answers show it."""
    return {
        "status": "ok" if found.is_whole else "damaged",
        "problems": list(found.problems),
        "isThorough": found.is_thorough,
        "checkedAt": iso_time(found.checked_at),
        "durationMs": round(found.duration_ms, 1),
    }


def _shown_state(state: SettingState) -> RetentionSettingDocument:
    return {
        "value": int(state.value),
        "default": int(state.default),
        "source": state.source,
        "fixedBy": state.fixed_by,
    }


def _dialect() -> str:
    return "sqlite" if container().database.is_sqlite else "postgresql"

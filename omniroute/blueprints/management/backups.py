"""`/api/db-backups`: copies of the database, and what comes back from them."""

from __future__ import annotations

from typing import Any, Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import PAGING, SEARCH, ListDocument, RemovedDocument, operation, sorting
from omniroute.blueprints.management import uploads
from omniroute.blueprints.management.bodies import Fields, Order, Page, answer, flag, integer, iso_time, text
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.secret import Secret
from omniroute.services import backups as service
from omniroute.services.backups import Backup, Policy, Reason
from omniroute.services.exports import Download
from omniroute.services.imports import Imported
from omniroute.services.replacement import Counts

blueprint = Blueprint("management_backups", __name__)

_FILE: Final = "file"
_KEY: Final = "encryptionKey"
_LONGEST_KEY: Final = 500
_BINARY: Final = {"type": "string", "format": "binary"}
_RESTORE: Final = Fields(
    text("backupId", required=True, max_length=100),
    text(_KEY, max_length=_LONGEST_KEY, secret=True),
    flag("replaceAccess"),
)
_KEEP: Final = (
    integer("keepLatest", minimum=1, maximum=service.MOST_KEPT),
    integer("retentionDays", minimum=0, maximum=service.MOST_DAYS),
)
_POLICY: Final = Fields(*_KEEP, text("schedule", max_length=100))
_CLEAN: Final = Fields(*_KEEP)
_ORDER: Final[Order[Backup]] = Order(
    searched=lambda backup: (backup.id, backup.reason.value),
    fields={
        "createdAt": lambda backup: backup.created_at,
        "sizeBytes": lambda backup: backup.size_bytes,
        "reason": lambda backup: backup.reason.value,
    },
)


class BackupDocument(TypedDict):
    """A copy of the database."""

    id: str
    filename: str
    createdAt: str
    sizeBytes: int
    reason: Reason
    connectionCount: int | None
    verified: bool


class BackupPolicyDocument(TypedDict):
    """When copies are made by themselves, and which are kept."""

    schedule: str
    nextRunAt: str | None
    automatic: bool
    keepLatest: int
    retentionDays: int


class BackupsDocument(ListDocument):
    """A page of the copies, and the rules for them."""

    backups: list[BackupDocument]
    policy: BackupPolicyDocument


class BackupCreatedDocument(TypedDict):
    """A copy was made."""

    created: bool
    backup: BackupDocument


class BackupUnchangedDocument(TypedDict):
    """No copy was made: the newest one holds the data as it is."""

    created: bool
    reason: str


class BackupPolicyChangedDocument(TypedDict):
    """The rules as they are now."""

    policy: BackupPolicyDocument


class BackupsRemovedDocument(TypedDict):
    """How many copies were removed."""

    deleted: int


class ContentsDocument(TypedDict):
    """What a database holds; credentials are counted by connection."""

    connectionCount: int
    nodeCount: int
    comboCount: int
    apiKeyCount: int
    credentialsReadable: int
    credentialsUnreadable: int


class RestoredDocument(ContentsDocument):
    """The data of a copy is in force."""

    restored: bool
    backup: BackupDocument
    safetyBackup: BackupDocument | None
    migratedFrom: int | None


class ImportedTableDocument(TypedDict):
    """What became of the rows of one table."""

    taken: int
    skipped: int
    reasons: dict[str, int]


class ImportedDocument(ContentsDocument):
    """The data of a file is in force. `tables` is there for a file whose rows had to be mapped."""

    imported: bool
    filename: str
    safetyBackup: BackupDocument | None
    schemaVersion: int | None
    tables: dict[str, ImportedTableDocument]


@blueprint.get("/api/db-backups")
@operation(BackupsDocument, query=(*PAGING, *SEARCH, sorting("createdAt", "sizeBytes", "reason")))
def index() -> Response:
    """List the backups, newest first.

    `verified` says that a copy passed its checks and its file has not changed since.
    """
    page, backups = Page.read(request), container().backups
    found = _ORDER.apply(request, backups.list_all())
    body: BackupsDocument = {
        "backups": [shown(backups.describe(item)) for item in page.cut(found)],
        "policy": shown_policy(backups.policy()),
        "total": len(found),
        "limit": page.limit,
        "offset": page.offset,
    }
    return answer(body, headers={"X-Total-Count": str(len(found))})


@blueprint.put("/api/db-backups")
@operation((BackupCreatedDocument, BackupUnchangedDocument))
def create() -> Response:
    """Make a backup now.

    Nothing is made when the newest backup holds the data as it is.
    """
    made = container().backups.create_if_changed(origin())
    if made is None:
        return answer(BackupUnchangedDocument(created=False, reason="unchanged"))
    return answer(BackupCreatedDocument(created=True, backup=shown(made)))


@blueprint.post("/api/db-backups")
@operation(RestoredDocument, body=_RESTORE, refusals=(404, 409))
def restore() -> Response:
    """Restore a backup.

    `backupId` is the id of a backup, or the time (UTC) at which it was made as far as only one was made then.
    The present data is backed up first. The password, sessions, access tokens and settings of security stay unless
    `replaceAccess` is true; what was revoked since stays revoked in either case. `encryptionKey` is the one that the
    credentials of the backup were stored with, where it is not the one in force.

    Raises:
        Conflict: `backup_invalid`, the backup cannot be restored; `busy`, another restore or import runs.
    """
    values = _RESTORE.read(request)
    done = container().restore.run(
        values["backupId"],
        origin(),
        encryption_key=_secret(values.get(_KEY)),
        replace_access=values.get("replaceAccess", False),
    )
    body: RestoredDocument = {
        "restored": True,
        "backup": shown(container().backups.describe(done.backup)),
        "safetyBackup": shown(done.safety) if done.safety is not None else None,
        "migratedFrom": done.migrated_from,
        **contents(done.counts),
    }
    return answer(body)


@blueprint.patch("/api/db-backups")
@operation(BackupPolicyChangedDocument, body=_POLICY, refusals=(409,))
def change_policy() -> Response:
    """Change when backups are made by themselves, and which are kept.

    `schedule` is five fields of cron in the time zone of the server, or `off`.
    """
    policy = container().backups.change_policy(_POLICY.read(request), origin())
    return answer(BackupPolicyChangedDocument(policy=shown_policy(policy)))


@blueprint.delete("/api/db-backups")
@operation(BackupsRemovedDocument, body=_CLEAN, is_body_optional=True)
def clean_up() -> Response:
    """Remove old backups now, by the rules given or those in force; the newest always stays."""
    values = _CLEAN.read(request, optional=True)
    removed = container().backups.clean_up(values.get("keepLatest"), values.get("retentionDays"), origin())
    return answer(BackupsRemovedDocument(deleted=removed))


@blueprint.delete("/api/db-backups/<backup_id>")
@operation(RemovedDocument, refusals=(404,))
def delete(backup_id: str) -> Response:
    """Remove one backup."""
    container().backups.delete(backup_id, origin())
    return answer(RemovedDocument(success=True, id=backup_id))


@blueprint.get("/api/db-backups/export")
@operation(_BINARY, media_type="application/vnd.sqlite3")
def export() -> Response:
    """Download the database as one SQLite file.

    It is a consistent copy of everything; credentials are in it as they are stored, encrypted, without the key.
    """
    return _download(container().exports.database(origin()), "application/vnd.sqlite3")


@blueprint.get("/api/db-backups/exportAll")
@operation(_BINARY, media_type="application/gzip")
def export_all() -> Response:
    """Download everything but secrets, as an archive.

    It holds the database without ciphertext and digests, and settings, combos, providers, API keys, prices and usage as
    documents.
    """
    return _download(container().exports.everything(origin()), "application/gzip")


@blueprint.post("/api/db-backups/import")
@operation(
    ImportedDocument,
    form={_FILE: _BINARY, _KEY: {"type": "string", "maxLength": _LONGEST_KEY}},
    refusals=(409,),
)
def import_file() -> Response:
    """Replace the data by that of an uploaded database file.

    Refused with 400 `import_invalid` and the name of the failed check in `details.check`: extension, header, size,
    open, quick_check, integrity_check, tables, schema, content. The present data is backed up first. The password,
    sessions, access tokens, settings of security and the audit log stay. `encryptionKey` is the one that the
    credentials in the file were stored with; without it they arrive unreadable.
    """
    imports = container().imports
    with imports.receiving() as directory:
        target = directory / "upload"
        upload = uploads.receive(request, target, most_bytes=imports.most_bytes, field=_FILE, beside=(_KEY,))
        key = upload.fields.get(_KEY, "").strip() or None
        done = imports.run(upload.path, upload.filename, directory, origin(), encryption_key=_secret(key))
    return answer(shown_import(done))


def shown(backup: Backup) -> BackupDocument:
    """Return a backup as management answers show it."""
    return {
        "id": backup.id,
        "filename": backup.path.name,
        "createdAt": iso_time(backup.created_at),
        "sizeBytes": backup.size_bytes,
        "reason": backup.reason,
        "connectionCount": backup.connection_count,
        "verified": backup.is_verified,
    }


def shown_policy(policy: Policy) -> BackupPolicyDocument:
    """Return the rules as management answers show them."""
    return {
        "schedule": policy.schedule,
        "nextRunAt": iso_time(policy.next_run_at),
        "automatic": policy.is_automatic,
        "keepLatest": policy.keep_latest,
        "retentionDays": policy.retention_days,
    }


def contents(counts: Counts) -> ContentsDocument:
    """Return what a database holds as management answers show it."""
    return {
        "connectionCount": counts.connections,
        "nodeCount": counts.nodes,
        "comboCount": counts.combos,
        "apiKeyCount": counts.api_keys,
        "credentialsReadable": counts.credentials_readable,
        "credentialsUnreadable": counts.credentials_unreadable,
    }


def shown_import(done: Imported) -> ImportedDocument:
    """Return an import as management answers show it."""
    return {
        "imported": True,
        "filename": done.filename,
        "safetyBackup": shown(done.safety) if done.safety is not None else None,
        "schemaVersion": done.version,
        "tables": {
            name: {"taken": table.taken, "skipped": table.skipped, "reasons": dict(table.reasons)}
            for name, table in done.mapped.items()
        },
        **contents(done.counts),
    }


def _secret(value: Any) -> Secret | None:
    return Secret(value) if value is not None else None


def _download(download: Download, media_type: str) -> Response:
    response = Response(download, mimetype=media_type)
    response.headers["Content-Disposition"] = f'attachment; filename="{download.name}"'
    response.headers["Content-Length"] = str(download.size)
    response.headers["Cache-Control"] = "no-store"
    return response

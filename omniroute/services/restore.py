"""Restores: a backup's rows in the place of the present ones, or, for a database that does not open, its file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from omniroute.errors import Conflict, StorageError
from omniroute.secret import Secret
from omniroute.services.audit import Audit, Recorder
from omniroute.services.backups import Backup, Backups, Reason
from omniroute.services.encryption_keys import EncryptionKeys, nobody_serves
from omniroute.services.keys import SYSTEM, Origin
from omniroute.services.replacement import Counts, Prepared, Replacement, untold
from omniroute.settings import Settings
from omniroute.storage import copies
from omniroute.storage.brought_files import Check, NotUsable
from omniroute.storage.database import Database, url_of
from omniroute.storage.replacing import Keep
from omniroute.storage.schema import newest_version
from omniroute.storage.secrets import Cipher
from omniroute.storage.staging import Told

_BESIDE = ("-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to.

    Attributes:
        backup: what was restored.
        safety: the backup of what was there before; None where automatic backups are off.
        migrated_from: the schema version of the backup, where it was an older one.
    """

    backup: Backup
    safety: Backup | None
    counts: Counts
    migrated_from: int | None


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the recovery of a database that did not open came to.

    Attributes:
        aside: where the file lies now that did not open; None where there was none.
    """

    source: Path
    aside: Path | None
    counts: Counts


class Restore:
    """Restores backups of this server."""

    def __init__(self, *, backups: Backups, replacement: Replacement, audit: Recorder) -> None:
        self._backups = backups
        self._replacement = replacement
        self._audit = audit

    def run(
        self,
        name: str,
        origin: Origin,
        *,
        encryption_key: Secret | None = None,
        replace_access: bool = False,
    ) -> Restored:
        """Restore the backup with an id or time; a failure at any step leaves the present data as it is.

        The password, sessions, access tokens and settings of security stay as they are unless `replace_access` is
        given. What was revoked since stays revoked in either case.

        Args:
            name: see :meth:`Backups.find`.
            origin: who asked for it.
            encryption_key: the one that the credentials of the backup were stored with, where it is not in force.
            replace_access: take who may come in from the backup as well.

        Raises:
            NotFound: there is no such backup.
            Conflict: `backup_invalid`, it cannot be restored; or `busy`.
            StorageError: the database did not take it.
        """
        backup = self._backups.find(name)
        with self._replacement.working() as directory:
            prepared = self._prepared(backup, directory, encryption_key)
            safety = self._replacement.replace(
                prepared,
                reason=Reason.PRE_RESTORE,
                keep=Keep(access=not replace_access, audit=None),
                origin=origin,
                protect=(backup.id,),
            )
        details = {
            "safetyBackup": safety.id if safety is not None else None,
            "replacedAccess": replace_access,
            "connections": prepared.counts.connections,
            "credentialsReadable": prepared.counts.credentials_readable,
        }
        self._audit.record(
            "backup.restored", target_kind="backup", target_id=backup.id, details=details, **origin.facts()
        )
        return Restored(backup, safety, prepared.counts, _older(prepared))

    def _prepared(self, backup: Backup, directory: Path, key: Secret | None) -> Prepared:
        try:
            return self._replacement.prepare_backup(backup.path, directory, key)
        except NotUsable as error:
            raise _invalid(error.check) from error
        except StorageError as error:
            if isinstance(error.__cause__, OSError) and backup.path.exists():
                raise
            raise _invalid(Check.INTEGRITY) from error


def _invalid(check: Check) -> Conflict:
    return Conflict(
        f"This backup cannot be restored: it does not pass the check {check.value}. Nothing was changed.",
        code="backup_invalid",
        extras={"check": check.value},
    )


def _older(prepared: Prepared) -> int | None:
    version = prepared.staged.version
    return version if version is not None and version < newest_version() else None


# --- without a database ----------------------------------------------------------------------------------------------


def recover(
    settings: Settings,
    source: Path,
    *,
    encryption_key: Secret | None = None,
    origin: Origin = SYSTEM,
    now: Callable[[], float] = time.time,
    told: Told = untold,
) -> Recovered:
    """Put the rows of a backup into a new database file, in the place of one that does not open, which stays beside it.

    For the command line, while no server runs. Everything comes from the backup: the file that it replaces cannot say
    what would have to stay.

    Raises:
        Conflict: `server_running`, `backup_invalid`, or the database is not a file.
    """
    database = Database(url_of(settings))
    try:
        path = database.path
        if path is None:
            raise Conflict("PostgreSQL looks after its own files; restore the backup into an empty database.")
        with nobody_serves(settings, database):
            return _recovered(settings, database, path, source, encryption_key, now=now, told=told, origin=origin)
    finally:
        database.dispose()


def _recovered(
    settings: Settings,
    database: Database,
    path: Path,
    source: Path,
    key: Secret | None,
    *,
    now: Callable[[], float],
    told: Told,
    origin: Origin,
) -> Recovered:
    keys = EncryptionKeys(settings=settings, database=database)
    replacement = Replacement(
        settings=settings,
        database=database,
        backups=Backups(settings=settings, database=database, now=now),
        cipher=Cipher(keys.present()),
        previous=keys.previous,
        try_out=lambda _snapshot: None,
        now=now,
        told=told,
    )
    with replacement.working() as directory:
        try:
            prepared = replacement.prepare_backup(source, directory, key)
        except NotUsable as error:
            raise _invalid(error.check) from error
        aside = _set_aside(path, now())
        told("set aside")
        prepared.staged.path.replace(path)  # in one step: there is a database at every moment
        copies.make_durable(path.parent)
        told("in place")
    details = {"recovered": True, "from": source.name, "connections": prepared.counts.connections}
    Audit(database=database, now=now).record(
        "backup.restored", target_kind="backup", target_id=source.name, details=details, **origin.facts()
    )
    return Recovered(source, aside, prepared.counts)


def _set_aside(path: Path, at: float) -> Path | None:
    """Give the files of a database another name beside the one that they have; its log no longer has its own."""
    if not path.exists():
        return None
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%S%fZ")
    aside = path.with_name(f"{path.name}.damaged-{moment}")
    try:
        aside.hardlink_to(path)
    except OSError:  # the file system has no such links
        shutil.copy2(path, aside)
    for suffix in _BESIDE:
        file = path.with_name(path.name + suffix)
        if file.exists():  # left in place it would be applied to the new file
            file.replace(aside.with_name(aside.name + suffix))
    return aside

"""Backups: when one is made, how it is listed and pruned. How a copy is made and checked is storage's business."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from omniroute.errors import Conflict, NotFound, OmniRouteError, StorageError, ValidationFailed
from omniroute.services.access import Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.backup_schedule import next_moment
from omniroute.services.keys import Origin
from omniroute.settings import Settings, cron_of, shown_default, variables
from omniroute.storage import copies
from omniroute.storage.database import Database
from omniroute.storage.repositories import settings as stored_settings

SECTION: Final = "advanced"
SCHEDULE: Final = "backupCron"
KEEP_LATEST: Final = "backupKeepLatest"
RETENTION_DAYS: Final = "backupRetentionDays"
"""Settings that are chosen while the server runs, by section and name."""
MOST_KEPT: Final = 200
MOST_DAYS: Final = 3650

_FIELDS: Final = {
    SCHEDULE: "db_backup_cron",
    KEEP_LATEST: "db_backup_max_files",
    RETENTION_DAYS: "db_backup_retention_days",
}
_log = logging.getLogger(__name__)
_NAME: Final = re.compile(r"db_(\d{8}T\d{12}Z)_([a-z-]+)\.(sqlite|dump|ndjson)")
_NOT_DIGITS: Final = re.compile(r"[-:.\sTZtz]")
_FEWEST_DIGITS: Final = 8
_DAY_S: Final = 86_400
_BETWEEN_CHANGES_S: Final = 3600


class Reason(StrEnum):
    """Why a backup was made."""

    MANUAL = "manual"
    SCHEDULED = "scheduled"
    PRE_MIGRATION = "pre-migration"
    PRE_IMPORT = "pre-import"
    PRE_RESTORE = "pre-restore"
    PRE_CHANGE = "pre-change"


_ALWAYS: Final = frozenset({Reason.MANUAL, Reason.PRE_MIGRATION})
"""Made even when automatic backups are switched off."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup file. Only verified copies get such a name."""

    id: str
    path: Path
    created_at: float
    size_bytes: int
    reason: Reason
    connection_count: int | None = None
    """Provider connections in it; None where nobody has looked."""
    is_verified: bool = False
    """It passed its checks, and the file has not changed since."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When backups are made by themselves, and which are kept."""

    schedule: str
    keep_latest: int
    retention_days: int
    is_automatic: bool
    """Whether any are made but by hand and before migrations."""
    next_run_at: float | None = None


class Backups:
    """The backups of the database, in `DATA_DIR/backups`."""

    def __init__(self, *, settings: Settings, database: Database, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._database = database
        self.directory = settings.data_dir / "backups"
        self._is_automatic = not settings.disable_sqlite_auto_backup
        self._now = now
        self._snapshots: Snapshots | None = None
        self._audit: Recorder | None = None
        self._after_each: list[Callable[[], None]] = []
        self._bad: set[tuple[str, int]] = set()

    def use(self, *, snapshots: Snapshots, audit: Recorder) -> None:
        """Follow what is chosen while the server runs, and write to the audit log: both exist later than this."""
        self._snapshots = snapshots
        self._audit = audit

    def after_each(self, callback: Callable[[], None]) -> None:
        """Have `callback` called after every verified backup; its failure is logged."""
        self._after_each.append(callback)

    # --- making --------------------------------------------------------------------------------------------------

    def create(
        self, reason: str = Reason.MANUAL, origin: Origin | None = None, *, protect: Collection[str] = ()
    ) -> Backup | None:
        """Make a verified backup and prune older ones; None if backups for this reason are switched off.

        Args:
            reason: one of :class:`Reason`.
            origin: who asked for it; None for the server itself.
            protect: ids of backups that must not be pruned now.

        Raises:
            StorageError: it could not be made, or did not pass its checks.
        """
        why = Reason(reason)
        if not self._is_automatic and why not in _ALWAYS:
            return None
        made_at = self._now()
        target = self.directory / copies.file_name(self._database, why.value, made_at)
        copy = copies.write_copy(self._database, target)
        try:
            copies.keep_facts(copy)
        except OSError as error:
            raise StorageError("What was found out about the copy could not be written.") from error
        _log.info("Made a verified backup (%s, %s bytes).", why.value, copy.size_bytes)
        made = Backup(
            id=copy.path.name,
            path=copy.path,
            created_at=made_at,
            size_bytes=copy.size_bytes,
            reason=why,
            connection_count=copy.rows.get("provider_connections"),
            is_verified=True,
        )
        self._record("backup.created", origin, made.id, {"reason": why.value, "sizeBytes": made.size_bytes})
        self.prune(protect=protect)
        self._tell_others()
        return made

    def create_if_changed(self, origin: Origin | None = None) -> Backup | None:
        """Make a backup by hand; None if the newest one holds the data as it is."""
        newest = next(iter(self.list_all()), None)
        facts = copies.facts_of(newest.path) if newest is not None else None
        if facts is not None and facts.state and facts.state == self._database.read(copies.state_of):
            return None
        return self.create(Reason.MANUAL, origin)

    def before_change(self, origin: Origin | None = None) -> Backup | None:
        """Make a backup before configuration is deleted or replaced, at most once an hour."""
        newest = next((item for item in self.list_all() if item.reason is Reason.PRE_CHANGE), None)
        if newest is not None and self._now() - newest.created_at < _BETWEEN_CHANGES_S:
            return None
        return self.create(Reason.PRE_CHANGE, origin)

    def _tell_others(self) -> None:
        for callback in self._after_each:
            try:
                callback()
            except (OmniRouteError, OSError):
                _log.exception("What follows a backup failed.")

    # --- listing -------------------------------------------------------------------------------------------------

    def list_all(self) -> tuple[Backup, ...]:
        """Return the backups, newest first, without opening any."""
        if not self.directory.is_dir():
            return ()
        found = (_backup(path) for path in self.directory.iterdir())
        return tuple(sorted((item for item in found if item), key=lambda item: item.id, reverse=True))

    def described(self) -> tuple[Backup, ...]:
        """Return the backups, newest first; one that came from elsewhere is checked when it is first seen."""
        return tuple(self.describe(item) for item in self.list_all())

    def describe(self, item: Backup) -> Backup:
        """Return a backup with what is known of it."""
        facts = copies.facts_of(item.path)
        if facts is None and (item.id, item.size_bytes) not in self._bad:
            try:
                facts = copies.keep_facts(copies.verify(item.path))
            except (StorageError, OSError):
                self._bad.add((item.id, item.size_bytes))
                _log.warning("A file in the directory of backups does not pass the checks: %s", item.id)
        if facts is None:
            return item
        return replace(item, is_verified=True, connection_count=facts.rows.get("provider_connections"))

    def find(self, name: str) -> Backup:
        """Return the backup with an id, or the only one that was made at a time (UTC), given as far as it is known.

        Raises:
            NotFound: there is none.
            Conflict: several were made then.
        """
        every = self.list_all()
        for item in every:
            if item.id == name:
                return item
        digits = _NOT_DIGITS.sub("", name.strip())
        if digits.isdigit() and len(digits) >= _FEWEST_DIGITS:
            found = [item for item in every if _NOT_DIGITS.sub("", item.id.split("_")[1]).startswith(digits)]
            if len(found) == 1:
                return found[0]
            if found:
                raise Conflict(
                    "Several backups were made then: " + ", ".join(item.id for item in found[:10]),
                    extras={"backups": [item.id for item in found[:10]]},
                )
        raise NotFound("There is no backup with this id.")

    # --- removing ------------------------------------------------------------------------------------------------

    def delete(self, backup_id: str, origin: Origin | None = None) -> None:
        """Remove one backup.

        Raises:
            NotFound: there is none with this id.
        """
        for item in self.list_all():
            if item.id == backup_id:
                copies.remove(item.path)
                self._record("backup.deleted", origin, item.id, None)
                return
        raise NotFound("There is no backup with this id.")

    def prune(self, *, protect: Collection[str] = ()) -> int:
        """Remove backups beyond the number or age to keep (0 days: any age), never the newest; return how many."""
        return self._prune(int(self._rule(KEEP_LATEST)), int(self._rule(RETENTION_DAYS)), protect)

    def clean_up(self, keep_latest: int | None, retention_days: int | None, origin: Origin | None = None) -> int:
        """Remove backups now, by the given rules or those in force; return how many."""
        removed = self._prune(
            int(self._rule(KEEP_LATEST)) if keep_latest is None else keep_latest,
            int(self._rule(RETENTION_DAYS)) if retention_days is None else retention_days,
            (),
        )
        if removed:
            self._record("backup.deleted", origin, None, {"removed": removed})
        return removed

    def _prune(self, keep_latest: int, retention_days: int, protect: Collection[str]) -> int:
        kept_since = self._now() - retention_days * _DAY_S if retention_days else None
        removed = 0
        for position, item in enumerate(self.list_all()):
            is_old = kept_since is not None and item.created_at < kept_since
            if position > 0 and (position >= keep_latest or is_old) and item.id not in protect:
                copies.remove(item.path)
                removed += 1
        return removed

    def tidy(self) -> int:
        """Remove what killed processes left unfinished; return how much."""
        return copies.tidy(self.directory, self._now())

    # --- rules ---------------------------------------------------------------------------------------------------

    def policy(self) -> Policy:
        """Return the rules in force."""
        schedule = str(self._rule(SCHEDULE))
        try:
            next_run_at = next_moment(schedule, self._now()) if self._is_automatic else None
        except ValueError:
            _log.warning("The stored schedule of backups cannot be read; the default takes its place.")
            schedule = shown_default(_FIELDS[SCHEDULE])
            next_run_at = next_moment(schedule, self._now())
        return Policy(
            schedule=schedule,
            keep_latest=int(self._rule(KEEP_LATEST)),
            retention_days=int(self._rule(RETENTION_DAYS)),
            is_automatic=self._is_automatic,
            next_run_at=next_run_at,
        )

    def change_policy(self, values: Mapping[str, Any], origin: Origin) -> Policy:
        """Store rules, by their names `schedule`, `keepLatest` and `retentionDays`.

        Raises:
            ValidationFailed: the schedule is none.
            Conflict: `fixed_by_environment`, a variable decides.
        """
        names = {"schedule": SCHEDULE, "keepLatest": KEEP_LATEST, "retentionDays": RETENTION_DAYS}
        chosen = {names[name]: value for name, value in values.items() if name in names}
        if SCHEDULE in chosen:
            try:
                chosen[SCHEDULE] = cron_of(str(chosen[SCHEDULE]))
            except ValueError:
                message = "must be five fields of cron, or off"
                raise ValidationFailed([{"field": "schedule", "message": message}]) from None
        fixed = [variables()[_FIELDS[name]].name for name in chosen if _FIELDS[name] in self._settings.sources]
        if fixed:
            raise Conflict(f"{', '.join(fixed)} of the environment decides.", code="fixed_by_environment")
        before = {name: self._rule(name) for name in chosen}
        now, by = self._now(), origin.actor.audit_name

        def work(sql: Any) -> None:
            for name, value in chosen.items():
                stored_settings.put(sql, SECTION, name, value, changed_by=by, now=now)

        self._database.write(work, bump=True)
        changes = {f"{SECTION}.{name}": {"old": before[name], "new": value} for name, value in chosen.items()}
        if changes and self._audit is not None:
            self._audit.record("settings.changed", details=changes, **origin.facts())
        return self.policy()

    def _rule(self, name: str) -> Any:
        field = _FIELDS[name]
        stored = self._snapshots.current.settings.get((SECTION, name)) if self._snapshots is not None else None
        return getattr(self._settings, field) if stored is None or field in self._settings.sources else stored

    def _record(self, action: str, origin: Origin | None, backup_id: str | None, details: Any) -> None:
        if self._audit is not None:
            facts = origin.facts() if origin is not None else {"actor": "system"}
            self._audit.record(action, target_kind="backup", target_id=backup_id, details=details, **facts)


def _backup(path: Path) -> Backup | None:
    match = _NAME.fullmatch(path.name)
    if match is None or match[2] not in {reason.value for reason in Reason}:
        return None
    try:
        size = path.stat().st_size
        moment = datetime.strptime(match[1], "%Y%m%dT%H%M%S%fZ").replace(tzinfo=UTC)
    except (FileNotFoundError, ValueError):
        return None
    return Backup(id=path.name, path=path, created_at=moment.timestamp(), size_bytes=size, reason=Reason(match[2]))

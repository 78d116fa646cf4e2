"""Backups: when one is made, how it is listed and pruned. How a copy is made and checked is storage's business."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from omniroute.errors import NotFound
from omniroute.settings import Settings
from omniroute.storage import copies
from omniroute.storage.database import Database

_log = logging.getLogger(__name__)
_NAME: Final = re.compile(r"db_(\d{8}T\d{12}Z)_([a-z-]+)\.(sqlite|dump|ndjson)")
_DAY_S: Final = 86_400


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
    """Provider connections in it, when it was just made."""


class Backups:
    """The backups of the database, in `DATA_DIR/backups`."""

    def __init__(self, *, settings: Settings, database: Database, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._directory = settings.data_dir / "backups"
        self._max_files = settings.db_backup_max_files
        self._retention_days = settings.db_backup_retention_days
        self._is_automatic = not settings.disable_sqlite_auto_backup
        self._now = now

    def create(self, reason: str = Reason.MANUAL) -> Backup | None:
        """Make a verified backup and prune older ones; None if backups for this reason are switched off.

        Raises:
            StorageError: it could not be made, or did not pass its checks.
        """
        why = Reason(reason)
        if not self._is_automatic and why not in _ALWAYS:
            return None
        made_at = self._now()
        target = self._directory / copies.file_name(self._database, why.value, made_at)
        copy = copies.write_copy(self._database, target)
        _log.info("Made a verified backup (%s, %s bytes).", why.value, copy.size_bytes)
        self.prune()
        return Backup(
            id=copy.path.name,
            path=copy.path,
            created_at=made_at,
            size_bytes=copy.size_bytes,
            reason=why,
            connection_count=copy.rows.get("provider_connections"),
        )

    def list_all(self) -> tuple[Backup, ...]:
        """Return the backups, newest first."""
        if not self._directory.is_dir():
            return ()
        found = (_backup(path) for path in self._directory.iterdir())
        return tuple(sorted((item for item in found if item), key=lambda item: item.id, reverse=True))

    def delete(self, backup_id: str) -> None:
        """Remove one backup.

        Raises:
            NotFound: there is none with this id.
        """
        for item in self.list_all():
            if item.id == backup_id:
                item.path.unlink(missing_ok=True)
                return
        raise NotFound("There is no backup with this id.")

    def prune(self) -> int:
        """Remove backups beyond the number or age to keep (0 days: any age), never the newest; return how many."""
        kept_since = self._now() - self._retention_days * _DAY_S if self._retention_days else None
        removed = 0
        for position, item in enumerate(self.list_all()):
            is_old = kept_since is not None and item.created_at < kept_since
            if position > 0 and (position >= self._max_files or is_old):
                item.path.unlink(missing_ok=True)
                removed += 1
        return removed


def _backup(path: Path) -> Backup | None:
    match = _NAME.fullmatch(path.name)
    if match is None or match[2] not in {reason.value for reason in Reason}:
        return None
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    moment = datetime.strptime(match[1], "%Y%m%dT%H%M%S%fZ").replace(tzinfo=UTC)
    return Backup(id=path.name, path=path, created_at=moment.timestamp(), size_bytes=size, reason=Reason(match[2]))

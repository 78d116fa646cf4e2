"""The database as an operator looks after it: sizes, checks, repair, and giving back what is not used."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from omniroute.errors import Conflict, OmniRouteError
from omniroute.services.audit import Recorder
from omniroute.services.backups import Backups
from omniroute.services.health import file_bytes
from omniroute.services.jobs import Jobs, Report
from omniroute.services.keys import Origin
from omniroute.services.notices import directory_bytes
from omniroute.settings import Settings
from omniroute.storage import care
from omniroute.storage.care import Facts
from omniroute.storage.database import Database

__all__ = ["Check", "DatabaseCare", "Facts", "Sizes"]

REPAIR: Final = "database-repair"
VACUUM: Final = "database-vacuum"
_FRESH_S: Final = 30.0
_SPARE: Final = 1.2


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of everything that grows; None where there is none or nobody knows."""

    db: int | None
    wal: int | None
    free: int | None
    backups: int
    backup_count: int
    last_backup_at: float | None
    logs: int
    spool: int


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found."""

    problems: tuple[str, ...]
    is_thorough: bool
    checked_at: float
    duration_ms: float

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class DatabaseCare:
    """Looks after the database. Long work runs off the hub, and what changes the file runs as a job."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        backups: Backups,
        jobs: Jobs,
        audit: Recorder,
        now: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._database = database
        self._backups = backups
        self._jobs = jobs
        self._audit = audit
        self._now = now
        self._monotonic = monotonic
        self._last: dict[bool, Check] = {}
        self._is_checking = False

    def facts(self) -> Facts:
        """Return what the database says of itself.

        Raises:
            StorageError: it does not answer.
        """
        return self._database.detached(care.facts)

    def sizes(self) -> Sizes:
        """Return what everything that grows takes on the disk."""
        path, data_dir = self._database.path, self._settings.data_dir
        backups = self._backups.list_all()
        return Sizes(
            db=file_bytes(path),
            wal=file_bytes(path.with_name(path.name + "-wal")) if path is not None else None,
            free=self._free_bytes(),
            backups=sum(item.size_bytes for item in backups),
            backup_count=len(backups),
            last_backup_at=backups[0].created_at if backups else None,
            logs=directory_bytes(self._settings.log_file.parent) if self._settings.app_log_to_file else 0,
            spool=directory_bytes(data_dir / "spool"),
        )

    def check(self, *, is_thorough: bool = False) -> Check:
        """Look whether the database is whole; what was found in the last half minute is said again.

        Raises:
            Conflict: `busy`: a check runs in this worker already.
        """
        known = self._last.get(is_thorough)
        if known is not None and self._now() - known.checked_at < _FRESH_S:
            return known
        if self._is_checking:
            raise Conflict("A check of the database runs already.", code="busy")
        self._is_checking = True
        try:
            return self._checked(is_thorough)
        finally:
            self._is_checking = False

    def repair(self, origin: Origin) -> str:
        """Mend what can be mended without losing anything, as a job; return its id.

        Raises:
            Conflict: `busy`: one runs already.
        """

        def run(report: Report) -> Mapping[str, Any]:
            before = self._checked(is_thorough=True)
            done = self._database.detached(lambda sql: care.mend(sql, report))
            after = self._checked(is_thorough=True)
            result = {
                "actions": done,
                "problemsBefore": list(before.problems),
                "problemsAfter": list(after.problems),
                "isWhole": after.is_whole,
            }
            self._record("database.repaired", origin, result)
            return result

        return self._jobs.start(REPAIR, run, single=True)

    def vacuum(self, origin: Origin) -> str:
        """Give unused pages back to the disk, as a job; return its id.

        Raises:
            Conflict: `busy`: one runs already; `disk_full`: the copy that this makes has no room.
        """
        size, free = file_bytes(self._database.path), self._free_bytes()
        if size is not None and free is not None and free < size * _SPARE:
            message = f"{int(size * _SPARE) >> 20} MiB must be free on the data disk; {free >> 20} MiB are."
            raise Conflict(message, code="disk_full")

        def run(report: Report) -> Mapping[str, Any]:
            before = self.facts().bytes
            report(0.1)
            self._database.detached(care.compact)
            after = self.facts().bytes
            result = {"bytesBefore": before, "bytesAfter": after}
            self._record("database.vacuumed", origin, result)
            return result

        return self._jobs.start(VACUUM, run, single=True)

    def _checked(self, is_thorough: bool) -> Check:
        began = self._monotonic()
        try:
            problems = tuple(self._database.detached(lambda sql: care.problems(sql, is_thorough=is_thorough)))
        except OmniRouteError as error:
            problems = (error.message,)
        check = Check(problems, is_thorough, self._now(), (self._monotonic() - began) * 1000)
        self._last[is_thorough] = check
        return check

    def _free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self._settings.data_dir).free
        except OSError:
            return None

    def _record(self, action: str, origin: Origin, details: Mapping[str, Any]) -> None:
        self._audit.record(action, target_kind="database", details=details, **origin.facts())

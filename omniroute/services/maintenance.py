"""What keeps the data small and safe: spools of dead workers, retention, clean-up, the scheduled backup.

Each job is idempotent and removes in small batches, so that no transaction is long; the one elected worker runs them,
and each run is recorded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from omniroute.services.backup_schedule import OFF, next_moment
from omniroute.services.backups import Backups, Reason
from omniroute.services.retention import Retention
from omniroute.settings import Settings
from omniroute.storage.body_files import BodyFiles
from omniroute.storage.database import Database
from omniroute.storage.log_writer import OnCrossing, drain_spools
from omniroute.storage.repositories import claims
from omniroute.storage.state import StateStore

log = logging.getLogger(__name__)

BACKUP: Final = "backup"
"""The job that runs by a schedule of its own."""
_DAY_S: Final = 86_400
_HOUR_S: Final = 3600
_MINUTE_S: Final = 60

Job = Callable[[], None]
_NO_JOBS: Final[Mapping[str, tuple[Job, int]]] = MappingProxyType({})


class Maintenance:
    """The jobs, by name with their interval in seconds."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        state: StateStore,
        backups: Backups,
        now: Callable[[], float],
        more: Mapping[str, tuple[Job, int]] = _NO_JOBS,
        on_crossing: OnCrossing | None = None,
        current: Callable[[], Settings] | None = None,
        bodies: BodyFiles | None = None,
    ) -> None:
        """`more`: the jobs of other services, like those of :meth:`jobs`; `on_crossing`: see :class:`LogWriter`.

        `current`: the settings in force, for what can be changed while the server runs; `bodies`: those of this
        process, unless it serves no requests.
        """
        self._settings = settings
        self._database = database
        self._state = state
        self._backups = backups
        self._spool: Path = settings.data_dir / "spool"
        self._now = now
        self._retention = Retention(
            settings=current or (lambda: settings),
            database=database,
            bodies=bodies or BodyFiles(settings.data_dir / "bodies"),
            now=now,
            sleep=time.sleep,
        )
        self._more = more
        self._on_crossing = on_crossing

    def jobs(self) -> Mapping[str, tuple[Job, int]]:
        """Return name → (job, interval in seconds)."""
        return {
            "shared-state": (self.tidy_state, _MINUTE_S),
            "retention": (self.apply_retention, _HOUR_S),
            BACKUP: (self.back_up, self._backup_interval_s()),
            **self._more,
        }

    def intervals(self) -> dict[str, int]:
        """Return after how many seconds each job is to run again."""
        is_off = self.backup_schedule() == OFF
        return {name: interval_s for name, (_, interval_s) in self.jobs().items() if not (is_off and name == BACKUP)}

    def backup_schedule(self) -> str:
        """Return when the backup is to be made, see `backup_schedule`; every other job runs by its interval."""
        return self._backups.policy().schedule

    def _backup_interval_s(self) -> int:
        schedule = self.backup_schedule()
        first = next_moment(schedule, self._now())
        second = next_moment(schedule, first) if first is not None else None
        return int(second - first) if first is not None and second is not None else _DAY_S

    def run(self, name: str, job: Job) -> None:
        """Run a job and record how it went."""
        began = self._now()
        self._database.write(lambda sql: claims.record_start(sql, name, began))
        try:
            job()
        except Exception as error:
            problem = type(error).__name__
            self._database.write(lambda sql: claims.record_end(sql, name, self._now(), error=problem))
            raise
        self._database.write(lambda sql: claims.record_end(sql, name, self._now()))

    def is_due(self, name: str, interval_s: int) -> bool:
        """Say whether a job has not succeeded for its interval, so that a hand-over does not run a daily job twice."""
        run = self._database.read(claims.runs).get(name)
        succeeded_at = run.last_success_at if run is not None else None
        if name == BACKUP:
            return self._is_backup_due(succeeded_at)
        return succeeded_at is None or self._now() - succeeded_at >= interval_s

    def _is_backup_due(self, succeeded_at: float | None) -> bool:
        """Say whether a moment of the schedule has passed without a backup, however many have."""
        schedule = self.backup_schedule()
        if succeeded_at is None:
            return schedule != OFF
        due_at = next_moment(schedule, succeeded_at)
        return due_at is not None and due_at <= self._now()

    def last_runs(self) -> list[dict[str, Any]]:
        """Return the jobs with their last start, success and error."""
        return [
            {
                "name": run.name,
                "lastStartAt": run.last_start_at,
                "lastSuccessAt": run.last_success_at,
                "lastError": run.last_error,
            }
            for run in self._database.read(claims.runs).values()
        ]

    def drain(self) -> None:
        """Deliver what workers of this host that are no more have left in their spools."""
        drain_spools(self._database, self._spool, now=self._now, on_crossing=self._on_crossing)

    def tidy_state(self) -> None:
        """Remove what workers shared and none needs any more: ended places and claims, old rests and counters."""
        self._state.prune(self._now())

    def apply_retention(self) -> None:
        """Remove what is older, or more, than is to be kept."""
        self._retention.apply()

    def back_up(self) -> None:
        """Make the scheduled backup, unless automatic ones are off, and remove what killed ones left."""
        self._backups.tidy()
        self._backups.create(Reason.SCHEDULED)

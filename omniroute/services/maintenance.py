"""What keeps the data small and safe: spools of dead workers, retention, clean-up, the daily backup.

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

from omniroute.services.backups import Backups, Reason
from omniroute.services.retention import Retention
from omniroute.settings import Settings
from omniroute.storage.database import Database
from omniroute.storage.log_writer import OnCrossing, drain_spools
from omniroute.storage.repositories import claims
from omniroute.storage.state import StateStore

log = logging.getLogger(__name__)

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
    ) -> None:
        """`more`: the jobs of other services, like those of :meth:`jobs`; `on_crossing`: see :class:`LogWriter`."""
        self._settings = settings
        self._database = database
        self._state = state
        self._backups = backups
        self._spool: Path = settings.data_dir / "spool"
        self._now = now
        self._retention = Retention(settings=settings, database=database, now=now, sleep=time.sleep)
        self._more = more
        self._on_crossing = on_crossing

    def jobs(self) -> Mapping[str, tuple[Job, int]]:
        """Return name → (job, interval in seconds)."""
        return {
            "shared-state": (self.tidy_state, _MINUTE_S),
            "retention": (self.apply_retention, _HOUR_S),
            "backup": (self.back_up, _DAY_S),
            **self._more,
        }

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
        return run is None or run.last_success_at is None or self._now() - run.last_success_at >= interval_s

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
        """Make the scheduled backup, unless automatic ones are off."""
        self._backups.create(Reason.SCHEDULED)

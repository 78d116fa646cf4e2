"""What keeps the data small and safe: spools of dead workers, retention, clean-up, the daily backup.

Each job is idempotent and removes in small batches, so that no transaction is long; the one elected worker runs them,
and each run is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from omniroute.services.backups import Backups, Reason
from omniroute.settings import Settings
from omniroute.storage.database import Database
from omniroute.storage.log_writer import drain_spools
from omniroute.storage.repositories import audit, claims, conversations, login_attempts, request_log, sessions, usage
from omniroute.storage.state import StateStore

log = logging.getLogger(__name__)

_DAY_S: Final = 86_400
_HOUR_S: Final = 3600
_MINUTE_S: Final = 60
_BATCH: Final = 1000
_USAGE_HOURLY_DAYS: Final = 90
_USAGE_DAILY_DAYS: Final = 400
_AUDIT_KEPT: Final = 1000

Job = Callable[[], None]


class Maintenance:
    """The jobs, by name with their interval in seconds."""

    def __init__(
        self, *, settings: Settings, database: Database, state: StateStore, backups: Backups, now: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._database = database
        self._state = state
        self._backups = backups
        self._spool: Path = settings.data_dir / "spool"
        self._now = now

    def jobs(self) -> Mapping[str, tuple[Job, int]]:
        """Return name → (job, interval in seconds)."""
        return {
            "drain-spools": (self.drain, 10),
            "shared-state": (self.tidy_state, _MINUTE_S),
            "retention": (self.apply_retention, _HOUR_S),
            "backup": (self.back_up, _DAY_S),
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
        if name == "drain-spools":
            return True  # whoever has just died left something
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
        """Deliver what workers that are no more have left in their spools."""
        drain_spools(self._database, self._spool)

    def tidy_state(self) -> None:
        """Remove what workers shared and none needs any more: ended places and claims, old rests and counters."""
        self._state.prune(self._now())

    def apply_retention(self) -> None:
        """Remove what is older, or more, than is to be kept."""
        now, settings = self._now(), self._settings
        before = now - settings.call_log_retention_days * _DAY_S
        while (
            self._database.write(
                lambda sql: request_log.prune(sql, before=before, max_rows=settings.call_log_max_rows, batch=_BATCH)
            )
            == _BATCH
        ):
            continue
        self._database.write(
            lambda sql: usage.prune(
                sql, hourly_before=now - _USAGE_HOURLY_DAYS * _DAY_S, daily_before=now - _USAGE_DAILY_DAYS * _DAY_S
            )
        )
        kept_since = now - settings.audit_retention_days * _DAY_S
        self._database.write(lambda sql: audit.prune(sql, before=kept_since, keep=_AUDIT_KEPT, now=now))
        self._database.write(lambda sql: sessions.delete_ended(sql, now - _DAY_S))
        self._database.write(lambda sql: login_attempts.delete_old(sql, now - _DAY_S))
        self._database.write(lambda sql: conversations.delete_expired(sql, now))

    def back_up(self) -> None:
        """Make the scheduled backup, unless automatic ones are off."""
        self._backups.create(Reason.SCHEDULED)

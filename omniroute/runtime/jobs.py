"""Runs the scheduled jobs in the one worker that leads."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, Final

from omniroute.services.backup_schedule import trigger_of
from omniroute.services.maintenance import BACKUP, Job, Maintenance

log = logging.getLogger(__name__)

_LOOK_AT_SCHEDULE_S: Final = 10
_FOLLOW: Final = "schedule"


class Jobs:
    """Starts a scheduler when this worker wins the lead and stops it when the lead is lost."""

    def __init__(self, maintenance: Maintenance) -> None:
        self._maintenance = maintenance
        self._scheduler: Any = None
        self._schedule: str | None = None

    def start(self) -> None:
        """Schedule every job; one that is overdue runs at once."""
        from apscheduler.schedulers.gevent import GeventScheduler

        # A job that is late, because the machine slept or was busy, runs once when it can.
        defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        scheduler = self._scheduler = GeventScheduler(timezone="UTC", job_defaults=defaults)
        self._schedule = None
        for name, (job, interval_s) in self._maintenance.jobs().items():
            if name != BACKUP:
                scheduler.add_job(self._run, "interval", seconds=interval_s, **self._options(name, job, interval_s))
        scheduler.add_job(self.follow_schedule, "interval", seconds=_LOOK_AT_SCHEDULE_S, id=_FOLLOW)
        self.follow_schedule()
        scheduler.start()

    def stop(self) -> None:
        """Stop scheduling; a job that runs finishes by itself. Idempotent."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.shutdown(wait=False)

    def follow_schedule(self) -> None:
        """Schedule the backup as it is chosen now; nothing happens while that stays the same."""
        scheduler, schedule = self._scheduler, self._maintenance.backup_schedule()
        if scheduler is None or schedule == self._schedule:
            return
        is_first = self._schedule is None
        self._schedule = schedule
        if scheduler.get_job(BACKUP) is not None:
            scheduler.remove_job(BACKUP)
        trigger = trigger_of(schedule)
        if trigger is not None:
            job, interval_s = self._maintenance.jobs()[BACKUP]
            options = self._options(BACKUP, job, interval_s) if is_first else {"id": BACKUP, "args": (BACKUP, job)}
            scheduler.add_job(self._run, trigger, **options)

    def _options(self, name: str, job: Job, interval_s: int) -> dict[str, Any]:
        options: dict[str, Any] = {"id": name, "args": (name, job)}
        if self._maintenance.is_due(name, interval_s):
            options["next_run_time"] = datetime.now(UTC)
        return options

    def _run(self, name: str, job: Job) -> None:
        try:
            self._maintenance.run(name, job)
        except Exception:
            log.exception("The job %s failed.", name)

"""Runs the scheduled jobs in the one worker that leads."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from omniroute.services.maintenance import Job, Maintenance

log = logging.getLogger(__name__)


class Jobs:
    """Starts a scheduler when this worker wins the lead and stops it when the lead is lost."""

    def __init__(self, maintenance: Maintenance) -> None:
        self._maintenance = maintenance
        self._scheduler: Any = None

    def start(self) -> None:
        """Schedule every job; one that is overdue runs at once."""
        from apscheduler.schedulers.gevent import GeventScheduler

        scheduler = GeventScheduler(timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1})
        for name, (job, interval_s) in self._maintenance.jobs().items():
            options: dict[str, Any] = {"seconds": interval_s, "id": name, "args": (name, job)}
            if self._maintenance.is_due(name, interval_s):
                options["next_run_time"] = datetime.now(UTC)
            scheduler.add_job(self._run, "interval", **options)
        scheduler.start()
        self._scheduler = scheduler

    def stop(self) -> None:
        """Stop scheduling; a job that runs finishes by itself. Idempotent."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.shutdown(wait=False)

    def _run(self, name: str, job: Job) -> None:
        try:
            self._maintenance.run(name, job)
        except Exception:
            log.exception("The job %s failed.", name)

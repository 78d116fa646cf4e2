"""Long work on the server, followed to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from omniroute.cli import Failure
from omniroute.cli.session import Session

_ASK_EVERY_S: Final = 0.5


def follow(
    session: Session, started: Mapping[str, Any], what: str, *, sleep: Callable[[float], None] = time.sleep
) -> Mapping[str, Any]:
    """Wait for a job that an answer named, showing how far it has come, and return its result.

    Raises:
        Failure: the job failed.
    """
    with session.progress(what) as report:
        while True:
            job = session.api.get(f"/api/jobs/{started['jobId']}")
            report(job.get("progress") or 0.0, 1.0)
            if job["state"] == "succeeded":
                result: Mapping[str, Any] = job.get("result") or {}
                return result
            if job["state"] == "failed":
                raise Failure(f"{what} failed: {job.get('error') or 'for an unknown reason'}.")
            sleep(_ASK_EVERY_S)

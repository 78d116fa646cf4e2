"""How the gateway is: whether it works, what is wrong, and what to do about it.

A word for all of it:

- `unhealthy`: the database does not answer, or the data disk is as good as full.
- `degraded`: something works less well than it should: any notice that is a failure (a provider that is left alone, a
  credential that is refused or does not open, a job that failed or is late, a log that cannot be written, …).
- `healthy`: nothing of that. What is only unwise is a notice and changes no state.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from sqlalchemy import text

from omniroute.errors import OmniRouteError, StorageError
from omniroute.records import Connection
from omniroute.services import notices
from omniroute.services.body_capture import CaptureStats
from omniroute.services.first_start import unsafe_values
from omniroute.services.notices import Notice
from omniroute.services.reach import is_loopback_name
from omniroute.services.resilience_state import ResilienceState, Tripped
from omniroute.services.telemetry import Timings
from omniroute.settings import Settings
from omniroute.storage.database import Database
from omniroute.storage.log_writer import WriterStats
from omniroute.storage.snapshot import SnapshotHolder

__all__ = ["Health", "Notice", "Overview", "Report", "Status", "resident_bytes"]

_LOW_DISK_BYTES: Final = 512 << 20
_FULL_DISK_BYTES: Final = 32 << 20
_MUCH_MEMORY: Final = 0.8
_SANDBOX: Final = "sandbox"


class Status(StrEnum):
    """The state of the gateway in a word."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Keeps(Protocol):
    """What counts how often something was there that was kept."""

    @property
    def hits(self) -> int:
        """How often it was."""
        ...

    @property
    def misses(self) -> int:
        """How often it was not."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of the gateway as the first page shows it."""

    status: Status
    uptime_s: float
    warnings: tuple[Notice, ...]
    providers_connected: int
    connections: int


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """The connections of a provider, counted, and its breaker; None while that has seen no failure."""

    total: int
    active: int
    error: int
    breaker: Tripped | None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything, for those who may see it.

    Attributes:
        started_at: when this worker began to serve; memory, pid and the figures of what is kept are its own, too.
        kept_entries, kept_hits, kept_misses: of the reasoning that is kept for tool calls.
        in_flight: requests that this worker serves now.
        jobs: the scheduled jobs with their last start, success and error.
    """

    overview: Overview
    memory_bytes: int
    settings: Settings
    config_version: int
    providers: Mapping[str, ProviderHealth]
    resting: ResilienceState
    kept_entries: int
    kept_hits: int
    kept_misses: int
    in_flight: int
    latency: Mapping[str, Timings]
    jobs: Sequence[Mapping[str, Any]]
    db_bytes: int | None
    wal_bytes: int | None
    free_bytes: int | None
    last_backup_at: float | None


def resident_bytes() -> int:
    """Return the resident memory of this process, 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Health:
    """Looks at the parts of the gateway.

    Args:
        log_state: how the request log is doing; None where none is written.
        body_state: how the capturing of bodies is doing; None where none are captured.
        audit_failures: audit rows that could not be written.
        started_at: when this worker began to serve.
        memory_bytes: resident memory of this worker.
        jobs: background jobs with their last success; `intervals` says how often each is to run.
        last_backup_at: when the newest verified backup was made.
        resting: what keeps requests from providers now.
        spending: what is to be said of keys that spend unusually much.
        latency: the times of providers within the last hour.
        kept: the reasoning that is kept for tool calls; None where none is.
        in_flight: how many requests this worker serves now.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        snapshots: SnapshotHolder,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        started_at: float,
        log_state: Callable[[], WriterStats | None] = lambda: None,
        body_state: Callable[[], CaptureStats | None] = lambda: None,
        audit_failures: Callable[[], int] = lambda: 0,
        memory_bytes: Callable[[], int] = resident_bytes,
        jobs: Callable[[], Sequence[Mapping[str, Any]]] = lambda: (),
        intervals: Callable[[], Mapping[str, int]] = dict,
        last_backup_at: Callable[[], float | None] = lambda: None,
        resting: Callable[[], ResilienceState] = ResilienceState,
        spending: Callable[[], Iterable[Notice]] = tuple,
        latency: Callable[[], Mapping[str, Timings]] = dict,
        kept: Keeps | None = None,
        in_flight: Callable[[], int] = lambda: 0,
    ) -> None:
        self._settings = settings
        self._database = database
        self._snapshots = snapshots
        self._now = now
        self._monotonic = monotonic
        self._started_at = started_at
        self._log_state = log_state
        self._body_state = body_state
        self._audit_failures = audit_failures
        self._memory_bytes = memory_bytes
        self._jobs = jobs
        self._intervals = intervals
        self._last_backup_at = last_backup_at
        self._resting = resting
        self._spending = spending
        self._latency = latency
        self._kept = kept
        self._in_flight = in_flight

    def ping(self) -> float:
        """Return the milliseconds that a trivial query takes.

        Raises:
            StorageError: the database does not answer.
        """
        began = self._monotonic()
        self._database.read(lambda connection: connection.execute(text("SELECT 1")).scalar_one())
        return (self._monotonic() - began) * 1000

    def status(self) -> Status:
        """Return the state in a word."""
        return self.overview().status

    def overview(self) -> Overview:
        """Return the state as the first page shows it."""
        return self._overview(self._is_database_up())

    def report(self) -> Report:
        """Return everything."""
        is_up = self._is_database_up()
        snapshot, path, kept = self._snapshots.current, self._database.path, self._kept
        resting = self._asked(self._resting, ResilienceState(), is_up)
        return Report(
            overview=self._overview(is_up, resting),
            memory_bytes=self._memory_bytes(),
            settings=self._settings,
            config_version=snapshot.version,
            providers=_by_provider(snapshot.connections, resting),
            resting=resting,
            kept_entries=len(kept) if kept is not None else 0,
            kept_hits=kept.hits if kept is not None else 0,
            kept_misses=kept.misses if kept is not None else 0,
            in_flight=self._in_flight(),
            latency=self._asked(self._latency, {}, is_up),
            jobs=self._asked(self._jobs, (), is_up),
            db_bytes=file_bytes(path),
            wal_bytes=file_bytes(path.with_name(path.name + "-wal")) if path is not None else None,
            free_bytes=self._free_bytes(),
            last_backup_at=self._last_backup_at(),
        )

    def _overview(self, is_up: bool, resting: ResilienceState | None = None) -> Overview:
        warnings = tuple(self._warnings(is_up, resting))
        free = self._free_bytes()
        if not is_up or (free is not None and free < _FULL_DISK_BYTES):
            status = Status.UNHEALTHY
        else:
            status = Status.DEGRADED if any(warning.is_failure for warning in warnings) else Status.HEALTHY
        connections = self._active()
        return Overview(
            status=status,
            uptime_s=max(0.0, self._now() - self._started_at),
            warnings=warnings,
            providers_connected=len({row.provider for row in connections}),
            connections=len(connections),
        )

    # --- what an operator should know ---------------------------------------------------------------------------

    def _warnings(self, is_up: bool, resting: ResilienceState | None) -> list[Notice]:
        """Return what an operator should know, failures first."""
        found = []
        if not is_up:
            message = "The database does not answer."
            found.append(Notice("database", message, "The log of the server says why.", is_failure=True))
        if resting is None:
            resting = self._asked(self._resting, ResilienceState(), is_up)
        jobs = self._asked(self._jobs, (), is_up)
        found += self._of_storage()
        found += notices.of_jobs(jobs, self._intervals(), self._now(), self._started_at)
        found += notices.of_breakers(resting, {node.id: node.name for node in self._snapshots.current.nodes})
        found += self._of_configuration()
        found += self._asked(self._spending, (), is_up)
        return sorted(found, key=lambda notice: not notice.is_failure)

    def _of_storage(self) -> list[Notice]:
        found = []
        state = self._log_state()
        if state is not None and state.failing_since is not None:
            message = f"The request log cannot be written; {state.pending} rows wait in the spool."
            found.append(Notice("request_log", message, "Check the disk and the database.", is_failure=True))
        bodies = self._body_state()
        if bodies is not None and bodies.is_failing:
            message = f"Captured bodies cannot be written; those of {bodies.failed} requests are lost."
            found.append(Notice("bodies", message, "Check the disk.", is_failure=True))
        elif bodies is not None and bodies.dropped:
            message = f"The bodies of {bodies.dropped} requests were not captured: too many were held at a time."
            found.append(Notice("bodies", message, "Capture those of failed requests only."))
        backlog = notices.of_spool(self._settings.data_dir / "spool")
        if backlog is not None:
            found.append(backlog)
        if self._snapshots.last_error_at is not None:
            message = "The configuration in memory cannot be refreshed; changes made elsewhere are not seen."
            found.append(Notice("snapshot", message, "Check the database.", is_failure=True))
        if failures := self._audit_failures():
            message = f"{failures} audit rows could not be written."
            found.append(Notice("audit", message, "Check the disk and the database.", is_failure=True))
        free = self._free_bytes()
        if free is not None and free < _LOW_DISK_BYTES:
            message = f"Only {free >> 20} MiB are free on the data disk."
            found.append(Notice("disk", message, "Make room.", is_failure=True))
        return found

    def _of_configuration(self) -> list[Notice]:
        settings = self._settings
        found = [
            Notice("unsafe_value", f"{value.variable} {value.reason}.", _sentence(value.remedy))
            for value in unsafe_values(settings)
        ]
        unreadable = [row for row in self._snapshots.current.connections if row.is_unreadable]
        if unreadable:
            names = ", ".join(row.name for row in unreadable[:3])
            message = f"The stored credential of {names} does not open with the present encryption key."
            remedy = (
                "Restore secrets/encryption_key of the data directory or OMNIROUTE_ENCRYPTION_KEY, or enter the "
                "credential again."
            )
            found.append(Notice("credential_unreadable", message, remedy, is_failure=True))
        if not settings.is_loopback_bind and urlsplit(settings.base_url).scheme != "https":
            host = urlsplit(settings.base_url).hostname or ""
            where = "" if is_loopback_name(host) else f" at {host}"
            message = (
                f"The server answers other machines{where} without HTTPS: keys and the password can be read on the way."
            )
            remedy = "Put a proxy with HTTPS in front and set BASE_URL to its address."
            found.append(Notice("public_without_https", message, remedy))
        memory, limit = self._memory_bytes(), settings.memory_mb << 20
        if memory > _MUCH_MEMORY * limit:
            message = f"A worker uses {memory >> 20} of the {settings.memory_mb} MiB after which it is replaced."
            found.append(Notice("memory", message, "Raise OMNIROUTE_MEMORY_MB if this stays."))
        return found

    # --- parts ---------------------------------------------------------------------------------------------------

    def _asked(self, part: Callable[[], Any], otherwise: Any, is_up: bool) -> Any:
        """Return what a part says that needs the database, or something else while that does not answer."""
        if not is_up:
            return otherwise
        try:
            return part()
        except OmniRouteError:
            return otherwise

    def _active(self) -> list[Connection]:
        connections = self._snapshots.current.connections
        return [row for row in connections if row.is_active and row.provider != _SANDBOX]

    def _is_database_up(self) -> bool:
        try:
            self.ping()
        except StorageError:
            return False
        return True

    def _free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self._settings.data_dir).free
        except OSError:
            return None


def _by_provider(connections: Sequence[Connection], resting: ResilienceState) -> dict[str, ProviderHealth]:
    counts: dict[str, Counter[str]] = {}
    for row in connections:
        counter = counts.setdefault(row.provider, Counter())
        counter["total"] += 1
        counter["active"] += row.is_active
        counter["error"] += row.test_status == "error" or row.is_unreadable
    breakers = {one.provider: one for one in resting.breakers}
    for provider in breakers:
        counts.setdefault(provider, Counter())
    return {
        provider: ProviderHealth(counter["total"], counter["active"], counter["error"], breakers.get(provider))
        for provider, counter in counts.items()
    }


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def file_bytes(path: Path | None) -> int | None:
    """Return the size of a file; None where there is none."""
    if path is None:
        return None
    try:
        return path.stat().st_size
    except OSError:
        return None

"""How the gateway is: whether it works, what is wrong, and what to do about it."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import text

from omniroute import __version__
from omniroute.errors import StorageError
from omniroute.records import Connection
from omniroute.services.first_start import unsafe_values
from omniroute.services.reach import is_loopback_name
from omniroute.settings import Settings
from omniroute.storage.database import Database
from omniroute.storage.log_writer import WriterStats
from omniroute.storage.snapshot import SnapshotHolder

_LOW_DISK_BYTES: Final = 512 * 1024 * 1024
_SANDBOX: Final = "sandbox"


class Status(StrEnum):
    """The state of the gateway in a word."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something an operator should know, and what removes it. `is_failure`: the gateway works less well for it."""

    code: str
    message: str
    remedy: str | None = None
    is_failure: bool = False


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of the gateway as the first page shows it."""

    status: Status
    uptime_s: float
    warnings: tuple[Notice, ...]
    providers_connected: int
    connections: int


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
        audit_failures: audit rows that could not be written.
        started_at: when this worker began to serve.
        memory_bytes: resident memory of this worker.
        jobs: background jobs with their last success.
        last_backup_at: when the newest verified backup was made.
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
        audit_failures: Callable[[], int] = lambda: 0,
        memory_bytes: Callable[[], int] = resident_bytes,
        jobs: Callable[[], Sequence[dict[str, Any]]] = lambda: (),
        last_backup_at: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._snapshots = snapshots
        self._now = now
        self._monotonic = monotonic
        self._started_at = started_at
        self._log_state = log_state
        self._audit_failures = audit_failures
        self._memory_bytes = memory_bytes
        self._jobs = jobs
        self._last_backup_at = last_backup_at

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
        is_database_up = self._is_database_up()
        warnings = tuple(self.warnings())
        if not is_database_up:
            down = Notice(
                "database", "The database does not answer.", "The log of the server says why.", is_failure=True
            )
            warnings = (down, *warnings)
        is_degraded = any(warning.is_failure for warning in warnings)
        connections = self._active()
        return Overview(
            status=Status.UNHEALTHY if not is_database_up else Status.DEGRADED if is_degraded else Status.HEALTHY,
            uptime_s=max(0.0, self._now() - self._started_at),
            warnings=warnings,
            providers_connected=len({row.provider for row in connections}),
            connections=len(connections),
        )

    def warnings(self) -> list[Notice]:
        """Return what an operator should know, most severe first."""
        found = [
            Notice("unsafe_value", f"{value.variable} {value.reason}.", _sentence(value.remedy))
            for value in unsafe_values(self._settings)
        ]
        unreadable = [row for row in self._snapshots.current.connections if row.is_unreadable]
        if unreadable:
            names = ", ".join(row.name for row in unreadable[:3])
            found.append(
                Notice(
                    "credential_unreadable",
                    f"The stored credential of {names} does not open with the present encryption key.",
                    "Restore secrets/encryption_key of the data directory or OMNIROUTE_ENCRYPTION_KEY, or enter the "
                    "credential again.",
                    is_failure=True,
                )
            )
        state = self._log_state()
        if state is not None and state.failing_since is not None:
            message = f"The request log cannot be written; {state.pending} rows wait in the spool."
            found.append(Notice("request_log", message, "Check the disk and the database.", is_failure=True))
        if self._snapshots.last_error_at is not None:
            message = "The configuration in memory cannot be refreshed; changes made elsewhere are not seen."
            found.append(Notice("snapshot", message, "Check the database.", is_failure=True))
        if failures := self._audit_failures():
            found.append(Notice("audit", f"{failures} audit rows could not be written.", None, is_failure=True))
        if not self._settings.is_loopback_bind and urlsplit(self._settings.base_url).scheme != "https":
            host = urlsplit(self._settings.base_url).hostname or ""
            where = "" if is_loopback_name(host) else f" at {host}"
            found.append(
                Notice(
                    "public_without_https",
                    f"The server answers other machines{where} without HTTPS: keys and the password can be read on "
                    "the way.",
                    "Put a proxy with HTTPS in front and set BASE_URL to its address.",
                )
            )
        free = self._free_bytes()
        if free is not None and free < _LOW_DISK_BYTES:
            message = f"Only {free >> 20} MiB are free on the data disk."
            found.append(Notice("disk", message, "Make room.", is_failure=True))
        return found

    def report(self) -> dict[str, Any]:
        """Return everything, for those who may see it; names as the management API spells them."""
        overview = self.overview()
        snapshot = self._snapshots.current
        path = self._database.path
        return {
            "status": overview.status.value,
            "system": {
                "version": __version__,
                "uptimeSec": round(overview.uptime_s),
                "memoryMb": round(self._memory_bytes() / 1024 / 1024, 1),
                "memoryLimitMb": self._settings.memory_mb,
                "dataDir": str(self._settings.data_dir),
                "workers": self._settings.web_concurrency,
                "pid": os.getpid(),
                "configVersion": snapshot.version,
            },
            "providers": _by_provider(snapshot.connections),
            "rateLimits": [],
            "lockouts": [],
            "latency": {},
            "jobs": list(self._jobs()),
            "storage": {
                "dbBytes": _size(path),
                "walBytes": _size(path.with_name(path.name + "-wal")) if path is not None else None,
                "freeBytes": self._free_bytes(),
                "lastBackupAt": self._last_backup_at(),
            },
            "warnings": [
                {"code": warning.code, "message": warning.message, "remedy": warning.remedy}
                for warning in overview.warnings
            ],
        }

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


def _by_provider(connections: Sequence[Connection]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for row in connections:
        counter = counts.setdefault(row.provider, Counter())
        counter["total"] += 1
        counter["active"] += row.is_active
        counter["error"] += row.test_status == "error" or row.is_unreadable
    return {
        provider: {name: counter[name] for name in ("total", "active", "error")} for provider, counter in counts.items()
    }


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _size(path: Path | None) -> int | None:
    if path is None:
        return None
    try:
        return path.stat().st_size
    except OSError:
        return None

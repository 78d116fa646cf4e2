"""Liveness and health. What anyone may ask says nothing about the inside; the rest needs a management credential."""

from __future__ import annotations

import os
import time
from typing import TypedDict

from flask import Blueprint, Response

from omniroute import __version__
from omniroute.blueprints import guard
from omniroute.blueprints.contract import Answer, Time, operation
from omniroute.blueprints.management.bodies import answer, iso_time
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import StorageError
from omniroute.services.health import Report, Status
from omniroute.services.resilience_state import (
    BreakerDocument,
    RestingDocument,
    breaker_document,
    resting_document,
)
from omniroute.services.telemetry import Percentiles

blueprint = Blueprint("management_health", __name__)


class PingDocument(TypedDict):
    """The database answers."""

    status: str
    timestamp: Time
    latencyMs: float


class DeadPingDocument(TypedDict):
    """The database does not answer."""

    status: str
    timestamp: Time


class StatusDocument(TypedDict):
    """The state of the gateway in a word."""

    status: Status
    timestamp: Time


class SystemDocument(TypedDict):
    """The server, and the worker that answers."""

    version: str
    uptimeSec: int
    memoryMb: float
    memoryLimitMb: int
    dataDir: str
    workers: int
    pid: int
    configVersion: int
    requestsInFlight: int


class ProviderHealthDocument(TypedDict):
    """The connections of a provider, and its breaker; null while that has seen no failure."""

    total: int
    active: int
    error: int
    breaker: BreakerDocument | None


class SignatureCacheDocument(TypedDict):
    """The reasoning that this worker keeps for tool calls, for clients whose format cannot carry it."""

    activeKeys: int
    hits: int
    misses: int
    hitRate: float | None


class PercentilesDocument(TypedDict):
    """Percentiles of times in milliseconds, and of how many values."""

    p50: float
    p95: float
    p99: float
    count: int


class ScheduledJobDocument(TypedDict):
    """A job that runs by itself, and how that went."""

    name: str
    lastStartAt: Time | None
    lastSuccessAt: Time | None
    lastError: str | None


class StorageSizesDocument(TypedDict):
    """Bytes of the database and free ones on its disk; null where the database is not a file."""

    dbBytes: int | None
    walBytes: int | None
    freeBytes: int | None
    lastBackupAt: Time | None


class WarningDocument(TypedDict):
    """Something an operator should know, and what removes it."""

    code: str
    message: str
    remedy: str | None
    isFailure: bool


class HealthDocument(TypedDict):
    """The state of the gateway."""

    status: Status
    timestamp: Time
    system: SystemDocument
    providers: dict[str, ProviderHealthDocument]
    rateLimits: list[RestingDocument]
    lockouts: list[RestingDocument]
    signatureCache: SignatureCacheDocument
    latency: dict[str, PercentilesDocument]
    jobs: list[ScheduledJobDocument]
    storage: StorageSizesDocument
    warnings: list[WarningDocument]


class ResetBreakersDocument(TypedDict):
    """How many breakers were reset."""

    reset: int


@blueprint.get("/api/health/ping")
@operation(PingDocument, also={503: Answer(DeadPingDocument, "the database does not answer")})
def ping() -> Response:
    """Tell whether the database answers."""
    now = iso_time(time.time())
    try:
        latency_ms = container().health.ping()
    except StorageError:
        return answer(DeadPingDocument(status="error", timestamp=now), 503, {"Retry-After": "5"})
    return answer(PingDocument(status="ok", timestamp=now, latencyMs=round(latency_ms, 2)))


@blueprint.get("/api/monitoring/health")
@operation((HealthDocument, StatusDocument))
def monitoring() -> Response:
    """Show the state of the gateway: all of it to management, one word to everybody else.

    `unhealthy`: the database does not answer or its disk is full. `degraded`: any of the warnings is a failure.
    """
    health = container().health
    if guard.optional_actor() is None:
        return answer(StatusDocument(status=health.status(), timestamp=iso_time(time.time())))
    return answer(shown(health.report()))


@blueprint.delete("/api/monitoring/health")
@operation(ResetBreakersDocument)
def reset_breakers() -> Response:
    """Let all providers be tried again: close every breaker."""
    return answer(ResetBreakersDocument(reset=container().resilience.reset_breakers(origin())))


def shown(report: Report) -> HealthDocument:
    """Return a report as management answers show it."""
    settings, overview, resting = report.settings, report.overview, report.resting
    looked_up = report.kept_hits + report.kept_misses
    return {
        "status": overview.status,
        "timestamp": iso_time(time.time()),
        "system": {
            "version": __version__,
            "uptimeSec": round(overview.uptime_s),
            "memoryMb": round(report.memory_bytes / 1024 / 1024, 1),
            "memoryLimitMb": settings.memory_mb,
            "dataDir": str(settings.data_dir),
            "workers": settings.web_concurrency,
            "pid": os.getpid(),
            "configVersion": report.config_version,
            "requestsInFlight": report.in_flight,
        },
        "providers": {
            name: {
                "total": one.total,
                "active": one.active,
                "error": one.error,
                "breaker": breaker_document(one.breaker) if one.breaker is not None else None,
            }
            for name, one in report.providers.items()
        },
        "rateLimits": [resting_document(one) for one in (*resting.cooldowns, *resting.dead)],
        "lockouts": [resting_document(one) for one in resting.lockouts],
        "signatureCache": {
            "activeKeys": report.kept_entries,
            "hits": report.kept_hits,
            "misses": report.kept_misses,
            "hitRate": round(report.kept_hits / looked_up, 4) if looked_up else None,
        },
        "latency": {
            name: shown_percentiles(timings.total)
            for name, timings in report.latency.items()
            if timings.total is not None
        },
        "jobs": [
            {
                "name": job["name"],
                "lastStartAt": iso_time(job["lastStartAt"]),
                "lastSuccessAt": iso_time(job["lastSuccessAt"]),
                "lastError": job["lastError"],
            }
            for job in report.jobs
        ],
        "storage": {
            "dbBytes": report.db_bytes,
            "walBytes": report.wal_bytes,
            "freeBytes": report.free_bytes,
            "lastBackupAt": iso_time(report.last_backup_at),
        },
        "warnings": [
            {"code": one.code, "message": one.message, "remedy": one.remedy, "isFailure": one.is_failure}
            for one in overview.warnings
        ],
    }


def shown_percentiles(times: Percentiles) -> PercentilesDocument:
    """Return percentiles as management answers show them."""
    return {
        "p50": round(times.p50, 1),
        "p95": round(times.p95, 1),
        "p99": round(times.p99, 1),
        "count": times.count,
    }

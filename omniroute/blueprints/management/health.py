"""Liveness and health. What anyone may ask says nothing about the inside; the rest needs a management credential."""

from __future__ import annotations

import time

from flask import Blueprint, Response

from omniroute.blueprints import guard
from omniroute.blueprints.management.bodies import answer, iso_time
from omniroute.container import container
from omniroute.errors import StorageError

blueprint = Blueprint("management_health", __name__)


@blueprint.get("/api/health/ping")
def ping() -> Response:
    """Tell whether the database answers."""
    now = iso_time(time.time())
    try:
        latency_ms = container().health.ping()
    except StorageError:
        return answer({"status": "error", "timestamp": now}, 503, {"Retry-After": "5"})
    return answer({"status": "ok", "timestamp": now, "latencyMs": round(latency_ms, 2)})


@blueprint.get("/api/monitoring/health")
def monitoring() -> Response:
    """Show the state of the gateway: all of it to management, one word to everybody else."""
    health = container().health
    now = iso_time(time.time())
    if guard.optional_actor() is None:
        return answer({"status": health.status().value, "timestamp": now})
    report = health.report()
    report["storage"]["lastBackupAt"] = iso_time(report["storage"]["lastBackupAt"])
    return answer({**report, "timestamp": now})

"""Liveness and health. What anyone may ask says nothing about the inside; the rest needs a management credential."""

from __future__ import annotations

import time
from typing import Any

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
    return answer({**_with_iso_times(report), "timestamp": now})


def _with_iso_times(value: Any) -> Any:
    """Return a report with every `…At` field as the API spells times."""
    if isinstance(value, dict):
        return {name: iso_time(item) if name.endswith("At") else _with_iso_times(item) for name, item in value.items()}
    return [_with_iso_times(item) for item in value] if isinstance(value, list) else value

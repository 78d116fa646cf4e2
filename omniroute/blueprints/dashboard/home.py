"""Home: what is healthy, what is nearly spent, what failed, and how to connect the first client."""

from __future__ import annotations

from typing import Any, Final

from flask import request
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, charts
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.rendering import page
from omniroute.container import container

_FAILURES: Final = 5
_BUDGETS: Final = 6
_SANDBOX: Final = "sandbox"


@blueprint.get("/dashboard")
def home() -> Response:
    """Show the first page."""
    state = api.get("/api/monitoring/health")
    usage = api.get("/api/usage/analytics", range="24h")
    keys, combos = api.get("/api/keys", limit=1), api.get("/api/combos", limit=1)
    nodes = api.get("/api/provider-nodes", limit=200)["nodes"]
    return page(
        "dashboard/home.html",
        blocks=("now",),
        base_url=base_url(),
        state=state,
        totals=usage["totals"],
        series=usage["series"],
        sparkline=_requests(usage["series"]),
        providers=_by_state(state),
        cooldowns=state["rateLimits"],
        names={node["id"]: node["name"] for node in nodes},
        failures=_failures(),
        budgets=sorted(api.get("/api/usage/budget")["budgets"], key=lambda one: -one["percentUsed"])[:_BUDGETS],
        steps=_steps(
            has_provider=any(name != _SANDBOX and one["total"] for name, one in state["providers"].items()),
            has_combo=combos["total"] > 0,
            has_key=keys["total"] > 0,
            has_request=usage["totals"]["requests"] > 0,
        ),
    )


def base_url() -> str:
    """Return the address that works from where the reader sits: the one the browser used."""
    held = container()
    origin = held.access.reach.own_origin(request.environ)
    return origin + request.script_root if origin is not None else held.settings.base_url


def _requests(series: list[dict[str, Any]]) -> str:
    counts = [point["requests"] for point in series]
    return charts.bars(
        counts, _("Requests by hour, failed ones in red"), bad=[point["failed"] for point in series], is_wide=True
    )


def _by_state(state: dict[str, Any]) -> dict[str, list[str]]:
    """Return the names of providers by how they do."""
    found: dict[str, list[str]] = {"ok": [], "cooling": [], "failing": []}
    cooling = {row["provider"] for row in state["rateLimits"]}
    for name, health in sorted(state["providers"].items()):
        breaker = str((health["breaker"] or {}).get("state")).lower()
        if breaker == "open" or (health["error"] and health["error"] == health["total"]):
            found["failing"].append(name)
        elif name in cooling or breaker == "half_open":
            found["cooling"].append(name)
        elif health["active"]:
            found["ok"].append(name)
    return found


def _failures() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = api.get("/api/usage/logs", status="failed", limit=_FAILURES)["logs"]
    return rows


def _steps(*, has_provider: bool, has_combo: bool, has_key: bool, has_request: bool) -> list[dict[str, Any]]:
    """Return the steps to the first request and which of them are done; nothing once all are."""
    steps = [
        {"name": "provider", "is_done": has_provider},
        {"name": "combo", "is_done": has_combo},
        {"name": "key", "is_done": has_key},
        {"name": "request", "is_done": has_request},
    ]
    return [] if all(step["is_done"] for step in steps) else steps

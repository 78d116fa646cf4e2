"""Health: what fails, what rests and until when, how fast providers answer; and how a rest is ended early."""

from __future__ import annotations

from typing import Any, Final

from flask import request, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_babel import ngettext
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, charts, health_words
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.rendering import done, failed, page

_WINDOWS: Final = (("5m", _l("5 min"), 300_000), ("1h", _l("1 h"), 3_600_000), ("24h", _l("24 h"), 86_400_000))
_USUAL: Final = "1h"
_MOST_NODES: Final = 200
_OPEN: Final = "open"
_HALF_OPEN: Final = "half_open"


@blueprint.get("/dashboard/health")
def health() -> Response:
    """Show the six cards, the jobs and the warnings."""
    chosen = request.args.get("window", _USUAL)
    lengths = {name: length for name, _label, length in _WINDOWS}
    times = api.get("/api/telemetry/summary", windowMs=lengths.get(chosen, lengths[_USUAL]))
    state = api.get("/api/monitoring/health")
    return page(
        "dashboard/health.html",
        blocks=("cards",),
        health=state,
        breakers=_breakers(state["providers"]),
        names=_names(),
        locked=api.get("/api/policies")["locked"],
        telemetry=times,
        spark=_spark(times["series"]),
        windows=[(name, label, url_for("dashboard.health", window=name)) for name, label, _length in _WINDOWS],
        window=chosen if chosen in lengths else _USUAL,
        words=health_words,
    )


@blueprint.post("/dashboard/health/backup")
def back_up_from_health() -> Response:
    """Make a backup."""
    back = url_for("dashboard.health")
    try:
        made = api.put("/api/db-backups")
    except Refused as refused:
        return failed(refused, back)
    if not made["created"]:
        return done(_("The newest backup holds the data as it is; no other was made."), back, "info")
    return done(_("A verified backup was made."), back)


@blueprint.post("/dashboard/health/breakers")
def reset_breakers() -> Response:
    """Let one provider, or all, be tried again at once."""
    provider, back = request.form.get("provider"), url_for("dashboard.health")
    try:
        if provider:
            api.post("/api/resilience/reset", {"provider": provider})
            return done(_("The provider may be tried again."), back)
        api.delete("/api/monitoring/health")
    except Refused as refused:
        return failed(refused, back)
    return done(_("All providers may be tried again."), back)


@blueprint.post("/dashboard/health/cooldowns")
def end_cooldown() -> Response:
    """Let a connection be tried again at once."""
    back = url_for("dashboard.health")
    try:
        api.post("/api/resilience/reset", {"connectionId": request.form.get("connectionId", "")})
    except Refused as refused:
        return failed(refused, back)
    return done(_("The connection may be tried again."), back)


@blueprint.post("/dashboard/health/lockouts")
def end_lockouts() -> Response:
    """Let a model be tried again on its connection, or all of them."""
    back = url_for("dashboard.health")
    named = {name: request.form[name] for name in ("connectionId", "model") if request.form.get(name)}
    try:
        ended = api.delete("/api/resilience/model-cooldowns", named or {"all": True})["reset"]
    except Refused as refused:
        return failed(refused, back)
    return done(ngettext("%(num)s lockout is ended.", "%(num)s lockouts are ended.", ended), back)


@blueprint.post("/dashboard/health/addresses")
def unlock_address() -> Response:
    """Let an address log in again before its time."""
    back = url_for("dashboard.health")
    try:
        api.post("/api/policies", {"action": "unlock", "identifier": request.form.get("identifier", "")})
    except Refused as refused:
        return failed(refused, back)
    return done(_("The address may try again."), back)


def _names() -> dict[str, str]:
    """Return the names of self-defined providers by their ids and prefixes."""
    nodes = api.get("/api/provider-nodes", limit=_MOST_NODES)["nodes"]
    return {key: node["name"] for node in nodes for key in (node["id"], node["prefix"])}


def _breakers(providers: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the providers with the state of their breakers, the worst first."""
    rows = []
    for name, one in providers.items():
        breaker = one["breaker"] or {}
        state = str(breaker.get("state", "closed")).lower()
        rows.append(
            {
                "provider": name,
                "state": state,
                "kind": {_OPEN: "bad", _HALF_OPEN: "warn"}.get(state, "warn" if breaker.get("isDegraded") else "good"),
                "failures": breaker.get("failures", 0),
                "trips": breaker.get("trips", 0),
                "retryAt": breaker.get("retryAt"),
                "reason": breaker.get("reason"),
                "status": breaker.get("status"),
                "total": one["total"],
                "active": one["active"],
                "error": one["error"],
                "isTripped": one["breaker"] is not None,
            }
        )
    order = {_OPEN: 0, _HALF_OPEN: 1}
    return sorted(rows, key=lambda row: (order.get(row["state"], 2), -row["failures"], row["provider"]))


def _spark(series: list[dict[str, Any]]) -> str:
    """Return the median time of answers as a line."""
    return charts.sparkline([point["p50Ms"] for point in series], _("Median time of whole answers"), is_wide=True)

"""Quota & limits: what is left of what providers grant, and what comes of it at today's pace."""

from __future__ import annotations

from typing import Any, Final

from flask import request, url_for
from flask_babel import gettext as _
from flask_babel import ngettext
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.rendering import done, failed, page

_NEVER: Final = "9999"


@blueprint.get("/dashboard/quota")
def quota() -> Response:
    """Show the windows of every connection, first those of which something lapses or ends first."""
    provider = request.args.get("provider", "")
    found = api.get("/api/usage/provider-limits", provider=provider[:100])
    order = request.args.get("sort", "")
    return page(
        "dashboard/quota.html",
        blocks=("windows",),
        quotas=sorted(found["limits"], key=_ORDERS.get(order, _soonest)),
        interval_min=found["intervalMinutes"],
        reporting=found["reporting"],
        provider=provider,
        order=order if order in _ORDERS else "",
    )


@blueprint.post("/dashboard/quota/refresh")
def refresh_quota() -> Response:
    """Have one provider, or all of them, asked now."""
    back = url_for("dashboard.quota")
    connection_id = request.form.get("connectionId", "")
    try:
        asked = api.post("/api/usage/provider-limits", {"connectionId": connection_id} if connection_id else {})
    except Refused as refused:
        return failed(refused, back)
    count = len(asked["connectionIds"])
    if not count:
        return done(_("No connection has a provider that says how much is left."), back, "info")
    message = ngettext(
        "%(num)s connection is asked; its figures are here in a moment.",
        "%(num)s connections are asked; their figures are here in a moment.",
        count,
    )
    return done(message, back)


def _soonest(one: dict[str, Any]) -> tuple[str, str]:
    """Order by what runs out first, then by what lapses or starts anew first."""
    ends = [
        moment
        for window in one["windows"]
        for moment in (window.get("forecast", {}).get("exhaustedAt"), window["resetsAt"])
        if moment
    ]
    return min(ends, default=_NEVER), one["connectionName"]


def _fullest(one: dict[str, Any]) -> tuple[float, str]:
    used = max((window["usedPercent"] or 0 for window in one["windows"]), default=-1)
    return -used, one["connectionName"]


_ORDERS: Final[dict[str, Any]] = {
    "used": _fullest,
    "provider": lambda one: (one["provider"], one["connectionName"]),
}

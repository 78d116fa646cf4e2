"""Logs: requests as they are settled, those in flight, and what the server writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from flask import request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, home, named
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, failed, page

PAGE: Final = 50
LINES: Final = 200
OUTCOMES: Final = ("success", "failed", "cancelled", "truncated")
LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_FIELDS: Final = {"apiKeyId": "key", "minDurationMs": "minimum"}
_LONGEST_MINIMUM_S: Final = 9_000_000


@blueprint.get("/dashboard/logs")
def logs() -> Response:
    """Show one of the tabs."""
    match request.args.get("tab", "requests"):
        case "active":
            return _active()
        case "application":
            return _application()
        case _:
            return _requests()


@blueprint.post("/dashboard/logs/cancel")
def cancel_request() -> Response:
    """Cancel a request in flight."""
    back = url_for("dashboard.logs", tab="active")
    try:
        api.delete(f"/api/usage/active/{api.segment(request.form.get('requestId', ''))}")
    except Refused as refused:
        return failed(refused, back)
    return done(_("The request is cancelled; its client is told so."), back)


def _requests() -> Response:
    offset = _offset()
    form = FormState.of(request.args)
    status, found = 200, None
    try:
        filters = _filters(request.args)
        found = api.get("/api/usage/logs", limit=PAGE, offset=offset, **filters)
    except Refused as refused:
        faults = {_FIELDS.get(name, name): message for name, message in refused.faults.items()}
        form, status, filters = FormState(request.args, faults, refused.message, refused.error_code), 400, {}
    is_newest = found is not None and offset == 0 and "until" not in filters
    return page(
        "dashboard/logs_requests.html",
        blocks=("rows",),
        tab="requests",
        form=form,
        found=found,
        is_filtered=bool(filters),
        live=_stream("/api/usage/logs/stream", filters) if is_newest else "",
        most=PAGE,
        base_url=home.base_url(),
        providers=named.provider_names,
        keys=named.key_names,
        combos=named.combo_names,
        status=status,
    )


def _active() -> Response:
    return page(
        "dashboard/logs_active.html",
        blocks=("rows",),
        tab="active",
        running=api.get("/api/usage/active")["active"],
    )


def _application() -> Response:
    args = request.args
    filters = {
        "level": args.get("level") if args.get("level") in LEVELS else None,
        "q": args.get("q", "").strip()[:200] or None,
        "requestId": args.get("request", "").strip()[:100] or None,
    }
    given = {name: value for name, value in filters.items() if value}
    found = api.get("/api/logs/console", limit=LINES, **given)
    return page(
        "dashboard/logs_application.html",
        blocks=("rows",),
        tab="application",
        form=FormState.of(args),
        lines=found["lines"][::-1],
        is_cut=found["isCut"],
        is_filtered=bool(given),
        live=_stream("/api/logs/console", {**given, "follow": "true", "limit": 0}),
        most=LINES,
        levels=LEVELS,
    )


def _filters(args: Mapping[str, str]) -> dict[str, Any]:
    """Return what the API is asked for; a minimum is typed in seconds."""
    given = {
        "status": args.get("status"),
        "model": args.get("model", "").strip(),
        "provider": args.get("provider", "").strip(),
        "connection": args.get("connection", "").strip(),
        "apiKeyId": named.key_id(args.get("key", "")),
        "combo": named.combo_id(args.get("combo", "")),
        "sessionId": args.get("session", "").strip(),
        "q": args.get("q", "").strip(),
        "since": args.get("since"),
        "until": args.get("until"),
        "minDurationMs": _milliseconds(args.get("minimum", "")),
    }
    return {name: value for name, value in given.items() if value}


def _milliseconds(text: str) -> str:
    """Return seconds as whole milliseconds; what is no number stays as it is, for the API to refuse."""
    try:
        seconds = float(text.strip().replace(",", "."))
    except ValueError:
        return text.strip()
    return str(round(seconds * 1000)) if 0 <= seconds < _LONGEST_MINIMUM_S else text.strip()


def _stream(path: str, filters: Mapping[str, Any]) -> str:
    query = urlencode(filters)
    return request.script_root + path + (f"?{query}" if query else "")


def _offset() -> int:
    text = request.args.get("offset", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 0

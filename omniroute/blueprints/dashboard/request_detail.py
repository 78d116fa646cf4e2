"""One request of the log: what it was, what was tried, why it went where it went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import request
from markupsafe import Markup
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.reasons import reason_text
from omniroute.blueprints.dashboard.rendering import page
from omniroute.blueprints.dashboard.request_bodies import parts_of

_NOT_FOUND: Final = 404
_TABS: Final = ("summary", "attempts", "decision", "bodies")
_LEAST_WAIT_MS: Final = 1.0


@blueprint.get("/dashboard/logs/requests/<log_id>")
def request_detail(log_id: str) -> Response:
    """Show a settled request."""
    chosen = request.args.get("tab", "")
    tab = chosen if chosen in _TABS else "summary"
    try:
        found = api.get(f"/api/usage/logs/{api.segment(log_id)}", bodies="true" if tab == "bodies" else "false")
    except Refused as refused:
        if refused.http_status != _NOT_FOUND:
            raise
        return page("dashboard/request_missing.html", log_id=log_id, status=_NOT_FOUND)
    return page(
        "dashboard/request_detail.html",
        log=found["log"],
        tab=tab,
        **_OF_TAB[tab](log_id, found),
    )


def _summary(log_id: str, _found: Mapping[str, Any]) -> dict[str, Any]:
    return {"receipt": _or_none(f"/api/usage/receipts/{api.segment(log_id)}", "receipt")}


def _attempts(_log_id: str, found: Mapping[str, Any]) -> dict[str, Any]:
    total = max([found["log"]["durationMs"], *(one["endedMs"] for one in found["attempts"]), 1.0])
    return {"steps": _steps(found["attempts"], total), "total_ms": total, "connections": _connection_names()}


def _decision(log_id: str, _found: Mapping[str, Any]) -> dict[str, Any]:
    path = f"/api/routing/decisions/{api.segment(log_id)}"
    decision = _or_none(path)
    text = "" if decision is None else api.get(path, format="text").decode()
    return {"decision": decision, "text": text, "connections": _connection_names(), "reason_text": reason_text}


def _bodies(_log_id: str, found: Mapping[str, Any]) -> dict[str, Any]:
    parts = [] if found["bodies"] is None else parts_of(found["bodies"])
    return {"parts": parts, "state": found["bodiesState"]}


_OF_TAB: Final = {"summary": _summary, "attempts": _attempts, "decision": _decision, "bodies": _bodies}


def _or_none(path: str, name: str = "") -> dict[str, Any] | None:
    """Return a document, or its member of a name; None where there is none."""
    try:
        found: dict[str, Any] = api.get(path)
    except Refused as refused:
        if refused.http_status != _NOT_FOUND:
            raise
        return None
    return found[name] if name else found


def _connection_names() -> dict[str, str]:
    return {one["id"]: one["name"] for one in api.get("/api/providers", limit=200)["connections"]}


def _steps(attempts: list[dict[str, Any]], total: float) -> list[dict[str, Any]]:
    """Return attempts in the order of their beginnings, with the time that passed between them."""
    steps: list[dict[str, Any]] = []
    until = 0.0
    for number, one in enumerate(sorted(attempts, key=lambda one: one["startedMs"]), 1):
        if one["startedMs"] - until >= _LEAST_WAIT_MS:
            steps.append(_wait(until, one["startedMs"], total))
        steps.append({**one, "n": number, "bar": attempt_bar(one, total)})
        until = max(until, one["endedMs"])
    if attempts and total - until >= _LEAST_WAIT_MS:
        steps.append(_wait(until, total, total))
    return steps


def _wait(start: float, end: float, total: float) -> dict[str, Any]:
    return {"n": None, "ms": end - start, "bar": _svg([("wait", start, end)], total)}


def attempt_bar(attempt: Mapping[str, Any], total: float) -> Markup:
    """Return an attempt as a bar over the time of its request: connecting, waiting for content, content."""
    start, end = attempt["startedMs"], attempt["endedMs"]
    connected = attempt["connectedMs"] if attempt["connectedMs"] is not None else end
    content = attempt["firstContentMs"] if attempt["firstContentMs"] is not None else end
    last = "failed" if attempt["failureClass"] else "content"
    parts = [("connect", start, min(connected, end)), ("first", connected, min(content, end)), (last, content, end)]
    if attempt["failureClass"] and attempt["firstContentMs"] is None:
        parts = [("connect", start, min(connected, end)), ("failed", connected, end)]
        if attempt["connectedMs"] is None:
            parts = [("failed", start, end)]
    return _svg(parts, total)


def _svg(parts: list[tuple[str, float, float]], total: float) -> Markup:
    shapes = [
        Markup('<rect class="{}" x="{}" y="2" width="{}" height="10" rx="1"/>').format(
            kind, f"{start / total * 100:.3f}", f"{max(0.4, (end - start) / total * 100):.3f}"
        )
        for kind, start, end in parts
        if end > start or kind in ("failed", "content")
    ]
    return Markup(
        '<svg class="timeline" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="lane" x="0" y="2" width="100" height="10" rx="1"/>{}</svg>'
    ).format(Markup("").join(shapes))

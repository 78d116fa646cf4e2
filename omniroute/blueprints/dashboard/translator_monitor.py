"""The live monitor: translations of real traffic as they happen. Off until it is switched on."""

from __future__ import annotations

from typing import Any

from flask import request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, failed, page
from omniroute.blueprints.dashboard.translator_samples import pretty


def show() -> Response:
    """Show what was seen."""
    history = api.get("/api/translator/history")
    formats = api.get("/api/translator/formats")["formats"]
    rows = history["translations"]
    return page(
        "dashboard/translator_monitor.html",
        blocks=("seen",),
        tab="monitor",
        form=FormState.of(request.args),
        formats={one["id"]: one["name"] for one in formats},
        is_on=history["enabled"],
        total=len(rows),
        rows=[row for row in rows if _is_wanted(row)],
        opened=next((row for row in rows if row["id"] == request.args.get("open")), None),
        pretty=pretty,
    )


def switch() -> Response:
    """Switch watching on or off."""
    back, is_on = url_for("dashboard.translator", tab="monitor"), request.form.get("enabled") == "true"
    try:
        api.put("/api/translator/history", {"enabled": is_on})
    except Refused as refused:
        return failed(refused, back)
    if is_on:
        return done(_("Translations are watched from now on."), back)
    return done(_("Watching is switched off, and what was seen is forgotten."), back)


def _is_wanted(row: dict[str, Any]) -> bool:
    args = request.args
    text = args.get("q", "").strip().casefold()
    names = (row["model"], row["targetModel"], row["provider"], row["requestId"], row["endpoint"])
    return (
        (not text or any(text in str(name or "").casefold() for name in names))
        and args.get("source", "") in ("", row["from"])
        and args.get("target", "") in ("", row["to"])
        and (args.get("losses") != "true" or bool(row["losses"]))
    )

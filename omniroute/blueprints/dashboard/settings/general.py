"""General: the server itself, the database and what it keeps, purging, restarting."""

from __future__ import annotations

from typing import Any, Final

from flask import request
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_babel import ngettext
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, failed, go
from omniroute.blueprints.dashboard.settings import tabs, values
from omniroute.blueprints.dashboard.settings.tabs import Forms, tab

PURGED: Final = (
    ("logs", _l("Requests, with how they were routed")),
    ("usage", _l("Sums of usage; what budgets have counted stays")),
    ("audit-older", _l("Audit rows; the newest thousand stay")),
    ("quota", _l("Readings of providers' quotas")),
)
_USUAL_DAYS: Final = "30"
_RUNNING: Final = frozenset({"queued", "running"})
_UNPRICED: Final = (
    ("refuse", _l("Refuse them for keys that have a budget")),
    ("allow", _l("Let them pass; they count as nothing")),
)


@tab("general")
def context(forms: Forms) -> dict[str, Any]:
    """Return what the database takes, the work on it, and what happens to models without a price."""
    given = api.get("/api/settings")["settings"]["budgets"]
    if "purge" not in forms:
        forms["purge"] = FormState.of({"what": "logs", "olderThanDays": _USUAL_DAYS})
    if "spending" not in forms:
        forms["spending"] = FormState.of(given)
    return {
        "sizes": api.get("/api/storage/health"),
        "database": tabs.ask("/api/settings/database"),
        "program": api.get("/api/system/version"),
        "job": _job(request.args.get("job", "")),
        "purged": PURGED,
        "unpriced": _UNPRICED,
        "preview": None,
    }


@blueprint.post("/dashboard/settings/database")
def care_for_database() -> Response:
    """Check the database, give unused pages back, or mend it; the last two are long work."""
    back = tabs.at("general", "storage")
    try:
        match request.form.get("action"):
            case "vacuum":
                return _follow(api.post("/api/settings/database/vacuum")["jobId"])
            case "repair":
                return _follow(api.post("/api/db/health")["jobId"])
            case action:
                found = api.get("/api/db/health", thorough=action == "thorough")
    except Refused as refused:
        return failed(refused, back)
    if found["status"] == "ok":
        return done(_("The database is whole; looked at in %(ms)s ms.", ms=round(found["durationMs"])), back)
    return done(_("The database is damaged: %(problems)s", problems="; ".join(found["problems"][:3])), back, "danger")


@blueprint.post("/dashboard/settings/purge")
def purge() -> Response:
    """Say how many rows a purge would remove; once that is confirmed, remove them."""
    what = request.form.get("what", "")
    body = {"olderThanDays": values.number(request.form.get("olderThanDays", ""))}
    is_sure = request.form.get("confirmed") == "yes"
    known = dict(PURGED)
    path = f"/api/settings/purge/{what if what in known else 'logs'}"
    try:
        found = api.post(path, body if is_sure else {**body, "dryRun": True})["deleted"]
    except Refused as refused:
        return tabs.show("general", 400, {"purge": FormState.typed(request.form, refused)})
    if is_sure:
        back = tabs.at("general", "purge")
        return done(ngettext("%(num)s row was removed.", "%(num)s rows were removed.", found), back)
    form = FormState.typed(request.form)
    return tabs.show("general", 200, {"purge": form}, extra={"preview": {"rows": found, "label": known.get(what, "")}})


@blueprint.post("/dashboard/settings/spending")
def save_spending() -> Response:
    """Choose what happens to models of which nobody knows the price."""
    try:
        api.patch("/api/settings", {"budgets": {"unpriced": request.form.get("unpriced", "")}})
    except Refused as refused:
        form = FormState.typed(request.form, refused, {"budgets.unpriced": "unpriced"})
        return tabs.show("general", 400, {"spending": form})
    return done(_("Saved."), tabs.at("general", "spending"))


@blueprint.post("/dashboard/settings/server")
def order_server() -> Response:
    """Have the server begin anew, or stop."""
    back = tabs.at("general", "process")
    is_stop = request.form.get("action") == "shutdown"
    try:
        api.post("/api/shutdown" if is_stop else "/api/restart")
    except Refused as refused:
        return failed(refused, back)
    if is_stop:
        return done(_("The server stops when the requests in progress are finished."), back, "warning")
    return done(_("The workers are being replaced; requests in progress are finished by those of now."), back)


def _follow(job_id: str) -> Response:
    """Lead to the tab with the progress of long work."""
    return go(f"{tabs.at('general')}&job={api.segment(job_id)}#storage")


def _job(job_id: str) -> dict[str, Any] | None:
    """Return long work with what came of it; None when there is none."""
    if not job_id:
        return None
    try:
        found: dict[str, Any] = api.get(f"/api/jobs/{api.segment(job_id)}")
    except Refused:
        return None
    return {**found, "isRunning": found["state"] in _RUNNING}

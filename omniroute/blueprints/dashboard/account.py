"""The password and the open sessions."""

from __future__ import annotations

from flask import request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, failed, page


@blueprint.get("/dashboard/account")
def account() -> Response:
    """Show the password form and the sessions."""
    return _account_page(FormState())


@blueprint.post("/dashboard/account/password")
def change_password() -> Response:
    """Change the password; all other sessions end."""
    body = {
        "currentPassword": request.form.get("currentPassword", ""),
        "newPassword": request.form.get("newPassword", ""),
    }
    if body["newPassword"] != request.form.get("repeated", ""):
        fault = {"repeated": _("is not the same as the new password")}
        return _account_page(FormState(faults=fault, message=_("The two new passwords differ.")), 400)
    try:
        ended = api.post("/api/auth/password", body)["revokedSessions"]
    except Refused as refused:
        return _account_page(FormState(faults=refused.faults, message=refused.message, code=refused.error_code), 400)
    return done(
        _("The password is changed. Other sessions ended: %(count)s.", count=ended), url_for("dashboard.account")
    )


@blueprint.post("/dashboard/account/sessions")
def end_sessions() -> Response:
    """End one session, or all but this one."""
    session_id = request.form.get("sessionId", "")
    back = url_for("dashboard.account")
    try:
        if session_id:
            api.delete(f"/api/auth/sessions/{api.segment(session_id)}")
            return done(_("The session is ended."), back)
        ended = api.delete("/api/auth/sessions")["revokedSessions"]
    except Refused as refused:
        return failed(refused, back)
    return done(_("Other sessions ended: %(count)s.", count=ended), back)


def _account_page(form: FormState, status: int = 200) -> Response:
    sessions = api.get("/api/auth/sessions", limit=200)["sessions"]
    return page("dashboard/account.html", form=form, sessions=sessions, status=status)

"""Access tokens: what command lines on other machines come in with."""

from __future__ import annotations

from typing import Final

from flask import request, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.home import base_url
from omniroute.blueprints.dashboard.rendering import done, failed, page

_SCOPES: Final = (
    ("read", _l("Read: see everything, change nothing")),
    ("write", _l("Write: also change routing, combos and keys' limits")),
    ("admin", _l("Admin: everything, credentials and access included")),
)
_LIFETIMES: Final = (
    ("30", _l("30 days")),
    ("90", _l("90 days")),
    ("365", _l("A year")),
    ("", _l("Never")),
)
_USUAL_DAYS: Final = "90"


@blueprint.get("/dashboard/settings/access-tokens")
def access_tokens() -> Response:
    """Show the tokens and a form for a new one."""
    return _tokens_page(FormState.of({"scope": "read", "expiresInDays": _USUAL_DAYS}))


@blueprint.post("/dashboard/settings/access-tokens")
def create_access_token() -> Response:
    """Make a token and show it this once."""
    days = request.form.get("expiresInDays", "")
    body = {
        "name": request.form.get("name", "").strip(),
        "scope": request.form.get("scope", ""),
        "expiresInDays": int(days) if days.isascii() and days.isdigit() else days or None,
    }
    try:
        made = api.post("/api/cli/tokens", body)
    except Refused as refused:
        return _tokens_page(FormState.typed(request.form, refused), status=400)
    return _tokens_page(FormState.of({"scope": "read", "expiresInDays": _USUAL_DAYS}), made=made, status=201)


@blueprint.post("/dashboard/settings/access-tokens/revoke")
def revoke_access_token() -> Response:
    """End a token."""
    back = url_for("dashboard.access_tokens")
    try:
        api.delete(f"/api/cli/tokens/{api.segment(request.form.get('tokenId', ''))}")
    except Refused as refused:
        return failed(refused, back)
    return done(_("The token is revoked. Whoever uses it is refused from now on."), back)


def _tokens_page(form: FormState, *, made: dict[str, object] | None = None, status: int = 200) -> Response:
    response = page(
        "dashboard/access_tokens.html",
        form=form,
        tokens=api.get("/api/cli/tokens")["tokens"],
        scopes=_SCOPES,
        lifetimes=_LIFETIMES,
        made=made,
        base_url=base_url(),
        status=status,
    )
    if made is not None:
        response.headers["Cache-Control"] = "no-store"
    return response

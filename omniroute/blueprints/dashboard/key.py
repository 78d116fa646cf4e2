"""One API key: what it may, what it has used, its budgets, and its secret."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from flask import request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, charts, key_form
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.home import base_url
from omniroute.blueprints.dashboard.keys import allowing, parts, refused_form, state_words
from omniroute.blueprints.dashboard.rendering import done, failed, page
from omniroute.blueprints.dashboard.usage import filled

_RANGES: Final = ("24h", "7d", "30d", "90d")
_MODELS: Final = 10
_RECENT: Final = 10
_GRACES: Final = (0, 3600, 86400, 7 * 86400)


@blueprint.get("/dashboard/keys/<key_id>")
def key(key_id: str) -> Response:
    """Show a key."""
    return _page(key_id)


@blueprint.post("/dashboard/keys/<key_id>")
def change_key(key_id: str) -> Response:
    """Store what was changed of a key; or do what another button of the form says."""
    values = key_form.typed_values(request.form)
    if request.form.get("do") != "save":
        return _page(key_id, FormState(allowing(values, request.form.get("do", ""))))
    try:
        api.put(_path(key_id), key_form.body_of(request.form, _stored(key_id)))
    except Refused as refused:
        return _page(key_id, refused_form(values, refused), 400)
    return done(_("The key is saved."), _of(key_id))


@blueprint.post("/dashboard/keys/<key_id>/switch")
def switch_key(key_id: str) -> Response:
    """Disable a key, or enable it."""
    is_on = request.form.get("isActive") == "true"
    try:
        api.patch(_path(key_id), {"isActive": True, "isBanned": False} if is_on else {"isActive": False})
    except Refused as refused:
        return failed(refused, _of(key_id))
    return done(
        _("The key is enabled.") if is_on else _("The key is disabled; requests with it are refused."), _of(key_id)
    )


@blueprint.post("/dashboard/keys/<key_id>/regenerate")
def regenerate_key(key_id: str) -> Response:
    """Replace the secret of a key and show the new one, this once."""
    given = request.form.get("graceSec", "0")
    try:
        made = api.post(f"{_path(key_id)}/regenerate", {"graceSec": int(given) if given.isdecimal() else given})
        stored = _stored(key_id)
    except Refused as refused:
        return failed(refused, _of(key_id))
    return page(
        "dashboard/key_made.html", key=stored, secret=made["key"], regenerated=made, base_url=base_url(), status=201
    )


@blueprint.post("/dashboard/keys/<key_id>/reveal")
def reveal_key(key_id: str) -> Response:
    """Show a key in full, where the server keeps it so that this can be done."""
    try:
        secret = api.get(f"{_path(key_id)}/reveal")["key"]
    except Refused as refused:
        return failed(refused, _of(key_id))
    shown = page("dashboard/key_made.html", key=_stored(key_id), secret=secret, is_revealed=True, base_url=base_url())
    shown.headers["Cache-Control"] = "no-store"
    return shown


@blueprint.post("/dashboard/keys/<key_id>/budget")
def key_budget(key_id: str) -> Response:
    """Set the budget of a period, or take it away."""
    period = request.form.get("period", "")
    try:
        if request.form.get("do") == "remove":
            api.call("DELETE", "/api/usage/budget", query={"keyId": key_id, "period": period})
            return done(_("The budget is removed."), _of(key_id, "#budgets"))
        amount = request.form.get("limit", "").strip().replace(",", ".")
        limit: Any = float(amount) if amount.replace(".", "", 1).isdecimal() else amount
        api.post("/api/usage/budget", {"keyId": key_id, "period": period, "limit": limit})
    except Refused as refused:
        return failed(refused, _of(key_id, "#budgets"))
    return done(_("The budget is saved."), _of(key_id, "#budgets"))


@blueprint.post("/dashboard/keys/<key_id>/token-limits")
def key_token_limit(key_id: str) -> Response:
    """Add a limit of tokens, or take one away."""
    back = _of(key_id, "#budgets")
    try:
        if request.form.get("do") == "remove":
            api.call("DELETE", "/api/usage/token-limits", query={"id": request.form.get("id", "")})
            return done(_("The token limit is removed."), back)
        tokens = request.form.get("tokenLimit", "").strip()
        scope = request.form.get("scopeType", "global")
        body = {
            "keyId": key_id,
            "scopeType": scope,
            "tokenLimit": int(tokens) if tokens.isdecimal() else tokens,
            "period": request.form.get("period", "daily"),
        }
        if scope != "global":
            body["scopeValue"] = request.form.get("scopeValue", "").strip()
        api.post("/api/usage/token-limits", body)
    except Refused as refused:
        return failed(refused, back)
    return done(_("The token limit is saved."), back)


@blueprint.post("/dashboard/keys/<key_id>/delete")
def delete_key(key_id: str) -> Response:
    """End a key, once its name has been typed."""
    try:
        stored = _stored(key_id)
        if request.form.get("confirmName", "").strip() != stored["name"]:
            text = _("Nothing was deleted: the name of the key was not typed as it is.")
            return done(text, _of(key_id, "#delete"), "danger")
        api.delete(_path(key_id))
    except Refused as refused:
        return failed(refused, url_for("dashboard.keys"))
    return done(_("The key %(name)s is deleted.", name=stored["name"]), url_for("dashboard.keys"))


def _page(key_id: str, form: FormState | None = None, status: int = 200) -> Response:
    document = api.get(_path(key_id))
    stored = document["key"]
    chosen = request.args.get("range", "7d")
    span = chosen if chosen in _RANGES else "7d"
    usage = api.get("/api/usage/analytics", range=span, apiKeyId=key_id)
    limits = api.get(f"{_path(key_id)}/usage")
    form = form or FormState(key_form.values_of(stored))
    return page(
        "dashboard/key.html",
        blocks=("key_editor",),
        status=status,
        key=stored,
        form=form,
        state=state_words()[stored["state"]],
        span=span,
        ranges=_RANGES,
        usage=usage,
        figures=_figures(filled(usage["series"], usage["range"])),
        limits=limits,
        models=sorted(usage["byModel"], key=lambda one: -one["requests"])[:_MODELS],
        rows=api.get("/api/usage/logs", apiKeyId=key_id, limit=_RECENT)["logs"],
        may_reveal=document["allowKeyReveal"],
        graces=_GRACES,
        **parts(form),
    )


def _figures(series: list[dict[str, Any]]) -> dict[str, Any]:
    times = [datetime.fromisoformat(point["t"]).timestamp() for point in series]
    return charts.figures(
        times,
        [
            charts.Series(_("Requests"), [point["requests"] for point in series], 1, is_bars=True),
            charts.Series(_("Failed"), [point["failed"] for point in series], 2),
        ],
        _("requests"),
        _("Requests"),
    )


def _stored(key_id: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(_path(key_id))["key"]
    return found


def _path(key_id: str) -> str:
    return f"/api/keys/{api.segment(key_id)}"


def _of(key_id: str, place: str = "") -> str:
    return url_for("dashboard.key", key_id=key_id) + place

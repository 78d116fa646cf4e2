"""Rules for names of models: aliases, patterns that lead to combos, and fallback chains."""

from __future__ import annotations

from typing import Any, Final

from flask import request
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, named
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, failed
from omniroute.blueprints.dashboard.settings import tabs, values

PAGE: Final = 50


def context() -> dict[str, Any]:
    """Return a page of each kind of rule, and the names of combos to choose from."""
    wanted = request.args.get("find", "").strip()[:100]
    offset = values.number(request.args.get("offset", "0"))
    start = offset if isinstance(offset, int) and offset >= 0 else 0
    found = api.get("/api/models/alias", q=wanted, limit=PAGE, offset=start)
    mappings = api.get("/api/model-combo-mappings", q=wanted, limit=PAGE)
    chains = api.get("/api/fallback/chains", q=wanted, limit=PAGE)
    return {
        "find": wanted,
        "aliases": found,
        "mappings": mappings,
        "chains": chains,
        "combo_names": named.combo_names(),
    }


@blueprint.post("/dashboard/settings/aliases")
def change_alias() -> Response:
    """Store an alias, or remove one."""
    form, back = request.form, tabs.at("routing", "aliases")
    if form.get("action") == "remove":
        return _removed(api.delete, "/api/models/alias", back, id=form.get("id", ""))
    body = {
        "pattern": form.get("pattern", "").strip(),
        "target": form.get("target", "").strip(),
        **_common(form.get("priority", ""), is_on=form.get("enabled") != "false"),
    }
    try:
        api.put("/api/models/alias", body)
    except Refused as refused:
        return tabs.show("routing", 400, {"aliases": FormState.typed(form, refused)})
    return done(_("The alias is saved."), back)


@blueprint.post("/dashboard/settings/mappings")
def change_mapping() -> Response:
    """Let names of a pattern lead to a combo, switch that off or on, or remove it."""
    form, back = request.form, tabs.at("routing", "mappings")
    path = f"/api/model-combo-mappings/{api.segment(form.get('id', ''))}"
    match form.get("action"):
        case "remove":
            return _removed(api.delete, path, back)
        case "switch":
            return _switched(path, back)
    body = {
        "pattern": form.get("pattern", "").strip(),
        "comboId": named.combo_id(form.get("combo", "").strip()) or "",
        **_common(form.get("priority", "")),
    }
    try:
        api.post("/api/model-combo-mappings", body)
    except Refused as refused:
        state = FormState.typed(form, refused, {"comboId": "combo"})
        if not state.faults and refused.http_status == 404:
            state = FormState(state.values, {"combo": refused.message}, refused.message, refused.error_code)
        return tabs.show("routing", 400, {"mappings": state})
    return done(_("The pattern is saved."), back)


@blueprint.post("/dashboard/settings/chains")
def change_chain() -> Response:
    """Create a fallback chain, switch it off or on, or remove it."""
    form, back = request.form, tabs.at("routing", "chains")
    path = f"/api/fallback/chains/{api.segment(form.get('id', ''))}"
    match form.get("action"):
        case "remove":
            return _removed(api.delete, path, back)
        case "switch":
            return _switched(path, back)
    body: dict[str, Any] = {"name": form.get("name", "").strip(), "models": _lines(form.get("models", ""))}
    if match := _lines(form.get("match", "")):
        body["match"] = match
    try:
        api.post("/api/fallback/chains", body)
    except Refused as refused:
        return tabs.show("routing", 400, {"chains": FormState.typed(form, refused)})
    return done(_("The chain is saved."), back)


def _common(priority: str, *, is_on: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"enabled": is_on}
    given = values.number(priority)
    return found if given is None else {**found, "priority": given}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _removed(delete: Any, path: str, back: str, **query: str) -> Response:
    try:
        delete(path, **query)
    except Refused as refused:
        return failed(refused, back)
    return done(_("It is removed."), back)


def _switched(path: str, back: str) -> Response:
    is_on = request.form.get("enabled") == "true"
    try:
        api.patch(path, {"enabled": is_on})
    except Refused as refused:
        return failed(refused, back)
    return done(_("It is on.") if is_on else _("It is off."), back)

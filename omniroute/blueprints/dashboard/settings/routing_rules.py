"""Rules for names of models: aliases, patterns that lead to combos, and fallback chains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from omniroute.blueprints.dashboard.settings.tabs import Forms

PAGE: Final = 50
_FIELDS_OF: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "aliases": lambda row: {**row, "enabled": "true" if row["enabled"] else "false"},
    "mappings": lambda row: {**row, "combo": row["comboName"] or row["comboId"]},
    "chains": lambda row: {**row, "match": "\n".join(row["match"]), "models": "\n".join(row["models"])},
}
"""What the form of a rule holds when a stored one is edited."""


def context(forms: Forms) -> dict[str, Any]:
    """Return a page of each kind of rule, and the names of combos to choose from; fill the form of one to be edited."""
    wanted = request.args.get("find", "").strip()[:100]
    offset = values.number(request.args.get("offset", "0"))
    start = offset if isinstance(offset, int) and offset >= 0 else 0
    found = api.get("/api/models/alias", q=wanted, limit=PAGE, offset=start)
    mappings = api.get("/api/model-combo-mappings", q=wanted, limit=PAGE)
    chains = api.get("/api/fallback/chains", q=wanted, limit=PAGE)
    for name, rows in (("aliases", found), ("mappings", mappings), ("chains", chains)):
        row = next((one for one in rows[name] if one["id"] == request.args.get("edit")), None)
        if row is not None and name not in forms:
            forms[name] = FormState.of(_FIELDS_OF[name](row))
    return {
        "find": wanted,
        "aliases": found,
        "mappings": mappings,
        "chains": chains,
        "combo_names": named.combo_names(),
    }


@blueprint.post("/dashboard/settings/aliases")
def change_alias() -> Response:
    """Store an alias, change one, or remove one."""
    form, back = request.form, tabs.at("routing", "aliases")
    if form.get("action") == "remove":
        return _removed(api.delete, "/api/models/alias", back, id=form.get("id", ""))
    body = {
        "pattern": form.get("pattern", "").strip(),
        "target": form.get("target", "").strip(),
        "enabled": form.get("enabled") != "false",
        **_priority(form.get("priority", "")),
    }
    try:
        api.put("/api/models/alias", body)
        if form.get("id") and form.get("of") != body["pattern"]:  # aliases are stored by their patterns
            api.delete("/api/models/alias", id=form["id"])
    except Refused as refused:
        return tabs.show("routing", 400, {"aliases": FormState.typed(form, refused)})
    return done(_("The alias is saved."), back)


@blueprint.post("/dashboard/settings/mappings")
def change_mapping() -> Response:
    """Let names of a pattern lead to a combo, change that, switch it off or on, or remove it."""
    form, back = request.form, tabs.at("routing", "mappings")
    path = f"/api/model-combo-mappings/{api.segment(form.get('id', ''))}"
    match form.get("action"):
        case "remove":
            return _removed(api.delete, path, back)
        case "switch":
            return _switched(path, back)
    body: dict[str, Any] = {
        "pattern": form.get("pattern", "").strip(),
        "comboId": named.combo_id(form.get("combo", "").strip()) or "",
        **_priority(form.get("priority", "")),
    }
    try:
        _stored("/api/model-combo-mappings", path, body)
    except Refused as refused:
        state = FormState.typed(form, refused, {"comboId": "combo"})
        if not state.faults and refused.http_status == 404 and not form.get("id"):
            state = FormState(state.values, {"combo": refused.message}, refused.message, refused.error_code)
        return tabs.show("routing", 400, {"mappings": state})
    return done(_("The pattern is saved."), back)


@blueprint.post("/dashboard/settings/chains")
def change_chain() -> Response:
    """Create a fallback chain or change one, switch it off or on, or remove it."""
    form, back = request.form, tabs.at("routing", "chains")
    path = f"/api/fallback/chains/{api.segment(form.get('id', ''))}"
    match form.get("action"):
        case "remove":
            return _removed(api.delete, path, back)
        case "switch":
            return _switched(path, back)
    body: dict[str, Any] = {"name": form.get("name", "").strip(), "models": _lines(form.get("models", ""))}
    if match := _lines(form.get("match", "")) or (["*"] if form.get("id") else []):
        body["match"] = match
    try:
        _stored("/api/fallback/chains", path, body)
    except Refused as refused:
        return tabs.show("routing", 400, {"chains": FormState.typed(form, refused)})
    return done(_("The chain is saved."), back)


def _priority(text: str) -> dict[str, Any]:
    given = values.number(text)
    return {} if given is None else {"priority": given}


def _stored(path: str, of_one: str, body: dict[str, Any]) -> None:
    """Create a rule at `path`, or change the one whose id the form names."""
    if request.form.get("id"):
        api.patch(of_one, body)
    else:
        api.post(path, body)


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

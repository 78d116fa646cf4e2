"""The models of a provider: what its lists have, what the operator adds, and what he says about each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import request, url_for
from flask_babel import gettext as _
from flask_babel import ngettext
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, provider_fields, provider_states
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.provider_tabs import WORDS, shown
from omniroute.blueprints.dashboard.rendering import done, failed, go, page
from omniroute.blueprints.dashboard.setup import with_query

_ABLE: Final = ("tools", "vision", "audio", "pdf", "json_schema", "reasoning", "prompt_cache")


# --- available -------------------------------------------------------------------------------------------------------


def act(row: Mapping[str, Any]) -> Response:
    """Do what a form of the tab of models asks for: show, hide, test, or read the provider's list now."""
    form, back = request.form, with_query()
    action, _colon, one = form.get("do", "").partition(":")
    ids = [one] if one else form.getlist("models")
    if action in ("show", "hide", "test") and not ids:
        return done(_("Choose at least one model."), back, "warning")
    try:
        return _acted(row, action, ids, back)
    except Refused as refused:
        return failed(refused, back)


def _acted(row: Mapping[str, Any], action: str, ids: list[str], back: str) -> Response:
    match action:
        case "show" | "hide":
            is_hidden = action == "hide"
            body = {"provider": row["id"], "modelIds": ids, "isHidden": is_hidden}
            count = api.patch("/api/provider-models", body)["updated"]
            if request.headers.get("HX-Target") == "models":
                return shown(row)
            return done(_hidden(count, is_hidden=is_hidden), back)
        case "test" if len(ids) == 1:
            return _tested(row, ids[0], back)
        case "test":
            job = api.post("/api/models/test-all", {"models": [f"{row['alias']}/{one}" for one in ids]})
            return go(url_for("dashboard.provider_job", job_id=job["jobId"], provider=row["id"]))
        case _:
            return _read(row, back)


def _tested(row: Mapping[str, Any], model: str, back: str) -> Response:
    found = api.post("/api/models/test", {"model": f"{row['alias']}/{model}"})
    if request.headers.get("HX-Target") == "models":
        return shown(row, result={"id": model, **found})
    if found["ok"]:
        return done(_("%(model)s answers.", model=found["model"]), back)
    return done(_("%(model)s does not answer: %(reason)s", model=found["model"], reason=found["error"]), back, "danger")


def _hidden(count: int, *, is_hidden: bool) -> str:
    if is_hidden:
        return ngettext("%(num)s model is hidden.", "%(num)s models are hidden.", count)
    return ngettext("%(num)s model is shown again.", "%(num)s models are shown again.", count)


def _read(row: Mapping[str, Any], back: str) -> Response:
    """Read the provider's own list through each of its active connections."""
    connections = api.get("/api/providers", provider=row["id"], active=True, limit=20)["connections"]
    if not connections:
        return done(_("No connection is switched on that could be asked."), back, "warning")
    added = removed = total = 0
    for one in connections:
        found = api.post(f"/api/providers/{api.segment(one['id'])}/sync-models")
        added, removed, total = added + found["added"], removed + found["removed"], max(total, found["total"])
    said = _(
        "The list has %(total)s models: %(added)s new, %(removed)s gone.", total=total, added=added, removed=removed
    )
    return done(said, back)


# --- one model -------------------------------------------------------------------------------------------------------


@blueprint.get("/dashboard/providers/<provider>/models/<path:model>")
def provider_model(provider: str, model: str) -> Response:
    """Show what is known about a model, and what can be said of it."""
    return _model_page(provider_states.find(provider), model)


@blueprint.post("/dashboard/providers/<provider>/models/<path:model>")
def change_model(provider: str, model: str) -> Response:
    """Give a model another name, take one away, or say what holds about it whatever its provider says."""
    row, form = provider_states.find(provider), request.form
    name = f"{row['alias']}/{model}"
    back = url_for("dashboard.provider_model", provider=row["id"], model=model)
    try:
        match form.get("do", ""):
            case "alias":
                api.put("/api/models/alias", {"pattern": form.get("alias", "").strip(), "target": name})
                return done(_("The alias is saved."), back)
            case "unalias":
                api.delete("/api/models/alias", pattern=form.get("alias", ""))
                return done(_("The alias is removed."), back)
            case "forget":
                api.delete("/api/model-capability-overrides", model=name)
                return done(_("What was stated here is forgotten."), back)
            case _:
                api.patch("/api/model-capability-overrides", {"model": name, **_stated(form)})
                return done(_("%(model)s is saved.", model=name), back)
    except Refused as refused:
        typed = FormState.typed(form, refused, {"pattern": "alias"})
        return _model_page(row, model, typed, status=400)


def _stated(form: provider_fields.Form) -> dict[str, Any]:
    said = {"yes": True, "no": False}
    return {
        "contextLength": provider_fields.number(form.get("contextLength", "")),
        "maxOutputTokens": provider_fields.number(form.get("maxOutputTokens", "")),
        "capabilities": {word: said.get(form.get(word, "")) for word in _ABLE},
    }


def _model_page(row: Mapping[str, Any], model: str, form: FormState | None = None, status: int = 200) -> Response:
    listed = provider_states.all_of("/api/models", "models", provider=row["id"], q=f"{row['alias']}/{model}")
    found = next((one for one in listed if one["modelId"] == model), None)
    overrides = provider_states.all_of("/api/model-capability-overrides", "overrides", provider=row["id"], q=model)
    stated = next((one for one in overrides if one["modelId"] == model), None)
    values: dict[str, Any] = {}
    if stated is not None:
        values = {"contextLength": stated["contextLength"], "maxOutputTokens": stated["maxOutputTokens"]}
        values |= {word: "yes" if is_able else "no" for word, is_able in stated["capabilities"].items()}
    return page(
        "dashboard/provider_model.html",
        provider=row,
        model=found,
        model_id=model,
        form=form or FormState(values),
        stated=stated,
        able=[
            ("tools", _("Tools")),
            ("vision", _("Images")),
            ("audio", _("Audio")),
            ("pdf", _("Documents")),
            ("json_schema", _("JSON schema")),
            ("reasoning", _("Reasoning")),
            ("prompt_cache", _("Prompt cache")),
        ],
        answers=[("", _("as stated by others")), ("yes", _("yes")), ("no", _("no"))],
        status=status,
    )


# --- declared --------------------------------------------------------------------------------------------------------


@blueprint.post("/dashboard/providers/<provider>/custom-models")
def change_custom_model(provider: str) -> Response:
    """Declare a model, change what was declared, or remove it."""
    row, form = provider_states.find(provider), request.form
    back, edited = url_for("dashboard.provider", provider=row["id"], tab="custom"), form.get("edited", "")
    if form.get("do") == "remove":
        try:
            api.delete("/api/provider-models", provider=row["id"], model=form.get("modelId", ""))
        except Refused as refused:
            return failed(refused, back)
        return done(_("The model is removed."), back)
    try:
        ask = api.put if edited else api.post
        made = ask("/api/provider-models", _declared(row, form, edited))["model"]
    except Refused as refused:
        typed = FormState.typed(form, refused)
        return shown(row, tab="custom", form=typed, edited=edited, status=400)
    return done(_("%(model)s is saved.", model=made["modelId"]), back)


def _declared(row: Mapping[str, Any], form: provider_fields.Form, edited: str) -> dict[str, Any]:
    said = {"yes": True, "no": False}
    return {
        "provider": row["id"],
        "modelId": edited or form.get("modelId", "").strip(),
        **provider_fields.cleared(form, "modelName", "type", "apiFormat"),
        "contextLength": provider_fields.number(form.get("contextLength", "")),
        "maxOutputTokens": provider_fields.number(form.get("maxOutputTokens", "")),
        **{word: said.get(form.get(word, "")) for word in WORDS},
    }

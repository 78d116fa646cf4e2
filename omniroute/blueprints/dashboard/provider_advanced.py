"""What is special about requests to a provider: parameters, proxy, blocking; and the settings of custom endpoints."""

from __future__ import annotations

from typing import Any

from flask import request, url_for
from flask_babel import gettext as _
from flask_babel import ngettext
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, provider_fields, provider_states
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.provider_connect import node_body, trial_of, with_header_faults
from omniroute.blueprints.dashboard.provider_tabs import shown
from omniroute.blueprints.dashboard.rendering import done, failed
from omniroute.errors import NotFound

_TAB = "advanced"


@blueprint.post("/dashboard/providers/<provider>/parameters")
def change_parameters(provider: str) -> Response:
    """Set which parameters of requests to a provider are taken out or set."""
    row, form = provider_states.find(provider), request.form
    try:
        force = provider_fields.json_object(form.get("force", ""))
    except ValueError:
        fault = _("is not JSON")
        typed = FormState({**form}, {"force": fault}, _("The values to set cannot be read."))
        return shown(row, tab=_TAB, filters=typed, status=400)
    try:
        path = f"/api/providers/{api.segment(row['id'])}/param-filters"
        api.put(path, {"strip": provider_fields.words(form.get("strip", "")), "force": force})
    except Refused as refused:
        names = {name: name.partition(".")[0].partition("[")[0] for name in refused.faults}
        return shown(row, tab=_TAB, filters=FormState.typed(form, refused, names), status=400)
    return done(_("The parameters are saved."), _back(row["id"]))


@blueprint.post("/dashboard/providers/<provider>/proxy")
def choose_proxy(provider: str) -> Response:
    """Say through which proxy the provider is asked."""
    row, form = provider_states.find(provider), request.form
    match form.get("proxy", ""):
        case "":
            chosen: dict[str, Any] | None = None
        case "own":
            chosen = {
                **provider_fields.filled(form, "type", "host", "username", "password"),
                "port": provider_fields.number(form.get("port", "")),
            }
        case named:
            chosen = {"id": named}
    try:
        api.put("/api/settings/proxy", {"level": "provider", "id": row["id"], "proxy": chosen})
    except Refused as refused:
        names = {name: name.rpartition(".")[2] for name in refused.faults}
        return shown(row, tab=_TAB, proxy_form=FormState.typed(form, refused, names), status=400)
    return done(_("The proxy is saved."), _back(row["id"]))


@blueprint.post("/dashboard/providers/<provider>/block")
def block_provider(provider: str) -> Response:
    """Leave a provider out of all routing, or take it in again."""
    row, is_blocked = provider_states.find(provider), request.form.get("blocked") == "true"
    try:
        api.patch("/api/settings", {"routing": {"providers": {row["id"]: {"blocked": is_blocked}}}})
    except Refused as refused:
        return failed(refused, _back(row["id"]))
    if is_blocked:
        return done(_("%(name)s is blocked: no request goes there.", name=row["name"]), _back(row["id"]))
    return done(_("%(name)s is used again.", name=row["name"]), _back(row["id"]))


@blueprint.post("/dashboard/providers/<provider>/endpoint")
def change_node(provider: str) -> Response:
    """Change a custom endpoint; or only ask its address what it has."""
    row, form = _node(provider), request.form
    if form.get("do") == "probe":
        return shown(row, tab=_TAB, node_form=FormState.typed(form), trial=trial_of(form))
    try:
        api.patch(f"/api/provider-nodes/{row['id']}", node_body(form))
    except Refused as refused:
        return shown(row, tab=_TAB, node_form=FormState.typed(form, with_header_faults(refused)), status=400)
    return done(_("The endpoint is saved."), _back(row["id"]))


@blueprint.post("/dashboard/providers/<provider>/delete")
def delete_node(provider: str) -> Response:
    """Remove a custom endpoint with its connections, once its prefix was typed."""
    row = _node(provider)
    if request.form.get("confirmation", "").strip() != row["alias"]:
        fault = {"confirmation": _("is not the prefix of this endpoint")}
        return shown(row, tab=_TAB, delete_form=FormState(request.form, fault), status=400)
    try:
        removed = api.delete(f"/api/provider-nodes/{row['id']}")["deletedConnections"]
    except Refused as refused:
        return failed(refused, _back(row["id"]))
    said = ngettext(
        "The endpoint is removed with %(num)s connection.", "The endpoint is removed with %(num)s connections.", removed
    )
    return done(said, url_for("dashboard.providers"))


def _node(name: str) -> dict[str, Any]:
    row = provider_states.find(name)
    if not row["isNode"]:
        raise NotFound("There is no custom endpoint of this name.")
    return row


def _back(provider: str) -> str:
    return url_for("dashboard.provider", provider=provider, tab=_TAB)

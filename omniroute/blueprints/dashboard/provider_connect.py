"""How providers are connected: a key, many keys, a list in CSV, an endpoint of the operator's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, provider_fields, provider_states
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, go, page

NODE_TYPES: Final = ("openai-compatible", "anthropic-compatible", "gemini-compatible", "ollama")
API_TYPES: Final = ("chat", "responses", "embeddings", "images-generations", "audio-transcriptions", "audio-speech")
EXAMPLES: Final = {
    "openai-compatible": "https://host.example/v1",
    "anthropic-compatible": "https://host.example/v1",
    "gemini-compatible": "https://host.example/v1beta",
    "ollama": "http://127.0.0.1:11434",
}


# --- one key ---------------------------------------------------------------------------------------------------------


@blueprint.get("/dashboard/providers/<provider>/connect")
def connect(provider: str) -> Response:
    """Show the form for a key."""
    return _connect_page(provider_states.find(provider), FormState({"testFirst": "true"}))


@blueprint.post("/dashboard/providers/<provider>/connect")
def add_connection(provider: str) -> Response:
    """Store a connection, tried first where that is wished."""
    row, form = provider_states.find(provider), request.form
    names = provider_fields.data_names(row)
    body: dict[str, Any] = {
        "provider": row["id"],
        "testFirst": provider_fields.is_ticked(form, "testFirst"),
        **provider_fields.filled(form, "apiKey", "name", "group", "defaultModel"),
    }
    priority, data = provider_fields.number(form.get("priority", "")), provider_fields.provider_data(form, names)
    body |= {"priority": priority} if priority is not None else {}
    body |= {"providerData": data} if data else {}
    try:
        made = api.post("/api/providers", body)["connection"]
    except Refused as refused:
        typed = FormState.typed(form, refused, provider_fields.spelt(names))
        return _connect_page(row, typed, 400)
    target = url_for("dashboard.provider", provider=row["id"])
    if body["testFirst"]:
        return done(_("%(name)s is connected and works.", name=made["name"]), target)
    return done(_("%(name)s is connected.", name=made["name"]), target)


def _connect_page(row: Mapping[str, Any], form: FormState, status: int = 200) -> Response:
    return page(
        "dashboard/provider_connect.html",
        provider=row,
        form=form,
        obstacle=provider_states.obstacle(row),
        group=provider_states.GROUPS[provider_states.group_of(row)],
        fields=[
            (name, next((one["default"] for one in row["parameters"] if one["name"] == name), None))
            for name in provider_fields.data_names(row)
        ],
        takes_key="apikey" in row["authKinds"],
        needs_key="none" not in row["authKinds"],
        status=status,
    )


# --- many keys -------------------------------------------------------------------------------------------------------


@blueprint.get("/dashboard/providers/<provider>/keys")
def connect_many(provider: str) -> Response:
    """Show the form for many keys."""
    return _many_page(provider_states.find(provider), FormState())


@blueprint.post("/dashboard/providers/<provider>/keys")
def add_connections(provider: str) -> Response:
    """Store many keys of one provider; where they are to be tried first, lead on to how that goes."""
    row, form = provider_states.find(provider), request.form
    entries = provider_fields.keys(form.get("keys", ""))
    body = {
        "provider": row["id"],
        "entries": entries,
        "validateKeys": provider_fields.is_ticked(form, "validateKeys"),
    }
    try:
        result = api.post("/api/providers/bulk", body)
    except Refused as refused:
        fault = "; ".join(dict.fromkeys(f"{name}: {text}" for name, text in refused.faults.items()))
        known = {"keys": fault or refused.message}
        return _many_page(row, FormState(form, known, refused.message, refused.error_code), status=400)
    if "jobId" in result:
        return go(url_for("dashboard.provider_job", job_id=result["jobId"], provider=row["id"]))
    return _many_page(row, FormState(), result, 201)


def _many_page(
    row: Mapping[str, Any], form: FormState, result: Mapping[str, Any] | None = None, status: int = 200
) -> Response:
    return page(
        "dashboard/provider_keys.html",
        provider=row,
        form=form,
        result=result,
        obstacle=provider_states.obstacle(row),
        status=status,
    )


# --- a list in CSV ---------------------------------------------------------------------------------------------------


@blueprint.get("/dashboard/providers/import")
def import_connections() -> Response:
    """Show the form for a list of connections."""
    return page("dashboard/provider_import.html", form=FormState(), result=None)


@blueprint.post("/dashboard/providers/import")
def read_connections() -> Response:
    """Store the connections of a list, chosen as a file or typed in."""
    upload = request.files.get("file")
    data = upload.read() if upload is not None and upload.filename else request.form.get("csv", "").encode()
    try:
        result = api.call("POST", "/api/providers/import", body=data, content_type="text/csv").document
    except Refused as refused:
        fault = "; ".join(refused.faults.values()) or refused.message
        form = FormState(faults={"csv": fault}, message=refused.message, code=refused.error_code)
        return page("dashboard/provider_import.html", form=form, result=None, status=400)
    return page("dashboard/provider_import.html", form=FormState(), result=result, status=201)


# --- an endpoint of one's own ----------------------------------------------------------------------------------------


@blueprint.get("/dashboard/providers/custom")
def new_node() -> Response:
    """Show the form for an endpoint."""
    kind = request.args.get("type", "")
    kind = kind if kind in NODE_TYPES else NODE_TYPES[0]
    return _node_page(FormState({"type": kind, "isLocal": "true" if kind == "ollama" else None}))


@blueprint.post("/dashboard/providers/custom")
def add_node() -> Response:
    """Store an endpoint with its first connection; or only ask the address what it has."""
    form = request.form
    if form.get("do") == "probe":
        return _node_page(FormState.typed(form), trial_of(form))
    try:
        node = api.post("/api/provider-nodes", node_body(form))["node"]
    except Refused as refused:
        return _node_page(FormState.typed(form, with_header_faults(refused)), status=400)
    target = url_for("dashboard.provider", provider=node["id"])
    try:
        api.post("/api/providers", {"provider": node["id"], **provider_fields.filled(form, "apiKey")})
    except Refused as refused:
        said = _("The endpoint is stored, its connection is not: %(reason)s", reason=refused.message)
        return done(said, target, "warning")
    return done(_("The endpoint %(name)s is stored and connected.", name=node["name"]), target)


def trial_of(form: provider_fields.Form) -> Mapping[str, Any]:
    """Ask an address for its models, and return what it said."""
    body: dict[str, Any] = {
        "type": form.get("type", ""),
        "baseUrl": form.get("baseUrl", ""),
        "isLocal": provider_fields.is_ticked(form, "isLocal"),
        **provider_fields.filled(form, "apiKey", "modelsPath"),
    }
    try:
        found: Mapping[str, Any] = api.post("/api/provider-nodes/validate", body)
    except Refused as refused:
        faults = "; ".join(f"{name}: {text}" for name, text in refused.faults.items())
        return {"reachable": False, "latencyMs": None, "error": faults or refused.message}
    return found


def node_body(form: provider_fields.Form) -> dict[str, Any]:
    """Return an endpoint as the API takes it."""
    return {
        "type": form.get("type", ""),
        "name": form.get("name", "").strip(),
        "prefix": form.get("prefix", "").strip(),
        "baseUrl": form.get("baseUrl", "").strip(),
        "isLocal": provider_fields.is_ticked(form, "isLocal"),
        **provider_fields.cleared(form, "apiType", "chatPath", "modelsPath"),
        "customHeaders": provider_fields.headers(form.get("customHeaders", "")),
    }


def _node_page(form: FormState, trial: Mapping[str, Any] | None = None, status: int = 200) -> Response:
    return page(
        "dashboard/provider_node.html",
        blocks=("trial",),
        form=form,
        trial=trial,
        examples=EXAMPLES,
        node_types=node_types(),
        api_types=[("", _("Chat"))] + [(name, name) for name in API_TYPES[1:]],
        status=status,
    )


def with_header_faults(refused: Refused) -> Refused:
    """Return a refusal whose faults of single headers stand at the field of all."""
    found = {name: text for name, text in refused.faults.items() if name.startswith("customHeaders.")}
    if found:
        said = "; ".join(f"{name.partition('.')[2]}: {text}" for name, text in found.items())
        refused.faults = {**refused.faults, "customHeaders": said}
    return refused


def node_types() -> list[tuple[str, str]]:
    """Return the kinds of endpoint with their names."""
    names = (_("OpenAI-compatible"), _("Anthropic-compatible"), _("Gemini-compatible"), _("Ollama"))
    return list(zip(NODE_TYPES, names, strict=True))

"""One connection: its key, limits and proxy; and the removal of connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import request, url_for
from flask_babel import gettext as _
from flask_babel import ngettext
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, provider_fields, provider_states, quota_words
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, failed, page

_CUTOFF: Final = "cutoff."
_LIMITS: Final = ("requestsPerMinute", "minTimeBetweenRequestsMs", "concurrentRequests")
_MOST_REMOVED: Final = 50


@blueprint.get("/dashboard/providers/<provider>/connections/<connection_id>")
def connection(provider: str, connection_id: str) -> Response:
    """Show a connection and what can be changed about it."""
    row = provider_states.find(provider)
    found = api.get(f"/api/providers/{api.segment(connection_id)}")["connection"]
    return _connection_page(row, found, FormState(_values(found)))


@blueprint.post("/dashboard/providers/<provider>/connections/<connection_id>")
def change_connection(provider: str, connection_id: str) -> Response:
    """Change a connection; an empty key leaves the stored one."""
    row, form, path = provider_states.find(provider), request.form, f"/api/providers/{api.segment(connection_id)}"
    try:
        made = api.patch(path, _body(row, form))["connection"]
    except Refused as refused:
        found = api.get(path)["connection"]
        names = {f"quotaCutoffs.{name}": _CUTOFF + name for name in found["quotaCutoffs"]}
        names |= {f"quotaCutoffs.{field.removeprefix(_CUTOFF)}": field for field in form if field.startswith(_CUTOFF)}
        typed = FormState.typed(form, refused, names | provider_fields.spelt(provider_fields.data_names(row)))
        return _connection_page(row, found, typed, status=400)
    return done(_("%(name)s is saved.", name=made["name"]), url_for("dashboard.provider", provider=row["id"]))


@blueprint.post("/dashboard/providers/<provider>/connections/<connection_id>/reset")
def reset_connection(provider: str, connection_id: str) -> Response:
    """Forget errors and rests of a connection."""
    back = url_for("dashboard.connection", provider=provider, connection_id=connection_id)
    try:
        api.post(f"/api/providers/{api.segment(connection_id)}/reset")
    except Refused as refused:
        return failed(refused, back)
    return done(_("Errors and rests are forgotten."), back)


@blueprint.get("/dashboard/providers/<provider>/remove")
def remove_connections(provider: str) -> Response:
    """Ask whether connections are to be removed, and name the combos that they are part of."""
    row = provider_states.find(provider)
    ids = request.args.getlist("ids")[:_MOST_REMOVED]
    rows = [api.get(f"/api/providers/{api.segment(one)}")["connection"] for one in ids]
    combos = api.get("/api/combos", connection=",".join(ids), limit=200)["combos"] if ids else []
    return page("dashboard/provider_remove.html", provider=row, rows=rows, combos=combos)


@blueprint.post("/dashboard/providers/<provider>/remove")
def delete_connections(provider: str) -> Response:
    """Remove connections and their keys, and name the combos that have lost a target."""
    row = provider_states.find(provider)
    back = url_for("dashboard.provider", provider=row["id"])
    try:
        gone = api.delete("/api/providers", {"ids": request.form.getlist("ids")})
    except Refused as refused:
        return failed(refused, back)
    said = ngettext("%(num)s connection is removed.", "%(num)s connections are removed.", gone["deleted"])
    combos = gone["affectedCombos"]
    if not combos:
        return done(said, back)
    names = ", ".join(combos)
    return done(_("%(said)s These combos have lost a target: %(names)s", said=said, names=names), back, "warning")


def _body(row: Mapping[str, Any], form: provider_fields.Form) -> dict[str, Any]:
    cutoffs = {
        field.removeprefix(_CUTOFF): provider_fields.decimal(value)
        for field, value in form.items()
        if field.startswith(_CUTOFF)
    }
    priority = provider_fields.number(form.get("priority", ""))
    data = provider_fields.provider_data(form, provider_fields.data_names(row), clears=True)
    return {
        **provider_fields.filled(form, "name", "apiKey"),
        **provider_fields.cleared(form, "group", "defaultModel"),
        **{name: provider_fields.number(form.get(name, "")) for name in _LIMITS},
        **({"priority": priority} if priority is not None else {}),
        **({"providerData": data} if data else {}),
        **({"quotaCutoffs": cutoffs} if cutoffs else {}),
        "isActive": provider_fields.is_ticked(form, "isActive"),
        "proxyEnabled": provider_fields.is_ticked(form, "proxyEnabled"),
    }


def _values(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a connection as its form shows it."""
    return {
        **{name: found[name] for name in ("name", "group", "defaultModel", "priority", *_LIMITS)},
        "isActive": found["isActive"],
        "proxyEnabled": found["proxyEnabled"],
        **{f"data.{name}": value for name, value in found["providerData"].items()},
        **{_CUTOFF + name: f"{value:g}" for name, value in found["quotaCutoffs"].items()},
    }


def _connection_page(row: Mapping[str, Any], found: Mapping[str, Any], form: FormState, status: int = 200) -> Response:
    quotas = api.get("/api/usage/quota", provider=row["id"])["quotas"]
    windows = [w for one in quotas if one["connectionId"] == found["id"] for w in one["windows"]]
    titles = {name: name for name in found["quotaCutoffs"]} | {one["name"]: quota_words.title(one) for one in windows}
    proxy = api.get("/api/settings/proxy", resolve=found["id"])["effective"]
    return page(
        "dashboard/provider_connection.html",
        provider=row,
        connection=found,
        form=form,
        windows=windows,
        cutoffs=[(_CUTOFF + name, title) for name, title in titles.items()],
        proxy=proxy,
        fields=[
            (name, next((one["default"] for one in row["parameters"] if one["name"] == name), None))
            for name in provider_fields.data_names(row)
        ],
        takes_key="apikey" in row["authKinds"],
        status=status,
    )

"""One provider: its connections, tested, switched, put in order; and how one of them is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import request, url_for
from flask_babel import gettext as _
from flask_babel import ngettext
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, provider_fields, provider_models, provider_states
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.provider_tabs import shown
from omniroute.blueprints.dashboard.rendering import done, failed, go
from omniroute.blueprints.dashboard.setup import with_query


@blueprint.get("/dashboard/providers/<provider>")
def provider(provider: str) -> Response:
    """Show one tab of a provider."""
    return shown(provider_states.find(provider))


@blueprint.post("/dashboard/providers/<provider>")
def act_on_provider(provider: str) -> Response:
    """Do something with connections or models of a provider: with one, or with those that are ticked.

    `do` is an action, with an id after a colon where it is about one. Without it the order of the connections is stored
    as it was sent.
    """
    row = provider_states.find(provider)
    if request.args.get("tab") == "models":
        return provider_models.act(row)
    return _act_on_connections(row)


def _act_on_connections(row: Mapping[str, Any]) -> Response:
    form, back = request.form, with_query()
    action, _colon, one = form.get("do", "").partition(":")
    ids = [one] if one else form.getlist("ids")
    if action not in ("", "up", "down") and not ids:
        return done(_("Choose at least one connection."), back, "warning")
    try:
        return _acted(row, action, ids, back)
    except Refused as refused:
        return failed(refused, back)


def _acted(row: Mapping[str, Any], action: str, ids: list[str], back: str) -> Response:
    match action:
        case "test" if len(ids) == 1:
            return _tested(row, ids[0], back)
        case "test":
            job = api.post("/api/providers/test-batch", {"ids": ids})
            return go(url_for("dashboard.provider_job", job_id=job["jobId"], provider=row["id"]))
        case "enable" | "disable":
            count = api.patch("/api/providers", {"ids": ids, "isActive": action == "enable"})["updated"]
            if _wants_rows():
                return shown(row)
            return done(_switched(count, is_on=action == "enable"), back)
        case "reset":
            for connection_id in ids:
                api.post(f"/api/providers/{api.segment(connection_id)}/reset")
            if _wants_rows():
                return shown(row)
            return done(_("Errors and rests are forgotten."), back)
        case "delete":
            return go(url_for("dashboard.remove_connections", provider=row["id"], ids=ids))
        case _:
            return _reordered(row, action, ids, back)


def _wants_rows() -> bool:
    return request.headers.get("HX-Target") == "rows"


def _switched(count: int, *, is_on: bool) -> str:
    if is_on:
        return ngettext("%(num)s connection is switched on.", "%(num)s connections are switched on.", count)
    return ngettext("%(num)s connection is switched off.", "%(num)s connections are switched off.", count)


def _tested(row: Mapping[str, Any], connection_id: str, back: str) -> Response:
    found = api.post(f"/api/providers/{api.segment(connection_id)}/test")
    if _wants_rows():
        return shown(row, result={"id": connection_id, **found})
    if found["valid"]:
        return done(_("It works. Model %(model)s answered.", model=found["model"]), back)
    return done(_("It does not work: %(reason)s", reason=found.get("diagnosis") or found["error"]), back, "danger")


def _reordered(row: Mapping[str, Any], action: str, ids: list[str], back: str) -> Response:
    everything = [one["id"] for one in provider_states.all_of("/api/providers", "connections", provider=row["id"])]
    if action in ("up", "down"):
        order = provider_fields.moved(everything, ids[0], -1 if action == "up" else 1)
    else:
        order = provider_fields.in_order(everything, request.form.getlist("order"))
    api.post("/api/providers/reorder", {"provider": row["id"], "ids": order})
    if request.headers.get("HX-Request") == "true":
        return Response(status=204)
    return done(_("The order is saved."), back)


@blueprint.post("/dashboard/providers/<provider>/strategy")
def choose_strategy(provider: str) -> Response:
    """Say how an account of this provider is chosen."""
    row, form = provider_states.find(provider), request.form
    chosen = {
        "accountStrategy": form.get("accountStrategy") or None,
        "stickyLimit": provider_fields.number(form.get("stickyLimit", "")),
    }
    try:
        api.patch("/api/settings", {"routing": {"providers": {row["id"]: chosen}}})
    except Refused as refused:
        names = {f"routing.providers.{row['id']}.{name}": name for name in chosen}
        names |= {f"providers.{row['id']}.{name}": name for name in chosen}
        return shown(row, tab="connections", form=FormState.typed(form, refused, names), status=400)
    return done(_("The choice of accounts is saved."), url_for("dashboard.provider", provider=row["id"]))

"""Outbound proxies: those that have a name, what they are used for, whether one works, which one a connection uses."""

from __future__ import annotations

from typing import Any, Final

from flask import request
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, named
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, failed
from omniroute.blueprints.dashboard.settings import tabs
from omniroute.blueprints.dashboard.settings.tabs import Forms
from omniroute.container import container
from omniroute.records import ApiKey, Combo, Node

TYPES: Final = (("http", "HTTP"), ("https", "HTTPS"), ("socks5", "SOCKS5"), ("socks5h", "SOCKS5 (it looks names up)"))
LEVELS: Final = (
    ("global", _l("All providers")),
    ("provider", _l("One provider")),
    ("combo", _l("One combo")),
    ("key", _l("One API key")),
)
_PLACES: Final = (("provider", "providers"), ("combo", "combos"), ("key", "keys"))
_MOST: Final = 100
_CONNECTIONS: Final = 200


def context(forms: Forms) -> dict[str, Any]:
    """Return the named proxies, what is bound where, and what comes of it for the connection that is asked about.

    The form is filled with the proxy that is to be edited.
    """
    bound = api.get("/api/settings/proxy")
    proxies = api.get("/api/settings/proxies", limit=_MOST)["proxies"]
    row = next((one for one in proxies if one["id"] == request.args.get("edit")), None)
    if row is not None and "proxies" not in forms:
        forms["proxies"] = FormState.of({**row, "isActive": "true" if row["isActive"] else "false"})
    return {
        "proxies": proxies,
        "proxy_options": [(proxy["id"], proxy["name"]) for proxy in proxies],
        "proxy_types": TYPES,
        "proxy_levels": LEVELS,
        "proxy_places": _places(bound),
        "proxy_environment": bound["environment"],
        "is_fail_open": bound["failOpen"],
        "connections": api.get("/api/providers", limit=_CONNECTIONS)["connections"],
        "effective": _effective(request.args.get("resolve", "").strip()),
    }


@blueprint.post("/dashboard/settings/proxies")
def change_proxy() -> Response:
    """Store a proxy under a name, change one, or remove it."""
    form, back = request.form, tabs.at("advanced", "proxies")
    proxy_id = form.get("id", "")
    path = f"/api/settings/proxies/{api.segment(proxy_id)}"
    if form.get("action") == "remove":
        try:
            api.delete(path, force="force" in form)
        except Refused as refused:
            return failed(refused, back)
        return done(_("The proxy is removed."), back)
    body: dict[str, Any] = {name: form.get(name, "").strip() for name in ("name", "type", "host", "port")}
    body["username"] = form.get("username", "").strip() or None
    if form.get("password") or not proxy_id or not body["username"]:
        body["password"] = form.get("password") or None
    if "isActive" in form:
        body["isActive"] = form["isActive"] != "false"
    try:
        if proxy_id:
            api.patch(path, body)
        else:
            api.post("/api/settings/proxies", body)
    except Refused as refused:
        return tabs.show("advanced", 400, {"proxies": _without_password(FormState.typed(form, refused))})
    return done(_("The proxy is saved. It is used once something refers to it."), back)


@blueprint.post("/dashboard/settings/proxy-places")
def bind_proxy() -> Response:
    """Use a named proxy for all, a provider, a combo or an API key; or use none there."""
    form, back = request.form, tabs.at("advanced", "proxies")
    level, where = form.get("level", ""), form.get("where", "").strip()
    if level == "key":
        where = named.key_id(where) or ""
    try:
        if form.get("action") == "remove":
            api.delete("/api/settings/proxy", level=level, id=where)
            return done(_("Nothing of its own is used there any more."), back)
        if level == "global" and where:  # the API would not look at the name, and whoever typed it means one
            fault = _("Choose what it names; for all providers leave it empty.")
            return tabs.show("advanced", 400, {"proxy-places": FormState(dict(form), {"where": fault}, fault)})
        proxy = {"id": form.get("proxy", "")}
        api.put("/api/settings/proxy", {"level": level, "id": where or None, "proxy": proxy})
    except Refused as refused:
        if form.get("action") == "remove":
            return failed(refused, back)
        state = FormState.typed(form, refused, {"id": "where", "proxy.id": "proxy"})
        return tabs.show("advanced", 400, {"proxy-places": state})
    return done(_("The proxy is in use there."), back)


@blueprint.post("/dashboard/settings/proxy-test")
def test_proxy() -> Response:
    """Try a stored proxy."""
    back = tabs.at("advanced", "proxies")
    try:
        found = api.post("/api/settings/proxy/test", {"proxy": {"id": request.form.get("id", "")}})
    except Refused as refused:
        return failed(refused, back)
    if not found["success"]:
        return done(_("The proxy does not work: %(why)s", why=found["error"]["message"]), back, "danger")
    said = {"ms": round(found["latencyMs"]), "address": found["publicIp"] or "–"}
    return done(_("The proxy works: %(ms)s ms, others see %(address)s.", **said), back)


def _places(bound: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is bound, the widest level first."""
    rows = [{"level": "global", "id": "", "proxy": bound["global"]}] if bound["global"] else []
    for level, name in _PLACES:
        names = _names(level)
        rows += [
            {"level": level, "id": where, "name": names.get(where, where), "proxy": proxy}
            for where, proxy in bound[name].items()
        ]
    return rows


def _names(level: str) -> dict[str, str]:
    snapshot = container().snapshots.current
    named_by_id: dict[str, tuple[Combo | ApiKey | Node, ...]] = {
        "provider": snapshot.nodes,
        "combo": snapshot.combos,
        "key": snapshot.keys,
    }
    return {one.id: one.name for one in named_by_id[level]}


def _effective(connection_id: str) -> dict[str, Any] | None:
    if not connection_id:
        return None
    try:
        found: dict[str, Any] = api.get("/api/settings/proxy", resolve=connection_id)["effective"]
    except Refused as refused:
        return {"refusal": refused.message}
    return found


def _without_password(form: FormState) -> FormState:
    values = {name: value for name, value in form.values.items() if name != "password"}
    return FormState(values, form.faults, form.message, form.code)

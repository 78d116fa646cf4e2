"""Security: who has to log in, who may reach the server by address, who is locked out, which route admits whom."""

from __future__ import annotations

from typing import Any, Final

from flask import request
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, failed
from omniroute.blueprints.dashboard.settings import tabs, values
from omniroute.blueprints.dashboard.settings.tabs import Forms, tab

_FILTER: Final = "/api/settings/ip-filter"
_MODES: Final = (("block", _l("Keep out the addresses of the list")), ("allow", _l("Let in only those of the list")))
_TIERS: Final = {
    "P": _l("Anyone"),
    "C": _l("API keys"),
    "M:r": _l("Read"),
    "M:w": _l("Write"),
    "M:a": _l("Admin"),
    "X": _l("Admin, also while the login is off"),
    "L": _l("Admin on this host"),
    "S": _l("A session, or admin on this host"),
    "T": _l("A ticket"),
    "D": _l("A session"),
}


@tab("security")
def context(forms: Forms) -> dict[str, Any]:
    """Return the filter, the locked addresses and the table of tiers."""
    found = api.get(_FILTER)
    if "addresses" not in forms:
        forms["addresses"] = FormState.of({**found, "list": "\n".join(found["list"])})
    return {
        "login": api.get("/api/settings/require-login"),
        "filter": found,
        "modes": _MODES,
        "locked": api.get("/api/policies")["locked"],
        "network": api.get("/api/network/info"),
        "routes": [
            route for route in api.get("/api/settings/authz")["routes"] if route["path"].startswith(("/api", "/v1"))
        ],
        "tier_names": _TIERS,
    }


@blueprint.post("/dashboard/settings/login")
def switch_login() -> Response:
    """Ask for a login, or let visitors on this host in without one."""
    is_wanted = request.form.get("requireLogin") == "true"
    body = {"requireLogin": is_wanted, "currentPassword": request.form.get("currentPassword", "")}
    try:
        api.post("/api/settings/require-login", body)
    except Refused as refused:
        faults = refused.faults or {"currentPassword": refused.message}
        form = FormState(faults=faults, message=refused.message, code=refused.error_code)
        return tabs.show("security", 400, {"login": form})
    said = _("A login is needed now.") if is_wanted else _("Visitors on this host need no login now.")
    return done(said, tabs.at("security", "login"))


@blueprint.post("/dashboard/settings/addresses")
def save_addresses() -> Response:
    """Change who may reach the server, by address."""
    body: dict[str, Any] = {
        "enabled": "enabled" in request.form,
        "mode": request.form.get("mode", ""),
        "list": request.form.get("list", "").split(),
    }
    if "force" in request.form:
        body["force"] = True
    try:
        api.put(_FILTER, body)
    except Refused as refused:
        return tabs.show("security", 400, {"addresses": _refused(refused, "list")})
    return done(_("The filter is saved."), tabs.at("security", "addresses"))


@blueprint.post("/dashboard/settings/bans")
def change_bans() -> Response:
    """Keep an address out for a while, or let it in again."""
    back = tabs.at("security", "addresses")
    bans = [{name: ban[name] for name in ("address", "until", "reason")} for ban in api.get(_FILTER)["tempBans"]]
    gone = request.form.get("remove")
    body: dict[str, Any] = {}
    if gone is not None:
        bans = [ban for ban in bans if ban["address"] != gone]
    else:
        bans.append(
            {
                "address": request.form.get("address", "").strip(),
                "minutes": values.number(request.form.get("minutes", "")),
                "reason": request.form.get("reason", "").strip() or None,
            }
        )
        body = {"force": True} if "force" in request.form else {}
    try:
        api.patch(_FILTER, {**body, "tempBans": bans})
    except Refused as refused:
        if gone is not None:
            return failed(refused, back)
        return tabs.show("security", 400, {"bans": _refused(refused, "address")})
    return done(_("The address is let in again.") if gone is not None else _("The address is kept out."), back)


def _refused(refused: Refused, usual: str) -> FormState:
    """Return the form with the faults at its fields; entries of lists are faults of the field that holds them."""
    typed = FormState.typed(request.form, refused)
    faults: dict[str, str] = {}
    for name, message in typed.faults.items():
        last = name.rpartition(".")[2]
        faults[last if last in request.form else usual] = message
    return FormState(typed.values, faults, typed.message, typed.code)

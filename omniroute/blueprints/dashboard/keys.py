"""API Manager: the keys, and the form of a new one, which is shown once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import request
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, key_form, named
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.home import base_url
from omniroute.blueprints.dashboard.rendering import page

STATES: Final = ("active", "disabled", "expired", "banned")
_PER_PAGE: Final = 50
_SORTED: Final = ("name", "createdAt", "expiresAt", "lastUsedAt")
_FOUND: Final = 10


@blueprint.get("/dashboard/keys")
def keys() -> Response:
    """List the keys."""
    state, scope, text = (request.args.get(name, "") for name in ("state", "scope", "q"))
    sort = request.args.get("sort", "")
    offset = request.args.get("offset", "")
    listed = api.get(
        "/api/keys",
        limit=_PER_PAGE,
        offset=offset if offset.isdecimal() and len(offset) < 7 else None,
        q=text,
        state=state if state in STATES else None,
        scope=scope,
        sort=sort if sort.lstrip("-") in _SORTED else None,
    )
    budgets: dict[str, dict[str, Any]] = {}
    for one in api.get("/api/usage/budget")["budgets"]:
        tightest = budgets.get(one["keyId"])
        if tightest is None or one["percentUsed"] > tightest["percentUsed"]:
            budgets[one["keyId"]] = one
    usage = {one["apiKeyId"]: one for one in api.get("/api/usage/analytics", range="24h")["byKey"]}
    return page(
        "dashboard/keys.html",
        listed=listed,
        budgets=budgets,
        usage=usage,
        states=state_words(),
        kind_of=key_form.kind_of,
        is_filtered=bool(state or scope or text),
        asked={"state": state, "scope": scope, "q": text},
    )


@blueprint.get("/dashboard/keys/new")
def key_new() -> Response:
    """Show the form of a new key."""
    return new_page(FormState({"kind": key_form.INFERENCE}))


@blueprint.post("/dashboard/keys/new")
def key_create() -> Response:
    """Make a key and show it, this once; or do what another button of the form says."""
    values = key_form.typed_values(request.form)
    if request.form.get("do") != "save":
        return new_page(FormState(allowing(values, request.form.get("do", ""))))
    try:
        budgets = key_form.budgets_of(request.form)
    except ValueError as error:
        fault = {str(error): _("must be an amount above 0")}
        return new_page(FormState(values, fault, _("An amount cannot be read.")), 400)
    try:
        made = api.post("/api/keys", key_form.body_of(request.form))
    except Refused as refused:
        return new_page(refused_form(values, refused), 400)
    fault_of_budget = _set_budgets(made["id"], budgets)
    return page(
        "dashboard/key_made.html",
        key=made,
        secret=made["key"],
        base_url=base_url(),
        fault_of_budget=fault_of_budget,
        status=201,
    )


def new_page(form: FormState, status: int = 200) -> Response:
    """Return the form of a new key."""
    return page("dashboard/key_new.html", blocks=("key_editor",), form=form, status=status, **parts(form))


def parts(form: FormState) -> dict[str, Any]:
    """Return what the fields of a key need beside their values."""
    return {
        "endpoints": key_form.endpoints(),
        "connections": named.connections(),
        "days": key_form.days(),
        "found": _found(str(form.value("find"))),
        "is_more_open": any(form.fault(name) for name in key_form.OF_MORE),
    }


def refused_form(values: Mapping[str, Any], refused: Refused) -> FormState:
    """Return the form as it was typed, with what is wrong with it."""
    faults: dict[str, str] = {}
    for name, text in refused.faults.items():
        field = key_form.FAULT_FIELDS.get(name) or key_form.FAULT_FIELDS.get(name.split("[")[0].split(".")[0], name)
        faults[field] = text
    return FormState(values, faults, refused.message, refused.error_code)


def allowing(values: Mapping[str, Any], action: str) -> dict[str, Any]:
    """Return the values of a form after a button added an entry to the models or combos that a key may use."""
    verb, _colon, entry = action.partition(":")
    field = {"allow-model": "allowedModels", "allow-combo": "allowedCombos"}.get(verb)
    if field is None or not entry:
        return dict(values)
    entries = [*str(values.get(field, "")).splitlines(), entry]
    return {**values, field: "\n".join(dict.fromkeys(line.strip() for line in entries if line.strip()))}


def state_words() -> dict[str, tuple[str, str]]:
    """Return the states of keys: their words, and the kind of their badge."""
    return {
        "active": (_("active"), "good"),
        "disabled": (_("disabled"), "off"),
        "expired": (_("expired"), "warn"),
        "banned": (_("banned"), "bad"),
    }


def _found(text: str) -> dict[str, Any] | None:
    """Return the models, families and combos that a search finds; None without one."""
    wanted = text.strip()[:100]
    if not wanted:
        return None
    models = api.get("/api/models", q=wanted, active=True, limit=_FOUND)
    combos = api.get("/api/combos", q=wanted, limit=5)["combos"]
    prefixes = dict.fromkeys(one["id"].partition("/")[0] for one in models["models"])
    families = [f"{prefix}/*" for prefix in prefixes]
    return {"models": models["models"], "total": models["total"], "combos": combos, "families": families}


def _set_budgets(key_id: str, budgets: Mapping[str, float]) -> str:
    """Give a new key its budgets; return what is wrong with them, where something is."""
    if not budgets:
        return ""
    try:
        api.post("/api/usage/budget", {"keyId": key_id, **budgets})
    except Refused as refused:
        return refused.message
    return ""

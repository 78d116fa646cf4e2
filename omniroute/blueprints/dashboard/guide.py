"""The set-up guide: password, provider, combo, key, client, each a form that can be skipped.

From the first start to a client that works: the last step waits for the client's first request and says that it came.
"""

from __future__ import annotations

from typing import Any, Final

from flask import request, url_for
from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.home import base_url
from omniroute.blueprints.dashboard.rendering import done, page

STEPS: Final[tuple[tuple[str, LazyString], ...]] = (
    ("password", _l("Password")),
    ("provider", _l("Provider")),
    ("combo", _l("Combo")),
    ("client", _l("Key and client")),
)
_SANDBOX: Final = "sandbox"
_FEW: Final = 3
_MOST_PROVIDERS: Final = 12
_MOST_MODELS: Final = 40
_MOST_SUGGESTED: Final = 4
_COMMON: Final = (
    *("openai", "anthropic", "gemini", "openrouter", "deepseek", "groq"),
    *("mistral", "xai", "together", "fireworks", "ollama", "cerebras"),
)
"""What is offered before anything is searched for."""


@blueprint.get("/dashboard/setup")
def setup() -> Response:
    """Show a step of the guide: the one that is asked for, or the first that is not done."""
    step = request.args.get("step", "")
    if step not in dict(STEPS):
        step = _first_open()
    return _step(step, FormState())


@blueprint.post("/dashboard/setup/password")
def setup_password() -> Response:
    """Choose a password in place of the one of the first start."""
    body = {name: request.form.get(name, "") for name in ("currentPassword", "newPassword")}
    try:
        api.post("/api/auth/password", body)
    except Refused as refused:
        return _step(
            "password", FormState(faults=refused.faults, message=refused.message, code=refused.error_code), 400
        )
    return done(_("The password is changed."), url_for("dashboard.setup", step="provider"))


@blueprint.post("/dashboard/setup/provider")
def setup_provider() -> Response:
    """Connect a provider after its key has been tried."""
    form = request.form
    body: dict[str, Any] = {"provider": form.get("provider", ""), "testFirst": "testFirst" in form}
    if form.get("apiKey"):
        body["apiKey"] = form["apiKey"].strip()
    try:
        made = api.post("/api/providers", body)["connection"]
    except Refused as refused:
        return _step("provider", FormState.typed(form, refused), 400)
    name = made["providerName"] or made["provider"]
    return done(_("%(name)s is connected.", name=name), url_for("dashboard.setup", step="combo"))


@blueprint.post("/dashboard/setup/combo")
def setup_combo() -> Response:
    """Make the first combo of the chosen models, and the default one."""
    models = [name for name in request.form.getlist("models") if name]
    body = {"name": request.form.get("name", "").strip(), "models": models, "strategy": "priority"}
    try:
        made = api.post("/api/combos", body)
        api.put("/api/combos/default", {"id": made["id"]})
    except Refused as refused:
        return _step("combo", FormState.typed(request.form, refused), 400)
    return done(
        _("The combo “%(name)s” answers from now on.", name=made["name"]), url_for("dashboard.setup", step="client")
    )


@blueprint.post("/dashboard/setup/client")
def setup_client() -> Response:
    """Create a key and show it this once, with the lines of the chosen tool and a look-out for its first request."""
    try:
        path = f"/api/cli-tools/{api.segment(request.form.get('tool', ''))}/snippet"
        lines = api.get(path, model=request.form.get("model"), baseUrl=base_url())
        issued = api.post("/api/keys", {"name": request.form.get("name", "").strip()})
    except Refused as refused:
        return _step("client", FormState.typed(request.form, refused), 400)
    return page(
        "dashboard/guide_key.html",
        status=201,
        steps=STEPS,
        step="client",
        issued=issued,
        lines=lines,
        commands=[line for line in lines["commands"] if not line.startswith(f"export {lines['keyVariable']}=")],
        base_url=base_url(),
        first=None,
    )


@blueprint.get("/dashboard/setup/first/<key_id>")
def first_request(key_id: str) -> Response:
    """Say whether the key has been used: the block that waits for the first request."""
    rows = api.get("/api/usage/logs", apiKeyId=key_id, limit=1)["logs"]
    first = rows[0] if rows else None
    return page("dashboard/guide_first.html", blocks=("first",), key_id=key_id, first=first)


def _first_open() -> str:
    if not any(row["provider"] != _SANDBOX for row in api.get("/api/providers", limit=_FEW)["connections"]):
        return "password" if "step" in request.args else "provider"
    return "combo" if not api.get("/api/combos", limit=1)["total"] else "client"


def _step(step: str, form: FormState, status: int = 200) -> Response:
    return page(f"dashboard/guide_{step}.html", status=status, steps=STEPS, step=step, form=form, **_of(step))


def _of(step: str) -> dict[str, Any]:
    """Return what a step shows beside its form."""
    if step == "provider":
        return _providers(request.values.get("q", "").strip())
    if step == "combo":
        models = _models()
        return {"models": models, "suggested": _suggested(models)}
    if step == "client":
        tools = api.get("/api/cli-tools")["tools"]
        combos = api.get("/api/combos", limit=_MOST_MODELS)["combos"]
        return {"tools": tools, "combos": combos, "models": _models(), "base_url": base_url()}
    return {}


def _providers(wanted: str) -> dict[str, Any]:
    found = [one for one in api.get("/api/providers/available")["providers"] if _can_be_connected(one)]
    plain = wanted.casefold()
    if wanted:
        shown = [one for one in found if plain in f"{one['id']} {one['name']} {' '.join(one['aliases'])}".casefold()]
    else:
        by_id = {one["id"]: one for one in found}
        shown = [by_id[name] for name in _COMMON if name in by_id]
    chosen = request.values.get("provider")
    if chosen and all(one["id"] != chosen for one in shown):
        shown += [one for one in found if one["id"] == chosen]
    return {"providers": shown[:_MOST_PROVIDERS], "total": len(found), "matching": len(shown), "wanted": wanted}


def _can_be_connected(provider: dict[str, Any]) -> bool:
    """Say whether a key alone connects a provider; the others have their forms on the page of providers."""
    takes_key = not {"apikey", "none"}.isdisjoint(provider["authKinds"])
    is_plain = "chat" in provider["services"] and not any(one["default"] is None for one in provider["parameters"])
    return takes_key and is_plain and provider["status"] != "discontinued" and provider["id"] != _SANDBOX


def _models() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("/api/models", active=True, type="chat", limit=200)["models"]
    own = [one for one in found if one["provider"] != _SANDBOX]
    return (own or found)[:_MOST_MODELS]


def _suggested(models: list[dict[str, Any]]) -> list[str]:
    """Return one model of each provider that is connected, that with the widest window."""
    best: dict[str, dict[str, Any]] = {}
    for one in models:
        if (one["contextLength"] or 0) > (best.get(one["provider"], {}).get("contextLength") or -1):
            best[one["provider"]] = one
    return [one["id"] for one in best.values()][:_MOST_SUGGESTED]

"""Routing: the order of accounts, rules for single providers, defaults of combos, and which rule matches a name."""

from __future__ import annotations

from typing import Any, Final

from flask import request
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, combo_settings, combo_words, named
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done
from omniroute.blueprints.dashboard.settings import routing_rules, tabs, values
from omniroute.blueprints.dashboard.settings.tabs import Forms, tab
from omniroute.routing.options import Strategy

STRATEGIES: Final = (
    ("fill-first", _l("Fill first: the same account until it rests")),
    ("round-robin", _l("Round robin: in turn")),
    ("p2c", _l("Better of two, chosen by chance")),
    ("random", _l("By chance")),
    ("least-used", _l("Least used first")),
    ("cost-optimized", _l("Cheapest first")),
    ("expiring-first", _l("What lapses first: quota that is about to be reset")),
)
AMBIGUOUS: Final = (
    ("order", _l("Ask the first provider in the order of the list")),
    ("refuse", _l("Refuse the request and name the providers")),
)
_PLAIN: Final = ("accountStrategy", "ambiguousModelPolicy")
_NUMBERS: Final = ("stickyLimit", "sessionAffinityTtlMs")
_SHOWN_STEPS: Final = 12


@tab("routing")
def context(forms: Forms) -> dict[str, Any]:
    """Return what holds for routing as a whole, the rules for names, and what came of a test."""
    routing = api.get("/api/settings")["settings"]["routing"]
    defaults = api.get("/api/settings/combo-defaults")
    if "accounts" not in forms:
        forms["accounts"] = FormState.of(routing)
    if "combo-defaults" not in forms:
        shown = combo_settings.fields_of(defaults["config"])
        forms["combo-defaults"] = FormState.of({"strategy": defaults["strategy"], **shown})
    return {
        "routing": routing,
        "strategies": STRATEGIES,
        "ambiguous": AMBIGUOUS,
        "combo_strategies": [(one.value, combo_words.STRATEGIES[one.value].label) for one in Strategy],
        "combo_sections": combo_settings.SECTIONS,
        "combo_builtin": combo_settings.defaults_for("", {}),
        "pairs": lambda options: [(one, one) for one in options],
        "provider_names": named.provider_names(),
        "reason_words": combo_words.reason_words,
        "tested": _tested(request.args.get("model", "").strip()),
        **routing_rules.context(forms),
    }


@blueprint.post("/dashboard/settings/accounts")
def save_accounts() -> Response:
    """Choose how accounts of a provider take turns, and what sessions keep."""
    form = request.form
    body: dict[str, Any] = {name: form.get(name) or None for name in _PLAIN}
    body |= {name: values.number(form.get(name, "")) for name in _NUMBERS}
    body["cacheAffinity"] = "cacheAffinity" in form
    body["switchMargin"] = values.decimal(form.get("switchMargin", ""))
    try:
        api.patch("/api/settings", {"routing": body})
    except Refused as refused:
        names = {f"routing.{name}": name for name in body}
        return tabs.show("routing", 400, {"accounts": FormState.typed(form, refused, names)})
    return done(_("The order of accounts is saved."), tabs.at("routing", "accounts"))


@blueprint.post("/dashboard/settings/provider-rules")
def save_provider_rule() -> Response:
    """Choose a rule for one provider, or take it away."""
    form = request.form
    name = form.get("provider", "").strip()
    rule: dict[str, Any] | None = None
    if form.get("action") != "remove":
        rule = {
            "accountStrategy": form.get("strategy") or None,
            "stickyLimit": values.number(form.get("limit", "")),
            "blocked": "blocked" in form,
        }
    try:
        api.patch("/api/settings", {"routing": {"providers": {name: rule}}})
    except Refused as refused:
        start = f"routing.providers.{name[:64]}"
        names = {start: "provider", f"{start}.accountStrategy": "strategy", f"{start}.stickyLimit": "limit"}
        short = {key.removeprefix("routing."): field for key, field in names.items()}
        state = FormState.typed(form, refused, {**names, **short})
        return tabs.show("routing", 400, {"provider-rules": state})
    said = _("The provider follows the rule for all again.") if rule is None else _("The rule is saved.")
    return done(said, tabs.at("routing", "provider-rules"))


@blueprint.post("/dashboard/settings/combo-defaults")
def save_combo_defaults() -> Response:
    """Choose what combos have unless they say otherwise."""
    body = {"strategy": request.form.get("strategy") or None, "config": combo_settings.config_of(request.form)}
    try:
        api.put("/api/settings/combo-defaults", body)
    except Refused as refused:
        form = FormState.typed(request.form, refused, combo_settings.FAULT_FIELDS)
        return tabs.show("routing", 400, {"combo-defaults": form})
    return done(_("The defaults of combos are saved."), tabs.at("routing", "combo-defaults"))


def _tested(model: str) -> dict[str, Any] | None:
    """Return how a request for a model would be routed now; None where none is asked for."""
    if not model:
        return None
    try:
        found: dict[str, Any] = api.post("/api/routing/simulate", {"model": model})
    except Refused as refused:
        return {"model": model, "refusal": refused.message}
    words = combo_words.STRATEGIES.get(found["resolved"]["strategy"])
    return {
        "model": model,
        **found,
        "path": found["path"][:_SHOWN_STEPS],
        "steps": len(found["path"]),
        "strategy": str(words.label) if words is not None else "",
    }

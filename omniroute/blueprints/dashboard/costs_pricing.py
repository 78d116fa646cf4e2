"""Costs, tab Pricing: what models cost, and prices of the operator's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from flask import request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints import guard
from omniroute.blueprints.dashboard import api, named
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, failed, page

FIELDS: Final = ("input", "output", "cached", "cacheWrite", "reasoning")
PAGE: Final = 50
UNITS: Final = ("1M", "1K")
_SOURCES: Final = ("override", "provider", "import", "builtin")
_UNPRICED: Final = "unpriced"


@blueprint.post("/dashboard/costs/pricing")
def set_price() -> Response:
    """Set the prices of one model that differ from those in force."""
    form = request.form
    provider, model, unit = form.get("provider", "").strip(), form.get("model", "").strip(), _unit(form.get("unit"))
    try:
        changed = _changed(form, _in_force(provider, model, unit))
        if changed:
            api.put("/api/pricing", {"unit": unit, provider: {model: changed}})
    except Refused as refused:
        return pricing_page(_refused(refused, f"{provider}.{model}."), status=400)
    message = _("The price of %(model)s is set.", model=model) if changed else _("Nothing was changed.")
    return done(message, _back())


@blueprint.post("/dashboard/costs/pricing/reset")
def reset_price() -> Response:
    """Drop the operator's price of a model."""
    model = request.form.get("model", "")
    try:
        api.delete("/api/pricing", provider=request.form.get("provider", ""), model=model)
    except Refused as refused:
        return failed(refused, _back())
    return done(_("Your price of %(model)s is dropped.", model=model), _back())


@blueprint.post("/dashboard/costs/pricing/import")
def import_prices() -> Response:
    """Import a list of prices, or show what an import would change."""
    is_dry_run = request.form.get("dryRun") == "true"
    body = {"dryRun": is_dry_run, **({"source": request.form["source"]} if request.form.get("source") else {})}
    try:
        found = api.post("/api/pricing/sync", body)
    except Refused as refused:
        return failed(refused, _back())
    if is_dry_run:
        return pricing_page(FormState(), preview=found)
    message = _(
        "Imported %(count)s prices; %(changed)s changed.", count=found["imported"], changed=len(found["changed"])
    )
    return done(message, _back())


def pricing_page(form: FormState, *, preview: Mapping[str, Any] | None = None, status: int = 200) -> Response:
    """Return the tab, with the form of one row as it stands; `preview` is what an import would change."""
    address = _back() if request.method == "POST" else ""
    args = dict(parse_qsl(urlsplit(address).query)) if address else request.args.to_dict()
    unit, offset = _unit(request.form.get("unit") or args.get("unit")), _offset(args.get("offset", ""))
    filters = {name: args.get(name, "").strip() for name in ("q", "provider", "source")}
    fault = ""
    try:
        prices = api.get("/api/pricing", limit=PAGE, offset=offset, unit=unit, sort=args.get("sort"), **_query(filters))
    except Refused as refused:
        prices, fault, status = {"prices": [], "total": 0}, refused.message, 400
    edited = (
        (form.value("provider"), form.value("model")) if form.values else (args.get("of", ""), args.get("edit", ""))
    )
    return page(
        "dashboard/costs_pricing.html",
        shown_at=address,
        tab="pricing",
        form=form,
        edited=edited,
        edited_alone=_alone(edited, prices["prices"], unit),
        filters=filters,
        fault=fault,
        unit=unit,
        prices=prices["prices"],
        total=prices["total"],
        offset=offset,
        limit=PAGE,
        imports=api.get("/api/pricing/sync"),
        preview=preview,
        providers=named.provider_names,
        number=shown,
        status=status,
    )


def _query(filters: Mapping[str, str]) -> dict[str, Any]:
    query: dict[str, Any] = {"q": filters["q"], "provider": filters["provider"]}
    if filters["source"] == _UNPRICED:
        return query | {"unpriced": True}
    return query | ({"source": filters["source"]} if filters["source"] in _SOURCES else {})


def _alone(edited: tuple[str, str], shown: list[dict[str, Any]], unit: str) -> dict[str, Any] | None:
    """Return the row that is edited, where it is not among those that are shown."""
    if not edited[1] or any((row["provider"], row["model"]) == edited for row in shown):
        return None
    nothing: dict[str, Any] = dict.fromkeys(FIELDS)
    return _in_force(*edited, unit) or {"provider": edited[0], "model": edited[1], "source": None} | nothing


def _in_force(provider: str, model: str, unit: str) -> dict[str, Any]:
    """Return the price of a model that is in force; empty where it has none."""
    try:
        found = api.get("/api/pricing", provider=provider, model=model, unit=unit, limit=1)["prices"]
    except Refused:  # the change itself will say what is wrong
        return {}
    return dict(found[0]) if found else {}


def _changed(form: Mapping[str, str], now: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the prices that differ from those in force; None for one that is taken back."""
    changed: dict[str, str | None] = {}
    for name in FIELDS:
        typed = form.get(name, "").strip()
        if typed != shown(now.get(name)):
            changed[name] = typed or None
    return changed


def shown(price: float | None) -> str:
    """Return a price as a field shows it: never in powers of ten."""
    return "" if price is None else f"{price:.9f}".rstrip("0").rstrip(".")


def _refused(refused: Refused, prefix: str) -> FormState:
    faults = {name.removeprefix(prefix): message for name, message in refused.faults.items()}
    return FormState(request.form.to_dict(), faults, refused.message, refused.error_code)


def _back() -> str:
    """Return the list that the form came from."""
    return guard.safe_next(request.form.get("next"), url_for("dashboard.costs", tab="pricing"))


def _unit(text: str | None) -> str:
    return text if text in UNITS else UNITS[0]


def _offset(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 0

"""Costs, tab Budget: what callers may spend by day, week and month."""

from __future__ import annotations

from typing import Any, Final

from flask import request, session, url_for
from flask_babel import gettext as _
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, named
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, failed, go, page

EVERYBODY: Final = "*"
KEYLESS: Final = "local"
PERIODS: Final = ("daily", "weekly", "monthly")
_REMOVED: Final = "removed_budget"
"""Under which name the session keeps the budget that was removed last, until a page has offered to set it again."""
_FIELDS: Final = {"keyId": "key", "warningThreshold": "warning"}


@blueprint.post("/dashboard/costs/budgets")
def set_budget() -> Response:
    """Set the budget of a caller for a period, in place of the one before."""
    form = request.form
    try:
        budget = api.post("/api/usage/budget", _body(form))["budgets"]
    except Refused as refused:
        return budget_page(FormState.typed(form, refused, names=_FIELDS), 400)
    name = next((one["keyName"] for one in budget), form.get("key", ""))
    return done(_("The budget of %(name)s is set.", name=_named(name)), url_for("dashboard.costs", tab="budget"))


@blueprint.post("/dashboard/costs/budgets/remove")
def remove_budget() -> Response:
    """Remove the budget of a caller for a period; the next page offers to set it again."""
    key_id, period = request.form.get("keyId", ""), request.form.get("period", "")
    back = url_for("dashboard.costs", tab="budget")
    try:
        before = api.get("/api/usage/budget", keyId=key_id)["budgets"]
        api.delete("/api/usage/budget", keyId=key_id, period=period)
    except Refused as refused:
        return failed(refused, back)
    session[_REMOVED] = next((one for one in before if one["period"] == period), None)
    return go(back)


def budget_page(form: FormState, status: int = 200) -> Response:
    """Return the tab, with a form as it stands."""
    edited = request.args.get("edit", "")
    budgets = api.get("/api/usage/budget")["budgets"]
    chosen = next((one for one in budgets if edited == f"{one['keyId']} {one['period']}"), None)
    return page(
        "dashboard/costs_budget.html",
        tab="budget",
        form=_of(chosen) if chosen is not None and not form.values else form,
        edited=chosen,
        budgets=sorted(budgets, key=lambda one: (one["keyId"] not in (EVERYBODY, KEYLESS), -one["percentUsed"])),
        removed=session.pop(_REMOVED, None),
        keys=named.key_names,
        status=status,
    )


def _of(budget: dict[str, Any]) -> FormState:
    is_one_key = budget["keyId"] not in (EVERYBODY, KEYLESS)
    return FormState.of(
        {
            "who": "key" if is_one_key else budget["keyId"],
            "key": budget["keyName"] if is_one_key else "",
            "period": budget["period"],
            "limit": f"{budget['limit']:.9f}".rstrip("0").rstrip("."),
            "warning": f"{budget['warningThreshold'] * 100:g}",
            "resetTime": budget["resetTime"],
            "timeZone": budget["timeZone"],
        }
    )


def _body(form: MultiDict[str, str]) -> dict[str, Any]:
    who = form.get("who", "key")
    body: dict[str, Any] = {
        "keyId": named.key_id(form.get("key", "")) or "" if who == "key" else who,
        "period": form.get("period", ""),
        "limit": _number(form.get("limit", "")),
    }
    if form.get("warning", "").strip():
        share = _number(form["warning"])
        body["warningThreshold"] = round(share / 100, 6) if isinstance(share, float) else share
    for name in ("resetTime", "timeZone"):
        if form.get(name, "").strip():
            body[name] = form[name].strip()
    return body


def _number(text: str) -> float | str:
    """Return a number, or the text as it is: the API says what is wrong with it."""
    try:
        return float(text.strip())
    except ValueError:
        return text


def _named(name: str) -> str:
    return {"all callers": _("all callers together"), "local": _("callers without a key")}.get(name, name)

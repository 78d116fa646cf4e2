"""Combos: the list in its order, what can be done with each, and ready-made ones to begin with."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from flask import request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.combo_templates import TEMPLATES, made, template
from omniroute.blueprints.dashboard.combo_words import STRATEGIES, kind_of, reason_words
from omniroute.blueprints.dashboard.rendering import done, failed, page
from omniroute.container import container

_PER_PAGE: Final = 25
_COPIED: Final = (
    "description",
    "strategy",
    "models",
    "config",
    "isActive",
    "context_length",
    "allowedProviders",
    "allowedModelFamilies",
)


@blueprint.get("/dashboard/combos")
def combos() -> Response:
    """List the combos in their order."""
    asked = {"q": request.args.get("q"), "strategy": _strategy(), "limit": _PER_PAGE}
    listed = api.get("/api/combos", targets=True, offset=_offset(), **asked)
    usage = {one["comboId"]: one for one in api.get("/api/usage/analytics", range="24h")["byCombo"]}
    return page(
        "dashboard/combos.html",
        blocks=("combo_rows",),
        listed=listed,
        usage=usage,
        strategies=STRATEGIES,
        is_filtered=bool(asked["q"] or asked["strategy"]),
        templates=TEMPLATES,
        reason_words=reason_words,
        kind_of=kind_of,
    )


@blueprint.post("/dashboard/combos/reorder")
def reorder_combos() -> Response:
    """Give the combos the order of the list that was sent, with one moved up or down where a button says so."""
    ids = _before(request.form.get("after", "")) + request.form.getlist("comboId")
    direction, _colon, moved = request.form.get("move", "").partition(":")
    if moved in ids:
        at = ids.index(moved)
        to = at + (-1 if direction == "up" else 1)
        if to == len(ids):  # the next one is on the page that follows
            ids += [one["id"] for one in api.get("/api/combos", limit=1, offset=to)["combos"]]
        if 0 <= to < len(ids):
            ids[at], ids[to] = ids[to], ids[at]
    back = _back()
    try:
        api.post("/api/combos/reorder", {"comboIds": ids})
    except Refused as refused:
        return failed(refused, back)
    if request.headers.get("HX-Request") == "true":  # the list has the order already, and says so itself
        return Response(status=204)
    return done(_("The order is saved."), back)


@blueprint.post("/dashboard/combos/templates")
def combo_template() -> Response:
    """Make a ready-made combo out of what is connected."""
    chosen = template(request.form.get("template", ""))
    if chosen is None:
        return done(_("There is no such template."), url_for("dashboard.combos"), "danger")
    try:
        combo = made(chosen)
    except Refused as refused:
        return failed(refused, url_for("dashboard.combos"))
    if combo is None:
        if container().snapshots.current.connections:
            text = _("No connected model fits this template. Endpoints of your own count once their models are listed.")
        else:
            text = _("Nothing that is connected fits this template. Connect a provider first.")
        return done(text, url_for("dashboard.combos"), "danger")
    return done(_("The combo %(name)s is made.", name=combo["name"]), _of(combo["id"]))


@blueprint.post("/dashboard/combos/<combo_id>/switch")
def switch_combo(combo_id: str) -> Response:
    """Switch a combo on or off."""
    is_on = request.form.get("isActive") == "true"
    try:
        combo = api.patch(_path(combo_id), {"isActive": is_on})
    except Refused as refused:
        return failed(refused, _back())
    text = _("%(name)s is on.", name=combo["name"]) if is_on else _("%(name)s is off.", name=combo["name"])
    return done(text, _back())


@blueprint.post("/dashboard/combos/<combo_id>/default")
def default_combo(combo_id: str) -> Response:
    """Let a combo serve requests that name no model, or let none."""
    is_wanted = request.form.get("isDefault") == "true"
    try:
        api.put("/api/combos/default", {"id": combo_id if is_wanted else None})
    except Refused as refused:
        return failed(refused, _back())
    text = _("It serves requests that name no model.") if is_wanted else _("Requests must name a model now.")
    return done(text, _back())


@blueprint.post("/dashboard/combos/<combo_id>/duplicate")
def duplicate_combo(combo_id: str) -> Response:
    """Make a copy of a combo and lead to its form."""
    try:
        combo = api.get(_path(combo_id))
        body = {name: combo[name] for name in _COPIED} | {"name": _copy_name(combo["name"])}
        body["models"] = [{name: value for name, value in step.items() if name != "id"} for step in combo["models"]]
        copy = api.post("/api/combos", body)
    except Refused as refused:
        return failed(refused, _back())
    text = _("%(name)s is made as a copy.", name=copy["name"])
    return done(text, url_for("dashboard.combo_edit", combo_id=copy["id"]))


@blueprint.post("/dashboard/combos/<combo_id>/delete")
def delete_combo(combo_id: str) -> Response:
    """Delete a combo; one that others refer to only after a second look at them."""
    is_forced = request.form.get("force") == "true"
    try:
        combo = api.get(_path(combo_id))
    except Refused as refused:
        return failed(refused, url_for("dashboard.combos"))
    try:
        api.call("DELETE", _path(combo_id), query={"force": True} if is_forced else None)
    except Refused as refused:
        if refused.error_code != "in_use":
            return failed(refused, _back())
        users = refused.details.get("usedBy") or []
        return page("dashboard/combo_delete.html", combo=combo, users=users, message=refused.message, status=409)
    return done(_("The combo %(name)s is deleted.", name=combo["name"]), url_for("dashboard.combos"))


def _path(combo_id: str) -> str:
    return f"/api/combos/{api.segment(combo_id)}"


def _of(combo_id: str) -> str:
    return url_for("dashboard.combo", combo_id=combo_id)


def _back() -> str:
    """Return where a form of the list leads back to: the page of the combo where it stood there."""
    of = request.form.get("of", "")
    return _of(of) if of else url_for("dashboard.combos") + _kept()


def _kept() -> str:
    """Return the query of the list in which a form stood."""
    given = ((name, request.form.get(f"kept-{name}", "")) for name in ("q", "strategy", "offset"))
    query = urlencode([(name, value) for name, value in given if value])
    return f"?{query}" if query else ""


def _strategy() -> str | None:
    given = request.args.get("strategy", "")
    return given if given in STRATEGIES else None


def _offset() -> int:
    given = request.args.get("offset", "")
    return int(given) if given.isdecimal() and len(given) < 7 else 0


def _before(offset: str) -> list[str]:
    """Return the ids of the combos on the pages before."""
    count = int(offset) if offset.isdecimal() and len(offset) < 5 else 0
    ids: list[str] = []
    while len(ids) < count:
        found = api.get("/api/combos", limit=min(200, count - len(ids)), offset=len(ids))["combos"]
        if not found:
            break
        ids += [one["id"] for one in found]
    return ids


def _copy_name(name: str) -> str:
    taken: set[Any] = {one["name"] for one in api.get("/api/combos", q=name[:80], limit=200)["combos"]}
    base = name[:90] + " copy"
    return next(free for at in range(1, len(taken) + 2) if (free := base if at == 1 else f"{base} {at}") not in taken)

"""The form of a combo: its list of models, what that comes to now, and the order a request would try them in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask import request, url_for
from flask_babel import gettext as _
from flask_babel import ngettext
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, combo_settings
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.combo_form import UNNAMED, Draft
from omniroute.blueprints.dashboard.combo_words import CHANNELS, FACTORS, MODES, STRATEGIES, kind_of, reason_words
from omniroute.blueprints.dashboard.figures import grouped
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, page

_FOUND: Final = 12
_FAR_APART: Final = 4
"""Windows that differ by more than this factor are worth a word."""
_OF_NAME: Final = frozenset({"combo_name_invalid", "combo_name_taken"})


@dataclass(frozen=True, slots=True)
class Point:
    """One line of the list that says whether a combo is ready: good, warn or bad."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Check:
    """What a draft comes to: the points of the list, its targets by step, and the order of a sample request."""

    points: tuple[Point, ...] = ()
    targets: Mapping[int, list[dict[str, Any]]] | None = None
    path: tuple[dict[str, Any], ...] = ()


@blueprint.get("/dashboard/combos/new")
def combo_new() -> Response:
    """Show an empty form, with the models in it that the address names."""
    strategy = api.get("/api/settings/combo-defaults")["strategy"]
    draft = Draft({"strategy": request.args.get("strategy", strategy), "isActive": True})
    for name in request.args.getlist("model")[:20]:
        draft = draft.changed(f"add:model:{name}")
    return _editor(draft)


@blueprint.post("/dashboard/combos/new")
def combo_create() -> Response:
    """Store a new combo, or do what another button of the form says."""
    draft = Draft.of_form(request.form)
    if request.form.get("do") != "save":
        return _editor(draft.changed(request.form.get("do", "")))
    try:
        made = api.post("/api/combos", draft.body())
    except Refused as refused:
        return _editor(draft, form=_typed(draft, refused), status=400)
    return done(_("The combo %(name)s is made.", name=made["name"]), url_for("dashboard.combo", combo_id=made["id"]))


@blueprint.get("/dashboard/combos/<combo_id>/edit")
def combo_edit(combo_id: str) -> Response:
    """Show the form of a stored combo."""
    combo = api.get(f"/api/combos/{api.segment(combo_id)}")
    return _editor(Draft.of_combo(combo), combo)


@blueprint.post("/dashboard/combos/<combo_id>/edit")
def combo_change(combo_id: str) -> Response:
    """Store what was changed, or do what another button of the form says."""
    draft, path = Draft.of_form(request.form), f"/api/combos/{api.segment(combo_id)}"
    stored = api.get(path)
    action = request.form.get("do", "")
    if action not in ("save", "save-mine"):
        return _editor(draft.changed(action), stored)
    since = request.form.get("theirs") if action == "save-mine" else draft.updated_at
    try:
        made = api.put(path, {**draft.body(), **({"ifUnchangedSince": since} if since else {})})
    except Refused as refused:
        if refused.error_code == "changed_meanwhile":
            return _editor(draft, stored, is_overtaken=True, status=409)
        return _editor(draft, stored, form=_typed(draft, refused), status=400)
    return done(_("The combo %(name)s is saved.", name=made["name"]), url_for("dashboard.combo", combo_id=made["id"]))


@blueprint.get("/dashboard/combos/models")
def combo_models() -> Response:
    """Show what a search among models, combos and channels finds: a part of the form."""
    own = request.args.get("own", "")
    return page("dashboard/_combo_found.html", found=_found(request.args.get("find", ""), own))


def _editor(
    draft: Draft,
    combo: Mapping[str, Any] | None = None,
    *,
    form: FormState | None = None,
    is_overtaken: bool = False,
    status: int = 200,
) -> Response:
    defaults = api.get("/api/settings/combo-defaults")
    strategy = str(draft.values.get("strategy") or "priority")
    return page(
        "dashboard/combo_edit.html",
        blocks=("combo_editor", "combo_check"),
        status=status,
        draft=draft,
        form=form or FormState(draft.values),
        combo=combo,
        check=_checked(draft, combo),
        found=_found(str(draft.values.get("find", "")), str(draft.values.get("name", ""))),
        connections=_connections(draft),
        sections=combo_settings.SECTIONS,
        defaults=combo_settings.defaults_for(strategy, defaults),
        strategies=STRATEGIES,
        modes=MODES,
        factors=FACTORS,
        channels=CHANNELS,
        differences=_differences(draft, combo) if is_overtaken and combo is not None else None,
        reason_words=reason_words,
        kind_of=kind_of,
    )


def _typed(draft: Draft, refused: Refused) -> FormState:
    faults = {}
    for name, text in refused.faults.items():
        field = combo_settings.FAULT_FIELDS.get(name, name)
        faults["models" if name.startswith("models") else field] = text
    if refused.error_code in _OF_NAME:
        faults["name"] = refused.message
    if refused.error_code.startswith("combo_") and refused.error_code not in _OF_NAME:
        faults["models"] = refused.message
    return FormState(draft.values, faults, refused.message, refused.error_code)


# --- what a draft comes to -------------------------------------------------------------------------------------------


def _checked(draft: Draft, combo: Mapping[str, Any] | None) -> Check:
    """Ask the API what a draft would come to; what keeps it from being stored is a point of the list."""
    if not draft.rows:
        return Check((Point("bad", _("Add at least one model.")),))
    body = {**draft.body(), **draft.sample(), "id": combo["id"] if combo is not None else None}
    points = []
    if not body["name"]:
        points.append(Point("bad", _("Give it a name.")))
        body["name"] = UNNAMED
    try:
        found = api.post("/api/combos/check", body)
    except Refused as refused:
        points.append(Point("bad", _said(refused)))
        if refused.error_code not in _OF_NAME:
            return Check(tuple(points))
        try:
            found = api.post("/api/combos/check", {**body, "name": UNNAMED})
        except Refused as other:
            return Check((*points, Point("bad", _said(other))))
    else:
        if not points:
            points.append(Point("good", _("The name is free.")))
    targets: dict[int, list[dict[str, Any]]] = {}
    for one in found["targets"]:
        targets.setdefault(one["step"], []).append(one)
    return Check((*points, *_points(found)), targets, tuple(found["path"]))


def _said(refused: Refused) -> str:
    return "; ".join(f"{field}: {text}" for field, text in refused.faults.items()) or refused.message


def _points(found: Mapping[str, Any]) -> Iterator[Point]:
    live = [one for one in found["targets"] if one["connections"]]
    ready = sum(one["eligible"] for one in found["path"])
    if ready:
        count = len({one["model"] for one in found["path"] if one["eligible"]})
        text = ngettext("%(num)s target can serve now.", "%(num)s targets can serve now.", count)
        yield Point("good", text)
    else:
        yield Point("bad", _("No target can serve now."))
    unpriced = sorted({one["model"] for one in live if one["inputUsdPer1M"] is None})
    if unpriced:
        yield Point("warn", _("No price is known of %(models)s.", models=", ".join(unpriced[:4])))
    elif live:
        yield Point("good", _("All prices are known."))
    yield from _windows(live)
    shown = {"NO_ELIGIBLE_STEP"}
    yield from (Point("warn", one["message"]) for one in found["warnings"] if one["code"] not in shown)


def _windows(live: list[dict[str, Any]]) -> Iterator[Point]:
    windows = sorted({one["contextLength"] for one in live if one["contextLength"]})
    if not windows:
        return
    if windows[-1] > _FAR_APART * windows[0]:
        text = _(
            "The windows differ: from %(least)s to %(most)s tokens. Clients are told the smallest.",
            least=grouped(windows[0]),
            most=grouped(windows[-1]),
        )
        yield Point("warn", text)
    else:
        yield Point("good", _("The windows are alike: %(least)s tokens or more.", least=grouped(windows[0])))


# --- what can be added -----------------------------------------------------------------------------------------------


def _found(text: str, own: str) -> dict[str, Any] | None:
    """Return what a search finds among all that is connected; None without a search."""
    wanted = text.strip()[:100]
    if not wanted:
        return None
    models = api.get("/api/models", q=wanted, active=True, type="chat", limit=_FOUND)
    combos = api.get("/api/combos", q=wanted, limit=5)["combos"]
    channels = [name for name in CHANNELS if wanted.casefold() in name]
    return {
        "models": models["models"],
        "total": models["total"],
        "combos": [one for one in combos if one["name"] != own],
        "channels": channels,
        "text": wanted,
        "words": CHANNELS,
    }


def _connections(draft: Draft) -> dict[str, list[dict[str, Any]]]:
    """Return the connections by the prefix of models, where there is more than one to choose from."""
    if not any(row.kind == "model" for row in draft.rows):
        return {}
    made: dict[str, list[dict[str, Any]]] = {}
    for one in api.get("/api/providers", limit=200)["connections"]:
        if one["prefix"]:
            made.setdefault(one["prefix"], []).append(one)
    return made


# --- what changed meanwhile ------------------------------------------------------------------------------------------


def _differences(draft: Draft, stored: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return what differs between what was typed and what is stored: its name, mine, theirs."""
    mine, theirs = draft.body(), Draft.of_combo(stored).body()
    labels = {
        "name": _("Name"),
        "description": _("Description"),
        "strategy": _("Strategy"),
        "models": _("Models"),
        "config": _("Settings"),
        "isActive": _("Enabled"),
        "isDefault": _("Default"),
        "context_length": _("Context length"),
        "allowedProviders": _("Allowed providers"),
        "allowedModelFamilies": _("Allowed model families"),
    }
    return [
        (label, _worded(name, mine[name]), _worded(name, theirs[name]))
        for name, label in labels.items()
        if mine[name] != theirs[name]
    ]


def _worded(name: str, value: Any) -> str:
    if name == "models":
        return "\n".join(_step_worded(one) for one in value)
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, dict):
        texts = combo_settings.fields_of(value)
        return "\n".join(f"{field.removeprefix(combo_settings.PREFIX)}: {text}" for field, text in texts.items()) or "–"
    if isinstance(value, list):
        return ", ".join(value) or "–"
    return str(value) if value not in (None, "") else "–"


def _step_worded(step: Mapping[str, Any]) -> str:
    name = step.get("model") or step.get("comboName") or step.get("channel")
    more = [f"× {step['weight']:g}" if isinstance(step["weight"], int | float) and step["weight"] != 1 else ""]
    if not step["enabled"]:
        more.append(_("off"))
    return " ".join([str(name), *filter(None, more)])

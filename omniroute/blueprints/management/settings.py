"""`/api/settings`: what can be changed while the server runs, by section, and the defaults of combos."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, request

from omniroute.blueprints.management.bodies import (
    Fields,
    answer,
    flag,
    integer,
    mapping,
    nested,
    number,
    read_object,
    text,
)
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.routing.options import AccountStrategy, Strategy
from omniroute.services import routing_settings as service
from omniroute.services.budgets import UNPRICED

blueprint = Blueprint("management_settings", __name__)

_DAY_MS: Final = 86_400_000

_ROUTING: Final = (
    text("accountStrategy", nullable=True, choices=AccountStrategy),
    integer("stickyLimit", nullable=True, minimum=1, maximum=1000),
    integer("sessionAffinityTtlMs", nullable=True, minimum=0, maximum=30 * _DAY_MS),
    flag("cacheAffinity", nullable=True),
    number("switchMargin", nullable=True, minimum=0, maximum=1),
    text("ambiguousModelPolicy", nullable=True, choices=service.AMBIGUOUS),
    mapping("providers", max_items=500, max_bytes=64 * 1024),
)
_BUDGETS: Final = (text("unpriced", nullable=True, choices=UNPRICED),)
_SECTIONS: Final = Fields(nested("routing", Fields(*_ROUTING)), nested("budgets", Fields(*_BUDGETS)))
_SECTION_NAMES: Final = frozenset({"routing", "budgets"})
_FLAT: Final = Fields(*_ROUTING, *_BUDGETS)
_BUDGET_NAMES: Final = tuple(field.name for field in _BUDGETS)
_COMBO_DEFAULTS: Final = Fields(
    text("strategy", nullable=True, choices=Strategy),
    mapping("config", nullable=True, max_bytes=64 * 1024),
    mapping("strategies", nullable=True, max_bytes=64 * 1024),
)


@blueprint.get("/api/settings")
def show() -> Response:
    """Show the settings by section."""
    own = container()
    settings = {"routing": own.routing_settings.routing(), "budgets": own.budgets.settings()}
    return answer({"settings": settings, "version": own.snapshots.current.version})


@blueprint.route("/api/settings", methods=["PATCH", "PUT"])
def change() -> Response:
    """Change the given settings, by section or by their names alone."""
    body = read_object(request)
    own = container()
    if _SECTION_NAMES.isdisjoint(body):
        values = _FLAT.check(body)
        budgets = {name: values.pop(name) for name in _BUDGET_NAMES if name in values}
        sections = {name: found for name, found in (("routing", values), ("budgets", budgets)) if found}
    else:
        sections = _SECTIONS.check(body)
    if "routing" in sections:
        own.routing_settings.change_routing(sections["routing"], origin())
    if "budgets" in sections:
        own.budgets.change_settings(sections["budgets"], origin())
    return show()


@blueprint.get("/api/settings/combo-defaults")
def combo_defaults() -> Response:
    """Show what combos have unless they say otherwise."""
    return answer(container().routing_settings.combo_defaults())


@blueprint.route("/api/settings/combo-defaults", methods=["PUT", "PATCH"])
def set_combo_defaults() -> Response:
    """Change what combos have unless they say otherwise."""
    return answer(container().routing_settings.set_combo_defaults(_COMBO_DEFAULTS.read(request), origin()))

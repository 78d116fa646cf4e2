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
_SECTIONS: Final = Fields(nested("routing", Fields(*_ROUTING), required=True))
_FLAT: Final = Fields(*_ROUTING)
_COMBO_DEFAULTS: Final = Fields(
    text("strategy", nullable=True, choices=Strategy),
    mapping("config", nullable=True, max_bytes=64 * 1024),
    mapping("strategies", nullable=True, max_bytes=64 * 1024),
)


@blueprint.get("/api/settings")
def show() -> Response:
    """Show the settings by section."""
    own = container()
    return answer({"settings": {"routing": own.routing_settings.routing()}, "version": own.snapshots.current.version})


@blueprint.route("/api/settings", methods=["PATCH", "PUT"])
def change() -> Response:
    """Change the given settings, by section or by their names alone."""
    body = read_object(request)
    values = _SECTIONS.check(body)["routing"] if "routing" in body else _FLAT.check(body)
    container().routing_settings.change_routing(values, origin())
    return show()


@blueprint.get("/api/settings/combo-defaults")
def combo_defaults() -> Response:
    """Show what combos have unless they say otherwise."""
    return answer(container().routing_settings.combo_defaults())


@blueprint.route("/api/settings/combo-defaults", methods=["PUT", "PATCH"])
def set_combo_defaults() -> Response:
    """Change what combos have unless they say otherwise."""
    return answer(container().routing_settings.set_combo_defaults(_COMBO_DEFAULTS.read(request), origin()))

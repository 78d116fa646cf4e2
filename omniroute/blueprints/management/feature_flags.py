"""`/api/settings/feature-flags`: parts of the server that can be switched off, or on."""

from __future__ import annotations

from typing import Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import Query, operation
from omniroute.blueprints.management.bodies import Fields, answer, nested
from omniroute.blueprints.management.origin import origin
from omniroute.blueprints.management.setting_fields import FLAG_VALUES
from omniroute.container import container
from omniroute.errors import NotFound
from omniroute.services.setting_definitions import DEFINITIONS, FLAGS, in_section
from omniroute.services.settings import SettingState

blueprint = Blueprint("management_feature_flags", __name__)

_CHANGE: Final = Fields(nested("flags", FLAG_VALUES, required=True))
_KEYS: Final = tuple(row.name for row in in_section(FLAGS))


class FeatureFlagDocument(TypedDict):
    """One flag. `source` is `env`, `db` or `default`; `fixedBy` names the variable that decides."""

    key: str
    description: str
    type: str
    default: bool
    value: bool
    source: str
    fixedBy: str | None
    requiresRestart: bool


class FeatureFlagsDocument(TypedDict):
    """Every flag."""

    flags: list[FeatureFlagDocument]


@blueprint.get("/api/settings/feature-flags")
@operation(FeatureFlagsDocument)
def index() -> Response:
    """List the flags."""
    return answer(FeatureFlagsDocument(flags=[shown(one) for one in container().runtime_settings.flags()]))


@blueprint.route("/api/settings/feature-flags", methods=["PUT", "PATCH"])
@operation(FeatureFlagsDocument, body=_CHANGE, refusals=(409,))
def change() -> Response:
    """Set the given flags; null gives one back to its default."""
    container().runtime_settings.change({FLAGS: _CHANGE.read(request)["flags"]}, origin())
    return index()


@blueprint.delete("/api/settings/feature-flags")
@operation(FeatureFlagsDocument, query=(Query("key", "Only this flag.", choices=_KEYS),), refusals=(404, 409))
def reset() -> Response:
    """Give one flag, or every one that can be changed, back to its default."""
    own, key = container().runtime_settings, request.args.get("key")
    if key is not None and (FLAGS, key) not in DEFINITIONS:
        raise NotFound("There is no such flag.")
    keys = (key,) if key is not None else tuple(name for name in _KEYS if own.fixed(FLAGS, name) is None)
    own.change({FLAGS: dict.fromkeys(keys)}, origin())
    return index()


def shown(state: SettingState) -> FeatureFlagDocument:
    """Return a flag as management answers show it."""
    row = state.definition
    return {
        "key": row.name,
        "description": row.description,
        "type": row.kind.value,
        "default": state.default,
        "value": state.value,
        "source": state.source,
        "fixedBy": state.fixed_by,
        "requiresRestart": row.needs_restart,
    }

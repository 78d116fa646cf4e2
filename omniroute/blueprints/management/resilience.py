"""`/api/resilience`: the settings of resilience, what rests now, and how that is ended early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import Body, Query, operation
from omniroute.blueprints.management.bodies import Fields, answer, flag, read_object, text
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.routing.resilience import DEFAULTS, KEYS, PROFILES, Profile, public
from omniroute.services.resilience import Scope
from omniroute.services.resilience_state import ResilienceStateDocument, RestingDocument, document, resting_document

blueprint = Blueprint("management_resilience", __name__)

_NAMES: Final = ("provider", "connectionId", "model")
_SCOPE: Final = Fields(
    text("provider", max_length=100), text("connectionId", max_length=100), text("model", max_length=300), flag("all")
)


def _schema(*, is_whole: bool) -> dict[str, Any]:
    """Return the schema of the settings; of a change of them where they need not be whole."""
    return _section(public(DEFAULTS), "", is_whole=is_whole)


def _section(values: Mapping[str, Any], at: str, *, is_whole: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{at}.{name}" if at else name
        match value:
            case Mapping():
                properties[name] = _section(value, path, is_whole=is_whole)
            case bool():
                properties[name] = {"type": "boolean"}
            case int():
                properties[name] = {"type": "integer", "description": f"{KEYS[path].takes.capitalize()}."}
            case _:
                properties[name] = {"type": "string", "enum": list(Profile)}
    made = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": list(properties)} if is_whole else made


_SETTINGS: Final = _schema(is_whole=True)
_CHANGE: Final = Body(_schema(is_whole=False))
_ASKED: Final = (
    Query("provider", "Only what belongs to this provider."),
    Query("connectionId", "Only what belongs to this connection."),
    Query("model", "Only what belongs to this model."),
)


class ResilienceFieldDocument(TypedDict):
    """One setting of resilience; `default` is that of the profile in force.

    `source` is `env`, `db` or `default`; `fixedBy` names the variable that decides, so that nobody can change it here.
    """

    path: str
    takes: str
    value: int | bool
    default: int | bool
    source: str
    fixedBy: str | None


class ResilienceFieldsDocument(TypedDict):
    """The settings of resilience, one by one, and the profile that the rest comes from."""

    profile: Profile
    fields: list[ResilienceFieldDocument]
    total: int


class EndedRestsDocument(TypedDict):
    """How many marks were removed."""

    reset: int


class LockoutsDocument(TypedDict):
    """The models that are locked out of connections."""

    items: list[RestingDocument]


@blueprint.get("/api/resilience")
@operation(_SETTINGS)
def show() -> Response:
    """Show the settings in force."""
    return answer(container().resilience.settings())


@blueprint.route("/api/resilience", methods=["PATCH", "PUT"])
@operation(_SETTINGS, body=_CHANGE)
def change() -> Response:
    """Change the given settings, or with `profile` all of them."""
    return answer(container().resilience.change(read_object(request), origin()))


@blueprint.get("/api/resilience/fields")
@operation(ResilienceFieldsDocument)
def fields() -> Response:
    """List the settings one by one, with their sources and the defaults of the profile."""
    own = container().resilience
    now, fixed = own.settings(), own.fixed()
    profile = Profile(now["profile"])
    usual = public(PROFILES[profile])
    rows = [_field(path, _at(now, path), _at(usual, path), fixed.get(path)) for path in KEYS]
    return answer(ResilienceFieldsDocument(profile=profile, fields=rows, total=len(rows)))


@blueprint.get("/api/resilience/state")
@operation(ResilienceStateDocument, query=_ASKED, refusals=(404,))
def state() -> Response:
    """Show what rests now, over all workers, and who waits in this one."""
    return answer(document(container().resilience.state(_asked())))


@blueprint.post("/api/resilience/reset")
@operation(EndedRestsDocument, body=_SCOPE, refusals=(404,))
def reset() -> Response:
    """End what rests: of a provider, a connection, a model, or everything."""
    return answer(EndedRestsDocument(reset=container().resilience.reset(_scope(_SCOPE.read(request)), origin())))


@blueprint.get("/api/resilience/model-cooldowns")
@operation(LockoutsDocument, query=_ASKED, refusals=(404,))
def lockouts() -> Response:
    """List the models that are locked out of connections."""
    found = container().resilience.state(_asked()).lockouts
    return answer(LockoutsDocument(items=[resting_document(one) for one in found]))


@blueprint.delete("/api/resilience/model-cooldowns")
@operation(EndedRestsDocument, body=_SCOPE, refusals=(404,))
def clear_lockouts() -> Response:
    """End lockouts of models: some, or all."""
    ended = container().resilience.clear_lockouts(_scope(_SCOPE.read(request)), origin())
    return answer(EndedRestsDocument(reset=ended))


def _field(path: str, value: Any, default: Any, fixed_by: str | None) -> ResilienceFieldDocument:
    return {
        "path": path,
        "takes": KEYS[path].takes,
        "value": value,
        "default": default,
        "source": "env" if fixed_by is not None else "default" if value == default else "db",
        "fixedBy": fixed_by,
    }


def _at(values: Mapping[str, Any], path: str) -> Any:
    """Return what stands at a path of sections."""
    found: Any = values
    for name in path.split("."):
        found = found[name]
    return found


def _asked() -> Scope:
    """Return what the query narrows a list to."""
    return _scope_of({name: value for name in _NAMES if (value := request.args.get(name))})


def _scope(values: Mapping[str, Any]) -> Scope:
    """Return what is to be ended: somebody has to say so, also where it is everything."""
    is_named = any(name in values for name in _NAMES)
    if values.get("all", False) == is_named:
        message = "stands alone" if is_named else "must be true unless provider, connectionId or model is given"
        raise ValidationFailed([{"field": "all", "message": message}])
    return _scope_of(values)


def _scope_of(values: Mapping[str, Any]) -> Scope:
    return Scope(values.get("provider"), values.get("connectionId"), values.get("model"))

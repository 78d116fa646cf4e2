"""`/api/resilience`: the settings of resilience, what rests now, and how that is ended early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import Blueprint, Response, request

from omniroute.blueprints.management.bodies import Fields, answer, flag, read_object, text
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.services.resilience import Scope
from omniroute.services.resilience_state import document, resting_document

blueprint = Blueprint("management_resilience", __name__)

_NAMES: Final = ("provider", "connectionId", "model")
_SCOPE: Final = Fields(
    text("provider", max_length=100), text("connectionId", max_length=100), text("model", max_length=300), flag("all")
)


@blueprint.get("/api/resilience")
def show() -> Response:
    """Show the settings in force."""
    return answer(container().resilience.settings())


@blueprint.route("/api/resilience", methods=["PATCH", "PUT"])
def change() -> Response:
    """Change the given settings, or with `profile` all of them."""
    return answer(container().resilience.change(read_object(request), origin()))


@blueprint.get("/api/resilience/state")
def state() -> Response:
    """Show what rests now, over all workers, and who waits in this one."""
    return answer(document(container().resilience.state(_asked())))


@blueprint.post("/api/resilience/reset")
def reset() -> Response:
    """End what rests: of a provider, a connection, a model, or everything."""
    return answer({"reset": container().resilience.reset(_scope(_SCOPE.read(request)), origin())})


@blueprint.get("/api/resilience/model-cooldowns")
def lockouts() -> Response:
    """List the models that are locked out of connections."""
    found = container().resilience.state(_asked()).lockouts
    return answer({"items": [resting_document(one) for one in found]})


@blueprint.delete("/api/resilience/model-cooldowns")
def clear_lockouts() -> Response:
    """End lockouts of models: some, or all."""
    return answer({"reset": container().resilience.clear_lockouts(_scope(_SCOPE.read(request)), origin())})


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

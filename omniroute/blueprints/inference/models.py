"""Model lists for clients, in the shape of OpenAI's API or, with an `anthropic-version` header, of Anthropic's."""

from __future__ import annotations

from flask import Blueprint, Response, request

from omniroute import __version__
from omniroute.blueprints import guard
from omniroute.blueprints.tiers import INFERENCE_MOUNTS
from omniroute.container import container
from omniroute.errors import InvalidRequest
from omniroute.providers.spec import ModelKind
from omniroute.services.models import Filters, Naming

blueprint = Blueprint("models", __name__)

_MAX_LIMIT = 10_000
_MAX_ANTHROPIC_LIMIT = 1000
_ENDPOINTS = ("/v1/chat/completions", "/v1/messages", "/v1/models")


def index() -> Response:
    """List the models that the caller's key may use."""
    models = container().models
    if "anthropic-version" in request.headers:
        listed = models.anthropic_list(
            _filters(),
            limit=_number("limit", 1, _MAX_ANTHROPIC_LIMIT),
            after=request.args.get("after_id"),
            before=request.args.get("before_id"),
        )
    else:
        offset = _number("offset", 0, 10**6) or 0
        listed = models.openai_list(_filters(), limit=_number("limit", 1, _MAX_LIMIT), offset=offset)
    response = Response(listed.body, mimetype="application/json")
    response.headers["X-Model-Catalog-Version"] = listed.version
    response.headers["X-Total-Count"] = str(listed.total)
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Vary"] = "Authorization, x-api-key, anthropic-version"
    response.set_etag(listed.etag)
    response.make_conditional(request)
    return response


def show(model: str) -> Response:
    """Describe one model."""
    line = container().models.one(model, _filters(), anthropic="anthropic-version" in request.headers)
    return Response(line, mimetype="application/json")


for _mount in INFERENCE_MOUNTS:
    blueprint.add_url_rule(f"{_mount}/models", view_func=index, methods=["GET"])
    blueprint.add_url_rule(f"{_mount}/models/<path:model>", view_func=show, methods=["GET"])


@blueprint.get("/v1")
def banner() -> dict[str, object]:
    """Say what answers here."""
    return {"name": "OmniRoute", "version": __version__, "endpoints": _ENDPOINTS}


def _filters() -> Filters:
    caller = guard.caller()
    key = caller.key
    kind = request.args.get("type")
    if kind is not None and kind not in frozenset(ModelKind):
        raise InvalidRequest(f"'type' must be one of {', '.join(ModelKind)}.", param="type")
    naming = request.args.get("prefix", Naming.ALIAS)
    if naming not in frozenset(Naming):
        raise InvalidRequest(f"'prefix' must be one of {', '.join(Naming)}.", param="prefix")
    has_lists = key is not None and bool(key.allowed_models or key.blocked_models)
    return Filters(
        naming=Naming(naming),
        kind=kind,
        provider=request.args.get("provider"),
        may_use=caller.may_use if has_lists else None,
        connections=frozenset(key.allowed_connections) if key is not None else frozenset(),
        only_free=key is not None and key.hide_paid_models,
    )


def _number(name: str, minimum: int, maximum: int) -> int | None:
    given = request.args.get(name)
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 10 and minimum <= int(given) <= maximum):
        raise InvalidRequest(f"'{name}' must be a whole number from {minimum} to {maximum}.", param=name)
    return int(given)

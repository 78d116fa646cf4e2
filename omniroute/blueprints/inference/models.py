"""Model lists for clients: OpenAI's shape, or with an `anthropic-version` header Anthropic's; Gemini's and Ollama's."""

from __future__ import annotations

from dataclasses import replace

from flask import Blueprint, Response, request

from omniroute import __version__
from omniroute.blueprints import guard
from omniroute.blueprints.contract import Answer, Body, Query, operation
from omniroute.blueprints.inference.body import read_json_bytes
from omniroute.blueprints.inference.documents import (
    AnthropicModelDocument,
    AnthropicModelsDocument,
    BannerDocument,
    CandidatesDocument,
    GeminiModelDocument,
    GeminiModelsDocument,
    ListedCombosDocument,
    ModelDocument,
    ModelsDocument,
    OllamaShowDocument,
    OllamaShowRequestDocument,
    OllamaTagsDocument,
    OllamaVersionDocument,
)
from omniroute.blueprints.tiers import GEMINI_LISTS, INFERENCE_MOUNTS, OLLAMA_MOUNTS
from omniroute.container import container
from omniroute.errors import InvalidRequest, MissingField
from omniroute.formats.splice import scan
from omniroute.providers.spec import ModelKind
from omniroute.services.models import Filters, Naming, Rendered

blueprint = Blueprint("models", __name__)

_MAX_LIMIT = 10_000
_MAX_ANTHROPIC_LIMIT = 1000
_GEMINI_PAGE = 50
_MAX_SHOW_BYTES = 64 * 1024
_MAX_GEMINI_PAGE = 1000
_OLLAMA_VERSION = "0.12.6"
"""The version of Ollama's API that is spoken here; its clients refuse what looks too old."""
_ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1beta/models/{model}:generateContent",
    "/v1beta/models/{model}:streamGenerateContent",
    "/v1beta/models/{model}:countTokens",
    "/api/chat",
    "/api/generate",
    "/v1/models",
    "/v1/combos",
    "/v1beta/models",
    "/api/tags",
)


_NAMING_QUERY = Query("prefix", "Which name stands before the slash.", choices=tuple(Naming))
_TYPE_QUERY = Query("type", "Only models of this kind.", choices=tuple(ModelKind))
_PROVIDER_QUERY = Query("provider", "Only models of this provider.")
_PAGE_QUERY = (
    Query("limit", "How many at most; all of them unless given.", "integer", minimum=1, maximum=_MAX_LIMIT),
    Query("offset", "How many to leave out before.", "integer", minimum=0, maximum=10**6),
    Query("after_id", "For Anthropic's clients: only those after this one."),
    Query("before_id", "For Anthropic's clients: only those before this one."),
)
_LIST_HEADERS = {"X-Model-Catalog-Version": "Version of the whole catalogue.", "X-Total-Count": "", "ETag": ""}
_UNCHANGED = {304: Answer(None)}


@operation(
    (ModelsDocument, AnthropicModelsDocument, GeminiModelsDocument),
    headers=_LIST_HEADERS,
    also=_UNCHANGED,
    query=(_NAMING_QUERY, _TYPE_QUERY, _PROVIDER_QUERY, *_PAGE_QUERY),
)
def index() -> Response:
    """List the models that the caller's key may use.

    With header `anthropic-version` in Anthropic's members, with the key in `x-goog-api-key` in Gemini's.
    """
    if _is_gemini_client():
        return gemini_index()
    return _listed(_filters())


@operation(
    (ModelsDocument, AnthropicModelsDocument),
    headers=_LIST_HEADERS,
    also=_UNCHANGED,
    query=(_NAMING_QUERY, _TYPE_QUERY, *_PAGE_QUERY),
)
def index_of(provider: str) -> Response:
    """List the models of one provider."""
    return _listed(replace(_filters(), provider=container().directories.current.named_provider(provider).id))


def _listed(filters: Filters) -> Response:
    models = container().models
    if "anthropic-version" in request.headers:
        listed = models.anthropic_list(
            filters,
            limit=_number("limit", 1, _MAX_ANTHROPIC_LIMIT),
            after=request.args.get("after_id"),
            before=request.args.get("before_id"),
        )
    else:
        offset = _number("offset", 0, 10**6) or 0
        listed = models.openai_list(filters, limit=_number("limit", 1, _MAX_LIMIT), offset=offset)
    return _sent(listed)


def _sent(listed: Rendered) -> Response:
    """Return a list, or only that the caller has it already: then its bytes are not even put together."""
    if request.if_none_match.contains_weak(listed.etag):
        response = Response(status=304)
    else:
        response = Response(listed.body, mimetype="application/json")
    response.headers["X-Model-Catalog-Version"] = listed.version
    response.headers["X-Total-Count"] = str(listed.total)
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Vary"] = "Authorization, x-api-key, x-goog-api-key, anthropic-version"
    response.set_etag(listed.etag)
    return response


@operation(
    (ModelDocument, AnthropicModelDocument, GeminiModelDocument), query=(_NAMING_QUERY, _TYPE_QUERY, _PROVIDER_QUERY)
)
def show(model: str) -> Response:
    """Describe one model."""
    if _is_gemini_client():
        return gemini_show(model)
    line = container().models.one(model, _filters(), anthropic="anthropic-version" in request.headers)
    return Response(line, mimetype="application/json")


@operation(ListedCombosDocument, query=(_TYPE_QUERY,))
def combos() -> Response:
    """List the combos that the caller's key may use, with their targets."""
    return Response(container().models.combos(_filters()), mimetype="application/json")


@operation(CandidatesDocument)
def candidates(channel: str) -> dict[str, object]:
    """Show what an `auto` channel would choose from now, with scores and reasons."""
    return container().candidates.of(channel, guard.caller())


for _mount in INFERENCE_MOUNTS:
    blueprint.add_url_rule(f"{_mount}/combos", view_func=combos, methods=["GET"])
    blueprint.add_url_rule(f"{_mount}/auto-combo/<path:channel>/candidates", view_func=candidates, methods=["GET"])
    blueprint.add_url_rule(f"{_mount}/models", view_func=index, methods=["GET"])
    blueprint.add_url_rule(f"{_mount}/models/<path:model>", view_func=show, methods=["GET"])
    blueprint.add_url_rule(f"{_mount}/providers/<provider>/models", view_func=index_of, methods=["GET"])


def _is_gemini_client() -> bool:
    """Say whether a list under `/v1` is for Gemini's SDK, whose newer versions ask there."""
    return "x-goog-api-key" in request.headers and "anthropic-version" not in request.headers


@operation(
    GeminiModelsDocument,
    headers=_LIST_HEADERS,
    also=_UNCHANGED,
    query=(
        Query("pageSize", "How many at most; 50 unless given.", "integer", minimum=0, maximum=10**6),
        Query("pageToken", "What the page before gave as `nextPageToken`.", "integer", minimum=0, maximum=10**6),
    ),
)
def gemini_index() -> Response:
    """List the models in Gemini's shape."""
    size = min(_number("pageSize", 0, 10**6) or _GEMINI_PAGE, _MAX_GEMINI_PAGE)
    offset = _number("pageToken", 0, 10**6) or 0
    return _sent(container().models.gemini_list(_filters(), page_size=size, offset=offset))


@operation(GeminiModelDocument)
def gemini_show(model: str) -> Response:
    """Describe one model in Gemini's shape."""
    return Response(container().models.gemini_one(model, _filters()), mimetype="application/json")


for _mount in GEMINI_LISTS:
    blueprint.add_url_rule(f"{_mount}/models", view_func=gemini_index, methods=["GET"])
    blueprint.add_url_rule(f"{_mount}/models/<path:model>", view_func=gemini_show, methods=["GET"])


@operation(OllamaTagsDocument, headers=_LIST_HEADERS, also=_UNCHANGED)
def ollama_index() -> Response:
    """List the models as Ollama lists what is installed."""
    return _sent(container().models.ollama_list(_filters()))


@operation(OllamaShowDocument, body=Body(OllamaShowRequestDocument))
def ollama_show() -> Response:
    """Describe one model as Ollama does."""
    settings = container().settings
    body = read_json_bytes(
        request.environ,
        limit=_MAX_SHOW_BYTES,
        read_timeout_s=settings.client_read_timeout_ms / 1000,
        takes_any_type=True,
    )
    top = scan(body)
    name = top.value("model") or top.value("name")
    if not isinstance(name, str):
        raise MissingField("The field 'model' is required.", param="model")
    return Response(container().models.ollama_one(name, _filters()), mimetype="application/json")


@operation(OllamaVersionDocument)
def ollama_version() -> OllamaVersionDocument:
    """Say which version of Ollama's API this is."""
    return {"version": _OLLAMA_VERSION}


for _mount in OLLAMA_MOUNTS:
    blueprint.add_url_rule(f"{_mount}/api/tags", view_func=ollama_index, methods=["GET"])
    blueprint.add_url_rule(f"{_mount}/api/show", view_func=ollama_show, methods=["POST"])
    blueprint.add_url_rule(f"{_mount}/api/version", view_func=ollama_version, methods=["GET"])


@blueprint.get("/v1")
@operation(BannerDocument)
def banner() -> BannerDocument:
    """Say what answers here."""
    return {"name": "OmniRoute", "version": __version__, "endpoints": list(_ENDPOINTS)}


def _filters() -> Filters:
    caller = guard.caller()
    key = caller.key
    kind = request.args.get("type")
    if kind is not None and kind not in frozenset(ModelKind):
        raise InvalidRequest(f"'type' must be one of {', '.join(ModelKind)}.", param="type")
    naming = request.args.get("prefix") or container().in_force.value("general", "modelPrefix")
    if naming not in frozenset(Naming):
        raise InvalidRequest(f"'prefix' must be one of {', '.join(Naming)}.", param="prefix")
    return Filters(
        naming=Naming(naming),
        kind=kind,
        provider=request.args.get("provider"),
        rules=caller.models,
        connections=frozenset(key.allowed_connections) if key is not None else frozenset(),
        combos=key.allowed_combos if key is not None else (),
        only_free=key is not None and key.hide_paid_models,
    )


def _number(name: str, minimum: int, maximum: int) -> int | None:
    given = request.args.get(name)
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 10 and minimum <= int(given) <= maximum):
        raise InvalidRequest(f"'{name}' must be a whole number from {minimum} to {maximum}.", param=name)
    return int(given)

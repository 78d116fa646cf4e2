"""`/api/models`: all models of all providers, the catalogue in one piece, and tests of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import (
    PAGING,
    SEARCH,
    Answer,
    ListDocument,
    Query,
    Time,
    operation,
    sorting,
)
from omniroute.blueprints.management.bodies import (
    Fields,
    Order,
    Page,
    answer,
    iso_time,
    listing,
    query_flag,
    text,
    texts,
)
from omniroute.blueprints.management.jobs import AcceptedDocument, accepted
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.gateway.listings import Origin, Source
from omniroute.providers.spec import ModelKind
from omniroute.services.model_catalog import CatalogDocument, ModelRow
from omniroute.services.model_tests import MOST_TESTED, Tried

blueprint = Blueprint("management_models", __name__)

_NAME: Final = 300
_TEST: Final = Fields(text("model", required=True, max_length=_NAME), text("connectionId", max_length=64))
_TEST_ALL: Final = Fields(
    text("provider", max_length=100),
    texts("models", min_items=1, max_items=MOST_TESTED, max_length=_NAME),
)
_ORDER: Final[Order[ModelRow]] = Order(
    searched=lambda row: (row.name, row.model.name),
    fields={
        "id": lambda row: row.name,
        "name": lambda row: (row.model.name or row.model.id).casefold(),
        "provider": lambda row: row.provider.id,
        "type": lambda row: row.model.kind,
        "contextLength": lambda row: row.model.context,
    },
)


class ModelHealthDocument(TypedDict):
    """Whether a model could be called now: `ok`, `resting` until a time, or `unavailable` without a connection."""

    state: str
    reason: str | None
    until: Time | None


class ModelFactsDocument(TypedDict):
    """What is known about a model at a provider; `contextSource` says who states the window."""

    id: str
    modelId: str
    name: str
    provider: str
    type: ModelKind
    source: Origin
    active: bool
    hidden: bool
    free: bool
    contextLength: int | None
    contextSource: Source
    maxOutputTokens: int | None
    capabilities: list[str]
    inputModalities: list[str]


class ModelPriceDocument(TypedDict):
    """The price in force, in USD per million tokens."""

    input: float | None
    output: float | None
    cacheRead: float | None
    cacheWrite: float | None


class ManagedModelDocument(ModelFactsDocument):
    """A model at a provider, with its price, its other names and how it stands; `price` is null where none is known."""

    providerName: str
    custom: bool
    price: ModelPriceDocument | None
    aliases: list[str]
    health: ModelHealthDocument


class ManagedModelsDocument(ListDocument):
    """A page of models."""

    models: list[ManagedModelDocument]


class ModelTestDocument(TypedDict):
    """What a test of a model found. Times are null where the provider did not answer."""

    ok: bool
    model: str
    connectionId: str | None
    latencyMs: float | None
    ttftMs: float | None
    error: str | None
    errorCode: str | None


@blueprint.get("/api/models")
@operation(
    ManagedModelsDocument,
    query=(
        *PAGING,
        *SEARCH,
        sorting("id", "name", "provider", "type", "contextLength"),
        Query("provider", "Only models of this provider or node."),
        Query("type", "Only models of this kind.", choices=tuple(ModelKind)),
        Query("active", "Only models that can be called, or only those that cannot.", "boolean"),
        Query("hidden", "Only models that are hidden, or only those that are not.", "boolean"),
    ),
)
def index() -> Response:
    """List the models of all providers, connected or not."""
    page = Page.read(request)
    catalog = container().model_catalog
    found = _ORDER.apply(request, _chosen(catalog.rows(request.args.get("provider") or None)))
    aliases = catalog.aliases()
    rows = [shown(row, aliases) for row in page.cut(found)]
    return listing("models", rows, total=len(found), page=page)


@blueprint.get("/api/models/catalog")
@operation(
    CatalogDocument,
    headers={"X-Model-Catalog-Version": "Version of the catalogue.", "ETag": ""},
    also={304: Answer(None)},
)
def catalog() -> Response:
    """Show every provider with its known models, in one piece."""
    body, version = container().model_catalog.whole()
    response = Response(status=304) if request.if_none_match.contains_weak(version) else Response(body)
    response.mimetype = "application/json"
    response.headers["X-Model-Catalog-Version"] = version
    response.headers["Cache-Control"] = "private, no-cache"
    response.set_etag(version)
    return response


@blueprint.post("/api/models/test")
@operation(ModelTestDocument, body=_TEST, refusals=(404,))
def test() -> Response:
    """Make a small call to a model and a streamed one, outside usage.

    Without `connectionId` on the first connection that serves it. What the test finds is said of the model alone: the
    connection's own state stays what it is.
    """
    values = _TEST.read(request)
    return answer(_tried(container().model_tests.try_one(values["model"], values.get("connectionId"))))


@blueprint.post("/api/models/test-all")
@operation(AcceptedDocument, status=202, body=_TEST_ALL, is_body_optional=True, refusals=(409,))
def test_all() -> Response:
    """Test many models one after the other, in the background.

    Those that are named, else the chat models of a provider, else of all that are connected; at most 200, since each
    is a call that costs something. The job's result has `tested`, `ok`, `failed`, `skipped` and one of `results` for
    each model.
    """
    values = _TEST_ALL.read(request, optional=True)
    own = container()
    tests = own.model_tests
    chosen = tests.chosen(values.get("provider"), values.get("models", ()))
    return accepted(own.jobs.start("model-test", lambda report: tests.try_all(chosen, report), single=True))


def _chosen(rows: Iterable[ModelRow]) -> list[ModelRow]:
    kind = request.args.get("type")
    if kind and kind not in frozenset(ModelKind):
        raise ValidationFailed([{"field": "type", "message": f"must be one of {', '.join(ModelKind)}"}])
    is_active, is_hidden = query_flag(request, "active"), query_flag(request, "hidden")
    return [
        row
        for row in rows
        if (not kind or row.model.kind == kind)
        and is_active in (None, row.is_active)
        and is_hidden in (None, row.is_hidden)
    ]


def facts(row: ModelRow) -> ModelFactsDocument:
    """Return what is known about a model as management answers show it."""
    window, is_free = container().model_catalog.figures(row)
    model = row.model
    return {
        "id": row.name,
        "modelId": model.id,
        "name": model.name or model.id,
        "provider": row.provider.id,
        "type": model.kind,
        "source": row.origin,
        "active": row.is_active,
        "hidden": row.is_hidden,
        "free": is_free,
        "contextLength": None if window.is_assumed else window.tokens,
        "contextSource": Source(window.source),
        "maxOutputTokens": model.max_output,
        "capabilities": list(model.capabilities),
        "inputModalities": list(model.input),
    }


def shown(row: ModelRow, aliases: Mapping[str, Sequence[str]]) -> ManagedModelDocument:
    """Return a model as management answers show it."""
    health = container().model_catalog.health_of(row)
    price = container().model_catalog.price_of(row)
    spellings = (row.name, f"{row.provider.id}/{row.model.id}")
    return {
        **facts(row),
        "providerName": row.provider.name,
        "custom": row.origin is Origin.CUSTOM,
        "price": None
        if price is None
        else {
            "input": price.get("input"),
            "output": price.get("output"),
            "cacheRead": price.get("cacheRead"),
            "cacheWrite": price.get("cacheWrite"),
        },
        "aliases": [name for spelling in dict.fromkeys(spellings) for name in aliases.get(spelling, ())],
        "health": {"state": health.state, "reason": health.reason, "until": iso_time(health.until)},
    }


def _tried(found: Tried) -> ModelTestDocument:
    return {
        "ok": found.is_ok,
        "model": found.model,
        "connectionId": found.connection_id or None,
        "latencyMs": found.latency_ms,
        "ttftMs": found.ttft_ms,
        "error": found.error,
        "errorCode": found.code,
    }

"""`/api/providers`: connections, and the providers that can be connected."""

from __future__ import annotations

from typing import Any, Final, NotRequired, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import PAGING, SEARCH, ListDocument, Query, Time, operation, sorting
from omniroute.blueprints.management.bodies import (
    Fields,
    Order,
    Page,
    answer,
    flag,
    integer,
    iso_time,
    mapping,
    query_flag,
    text,
    texts,
)
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.records import Connection
from omniroute.services import connections as service
from omniroute.services.models import AvailableProviderDocument

blueprint = Blueprint("management_providers", __name__)

_MODEL: Final = 300
_STATES: Final = ("ok", "cooling", "error", "dead", "untested")
_KEY: Final = text("apiKey", nullable=True, secret=True, max_length=service.MAX_KEY)
_DATA: Final = mapping("providerData", alias="providerSpecificData")
_CHANGEABLE: Final = (
    _KEY,
    _DATA,
    integer("priority", minimum=1, maximum=service.MOST_PRIORITY),
    flag("isActive"),
    text("defaultModel", nullable=True, max_length=_MODEL),
    text("group", nullable=True, max_length=100),
    integer("requestsPerMinute", nullable=True, minimum=0, maximum=1_000_000),
    integer("minTimeBetweenRequestsMs", nullable=True, minimum=0, maximum=3_600_000),
    integer("concurrentRequests", alias="maxConcurrent", nullable=True, minimum=0, maximum=100_000),
    mapping("quotaCutoffs", nullable=True),
    flag("proxyEnabled"),
)
_NEW: Final = Fields(
    text("provider", required=True, max_length=100),
    text("name", max_length=100),
    flag("testFirst"),
    *_CHANGEABLE,
)
_CHANGE: Final = Fields(text("name", max_length=100), *_CHANGEABLE)
_ORDER_OF_LIST: Final[Order[Connection]] = Order(
    searched=lambda row: (row.id, row.name, row.provider, row.group_name),
    fields={
        "name": lambda row: row.name.casefold(),
        "provider": lambda row: row.provider,
        "priority": lambda row: row.priority,
        "createdAt": lambda row: row.created_at,
        "lastUsedAt": lambda row: row.last_used_at,
        "lastTestedAt": lambda row: row.last_tested_at,
    },
)
_IDS: Final = texts("ids", required=True, min_items=1, max_items=100, max_length=64)
_SWITCH: Final = Fields(_IDS, flag("isActive", required=True))
_SELECTION: Final = Fields(_IDS)
_ORDER: Final = Fields(
    text("provider", required=True, max_length=100),
    texts("ids", required=True, min_items=1, max_items=service.MAX_PER_PROVIDER, max_length=64),
)
_TEST: Final = Fields(text("model", max_length=_MODEL))
_TRIAL: Final = Fields(text("provider", required=True, max_length=100), _KEY, _DATA)


class ConnectionErrorDocument(TypedDict):
    """The last failure of a connection."""

    code: str | None
    message: str | None
    at: Time | None


class ConnectionModelCountsDocument(TypedDict):
    """How many models a connection has."""

    total: int
    active: int


class ConnectionDocument(TypedDict):
    """A credential at a provider; the key is masked."""

    id: str
    provider: str
    providerName: str | None
    prefix: str | None
    authType: str
    name: str
    priority: int
    isActive: bool
    status: str
    statusReason: str | None
    defaultModel: str | None
    group: str | None
    apiKey: str | None
    cooldownUntil: Time | None
    backoffLevel: int
    lastError: ConnectionErrorDocument | None
    lastUsedAt: Time | None
    lastTestedAt: Time | None
    requestsPerMinute: int | None
    minTimeBetweenRequestsMs: int | None
    concurrentRequests: int | None
    quotaCutoffs: dict[str, float]
    proxyEnabled: bool
    models: ConnectionModelCountsDocument
    providerData: dict[str, Any]
    createdAt: Time
    updatedAt: Time


class ConnectionsDocument(ListDocument):
    """A page of connections."""

    connections: list[ConnectionDocument]


class OneConnectionDocument(TypedDict):
    """One connection."""

    connection: ConnectionDocument


class SwitchedConnectionsDocument(TypedDict):
    """How many connections were switched, and which ids nobody has."""

    updated: int
    notFound: list[str]


class RemovedConnectionsDocument(TypedDict):
    """How many connections were removed, and the combos that named one of them; they keep their other targets."""

    deleted: int
    affectedCombos: list[str]


class RemovedConnectionDocument(TypedDict):
    """What the removal comes to; combos keep their other targets."""

    message: str
    affectedCombos: list[str]


class AvailableProvidersDocument(TypedDict):
    """The providers that can be connected, or are."""

    providers: list[AvailableProviderDocument]


class ConnectionTestDocument(TypedDict):
    """What a small call and a streamed one through a connection came to."""

    valid: bool
    latencyMs: float | None
    statusCode: int | None
    model: str | None
    refreshed: bool
    testedAt: Time
    error: NotRequired[str]
    errorCode: NotRequired[str]
    diagnosis: NotRequired[str | None]


class OrderedConnectionsDocument(TypedDict):
    """The connections of a provider in their new order."""

    connections: list[ConnectionDocument]


class KeyTrialDocument(TypedDict):
    """What a provider said to a key that was not stored."""

    valid: bool
    models: NotRequired[list[str]]
    error: NotRequired[str]
    errorCode: NotRequired[str]


@blueprint.get("/api/providers")
@operation(
    ConnectionsDocument,
    query=(
        *PAGING,
        *SEARCH,
        sorting(*_ORDER_OF_LIST.fields),
        Query("provider", "Only connections of this provider: its id, its alias, or the id of a node."),
        Query("status", "Only connections in this state.", choices=_STATES),
        Query("active", "Only connections that are switched on, or off.", "boolean"),
    ),
)
def index() -> Response:
    """List the connections, keys masked."""
    page = Page.read(request)
    status = request.args.get("status")
    if status is not None and status not in _STATES:
        raise ValidationFailed([{"field": "status", "message": f"must be one of {', '.join(_STATES)}"}])
    rows = container().connections.all(
        provider=request.args.get("provider") or None, status=status, is_active=query_flag(request, "active")
    )
    found = _ORDER_OF_LIST.apply(request, rows)
    body: ConnectionsDocument = {
        "connections": [shown(row) for row in page.cut(found)],
        "total": len(found),
        "limit": page.limit,
        "offset": page.offset,
    }
    return answer(body, headers={"X-Total-Count": str(len(found))})


@blueprint.post("/api/providers")
@operation(OneConnectionDocument, status=201, body=_NEW, refusals=(422, 502))
def create() -> Response:
    """Add a connection."""
    made = container().connections.create(_NEW.read(request), origin())
    return answer(OneConnectionDocument(connection=shown(made)), 201)


@blueprint.patch("/api/providers")
@operation(SwitchedConnectionsDocument, body=_SWITCH)
def switch() -> Response:
    """Switch many connections on or off."""
    values = _SWITCH.read(request)
    updated, missing = container().connections.set_active(values["ids"], values["isActive"], origin())
    return answer(SwitchedConnectionsDocument(updated=updated, notFound=missing))


@blueprint.delete("/api/providers")
@operation(RemovedConnectionsDocument, body=_SELECTION)
def delete_many() -> Response:
    """Remove many connections."""
    ids = _SELECTION.read(request)["ids"]
    affected = container().combos.using(*ids)
    deleted = container().connections.delete_many(ids, origin())
    return answer(RemovedConnectionsDocument(deleted=deleted, affectedCombos=affected))


@blueprint.get("/api/providers/available")
@blueprint.get("/api/providers/client")
@operation(AvailableProvidersDocument)
def available() -> Response:
    """List the providers that can be connected."""
    own = container()
    configured = {row.provider for row in own.connections.all()}
    return answer(AvailableProvidersDocument(providers=own.models.available(configured)))


@blueprint.get("/api/providers/<connection_id>")
@operation(OneConnectionDocument)
def show(connection_id: str) -> Response:
    """Show one connection."""
    return answer(OneConnectionDocument(connection=shown(container().connections.get(connection_id))))


@blueprint.route("/api/providers/<connection_id>", methods=["PUT", "PATCH"])
@operation(OneConnectionDocument, body=_CHANGE, refusals=(422,))
def change(connection_id: str) -> Response:
    """Change the given fields of a connection."""
    changed = container().connections.change(connection_id, _CHANGE.read(request), origin())
    return answer(OneConnectionDocument(connection=shown(changed)))


@blueprint.delete("/api/providers/<connection_id>")
@operation(RemovedConnectionDocument)
def delete(connection_id: str) -> Response:
    """Remove a connection and its key."""
    affected = container().combos.using(connection_id)
    gone = container().connections.delete(connection_id, origin())
    message = f"The connection {gone.name!r} was removed."
    return answer(RemovedConnectionDocument(message=message, affectedCombos=affected))


@blueprint.post("/api/providers/<connection_id>/test")
@operation(ConnectionTestDocument, body=_TEST, is_body_optional=True)
def test(connection_id: str) -> Response:
    """Make a small call and a streamed one through a connection."""
    model = _TEST.read(request, optional=True).get("model")
    result = container().connections.test(connection_id, model, origin())
    body: ConnectionTestDocument = {
        "valid": result.is_valid,
        "latencyMs": result.latency_ms,
        "statusCode": result.status,
        "model": result.model,
        "refreshed": False,
        "testedAt": iso_time(result.tested_at),
    }
    if result.error is not None:
        body["error"], body["errorCode"] = result.error["message"], result.error["code"]
        body["diagnosis"] = result.diagnosis
    return answer(body)


@blueprint.post("/api/providers/<connection_id>/reset")
@operation(OneConnectionDocument)
def reset(connection_id: str) -> Response:
    """Forget errors and rests of a connection."""
    return answer(OneConnectionDocument(connection=shown(container().connections.reset(connection_id, origin()))))


@blueprint.post("/api/providers/reorder")
@operation(OrderedConnectionsDocument, body=_ORDER)
def reorder() -> Response:
    """Give a provider's connections an order."""
    values = _ORDER.read(request)
    ordered = container().connections.reorder(values["provider"], values["ids"], origin())
    return answer(OrderedConnectionsDocument(connections=[shown(row) for row in ordered]))


@blueprint.post("/api/providers/validate")
@operation(KeyTrialDocument, body=_TRIAL, refusals=(422,))
def validate() -> Response:
    """Try a key without storing it."""
    found = container().connections.validate(_TRIAL.read(request))
    body: KeyTrialDocument = {"valid": found.is_valid}
    if found.models:
        body["models"] = list(found.models)
    if found.error is not None:
        body["error"], body["errorCode"] = found.error["message"], found.error["code"]
    return answer(body)


def shown(connection: Connection) -> ConnectionDocument:
    """Return a connection as management answers show it; the key is masked."""
    connections = container().connections
    provider = connections.provider_of(connection)
    status, reason = connections.state_of(connection)
    standing = connections.standing_of(connection)
    error = connection.last_error
    if standing.status is not None:
        error = {"code": standing.reason, "message": standing.message, "at": standing.since}
    listed = len(connections.models_of(connection))
    return {
        "id": connection.id,
        "provider": connection.provider,
        "providerName": provider.name if provider is not None else None,
        "prefix": provider.prefix if provider is not None else None,
        "authType": connection.auth_type,
        "name": connection.name,
        "priority": connection.priority,
        "isActive": connection.is_active,
        "status": status,
        "statusReason": reason,
        "defaultModel": connection.default_model,
        "group": connection.group_name,
        "apiKey": service.masked_key(connection),
        "cooldownUntil": iso_time(standing.until),
        "backoffLevel": standing.backoff,
        "lastError": None
        if error is None
        else {"code": error.get("code"), "message": error.get("message"), "at": iso_time(error.get("at"))},
        "lastUsedAt": iso_time(connection.last_used_at),
        "lastTestedAt": iso_time(connection.last_tested_at),
        "requestsPerMinute": connection.requests_per_minute,
        "minTimeBetweenRequestsMs": connection.min_gap_ms,
        "concurrentRequests": connection.max_concurrent,
        "quotaCutoffs": dict(connection.quota_cutoffs),
        "proxyEnabled": connection.proxy_enabled,
        "models": {"total": listed, "active": listed if connection.is_active else 0},
        "providerData": dict(connection.provider_data),
        "createdAt": iso_time(connection.created_at),
        "updatedAt": iso_time(connection.updated_at),
    }

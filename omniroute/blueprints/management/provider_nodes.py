"""`/api/provider-nodes`: endpoints that the operator defines."""

from __future__ import annotations

from typing import Final, NotRequired, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import PAGING, SEARCH, ListDocument, Time, operation, sorting
from omniroute.blueprints.management.bodies import Fields, Order, Page, answer, flag, iso_time, listing, mapping, text
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.gateway.egress import MAX_URL
from omniroute.records import Node, NodeType
from omniroute.services import nodes as service

blueprint = Blueprint("management_provider_nodes", __name__)

_HEADERS: Final = mapping("customHeaders", nullable=True, max_items=service.MOST_HEADERS)
_OPTIONAL: Final = (
    text("apiType", nullable=True, choices=service.API_TYPES),
    text("chatPath", nullable=True, max_length=200),
    text("modelsPath", nullable=True, max_length=200),
    _HEADERS,
    flag("isLocal"),
)
_ORDER: Final[Order[Node]] = Order(
    searched=lambda node: (node.id, node.name, node.prefix, node.base_url),
    fields={
        "name": lambda node: node.name.casefold(),
        "prefix": lambda node: node.prefix,
        "createdAt": lambda node: node.created_at,
    },
)
_NEW: Final = Fields(
    text("name", required=True, max_length=100),
    text("prefix", required=True, max_length=64),
    text("type", required=True, choices=NodeType),
    text("baseUrl", required=True, max_length=MAX_URL),
    *_OPTIONAL,
)
_CHANGE: Final = Fields(
    text("name", max_length=100),
    text("prefix", max_length=64),
    text("type", choices=NodeType),
    text("baseUrl", max_length=MAX_URL),
    *_OPTIONAL,
)
_TRIAL: Final = Fields(
    text("baseUrl", required=True, max_length=MAX_URL),
    text("type", required=True, choices=NodeType),
    text("apiKey", nullable=True, secret=True, max_length=8192),
    text("modelsPath", nullable=True, max_length=200),
    flag("isLocal"),
)


class NodeDocument(TypedDict):
    """An endpoint that the operator defines; values of custom headers are masked."""

    id: str
    name: str
    prefix: str
    type: NodeType
    apiType: str | None
    baseUrl: str
    chatPath: str | None
    modelsPath: str | None
    customHeaders: dict[str, str]
    isLocal: bool
    createdAt: Time
    updatedAt: Time


class NodesDocument(ListDocument):
    """A page of nodes."""

    nodes: list[NodeDocument]


class OneNodeDocument(TypedDict):
    """One node."""

    node: NodeDocument


class RemovedNodeDocument(TypedDict):
    """What went with the node."""

    message: str
    deletedConnections: int


class NodeTrialDocument(TypedDict):
    """What an address said when it was asked for its models."""

    reachable: bool
    latencyMs: float | None
    models: NotRequired[list[str]]
    error: NotRequired[str]
    errorCode: NotRequired[str]


@blueprint.get("/api/provider-nodes")
@operation(NodesDocument, query=(*PAGING, *SEARCH, sorting("name", "prefix", "createdAt")))
def index() -> Response:
    """List the nodes."""
    page = Page.read(request)
    found = _ORDER.apply(request, container().nodes.all())
    return listing("nodes", [shown(node) for node in page.cut(found)], total=len(found), page=page)


@blueprint.post("/api/provider-nodes")
@operation(OneNodeDocument, status=201, body=_NEW, refusals=(409, 422))
def create() -> Response:
    """Define a node."""
    return answer(OneNodeDocument(node=shown(container().nodes.create(_NEW.read(request), origin()))), 201)


@blueprint.get("/api/provider-nodes/<node_id>")
@operation(OneNodeDocument)
def show(node_id: str) -> Response:
    """Show one node."""
    return answer(OneNodeDocument(node=shown(container().nodes.get(node_id))))


@blueprint.route("/api/provider-nodes/<node_id>", methods=["PUT", "PATCH"])
@operation(OneNodeDocument, body=_CHANGE, refusals=(409, 422))
def change(node_id: str) -> Response:
    """Change the given fields of a node."""
    return answer(OneNodeDocument(node=shown(container().nodes.change(node_id, _CHANGE.read(request), origin()))))


@blueprint.delete("/api/provider-nodes/<node_id>")
@operation(RemovedNodeDocument)
def delete(node_id: str) -> Response:
    """Remove a node and its connections."""
    removed = container().nodes.delete(node_id, origin())
    return answer(RemovedNodeDocument(message="The provider node was removed.", deletedConnections=removed))


@blueprint.post("/api/provider-nodes/validate")
@operation(NodeTrialDocument, body=_TRIAL, refusals=(422,))
def validate() -> Response:
    """Ask an address for its models without storing anything."""
    found = container().nodes.validate(_TRIAL.read(request))
    body: NodeTrialDocument = {"reachable": found.is_reachable, "latencyMs": found.latency_ms}
    if found.models:
        body["models"] = list(found.models)
    if found.error is not None:
        body["error"], body["errorCode"] = found.error["message"], found.error["code"]
    return answer(body)


def shown(node: Node) -> NodeDocument:
    """Return a node as management answers show it; values of custom headers are masked."""
    return {
        "id": node.id,
        "name": node.name,
        "prefix": node.prefix,
        "type": node.type,
        "apiType": node.api_type,
        "baseUrl": node.base_url,
        "chatPath": node.chat_path,
        "modelsPath": node.models_path,
        "customHeaders": {name: str(value) for name, value in node.custom_headers.items()},
        "isLocal": node.is_local,
        "createdAt": iso_time(node.created_at),
        "updatedAt": iso_time(node.updated_at),
    }

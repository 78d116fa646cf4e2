"""`/api/fallback/chains`: what is tried when a request's own targets are exhausted."""

from __future__ import annotations

from typing import Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import (
    PAGING,
    SEARCH,
    ListDocument,
    RemovedDocument,
    Time,
    one_of,
    operation,
    sorting,
)
from omniroute.blueprints.management.bodies import (
    Fields,
    Order,
    Page,
    answer,
    flag,
    integer,
    iso_time,
    listing,
    objects,
    read_object,
    text,
    texts,
)
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.records import FallbackChain
from omniroute.services import chains as service

blueprint = Blueprint("management_chains", __name__)

_NAME: Final = 300
_OPTIONAL: Final = (
    texts("match", min_items=1, max_items=service.MOST_GLOBS, max_length=_NAME),
    integer("order", minimum=0, maximum=service.MOST_ORDER),
    flag("enabled"),
)
_NEW: Final = Fields(
    text("name", required=True, max_length=100),
    texts("models", required=True, min_items=1, max_items=service.MOST_MODELS, max_length=_NAME),
    *_OPTIONAL,
)
_CHANGE: Final = Fields(
    text("name", max_length=100),
    texts("models", min_items=1, max_items=service.MOST_MODELS, max_length=_NAME),
    *_OPTIONAL,
)
_ENTRY: Final = Fields(
    text("provider", required=True, max_length=100),
    integer("priority", minimum=1, maximum=100),
    flag("enabled"),
)
_OF_MODEL: Final = Fields(
    text("model", required=True, max_length=_NAME),
    objects("chain", _ENTRY, required=True, min_items=1, max_items=service.MOST_MODELS),
)
_MODEL: Final = Fields(text("model", required=True, max_length=_NAME))
_ORDER: Final[Order[FallbackChain]] = Order(
    searched=lambda chain: (chain.id, chain.name, *chain.models),
    fields={
        "name": lambda chain: chain.name.casefold(),
        "order": lambda chain: chain.order,
        "createdAt": lambda chain: chain.created_at,
    },
)


class ChainDocument(TypedDict):
    """What is tried for requests of models that `match`, when their own targets are exhausted."""

    id: str
    name: str
    models: list[str]
    match: list[str]
    order: int
    enabled: bool
    createdAt: Time
    updatedAt: Time


class ChainsDocument(ListDocument):
    """A page of chains."""

    chains: list[ChainDocument]


class OneChainDocument(TypedDict):
    """One chain."""

    chain: ChainDocument


@blueprint.get("/api/fallback/chains")
@operation(ChainsDocument, query=(*PAGING, *SEARCH, sorting("name", "order", "createdAt")))
def index() -> Response:
    """List the chains in the order in which they are looked at."""
    page = Page.read(request)
    found = _ORDER.apply(request, container().chains.all())
    return listing("chains", [shown(chain) for chain in page.cut(found)], total=len(found), page=page)


@blueprint.post("/api/fallback/chains")
@operation(OneChainDocument, status=201, body=one_of(_NEW, _OF_MODEL), refusals=(409,))
def create() -> Response:
    """Create a chain; with `model` and `chain` that of one model."""
    body = read_object(request)
    chains = container().chains
    if "model" in body or "chain" in body:
        made = chains.create_of_model(_OF_MODEL.check(body), origin())
    else:
        made = chains.create(_NEW.check(body), origin())
    return answer({"chain": shown(made)}, 201)


@blueprint.delete("/api/fallback/chains")
@operation(RemovedDocument, body=_MODEL, refusals=(404,))
def delete_of_model() -> Response:
    """Remove the chain of one model."""
    gone = container().chains.delete_of_model(_MODEL.read(request)["model"], origin())
    return answer(RemovedDocument(success=True, id=gone.id))


@blueprint.get("/api/fallback/chains/<chain_id>")
@operation(OneChainDocument)
def show(chain_id: str) -> Response:
    """Show one chain."""
    return answer({"chain": shown(container().chains.get(chain_id))})


@blueprint.route("/api/fallback/chains/<chain_id>", methods=["PUT", "PATCH"])
@operation(OneChainDocument, body=_CHANGE, refusals=(409,))
def change(chain_id: str) -> Response:
    """Change the given fields of a chain."""
    return answer({"chain": shown(container().chains.change(chain_id, _CHANGE.read(request), origin()))})


@blueprint.delete("/api/fallback/chains/<chain_id>")
@operation(RemovedDocument)
def delete(chain_id: str) -> Response:
    """Remove a chain."""
    gone = container().chains.delete(chain_id, origin())
    return answer(RemovedDocument(success=True, id=gone.id))


def shown(chain: FallbackChain) -> ChainDocument:
    """Return a chain as management answers show it."""
    return {
        "id": chain.id,
        "name": chain.name,
        "models": list(chain.models),
        "match": list(chain.match),
        "order": chain.order,
        "enabled": chain.enabled,
        "createdAt": iso_time(chain.created_at),
        "updatedAt": iso_time(chain.updated_at),
    }

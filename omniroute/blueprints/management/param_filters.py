"""`/api/providers/{id}/param-filters`: parameters that are taken out of requests to a provider or set in them."""

from __future__ import annotations

from typing import Any, Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import operation
from omniroute.blueprints.management.bodies import Fields, answer, mapping, texts
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.services import param_filters as service
from omniroute.services.param_filters import Filtered

blueprint = Blueprint("management_param_filters", __name__)

_PUT: Final = Fields(
    texts("strip", max_items=service.MOST_NAMES, max_length=service.LONGEST_NAME),
    mapping("force", max_items=service.MOST_NAMES),
)


class ParamFiltersDocument(TypedDict):
    """What is taken out of requests to a provider, and what is set in them."""

    provider: str
    strip: list[str]
    force: dict[str, Any]


@blueprint.get("/api/providers/<connection_id>/param-filters")
@operation(ParamFiltersDocument, refusals=(404,))
def show(connection_id: str) -> Response:
    """Show which parameters of requests to a provider are changed.

    The id is that of a provider or node, or of one of its connections.
    """
    return answer(shown(container().provider_filters.get(connection_id)))


@blueprint.route("/api/providers/<connection_id>/param-filters", methods=["PUT", "PATCH"])
@operation(ParamFiltersDocument, body=_PUT, refusals=(404,))
def put(connection_id: str) -> Response:
    """Set which parameters of requests to a provider are changed, in place of those before.

    `strip` names members of the request that are taken out; `force` gives members that are set whatever the caller
    says. A name with dots leads into objects (`generationConfig.temperature`). What makes the request (its messages,
    tools, model) cannot be changed. Both empty is the same as DELETE.
    """
    values = _PUT.read(request)
    made = container().provider_filters.put(connection_id, values.get("strip", ()), values.get("force", {}), origin())
    return answer(shown(made))


@blueprint.delete("/api/providers/<connection_id>/param-filters")
@operation(ParamFiltersDocument, refusals=(404,))
def delete(connection_id: str) -> Response:
    """Send requests to a provider as they are again."""
    return answer(shown(container().provider_filters.delete(connection_id, origin())))


def shown(filtered: Filtered) -> ParamFiltersDocument:
    """Return filters as management answers show them."""
    return {
        "provider": filtered.provider.id,
        "strip": list(filtered.filters.strip),
        "force": dict(filtered.filters.force),
    }

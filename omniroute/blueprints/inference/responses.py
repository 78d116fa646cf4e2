"""The sub-paths of `/v1/responses`: responses by id, and compacting."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, request

from omniroute.blueprints import guard
from omniroute.blueprints.contract import Body, Query, operation
from omniroute.blueprints.inference.chat import Way, as_response, serve
from omniroute.blueprints.inference.documents import (
    DeletedResponseDocument,
    InputItemsDocument,
    ResponseDocument,
    ResponsesRequestDocument,
)
from omniroute.blueprints.tiers import INFERENCE_MOUNTS
from omniroute.container import container
from omniroute.gateway.dialects import Surface

blueprint = Blueprint("responses", __name__)

_COMPACT: Final = Way(Surface.RESPONSES_COMPACT, "/v1/responses/compact")


_BY_PROVIDER: Final = (502, 504)


@operation(ResponseDocument, refusals=_BY_PROVIDER, query=(Query("include", "Passed on to the provider."),))
def show(response_id: str) -> Response:
    """Return a response."""
    return as_response(container().stored_responses.show(guard.caller(), response_id, _query()))


@operation(DeletedResponseDocument, refusals=_BY_PROVIDER)
def delete(response_id: str) -> Response:
    """Remove a response."""
    return as_response(container().stored_responses.delete(guard.caller(), response_id))


@operation(ResponseDocument)
def cancel(response_id: str) -> Response:
    """Cancel a response that runs in the background."""
    return as_response(container().stored_responses.cancel(guard.caller(), response_id))


@operation(
    InputItemsDocument,
    refusals=_BY_PROVIDER,
    query=(
        Query("limit", "How many items at most.", "integer", minimum=1, maximum=100),
        Query("order", "The direction.", choices=("asc", "desc")),
        Query("after", "Only items after this one."),
    ),
)
def input_items(response_id: str) -> Response:
    """List what led to a response."""
    return as_response(container().stored_responses.input_items(guard.caller(), response_id, _query()))


@operation(ResponseDocument, body=Body(ResponsesRequestDocument))
def compact() -> Response:
    """Compact a conversation."""
    return as_response(serve(request.environ, container(), _COMPACT, is_stream=False))


def _query() -> list[tuple[str, str]]:
    return list(request.args.items(multi=True))


for _mount in INFERENCE_MOUNTS:
    _base = f"{_mount}/responses"
    blueprint.add_url_rule(f"{_base}/compact", view_func=compact, methods=["POST"])
    blueprint.add_url_rule(f"{_base}/<response_id>", view_func=show, methods=["GET"])
    blueprint.add_url_rule(f"{_base}/<response_id>", view_func=delete, methods=["DELETE"])
    blueprint.add_url_rule(f"{_base}/<response_id>/cancel", view_func=cancel, methods=["POST"])
    blueprint.add_url_rule(f"{_base}/<response_id>/input_items", view_func=input_items, methods=["GET"])

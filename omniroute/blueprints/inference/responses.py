"""The sub-paths of `/v1/responses`: responses by id, and compacting."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, request

from omniroute.blueprints import guard
from omniroute.blueprints.inference.chat import Way, as_response, serve
from omniroute.blueprints.tiers import INFERENCE_MOUNTS
from omniroute.container import container
from omniroute.gateway.dialects import Surface

blueprint = Blueprint("responses", __name__)

_COMPACT: Final = Way(Surface.RESPONSES_COMPACT, "/v1/responses/compact")


def show(response_id: str) -> Response:
    """Return a response."""
    return as_response(container().stored_responses.show(guard.caller(), response_id, _query()))


def delete(response_id: str) -> Response:
    """Remove a response."""
    return as_response(container().stored_responses.delete(guard.caller(), response_id))


def cancel(response_id: str) -> Response:
    """Cancel a response that runs in the background."""
    return as_response(container().stored_responses.cancel(guard.caller(), response_id))


def input_items(response_id: str) -> Response:
    """List what led to a response."""
    return as_response(container().stored_responses.input_items(guard.caller(), response_id, _query()))


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

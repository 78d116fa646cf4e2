"""Counting tokens before a request is sent."""

from __future__ import annotations

from flask import Blueprint, Response, request

from omniroute.blueprints.inference.chat import ENDPOINTS, as_response, call_of
from omniroute.blueprints.tiers import INFERENCE_MOUNTS
from omniroute.container import container

blueprint = Blueprint("counting", __name__)


def count_tokens() -> Response:
    """Count the tokens of a Messages request."""
    own = container()
    return as_response(own.counting.messages(call_of(request.environ, own, ENDPOINTS["/messages"])))


for _mount in INFERENCE_MOUNTS:
    blueprint.add_url_rule(f"{_mount}/messages/count_tokens", view_func=count_tokens, methods=["POST"])

"""Counting tokens before a request is sent."""

from __future__ import annotations

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import Body, operation
from omniroute.blueprints.inference.chat import ENDPOINTS, as_response, call_of
from omniroute.blueprints.inference.documents import MessagesCountRequestDocument, TokenCountDocument
from omniroute.blueprints.tiers import INFERENCE_MOUNTS, PINNED_MESSAGES
from omniroute.container import container

blueprint = Blueprint("counting", __name__)


@operation(TokenCountDocument, body=Body(MessagesCountRequestDocument))
def count_tokens(provider: str | None = None) -> Response:
    """Count the tokens of a Messages request."""
    own = container()
    call = call_of(request.environ, own, ENDPOINTS["/messages"], provider=provider)
    return as_response(own.counting.messages(call))


for _mount in INFERENCE_MOUNTS:
    blueprint.add_url_rule(f"{_mount}/messages/count_tokens", view_func=count_tokens, methods=["POST"])
    for _messages in PINNED_MESSAGES:
        _rule = f"{_mount}/providers/<provider>{_messages}/count_tokens"
        blueprint.add_url_rule(_rule, view_func=count_tokens, methods=["POST"])

"""Chat endpoints: OpenAI Chat Completions and Anthropic Messages, at every mount where clients look for them.

A call takes one of two ways to the same function. POST to the exact path takes the *lane* (`lane.py`), past Flask's
request machinery; anything else that Flask routes here (a trailing slash, a dashboard session) comes through the views.
"""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response, request

from omniroute.blueprints.guard import CALLER, REQUEST_ID
from omniroute.blueprints.inference.body import read_json_bytes
from omniroute.blueprints.tiers import INFERENCE_MOUNTS
from omniroute.container import Container, container
from omniroute.formats.wire import WireFormat
from omniroute.gateway.inference import Answer, Call, ClientGone
from omniroute.providers.requests import forwardable

blueprint = Blueprint("chat", __name__)

NOBODY_LISTENS: Final = 499
ENDPOINTS: Final = {
    "/chat/completions": (WireFormat.OPENAI_CHAT, "/v1/chat/completions"),
    "/messages": (WireFormat.ANTHROPIC_MESSAGES, "/v1/messages"),
}
"""Path below a mount, to the format spoken there and the name of the endpoint in the log."""


def chat_completions() -> Response:
    """Serve `POST /v1/chat/completions`."""
    return _answer("/chat/completions")


def messages() -> Response:
    """Serve `POST /v1/messages`."""
    return _answer("/messages")


for _mount in INFERENCE_MOUNTS:
    blueprint.add_url_rule(f"{_mount}/chat/completions", view_func=chat_completions, methods=["POST"])
    blueprint.add_url_rule(f"{_mount}/messages", view_func=messages, methods=["POST"])


def _answer(path: str) -> Response:
    answer = serve(request.environ, container(), *ENDPOINTS[path])
    return Response(answer.body, status=answer.status, headers=dict(answer.headers))


def serve(environ: dict[str, Any], own: Container, client_format: WireFormat, endpoint: str) -> Answer:
    """Serve an admitted call, read from its WSGI environment.

    Raises:
        OmniRouteError: to be rendered in the dialect of the path.
    """
    settings = own.settings
    call = Call(
        request_id=environ[REQUEST_ID],
        endpoint=endpoint,
        client_format=client_format,
        body=read_json_bytes(
            environ,
            limit=settings.chat_max_body_bytes,
            read_timeout_s=settings.client_read_timeout_ms / 1000,
            # A client that takes no bytes for this long is treated as gone: the server's write raises.
            write_timeout_s=settings.client_write_timeout_ms / 1000,
        ),
        caller=environ[CALLER],
        client_headers=forwardable(environ),
        accepts_stream="text/event-stream" in environ.get("HTTP_ACCEPT", ""),
        tag=environ.get("HTTP_X_OMNIROUTE_TAG"),
        client_socket=environ.get("gunicorn.socket"),
    )
    try:
        return own.inference.open(call)
    except ClientGone:
        return Answer(NOBODY_LISTENS, {}, b"")

"""Chat endpoints: OpenAI Chat Completions and Anthropic Messages, at every mount where clients look for them."""

from __future__ import annotations

from flask import Blueprint, Response, request

from omniroute.blueprints.guard import CALLER, REQUEST_ID
from omniroute.blueprints.inference.body import read_json_bytes
from omniroute.blueprints.tiers import INFERENCE_MOUNTS
from omniroute.container import container
from omniroute.gateway.inference import Call, ClientGone
from omniroute.providers.requests import forwardable
from omniroute.providers.spec import WireFormat

blueprint = Blueprint("chat", __name__)

_NOBODY_LISTENS = 499


def chat_completions() -> Response:
    """Serve `POST /v1/chat/completions`."""
    return _serve(WireFormat.OPENAI_CHAT, "/v1/chat/completions")


def messages() -> Response:
    """Serve `POST /v1/messages`."""
    return _serve(WireFormat.ANTHROPIC_MESSAGES, "/v1/messages")


for _mount in INFERENCE_MOUNTS:
    blueprint.add_url_rule(f"{_mount}/chat/completions", view_func=chat_completions, methods=["POST"])
    blueprint.add_url_rule(f"{_mount}/messages", view_func=messages, methods=["POST"])


def _serve(client_format: WireFormat, endpoint: str) -> Response:
    own = container()
    environ = request.environ
    settings = own.settings
    body = read_json_bytes(
        request,
        limit=settings.chat_max_body_bytes,
        read_timeout_s=settings.client_read_timeout_ms / 1000,
    )
    call = Call(
        request_id=environ[REQUEST_ID],
        endpoint=endpoint,
        client_format=client_format,
        body=body,
        caller=environ[CALLER],
        client_headers=forwardable(environ),
        accepts_stream="text/event-stream" in environ.get("HTTP_ACCEPT", ""),
        tag=environ.get("HTTP_X_OMNIROUTE_TAG"),
        client_socket=environ.get("gunicorn.socket"),
    )
    try:
        answer = own.inference.open(call)
    except ClientGone:
        return Response(status=_NOBODY_LISTENS)
    if not isinstance(answer.body, bytes) and call.client_socket is not None:
        # A client that takes no bytes for this long is treated as gone: the server's write raises.
        call.client_socket.settimeout(settings.client_write_timeout_ms / 1000)
    return Response(answer.body, status=answer.status, headers=dict(answer.headers))

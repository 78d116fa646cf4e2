"""The conversation endpoints of all four protocols (and Ollama's), at every mount where clients look for them.

A call takes one of two ways to the same function. POST to the exact path takes the *lane* (`lane.py`), past Flask's
request machinery; anything else that Flask routes here (a trailing slash, a dashboard session) comes through the views.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import Body, Query, operation
from omniroute.blueprints.guard import CALLER, REQUEST_ID
from omniroute.blueprints.inference import asks, documents
from omniroute.blueprints.inference.body import read_json_bytes
from omniroute.blueprints.tiers import (
    GEMINI_BARE_PREFIX,
    GEMINI_MOUNTS,
    INFERENCE_MOUNTS,
    OLLAMA_MOUNTS,
    PINNED_MESSAGES,
)
from omniroute.container import Container, container
from omniroute.errors import NotFound
from omniroute.gateway.dialects import Surface
from omniroute.gateway.handover import Answer, Call, ClientGone
from omniroute.gateway.slices import Slices
from omniroute.providers.requests import forwardable

blueprint = Blueprint("chat", __name__)

NOBODY_LISTENS: Final = 499


@dataclass(frozen=True, slots=True)
class Way:
    """One endpoint: the protocol spoken there, and its name in the log."""

    surface: Surface
    endpoint: str
    takes_any_type: bool = False


ENDPOINTS: Final = {
    "/chat/completions": Way(Surface.OPENAI_CHAT, "/v1/chat/completions"),
    "/completions": Way(Surface.OPENAI_COMPLETIONS, "/v1/completions"),
    "/responses": Way(Surface.OPENAI_RESPONSES, "/v1/responses"),
    "/messages": Way(Surface.ANTHROPIC_MESSAGES, "/v1/messages"),
}
"""Path below a mount to its way."""
OLLAMA_ENDPOINTS: Final = {
    # The vendor's documentation calls these without a content type.
    "/api/chat": Way(Surface.OLLAMA_CHAT, "/api/chat", takes_any_type=True),
    "/api/generate": Way(Surface.OLLAMA_GENERATE, "/api/generate", takes_any_type=True),
}
WAYS: Final = {
    **{mount + path: way for mount in INFERENCE_MOUNTS for path, way in ENDPOINTS.items()},
    **{mount + path: way for mount in OLLAMA_MOUNTS for path, way in OLLAMA_ENDPOINTS.items()},
}
"""Whole path to its way."""
GEMINI_PREFIXES: Final = (*(f"{mount}/models/" for mount in GEMINI_MOUNTS), GEMINI_BARE_PREFIX)
"""What stands before `{model}:{action}`, the longest first."""
PINNED: Final = {
    **{path: way for path, way in ENDPOINTS.items() if path != "/messages"},
    **dict.fromkeys(PINNED_MESSAGES, ENDPOINTS["/messages"]),
}
"""Path below a provider's own path to its way."""
_GENERATE: Final = Way(Surface.GEMINI, "/v1beta/models:generateContent")
_STREAM: Final = Way(Surface.GEMINI, "/v1beta/models:streamGenerateContent")
_STREAM_ARRAY: Final = Way(Surface.GEMINI_ARRAY, "/v1beta/models:streamGenerateContent")


_CONTRACTS: Final = {
    Surface.OPENAI_CHAT: operation(
        documents.ChatCompletionDocument, others=documents.EVENTS, body=Body(documents.ChatRequestDocument)
    ),
    Surface.OPENAI_COMPLETIONS: operation(
        documents.CompletionDocument, others=documents.EVENTS, body=Body(documents.CompletionRequestDocument)
    ),
    Surface.OPENAI_RESPONSES: operation(
        documents.ResponseDocument, others=documents.EVENTS, body=Body(documents.ResponsesRequestDocument)
    ),
    Surface.ANTHROPIC_MESSAGES: operation(
        documents.MessageDocument, others=documents.EVENTS, body=Body(documents.MessagesRequestDocument)
    ),
    Surface.OLLAMA_CHAT: operation(
        documents.OllamaAnswerDocument, others=documents.LINES, body=Body(documents.OllamaChatRequestDocument)
    ),
    Surface.OLLAMA_GENERATE: operation(
        documents.OllamaAnswerDocument, others=documents.LINES, body=Body(documents.OllamaGenerateRequestDocument)
    ),
}
_SUMMARIES: Final = {
    Surface.OPENAI_CHAT: "Go on with a conversation",
    Surface.OPENAI_COMPLETIONS: "Go on with a text",
    Surface.OPENAI_RESPONSES: "Make a response",
    Surface.ANTHROPIC_MESSAGES: "Go on with a conversation",
    Surface.OLLAMA_CHAT: "Go on with a conversation",
    Surface.OLLAMA_GENERATE: "Go on with a text",
}


def _view(path: str, way: Way) -> Callable[[], Response]:
    def view() -> Response:
        return as_response(serve(request.environ, container(), way))

    view.__name__ = path.strip("/").replace("/", "_")
    view.__doc__ = f"{_SUMMARIES[way.surface]}."
    return _CONTRACTS[way.surface](view)


def _pinned_view(path: str, way: Way) -> Callable[[str], Response]:
    def view(provider: str) -> Response:
        return as_response(serve(request.environ, container(), way, provider=provider))

    view.__name__ = "pinned_" + path.strip("/").replace("/", "_")
    view.__doc__ = f"{_SUMMARIES[way.surface]} at one provider only."
    return _CONTRACTS[way.surface](view)


for _mounts, _ways in ((INFERENCE_MOUNTS, ENDPOINTS), (OLLAMA_MOUNTS, OLLAMA_ENDPOINTS)):
    for _path, _way in _ways.items():
        _served = _view(_path, _way)
        for _mount in _mounts:
            blueprint.add_url_rule(_mount + _path, view_func=_served, methods=["POST"])
for _path, _way in PINNED.items():
    _pinned = _pinned_view(_path, _way)
    for _mount in INFERENCE_MOUNTS:
        blueprint.add_url_rule(f"{_mount}/providers/<provider>{_path}", view_func=_pinned, methods=["POST"])


@operation(
    documents.GenerateContentDocument,
    others={
        "text/event-stream": {"type": "string", "description": "Of `:streamGenerateContent` with `alt=sse`."},
    },
    body=Body(documents.GenerateContentRequestDocument),
    query=(Query("alt", "How `:streamGenerateContent` streams: events with sse, else an array.", choices=("sse",)),),
)
def gemini(model: str) -> Response:
    """Go on with a conversation, or count its tokens.

    The action stands behind the model: `:generateContent`, `:streamGenerateContent` or `:countTokens`.
    """
    return as_response(serve_gemini(request.environ, container(), model))


for _prefix in GEMINI_PREFIXES:
    blueprint.add_url_rule(f"{_prefix}<path:model>", view_func=gemini, methods=["POST"])


def as_response(answer: Answer) -> Response:
    """Return an answer as Flask's."""
    return Response(answer.body, status=answer.status, headers=dict(answer.headers))


def serve_gemini(environ: dict[str, Any], own: Container, named: str) -> Answer:
    """Serve an admitted call whose path ends with `{model}:{action}`.

    Raises:
        OmniRouteError: to be rendered in the dialect of the path.
    """
    model, _, action = named.removesuffix("/").rpartition(":")
    match action:
        case "generateContent":
            return serve(environ, own, _GENERATE, model=model, is_stream=False)
        case "streamGenerateContent":
            is_sse = parse_qs(environ.get("QUERY_STRING", "")).get("alt") == ["sse"]
            return serve(environ, own, _STREAM if is_sse else _STREAM_ARRAY, model=model, is_stream=True)
        case "countTokens":
            return own.counting.gemini(call_of(environ, own, _GENERATE, model=model))
        case _:
            raise NotFound("Call models/{model}:generateContent, :streamGenerateContent or :countTokens.")


def serve(
    environ: dict[str, Any],
    own: Container,
    way: Way,
    *,
    model: str | None = None,
    is_stream: bool | None = None,
    provider: str | None = None,
) -> Answer:
    """Serve an admitted call, read from its WSGI environment.

    Raises:
        OmniRouteError: to be rendered in the dialect of the path.
    """
    try:
        return own.inference.open(call_of(environ, own, way, model=model, is_stream=is_stream, provider=provider))
    except ClientGone:
        return Answer(NOBODY_LISTENS, {}, b"")


def call_of(
    environ: dict[str, Any],
    own: Container,
    way: Way,
    *,
    model: str | None = None,
    is_stream: bool | None = None,
    provider: str | None = None,
) -> Call:
    """Read an admitted call from its WSGI environment; `model`, `is_stream` and `provider` are what its path says."""
    settings = own.settings
    return Call(
        request_id=environ[REQUEST_ID],
        endpoint=way.endpoint,
        surface=way.surface,
        body=read_json_bytes(
            environ,
            limit=settings.chat_max_body_bytes,
            read_timeout_s=settings.client_read_timeout_ms / 1000,
            # A client that takes no bytes for this long is treated as gone: the server's write raises.
            write_timeout_s=settings.client_write_timeout_ms / 1000,
            takes_any_type=way.takes_any_type,
            pause=Slices(own.inference.now),
        ),
        caller=environ[CALLER],
        client_headers=forwardable(environ),
        accepts_stream="text/event-stream" in environ.get("HTTP_ACCEPT", ""),
        tag=environ.get("HTTP_X_OMNIROUTE_TAG"),
        client_socket=environ.get("gunicorn.socket"),
        model=model,
        is_stream=is_stream,
        provider=provider,
        asks=asks.read(environ),
    )

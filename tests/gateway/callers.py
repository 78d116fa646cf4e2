"""Clients of every dialect, and nodes of every format, for tests that go through all pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omniroute.blueprints.management.errors import headers_of
from omniroute.errors import OmniRouteError
from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import DIALECTS, Surface
from omniroute.records import NodeType
from tests.gateway.conftest import Bench

NODES: Mapping[WireFormat, dict[str, Any]] = {
    WireFormat.OPENAI_CHAT: {"node_type": NodeType.OPENAI},
    WireFormat.OPENAI_RESPONSES: {"node_type": NodeType.OPENAI, "api_type": "responses"},
    WireFormat.ANTHROPIC_MESSAGES: {"node_type": NodeType.ANTHROPIC},
    WireFormat.GEMINI: {"node_type": NodeType.GEMINI},
    WireFormat.OLLAMA: {"node_type": NodeType.OLLAMA},
}
"""What makes the test node speak a format."""

REQUESTS: Mapping[Surface, dict[str, Any]] = {
    Surface.OPENAI_CHAT: {"messages": [{"role": "user", "content": "hi"}]},
    Surface.OPENAI_COMPLETIONS: {"prompt": "hi"},
    Surface.OPENAI_RESPONSES: {"input": "hi"},
    Surface.ANTHROPIC_MESSAGES: {"max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]},
    Surface.GEMINI: {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    Surface.GEMINI_ARRAY: {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    Surface.OLLAMA_CHAT: {"messages": [{"role": "user", "content": "hi"}]},
    Surface.OLLAMA_GENERATE: {"prompt": "hi"},
}

SURFACES = tuple(REQUESTS)
"""The ways in to conversations."""
OPENAI = (Surface.OPENAI_CHAT, Surface.OPENAI_COMPLETIONS, Surface.OPENAI_RESPONSES)
GOOGLE = (Surface.GEMINI, Surface.GEMINI_ARRAY)
OLLAMA = (Surface.OLLAMA_CHAT, Surface.OLLAMA_GENERATE)


Told = tuple[int, Mapping[str, str], bytes]


def rendered(surface: Surface, error: OmniRouteError) -> Told:
    """What a view makes of an error."""
    dialect = DIALECTS[surface]
    return dialect.status_of(error), headers_of(error), dialect.render_error(error, "req_1")


def asked(bench: Bench, surface: Surface, *, is_stream: bool, model: str = "m-1", **members: Any) -> Told:
    """Call as a client of a dialect does; an error is rendered as the views do it."""
    body = {**REQUESTS[surface], **members}
    more: dict[str, Any] = {}
    if surface in GOOGLE:
        more = {"model": f"up/{model}", "is_stream": is_stream}
    else:
        body |= {"model": f"up/{model}", "stream": is_stream}
    try:
        given = bench.call(body, surface, **more)
    except OmniRouteError as error:
        return rendered(surface, error)
    if isinstance(given.body, bytes):
        return given.status, given.headers, given.body
    try:
        return given.status, given.headers, b"".join(given.body)
    finally:
        given.body.close()

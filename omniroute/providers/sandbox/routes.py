"""Which path belongs to which vendor, and what it does there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qs, unquote

from omniroute.providers.sandbox.script import Dialect

_POST: Final = ("POST",)
_GET: Final = ("GET", "HEAD")


class Action(StrEnum):
    """What is done on a path."""

    ANSWER = "answer"
    COMPLETE = "complete"
    COUNT = "count"
    COMPACT = "compact"
    STORED = "stored"
    MODELS = "models"
    SHOW = "show"
    VERSION = "version"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Route:
    """A path, understood.

    Attributes:
        name: the model or the id that the path names.
        is_array: a stream comes as one JSON array.
        key: the credential in the query, empty without one.
    """

    dialect: Dialect
    action: Action
    methods: tuple[str, ...] = _POST
    name: str = ""
    is_stream: bool = False
    is_array: bool = False
    key: str = ""


_FIXED: Final[Mapping[str, Route]] = {
    "/chat/completions": Route(Dialect.OPENAI_CHAT, Action.ANSWER),
    "/completions": Route(Dialect.OPENAI_CHAT, Action.COMPLETE),
    "/responses": Route(Dialect.OPENAI_RESPONSES, Action.ANSWER),
    "/responses/compact": Route(Dialect.OPENAI_RESPONSES, Action.COMPACT),
    "/responses/input_tokens": Route(Dialect.OPENAI_RESPONSES, Action.COUNT),
    "/messages": Route(Dialect.ANTHROPIC_MESSAGES, Action.ANSWER),
    "/messages/count_tokens": Route(Dialect.ANTHROPIC_MESSAGES, Action.COUNT),
    "/api/chat": Route(Dialect.OLLAMA, Action.ANSWER),
    "/api/tags": Route(Dialect.OLLAMA, Action.MODELS, _GET),
    "/api/show": Route(Dialect.OLLAMA, Action.SHOW),
    "/api/version": Route(Dialect.OLLAMA, Action.VERSION, _GET),
}
# As clients spell them nearly always: these need no trimming.
_EXACT: Final[Mapping[str, Route]] = {**_FIXED, **{f"/v1{path}": route for path, route in _FIXED.items()}}
_MODELS: Final = "/models"
_RESPONSES: Final = "/responses/"


def find_route(target: str, headers: Mapping[str, str]) -> Route:
    """Return what a request for `target` means; header names in lower case."""
    if (exact := _EXACT.get(target)) is not None:
        return exact
    path, _, query = target.partition("?")
    route = _trimmed(path)
    if (fixed := _FIXED.get(route)) is not None:
        return fixed
    is_beta = path.startswith("/v1beta")
    if route == _MODELS or route.startswith(_MODELS + "/"):
        name = unquote(route[len(_MODELS) + 1 :])
        if ":" in name and "/" not in name.rpartition(":")[2]:
            return _gemini(name, query)
        dialect = Dialect.GEMINI if is_beta else _caller(headers)
        return Route(dialect, Action.MODELS, _GET, name, key=_key(query))
    if route.startswith(_RESPONSES):
        return Route(Dialect.OPENAI_RESPONSES, Action.STORED, ("GET", "DELETE", "POST"), route[len(_RESPONSES) :])
    if is_beta:
        return Route(Dialect.GEMINI, Action.UNKNOWN, key=_key(query))
    return Route(Dialect.OLLAMA if route.startswith("/api/") else _caller(headers), Action.UNKNOWN)


def _trimmed(path: str) -> str:
    for prefix in ("/v1beta", "/v1"):
        if path.startswith(prefix + "/"):
            return path[len(prefix) :].rstrip("/")
    return path.rstrip("/")


def _caller(headers: Mapping[str, str]) -> Dialect:
    """Return the vendor that a client expects, by the headers that only its own clients send."""
    if "anthropic-version" in headers:
        return Dialect.ANTHROPIC_MESSAGES
    return Dialect.GEMINI if "x-goog-api-key" in headers else Dialect.OPENAI_CHAT


def _gemini(name: str, query: str) -> Route:
    model, _, verb = name.rpartition(":")
    key = _key(query)
    match verb:
        case "generateContent":
            return Route(Dialect.GEMINI, Action.ANSWER, name=model, key=key)
        case "streamGenerateContent":
            is_array = "sse" not in parse_qs(query).get("alt", ())
            return Route(Dialect.GEMINI, Action.ANSWER, name=model, is_stream=True, is_array=is_array, key=key)
        case "countTokens":
            return Route(Dialect.GEMINI, Action.COUNT, name=model, key=key)
        case _:
            return Route(Dialect.GEMINI, Action.UNKNOWN, name=model, key=key)


def _key(query: str) -> str:
    return (parse_qs(query).get("key") or [""])[0] if query else ""

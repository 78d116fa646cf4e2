"""Refusals as the API's description tells them: the envelope of each family, and who gives which status when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NotRequired, TypedDict

from omniroute.blueprints.contract import JSON, Operation
from omniroute.blueprints.tiers import Family, Route, Tier

TEXT: Final = "text/plain"


class FieldFaultDocument(TypedDict):
    """A field and what is wrong with it; the field is empty where the body as a whole is meant."""

    field: str
    message: str


class RefusalDocument(TypedDict):
    """What went wrong: a stable code, and a sentence for people that holds no secret."""

    code: str
    message: str
    requestId: str
    details: NotRequired[list[FieldFaultDocument] | dict[str, Any]]


class ManagementErrorDocument(TypedDict):
    """A refusal on a management path."""

    error: RefusalDocument


class OpenAiRefusalDocument(TypedDict):
    """What went wrong, in OpenAI's members; further ones depend on the code."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAiErrorDocument(TypedDict):
    """A refusal on a path that speaks OpenAI's dialect."""

    error: OpenAiRefusalDocument


class AnthropicRefusalDocument(TypedDict):
    """What went wrong, in Anthropic's members."""

    type: str
    message: str


class AnthropicErrorDocument(TypedDict):
    """A refusal on a path that speaks Anthropic's dialect."""

    type: Literal["error"]
    error: AnthropicRefusalDocument
    request_id: str | None


class GeminiRefusalDocument(TypedDict):
    """What went wrong, in the members of Google's services."""

    code: int
    message: str
    status: str
    details: NotRequired[list[dict[str, Any]]]


class GeminiErrorDocument(TypedDict):
    """A refusal on a path that speaks Gemini's dialect."""

    error: GeminiRefusalDocument


class OllamaErrorDocument(TypedDict):
    """A refusal on a path that speaks Ollama's dialect."""

    error: str


ENVELOPES: Final[Mapping[Family, tuple[str, Any]]] = {
    Family.MANAGEMENT: (JSON, ManagementErrorDocument),
    Family.OPENAI: (JSON, OpenAiErrorDocument),
    Family.ANTHROPIC: (JSON, AnthropicErrorDocument),
    Family.GEMINI: (JSON, GeminiErrorDocument),
    Family.OLLAMA: (JSON, OllamaErrorDocument),
    Family.PLAIN: (TEXT, str),
}
"""The media type and the shape of refusals by family."""

REASONS: Final[Mapping[int, str]] = {
    400: "The request is not valid: unreadable, a wrong, unknown or missing field or parameter, two different keys.",
    401: "No credential that counts: none, an unknown, expired or revoked one.",
    402: "A budget of the caller is spent.",
    403: "The credential may not do this: its scope is too narrow, or the place it comes from is not allowed.",
    404: "There is no such thing, or not for this caller.",
    405: "The path exists with other methods; `Allow` lists them.",
    408: "The body did not arrive in time.",
    409: "The change collides with what is stored or running.",
    413: "The body is too large.",
    415: "The body has another content type than the operation reads.",
    422: "An address in the request must not be called, or the provider cannot process the request.",
    424: "Something that this depends on failed.",
    429: "A limit is reached; `Retry-After` says when it ends.",
    499: "The request was cancelled.",
    500: "The gateway failed; the request id leads to the log entry.",
    502: "The provider cannot be reached, or its answer cannot be read.",
    503: "Not now: the server stops, its database does not answer, or no connection can serve.",
    504: "The provider did not answer in time.",
    529: "Not now: the server stops, or no connection can serve.",
}
"""What each status says."""

_KEYED: Final = frozenset({Tier.C, Tier.M_READ, Tier.M_WRITE, Tier.M_ADMIN, Tier.X, Tier.L, Tier.S})
_OF_CALLS: Final = (402, 404, 408, 409, 422, 424, 499, 502, 503, 504)
"""What a call to a model can end with beside what its tier refuses."""
_ANTHROPIC: Final = {502: 500, 503: 529}
_GEMINI: Final = {502: 500}


def statuses_of(route: Route, declared: Operation, *, method: str, has_path: bool) -> list[int]:
    """Return the statuses with which an operation can refuse, in the dialect of its family."""
    found = {*_given(route, declared, has_path=has_path), *declared.refusals}
    if route.tier is Tier.C and method == "POST":
        found.update(_OF_CALLS)
    if route.family is Family.ANTHROPIC:
        found = {_ANTHROPIC.get(status, status) for status in found} | {500}
    elif route.family is Family.GEMINI:
        found = {_GEMINI.get(status, status) for status in found}
    return sorted(found)


def _given(route: Route, declared: Operation, *, has_path: bool) -> Iterator[int]:
    """Give what no view has to declare: it comes from the guard, from the reading of bodies, or from below."""
    yield from (403, 500, 503)  # 403 also by the filter of addresses, which stands before all tiers
    if route.tier in _KEYED:
        yield from (400, 401, 429)
    if declared.query:
        yield 400
    if declared.body is not None or declared.form is not None:
        yield from (400, 413, 415)
    if has_path:
        yield from (404, 405)

"""Ask a provider something small and say what came back: the calls behind tests and validations of connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from omniroute.errors import (
    InvalidRequest,
    OmniRouteError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnreachable,
    UrlBlocked,
)
from omniroute.formats.wire import WireFormat
from omniroute.gateway.answers import read_all
from omniroute.gateway.ports import Transport, UpstreamResponse
from omniroute.providers.classify import classify
from omniroute.providers.requests import Endpoint, build
from omniroute.providers.upstream import Deadlines, UpstreamRequest
from omniroute.routing.failures import Failure, FailureClass

DEADLINES: Final = Deadlines(connect_s=10.0, headers_s=20.0, content_s=20.0, idle_s=20.0, total_s=30.0)
MAX_LISTED: Final = 1000

_MAX_BODY: Final = 8 * 1024 * 1024
_MAX_MODEL_ID: Final = 240
_STREAM_TYPES: Final = ("text/event-stream", "application/x-ndjson", "application/stream+json")
_PROMPT: Final = "Hi"

# Formats in the order in which a connection is tried: the plainest first.
PREFERRED: Final = (
    WireFormat.OPENAI_CHAT,
    WireFormat.ANTHROPIC_MESSAGES,
    WireFormat.OPENAI_RESPONSES,
    WireFormat.GEMINI,
    WireFormat.OLLAMA,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one question found; `failure` is None when it was answered as hoped."""

    latency_ms: float
    status: int | None = None
    failure: Failure | None = None
    models: tuple[str, ...] = ()

    @property
    def is_ok(self) -> bool:
        """Whether the provider answered as hoped."""
        return self.failure is None


class Prober:
    """Sends the questions. `monotonic` measures, `now` is the time of day for retry hints."""

    def __init__(self, *, transport: Transport, now: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._transport = transport
        self._now = now
        self._monotonic = monotonic

    def ask(
        self,
        endpoint: Endpoint,
        model: str,
        *,
        stream: bool,
        prompt: str = _PROMPT,
        deadlines: Deadlines = DEADLINES,
    ) -> Finding:
        """Ask a model for as little as possible."""
        question = _question(endpoint.format, model, prompt, stream=stream)
        finding = self._ask(endpoint, model, question, deadlines, stream=stream)
        if (
            finding.failure is not None
            and finding.failure.kind == "unsupported_param"
            and endpoint.format is WireFormat.OPENAI_CHAT
        ):
            # Reasoning models take the limit under another name, and need room for what they think.
            body = _chat(model, prompt, stream=stream, limit={"max_completion_tokens": 64})
            return self._ask(endpoint, model, body, deadlines, stream=stream)
        return finding

    def list_models(self, request: UpstreamRequest) -> Finding:
        """Ask for the provider's model list."""
        return self._send(request, WireFormat.OPENAI_CHAT, stream=False, is_list=True)

    def _ask(
        self, endpoint: Endpoint, model: str, question: Mapping[str, Any], deadlines: Deadlines, *, stream: bool
    ) -> Finding:
        body = msgspec.json.encode(question)
        try:
            request = build(endpoint, model=model, body=body, stream=stream, deadlines=deadlines)
        except InvalidRequest as error:
            failure = Failure("invalid_request", FailureClass.CALLER_FAULT, message=error.message)
            return Finding(0.0, failure=failure)
        return self._send(request, endpoint.format, stream=stream)

    def _send(
        self, request: UpstreamRequest, wire_format: WireFormat, *, stream: bool, is_list: bool = False
    ) -> Finding:
        started = self._monotonic()
        status: int | None = None
        models: tuple[str, ...] = ()
        failure: Failure | None = None
        try:
            response = self._transport.send(request)
            status = response.status
            try:
                limit_s = request.deadlines.total_s
                failure, models = self._judge(response, wire_format, limit_s, stream=stream, is_list=is_list)
            finally:
                response.close()
        except (UpstreamUnreachable, UpstreamTimeout, UpstreamProtocolError, UrlBlocked) as error:
            failure = _failure_of(error)
        latency_ms = (self._monotonic() - started) * 1000
        return Finding(round(latency_ms, 1), status, failure, models)

    def _judge(
        self, response: UpstreamResponse, wire_format: WireFormat, limit_s: float, *, stream: bool, is_list: bool
    ) -> tuple[Failure | None, tuple[str, ...]]:
        if stream and response.status == 200:
            return self._judge_stream(response, wire_format, limit_s), ()
        body = read_all(response, limit_s, _MAX_BODY, self._monotonic)
        if response.status != 200:
            return classify(wire_format, response.status, response.headers, body, now=self._now()), ()
        answer = _object_in(body)
        models = _ids_in(body) if is_list else ()
        if (is_list and models is not None) or (not is_list and answer is not None and not answer.get("error")):
            return None, models or ()
        return classify(wire_format, 200, response.headers, body, now=self._now()), ()

    def _judge_stream(self, response: UpstreamResponse, wire_format: WireFormat, limit_s: float) -> Failure | None:
        if not response.headers.get("content-type", "").startswith(_STREAM_TYPES):
            body = read_all(response, limit_s, _MAX_BODY, self._monotonic)
            if _object_in(body) is None or b'"error"' in body:
                return classify(wire_format, 200, response.headers, body, now=self._now())
            return Failure("protocol", FailureClass.TRANSIENT, status=200, message="The provider does not stream.")
        first = response.read(DEADLINES.content_s)
        if not first.strip():
            return Failure("truncated", FailureClass.TRANSIENT, status=200, message="The stream ended without content.")
        return None


def _failure_of(error: OmniRouteError) -> Failure:
    match error:
        case UrlBlocked():
            return Failure("blocked", FailureClass.LOCAL, message=error.message)
        case UpstreamTimeout():
            return Failure(f"timeout_{error.phase}", FailureClass.TRANSIENT, message=error.message)
        case UpstreamUnreachable():
            return Failure("transport", FailureClass.TRANSIENT, message=error.message)
        case _:
            return Failure("protocol", FailureClass.TRANSIENT, message=error.message)


# --- what is asked ---------------------------------------------------------------------------------------------------


def _question(wire_format: WireFormat, model: str, prompt: str, *, stream: bool) -> Mapping[str, Any]:
    match wire_format:
        case WireFormat.OPENAI_CHAT | WireFormat.ANTHROPIC_MESSAGES:
            return _chat(model, prompt, stream=stream, limit={"max_tokens": 1})
        case WireFormat.OPENAI_RESPONSES:
            return {"model": model, "input": prompt, "max_output_tokens": 16, "stream": stream}
        case WireFormat.GEMINI:
            return {"contents": [{"parts": [{"text": prompt}]}], "generationConfig": {"maxOutputTokens": 1}}
        case WireFormat.OLLAMA:
            return _chat(model, prompt, stream=stream, limit={"options": {"num_predict": 1}})
        case _:
            raise ValueError(f"no test request for {wire_format}")


def _chat(model: str, prompt: str, *, stream: bool, limit: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream, **limit}


# --- what is read ----------------------------------------------------------------------------------------------------


def _object_in(body: bytes) -> dict[str, Any] | None:
    document = _decoded(body)
    return document if isinstance(document, dict) else None


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None


def _ids_in(body: bytes) -> tuple[str, ...] | None:
    """Return the model ids of a list in any common shape, or None when it is none."""
    document = _decoded(body)
    rows = document
    if isinstance(document, dict):
        rows = next((document[name] for name in ("data", "models", "result") if name in document), None)
    if not isinstance(rows, list):
        return None
    found = (_id_of(row) for row in rows[:MAX_LISTED])
    return tuple(dict.fromkeys(model_id for model_id in found if model_id))


def _id_of(row: Any) -> str | None:
    names: Sequence[Any] = (row,) if isinstance(row, str) else ()
    if isinstance(row, dict):
        names = [row.get(name) for name in ("id", "model", "name")]
    for name in names:
        if isinstance(name, str) and 0 < len(name) <= _MAX_MODEL_ID and name.isprintable():
            return name.removeprefix("models/")
    return None

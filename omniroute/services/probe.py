"""Ask a provider something small and say what came back: the calls behind tests and validations of connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from omniroute.errors import (
    InvalidRequest,
    OmniRouteError,
    ProxyUnavailable,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnreachable,
    UrlBlocked,
)
from omniroute.formats.wire import WireFormat
from omniroute.gateway.answers import read_all
from omniroute.gateway.ports import Transport, UpstreamResponse
from omniroute.providers import model_lists
from omniroute.providers.classify import classify
from omniroute.providers.requests import Endpoint, build
from omniroute.providers.upstream import Deadlines, UpstreamRequest
from omniroute.records import DiscoveredModel
from omniroute.routing.failures import PROXY_FAILED, Failure, FailureClass

DEADLINES: Final = Deadlines(connect_s=10.0, headers_s=20.0, content_s=20.0, idle_s=20.0, total_s=30.0)
MAX_LISTED: Final = 10_000
"""Models of one list that are read."""
MOST_DESCRIBED: Final = 200

_MAX_BODY: Final = 8 * 1024 * 1024
_TAGS: Final = "/api/tags"
_SHOW: Final = "/api/show"
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
    listed: tuple[DiscoveredModel, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """The ids of what was listed."""
        return tuple(model.model_id for model in self.listed)

    @property
    def is_ok(self) -> bool:
        """Whether the provider answered as hoped."""
        return self.failure is None


class Prober:
    """Sends the questions. `monotonic` measures, `now` is the time of day for retry hints."""

    def __init__(
        self,
        *,
        transport: Transport,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """`pause` is called now and then while a long list is read, so that others get their turn."""
        self._transport = transport
        self._now = now
        self._monotonic = monotonic
        self._pause = pause

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
        """Ask for the provider's model list, every page of it; a page that fails fails the whole."""
        finding, following = self._list_page(request)
        latency_ms, listed = finding.latency_ms, {model.model_id: model for model in finding.listed}
        pages = 1
        while finding.is_ok and following is not None and pages < model_lists.MOST_PAGES and len(listed) < MAX_LISTED:
            finding, following = self._list_page(replace(request, url=following))
            more = [model for model in finding.listed if model.model_id not in listed]
            listed.update((model.model_id, model) for model in more)
            latency_ms, pages = latency_ms + finding.latency_ms, pages + 1
            if not more:
                break
        models = tuple(listed.values()) if finding.is_ok else ()
        return replace(finding, latency_ms=round(latency_ms, 1), listed=models)

    def describe(self, request: UpstreamRequest, listed: tuple[DiscoveredModel, ...]) -> tuple[DiscoveredModel, ...]:
        """Return models with what the provider says about each beyond its list, where it is an Ollama.

        Args:
            request: what the list was asked for with.
            listed: what it had; a model that cannot be described stays as it is.
        """
        address, found, query = request.url.partition(_TAGS)
        if not found or query:
            return listed
        headers = (*request.headers, ("Content-Type", "application/json"))
        asking = replace(request, method="POST", url=address + _SHOW, headers=headers)
        described: list[DiscoveredModel] = []
        for model in listed[:MOST_DESCRIBED]:
            body = self._body(replace(asking, body=msgspec.json.encode({"model": model.model_id})))
            if body is None and not described:
                return listed  # it does not answer at all; nobody waits for two hundred of that
            described.append(model if body is None else model_lists.described(model, body))
        return (*described, *listed[MOST_DESCRIBED:])

    def _list_page(self, request: UpstreamRequest) -> tuple[Finding, str | None]:
        pages: list[model_lists.Page] = []

        def judge(response: UpstreamResponse) -> Failure | None:
            body = read_all(response, request.deadlines.total_s, _MAX_BODY, self._monotonic)
            if response.status == 200:
                page = model_lists.parse(body, url=request.url, most=MAX_LISTED, pause=self._pause)
                if page is not None:
                    pages.append(page)
                    return None
            return classify(WireFormat.OPENAI_CHAT, response.status, response.headers, body, now=self._now())

        finding = self._exchange(request, judge)
        if not finding.is_ok or not pages:
            return finding, None
        return replace(finding, listed=pages[0].models), pages[0].next_url

    def _body(self, request: UpstreamRequest) -> bytes | None:
        bodies: list[bytes] = []

        def judge(response: UpstreamResponse) -> Failure | None:
            if response.status == 200:
                bodies.append(read_all(response, request.deadlines.total_s, _MAX_BODY, self._monotonic))
            return None

        self._exchange(request, judge)
        return bodies[0] if bodies else None

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

    def _send(self, request: UpstreamRequest, wire_format: WireFormat, *, stream: bool) -> Finding:
        limit_s = request.deadlines.total_s
        return self._exchange(request, lambda answer: self._judge(answer, wire_format, limit_s, stream=stream))

    def _exchange(self, request: UpstreamRequest, judge: Callable[[UpstreamResponse], Failure | None]) -> Finding:
        started = self._monotonic()
        status: int | None = None
        failure: Failure | None = None
        try:
            response = self._transport.send(request)
            status = response.status
            try:
                failure = judge(response)
            finally:
                response.close()
        except (UpstreamUnreachable, UpstreamTimeout, UpstreamProtocolError, UrlBlocked) as error:
            failure = _failure_of(error)
        latency_ms = (self._monotonic() - started) * 1000
        return Finding(round(latency_ms, 1), status, failure)

    def _judge(
        self, response: UpstreamResponse, wire_format: WireFormat, limit_s: float, *, stream: bool
    ) -> Failure | None:
        if stream and response.status == 200:
            return self._judge_stream(response, wire_format, limit_s)
        body = read_all(response, limit_s, _MAX_BODY, self._monotonic)
        if response.status != 200:
            return classify(wire_format, response.status, response.headers, body, now=self._now())
        answer = _object_in(body)
        if answer is not None and not answer.get("error"):
            return None
        return classify(wire_format, 200, response.headers, body, now=self._now())

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
        case ProxyUnavailable():
            return Failure(PROXY_FAILED, FailureClass.LOCAL, message=error.message)
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
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None

"""The stages of a request that somebody looks at: what is kept of each, how it is shown, credentials masked."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.wire import WireFormat
from omniroute.gateway.exchange import Inquiry
from omniroute.gateway.handover import Call
from omniroute.gateway.ports import UpstreamResponse
from omniroute.gateway.tap import Send, TappedResponse
from omniroute.money.tariff import usd_text
from omniroute.providers.upstream import UpstreamRequest
from omniroute.records import RequestRecord
from omniroute.services.request_masking import MASK, is_shown, masked_value, secrets_of, shown_url, without
from omniroute.services.translator_losses import LossDocument, request_losses

MOST_KEPT: Final = 256 << 10
"""Bytes of a body that are shown."""
_HIDDEN_ANSWER_HEADERS: Final = frozenset({"set-cookie", "authorization", "proxy-authenticate"})


class PieceDocument(TypedDict):
    """A piece of an answer, and when it had come, in milliseconds since the request began."""

    atMs: float
    text: str


class HeaderDocument(TypedDict):
    """One header."""

    name: str
    value: str


class UpstreamRequestDocument(TypedDict):
    """A request as a provider got it; credentials are masked. `body` is JSON, or text where it is none or was cut."""

    method: str
    url: str
    headers: list[HeaderDocument]
    body: Any
    bytes: int
    cut: bool


class AnswerBytesDocument(TypedDict):
    """An answer as it came; of more than 256 KiB the beginning."""

    status: int
    headers: list[HeaderDocument]
    frames: list[PieceDocument]
    bytes: int
    cut: bool


class ExchangeDocument(TypedDict):
    """One request to a provider and what it answered; `error` where it did not."""

    number: int
    startedMs: float
    connectedMs: float | None
    provider: str | None
    model: str | None
    connectionId: str | None
    format: str | None
    translated: bool
    request: UpstreamRequestDocument
    response: AnswerBytesDocument | None
    error: str | None


class ClientRequestDocument(TypedDict):
    """The request as a client would send it."""

    format: WireFormat
    endpoint: str
    model: str | None
    stream: bool
    body: Any
    bytes: int


class TargetDocument(TypedDict):
    """Whom the gateway chose in the end; `translated` says whether the formats differ."""

    provider: str | None
    model: str | None
    connectionId: str | None
    format: str | None
    translated: bool


class SentTimingsDocument(TypedDict):
    """Milliseconds since the request began."""

    connectedMs: float | None
    firstContentMs: float | None
    totalMs: float


class TokensDocument(TypedDict):
    """What the request used; null where nobody says."""

    input: int | None
    output: int | None
    cacheRead: int | None
    cacheWrite: int | None
    reasoning: int | None
    estimated: bool


class SentCostDocument(TypedDict):
    """What it cost in USD, and what kind of cost that is."""

    usd: str | None
    kind: str


class SendErrorDocument(TypedDict):
    """Why it failed, as the client is told."""

    code: str
    message: str


class SentDocument(TypedDict):
    """A request on its whole way: as sent, to whom, what left for providers, what came back, what the client gets."""

    requestId: str
    ok: bool
    clientRequest: ClientRequestDocument
    target: TargetDocument | None
    attempts: list[ExchangeDocument]
    clientResponse: AnswerBytesDocument
    losses: list[LossDocument]
    timings: SentTimingsDocument
    usage: TokensDocument
    cost: SentCostDocument
    error: SendErrorDocument | None


@dataclass(slots=True)
class Bytes:
    """The beginning of what came, and when each part of it had come."""

    kept: bytearray = field(default_factory=bytearray)
    size: int = 0
    ends: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def take(self, data: bytes, at_ms: float) -> None:
        """Add bytes that came."""
        self.size += len(data)
        room = MOST_KEPT - len(self.kept)
        if room > 0:
            self.kept += data[:room]
            self.ends.append(len(self.kept))
            self.times.append(at_ms)

    @property
    def is_cut(self) -> bool:
        """Whether more came than was kept."""
        return self.size > len(self.kept)

    def frames(self, wire_format: str, secrets: Sequence[str]) -> list[PieceDocument]:
        """Return it frame by frame."""
        data = bytes(self.kept)
        is_lines = wire_format == WireFormat.OLLAMA
        is_events = data.lstrip().startswith((b"data:", b"event:", b"id:", b":", b"retry:"))
        found: list[PieceDocument] = []
        start = 0
        while start < len(data):
            end = _end_of_frame(data, start, is_lines=is_lines, is_events=is_events)
            text = data[start:end].decode("utf-8", "replace").strip("\r\n")
            if text:
                at_ms = self.times[min(bisect_left(self.ends, end), len(self.times) - 1)]
                found.append({"atMs": round(at_ms, 1), "text": without(text, secrets)})
            start = end
        return found


def _end_of_frame(data: bytes, start: int, *, is_lines: bool, is_events: bool) -> int:
    if is_lines:
        end = data.find(b"\n", start)
        return len(data) if end < 0 else end + 1
    if not is_events:
        return len(data)
    ends = [(end, len(mark)) for mark in (b"\n\n", b"\r\n\r\n") if (end := data.find(mark, start)) >= 0]
    return sum(min(ends)) if ends else len(data)


@dataclass(slots=True)
class Exchange:
    """One request to a provider."""

    number: int
    started_ms: float
    request: UpstreamRequest
    provider: str | None
    model: str | None
    connection_id: str | None
    format: str | None
    secrets: tuple[str, ...]
    connected_ms: float | None = None
    response: UpstreamResponse | None = None
    got: Bytes = field(default_factory=Bytes)
    error: str | None = None


class Recording:
    """Sees one request and keeps what it saw; a :class:`omniroute.gateway.tap.Tap`."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        """`now` is a monotonic clock in seconds; the request begins now."""
        self._now = now
        self._started = now()
        self.exchanges: list[Exchange] = []
        self.losses: tuple[str, ...] = ()
        self.record: RequestRecord | None = None

    def elapsed_ms(self) -> float:
        """Milliseconds since the request began."""
        return (self._now() - self._started) * 1000

    def around(self, send: Send, inquiry: Inquiry, record: RequestRecord) -> Send:
        """See :class:`omniroute.gateway.tap.Tap`."""

        def tapped(request: UpstreamRequest) -> UpstreamResponse:
            self.losses = inquiry.losses
            exchange = Exchange(
                len(self.exchanges) + 1,
                self.elapsed_ms(),
                request,
                record.provider,
                record.model,
                record.connection_id,
                record.upstream_format,
                secrets_of(request),
            )
            self.exchanges.append(exchange)
            try:
                response = send(request)
            except OmniRouteError as error:
                exchange.error = error.message
                raise
            exchange.connected_ms = self.elapsed_ms()
            exchange.response = response
            return TappedResponse(response, lambda data: exchange.got.take(data, self.elapsed_ms()))

        return tapped

    def settled(self, record: RequestRecord) -> None:
        """See :class:`omniroute.gateway.tap.Tap`."""
        self.record = record


@dataclass(slots=True)
class ClientAnswer:
    """What the client gets; `failed` where it is an error of the gateway."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    seen: Bytes = field(default_factory=Bytes)
    failed: OmniRouteError | None = None


def document(wire_format: WireFormat, call: Call, recording: Recording, given: ClientAnswer) -> SentDocument:
    """Return the whole way of a request."""
    record = recording.record
    body, _ = _shown_body(call.body, ())
    return {
        "requestId": call.request_id,
        "ok": record is not None and record.outcome == "success",
        "clientRequest": {
            "format": wire_format,
            "endpoint": call.endpoint,
            "model": (record.requested_model or None) if record is not None else call.model,
            "stream": record is not None and record.stream,
            "body": body,
            "bytes": len(call.body),
        },
        "target": _target(record),
        "attempts": [_exchange(one, wire_format) for one in recording.exchanges],
        "clientResponse": {
            "status": given.status,
            "headers": [{"name": name, "value": value} for name, value in given.headers.items()],
            "frames": given.seen.frames(wire_format, ()),
            "bytes": given.seen.size,
            "cut": given.seen.is_cut,
        },
        "losses": request_losses(recording.losses),
        "timings": _timings(recording, record),
        "usage": {
            "input": None if record is None else record.tokens_in,
            "output": None if record is None else record.tokens_out,
            "cacheRead": None if record is None else record.cache_read,
            "cacheWrite": None if record is None else record.cache_write,
            "reasoning": None if record is None else record.reasoning,
            "estimated": record is not None and record.is_estimated,
        },
        "cost": {
            "usd": None if record is None else usd_text(record.cost_nano_usd),
            "kind": "none" if record is None else record.cost_kind,
        },
        "error": _error(given.failed, record),
    }


def _target(record: RequestRecord | None) -> TargetDocument | None:
    if record is None or record.provider is None:
        return None
    return {
        "provider": record.provider,
        "model": record.model,
        "connectionId": record.connection_id,
        "format": record.upstream_format,
        "translated": record.upstream_format != record.client_format,
    }


def _timings(recording: Recording, record: RequestRecord | None) -> SentTimingsDocument:
    connected = recording.exchanges[-1].connected_ms if recording.exchanges else None
    first = None if record is None else record.ttft_ms
    return {
        "connectedMs": None if connected is None else round(connected, 1),
        "firstContentMs": None if first is None else round(first, 1),
        "totalMs": round(recording.elapsed_ms(), 1),
    }


def _error(failed: OmniRouteError | None, record: RequestRecord | None) -> SendErrorDocument | None:
    if failed is not None:
        return {"code": failed.error_code, "message": failed.message}
    if record is None or record.outcome == "success":
        return None
    message = "The answer ended with an error; its last frame says which."
    return {"code": record.error_code or record.outcome, "message": message}


# --- what left for a provider --------------------------------------------------------------------------------------


def _exchange(one: Exchange, client: WireFormat) -> ExchangeDocument:
    request, response = one.request, one.response
    body, is_cut = _shown_body(request.body, one.secrets)
    answered: AnswerBytesDocument | None = None
    if response is not None:
        answered = {
            "status": response.status,
            "headers": [
                {"name": name, "value": MASK if name in _HIDDEN_ANSWER_HEADERS else without(value, one.secrets)}
                for name, value in response.headers.items()
            ],
            "frames": one.got.frames(one.format or "", one.secrets),
            "bytes": one.got.size,
            "cut": one.got.is_cut,
        }
    return {
        "number": one.number,
        "startedMs": round(one.started_ms, 1),
        "connectedMs": None if one.connected_ms is None else round(one.connected_ms, 1),
        "provider": one.provider,
        "model": one.model,
        "connectionId": one.connection_id,
        "format": one.format,
        "translated": one.format != client,
        "request": {
            "method": request.method,
            "url": without(shown_url(request.url), one.secrets),
            "headers": [_shown_header(name, value) for name, value in request.headers],
            "body": body,
            "bytes": len(request.body),
            "cut": is_cut,
        },
        "response": answered,
        "error": one.error,
    }


def _shown_body(body: bytes, secrets: Sequence[str]) -> tuple[Any, bool]:
    """Return a body as JSON, or as the beginning of its text; and whether it was cut."""
    is_cut = len(body) > MOST_KEPT
    text = without(body[:MOST_KEPT].decode("utf-8", "replace"), secrets)
    if is_cut:
        return text, True
    try:
        return msgspec.json.decode(text), False
    except (msgspec.DecodeError, RecursionError):
        return text, False


def _shown_header(name: str, value: str) -> HeaderDocument:
    return {"name": name, "value": value if is_shown(name) else masked_value(value)}

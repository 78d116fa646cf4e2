"""`/api/translator`: formats turned into one another, and requests sent with every stage shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, NotRequired, TypedDict

import msgspec
from flask import Blueprint, Response, request

from omniroute.blueprints.contract import NDJSON, Answer, Query, Time, operation
from omniroute.blueprints.management.bodies import Field, Fields, Invalid, answer, flag, iso_time, text, texts
from omniroute.blueprints.management.jobs import AcceptedDocument, accepted
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import OmniRouteError, ValidationFailed
from omniroute.formats.wire import WireFormat
from omniroute.services.translator import (
    FORMATS,
    NAMES,
    SPELLINGS,
    TranslatedStreamDocument,
    TranslationDocument,
    format_named,
)
from omniroute.services.translator_bench import MOST_TARGETS, EstimateDocument
from omniroute.services.translator_cases import CASES
from omniroute.services.translator_detection import DetectionDocument, detect
from omniroute.services.translator_history import Seen
from omniroute.services.translator_losses import LossDocument, request_losses
from omniroute.services.translator_send import Draft
from omniroute.services.translator_stages import PieceDocument, SentDocument

blueprint = Blueprint("management_translator", __name__)

_NAME: Final = 300
_LONGEST: Final = 8 << 20
_encode: Final = msgspec.json.Encoder().encode
_DIRECTIONS: Final = ("request", "response")


def wire_format(name: str) -> Field:
    """A format, by any of its names."""

    def check(value: Any) -> WireFormat:
        try:
            found = format_named(value) if isinstance(value, str) else None
        except ValueError:
            found = None
        if found not in FORMATS:
            raise Invalid(f"must be one of {', '.join(FORMATS)}")
        return found

    return Field(name, check, required=True, schema={"type": "string", "enum": list(SPELLINGS)})


def json_body(name: str) -> Field:
    """A body in some format: an object, or its text. Becomes bytes."""

    def check(value: Any) -> bytes:
        match value:
            case dict():
                return _encoded(value)
            case str() if value.strip():
                return _encoded(value)
            case _:
                raise Invalid("must be a JSON object, or the text of one")

    return Field(name, check, required=True, schema={"type": ["object", "string"]})


def long_text(name: str) -> Field:
    """A text of any lines, as it is."""

    def check(value: Any) -> bytes:
        if not isinstance(value, str) or not value.strip():
            raise Invalid("must be a text")
        return _encoded(value)

    return Field(name, check, required=True, schema={"type": "string", "minLength": 1, "maxLength": _LONGEST})


def _encoded(value: dict[str, Any] | str) -> bytes:
    try:
        text_of = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)
        data = text_of.encode()
    except UnicodeEncodeError:
        raise Invalid("holds half a character") from None
    except ValueError:
        raise Invalid("holds a number that is too large; send the body as text") from None
    if len(data) > _LONGEST:
        raise Invalid(f"must be at most {_LONGEST} bytes")
    return data


_DETECT: Final = Fields(json_body("body"))
_TRANSLATE: Final = Fields(
    wire_format("from"),
    wire_format("to"),
    json_body("body"),
    text("direction", choices=_DIRECTIONS),
    text("model", max_length=_NAME, nullable=True),
)
_STREAM: Final = Fields(wire_format("from"), wire_format("to"), long_text("sse"))
_SEND: Final = Fields(
    wire_format("format"),
    json_body("body"),
    text("model", max_length=_NAME, nullable=True),
    flag("stream", nullable=True),
    text("keyId", max_length=64, nullable=True),
)


_BENCH: Final = Fields(
    texts("cases", max_items=len(CASES), choices=CASES),
    texts("formats", max_items=len(FORMATS), choices=SPELLINGS),
    texts("targets", max_items=len(FORMATS), choices=SPELLINGS),
    texts("providers", max_items=MOST_TARGETS, max_length=_NAME),
    flag("live"),
    flag("estimateOnly"),
)
_HISTORY: Final = Fields(flag("enabled", required=True))


class FormatDocument(TypedDict):
    """A format that clients and providers speak."""

    id: WireFormat
    name: str


class FormatsDocument(TypedDict):
    """The formats between which can be translated."""

    formats: list[FormatDocument]


class SendLineDocument(TypedDict):
    """A line of a request that is watched while it runs: `frame`s, in the end `result`, or `error` in its place."""

    type: str
    frame: NotRequired[PieceDocument]
    result: NotRequired[SentDocument]
    error: NotRequired[dict[str, str]]


@blueprint.get("/api/translator/formats")
@operation(FormatsDocument)
def formats() -> Response:
    """List the formats."""
    return answer(FormatsDocument(formats=[{"id": one, "name": NAMES[one]} for one in FORMATS]))


@blueprint.post("/api/translator/bench")
@operation(
    AcceptedDocument,
    status=202,
    also={200: Answer(EstimateDocument)},
    body=_BENCH,
    is_body_optional=True,
    refusals=(409,),
)
def bench() -> Response:
    """Ask every case in every client format of every target, in the background.

    Without `live` no provider is asked: `targets` are formats, answered by the simulated provider. With it the targets
    are `providers`: models, or providers whose first chat model is taken; every cell is a request that costs
    something. `estimateOnly` says how much at most, and starts nothing. The job's result has `ok`, `failed`,
    `notSupported` and the `cells`: case, format, target, state, what was checked, why, losses and evidence.
    """
    given, own = _BENCH.read(request, optional=True), container()
    wanted = own.bench.wanted(
        given.get("cases", ()),
        _formats(given.get("formats", ())),
        _formats(given.get("targets", ())),
        given.get("providers", ()),
        is_live=given.get("live", False),
    )
    if given.get("estimateOnly"):
        return answer(own.bench.estimate(wanted))
    return accepted(own.jobs.start("translator-bench", lambda report: own.bench.run(wanted, report), single=True))


def _formats(names: Iterable[str]) -> tuple[WireFormat, ...]:
    return tuple(dict.fromkeys(format_named(name) for name in names))


class SeenSizesDocument(TypedDict):
    """Bytes of the client's request, of what went to the provider for it, and of the answer."""

    clientRequest: int
    upstreamRequest: int
    clientResponse: int


SeenDocument = TypedDict(
    "SeenDocument",
    {
        "id": str,
        "time": Time,
        "requestId": str,
        "endpoint": str,
        "model": str,
        "provider": str | None,
        "targetModel": str | None,
        "from": str,
        "to": str,
        "stream": bool,
        "status": int,
        "outcome": str,
        "durationMs": float,
        "sizes": SeenSizesDocument,
        "losses": list[LossDocument],
        "clientRequest": Any,
        "upstreamRequest": Any,
    },
)
"""A translation that was seen; requests of more than 8 KiB are not kept."""


class HistoryDocument(TypedDict):
    """The last translations, the newest first; `next` is what `after` takes to see only newer ones."""

    enabled: bool
    translations: list[SeenDocument]
    next: str | None


class HistoryStateDocument(TypedDict):
    """Whether translations are watched."""

    enabled: bool


@blueprint.get("/api/translator/history")
@operation(HistoryDocument, query=(Query("after", "Only those newer than the one with this id."),))
def history() -> Response:
    """List the last translations of real traffic on this host, at most 200; there are none while watching is off."""
    own, after = container().translator_history, request.args.get("after")
    found = own.newest(after)
    newest = str(found[0].id) if found else after or None
    return answer(HistoryDocument(enabled=own.is_enabled, translations=[_seen(one) for one in found], next=newest))


@blueprint.put("/api/translator/history")
@operation(HistoryStateDocument, body=_HISTORY)
def switch_history() -> Response:
    """Switch watching on or off, in all workers within a second; switched off, what was seen is forgotten."""
    is_on = _HISTORY.read(request)["enabled"]
    container().translator_history.switch(is_on=is_on, origin=origin())
    return answer(HistoryStateDocument(enabled=is_on))


def _seen(seen: Seen) -> SeenDocument:
    return {
        "id": str(seen.id),
        "time": iso_time(seen.time),
        "requestId": seen.request_id,
        "endpoint": seen.endpoint,
        "model": seen.model,
        "provider": seen.provider,
        "targetModel": seen.target_model,
        "from": seen.source,
        "to": seen.target,
        "stream": seen.is_stream,
        "status": seen.status,
        "outcome": seen.outcome,
        "durationMs": seen.duration_ms,
        "sizes": {
            "clientRequest": seen.client_request_bytes,
            "upstreamRequest": seen.upstream_request_bytes,
            "clientResponse": seen.client_response_bytes,
        },
        "losses": request_losses(seen.losses),
        "clientRequest": _body(seen.client_request),
        "upstreamRequest": _body(seen.upstream_request),
    }


def _body(text: str | None) -> Any:
    try:
        return None if text is None else msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


@blueprint.post("/api/translator/detect")
@operation(DetectionDocument, body=_DETECT)
def detect_format() -> Response:
    """Say which format a body is written in, and what speaks for it."""
    given = _DETECT.read(request)["body"]
    try:
        body = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise ValidationFailed([{"field": "body", "message": f"is not valid JSON: {error}"}]) from None
    if not isinstance(body, dict):
        raise ValidationFailed([{"field": "body", "message": "must be a JSON object"}])
    return answer(detect(body))


@blueprint.post("/api/translator/translate")
@operation(TranslationDocument, body=_TRANSLATE, refusals=(404,))
def translate() -> Response:
    """Translate a request from one format into another, or an answer; nothing is sent.

    `losses` has what the other format cannot say. With `model` a request is translated for that model, otherwise for
    a capable one of the format's own vendor.
    """
    given = _TRANSLATE.read(request)
    own = container().translator
    if given.get("direction") == _DIRECTIONS[1]:
        return answer(own.translate_answer(given["from"], given["to"], given["body"]))
    return answer(own.translate(given["from"], given["to"], given["body"], model=given.get("model")))


@blueprint.post("/api/translator/transform-stream")
@operation(TranslatedStreamDocument, body=_STREAM)
def transform_stream() -> Response:
    """Translate the text of a provider's stream: frame by frame, and folded into one answer."""
    given = _STREAM.read(request)
    return answer(container().translator.translate_stream(given["from"], given["to"], given["sse"]))


@blueprint.post("/api/translator/send")
@operation(SentDocument, others={NDJSON: SendLineDocument}, body=_SEND, refusals=(404,))
def send() -> Response:
    """Send a request through the gateway and show its whole way, with credentials masked.

    It is sent and booked as any other request: on the account of `keyId`, or on the operator's own. What fails on its
    way is part of the answer. With `Accept: application/x-ndjson` the pieces of the answer come as they arrive, one
    JSON object on a line, and the whole way last.
    """
    given = _SEND.read(request)
    draft = Draft(given["format"], given["body"], given.get("model"), given.get("stream"), given.get("keyId"))
    tester = container().chat_tester
    if NDJSON not in request.headers.get("Accept", ""):
        return answer(tester.send(draft))
    response = Response(_lines(tester.live(draft)), mimetype=NDJSON)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _lines(steps: Iterator[PieceDocument]) -> Iterator[bytes]:
    sent = yield from _frames(steps)
    yield _encode(sent) + b"\n"


def _frames(steps: Iterator[PieceDocument]) -> Any:
    while True:
        try:
            yield _encode(SendLineDocument(type="frame", frame=next(steps))) + b"\n"
        except StopIteration as end:
            return SendLineDocument(type="result", result=end.value)
        except OmniRouteError as error:  # the status line is out
            return SendLineDocument(type="error", error={"code": error.error_code, "message": error.message})

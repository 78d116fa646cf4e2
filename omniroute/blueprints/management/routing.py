"""`/api/routing`: how requests were routed, what another policy would have done, and what a request would do now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final, NotRequired, TypedDict

import msgspec
from flask import Blueprint, Response, request

from omniroute.blueprints.contract import NDJSON, Query, Time, operation
from omniroute.blueprints.management.bodies import Fields, answer, flag, integer, mapping, moment, nested, text, texts
from omniroute.container import container
from omniroute.errors import OmniRouteError, ValidationFailed
from omniroute.gateway.slices import Slices
from omniroute.routing import decision_document, explain
from omniroute.routing.decision import Record
from omniroute.services.decisions import USUAL_PROMPT, Decisions, Hypothesis, Range, Replay, SimulationDocument

blueprint = Blueprint("management_routing", __name__)

_POLICY_BYTES: Final = 1 << 20
_MOST_TOKENS: Final = 100_000_000
_SIMULATE: Final = Fields(
    text("model", required=True, max_length=300),
    integer("promptTokens", minimum=0, maximum=_MOST_TOKENS),
    integer("maxOutput", minimum=1, maximum=_MOST_TOKENS),
    flag("tools"),
    flag("vision"),
    text("apiKeyId", max_length=64, nullable=True),
    text("sessionId", max_length=256, nullable=True),
    nested("assume", Fields(texts("failing", max_items=100, max_length=300))),
)
_REPLAY: Final = Fields(
    moment("since", required=True),
    moment("until", nullable=True),
    text("model", max_length=300, nullable=True),
    mapping("policy", max_items=10, max_bytes=_POLICY_BYTES),
    flag("verify"),
)
_encode: Final = msgspec.json.Encoder().encode


class PlannedRequestDocument(TypedDict):
    """What routing knew of a request."""

    model: str
    clientFormat: str
    stream: bool
    estInput: int | None
    maxOutput: int | None
    needs: list[str]
    task: str
    effort: str | None
    keyId: str | None
    session: str | None
    connection: str | None
    headers: dict[str, Any]


class CutDocument(TypedDict):
    """How many rows a long record leaves out."""

    candidates: int
    exclusions: int


class DecisionDocument(TypedDict):
    """How a request was routed: what was asked, who could serve it, who was left out, what was tried and came of it.

    Candidates, exclusions and attempts have only those members of which something is known.
    """

    v: int
    requestId: str
    at: Time | None
    clock: dict[str, float]
    seed: str
    policyHash: str | None
    configVersion: int | None
    gatewayVersion: str
    replayable: bool
    request: PlannedRequestDocument
    resolution: list[dict[str, Any]]
    strategy: str
    settings: dict[str, Any]
    candidates: list[dict[str, Any]]
    exclusions: list[dict[str, Any]]
    truncated: CutDocument
    attempts: list[dict[str, Any]]
    waits: list[dict[str, Any]]
    affinity: dict[str, Any]
    warnings: list[str]
    result: dict[str, Any] | None
    chain: NotRequired[str]
    continuedAt: NotRequired[Any]


class ReplayLineDocument(TypedDict):
    """A line of a replay: `progress`, in the end `comparison`, or `error` in its place."""

    type: str
    records: NotRequired[int]
    total: NotRequired[int]


TEXT_FORM: Final = {"text/plain": {"type": "string"}}
FORM: Final = Query("format", "json, or text for people.", choices=("json", "text"))


@blueprint.post("/api/routing/simulate")
@blueprint.post("/api/playground/simulate-route")
@operation(SimulationDocument, body=_SIMULATE, refusals=(404, 409))
def simulate() -> Response:
    """Plan a request that is not sent.

    `assume.failing` names targets, providers or connections that are taken to fail; they are left out with the detail
    `assumed`.
    """
    given = _SIMULATE.read(request)
    asked = Hypothesis(
        model=given["model"],
        prompt_tokens=given.get("promptTokens", USUAL_PROMPT),
        max_output=given.get("maxOutput"),
        has_tools=given.get("tools", False),
        has_images=given.get("vision", False),
        api_key_id=given.get("apiKeyId"),
        session_id=given.get("sessionId"),
        failing=tuple(given.get("assume", {}).get("failing", ())),
    )
    return answer(container().decisions.simulate(asked))


@blueprint.get("/api/routing/decisions/<request_id>")
@operation(DecisionDocument, others=TEXT_FORM, query=(FORM,))
def decision(request_id: str) -> Response:
    """Show how a request was routed."""
    return shown(container().decisions.get(request_id))


@blueprint.post("/api/routing/replay")
@operation(ReplayLineDocument, media_type=NDJSON, body=_REPLAY)
def replay() -> Response:
    """Replay recorded requests against another policy: lines of JSON that tell how far it is, last the comparison."""
    given = _REPLAY.read(request)
    wanted = Range(given["since"], given.get("until"), given.get("model"))
    decisions = container().decisions
    prepared = decisions.prepare(wanted, given.get("policy", {}), is_verifying=given.get("verify", False))
    response = Response(_lines(decisions, prepared), mimetype="application/x-ndjson")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def shown(record: Record) -> Response:
    """Return a record in the form that the query asks for: `format=json`, or `format=text` for people."""
    match request.args.get("format", "json"):
        case "json":
            return answer(decision_document.document(record))
        case "text":
            response = Response(explain.text(record), mimetype="text/plain")
            response.headers["Cache-Control"] = "no-store"
            return response
        case _:
            raise ValidationFailed([{"field": "format", "message": "must be json or text"}])


def _lines(decisions: Decisions, prepared: Replay) -> Iterator[bytes]:
    try:
        for line in decisions.run(prepared, Slices(time.monotonic)):
            yield _line(line)
    except OmniRouteError as error:  # the status line is out
        yield _line({"type": "error", "error": {"code": error.error_code, "message": error.message}})


def _line(document: dict[str, Any]) -> bytes:
    return _encode(document) + b"\n"

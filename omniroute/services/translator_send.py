"""Send one request through the gateway on the operator's behalf, and keep every stage of it to be looked at.

It goes the way that clients' requests go; a tap sees what leaves for providers and what comes back. The request is
booked as any other: it is one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from omniroute.errors import InvalidRequest, OmniRouteError, ValidationFailed
from omniroute.formats.splice import scan, splice
from omniroute.formats.wire import WireFormat
from omniroute.gateway.handover import Call, ClientGone
from omniroute.gateway.inference import Inference
from omniroute.ids import new_id
from omniroute.records import ApiKey
from omniroute.services.access import Caller, CallerKind, ModelRules, Snapshots
from omniroute.services.keys import state_of
from omniroute.services.translator import SURFACES, dialect_of
from omniroute.services.translator_stages import (
    MOST_KEPT,
    ClientAnswer,
    PieceDocument,
    Recording,
    SentDocument,
    document,
)

_TAG: Final = "translator"


@dataclass(frozen=True, slots=True)
class Draft:
    """A request to be sent.

    Attributes:
        body: JSON in the format.
        model: in the place of the body's own; Gemini's has none.
        is_stream: in the place of what the body says.
        key_id: row id of the API key on whose account it goes; the operator's own without.
    """

    format: WireFormat
    body: bytes
    model: str | None = None
    is_stream: bool | None = None
    key_id: str | None = None


class ChatTester:
    """Sends requests and shows their whole way."""

    def __init__(
        self,
        *,
        inference: Inference,
        snapshots: Snapshots,
        no_log_key_ids: frozenset[str],
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`now` is a monotonic clock, `wall` the time of day, both in seconds."""
        self._inference = inference
        self._snapshots = snapshots
        self._no_log_key_ids = no_log_key_ids
        self._now = now
        self._wall = wall

    def send(self, draft: Draft) -> SentDocument:
        """Send a request and return every stage of it, whatever became of it.

        Raises:
            ValidationFailed: it cannot be sent at all: its body is no JSON object, or its key cannot be used.
        """
        steps = self.live(draft)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                sent: SentDocument = end.value
                return sent

    def live(self, draft: Draft) -> Generator[PieceDocument, None, SentDocument]:
        """Send a request: the pieces of the answer as they come; what is returned in the end is the whole way.

        Raises:
            ValidationFailed: as for :meth:`send`, before the first piece.
        """
        recording = Recording(now=self._now)
        call = self._call(draft, recording)
        given = ClientAnswer()
        seen = given.seen
        try:
            answer = self._inference.open(call)
            given.status, given.headers = answer.status, answer.headers
            if isinstance(answer.body, bytes):
                seen.take(answer.body, recording.elapsed_ms())
            else:
                try:
                    for piece in answer.body:
                        at_ms = recording.elapsed_ms()
                        seen.take(piece, at_ms)
                        if piece and len(seen.kept) < MOST_KEPT:
                            yield {"atMs": round(at_ms, 1), "text": piece.decode("utf-8", "replace")}
                finally:
                    answer.body.close()
        except ClientGone:
            raise InvalidRequest("The request was ended before its answer.") from None
        except OmniRouteError as error:
            given.failed = error
            dialect = dialect_of(draft.format)
            given.status = dialect.status_of(error)
            given.headers = {"Content-Type": "application/json", **error.headers}
            seen.take(dialect.render_error(error, call.request_id), recording.elapsed_ms())
        return document(draft.format, call, recording, given)

    def _call(self, draft: Draft, recording: Recording) -> Call:
        body, model, is_stream = _prepared(draft)
        return Call(
            request_id=new_id("req"),
            endpoint=_ENDPOINTS[draft.format],
            surface=SURFACES[draft.format],
            body=body,
            caller=self._caller(draft.key_id),
            tag=_TAG,
            model=model,
            is_stream=is_stream,
            tap=recording,
        )

    def _caller(self, key_id: str | None) -> Caller:
        if key_id is None:
            return Caller(CallerKind.SESSION, None, "session", "dashboard", ModelRules())
        key = next((key for key in self._snapshots.current.keys if key.id == key_id), None)
        if key is None:
            raise ValidationFailed([{"field": "keyId", "message": "there is no API key with this id"}])
        state = state_of(key, self._wall())
        if state != "active":
            raise ValidationFailed([{"field": "keyId", "message": f"this API key cannot be used: it is {state}"}])
        return Caller(
            CallerKind.KEY, self._logged(key), key.id, key.name, ModelRules(key.allowed_models, key.blocked_models)
        )

    def _logged(self, key: ApiKey) -> ApiKey:
        return replace(key, no_log=True) if key.id in self._no_log_key_ids else key


_ENDPOINTS: Final[Mapping[WireFormat, str]] = {
    WireFormat.OPENAI_CHAT: "/v1/chat/completions",
    WireFormat.OPENAI_RESPONSES: "/v1/responses",
    WireFormat.ANTHROPIC_MESSAGES: "/v1/messages",
    WireFormat.GEMINI: "/v1beta/models:generateContent",
    WireFormat.OLLAMA: "/api/chat",
}


def _prepared(draft: Draft) -> tuple[bytes, str | None, bool | None]:
    """Return the body as it is sent, and model and stream where the path says them."""
    try:
        top = scan(draft.body)
    except OmniRouteError as error:
        raise ValidationFailed([{"field": "body", "message": error.message}]) from None
    if draft.format is WireFormat.GEMINI:
        given = draft.model or top.value("model")
        if not isinstance(given, str) or not given:
            raise ValidationFailed(
                [{"field": "model", "message": "is required: a request of Gemini names it in its path"}]
            )
        return splice(top, {"model": None}) if "model" in top else top.body, given, bool(draft.is_stream)
    changes: dict[str, bytes | None] = {}
    if draft.model is not None:
        changes["model"] = msgspec.json.encode(draft.model)
    if draft.is_stream is not None:
        changes["stream"] = b"true" if draft.is_stream else b"false"
    return splice(top, changes) if changes else top.body, None, None

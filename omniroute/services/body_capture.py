"""Keeps the bodies of requests while the operator wants that: all of them, or those of requests that failed.

A request is looked at while it is served: what its client sends and gets, what leaves for providers and what comes
back. Nothing is written before it is over, and then beside the requests that go on. What a worker holds until then is
bounded; where that is not enough, bodies are cut or left out and the requests go their way. So they do when the disk
takes no more.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec

from omniroute.errors import OmniRouteError, StorageError
from omniroute.gateway.dialects import DIALECTS
from omniroute.gateway.exchange import Inquiry
from omniroute.gateway.handover import Answer, Body, Call
from omniroute.gateway.inference import Inference
from omniroute.gateway.ports import UpstreamResponse
from omniroute.gateway.tap import Joined, Send, TappedResponse
from omniroute.providers.upstream import UpstreamRequest
from omniroute.records import RequestRecord, Snapshot
from omniroute.services import captured_bodies
from omniroute.services.captured_bodies import (
    Captured,
    CapturedBodiesDocument,
    GivenAnswer,
    Part,
    kept_headers,
    shown_headers,
)
from omniroute.settings import Settings
from omniroute.storage.body_files import BodyFiles

MOST_HELD: Final = 32 << 20
"""Bytes of bodies that one worker holds at a time."""
_MOST_WAITING: Final = 1000
_FAILURES: Final = frozenset({"failed", "truncated"})
_SHARE: Final = 40
"""A worker looks at the size of everything whenever it has added this part of what there may be."""
_DAY_S: Final = 86_400
_STOP_LOOK_S: Final = 0.02

log = logging.getLogger(__name__)

Serve = Callable[[Call], Answer]


class Capturing(StrEnum):
    """Of which requests bodies are kept."""

    OFF = "off"
    ERRORS = "errors"
    ALL = "all"


class BodiesState(StrEnum):
    """Whether the bodies of a request can be seen, and why not."""

    KEPT = "kept"
    OFF = "off"
    """None are kept at all now."""
    EXPIRED = "expired"
    """The request is older than bodies are kept."""
    NONE = "none"
    """Of this request none were kept: it was of another kind, its key leaves no details, or there was no room."""


@dataclass(frozen=True, slots=True)
class CaptureStats:
    """How capturing is doing in this worker since its start.

    Attributes:
        dropped: requests whose bodies were left out because too many were held.
        failed: those whose bodies could not be written.
        is_failing: the last could not.
    """

    written: int
    dropped: int
    failed: int
    is_failing: bool


class BodyCapture:
    """Captures the bodies of this worker's requests, and finds what any worker has captured."""

    def __init__(
        self,
        files: BodyFiles,
        *,
        inference: Inference,
        settings: Callable[[], Settings],
        now: Callable[[], float],
        sleep: Callable[[float], None],
        spawn: Callable[[Callable[[], None]], object] | None,
        most_held: int = MOST_HELD,
    ) -> None:
        """`spawn` runs what writes beside the requests; without it that is done at once."""
        self._files = files
        self._inference = inference
        self._settings = settings
        self._now = now
        self._sleep = sleep
        self._spawn = spawn
        self._most_held = most_held
        self._held = 0
        self._waiting: deque[_Watch] = deque()
        self._is_writing = False
        self._unswept = 0
        self._written = self._dropped = self._failed = 0
        self._is_failing = False
        self.apply()

    @property
    def mode(self) -> Capturing:
        """Of which requests bodies are kept now."""
        return Capturing(self._settings().call_log_capture_bodies)

    def rebuild(self, snapshot: Snapshot) -> None:
        """Follow a new snapshot."""
        del snapshot
        self.apply()

    def apply(self) -> None:
        """Follow the settings in force; requests in flight go on as they began."""
        self._inference.capture = None if self.mode is Capturing.OFF else self._captured

    def find(self, record: RequestRecord) -> tuple[BodiesState, CapturedBodiesDocument | None]:
        """Return what is kept of a settled request, or why there is nothing."""
        try:
            data = self._files.read(record.request_id, record.time)
            if data is not None:
                return BodiesState.KEPT, captured_bodies.read(data)
        except (StorageError, msgspec.DecodeError):
            log.warning("the bodies of request %s cannot be read", record.request_id)
            return BodiesState.NONE, None
        if self.mode is Capturing.OFF:
            return BodiesState.OFF, None
        age_s = self._now() - record.time
        return BodiesState.EXPIRED if age_s > self._kept_s() else BodiesState.NONE, None

    def stats(self) -> CaptureStats:
        """Return how it is doing."""
        return CaptureStats(self._written, self._dropped, self._failed, self._is_failing)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Capture nothing more, and wait until what was captured is written."""
        self._inference.capture = None
        until = self._now() + timeout_s
        while self._is_writing and self._now() < until:
            self._sleep(_STOP_LOOK_S)

    # --- one request -------------------------------------------------------------------------------------------------

    def _captured(self, call: Call, serve: Serve) -> Answer:
        """Serve a call, and see what its client gets."""
        key = call.caller.key
        if key is not None and key.no_log:
            return serve(call)
        if self._held >= self._most_held or len(self._waiting) >= _MOST_WAITING:
            self._dropped += 1
            return serve(call)
        watch = _Watch(self, call, is_of_all=self.mode is Capturing.ALL)
        try:
            answer = serve(replace(call, tap=watch if call.tap is None else Joined(call.tap, watch)))
        except OmniRouteError as error:
            dialect = DIALECTS[call.surface]
            part = watch.answered(dialect.status_of(error), error.headers)
            watch.keep(part, dialect.render_error(error, call.request_id))
            watch.finish()
            raise
        except BaseException:
            watch.finish()
            raise
        part = watch.answered(answer.status, answer.headers)
        if isinstance(answer.body, bytes):
            watch.keep(part, answer.body)
            watch.finish()
            return answer
        return replace(answer, body=_SeenBody(answer.body, watch, part))

    def claim(self, wanted: int) -> int:
        """Return how many of so many bytes may be held more."""
        given = min(wanted, max(0, self._most_held - self._held))
        self._held += given
        return given

    def release(self, held: int) -> None:
        """Note that bytes are held no more."""
        self._held -= held

    def take(self, watch: _Watch) -> None:
        """Have what was gathered of a request written, if it is one of those that are kept."""
        if watch.settled_as is None or not (watch.is_of_all or watch.settled_as in _FAILURES):
            self.release(watch.held)
            return
        self._waiting.append(watch)
        if self._spawn is None:
            self._write_all()
        elif not self._is_writing:
            self._is_writing = True
            self._spawn(self._write_all)

    def _write_all(self) -> None:
        try:
            while self._waiting:
                watch = self._waiting.popleft()
                try:
                    self._write(watch)
                finally:
                    self.release(watch.held)
        finally:
            self._is_writing = False

    def _write(self, watch: _Watch) -> None:
        try:
            self._unswept += self._files.write(watch.request_id, watch.time, watch.captured.render)
            self._written += 1
            self._is_failing = False
            most_bytes = self._settings().body_max_bytes
            if self._unswept > most_bytes // _SHARE:
                self._unswept = 0
                self._files.remove(before=self._now() - self._kept_s(), most_bytes=most_bytes)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the requests go on
            self._failed += 1
            if not self._is_failing:
                log.warning("captured bodies cannot be written: %s", getattr(error, "strerror", None) or repr(error))
            self._is_failing = True

    def _kept_s(self) -> float:
        return self._settings().body_retention_days * _DAY_S


class _Watch:
    """Sees one request; a :class:`omniroute.gateway.tap.Tap`."""

    __slots__ = ("_capture", "_is_over", "captured", "held", "is_of_all", "request_id", "settled_as", "time")

    def __init__(self, capture: BodyCapture, call: Call, *, is_of_all: bool) -> None:
        self._capture = capture
        self._is_over = False
        self.is_of_all = is_of_all
        self.request_id = call.request_id
        self.time = 0.0
        self.settled_as: str | None = None
        self.held = 0
        self.captured = Captured(call.endpoint, shown_headers(call.client_headers))
        self.keep(self.captured.request, call.body)

    def around(self, send: Send, inquiry: Inquiry, record: RequestRecord) -> Send:
        """See :class:`omniroute.gateway.tap.Tap`."""
        del inquiry

        def tapped(request: UpstreamRequest) -> UpstreamResponse:
            attempt, freed = self.captured.begin(request, record)
            self.held -= freed
            self._capture.release(freed)
            self.keep(attempt.body, request.body)
            try:
                response = send(request)
            except OmniRouteError as error:
                attempt.error = error.message
                raise
            part = attempt.answered(response)
            return TappedResponse(response, lambda data: self.keep(part, data))

        return tapped

    def settled(self, record: RequestRecord) -> None:
        """See :class:`omniroute.gateway.tap.Tap`."""
        self.settled_as = record.outcome
        self.time = record.time

    def answered(self, status: int, headers: Mapping[str, str]) -> Part:
        """Note that the client's answer begins; return what takes its body."""
        self.captured.answer = GivenAnswer(status, kept_headers(headers))
        return self.captured.answer.body

    def keep(self, part: Part, data: bytes) -> None:
        """Add bytes to a part, as many as there is room for."""
        if self._is_over:
            return
        part.size += len(data)
        wanted = min(len(data), part.room)
        if wanted <= 0:
            return
        given = self._capture.claim(wanted)
        self.held += given
        part.kept += data[:given]
        part.is_full = given < len(data)

    def finish(self) -> None:
        """Nothing more comes. Idempotent."""
        if not self._is_over:
            self._is_over = True
            self._capture.take(self)


class _SeenBody:
    """A streamed answer that somebody else sees as well; implements :class:`omniroute.gateway.handover.Body`."""

    __slots__ = ("_body", "_part", "_watch")

    def __init__(self, body: Body, watch: _Watch, part: Part) -> None:
        self._body = body
        self._watch = watch
        self._part = part

    def __iter__(self) -> _SeenBody:
        return self

    def __next__(self) -> bytes:
        piece = next(self._body)
        self._watch.keep(self._part, piece)
        return piece

    def close(self) -> None:
        """See :class:`omniroute.gateway.handover.Body`."""
        try:
            self._body.close()
        finally:
            self._watch.finish()

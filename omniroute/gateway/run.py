"""The handler's side of a run: read the request, start the driver, wait for what it hands over, settle.

Two greenlets serve a request. The *handler* belongs to the web server: it owns the client's socket and waits here for
the *driver* (`driver.py`), which owns the upstream until there is something to hand over. A stream with content then
belongs to the handler, which relays it without a second greenlet or a queue in between (decision record 0006); a slow
client slows the provider through TCP. Where one breaks off that may be finished by somebody else, a driver looks for
that once more, in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

import gevent
from gevent.event import AsyncResult

from omniroute.errors import (
    InternalError,
    InvalidRequest,
    MissingField,
    ModelNotFound,
    OmniRouteError,
    RequestCancelled,
    ServerDraining,
)
from omniroute.formats.canonical import Stop
from omniroute.formats.events import MessageStart, MessageStop
from omniroute.formats.splice import TopLevel, scan, splice
from omniroute.formats.translate import FILTERED
from omniroute.formats.wire import WireFormat
from omniroute.gateway.admission import Allowance
from omniroute.gateway.answers import in_ascii, upstream_id
from omniroute.gateway.charges import Metered, metered
from omniroute.gateway.dialects import Dialect
from omniroute.gateway.directory import Target
from omniroute.gateway.exchange import Inquiry
from omniroute.gateway.handover import (
    CANCELLED_STATUS,
    Answer,
    Call,
    ClientGone,
    Handover,
    Mending,
    OpenStream,
    Refusal,
    WholeAnswer,
)
from omniroute.gateway.ports import UpstreamResponse
from omniroute.gateway.resolver import Resolved
from omniroute.gateway.response_state import Origin, origin_gone, resume
from omniroute.gateway.router import Route
from omniroute.gateway.slices import Slices
from omniroute.gateway.watch import ClientWatch
from omniroute.records import RequestRecord
from omniroute.routing.failures import Failure

if TYPE_CHECKING:
    from omniroute.gateway.driver import Driver
    from omniroute.gateway.inference import Inference

log = logging.getLogger(__name__)

_WATCH_AFTER_S: Final = 0.02
"""Answers that take longer than this are watched for a client that leaves; most short ones are over by then."""
_MAX_TAG: Final = 64
_LARGE_BYTES: Final = 1 << 20
_MOST_WARNINGS: Final = 5
_NOT_IN_BACKGROUND: Final = "background:synchronous"

_OVER: Final[AsyncResult[Handover | None]] = AsyncResult()
_OVER.set(None)


class Progress(Protocol):
    """How far the relaying of a stream has come.

    Attributes:
        last_byte_at: on the monotonic clock; 0 before the first.
    """

    bytes_out: int
    last_byte_at: float


class Run:
    """One request in flight."""

    def __init__(self, inference: Inference, call: Call, dialect: Dialect) -> None:
        self.call = call
        self.dialect = dialect
        self.is_client_gone = False
        self.stopped: OmniRouteError | None = None
        """Why the run is to end, once it is."""
        self.body: Progress | None = None
        """The stream that is being relayed."""
        self.stage = "reading"
        self.started = inference.now()
        self.clocks = inference.clocks
        self.now = inference.now
        self.wall = inference.wall
        self._inference = inference
        key = call.caller.key
        self.settlement = inference.new_settlement(
            RequestRecord(
                request_id=call.request_id,
                time=inference.wall(),
                endpoint=call.endpoint,
                client_format=dialect.format.value,
                requested_model="",
                api_key_id=call.caller.key_id,
                tag=call.tag[:_MAX_TAG] if call.tag else None,
                bytes_in=len(call.body),
            ),
            self.started,
            is_private=key is not None and key.no_log,
        )
        self._handover: AsyncResult[Handover | None] = AsyncResult()
        self._driver: gevent.Greenlet[..., None] | None = None
        self._trying: Driver | None = None
        self._relay: UpstreamResponse | None = None
        self._watch = ClientWatch(call.client_socket, self._on_client_gone)
        self._inquiry: Inquiry | None = None
        self._route: Route | None = None
        self._is_stream = False
        self._session: str | None = None
        self._warnings: tuple[str, ...] = ()
        self._allowance: Allowance | None = None

    def open(self) -> Answer:
        """Read the request, start the driver, wait for what it hands over."""
        inquiry, route = self._read()
        self._route = route
        self._driver = gevent.spawn(self._drive, inquiry, route)
        if self.stopped is not None:  # while the request was read
            self.stop(self.stopped)
        if self._is_stream:
            return self._open_stream()
        handover = self.wait(None)  # every step of the driver has a time limit of its own
        if handover is None or isinstance(handover, OpenStream):
            raise InternalError
        self._watch.stop()
        return self._finish_whole(handover)

    def wait(self, timeout_s: float | None) -> Handover | None:
        """Wait for the driver; None when it has nothing yet after `timeout_s`. Longer waits watch the client.

        Raises:
            ClientGone: the client left meanwhile.
        """
        timer = gevent.get_hub().loop.timer(_WATCH_AFTER_S)
        timer.start(self._watch.start)
        try:
            handover = self._handover.get(timeout=timeout_s)
        except gevent.Timeout:
            return None
        finally:
            timer.stop()
            timer.close()
        if self.is_client_gone:
            raise ClientGone
        return handover

    def abandon(self, error: BaseException) -> None:
        """Settle a run whose opening raised."""
        if isinstance(error, OmniRouteError):
            outcome = "cancelled" if is_stop(error) else "failed"
            self.close(outcome, status=self.dialect.status_of(error), error_code=error.error_code)
        elif isinstance(error, ClientGone):
            self.close("cancelled", status=CANCELLED_STATUS, error_code="client_gone")
        else:
            self.close("failed", status=500, error_code="internal_error")

    def close(
        self,
        outcome: str,
        *,
        status: int,
        known: Metered | None = None,
        error_code: str | None = None,
        bytes_out: int = 0,
    ) -> None:
        """End the run: stop the driver, free the watch, settle. Idempotent; the first outcome counts."""
        self._watch.end()
        driver = self._driver
        if driver is not None and not driver.dead:
            driver.kill()
        handed_over = self._handover.value if self._handover.ready() else None
        if isinstance(handed_over, OpenStream):
            handed_over.response.close()  # also when the client left before the handler took it over
            known = known or metered(handed_over.stream)
        elif isinstance(handed_over, WholeAnswer):
            known = known or Metered(handed_over.usage, handed_over.characters)
        try:
            self.settle(outcome, status=status, known=known, error_code=error_code, bytes_out=bytes_out)
        finally:
            self._inference.runs.pop(self.call.request_id, None)
            self._route = None
            # What refers back to this run is let go, so that it dies now and not in some later collection.
            self._driver = None
            self._handover = _OVER
            self._inquiry = None
            self.body = None

    def settle(
        self,
        outcome: str,
        *,
        status: int,
        known: Metered | None = None,
        error_code: str | None = None,
        bytes_out: int = 0,
    ) -> None:
        """Close the route of the request and write its books; the first outcome counts."""
        settlement = self.settlement
        if settlement.is_settled:
            return
        settlement.end(outcome, status=status, known=known, error_code=error_code, bytes_out=bytes_out)
        if self._route is not None:
            self._route.close(settlement.record)
        settlement.write()
        if self.call.tap is not None:
            self.call.tap.settled(settlement.record)
        if self._allowance is not None and self._inference.admission is not None:
            self._inference.admission.settled(self._allowance)

    def broke_off(self, failure: Failure) -> None:
        """Note that the stream failed after its content had begun."""
        if self._route is not None:
            self._route.broke_off(failure)

    def mend(self, mending: Mending, error: OmniRouteError) -> None:
        """Have a stream that broke off finished; what :meth:`wait` gives next is its rest, or the error."""
        self.stage = "connecting"
        self._relay = None
        self._handover = AsyncResult()
        self._driver = gevent.spawn(self._drive_on, mending, error)

    def stop(self, error: OmniRouteError) -> None:
        """End the run from outside with an error that its client is told; safe from any greenlet."""
        self.stopped = error
        if self._relay is not None:
            self._relay.abort()
        elif self._driver is not None and not self._handover.ready():
            self._driver.kill(block=False)
            self._handover.set(Refusal(error))

    @property
    def current_stage(self) -> str:
        """What is being waited for: `reading`, `queued`, `connecting`, `waiting` or `streaming`."""
        return self.stage if self._trying is None else self._trying.stage

    def take_over(self, opened: OpenStream) -> None:
        """Make the handler the owner of the upstream; the client is watched while it is relayed."""
        self.stage = "streaming"
        self._relay = opened.response
        if self.stopped is not None:
            opened.response.abort()
        self._forget_request()  # no other target can follow, and the stream may be open for minutes
        self._watch.start()
        self.settlement.note_first_content()

    def _forget_request(self) -> None:
        """Let go of what the client sent: an agent's request is a hundred kilobytes and more."""
        self.call = replace(self.call, body=b"")
        self._inquiry = None

    def facts(self, target: Target) -> dict[str, str]:
        """Headers that say what served."""
        attempts = self.settlement.attempts
        route = self._route
        headers = {
            "X-OmniRoute-Model": in_ascii(target.name),
            "X-OmniRoute-Provider": in_ascii(target.provider.prefix),
            "X-OmniRoute-Attempts": str(attempts),
            "X-OmniRoute-Decision": "" if route is None else route.summary(is_head=attempts == 1),
            "X-OmniRoute-Latency-Ms": str(round(self.settlement.elapsed_ms())),
        }
        if attempts > 1:
            headers["X-OmniRoute-Fallback-Attempts"] = str(attempts - 1)
        return headers

    def headers(self) -> dict[str, str]:
        """Headers of every answer: the session, and what was ignored or degraded."""
        headers = {}
        if self._session is not None:
            headers["X-OmniRoute-Session-Id"] = in_ascii(self._session)
        warnings = [*self._warnings]
        if self._route is not None:
            warnings += self._route.plan.warnings
        if self._allowance is not None:
            headers.update(self._allowance.headers)
        if self._inquiry is not None:
            warnings += filter(None, (self._inquiry.note, self._inquiry.warning))
        if warnings:
            headers["X-OmniRoute-Warning"] = in_ascii(",".join(warnings[:_MOST_WARNINGS]))
        return headers

    @property
    def heartbeat(self) -> bytes:
        """What fills silence on this client's stream."""
        return self.dialect.heartbeat if self._inference.sends_comments else self.dialect.quiet_heartbeat

    # --- reading the request -----------------------------------------------------------------------------------------

    def _read(self) -> tuple[Inquiry, Route]:
        call = self.call
        pause = Slices(self.now)
        if len(call.body) > _LARGE_BYTES:
            pause.rest()  # it may have arrived without a moment's waiting
        top = scan(call.body, acted_on=self.dialect.acted_on, pause=pause)
        resumed = None
        note = ""
        if self.dialect.format is WireFormat.OPENAI_RESPONSES:
            if top.value("background") is True:  # nobody could ask for the answer later: it is given now
                top = scan(splice(top, {"background": None}))
                note = _NOT_IN_BACKGROUND
            resumed = resume(top, call.caller.key_id, self._inference.responses, self.dialect.acted_on)
            top = resumed.top
        named = self._model(top)
        self.settlement.record.requested_model = (named or "")[:240]
        self._is_stream = self.settlement.record.stream = self._wants_stream(top)
        self._check_conversation(top)
        try:
            resolved = self._inference.resolve(named, call)
        except ModelNotFound as error:
            if resumed is not None and resumed.pinned_to is not None and error.extras.get("reason") == "no_connection":
                raise origin_gone() from error
            raise
        model = resolved.requested
        inquiry = self._inquiry = self._inference.new_inquiry(
            call, self.dialect, top, model=model, is_stream=self._is_stream, pause=pause
        )
        inquiry.note = note
        if resumed is None:
            return inquiry, self._begin(inquiry, resolved, None)
        if not self.dialect.sub_path:
            inquiry.continued = self._inference.continued(call, resumed)
        return inquiry, self._begin(inquiry, resolved, resumed.pinned_to)

    def _begin(self, inquiry: Inquiry, resolved: Resolved, origin: Origin | None) -> Route:
        """Plan the request."""
        begun = self._inference.begin(self.call, inquiry, resolved, origin=origin, started=self.started)
        self._session = begun.session
        self._warnings = begun.warnings
        self.settlement.record.session_hash = begun.route.asked.features.session
        self.settlement.record.combo_id = None if resolved.combo is None else resolved.combo.id
        self._route = begun.route  # also of what is refused it is told how it was planned
        route, self._allowance = self._inference.admit(self.call, begun)
        return route

    def _model(self, top: TopLevel) -> str | None:
        model = self.call.model if self.call.model is not None else top.value("model")
        if model is not None and (not isinstance(model, str) or not model):
            raise InvalidRequest("'model' must be a non-empty string.", param="model")
        return model

    def _wants_stream(self, top: TopLevel) -> bool:
        if self.call.is_stream is not None:
            return self.call.is_stream
        stream = top.value("stream")
        if stream is not None and not isinstance(stream, bool):
            raise InvalidRequest("'stream' must be true or false.", param="stream")
        if stream is not None:
            return stream
        return self.call.accepts_stream or self.dialect.streams_by_default

    def _check_conversation(self, top: TopLevel) -> None:
        members = self.dialect.conversation
        if members[0] not in top and not any(member in top for member in members):
            raise MissingField(f"The field '{members[0]}' is required.", param=members[0])
        span = top.spans.get("messages")
        if span is not None and members == ("messages",) and not self.call.body.startswith(b"[", span[0]):
            raise InvalidRequest("'messages' must be an array.", param="messages")

    # --- handing back --------------------------------------------------------------------------------------------

    def _open_stream(self) -> Answer:
        from omniroute.gateway.relay import EventStream, stream_headers

        handover = self.wait(self.clocks.commit_after_s)
        if isinstance(handover, WholeAnswer):
            raise InternalError
        if isinstance(handover, Refusal):
            return self._finish_whole(handover)
        headers = stream_headers(self.dialect)
        headers.update(self.headers())
        if handover is not None:
            headers.update(self.facts(handover.target))
            headers.update(_passed_back(handover.response.headers))
        return Answer(200, headers, EventStream(self, handover))

    def _finish_whole(self, handover: WholeAnswer | Refusal) -> Answer:
        if isinstance(handover, Refusal):
            said = {**self.headers(), **handover.error.headers}
            if handover.verbatim is None:
                handover.error.headers = said
                raise handover.error
            status, body = handover.verbatim
            self.close("failed", status=status, error_code=handover.error.error_code, bytes_out=len(body))
            headers = {
                **said,
                "Content-Type": "application/json",
                "X-OmniRoute-Error-Code": in_ascii(handover.error.error_code),
                "x-should-retry": "false",
            }
            return Answer(status, headers, body)
        usage = handover.usage
        self.settlement.note_first_content()
        headers = self.facts(handover.target)
        headers.update(self.headers())
        headers["Content-Type"] = "application/json"
        if usage.input is not None and not usage.is_input_estimated:
            headers["X-OmniRoute-Tokens-In"] = str(usage.input)
        if usage.output is not None and not usage.is_output_estimated:
            headers["X-OmniRoute-Tokens-Out"] = str(usage.output)
        known = Metered(usage, handover.characters)
        headers.update(self.settlement.account(known))
        headers.update(_passed_back(handover.headers))
        self.close("success", status=handover.status, known=known, bytes_out=len(handover.body))
        return Answer(handover.status, headers, handover.body)

    def render_late(self, error: OmniRouteError) -> bytes:
        """Return the frames of an error that comes after the status line, and before anything of an answer.

        A Messages stream has an ending of its own for what a filter stopped.
        """
        dialect = self.dialect
        is_end = error.error_code == FILTERED and dialect.format is WireFormat.ANTHROPIC_MESSAGES
        if not is_end or self._inquiry is None:
            return dialect.render_in_stream(error, self.call.request_id)
        renderer = dialect.new_renderer(self._inquiry.reply(lambda _: b""))
        return renderer.render([MessageStart("", self._inquiry.requested), MessageStop(Stop.REFUSAL)])

    def _on_client_gone(self) -> None:
        """Called in the hub: must not block."""
        self.is_client_gone = True
        if self._relay is not None:
            self._relay.abort()
            return
        if self._driver is not None:
            self._driver.kill(block=False)
        if not self._handover.ready():
            self._handover.set(None)

    # --- the driver's greenlet ---------------------------------------------------------------------------------------

    def _drive(self, inquiry: Inquiry, route: Route) -> None:
        handover: Handover
        if self._allowance is not None and self._allowance.throttle_s:
            self._inference.sleep(self._allowance.throttle_s)
        try:
            self._trying = self._inference.new_driver(self.call, inquiry, self.settlement, self.started)
            handover = self._trying.serve(route)
        except OmniRouteError as error:
            handover = Refusal(error)
        except Exception:
            log.exception("request %s failed in its driver", self.call.request_id)
            handover = Refusal(InternalError())
        finally:
            self._trying = None
        if self._handover.ready():  # the handler was told to stop meanwhile and waits for nothing any more
            if isinstance(handover, OpenStream):
                handover.response.close()
            return
        self._handover.set(handover)

    def _drive_on(self, mending: Mending, error: OmniRouteError) -> None:
        handover: Handover = Refusal(error)
        try:
            handover = mending.drive() or handover
        except OmniRouteError:  # the rest cannot be asked for; the client hears of the break itself
            log.info("request %s could not be finished", self.call.request_id)
        except Exception:
            log.exception("request %s failed while it was finished", self.call.request_id)
        if self._handover.ready():  # as above
            if isinstance(handover, OpenStream):
                handover.response.close()
            return
        self._handover.set(handover)


def is_stop(error: OmniRouteError) -> bool:
    """Say whether an error ends a request for a reason of ours: it is cancelled then, and has not failed."""
    return isinstance(error, ServerDraining | RequestCancelled)


def _passed_back(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what a provider says about its own request, where it is what it claims to be."""
    passed = {}
    identity = upstream_id(headers)
    if identity is not None:
        passed["X-Upstream-Request-Id"] = identity
    took = headers.get("openai-processing-ms")
    if took is not None and took.isascii() and took.isdigit() and len(took) <= 12:
        passed["openai-processing-ms"] = took
    return passed

"""One inference request: read, resolve, plan, drive, relay, settle.

Two greenlets serve a request. The *handler* belongs to the web server: it owns the client's socket and waits here for
the *driver*, which runs the attempt loop and owns the upstream until there is something to hand over: a whole answer,
the first content of a stream, or a failure. A stream with content then belongs to the handler, which relays it without
a second greenlet or a queue in between (decision record 0006); a slow client slows the provider through TCP.

Nothing here reads Flask's context or the database.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol
from urllib.parse import quote

import gevent
import msgspec
from gevent.event import AsyncResult

from omniroute.errors import (
    InternalError,
    InvalidRequest,
    MissingField,
    ModelNotFound,
    OmniRouteError,
    PermissionDenied,
    ServerDraining,
    UnsupportedFeature,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnreachable,
    UrlBlocked,
)
from omniroute.formats.passthrough import PassthroughStream
from omniroute.formats.splice import TopLevel, rename_member, scan, splice
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat
from omniroute.gateway.accounting import Observer, RequestLog, Settlement
from omniroute.gateway.clocks import Clocks
from omniroute.gateway.dialects import DIALECTS, Dialect
from omniroute.gateway.directory import Directory, Target
from omniroute.gateway.faults import error_for
from omniroute.gateway.ports import ReadTimeout, Transport, UpstreamResponse
from omniroute.gateway.watch import ClientWatch
from omniroute.ids import new_id
from omniroute.providers import classify, requests
from omniroute.providers.upstream import UpstreamRequest
from omniroute.records import AttemptRecord, RequestRecord
from omniroute.routing.attempts import Policy, Tried, most_telling, plan
from omniroute.routing.failures import Failure, FailureClass, Sent, Success
from omniroute.services.access import Caller

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES: Final = 64 << 20
_MAX_ERROR_BYTES: Final = 256 << 10
_ERROR_WAIT_S: Final = 10.0
"""How long the body of a refusal is waited for: its status says most, and the next target waits meanwhile."""
_LEAST_SECRET: Final = 8
"""Header values of a node count as secrets, but short ones (`1`, `true`) stand in many texts by chance."""
_UPSTREAM_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")
_WATCH_AFTER_S: Final = 0.02
"""Answers that take longer than this are watched for a client that leaves; most short ones are over by then."""
_MAX_TAG: Final = 64
CANCELLED_STATUS: Final = 499


@dataclass(frozen=True, slots=True)
class Call:
    """An inference request as it came in, free of the web framework."""

    request_id: str
    endpoint: str
    client_format: WireFormat
    body: bytes
    caller: Caller
    client_headers: requests.ClientHeaders = ()
    accepts_stream: bool = False
    tag: str | None = None
    client_socket: Any = None


class Body(Iterator[bytes], Protocol):
    """The pieces of a streamed answer. `close` is idempotent and must be called whatever happens."""

    def close(self) -> None:
        """Free what the stream holds and settle it."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What the view returns: a whole body, or an iterator with an idempotent `close()`."""

    status: int
    headers: Mapping[str, str]
    body: bytes | Body


class ClientGone(Exception):
    """The client left before its answer; nobody is there to be told."""


# What the driver hands over, once.


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """A complete answer of a provider, fit to be passed on."""

    status: int
    body: bytes
    usage: Usage
    target: Target
    headers: Mapping[str, str]
    """The provider's."""


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A stream at its commit point: the handler reads and closes `response` from here on."""

    response: UpstreamResponse
    stream: PassthroughStream
    first: bytes
    target: Target
    opened_at: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing served. `verbatim` is a provider's own error body in the client's dialect, fit to be passed on."""

    error: OmniRouteError
    verbatim: tuple[int, bytes] | None = None


Handover = WholeAnswer | OpenStream | Refusal


_OVER: Final[AsyncResult[Handover | None]] = AsyncResult()
_OVER.set(None)


class Inference:
    """Serves inference calls. One per worker; holds the runs in flight."""

    def __init__(
        self,
        *,
        directory: Callable[[], Directory],
        transport: Transport,
        request_log: RequestLog,
        observer: Observer,
        clocks: Clocks,
        now: Callable[[], float],
        wall: Callable[[], float],
        max_in_flight: int,
        sends_comments: bool = True,
    ) -> None:
        """`now` is a monotonic clock, `wall` the time of day, both in seconds."""
        self._directory = directory
        self._transport = transport
        self._request_log = request_log
        self._observer = observer
        self._max_in_flight = max_in_flight
        self.clocks = clocks
        self.now = now
        self.wall = wall
        self.sends_comments = sends_comments
        self.runs: dict[str, Run] = {}
        self.is_draining = False

    def open(self, call: Call) -> Answer:
        """Serve one call.

        Returns:
            The answer; a stream's body settles itself when it ends or is closed.

        Raises:
            OmniRouteError: rendered by the caller in the client's dialect; settled already.
            ClientGone: the client left; settled as cancelled.
        """
        if self.is_draining:
            raise ServerDraining(retry_after_s=5, should_retry=True, headers={"Connection": "close"})
        if len(self.runs) >= self._max_in_flight:
            raise InternalError(
                "The server handles as many requests as it may.", code="overloaded", status=503, retry_after_s=1
            )
        run = Run(self, call, DIALECTS[call.client_format])
        self.runs[call.request_id] = run
        try:
            return run.open()
        except BaseException as error:
            run.abandon(error)
            raise

    def drain(self) -> None:
        """Take no new calls; those in flight go on."""
        self.is_draining = True

    def end_all(self) -> None:
        """End every run in flight with an error that tells the client to try again: the drain time is over."""
        for run in list(self.runs.values()):
            run.stop_for_drain()

    def new_settlement(self, record: RequestRecord, started: float, *, is_private: bool) -> Settlement:
        """Open the books for one request."""
        return Settlement(
            record,
            log=self._request_log,
            observer=self._observer,
            now=self.now,
            started=started,
            is_private=is_private,
        )

    def resolve(self, model: str) -> Sequence[Target]:
        """Return the targets of a model name under the current configuration."""
        return self._directory().resolve(model)

    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """See :class:`Transport`."""
        return self._transport.send(request)


@dataclass(slots=True)
class _Clock:
    """Moments of one attempt, in milliseconds since the request began."""

    started_ms: float
    connected_ms: float | None = None
    content_ms: float | None = None


class Run:
    """One request in flight."""

    def __init__(self, inference: Inference, call: Call, dialect: Dialect) -> None:
        self.call = call
        self.dialect = dialect
        self.is_client_gone = False
        self.is_stopped = False
        self.stage = "reading"
        self.started = inference.now()
        self.clocks = inference.clocks
        self.now = inference.now
        self._inference = inference
        key = call.caller.key
        self.settlement = inference.new_settlement(
            RequestRecord(
                request_id=call.request_id,
                time=inference.wall(),
                endpoint=call.endpoint,
                client_format=call.client_format.value,
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
        self._relay: UpstreamResponse | None = None
        self._watch = ClientWatch(call.client_socket, self._on_client_gone)
        self._top: TopLevel | None = None
        self._requested = ""
        self._is_stream = False
        self._spliced: dict[tuple[str, WireFormat], bytes] = {}
        self._rejections: dict[int, tuple[int, bytes]] = {}

    # --- handler's side ------------------------------------------------------------------------------------------

    def open(self) -> Answer:
        """Read the request, start the driver, wait for what it hands over."""
        targets = self._read()
        self._driver = gevent.spawn(self._drive, targets)
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
            outcome = "cancelled" if isinstance(error, ServerDraining) else "failed"
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
        usage: Usage | None = None,
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
            usage = usage or handed_over.stream.usage
        elif isinstance(handed_over, WholeAnswer):
            usage = usage or handed_over.usage
        try:
            self.settlement.settle(outcome, status=status, usage=usage, error_code=error_code, bytes_out=bytes_out)
        finally:
            self._inference.runs.pop(self.call.request_id, None)
            # What refers back to this run is let go, so that it dies now and not in some later collection.
            self._driver = None
            self._handover = _OVER
            self._forget_request()

    def stop_for_drain(self) -> None:
        """End the run from outside with `server_draining`; safe from any greenlet."""
        self.is_stopped = True
        if self._relay is not None:
            self._relay.abort()
        elif self._driver is not None and not self._handover.ready():
            self._driver.kill(block=False)
            self._handover.set(Refusal(ServerDraining(retry_after_s=5, should_retry=True)))

    def take_over(self, opened: OpenStream) -> None:
        """Make the handler the owner of the upstream; the client is watched while it is relayed."""
        self.stage = "streaming"
        self._relay = opened.response
        if self.is_stopped:
            opened.response.abort()
        self._forget_request()  # no other target can follow, and the stream may be open for minutes
        self._watch.start()
        self.settlement.note_first_content()

    def _forget_request(self) -> None:
        """Let go of what the client sent: an agent's request is a hundred kilobytes and more."""
        self.call = replace(self.call, body=b"")
        self._top = None
        self._spliced.clear()

    def facts(self, target: Target) -> dict[str, str]:
        """Headers that say what served."""
        attempts = self.settlement.attempts
        headers = {
            "X-OmniRoute-Model": _in_ascii(target.name),
            "X-OmniRoute-Provider": _in_ascii(target.provider.prefix),
            "X-OmniRoute-Attempts": str(attempts),
            "X-OmniRoute-Decision": f"strategy=single; reason={'head' if attempts == 1 else 'fallback'}; waited_ms=0",
            "X-OmniRoute-Latency-Ms": str(round(self.settlement.elapsed_ms())),
        }
        if attempts > 1:
            headers["X-OmniRoute-Fallback-Attempts"] = str(attempts - 1)
        return headers

    def _read(self) -> Sequence[Target]:
        call = self.call
        top = scan(call.body, acted_on=self.dialect.acted_on)
        self._top = top
        model = top.value("model")
        if model is None:
            raise MissingField("The field 'model' is required.", param="model")
        if not isinstance(model, str) or not model:
            raise InvalidRequest("'model' must be a non-empty string.", param="model")
        self._requested = model
        self.settlement.record.requested_model = model[:240]
        stream = top.value("stream")
        if stream is not None and not isinstance(stream, bool):
            raise InvalidRequest("'stream' must be true or false.", param="stream")
        self._is_stream = call.accepts_stream if stream is None else stream
        self.settlement.record.stream = self._is_stream
        span = top.spans.get("messages")
        if span is None:
            raise MissingField("The field 'messages' is required.", param="messages")
        if not call.body.startswith(b"[", span[0]):
            raise InvalidRequest("'messages' must be an array.", param="messages")
        return self._targets(model)

    def _targets(self, model: str) -> Sequence[Target]:
        caller = self.call.caller
        try:
            targets = self._inference.resolve(model)
        except ModelNotFound:
            caller.check_model(model)
            raise
        first = targets[0]
        caller.check_model(model, f"{first.provider.prefix}/{first.model}")
        key = caller.key
        if key is not None and key.allowed_connections:
            targets = [target for target in targets if target.connection_id in key.allowed_connections]
            if not targets:
                raise PermissionDenied(
                    "This API key may not use the connections of this provider.",
                    code="model_not_allowed",
                    param="model",
                )
        usable = [target for target in targets if self.dialect.format in target.endpoints]
        if not usable:
            raise UnsupportedFeature(
                f"{first.provider.name} does not speak the format of this endpoint, and this release forwards only "
                "between equal formats.",
                param="model",
            )
        return usable

    def _open_stream(self) -> Answer:
        from omniroute.gateway.relay import STREAM_HEADERS, EventStream

        handover = self.wait(self.clocks.commit_after_s)
        if isinstance(handover, WholeAnswer):
            raise InternalError
        if isinstance(handover, Refusal):
            return self._finish_whole(handover)
        headers = dict(STREAM_HEADERS)
        if handover is not None:
            headers.update(self.facts(handover.target))
            headers.update(_passed_back(handover.response.headers))
        return Answer(200, headers, EventStream(self, handover))

    def _finish_whole(self, handover: WholeAnswer | Refusal) -> Answer:
        if isinstance(handover, Refusal):
            if handover.verbatim is None:
                raise handover.error
            status, body = handover.verbatim
            self.close("failed", status=status, error_code=handover.error.error_code, bytes_out=len(body))
            headers = {
                "Content-Type": "application/json",
                "X-OmniRoute-Error-Code": _in_ascii(handover.error.error_code),
                "x-should-retry": "false",
            }
            return Answer(status, headers, body)
        usage = handover.usage
        self.settlement.note_first_content()
        headers = self.facts(handover.target)
        headers["Content-Type"] = "application/json"
        if usage.input is not None:
            headers["X-OmniRoute-Tokens-In"] = str(usage.input)
        if usage.output is not None:
            headers["X-OmniRoute-Tokens-Out"] = str(usage.output)
        headers.update(_passed_back(handover.headers))
        self.close("success", status=handover.status, usage=usage, bytes_out=len(handover.body))
        return Answer(handover.status, headers, handover.body)

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

    # --- driver's side -------------------------------------------------------------------------------------------

    def _drive(self, targets: Sequence[Target]) -> None:
        try:
            handover = self._attempt_in_turn(targets)
        except OmniRouteError as error:
            handover = Refusal(error)
        except Exception:
            log.exception("request %s failed in its driver", self.call.request_id)
            handover = Refusal(InternalError())
        if self._handover.ready():  # the handler was told to stop meanwhile and waits for nothing any more
            if isinstance(handover, OpenStream):
                handover.response.close()
            return
        self._handover.set(handover)

    def _attempt_in_turn(self, targets: Sequence[Target]) -> Handover:
        policy = Policy(deadline=self.started + self.clocks.before_commit_s)
        attempts = plan(targets, policy, now=self.now)
        step = next(attempts)
        while True:
            self.stage = "connecting"
            outcome = self._attempt(step.candidate, step.number)
            if not isinstance(outcome, Failure):
                with suppress(StopIteration):
                    attempts.send(Success())
                return outcome
            try:
                step = attempts.send(outcome)
            except StopIteration as stop:
                return self._refuse(stop.value)

    def _refuse(self, tried: Sequence[Tried[Target]]) -> Refusal:
        if not tried:
            return Refusal(UpstreamTimeout("total"))
        chosen = most_telling(tried)
        error = error_for(chosen.failure, chosen.candidate.provider.name)
        verbatim = None
        if chosen.failure.failure_class is FailureClass.CALLER_FAULT:
            verbatim = self._rejections.get(id(chosen.failure))
        return Refusal(error, verbatim)

    def _attempt(self, target: Target, number: int) -> WholeAnswer | OpenStream | Failure:
        clock = _Clock(self.settlement.elapsed_ms())
        record = self.settlement.record
        record.provider, record.model = target.provider.prefix, target.model
        record.connection_id = target.connection_id
        record.upstream_format = self.dialect.format.value
        response: UpstreamResponse | None = None
        failure: Failure | None = _ENDED_BY_US
        is_handed_over = False
        try:
            request = self._request(target, number)
            answer_by = self.now() + request.deadlines.total_s
            response = self._inference.send(request)
            clock.connected_ms = self.settlement.elapsed_ms()
            if response.status >= 300:  # no redirect is followed: it would carry the credential elsewhere
                failure = self._rejected(response, target)
                return failure
            if self._is_stream:
                opened = self._read_until_content(response, target, request.deadlines.content_s)
                clock.content_ms = self.settlement.elapsed_ms()
                is_handed_over = True
                failure = None
                return opened
            whole = self._read_whole(response, target, answer_by)
            failure = None
            return whole  # noqa: TRY300 -- the other ways out of this block return as well
        except _Failed as error:
            failure = error.failure
            return failure
        except (UpstreamError, UrlBlocked) as error:
            failure = _failure_of(error)
            return failure
        except Exception:
            failure = Failure("internal", FailureClass.UNKNOWN)
            raise
        finally:
            if response is not None and not is_handed_over:
                response.close()
            self.settlement.add_attempt(
                AttemptRecord(
                    provider=target.provider.prefix,
                    connection_id=target.connection_id,
                    model=target.model,
                    status=response.status if response is not None else None,
                    failure_class=None if failure is None else failure.failure_class.value,
                    kind=None if failure is None else failure.kind,
                    started_ms=clock.started_ms,
                    connected_ms=clock.connected_ms,
                    first_content_ms=clock.content_ms,
                    ended_ms=self.settlement.elapsed_ms(),
                )
            )

    def _request(self, target: Target, number: int) -> UpstreamRequest:
        deadlines = self.clocks.stream if self._is_stream else self.clocks.answer
        if number > 1:  # what is left of the whole request is all that a later target gets
            deadlines = deadlines.within(self.started + self.clocks.before_commit_s - self.now())
        endpoint = target.endpoints[self.dialect.format]
        return requests.build(
            endpoint,
            model=target.model,
            body=self._body_for(target),
            client_headers=self.call.client_headers,
            stream=self._is_stream,
            deadlines=deadlines,
        )

    def _read_request(self) -> TopLevel:
        """Return the request; it is let go of only when no further attempt can need it."""
        if self._top is None:
            raise InternalError
        return self._top

    def _body_for(self, target: Target) -> bytes:
        top = self._read_request()
        key = (target.model, self.dialect.format)
        body = self._spliced.get(key)
        if body is None:
            changes: dict[str, bytes | None] = {}
            if target.model != self._requested:
                changes["model"] = msgspec.json.encode(target.model)
            if self._is_stream:
                changes.update(self.dialect.stream_edits(top))
                if top.value("stream") is None:  # asked for by the Accept header
                    changes["stream"] = b"true"
            body = self._spliced[key] = splice(top, changes) if changes else top.body
        return body

    def _rejected(self, response: UpstreamResponse, target: Target) -> Failure:
        try:
            body = read_all(response, _ERROR_WAIT_S, _MAX_ERROR_BYTES, self.now)
        except UpstreamError:
            body = b""  # the status was said, and speaks for itself
        return self._classified(response.status, response.headers, body, target)

    def _classified(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> Failure:
        body = without_secrets(body, target.endpoints[self.dialect.format])
        failure = classify.classify(self.dialect.format, status, headers, body, now=self._inference.wall())
        if failure.failure_class is FailureClass.CALLER_FAULT and status >= 400 and _is_json_object(body):
            self._rejections[id(failure)] = (status, body)
        return failure

    def _read_whole(self, response: UpstreamResponse, target: Target, answer_by: float) -> WholeAnswer:
        content_type = response.headers.get("content-type", "").lower()
        if "event-stream" in content_type:
            raise UpstreamProtocolError("The provider streamed although a whole answer was asked for.")
        body = read_all(response, answer_by - self.now(), MAX_ANSWER_BYTES, self.now)
        read = self.dialect.read_answer(body)
        if read is None:
            raise _Failed(self._classified(response.status, response.headers, body, target))
        usage, named = read
        if named and target.model != self._requested:
            body = rename_member(body, "model", named, msgspec.json.encode(self._requested))
        return WholeAnswer(response.status, body, usage, target, response.headers)

    def _read_until_content(self, response: UpstreamResponse, target: Target, within_s: float) -> OpenStream:
        content_type = response.headers.get("content-type", "text/event-stream").lower()
        if "event-stream" not in content_type:
            self._refuse_unstreamed(response, target)
        requested = None if target.model == self._requested else self._requested
        stream = self.dialect.new_stream(self._read_request(), requested, lambda usage: self._trailer(usage, target))
        give_up_at = self.now() + within_s
        while True:
            try:
                data = response.read(give_up_at - self.now())
            except ReadTimeout:
                raise UpstreamTimeout("content") from None
            if not data:
                raise UpstreamProtocolError("The provider's stream ended before any content.")
            first = stream.feed(data)
            if stream.error is not None and not stream.has_content:
                raise _Failed(self._classified(200, response.headers, stream.error, target))
            if stream.has_content:
                return OpenStream(response, stream, first, target, self.now())

    def _refuse_unstreamed(self, response: UpstreamResponse, target: Target) -> None:
        """An error object inside a 200 says more than 'not a stream'."""
        body = read_all(response, self.clocks.stream.content_s, _MAX_ERROR_BYTES, self.now)
        if _is_json_object(body) and self.dialect.read_answer(body) is None:
            raise _Failed(self._classified(response.status, response.headers, body, target))
        raise UpstreamProtocolError("The provider did not stream although a stream was asked for.")

    def _trailer(self, usage: Usage, target: Target) -> bytes:
        """Facts known only at the end, as comment lines before the terminal event."""
        if not self._inference.sends_comments:
            return b""
        lines = [
            f": x-omniroute-request-id={self.call.request_id}\n",
            f": x-omniroute-model={_in_ascii(target.name)}\n",
            f": x-omniroute-provider={_in_ascii(target.provider.prefix)}\n",
        ]
        if usage.input is not None:
            lines.append(f": x-omniroute-tokens-in={usage.input}\n")
        if usage.output is not None:
            lines.append(f": x-omniroute-tokens-out={usage.output}\n")
        lines.append(f": x-omniroute-attempts={self.settlement.attempts}\n\n")
        return "".join(lines).encode("ascii")

    @property
    def heartbeat(self) -> bytes:
        """What fills silence on this client's stream."""
        return self.dialect.heartbeat if self._inference.sends_comments else self.dialect.quiet_heartbeat


_ENDED_BY_US: Final = Failure("cancelled", FailureClass.CANCELLED)
"""An attempt that neither served nor failed: the client left, or the server stopped."""


class _Failed(Exception):
    """An attempt failed for a reason that is classified already."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.kind)
        self.failure = failure


def _failure_of(error: UpstreamError | UrlBlocked) -> Failure:
    match error:
        case UrlBlocked():
            return Failure("blocked", FailureClass.LOCAL, message=error.message, sent=Sent.NONE)
        case UpstreamUnreachable():
            return Failure("transport", FailureClass.TRANSIENT, sent=Sent.NONE)
        case UpstreamTimeout():
            sent = Sent.NONE if error.phase == "connect" else Sent.FULL
            return Failure(f"timeout_{error.phase}", FailureClass.TRANSIENT, sent=sent)
        case UpstreamProtocolError():
            return Failure("protocol", FailureClass.TRANSIENT, message=error.message)
        case _:
            return Failure("unknown", FailureClass.UNKNOWN)


def without_secrets(body: bytes, endpoint: requests.Endpoint) -> bytes:
    """Take our credential out of a provider's error: some repeat the key that they refuse."""
    for secret in endpoint.secrets:
        if len(secret) >= _LEAST_SECRET:
            body = body.replace(secret, b"[redacted]")
    return body


def _in_ascii(text: str) -> str:
    """Return a text as a header can hold it: model names may have any letters."""
    return text if text.isascii() and text.isprintable() else quote(text, safe="/:@+ ")


def _passed_back(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what a provider says about its own request, where it is what it claims to be."""
    passed = {}
    identity = headers.get("x-request-id") or headers.get("request-id")
    if identity is not None and _UPSTREAM_ID.fullmatch(identity):
        passed["X-Upstream-Request-Id"] = identity
    took = headers.get("openai-processing-ms")
    if took is not None and took.isascii() and took.isdigit() and len(took) <= 12:
        passed["openai-processing-ms"] = took
    return passed


def _is_json_object(body: bytes) -> bool:
    try:
        scan(body)
    except OmniRouteError:
        return False
    return True


def read_all(response: UpstreamResponse, timeout_s: float, limit: int, now: Callable[[], float]) -> bytes:
    """Read a body to its end.

    Raises:
        UpstreamTimeout: it was not complete after `timeout_s`.
        UpstreamProtocolError: it is larger than `limit` bytes, or broke off.
    """
    give_up_at = now() + timeout_s
    parts: list[bytes] = []
    size = 0
    while True:
        try:
            data = response.read(give_up_at - now())
        except ReadTimeout:
            raise UpstreamTimeout("total") from None
        if not data:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        size += len(data)
        if size > limit:
            raise UpstreamProtocolError("The provider's answer is too large.")
        parts.append(data)


def new_request_id() -> str:
    """Return a new id for one request."""
    return new_id("req")

"""The body of a streamed answer: what the web server iterates, and closes whatever happens.

An object, not a generator: a generator that never started never runs its `finally`, and the upstream would leak
whenever the client goes before the first write.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from omniroute.errors import OmniRouteError, UpstreamError, UpstreamProtocolError, UpstreamTimeout
from omniroute.formats.error_shapes import is_error_event
from omniroute.gateway.answers import failure_of, without_secrets
from omniroute.gateway.charges import metered
from omniroute.gateway.dialects import Dialect
from omniroute.gateway.faults import error_for, is_ours_to_mend
from omniroute.gateway.handover import CANCELLED_STATUS, ClientGone, Mending, OpenStream, Refusal
from omniroute.gateway.ports import ReadTimeout
from omniroute.gateway.run import Run, is_stop
from omniroute.providers import classify
from omniroute.routing.failures import Failure

log = logging.getLogger(__name__)

_GRACE_FOR_END_S: Final = 0.25
"""How long the end of the provider's body may lag behind its terminal event for the connection to be kept."""


def stream_headers(dialect: Dialect) -> dict[str, str]:
    """Return the headers of a stream: what keeps proxies from holding it back."""
    return {
        "Content-Type": dialect.stream_type,
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
    }


@dataclass(frozen=True, slots=True)
class _Break:
    """How a stream broke off, and what the client is told of it.

    Attributes:
        raw: the provider's own error, where it may be passed on as it is.
    """

    error: OmniRouteError
    outcome: str
    raw: bytes | None = None


class EventStream:
    """Relays one stream to one client.

    While the driver is still trying targets, silence is filled with heartbeats. From the commit point on each step
    waits for the provider's next bytes and hands them on. Every way out settles the request exactly once: the end, an
    error, a time limit, the client leaving, the server draining.

    A stream that breaks off may be one that somebody else can finish. The driver then looks for that in a greenlet of
    its own, as before the first content, and the client is told of the break only if nobody does.
    """

    __slots__ = ("_break", "_is_over", "_is_waiting", "_mending", "_opened", "_run", "bytes_out", "last_byte_at")

    def __init__(self, run: Run, opened: OpenStream | None) -> None:
        """`opened` is None when the answer begins ahead of its content."""
        self._run = run
        run.body = self
        self._opened: OpenStream | None = None
        self.bytes_out = 0
        self._is_over = False
        self._is_waiting = opened is None
        self.last_byte_at = 0.0
        self._break: _Break | None = None
        self._mending: Mending | None = None
        if opened is not None:
            self._take_over(opened)

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> bytes:
        if self._is_over:
            opened = self._opened
            if opened is None or not opened.stream.is_complete:
                self.close()
            # After a clean end the server writes its own end, then closes us: the provider's may take a moment.
            raise StopIteration
        frame = b""
        while not frame:
            try:
                frame = self._next()
            except ClientGone:
                self.close()
                raise StopIteration from None
            except OmniRouteError as error:
                frame = self._fail(error)
            except Exception:
                log.exception("request %s failed while it was relayed", self._run.call.request_id)
                frame = self._fail(OmniRouteError())
            if not self._is_being_mended:
                break
        self.bytes_out += len(frame)
        return frame

    def close(self) -> None:
        """End the stream: free the upstream; settle as cancelled unless it was settled before. Idempotent."""
        self._is_over = True
        opened, self._opened = self._opened, None
        self._mending = None
        run = self._run
        if opened is not None:
            if opened.stream.is_complete and not run.is_client_gone:
                self._read_to_end(opened)
            opened.response.close()
        known = None if opened is None else metered(opened.stream)
        run.close("cancelled", status=CANCELLED_STATUS, known=known, error_code="client_gone", bytes_out=self.bytes_out)

    @property
    def _is_being_mended(self) -> bool:
        return self._break is not None and not self._is_over

    def _next(self) -> bytes:
        return self._wait_for_content() if self._is_waiting or self._opened is None else self._relay(self._opened)

    def _take_over(self, opened: OpenStream) -> None:
        self._opened = opened
        self._is_waiting = False
        self._mending = opened.mending or self._mending
        self.last_byte_at = opened.opened_at
        self._run.take_over(opened)

    def _wait_for_content(self) -> bytes:
        run = self._run
        handover = run.wait(run.clocks.heartbeat_s)
        match handover:
            case None:
                return run.heartbeat
            case OpenStream():
                self._take_over(handover)
                # The rest of a broken answer may fail before any of it can be handed on.
                is_broken = handover.stream.error is not None
                return self._begin(handover) if is_broken else self._relay(handover)
            case Refusal() if self._break is not None and handover.error is self._break.error:
                return self._tell(self._break)
            case Refusal():
                raise handover.error
            case _:
                raise OmniRouteError

    def _relay(self, opened: OpenStream) -> bytes:
        run, stream = self._run, opened.stream
        if opened.first:
            return self._begin(opened)
        limits = run.clocks.stream
        heartbeat_at = run.now() + run.clocks.heartbeat_s
        while True:
            now = run.now()
            idle_at = self.last_byte_at + limits.idle_s
            total_at = run.started + limits.total_s
            if now >= total_at:  # also where bytes always wait, as they do for a slow client
                raise UpstreamTimeout("total", "The stream reached its time limit.")
            try:
                data = opened.response.read(min(heartbeat_at, idle_at, total_at) - now)
            except ReadTimeout:
                now = run.now()
                if now >= idle_at:
                    raise UpstreamTimeout("idle", "The provider fell silent in the middle of its answer.") from None
                if now >= heartbeat_at:
                    if run.heartbeat:
                        return run.heartbeat
                    heartbeat_at = now + run.clocks.heartbeat_s
                continue
            except UpstreamProtocolError:
                return self._end_without_terminal(opened)
            if not data:
                return self._end_without_terminal(opened)
            self.last_byte_at = run.now()
            try:
                out = stream.feed(data)
            except (UnicodeDecodeError, RecursionError):
                raise UpstreamProtocolError("The provider's stream is not readable text.") from None
            if stream.error is not None:
                return self._pass_on_error(out, opened)
            if stream.is_complete:
                self._succeed(len(out))
            if out:
                return out

    def _begin(self, opened: OpenStream) -> bytes:
        """Hand on what came with the first content."""
        first, stream = opened.first, opened.stream
        self._opened = replace(opened, first=b"")
        if stream.error is not None:
            return self._pass_on_error(first, opened)
        if stream.is_complete:
            self._succeed(len(first))
        return first

    def _succeed(self, last_bytes: int) -> None:
        """Settle before the last bytes leave: what the client has seen complete is in the log, whatever comes."""
        self._is_over = True
        known = None
        if self._opened is not None:
            known = metered(self._opened.stream)
            if self._opened.at_end is not None:
                self._opened.at_end(self._opened.stream)
        self._run.settle("success", status=200, known=known, bytes_out=self.bytes_out + last_bytes)

    def _end_without_terminal(self, opened: OpenStream) -> bytes:
        """The provider's bytes ended, or another greenlet ended them."""
        run = self._run
        if run.is_client_gone:
            raise ClientGone
        if run.stopped is not None:
            raise run.stopped
        last = opened.stream.end()
        if opened.stream.error is not None:
            return self._pass_on_error(last, opened)
        self._succeed(len(last))
        return last

    def _pass_on_error(self, before: bytes, opened: OpenStream) -> bytes:
        """The provider reported an error in mid-stream: its meaning goes to the client, in the client's dialect."""
        data = without_secrets(opened.stream.error or b"{}", opened.endpoint)
        failure = classify.classify(opened.endpoint.format, 200, {}, data, now=self._run.wall())
        self._run.broke_off(failure)
        error = error_for(failure, opened.target.provider.name, wall=self._run.wall())
        is_fit = opened.stream.is_verbatim and is_error_event(opened.endpoint.format, data)
        is_raw = is_fit and not is_ours_to_mend(failure)
        return before + self._end_torn(_Break(error, "failed", data if is_raw else None), failure)

    def _fail(self, error: OmniRouteError) -> bytes:
        is_cut = self._opened is not None and isinstance(error, UpstreamProtocolError)
        outcome = "cancelled" if is_stop(error) else "truncated" if is_cut else "failed"
        failure = None
        is_own_limit = isinstance(error, UpstreamTimeout) and error.phase == "total"
        if self._opened is not None and not self._is_waiting and isinstance(error, UpstreamError) and not is_own_limit:
            failure = failure_of(error)
            self._run.broke_off(failure)
        return self._end_torn(_Break(error, outcome), failure)

    def _end_torn(self, torn: _Break, failure: Failure | None) -> bytes:
        """Have the stream finished by somebody else, or tell the client that it is over.

        `failure` is the provider's; None where the stream is ended for a reason of ours.
        """
        if failure is None:
            return self._tell(torn)
        if self._break is not None:  # the second provider's words would be about something that nobody has asked for
            return self._tell(self._break)
        mending, opened = self._mending, self._opened
        if mending is None or opened is None or not mending.may_begin(failure):
            return self._tell(torn)
        opened.response.close()
        self._break, self._is_waiting = torn, True
        self._run.mend(mending, torn.error)
        return b""

    def _tell(self, torn: _Break) -> bytes:
        """Write the end of a stream that is not complete, and settle."""
        request_id, opened = self._run.call.request_id, self._opened
        is_first = self._mending is None or self._mending.give_up()
        if opened is None:
            frame = self._run.render_late(torn.error)
        elif torn.raw is not None and is_first:
            frame = opened.stream.raw_error(torn.raw)
        else:
            frame = opened.stream.fail(torn.error, request_id)
        self._settle_failure(torn.outcome, torn.error.error_code, len(frame))
        return frame

    def _settle_failure(self, outcome: str, code: str, last_bytes: int) -> None:
        self._is_over = True
        known = None if self._opened is None else metered(self._opened.stream)
        self._run.settle(outcome, status=200, known=known, error_code=code, bytes_out=self.bytes_out + last_bytes)

    def _read_to_end(self, opened: OpenStream) -> None:
        """Read the rest of the provider's framing, so that its connection can serve again."""
        give_up_at = self._run.now() + _GRACE_FOR_END_S
        with suppress(ReadTimeout, UpstreamProtocolError):
            while opened.response.read(give_up_at - self._run.now()):
                if self._run.now() >= give_up_at:
                    return

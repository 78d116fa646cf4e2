"""Plays the simulated provider's scripts in this process: a transport without sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from gevent.event import Event

from omniroute.errors import UpstreamProtocolError, UpstreamTimeout
from omniroute.gateway.ports import ReadTimeout, UpstreamResponse
from omniroute.providers.sandbox import respond
from omniroute.providers.sandbox.script import NEVER, Ending, Script
from omniroute.providers.upstream import UpstreamRequest


class SandboxTransport:
    """Implements :class:`omniroute.gateway.ports.Transport` for `sandbox:` URLs."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        """`now` is a monotonic clock in seconds."""
        self._now = now

    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Ask the simulated provider and wait as long as its script says before the head."""
        headers = {name.lower(): value for name, value in request.headers}
        url = urlsplit(request.url)
        target = f"{url.path}?{url.query}" if url.query else url.path
        script = respond(target, headers, request.body)
        response = ScriptedResponse(script, self._now)
        if not response.wait_for_head(request.deadlines.headers_s):
            raise UpstreamTimeout("headers")
        return response


class ScriptedResponse:
    """An answer that arrives by the clock; implements :class:`UpstreamResponse`.

    Frames are due at fixed times after the head, so a reader that comes late gets all that is due at once, as from a
    socket.
    """

    def __init__(self, script: Script, now: Callable[[], float]) -> None:
        self.status = script.status
        self.headers: Mapping[str, str] = dict(script.headers)
        self._frames = script.frames
        self._ending = script.ending
        self._head_delay_s = script.head_delay_s
        self._now = now
        self._due_at = 0.0
        self._next: bytes | None = None
        self._is_over = False
        self._aborted = Event()

    def wait_for_head(self, timeout_s: float) -> bool:
        """Wait until the status line would arrive; False when that is later than the limit."""
        if self._head_delay_s > timeout_s:
            self._aborted.wait(timeout_s)
            return False
        if self._head_delay_s > 0:
            self._aborted.wait(self._head_delay_s)
        self._due_at = self._now()
        return True

    def read(self, timeout_s: float) -> bytes:
        """See :class:`UpstreamResponse`."""
        give_up_at = self._now() + timeout_s
        while True:
            if self._aborted.is_set():
                raise UpstreamProtocolError("The provider's answer ended early.")
            if not self._advance():
                return self._end(give_up_at)
            wait_s = self._due_at - self._now()
            if wait_s <= 0:
                return self._take_due()
            if self._due_at > give_up_at:
                self._aborted.wait(max(0.0, give_up_at - self._now()))
                if not self._aborted.is_set():
                    raise ReadTimeout
            else:
                self._aborted.wait(wait_s)

    def close(self) -> None:
        """See :class:`UpstreamResponse`."""
        self._is_over = True

    def abort(self) -> None:
        """See :class:`UpstreamResponse`."""
        self._aborted.set()

    def _advance(self) -> bool:
        """Have the next frame at hand; False when there is none left."""
        if self._next is None and not self._is_over:
            frame = next(self._frames, None)
            if frame is None:
                self._is_over = True
            else:
                self._due_at += frame[0]
                self._next = frame[1]
        return self._next is not None

    def _take_due(self) -> bytes:
        due: list[bytes] = []
        while self._advance() and self._due_at <= self._now():
            due.append(self._next or b"")
            self._next = None
        return b"".join(due)

    def _end(self, give_up_at: float) -> bytes:
        match self._ending:
            case Ending.COMPLETE:
                return b""
            case Ending.CUT:
                raise UpstreamProtocolError("The provider's answer ended early.")
            case Ending.HANG:
                self._aborted.wait(min(NEVER, max(0.0, give_up_at - self._now())))
                if self._aborted.is_set():
                    raise UpstreamProtocolError("The provider's answer ended early.")
                raise ReadTimeout

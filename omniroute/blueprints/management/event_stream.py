"""Server-sent events that tell what happens, for as long as the client listens and may."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
from flask import Response, request

from omniroute.blueprints.contract import EVENT_STREAM
from omniroute.container import container
from omniroute.errors import OmniRouteError
from omniroute.services.access import Power

POLL_S: Final = 0.5
_RECHECK_S: Final = 2.0
_COMMENT: Final = b": ping\n\n"
_encode: Final = msgspec.json.Encoder().encode

Poll = Callable[[], Sequence[Any]]


class EventStream:
    """Turns what is polled into events; an iterator with a `close` of its own, since not every answer is begun.

    Args:
        event: the name of the events.
        poll: returns the documents that are new.
        why_over: says why the stream ends now, or None.
        leave: gives the follower's seat back.
    """

    def __init__(
        self,
        event: str,
        poll: Poll,
        *,
        why_over: Callable[[], str | None],
        leave: Callable[[], None],
        heartbeat_s: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._event = event.encode()
        self._poll = poll
        self._why_over = why_over
        self._leave = leave
        self._heartbeat_s = heartbeat_s
        self._now = now
        self._sleep = sleep
        self._spoke_at: float | None = None
        self._is_over = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._is_over:
            raise StopIteration
        if self._spoke_at is None:  # headers leave with the first bytes
            self._spoke_at = self._now()
            return _COMMENT
        while (reason := self._why_over()) is None:
            told = self._told()
            if told:
                self._spoke_at = self._now()
                return told
            if self._now() - self._spoke_at >= self._heartbeat_s:
                self._spoke_at = self._now()
                return _COMMENT
            self._sleep(POLL_S)
        self._is_over = True
        return b'event: end\ndata: {"reason":"%b"}\n\n' % reason.encode()

    def _told(self) -> bytes:
        try:
            documents = self._poll()
        except OmniRouteError:  # the database or the disk is away for a moment
            return b""
        return b"".join(b"event: %b\ndata: %b\n\n" % (self._event, _encode(one)) for one in documents)

    def close(self) -> None:
        """Give the seat back. Idempotent."""
        self._is_over = True
        self._leave()


def streamed(event: str, poll_of: Callable[[], Poll], take_seat: Callable[[], Callable[[], None]]) -> Response:
    """Return an answer that tells events until the client goes, the server stops or the credential ends."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return Response(mimetype=EVENT_STREAM, headers=headers)
    leave = take_seat()
    try:
        poll = poll_of()
    except BaseException:
        leave()
        raise
    heartbeat_s = container().settings.sse_heartbeat_ms / 1000
    body = EventStream(event, poll, why_over=_watch(), leave=leave, heartbeat_s=heartbeat_s)
    return Response(body, mimetype=EVENT_STREAM, headers=headers)


def _watch() -> Callable[[], str | None]:
    """Return what says why the stream of the current request has to end."""
    own = container()
    environ = dict(request.environ)
    checked_at = time.monotonic()

    def why_over() -> str | None:
        nonlocal checked_at
        if own.log_feed.is_closed or own.inference.is_draining:
            return "draining"
        if time.monotonic() - checked_at < _RECHECK_S:
            return None
        checked_at = time.monotonic()
        try:
            actor = own.access.authenticate_management(environ) or own.access.anonymous_management(environ)
        except OmniRouteError:
            return "credential"
        return None if actor is not None and actor.power >= Power.READ else "credential"

    return why_over

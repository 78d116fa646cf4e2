"""The short way for chat calls: from the WSGI environment to the gateway and back, past Flask's request machinery.

Opening and closing Flask's contexts, matching the URL and building request and response objects costs a fifth of the
CPU time of a proxied 1 KB call (decision record 0007). A chat call needs none of it: its path is one of a few, it has
no cookies and no session, and its answer is bytes. The guard admits it by the same row of the table of tiers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Flask

from omniroute.blueprints.guard import CSRF_HEADER, REQUEST_ID, Guard, render_inference_error
from omniroute.blueprints.inference import chat
from omniroute.blueprints.management.errors import headers_of
from omniroute.blueprints.rules import QuickRule
from omniroute.blueprints.tiers import Route
from omniroute.container import Container
from omniroute.errors import InternalError, OmniRouteError
from omniroute.gateway.handover import Answer

log = logging.getLogger(__name__)

_STATUS_LINES: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

_PIECE_BYTES: Final = 256 * 1024

StartResponse = Callable[..., Any]


class Lane:
    """Serves POST to the chat paths; everything else is Flask's."""

    def __init__(self, guard: Guard, own: Container) -> None:
        self._guard = guard
        self._own = own
        self._ways: Mapping[str, tuple[Route, chat.Way]] = {
            path: (guard.route("POST", path), way) for path, way in chat.WAYS.items()
        }
        self._gemini = {prefix: guard.route("POST", f"{prefix}<path:model>") for prefix in chat.GEMINI_PREFIXES}

    def serves(self, environ: dict[str, Any]) -> bool:
        """Say whether a request takes this way."""
        path: str = environ["PATH_INFO"]
        return (
            (path in self._ways or path.startswith(chat.GEMINI_PREFIXES))
            and environ["REQUEST_METHOD"] == "POST"
            and CSRF_HEADER not in environ
        )

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one call; never raises."""
        path: str = environ["PATH_INFO"]
        known = self._ways.get(path)
        prefix = "" if known is not None else next(start for start in chat.GEMINI_PREFIXES if path.startswith(start))
        route = known[0] if known is not None else self._gemini[prefix]
        try:
            self._guard.admit(environ, route)
            if known is not None:
                answer = chat.serve(environ, self._own, known[1])
            else:
                answer = chat.serve_gemini(environ, self._own, path[len(prefix) :])
        except OmniRouteError as error:
            answer = _refusal(error, route, environ)
        except Exception:
            log.exception("request %s failed", environ.get(REQUEST_ID))
            answer = _refusal(InternalError(), route, environ)
        headers = [*answer.headers.items(), *self._guard.headers_of(environ).items()]
        body = answer.body
        if isinstance(body, bytes):
            headers.append(("Content-Length", str(len(body))))
            if "Connection" in answer.headers:
                _end_connection(start_response)
            start_response(_status_line(answer.status), headers)
            if body:
                _join_head_and_body(start_response)
            # In pieces where it is large, since the time that a client may take to accept bytes runs for each.
            return (body,) if len(body) <= _PIECE_BYTES else _pieces(body)
        try:
            start_response(_status_line(answer.status), headers)
        except BaseException:  # the server never saw the body, so it will not close it
            body.close()
            raise
        return body


def _pieces(body: bytes) -> Iterator[bytes]:
    return (body[start : start + _PIECE_BYTES] for start in range(0, len(body), _PIECE_BYTES))


class _OneWrite:
    """Stands for the client's socket until the body begins, so that head and body leave with one system call.

    gunicorn writes them separately; each write to a socket costs as much as a tenth of the whole call, and the client
    is woken twice.
    """

    __slots__ = ("_head", "_response", "_socket")

    def __init__(self, response: Any) -> None:
        self._head = b""
        self._response = response
        self._socket = response.sock
        response.sock = self

    def sendall(self, data: bytes) -> None:
        """Keep the head; send it with what follows, and step aside."""
        if not self._head:
            self._head = data
            return
        self._response.sock = self._socket
        self._socket.sendall(self._head + data)


def _join_head_and_body(start_response: StartResponse) -> None:
    response = getattr(start_response, "__self__", None)
    if hasattr(response, "sock"):
        _OneWrite(response)


def _end_connection(start_response: StartResponse) -> None:
    """Have the server close the connection after this answer: gunicorn ignores that header from an application."""
    force_close = getattr(getattr(start_response, "__self__", None), "force_close", None)
    if force_close is not None:
        force_close()


def _refusal(error: OmniRouteError, route: Route, environ: dict[str, Any]) -> Answer:
    status, body = render_inference_error(error, route.family, environ[REQUEST_ID])
    return Answer(status, {"Content-Type": "application/json", **headers_of(error)}, body)


def _status_line(status: int) -> str:
    return _STATUS_LINES.get(status) or f"{status} Status"


class Application(Flask):
    """Flask with the lane in front; everything else about it is Flask's."""

    url_rule_class = QuickRule
    lane: Lane | None = None

    def wsgi_app(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        """Serve one request."""
        lane = self.lane
        if lane is not None and lane.serves(environ):
            return lane(environ, start_response)
        return super().wsgi_app(environ, start_response)

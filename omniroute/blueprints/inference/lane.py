"""The short way for chat calls: from the WSGI environment to the gateway and back, past Flask's request machinery.

Opening and closing Flask's contexts, matching the URL and building request and response objects costs a fifth of the
CPU time of a proxied 1 KB call (decision record 0007). A chat call needs none of it: its path is one of eight, it has no
cookies and no session, and its answer is bytes. The guard admits it by the same row of the table of tiers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Flask

from omniroute.blueprints.guard import CSRF_HEADER, REQUEST_ID, Guard, render_inference_error
from omniroute.blueprints.inference import chat
from omniroute.blueprints.management.errors import headers_of
from omniroute.blueprints.tiers import INFERENCE_MOUNTS, Route
from omniroute.container import Container
from omniroute.errors import InternalError, OmniRouteError
from omniroute.gateway.inference import Answer
from omniroute.providers.spec import WireFormat

log = logging.getLogger(__name__)

_STATUS_LINES: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

StartResponse = Callable[..., Any]


class Lane:
    """Serves POST to the chat paths; everything else is Flask's."""

    def __init__(self, guard: Guard, own: Container) -> None:
        self._guard = guard
        self._own = own
        self._ways: Mapping[str, tuple[Route, WireFormat, str]] = {
            mount + path: (guard.route("POST", mount + path), *endpoint)
            for mount in INFERENCE_MOUNTS
            for path, endpoint in chat.ENDPOINTS.items()
        }

    def serves(self, environ: dict[str, Any]) -> bool:
        """Say whether a request takes this way."""
        return environ["PATH_INFO"] in self._ways and environ["REQUEST_METHOD"] == "POST" and CSRF_HEADER not in environ

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one call; never raises."""
        route, client_format, endpoint = self._ways[environ["PATH_INFO"]]
        try:
            self._guard.admit(environ, route)
            answer = chat.serve(environ, self._own, client_format, endpoint)
        except OmniRouteError as error:
            answer = _refusal(error, route, environ)
        except Exception:
            log.exception("request %s failed", environ.get(REQUEST_ID))
            answer = _refusal(InternalError(), route, environ)
        headers = [*answer.headers.items(), *self._guard.headers_of(environ).items()]
        body = answer.body
        if isinstance(body, bytes):
            headers.append(("Content-Length", str(len(body))))
            start_response(_status_line(answer.status), headers)
            return (body,)
        start_response(_status_line(answer.status), headers)
        return body


def _refusal(error: OmniRouteError, route: Route, environ: dict[str, Any]) -> Answer:
    status, body = render_inference_error(error, route.family, environ[REQUEST_ID])
    return Answer(status, {"Content-Type": "application/json", **headers_of(error)}, body)


def _status_line(status: int) -> str:
    return _STATUS_LINES.get(status) or f"{status} Status"


class Application(Flask):
    """Flask with the lane in front; everything else about it is Flask's."""

    lane: Lane | None = None

    def wsgi_app(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        """Serve one request."""
        lane = self.lane
        if lane is not None and lane.serves(environ):
            return lane(environ, start_response)
        return super().wsgi_app(environ, start_response)

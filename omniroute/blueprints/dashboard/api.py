"""The management API as pages use it: asked within the process, on behalf of who looks at the page.

A page does nothing that a program could not do by the same requests (decision record 0018). What the API refuses comes
back as an error with the API's own message, code and faults of fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from secrets import token_hex
from typing import IO, Any, Final
from urllib.parse import quote, unquote_to_bytes, urlencode

import msgspec
from flask import Response, current_app, request

from omniroute.blueprints import guard
from omniroute.errors import OmniRouteError

_CARRIED: Final = (
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "HTTP_HOST",
    "HTTP_USER_AGENT",
    "HTTP_FORWARDED",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_REAL_IP",
    "wsgi.url_scheme",
    "wsgi.version",
    "wsgi.errors",
    "wsgi.multithread",
    "wsgi.multiprocess",
    "wsgi.run_once",
    guard.REQUEST_ID,
)
"""What says where the visitor sits. No credential and no cookie: the actor is handed over instead."""


class Refused(OmniRouteError):
    """The API has refused what a page asked of it.

    Attributes:
        faults: what is wrong with which field, by the field's name in the API.
        details: what else the refusal says, by name.
    """

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("message", "")), code=str(error.get("code", "")), status=status)
        found = error.get("details")
        self.faults: dict[str, str] = {}
        self.details: dict[str, Any] = dict(found) if isinstance(found, dict) else {}
        if isinstance(found, list):
            self.faults = {fault["field"]: fault["message"] for fault in found}
        elif "field" in self.details:
            self.faults = {str(self.details["field"]): self.message}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the API has answered: the document, and the answer that carried it."""

    document: Any
    status: int
    headers: Mapping[str, str]


def get(path: str, /, **query: Any) -> Any:
    """Return the document at a path of the API; None in the query leaves a parameter out.

    Raises:
        Refused: the API has refused.
    """
    return call("GET", path, query=query).document


def post(path: str, body: Any = None, /, **query: Any) -> Any:
    """Post a body and return the document of the answer; raises as :func:`get`."""
    return call("POST", path, body=body, query=query).document


def put(path: str, body: Any = None, /, **query: Any) -> Any:
    """Put a body and return the document of the answer; raises as :func:`get`."""
    return call("PUT", path, body=body, query=query).document


def patch(path: str, body: Any = None, /, **query: Any) -> Any:
    """Patch with a body and return the document of the answer; raises as :func:`get`."""
    return call("PATCH", path, body=body, query=query).document


def delete(path: str, body: Any = None, /, **query: Any) -> Any:
    """Delete what is at a path and return the document of the answer; raises as :func:`get`."""
    return call("DELETE", path, body=body, query=query).document


def call(
    method: str, path: str, *, body: Any = None, query: Mapping[str, Any] | None = None, content_type: str | None = None
) -> Reply:
    """Ask the API one thing.

    Args:
        method: the HTTP method.
        path: a path of the API; what comes from elsewhere is put in by :func:`segment`.
        body: a value that becomes JSON, bytes that are sent as they are, or None.
        query: parameters; lists are given once per entry, None leaves one out.
        content_type: of a body in bytes.

    Raises:
        Refused: the API has refused.
    """
    return _read(_dispatched(_environ(method, path, body, query or {}, content_type)))


def _read(response: Response) -> Reply:
    data = response.get_data()
    document = msgspec.json.decode(data) if response.mimetype == "application/json" and data else data
    if response.status_code >= 400:
        raise Refused(response.status_code, document.get("error", {}) if isinstance(document, dict) else {})
    return Reply(document, response.status_code, dict(response.headers))


def upload(path: str, file: IO[bytes], filename: str, fields: Mapping[str, str]) -> Any:
    """Post a file as the part `file` of a form and return the document of the answer; raises as :func:`get`.

    The file is read while it is sent on: it never stands in memory whole.
    """
    boundary = token_hex(16)
    quoted = filename.replace("\\", "_").replace('"', "_").replace("\r", " ").replace("\n", " ")
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    head, foot = "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode()
    size = file.seek(0, SEEK_END)
    file.seek(0)
    environ = _environ("POST", path, None, {}, f"multipart/form-data; boundary={boundary}")
    environ["CONTENT_LENGTH"] = str(len(head) + size + len(foot))
    environ["wsgi.input"] = _Joined(BytesIO(head), file, BytesIO(foot))
    return _read(_dispatched(environ)).document


def segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="")


class _Joined:
    """Streams, read one after the other."""

    def __init__(self, *streams: IO[bytes]) -> None:
        self._left = list(streams)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`; nothing at the end."""
        while self._left:
            data = self._left[0].read(size)
            if data:
                return data
            self._left.pop(0)
        return b""


def _dispatched(environ: dict[str, Any]) -> Response:
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - Flask's own way to it
    with app.request_context(environ):
        response: Response = app.full_dispatch_request()
        response.direct_passthrough = False
        return response


def _environ(method: str, path: str, body: Any, query: Mapping[str, Any], content_type: str | None) -> dict[str, Any]:
    outer = request.environ
    data = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
    environ: dict[str, Any] = {name: outer[name] for name in _CARRIED if name in outer}
    given = [(name, one) for name, value in query.items() for one in _all_of(value)]
    environ.update(
        {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": outer.get("SCRIPT_NAME", ""),
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "RAW_URI": path,
            "QUERY_STRING": urlencode(given),
            "CONTENT_LENGTH": str(len(data)),
            "CONTENT_TYPE": content_type or ("application/json" if data else ""),
            "HTTP_ACCEPT": "application/json",
            "wsgi.input": BytesIO(data),
            guard.PAGE_ACTOR: guard.actor(),
        }
    )
    return environ


def _all_of(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [] if value is None or value == "" else [value]

"""How commands talk to a server: the management API, over HTTP, or in this process when no server runs.

A command knows paths and bodies, not where they go:

    api.get("/api/keys", q="laptop")["keys"]
    api.send("POST", "/api/keys", {"name": "laptop"})
    for event in api.events("/api/logs/console", follow="1"): …

Every refusal becomes a `Failure` whose exit code says what kind it was.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from omniroute import __version__
from omniroute.cli import Exit, Failure

if TYPE_CHECKING:
    import requests

VERSION_HEADER: Final = "X-OmniRoute-Version"
_REQUEST_ID_HEADER: Final = "X-OmniRoute-Request-Id"
_RETRIED: Final = (408, 425, 429, 502, 503, 504)
_TRIES: Final = 3
_PAGE: Final = 200
_JSON: Final = "application/json"
_CHUNK: Final = 64 * 1024
_STREAMS: Final = "text/event-stream, application/x-ndjson, */*"
_ERRNO: Final = re.compile(r"^\[Errno -?\d+\] ")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """A body that is not JSON."""

    data: bytes
    media_type: str


class Refusal(Failure):
    """The server said no.

    Attributes:
        status: of the answer.
        code: the stable code of the error.
        details: what the error says beside its message.
    """

    def __init__(self, status: int, code: str, message: str, details: Any = None) -> None:
        super().__init__(message, exit_code_of(status))
        self.status = status
        self.code = code
        self.details = details


class Transport(Protocol):
    """One way to a server."""

    is_local: bool
    """Whether the server shares this machine's files with us."""
    name: str
    """The server as messages name it."""

    def request(self, method: str, path: str, query: Mapping[str, str], body: Any, files: Files | None) -> Reply:
        """Exchange one request; a `Failure` if none came about."""
        ...

    def stream(
        self, method: str, path: str, query: Mapping[str, str], body: Any
    ) -> AbstractContextManager[tuple[Reply, Iterator[bytes]]]:
        """Open an answer that is read in pieces; its `Reply.body` is filled for refusals only."""
        ...


Files = Mapping[str, tuple[str, BinaryIO]]
"""Parts of a multipart body: name → (file name, open file)."""


class Api:
    """The management API of one server."""

    def __init__(self, transport: Transport, tell: Callable[[str], None] = lambda _text: None) -> None:
        """`tell`: gets a line about each exchange, for `--verbose`."""
        self.transport = transport
        self._tell = tell

    def get(self, path: str, **query: Any) -> Any:
        """GET a document; parameters that are None are left out."""
        return self.send("GET", path, **query)

    def send(self, method: str, path: str, body: Any = None, *, files: Files | None = None, **query: Any) -> Any:
        """Exchange a request for its document; a body is sent as JSON unless it is :class:`Content`.

        Raises:
            Refusal: the server said no.
            Failure: no server was reached, or its answer cannot be read.
        """
        return _document(self._exchanged(method, path, body, files, query))

    def text(self, path: str, **query: Any) -> str:
        """GET a text."""
        return self._exchanged("GET", path, None, None, query).body.decode("utf-8", "replace")

    def _exchanged(self, method: str, path: str, body: Any, files: Files | None, query: Mapping[str, Any]) -> Reply:
        began = time.monotonic()
        reply = self.transport.request(method, path, _parameters(query), body, files)
        self._tell(_line(method, path, reply, time.monotonic() - began))
        return _refused(reply, self.transport)

    def rows(self, path: str, noun: str, *, limit: int | None = None, **query: Any) -> list[dict[str, Any]]:
        """Return the rows of a list, page by page: `limit` of them, or all."""
        rows: list[dict[str, Any]] = []
        while limit is None or len(rows) < limit:
            wanted = _PAGE if limit is None else min(_PAGE, limit - len(rows))
            page = self.get(path, limit=wanted, offset=len(rows) or None, **query)
            found = page[noun]
            rows += found
            if not found or len(rows) >= page.get("total", 0):
                break
        return rows if limit is None else rows[:limit]

    def events(self, path: str, *, method: str = "GET", body: Any = None, **query: Any) -> Iterator[Any]:
        """Yield the documents of a stream of server-sent events or of JSON lines as they come."""
        with self.transport.stream(method, path, _parameters(query), body) as (reply, chunks):
            _refused(reply, self.transport)
            for line in _lines(chunks):
                text = line.removeprefix(b"data:").strip()
                if text.startswith(b"{"):  # not a comment, an event's name, or the word that ends some streams
                    yield json.loads(text)

    def download(
        self, path: str, target: BinaryIO, on_progress: Callable[[int, int | None], None], **query: Any
    ) -> Reply:
        """Write an answer to an open file, telling bytes so far and in all."""
        with self.transport.stream("GET", path, _parameters(query), None) as (reply, chunks):
            _refused(reply, self.transport)
            length = reply.headers.get("Content-Length")
            done = 0
            for chunk in chunks:
                target.write(chunk)
                done += len(chunk)
                on_progress(done, int(length) if length else None)
        return reply


def _parameters(query: Mapping[str, Any]) -> dict[str, str]:
    spelled = {True: "true", False: "false"}
    return {
        name.rstrip("_"): spelled[value] if isinstance(value, bool) else str(value)
        for name, value in query.items()
        if value is not None
    }


def _line(method: str, path: str, reply: Reply, took_s: float) -> str:
    request_id = reply.headers.get(_REQUEST_ID_HEADER, "-")
    return f"{method} {path} -> {reply.status} in {took_s * 1000:.0f} ms ({request_id})"


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    yield rest


def _document(reply: Reply) -> Any:
    if not reply.body:
        return None
    try:
        return json.loads(reply.body)
    except ValueError:
        raise Failure("The server's answer is not JSON. Is there an OmniRoute server at this address?") from None


def _refused(reply: Reply, transport: Transport) -> Reply:
    """Return an answer that is a success.

    Raises:
        Refusal: it is not.
    """
    if reply.status < 300:
        return reply
    if reply.status < 400:
        where = reply.headers.get("Location", "another address")
        raise Failure(f"{transport.name} redirects to {where}. Nothing is sent there; use that address itself.")
    try:
        error = json.loads(reply.body)["error"]
        code, message = str(error["code"]), str(error["message"])
        details = error.get("details")
    except (ValueError, LookupError, TypeError):
        code, message, details = "unknown", f"{transport.name} answered with status {reply.status}.", None
    raise Refusal(reply.status, code, message + _hints(reply, transport, message, details), details)


def _hints(reply: Reply, transport: Transport, message: str, details: Any) -> str:
    """Return what a person needs beside the server's own sentence."""
    lines = []
    if isinstance(details, list):
        faults = [f"{one['field']}: {one['message']}" for one in details if isinstance(one, dict) and "field" in one]
        lines += [f"  {fault}" for fault in faults if fault not in message]
    retry_after = reply.headers.get("Retry-After")
    if retry_after is not None:
        lines.append(f"Try again in {retry_after} s.")
    version = reply.headers.get(VERSION_HEADER)
    if reply.status in (404, 405) and version is not None and version != __version__:
        lines.append(f"{transport.name} runs version {version}, this command is version {__version__}.")
    if reply.status >= 500:
        lines.append(f"Request id: {reply.headers.get(_REQUEST_ID_HEADER, '-')}")
    return "".join(f"\n{line}" for line in lines)


def exit_code_of(status: int) -> Exit:
    """Return the exit code that says what kind of refusal a status is."""
    match status:
        case 400 | 404 | 405 | 409 | 413 | 415 | 422:
            return Exit.MISUSE
        case 401 | 403:
            return Exit.NOT_ALLOWED
        case 402 | 429:
            return Exit.LIMITED
        case 504:
            return Exit.TIMED_OUT
        case _:
            return Exit.FAILED


class HttpTransport:
    """A server that is reached over HTTP."""

    def __init__(
        self, base_url: str, headers: Mapping[str, str], *, timeout_s: float, name: str, is_local: bool = False
    ) -> None:
        """`headers`: carry the credential, to this base URL and nowhere else."""
        self.base_url = base_url
        self.name = name
        self.is_local = is_local
        self._headers = dict(headers)
        self._timeout_s = timeout_s
        self._session: requests.Session | None = None

    def request(self, method: str, path: str, query: Mapping[str, str], body: Any, files: Files | None) -> Reply:
        """See :class:`Transport`. Reads are tried again, writes only when no connection was made."""
        with self._exchange(method, path, query, body, files, is_streamed=False) as (reply, _chunks):
            return reply

    def stream(
        self, method: str, path: str, query: Mapping[str, str], body: Any
    ) -> AbstractContextManager[tuple[Reply, Iterator[bytes]]]:
        """See :class:`Transport`."""
        return self._exchange(method, path, query, body, None, is_streamed=True)

    def _exchange(
        self, method: str, path: str, query: Mapping[str, str], body: Any, files: Files | None, *, is_streamed: bool
    ) -> AbstractContextManager[tuple[Reply, Iterator[bytes]]]:
        import requests

        @contextmanager
        def exchange() -> Iterator[tuple[Reply, Iterator[bytes]]]:
            try:
                with self._opened().request(
                    method,
                    self.base_url.rstrip("/") + path,
                    params=dict(query),
                    **_body_arguments(body, files),
                    headers={"Accept": _STREAMS if is_streamed else _JSON, **_type_of(body), **self._headers},
                    auth=_as_given,
                    timeout=self._timeout_s,
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    is_whole = not is_streamed or response.status_code >= 300
                    reply = Reply(response.status_code, response.headers, response.content if is_whole else b"")
                    yield reply, response.iter_content(_CHUNK)
            except requests.exceptions.ConnectTimeout as error:
                raise Failure(f"{self.name} does not answer.", Exit.NOT_RUNNING) from error
            except requests.exceptions.Timeout as error:
                raise Failure(f"{self.name} took longer than {self._timeout_s:g} s.", Exit.TIMED_OUT) from error
            except requests.exceptions.SSLError as error:
                raise Failure(f"The certificate of {self.name} is not accepted: {_cause(error)}.") from error
            except requests.exceptions.ConnectionError as error:
                raise Failure(f"{self.name} is not reachable: {_cause(error)}.", Exit.NOT_RUNNING) from error
            except requests.exceptions.RequestException as error:
                raise Failure(f"{self.name} cannot be asked: {_cause(error)}.") from error

        return exchange()

    def _opened(self) -> requests.Session:
        if self._session is None:
            import requests
            from requests.adapters import HTTPAdapter
            from urllib3.util import Retry

            retry = Retry(
                total=_TRIES,
                status_forcelist=_RETRIED,
                allowed_methods=("GET", "HEAD"),
                backoff_factor=0.5,
                backoff_max=8,
                backoff_jitter=0.25,
                respect_retry_after_header=False,  # it may name hours; the person decides about those
                raise_on_status=False,
            )
            self._session = requests.Session()
            for scheme in ("http://", "https://"):
                self._session.mount(scheme, HTTPAdapter(max_retries=retry))
        return self._session


def _body_arguments(body: Any, files: Files | None) -> dict[str, Any]:
    if files is not None:
        return {"files": dict(files), "data": body}
    if isinstance(body, Content):
        return {"data": body.data}
    return {} if body is None else {"json": body}


def _type_of(body: Any) -> dict[str, str]:
    return {"Content-Type": body.media_type} if isinstance(body, Content) else {}


def _as_given(request: Any) -> Any:
    """Keep the headers of a request: without this, `~/.netrc` would replace the credential."""
    return request


def _cause(error: BaseException) -> str:
    """Return the innermost reason of an error of the HTTP library, in few words."""
    reason: Any = error
    while getattr(reason, "reason", None) is not None or (reason.args and isinstance(reason.args[0], BaseException)):
        following = getattr(reason, "reason", None) or reason.args[0]
        if not isinstance(following, BaseException) or following is reason:
            break
        reason = following
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return _ERRNO.sub("", str(reason).rpartition(": ")[2]).rstrip(".") or type(reason).__name__

"""The application behind `transport.py`: a Flask view that passes a call on, by the client named in BENCH_CLIENT."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from flask import Flask, Response, request

_POOL: Final = 1_000
_CANNED: Final = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"none"},"finish_reason":"stop"}]}'

Send = Callable[[bytes], tuple[int, bytes]]
"""Takes the body of the call, returns status and body of the answer, read to its end."""


def create_app() -> Flask:
    """Return an application whose only view sends its body to BENCH_PORT with the chosen client."""
    app = Flask(__name__)
    send = CLIENTS[os.environ["BENCH_CLIENT"]](int(os.environ["BENCH_PORT"]))

    @app.post("/v1/chat/completions")
    def chat() -> Response:
        status, body = send(request.get_data(cache=False))
        return Response(body, status, content_type="application/json")

    return app


_PATH: Final = "/v1/chat/completions"
_HEADERS: Final = {
    "Content-Type": "application/json",
    "Authorization": "Bearer sk-sandbox",
    "Accept-Encoding": "identity",
}


def _nothing(_port: int) -> Send:
    return lambda _body: (200, _CANNED)


def _requests(port: int) -> Send:
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.trust_env = False
    session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=_POOL))
    url = f"http://127.0.0.1:{port}{_PATH}"

    def send(body: bytes) -> tuple[int, bytes]:
        answer = session.post(url, data=body, headers=_HEADERS, timeout=30, allow_redirects=False)
        return answer.status_code, answer.content

    return send


def _urllib3(port: int) -> Send:
    import urllib3

    pool = urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=_POOL, block=False, retries=False)

    def send(body: bytes) -> tuple[int, bytes]:
        answer = pool.urlopen("POST", _PATH, body=body, headers=_HEADERS, timeout=30)
        return answer.status, answer.data

    return send


def _geventhttpclient(port: int) -> Send:
    from geventhttpclient import HTTPClient

    client = HTTPClient("127.0.0.1", port, concurrency=_POOL, network_timeout=30, connection_timeout=30)

    def send(body: bytes) -> tuple[int, bytes]:
        answer = client.post(_PATH, body=body, headers=_HEADERS)
        return answer.status_code, bytes(answer.read())

    return send


def _omniroute(port: int) -> Send:
    from omniroute.gateway.transport import HttpTransport
    from omniroute.providers.upstream import UpstreamRequest

    def allow(host: str, port: int, *, is_local: bool, is_operator: bool) -> tuple[str, ...]:
        return (host,) if port and is_local and is_operator else ()

    transport = HttpTransport(guard=allow, now=time.monotonic)
    url, headers = f"http://127.0.0.1:{port}{_PATH}", tuple(_HEADERS.items())

    def send(body: bytes) -> tuple[int, bytes]:
        answer = transport.send(UpstreamRequest("POST", url, headers, body, is_local=True, is_operator=True))
        pieces: list[bytes] = []
        try:
            while piece := answer.read(30):
                pieces.append(piece)
        finally:
            answer.close()
        return answer.status, b"".join(pieces)

    return send


CLIENTS: Final[dict[str, Callable[[int], Send]]] = {
    "no upstream call": _nothing,
    "requests": _requests,
    "urllib3": _urllib3,
    "geventhttpclient": _geventhttpclient,
    "omniroute": _omniroute,
}

"""What the reader of inference bodies takes, refuses and waits for."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import zstandard

from omniroute.blueprints.inference.body import read_json_bytes
from omniroute.errors import (
    InvalidRequest,
    OmniRouteError,
    RequestTimeout,
    RequestTooLarge,
    UnsupportedMediaType,
)

LIMIT = 10


class Client:
    """Remembers the time limits that were set on it."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []

    def settimeout(self, seconds: float | None) -> None:
        self.timeouts.append(seconds)


class Failing:
    """A stream that breaks."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, _size: int) -> bytes:
        raise self._error


def environ(body: bytes = b"{}", **changes: Any) -> dict[str, Any]:
    made = {
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def read(made: dict[str, Any]) -> bytes:
    return read_json_bytes(made, limit=LIMIT, read_timeout_s=3.0, write_timeout_s=7.0)


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/problem+json"],
)
def test_json_is_read(media_type: str) -> None:
    assert read(environ(CONTENT_TYPE=media_type)) == b"{}"


def test_a_body_of_unannounced_length_is_read_up_to_the_limit() -> None:
    assert read(environ(b"0123456789", CONTENT_LENGTH=None)) == b"0123456789"
    with pytest.raises(RequestTooLarge):
        read(environ(b"0123456789x", CONTENT_LENGTH=None))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"CONTENT_TYPE": None}, UnsupportedMediaType),
        ({"CONTENT_TYPE": "text/plain"}, UnsupportedMediaType),
        ({"CONTENT_TYPE": "text/application/json"}, UnsupportedMediaType),
        ({"HTTP_CONTENT_ENCODING": "br"}, UnsupportedMediaType),
        ({"HTTP_CONTENT_ENCODING": "gzip"}, InvalidRequest),
        ({"HTTP_CONTENT_ENCODING": "zstd"}, InvalidRequest),
        ({"CONTENT_LENGTH": "11"}, RequestTooLarge),
        ({"CONTENT_LENGTH": "9" * 5000}, RequestTooLarge),
        ({"CONTENT_LENGTH": "-1"}, InvalidRequest),
        ({"CONTENT_LENGTH": "\u0663"}, InvalidRequest),
        ({"CONTENT_LENGTH": "9"}, InvalidRequest),
        ({"wsgi.input": Failing(OSError("gone"))}, InvalidRequest),
        ({"wsgi.input": Failing(TimeoutError())}, RequestTimeout),
    ],
)
def test_what_is_refused(changes: dict[str, Any], error: type[OmniRouteError]) -> None:
    with pytest.raises(error):
        read(environ(**changes))


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstandard.compress), ("GZIP", gzip.compress)],
)
def test_t63_compressed_bodies_are_unpacked(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(b'{"a":1}')
    limit = max(len(packed), 10)
    found = environ(packed, CONTENT_LENGTH=str(len(packed)), HTTP_CONTENT_ENCODING=encoding)
    assert read_json_bytes(found, limit=limit, read_timeout_s=1.0) == b'{"a":1}'


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_t63_a_small_body_that_unpacks_to_a_large_one_is_refused(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(b" " * 1_000_000)
    assert len(packed) < 10_000
    with pytest.raises(RequestTooLarge):
        read_json_bytes(
            environ(packed, CONTENT_LENGTH=str(len(packed)), HTTP_CONTENT_ENCODING=encoding),
            limit=10_000,
            read_timeout_s=1.0,
        )


def test_t63_a_compressed_body_that_ends_early_is_refused() -> None:
    packed = gzip.compress(b'{"a":1}')[:-6]
    with pytest.raises(InvalidRequest):
        read_json_bytes(
            environ(packed, CONTENT_LENGTH=str(len(packed)), HTTP_CONTENT_ENCODING="gzip"),
            limit=100,
            read_timeout_s=1.0,
        )


@pytest.mark.parametrize(
    "broken",
    [
        {"CONTENT_LENGTH": "9"},
        {"wsgi.input": Failing(OSError("bad chunk"))},
        {"wsgi.input": Failing(TimeoutError())},
    ],
)
def test_after_a_broken_body_the_connection_ends(broken: dict[str, Any]) -> None:
    with pytest.raises(OmniRouteError) as caught:
        read(environ(**broken))
    assert caught.value.headers == {"Connection": "close"}


@pytest.mark.parametrize("stream", [io.BytesIO(b"{}"), Failing(TimeoutError())])
def test_the_sockets_patience_is_that_of_the_body_and_then_that_of_the_answer(stream: Any) -> None:
    client = Client()
    with suppress(RequestTimeout):
        read(environ(**{"gunicorn.socket": client, "wsgi.input": stream}))
    assert client.timeouts == [3.0, 7.0]

"""Read the body of an inference request: its type, its size, its patience."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import zstandard

from omniroute.errors import InvalidRequest, RequestTimeout, RequestTooLarge, UnsupportedMediaType

_MOST_DIGITS = 15
_ZSTD_WINDOW = 8 << 20
"""What a decompressor may keep in memory (RFC 8878, section 3.1.1.1.2, recommends to support 8 MiB)."""
_STEP = 64 << 10
_PIECE = 1 << 20
"""Bytes read or unpacked at a time: a millisecond or two."""
_CLOSE = {"Connection": "close"}
"""Where the end of a broken body lies is a guess, and a guess must not become the next request's beginning."""


def read_json_bytes(
    environ: dict[str, Any],
    *,
    limit: int,
    read_timeout_s: float,
    write_timeout_s: float | None = None,
    takes_any_type: bool = False,
    pause: Callable[[], None] = lambda: None,
) -> bytes:
    """Return the body as bytes, unparsed, and leave the client's socket with the patience for the answer.

    A body compressed with gzip, deflate or zstd is unpacked, in pieces with a `pause` behind each. `takes_any_type` is
    for a protocol whose own documentation sends JSON without saying so.

    Raises:
        UnsupportedMediaType: the content type is missing or is not JSON, or the compression is unknown.
        RequestTooLarge: more than `limit` bytes, packed or unpacked, also where no length was announced.
        RequestTimeout: no byte for `read_timeout_s`.
    """
    media_type = environ.get("CONTENT_TYPE", "")
    if media_type != "application/json" and not takes_any_type and not _is_json(media_type):
        raise UnsupportedMediaType("Send the body as Content-Type: application/json.")
    unpack = _unpacker(environ.get("HTTP_CONTENT_ENCODING", "identity"))
    length = environ.get("CONTENT_LENGTH") or ""
    # gunicorn's input copies a body in steps of 1 KiB; the reader inside it takes it in the pieces that arrive.
    stream = getattr(environ["wsgi.input"], "reader", environ["wsgi.input"])
    client = environ.get("gunicorn.socket")
    if client is not None:
        client.settimeout(read_timeout_s)
    try:
        body = _read_announced(stream, _announced(length, limit), pause) if length else _read_unannounced(stream, limit)
    except TimeoutError:
        raise RequestTimeout(headers=_CLOSE) from None
    except OSError:
        raise InvalidRequest("The request body ended early.", headers=_CLOSE) from None
    finally:
        if client is not None:
            client.settimeout(write_timeout_s)
    if length and len(body) < int(length):
        raise InvalidRequest("The request body ended early.", headers=_CLOSE)
    return body if unpack is None else _collected(unpack(body), limit, pause)


def _read_announced(stream: Any, length: int, pause: Callable[[], None]) -> bytes:
    """Read a body; gunicorn takes a long one from the socket in larger steps than it takes heads: each has its cost."""
    source = getattr(stream, "unreader", None) if length > _STEP else None
    usual = getattr(source, "mxchunk", None)
    if source is None or usual is None:
        return bytes(stream.read(length))
    source.mxchunk = _STEP
    parts: list[bytes] = []
    try:
        while length > 0 and (part := stream.read(min(length, _PIECE))):
            parts.append(part)
            length -= len(part)
            pause()
    finally:
        source.mxchunk = usual
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unpacker(encoding: str) -> Callable[[bytes], Iterator[bytes]] | None:
    match encoding.strip().lower():
        case "identity" | "":
            return None
        case "gzip" | "x-gzip" | "deflate":
            return _inflate
        case "zstd":
            return _unpack_zstd
        case _:
            raise UnsupportedMediaType("Request bodies may be compressed with gzip, deflate or zstd.")


def _inflate(body: bytes) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either header, told apart by itself
    packed = body
    try:
        while not unpacker.eof and (data := unpacker.decompress(packed, _PIECE)):
            yield data
            packed = unpacker.unconsumed_tail
    except zlib.error:
        raise _unreadable() from None
    if not unpacker.eof:
        raise InvalidRequest("The compressed request body ended early.")


def _unpack_zstd(body: bytes) -> Iterator[bytes]:
    reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(
        io.BytesIO(body), read_across_frames=True
    )
    try:
        while data := reader.read(_PIECE):
            yield data
    except (zstandard.ZstdError, MemoryError):
        raise _unreadable() from None


def _collected(pieces: Iterator[bytes], limit: int, pause: Callable[[], None]) -> bytes:
    parts: list[bytes] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise RequestTooLarge(f"The unpacked request body is larger than {limit} bytes.")
        parts.append(piece)
        pause()
    return b"".join(parts)


def _unreadable() -> InvalidRequest:
    return InvalidRequest("The compressed request body cannot be unpacked.")


def _is_json(media_type: str) -> bool:
    essence = media_type.partition(";")[0].strip().lower()
    return essence == "application/json" or (essence.startswith("application/") and essence.endswith("+json"))


def _announced(length: str, limit: int) -> int:
    if not (length.isascii() and length.isdigit()):
        raise InvalidRequest("Content-Length must be a number.")
    if len(length) > _MOST_DIGITS or int(length) > limit:
        raise RequestTooLarge(f"The request body is larger than {limit} bytes.")
    return int(length)


def _read_unannounced(stream: Any, limit: int) -> bytes:
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise RequestTooLarge(f"The request body is larger than {limit} bytes.")
    return body

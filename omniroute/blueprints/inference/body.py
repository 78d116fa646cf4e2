"""Read the body of an inference request: its type, its size, its patience."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import zstandard

from omniroute.errors import InvalidRequest, RequestTimeout, RequestTooLarge, UnsupportedMediaType

_MOST_DIGITS = 15
_ZSTD_WINDOW = 8 << 20
"""What a decompressor may keep in memory (RFC 8878, section 3.1.1.1.2, recommends to support 8 MiB)."""
_CLOSE = {"Connection": "close"}
"""Where the end of a broken body lies is a guess, and a guess must not become the next request's beginning."""


def read_json_bytes(
    environ: dict[str, Any],
    *,
    limit: int,
    read_timeout_s: float,
    write_timeout_s: float | None = None,
    takes_any_type: bool = False,
) -> bytes:
    """Return the body as bytes, unparsed, and leave the client's socket with the patience for the answer.

    A body compressed with gzip, deflate or zstd is unpacked. `takes_any_type` is for a protocol whose own documentation
    sends JSON without saying so.

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
        body: bytes = stream.read(_announced(length, limit)) if length else _read_unannounced(stream, limit)
    except TimeoutError:
        raise RequestTimeout(headers=_CLOSE) from None
    except OSError:
        raise InvalidRequest("The request body ended early.", headers=_CLOSE) from None
    finally:
        if client is not None:
            client.settimeout(write_timeout_s)
    if length and len(body) < int(length):
        raise InvalidRequest("The request body ended early.", headers=_CLOSE)
    return body if unpack is None else unpack(body, limit)


def _unpacker(encoding: str) -> Callable[[bytes, int], bytes] | None:
    match encoding.strip().lower():
        case "identity" | "":
            return None
        case "gzip" | "x-gzip" | "deflate":
            return _inflate
        case "zstd":
            return _unpack_zstd
        case _:
            raise UnsupportedMediaType("Request bodies may be compressed with gzip, deflate or zstd.")


def _inflate(body: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either header, told apart by itself
    try:
        data = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise InvalidRequest("The compressed request body cannot be unpacked.") from None
    return _checked(data, limit, is_whole=unpacker.eof)


def _unpack_zstd(body: bytes, limit: int) -> bytes:
    reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(io.BytesIO(body))
    try:
        data = reader.read(limit + 1)
    except (zstandard.ZstdError, MemoryError):
        raise InvalidRequest("The compressed request body cannot be unpacked.") from None
    return _checked(data, limit, is_whole=True)


def _checked(data: bytes, limit: int, *, is_whole: bool) -> bytes:
    if len(data) > limit:
        raise RequestTooLarge(f"The unpacked request body is larger than {limit} bytes.")
    if not is_whole:
        raise InvalidRequest("The compressed request body ended early.")
    return data


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

"""Read the body of an inference request: its type, its size, its patience."""

from __future__ import annotations

from typing import Any

from omniroute.errors import InvalidRequest, RequestTimeout, RequestTooLarge, UnsupportedMediaType

_MOST_DIGITS = 15
_CLOSE = {"Connection": "close"}
"""Where the end of a broken body lies is a guess, and a guess must not become the next request's beginning."""


def read_json_bytes(
    environ: dict[str, Any], *, limit: int, read_timeout_s: float, write_timeout_s: float | None = None
) -> bytes:
    """Return the body as bytes, unparsed, and leave the client's socket with the patience for the answer.

    Raises:
        UnsupportedMediaType: the content type is missing or is not JSON, or the body is compressed.
        RequestTooLarge: more than `limit` bytes, also where no length was announced.
        RequestTimeout: no byte for `read_timeout_s`.
    """
    media_type = environ.get("CONTENT_TYPE", "")
    if media_type != "application/json" and not _is_json(media_type):
        raise UnsupportedMediaType("Send the body as Content-Type: application/json.")
    if environ.get("HTTP_CONTENT_ENCODING", "identity") != "identity":
        raise UnsupportedMediaType("Compressed request bodies are not accepted.")
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
    return body


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

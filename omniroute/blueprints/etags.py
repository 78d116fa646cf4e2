"""Answers that say what they are, so that a caller who has them already is told so instead of being told again."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from flask import Response, request

_LARGEST: Final = 1 << 20
"""What is larger is sent again: digesting it would hold others up."""


def conditional(response: Response) -> Response:
    """Give a whole JSON answer to a GET its weak `ETag`; make it a 304 if the caller has it (`If-None-Match`)."""
    is_whole = response.status_code == 200 and response.mimetype == "application/json" and not response.is_streamed
    if request.method not in ("GET", "HEAD") or not is_whole or "ETag" in response.headers:
        return response
    data = response.get_data()
    if len(data) > _LARGEST:
        return response
    digest = blake2b(data, digest_size=12).hexdigest()
    response.set_etag(digest, weak=True)
    if request.if_none_match.contains_weak(digest):
        response.status_code = 304
        response.set_data(b"")
        for name in ("Content-Type", "Content-Length"):
            response.headers.pop(name, None)
    return response

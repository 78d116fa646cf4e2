"""Fetch the images and documents that a request names by URL, for targets that take no URLs.

The address comes from a stranger, so it and every redirect pass the strictest guard; nothing is sent along; what is too
large is not read to its end.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urljoin

from omniroute import __version__
from omniroute.errors import CallerError, InvalidRequest, ProxyUnavailable, UpstreamError, UrlBlocked
from omniroute.formats.media import sniffed
from omniroute.gateway.ports import ReadTimeout, Transport, UpstreamResponse
from omniroute.providers.upstream import Deadlines, UpstreamRequest

MAX_BYTES: Final = 20 << 20
_MOST_CHARACTERS: Final = 64 << 20
"""Of all media of a request together, in base64: several requests wait for theirs at the same time."""
_MOST_URLS: Final = 50
_MOST_HOPS: Final = 4
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_DEADLINES: Final = Deadlines(connect_s=10.0, headers_s=20.0, content_s=20.0, idle_s=20.0, total_s=60.0)
_READABLE: Final = ("image/", "audio/", "video/", "text/", "application/pdf")
_NO_DOCUMENTS: Final = frozenset({"text/html", "text/event-stream"})
_HEADERS: Final = (
    ("User-Agent", f"OmniRoute/{__version__}"),
    ("Accept", "image/*, application/pdf, audio/*, text/plain"),
    ("Accept-Encoding", "identity"),
)


class MediaFetch:
    """Fetches through the gateway's own transport, so that the guard on addresses applies."""

    def __init__(
        self, transport: Transport, *, check_url: Callable[[str], tuple[str, ...]], now: Callable[[], float]
    ) -> None:
        """`check_url` returns the addresses of a URL's host, all of them allowed; `now` is a monotonic clock.

        It raises UrlBlocked for a URL that a stranger may not name, and UpstreamUnreachable for a host without address.
        """
        self._transport = transport
        self._check_url = check_url
        self._now = now

    def fetch(self, urls: tuple[str, ...]) -> Mapping[str, tuple[str, str]]:
        """Return MIME type and base64 data by URL.

        Raises:
            CallerError: an address is not allowed, does not answer with something that can be read, or with too much.
        """
        if len(urls) > _MOST_URLS:
            raise InvalidRequest(
                f"A request may name at most {_MOST_URLS} media URLs for this model.", param="messages"
            )
        give_up_at = self._now() + _DEADLINES.total_s
        found: dict[str, tuple[str, str]] = {}
        size = 0
        for url in urls:
            found[url] = self._fetch(url, give_up_at)
            size += len(found[url][1])
            if size > _MOST_CHARACTERS:
                raise _unreadable(f"is the one too many: together they hold more than {_MOST_CHARACTERS >> 20} MiB")
        return found

    def _fetch(self, url: str, give_up_at: float) -> tuple[str, str]:
        for _ in range(_MOST_HOPS):
            response = self._get(url, give_up_at)
            try:
                if response.status in _REDIRECTS and (place := response.headers.get("location")):
                    url = urljoin(url, place)
                    continue
                if response.status != 200:
                    raise _unreadable(f"answered with status {response.status}")
                data = self._read(response, give_up_at)
            finally:
                response.close()
            said = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            mime = sniffed(data[:64]) or said
            if not mime.startswith(_READABLE) or mime in _NO_DOCUMENTS:
                raise _unreadable("does not hold an image or document")
            return mime, base64.b64encode(data).decode("ascii")
        raise _unreadable("redirects too often")

    def _get(self, url: str, give_up_at: float) -> UpstreamResponse:
        deadlines = _DEADLINES.within(give_up_at - self._now())
        try:
            addresses = self._check_url(url)
            return self._transport.send(UpstreamRequest("GET", url, _HEADERS, b"", deadlines, addresses=addresses))
        except UrlBlocked as error:
            # Not as it is: to the driver that would be the provider's own address.
            raise CallerError(
                f"A media URL of the request cannot be fetched: {error.message}",
                status=error.http_status,
                code=error.error_code,
                extras=error.extras,
            ) from None
        except ProxyUnavailable:
            raise  # ours to mend, not the caller's
        except UpstreamError as error:
            raise _unreadable("did not answer") from error

    def _read(self, response: UpstreamResponse, give_up_at: float) -> bytes:
        if response.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            raise _unreadable("answered compressed, which nobody asked for")
        length = response.headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and (len(length) > 15 or int(length) > MAX_BYTES):
            raise _unreadable(f"holds more than {MAX_BYTES >> 20} MiB")
        parts: list[bytes] = []
        size = 0
        while True:
            try:
                data = response.read(give_up_at - self._now())
            except ReadTimeout:
                raise _unreadable("did not answer in time") from None
            except UpstreamError as error:
                raise _unreadable("broke off") from error
            if not data:
                return b"".join(parts)
            size += len(data)
            if size > MAX_BYTES:
                raise _unreadable(f"holds more than {MAX_BYTES >> 20} MiB")
            parts.append(data)


def _unreadable(what: str) -> InvalidRequest:
    return InvalidRequest(f"A media URL of the request {what}; send the data inline instead.", code="invalid_value")

"""What is kept of the bodies of one request: gathered while it is served, and as a document afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypedDict

import msgspec

from omniroute.gateway.ports import UpstreamResponse
from omniroute.providers.upstream import UpstreamRequest
from omniroute.records import RequestRecord
from omniroute.services.body_redaction import redact
from omniroute.services.request_masking import is_shown, secrets_of, shown_url

MOST_KEPT: Final = 512 << 10
"""Bytes of a body that are kept."""
MARGIN: Final = 4 << 10
"""Bytes that are held beyond those, and dropped once credentials are masked: none is left in halves at the cut."""
_MOST_ATTEMPTS: Final = 20
_KEPT_HEADERS: Final = frozenset(
    {"cache-control", "cf-ray", "content-length", "content-type", "date", "request-id", "retry-after", "server"}
    | {"openai-model", "openai-processing-ms", "openai-version", "x-request-id", "x-should-retry"}
    | {"x-upstream-request-id"}
)
_KEPT_PREFIXES: Final = ("anthropic-ratelimit-", "ratelimit-", "x-omniroute-", "x-ratelimit-")


class CapturedHeaderDocument(TypedDict):
    """A header. Only those are kept that hold no credential."""

    name: str
    value: str


class CapturedBodyDocument(TypedDict):
    """A body as it came, credentials masked; of more than 512 KiB the beginning. `bytes` is its whole size."""

    text: str
    bytes: int
    cut: bool


class CapturedRequestDocument(TypedDict):
    """A request. Of a client's, `url` is the path."""

    method: str
    url: str
    headers: list[CapturedHeaderDocument]
    body: CapturedBodyDocument


class CapturedAnswerDocument(TypedDict):
    """An answer; of a stream the raw text of its frames."""

    status: int
    headers: list[CapturedHeaderDocument]
    body: CapturedBodyDocument


class CapturedAttemptDocument(TypedDict):
    """A request to a provider and what it answered; `error` where no answer came."""

    number: int
    provider: str | None
    model: str | None
    connectionId: str | None
    format: str | None
    request: CapturedRequestDocument
    response: CapturedAnswerDocument | None
    error: str | None


class CapturedBodiesDocument(TypedDict):
    """What a client sent, what left for providers and came back, and what the client got.

    Of more than 20 attempts the last are kept. A client that had left before its answer got none.
    """

    clientRequest: CapturedRequestDocument
    attempts: list[CapturedAttemptDocument]
    clientResponse: CapturedAnswerDocument | None


@dataclass(slots=True)
class Part:
    """The beginning of a body."""

    kept: bytearray = field(default_factory=bytearray)
    size: int = 0
    is_full: bool = False

    @property
    def room(self) -> int:
        """Bytes that may still be added."""
        return 0 if self.is_full else MOST_KEPT + MARGIN - len(self.kept)

    def document(self, secrets: Sequence[str]) -> CapturedBodyDocument:
        """Return it without credentials."""
        is_torn = self.size > len(self.kept)
        data = redact(bytes(self.kept), secrets)
        if is_torn:
            data = data[: max(0, len(data) - MARGIN)]
        is_cut = is_torn or len(data) > MOST_KEPT
        return {"text": data[:MOST_KEPT].decode("utf-8", "replace"), "bytes": self.size, "cut": is_cut}


@dataclass(slots=True)
class GivenAnswer:
    """An answer, and how much of it has come."""

    status: int
    headers: list[CapturedHeaderDocument]
    body: Part = field(default_factory=Part)

    def document(self, secrets: Sequence[str]) -> CapturedAnswerDocument:
        """Return it without credentials."""
        return {
            "status": self.status,
            "headers": _redacted(self.headers, secrets),
            "body": self.body.document(secrets),
        }


@dataclass(slots=True)
class Attempt:
    """One request to a provider; its credential is known here and never written."""

    number: int
    provider: str | None
    model: str | None
    connection_id: str | None
    format: str | None
    method: str
    url: str
    headers: list[CapturedHeaderDocument]
    secrets: tuple[str, ...]
    body: Part = field(default_factory=Part)
    response: GivenAnswer | None = None
    error: str | None = None

    @classmethod
    def of(cls, number: int, request: UpstreamRequest, record: RequestRecord) -> Attempt:
        """Begin one; `record` says whom it goes to."""
        return cls(
            number,
            record.provider,
            record.model,
            record.connection_id,
            record.upstream_format,
            request.method,
            shown_url(request.url),
            shown_headers(request.headers),
            secrets_of(request),
        )

    def answered(self, response: UpstreamResponse) -> Part:
        """Note that an answer begins; return what takes its body."""
        self.response = GivenAnswer(response.status, kept_headers(response.headers))
        return self.response.body

    def document(self, secrets: Sequence[str]) -> CapturedAttemptDocument:
        """Return it without credentials."""
        return {
            "number": self.number,
            "provider": self.provider,
            "model": self.model,
            "connectionId": self.connection_id,
            "format": self.format,
            "request": {
                "method": self.method,
                "url": _clean(self.url, secrets),
                "headers": _redacted(self.headers, secrets),
                "body": self.body.document(secrets),
            },
            "response": None if self.response is None else self.response.document(secrets),
            "error": None if self.error is None else _clean(self.error, secrets),
        }


@dataclass(slots=True)
class Captured:
    """Everything that was gathered of one request."""

    path: str
    headers: list[CapturedHeaderDocument]
    request: Part = field(default_factory=Part)
    attempts: list[Attempt] = field(default_factory=list)
    answer: GivenAnswer | None = None
    tried: int = 0

    def begin(self, request: UpstreamRequest, record: RequestRecord) -> tuple[Attempt, int]:
        """Begin an attempt; return it, and how many bytes were let go of for it."""
        self.tried += 1
        attempt = Attempt.of(self.tried, request, record)
        freed = 0
        if len(self.attempts) >= _MOST_ATTEMPTS:
            freed = _held(self.attempts.pop(0))
        self.attempts.append(attempt)
        return attempt, freed

    def render(self) -> bytes:
        """Return it as JSON, without credentials. Slow: to be called off the hub."""
        secrets = tuple(_spellings(secret for one in self.attempts for secret in one.secrets))
        document: CapturedBodiesDocument = {
            "clientRequest": {
                "method": "POST",
                "url": self.path,
                "headers": _redacted(self.headers, secrets),
                "body": self.request.document(secrets),
            },
            "attempts": [one.document(secrets) for one in self.attempts],
            "clientResponse": None if self.answer is None else self.answer.document(secrets),
        }
        return msgspec.json.encode(document)


read: Final = msgspec.json.Decoder(CapturedBodiesDocument).decode
"""Reads what :meth:`Captured.render` has written."""


def shown_headers(headers: Iterable[tuple[str, str]]) -> list[CapturedHeaderDocument]:
    """Return those headers of a request that hold no credential."""
    return [{"name": name, "value": value} for name, value in headers if is_shown(name)]


def kept_headers(headers: Mapping[str, str]) -> list[CapturedHeaderDocument]:
    """Return those headers of an answer that say something about it and hold no credential."""
    return [
        {"name": name, "value": value}
        for name, value in headers.items()
        if name.lower() in _KEPT_HEADERS or name.lower().startswith(_KEPT_PREFIXES)
    ]


def _held(attempt: Attempt) -> int:
    return len(attempt.body.kept) + (0 if attempt.response is None else len(attempt.response.body.kept))


def _redacted(headers: list[CapturedHeaderDocument], secrets: Sequence[str]) -> list[CapturedHeaderDocument]:
    return [{"name": one["name"], "value": _clean(one["value"], secrets)} for one in headers]


def _clean(text: str, secrets: Sequence[str]) -> str:
    return redact(text.encode("utf-8", "replace"), secrets).decode("utf-8", "replace")


def _spellings(secrets: Iterable[str]) -> Iterable[str]:
    """Return each secret once, as it is and as JSON spells it; the longest first, since one may hold another."""
    found = {spelt for secret in secrets for spelt in (secret, msgspec.json.encode(secret)[1:-1].decode())}
    return sorted(found, key=len, reverse=True)

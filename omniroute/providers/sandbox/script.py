"""An answer as a value: what goes out, in which order, after which waits, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from omniroute.secret import Secret

if TYPE_CHECKING:
    from omniroute.providers.sandbox.invoice import Job

Frame = tuple[float, bytes]
"""Seconds to wait after the frame before (the first: after the head), then the bytes to send."""

NEVER: Final = float("inf")


class Dialect(StrEnum):
    """The vendor whose wire format is spoken."""

    OPENAI_CHAT = "openai_chat"
    OPENAI_RESPONSES = "openai_responses"
    ANTHROPIC_MESSAGES = "anthropic_messages"
    GEMINI = "gemini"
    OLLAMA = "ollama"


class Ending(StrEnum):
    """What happens once the last frame is out."""

    COMPLETE = "complete"
    """The body ends as HTTP says it should."""
    CUT = "cut"
    """The connection dies: a body shorter than announced, or a chunked one without its last chunk."""
    HANG = "hang"
    """Nothing more ever comes, and the connection stays open."""


@dataclass(frozen=True, slots=True)
class Script:
    """One answer to be played by a driver that owns a clock and a way out.

    Attributes:
        headers: names in lower case. `content-length` is there for answers of known length, also for one that is cut
            short of it; without it the body is a stream.
        head_delay_s: seconds before the status line goes out; `NEVER` (infinity) for an answer that never begins.
        job: what the bill needs; None for what costs nothing.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    frames: Iterator[Frame]
    ending: Ending = Ending.COMPLETE
    head_delay_s: float = 0.0
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """How a sandbox behaves when the request does not say otherwise.

    Attributes:
        latency_ms: wait before the status line of every answer.
        jitter_ms: up to this much more, by chance.
        chunks: number of numbered pieces that `story` tells; None for its prose.
        chunk_size: bytes of text in one streamed piece; None for each model's own.
        chunk_interval_ms: time between two streamed pieces; None for each model's own.
        fail_rate: share of inference requests, 0 to 1, that get `fail_status` instead of an answer.
        require_key: the one credential that is let in; None lets everyone in.
    """

    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    chunks: int | None = None
    chunk_size: int | None = None
    chunk_interval_ms: float | None = None
    fail_rate: float = 0.0
    fail_status: int = 500
    require_key: Secret | None = None


class VendorError(Exception):
    """A refusal in the vendor's own terms; each dialect spells it its own way.

    Attributes:
        retry_after_s: hint for the caller.
        is_in_stream: with a streamed request the vendor says it inside the stream, after a status of 200.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        is_in_stream: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s
        self.is_in_stream = is_in_stream

"""What the simulated provider would put on its bill: its own count of every answer that it gave, or began to give.

A whole answer has the tokens that it reports. One that ends early has its prompt and what was generated up to there,
counted from the frames that went out, as the provider itself would know it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from omniroute.providers.sandbox.blocks import Answer
from omniroute.providers.sandbox.prompt import Prompt
from omniroute.providers.sandbox.prose import tokens
from omniroute.providers.sandbox.script import Dialect, Frame

HEADER: Final = (
    "request_id,dialect,model,input_tokens,cached_tokens,cache_write_tokens,output_tokens,reasoning_tokens,ending"
)
MOST_LINES: Final = 100_000
_TELL_REASONING: Final = frozenset({Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES, Dialect.GEMINI})
"""Vendors whose answers say how much of the output was reasoning. The others bill it as any other output."""


@dataclass(frozen=True, slots=True)
class Job:
    """An answer as the bill needs it.

    Attributes:
        frames: renders the answer once more, for one that ends early.
        is_stream: its frames are pieces; else there is one, with everything.
    """

    request_id: str
    prompt: Prompt
    answer: Answer
    is_stream: bool
    frames: Callable[[], Iterator[Frame]]


class Ledger:
    """The lines of the bill, the newest at the end; the oldest go when there are too many."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=MOST_LINES)

    def add(self, job: Job, frames: int, *, is_complete: bool) -> None:
        """Write a line for an answer of which so many frames were generated; one of none costs nothing."""
        if not frames:
            return
        if is_complete or not job.is_stream:
            output, reasoning = job.answer.output_tokens, job.answer.reasoning_tokens
            output, reasoning = output * job.prompt.count, reasoning * job.prompt.count
        else:
            sent = (frame for _, frame in islice(job.frames(), frames))
            thought, said = spoken(job.prompt.dialect, sent)
            reasoning = tokens(thought) if thought else 0
            output = reasoning + (tokens(said) if said else 0)
            if not output:
                return
        if job.prompt.dialect not in _TELL_REASONING:
            reasoning = 0
        usage = job.prompt.usage
        written = usage.cache_write_5m + usage.cache_write_1h
        model = job.prompt.model.removeprefix("models/")
        ending = "complete" if is_complete else "cut"
        self._lines.append(
            f"{job.request_id},{job.prompt.dialect},{model},{usage.total},{usage.cache_read},{written},"
            f"{output},{reasoning},{ending}"
        )

    def render(self) -> bytes:
        """Return the bill as CSV."""
        return "\n".join((HEADER, *self._lines, "")).encode()


def spoken(dialect: Dialect, frames: Iterable[bytes]) -> tuple[int, int]:
    """Return how many characters of reasoning, and of text and calls, stand in frames."""
    thought = said = 0
    for frame in frames:
        for event in _events(dialect, frame):
            for is_reasoning, text in _pieces(dialect, event):
                if is_reasoning:
                    thought += len(text)
                else:
                    said += len(text)
    return thought, said


def _events(dialect: Dialect, frame: bytes) -> Iterator[dict[str, Any]]:
    for line in frame.splitlines():
        text = line.removeprefix(b"data: ").strip(b" ,[]" if dialect is Dialect.GEMINI else b" ")
        if text.startswith(b"{"):
            event = json.loads(text)
            if isinstance(event, dict):
                yield event


def _pieces(dialect: Dialect, event: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    match dialect:
        case Dialect.OPENAI_CHAT:
            for choice in event.get("choices") or ():
                delta = choice.get("delta") or {}
                yield True, delta.get("reasoning_content") or ""
                yield False, (delta.get("content") or "") + (delta.get("refusal") or "") + (choice.get("text") or "")
                for call in (*(delta.get("tool_calls") or ()), delta):
                    made = call.get("function") or call.get("custom") or call.get("function_call") or {}
                    yield False, (made.get("name") or "") + (made.get("arguments") or made.get("input") or "")
        case Dialect.OPENAI_RESPONSES:
            kind = event.get("type", "")
            if kind.endswith(".delta"):
                yield "reasoning" in kind, event.get("delta") or ""
            elif kind == "response.output_item.added":
                yield False, (event.get("item") or {}).get("name") or ""
        case Dialect.ANTHROPIC_MESSAGES:
            delta = event.get("delta") or {}
            yield True, delta.get("thinking") or ""
            yield False, (delta.get("text") or "") + (delta.get("partial_json") or "")
            yield False, (event.get("content_block") or {}).get("name") or ""
        case Dialect.GEMINI:
            for candidate in event.get("candidates") or ():
                for part in (candidate.get("content") or {}).get("parts") or ():
                    yield bool(part.get("thought")), part.get("text") or ""
                    call = part.get("functionCall")
                    if call:
                        yield False, call["name"] + json.dumps(call["args"], separators=(",", ":"))
        case Dialect.OLLAMA:
            message = event.get("message") or {}
            yield True, message.get("thinking") or ""
            yield False, message.get("content") or ""
            for call in message.get("tool_calls") or ():
                made = call["function"]
                yield False, made["name"] + json.dumps(made["arguments"], separators=(",", ":"))
        case _:
            raise ValueError(f"unknown dialect {dialect}")

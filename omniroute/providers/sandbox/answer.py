"""What each model says: a prompt in, blocks with their pieces and pace out. No dialect here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from typing import Final

from omniroute.providers.sandbox import prose, schema
from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.models import Behaviour, Kind
from omniroute.providers.sandbox.prompt import Choice, Prompt, Tool
from omniroute.providers.sandbox.script import Ending, Options

_MOST_CALLS: Final = 8
_ARGUMENT_PIECE: Final = 12
_STORY_INTERVAL_S: Final = 0.04
_THINK_INTERVAL_S: Final = 0.02
_SLOW_MS: Final = 3000
_TORN_STORY: Final = 40
"""Words that `cut` and `hang-<n>` would have said."""
_CUT_AFTER: Final = 10


class Stop(StrEnum):
    """Why the model stopped talking."""

    END = "end"
    LENGTH = "length"
    SEQUENCE = "sequence"
    TOOLS = "tools"


@dataclass(frozen=True, slots=True)
class Text:
    """Visible text in streamed pieces."""

    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Thinking:
    """Reasoning in streamed pieces."""

    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; `arguments` is JSON, or free text when `is_custom`. `key` makes its id."""

    key: str
    name: str
    arguments: str
    is_custom: bool = False

    def pieces(self) -> tuple[str, ...]:
        """Return the arguments as they are streamed."""
        return prose.slices(self.arguments, _ARGUMENT_PIECE)


Block = Text | Thinking | Call


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished answer.

    Attributes:
        output_tokens: all of them, reasoning included.
        first_delay_s: wait before the first content; infinite for an answer that never comes.
        interval_s: wait between two streamed pieces.
        torn_after: pieces after which the answer breaks off as `ending` says; None for one that is told to its end.
    """

    blocks: tuple[Block, ...]
    stop: Stop
    output_tokens: int
    reasoning_tokens: int = 0
    stop_sequence: str | None = None
    first_delay_s: float = 0.0
    interval_s: float = 0.0
    torn_after: int | None = None
    ending: Ending = Ending.COMPLETE

    @property
    def text(self) -> str:
        """All visible text."""
        return "".join("".join(block.pieces) for block in self.blocks if isinstance(block, Text))

    def paced(self) -> Iterator[float]:
        """Yield the wait before each content piece, for ever."""
        yield self.first_delay_s
        while True:
            yield self.interval_s


def compose(prompt: Prompt, behaviour: Behaviour, options: Options) -> Answer:
    """Return what the model answers; `Kind.FAIL` and `Kind.GARBAGE` have no answer and are not for here.

    What the model's name says about pace and size counts before the options.
    """
    size = options.chunk_size
    match behaviour.kind:
        case Kind.ECHO:
            answer = _said(prompt, _pieces(prompt, prompt.text, size))
        case Kind.STORY:
            answer = _story(prompt, behaviour, options)
        case Kind.TOOLS:
            answer = _use_tools(prompt, size)
        case Kind.THINK:
            answer = _think(prompt)
        case Kind.JSON:
            answer = _said(prompt, _pieces(prompt, _json(prompt), size))
        case Kind.SLOW:
            wait_ms = behaviour.number(0)
            answer = replace(
                _said(prompt, _pieces(prompt, prompt.text, size)),
                first_delay_s=(_SLOW_MS if wait_ms is None else wait_ms) / 1000,
            )
        case Kind.HANG:
            answer = _torn(prompt, behaviour.number(0) or 0, Ending.HANG)
        case Kind.CUT:
            after = behaviour.number(0)
            answer = _torn(prompt, _CUT_AFTER if after is None else after, Ending.CUT)
        case Kind.FAIL | Kind.GARBAGE as kind:
            raise ValueError(f"{kind} does not answer")
        case _:
            raise ValueError(f"unknown kind {behaviour.kind}")
    if behaviour.kind is Kind.STORY and (named_ms := behaviour.number(1)) is not None:
        return replace(answer, interval_s=named_ms / 1000)
    if options.chunk_interval_ms is not None:
        return replace(answer, interval_s=options.chunk_interval_ms / 1000)
    return answer


def _pieces(prompt: Prompt, text: str, size: int | None) -> tuple[str, ...]:
    """Cut text as it will be streamed; nobody sees the cuts in a whole answer, so there it stays in one piece."""
    return prose.slices(text, size) if prompt.is_stream else (text,)


def _said(prompt: Prompt, pieces: tuple[str, ...], before: tuple[Block, ...] = ()) -> Answer:
    """End the text where the caller's stop sequences or output limit end it, and count it."""
    stop, sequence, text = Stop.END, None, ""
    if prompt.stops or prompt.max_words is not None:
        text = "".join(pieces)
        end = len(text)
        for candidate in prompt.stops:
            found = text.find(candidate, 0, end)
            if found >= 0:
                end, stop, sequence = found, Stop.SEQUENCE, candidate
        limit = None if prompt.max_words is None else prose.word_limit(text[:end], prompt.max_words)
        if limit is not None:
            end, stop, sequence = limit, Stop.LENGTH, None
        if end < len(text):
            pieces = prose.shorten(pieces, end)
    reasoning = sum(len(piece) for block in before if isinstance(block, Thinking) for piece in block.pieces)
    reasoning_tokens = prose.tokens(reasoning) if before else 0
    spoken = prose.tokens(sum(map(len, pieces)))
    if prompt.max_words is not None and (stop is Stop.LENGTH or spoken > prompt.max_words):
        spoken = prompt.max_words
    return Answer((*before, Text(pieces)), stop, spoken + reasoning_tokens, reasoning_tokens, sequence)


def _story(prompt: Prompt, behaviour: Behaviour, options: Options) -> Answer:
    count = behaviour.number(0) or options.chunks
    size = behaviour.number(2) or options.chunk_size
    if count is None:
        pieces = prose.words(prose.STORY) if size is None else prose.slices(prose.STORY, size)
    else:
        pieces = prose.numbered(count, size)
    return replace(_said(prompt, pieces), interval_s=_STORY_INTERVAL_S)


def _think(prompt: Prompt) -> Answer:
    count = len(prompt.text.split())
    conclusion = prose.words(f"I have thought about it. You said: {prompt.text}")
    if not prompt.has_reasoning:
        return replace(_said(prompt, conclusion), interval_s=_THINK_INTERVAL_S)
    reasoning = prose.words(
        f"Let me read this again. It has {count} word{'' if count == 1 else 's'}. Nothing in it needs a tool, "
        "so the honest answer is to give the words back, and to say that I thought first."
    )
    return replace(_said(prompt, conclusion, (Thinking(reasoning),)), interval_s=_THINK_INTERVAL_S)


def _json(prompt: Prompt) -> str:
    if prompt.output is None or prompt.output.schema is None:
        value = {"answer": prompt.text, "model": "sandbox/json"}
    else:
        value = schema.generate(prompt.output.schema)
    return dump(value).decode()


def _torn(prompt: Prompt, after: int, ending: Ending) -> Answer:
    pieces = prose.numbered(max(_TORN_STORY, 2 * after), None)
    answer = _said(replace(prompt, max_words=None, stops=()), pieces)
    return replace(answer, torn_after=after, ending=ending)


def _use_tools(prompt: Prompt, size: int | None) -> Answer:
    if prompt.results:
        parts = (f"{r.name} {'failed' if r.is_error else 'returned'}: {r.text}" for r in prompt.results)
        return _said(prompt, _pieces(prompt, "\n".join(parts), size))
    if not prompt.tools:
        return _said(prompt, _pieces(prompt, "No tools were given, so there is nothing to call.", size))
    if prompt.choice is Choice.NONE:
        return _said(prompt, _pieces(prompt, "Calling tools is switched off for this request.", size))
    calls = tuple(_call(prompt, tool, index) for index, tool in enumerate(_tools_to_call(prompt)))
    return Answer(calls, Stop.TOOLS, prose.tokens(sum(len(c.name) + len(c.arguments) for c in calls)))


def _tools_to_call(prompt: Prompt) -> tuple[Tool, ...]:
    if prompt.choice is Choice.ONE:
        return tuple(tool for tool in prompt.tools if tool.name == prompt.chosen)
    return prompt.tools[: _MOST_CALLS if prompt.is_parallel else 1]


def _call(prompt: Prompt, tool: Tool, index: int) -> Call:
    key = blake2b(f"{prompt.digest}/{index}".encode(), digest_size=16).hexdigest()
    if tool.schema is None:
        return Call(key, tool.name, prompt.text or tool.name, is_custom=True)
    return Call(key, tool.name, dump(schema.generate({"type": "object", **tool.schema})).decode())

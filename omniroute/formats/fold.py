"""From events to a whole answer, and back: a folded stream equals the answer that was not streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import (
    Answer,
    Block,
    Citation,
    Refusal,
    Stop,
    Text,
    Thinking,
    Token,
    ToolCall,
)
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    Ping,
    StreamError,
    UsageUpdate,
)
from omniroute.formats.usage import NOT_REPORTED, Usage
from omniroute.formats.wire import WireFormat


class Folder:
    """Collects the events of one stream."""

    def __init__(self, origin: WireFormat) -> None:
        self._origin = origin
        self._start: MessageStart | None = None
        self._blocks: list[Block] = []
        self._open: _OpenBlock | None = None
        self._end: MessageStop | None = None
        self.usage: Usage = NOT_REPORTED

    def see(self, events: Iterable[Event]) -> None:
        """Take the next events; errors and pings are the caller's business."""
        for event in events:
            if type(event) is BlockDelta:  # nearly all are
                if self._open is not None:
                    self._open.add(event)
                continue
            match event:
                case BlockStart(block=block):
                    self._open = _OpenBlock(block)
                case BlockStop():
                    self._close_block()
                case MessageStart():
                    self._start = event
                    if event.usage is not None:
                        self.usage = self.usage.merge(event.usage)
                case UsageUpdate(usage=usage):
                    self.usage = self.usage.merge(usage)
                case MessageStop():
                    self._end = event
                case StreamError() | Ping():
                    pass

    def _close_block(self) -> None:
        if self._open is not None:
            self._blocks.append(self._open.whole())
            self._open = None

    @property
    def so_far(self) -> Answer:
        """The answer as far as it has come; an unfinished one seems to end with `Stop.END`."""
        blocks = (*self._blocks, self._open.whole()) if self._open is not None else tuple(self._blocks)
        start, end = self._start, self._end
        return Answer(
            origin=self._origin,
            id="" if start is None else start.id,
            model="" if start is None else start.model,
            blocks=blocks,
            stop=Stop.END if end is None else end.stop,
            stop_sequence=None if end is None else end.sequence,
            usage=self.usage,
            created=None if start is None else start.created,
        )

    def answer(self) -> Answer:
        """Return the whole answer.

        Raises:
            UpstreamProtocolError: the stream did not end properly.
        """
        if self._start is None or self._end is None:
            raise UpstreamProtocolError("The provider's stream broke off in the middle of its answer.")
        return self.so_far


class _OpenBlock:
    __slots__ = ("_citations", "_head", "_logprobs", "_parts", "_token")

    def __init__(self, head: Block) -> None:
        self._head = head
        self._parts: list[str] = []
        self._citations: list[Citation] = []
        self._logprobs: list[msgspec.Raw] = []
        self._token: Token | None = None

    def add(self, delta: BlockDelta) -> None:
        value = delta.value
        if type(value) is str:  # nearly all are
            self._parts.append(value)
            if delta.logprobs is not None:
                self._logprobs.append(delta.logprobs)
        elif delta.kind is DeltaKind.TOKEN:
            assert isinstance(value, Token)  # noqa: S101 - what the kind says
            self._token = value
        else:
            assert isinstance(value, Citation)  # noqa: S101
            self._citations.append(value)

    def whole(self) -> Block:
        head = self._head
        added = "".join(self._parts)
        match head:
            case Text():
                logprobs = head.logprobs
                if self._logprobs:
                    logprobs = join_lists(self._logprobs)
                citations = (*head.citations, *self._citations)
                return msgspec.structs.replace(head, text=head.text + added, citations=citations, logprobs=logprobs)
            case Thinking():
                return msgspec.structs.replace(head, text=head.text + added, token=self._token or head.token)
            case ToolCall():
                return msgspec.structs.replace(head, arguments=head.arguments + added, token=self._token or head.token)
            case Refusal():
                return msgspec.structs.replace(head, text=head.text + added)
            case _:
                return head


def join_lists(lists: Iterable[msgspec.Raw]) -> msgspec.Raw:
    """Return one JSON list with the elements of several."""
    inner = (bytes(part).strip()[1:-1].strip() for part in lists)
    return msgspec.Raw(b"[" + b",".join(part for part in inner if part) + b"]")


def unfold(answer: Answer) -> Iterator[Event]:
    """Yield the events that a stream of this answer would be; each block comes in one piece."""
    yield MessageStart(answer.id, answer.model, answer.created, None)
    for index, block in enumerate(answer.blocks):
        yield from unfold_block(index, block)
    if answer.usage != NOT_REPORTED:
        yield UsageUpdate(answer.usage)
    yield MessageStop(answer.stop, answer.stop_sequence)


def unfold_block(index: int, block: Block) -> Iterator[Event]:
    """Yield the events of one block, which comes in one piece."""
    replace = msgspec.structs.replace
    match block:
        case Text(text=text):
            yield BlockStart(index, replace(block, text="", citations=(), logprobs=None))
            if text or block.logprobs is not None:
                yield BlockDelta(index, DeltaKind.TEXT, text, block.logprobs)
            for citation in block.citations:
                yield BlockDelta(index, DeltaKind.CITATION, citation)
        case Thinking(redacted=False, text=text, token=token):
            yield BlockStart(index, replace(block, text="", token=None))
            if text:
                yield BlockDelta(index, DeltaKind.THINKING, text)
            if token is not None:
                yield BlockDelta(index, DeltaKind.TOKEN, token)
        case ToolCall(arguments=arguments, token=token):
            yield BlockStart(index, replace(block, arguments="", token=None))
            if arguments:
                yield BlockDelta(index, DeltaKind.ARGUMENTS, arguments)
            if token is not None:
                yield BlockDelta(index, DeltaKind.TOKEN, token)
        case Refusal(text=text):
            yield BlockStart(index, replace(block, text=""))
            if text:
                yield BlockDelta(index, DeltaKind.REFUSAL, text)
        case _:
            yield BlockStart(index, block)
    yield BlockStop(index)

"""From the provider's answer to the answer that the client can use: what preparing the request changed, turned back.

Both ways of an answer go through the same events, so a folded stream and an answer that came whole cannot differ:

- Calls without a name are dropped. Ids that are missing, or that the conversation knows already, are made anew.
- Names of tools are the client's. Free text that travelled as a function's one string is free text again.
- The input of the tool that was forced to get JSON becomes the text of the answer.
- Opaque tokens leave in an envelope that says whose they are, if the client's format can carry them.
- The stop reason follows from what the answer holds.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

import msgspec

from omniroute.formats.canonical import Answer, Block, CallKind, Stop, Text, Thinking, Token, ToolCall, stop_of
from omniroute.formats.changes import Changes
from omniroute.formats.custom_input import CustomInput
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
from omniroute.formats.fold import Folder, unfold
from omniroute.formats.profile import Profile
from omniroute.formats.tokens import wrap
from omniroute.formats.wire import WireFormat

_ARGUMENTS: Final = DeltaKind.ARGUMENTS
_TOKEN: Final = DeltaKind.TOKEN
_TEXT: Final = DeltaKind.TEXT

_CUT_OFF: Final = frozenset({Stop.LENGTH, Stop.CONTEXT_FULL})
_CARRIES_ON_THINKING: Final = frozenset({WireFormat.ANTHROPIC_MESSAGES, WireFormat.OPENAI_RESPONSES, WireFormat.GEMINI})
_CARRIES_ON_CALLS: Final = frozenset({WireFormat.GEMINI})
_ID_LENGTH: Final = 20


class _Mode(Enum):
    """What happens to the deltas of the open block."""

    PASS = auto()
    DROP = auto()
    CUSTOM = auto()
    """Decoded to the free text in them."""
    OUTPUT = auto()
    """Turned into text."""


class _Call:
    """A call as the provider wrote it: whether it was torn is seen at the end."""

    __slots__ = ("fragments", "head")

    def __init__(self, head: ToolCall) -> None:
        self.head = head
        self.fragments: list[str] = [head.arguments]

    def whole(self) -> ToolCall:
        return msgspec.structs.replace(self.head, arguments="".join(self.fragments))


class _Ids:
    """Ids of the calls of one answer, shared by its choices."""

    __slots__ = ("_count", "_prefix", "_used")

    def __init__(self, answer_id: str, known: frozenset[str]) -> None:
        self._prefix = f"call_{answer_id[:_ID_LENGTH]}_"
        self._used = set(known)
        self._count = 0

    def take(self, given: str) -> str:
        """Return an id that no call of the conversation has: the given one if possible."""
        self._count += 1
        taken = given
        while not taken.strip() or taken in self._used:
            taken = f"{self._prefix}{self._count}"
            if taken in self._used:
                self._count += 1
        self._used.add(taken)
        return taken


class WayBack:
    """Turns back one answer; made anew for each."""

    __slots__ = (
        "_call",
        "_calls",
        "_changes",
        "_client",
        "_decoder",
        "_has_output",
        "_held",
        "_ids",
        "_index",
        "_is_bare_thinking",
        "_is_blank",
        "_mode",
        "_passes",
        "_profile",
        "_signs_bare",
        "_token_moves",
    )

    def __init__(self, changes: Changes, profile: Profile, client: WireFormat, answer_id: str) -> None:
        """`answer_id`: letters and digits, unique per request; made ids begin with it."""
        self._changes = changes
        self._profile = profile
        self._client = client
        self._ids = _Ids(answer_id, changes.known_ids)
        self._token_moves = client is not profile.format
        self._signs_bare = self._token_moves and client is WireFormat.ANTHROPIC_MESSAGES
        self._calls: list[_Call] = []
        self._call: _Call | None = None
        self._held: list[Event] = []
        self._has_output = False
        self._index = 0
        self._mode = _Mode.PASS
        self._passes = False
        self._decoder = CustomInput()
        self._is_blank = True
        self._is_bare_thinking = False

    @property
    def client(self) -> WireFormat:
        """The format that the client speaks."""
        return self._client

    def events(self, events: list[Event]) -> list[Event]:
        """Return the events as the client gets them; the same list when nothing changes."""
        if self._passes:
            for event in events:
                if type(event) is BlockDelta:
                    if event.kind is _TOKEN:
                        break
                elif type(event) is not UsageUpdate:
                    break
            else:
                if self._call is not None:
                    for event in events:
                        if type(event) is BlockDelta:
                            self._call.fragments.append(event.value)  # type: ignore[arg-type]  # no token, so a text
                return events
        changed: list[Event] = []
        if self._changes.output_tool is None:
            for event in events:
                self._turn(event, changed)
        else:
            for event in events:
                self._sift(event, changed)
        return changed

    def answer(self, answer: Answer) -> Answer:
        """Return a whole answer as the client gets it."""
        if not answer.others and self._changes.output_tool is None and not any(map(_is_turned, answer.blocks)):
            stop = stop_of(answer.stop, ())
            if stop is answer.stop:
                return answer
            return msgspec.structs.replace(answer, stop=stop, stop_sequence=None)
        folder = Folder(answer.origin)
        folder.see(self.events(list(unfold(answer))))
        turned = folder.so_far
        others = []
        for other in answer.others:
            way_back = WayBack(self._changes, self._profile, self._client, "")
            way_back._ids = self._ids
            others.append(way_back.answer(other))
        return msgspec.structs.replace(
            answer,
            blocks=turned.blocks,
            stop=turned.stop,
            stop_sequence=turned.stop_sequence,
            others=tuple(others),
        )

    # --- an answer that has to be JSON ---

    def _sift(self, event: Event, changed: list[Event]) -> None:
        """Hold text back until it is known whether the forced tool is called: prose beside JSON would spoil it."""
        held = self._held
        match event:
            case MessageStart() | UsageUpdate() | Ping():
                self._turn(event, changed)
            case BlockStart(block=ToolCall(name=name)):
                self._has_output = self._has_output or name == self._changes.output_tool
                self._release(changed)
                self._turn(event, changed)
            case MessageStop() | StreamError():
                self._release(changed)
                self._turn(event, changed)
            case BlockStart(block=Text()) if not self._has_output:
                held.append(event)
            case _ if held:
                held.append(event)
            case _:
                self._turn(event, changed)

    def _release(self, changed: list[Event]) -> None:
        held, self._held = self._held, []
        for event in held:
            self._turn(event, changed)

    # --- all answers ---

    def _turn(self, event: Event, changed: list[Event]) -> None:
        match event:
            case BlockDelta():
                self._delta(event, changed)
            case BlockStart(block=block):
                self._call = None
                self._is_bare_thinking = False
                self._mode = _Mode.PASS
                match block:
                    case ToolCall():
                        self._start_call(block, changed)
                    case Thinking():
                        self._start_thinking(event, block, changed)
                    case Text() if self._has_output:
                        self._mode = _Mode.DROP
                    case _:
                        changed.append(self._placed(event))
                self._passes = self._mode is _Mode.PASS and event.index == self._index
            case BlockStop():
                self._stop(event, changed)
            case MessageStop():
                changed.append(self._ended(event))
            case _:
                changed.append(event)

    def _placed(self, event: BlockStart) -> BlockStart:
        return event if event.index == self._index else BlockStart(self._index, event.block)

    def _start_thinking(self, event: BlockStart, block: Thinking, changed: list[Event]) -> None:
        self._is_bare_thinking = self._signs_bare and block.token is None and not block.redacted
        if block.token is not None and self._token_moves:
            token = self._moved(block.token, is_on_call=False)
            event = BlockStart(event.index, msgspec.structs.replace(block, token=token))
        changed.append(self._placed(event))

    def _start_call(self, block: ToolCall, changed: list[Event]) -> None:
        changes = self._changes
        if not block.name.strip():
            self._mode = _Mode.DROP
            return
        if block.name == changes.output_tool:
            self._start_output(block, changed)
            return
        self._call = _Call(block)
        self._calls.append(self._call)
        name = changes.names.get(block.name, block.name)
        token = block.token
        if token is not None and self._token_moves:
            token = self._moved(token, is_on_call=True)
        kind, arguments = block.kind, block.arguments
        if kind is CallKind.FUNCTION and name in changes.customs:
            self._mode, self._decoder = _Mode.CUSTOM, CustomInput()
            kind, arguments = CallKind.CUSTOM, ""
        head = msgspec.structs.replace(
            block, id=self._ids.take(block.id), name=name, kind=kind, token=token, arguments=arguments
        )
        changed.append(BlockStart(self._index, head))
        if self._mode is _Mode.CUSTOM and block.arguments:
            self._add(_ARGUMENTS, self._decoder.feed(block.arguments), changed)

    def _start_output(self, block: ToolCall, changed: list[Event]) -> None:
        if any(call.head.name == block.name for call in self._calls):
            self._mode = _Mode.DROP  # one JSON text is the answer; a second one would make it none
            return
        self._mode, self._is_blank = _Mode.OUTPUT, True
        self._call = _Call(block)
        self._calls.append(self._call)
        changed.append(BlockStart(self._index, Text("")))
        if block.arguments:
            self._add_output(block.arguments, changed)

    def _delta(self, event: BlockDelta, changed: list[Event]) -> None:
        value = event.value
        if self._mode is _Mode.DROP:
            return
        if event.kind is _TOKEN:
            self._is_bare_thinking = False
            if self._mode is not _Mode.OUTPUT:
                if self._token_moves and isinstance(value, Token):
                    value = self._moved(value, is_on_call=self._call is not None)
                changed.append(BlockDelta(self._index, _TOKEN, value))
            return
        if self._call is not None and isinstance(value, str):
            self._call.fragments.append(value)
            if self._mode is _Mode.CUSTOM:
                self._add(_ARGUMENTS, self._decoder.feed(value), changed)
                return
            if self._mode is _Mode.OUTPUT:
                self._add_output(value, changed)
                return
        changed.append(
            event if event.index == self._index else BlockDelta(self._index, event.kind, value, event.logprobs)
        )

    def _add(self, kind: DeltaKind, text: str, changed: list[Event]) -> None:
        if text:
            changed.append(BlockDelta(self._index, kind, text))

    def _add_output(self, text: str, changed: list[Event]) -> None:
        self._is_blank = self._is_blank and not text.strip()
        self._add(_TEXT, text, changed)

    def _stop(self, event: BlockStop, changed: list[Event]) -> None:
        mode, self._mode, self._passes = self._mode, _Mode.PASS, False
        if mode is _Mode.DROP:
            return
        if mode is _Mode.CUSTOM:
            self._add(_ARGUMENTS, self._decoder.close(), changed)
        elif mode is _Mode.OUTPUT and self._is_blank:
            self._add(_TEXT, "{}", changed)  # what no arguments mean
        if self._is_bare_thinking:
            profile = self._profile
            mark = self._moved(Token("", profile.format), is_on_call=False)
            changed.append(BlockDelta(self._index, _TOKEN, mark))
        changed.append(event if event.index == self._index else BlockStop(self._index))
        self._index += 1

    def _moved(self, token: Token, *, is_on_call: bool) -> Token:
        """Return a token that knows its maker, in an envelope where the client sends it back."""
        profile = self._profile
        token = Token(token.value, token.origin, profile.provider, profile.family)
        carriers = _CARRIES_ON_CALLS if is_on_call else _CARRIES_ON_THINKING
        if self._client not in carriers:
            return token
        return Token(wrap(token), token.origin, token.provider, token.family)

    def _ended(self, event: MessageStop) -> MessageStop:
        calls = [call for call in self._calls if call.head.name != self._changes.output_tool]
        stop = event.stop
        if stop in _CUT_OFF and self._is_torn_at_end():
            pass
        elif stop in _CUT_OFF:
            stop = stop_of(stop, [call.whole() for call in calls])
        else:
            stop = stop_of(stop, [call.head for call in calls])
        if stop is event.stop:
            return event
        return MessageStop(stop, event.sequence if stop is Stop.STOP_SEQUENCE else None)

    def _is_torn_at_end(self) -> bool:
        """Say whether an answer that was cut off ends inside free text, which does not show where it should end."""
        return self._call is not None and self._call.head.kind is CallKind.CUSTOM


def _is_turned(block: Block) -> bool:
    """Say whether there can be anything to turn back in a block."""
    return type(block) in _TURNED


_TURNED: Final = frozenset({ToolCall, Thinking})


def kept(answer: Answer, client: WireFormat) -> dict[str, tuple[str, Token | None]]:
    """Return the reasoning that the client's format cannot carry, by id of the call that it led to.

    The reasoning of a turn belongs to its first call; a call's own token to that call.

    Args:
        answer: what :class:`WayBack` gave, whole or folded.
        client: its format. The reasoning of formats that carry it is left out.
    """
    found: dict[str, tuple[str, Token | None]] = {}
    if client in _CARRIES_ON_CALLS:
        return found
    carries_thinking = client in _CARRIES_ON_THINKING
    text, token = "", None
    for block in answer.blocks:
        if isinstance(block, Thinking) and not carries_thinking:
            if block.token is not None:  # a signature holds for the text of its own block alone
                text, token = block.text, None if block.redacted else block.token
            elif token is None:
                text += block.text
        elif isinstance(block, ToolCall):
            if text or token is not None or block.token is not None:
                found[block.id] = (text, block.token or token)
            text, token = "", None
    return found

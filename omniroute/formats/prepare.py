"""The rules that all formats share, applied to a request before it is rendered for its target.

What a renderer may rely on afterwards:

- Opaque tokens are the target's own and unwrapped; reasoning that it may not see is gone; what the gateway kept for the
  client is back in its place.
- Each assistant turn is one message as far as it calls. It is followed by one message of role TOOL that answers each of
  its calls once, in order, and holds nothing else. No other message holds results. Ids, names and kinds of tools are
  such as the target takes.
- Media is readable by the target, carries the type of its bytes and stands in user messages, in results only where the
  target takes it there. What came from a result or from the model follows in a user message of its own.
- System text stands in front, or in place where the target takes it there.
- No block of another vendor is left, and no empty text where the target refuses it; no message is empty.
- Nobody is asked to call a tool where none is defined.

A request in the target's own format is left alone, but for tokens that are not the target's.

The same request always gives the same result, and a conversation with one more turn begins with what it was before:
prompt caches live from it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats import foreign, media, system_text
from omniroute.formats.canonical import (
    Block,
    Media,
    Message,
    Request,
    Role,
    ServerTool,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Unknown,
)
from omniroute.formats.changes import Changes
from omniroute.formats.codec import Pause, no_pause
from omniroute.formats.losses import Losses, unsupported
from omniroute.formats.openai_responses.history import response_id_of
from omniroute.formats.pairing import as_text, pair
from omniroute.formats.profile import Profile, ReasoningStyle
from omniroute.formats.reasoning import is_wanted
from omniroute.formats.thoughts import OFF, ThinkingOf, Thoughts, must_rest
from omniroute.formats.tool_ids import Ids
from omniroute.formats.wire import WireFormat

_KNOWS_RESULTS_BY_NAME: Final = frozenset({WireFormat.GEMINI, WireFormat.OLLAMA})
_TAKES_MODEL_MEDIA: Final = frozenset({WireFormat.GEMINI})


def _nothing_kept(call_id: str) -> None:
    """Know of no reasoning for any call."""


def prepare(
    request: Request,
    profile: Profile,
    losses: Losses,
    *,
    thinking_of: ThinkingOf = _nothing_kept,
    pause: Pause = no_pause,
) -> tuple[Request, Changes]:
    """Return the request fit for its target, and what the answer has to be turned back by.

    Args:
        request: as parsed from the client's format, with fetched media in it (`media.with_fetched`).
        profile: the target.
        losses: collects what is left out.
        thinking_of: reasoning that the gateway kept for a tool call, because the client's format could not carry it.
        pause: called between messages.

    Raises:
        UnsupportedFeature: the target cannot say something that must not be dropped.
        InvalidRequest: media that is none, or a demand for calls without tools.
    """
    thoughts = Thoughts(profile, losses, thinking_of)
    if request.origin is profile.format:
        return _with_own_tokens(request, thoughts), Changes(known_ids=_known_ids(request))
    return _Preparation(request, profile, losses, thoughts).run(pause)


def _known_ids(request: Request) -> frozenset[str]:
    return frozenset(
        block.id
        for message in request.messages
        if message.role is Role.ASSISTANT
        for block in message.blocks
        if type(block) is ToolCall and block.id
    )


# --- a request in the target's own format ----------------------------------------------------------------------------


def _with_own_tokens(request: Request, thoughts: Thoughts) -> Request:
    messages: list[Message] = []
    is_changed = False
    for message in request.messages:
        blocks = _own_tokens(message.blocks, thoughts) if message.role is Role.ASSISTANT else message.blocks
        if blocks is message.blocks:
            messages.append(message)
            continue
        is_changed = True
        if blocks:
            messages.append(msgspec.structs.replace(message, blocks=blocks))
    return msgspec.structs.replace(request, messages=tuple(messages)) if is_changed else request


def _own_tokens(blocks: tuple[Block, ...], thoughts: Thoughts) -> tuple[Block, ...]:
    fitted: list[Block] = []
    is_changed = False
    for block in blocks:
        new: Block | None = block
        if type(block) is Thinking and block.token is None and block.id and response_id_of(block.id):
            new = None  # under an id that we gave it, the vendor looks for it and refuses the whole request
        elif type(block) is Thinking and block.token is not None:
            new = thoughts.fit(block)
        elif type(block) is ToolCall and block.token is not None:
            new = thoughts.fit_call(block)
        if new is not None:
            fitted.append(new)
        is_changed = is_changed or new is not block
    return tuple(fitted) if is_changed else blocks


# --- a request in another format -------------------------------------------------------------------------------------


class _Preparation:
    def __init__(self, request: Request, profile: Profile, losses: Losses, thoughts: Thoughts) -> None:
        self._request = request
        self._profile = profile
        self._losses = losses
        self._thoughts = thoughts
        self._names = foreign.names_for(request, profile)
        self._media = media.Reader(request.origin, profile, losses)
        self._last_said: int | None = None
        self._places: list[tuple[int, int]] = []
        self._leading: list[Message] = []
        self._messages: list[Message] = []
        self._has_thinking = False
        """The assistant turn that is being read has reasoning."""

    def run(self, pause: Pause) -> tuple[Request, Changes]:
        request, profile = self._request, self._profile
        tools = foreign.fit_tools(request, profile, self._names, self._losses)
        system = self._fit_system()
        for index, message in enumerate(request.messages):
            self._take(index, message)
            pause()
        messages = self._trimmed(self._paired(pause))
        pause()
        definitions, choice = tools.tools, tools.choice
        if profile.needs_definitions and not definitions:
            definitions = foreign.stubs(messages)
            choice = foreign.NO_CALL if definitions else None
        prepared = msgspec.structs.replace(
            request,
            system=(*system, *self._leading) if self._leading else system,
            messages=system_text.opened(messages, profile),
            tools=definitions,
            tool_choice=choice,
            parallel_tools=tools.parallel,
            output=tools.output,
        )
        if self._must_rest(prepared, is_forced=tools.output_tool is not None):
            self._losses.drop("reasoning")
            prepared = msgspec.structs.replace(prepared, reasoning=OFF)
        return prepared, Changes(self._names.changed, tools.customs, tools.output_tool, _known_ids(request))

    def _must_rest(self, prepared: Request, *, is_forced: bool) -> bool:
        profile = self._profile
        if must_rest(prepared.messages, prepared.reasoning, profile):
            return True
        # Messages refuses a forced call beside reasoning; the schema is what was asked for, reasoning a knob.
        return (
            is_forced
            and profile.format is WireFormat.ANTHROPIC_MESSAGES
            and profile.reasoning is not ReasoningStyle.NONE
            and is_wanted(prepared.reasoning) is True
        )

    # --- messages ---

    def _fit_system(self) -> tuple[Message, ...]:
        system = system_text.with_roles(self._request.system, self._profile)
        fitted = tuple(self._fit_message(-1, message) for message in system)
        for message in fitted:
            self._check_system(message, "system")
        if all(a is b for a, b in zip(fitted, system, strict=True)):
            return system
        return tuple(message for message in fitted if message.blocks)

    def _take(self, index: int, message: Message) -> None:
        profile = self._profile
        if system_text.is_system(message):
            message = self._fit_message(index, system_text.with_role(message, profile))
            if not message.blocks:
                return
            if self._messages and not profile.takes_inline_system:
                self._messages.append(system_text.as_user_text(message))
                return
            self._check_system(message, self._path(index, 0))
            (self._messages if profile.takes_inline_system else self._leading).append(message)
            return
        if message.role is not Role.ASSISTANT:
            self._has_thinking = False
            self._append(self._fit_message(index, message))
            return
        message = self._fit_message(index, message)
        after: tuple[Block, ...] = ()
        if profile.format not in _TAKES_MODEL_MEDIA and any(type(block) is Media for block in message.blocks):
            said, after = media.said_by_model(message.blocks)
            message = msgspec.structs.replace(message, blocks=said, plain=False)
        self._append(message)
        if after:
            self._append(Message(Role.USER, after))

    def _check_system(self, message: Message, path: str) -> None:
        """Refuse media in system text: only Responses has a place for it."""
        if self._profile.format is WireFormat.OPENAI_RESPONSES:
            return
        for block in message.blocks:
            if isinstance(block, Media):
                raise unsupported(path, f"{self._profile.model} cannot read {block.kind} in system text.")

    def _append(self, message: Message) -> None:
        if message.blocks:
            self._messages.append(message)

    def _fit_message(self, index: int, message: Message) -> Message:
        blocks = self._fit_blocks(index, message)
        if message.role is Role.ASSISTANT:
            blocks = self._with_kept_thinking(blocks)
        if blocks is message.blocks:
            return msgspec.structs.replace(message, is_continued=False) if message.is_continued else message
        is_plain = message.plain and len(blocks) == 1 and type(blocks[0]) is Text
        role = message.role
        if role is Role.TOOL and not self._profile.takes_tools:
            role = Role.USER
        return msgspec.structs.replace(message, role=role, blocks=blocks, plain=is_plain, is_continued=False)

    def _with_kept_thinking(self, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        if not self._thoughts.wants_kept:
            return blocks
        if any(type(block) is ToolCall for block in blocks):
            blocks = self._thoughts.with_kept(blocks, has_thinking=self._has_thinking)
        self._has_thinking = self._has_thinking or any(type(block) is Thinking for block in blocks)
        return blocks

    # --- blocks ---

    def _fit_blocks(self, index: int, message: Message) -> tuple[Block, ...]:
        takes_empty = self._profile.takes_empty_text
        fitted: list[Block] = []
        is_changed = False
        for place, block in enumerate(message.blocks):
            if type(block) is Text:
                if takes_empty or (block.text and not block.text.isspace()):
                    fitted.append(block)
                else:
                    is_changed = True
                continue
            new = self._fit_block(block, index, place, message.role)
            fitted.extend(new)
            is_changed = is_changed or len(new) != 1 or new[0] is not block
        return tuple(fitted) if is_changed else message.blocks

    def _fit_block(self, block: Block, index: int, place: int, role: Role) -> tuple[Block, ...]:
        """Return what stands for a block: itself, another, none, or several."""
        match block:
            case ToolCall():
                return self._fit_call(block)
            case ToolResult():
                result = self._fit_result(block, index, place)
                return (result,) if self._profile.takes_tools else as_text(result)
            case Thinking():
                thinking = self._thoughts.fit(block)
                return () if thinking is None else (thinking,)
            case Media():
                path = self._path(index, place)
                return (self._media.fit(block, path, is_live=role is Role.USER and index == self._last_said_index()),)
            case ServerTool() | Unknown():
                return (foreign.fit_block(block, self._profile, role, self._path(index, place)),)
            case _:
                return (block,)

    def _fit_call(self, call: ToolCall) -> tuple[Block, ...]:
        if not call.name:
            return ()  # no target takes it; its result becomes text
        call = foreign.fit_call(self._thoughts.fit_call(call), self._profile, self._names)
        return (call,) if self._profile.takes_tools else (foreign.call_as_text(call),)

    def _fit_result(self, result: ToolResult, index: int, place: int) -> ToolResult:
        takes_empty = self._profile.takes_empty_text
        fitted: list[Text | Media | ServerTool | Unknown] = []
        is_changed = False
        for block in result.blocks:
            new: Text | Media | ServerTool | Unknown = block
            if isinstance(block, Text):
                if not takes_empty and (not block.text or block.text.isspace()):
                    is_changed = True
                    continue
            elif isinstance(block, Media):
                new = self._media.fit(block, self._path(index, place), is_live=False)
            else:
                new = foreign.fit_block(block, self._profile, Role.TOOL, self._path(index, place))
            fitted.append(new)
            is_changed = is_changed or new is not block
        name = self._names.sent(result.name) if result.name else None
        if not is_changed:
            return result if name == result.name else msgspec.structs.replace(result, name=name)
        is_plain = result.plain and len(fitted) == 1
        return msgspec.structs.replace(result, blocks=tuple(fitted), name=name, plain=is_plain)

    # --- the whole conversation ---

    def _paired(self, pause: Pause) -> tuple[Message, ...]:
        profile = self._profile
        messages = tuple(self._messages)
        if len(messages) == len(self._request.messages) and all(
            a is b for a, b in zip(messages, self._request.messages, strict=True)
        ):
            messages = self._request.messages
        if not profile.takes_tools:
            return messages
        ids = Ids(profile.id_rule, profile.format)
        needs_names = profile.format in _KNOWS_RESULTS_BY_NAME
        if profile.takes_result_media:
            return pair(messages, ids, needs_names=needs_names, pause=pause)
        return pair(messages, ids, settle=media.moved_out, needs_names=needs_names, pause=pause)

    def _trimmed(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Return the conversation without white space at the end of words put into the model's mouth.

        Targets that take no empty text refuse it there.
        """
        if self._profile.takes_empty_text or not messages or messages[-1].role is not Role.ASSISTANT:
            return messages
        *before, last = messages[-1].blocks
        if not isinstance(last, Text) or last.text == (text := last.text.rstrip()):
            return messages
        blocks = (*before, msgspec.structs.replace(last, text=text))
        return (*messages[:-1], msgspec.structs.replace(messages[-1], blocks=blocks))

    def _last_said_index(self) -> int:
        """Return which message holds what the user says now; what tools gave back since then does not count."""
        if self._last_said is None:
            self._last_said = -1
            for index, message in enumerate(self._request.messages):
                if message.role is Role.USER and any(type(block) is not ToolResult for block in message.blocks):
                    self._last_said = index
        return self._last_said

    def _path(self, index: int, place: int) -> str:
        """Return where a block is, in the client's words as far as they can be told from here."""
        origin = self._request.origin
        if index < 0:
            return "system"
        if origin is WireFormat.OPENAI_RESPONSES:
            return "input"  # an item is not a message
        if not self._places:
            self._places = _client_places(self._request.messages)
        index, start = self._places[index]
        place += start
        match origin:
            case WireFormat.GEMINI:
                return f"contents.{index}.parts.{place}"
            case WireFormat.OLLAMA:
                return f"messages.{index + len(self._request.system)}.images"
            case WireFormat.OPENAI_CHAT:
                return f"messages.{index + len(self._request.system)}.content.{place}"
            case _:
                return f"messages.{index}.content.{place}"


def _client_places(messages: tuple[Message, ...]) -> list[tuple[int, int]]:
    """Return for each message the number of the client's own and how many of its blocks stand before.

    What stood in one message may have become several.
    """
    places: list[tuple[int, int]] = []
    number, start = -1, 0
    for message in messages:
        if not message.is_continued or number < 0:
            number, start = number + 1, 0
        places.append((number, start))
        start += len(message.blocks)
    return places

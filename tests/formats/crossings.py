"""What has to survive when a request or an answer crosses from one format into another, and how that is compared.

A request is looked at through :func:`seen`, an answer through :func:`answered`: plain values from which is gone what
formats spell differently without meaning anything different. This list is all of it; whatever else differs must be a
declared loss (`omniroute/formats/losses.py`).

Requests:

1. A string is a list of one text; texts next to each other are one, blank ones are none, and white space is not
   compared: formats that have one string join their texts, with or without a line between, and some targets take no
   blank text. That a text which stands alone keeps every character is a test of its own.
2. Neighbouring messages of one speaker are one turn. Some formats write each item as a message, others demand that
   the speakers alternate; Gemini and Messages begin with the user, some models end with him: he says a fixed text.
3. `developer` is `system`: one rank under two names.
4. Later system text that stood in the fixed tag of the user's text is system text: formats without a place for it
   carry it so. System text that leads the conversation is one text, wherever the format puts it.
5. A failed result is one whose text begins with the fixed mark: two formats have no flag.
6. No arguments are the empty object: formats with objects know nothing else.
7. Media inside results and in what the model said follows in a user message behind a fixed note, where the format
   takes it nowhere else. A text file is a text in a fixed frame; one format has no names for files.
8. Free text of a custom tool is the `input` of a function, and its definition that of such a function.
9. What a provider's own tool did is the note that says so. A refusal of an earlier turn is a text; its place among the
   texts of its turn is not compared, since Chat has one place for it.
10. The name that a result carries is that of its call, whether the format repeats it or not. A missing result, and
    one that belongs to no call, are the fixed texts that stand for them.
11. JSON mode is a fixed sentence at the end of the system text, where the format has no member for it.
12. Schemas are compared as the common subset of all dialects, roots as objects; a schema without a name gets one.
13. An output limit that was not said may be filled in (one format demands it), one below Responses' least is raised to
    it; stops are compared without blank ones.
14. How hard to think is compared as whether to think at all, where both say it: the scales are finer in some formats
    than in others (`test_reasoning.py` compares the scales), leaving it to the model is no word in three of them, and
    Gemini's newer models cannot be told not to. Room for thoughts is added to the output limit.
15. A temperature or `top_p` of 1 changes nothing, and the tiers `auto` and `default` are what is served anyway. `auto`
    is also what an unsaid choice means, and "parallel" what an unsaid switch means, or one beside `none`. A format
    without choices is sent the tools that may be called and no others.
16. Ids of calls are compared by themselves, where the format has any (property 5 of the round trips); here the calls
    of a conversation are numbered.

Answers:

17. As 1, 6 and 9. Texts, reasoning, refusals and calls are compared each among themselves: some formats have one place
    for each kind. Media that a format cannot show is a note.
18. Reasons that the format has no word for are the nearest one (wire formats, table of stop reasons).
19. Counts that the format has no member for are not there.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final, TypeGuard

import msgspec

from omniroute.formats.anthropic_messages.output_schema import constrainable
from omniroute.formats.anthropic_messages.request_renderer import JSON_ONLY
from omniroute.formats.anthropic_messages.turns import OPENING as FIRST_TURN
from omniroute.formats.canonical import (
    Answer,
    Block,
    CallKind,
    ChoiceMode,
    Media,
    MediaKind,
    Message,
    Output,
    Refusal,
    Request,
    Role,
    ServerTool,
    ServerToolDefinition,
    SourceKind,
    Stop,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Unknown,
    stop_of,
)
from omniroute.formats.canonical import ToolChoice as Choice
from omniroute.formats.media import moved_out, normalised, said_by_model
from omniroute.formats.openai_chat.message_parser import TOOL_ERROR
from omniroute.formats.pairing import pair
from omniroute.formats.profile import DEFAULTS, IdRule, Profile, ReasoningStyle, profile_for
from omniroute.formats.reasoning import is_wanted
from omniroute.formats.schemas import as_object, reduce
from omniroute.formats.system_text import OPENING, TAG
from omniroute.formats.tool_ids import Ids
from omniroute.formats.wire import WireFormat
from tests.formats.strategies import PNG

CHAT, RESPONSES = WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES
MESSAGES, GEMINI, OLLAMA = WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI, WireFormat.OLLAMA
FORMATS: Final = tuple(DEFAULTS)
PAIRS: Final = tuple((client, target) for client in FORMATS for target in FORMATS if client is not target)

_STYLES: Final = {
    CHAT: ReasoningStyle.EFFORT,
    RESPONSES: ReasoningStyle.EFFORT,
    MESSAGES: ReasoningStyle.BUDGET,
    GEMINI: ReasoningStyle.GEMINI_LEVEL,
    OLLAMA: ReasoningStyle.SWITCH,
}
_PAGES: Final = frozenset({MediaKind.IMAGE, MediaKind.DOCUMENT})
_MEDIA: Final = {
    CHAT: _PAGES | {MediaKind.AUDIO},
    RESPONSES: _PAGES | {MediaKind.AUDIO},
    MESSAGES: _PAGES,
    GEMINI: frozenset(MediaKind),
    OLLAMA: frozenset({MediaKind.IMAGE}),
}
_NAMED_FRAME: Final = re.compile(r'<documentname="[^"]*">')
_LEAST_OUTPUT: Final = 16
_OPENINGS: Final = (OPENING, FIRST_TURN, "(start of the conversation)", "Continue.")
FETCHED: Final = ("image/png", PNG)


def able(wire_format: WireFormat, **facts: object) -> Profile:
    """A model of a format that can do whatever the format can say."""
    can: dict[str, object] = {
        "takes": _MEDIA[wire_format],
        "reasoning": _STYLES[wire_format],
        "is_vendor": True,
        "takes_custom_tools": wire_format in (CHAT, RESPONSES),
    }
    return profile_for(wire_format, "the-model", **{**can, **facts})


# --- requests --------------------------------------------------------------------------------------------------------


def seen(request: Request) -> dict[str, Any]:
    """Return what a request says, however its format spells it."""
    system = tuple(message for message in request.system if message.blocks)
    turns = _turns((*system, *request.messages))
    choice = request.tool_choice
    may_not_call = choice is not None and choice.mode is ChoiceMode.NONE
    limit = choice.names if choice is not None and choice.mode is not ChoiceMode.NAMED else ()
    tools = {
        tool.name: _tool(tool)
        for tool in request.tools
        if isinstance(tool, Tool) and not _is_stub(tool) and (not limit or tool.name in limit)
    }
    said: dict[str, Any] = {
        "turns": turns,
        "tools": tools,
        "tool_choice": _choice(request.tool_choice) if tools else None,
        "parallel_tools": request.parallel_tools is not False or not tools or may_not_call,
        "server_tools": [tool.type for tool in request.tools if isinstance(tool, ServerToolDefinition)],
        "reasoning": is_wanted(request.reasoning),
        "output": _output(request.output),
        "stop": tuple(stop for stop in request.stop if stop.strip()),
        "n": None if request.n == 1 else request.n,
        "logprobs": bool(request.logprobs or request.top_logprobs),
        "store": bool(request.store),
    }
    for name in ("logit_bias", "metadata", "audio_output"):
        value = getattr(request, name)
        said[name] = None if value is None else plain(value)
    for name in _SAME:
        said[name] = getattr(request, name)
    if said["service_tier"] in ("auto", "default"):
        said["service_tier"] = None
    for name in ("temperature", "top_p"):
        if said[name] == 1:
            said[name] = None
    return said


_SAME: Final = (
    "max_output",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "top_logprobs",
    "verbosity",
    "user",
    "cache_key",
    "service_tier",
    "previous_id",
    "stream",
)


def plain(text: bytes | msgspec.Raw | str) -> Any:
    """Return JSON by value, every digit of a number counting."""
    return json.loads(text if isinstance(text, str) else bytes(text), parse_float=Decimal, parse_int=Decimal)


def calls_of(request: Request) -> list[tuple[str, str, str, str]]:
    """Return id, name, arguments and kind of every call, in order."""
    return [
        (block.id, block.name, block.arguments, block.kind.value)
        for message in request.messages
        for block in message.blocks
        if isinstance(block, ToolCall)
    ]


def results_of(request: Request) -> list[tuple[str, bool]]:
    """Return the call that each result belongs to and whether it failed, in order."""
    return [
        (block.call_id, block.is_error or _text_of(block.blocks).startswith(TOOL_ERROR))
        for message in request.messages
        for block in message.blocks
        if isinstance(block, ToolResult)
    ]


def differences(start: Request, back: Request, via: WireFormat, lost: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    """Return what changed on the way through a format and back, and is no declared loss."""
    before, after = without_json_note(seen(start)), without_json_note(seen(back))
    gone = {path.split(".")[0] for path in lost}
    if "tools.server" in {path[:12] for path in lost}:
        gone.add("server_tools")
    if "tools.strict" in {path[:12] for path in lost}:
        before, after = _unstrict(before), _unstrict(after)
    gone.discard("tools")
    if "tool_choice" in gone:  # a demand becomes a suggestion, made by what is there to be called
        gone.add("tools")
    if start.tool_choice is not None and OLLAMA in (via, start.origin):
        gone |= {"tool_choice", "tools"}
    if OLLAMA in (via, start.origin):
        before, after = _media_apart(before), _media_apart(after)
    if any(isinstance(block, Refusal) for message in start.messages for block in message.blocks):
        before, after = _in_any_order(before), _in_any_order(after)
    if None in (before["reasoning"], after["reasoning"]) or (before["reasoning"] is False and via is GEMINI):
        gone.add("reasoning")
    if before["max_output"] != after["max_output"]:
        is_filled = before["max_output"] is None and MESSAGES in (via, start.origin)
        is_raised = before["reasoning"] and (after["max_output"] or 0) >= (before["max_output"] or 0)
        is_least = before["max_output"] is not None and before["max_output"] < after["max_output"] == _LEAST_OUTPUT
        if is_filled or is_raised or is_least:
            gone.add("max_output")
    return {name: (before[name], after[name]) for name in before if name not in gone and before[name] != after[name]}


def _unstrict(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "tools": {name: tool[:2] for name, tool in said["tools"].items()}}


def _media_apart(said: dict[str, Any]) -> dict[str, Any]:
    """Ollama has images beside the text of a message, not in it."""
    turns: list[tuple[str, list[Any]]] = []
    for role, items in said["turns"]:
        rest = [item for item in items if item[0] != "media"]
        if turns and rest and turns[-1][0] == role:
            turns[-1] = (role, _joined([*turns[-1][1], *rest]))
        elif rest:
            turns.append((role, _joined(rest)))
    media = [item for _, items in said["turns"] for item in items if item[0] == "media"]
    return {**said, "turns": turns, "media": media}


def _in_any_order(said: dict[str, Any]) -> dict[str, Any]:
    """Chat has one place for the refusal of a message, beside its text."""
    turns = [
        (role, [(item[0], *map(str, item[1:-1]), sorted(str(item[-1]))) for item in items])
        for role, items in said["turns"]
    ]
    return {**said, "turns": turns}


def sayable(request: Request, target: WireFormat) -> Request:
    """Return a request without what must be refused where it goes."""
    takes = _MEDIA[target] & _MEDIA[request.origin]

    def is_sayable(block: Block) -> bool:
        if isinstance(block, Media):
            return block.source is SourceKind.TEXT or (block.kind in takes and block.source is not SourceKind.FILE_ID)
        if isinstance(block, ServerTool):
            return "compaction" not in str(plain(block.raw).get("type"))
        return not isinstance(block, Unknown)

    messages = (
        msgspec.structs.replace(message, blocks=tuple(filter(is_sayable, message.blocks)))
        for message in request.messages
    )
    tools = tuple(tool for tool in request.tools if isinstance(tool, Tool))
    return msgspec.structs.replace(
        request,
        messages=tuple(message for message in messages if message.blocks),
        tools=tools,
        tool_choice=request.tool_choice if tools else None,
        n=None,
        previous_id=None,
        audio_output=None,
        extra={name: value for name, value in request.extra.items() if name not in STATE},
    )


STATE: Final = frozenset({"conversation", "prompt", "container", "mcp_servers", "cachedContent", "cached_content"})


def _turns(messages: Iterable[Message]) -> list[tuple[str, list[Any]]]:
    turns: list[tuple[str, list[Any]]] = []
    numbers = _Numbers()
    paired = pair(tuple(messages), Ids(IdRule.LONG, RESPONSES))
    for message in _settled(paired):
        items = [item for item in _items(message, numbers) if item[0] != "text" or _squeezed(item[1])]
        if not items:
            continue
        role = _role(message)
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(items)
        else:
            turns.append((role, items))
    turns = [(role, _joined(items)) for role, items in turns]
    openings = [("user", [("text", _squeezed(text))]) for text in _OPENINGS]
    return [turn for turn in turns if turn not in openings]


class _Numbers:
    """Numbers the calls of a conversation: which result belongs to which, whatever their ids are."""

    def __init__(self) -> None:
        self._count = 0
        self._open: dict[str, list[int]] = {}

    def of_call(self, call: ToolCall) -> int:
        self._count += 1
        self._open.setdefault(call.id, []).append(self._count)
        return self._count

    def of_result(self, result: ToolResult) -> int:
        waiting = self._open.get(result.call_id)
        return waiting.pop(0) if waiting else 0


def _role(message: Message) -> str:
    if message.role in (Role.SYSTEM, Role.DEVELOPER):
        return "system"
    return "user" if message.role is Role.TOOL else message.role.value


def _settled(messages: Iterable[Message]) -> Iterator[Message]:
    """Yield the conversation with tagged system text as such, and media where every format can have it."""
    for message in messages:
        blocks = message.blocks
        if message.role is Role.USER and any(_is_tagged(block) for block in blocks):
            for block in blocks:
                yield from _untagged(block)
            continue
        results = tuple(block for block in blocks if isinstance(block, ToolResult))
        if results:
            kept, after = moved_out([_with_text(result) for result in results])
            yield msgspec.structs.replace(message, blocks=kept)
            rest = tuple(block for block in blocks if not isinstance(block, ToolResult))
            yield Message(Role.USER, (*after, *rest))
        elif message.role is Role.ASSISTANT and any(isinstance(block, Media) for block in blocks):
            said, after = said_by_model(blocks)
            yield msgspec.structs.replace(message, blocks=said)
            yield Message(Role.USER, after)
        else:
            yield message


def _with_text(result: ToolResult) -> ToolResult:
    blocks = tuple(Text(_framed(block)) if _is_text_file(block) else block for block in result.blocks)
    return msgspec.structs.replace(result, blocks=blocks)


def _is_text_file(block: Block) -> TypeGuard[Media]:
    return isinstance(block, Media) and block.source is SourceKind.TEXT


def _is_tagged(block: Block) -> bool:
    return isinstance(block, Text) and f"<{TAG}>" in block.text


def _untagged(block: Block) -> Iterator[Message]:
    """A format of one string may have joined the tagged text with its neighbours."""
    if not isinstance(block, Text):
        yield Message(Role.USER, (block,))
        return
    rest = block.text
    while f"<{TAG}>\n" in rest:
        before, _, rest = rest.partition(f"<{TAG}>\n")
        inner, _, rest = rest.partition(f"\n</{TAG}>")
        yield Message(Role.USER, (Text(before),))
        yield Message(Role.SYSTEM, (Text(inner),))
    yield Message(Role.USER, (Text(rest),))


def _items(message: Message, numbers: _Numbers) -> Iterator[Any]:
    for block in message.blocks:
        match block:
            case Text(text=text) | Refusal(text=text):
                yield "text", text
            case ServerTool(note=note):
                yield "text", note
            case Media(source=SourceKind.TEXT):
                yield "text", _framed(block)
            case Media(source=SourceKind.INLINE):
                inline = normalised(block, "")
                is_text = (inline.mime or "").startswith("text/")
                if is_text:
                    framed = msgspec.structs.replace(inline, data=b64decode(inline.data).decode())
                    yield "text", _framed(framed)
                else:
                    yield "media", inline.data
            case Media():
                yield "media", block.data
            case ToolCall():
                yield "call", numbers.of_call(block), block.name, _arguments(block)
            case ToolResult():
                text = _text_of(block.blocks)
                is_error = block.is_error or text.startswith(TOOL_ERROR.rstrip())
                yield "result", numbers.of_result(block), _squeezed(text.removeprefix(TOOL_ERROR.rstrip())), is_error
            case Thinking():
                pass  # compared by whoever knows whether it may be shown
            case Unknown():
                yield "text", f"[{plain(block.raw).get('type', 'unknown')}]"


def _framed(media: Media) -> str:
    opening = f'<document name="{media.name}">' if media.name else "<document>"
    return f"{opening}\n{media.data}\n</document>"


def _joined(items: Iterable[Any]) -> list[Any]:
    joined: list[Any] = []
    for item in items:
        if item[0] != "text":
            joined.append(item)
        elif joined and joined[-1][0] == "text":
            joined[-1] = ("text", joined[-1][1] + _squeezed(item[1]))
        else:
            joined.append(("text", _squeezed(item[1])))
    return joined


def _squeezed(text: str) -> str:
    return _NAMED_FRAME.sub("<document>", "".join(text.split()))


def _text_of(blocks: Iterable[Block]) -> str:
    texts = []
    for block in blocks:
        if isinstance(block, Text):
            texts.append(block.text)
        elif isinstance(block, ServerTool):
            texts.append(block.note)
        elif isinstance(block, Unknown):
            texts.append(bytes(block.raw).decode())
    return "\n\n".join(text for text in texts if text.strip())


def _arguments(call: ToolCall) -> Any:
    if call.kind is CallKind.CUSTOM:
        return {"input": call.arguments}
    try:
        return plain(call.arguments) if call.arguments.strip() else {}
    except ValueError:
        return {"raw_arguments": call.arguments}


def _is_stub(tool: Tool) -> bool:
    return (tool.description or "").startswith("Was used earlier in this conversation")


def _tool(tool: Tool) -> tuple[Any, ...]:
    schema = plain(reduce(as_object(tool.schema)))
    said = (tool.description or "").partition("\n\nThe input must match this grammar")[0]
    if tool.kind is CallKind.CUSTOM or list(schema.get("properties", ())) == ["input"]:
        return said, "free text"
    return said, schema, bool(tool.strict)


def _choice(choice: Choice | None) -> tuple[str, tuple[str, ...]]:
    if choice is None:
        return ChoiceMode.AUTO.value, ()
    if choice.mode is ChoiceMode.REQUIRED and len(choice.names) == 1:
        return ChoiceMode.NAMED.value, choice.names
    return choice.mode.value, choice.names if choice.mode is ChoiceMode.NAMED else ()


def _output(output: Output | None) -> Any:
    if output is None:
        return None
    return "json" if output.schema is None else plain(reduce(constrainable(output.schema)))


def without_json_note(said: dict[str, Any]) -> dict[str, Any]:
    """Undo what stands for JSON mode where the format has no member for it (11)."""
    note = _squeezed(JSON_ONLY)
    turns = []
    found = said["output"]
    for role, items in said["turns"]:
        kept = []
        for item in items:
            if role == "system" and item[0] == "text" and note in item[1]:
                found = "json"
                if item[1] != note:
                    kept.append(("text", item[1].replace(note, "")))
            else:
                kept.append(item)
        if kept:
            turns.append((role, kept))
    return {**said, "turns": turns, "output": found}


# --- answers ---------------------------------------------------------------------------------------------------------

_WITHOUT_REFUSALS: Final = frozenset({MESSAGES, GEMINI, OLLAMA})
_STOPS: Final[dict[WireFormat, dict[Stop, Stop]]] = {
    CHAT: {Stop.STOP_SEQUENCE: Stop.END, Stop.CONTEXT_FULL: Stop.LENGTH, Stop.PAUSE: Stop.END},
    RESPONSES: {Stop.STOP_SEQUENCE: Stop.END, Stop.CONTEXT_FULL: Stop.LENGTH, Stop.PAUSE: Stop.END},
    MESSAGES: {},
    GEMINI: {Stop.STOP_SEQUENCE: Stop.END, Stop.CONTEXT_FULL: Stop.LENGTH, Stop.PAUSE: Stop.END},
    OLLAMA: {
        Stop.STOP_SEQUENCE: Stop.END,
        Stop.CONTEXT_FULL: Stop.LENGTH,
        Stop.PAUSE: Stop.END,
        Stop.REFUSAL: Stop.END,
    },
}
"""What reasons become for a client whose format has no word of its own for them."""
_COUNTS: Final = {
    CHAT: ("input", "output", "cache_read", "reasoning", "audio_in", "audio_out"),
    RESPONSES: ("input", "output", "cache_read", "reasoning"),
    MESSAGES: ("input", "output", "cache_read", "cache_write", "cache_write_1h"),
    GEMINI: ("input", "output", "cache_read", "reasoning"),
    OLLAMA: ("input", "output"),
}
"""The counts that each format has a member for."""
CANNOT_SHOW: Final = "which this format cannot show"
_MEDIA_NOTE: Final = re.compile(rf"\[\w+oftype[^\[\]]*,{''.join(CANNOT_SHOW.split())}\]")


def answered(answer: Answer, client: WireFormat, notes: Iterable[str] = ()) -> dict[str, Any]:
    """Return what an answer says, as far as a client of a format can be told; `notes` are those of the original."""
    texts: list[str] = []
    thoughts: list[str] = []
    refusals: list[str] = []
    notes = list(notes)
    for block in answer.blocks:
        match block:
            case Text(text=text):
                texts.append(text)
            case Thinking(text=text):
                thoughts.append(text)
            case Refusal(text=text):
                (texts if client in _WITHOUT_REFUSALS else refusals).append(text)
            case ServerTool(note=note):
                notes.append(_squeezed(note))
            case _:
                pass
    said = _squeezed("".join(texts))
    for note in notes:
        said = said.replace(note, "")
    stop = stop_of(answer.stop, answer.calls)
    return {
        "text": _MEDIA_NOTE.sub("", said),
        "thinking": _squeezed("".join(thoughts)),
        "refusal": _squeezed("".join(refusals)),
        "calls": [(call.id if client is not OLLAMA else "", call.name, _arguments(call)) for call in answer.calls],
        "stop": _STOPS[client].get(stop, stop),
        "stop_sequence": answer.stop_sequence if client is MESSAGES else None,
        "usage": {name: getattr(answer.usage, name) or 0 for name in _COUNTS[client]},
    }


def media_of(answer: Answer) -> list[Media]:
    """Return the media of an answer; a client gets its bytes, or is told that they were there."""
    return [block for block in answer.blocks if isinstance(block, Media)]


def notes_of(answer: Answer) -> list[str]:
    """Return what an answer says of the provider's own tools, as far as a client of another format is told."""
    return [_squeezed(block.note) for block in answer.blocks if isinstance(block, ServerTool)]

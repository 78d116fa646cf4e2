"""A client's Responses request as a canonical one."""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.errors import MissingField
from omniroute.formats.canonical import (
    NO_EXTRA,
    AnyTool,
    Effort,
    Message,
    Output,
    Reasoning,
    Request,
    Role,
    Text,
    Tool,
    ToolChoice,
)
from omniroute.formats.codec import Pause
from omniroute.formats.openai_responses.input_parser import InputReader
from omniroute.formats.openai_responses.members import LIST, TEXT, Members, encoded, is_list, is_text
from omniroute.formats.openai_responses.tools import Names, parse_choice, parse_tools
from omniroute.formats.wire import WireFormat

LOGPROBS: Final = "message.output_text.logprobs"
SEALED_REASONING: Final = "reasoning.encrypted_content"
_GIVEN: Final = frozenset({LOGPROBS, SEALED_REASONING})
_EFFORTS: Final = {effort.value: effort for effort in Effort}
_INCLUDED: Final = msgspec.json.Decoder(list[str])


def parse_request(body: bytes, pause: Pause) -> Request:
    """Parse a body; see :class:`omniroute.formats.codec.RequestParser`."""
    top = Members(body, "")
    pause()
    model = top.needed_text("model")
    names = Names()
    listed = top.list("tools")
    tools: list[AnyTool] = [] if listed is None else parse_tools(listed, "tools", names)
    if listed == []:
        top.spell("tools", encoded([]))
    choice = top.raw("tool_choice")
    tool_choice: ToolChoice | None = None if choice is None else parse_choice(choice, names)
    system = _instructions(top)
    reader = InputReader(names)
    _read_input(top, reader, pause)
    if reader.tools:
        known = {tool.name for tool in tools if isinstance(tool, Tool)}
        tools += [tool for tool in reader.tools if tool.name not in known]
    if reader.placed:
        top.note("items", encoded(reader.placed))
    output, verbosity = _text(top)
    return Request(
        WireFormat.OPENAI_RESPONSES,
        model,
        tuple(reader.messages),
        system,
        tuple(tools),
        tool_choice,
        parallel_tools=top.flag("parallel_tool_calls"),
        max_output=top.integer("max_output_tokens"),
        temperature=top.number("temperature"),
        top_p=top.number("top_p"),
        logprobs=_wants_logprobs(top),
        top_logprobs=top.integer("top_logprobs"),
        reasoning=_reasoning(top),
        output=output,
        verbosity=verbosity,
        user=_user(top),
        metadata=top.raw("metadata"),
        cache_key=top.text("prompt_cache_key"),
        service_tier=top.text("service_tier"),
        store=top.flag("store"),
        previous_id=top.text("previous_response_id"),
        stream=_stream(top),
        extra=top.rest(),
    )


def _instructions(top: Members) -> tuple[Message, ...]:
    text = top.text("instructions")
    return () if text is None else (Message(Role.SYSTEM, (Text(text),), plain=True),)


def _read_input(top: Members, reader: InputReader, pause: Pause) -> None:
    raw = top.raw("input")
    if raw is None:
        if not any(name in top for name in ("previous_response_id", "conversation", "prompt")):
            raise MissingField("Missing required parameter: 'input'.", param="input")
        top.note("no_input", value=True)
    elif is_text(raw):
        try:
            text = TEXT.decode(raw)
        except msgspec.DecodeError:
            raise top.wrong("input", "a string or an array") from None
        reader.messages.append(Message(Role.USER, (Text(text),), plain=True, extra={"==input": encoded(value=True)}))
    elif is_list(raw):
        items = LIST.decode(raw)
        pause()
        reader.read(items, pause)
    else:
        raise top.wrong("input", "a string or an array")


def _stream(top: Members) -> bool:
    stream = top.flag("stream")
    if stream is False:
        top.spell("stream", encoded(value=False))
    return bool(stream)


def _wants_logprobs(top: Members) -> bool | None:
    include = top.peek("include")
    if not is_list(include):
        return None
    try:
        included = _INCLUDED.decode(include)
    except msgspec.DecodeError:
        raise top.wrong("include", "an array of strings") from None
    if _GIVEN.issuperset(included):
        top.spell_as_is("include")  # answers have these from any provider that gives them
    return True if LOGPROBS in included else None


def _user(top: Members) -> str | None:
    """Return the user's id: `safety_identifier`, or `user` as it was called before."""
    user = top.text("safety_identifier")
    older = top.peek("user")
    if user is not None or older is None:
        return user
    user = top.text("user")
    if user is not None:
        top.spell("user", older)
    return user


def _reasoning(top: Members) -> Reasoning | None:
    raw = top.raw("reasoning")
    if raw is None:
        return None
    members = Members(raw, "reasoning")
    word, summary = members.text("effort"), members.text("summary")
    effort = None if word is None else _EFFORTS.get(word)
    if word is not None and effort is None:
        members.keep("effort", encoded(word))  # a word of the future
    return Reasoning(effort, summary=summary, extra=members.rest())


def _text(top: Members) -> tuple[Output | None, str | None]:
    raw = top.raw("text")
    if raw is None:
        return None, None
    members = Members(raw, "text")
    verbosity = members.text("verbosity")
    shape = members.raw("format")
    output: Output | None = None
    is_usual = shape is not None
    if shape is not None:
        form = Members(shape, "text.format")
        kind = form.needed_text("type")
        if kind == "json_object":
            output = Output(extra=form.rest())
        elif kind == "json_schema":
            schema = form.raw("schema")
            if schema is None:
                raise MissingField("Missing required parameter: 'text.format.schema'.", param="text.format.schema")
            output = Output(
                schema,
                form.needed_text("name"),
                form.text("description"),
                form.flag("strict"),
                extra=form.rest(),
            )
        else:
            is_usual = False
    if not is_usual or members.rest() is not NO_EXTRA:
        top.spell("text", raw)
    return output, verbosity

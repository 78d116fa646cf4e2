"""What only the client's format knows is said in other words, declared as lost, or refused."""

from __future__ import annotations

import json

import msgspec
import pytest

from omniroute.errors import InvalidRequest, UnsupportedFeature
from omniroute.formats.canonical import (
    AnyTool,
    Block,
    CallKind,
    ChoiceMode,
    Effort,
    Message,
    Output,
    Reasoning,
    Request,
    Role,
    ServerTool,
    ServerToolDefinition,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Unknown,
)
from omniroute.formats.changes import Changes
from omniroute.formats.losses import Losses
from omniroute.formats.prepare import prepare
from omniroute.formats.profile import DEFAULTS, Profile, ReasoningStyle, profile_for
from omniroute.formats.wire import WireFormat

_CHAT, _RESPONSES = WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES
_MESSAGES, _GEMINI, _OLLAMA = WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI, WireFormat.OLLAMA
_PAIRS = [(client, target) for client in DEFAULTS for target in DEFAULTS if client is not target]

_SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"x":{"type":"integer"}},"required":["x"]}')
_F, _G = Tool("f", "Does f.", _SCHEMA), Tool("g", None, _SCHEMA)
_SEARCH = ServerToolDefinition(_RESPONSES, "web_search", msgspec.Raw(b'{"type":"web_search"}'))
_HELLO = (Message(Role.USER, (Text("hello"),), plain=True),)


def _profile(target: WireFormat, **facts: object) -> Profile:
    return profile_for(target, "the-model", **facts)


def _prepare(request: Request, profile: Profile) -> tuple[Request, Changes, tuple[str, ...]]:
    losses = Losses(profile.format)
    prepared, changes = prepare(request, profile, losses)
    return prepared, changes, losses.paths


def _request(
    *tools: AnyTool, choice: ToolChoice | None = None, origin: WireFormat = _RESPONSES, **more: object
) -> Request:
    request = Request(origin, "m", _HELLO, tools=tools, tool_choice=choice)
    return msgspec.structs.replace(request, **more)


# --- tool choice ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("client", "target"), _PAIRS)
@pytest.mark.parametrize(
    "choice",
    [
        None,
        *(ToolChoice(mode) for mode in ChoiceMode if mode is not ChoiceMode.NAMED),
        ToolChoice(ChoiceMode.NAMED, ("f",)),
    ],
)
def test_t11_every_choice_stays_what_it_is(client: WireFormat, target: WireFormat, choice: ToolChoice | None) -> None:
    prepared, _, losses = _prepare(_request(_F, _G, choice=choice, origin=client), _profile(target))
    assert prepared.tool_choice is choice
    assert prepared.tools == (_F, _G)
    assert losses == ()


@pytest.mark.parametrize("target", [_CHAT, _MESSAGES, _GEMINI, _OLLAMA])
def test_t12_without_tools_there_is_no_choice_and_no_switch(target: WireFormat) -> None:
    request = _request(choice=ToolChoice(ChoiceMode.AUTO), parallel_tools=False)
    prepared, _, _ = _prepare(request, _profile(target))
    assert (prepared.tools, prepared.tool_choice, prepared.parallel_tools) == ((), None, None)


@pytest.mark.parametrize("parallel", [None, True, False])
def test_t12_the_switch_for_parallel_calls_stays(parallel: bool | None) -> None:
    prepared, _, _ = _prepare(_request(_F, parallel_tools=parallel), _profile(_MESSAGES))
    assert prepared.parallel_tools is parallel


@pytest.mark.parametrize("choice", [ToolChoice(ChoiceMode.REQUIRED), ToolChoice(ChoiceMode.NAMED, ("f",))])
def test_a_call_demanded_without_tools_is_the_clients_fault(choice: ToolChoice) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _prepare(_request(choice=choice), _profile(_CHAT))
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize("mode", [ChoiceMode.AUTO, ChoiceMode.REQUIRED])
@pytest.mark.parametrize(("target", "is_vendor"), [(_MESSAGES, True), (_OLLAMA, False), (_CHAT, False)])
def test_a_limit_on_the_choice_reduces_the_tools(mode: ChoiceMode, target: WireFormat, is_vendor: bool) -> None:
    choice = ToolChoice(mode, ("g",))
    origin = _GEMINI
    prepared, _, _ = _prepare(_request(_F, _G, choice=choice, origin=origin), _profile(target, is_vendor=is_vendor))
    assert prepared.tools == (_G,)
    assert prepared.tool_choice == ToolChoice(mode)


@pytest.mark.parametrize(("target", "is_vendor"), [(_RESPONSES, True), (_GEMINI, True), (_CHAT, True)])
def test_a_limit_on_the_choice_stays_where_it_can_be_said(target: WireFormat, is_vendor: bool) -> None:
    choice = ToolChoice(ChoiceMode.AUTO, ("g",))
    request = _request(_F, _G, choice=choice, origin=_MESSAGES)
    prepared, _, _ = _prepare(request, _profile(target, is_vendor=is_vendor))
    assert (prepared.tools, prepared.tool_choice) == ((_F, _G), choice)


# --- names ----------------------------------------------------------------------------------------------------------


def test_t06_names_change_everywhere_and_the_way_back_is_known() -> None:
    tool = Tool("files.read", None, _SCHEMA)
    messages = (
        *_HELLO,
        Message(Role.ASSISTANT, (ToolCall("a", "files.read", "{}"), ToolCall("b", "", "{}"))),
        Message(Role.TOOL, (ToolResult("a", (Text("1"),), name="files.read"), ToolResult("b", (Text("2"),)))),
    )
    request = _request(tool, Tool(""), choice=ToolChoice(ChoiceMode.NAMED, ("files.read",)), messages=messages)
    prepared, changes, losses = _prepare(request, _profile(_CHAT))
    (sent,) = changes.names
    assert changes.names[sent] == "files.read"
    assert prepared.tools == (msgspec.structs.replace(tool, name=sent),)
    assert prepared.tool_choice == ToolChoice(ChoiceMode.NAMED, (sent,))
    assert prepared.messages[1].blocks == (ToolCall("a", sent, "{}"),)
    assert prepared.messages[2].blocks == (ToolResult("a", (Text("1"),), name=sent),)
    assert prepared.messages[3].blocks == (Text("[tool result] 2"),)
    assert losses == ("tools.extra.unnamed",)


def test_t06_gemini_wants_a_letter_first() -> None:
    prepared, changes, _ = _prepare(_request(Tool("3d", None, _SCHEMA)), _profile(_GEMINI))
    assert isinstance(prepared.tools[0], Tool)
    assert prepared.tools[0].name.startswith("_3d_")
    assert list(changes.names.values()) == ["3d"]


# --- definitions ----------------------------------------------------------------------------------------------------


_CALLED = (
    *_HELLO,
    Message(Role.ASSISTANT, (ToolCall("a", "g", "{}"), ToolCall("b", "f", "{}"), ToolCall("c", "g", "{}"))),
)


def test_t14_a_history_of_calls_gets_stubs_where_definitions_are_demanded() -> None:
    prepared, _, _ = _prepare(_request(messages=_CALLED), _profile(_MESSAGES))
    assert [tool.name for tool in prepared.tools] == ["g", "f"]
    assert all(isinstance(tool, Tool) and tool.schema is not None for tool in prepared.tools)
    assert prepared.tool_choice == ToolChoice(ChoiceMode.NONE)


@pytest.mark.parametrize("target", [_CHAT, _GEMINI, _OLLAMA])
def test_t14_and_nowhere_else(target: WireFormat) -> None:
    prepared, _, _ = _prepare(_request(messages=_CALLED), _profile(target))
    assert (prepared.tools, prepared.tool_choice) == ((), None)


def test_t14_defined_tools_get_no_stubs() -> None:
    request = _request(_F, messages=_CALLED)
    assert _prepare(request, _profile(_MESSAGES))[0].tools is request.tools


def test_a_target_without_tools_refuses_them_unless_none_may_be_called() -> None:
    profile = _profile(_CHAT, takes_tools=False)
    with pytest.raises(UnsupportedFeature) as caught:
        _prepare(_request(_F), profile)
    assert (caught.value.param, "the-model" in caught.value.message) == ("tools", True)
    prepared, _, _ = _prepare(_request(_F, choice=ToolChoice(ChoiceMode.NONE)), profile)
    assert (prepared.tools, prepared.tool_choice) == ((), None)


def test_more_tools_than_the_target_takes_are_refused() -> None:
    with pytest.raises(UnsupportedFeature, match="at most 1"):
        _prepare(_request(_F, _G), _profile(_CHAT, max_tools=1))


# --- tools of another vendor ----------------------------------------------------------------------------------------


def test_t13_a_server_tool_is_dropped_beside_others() -> None:
    prepared, _, losses = _prepare(_request(_F, _SEARCH), _profile(_MESSAGES))
    assert prepared.tools == (_F,)
    assert losses == ("tools.server.web_search",)


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ((_SEARCH,), None),
        ((_F, _SEARCH), ToolChoice(ChoiceMode.NAMED, ("web_search",))),
        ((_F, _SEARCH), ToolChoice(ChoiceMode.REQUIRED, ("web_search",))),
    ],
)
def test_t13_a_server_tool_alone_or_forced_is_refused(tools: tuple[AnyTool, ...], choice: ToolChoice | None) -> None:
    with pytest.raises(UnsupportedFeature, match="web_search"):
        _prepare(_request(*tools, choice=choice), _profile(_MESSAGES))


@pytest.mark.parametrize(
    ("names", "choice"),
    [
        (("f", "web_search"), ToolChoice(ChoiceMode.AUTO, ("f",))),
        (("web_search",), ToolChoice(ChoiceMode.NONE)),
    ],
)
def test_a_limited_choice_forgets_what_was_left_out(names: tuple[str, ...], choice: ToolChoice) -> None:
    request = _request(_F, _SEARCH, choice=ToolChoice(ChoiceMode.AUTO, names))
    prepared, _, _ = _prepare(request, _profile(_GEMINI))
    assert (prepared.tools, prepared.tool_choice) == ((_F,), choice)


def test_a_server_tool_that_may_not_run_is_dropped_alone_too() -> None:
    request = _request(_SEARCH, choice=ToolChoice(ChoiceMode.NONE))
    prepared, _, losses = _prepare(request, _profile(_CHAT))
    assert (prepared.tools, prepared.tool_choice, losses) == ((), None, ("tools.server.web_search",))


def test_t13_what_a_server_tool_did_is_told() -> None:
    raw = msgspec.Raw(b'{"type":"web_search_call","id":"ws_1"}')
    blocks: tuple[Block, ...] = (
        ServerTool(_RESPONSES, raw, "[Searched the web for cats]"),
        ServerTool(_RESPONSES, raw),
    )
    request = _request(messages=(*_HELLO, Message(Role.ASSISTANT, blocks), *_HELLO))
    prepared, _, _ = _prepare(request, _profile(_GEMINI))
    assert prepared.messages[1].blocks == (Text("[Searched the web for cats]"), Text("[web_search_call]"))


# --- free-text tools ------------------------------------------------------------------------------------------------


def _custom(form: bytes | None) -> Tool:
    return Tool("patch", "Edits.", kind=CallKind.CUSTOM, format=None if form is None else msgspec.Raw(form))


_PATCH = '*** Begin "ä"\n+x\n'


def test_t13_a_free_text_tool_becomes_a_function_of_one_string() -> None:
    messages = (
        *_HELLO,
        Message(Role.ASSISTANT, (ToolCall("a", "patch", _PATCH, CallKind.CUSTOM),)),
        Message(Role.TOOL, (ToolResult("a", (Text("ok"),), kind=CallKind.CUSTOM),)),
    )
    choice = ToolChoice(ChoiceMode.NAMED, ("patch",), CallKind.CUSTOM)
    prepared, changes, losses = _prepare(_request(_custom(None), choice=choice, messages=messages), _profile(_MESSAGES))
    (tool,) = prepared.tools
    assert isinstance(tool, Tool)
    assert (tool.kind, tool.description, tool.format) == (CallKind.FUNCTION, "Edits.", None)
    assert tool.schema is not None
    assert json.loads(bytes(tool.schema))["required"] == ["input"]
    call, result = prepared.messages[1].blocks[0], prepared.messages[2].blocks[0]
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert (call.kind, json.loads(call.arguments)) == (CallKind.FUNCTION, {"input": _PATCH})
    assert result.kind is CallKind.FUNCTION
    assert prepared.tool_choice == ToolChoice(ChoiceMode.NAMED, ("patch",))
    assert changes.customs == {"patch"}
    assert losses == ()


def test_t13_targets_that_take_free_text_get_it() -> None:
    call = ToolCall("a", "patch", _PATCH, CallKind.CUSTOM)
    result = ToolResult("a", (Text("ok"),), kind=CallKind.CUSTOM)
    messages = (*_HELLO, Message(Role.ASSISTANT, (call,)), Message(Role.TOOL, (result,)))
    request = _request(_custom(b'{"type":"text"}'), messages=messages, origin=_CHAT)
    prepared, changes, _ = _prepare(request, _profile(_RESPONSES))
    assert prepared.tools is request.tools
    assert prepared.messages is messages
    assert changes.customs == frozenset()


@pytest.mark.parametrize(
    "form",
    [
        b'{"type":"grammar","syntax":"lark","definition":"start:  WORD"}',
        b'{"type":"grammar","grammar":{"syntax":"lark","definition":"start:  WORD"}}',
    ],
)
def test_t13_the_grammar_is_told_to_a_model_that_is_not_held_to_it(form: bytes) -> None:
    (tool,) = _prepare(_request(_custom(form)), _profile(_CHAT))[0].tools
    assert isinstance(tool, Tool)
    assert tool.description == "Edits.\n\nThe input must match this grammar (lark):\nstart:  WORD"


@pytest.mark.parametrize("form", [b'{"type":"text"}', b'"odd"', b'{"type":"grammar","grammar":null}'])
def test_other_forms_say_nothing(form: bytes) -> None:
    (tool,) = _prepare(_request(_custom(form)), _profile(_CHAT))[0].tools
    assert isinstance(tool, Tool)
    assert tool.description == "Edits."


# --- unknown blocks -------------------------------------------------------------------------------------------------

_UNKNOWN = Unknown(_RESPONSES, msgspec.Raw(b'{"type":"hologram","n":1e400}'))


def test_an_unknown_block_of_the_users_is_refused_by_type() -> None:
    with pytest.raises(UnsupportedFeature, match="hologram"):
        _prepare(_request(messages=(Message(Role.USER, (_UNKNOWN,)),)), _profile(_CHAT))


def test_an_unknown_block_of_the_models_is_noted() -> None:
    messages = (*_HELLO, Message(Role.ASSISTANT, (_UNKNOWN, Unknown(_RESPONSES, msgspec.Raw(b"7")))), *_HELLO)
    prepared, _, _ = _prepare(_request(messages=messages), _profile(_CHAT))
    assert prepared.messages[1].blocks == (Text("[hologram]"), Text("[unknown block]"))


def test_an_unknown_block_of_a_tools_is_data() -> None:
    messages = (
        Message(Role.ASSISTANT, (ToolCall("a", "f", "{}"),)),
        Message(Role.TOOL, (ToolResult("a", (_UNKNOWN,)),)),
    )
    prepared, _, _ = _prepare(_request(messages=messages), _profile(_CHAT))
    assert prepared.messages[1].blocks == (ToolResult("a", (Text('{"type":"hologram","n":1e400}'),)),)


# --- answers after a schema -----------------------------------------------------------------------------------------

_OLD_CLAUDE = _profile(_MESSAGES, takes_output_schema=False)


def test_t50_a_schema_becomes_a_forced_tool_where_the_target_knows_none() -> None:
    request = _request(output=Output(_SCHEMA, "point", "A point.", strict=True))
    prepared, changes, _ = _prepare(request, _OLD_CLAUDE)
    assert prepared.tools == (Tool("point", "A point.", _SCHEMA, strict=True),)
    assert prepared.tool_choice == ToolChoice(ChoiceMode.NAMED, ("point",))
    assert (prepared.output, prepared.parallel_tools, changes.output_tool) == (None, False, "point")


def test_t50_targets_that_know_schemas_get_them() -> None:
    request = _request(output=Output(_SCHEMA, "point"))
    prepared, changes, _ = _prepare(request, _profile(_GEMINI))
    assert (prepared.output, changes.output_tool, prepared.tools) == (request.output, None, ())


def test_json_without_a_schema_is_the_renderers_business() -> None:
    request = _request(output=Output())
    prepared, changes, _ = _prepare(request, _OLD_CLAUDE)
    assert (prepared.output, changes.output_tool) == (request.output, None)


def test_t46_beside_other_tools_the_model_calls_one_of_them_or_answers() -> None:
    request = _request(_F, Tool("answer", None, _SCHEMA), output=Output(_SCHEMA))
    prepared, changes, _ = _prepare(request, _OLD_CLAUDE)
    assert changes.output_tool is not None
    assert changes.output_tool not in ("f", "answer")
    assert [tool.name for tool in prepared.tools] == ["f", "answer", changes.output_tool]
    assert (prepared.tool_choice, prepared.parallel_tools) == (ToolChoice(ChoiceMode.REQUIRED), None)
    assert changes.names == {}


def test_t46_tools_that_may_not_be_called_leave_only_the_answer() -> None:
    request = _request(_F, output=Output(_SCHEMA), choice=ToolChoice(ChoiceMode.NONE))
    prepared, changes, _ = _prepare(request, _OLD_CLAUDE)
    assert changes.output_tool is not None
    assert prepared.tool_choice == ToolChoice(ChoiceMode.NAMED, (changes.output_tool,))


def test_t46_a_demanded_call_is_not_answered_by_our_own_tool() -> None:
    request = _request(_F, output=Output(_SCHEMA), choice=ToolChoice(ChoiceMode.REQUIRED))
    prepared, changes, _ = _prepare(request, _OLD_CLAUDE)
    assert (prepared.tools, prepared.tool_choice, changes.output_tool) == ((_F,), request.tool_choice, None)


@pytest.mark.parametrize("schema", [b'{"type":"array","items":{}}', b'{"type":"string"}', b"true"])
def test_t50_a_schema_that_no_tool_can_have_is_refused(schema: bytes) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        _prepare(_request(output=Output(msgspec.Raw(schema))), _OLD_CLAUDE)
    assert caught.value.param == "output"


def test_t50_a_target_without_tools_and_schemas_refuses() -> None:
    with pytest.raises(UnsupportedFeature):
        _prepare(_request(output=Output(_SCHEMA)), msgspec.structs.replace(_OLD_CLAUDE, takes_tools=False))


def test_t50_reasoning_rests_beside_a_forced_tool() -> None:
    profile = msgspec.structs.replace(_OLD_CLAUDE, reasoning=ReasoningStyle.BUDGET)
    request = _request(output=Output(_SCHEMA), reasoning=Reasoning(effort=Effort.HIGH))
    prepared, _, losses = _prepare(request, profile)
    assert prepared.reasoning == Reasoning(effort=Effort.NONE, budget=0)
    assert losses == ("reasoning",)
    unsaid, _, losses = _prepare(_request(output=Output(_SCHEMA)), profile)
    assert (unsaid.reasoning, losses) == (None, ())

"""A client's request of this format: read, and given back as it came."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import InvalidRequest, MissingField
from omniroute.formats.canonical import (
    CallKind,
    ChoiceMode,
    Effort,
    Media,
    MediaKind,
    Role,
    ServerTool,
    SourceKind,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Unknown,
)
from omniroute.formats.codec import no_pause
from omniroute.formats.losses import Losses
from omniroute.formats.openai_responses.request_parser import parse_request
from omniroute.formats.wire import WireFormat
from tests.formats.openai_responses.responses_samples import SAMPLES, cases, parsed, rendered, sample

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_EXTRA = st.dictionaries(st.from_regex(r"x_[a-z]{1,4}", fullmatch=True), _JSON, max_size=2)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def _with_extra(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda own, extra: {**extra, **own}, st.fixed_dictionaries(members), _EXTRA)


def _optional(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=members)


def _joined(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {key: value for one in found for key, value in one.items()})


_ID = _optional(id=st.none() | _TEXT, status=st.sampled_from(["completed", "incomplete", None]))
_PARTS = st.lists(
    st.one_of(
        _with_extra(type=st.sampled_from(["input_text", "output_text"]), text=_TEXT),
        _with_extra(type=st.just("refusal"), refusal=_TEXT),
        _with_extra(type=st.just("input_image"), image_url=st.just("data:image/png;base64,AAAA"), detail=_TEXT),
        _with_extra(type=st.just("input_image"), file_id=_TEXT, image_url=st.none()),
        _with_extra(type=st.just("input_file"), file_data=st.sampled_from(["AAA", "data:text/plain,a%20b"])),
        _with_extra(type=st.just("hologram")),
    ),
    max_size=4,
)
_ROLES = st.sampled_from(["user", "assistant", "developer", "system"])
_KIND = _optional(type=st.just("message"))
_ITEMS = st.lists(
    st.one_of(
        _joined(_with_extra(role=_ROLES, content=_TEXT | _PARTS), _ID, _KIND),
        _joined(
            _with_extra(type=st.just("function_call"), call_id=_TEXT.filter(bool), name=_TEXT, arguments=_TEXT),
            _ID,
            _optional(namespace=st.none() | _TEXT),
        ),
        _joined(_with_extra(type=st.just("custom_tool_call"), call_id=_TEXT, name=_TEXT, input=_TEXT), _ID),
        _joined(
            _with_extra(
                type=st.sampled_from(["function_call_output", "custom_tool_call_output"]),
                call_id=_TEXT,
                output=_TEXT | _PARTS,
            ),
            _ID,
        ),
        _joined(
            _with_extra(type=st.just("reasoning")),
            _ID,
            _optional(
                summary=st.lists(_with_extra(type=st.just("summary_text"), text=_TEXT), max_size=2),
                content=st.none() | st.lists(_with_extra(type=st.just("reasoning_text"), text=_TEXT), max_size=2),
                encrypted_content=st.none() | _TEXT,
            ),
        ),
        _with_extra(type=st.sampled_from(["teleport_call", "web_search_call", "item_reference", "shell_call_output"])),
        _with_extra(type=st.just("additional_tools"), tools=st.just([{"type": "function", "name": "late"}])),
    ),
    max_size=6,
)
_TOOLS = st.lists(
    st.one_of(
        _joined(
            _with_extra(type=st.just("function"), name=_TEXT.filter(bool)),
            _optional(
                description=st.none() | _TEXT, parameters=st.none() | st.just({"type": "object"}), strict=st.none()
            ),
        ),
        _joined(
            _with_extra(type=st.just("namespace"), name=_TEXT),
            _optional(
                description=st.none() | _TEXT,
                tools=st.lists(
                    _joined(
                        _with_extra(type=st.sampled_from(["function", "custom"]), name=_TEXT),
                        _optional(description=_TEXT),
                    ),
                    max_size=3,
                ),
            ),
        ),
        _with_extra(type=st.sampled_from(["web_search", "local_shell", "mcp"])),
    ),
    max_size=4,
)
_BODIES = _joined(
    _with_extra(input=_TEXT | _ITEMS),
    _optional(
        instructions=st.none() | _TEXT,
        tools=st.none() | _TOOLS,
        tool_choice=st.sampled_from(
            ["auto", {"type": "function", "name": "f"}, {"type": "mcp", "server_label": "x"}, None]
        ),
        temperature=st.none() | st.floats(0, 2),
        max_output_tokens=st.none() | st.integers(1, 10**9),
        reasoning=st.none()
        | _joined(_EXTRA, _optional(effort=st.sampled_from(["low", "max", "odd", None]), summary=st.none())),
        text=st.none() | _joined(_EXTRA, _optional(verbosity=st.sampled_from(["low", None]))),
        store=st.none() | st.booleans(),
        stream=st.none() | st.booleans(),
        user=st.none() | _TEXT,
        safety_identifier=st.none() | _TEXT,
        metadata=st.none() | st.dictionaries(_TEXT, _TEXT, max_size=2),
    ),
)


@pytest.mark.parametrize("case", cases("request.json"), ids=lambda path: path.name)
def test_what_came_is_what_goes_to_the_same_format(case: Path) -> None:
    body = (case / "request.json").read_bytes()
    request = parse_request(body, no_pause)
    losses = Losses(WireFormat.OPENAI_RESPONSES)
    assert rendered(request, losses) == json.loads(body)
    assert losses.paths == ()


@given(_BODIES)
def test_any_request_goes_to_the_same_format_as_it_came(body: dict[str, Any]) -> None:
    assert rendered(parsed(**body)) == {"model": "m", **body}


def test_t70_numbers_keep_their_spelling() -> None:
    body = b'{"model":"m","input":[{"type":"function_call","call_id":"c","name":"f","arguments":"{\\"n\\": 1e400}"}],'
    body += b'"tools":[{"type":"function","name":"f","parameters":{"minimum":-0,"maximum":12345678901234567890123}}],'
    body += b'"metadata":{"a":1e400}}'
    request = parse_request(body, no_pause)
    tool = request.tools[0]
    assert isinstance(tool, Tool)
    assert bytes(tool.schema or b"") == b'{"minimum":-0,"maximum":12345678901234567890123}'
    assert bytes(request.metadata or b"") == b'{"a":1e400}'
    call = request.messages[0].blocks[0]
    assert isinstance(call, ToolCall)
    assert call.arguments == '{"n": 1e400}'


def test_items_of_the_model_become_one_turn() -> None:
    request = parse_request(sample("codex", "request.json"), no_pause)
    roles = [message.role for message in request.messages]
    assert roles[:3] == [Role.DEVELOPER, Role.USER, Role.USER]
    turn = request.messages[3]
    assert turn.role is Role.ASSISTANT
    assert [type(block) for block in turn.blocks] == [Thinking, Text, ToolCall, ToolCall, ToolCall]
    assert [message.role for message in request.messages[4:7]] == [Role.TOOL] * 3
    results = [message.blocks[0] for message in request.messages[4:7]]
    assert [isinstance(one, ToolResult) and (one.call_id, one.kind) for one in results] == [
        ("call_1", CallKind.FUNCTION),
        ("call_2", CallKind.FUNCTION),
        ("call_3", CallKind.CUSTOM),
    ]
    assert request.system[0].blocks == (Text("You are a coding agent running in a terminal."),)
    assert request.store is False
    assert request.stream
    assert request.reasoning is not None
    assert request.reasoning.effort is Effort.XHIGH
    assert request.verbosity == "low"


def test_t13_grouped_tools_get_flat_names_and_the_group_is_explained_once() -> None:
    request = parse_request(sample("codex", "request.json"), no_pause)
    tools = {tool.name: tool for tool in request.tools if isinstance(tool, Tool)}
    assert set(tools) == {
        "exec_command",
        "apply_patch",
        "collaboration__spawn_agent",
        "collaboration__note",
        "local_shell",
        "tool_search",
        "wait",
        "mcp__docs__search",
        "mcp__mail__send",
    }
    assert tools["collaboration__note"].kind is CallKind.CUSTOM
    assert "Tools for working with sub-agents." in str(tools["collaboration__spawn_agent"].description)
    assert tools["collaboration__note"].description == "Writes a note."
    calls = [block for message in request.messages for block in message.blocks if isinstance(block, ToolCall)]
    assert [call.name for call in calls] == [
        "exec_command",
        "collaboration__spawn_agent",
        "apply_patch",
        "local_shell",
        "tool_search",
    ]


def test_t06_a_flat_name_that_is_taken_gets_a_mark() -> None:
    group = {"type": "namespace", "name": "a", "description": "", "tools": [{"type": "function", "name": "b"}]}
    request = parsed(
        input=[{"type": "function_call", "call_id": "c", "namespace": "a", "name": "b", "arguments": "{}"}],
        tools=[group, {"type": "function", "name": "a__b"}],
    )
    names = [tool.name for tool in request.tools]
    assert names[1] == "a__b"
    assert str(names[0]).startswith("a__b_")
    call = request.messages[0].blocks[0]
    assert isinstance(call, ToolCall)
    assert call.name == names[0]


def test_tools_of_the_vendor_and_its_items_are_kept_apart() -> None:
    request = parse_request(sample("web_search", "request.json"), no_pause)
    assert [tool.name for tool in request.tools] == [None]
    assert request.tool_choice is not None
    assert request.tool_choice.mode is ChoiceMode.NAMED
    assert request.tool_choice.names == ("web_search_preview",)
    block = request.messages[1].blocks[0]
    assert isinstance(block, ServerTool)
    assert block.note == "[Searched the web for 'news']"


def test_unknown_items_and_parts_belong_to_this_format_only() -> None:
    request = parse_request(sample("unknown_fields", "request.json"), no_pause)
    unknown = [block for message in request.messages for block in message.blocks if isinstance(block, Unknown)]
    assert {block.origin for block in unknown} == {WireFormat.OPENAI_RESPONSES}
    assert len(unknown) == 5


def test_t24_t25_t26_media_is_read_into_standard_form() -> None:
    request = parse_request(sample("media", "request.json"), no_pause)
    media = [block for block in request.messages[0].blocks if isinstance(block, Media)]
    assert [(one.kind, one.source, one.mime, one.name) for one in media] == [
        (MediaKind.IMAGE, SourceKind.INLINE, "image/png", None),
        (MediaKind.IMAGE, SourceKind.INLINE, "image/jpeg", None),
        (MediaKind.IMAGE, SourceKind.URL, None, None),
        (MediaKind.IMAGE, SourceKind.FILE_ID, None, None),
        (MediaKind.DOCUMENT, SourceKind.INLINE, "application/pdf", "a.pdf"),
        (MediaKind.DOCUMENT, SourceKind.INLINE, "application/pdf", "b.pdf"),
        (MediaKind.DOCUMENT, SourceKind.URL, None, None),
        (MediaKind.DOCUMENT, SourceKind.FILE_ID, None, None),
        (MediaKind.AUDIO, SourceKind.INLINE, "audio/wav", None),
    ]
    assert media[1].data == "/9j/4AAQ"
    assert media[0].detail == "high"


def test_t16_sealed_reasoning_is_redacted_and_summed_up_reasoning_is_not() -> None:
    request = parse_request(sample("sealed_reasoning", "request.json"), no_pause)
    thinking = [block for message in request.messages for block in message.blocks if isinstance(block, Thinking)]
    assert [(one.text, one.redacted, one.token is not None) for one in thinking] == [
        ("", True, True),
        ("raw thoughts", False, False),
        ("", False, True),
    ]
    assert request.logprobs is True


def test_t65_the_name_of_a_result_is_that_of_its_call() -> None:
    request = parse_request(sample("parallel_tools", "request.json"), no_pause)
    results = [block for message in request.messages for block in message.blocks if isinstance(block, ToolResult)]
    assert [(one.call_id, one.name, one.plain) for one in results] == [
        ("call_rome", "get_weather", True),
        ("call_paris", "get_weather", False),
    ]


def test_no_input_is_an_error_unless_something_stands_for_it() -> None:
    with pytest.raises(MissingField) as caught:
        parsed()
    assert caught.value.param == "input"
    assert parsed(previous_response_id="resp_1").messages == ()
    assert parse_request(sample("continued", "request.json"), no_pause).previous_id == "resp_68f0"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": 5}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "king", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": {"a": 1}}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].file_data"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x"}}]}]},
            "input[0].content[0].input_audio.format",
        ),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": 3, "arguments": ""}]}, "input[0].name"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": 7}]}, "input[0].output"),
        ({"input": [{"type": "reasoning", "summary": "x"}]}, "input[0].summary"),
        ({"input": "x", "tools": {}}, "tools"),
        ({"input": "x", "tools": [{"name": "f"}]}, "tools[0].type"),
        ({"input": "x", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"input": "x", "tools": [{"type": "function", "name": "f", "parameters": []}]}, "tools[0].parameters"),
        (
            {"input": "x", "tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}]},
            "tools[0].tools[0].name",
        ),
        ({"input": "x", "tool_choice": "perhaps"}, "tool_choice"),
        ({"input": "x", "tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"input": "x", "temperature": "hot"}, "temperature"),
        ({"input": "x", "max_output_tokens": "many"}, "max_output_tokens"),
        ({"input": "x", "store": 1}, "store"),
        ({"input": "x", "reasoning": "hard"}, "reasoning"),
        ({"input": "x", "text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"input": "x", "include": [1]}, "include"),
        ({"input": "x", "instructions": ["a"]}, "instructions"),
    ],
)
def test_t67_a_wrong_shape_is_refused_by_its_place(body: dict[str, Any], param: str) -> None:
    with pytest.raises((InvalidRequest, MissingField)) as caught:
        parsed(**body)
    assert caught.value.param == param


@given(st.dictionaries(st.sampled_from(["input", "tools", "tool_choice", "text", "reasoning", "include"]), _JSON))
def test_any_json_is_read_or_refused(body: dict[str, Any]) -> None:
    try:
        request = parsed(**body)
    except (InvalidRequest, MissingField):
        return
    assert request.model == "m"


@given(st.sampled_from(sorted(path.name for path in SAMPLES.iterdir() if (path / "request.json").exists())), st.data())
def test_a_damaged_request_is_read_or_refused(case: str, data: st.DataObject) -> None:
    body = json.loads(sample(case, "request.json"))
    places = list(_places(body))
    container, key = data.draw(st.sampled_from(places))
    container[key] = data.draw(_JSON)
    try:
        request = parse_request(json.dumps(body).encode(), no_pause)
    except (InvalidRequest, MissingField):
        return
    assert rendered(request) == body


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "model":
                found += [(value, key), *_places(inner)]
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += [(value, index), *_places(inner)]
    return found


def test_t69_a_large_request_is_read_in_slices() -> None:
    pauses: list[int] = []
    items = [{"role": "user", "content": "x" * 1000}, {"role": "assistant", "content": "y" * 1000}] * 350
    body = msgspec.json.encode({"model": "m", "input": items})
    request = parse_request(body, lambda: pauses.append(1))
    assert len(pauses) >= len(items)
    assert len(request.messages) == len(items)

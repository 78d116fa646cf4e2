"""Requests in this format: read, and given back as they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import InvalidRequest, MissingField
from omniroute.formats.anthropic_messages.request_parser import parse_request
from omniroute.formats.anthropic_messages.request_renderer import render_request
from omniroute.formats.canonical import (
    ChoiceMode,
    Effort,
    Media,
    MediaKind,
    Request,
    Role,
    ServerTool,
    ServerToolDefinition,
    SourceKind,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Unknown,
)
from omniroute.formats.codec import no_pause
from omniroute.formats.losses import SPELLING, Losses
from omniroute.formats.profile import profile_for
from omniroute.formats.wire import WireFormat
from tests.formats.anthropic_messages.fixtures import REQUESTS, request_of, value

MESSAGES = WireFormat.ANTHROPIC_MESSAGES


def parsed(body: dict[str, Any] | bytes) -> Request:
    return parse_request(body if isinstance(body, bytes) else json.dumps(body).encode(), no_pause)


def given_back(body: bytes, **facts: Any) -> Any:
    losses = Losses(MESSAGES)
    rendered = render_request(parsed(body), profile_for(MESSAGES, "target", **facts), losses, no_pause)
    assert losses.paths == ()
    return value(rendered)


def minimal(**members: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}], **members}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_request_comes_back_as_it_was(case: str) -> None:
    body = request_of(case)
    assert given_back(body) == value(body) | {"model": "target"}


@pytest.mark.parametrize("case", REQUESTS)
def test_t44_the_same_request_gives_the_same_bytes(case: str) -> None:
    profile = profile_for(MESSAGES, "target")
    first, second = (render_request(parsed(request_of(case)), profile, Losses(MESSAGES), no_pause) for _ in range(2))
    assert first == second


def test_t70_numbers_in_arguments_keep_their_spelling() -> None:
    request = parsed(request_of("oddities"))
    call = next(block for message in request.messages for block in message.blocks if isinstance(block, ToolCall))
    assert call.arguments == '{"n": 1e400, "big": 12345678901234567890123, "neg": -0, "s": "\\u00e9\\/"}'
    rendered = render_request(request, profile_for(MESSAGES, "m"), Losses(MESSAGES), no_pause)
    assert call.arguments.encode() in rendered
    assert b"123456789012345678901234567890" in rendered


def test_t71_surrogate_pairs_nul_and_direction_marks_survive() -> None:
    texts = [b.text for m in parsed(request_of("oddities")).messages for b in m.blocks if isinstance(b, Text)]
    assert "\U0001f600 \0 \u200f" in texts
    assert given_back(request_of("oddities"))["messages"][2]["content"][1]["text"] == "\U0001f600 \0 \u200f"


def test_t08_results_and_text_of_one_turn_become_two_messages() -> None:
    messages = parsed(request_of("tools_parallel")).messages
    assert [message.role for message in messages[2:4]] == [Role.TOOL, Role.USER]
    assert [message.is_continued for message in messages[2:4]] == [False, True]
    results = messages[2].blocks
    assert [isinstance(block, ToolResult) for block in results] == [True, True, True]
    assert [block.call_id for block in results if isinstance(block, ToolResult)] == [
        "toolu_01A",
        "toolu_01B",
        "toolu_01C",
    ]
    # A turn of its own stays one.
    assert messages[-1].role is Role.USER
    assert not messages[-1].is_continued


def test_t10_error_results_keep_their_flag() -> None:
    blocks = parsed(request_of("tools_parallel")).messages[2].blocks
    assert [block.is_error for block in blocks if isinstance(block, ToolResult)] == [False, True, False]


def test_t67_content_that_is_a_string_is_told_apart_from_a_list() -> None:
    request = parsed(request_of("system_string"))
    assert [message.plain for message in request.messages] == [True, True, False]
    assert request.system[0].plain
    assert request.system[0].blocks == (Text("Answer in one word."),)


def test_thinking_keeps_its_signature() -> None:
    blocks = parsed(request_of("thinking")).messages[1].blocks
    signed, redacted, call = blocks
    assert isinstance(signed, Thinking)
    assert isinstance(redacted, Thinking)
    assert isinstance(call, ToolCall)
    assert signed.token is not None
    assert signed.token.value.startswith("EqQB")
    assert signed.token.origin is MESSAGES
    assert redacted.redacted
    assert redacted.token is not None


def test_t22_redacted_thinking_comes_back_byte_for_byte() -> None:
    returned = given_back(request_of("thinking"))["messages"][1]["content"][1]
    assert returned == {"type": "redacted_thinking", "data": "EmwKAhgBEgyZ"}


def test_t24_t26_images_and_documents_of_all_sources() -> None:
    blocks = parsed(request_of("media")).messages[0].blocks
    media = [block for block in blocks if isinstance(block, Media)]
    assert [(one.kind, one.source) for one in media] == [
        (MediaKind.IMAGE, SourceKind.INLINE),
        (MediaKind.IMAGE, SourceKind.URL),
        (MediaKind.IMAGE, SourceKind.FILE_ID),
        (MediaKind.DOCUMENT, SourceKind.INLINE),
        (MediaKind.DOCUMENT, SourceKind.TEXT),
        (MediaKind.DOCUMENT, SourceKind.URL),
        (MediaKind.DOCUMENT, SourceKind.TEXT),
    ]
    assert media[3].name == "Report"
    assert media[6].data == "one\ntwo"
    unknown = [block for block in blocks if isinstance(block, Unknown)]
    assert len(unknown) == 2  # a document with an image inside, and a file for a container


def test_results_hold_text_media_and_noted_blocks() -> None:
    result = parsed(request_of("media")).messages[2].blocks[0]
    assert isinstance(result, ToolResult)
    assert [type(block) for block in result.blocks] == [Text, Media, Media, ServerTool, ServerTool]
    found = result.blocks[3]
    assert isinstance(found, ServerTool)
    assert found.note == "[Search result Example (https://example.com)]\nFound."


def test_t13_server_tools_are_their_origins_and_have_a_note() -> None:
    request = parsed(request_of("server_tools"))
    assert [type(tool) for tool in request.tools] == [ServerToolDefinition] * 3
    notes = [block.note for block in request.messages[1].blocks if isinstance(block, ServerTool)]
    assert notes == [
        '[The assistant used the tool web_search with the input {"query": "who won"}]',
        "[The web search tool returned: They won (https://news.example/1)]",
        '[The assistant used the tool echo of docs with the input {"a": 1}]',
        "[The mcp tool returned: hi]",
        (
            '[The code execution tool returned: {"type": "code_execution_result", "stdout": "4", "stderr": "",'
            ' "return_code": 0, "content": []}]'
        ),
        "[Summary of the conversation so far: They talked.]",
    ]


def test_citations_say_what_other_formats_can_say() -> None:
    text = next(block for block in parsed(request_of("server_tools")).messages[1].blocks if isinstance(block, Text))
    citation = text.citations[0]
    assert (citation.url, citation.title, citation.cited_text) == ("https://news.example/1", "They won", "They won")


def test_t29_what_claude_code_sends_for_a_model_it_does_not_know() -> None:
    request = parsed(request_of("claude_code"))
    assert [message.role for message in request.messages] == [
        Role.USER,
        Role.SYSTEM,
        Role.ASSISTANT,
        Role.TOOL,
        Role.SYSTEM,
    ]
    assert request.reasoning is not None
    assert request.reasoning.is_adaptive
    assert request.reasoning.effort is Effort.XHIGH
    assert request.output is not None
    assert request.output.schema is not None
    assert request.user == "user_7f_account__session_2d"
    assert set(request.extra) == {"context_management", "betas"}
    assert request.stream
    tool = request.tools[0]
    assert isinstance(tool, Tool)
    assert set(tool.extra) == {"eager_input_streaming"}


def test_what_is_only_a_spelling_is_nobodys_loss() -> None:
    request = parsed(request_of("oddities"))
    meant = {name for name in request.extra if not name.startswith(SPELLING)}
    assert meant == {"output_config", "cache_control", "inference_geo", "future"}


@pytest.mark.parametrize(
    ("choice", "mode", "names"),
    [
        ({"type": "auto"}, ChoiceMode.AUTO, ()),
        ({"type": "any"}, ChoiceMode.REQUIRED, ()),
        ({"type": "none"}, ChoiceMode.NONE, ()),
        ({"type": "tool", "name": "f"}, ChoiceMode.NAMED, ("f",)),
    ],
)
def test_t11_tool_choices_are_read(choice: dict[str, Any], mode: ChoiceMode, names: tuple[str, ...]) -> None:
    request = parsed(minimal(tools=[{"name": "f", "input_schema": {"type": "object"}}], tool_choice=choice))
    assert request.tool_choice is not None
    assert (request.tool_choice.mode, request.tool_choice.names) == (mode, names)
    assert request.parallel_tools is None


@pytest.mark.parametrize("is_single", [True, False])
def test_t12_parallel_calls_are_switched_off_inside_the_choice(is_single: bool) -> None:
    request = parsed(minimal(tool_choice={"type": "auto", "disable_parallel_tool_use": is_single}))
    assert request.parallel_tools is not is_single


@pytest.mark.parametrize(
    ("thinking", "budget", "is_adaptive", "is_visible"),
    [
        ({"type": "enabled", "budget_tokens": 2048}, 2048, False, None),
        ({"type": "disabled"}, 0, False, None),
        ({"type": "adaptive", "display": "omitted"}, None, True, False),
    ],
)
def test_reasoning_is_read(
    thinking: dict[str, Any], budget: int | None, is_adaptive: bool, is_visible: bool | None
) -> None:
    reasoning = parsed(minimal(thinking=thinking)).reasoning
    assert reasoning is not None
    assert (reasoning.budget, reasoning.is_adaptive, reasoning.is_visible) == (budget, is_adaptive, is_visible)
    assert not reasoning.extra


def test_the_older_place_of_the_output_schema_is_read_too() -> None:
    body = minimal(output_format={"type": "json_schema", "schema": {"type": "object"}})
    assert parsed(body).output is not None
    assert given_back(json.dumps(body).encode()) == body | {"model": "target"}


def test_a_body_for_counting_tokens_has_no_output_limit() -> None:
    body = minimal()
    del body["max_tokens"]
    assert parsed(body).max_output is None


def test_a_stream_that_the_gateway_wants_overrides_what_the_client_said() -> None:
    import msgspec

    request = msgspec.structs.replace(parsed(minimal(stream=False)), stream=True)
    body = value(render_request(request, profile_for(MESSAGES, "m"), Losses(MESSAGES), no_pause))
    assert body["stream"] is True


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"messages": "Hi"}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": [1]}, "messages.0"),
    ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages.0.role"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}, "messages.0.content.0.type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages.0.content.0.text"),
    (
        {"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]}]},
        "messages.0.content.0.type",
    ),
    (
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": "x"}]}]},
        "messages.0.content.0.input",
    ),
    (
        {"messages": [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "a"}]}]},
        "messages.0.content.0.type",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [1]}]}]},
        "messages.0.content.0.content.0",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "x"}}]}]},
        "messages.0.content.0.source.media_type",
    ),
    (
        {"messages": [{"role": "system", "content": [{"type": "image", "source": {"type": "url", "url": "u"}}]}]},
        "messages.0.content.0.type",
    ),
    ({"system": [{"type": "image", "source": {"type": "url", "url": "u"}}]}, "system.0.type"),
    ({"system": {}}, "system"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"temperature": "hot"}, "temperature"),
    ({"stream": "yes"}, "stream"),
    ({"stop_sequences": "END"}, "stop_sequences"),
    ({"tools": {}}, "tools"),
    ({"tools": [{"description": "no name"}]}, "tools.0.name"),
    ({"tools": [{"name": "f", "input_schema": []}]}, "tools.0.input_schema"),
    ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": "on"}, "thinking"),
    ({"output_config": {"effort": "heroic"}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ({"metadata": {"user_id": 5}}, "metadata.user_id"),
]


@pytest.mark.parametrize(("broken", "param"), BROKEN, ids=[param for _, param in BROKEN])
def test_a_fault_is_named_by_its_path(broken: dict[str, Any], param: str) -> None:
    with pytest.raises((InvalidRequest, MissingField)) as caught:
        parsed(minimal(**broken))
    assert caught.value.param == param
    assert caught.value.http_status == 400


def test_a_missing_model_is_a_missing_field() -> None:
    body = minimal()
    del body["model"]
    with pytest.raises(MissingField) as caught:
        parsed(body)
    assert caught.value.param == "model"


def test_it_pauses_once_per_message() -> None:
    pauses = []
    body = minimal(messages=[{"role": "user", "content": "Hi"}] * 7)
    request = parse_request(json.dumps(body).encode(), lambda: pauses.append(1))
    assert len(pauses) >= 7
    pauses.clear()
    render_request(request, profile_for(MESSAGES, "m"), Losses(MESSAGES), lambda: pauses.append(1))
    assert len(pauses) >= 7


# --- generated requests ----------------------------------------------------------------------------------------------

NAMES = st.text("abcdefghijklmnop_", min_size=1, max_size=6).map("x_{}".format)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
EXTRA = st.dictionaries(NAMES, JSON, max_size=2)
CACHE = st.sampled_from([{}, {"cache_control": None}, {"cache_control": {"type": "ephemeral"}}])
TEXT = st.text(max_size=8)


def block(kind: str, **members: Any) -> st.SearchStrategy[dict[str, Any]]:
    fixed = st.fixed_dictionaries({"type": st.just(kind), **members})
    return st.builds(lambda a, b, c: {**b, **c, **a}, fixed, EXTRA, CACHE)


SOURCES = st.one_of(
    st.fixed_dictionaries({"type": st.just("base64"), "media_type": st.sampled_from(["image/png", "x"]), "data": TEXT}),
    st.fixed_dictionaries({"type": st.just("url"), "url": TEXT}, optional={"x_more": JSON}),
    st.fixed_dictionaries({"type": st.just("file"), "file_id": TEXT}),
    st.fixed_dictionaries({"type": st.just("text"), "media_type": st.just("text/plain"), "data": TEXT}),
    st.fixed_dictionaries({"type": st.just("content"), "content": TEXT}),
    st.fixed_dictionaries({"type": st.just("x_other"), "thing": JSON}),
)
TEXTS = block("text", text=TEXT)
PARTS = st.one_of(TEXTS, block("image", source=SOURCES), block("document", source=SOURCES), block("x_future", a=JSON))
RESULTS = st.builds(
    lambda fixed, more: {**fixed, **more},
    block("tool_result", tool_use_id=TEXT),
    st.fixed_dictionaries(
        {}, optional={"content": st.none() | TEXT | st.lists(PARTS, max_size=2), "is_error": st.booleans()}
    ),
)
CALLS = block("tool_use", id=TEXT, name=TEXT, input=st.dictionaries(st.text(max_size=4), JSON, max_size=3))
SAID = st.one_of(
    TEXTS, CALLS, block("thinking", thinking=TEXT, signature=TEXT), block("redacted_thinking", data=TEXT),
    block("server_tool_use", id=TEXT, name=TEXT, input=st.dictionaries(TEXT, JSON, max_size=1)),
)  # fmt: skip


def message(role: str, content: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    fixed = st.fixed_dictionaries({"role": st.just(role), "content": content})
    return st.builds(lambda a, b: {**b, **a}, fixed, EXTRA)


TURNS = st.one_of(
    message("user", TEXT | st.lists(PARTS | RESULTS, max_size=4)),
    message("assistant", TEXT | st.lists(SAID, max_size=4)),
    message("system", TEXT | st.lists(TEXTS, max_size=2)),
)
TOOLS = st.one_of(
    st.builds(
        lambda a, b, c: {**b, **c, **a},
        st.fixed_dictionaries(
            {"name": TEXT, "input_schema": st.dictionaries(st.text(max_size=4), JSON, max_size=2)},
            optional={"description": TEXT, "strict": st.booleans(), "type": st.sampled_from([None, "custom"])},
        ),
        EXTRA,
        CACHE,
    ),
    st.fixed_dictionaries({"type": st.just("x_20990101"), "name": TEXT}, optional={"x_more": JSON}),
)
BODIES = st.builds(
    lambda a, b: {**b, **a},
    st.fixed_dictionaries(
        {"model": st.just("m"), "messages": st.lists(TURNS, min_size=1, max_size=4)},
        optional={
            "max_tokens": st.integers(0, 1 << 70),
            "system": st.none() | TEXT | st.lists(TEXTS, max_size=2),
            "temperature": st.none() | st.floats(0, 1),
            "top_p": st.floats(0, 1),
            "top_k": st.none() | st.integers(0, 500),
            "stop_sequences": st.none() | st.lists(TEXT, max_size=2),
            "stream": st.none() | st.booleans(),
            "tools": st.none() | st.lists(TOOLS, max_size=3),
            "tool_choice": st.none()
            | st.fixed_dictionaries(
                {"type": st.sampled_from(["auto", "any", "none"])},
                optional={"disable_parallel_tool_use": st.none() | st.booleans(), "x_more": JSON},
            )
            | st.fixed_dictionaries({"type": st.just("tool"), "name": TEXT}),
            "thinking": st.none()
            | st.fixed_dictionaries(
                {"type": st.just("adaptive")}, optional={"display": st.sampled_from(["summarized", "omitted", "x"])}
            )
            | st.fixed_dictionaries({"type": st.just("enabled"), "budget_tokens": st.integers(1, 99999)})
            | st.fixed_dictionaries({"type": st.sampled_from(["disabled", "x_other"])}, optional={"x_more": JSON}),
            "output_config": st.none()
            | st.fixed_dictionaries(
                {},
                optional={
                    "effort": st.none() | st.sampled_from(["low", "max"]),
                    "format": st.none()
                    | st.fixed_dictionaries(
                        {"type": st.just("json_schema"), "schema": st.dictionaries(TEXT, JSON, max_size=1)}
                    ),
                    "x_more": JSON,
                },
            ),
            "metadata": st.none() | st.fixed_dictionaries({}, optional={"user_id": st.none() | TEXT, "x_more": JSON}),
            "service_tier": st.sampled_from(["auto", "standard_only", "default", "x_tier"]),
        },
    ),
    EXTRA,
)


@given(BODIES)
def test_generated_requests_come_back_as_they_were(body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    # A model that must begin its turn with reasoning would not be given some of these histories.
    assert given_back(text, needs_thinking_first=False) == value(text) | {"model": "target"}

"""Requests of the format: read, and written back as they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniroute.errors import InvalidRequest, MissingField
from omniroute.formats.canonical import (
    CallKind,
    ChoiceMode,
    Effort,
    Media,
    MediaKind,
    Role,
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
from omniroute.formats.losses import SPELLING
from omniroute.formats.openai_chat.request_parser import parse_request
from tests.formats.openai_chat.fixtures import cases, parsed, read, rendered, request


def as_it_was(body: bytes) -> dict[str, Any]:
    original = json.loads(body)
    written = rendered(parse_request(body, no_pause))
    assert written.pop("model") == "target"
    original.pop("model", None)
    if original.get("stream"):  # the gateway's own wish, like the model
        original["stream_options"] = {**(original.get("stream_options") or {}), "include_usage": True}
    assert written == original
    return written


@pytest.mark.parametrize("case", cases("request.json"))
def test_a_request_comes_back_as_it_was(case: str) -> None:
    assert as_it_was(read(case, "request.json"))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
_UNKNOWN = st.dictionaries(st.text(min_size=1, max_size=6).map(lambda name: f"x_{name}"), _JSON, max_size=2)


def _with(required: dict[str, Any], optional: dict[str, Any] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    known = st.fixed_dictionaries(required, optional=optional or {})
    return st.tuples(known, _UNKNOWN).map(lambda pair: {**pair[1], **pair[0]})


_TEXT_PART = _with({"type": st.just("text"), "text": st.text()}, {"cache_control": st.just({"type": "ephemeral"})})
_IMAGE_PART = _with(
    {
        "type": st.just("image_url"),
        "image_url": _with(
            {"url": st.sampled_from(["https://e.com/a", "data:image/png;base64,aaaa", "data:,x", "aaaa"])},
            {"detail": st.sampled_from(["low", None])},
        ),
    }
)
_FILE_PART = _with({"type": st.just("file"), "file": _with({"file_id": st.text()}, {"filename": st.text()})})
_ODD_PART = _with({"type": st.just("hologram")})
_CONTENT = st.text() | st.lists(_TEXT_PART | _IMAGE_PART | _FILE_PART | _ODD_PART, max_size=3)
_CALL = _with(
    {"id": st.text(), "type": st.just("function"), "function": _with({"name": st.text(), "arguments": st.text()})},
    {"extra_content": st.just({"google": {"thought_signature": "s"}}) | st.none()},
) | _with({"id": st.text(), "type": st.just("custom"), "custom": _with({"name": st.text(), "input": st.text()})})
_NUMBERED = {
    "index": st.integers(0, 3),
    "format": st.sampled_from(["anthropic-claude-v1", None]),
    "id": st.sampled_from(["rs_1", None]),
}
_SIGNATURE = st.sampled_from(["sig==", None])
_DETAIL = st.one_of(
    _with({"type": st.just("reasoning.text")}, {**_NUMBERED, "text": st.text() | st.none(), "signature": _SIGNATURE}),
    _with({"type": st.just("reasoning.summary"), "summary": st.text()}, _NUMBERED),
    _with({"type": st.just("reasoning.encrypted"), "data": st.just("enc")}, _NUMBERED),
)
_NULLS = st.none()
_MESSAGE = st.one_of(
    _with({"role": st.sampled_from(["system", "developer", "user"]), "content": _CONTENT}, {"name": st.text()}),
    _with(
        {"role": st.just("assistant")},
        {
            "content": _CONTENT | _NULLS,
            "name": st.text() | _NULLS,
            "refusal": st.text() | _NULLS,
            "tool_calls": st.lists(_CALL, max_size=2) | _NULLS,
            "function_call": st.fixed_dictionaries({"name": st.text(), "arguments": st.text()}) | _NULLS,
            "reasoning_content": st.text() | _NULLS,
            "reasoning": st.text() | _NULLS,
            "reasoning_details": st.lists(_DETAIL, max_size=2) | _NULLS,
            "annotations": st.just([]) | _NULLS,
            "audio": st.just({"id": "a"}) | _NULLS,
        },
    ),
    _with(
        {"role": st.just("tool"), "tool_call_id": st.text(min_size=1), "content": _CONTENT | _NULLS},
        {"name": st.text()},
    ),
    _with({"role": st.just("function"), "name": st.text(), "content": _CONTENT | _NULLS}),
)
_TOOL = _with(
    {
        "type": st.just("function"),
        "function": _with(
            {"name": st.text()},
            {"description": st.text() | _NULLS, "parameters": st.just({"type": "object"}), "strict": st.booleans()},
        ),
    },
    {"cache_control": st.just({"type": "ephemeral"})},
)
_REQUEST = _with(
    {"model": st.text(), "messages": st.lists(_MESSAGE, min_size=1, max_size=4)},
    {
        "temperature": st.floats(0, 2) | _NULLS,
        "max_tokens": st.integers(1, 9) | _NULLS,
        "max_completion_tokens": st.integers(1, 9) | _NULLS,
        "stop": st.text() | st.lists(st.text(), max_size=5) | _NULLS,
        "seed": st.integers() | _NULLS,
        "user": st.text() | _NULLS,
        "safety_identifier": st.text() | _NULLS,
        "tools": st.lists(_TOOL, max_size=2) | _NULLS,
        "tool_choice": st.sampled_from(["auto", "none", "required", "any", None, {"type": "auto"}]),
        "parallel_tool_calls": st.booleans() | _NULLS,
        "stream": st.booleans() | _NULLS,
        "stream_options": st.fixed_dictionaries({}, optional={"include_usage": st.booleans()}) | _NULLS,
        "reasoning_effort": st.sampled_from([*Effort, None]),
        "reasoning": _with({}, {"effort": st.sampled_from(["low", None]), "max_tokens": st.integers(0, 9)}) | _NULLS,
        "thinking": st.sampled_from([{"type": "enabled", "budget_tokens": 9}, {"type": "disabled"}, None]),
        "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}, None]),
        "modalities": st.sampled_from([["text"], ["text", "audio"], ["image", "text"], None]),
        "audio": st.just({"voice": "alloy", "format": "wav"}) | _NULLS,
        "n": st.integers(1, 3) | _NULLS,
        "logprobs": st.booleans() | _NULLS,
        "metadata": st.dictionaries(st.text(), st.text(), max_size=2) | _NULLS,
        "store": st.booleans() | _NULLS,
    },
)


@settings(max_examples=60)
@given(_REQUEST)
def test_any_request_comes_back_as_it_was(body: dict[str, Any]) -> None:
    assert as_it_was(json.dumps(body).encode()) is not None


def test_the_members_of_a_request_are_read() -> None:
    asked = parse_request(read("system_and_developer", "request.json"), no_pause)
    assert [(message.role, message.name) for message in asked.system] == [
        (Role.DEVELOPER, None),
        (Role.SYSTEM, "policy"),
    ]
    assert [message.role for message in asked.messages] == [Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.USER]
    assert asked.messages[0].plain
    assert asked.messages[-1].name == "alice"
    assert (asked.max_output, asked.verbosity, asked.store, asked.user) == (256, "low", False, "u-1")
    assert (asked.cache_key, asked.service_tier) == ("k-1", "flex")
    assert asked.reasoning is not None
    assert asked.reasoning.effort is Effort.LOW


def test_knobs_are_read() -> None:
    asked = parse_request(read("all_knobs", "request.json"), no_pause)
    assert (asked.temperature, asked.top_p, asked.top_k, asked.seed) == (0.7, 0.95, 40, 12345678901234567890)
    assert (asked.stop, asked.n, asked.max_output, asked.user) == (("\n\n", "END"), 2, 100, "abc")
    assert (asked.stream, asked.include_usage, asked.logprobs, asked.top_logprobs) == (True, True, True, 3)
    assert asked.output is None
    said = {name for name in asked.extra if not name.startswith(SPELLING)}
    assert said == {"web_search_options", "prediction", "moderation", "temperature_note"}


def test_a_null_member_says_nothing_and_is_no_loss() -> None:
    asked = parse_request(read("multi_turn_sdk_replay", "request.json"), no_pause)
    assert all(name.startswith(SPELLING) for name in asked.extra)
    assert all(name.startswith(SPELLING) for message in asked.messages for name in message.extra)
    assert (asked.stop, asked.tools, asked.max_output) == ((), (), None)


def test_parts_become_media() -> None:
    blocks = parse_request(read("images", "request.json"), no_pause).messages[0].blocks
    kinds = [(block.kind, block.source, block.mime) for block in blocks if isinstance(block, Media)]
    assert kinds == [
        (MediaKind.IMAGE, SourceKind.INLINE, "image/png"),
        (MediaKind.IMAGE, SourceKind.URL, None),
        (MediaKind.IMAGE, SourceKind.INLINE, "image/jpg"),
        (MediaKind.IMAGE, SourceKind.INLINE, "IMAGE/PNG"),
        (MediaKind.VIDEO, SourceKind.URL, None),
        (MediaKind.IMAGE, SourceKind.INLINE, None),
    ]
    first = blocks[1]
    assert isinstance(first, Media)
    assert first.detail == "low"
    assert first.data.startswith("iVBOR")


def test_files_and_recordings_become_media() -> None:
    asked = parse_request(read("documents_and_audio", "request.json"), no_pause)
    found = [(block.kind, block.source, block.mime, block.name) for block in asked.messages[0].blocks]  # type: ignore[union-attr]
    assert found == [
        (MediaKind.DOCUMENT, SourceKind.INLINE, "application/pdf", "a.pdf"),
        (MediaKind.DOCUMENT, SourceKind.FILE_ID, None, None),
        (MediaKind.DOCUMENT, SourceKind.INLINE, "text/plain", "notes.txt"),
        (MediaKind.AUDIO, SourceKind.INLINE, "audio/wav", None),
        (MediaKind.AUDIO, SourceKind.INLINE, "audio/flac", None),
    ]
    assert asked.audio_output is not None
    spoken = asked.messages[1].blocks[0]
    assert isinstance(spoken, Media)
    assert (spoken.source, spoken.data) == (SourceKind.FILE_ID, "audio_abc123")


def test_calls_and_results_are_read() -> None:
    asked = parse_request(read("parallel_tools_with_text", "request.json"), no_pause)
    turn = asked.messages[1]
    assert turn.blocks[0] == Text("Looking.")
    second = turn.blocks[2]
    assert isinstance(second, ToolCall)
    assert (second.id, second.arguments) == ("call_2", '{"city": "Rome", "n": 1e400, "z": -0}')
    results = [message.blocks[0] for message in asked.messages if message.role is Role.TOOL]
    assert all(isinstance(result, ToolResult) for result in results)
    assert [len(result.blocks) for result in results if isinstance(result, ToolResult)] == [1, 2]


def test_t70_numbers_in_schemas_and_arguments_keep_their_spelling() -> None:
    asked = parse_request(read("parallel_tools_with_text", "request.json"), no_pause)
    tool = asked.tools[1]
    assert isinstance(tool, Tool)
    assert tool.schema is not None
    assert b"9007199254740993123" in bytes(tool.schema)


def test_a_failed_result_is_known_by_its_mark() -> None:
    result = parse_request(read("tool_error", "request.json"), no_pause).messages[2].blocks[0]
    assert isinstance(result, ToolResult)
    assert result.is_error
    assert result.blocks == (Text("ENOENT: no such file"),)


def test_t13_custom_tools_are_read() -> None:
    asked = parse_request(read("custom_tool", "request.json"), no_pause)
    tool = asked.tools[0]
    assert isinstance(tool, Tool)
    assert (tool.kind, tool.name) == (CallKind.CUSTOM, "apply_patch")
    assert tool.format is not None
    call = asked.messages[1].blocks[0]
    assert isinstance(call, ToolCall)
    assert call.kind is CallKind.CUSTOM
    assert call.arguments.startswith("*** Begin Patch\n")


def test_t15_legacy_functions_are_tools() -> None:
    asked = parse_request(read("legacy_functions", "request.json"), no_pause)
    assert [tool.name for tool in asked.tools] == ["get_weather"]
    assert asked.tool_choice is not None
    assert (asked.tool_choice.mode, asked.tool_choice.names) == (ChoiceMode.NAMED, ("get_weather",))
    assert asked.parallel_tools is False
    call, result = asked.messages[1].blocks[0], asked.messages[2].blocks[0]
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert (call.id, call.name, result.call_id, result.name) == ("", "get_weather", "", "get_weather")


def test_reasoning_of_the_history_is_read_once() -> None:
    asked = parse_request(read("reasoning_details", "request.json"), no_pause)
    thoughts = [block for block in asked.messages[1].blocks if isinstance(block, Thinking)]
    assert [thought.text for thought in thoughts] == ["I should call the tool.", ""]
    assert [thought.redacted for thought in thoughts] == [False, True]
    tokens = [json.loads(thought.token.value) for thought in thoughts if thought.token is not None]
    assert [token.get("signature") or token["data"] for token in tokens] == [
        "ErcBCkgIBRABGAIiQL8signed==",
        "gAAAAABencrypted==",
    ]
    assert all(token["format"] == "anthropic-claude-v1" for token in tokens)


def test_a_signature_beside_plain_reasoning_is_of_that_reasoning() -> None:
    details = [{"type": "reasoning.text", "signature": "sig", "index": 0}]
    message = {"role": "assistant", "content": "x", "reasoning_content": "Because.", "reasoning_details": details}
    asked = parsed(messages=[{"role": "user", "content": "q"}, message])
    thought = asked.messages[1].blocks[0]
    assert isinstance(thought, Thinking)
    assert thought.token is not None
    assert (thought.text, thought.token.value) == ("Because.", "sig")


def test_a_thought_signature_is_the_token_of_its_call() -> None:
    calls = parse_request(read("google_signature", "request.json"), no_pause).messages[1].blocks
    assert isinstance(calls[0], ToolCall)
    assert isinstance(calls[1], ToolCall)
    assert calls[0].token is not None
    assert (calls[0].token.value, calls[1].token) == ("CiQBsig==", None)


def test_unknown_parts_and_tools_are_kept() -> None:
    asked = parse_request(read("unknown_fields", "request.json"), no_pause)
    assert isinstance(asked.messages[0].blocks[1], Unknown)
    assert [tool.type for tool in asked.tools if isinstance(tool, ServerToolDefinition)] == [
        "builtin_function",
        "web_search",
    ]
    assert asked.reasoning is not None
    assert asked.reasoning.budget == 2048


@pytest.mark.parametrize(
    ("choice", "mode", "names"),
    [
        ("auto", ChoiceMode.AUTO, ()),
        ("none", ChoiceMode.NONE, ()),
        ("required", ChoiceMode.REQUIRED, ()),
        ("any", ChoiceMode.REQUIRED, ()),
        ({"type": "function", "function": {"name": "f"}}, ChoiceMode.NAMED, ("f",)),
        ({"type": "function", "name": "f"}, ChoiceMode.NAMED, ("f",)),
        ({"type": "custom", "custom": {"name": "f"}}, ChoiceMode.NAMED, ("f",)),
        ({"type": "tool", "name": "f"}, ChoiceMode.NAMED, ("f",)),
        ({"type": "auto"}, ChoiceMode.AUTO, ()),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
            ChoiceMode.REQUIRED,
            ("f",),
        ),
    ],
)
def test_t11_all_choices_are_read(choice: Any, mode: ChoiceMode, names: tuple[str, ...]) -> None:
    asked = parsed(tool_choice=choice)
    assert asked.tool_choice is not None
    assert (asked.tool_choice.mode, asked.tool_choice.names) == (mode, names)


@pytest.mark.parametrize(
    ("members", "effort", "budget"),
    [
        ({"reasoning_effort": "high"}, Effort.HIGH, None),
        ({"reasoning": {"effort": "low"}}, Effort.LOW, None),
        ({"reasoning": {"max_tokens": 2000}}, None, 2000),
        ({"reasoning": {"enabled": True}}, None, -1),
        ({"reasoning": {"enabled": False}}, None, 0),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, None, 5),
        ({"thinking": {"type": "disabled"}}, None, 0),
        ({"thinking": {"type": "adaptive"}}, None, None),
        ({"enable_thinking": True, "thinking_budget": 7}, None, 7),
        ({"enable_thinking": False, "thinking_budget": 7}, None, 0),
        ({"reasoning_effort": "high", "thinking": {"type": "enabled"}}, Effort.HIGH, -1),
    ],
)
def test_all_words_for_reasoning_are_read(members: dict[str, Any], effort: Effort | None, budget: int | None) -> None:
    asked = parsed(**members)
    assert asked.reasoning is not None
    assert (asked.reasoning.effort, asked.reasoning.budget) == (effort, budget)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": "x"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [1]}, "messages.0"),
        ({"messages": [{"role": "robot"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": {"a": 1}}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]}, "messages.0.content.0.text"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "assistant", "tool_calls": [3]}]}, "messages.0.tool_calls.0"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": []}]}]},
            "messages.0.tool_calls.0.function",
        ),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 3}}]}, "tools.0.function.parameters"),
        ({"functions": [{"name": "f"}], "tools": [{"type": "function", "function": {"name": "f"}}]}, "functions"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"stop": 3}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 3}}, "stream_options.include_usage"),
        ({"reasoning_effort": "very"}, "reasoning_effort"),
        ({"thinking": {"type": "deep"}}, "thinking.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_t67_a_value_of_a_wrong_shape_is_named(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(request(**members), no_pause)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"tools": [{"type": "function", "name": "f"}]}, "tools.0.function"),
        ({"functions": [{}], "tools": []}, "functions.0.name"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages.0.content.0.image_url.url",
        ),
    ],
)
def test_a_missing_member_is_named(members: dict[str, Any], param: str) -> None:
    with pytest.raises(MissingField) as refused:
        parse_request(request(**members), no_pause)
    assert refused.value.param == param


@given(st.dictionaries(st.sampled_from([*json.loads(read("all_knobs", "request.json")), "audio"]), _JSON, max_size=4))
def test_nonsense_is_refused_and_never_crashes(members: dict[str, Any]) -> None:
    assert _outcome(members)


@given(_JSON, st.sampled_from(["role", "content", "name", "tool_calls", "reasoning_details", "audio", "function_call"]))
def test_nonsense_in_a_message_is_refused_and_never_crashes(value: Any, member: str) -> None:
    for role in ("user", "assistant", "tool", "function"):
        message = {"role": role, "content": "x", "tool_call_id": "c", "name": "n", member: value}
        assert _outcome({"messages": [message]}).startswith(("parsed", "messages.0"))


def _outcome(members: dict[str, Any]) -> str:
    """Return which member of a body is refused, or that none is."""
    try:
        parse_request(json.dumps(members).encode(), no_pause)
    except (InvalidRequest, MissingField) as refused:
        return refused.param or ""
    return "parsed"


def test_t71_half_of_a_surrogate_pair_does_not_refuse_the_request() -> None:
    body = rb'{"model":"m","messages":[{"role":"user","content":"cut \ud83d here \ud83d\ude00 \\ud83d"}]}'
    asked = parse_request(body, no_pause)
    assert asked.messages[0].blocks == (Text("cut \ufffd here 😀 \\ud83d"),)


def test_every_message_gives_way_to_others() -> None:
    pauses: list[int] = []
    body = request(messages=[{"role": "user", "content": "x"}] * 5)
    parse_request(body, lambda: pauses.append(1))
    assert len(pauses) >= 5

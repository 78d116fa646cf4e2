"""Requests in this format: read, and given back as they were."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import InvalidRequest, MissingField, UnsupportedFeature
from omniroute.formats.canonical import (
    Effort,
    Media,
    MediaKind,
    Output,
    Reasoning,
    Request,
    Role,
    SourceKind,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from omniroute.formats.codec import no_pause
from omniroute.formats.losses import SPELLING, Losses
from omniroute.formats.ollama.request_parser import parse_generate_request, parse_request
from omniroute.formats.ollama.request_renderer import render_request
from omniroute.formats.profile import profile_for
from omniroute.formats.wire import WireFormat
from tests.formats.ollama.fixtures import REQUESTS, request_of, value

OLLAMA = WireFormat.OLLAMA


def parsed(body: dict[str, Any] | bytes) -> Request:
    return parse_request(body if isinstance(body, bytes) else json.dumps(body).encode(), no_pause)


def generated(**members: Any) -> Request:
    return parse_generate_request(json.dumps({"model": "m", **members}).encode(), no_pause)


def given_back(body: bytes) -> Any:
    losses = Losses(OLLAMA)
    rendered = render_request(parsed(body), profile_for(OLLAMA, "target"), losses, no_pause)
    assert losses.paths == ()
    return value(rendered)


def minimal(**members: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **members}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_request_comes_back_as_it_was(case: str) -> None:
    body = request_of(case)
    assert given_back(body) == value(body) | {"model": "target"}


def test_t70_t71_arguments_keep_their_spelling() -> None:
    request = parsed(request_of("oddities"))
    call = next(block for message in request.messages for block in message.blocks if isinstance(block, ToolCall))
    assert call.arguments == (
        '{"n": 1e400, "big": 12345678901234567890123, "neg": -0, "s": "\\u00e9\\/\\ud83d\\ude00"}'
    )
    assert call.arguments.encode() in render_request(request, profile_for(OLLAMA, "m"), Losses(OLLAMA), no_pause)


def test_the_parameters() -> None:
    request = parsed(request_of("options"))
    assert [message.role for message in request.system] == [Role.SYSTEM, Role.SYSTEM]
    assert [message.role for message in request.messages] == [Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.USER]
    assert (request.max_output, request.temperature, request.top_p, request.top_k) == (100, 0.8, 0.9, 20)
    assert (request.seed, request.stop) == (42, ("\n", "user:"))
    assert (request.presence_penalty, request.frequency_penalty) == (1.5, 1.0)
    assert request.output == Output()
    assert request.reasoning == Reasoning(effort=Effort.NONE)
    assert request.stream  # unsaid, it means yes
    meant = {name for name in request.extra if not name.startswith(SPELLING)}
    assert meant == {
        "options.num_ctx",
        "options.min_p",
        "options.repeat_penalty",
        "options.mirostat",
        "keep_alive",
        "truncate",
    }


def test_t05_t07_calls_get_ids_and_results_find_their_call() -> None:
    messages = parsed(request_of("tools")).messages
    calls = [block for message in messages for block in message.blocks if isinstance(block, ToolCall)]
    results = [block for message in messages for block in message.blocks if isinstance(block, ToolResult)]
    assert [call.id for call in calls] == ["call_1", "call_2", "call_3", "call_x1"]
    # The one of the name first, then the first that is left; an orphan gets an id that no call has.
    assert [(result.call_id, result.name) for result in results] == [
        ("call_3", "now"),
        ("call_1", "get_weather"),
        ("call_2", "get_weather"),
        ("call_x1", "now"),
        ("call_8_without_call", None),
    ]
    assert parsed(request_of("tools")) == parsed(request_of("tools"))


def test_t24_images_stand_beside_the_text() -> None:
    message = parsed(request_of("thinking")).messages[0]
    assert message.blocks == (
        Text("What is this?"),
        Media(MediaKind.IMAGE, SourceKind.INLINE, "iVBORw0KGgo="),
        Media(MediaKind.IMAGE, SourceKind.INLINE, "/9j/4AAQ"),
    )


def test_thinking_levels_and_logprobs() -> None:
    request = parsed(request_of("thinking"))
    assert request.reasoning == Reasoning(effort=Effort.HIGH, is_visible=True)
    assert (request.logprobs, request.top_logprobs) == (True, 2)
    assert request.output is not None
    assert request.output.schema is not None
    assert request.messages[1].blocks == (Thinking("Fur."), Text("A cat."))
    assert parsed(minimal(think=True)).reasoning == Reasoning(is_adaptive=True, is_visible=True)


def test_a_stream_is_refused_in_words_only() -> None:
    assert parsed(minimal()).stream
    assert parsed(minimal(stream=True)).stream
    assert not parsed(minimal(stream=False)).stream


def test_what_the_gateway_wants_overrides_what_the_client_said_of_streaming() -> None:
    for said in ({}, {"stream": True}, {"stream": None}, {"stream": False}):
        request = parsed(minimal(**said))
        for wanted in (True, False):
            changed = msgspec.structs.replace(request, stream=wanted)
            body = value(render_request(changed, profile_for(OLLAMA, "m"), Losses(OLLAMA), no_pause))
            assert (body.get("stream") is not False) is wanted


def test_a_prompt_is_a_chat_of_one_message() -> None:
    request = generated(
        prompt="Why?", system="Be brief.", images=["iVBORw0KGgo="], stream=False, options={"seed": 1}, context=[]
    )
    assert request.system[0].blocks == (Text("Be brief."),)
    assert request.messages[0].blocks == (Text("Why?"), Media(MediaKind.IMAGE, SourceKind.INLINE, "iVBORw0KGgo="))
    assert request.seed == 1
    assert not request.stream
    body = value(render_request(request, profile_for(OLLAMA, "target"), Losses(OLLAMA), no_pause))
    assert body == {
        "model": "target",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why?", "images": ["iVBORw0KGgo="]},
        ],
        "options": {"seed": 1},
        "stream": False,
    }


@pytest.mark.parametrize(
    ("name", "given_value"), [("suffix", "}"), ("template", "{{ .Prompt }}"), ("context", [1, 2]), ("raw", True)]
)
def test_a_prompt_that_is_no_message_is_refused(name: str, given_value: Any) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        generated(prompt="x", **{name: given_value})
    assert caught.value.param == name


def test_a_missing_prompt_is_a_missing_field() -> None:
    with pytest.raises(MissingField) as caught:
        generated()
    assert caught.value.param == "prompt"


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"messages": "Hi"}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": [1]}, "messages.0"),
    ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": "x", "images": "y"}]}, "messages.0.images"),
    ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages.0.tool_calls.0.function"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
        "messages.0.tool_calls.0.function.arguments",
    ),
    ({"tools": {}}, "tools"),
    ({"tools": [{"type": "function"}]}, "tools.0.function"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools.0.function.name"),
    ({"options": []}, "options"),
    ({"options": {"temperature": "hot"}}, "options.temperature"),
    ({"options": {"seed": 1.5}}, "options.seed"),
    ({"options": {"stop": "x"}}, "options.stop"),
    ({"think": "hard"}, "think"),
    ({"think": 5}, "think"),
    ({"format": "xml"}, "format"),
    ({"format": 5}, "format"),
    ({"stream": "yes"}, "stream"),
    ({"logprobs": 1}, "logprobs"),
    ({"model": 5}, "model"),
]


@pytest.mark.parametrize(("broken", "param"), BROKEN, ids=[param for _, param in BROKEN])
def test_a_fault_is_named_by_its_path(broken: dict[str, Any], param: str) -> None:
    with pytest.raises((InvalidRequest, MissingField)) as caught:
        parsed(minimal(**broken))
    assert caught.value.param == param


def test_it_pauses_once_per_message() -> None:
    pauses: list[int] = []
    body = json.dumps(minimal(messages=[{"role": "user", "content": "Hi"}] * 7)).encode()
    request = parse_request(body, lambda: pauses.append(1))
    assert len(pauses) >= 7
    pauses.clear()
    render_request(request, profile_for(OLLAMA, "m"), Losses(OLLAMA), lambda: pauses.append(1))
    assert len(pauses) >= 7


# --- generated requests ----------------------------------------------------------------------------------------------

NAMES = st.text("abcdefghijklmnop_", min_size=1, max_size=6).map("x_{}".format)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
EXTRA = st.dictionaries(NAMES, JSON, max_size=2)
TEXT = st.text(max_size=8)
OBJECT = st.dictionaries(st.text(max_size=4), JSON, max_size=3)
OPTIONAL: dict[str, Any] = {"content": st.none() | TEXT, "images": st.none() | st.lists(TEXT, max_size=2)}


def shaped(fixed: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda a, b: {**b, **a}, st.fixed_dictionaries(fixed, optional=optional), EXTRA)


CALLS = shaped(
    {"function": shaped({"name": TEXT}, {"arguments": OBJECT, "index": st.integers(0, 9), "description": st.none()})},
    {"id": st.none() | st.text(min_size=1, max_size=4), "type": st.just("function")},
)
TURNS = st.one_of(
    shaped({"role": st.sampled_from(["user", "system"])}, OPTIONAL),
    shaped(
        {"role": st.just("assistant")},
        {**OPTIONAL, "thinking": st.none() | TEXT, "tool_calls": st.none() | st.lists(CALLS, max_size=3)},
    ),
    shaped(
        {"role": st.just("tool")},
        {**OPTIONAL, "tool_name": st.none() | TEXT, "tool_call_id": st.none() | st.text(min_size=1, max_size=4)},
    ),
)
TOOLS = shaped(
    {
        "function": shaped(
            {"name": TEXT}, {"description": st.none() | TEXT, "parameters": OBJECT, "strict": st.booleans()}
        )
    },
    {"type": st.just("function")},
)
BODIES = shaped(
    {"model": st.just("m"), "messages": st.lists(TURNS, min_size=1, max_size=6)},
    {
        "stream": st.none() | st.booleans(),
        "format": st.none() | st.sampled_from(["", "json"]) | OBJECT,
        "think": st.none() | st.booleans() | st.sampled_from(["low", "medium", "high", ""]),
        "tools": st.none() | st.lists(TOOLS, max_size=2),
        "logprobs": st.booleans(),
        "top_logprobs": st.integers(0, 20),
        "options": st.none()
        | shaped(
            {},
            {
                "num_predict": st.none() | st.integers(-2, 99),
                "temperature": st.none() | st.floats(0, 2),
                "top_p": st.floats(0, 1),
                "top_k": st.none() | st.integers(0, 99) | st.just(4.0),
                "seed": st.integers(-9, 1 << 40),
                "stop": st.none() | st.lists(TEXT, max_size=2),
            },
        ),
    },
)


@given(BODIES)
def test_generated_requests_come_back_as_they_were(body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    assert given_back(text) == value(text) | {"model": "target"}

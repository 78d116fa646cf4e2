"""Requests of other formats, rendered for an Ollama target."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from omniroute.errors import UnsupportedFeature
from omniroute.formats.canonical import (
    ChoiceMode,
    Citation,
    Effort,
    Media,
    MediaKind,
    Message,
    Output,
    Reasoning,
    Refusal,
    Request,
    Role,
    ServerTool,
    SourceKind,
    Text,
    Thinking,
    Token,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Unknown,
)
from omniroute.formats.codec import no_pause
from omniroute.formats.losses import Losses
from omniroute.formats.ollama.request_renderer import (
    ERROR_MARK,
    LARGEST_WINDOW,
    SMALLEST_WINDOW,
    render_request,
)
from omniroute.formats.prepare import prepare
from omniroute.formats.profile import ReasoningStyle, profile_for
from omniroute.formats.wire import WireFormat
from tests.formats.ollama.fixtures import chat, user, value

OLLAMA, CHAT = WireFormat.OLLAMA, WireFormat.OPENAI_CHAT
SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"n":{"type":"number","maximum":1e400}}}')
RAW = msgspec.Raw(b'{"a":"b"}')
TOOLS = (Tool("f", "Does f.", SCHEMA), Tool("g"))


def rendered(request: Request, **facts: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    profile = profile_for(OLLAMA, "qwen3", **facts)
    losses = Losses(OLLAMA)
    body = render_request(request, profile, losses, no_pause)
    assert body == render_request(request, profile, Losses(OLLAMA), no_pause)  # T44
    return value(body), losses.paths


def body_of(request: Request, **facts: Any) -> dict[str, Any]:
    body, losses = rendered(request, **facts)
    assert losses == ()
    return body


def test_the_least_request_says_that_it_does_not_stream() -> None:
    assert body_of(chat()) == {
        "model": "qwen3",
        "messages": [{"role": "user", "content": "Hi"}],
        "options": {"num_ctx": SMALLEST_WINDOW},
        "stream": False,
    }
    assert body_of(chat(stream=True))["stream"] is True


def test_t29_t33_system_and_developer_text_stays_in_place() -> None:
    request = chat(
        user("a"),
        Message(Role.DEVELOPER, (Text("b"),)),
        user("c"),
        system=(Message(Role.SYSTEM, (Text("x"), Text("y"))), Message(Role.DEVELOPER, (Text("z"),))),
    )
    assert [(message["role"], message["content"]) for message in body_of(request)["messages"]] == [
        ("system", "x\n\ny"),
        ("system", "z"),
        ("user", "a"),
        ("system", "b"),
        ("user", "c"),
    ]


def test_t08_t10_calls_are_objects_and_each_result_a_message() -> None:
    request = chat(
        user("Go"),
        Message(
            Role.ASSISTANT, (Thinking("hm"), Text("I do."), ToolCall("a", "f", ""), ToolCall("b", "g", '{"n":1e400}'))
        ),
        Message(
            Role.TOOL,
            (
                ToolResult("a", (Text("one"),), name="f"),
                ToolResult("b", (Text("two"),), is_error=True, name="g"),
            ),
        ),
        tools=TOOLS,
    )
    messages = body_of(request)["messages"][1:]
    assert messages == [
        {
            "role": "assistant",
            "content": "I do.",
            "thinking": "hm",
            "tool_calls": [
                {"function": {"name": "f", "arguments": {}}},
                {"function": {"name": "g", "arguments": {"n": value("1e400")}}},
            ],
        },
        {"role": "tool", "content": "one", "tool_name": "f"},
        {"role": "tool", "content": f"{ERROR_MARK}two", "tool_name": "g"},
    ]


@pytest.mark.parametrize(("arguments", "expected"), [("{", {"raw_arguments": "{"}), ('"{\\"a\\":1}"', {"a": 1})])
def test_t02_arguments_that_are_no_object_stay_readable(arguments: str, expected: dict[str, Any]) -> None:
    body = body_of(chat(user("x"), Message(Role.ASSISTANT, (ToolCall("a", "f", arguments),)), tools=TOOLS))
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == expected


def test_t67_images_stand_beside_the_text() -> None:
    image = Media(MediaKind.IMAGE, SourceKind.INLINE, "iVBORw0KGgo=", "image/png", detail="low")
    body, losses = rendered(chat(Message(Role.USER, (Text("a"), image, Text("b")))))
    assert body["messages"] == [{"role": "user", "content": "a\n\nb", "images": ["iVBORw0KGgo="]}]
    assert losses == ("media.detail",)


@pytest.mark.parametrize(
    "media",
    [
        Media(MediaKind.AUDIO, SourceKind.INLINE, "AAAA", "audio/wav"),
        Media(MediaKind.IMAGE, SourceKind.URL, "https://e.com/a.png"),
    ],
)
def test_media_that_cannot_be_said_is_refused(media: Media) -> None:
    with pytest.raises(UnsupportedFeature):
        rendered(chat(Message(Role.USER, (media,))))


def test_refusals_notes_and_what_is_declared_of_blocks() -> None:
    blocks = (
        Thinking("", Token("t", CHAT), redacted=True),
        Refusal("No."),
        ServerTool(WireFormat.GEMINI, RAW, "[It searched.]"),
        Text("x", cache=RAW, citations=(Citation(CHAT, RAW),), extra={"y": RAW}),
    )
    body, losses = rendered(chat(user("a"), Message(Role.ASSISTANT, blocks, extra={"z": RAW}), user("b")))
    assert body["messages"][1] == {"role": "assistant", "content": "No.\n\n[It searched.]\n\nx"}
    assert losses == ("messages.extra.z", "thinking", "messages.extra.y", "cache", "citations")


def test_a_block_that_only_another_format_knows_is_refused() -> None:
    with pytest.raises(UnsupportedFeature):
        rendered(chat(Message(Role.ASSISTANT, (Unknown(WireFormat.GEMINI, RAW),))))


# --- tools -----------------------------------------------------------------------------------------------------------


def test_t49_tools_have_an_object_at_the_root() -> None:
    assert body_of(chat(tools=TOOLS))["tools"] == [
        {"type": "function", "function": {"name": "f", "description": "Does f.", "parameters": value(bytes(SCHEMA))}},
        {
            "type": "function",
            "function": {"name": "g", "description": "", "parameters": {"type": "object", "properties": {}}},
        },
    ]
    assert "tools" not in body_of(chat())


@pytest.mark.parametrize(
    ("choice", "tools", "losses"),
    [
        (ToolChoice(ChoiceMode.AUTO), ["f", "g"], ()),
        (ToolChoice(ChoiceMode.NONE), [], ()),
        (ToolChoice(ChoiceMode.REQUIRED), ["f", "g"], ("tool_choice",)),
        (ToolChoice(ChoiceMode.NAMED, ("g",)), ["g"], ("tool_choice",)),
    ],
)
def test_t11_the_choice_is_said_with_the_definitions(
    choice: ToolChoice, tools: list[str], losses: tuple[str, ...]
) -> None:
    body, found = rendered(chat(tools=TOOLS, tool_choice=choice))
    assert [tool["function"]["name"] for tool in body.get("tools", ())] == tools
    assert found == losses
    assert "tool_choice" not in body


def test_what_of_tools_is_declared() -> None:
    tools = (Tool("f", strict=True, cache=RAW, extra={"x": RAW}),)
    assert rendered(chat(tools=tools, parallel_tools=False))[1] == (
        "parallel_tools",
        "tools.extra.x",
        "cache",
        "tools.strict",
    )


# --- parameters ------------------------------------------------------------------------------------------------------


def test_t36_t58_options() -> None:
    request = chat(
        max_output=500,
        temperature=1.5,
        top_p=0.5,
        top_k=4,
        seed=7,
        frequency_penalty=0.5,
        presence_penalty=0.25,
        stop=("\n", "b", "c", "d", "e"),
    )
    body = value(render_request(request, profile_for(OLLAMA, "m", max_output=400), Losses(OLLAMA), no_pause))
    assert body["options"] == {
        "num_ctx": SMALLEST_WINDOW,
        "num_predict": 400,
        "temperature": 1.5,
        "top_p": 0.5,
        "top_k": 4,
        "seed": 7,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.25,
        "stop": ["\n", "b", "c", "d", "e"],
    }
    assert body_of(chat(temperature=1.5), max_temperature=1.0)["options"]["temperature"] == 1


def test_the_window_grows_with_the_request_in_steps_and_no_further_than_the_models() -> None:
    def window(characters: int, **facts: Any) -> int:
        size: int = body_of(chat(user("x" * characters)), **facts)["options"]["num_ctx"]
        return size

    assert [window(size) for size in (10, 18_000, 20_000, 100_000)] == [8192, 8192, 16_384, 65_536]
    assert window(3_000_000) == LARGEST_WINDOW
    assert window(3_000_000, context=40_960) == 40_960
    assert window(10, context=4096) == 4096
    assert body_of(chat(max_output=12_000))["options"]["num_ctx"] == 16_384
    image = Media(MediaKind.IMAGE, SourceKind.INLINE, "A" * 3_000_000, "image/png")
    assert body_of(chat(Message(Role.USER, (image,))))["options"]["num_ctx"] == SMALLEST_WINDOW


@pytest.mark.parametrize(
    ("reasoning", "style", "think"),
    [
        (Reasoning(effort=Effort.HIGH), ReasoningStyle.SWITCH, True),
        (Reasoning(effort=Effort.NONE), ReasoningStyle.SWITCH, False),
        (Reasoning(budget=0), ReasoningStyle.SWITCH, False),
        (Reasoning(is_adaptive=True), ReasoningStyle.SWITCH, True),
        (Reasoning(summary="auto"), ReasoningStyle.SWITCH, None),
        (Reasoning(effort=Effort.XHIGH), ReasoningStyle.EFFORT, "high"),
        (Reasoning(effort=Effort.MINIMAL), ReasoningStyle.EFFORT, "low"),
        (Reasoning(budget=10_000), ReasoningStyle.EFFORT, "medium"),
        (Reasoning(effort=Effort.HIGH), ReasoningStyle.NONE, None),
    ],
)
def test_t21_thinking_is_switched_or_graded(
    reasoning: Reasoning, style: ReasoningStyle, think: bool | str | None
) -> None:
    assert body_of(chat(reasoning=reasoning), reasoning=style).get("think") == think


def test_output() -> None:
    assert body_of(chat(output=Output()))["format"] == "json"
    body, losses = rendered(chat(output=Output(SCHEMA, "answer")))
    assert body["format"] == value(bytes(SCHEMA))
    assert losses == ("output.name",)


def test_t59_what_the_format_cannot_say_is_declared() -> None:
    body, losses = rendered(
        chat(
            Message(Role.USER, (Text("Hi"),), name="Ann"),
            logit_bias=RAW,
            logprobs=True,
            top_logprobs=2,
            user="u",
            metadata=RAW,
            cache_key="k",
            service_tier="auto",
            verbosity="low",
            store=True,
            extra={"prediction": RAW, "=spelling": RAW},
        )
    )
    assert set(body) == {"model", "messages", "options", "stream"}
    assert losses == (
        "message.name",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "user",
        "metadata",
        "cache_key",
        "service_tier",
        "verbosity",
        "store",
        "extra.prediction",
    )
    body = body_of(chat(logprobs=True, top_logprobs=2), takes_logprobs=True)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)


@pytest.mark.parametrize(
    ("members", "path"),
    [({"n": 2}, "n"), ({"audio_output": RAW}, "audio"), ({"previous_id": "resp_1"}, "previous_response_id")],
)
def test_t59_what_must_not_be_dropped_is_refused(members: dict[str, Any], path: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        rendered(chat(**members))
    assert caught.value.param == path


def test_t09_images_in_results_follow_in_a_user_message() -> None:
    image = Media(MediaKind.IMAGE, SourceKind.INLINE, "iVBORw0KGgoAAAAA", "image/png")
    request = chat(
        user("Go"),
        Message(Role.ASSISTANT, (ToolCall("a", "f", "{}"),)),
        Message(Role.TOOL, (ToolResult("a", (Text("see"), image)),)),
        tools=TOOLS,
    )
    prepared, _ = prepare(request, profile_for(OLLAMA, "qwen3"), Losses(OLLAMA))
    messages = body_of(prepared)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "user"]
    assert messages[2]["tool_name"] == "f"
    assert messages[3]["images"] == ["iVBORw0KGgoAAAAA"]

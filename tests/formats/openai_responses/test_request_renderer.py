"""Requests of other formats, as a provider of this one gets them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from omniroute.errors import UnsupportedFeature
from omniroute.formats.canonical import (
    CallKind,
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
    ServerToolDefinition,
    SourceKind,
    Text,
    Thinking,
    Token,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from omniroute.formats.losses import Losses
from omniroute.formats.profile import ReasoningStyle
from omniroute.formats.wire import WireFormat
from tests.formats.openai_responses.responses_samples import TARGET, rendered

CHAT, MESSAGES = WireFormat.OPENAI_CHAT, WireFormat.ANTHROPIC_MESSAGES
RAW = msgspec.Raw


def said(*messages: Message, **members: Any) -> Request:
    return Request(members.pop("origin", CHAT), "m", messages or (user("Hi"),), **members)


def user(*texts: str) -> Message:
    return Message(Role.USER, tuple(Text(text) for text in texts))


def items(*messages: Message, **facts: Any) -> Any:
    return rendered(said(*messages), **facts)["input"]


def test_t29_the_first_system_text_is_the_instructions_and_the_others_keep_their_places() -> None:
    body = rendered(
        said(
            user("Hi"),
            Message(Role.SYSTEM, (Text("later"),)),
            system=(
                Message(Role.SYSTEM, (Text("one", cache=RAW(b'{"type":"ephemeral"}')), Text("two"))),
                Message(Role.DEVELOPER, (Text("three"),)),
            ),
        )
    )
    assert body["instructions"] == "one\n\ntwo"
    assert [(item["role"], item["content"][0]["text"]) for item in body["input"]] == [
        ("developer", "three"),
        ("user", "Hi"),
        ("developer", "later"),
    ]


def test_t33_developer_becomes_system_for_hosts_that_lack_it() -> None:
    found = items(Message(Role.DEVELOPER, (Text("x"),)), takes_developer=False)
    assert found[0]["role"] == "system"


def test_a_tool_loop_becomes_items_in_order() -> None:
    losses = Losses(TARGET)
    request = said(
        user("Weather?"),
        Message(
            Role.ASSISTANT,
            (
                Text("Looking."),
                ToolCall("call_1", "weather", '{"city": "Oslo"}'),
                ToolCall("call_2", "patch", "*** x", CallKind.CUSTOM),
                ToolCall("call_3", "now", ""),
            ),
        ),
        Message(Role.TOOL, (ToolResult("call_1", (Text("rain"),)), ToolResult("call_2", (), kind=CallKind.CUSTOM))),
        Message(Role.TOOL, (ToolResult("call_3", (Text("no clock"),), is_error=True),)),
        Message(Role.ASSISTANT, (Text("Rain."), Refusal("No more."))),
    )
    assert rendered(request, losses)["input"] == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Looking."}]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Oslo"}'},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "*** x"},
        {"type": "function_call", "call_id": "call_3", "name": "now", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": ""},
        {"type": "function_call_output", "call_id": "call_3", "output": "[tool error] no clock"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Rain."}, {"type": "refusal", "refusal": "No more."}],
        },
    ]
    assert losses.paths == ()


def test_t10_an_error_with_an_image_is_marked_in_its_text() -> None:
    image = Media(MediaKind.IMAGE, SourceKind.INLINE, "AAAA", "image/png")
    result = ToolResult("c", (image, Text("seen")), is_error=True)
    assert items(Message(Role.TOOL, (result,)))[0]["output"] == [
        {"type": "input_text", "text": "[tool error]"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
        {"type": "input_text", "text": "seen"},
    ]
    plain = ToolResult("c", (Text("a"), Text("b")), is_error=True)
    assert items(Message(Role.TOOL, (plain,)), takes_result_media=False)[0]["output"] == "[tool error] a\nb"
    assert items(Message(Role.TOOL, (plain,)))[0]["output"][0]["text"] == "[tool error] a"


def test_t24_t26_media_is_written_as_parts() -> None:
    media = (
        Media(MediaKind.IMAGE, SourceKind.URL, "https://example.com/a.png", detail="low"),
        Media(MediaKind.DOCUMENT, SourceKind.INLINE, "JVBE", "application/pdf"),
        Media(MediaKind.DOCUMENT, SourceKind.TEXT, "plain words", name="Notes"),
        Media(MediaKind.AUDIO, SourceKind.INLINE, "UklG", "audio/mpeg"),
        Media(MediaKind.IMAGE, SourceKind.FILE_ID, "file-1"),
    )
    assert items(Message(Role.USER, media))[0]["content"] == [
        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,JVBE", "filename": "document.pdf"},
        {"type": "input_text", "text": "Notes\n\nplain words"},
        {"type": "input_audio", "input_audio": {"data": "UklG", "format": "mp3"}},
        {"type": "input_image", "file_id": "file-1", "detail": "auto"},
    ]


@pytest.mark.parametrize(
    "media",
    [
        Media(MediaKind.VIDEO, SourceKind.INLINE, "AAAA", "video/mp4"),
        Media(MediaKind.AUDIO, SourceKind.INLINE, "AAAA", "audio/flac"),
        Media(MediaKind.AUDIO, SourceKind.URL, "https://example.com/a.mp3"),
    ],
)
def test_media_without_a_part_is_refused(media: Media) -> None:
    with pytest.raises(UnsupportedFeature):
        items(Message(Role.USER, (media,)))


def test_t16_t18_reasoning_goes_back_sealed_or_to_hosts_that_want_it() -> None:
    own = Thinking("because", Token("gAAA", TARGET), id="rs_1")
    bare = Thinking("because")
    call = ToolCall("c", "f", "{}")
    losses = Losses(TARGET)
    body = rendered(said(Message(Role.ASSISTANT, (own, bare, call))), losses)
    assert body["input"][0] == {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "because"}],
        "encrypted_content": "gAAA",
    }
    assert body["input"][1]["type"] == "function_call"
    assert losses.paths == ("thinking",)
    wanted = items(Message(Role.ASSISTANT, (bare, call)), returns_thinking=True)
    assert wanted[0]["content"] == [{"type": "reasoning_text", "text": "because"}]


def test_t58_the_output_limit_is_raised_to_the_least_and_capped_by_the_model() -> None:
    assert rendered(said(max_output=1))["max_output_tokens"] == 16
    assert rendered(said(max_output=9000), max_output=4096)["max_output_tokens"] == 4096
    assert "max_output_tokens" not in rendered(said())


def test_t36_t59_what_the_format_cannot_tune_is_a_declared_loss() -> None:
    losses = Losses(TARGET)
    body = rendered(
        said(
            stop=("END",),
            seed=1,
            top_k=3,
            frequency_penalty=0.1,
            presence_penalty=0.2,
            logit_bias=RAW(b"{}"),
            temperature=0.5,
            top_p=0.9,
            logprobs=True,
            top_logprobs=25,
        ),
        losses,
        takes_sampling=False,
    )
    assert set(losses.paths) == {
        "stop",
        "seed",
        "top_k",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "temperature",
        "top_p",
    }
    assert body["include"] == ["message.output_text.logprobs"]
    assert body["top_logprobs"] == 20


@pytest.mark.parametrize(
    ("members", "param"),
    [({"n": 2}, "n"), ({"audio_output": RAW(b"{}")}, "audio"), ({"previous_id": "resp_1"}, "previous_response_id")],
)
def test_t59_what_must_not_be_dropped_is_refused(members: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        rendered(said(**members))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        (Reasoning(Effort.HIGH), {"effort": "high"}),
        (Reasoning(Effort.MAX), {"effort": "high"}),
        (Reasoning(budget=1024), {"effort": "low", "summary": "auto"}),
        (Reasoning(budget=0), {"effort": "low"}),
        (Reasoning(is_adaptive=True), {"summary": "auto"}),
        (Reasoning(Effort.LOW, is_adaptive=True, is_visible=False), {"effort": "low"}),
        (Reasoning(Effort.LOW, summary="detailed"), {"effort": "low", "summary": "detailed"}),
        (Reasoning(), None),
        (None, None),
    ],
)
def test_t21_effort_and_budget_become_the_vendors_words(reasoning: Reasoning | None, expected: Any) -> None:
    efforts = (Effort.LOW, Effort.MEDIUM, Effort.HIGH)
    body = rendered(said(reasoning=reasoning), reasoning=ReasoningStyle.EFFORT, efforts=efforts)
    assert body.get("reasoning") == expected
    assert body["include"] == ["reasoning.encrypted_content"]


def test_models_without_reasoning_are_told_nothing_of_it() -> None:
    losses = Losses(TARGET)
    body = rendered(said(reasoning=Reasoning(Effort.HIGH)), losses)
    assert "reasoning" not in body
    assert "include" not in body
    assert losses.paths == ()


def test_nothing_is_stored_unless_the_caller_asked_for_it() -> None:
    assert rendered(said())["store"] is False
    assert rendered(said(store=True))["store"] is True
    losses = Losses(TARGET)
    assert "store" not in rendered(said(store=True), losses, takes_store=False)
    assert losses.paths == ("store",)


def test_t48_strict_mode_only_where_the_schema_allows_it() -> None:
    closed = RAW(
        b'{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}'
    )
    open_schema = RAW(b'{"type":"object","properties":{"a":{"type":"string"}}}')
    losses = Losses(TARGET)
    body = rendered(
        said(
            tools=(
                Tool("a", "A", closed, strict=True),
                Tool("b", None, open_schema, strict=True),
                Tool("c", None, None),
            ),
            output=Output(open_schema, strict=True),
        ),
        losses,
    )
    assert [tool["strict"] for tool in body["tools"]] == [True, False, False]
    assert body["tools"][2]["parameters"] == {"type": "object", "properties": {}}
    assert body["text"]["format"]["strict"] is False
    assert body["text"]["format"]["name"] == "response"
    assert losses.paths == ("tools.strict",)
    assert "strict" not in rendered(said(tools=(Tool("c"),)), takes_strict=False)["tools"][0]


def test_t13_a_grammar_of_chat_is_flattened() -> None:
    nested = RAW(b'{"type":"grammar","grammar":{"syntax":"lark","definition":"start: /a/"}}')
    body = rendered(said(tools=(Tool("p", "P", kind=CallKind.CUSTOM, format=nested),)))
    assert body["tools"] == [
        {
            "type": "custom",
            "name": "p",
            "description": "P",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: /a/"},
        }
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice(ChoiceMode.AUTO), "auto"),
        (ToolChoice(ChoiceMode.NONE), "none"),
        (ToolChoice(ChoiceMode.REQUIRED), "required"),
        (ToolChoice(ChoiceMode.NAMED, ("f",)), {"type": "function", "name": "f"}),
        (ToolChoice(ChoiceMode.NAMED, ("p",)), {"type": "custom", "name": "p"}),
        (
            ToolChoice(ChoiceMode.REQUIRED, ("f", "p")),
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "p"}],
            },
        ),
    ],
)
def test_t11_all_tool_choices(choice: ToolChoice, expected: Any) -> None:
    tools = (Tool("f"), Tool("p", kind=CallKind.CUSTOM))
    assert rendered(said(tools=tools, tool_choice=choice))["tool_choice"] == expected


def test_t12_t14_neither_choice_nor_switch_without_tools() -> None:
    body = rendered(said(tool_choice=ToolChoice(ChoiceMode.AUTO), parallel_tools=False))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & body.keys()
    assert rendered(said(tools=(Tool("f"),), parallel_tools=False))["parallel_tool_calls"] is False


def test_tools_of_another_vendor_are_declared_losses() -> None:
    losses = Losses(TARGET)
    foreign = ServerToolDefinition(MESSAGES, "web_search_20250305", RAW(b"{}"), "web_search")
    body = rendered(said(tools=(foreign, Tool("f"))), losses)
    assert len(body["tools"]) == 1
    assert losses.paths == ("tools.server.web_search_20250305",)


def test_names_marks_and_extras_are_declared_losses() -> None:
    losses = Losses(TARGET)
    mark = RAW(b'{"type":"ephemeral"}')
    extra = {"x": RAW(b"1"), "=spelt": RAW(b"2")}
    request = said(
        Message(Role.USER, (Text("a", cache=mark, extra=extra),), name="ann"),
        extra={"prediction": RAW(b"{}"), "=stream": RAW(b"false")},
        origin=CHAT,
    )
    rendered(request, losses)
    assert losses.paths == ("message.name", "cache", "messages.extra.x", "extra.prediction")


def test_citations_with_an_address_are_kept() -> None:
    web = Citation(MESSAGES, RAW(b"{}"), url="https://example.com", title="E", start=0, end=1)
    page = Citation(MESSAGES, RAW(b"{}"), cited_text="x")
    losses = Losses(TARGET)
    body = rendered(said(Message(Role.ASSISTANT, (Text("a", citations=(web, page)),))), losses)
    assert [one["url"] for one in body["input"][0]["content"][0]["annotations"]] == ["https://example.com"]
    assert losses.paths == ("citations",)


def test_long_names_of_users_and_caches_become_digests() -> None:
    body = rendered(said(user="u" * 65, cache_key="short", service_tier="standard_only", verbosity="low"))
    assert len(body["safety_identifier"]) == 64
    assert body["prompt_cache_key"] == "short"
    assert body["service_tier"] == "default"
    assert body["text"] == {"verbosity": "low"}


def test_t44_the_same_request_gives_the_same_bytes() -> None:
    request = said(user("a"), Message(Role.ASSISTANT, (Thinking("t"), Text("b"))), tools=(Tool("f"),), user="u" * 70)
    assert rendered(request, returns_thinking=True) == rendered(request, returns_thinking=True)

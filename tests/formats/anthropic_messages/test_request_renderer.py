"""Requests of other formats, rendered for a Messages target."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from omniroute.errors import UnsupportedFeature
from omniroute.formats.anthropic_messages.request_renderer import JSON_ONLY, MAX_OUTPUT_UNKNOWN, render_request
from omniroute.formats.anthropic_messages.turns import CONTINUE, OPENING
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
from omniroute.formats.prepare import prepare
from omniroute.formats.profile import Profile, ReasoningStyle, profile_for
from omniroute.formats.wire import WireFormat
from tests.formats.anthropic_messages.fixtures import chat, user, value

MESSAGES, CHAT = WireFormat.ANTHROPIC_MESSAGES, WireFormat.OPENAI_CHAT
SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"n":{"type":"number","maximum":1e400}}}')
MARK = msgspec.Raw(b'{"type":"ephemeral"}')
LONG_MARK = msgspec.Raw(b'{"type":"ephemeral","ttl":"1h"}')
SIGNED = Thinking("hm", Token("SIG", MESSAGES))


def rendered(request: Request, **facts: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    profile: Profile = profile_for(MESSAGES, "claude", **facts)
    losses = Losses(MESSAGES)
    body = render_request(request, profile, losses, no_pause)
    assert body == render_request(request, profile, Losses(MESSAGES), no_pause)
    return value(body), losses.paths


def body_of(request: Request, **facts: Any) -> dict[str, Any]:
    body, losses = rendered(request, **facts)
    assert losses == ()
    return body


def assistant(*blocks: Any) -> Message:
    return Message(Role.ASSISTANT, blocks)


def results(*blocks: ToolResult) -> Message:
    return Message(Role.TOOL, blocks)


def call(call_id: str = "toolu_1", arguments: str = "{}") -> ToolCall:
    return ToolCall(call_id, "f", arguments)


TOOLS = (Tool("f", "Does f.", SCHEMA), Tool("g"))


def test_the_least_request() -> None:
    assert body_of(chat()) == {
        "model": "claude",
        "max_tokens": MAX_OUTPUT_UNKNOWN,
        "messages": [{"role": "user", "content": "Hi"}],
    }


# --- turns -----------------------------------------------------------------------------------------------------------


def test_t08_results_of_several_messages_and_text_are_one_turn_results_first() -> None:
    request = chat(
        user("Go"),
        assistant(Text("I do."), call("a"), call("b")),
        results(ToolResult("a", (Text("one"),), plain=True)),
        results(ToolResult("b", (Text("two"),), is_error=True)),
        user("Quick!"),
        tools=TOOLS,
    )
    assert body_of(request)["messages"] == [
        {"role": "user", "content": "Go"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I do."},
                {"type": "tool_use", "id": "a", "name": "f", "input": {}},
                {"type": "tool_use", "id": "b", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "one"},
                {
                    "type": "tool_result",
                    "tool_use_id": "b",
                    "content": [{"type": "text", "text": "two"}],
                    "is_error": True,
                },
                {"type": "text", "text": "Quick!"},
            ],
        },
    ]


def test_t10_an_error_without_words_gets_some() -> None:
    request = chat(user("Go"), assistant(call("a")), results(ToolResult("a", (), is_error=True)), tools=TOOLS)
    result = body_of(request)["messages"][2]["content"][0]
    assert result["is_error"] is True
    assert result["content"]


def test_t31_neighbours_of_one_role_merge() -> None:
    request = chat(user("a"), user("b"), assistant(Text("c")), assistant(Text("d")), user("e"))
    messages = body_of(request)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert [block["text"] for block in messages[0]["content"]] == ["a", "b"]
    assert [block["text"] for block in messages[1]["content"]] == ["c", "d"]


def test_t31_the_first_turn_is_the_users() -> None:
    messages = body_of(chat(assistant(Text("Welcome.")), user("Hi")))["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[0]["content"] == OPENING


def test_t31_a_last_turn_of_the_assistant_is_gone_on_with_or_answered() -> None:
    request = chat(user("Count."), assistant(Text("one, two, \n")))
    assert body_of(request)["messages"][-1]["content"] == [{"type": "text", "text": "one, two,"}]
    messages = body_of(request, takes_prefill=False)["messages"]
    assert messages[-2]["content"] == [{"type": "text", "text": "one, two, \n"}]
    assert messages[-1] == {"role": "user", "content": CONTINUE}


def test_t32_blank_text_is_left_out_and_empty_turns_with_it() -> None:
    request = chat(user("Hi"), assistant(Text(" \n")), user(""), user("there"), system=(user("\t"),))
    assert body_of(request) == {
        "model": "claude",
        "max_tokens": MAX_OUTPUT_UNKNOWN,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]},
        ],
    }


def test_t30_a_conversation_without_content_gets_a_user_turn() -> None:
    assert body_of(chat(user(" ")))["messages"] == [{"role": "user", "content": CONTINUE}]


def test_t29_system_text_of_several_messages_is_a_list() -> None:
    system = (Message(Role.SYSTEM, (Text("a"),)), Message(Role.DEVELOPER, (Text("b", cache=MARK),)))
    assert body_of(chat(system=system))["system"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
    ]
    assert body_of(chat(system=system[:1]))["system"] == "a"


def test_t29_system_text_in_place_for_models_that_take_it() -> None:
    request = chat(user("a"), Message(Role.DEVELOPER, (Text("Be brief."),), plain=True), user("b"))
    messages = body_of(request, takes_inline_system=True)["messages"]
    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", "a"),
        ("system", "Be brief."),
        ("user", "b"),
    ]


def test_t67_media_and_text_are_blocks_by_their_type() -> None:
    request = chat(
        Message(
            Role.USER,
            (
                Media(MediaKind.IMAGE, SourceKind.INLINE, "iVBORw0KGgo=", "image/png", detail="high"),
                Media(MediaKind.IMAGE, SourceKind.URL, "https://e.com/a.png"),
                Media(MediaKind.DOCUMENT, SourceKind.INLINE, "JVBERi0=", "application/pdf", "a.pdf"),
                Media(MediaKind.DOCUMENT, SourceKind.TEXT, "text", "text/markdown"),
                Text("?"),
            ),
        )
    )
    body, losses = rendered(request)
    assert losses == ("media.detail",)
    assert body["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        {"type": "image", "source": {"type": "url", "url": "https://e.com/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "text"}},
        {"type": "text", "text": "?"},
    ]


def test_t09_images_in_results_stay_where_they_are() -> None:
    image = Media(MediaKind.IMAGE, SourceKind.INLINE, "iVBORw0KGgo=", "image/png")
    request = chat(user("Go"), assistant(call("a")), results(ToolResult("a", (Text("see"), image))), tools=TOOLS)
    content = body_of(request)["messages"][2]["content"][0]["content"]
    assert [block["type"] for block in content] == ["text", "image"]


@pytest.mark.parametrize("kind", [MediaKind.AUDIO, MediaKind.VIDEO])
def test_audio_and_video_are_refused(kind: MediaKind) -> None:
    with pytest.raises(UnsupportedFeature):
        rendered(chat(Message(Role.USER, (Media(kind, SourceKind.INLINE, "AAAA", "x/y"),))))


def test_refusals_notes_and_foreign_citations_in_the_history() -> None:
    citation = Citation(CHAT, msgspec.Raw(b"{}"), url="u")
    note = ServerTool(WireFormat.GEMINI, msgspec.Raw(b"{}"), "[It searched.]")
    request = chat(user("a"), assistant(Refusal("No."), note, Text("x", citations=(citation,))), user("b"))
    body, losses = rendered(request)
    assert losses == ("citations",)
    assert [block["text"] for block in body["messages"][1]["content"]] == ["No.", "[It searched.]", "x"]


def test_a_block_that_only_another_format_knows_is_refused() -> None:
    with pytest.raises(UnsupportedFeature):
        rendered(chat(assistant(Unknown(WireFormat.GEMINI, msgspec.Raw(b"{}")))))


# --- thinking --------------------------------------------------------------------------------------------------------


def loop(*blocks: Any, effort: Effort = Effort.LOW, **members: Any) -> Request:
    """A tool loop whose last turn of the assistant holds these blocks."""
    answered = results(ToolResult("toolu_1", (Text("4"),)))
    return chat(
        user("Go"),
        assistant(*blocks),
        answered,
        tools=TOOLS,
        reasoning=Reasoning(effort=effort),
        **members,
    )


def test_t16_signed_thinking_is_replayed_untouched_and_first() -> None:
    body = body_of(loop(SIGNED, call()), reasoning=ReasoningStyle.BUDGET)
    assert body["messages"][1]["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "SIG"}
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 4096}


def test_t16_a_lost_signature_switches_a_budget_off_for_this_call() -> None:
    request = loop(Thinking("hm", Token("theirs", WireFormat.GEMINI)), call())
    profile = profile_for(MESSAGES, "claude", reasoning=ReasoningStyle.BUDGET)
    collected = Losses(MESSAGES)
    prepared, _ = prepare(request, profile, collected)
    body, losses = rendered(prepared, reasoning=ReasoningStyle.BUDGET)
    assert collected.paths == ("thinking", "reasoning")
    assert body["messages"][1]["content"] == [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]
    assert body["thinking"] == {"type": "disabled"}
    assert losses == ()


def test_t16_adaptive_thinking_needs_no_thinking_in_the_last_turn() -> None:
    body = body_of(loop(call()), reasoning=ReasoningStyle.ADAPTIVE)
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": "low"}


def test_t16_a_turn_that_calls_nothing_may_have_lost_its_thinking() -> None:
    request = chat(user("a"), assistant(Text("b")), user("c"), reasoning=Reasoning(effort=Effort.LOW))
    assert body_of(request, reasoning=ReasoningStyle.BUDGET)["thinking"]["type"] == "enabled"


def test_t16_the_same_holds_for_a_request_of_the_same_format() -> None:
    request = msgspec.structs.replace(loop(call()), origin=MESSAGES, reasoning=Reasoning(budget=2048), max_output=4096)
    body, losses = rendered(request)
    assert body["thinking"] == {"type": "disabled"}
    assert losses == ("reasoning",)
    kept = rendered(request, needs_thinking_first=False)
    assert kept[0]["thinking"] == {"type": "enabled", "budget_tokens": 2048}


def test_thinking_text_goes_back_to_hosts_that_want_it() -> None:
    request = chat(user("a"), assistant(Thinking("hm"), Text("b")), user("c"))
    body = body_of(request, returns_thinking=True)
    assert body["messages"][1]["content"][0] == {"type": "thinking", "thinking": "hm", "signature": ""}


def test_t60_sampling_is_clamped_and_dropped_while_thinking() -> None:
    sampling: dict[str, Any] = {"temperature": 1.7, "top_k": 5}
    assert body_of(chat(**sampling))["temperature"] == 1
    assert body_of(chat(temperature=-0.5))["temperature"] == 0
    body, losses = rendered(
        chat(**sampling, top_p=0.5, reasoning=Reasoning(effort=Effort.LOW)), reasoning=ReasoningStyle.BUDGET
    )
    assert not {"temperature", "top_p", "top_k"} & set(body)
    assert losses == ("top_p", "top_k")  # a temperature of 1 is what the model has then


def test_t60_temperature_and_top_p_do_not_go_together() -> None:
    body, losses = rendered(chat(temperature=0.5, top_p=0.9))
    assert (body["temperature"], "top_p" in body, losses) == (0.5, False, ("top_p",))
    assert body_of(chat(temperature=0.5, top_p=1.0)).get("top_p") is None
    assert body_of(chat(top_p=0.9))["top_p"] == value("0.9")


def test_t60_models_without_sampling_knobs_get_none() -> None:
    body, losses = rendered(chat(temperature=0.5, top_p=0.5, top_k=3), takes_sampling=False)
    assert not {"temperature", "top_p", "top_k"} & set(body)
    assert losses == ("temperature", "top_p", "top_k")


def test_t58_the_output_limit_is_filled_capped_and_raised() -> None:
    assert body_of(chat())["max_tokens"] == 8192
    assert body_of(chat(), max_output=64_000)["max_tokens"] == 64_000
    assert body_of(chat(max_output=100_000), max_output=64_000)["max_tokens"] == 64_000
    thinking: dict[str, Any] = {"reasoning": ReasoningStyle.BUDGET, "max_output": 64_000}
    body = body_of(chat(max_output=1000, reasoning=Reasoning(effort=Effort.HIGH)), **thinking)
    assert body["max_tokens"] == 24_576 + 1000
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 24_576}
    capped = body_of(chat(max_output=1000, reasoning=Reasoning(effort=Effort.MAX)), **thinking | {"max_output": 32_000})
    assert capped["thinking"]["budget_tokens"] < capped["max_tokens"] <= 32_000


def test_no_room_for_a_budget_is_a_loss() -> None:
    body, losses = rendered(
        chat(max_output=500, reasoning=Reasoning(effort=Effort.LOW)), reasoning=ReasoningStyle.BUDGET, max_output=1000
    )
    assert body["thinking"] == {"type": "disabled"}
    assert losses == ("reasoning",)


def test_models_that_do_not_reason_are_told_nothing() -> None:
    assert "thinking" not in body_of(chat(reasoning=Reasoning(effort=Effort.HIGH)))


# --- tools -----------------------------------------------------------------------------------------------------------


def test_t49_t70_schemas_have_an_object_at_the_root_and_keep_their_numbers() -> None:
    profile = profile_for(MESSAGES, "claude")
    text = render_request(chat(tools=TOOLS), profile, Losses(MESSAGES), no_pause)
    assert bytes(SCHEMA) in text
    assert value(text)["tools"] == [
        {"name": "f", "description": "Does f.", "input_schema": value(bytes(SCHEMA))},
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
    ]


def test_t48_strict_only_where_model_and_schema_allow_it() -> None:
    closed = msgspec.Raw(
        b'{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}'
    )
    tools = (Tool("f", schema=closed, strict=True), Tool("g", schema=SCHEMA, strict=True))
    body, losses = rendered(chat(tools=tools), takes_strict=True)
    assert ["strict" in tool for tool in body["tools"]] == [True, False]
    assert losses == ("tools.strict",)
    assert rendered(chat(tools=tools[:1]))[1] == ("tools.strict",)


def test_t14_no_tools_means_no_member_and_a_history_of_calls_gets_stubs() -> None:
    assert "tools" not in body_of(chat(tools=()))
    request = chat(user("a"), assistant(call(), call("b")), results(ToolResult("toolu_1", ())))
    body = body_of(prepare(request, profile_for(MESSAGES, "claude"), Losses(MESSAGES))[0])
    assert [tool["name"] for tool in body["tools"]] == ["f"]
    assert body["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice(ChoiceMode.AUTO), {"type": "auto"}),
        (ToolChoice(ChoiceMode.NONE), {"type": "none"}),
        (ToolChoice(ChoiceMode.REQUIRED), {"type": "any"}),
        (ToolChoice(ChoiceMode.NAMED, ("f",)), {"type": "tool", "name": "f"}),
    ],
)
def test_t11_tool_choices(choice: ToolChoice, expected: dict[str, Any]) -> None:
    assert body_of(chat(tools=TOOLS, tool_choice=choice))["tool_choice"] == expected
    assert "tool_choice" not in body_of(chat(tool_choice=choice))


def test_t12_parallel_calls_are_switched_off_inside_the_choice() -> None:
    body = body_of(chat(tools=TOOLS, parallel_tools=False))
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    named = ToolChoice(ChoiceMode.NAMED, ("f",))
    body = body_of(chat(tools=TOOLS, parallel_tools=False, tool_choice=named))
    assert body["tool_choice"] == {"type": "tool", "name": "f", "disable_parallel_tool_use": True}
    assert body_of(chat(tools=TOOLS, parallel_tools=False, tool_choice=ToolChoice(ChoiceMode.NONE)))["tool_choice"] == {
        "type": "none"
    }
    assert "tool_choice" not in body_of(chat(parallel_tools=False))
    assert "tool_choice" not in body_of(chat(tools=TOOLS, parallel_tools=True))


def test_a_budget_forbids_to_demand_a_call() -> None:
    request = chat(tools=TOOLS, tool_choice=ToolChoice(ChoiceMode.REQUIRED), reasoning=Reasoning(effort=Effort.LOW))
    body, losses = rendered(request, reasoning=ReasoningStyle.BUDGET)
    assert body["tool_choice"] == {"type": "auto"}
    assert losses == ("tool_choice",)
    assert body_of(request, reasoning=ReasoningStyle.ADAPTIVE)["tool_choice"] == {"type": "any"}


def test_t50_the_one_tool_that_was_asked_for_counts_for_more_than_a_budget() -> None:
    request = chat(
        tools=TOOLS, tool_choice=ToolChoice(ChoiceMode.NAMED, ("f",)), reasoning=Reasoning(effort=Effort.LOW)
    )
    body, losses = rendered(request, reasoning=ReasoningStyle.BUDGET)
    assert body["tool_choice"] == {"type": "tool", "name": "f"}
    assert body["thinking"] == {"type": "disabled"}
    assert losses == ("reasoning",)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("", {}), ("{", {"raw_arguments": "{"}), ('"{}"', {}), ("null", {"raw_arguments": "null"})],
)
def test_t02_arguments_are_objects(arguments: str, expected: dict[str, Any]) -> None:
    body = body_of(chat(user("a"), assistant(call(arguments=arguments)), tools=TOOLS))
    assert body["messages"][1]["content"][0]["input"] == expected


def test_t70_arguments_keep_their_numbers() -> None:
    text = '{"n":1e400,"i":12345678901234567890123,"z":-0}'
    request = chat(user("a"), assistant(call(arguments=text)), tools=TOOLS)
    assert text.encode() in render_request(request, profile_for(MESSAGES, "m"), Losses(MESSAGES), no_pause)


# --- output ----------------------------------------------------------------------------------------------------------


def test_json_mode_is_a_sentence_at_the_end_of_the_system_text() -> None:
    system = (Message(Role.SYSTEM, (Text("a"), Text("b", cache=MARK))),)
    blocks = body_of(chat(system=system, output=Output()))["system"]
    assert [block["text"] for block in blocks] == ["a", f"b\n\n{JSON_ONLY}"]
    assert body_of(chat(output=Output()))["system"] == JSON_ONLY


def test_t46_an_output_schema_stands_beside_tools() -> None:
    body = body_of(chat(tools=TOOLS, output=Output(SCHEMA, "answer")))
    assert body["output_config"]["format"] == {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {"n": {"type": "number", "description": "(maximum: 1e400)"}},
            "additionalProperties": False,
        },
    }
    assert "output_config" not in body_of(chat(output=Output(SCHEMA)), takes_output_schema=False)


# --- marks -----------------------------------------------------------------------------------------------------------


def marks_of(body: dict[str, Any]) -> list[Any]:
    blocks = [*body.get("tools", ()), *(block for block in body.get("system", ()) if isinstance(block, dict))]
    for message in body["messages"]:
        blocks += message["content"] if isinstance(message["content"], list) else []
    return [block["cache_control"] for block in blocks if "cache_control" in block]


def test_t43_four_marks_at_most_the_last_ones_and_one_of_the_stable_part() -> None:
    request = chat(
        *(Message(Role.USER, (Text(str(number), cache=MARK),)) for number in range(6)),
        tools=(Tool("f", cache=MARK),),
        system=(Message(Role.SYSTEM, (Text("s", cache=MARK),)),),
    )
    body, losses = rendered(request)
    assert losses == ("cache",)
    assert len(marks_of(body)) == 4
    assert "cache_control" not in body["tools"][0]
    assert "cache_control" in body["system"][0]
    marked = [block["text"] for block in body["messages"][0]["content"] if "cache_control" in block]
    assert marked == ["3", "4", "5"]


def test_t43_four_marks_are_all_kept_and_none_on_blank_text_or_thinking() -> None:
    request = chat(
        Message(Role.USER, (Text(" ", cache=MARK), Text("a", cache=LONG_MARK))),
        assistant(SIGNED, msgspec.structs.replace(call(), cache=MARK)),
        results(ToolResult("toolu_1", (Text("x"),), cache=MARK)),
        tools=(Tool("f", cache=LONG_MARK),),
    )
    body = body_of(request)
    assert [mark.get("ttl") for mark in marks_of(body)] == ["1h", "1h", None, None]
    assert "cache_control" not in body["messages"][1]["content"][0]


def test_t43_no_mark_for_an_hour_behind_one_for_minutes() -> None:
    request = chat(
        Message(Role.USER, (Text("a", cache=LONG_MARK),)), system=(Message(Role.SYSTEM, (Text("s", cache=MARK),)),)
    )
    body, losses = rendered(request)
    assert marks_of(body) == [{"type": "ephemeral"}, {"type": "ephemeral"}]
    assert losses == ("cache",)


# --- the rest --------------------------------------------------------------------------------------------------------


def test_t36_blank_stop_sequences_are_refused_here_and_therefore_left_out() -> None:
    body, losses = rendered(chat(stop=("\n", "END", "", " x")))
    assert body["stop_sequences"] == ["END", " x"]
    assert losses == ("stop",)
    assert body_of(chat(stop=("",))).get("stop_sequences") is None
    assert rendered(chat(stop=("a", "b", "c")), max_stops=2)[0]["stop_sequences"] == ["a", "b"]


@pytest.mark.parametrize(
    ("tier", "expected"),
    [("auto", "auto"), ("default", "standard_only"), ("priority", "auto"), ("flex", None)],
)
def test_service_tiers(tier: str, expected: str | None) -> None:
    body, losses = rendered(chat(service_tier=tier))
    assert body.get("service_tier") == expected
    assert losses == (() if expected else ("service_tier",))


def test_user_and_stream() -> None:
    body = body_of(chat(user="u-1", stream=True, include_usage=True))
    assert body["metadata"] == {"user_id": "u-1"}
    assert body["stream"] is True


def test_t59_what_the_format_cannot_say_is_declared() -> None:
    body, losses = rendered(
        chat(
            seed=1,
            frequency_penalty=0.5,
            presence_penalty=0.0,
            logit_bias=msgspec.Raw(b"{}"),
            logprobs=True,
            top_logprobs=3,
            metadata=msgspec.Raw(b'{"a":"b"}'),
            cache_key="k",
            verbosity="low",
            store=False,
            extra={"prediction": msgspec.Raw(b"{}"), "=spelling": msgspec.Raw(b"{}")},
        )
    )
    assert set(body) == {"model", "max_tokens", "messages"}
    assert losses == (
        "seed",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "metadata",
        "cache_key",
        "verbosity",
        "extra.prediction",
    )


def test_names_and_extra_members_of_messages_are_declared() -> None:
    message = Message(Role.USER, (Text("a", extra={"y": MARK}),), name="Ann", extra={"x": MARK})
    body, losses = rendered(chat(message))
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    assert losses == ("messages.extra.x", "message.name", "messages.extra.y")


@pytest.mark.parametrize(
    ("members", "path"),
    [({"n": 2}, "n"), ({"audio_output": MARK}, "audio"), ({"previous_id": "resp_1"}, "previous_response_id")],
)
def test_t59_what_must_not_be_dropped_is_refused(members: dict[str, Any], path: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        rendered(chat(**members))
    assert caught.value.param == path


def test_t66_no_member_of_ours_appears() -> None:
    body = body_of(chat(user("a"), assistant(SIGNED, call()), results(ToolResult("toolu_1", ())), tools=TOOLS))
    assert set(body) == {"model", "max_tokens", "messages", "tools"}

"""Requests of clients of other formats, written for a provider of this one."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from omniroute.errors import UnsupportedFeature
from omniroute.formats.canonical import (
    Block,
    CallKind,
    ChoiceMode,
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
from omniroute.formats.codec import no_pause
from omniroute.formats.openai_chat.request_parser import parse_request
from omniroute.formats.profile import ReasoningStyle, profile_for
from omniroute.formats.wire import WireFormat
from tests.formats.openai_chat.fixtures import CHAT, rendered, rendered_with

MESSAGES = WireFormat.ANTHROPIC_MESSAGES
RESPONSES = WireFormat.OPENAI_RESPONSES
RAW = msgspec.Raw
SCHEMA = RAW(b'{"type":"object","properties":{"p":{"type":"integer","maximum":1e400}}}')
CLOSED = RAW(b'{"type":"object","properties":{"p":{"type":"string"}},"required":["p"],"additionalProperties":false}')


def user(*blocks: Block) -> Message:
    return Message(Role.USER, blocks or (Text("Hi"),))


def said(*blocks: Block, **members: Any) -> Message:
    return Message(Role.ASSISTANT, blocks, **members)


def asked(*messages: Message, **members: Any) -> Request:
    return Request(MESSAGES, "claude", messages or (user(),), **members)


def messages_of(*messages: Message, **facts: Any) -> list[Any]:
    written: list[Any] = rendered(asked(*messages), **facts)["messages"]
    return written


def losses_of(request: Request, **facts: Any) -> tuple[str, ...]:
    return rendered_with(request, profile_for(CHAT, "m", **facts))[1].paths


def test_a_text_is_a_string_and_several_are_a_list() -> None:
    assert messages_of(user(Text("a")), user(Text("a"), Text("b"))) == [
        {"role": "user", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]


def test_several_texts_are_one_string_for_hosts_that_take_no_list() -> None:
    assert messages_of(user(Text("a"), Text("b")), takes_text_parts=False) == [{"role": "user", "content": "a\n\nb"}]


def test_media_becomes_parts() -> None:
    parts = messages_of(
        user(
            Text("Look."),
            Media(MediaKind.IMAGE, SourceKind.INLINE, "aaaa", "image/png", detail="high"),
            Media(MediaKind.IMAGE, SourceKind.URL, "https://e.com/a.png"),
            Media(MediaKind.DOCUMENT, SourceKind.INLINE, "JVBERi", "application/pdf", "a.pdf"),
            Media(MediaKind.AUDIO, SourceKind.INLINE, "UklG", "audio/wav"),
            Media(MediaKind.DOCUMENT, SourceKind.FILE_ID, "file-1"),
        )
    )[0]["content"]
    assert parts == [
        {"type": "text", "text": "Look."},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://e.com/a.png"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi", "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]


def test_audio_by_its_address_is_refused() -> None:
    with pytest.raises(UnsupportedFeature):
        messages_of(user(Media(MediaKind.AUDIO, SourceKind.URL, "https://e.com/a.wav")))


def test_t33_developer_becomes_system_and_names_go_for_hosts_without_them() -> None:
    request = asked(
        Message(Role.USER, (Text("Hi"),), name="bob"),
        system=(Message(Role.DEVELOPER, (Text("D"),)), Message(Role.SYSTEM, (Text("S"),))),
    )
    modern = rendered(request)["messages"]
    assert [(message["role"], message.get("name")) for message in modern] == [
        ("developer", None),
        ("system", None),
        ("user", "bob"),
    ]
    plain = rendered(request, takes_developer=False, takes_names=False)["messages"]
    assert [(message["role"], message.get("name")) for message in plain] == [
        ("system", None),
        ("system", None),
        ("user", None),
    ]
    assert losses_of(request, takes_names=False) == ("message.name",)


def test_calls_and_results_become_messages() -> None:
    calls = (ToolCall("c1", "f", '{"a": 1e400}'), ToolCall("c2", "g", ""))
    results = (
        ToolResult("c1", (Text("one"),)),
        ToolResult("c2", (Text("two"),), is_error=True),
    )
    assert messages_of(user(), said(*calls), Message(Role.TOOL, results)) == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1e400}'}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "[tool error] two"},
    ]


def test_t10_a_failed_result_without_text_still_says_so() -> None:
    results = (ToolResult("c", (), is_error=True),)
    assert messages_of(Message(Role.TOOL, results))[0]["content"] == "[tool error]"


def test_t14_no_choice_and_no_parallel_switch_without_tools() -> None:
    body = rendered(asked(tool_choice=ToolChoice(ChoiceMode.AUTO), parallel_tools=False))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body)


def test_tools_keep_their_schemas() -> None:
    tools = (
        Tool("f", "Does f.", SCHEMA, cache=RAW(b'{"type":"ephemeral"}')),
        Tool("g", schema=CLOSED, strict=True),
        Tool("h", schema=SCHEMA, strict=True),
    )
    request = asked(tools=tools, tool_choice=ToolChoice(ChoiceMode.REQUIRED), parallel_tools=False)
    body = rendered(request)
    functions = [tool["function"] for tool in body["tools"]]
    assert functions[0]["name"] == "f"
    assert functions[0]["description"] == "Does f."
    assert [function.get("strict") for function in functions] == [None, True, False]
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)
    assert losses_of(request) == ("cache", "tools.strict")
    assert losses_of(request, takes_strict=False, takes_parallel_switch=False) == (
        "cache",
        "tools.strict",
        "parallel_tools",
    )


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (ToolChoice(ChoiceMode.AUTO), "auto"),
        (ToolChoice(ChoiceMode.NONE), "none"),
        (ToolChoice(ChoiceMode.REQUIRED), "required"),
        (ToolChoice(ChoiceMode.NAMED, ("f",)), {"type": "function", "function": {"name": "f"}}),
        (ToolChoice(ChoiceMode.NAMED, ("f",), CallKind.CUSTOM), {"type": "custom", "custom": {"name": "f"}}),
        (
            ToolChoice(ChoiceMode.REQUIRED, ("f", "g")),
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [
                        {"type": "function", "function": {"name": "f"}},
                        {"type": "function", "function": {"name": "g"}},
                    ],
                },
            },
        ),
    ],
)
def test_t11_all_choices_are_written(choice: ToolChoice, written: Any) -> None:
    assert rendered(asked(tools=(Tool("f"),), tool_choice=choice))["tool_choice"] == written


def test_t13_a_custom_tool_goes_to_a_target_that_takes_it() -> None:
    grammar = RAW(b'{"type":"grammar","syntax":"lark","definition":"start: x"}')
    request = asked(
        said(ToolCall("c", "patch", "*** Begin", CallKind.CUSTOM)),
        tools=(Tool("patch", "P", kind=CallKind.CUSTOM, format=grammar),),
    )
    body = rendered(request, takes_custom_tools=True)
    assert body["tools"][0]["custom"] == {
        "name": "patch",
        "description": "P",
        "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: x"}},
    }
    assert body["messages"][0]["tool_calls"] == [
        {"id": "c", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}}
    ]


def test_server_tools_of_other_vendors_are_a_loss() -> None:
    tool = ServerToolDefinition(MESSAGES, "web_search_20250305", RAW(b"{}"), "web_search")
    request = asked(tools=(tool, Tool("f")))
    assert [tool["function"]["name"] for tool in rendered(request)["tools"]] == ["f"]
    assert losses_of(request) == ("tools.server.web_search_20250305",)


def test_t58_the_output_limit_has_the_targets_name_and_cap() -> None:
    request = asked(max_output=64_000)
    assert rendered(request)["max_completion_tokens"] == 64_000
    body = rendered(request, max_output_field="max_tokens", max_output=8192)
    assert body["max_tokens"] == 8192
    assert "max_completion_tokens" not in body
    assert "max_completion_tokens" not in rendered(asked())


def test_t36_stop_lists_are_cut_and_blank_entries_go() -> None:
    request = asked(stop=("", "a", "\n", "c", "d", "e"))
    assert rendered(request)["stop"] == ["a", "\n", "c", "d"]
    assert losses_of(request) == ("stop",)
    assert losses_of(asked(stop=("a",))) == ()
    assert "stop" not in rendered(request, max_stops=0)


def test_t60_temperature_is_clamped_and_left_out_where_refused() -> None:
    request = asked(temperature=1.8, top_p=0.5, top_k=4)
    assert rendered(request, max_temperature=1.0)["temperature"] == 1.0
    assert losses_of(request) == ("top_k",)
    assert losses_of(request, takes_sampling=False) == ("temperature", "top_p", "top_k")
    assert rendered(request, takes_top_k=True)["top_k"] == 4


def test_t59_probabilities_bias_and_seed() -> None:
    request = asked(seed=7, logit_bias=RAW(b'{"1":2}'), top_logprobs=2, n=2, frequency_penalty=0.5)
    body = rendered(request)
    assert (body["seed"], body["logit_bias"], body["logprobs"], body["top_logprobs"], body["n"]) == (
        7,
        {"1": 2},
        True,
        2,
        2,
    )
    assert losses_of(request, takes_seed=False, takes_penalties=False, takes_logprobs=False) == (
        "seed",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
    )


def test_members_that_a_host_refuses_are_left_out() -> None:
    request = asked(cache_key="k", user="u", verbosity="low", n=2)
    assert losses_of(request, refused=frozenset({"prompt_cache_key", "user"})) == ("user", "cache_key")
    with pytest.raises(UnsupportedFeature):
        rendered(request, refused=frozenset({"n"}))


def test_metadata_goes_only_with_what_is_stored() -> None:
    metadata = RAW(b'{"a":"b"}')
    assert rendered(asked(metadata=metadata, store=True))["metadata"] == {"a": "b"}
    assert losses_of(asked(metadata=metadata, store=False)) == ("metadata",)
    assert losses_of(asked(store=False), takes_store=False) == ()


def test_t40_usage_is_asked_for_where_the_host_can() -> None:
    request = asked(stream=True)
    assert rendered(request)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in rendered(request, takes_usage_option=False)
    own = parse_request(b'{"messages":[{"role":"user","content":"x"}],"stream":true}', no_pause)
    assert rendered(own)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in rendered(own, takes_usage_option=False)


def test_structured_output() -> None:
    output = Output(CLOSED, "my schema", "D", strict=True)
    assert rendered(asked(output=output))["response_format"] == {
        "type": "json_schema",
        "json_schema": {
            "name": "my_schema",
            "description": "D",
            "schema": json.loads(bytes(CLOSED)),
            "strict": True,
        },
    }
    loose = rendered(asked(output=Output(RAW(b'{"type":"object"}'), strict=True)))["response_format"]["json_schema"]
    assert (loose["name"], loose["strict"]) == ("response", False)
    assert rendered(asked(output=Output()))["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("reasoning", "facts", "written"),
    [
        (Reasoning(Effort.HIGH), {}, {}),
        (Reasoning(Effort.HIGH), {"reasoning": ReasoningStyle.EFFORT}, {"reasoning_effort": "high"}),
        (Reasoning(Effort.MAX), {"reasoning": ReasoningStyle.EFFORT}, {"reasoning_effort": "xhigh"}),
        (
            Reasoning(Effort.XHIGH),
            {"reasoning": ReasoningStyle.EFFORT, "efforts": (Effort.LOW, Effort.HIGH)},
            {"reasoning_effort": "high"},
        ),
        (Reasoning(budget=4096), {"reasoning": ReasoningStyle.EFFORT}, {"reasoning_effort": "low"}),
        (Reasoning(budget=0), {"reasoning": ReasoningStyle.EFFORT}, {"reasoning_effort": "none"}),
        (Reasoning(is_adaptive=True), {"reasoning": ReasoningStyle.EFFORT}, {}),
        (Reasoning(Effort.LOW), {"reasoning": ReasoningStyle.SWITCH}, {"thinking": {"type": "enabled"}}),
        (Reasoning(Effort.NONE), {"reasoning": ReasoningStyle.SWITCH}, {"thinking": {"type": "disabled"}}),
        (
            Reasoning(Effort.MEDIUM),
            {"reasoning": ReasoningStyle.BUDGET},
            {"thinking": {"type": "enabled", "budget_tokens": 10_000}},
        ),
    ],
)
def test_t21_reasoning_in_the_words_of_the_target(
    reasoning: Reasoning, facts: dict[str, Any], written: dict[str, Any]
) -> None:
    body = rendered(asked(reasoning=reasoning), **facts)
    found = {name: body[name] for name in ("reasoning_effort", "thinking") if name in body}
    assert found == written


def test_reasoning_goes_back_to_hosts_that_want_it() -> None:
    turn = said(Thinking("Hm. "), Thinking("So."), Text("Yes."))
    wanted = messages_of(turn, thinking_field="reasoning_content", returns_thinking=True)
    assert wanted == [{"role": "assistant", "content": "Yes.", "reasoning_content": "Hm. So."}]
    assert messages_of(turn) == [{"role": "assistant", "content": "Yes."}]
    assert losses_of(asked(turn)) == ("thinking",)


def test_tokens_of_a_host_become_its_elements_again() -> None:
    element = '{"type":"reasoning.text","signature":"sig","format":"anthropic-claude-v1","index":0}'
    turn = said(
        Thinking("Hm.", Token(element, CHAT)),
        Thinking("", Token("enc", CHAT), redacted=True, id="rs_1"),
        ToolCall("c", "f", "{}", token=Token("thought", CHAT)),
    )
    written = messages_of(turn)[0]
    assert written["reasoning_details"] == [
        {
            "type": "reasoning.text",
            "signature": "sig",
            "format": "anthropic-claude-v1",
            "index": 0,
            "text": "Hm.",
        },
        {"type": "reasoning.encrypted", "id": "rs_1", "data": "enc", "index": 1},
    ]
    assert written["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "thought"}}


def test_a_refusal_is_text_except_for_the_vendor() -> None:
    turn = said(Refusal("No."))
    assert messages_of(turn) == [{"role": "assistant", "content": "No."}]
    assert messages_of(turn, is_vendor=True) == [{"role": "assistant", "content": None, "refusal": "No."}]


def test_a_turn_of_nothing_but_dropped_reasoning_is_empty_text() -> None:
    assert messages_of(said(Thinking("Hm."))) == [{"role": "assistant", "content": ""}]


def test_kept_state_is_refused() -> None:
    with pytest.raises(UnsupportedFeature) as refused:
        rendered(Request(RESPONSES, "m", (user(),), previous_id="resp_1"))
    assert refused.value.param == "previous_id"


def test_t66_members_of_other_formats_stay_behind() -> None:
    extra = {"container": RAW(b'"c"'), "=canary": RAW(b'"secret"')}
    request = asked(Message(Role.USER, (Text("x", extra=extra),), extra=extra), extra=extra)
    body = json.dumps(rendered(request))
    assert "canary" not in body
    assert "container" not in body
    assert losses_of(request) == ("messages.extra.container", "extra.container")


def test_t44_the_same_request_gives_the_same_bytes() -> None:
    request = asked(said(Text("a"), ToolCall("c", "f", "{}")), tools=(Tool("f", schema=SCHEMA),), stop=("a",))
    assert json.dumps(rendered(request)) == json.dumps(rendered(request))


def test_audio_output() -> None:
    body = rendered(asked(audio_output=RAW(b'{"voice":"alloy","format":"wav"}')))
    assert (body["modalities"], body["audio"]["voice"]) == (["text", "audio"], "alloy")


def test_service_tiers() -> None:
    assert rendered(asked(service_tier="standard_only"))["service_tier"] == "default"
    assert losses_of(asked(service_tier="auto"), takes_service_tier=False) == ("service_tier",)


def test_own_tokens_that_are_not_the_targets_do_not_go_back() -> None:
    body = {
        "messages": [
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "c",
                        "type": "function",
                        "function": {"name": "f", "arguments": "{}"},
                        "extra_content": {"google": {"thought_signature": "foreign", "kept": 1}},
                    }
                ],
            }
        ]
    }
    request = parse_request(json.dumps(body).encode(), no_pause)
    call = request.messages[0].blocks[0]
    stripped = msgspec.structs.replace(
        request,
        messages=(msgspec.structs.replace(request.messages[0], blocks=(msgspec.structs.replace(call, token=None),)),),
    )
    written = rendered(stripped)["messages"][0]["tool_calls"][0]
    assert written["extra_content"] == {"google": {"kept": 1}}

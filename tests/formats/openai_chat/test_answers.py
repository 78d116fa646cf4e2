"""Whole answers of the format, read and written."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletion

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import (
    Answer,
    CallKind,
    Citation,
    Media,
    MediaKind,
    Refusal,
    ServerTool,
    SourceKind,
    Stop,
    Text,
    Thinking,
    Token,
    ToolCall,
)
from omniroute.formats.openai_chat.response import parse_answer, render_answer
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat
from tests.formats.openai_chat.fixtures import CHAT, answer_of, cases, chunk, normal, parsed, read, reply, without_extra

MESSAGES = WireFormat.ANTHROPIC_MESSAGES


def answered(message: dict[str, Any], finish: str | None = "stop", **members: Any) -> Answer:
    body = {"id": "a", "choices": [{"index": 0, "message": message, "finish_reason": finish}], **members}
    answer = parse_answer(json.dumps(body).encode())
    assert answer is not None
    return answer


def shown(answer: Answer, **request: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(render_answer(answer, reply(**request)))
    ChatCompletion.model_validate(body)
    return body


def message_of(answer: Answer, **request: Any) -> dict[str, Any]:
    message: dict[str, Any] = shown(answer, **request)["choices"][0]["message"]
    return message


def made(*blocks: Any, stop: Stop = Stop.END, origin: WireFormat = MESSAGES, **members: Any) -> Answer:
    return Answer(origin, "msg_1", "m", blocks, stop, **members)


@pytest.mark.parametrize("case", cases("response.json"))
def test_an_answer_comes_back_as_it_was_understood(case: str) -> None:
    answer = parse_answer(read(case, "response.json"))
    assert answer is not None
    body = shown(answer)
    again = parse_answer(json.dumps(body).encode())
    assert again is not None
    expected = msgspec.structs.replace(
        answer,
        id="chatcmpl-0123456789abcdef01234567",
        model="asked-for",
        created=1_700_000_000,
        stop_sequence=None,
        stop=Stop.END if answer.stop is Stop.STOP_SEQUENCE else answer.stop,  # the format has one word for both
    )
    assert normal(again) == normal(expected)


@pytest.mark.parametrize("case", [case for case in cases("stream.sse") if case in cases("response.json")])
def test_a_folded_stream_is_the_whole_answer(case: str) -> None:
    whole = parse_answer(read(case, "response.json"))
    assert whole is not None
    assert normal(answer_of(read(case, "stream.sse"))) == normal(without_extra(whole))


def test_the_parts_of_an_answer_are_read() -> None:
    answer = parse_answer(read("parallel_tools_with_text", "response.json"))
    assert answer is not None
    assert answer.blocks == (
        Text("Let me look again."),
        ToolCall("call_a", "get_weather", '{"city":"Paris"}'),
        ToolCall("call_b", "edit_file", '{"path":"a.txt","limit":12345678901234567890}'),
    )
    assert (answer.stop, answer.usage, answer.created) == (Stop.TOOL_USE, Usage(120, 40), 1767225600)


def test_t15_a_legacy_call_is_read_and_shown() -> None:
    answer = parse_answer(read("legacy_functions", "response.json"))
    assert answer is not None
    assert answer.calls == (ToolCall("", "get_weather", '{"city":"Oslo"}'),)
    assert answer.stop is Stop.TOOL_USE
    legacy = shown(answer, functions=[{"name": "get_weather"}])["choices"][0]
    assert legacy["message"]["function_call"] == {"name": "get_weather", "arguments": '{"city":"Oslo"}'}
    assert "tool_calls" not in legacy["message"]
    assert legacy["finish_reason"] == "function_call"


def test_t15_the_old_form_shows_the_first_of_several_calls() -> None:
    answer = made(ToolCall("a", "f", ""), ToolCall("b", "g", "{}"), stop=Stop.TOOL_USE)
    assert message_of(answer, functions=[{"name": "f"}])["function_call"] == {"name": "f", "arguments": "{}"}


def test_t13_a_custom_call_is_read_and_shown() -> None:
    answer = parse_answer(read("custom_tool", "response.json"))
    assert answer is not None
    assert answer.calls == (ToolCall("call_d", "apply_patch", "*** Begin\n} {", CallKind.CUSTOM),)
    assert message_of(answer)["tool_calls"] == [
        {"id": "call_d", "type": "custom", "custom": {"name": "apply_patch", "input": "*** Begin\n} {"}}
    ]


def test_t2_no_arguments_are_an_empty_object() -> None:
    message = message_of(made(ToolCall("a", "f", ""), stop=Stop.TOOL_USE))
    assert message["tool_calls"][0]["function"]["arguments"] == "{}"
    assert message["content"] is None


def test_t2_arguments_that_are_an_object_are_its_text() -> None:
    body = (
        b'{"choices":[{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"n": 1e400}}}]},'
        b'"finish_reason":"stop"}]}'
    )
    answer = parse_answer(body)
    assert answer is not None
    assert answer.calls == (ToolCall("", "f", '{"n": 1e400}'),)


def test_t6_a_call_without_a_name_is_dropped() -> None:
    answer = answered({"tool_calls": [{"id": "a", "function": {"name": "", "arguments": "{}"}}]}, "tool_calls")
    assert answer.blocks == ()
    assert answer.stop is Stop.END


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("stop", Stop.END),
        ("eos", Stop.END),
        ("STOP", Stop.END),
        ("length", Stop.LENGTH),
        ("max_tokens", Stop.LENGTH),
        ("model_length", Stop.CONTEXT_FULL),
        ("model_context_window_exceeded", Stop.CONTEXT_FULL),
        ("content_filter", Stop.REFUSAL),
        ("sensitive", Stop.REFUSAL),
        ("tool_calls", Stop.END),
        ("function_call", Stop.END),
        ("something_new", Stop.END),
        (None, Stop.END),
    ],
)
def test_t34_every_finish_reason_has_its_meaning(finish: str | None, stop: Stop) -> None:
    assert answered({"content": "x"}, finish).stop is stop
    assert answer_of(chunk({"content": "x"}) + chunk({}, finish or "stop")).stop is stop


def test_t34_a_call_is_tool_use_whatever_the_host_says() -> None:
    call = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
    assert answered({"content": "x", "tool_calls": [call]}, "stop").stop is Stop.TOOL_USE


@pytest.mark.parametrize("finish", ["network_error", "error", "insufficient_system_resource", "abort"])
def test_t34_an_answer_that_broke_off_is_no_answer(finish: str) -> None:
    with pytest.raises(UpstreamProtocolError):
        answered({"content": "x"}, finish)


def test_a_stop_sequence_that_a_server_reports_is_read() -> None:
    answer = parse_answer(read("stop_sequence", "response.json"))
    assert answer is not None
    assert (answer.stop, answer.stop_sequence) == (Stop.STOP_SEQUENCE, "###")


def test_t72_a_refusal_and_a_filter_are_kept_apart() -> None:
    refused = parse_answer(read("refusal", "response.json"))
    assert refused is not None
    assert refused.blocks == (Refusal("I'm sorry, I cannot help with that."),)
    assert refused.stop is Stop.REFUSAL
    choice = shown(refused)["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", None)
    filtered = made(Text("Partly"), stop=Stop.REFUSAL)
    assert shown(filtered)["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        (Stop.END, "stop"),
        (Stop.STOP_SEQUENCE, "stop"),
        (Stop.PAUSE, "stop"),
        (Stop.LENGTH, "length"),
        (Stop.CONTEXT_FULL, "length"),
        (Stop.REFUSAL, "content_filter"),
    ],
)
def test_t34_every_stop_has_a_word(stop: Stop, finish: str) -> None:
    assert shown(made(Text("x"), stop=stop))["choices"][0]["finish_reason"] == finish


def test_t65_text_and_a_call_end_with_tool_calls() -> None:
    answer = made(Text("Now."), ToolCall("a", "f", "{}"), stop=Stop.TOOL_USE)
    choice = shown(answer)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Now.", "tool_calls")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_text"])
def test_reasoning_of_hosts_is_read(field: str) -> None:
    answer = answered({"content": "So.", field: "Hm."})
    assert answer.blocks == (Thinking("Hm."), Text("So."))
    assert message_of(answer)["reasoning_content"] == "Hm."


def test_t20_inline_reasoning_is_taken_out() -> None:
    answer = parse_answer(read("inline_think", "response.json"))
    assert answer is not None
    assert answer.blocks == (Thinking("Hm, what?\n"), Text("Forty-two."))
    assert answered({"content": "About <think> tags"}).blocks == (Text("About <think> tags"),)
    assert answered({"content": "<think>x", "reasoning_content": "Hm"}).blocks == (Thinking("Hm"), Text("<think>x"))


def test_tokens_of_this_format_are_shown_and_no_others() -> None:
    own = made(Thinking("Hm.", Token("sig", CHAT)), Thinking("", Token("enc", CHAT), redacted=True), origin=CHAT)
    assert message_of(own)["reasoning_details"] == [
        {"type": "reasoning.text", "text": "Hm.", "signature": "sig", "index": 0},
        {"type": "reasoning.encrypted", "data": "enc", "index": 1},
    ]
    foreign = message_of(made(Thinking("Hm.", Token("sig", MESSAGES)), Text("So.")))
    assert "reasoning_details" not in foreign
    assert foreign["reasoning_content"] == "Hm."


def test_a_thought_signature_is_read_and_shown() -> None:
    answer = parse_answer(read("google_signature", "response.json"))
    assert answer is not None
    assert answer.calls[0].token == Token("CiQBsig==", CHAT)
    shown_calls = message_of(answer)["tool_calls"]
    assert shown_calls[0]["extra_content"] == {"google": {"thought_signature": "CiQBsig=="}}
    assert "extra_content" not in shown_calls[1]


def test_texts_are_one_content_and_sources_find_their_place() -> None:
    cited = Citation(MESSAGES, msgspec.Raw(b"{}"), "https://e.com", "E", "quote")
    unplaced = Citation(MESSAGES, msgspec.Raw(b"{}"), cited_text="of a file")
    answer = made(Text("It is "), Text("true", citations=(cited, unplaced)), Text("."))
    message = message_of(answer)
    assert message["content"] == "It is true."
    assert message["annotations"] == [
        {
            "type": "url_citation",
            "url_citation": {"url": "https://e.com", "title": "E", "start_index": 6, "end_index": 10},
        }
    ]


def test_annotations_become_citations() -> None:
    answer = parse_answer(read("citations", "response.json"))
    assert answer is not None
    text = answer.blocks[0]
    assert isinstance(text, Text)
    found = text.citations[0]
    assert (found.url, found.title, found.start, found.end) == ("https://example.com/news", "News", 0, 12)


def test_sources_listed_beside_the_answer_become_citations() -> None:
    answer = answered(
        {"content": "Yes [1]."},
        citations=["https://a.example"],
        search_results=[{"title": "A", "url": "https://a.example", "date": None}, {"title": "no address"}],
    )
    text = answer.blocks[0]
    assert isinstance(text, Text)
    assert [(one.url, one.title) for one in text.citations] == [("https://a.example", "A")]


def test_log_probabilities_pass() -> None:
    answer = parse_answer(read("logprobs", "response.json"))
    assert answer is not None
    logprobs = shown(answer)["choices"][0]["logprobs"]
    assert [one["token"] for one in logprobs["content"]] == ["Hi", " you"]


def test_t67_content_parts_are_read_by_their_type() -> None:
    answer = parse_answer(read("content_parts", "response.json"))
    assert answer is not None
    assert answer.blocks == (Thinking("Deep thought."), Text("So it is."))
    odd = [{"type": "text", "text": "a"}, "b", 3, {"type": "reference", "reference_ids": [1]}]
    assert answered({"content": odd}).blocks == (Text("ab"),)


def test_images_and_speech_are_read_and_shown() -> None:
    answer = parse_answer(read("generated_image", "response.json"))
    assert answer is not None
    image = answer.blocks[1]
    assert isinstance(image, Media)
    assert (image.kind, image.source, image.mime) == (MediaKind.IMAGE, SourceKind.INLINE, "image/png")
    assert message_of(answer)["images"][0]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    speech = message_of(made(Media(MediaKind.AUDIO, SourceKind.INLINE, "UklG", "audio/wav")))["audio"]
    assert (speech["data"], speech["expires_at"]) == ("UklG", 1_700_003_600)


def test_t59_several_choices() -> None:
    choices = [
        {"index": 1, "message": {"content": "b"}, "finish_reason": "length"},
        {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"},
    ]
    answer = parse_answer(json.dumps({"choices": choices, "usage": {"prompt_tokens": 1}}).encode())
    assert answer is not None
    assert (answer.blocks, answer.usage) == ((Text("a"),), Usage(1))
    assert [(other.blocks, other.stop) for other in answer.others] == [((Text("b"),), Stop.LENGTH)]
    assert [choice["message"]["content"] for choice in shown(answer)["choices"]] == ["a", "b"]


def test_t61_t73_the_answer_has_our_id_and_the_clients_model() -> None:
    body = shown(made(Text("x")))
    assert (body["id"], body["model"], body["created"]) == (
        "chatcmpl-0123456789abcdef01234567",
        "asked-for",
        1_700_000_000,
    )


def test_blocks_that_a_provider_ran_itself_are_not_shown() -> None:
    ran = ServerTool(MESSAGES, msgspec.Raw(b"{}"), "searched")
    assert message_of(made(ran, Text("Found.")))["content"] == "Found."


def test_vendor_members_go_to_clients_of_the_format_only() -> None:
    answer = parse_answer(read("text", "response.json"))
    assert answer is not None
    assert shown(answer)["system_fingerprint"] == "fp_44709d6fcb"
    foreign = made(Text("x"), extra={"container": msgspec.Raw(b"{}")})
    assert "container" not in shown(foreign)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Slow down", "code": "rate_limit"}},
        {"error": "Slow down"},
        {"object": "error", "message": "no", "code": 400},
        {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None},
        {"code": 500, "msg": "internal"},
        {"detail": "Not allowed"},
        {"type": "error", "error": {"type": "overloaded_error"}},
        {"choices": [{"error": {"message": "Upstream"}, "finish_reason": "error", "message": {"content": ""}}]},
    ],
)
def test_t52_an_error_inside_a_200_is_no_answer(body: dict[str, Any]) -> None:
    assert parse_answer(json.dumps(body).encode()) is None


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"choices":[]}', b'{"choices":{}}', b'{"choices":[3]}']
)
def test_t52_what_is_not_an_answer_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        parse_answer(body)


def test_nulls_everywhere_are_no_fault() -> None:
    names = ("content", "refusal", "tool_calls", "function_call", "annotations", "reasoning_details", "images", "audio")
    message: dict[str, Any] = dict.fromkeys(names)
    answer = answered(message, usage=None, id=None, model=None, created=None, error=None)
    assert (answer.blocks, answer.usage, answer.id) == ((), Usage(), "")


def test_t71_half_of_a_surrogate_pair_is_replaced() -> None:
    answer = parse_answer(rb'{"choices":[{"message":{"content":"cut \ud83d"},"finish_reason":"stop"}]}')
    assert answer is not None
    assert answer.blocks == (Text("cut \ufffd"),)


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}},
            Usage(10, 5, cache_read=4),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 3}, Usage(10, 5, cache_read=3)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 2}, Usage(10, 5, cache_read=2)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 22,
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            Usage(10, 12, reasoning=7),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 12,
                "total_tokens": 22,
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            Usage(10, 12, reasoning=7),
        ),
        ({"prompt_tokens": -1}, Usage()),
        ("many", Usage()),
    ],
)
def test_t37_t38_token_counts_of_hosts(raw: Any, usage: Usage) -> None:
    assert answered({"content": "x"}, usage=raw).usage == usage


def test_token_counts_are_shown_as_reported() -> None:
    usage = Usage(100, 50, cache_read=40, cache_write=10, reasoning=20, audio_in=None)
    assert shown(made(Text("x"), usage=usage))["usage"] == {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    assert shown(made(Text("x")))["usage"] is None
    assert parsed().include_usage is False

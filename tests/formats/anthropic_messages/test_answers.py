"""Whole answers, in both directions."""

from __future__ import annotations

from typing import Any

import anthropic
import msgspec
import pytest

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.anthropic_messages.response import parse_answer, render_answer
from omniroute.formats.canonical import (
    NO_EXTRA,
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
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat
from tests.formats.anthropic_messages.fixtures import ANSWERS, answer_of, chat, reply_to, value

CHAT = WireFormat.OPENAI_CHAT


def read(body: bytes) -> Answer:
    answer = parse_answer(body)
    assert answer is not None
    return answer


def shown(*blocks: Any, stop: Stop = Stop.END, **members: Any) -> Any:
    answer = Answer(CHAT, "chatcmpl-1", "gpt", blocks, stop, **members)
    body = render_answer(answer, reply_to(chat(stop=("END",))))
    anthropic.types.Message.model_validate_json(body)
    return value(body)


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_of_the_same_format_loses_nothing(case: str) -> None:
    answer = read(answer_of(case))
    again = read(render_answer(answer, reply_to(chat())))
    assert msgspec.structs.replace(again, id=answer.id, model=answer.model) == answer


@pytest.mark.parametrize("case", ANSWERS)
def test_t75_the_official_client_reads_an_answer(case: str) -> None:
    answer = read(answer_of(case))
    message = anthropic.types.Message.model_validate_json(render_answer(answer, reply_to(chat())), strict=True)
    assert [block.type for block in message.content] == [one["type"] for one in value(answer_of(case))["content"]]
    assert message.stop_reason == value(answer_of(case))["stop_reason"]


def test_t61_t73_the_answer_has_the_clients_model_and_an_id_of_its_own() -> None:
    body = shown(Text("Hi"))
    assert body["model"] == "the-model"
    assert body["id"] == "msg_0123456789abcdef01234567"


def test_t02_empty_arguments_are_the_empty_object() -> None:
    assert shown(ToolCall("a", "f", ""), stop=Stop.TOOL_USE)["content"][0]["input"] == {}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a": 1', {"raw_arguments": '{"a": 1'}),
        ("[1]", {"raw_arguments": "[1]"}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ("not json", {"raw_arguments": "not json"}),
    ],
)
def test_t02_arguments_that_are_no_object_stay_readable(arguments: str, expected: dict[str, Any]) -> None:
    assert shown(ToolCall("a", "f", arguments), stop=Stop.TOOL_USE)["content"][0]["input"] == expected


def test_t70_arguments_keep_their_numbers() -> None:
    answer = Answer(CHAT, "", "", (ToolCall("a", "f", '{"n":1e400,"i":-0}'),), Stop.TOOL_USE)
    assert b'"input":{"n":1e400,"i":-0}' in render_answer(answer, reply_to(chat()))


def test_t74_a_torn_call_is_shown_as_text() -> None:
    body = shown(Text("So:"), ToolCall("a", "rm", '{"path": "/ho'), stop=Stop.LENGTH)
    assert [block["type"] for block in body["content"]] == ["text", "text"]
    assert '{"path": "/ho' in body["content"][1]["text"]
    assert body["stop_reason"] == "max_tokens"


def test_t13_free_text_of_a_custom_tool_is_an_object_here() -> None:
    call = ToolCall("a", "patch", '*** Begin "x"', CallKind.CUSTOM)
    assert shown(call, stop=Stop.TOOL_USE)["content"][0]["input"] == {"input": '*** Begin "x"'}


def test_t16_thinking_without_a_signature_has_the_empty_one() -> None:
    blocks = shown(Thinking("hm"), Thinking("ha", Token("WRAPPED", CHAT)))["content"]
    assert [block["signature"] for block in blocks] == ["", "WRAPPED"]


@pytest.mark.parametrize(
    ("stop", "word", "sequence"),
    [
        (Stop.END, "end_turn", None),
        (Stop.STOP_SEQUENCE, "stop_sequence", "END"),
        (Stop.LENGTH, "max_tokens", None),
        (Stop.CONTEXT_FULL, "model_context_window_exceeded", None),
        (Stop.TOOL_USE, "tool_use", None),
        (Stop.PAUSE, "pause_turn", None),
        (Stop.REFUSAL, "refusal", None),
    ],
)
def test_t34_every_reason_has_its_word(stop: Stop, word: str, sequence: str | None) -> None:
    body = shown(Text("x"), stop=stop)
    assert (body["stop_reason"], body["stop_sequence"]) == (word, sequence)
    assert read(msgspec.json.encode({**body, "usage": {}})).stop is stop


def test_t34_a_vendors_own_word_is_a_plain_end() -> None:
    body = value(answer_of("text")) | {"stop_reason": "overheated"}
    assert read(msgspec.json.encode(body)).stop is Stop.END


def test_t65_text_and_call_in_one_answer() -> None:
    body = shown(Text("I look."), ToolCall("a", "f", "{}"), stop=Stop.TOOL_USE)
    assert [block["type"] for block in body["content"]] == ["text", "tool_use"]
    assert body["stop_reason"] == "tool_use"


def test_t72_a_refusal_is_text_and_a_reason() -> None:
    body = shown(Refusal("I cannot."), stop=Stop.REFUSAL)
    assert body["content"] == [{"type": "text", "text": "I cannot."}]
    assert body["stop_reason"] == "refusal"


def test_t37_input_excludes_what_the_cache_read_and_wrote() -> None:
    usage = Usage(input=1000, output=50, cache_read=700, cache_write=200, cache_write_1h=150, reasoning=20)
    assert shown(Text("x"), usage=usage)["usage"] == {
        "input_tokens": 100,
        "output_tokens": 50,
        "cache_read_input_tokens": 700,
        "cache_creation_input_tokens": 200,
        "cache_creation": {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 150},
        "output_tokens_details": {"thinking_tokens": 20},
    }


def test_t37_input_includes_what_the_cache_read_and_wrote() -> None:
    usage = read(answer_of("thinking")).usage
    assert usage == Usage(input=388, output=40, cache_read=0, cache_write=300, cache_write_1h=200, reasoning=31)
    assert read(answer_of("server_tools")).usage.web_searches == 1


def test_usage_of_another_shape_is_read_as_far_as_it_goes() -> None:
    body = value(answer_of("text")) | {"usage": {"input_tokens": 5, "output_tokens": 6, "cache_creation": 7}}
    assert read(msgspec.json.encode(body)).usage == Usage(input=5, output=6)
    body["usage"] = {"input_tokens": "many"}
    assert read(msgspec.json.encode(body)).usage == Usage()


def test_what_only_another_format_can_show_is_said_in_words() -> None:
    url = "https://e.com/a.png"
    body = shown(
        Media(MediaKind.IMAGE, SourceKind.URL, url),
        Media(MediaKind.IMAGE, SourceKind.INLINE, "AAAA", "image/png"),
        ServerTool(WireFormat.GEMINI, msgspec.Raw(b"{}"), "[It ran code: 4]"),
        ServerTool(WireFormat.GEMINI, msgspec.Raw(b"{}")),
        Text("x", citations=(Citation(CHAT, msgspec.Raw(b"{}"), url=url),)),
    )
    assert [block["text"] for block in body["content"]] == [
        f"![image]({url})",
        "[image of type image/png, which this format cannot show]",
        "[It ran code: 4]",
        "x",
    ]
    assert all("citations" not in block for block in body["content"])


@pytest.mark.parametrize(
    "body", [b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', b'{"error":{"message":"x"}}']
)
def test_t52_an_error_in_a_200_is_no_answer(body: bytes) -> None:
    assert parse_answer(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"content": 5}',
        b'{"content": [5]}',
        b'{"content": [{"text": "x"}]}',
        b'{"content": [{"type": "text", "text": 5}]}',
        b'{"content": [], "stop_reason": 5}',
        b'{"content": [], "id": {}}',
    ],
)
def test_t52_what_is_no_answer_is_the_providers_fault(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        parse_answer(body)


def test_hosts_may_leave_out_what_they_like() -> None:
    body = (
        b'{"content": [{"type": "text", "text": null, "citations": null}, {"type": "thinking", "thinking": "hm"},'
        b' {"type": "tool_use", "name": "f"}, {"type": "tool_use", "id": null, "name": "g", "input": "{\\"a\\": 1}"}]}'
    )
    answer = read(body)
    assert answer.blocks == (
        Text(""),
        Thinking("hm"),
        ToolCall("", "f", "{}"),
        ToolCall("", "g", '{"a": 1}'),
    )
    assert answer.stop is Stop.END
    assert answer.extra == NO_EXTRA
    assert read(b'{"content": "Hi"}').blocks == (Text("Hi"),)
    assert read(b'{"content": null}').blocks == ()

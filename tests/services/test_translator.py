"""Translation without sending: recognising formats, requests, answers, streams, and what is lost."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import UnsupportedFeature, ValidationFailed
from omniroute.formats.losses import DECLARED
from omniroute.formats.wire import WireFormat
from omniroute.services.translator import FORMATS, SPELLINGS, Translator, format_named, split_frames
from omniroute.services.translator_detection import detect
from omniroute.services.translator_losses import request_losses

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {
            "type": "text",
            "text": "Hi",
            "citations": [
                {
                    "type": "char_location",
                    "cited_text": "a",
                    "document_index": 0,
                    "document_title": "t",
                    "start_char_index": 0,
                    "end_char_index": 1,
                }
            ],
        },
    ],
    "stop_reason": "stop_sequence",
    "stop_sequence": "END",
    "usage": {"input_tokens": 3, "output_tokens": 4},
}


def _nobody() -> NoReturn:
    raise AssertionError("no model is looked up")


@pytest.fixture(scope="module")
def translator() -> Translator:
    return Translator(directory=_nobody, now=time.monotonic, wall=lambda: 1_790_000_000.0)


def bodies(name: str) -> list[tuple[WireFormat, str, dict[str, Any]]]:
    return [(wire_format, place, json.loads(data)) for wire_format, place, data in texts(name)]


def texts(name: str) -> list[tuple[WireFormat, str, bytes]]:
    found = []
    for wire_format in FORMATS:
        for file in sorted((FIXTURES / wire_format).glob(f"*/{name}.json")):
            data = file.read_bytes()
            try:
                body = json.loads(data)
            except ValueError:
                continue
            if isinstance(body, dict) and "error" not in body:
                found.append((wire_format, file.parent.name, data))
    return found


def is_object(raw: msgspec.Raw) -> bool:
    return isinstance(json.loads(bytes(raw)), dict)


# --- recognising -----------------------------------------------------------------------------------------------------


def test_every_recorded_request_is_recognised() -> None:
    requests = bodies("request")
    assert len(requests) > 30
    wrong = []
    for wire_format, name, body in requests:
        found = detect(body)
        is_plain = set(body) <= {"model", "messages", "stream", "max_tokens"}
        if found["format"] is not wire_format and not is_plain:
            wrong.append((wire_format, name, found))
    assert wrong == []


def test_every_recorded_answer_is_recognised() -> None:
    answers = bodies("response") + bodies("answer")
    wrong = [(wire_format, name) for wire_format, name, body in answers if detect(body)["format"] is not wire_format]
    assert answers
    assert wrong == []


def test_more_signs_make_it_surer() -> None:
    plain = detect(CHAT)
    sure = detect({**CHAT, "response_format": {"type": "json_object"}, "reasoning_effort": "low"})
    assert (plain["format"], sure["format"]) == (WireFormat.OPENAI_CHAT, WireFormat.OPENAI_CHAT)
    assert 0 < plain["confidence"] < sure["confidence"] <= 1


def test_what_cannot_be_read_whole_is_said() -> None:
    found = detect({"contents": 3})
    assert found["format"] is WireFormat.GEMINI
    assert found["reasons"][-1] == "but it cannot be read whole as a request of Gemini"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = ("messages", "contents", "input", "tools", "model", "system", "object", "type", "message", "choices", "done")


@given(st.dictionaries(st.sampled_from(MEMBERS), json_values, max_size=5))
def test_nothing_that_may_be_asked_about_fails(body: dict[str, Any]) -> None:
    found = detect(body)
    assert 0 <= found["confidence"] <= 1
    assert found["reasons"]


# --- translating -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_format_has_several_names(name: str) -> None:
    assert format_named(f" {name.upper()} ") in FORMATS


def test_no_format_is_called_so() -> None:
    with pytest.raises(ValueError, match="morse"):
        format_named("morse")


@pytest.mark.parametrize("target", FORMATS)
def test_every_recorded_request_is_translated_or_refused_with_a_reason(
    translator: Translator, target: WireFormat
) -> None:
    done = 0
    for wire_format, name, data in texts("request"):
        try:
            found = translator.translate(wire_format, target, data)
        except UnsupportedFeature:
            continue
        assert is_object(found["result"]), name
        assert all(loss["path"] and loss["reason"] for loss in found["losses"])
        done += 1
    assert done > 10


@pytest.mark.parametrize("wire_format", FORMATS)
def test_every_loss_has_a_reason(wire_format: WireFormat) -> None:
    paths = [
        f"{path}.x" if path in ("extra", "messages.extra", "tools.extra") else path for path in DECLARED[wire_format]
    ]
    found = request_losses(paths)
    assert len(found) == len(paths)
    assert all(loss["reason"].endswith(".") and not loss["path"].startswith("extra.") for loss in found)


def test_a_picture_by_its_address_is_named(translator: Translator) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.com/cat.jpg"}}
    body = {**CHAT, "messages": [{"role": "user", "content": [part]}]}
    found = translator.translate(WireFormat.OPENAI_CHAT, WireFormat.GEMINI, json.dumps(body).encode())
    assert json.loads(bytes(found["result"]))["contents"][0]["parts"][0]["inlineData"]["mimeType"] == "image/png"
    assert "https://example.com/cat.jpg" in found["losses"][0]["reason"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"[1]", "body"),
        (b"{}", "body.messages"),
        (b'{"messages": 3}', "body.messages"),
        (b'{"model":"m","messages":[{"role":"user","content":[{"type":"text"}]}]}', "body.messages.0.content.0.text"),
    ],
)
def test_an_unreadable_request_names_its_field(translator: Translator, body: bytes, field: str) -> None:
    with pytest.raises(ValidationFailed) as refusal:
        translator.translate(WireFormat.OPENAI_CHAT, WireFormat.GEMINI, body)
    assert refusal.value.details[0]["field"] == field


def test_what_an_answer_loses(translator: Translator) -> None:
    body = json.dumps(MESSAGE).encode()
    found = translator.translate_answer(WireFormat.ANTHROPIC_MESSAGES, WireFormat.OLLAMA, body)
    paths = {loss["path"] for loss in found["losses"]}
    assert {"blocks.0.signature", "blocks.1.citations", "stop_sequence"} <= paths
    same = translator.translate_answer(WireFormat.ANTHROPIC_MESSAGES, WireFormat.ANTHROPIC_MESSAGES, body)
    assert same["losses"] == []


@pytest.mark.parametrize("body", [b'{"error":{"message":"no"}}', b"{}", b"nothing", b'{"choices": 3}'])
def test_what_is_no_answer_is_refused(translator: Translator, body: bytes) -> None:
    with pytest.raises(ValidationFailed) as refusal:
        translator.translate_answer(WireFormat.OPENAI_CHAT, WireFormat.GEMINI, body)
    assert refusal.value.details[0]["field"].startswith("body")


@pytest.mark.parametrize("target", FORMATS)
def test_every_recorded_stream_is_translated(translator: Translator, target: WireFormat) -> None:
    done = 0
    for wire_format in FORMATS:
        for file in sorted((FIXTURES / wire_format).glob("*/*stream*")):
            try:
                found = translator.translate_stream(wire_format, target, file.read_bytes())
            except ValidationFailed:
                continue
            assert found["frames"], file
            assert (found["folded"] is None) == (found["error"] is not None), file
            done += 1
    assert done > 10


def test_an_error_in_a_stream_is_told(translator: Translator) -> None:
    text = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    start = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
        b'"model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1}}}\n\n'
    )
    found = translator.translate_stream(WireFormat.ANTHROPIC_MESSAGES, WireFormat.OPENAI_CHAT, start + text)
    assert (found["error"], found["folded"]) == ("Overloaded", None)


def test_what_is_no_stream_is_refused(translator: Translator) -> None:
    with pytest.raises(ValidationFailed) as refusal:
        translator.translate_stream(WireFormat.OPENAI_CHAT, WireFormat.GEMINI, b"nothing of the kind")
    assert refusal.value.details[0]["field"] == "sse"


def test_frames_are_split_as_the_format_does() -> None:
    assert split_frames(b"data: a\r\n\r\ndata: b\n\n", WireFormat.OPENAI_CHAT) == ["data: a", "data: b"]
    assert split_frames(b'{"a":1}\n\n{"b":2}\n', WireFormat.OLLAMA) == ['{"a":1}', '{"b":2}']

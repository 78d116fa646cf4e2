from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import (
    Answer,
    Block,
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
    Unknown,
)
from omniroute.formats.gemini.response import parse_answer, read_answer, render_answer
from omniroute.formats.gemini.usage import UsageFields, usage_fields
from omniroute.formats.usage import NOT_REPORTED, Usage
from omniroute.formats.wire import WireFormat
from tests.formats.gemini.fixtures import PAIRS, body_of, events_of, folded, reply_for, stream_of

GEMINI = WireFormat.GEMINI


def _answer(case: str) -> Answer:
    answer = parse_answer(body_of(case, "response.json"))
    assert answer is not None
    return answer


def _parsed(candidate: dict[str, Any], **members: Any) -> Answer:
    answer = parse_answer(json.dumps({"candidates": [candidate], **members}).encode())
    assert answer is not None
    return answer


@pytest.mark.parametrize("case", PAIRS)
def test_a_folded_stream_is_the_answer_that_was_not_streamed(case: str) -> None:
    whole = _answer(case)
    assert folded(events_of([stream_of(case)])) == msgspec.structs.replace(whole, others=())


def test_an_agents_turn() -> None:
    answer = _answer("agent")
    assert answer.blocks == (
        Thinking("**Looking** at the failure, then retrying."),
        Text("File b is missing; let me look."),
        ToolCall(
            "fc-1",
            "run_shell_command",
            '{"command":"ls -la / | head"}',
            token=Token("CsUBAePx9jY8Zm9vYmFy", GEMINI),
        ),
        ToolCall("fc-2", "read_file", '{"file_path":"/c.txt"}'),
    )
    assert answer.stop is Stop.TOOL_USE
    assert answer.usage == Usage(input=6021, output=224, cache_read=4096, reasoning=180)
    assert (answer.id, answer.model) == ("zK0gaY3nKteVmtkPk8jR4Ag", "gemini-3-pro-preview")


def test_thoughts_and_their_signatures() -> None:
    assert _answer("thinking").blocks == (
        Thinking("Three and three make six.", Token("U2lnbmVk", GEMINI)),
        Thinking("", Token("SGlkZGVuMg==", GEMINI), redacted=True),
        Text("6"),
    )


def test_t5_a_missing_id_is_left_to_be_made() -> None:
    first, second = _answer("tools_no_ids").calls
    assert (first.id, second.id, second.arguments) == ("", "", "{}")


def test_what_the_vendors_tools_did_is_kept_with_its_sources() -> None:
    code, outcome, text = _answer("server_tools").blocks
    assert isinstance(code, ServerTool)
    assert isinstance(outcome, ServerTool)
    assert outcome.note == "[The code failed]\nboom"
    assert isinstance(text, Text)
    assert [(c.title, text.text[c.start : c.end]) for c in text.citations] == [
        ("aljazeera.com", "Spain won Euro 2024."),
        ("aljazeera.com", "España 🇪🇸 beat England 2–1."),
        ("uefa.com", "España 🇪🇸 beat England 2–1."),
    ]
    assert _answer("server_tools").usage == Usage(input=160, output=22)


def test_recitations_are_sources_too() -> None:
    sources = {"citationSources": [{"startIndex": 0, "endIndex": 4, "uri": "https://a.example", "license": "MIT"}]}
    answer = _parsed({"content": {"parts": [{"text": "four"}]}, "citationMetadata": sources, "finishReason": "STOP"})
    (text,) = answer.blocks
    assert isinstance(text, Text)
    assert [(c.url, c.start, c.end) for c in text.citations] == [("https://a.example", 0, 4)]


def test_sources_without_places_are_sources_of_the_whole() -> None:
    grounding = {"groundingChunks": [{"web": {"uri": "https://a.example"}}, {"other": 1}], "groundingSupports": None}
    answer = _parsed({"content": {"parts": [{"text": "x"}]}, "groundingMetadata": grounding, "finishReason": "STOP"})
    (text,) = answer.blocks
    assert isinstance(text, Text)
    assert [(c.url, c.start) for c in text.citations] == [("https://a.example", None)]
    odd = _parsed({"content": {"parts": [{"text": "x"}]}, "groundingMetadata": [1], "finishReason": "STOP"})
    assert odd.blocks == (Text("x"),)


def test_media_that_a_model_makes() -> None:
    _, image = _answer("media").blocks
    assert isinstance(image, Media)
    assert (image.kind, image.mime) == (MediaKind.IMAGE, "image/png")
    assert _answer("media").usage.audio_in == 1200
    (speech,) = _answer("speech").blocks
    assert isinstance(speech, Media)
    assert speech.kind is MediaKind.AUDIO
    assert _answer("speech").usage.audio_out == 25


def test_t70_t71_odd_answers_lose_nothing() -> None:
    answer = _answer("oddities")
    text, unknown, call = answer.blocks
    assert text == Text("Fine")
    assert unknown == Unknown(GEMINI, msgspec.Raw(b'{"futurePart": {"a_b": 1e400}}'))
    assert isinstance(call, ToolCall)
    assert call.arguments == '{"n": 12345678901234567890, "z": -0, "e": 1e400, "s": "\\ud83d\\ude00\\u0000"}'
    assert answer.usage == NOT_REPORTED


def test_several_answers() -> None:
    answer = _answer("candidates")
    assert answer.blocks == (Text("Blue"),)
    assert [other.blocks for other in answer.others] == [(Text("Green"),)]
    rendered = json.loads(render_answer(answer, reply_for()))
    assert [candidate["index"] for candidate in rendered["candidates"]] == [0, 1]


# --- why it ended ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "stop"),
    [
        ("STOP", Stop.END),
        ("MAX_TOKENS", Stop.LENGTH),
        ("SAFETY", Stop.REFUSAL),
        ("RECITATION", Stop.REFUSAL),
        ("LANGUAGE", Stop.REFUSAL),
        ("OTHER", Stop.END),
        ("BLOCKLIST", Stop.REFUSAL),
        ("PROHIBITED_CONTENT", Stop.REFUSAL),
        ("SPII", Stop.REFUSAL),
        ("IMAGE_SAFETY", Stop.REFUSAL),
        ("NO_IMAGE", Stop.END),
        ("SOMETHING_NEW", Stop.END),
    ],
)
def test_t34_every_word_has_its_reason(word: str, stop: Stop) -> None:
    answer = _parsed({"content": {"parts": [{"text": "x"}]}, "finishReason": word})
    assert answer.stop is stop
    with_call = _parsed({"content": {"parts": [{"functionCall": {"name": "f"}}]}, "finishReason": word})
    assert with_call.stop is (Stop.REFUSAL if stop is Stop.REFUSAL else Stop.TOOL_USE)


@pytest.mark.parametrize(
    "word",
    ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"],
)
def test_t34_a_call_that_went_wrong_is_a_failure_to_be_repeated(word: str) -> None:
    with pytest.raises(UpstreamProtocolError, match=word):
        _parsed({"content": {}, "finishReason": word, "index": 0})


def test_t72_a_blocked_prompt_is_a_refusal_without_content() -> None:
    answer = _answer("blocked")
    assert (answer.blocks, answer.stop, answer.usage) == ((), Stop.REFUSAL, Usage(input=12, output=0))
    assert _answer("safety").stop is Stop.REFUSAL


def test_t35_an_answer_without_reason_counts_if_it_has_content() -> None:
    assert _parsed({"content": {"parts": [{"text": "x"}]}}).stop is Stop.END
    with pytest.raises(UpstreamProtocolError):
        _parsed({"content": {}})


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "usage"),
    [
        (UsageFields(10, 5, 7), Usage(input=10, output=12, reasoning=7)),
        (UsageFields(10, None, 7), Usage(input=10, output=7, reasoning=7)),
        (UsageFields(10, 5, None, 4), Usage(input=10, output=5, cache_read=4)),
        (UsageFields(10, 5, None, None, 30), Usage(input=40, output=5)),
        (UsageFields(10, None, None, None, None, 10), Usage(input=10, output=0)),
        (UsageFields(10), Usage(input=10)),
        (UsageFields(), NOT_REPORTED),
    ],
)
def test_t37_t38_counts_have_one_meaning(fields: UsageFields, usage: Usage) -> None:
    assert fields.to_usage() == usage


def test_t38_reasoning_is_kept_apart_for_the_client() -> None:
    fields = usage_fields(Usage(input=100, output=50, reasoning=30, cache_read=80))
    assert fields == {
        "promptTokenCount": 100,
        "candidatesTokenCount": 20,
        "totalTokenCount": 150,
        "cachedContentTokenCount": 80,
        "thoughtsTokenCount": 30,
    }
    assert usage_fields(NOT_REPORTED) == {}


# --- bodies that are no answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"candidates":[]}',
        b'{"candidates":1}',
        b'{"usageMetadata":{}}',
        b'{"candidates":[{"content":{"parts":[{"text":1}]}}]}',
        b"[" * 5000,
    ],
)
def test_t52_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        parse_answer(body)


def test_t52_an_error_inside_a_200_is_told_apart() -> None:
    body = b'{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}'
    assert parse_answer(body) is None
    assert read_answer(body) is None


def test_an_envelope_is_opened() -> None:
    inner = body_of("text", "response.json")
    assert parse_answer(b'{"traceId":"x","response":' + inner + b"}") == _answer("text")


def test_a_passed_answer_is_read() -> None:
    usage, model = read_answer(body_of("agent", "response.json")) or (None, b"")
    assert usage == _answer("agent").usage
    assert model == b'"gemini-3-pro-preview"'
    assert read_answer(body_of("blocked", "response.json")) is not None
    for body in (b"{}", b"no"):
        with pytest.raises(UpstreamProtocolError):
            read_answer(body)


# --- rendered for a client -------------------------------------------------------------------------------------------


def _rendered(*blocks: Block, stop: Stop = Stop.END, shows_thoughts: bool = True) -> dict[str, Any]:
    answer = Answer(WireFormat.OPENAI_CHAT, "chatcmpl-1", "other", blocks, stop, usage=Usage(input=1, output=2))
    body: dict[str, Any] = json.loads(render_answer(answer, reply_for(shows_thoughts=shows_thoughts)))
    return body


def test_t61_t73_names_and_ids_are_the_clients() -> None:
    body = _rendered(Text("Hi"))
    assert body == {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3},
        "modelVersion": "my-model",
        "responseId": "0123456789abcdef01234567",
    }


def test_t65_text_and_a_call_end_with_stop() -> None:
    (candidate,) = _rendered(Text("Hi"), ToolCall("c", "f", '{"a":1}'), stop=Stop.TOOL_USE)["candidates"]
    assert candidate["content"]["parts"] == [
        {"text": "Hi"},
        {"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}},
    ]
    assert candidate["finishReason"] == "STOP"


def test_t68_t2_arguments_are_those_of_the_model() -> None:
    answer = Answer(
        WireFormat.OPENAI_CHAT,
        "x",
        "m",
        (ToolCall("a", "f", '{"n": 1e400,"b":12345678901234567890}'), ToolCall("b", "g", "")),
        Stop.TOOL_USE,
    )
    body = render_answer(answer, reply_for())
    assert b'"args":{"n": 1e400,"b":12345678901234567890}' in body
    assert b'"args":{}' in body


@pytest.mark.parametrize(
    ("stop", "word"),
    [(Stop.LENGTH, "MAX_TOKENS"), (Stop.CONTEXT_FULL, "MAX_TOKENS"), (Stop.TOOL_USE, "MALFORMED_FUNCTION_CALL")],
)
def test_t74_a_torn_call_is_never_a_valid_one(stop: Stop, word: str) -> None:
    (candidate,) = _rendered(Text("x"), ToolCall("c", "f", '{"a": "b'), stop=stop)["candidates"]
    assert candidate["content"]["parts"] == [{"text": "x"}]
    assert candidate["finishReason"] == word
    assert ("finishMessage" in candidate) is (word == "MALFORMED_FUNCTION_CALL")


@pytest.mark.parametrize(
    ("stop", "word"),
    [
        (Stop.END, "STOP"),
        (Stop.STOP_SEQUENCE, "STOP"),
        (Stop.PAUSE, "STOP"),
        (Stop.REFUSAL, "SAFETY"),
        (Stop.LENGTH, "MAX_TOKENS"),
    ],
)
def test_t34_reasons_in_the_vendors_words(stop: Stop, word: str) -> None:
    (candidate,) = _rendered(Refusal("No."), stop=stop)["candidates"]
    assert candidate["finishReason"] == word
    assert candidate["content"]["parts"] == [{"text": "No."}]


def test_an_answer_that_says_nothing_has_one_empty_part() -> None:
    (candidate,) = _rendered(Text(""), Unknown(WireFormat.OPENAI_CHAT, msgspec.Raw(b"{}")))["candidates"]
    assert candidate["content"] == {"role": "model", "parts": [{"text": ""}]}


def test_thoughts_are_for_clients_that_asked() -> None:
    thought = Thinking("why", Token("c2ln", GEMINI))
    hidden = Thinking("", Token("c2ln", GEMINI), redacted=True)
    bare = Thinking("", Token("no base64!", GEMINI))
    parts = _rendered(thought, hidden, bare, Text("x"))["candidates"][0]["content"]["parts"]
    assert parts == [
        {"text": "why", "thought": True, "thoughtSignature": "c2ln"},
        {"thought": True, "thoughtSignature": "c2ln"},
        {"text": "x"},
    ]
    parts = _rendered(thought, hidden, Text("x"), shows_thoughts=False)["candidates"][0]["content"]["parts"]
    assert parts == [{"text": "x"}]


def test_sources_are_told_in_the_vendors_way() -> None:
    raw = msgspec.Raw(b"{}")
    here = Citation(WireFormat.OPENAI_CHAT, raw, "https://a.example", "A", start=5, end=9)
    whole = Citation(WireFormat.ANTHROPIC_MESSAGES, raw, "https://b.example", None)
    nowhere = Citation(WireFormat.OPENAI_CHAT, raw, "https://a.example", "A")
    (candidate,) = _rendered(Text("für – dies", citations=(here, nowhere)), Text("das", citations=(whole,)))[
        "candidates"
    ]
    assert candidate["groundingMetadata"] == {
        "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}, {"web": {"uri": "https://b.example"}}],
        "groundingSupports": [
            {"segment": {"startIndex": 8, "endIndex": 12, "text": " die"}, "groundingChunkIndices": [0]},
            {"segment": {"startIndex": 13, "endIndex": 16, "text": "das"}, "groundingChunkIndices": [1]},
        ],
    }


def test_other_parts() -> None:
    image = Media(MediaKind.IMAGE, SourceKind.INLINE, "iVBORw0KGgo=")
    link = Media(MediaKind.IMAGE, SourceKind.URL, "https://example.org/a.png", "image/png")
    own = ServerTool(GEMINI, msgspec.Raw(b'{"executableCode":{}}'))
    other = ServerTool(WireFormat.ANTHROPIC_MESSAGES, msgspec.Raw(b"{}"), "Searched the web.")
    note = Media(MediaKind.DOCUMENT, SourceKind.TEXT, "plain")
    parts = _rendered(image, link, own, other, note)["candidates"][0]["content"]["parts"]
    assert parts == [
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
        {"fileData": {"fileUri": "https://example.org/a.png", "mimeType": "image/png"}},
        {"executableCode": {}},
        {"text": "Searched the web."},
        {"text": "plain"},
    ]


_BLOCKS = st.lists(
    st.one_of(
        st.builds(Text, st.text(min_size=1, max_size=5)),
        st.builds(lambda text: Thinking(text, Token("c2ln", GEMINI)), st.text(max_size=5)),
        st.just(Thinking("", Token("c2ln", GEMINI), redacted=True)),
        st.builds(
            lambda number: ToolCall(f"c{number}", "f", '{"x":1e400}', token=Token("QUJD", GEMINI)), st.integers(0, 9)
        ),
        st.just(Media(MediaKind.IMAGE, SourceKind.INLINE, "iVBORw0KGgo=", "image/png")),
    ),
    min_size=1,
    max_size=6,
)


@given(_BLOCKS, st.sampled_from([Stop.END, Stop.LENGTH, Stop.REFUSAL]))
def test_an_answer_comes_back_as_it_was(blocks: list[Block], stop: Stop) -> None:
    distinct: list[Block] = []
    for block in blocks:  # the format cannot say where one text ends and the next begins
        if not (distinct and isinstance(block, Text) and isinstance(distinct[-1], Text)):
            distinct.append(block)
    if stop is not Stop.REFUSAL and any(isinstance(block, ToolCall) for block in distinct):
        stop = Stop.TOOL_USE
    reply = reply_for()
    answer = Answer(GEMINI, reply.id, reply.model, tuple(distinct), stop, usage=Usage(input=5, output=4, reasoning=1))
    assert parse_answer(render_answer(answer, reply)) == answer


@pytest.mark.parametrize("case", [case for case in PAIRS if case not in {"server_tools", "blocked"}])
def test_recorded_answers_come_back_as_they_were(case: str) -> None:
    answer = _answer(case)
    reply = reply_for()
    again = parse_answer(render_answer(answer, reply))
    assert again is not None
    expected = msgspec.structs.replace(answer.usage, audio_in=None, audio_out=None)
    if answer.usage != NOT_REPORTED:
        assert again.usage == expected
    assert (again.blocks, again.stop, again.others == ()) == (answer.blocks, answer.stop, answer.others == ())

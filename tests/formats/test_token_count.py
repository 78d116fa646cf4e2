"""Counting and estimating tokens without a network."""

from __future__ import annotations

import time
from base64 import b64encode
from struct import pack

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.canonical import (
    Media,
    MediaKind,
    Message,
    Output,
    Request,
    Role,
    ServerTool,
    ServerToolDefinition,
    SourceKind,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from omniroute.formats.codec import Pause, no_pause
from omniroute.formats.token_count import Encoding, count, count_texts, encoding_of, estimate, is_exact, load
from omniroute.formats.token_estimate import estimate_media, image_tokens
from omniroute.formats.wire import WireFormat

CHAT, MESSAGES, GEMINI = WireFormat.OPENAI_CHAT, WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI
_PROSE = "The quick brown fox jumps over the lazy dog, and nobody is surprised. " * 20
_CODE = 'def f(x: int) -> str:\n    return f"{x:04d}" if x > 10 else str(x)\n\n' * 20


@pytest.fixture(scope="module", autouse=True)
def _vocabularies() -> None:
    load()


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o-mini", Encoding.O200K),
        ("openai/gpt-4.1", Encoding.O200K),
        ("gpt-5.1-codex-max", Encoding.O200K),
        ("o3", Encoding.O200K),
        ("ft:gpt-4o:acme::1", Encoding.O200K),
        ("gpt-oss-120b", Encoding.O200K),
        ("gpt-4-turbo", Encoding.CL100K),
        ("gpt-3.5-turbo", Encoding.CL100K),
        ("claude-sonnet-4-5", None),
        ("gemini-3-pro", None),
        ("", None),
    ],
)
def test_models_and_their_vocabularies(model: str, encoding: Encoding | None) -> None:
    assert encoding_of(model) is encoding
    assert is_exact(model) is (encoding is not None)


@pytest.mark.parametrize(
    ("text", "o200k", "cl100k"),
    [
        ("hello world", 2, 2),
        ("", 0, 0),
        ("tiktoken is great!", 6, 6),
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 8, 9),
        ("<|endoftext|>", 7, 7),
    ],
)
def test_openai_text_is_counted_exactly(text: str, o200k: int, cl100k: int) -> None:
    assert count_texts([text], Encoding.O200K) == o200k
    assert count_texts([text], Encoding.CL100K) == cl100k


def test_long_texts_are_counted_in_slices() -> None:
    text = _PROSE * 400
    pauses: list[None] = []
    sliced = count_texts([text, "a", text], Encoding.O200K, lambda: pauses.append(None))
    assert len(pauses) >= 2 * len(text) // (64 << 10) - 1
    one = count_texts([_PROSE], Encoding.O200K)
    assert abs(sliced - 800 * one) <= 800 + len(pauses)


def test_t69_five_megabytes_take_linear_time() -> None:
    for text in (_CODE, "a", " ", "\n", "\U0001f469\u200d\U0001f469", "中"):
        whole = text * (5_000_000 // len(text.encode()))
        start = time.process_time()
        assert count_texts([whole], Encoding.O200K) > 0
        assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "text",
    [
        _PROSE,
        _CODE,
        '{"type": "object", "properties": {"path": {"type": "string", "description": "Where it is"}}}' * 10,
        "Hierdurch wird die Übertragung größerer Datenmengen ohne Unterbrechung möglich. " * 10,
        "Сегодня мы рассмотрим, как работает передача данных между серверами. " * 10,
        "今天我们来讨论服务器之间的数据传输是如何工作的。" * 10,
        "今日はサーバー間のデータ転送がどのように機能するかについて説明します。" * 10,
        "오늘은 서버 간의 데이터 전송이 어떻게 작동하는지 살펴보겠습니다. " * 10,
        "سنناقش اليوم كيفية عمل نقل البيانات بين الخوادم. " * 10,
        "आज हम चर्चा करेंगे कि सर्वरों के बीच डेटा कैसे भेजा जाता है। " * 10,
        b64encode(bytes(range(7, 250)) * 5).decode(),
        "2026-01-05 12:13:14,567 INFO [worker-3] GET /v1/items/48213 200 73 ms\n" * 20,
    ],
)
def test_t41_an_estimate_is_near_the_truth(text: str) -> None:
    true = count_texts([text], Encoding.O200K)
    assert 0.6 * true <= estimate(text) <= 1.6 * true
    assert 0.6 * true * 50 <= estimate(text * 50) <= 1.6 * true * 50


@given(st.text(max_size=200))
def test_an_estimate_is_never_absurd(text: str) -> None:
    found = estimate(text)
    assert (found == 0) is (text == "")
    assert found <= 4 * len(text.encode("utf-8", "replace")) + 1


def test_an_estimate_of_megabytes_is_cheap() -> None:
    text = _CODE * 8000
    estimate(text)
    start = time.process_time()
    estimate(text)
    assert time.process_time() - start < 0.05


# --- media ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire_format", "model", "size", "tokens"),
    [
        (CHAT, "gpt-4o", (1024, 1024), 765),
        (CHAT, "gpt-4o", (2048, 4096), 1105),
        (CHAT, "gpt-4o-mini", (1024, 1024), 25_501),
        (CHAT, "gpt-5", (1024, 1024), 630),
        (CHAT, "gpt-4.1-mini", (1024, 1024), 1659),
        (CHAT, "gpt-4.1-mini", (9000, 9000), 2489),
        (MESSAGES, "claude-sonnet-4-5", (1092, 1092), 1590),
        (MESSAGES, "claude-sonnet-4-5", (200, 200), 54),
        (MESSAGES, "claude-sonnet-4-5", (8000, 8000), 1600),
        (GEMINI, "gemini-2.5-pro", (384, 384), 258),
        (GEMINI, "gemini-2.5-pro", (960, 540), 1548),
    ],
)
def test_images_cost_what_their_vendor_says(
    wire_format: WireFormat, model: str, size: tuple[int, int], tokens: int
) -> None:
    assert image_tokens(size, wire_format, model) == tokens


def test_little_detail_is_cheap() -> None:
    assert image_tokens((4000, 4000), CHAT, "gpt-4o", detail="low") == 85


def test_the_size_of_an_image_comes_from_its_head() -> None:
    head = b"\x89PNG\r\n\x1a\n" + pack(">I4sII", 13, b"IHDR", 200, 200)
    inline = Media(MediaKind.IMAGE, SourceKind.INLINE, b64encode(head).decode(), "image/png")
    assert estimate_media(inline, MESSAGES, "claude") == 54
    remote = Media(MediaKind.IMAGE, SourceKind.URL, "https://example.com/a.png")
    assert estimate_media(remote, CHAT, "gpt-4o") == 765


@pytest.mark.parametrize("kind", list(MediaKind))
@pytest.mark.parametrize("source", list(SourceKind))
@pytest.mark.parametrize("wire_format", list(WireFormat))
def test_every_kind_of_media_costs_something(kind: MediaKind, source: SourceKind, wire_format: WireFormat) -> None:
    assert estimate_media(Media(kind, source, "AAAA" * 50_000), wire_format, "model") > 0


# --- requests ---------------------------------------------------------------------------------------------------------


def _request(*messages: Message, **members: object) -> Request:
    request = Request(CHAT, "m", messages)
    return msgspec.structs.replace(request, **members)


def _counted(request: Request, model: str, wire_format: WireFormat = CHAT, pause: Pause = no_pause) -> int:
    return count(request, model=model, wire_format=wire_format, pause=pause)


def _user(text: str) -> Message:
    return Message(Role.USER, (Text(text),))


def test_a_plain_message_costs_its_text_and_seven() -> None:
    # What the vendor reports for these: three around a message, one for its role, three before the answer.
    assert _counted(_request(_user("hello world")), "gpt-4o") == 2 + 3 + 3


def test_everything_that_is_sent_is_counted() -> None:
    schema = msgspec.Raw(b'{"type":"object","properties":{"path":{"type":"string"}}}')
    raw = msgspec.Raw(b'{"type":"web_search_call","query":"weather"}')
    full = _request(
        _user("hi"),
        Message(
            Role.ASSISTANT,
            (Thinking("Let me look."), ToolCall("1", "read", '{"path":"/a"}'), ServerTool(CHAT, raw)),
        ),
        Message(Role.TOOL, (ToolResult("1", (Text(_PROSE),)),)),
        system=(Message(Role.SYSTEM, (Text("Be brief."),)),),
        tools=(Tool("read", "Reads a file", schema), ServerToolDefinition(CHAT, "web_search", raw)),
        output=Output(schema),
    )
    counts = [_counted(full, "gpt-4o")]
    for member, less in (("system", ()), ("tools", ()), ("output", None), ("messages", full.messages[:1])):
        counts.append(_counted(msgspec.structs.replace(full, **{member: less}), "gpt-4o"))
    assert all(less < counts[0] for less in counts[1:])
    assert counts[0] > count_texts([_PROSE], Encoding.O200K)


@pytest.mark.parametrize(
    ("model", "wire_format", "factor"),
    [("claude-opus-4-5", CHAT, 1.2), ("", MESSAGES, 1.2), ("gemini-3-pro", CHAT, 1.0), ("llama-4", MESSAGES, 1.05)],
)
def test_other_vendors_are_counted_by_a_factor(model: str, wire_format: WireFormat, factor: float) -> None:
    true = count_texts([_PROSE], Encoding.O200K) * factor
    assert true <= _counted(_request(_user(_PROSE)), model, wire_format) <= true + 12


def test_many_messages_are_counted_in_slices() -> None:
    request = _request(*(_user(_PROSE) for _ in range(700)))
    longest = 0.0
    last = time.process_time()

    def pause() -> None:
        nonlocal longest, last
        now = time.process_time()
        longest, last = max(longest, now - last), now

    assert _counted(request, "gpt-5", pause=pause) > 100_000
    assert 0 < longest < 0.05

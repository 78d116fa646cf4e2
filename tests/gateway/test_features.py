"""What a request is like, in the five dialects: by table, by recorded requests, and as large as agents send them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.canonical import Token
from omniroute.formats.splice import scan
from omniroute.formats.token_count import count
from omniroute.formats.token_estimate import estimate_media
from omniroute.gateway.asks import NO_ASKS, Asks
from omniroute.gateway.dialects import DIALECTS, Surface
from omniroute.gateway.exchange import Inquiry, Kept
from omniroute.gateway.features import BYTES_PER_TOKEN, CJK_BYTES_PER_TOKEN, IMAGE_TOKENS, features_of
from omniroute.gateway.session_keys import SessionKey
from omniroute.routing.options import Features, Task

FIXTURES = Path(__file__).parent.parent / "fixtures"
SURFACES = {
    "openai_chat": Surface.OPENAI_CHAT,
    "openai_responses": Surface.OPENAI_RESPONSES,
    "anthropic_messages": Surface.ANTHROPIC_MESSAGES,
    "gemini": Surface.GEMINI,
    "ollama": Surface.OLLAMA_CHAT,
}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class NoBacking:
    """Nothing of a request's features needs more than the request."""

    def fetch_media(self, urls: tuple[str, ...]) -> Mapping[str, tuple[str, str]]:
        raise AssertionError("features are told without fetching")

    def thinking_of(self, key_id: str, call_id: str) -> tuple[str, Token | None] | None:
        raise AssertionError("features are told without looking up")

    def remember(self, key_id: str, kept: Kept) -> None:
        raise AssertionError("features keep nothing")

    def wall(self) -> float:
        return 0.0


def inquiry(surface: Surface, body: bytes, *, is_stream: bool = False) -> Inquiry:
    return Inquiry(DIALECTS[surface], scan(body), "asked/model", is_stream, "req", "key", NoBacking(), lambda: None)


def features(surface: Surface, body: Any, asks: Asks = NO_ASKS, **changes: Any) -> Features:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return features_of(inquiry(surface, raw), asks, **{"key_id": "key", "session": SessionKey(), **changes})


def chat(**members: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **members}


def responses(**members: Any) -> dict[str, Any]:
    return {"model": "m", "input": "Hi", **members}


def messages(**members: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 7, "messages": [{"role": "user", "content": "Hi"}], **members}


def gemini(**members: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], **members}


def ollama(**members: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **members}


CHAT, RESPONSES, MESSAGES, GEMINI, OLLAMA = SURFACES.values()
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def chat_tools(*names: str) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in names]


def named(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "input_schema": SCHEMA} for name in names]


@pytest.mark.parametrize(
    ("surface", "body", "most"),
    [
        (CHAT, chat(), None),
        (CHAT, chat(max_tokens=5), 5),
        (CHAT, chat(max_completion_tokens=6, max_tokens=5), 6),
        (RESPONSES, responses(max_output_tokens=8), 8),
        (RESPONSES, responses(), None),
        (MESSAGES, messages(), 7),
        (GEMINI, gemini(generationConfig={"maxOutputTokens": 9}), 9),
        (GEMINI, gemini(generation_config={"max_output_tokens": "10"}), 10),
        (GEMINI, gemini(), None),
        (OLLAMA, ollama(options={"num_predict": 11}), 11),
        (OLLAMA, ollama(options={"num_predict": -1}), None),
        (OLLAMA, ollama(), None),
        (Surface.OPENAI_COMPLETIONS, {"model": "m", "prompt": "Hi", "max_tokens": 12}, 12),
        (Surface.OLLAMA_GENERATE, {"model": "m", "prompt": "Hi", "options": {"num_predict": 13}}, 13),
        (CHAT, chat(max_tokens="many"), None),  # for its provider to refuse
    ],
)
def test_the_output_limit(surface: Surface, body: dict[str, Any], most: int | None) -> None:
    assert features(surface, body).max_output == most


@pytest.mark.parametrize(
    ("surface", "body", "effort", "needs_reasoning"),
    [
        (CHAT, chat(), None, False),
        (CHAT, chat(reasoning_effort="high"), "high", True),
        (CHAT, chat(reasoning_effort="medium"), "medium", False),
        (CHAT, chat(reasoning={"effort": "xhigh"}), "xhigh", True),
        (CHAT, chat(thinking={"type": "disabled"}), "none", False),
        (CHAT, chat(reasoning_effort="enormous"), None, False),
        (RESPONSES, responses(reasoning={"effort": "high"}), "high", True),
        (RESPONSES, responses(reasoning=None), None, False),
        (MESSAGES, messages(output_config={"effort": "max"}), "max", True),
        (MESSAGES, messages(thinking={"type": "enabled", "budget_tokens": 31_999}), "high", False),
        (MESSAGES, messages(thinking={"type": "adaptive"}), None, False),
        (GEMINI, gemini(generationConfig={"thinkingConfig": {"thinkingLevel": "high"}}), "high", True),
        (GEMINI, gemini(generationConfig={"thinkingConfig": {"thinkingBudget": 2000}}), "low", False),
        (OLLAMA, ollama(think="high"), "high", True),
        (OLLAMA, ollama(think=True), None, False),
    ],
)
def test_the_effort(surface: Surface, body: dict[str, Any], effort: str | None, needs_reasoning: bool) -> None:
    found = features(surface, body)
    assert found.effort == effort
    assert ("reasoning" in found.needs) is needs_reasoning
    assert found.task is (Task.REASONING if effort in ("high", "xhigh", "max") else Task.GENERAL)


@pytest.mark.parametrize(
    ("surface", "body", "needs"),
    [
        (CHAT, chat(), set()),
        (CHAT, chat(tools=[]), set()),
        (CHAT, chat(tools=None), set()),
        (CHAT, chat(tools=chat_tools("f")), {"tools"}),
        (CHAT, chat(functions=[{"name": "f"}]), {"tools"}),
        (CHAT, chat(tools="strange"), {"tools"}),
        (CHAT, chat(response_format={"type": "json_object"}), set()),
        (
            CHAT,
            chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}),
            {"schema"},
        ),
        (CHAT, chat(modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"}), {"audio"}),
        (RESPONSES, responses(tools=[{"type": "web_search"}]), {"tools"}),
        (RESPONSES, responses(text={"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}), {"schema"}),
        (RESPONSES, responses(text={"format": {"type": "text"}}), set()),
        (MESSAGES, messages(tools=named("f")), {"tools"}),
        (MESSAGES, messages(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}), {"schema"}),
        (GEMINI, gemini(tools=[{"functionDeclarations": [{"name": "f"}]}]), {"tools"}),
        (GEMINI, gemini(tools=[{"googleSearch": {}}]), {"tools"}),
        (
            GEMINI,
            gemini(generationConfig={"responseMimeType": "application/json", "responseSchema": SCHEMA}),
            {"schema"},
        ),
        (OLLAMA, ollama(tools=chat_tools("f")), {"tools"}),
        (OLLAMA, ollama(format=SCHEMA), {"schema"}),
        (OLLAMA, ollama(format="json"), set()),
    ],
)
def test_tools_and_schemas_are_needed(surface: Surface, body: dict[str, Any], needs: set[str]) -> None:
    assert features(surface, body).needs == needs


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


IMAGE_URL = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
IMAGE_BLOCK = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
PDF_BLOCK = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
TEXT_BLOCK = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}}


@pytest.mark.parametrize(
    ("surface", "body", "needs"),
    [
        (CHAT, chat(messages=user(IMAGE_URL)), {"vision"}),
        (
            CHAT,
            chat(messages=user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})),
            {"audio"},
        ),
        (CHAT, chat(messages=user({"type": "file", "file": {"file_id": "file-1"}})), {"document"}),
        (CHAT, chat(messages=user({"type": "text", "text": 'the word "image_url" alone'})), set()),
        (RESPONSES, responses(input=user({"type": "input_image", "image_url": "https://e.org/a.png"})), {"vision"}),
        (RESPONSES, responses(input=user({"type": "input_file", "file_id": "f"})), {"document"}),
        (MESSAGES, messages(messages=user(IMAGE_BLOCK)), {"vision"}),
        (MESSAGES, messages(messages=user(IMAGE_BLOCK, PDF_BLOCK)), {"vision", "document"}),
        (MESSAGES, messages(messages=user(TEXT_BLOCK)), set()),
        (
            MESSAGES,
            messages(
                messages=[
                    {"role": "user", "content": "Look"},
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "shot", "input": {}}]},
                    *user({"type": "tool_result", "tool_use_id": "t", "content": [IMAGE_BLOCK]}),
                ]
            ),
            {"vision"},
        ),
        (GEMINI, gemini(contents=[{"parts": [{"inlineData": {"mimeType": "image/png", "data": PNG}}]}]), {"vision"}),
        (
            GEMINI,
            gemini(contents=[{"parts": [{"inline_data": {"mime_type": "audio/wav", "data": "AAAA"}}]}]),
            {"audio"},
        ),
        (
            GEMINI,
            gemini(contents=[{"parts": [{"fileData": {"mimeType": "video/mp4", "fileUri": "https://e.org/v"}}]}]),
            {"vision"},
        ),
        (OLLAMA, ollama(messages=[{"role": "user", "content": "What?", "images": [PNG]}]), {"vision"}),
        (OLLAMA, ollama(messages=[{"role": "user", "content": "What?", "images": []}]), set()),
        (Surface.OLLAMA_GENERATE, {"model": "m", "prompt": "What?", "images": [PNG]}, {"vision"}),
        (MESSAGES, messages(messages=user({"type": "image", "source": "broken"})), set()),  # for its provider to refuse
    ],
)
def test_media_is_found_where_it_stands(surface: Surface, body: dict[str, Any], needs: set[str]) -> None:
    assert features(surface, body).needs == needs


@pytest.mark.parametrize(
    ("surface", "body", "task"),
    [
        (MESSAGES, messages(tools=named("Bash", "Edit", "Read")), Task.CODING),
        (MESSAGES, messages(tools=named("Bash", "Read", "WebFetch")), Task.GENERAL),
        (
            MESSAGES,
            messages(tools=[{"type": "bash_20250124", "name": "bash"}, *named("str_replace_based_edit_tool")]),
            Task.CODING,
        ),
        (CHAT, chat(tools=chat_tools("read_file", "grep_search")), Task.CODING),
        (CHAT, chat(tools=chat_tools("read_file", "weather")), Task.GENERAL),
        (CHAT, chat(functions=[{"name": "write"}, {"name": "glob"}]), Task.CODING),
        (CHAT, chat(tools=chat_tools("shell", "apply_patch"), reasoning_effort="high"), Task.CODING),
        (RESPONSES, responses(tools=[{"type": "local_shell"}, {"type": "custom", "name": "apply_patch"}]), Task.CODING),
        (
            RESPONSES,
            responses(tools=[{"type": "namespace", "name": "n", "tools": [{"name": "shell"}, {"name": "edit"}]}]),
            Task.CODING,
        ),
        (
            GEMINI,
            gemini(tools=[{"functionDeclarations": [{"name": "run_shell_command"}, {"name": "write_file"}]}]),
            Task.CODING,
        ),
        (GEMINI, gemini(tools=[{"function_declarations": [{"name": "edit"}]}, {"google_search": {}}]), Task.GENERAL),
        (OLLAMA, ollama(tools=chat_tools("bash", "edit")), Task.CODING),
    ],
)
def test_two_tools_of_a_coding_agent_make_a_coding_task(surface: Surface, body: dict[str, Any], task: Task) -> None:
    assert features(surface, body).task is task


# --- length ----------------------------------------------------------------------------------------------------------

LONG = 40_000
OVERHEAD = 40
"""Tokens for the JSON around a text."""


def said(surface: Surface, text: str) -> dict[str, Any]:
    match surface:
        case Surface.OPENAI_RESPONSES:
            return responses(input=text)
        case Surface.GEMINI:
            return gemini(contents=[{"parts": [{"text": text}]}])
        case _:
            return chat(messages=[{"role": "user", "content": text}])


@pytest.mark.parametrize("surface", SURFACES.values())
@pytest.mark.parametrize("is_ascii", [True, False])
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("words and more of them, ", 24 / BYTES_PER_TOKEN),
        ('a line\n\t"quoted", C:\\files ', 27 / BYTES_PER_TOKEN),
        ("größer, öfter ", 17 / BYTES_PER_TOKEN),
        ("Слово за слово ", 28 / BYTES_PER_TOKEN),
        ("这是一个很长的句子", 27 / CJK_BYTES_PER_TOKEN),
        ("日本語のテキスト", 24 / CJK_BYTES_PER_TOKEN),
        ("한국어 문장입니다 ", 24 / CJK_BYTES_PER_TOKEN + 2 / BYTES_PER_TOKEN),
        ("half 中文 ", 6 / CJK_BYTES_PER_TOKEN + 6 / BYTES_PER_TOKEN),
    ],
)
@pytest.mark.parametrize("length", [20, LONG])
def test_text_is_estimated_by_its_bytes_and_script(
    surface: Surface, is_ascii: bool, text: str, tokens: float, length: int
) -> None:
    times = max(1, length // len(text))
    body = json.dumps(said(surface, text * times), ensure_ascii=is_ascii).encode()
    found = features(surface, body).estimated_input
    assert tokens * times * 0.95 <= found <= tokens * times * 1.05 + OVERHEAD


def test_tools_and_system_text_count() -> None:
    plain = features(MESSAGES, messages()).estimated_input
    system = features(MESSAGES, messages(system="word " * 720)).estimated_input
    tools = features(MESSAGES, messages(tools=[{**named("f")[0], "description": "word " * 720}])).estimated_input
    assert system - plain == pytest.approx(1000, abs=5)
    assert tools - plain == pytest.approx(1030, abs=20)
    assert features(MESSAGES, messages(metadata={"user_id": "x" * 3600})).estimated_input == plain, "nobody reads it"


@pytest.mark.parametrize("size", [100, 300_000])
def test_an_image_costs_the_same_however_large_it_is(size: int) -> None:
    data = base64.b64encode(b"\x89PNG" + bytes(size)).decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    text = {"type": "text", "text": "What is this?"}
    found = features(MESSAGES, messages(messages=user(image, image, text)))
    assert 2 * IMAGE_TOKENS < found.estimated_input < 2 * IMAGE_TOKENS + 120


def test_other_media_counts_by_its_vendors_rules() -> None:
    data = base64.b64encode(bytes(120_000)).decode()
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}
    question = inquiry(MESSAGES, json.dumps(messages(messages=user(pdf))).encode())
    found = features_of(question, NO_ASKS, key_id="key", session=SessionKey())
    (block,) = question.request.messages[0].blocks
    assert found.estimated_input - estimate_media(block, question.dialect.format, "") < OVERHEAD + 20  # type: ignore[arg-type]
    assert features(MESSAGES, messages(messages=user(TEXT_BLOCK | {"title": None}))).estimated_input < 2 * OVERHEAD


@pytest.mark.parametrize(
    ("surface", "body"),
    [
        (
            MESSAGES,
            lambda seal: messages(
                messages=[
                    {"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": seal}]},
                ]
            ),
        ),
        (RESPONSES, lambda seal: responses(input=[{"type": "reasoning", "summary": [], "encrypted_content": seal}])),
        (GEMINI, lambda seal: gemini(contents=[{"parts": [{"text": "a", "thoughtSignature": seal}]}])),
        (GEMINI, lambda seal: gemini(contents=[{"parts": [{"text": "a", "thought_signature": seal}]}])),
    ],
)
def test_what_providers_sealed_for_themselves_is_no_text(surface: Surface, body: Any) -> None:
    short = features(surface, body("EqQB")).estimated_input
    assert features(surface, body("EqQB" * 20_000)).estimated_input == pytest.approx(short, abs=3)
    assert features(surface, body(None)).estimated_input == pytest.approx(short, abs=3)


def test_empty_conversations_are_no_error() -> None:
    assert features(CHAT, b'{"messages":[]}').estimated_input <= 1
    assert features(RESPONSES, b'{"previous_response_id":"resp_1"}').estimated_input == 0


@given(st.text(max_size=3000), st.booleans())
def test_any_text_has_an_estimate_near_its_formula(text: str, is_ascii: bool) -> None:
    text = text.encode(errors="ignore").decode()
    found = features(CHAT, json.dumps(said(CHAT, text), ensure_ascii=is_ascii).encode()).estimated_input
    size = len(text.encode())
    assert 0 <= found <= size / CJK_BYTES_PER_TOKEN * 1.4 + OVERHEAD  # escapes of control characters are longer


# --- recorded requests -----------------------------------------------------------------------------------------------

RECORDED = sorted(FIXTURES.glob("*/*/request.json"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.parent.name}/{path.parent.name}")
def test_recorded_requests(path: Path) -> None:
    surface = SURFACES[path.parent.parent.name]
    question = inquiry(surface, path.read_bytes())
    found = features_of(question, NO_ASKS, key_id="key", session=SessionKey())
    if "contents" not in question.top and "input" not in question.top and "messages" not in question.top:
        assert found.estimated_input >= 0
        return
    request = question.request
    assert found.max_output == request.max_output
    assert ("schema" in found.needs) is (request.output is not None and request.output.schema is not None)
    assert ("tools" in found.needs) is bool(question.top.value("tools") or question.top.value("functions"))
    counted = count(request, model="", wire_format=question.dialect.format)
    has_media = bool(found.needs & {"vision", "audio", "document"})
    assert has_media or counted / 3 - 20 <= found.estimated_input <= counted * 3 + 300  # the recordings are indented


def test_a_recorded_agent_is_recognised() -> None:
    body = (FIXTURES / "anthropic_messages" / "claude_code" / "request.json").read_bytes()
    found = features(MESSAGES, body)
    assert (found.max_output, found.effort) == (32_000, "xhigh")
    assert found.needs == {"tools", "schema", "reasoning"}
    codex = features(RESPONSES, (FIXTURES / "openai_responses" / "codex" / "request.json").read_bytes())
    assert (codex.task, "tools" in codex.needs) == (Task.CODING, True)


# --- what else is known ----------------------------------------------------------------------------------------------


def test_headers_key_and_session_are_passed_on() -> None:
    asks = Asks(mode="fast", budget_nano=5, is_budget_strict=True, has_priority=True, connection_id="conn_1")
    session = SessionKey("hash", "shown", is_explicit=True)
    question = inquiry(CHAT, json.dumps(chat()).encode(), is_stream=True)
    found = features_of(question, asks, key_id=None, session=session, may_reserve=True)
    assert (found.requested, found.client_format, found.is_stream) == ("asked/model", "openai_chat", True)
    assert (found.mode, found.budget_nano, found.is_budget_strict, found.may_use_reserve) == ("fast", 5, True, True)
    assert (found.key_id, found.session, found.is_explicit_session, found.connection_id) == ("", "hash", True, "conn_1")


def test_a_request_for_one_model_is_not_looked_at_but_for_its_budget() -> None:
    body = chat(max_tokens=9, tools=chat_tools("bash", "edit"))
    plain = features(CHAT, body, is_plain=True)
    assert (plain.estimated_input, plain.max_output, plain.needs, plain.task) == (0, None, frozenset(), Task.GENERAL)
    budgeted = features(CHAT, body, Asks(budget_nano=10), is_plain=True)
    assert budgeted.estimated_input > 0
    assert (budgeted.max_output, budgeted.task) == (9, Task.CODING)


def test_text_only_requests_are_never_parsed_whole() -> None:
    for name, surface in SURFACES.items():
        question = inquiry(surface, json.dumps(said(surface, "text " * 100)).encode())
        features_of(question, NO_ASKS, key_id="key", session=SessionKey())
        assert question._request is None, name


def test_an_agents_request_takes_a_fraction_of_a_millisecond() -> None:
    line = "def read(path): return open(path).read()  # the file\n"
    tools = [{**named(f"Tool{number}")[0], "description": line * 45} for number in range(20)]
    turns = [
        turn
        for number in range(10)
        for turn in (
            {"role": "user", "content": line * 40},
            {"role": "assistant", "content": [{"type": "text", "text": f"{number}"}]},
        )
    ]
    body = json.dumps(messages(system=line * 250, tools=tools, messages=turns, thinking={"type": "adaptive"})).encode()
    assert 80_000 < len(body) < 130_000
    question = inquiry(MESSAGES, body)
    spent = []
    for _ in range(30):
        started = time.process_time()
        features_of(question, NO_ASKS, key_id="key", session=SessionKey())
        spent.append(time.process_time() - started)
    # A tenth of that on an idle machine; what is guarded against is parsing, which takes ten times as long.
    assert min(spent) < 0.0015

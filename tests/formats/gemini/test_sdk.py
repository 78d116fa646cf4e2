"""The vendor's own client on the other side: what it sends is understood, what it gets it understands."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest
from google import genai
from google.genai import types

from omniroute.errors import RateLimited
from omniroute.formats.canonical import (
    Answer,
    ChoiceMode,
    Citation,
    Effort,
    Media,
    Request,
    Role,
    Stop,
    Text,
    Thinking,
    Token,
    Tool,
    ToolCall,
    ToolResult,
)
from omniroute.formats.codec import Reply, no_pause
from omniroute.formats.fold import unfold
from omniroute.formats.gemini.errors import render, render_in_stream, status_of
from omniroute.formats.gemini.request_parser import parse_request
from omniroute.formats.gemini.response import parse_answer, render_answer
from omniroute.formats.gemini.stream_renderer import Renderer
from omniroute.formats.tokens import wrap
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat
from tests.formats.gemini.fixtures import PAIRS, body_of, reply_for, stream_of

ANTHROPIC = WireFormat.ANTHROPIC_MESSAGES
Script = Callable[[Request], Answer]


def client_of(answer: Callable[[httpx2.Request], httpx2.Response]) -> genai.Client:
    transport = httpx2.MockTransport(answer)
    options = types.HttpOptions(base_url="http://127.0.0.1:1", client_args={"transport": transport})
    return genai.Client(api_key="sk-test", http_options=options)


class Gateway:
    """Answers the client from a script and keeps what it asked."""

    def __init__(self, script: Script) -> None:
        self.requests: list[Request] = []
        self._script = script
        self.client = client_of(self._answer)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        asked = parse_request(request.content, no_pause)
        self.requests.append(asked)
        reply = Reply(asked, "my-model", f"{len(self.requests):024x}", 1, lambda _: b": no\n")
        answer = self._script(asked)
        if request.url.path.endswith(":generateContent"):
            return httpx2.Response(200, content=render_answer(answer, reply))
        renderer = Renderer(reply)
        frames = [b"\n", *(renderer.render([event]) for event in unfold(answer))]  # a heartbeat comes first
        return httpx2.Response(200, content=b"".join(frames))


THOUGHT = Token(wrap(Token("EqoB+/8=", ANTHROPIC, "anthropic", "key")), ANTHROPIC)
CALLS = Answer(
    ANTHROPIC,
    "msg_1",
    "claude",
    (
        Thinking("I need the weather.", THOUGHT),
        Thinking("", THOUGHT, redacted=True),
        Text("Let me look."),
        ToolCall("toolu_1", "weather", '{"city": "Kraków"}', token=THOUGHT),
        ToolCall("toolu_2", "weather", '{"city": "Oslo"}'),
    ),
    Stop.TOOL_USE,
    usage=Usage(input=100, output=50, reasoning=20, cache_read=64),
)
FINAL = Answer(
    ANTHROPIC,
    "msg_2",
    "claude",
    (
        Thinking("Both known.", THOUGHT),
        Text(
            "Cold in both.",
            citations=(Citation(ANTHROPIC, msgspec.Raw(b"{}"), "https://a.example", "A"),),
        ),
    ),
    Stop.END,
    usage=Usage(input=200, output=9),
)


def _weather_script(asked: Request) -> Answer:
    return FINAL if any(message.role is Role.TOOL for message in asked.messages) else CALLS


def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: where.
    """
    return f"-3 °C in {city}"


CONFIG = types.GenerateContentConfig(
    tools=[weather],
    thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level=types.ThinkingLevel.LOW),
    system_instruction="Be brief.",
    max_output_tokens=500,
    stop_sequences=["END"],
)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_t75_a_tool_loop_through_the_vendors_client(is_streamed: bool) -> None:
    gateway = Gateway(_weather_script)
    chat = gateway.client.chats.create(model="my-model", config=CONFIG)
    if is_streamed:
        chunks = list(chat.send_message_stream("How is it in Kraków and Oslo?"))
        said = "".join(part.text or "" for chunk in chunks for part in _parts(chunk) if not part.thought)
        assert said.endswith("Cold in both.")
        assert {chunk.model_version for chunk in chunks} == {"my-model"}
        usage = chunks[-1].usage_metadata
    else:
        answer = chat.send_message("How is it in Kraków and Oslo?")
        assert answer.text == "Cold in both."
        assert answer.candidates
        assert answer.candidates[0].grounding_metadata
        usage = answer.usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.candidates_token_count) == (200, 9)
    first, second = gateway.requests
    assert first.reasoning is not None
    assert (first.reasoning.effort, first.reasoning.is_visible) == (Effort.LOW, True)
    assert (first.max_output, first.stop) == (500, ("END",))
    (tool,) = first.tools
    assert isinstance(tool, Tool)
    assert tool.schema is not None
    assert json.loads(bytes(tool.schema))["properties"]["city"]["type"] == "string"
    assert [message.role for message in second.messages] == [Role.USER, Role.ASSISTANT, Role.TOOL]
    turn, results = second.messages[1].blocks, second.messages[2].blocks
    thoughts = [block for block in turn if isinstance(block, Thinking)]
    assert [(block.text, block.redacted) for block in thoughts] == [("I need the weather.", False), ("", True)]
    calls = [block for block in turn if isinstance(block, ToolCall)]
    assert [(call.id, json.loads(call.arguments)) for call in calls] == [
        ("toolu_1", {"city": "Kraków"}),
        ("toolu_2", {"city": "Oslo"}),
    ]
    assert calls[0].token is not None
    assert all(_same(token) for token in (thoughts[0].token, thoughts[1].token, calls[0].token))
    assert [(r.call_id, r.blocks) for r in results if isinstance(r, ToolResult)] == [
        ("toolu_1", (Text("-3 °C in Kraków"),)),
        ("toolu_2", (Text("-3 °C in Oslo"),)),
    ]


def _parts(chunk: types.GenerateContentResponse) -> list[types.Part]:
    content = chunk.candidates[0].content if chunk.candidates else None
    return (content.parts or []) if content is not None else []


def _same(token: Token | None) -> bool:
    """The client decodes tokens and writes them in the other alphabet."""
    return token is not None and token.value.translate(str.maketrans("-_", "+/")) == THOUGHT.value


def test_t75_what_the_client_sends_is_understood() -> None:
    gateway = Gateway(lambda _: FINAL)
    schema = types.Schema(
        type=types.Type.OBJECT, properties={"a_b": types.Schema(type=types.Type.STRING, min_length=3)}
    )
    declared = types.FunctionDeclaration(name="f", description="F.", parameters=schema)
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[declared])],
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(
                mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["f"]
            )
        ),
        thinking_config=types.ThinkingConfig(thinking_budget=0),
        top_k=3,
        response_mime_type="application/json",
        response_schema=schema,
    )
    image = types.Part.from_bytes(data=b"\x89PNG\xff\xfe", mime_type="image/png")
    gateway.client.models.generate_content(model="m", contents=["Look:", image], config=config)
    (asked,) = gateway.requests
    text, media = asked.messages[0].blocks
    assert text == Text("Look:")
    assert isinstance(media, Media)
    assert (media.mime, media.data) == ("image/png", "iVBOR//+")
    assert asked.tool_choice is not None
    assert (asked.tool_choice.mode, asked.tool_choice.names) == (ChoiceMode.NAMED, ("f",))
    assert asked.reasoning is not None
    assert asked.reasoning.budget == 0
    assert asked.top_k == 3
    (tool,) = asked.tools
    assert isinstance(tool, Tool)
    expected = {"type": "object", "properties": {"a_b": {"type": "string", "minLength": 3}}}
    assert tool.schema is not None
    assert json.loads(bytes(tool.schema)) == expected
    assert asked.output is not None
    assert asked.output.schema is not None
    assert json.loads(bytes(asked.output.schema)) == expected
    assert set(asked.extra) == {"=body"}


@pytest.mark.parametrize("case", [case for case in PAIRS if case != "oddities"])
def test_t75_recorded_answers_rendered_anew_are_read_by_the_client(case: str) -> None:
    answer = parse_answer(body_of(case, "response.json"))
    assert answer is not None
    reply = reply_for()
    whole = _read(render_answer(answer, reply))
    assert whole.response_id == reply.id
    for frame in Renderer(reply).render(list(unfold(answer))).split(b"\n\n")[:-1]:
        assert _read(frame.removeprefix(b"data: ")).candidates
    recorded = _read(body_of(case, "response.json"))
    if recorded.candidates and whole.candidates:
        assert len(whole.candidates) == len(recorded.candidates)
        if case != "blocked":
            assert whole.text == recorded.text


def _read(body: bytes) -> types.GenerateContentResponse:
    return types.GenerateContentResponse.model_validate(json.loads(body), extra="forbid")


def test_a_stream_forwarded_as_an_array_is_not_what_this_client_asks_for() -> None:
    paths: list[Any] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        paths.append((request.url.path.rpartition(":")[2], request.url.query))
        return httpx2.Response(200, content=stream_of("agent"))

    client = client_of(answer)
    chunks = list(client.models.generate_content_stream(model="m", contents="x"))
    assert paths == [("streamGenerateContent", b"alt=sse")]
    assert len(chunks) == 5


def test_t75_errors_reach_the_client_as_its_own() -> None:
    error = RateLimited("slow down", retry_after_s=2.5)

    def refuse(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith(":generateContent"):
            return httpx2.Response(status_of(error), content=render(error, "req_1"))
        answer = b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\n\n'
        return httpx2.Response(200, content=answer + render_in_stream(error, "req_1"))

    client = client_of(refuse)
    with pytest.raises(genai.errors.ClientError) as caught:
        client.models.generate_content(model="m", contents="x")
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    chunks = client.models.generate_content_stream(model="m", contents="x")
    assert next(chunks).text == "a"
    with pytest.raises(genai.errors.APIError) as caught_late:
        list(chunks)
    assert caught_late.value.message == "slow down"

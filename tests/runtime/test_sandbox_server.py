"""The stand-alone sandbox as a real process, used by the vendors' own clients and by rude raw sockets."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx2
import jsonschema
import openai
import pytest
from google import genai
from google.genai import errors, types

pytestmark = pytest.mark.process

_DEADLINE_S = 10.0
HELLO: Any = [{"role": "user", "content": "Hello, how are you?"}]
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Sandbox:
    """A running stand-alone sandbox."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def openai(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", **{"api_key": "sk-test", "max_retries": 0, **options})

    def anthropic(self, **options: Any) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.url, **{"api_key": "sk-test", "max_retries": 0, **options})

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_DEADLINE_S)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, None if body is None else json.dumps(body), named)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, content

    def chat(self, model: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self.request("POST", "/v1/chat/completions", {"model": model, "messages": HELLO}, **headers)

    def stats(self) -> dict[str, int]:
        counts: dict[str, int] = json.loads(self.request("GET", "/__stats")[2])
        return counts

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=_DEADLINE_S)


@contextmanager
def running(*options: str) -> Iterator[Sandbox]:
    command = [sys.executable, "-m", "omniroute", "sandbox", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        announced = re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)\n", process.stdout.readline())
        assert announced is not None
        yield Sandbox(process, int(announced[1]))
    finally:
        process.terminate()
        assert process.wait(_DEADLINE_S) == 0
        process.stdout.close()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running("--chunk-interval-ms", "1") as server:
        yield server


def wait_until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + _DEADLINE_S
    while not holds():
        assert time.monotonic() < give_up_at, "it did not happen in time"
        time.sleep(0.01)


def http_request(body: dict[str, Any], path: str = "/v1/chat/completions", headers: str = "") -> bytes:
    content = json.dumps(body)
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n{headers}\r\n{content}".encode()


def read_until(sock: socket.socket, marker: bytes) -> bytes:
    data = b""
    while marker not in data:
        piece = sock.recv(65536)
        assert piece, f"closed before {marker!r}"
        data += piece
    return data


def read_to_end(sock: socket.socket) -> bytes:
    pieces = []
    while piece := sock.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


# --- the vendors' clients


def test_openai_text_and_stream(sandbox: Sandbox) -> None:
    with sandbox.openai() as client:
        whole = client.chat.completions.create(model="story-50", messages=HELLO)
        assert whole.choices[0].finish_reason == "stop"
        assert whole.usage is not None
        chunks = list(
            client.chat.completions.create(
                model="story-50", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
        )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert [int(word.partition(":")[0]) for word in said.split()] == list(range(50))
    assert chunks[-1].usage == whole.usage


def test_anthropic_text_and_stream(sandbox: Sandbox) -> None:
    with sandbox.anthropic() as client:
        whole = client.messages.create(model="story-50", max_tokens=500, messages=HELLO)
        with client.messages.stream(model="story-50", max_tokens=500, messages=HELLO) as stream:
            pieces = list(stream.text_stream)
            folded = stream.get_final_message()
    assert len(pieces) == 50
    assert folded.content[0].type == whole.content[0].type == "text"
    assert folded.content[0].text == whole.content[0].text == "".join(pieces)
    assert (folded.stop_reason, folded.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


def test_openai_tool_round_trip(sandbox: Sandbox) -> None:
    tools: Any = [
        {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("weather", "traffic")
    ]
    talk = list(HELLO)
    with sandbox.openai() as client:
        with client.chat.completions.stream(model="tools", messages=talk, tools=tools) as stream:
            message = stream.get_final_completion().choices[0].message
        assert message.tool_calls is not None
        assert [call.function.name for call in message.tool_calls] == ["weather", "traffic"]
        talk.append(message.model_dump(exclude_none=True, exclude={"parsed"}))
        for call in message.tool_calls:
            jsonschema.validate(json.loads(call.function.arguments), SCHEMA)
            talk.append({"role": "tool", "tool_call_id": call.id, "content": f"{call.function.name} is fine"})
        reply = client.chat.completions.create(model="tools", messages=talk, tools=tools)
    assert reply.choices[0].message.content == "weather returned: weather is fine\ntraffic returned: traffic is fine"


def test_anthropic_tool_round_trip(sandbox: Sandbox) -> None:
    tools: Any = [{"name": name, "input_schema": SCHEMA} for name in ("weather", "traffic")]
    with sandbox.anthropic() as client:
        with client.messages.stream(model="tools", max_tokens=500, messages=HELLO, tools=tools) as stream:
            message = stream.get_final_message()
        assert message.stop_reason == "tool_use"
        results = []
        for block in message.content:
            assert block.type == "tool_use"
            jsonschema.validate(block.input, SCHEMA)
            results.append({"type": "tool_result", "tool_use_id": block.id, "content": f"{block.name} is fine"})
        talk: Any = [*HELLO, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
        reply = client.messages.create(model="tools", max_tokens=500, messages=talk, tools=tools)
    assert reply.content[0].type == "text"
    assert reply.content[0].text == "weather returned: weather is fine\ntraffic returned: traffic is fine"


def test_thinking_in_both_dialects(sandbox: Sandbox) -> None:
    with (
        sandbox.anthropic() as client,
        client.messages.stream(
            model="think", max_tokens=5000, messages=HELLO, thinking={"type": "enabled", "budget_tokens": 1024}
        ) as stream,
    ):
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].type == "thinking"
    assert message.content[0].signature
    with sandbox.openai() as chat:
        chunks = list(chat.chat.completions.create(model="think", messages=HELLO, stream=True))
    reasoning = "".join(chunk.choices[0].delta.model_dump().get("reasoning_content") or "" for chunk in chunks)
    assert reasoning == message.content[0].thinking


def test_json_in_both_dialects(sandbox: Sandbox) -> None:
    with sandbox.openai() as client:
        reply = client.chat.completions.create(
            model="json",
            messages=HELLO,
            response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}},
        )
        jsonschema.validate(json.loads(reply.choices[0].message.content or ""), SCHEMA)
    with sandbox.anthropic() as messages:
        message = messages.messages.create(
            model="json",
            max_tokens=100,
            messages=HELLO,
            output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
        )
    assert message.content[0].type == "text"
    jsonschema.validate(json.loads(message.content[0].text), SCHEMA)


def test_models_and_token_counts(sandbox: Sandbox) -> None:
    with sandbox.openai() as client, sandbox.anthropic() as messages:
        openai_ids = [model.id for model in client.models.list()]
        anthropic_ids = [model.id for model in messages.models.list()]
        assert openai_ids == anthropic_ids
        assert client.models.retrieve("echo").owned_by == "sandbox"
        assert messages.messages.count_tokens(model="echo", messages=HELLO).input_tokens == 5


@pytest.mark.parametrize(
    ("model", "of_openai", "of_anthropic"),
    [
        ("fail-401", openai.AuthenticationError, anthropic.AuthenticationError),
        ("fail-402", openai.APIStatusError, anthropic.APIStatusError),
        ("fail-429-30", openai.RateLimitError, anthropic.RateLimitError),
        ("fail-500", openai.InternalServerError, anthropic.InternalServerError),
        ("fail-529", openai.InternalServerError, anthropic.InternalServerError),
        ("no-such-model", openai.NotFoundError, anthropic.NotFoundError),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_failures_are_the_clients_own_errors(
    sandbox: Sandbox, model: str, of_openai: type[Exception], of_anthropic: type[Exception], is_stream: bool
) -> None:
    with sandbox.openai() as client, pytest.raises(of_openai) as refused:
        client.chat.completions.create(model=model, messages=HELLO, stream=is_stream)
    with sandbox.anthropic() as messages, pytest.raises(of_anthropic) as rejected:
        messages.messages.create(model=model, max_tokens=10, messages=HELLO, stream=is_stream)
    for caught in (refused.value, rejected.value):
        assert isinstance(caught, openai.APIStatusError | anthropic.APIStatusError)
        assert str(caught.status_code) in (model[5:8], "404")
        assert caught.response.headers.get("retry-after") == ("30" if model == "fail-429-30" else None)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("model", "broken"),
    [
        ("cut", (openai.APIConnectionError, anthropic.APIConnectionError, httpx2.RemoteProtocolError)),
        ("garbage", (UnicodeDecodeError,)),
    ],
)
def test_broken_answers_break_the_clients(
    sandbox: Sandbox, model: str, broken: tuple[type[Exception], ...], is_stream: bool
) -> None:
    with sandbox.openai() as client, pytest.raises(broken):
        list(client.chat.completions.create(model=model, messages=HELLO, stream=is_stream))
    with sandbox.anthropic() as messages, pytest.raises(broken):
        list(messages.messages.create(model=model, max_tokens=10, messages=HELLO, stream=is_stream))


def test_hanging_answers_time_out_in_the_clients(sandbox: Sandbox) -> None:
    with sandbox.openai(timeout=0.3) as client:
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="hang", messages=HELLO)
        stream = client.chat.completions.create(model="hang", messages=HELLO, stream=True)
        assert next(stream).choices[0].delta.content == ""
        stream.close()
    wait_until(lambda: sandbox.stats()["open_streams"] == 0)


RESPONSE_TOOLS: Any = [
    {"type": "function", "name": "weather", "parameters": SCHEMA},
    {"type": "custom", "name": "note", "description": "Takes a note."},
]


@pytest.mark.parametrize("model", ["story-20", "think", "tools", "mixed", "refusal", "cite"])
def test_openai_responses_stream(sandbox: Sandbox, model: str) -> None:
    asked: Any = {"model": model, "input": "Hello", "tools": RESPONSE_TOOLS, "store": False}
    with sandbox.openai() as client:
        whole = client.responses.create(**asked, reasoning={"effort": "low", "summary": "auto"})
        with client.responses.stream(**asked, reasoning={"effort": "low", "summary": "auto"}) as stream:
            kinds = [event.type for event in stream]
            folded = stream.get_final_response()
    assert kinds[-1] == "response.completed"
    assert [item.type for item in folded.output] == [item.type for item in whole.output]
    assert folded.output_text == whole.output_text
    assert folded.usage == whole.usage


def test_openai_responses_tool_loop(sandbox: Sandbox) -> None:
    talk: list[Any] = [{"role": "user", "content": "Hello"}]
    with sandbox.openai() as client:
        made = client.responses.create(model="tools", input=talk, tools=RESPONSE_TOOLS).output
        talk += [item.model_dump(exclude_none=True) for item in made]
        for item in made:
            assert item.type in ("function_call", "custom_tool_call")
            talk.append({"type": f"{item.type}_output", "call_id": getattr(item, "call_id", ""), "output": "rain"})
        last = client.responses.create(model="tools", input=talk, tools=RESPONSE_TOOLS)
    assert last.output_text == "weather returned: rain\nnote returned: rain"


def test_openai_sees_errors_of_responses(sandbox: Sandbox) -> None:
    with sandbox.openai() as client:
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model="echo", input="x", max_output_tokens=5)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve("resp_123")
        compacted = client.responses.compact(model="echo", input="Hello")
        legacy = client.completions.create(model="echo", prompt="one two")
    assert refused.value.param == "max_output_tokens"
    assert compacted.output[-1].type == "compaction"
    assert legacy.choices[0].text == "one two"


def google(sandbox: Sandbox, **options: Any) -> genai.Client:
    return genai.Client(api_key="k-test", http_options=types.HttpOptions(base_url=sandbox.url, **options))


GOOGLE_CONFIG = types.GenerateContentConfig(
    tools=[
        types.Tool(
            function_declarations=[
                types.FunctionDeclaration(
                    name="weather",
                    parameters=types.Schema(
                        type=types.Type.OBJECT,
                        properties={"city": types.Schema(type=types.Type.STRING)},
                        required=["city"],
                    ),
                )
            ]
        )
    ],
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    thinking_config=types.ThinkingConfig(include_thoughts=True),
    max_output_tokens=500,
)


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_google_text_stream_and_counts(sandbox: Sandbox, version: str) -> None:
    with google(sandbox, api_version=version) as client:
        whole = client.models.generate_content(model="story-20", contents="Hello", config=GOOGLE_CONFIG)
        stream = client.models.generate_content_stream(model="story-20", contents="Hello", config=GOOGLE_CONFIG)
        chunks = list(stream)
        counted = client.models.count_tokens(model="echo", contents="Hello")
        names = [model.name for model in client.models.list()]
    assert "".join(chunk.text or "" for chunk in chunks) == whole.text
    assert chunks[-1].usage_metadata == whole.usage_metadata
    assert counted.total_tokens == 2
    assert "models/echo" in names


def test_google_thinking_and_tool_loop(sandbox: Sandbox) -> None:
    with google(sandbox) as client:
        thought = client.models.generate_content(model="think", contents="Hello", config=GOOGLE_CONFIG)
        assert thought.candidates is not None
        assert thought.candidates[0].content is not None
        assert [part.thought for part in thought.candidates[0].content.parts or ()] == [True, None]
        chat = client.chats.create(model="tools", config=GOOGLE_CONFIG)
        calls = chat.send_message("Hello").function_calls
        assert calls is not None
        assert calls[0].args == {"city": "Lisbon"}
        result = types.Part.from_function_response(name="weather", response={"output": "rain"})
        assert chat.send_message(result).text == "weather returned: rain"
        with pytest.raises(errors.ClientError) as refused:
            client.models.generate_content(model="nobody", contents="Hello")
        with pytest.raises(errors.ServerError):
            client.models.generate_content(model="fail-503", contents="Hello")
    assert (refused.value.code, refused.value.status) == (404, "NOT_FOUND")


def test_ollama_streams_lines(sandbox: Sandbox) -> None:
    status, headers, content = sandbox.request("POST", "/api/chat", {"model": "story-20", "messages": HELLO})
    lines = [json.loads(line) for line in content.splitlines()]
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    assert [line["done"] for line in lines] == [False] * 20 + [True]
    assert sandbox.request("GET", "/api/tags")[0] == 200
    assert sandbox.request("GET", "/api/chat")[0] == 405


# --- HTTP


def test_cut_answers_end_early_on_the_wire(sandbox: Sandbox) -> None:
    with sandbox.raw() as sock:
        sock.sendall(http_request({"model": "cut", "messages": HELLO}))
        head, _, content = read_to_end(sock).partition(b"\r\n\r\n")
    announced = re.search(rb"content-length: (\d+)", head)
    assert announced is not None
    assert 0 < len(content) < int(announced[1])
    with sandbox.raw() as sock:
        sock.sendall(http_request({"model": "cut-2", "messages": HELLO, "stream": True}))
        data = read_to_end(sock)
    assert b"transfer-encoding: chunked" in data
    assert not data.endswith(b"0\r\n\r\n")


def test_connection_is_kept_alive_and_requests_may_queue(sandbox: Sandbox) -> None:
    with sandbox.raw() as sock:
        for number in range(3):
            sock.sendall(http_request({"model": "echo", "messages": [{"role": "user", "content": f"turn {number}"}]}))
            assert f'"turn {number}"'.encode() in read_until(sock, b"fp_sandbox")
        queued = [
            {"model": f"slow-{20 - n}", "messages": [{"role": "user", "content": f"queued {n}"}]} for n in range(9)
        ]
        sock.sendall(b"".join(map(http_request, queued)))
        data = read_until(sock, b'"queued 8"')
    assert re.findall(rb'"queued (\d)"', data) == [str(n).encode() for n in range(9)]


def test_request_may_arrive_in_pieces(sandbox: Sandbox) -> None:
    with sandbox.raw() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in http_request({"model": "echo", "messages": HELLO}):
            sock.sendall(bytes([byte]))
        assert b"Hello, how are you?" in read_until(sock, b"fp_sandbox")


def test_cautious_client_is_told_to_go_on(sandbox: Sandbox) -> None:
    head, _, body = http_request({"model": "echo", "messages": HELLO}, headers="Expect: 100-continue\r\n").partition(
        b"\r\n\r\n"
    )
    with sandbox.raw() as sock:
        sock.sendall(head + b"\r\n\r\n")
        assert read_until(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert b"HTTP/1.1 200 OK" in read_until(sock, b"fp_sandbox")


def test_connection_closes_when_asked(sandbox: Sandbox) -> None:
    with sandbox.raw() as sock:
        sock.sendall(http_request({"model": "echo", "messages": HELLO}, headers="Connection: close\r\n"))
        data = read_to_end(sock)
    assert b"connection: close\r\n" in data
    assert data.endswith(b"}")


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n"])
def test_noise_is_refused(sandbox: Sandbox, noise: bytes) -> None:
    with sandbox.raw() as sock:
        sock.sendall(noise)
        assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")
        assert sock.recv(65536) == b""


def test_wrong_method(sandbox: Sandbox) -> None:
    assert sandbox.request("GET", "/v1/chat/completions")[0] == 405
    assert sandbox.request("POST", "/v1/models", {})[0] == 405
    status, headers, content = sandbox.request("HEAD", "/v1/models")
    assert (status, content) == (200, b"")
    assert int(headers["content-length"]) > 100


def test_client_that_leaves_is_noticed_while_the_stream_is_silent(sandbox: Sandbox) -> None:
    before = sandbox.stats()
    sock = sandbox.raw()
    sock.sendall(http_request({"model": "hang-1", "messages": HELLO, "stream": True}))
    read_until(sock, b"0:marsh")
    assert sandbox.stats()["open_streams"] == before["open_streams"] + 1
    left_at = time.monotonic()
    sock.close()
    wait_until(lambda: sandbox.stats()["aborted_streams"] == before["aborted_streams"] + 1)
    assert time.monotonic() - left_at < 1.0
    assert sandbox.stats()["open_streams"] == before["open_streams"]


def test_client_that_leaves_while_it_waits_for_a_whole_answer_is_counted(sandbox: Sandbox) -> None:
    before = sandbox.stats()
    with sandbox.raw() as sock:
        sock.sendall(http_request({"model": "slow-60000", "messages": HELLO}))
        wait_until(lambda: sandbox.stats()["requests"] == before["requests"] + 1)
    wait_until(lambda: sandbox.stats()["aborted_requests"] == before["aborted_requests"] + 1)
    assert sandbox.stats()["aborted_streams"] == before["aborted_streams"]


def test_many_streams_lose_and_reorder_nothing(sandbox: Sandbox) -> None:
    before = sandbox.stats()
    body = {"model": "story-200-2", "messages": HELLO, "stream": True}
    socks = [sandbox.raw() for _ in range(50)]
    started = time.monotonic()
    for sock in socks:
        sock.sendall(http_request(body, headers="Connection: close\r\n"))
    for sock in socks:
        data = read_to_end(sock)
        sock.close()
        assert [int(n) for n in re.findall(rb'"content":"(\d+):', data)] == list(range(200))
        assert data.endswith(b"0\r\n\r\n")
    assert time.monotonic() - started >= 199 * 0.002
    assert sandbox.stats()["chunks_sent"] - before["chunks_sent"] == 50 * 203


def test_slow_reader_gets_everything(sandbox: Sandbox) -> None:
    with sandbox.raw() as sock, sandbox.raw() as other:
        body = {"model": "story-30000-0-200", "messages": HELLO, "stream": True}
        sock.sendall(http_request(body, headers="Connection: close\r\n"))
        sock.recv(1)
        other.sendall(http_request({"model": "echo", "messages": HELLO}))
        read_until(other, b"fp_sandbox")
        data = read_to_end(sock)
    assert [int(n) for n in re.findall(rb'"content":"(\d+):', data)] == list(range(30000))


def test_pace_can_be_set_by_headers(sandbox: Sandbox) -> None:
    body = {"model": "story", "messages": HELLO, "stream": True}
    started = time.monotonic()
    _, _, content = sandbox.request(
        "POST",
        "/v1/chat/completions",
        body,
        x_sandbox_chunks="5",
        x_sandbox_chunk_interval_ms="50",
        x_sandbox_latency_ms="100",
        x_sandbox_chunk_size="12",
    )
    assert 0.3 <= time.monotonic() - started < 3
    assert re.findall(rb'"content":"(\d:[^"]+)"', content) == [b"%d:marsh-lam " % n for n in range(5)]


# --- switches


def test_required_key_and_chunks() -> None:
    with running("--require-key", "right", "--chunks", "4") as server:
        for key, status in (("right", 200), ("wrong", 401)):
            assert server.chat("echo", authorization=f"Bearer {key}")[0] == status
            assert server.chat("echo", x_api_key=key)[0] == status
        with server.openai(api_key="right") as client:
            chunks = list(client.chat.completions.create(model="story", messages=HELLO, stream=True))
    assert len([chunk for chunk in chunks if chunk.choices[0].delta.content]) == 4


def test_rate_limit_counts_per_key_in_either_header() -> None:
    with running("--rate-limit", "3", "--rate-window-s", "60") as server:
        statuses = [server.chat("echo", authorization="Bearer one")[0] for _ in range(2)]
        statuses += [server.chat("echo", x_api_key="one")[0] for _ in range(2)]
        assert statuses == [200, 200, 200, 429]
        assert server.chat("echo", x_api_key="two")[0] == 200
        with server.anthropic(api_key="one") as client, pytest.raises(anthropic.RateLimitError) as limited:
            client.messages.create(model="echo", max_tokens=9, messages=HELLO)
    assert 1 <= int(limited.value.response.headers["retry-after"]) <= 60


def test_failures_by_chance_follow_from_the_seed() -> None:
    rows = []
    for _ in range(2):
        with running("--fail-rate", "0.5", "--fail-status", "503", "--seed", "3") as server:
            rows.append([server.chat("echo")[0] for _ in range(12)])
    assert rows[0] == rows[1]
    assert set(rows[0]) == {200, 503}


def test_termination_is_clean_while_streams_are_open() -> None:
    with running() as server:
        sock = server.raw()
        sock.sendall(http_request({"model": "story-1000", "messages": HELLO, "stream": True}))
        read_until(sock, b"0:marsh")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(_DEADLINE_S) == 0
        sock.close()


def test_port_in_use_is_said_plainly(sandbox: Sandbox) -> None:
    command = [sys.executable, "-m", "omniroute", "sandbox", "--port", str(sandbox.port)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    assert refused.returncode == 1
    assert "Cannot listen on 127.0.0.1" in refused.stderr
    assert "Traceback" not in refused.stderr

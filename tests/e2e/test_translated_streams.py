"""Translated streams on a running server: clients that leave, and what a worker does not know of another."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.processes import Sandbox, Server, running_server, wait_until
from tests.e2e.test_endpoints import PREFIXES

NODES = PREFIXES[1:]
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"stream": True, "messages": [{"role": "user", "content": "tell"}]}),
    "responses": ("/v1/responses", {"stream": True, "input": "tell"}),
    "messages": (
        "/v1/messages",
        {"stream": True, "max_tokens": 5000, "messages": [{"role": "user", "content": "tell"}]},
    ),
    "gemini": ("/v1beta/models/MODEL:streamGenerateContent?alt=sse", {"contents": [{"parts": [{"text": "tell"}]}]}),
    "array": ("/v1beta/models/MODEL:streamGenerateContent", {"contents": [{"parts": [{"text": "tell"}]}]}),
    "ollama": ("/api/chat", {"messages": [{"role": "user", "content": "tell"}]}),
}


def open_stream(server: Server, key: str, way: str, model: str) -> socket.socket:
    path, members = WAYS[way]
    body = json.dumps({"model": model, **members}).encode()
    head = [
        f"POST {path.replace('MODEL', model)} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Authorization: Bearer {key}",
        f"Content-Length: {len(body)}",
    ]
    made = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    made.sendall("\r\n".join([*head, "", ""]).encode() + body)
    return made


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("prefix", NODES)
def test_t54_a_client_that_leaves_ends_the_providers_work(
    server: Server, sandbox: Sandbox, api_key: str, way: str, prefix: str
) -> None:
    before = sandbox.stats()["aborted_streams"]
    model = f"{prefix}/story-2000-20"
    with open_stream(server, api_key, way, model) as client:
        seen = b""
        while b"2:" not in seen:
            piece = client.recv(65536)
            assert piece, seen
            seen += piece
        assert seen.startswith(b"HTTP/1.1 200 ")
    left_at = time.monotonic()
    wait_until(lambda: sandbox.stats()["aborted_streams"] > before, within_s=3, what="the provider's stream is closed")
    assert time.monotonic() - left_at < 1.5
    identity = seen.partition(b"X-OmniRoute-Request-Id: ")[2].partition(b"\r\n")[0].decode()

    def rows() -> list[dict[str, Any]]:
        return [row for row in server.logs(model="story-2000-20") if row["requestId"] == identity]

    found = wait_until(rows, within_s=5, what="the request is in the log")
    assert [(row["outcome"], row["status"], row["errorCode"]) for row in found] == [("cancelled", 499, "client_gone")]
    if prefix == "an":  # the format that says at the start what the prompt costs
        assert found[0]["tokensIn"] > 0


def test_t17_a_thought_signature_is_known_to_the_worker_that_saw_it_and_missed_by_no_other(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    """A Chat client cannot carry Gemini's signatures. Whichever worker serves its next turn, it is served.

    The worker that kept the signature sends it; another sends the value that the vendor gives out for histories of
    other models, which the sandbox takes as the vendor does.
    """
    tools = [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            },
        }
    ]
    with running_server(tmp_path / "data", workers=2) as server:
        server.add_node(f"{sandbox.url}/v1beta", prefix="ge", kind="gemini-compatible")
        key = server.new_key()
        server.settle()

        def ask(messages: list[Any]) -> Any:
            answer = requests.post(  # a new connection each time: either worker may take it
                f"{server.url}/v1/chat/completions",
                json={"model": "ge/tools", "tools": tools, "messages": messages},
                headers={"Authorization": f"Bearer {key}", "Connection": "close"},
                timeout=20,
            )
            assert answer.status_code == 200, answer.text
            return answer.json()["choices"][0]

        question = {"role": "user", "content": "What is the weather?"}
        first = ask([question])["message"]
        call = first["tool_calls"][0]
        result = {"role": "tool", "tool_call_id": call["id"], "content": "31 degrees"}
        endings = [ask([question, first, result]) for _ in range(16)]
        assert {ending["finish_reason"] for ending in endings} == {"stop"}
        assert all("31" in ending["message"]["content"] for ending in endings)

"""Requests in flight over several workers: every worker shows all of them and can end any of them."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import requests

from tests.e2e.processes import Server, running_server, wait_until

SLOW = "sandbox/story-180-100"
WITHIN_S = 2.0


class Caller(threading.Thread):
    """A client that reads a slow stream in one of the client formats."""

    def __init__(self, server: Server, key: str, path: str) -> None:
        super().__init__()
        self._server = server
        self._headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
        self._path = path
        self.text = ""
        self.start()

    def run(self) -> None:
        messages = [{"role": "user", "content": "tell"}]
        body: dict[str, Any] = {"model": SLOW, "stream": True, "messages": messages, "max_tokens": 5000}
        with requests.post(
            f"{self._server.url}{self._path}", json=body, headers=self._headers, stream=True, timeout=30
        ) as answer:
            for piece in answer.iter_content(None):
                self.text += piece.decode()


def test_every_worker_shows_and_ends_the_streams_of_all(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", workers=2) as server:
        key = server.new_key(name="laptop")
        paths = ["/v1/chat/completions", "/v1/messages"] * 4
        callers = [Caller(server, key, path) for path in paths]
        server.session.headers["Connection"] = "close"  # each look may reach the other worker

        def all_are_shown() -> list[dict[str, Any]]:
            rows = server.api("GET", "/api/usage/active")["active"]
            return rows if len([row for row in rows if row["stage"] == "streaming"]) == len(callers) else []

        rows = wait_until(all_are_shown, within_s=10, what="all streams are shown")
        assert {row["apiKeyName"] for row in rows} == {"laptop"}
        assert {row["requestedModel"] for row in rows} == {SLOW}
        assert {row["clientFormat"] for row in rows} == {"openai_chat", "anthropic_messages"}
        assert len({row["requestId"] for row in rows}) == len(callers)
        wait_until(lambda: all(all_are_shown() for _ in range(6)), within_s=WITHIN_S, what="both workers show all")
        assert len({row["workerPid"] for row in rows}) == 2, "the streams are spread over both workers"

        for row in rows:
            began = time.monotonic()
            server.api("DELETE", f"/api/usage/active/{row['requestId']}")
            assert time.monotonic() - began < WITHIN_S
        for caller in callers:
            caller.join(WITHIN_S)
            assert not caller.is_alive()
            assert "cancelled" in caller.text
        for caller, path in zip(callers, paths, strict=True):
            last = [line for line in caller.text.splitlines() if line.startswith("data: {")][-1]
            error = json.loads(last.removeprefix("data: "))["error"]
            assert "cancelled" in error["message"]
            assert path != "/v1/chat/completions" or error["code"] == "request_cancelled"
        wait_until(
            lambda: [row["outcome"] for row in server.logs(model=SLOW)] == ["cancelled"] * len(callers),
            within_s=5,
            what="each is settled as cancelled, once",
        )
        wait_until(
            lambda: server.api("GET", "/api/usage/active")["total"] == 0, within_s=5, what="nothing is shown any more"
        )
        server.api("DELETE", f"/api/usage/active/{rows[0]['requestId']}", expect=404)

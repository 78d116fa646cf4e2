"""A provider as a process of its own that fails by script, key by key, and keeps a diary of every call.

    python -m tests.fakes.scripted_provider          prints where it listens

    POST /v1/chat/completions     answered as the phase of the caller's key says
    PUT  /__keys/<key>            {"latency_s": 0.05, "phases": [{"for_s": 3, "status": 503, "headers": {…}}, …]}
    GET  /__calls                 the diary: key, model, began, ended, status, running

Phases follow one another from the moment they are set; `for_s` null lasts, behind the last one the key is well again.
`status` 0 closes the connection without a word. `running` counts the key's calls that were open, this one included.
Each answer closes its connection, so that no call is ever sent twice by a client that finds an old one closed.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

_BODIES: Final[dict[int, dict[str, Any]]] = {
    404: {"error": {"message": "The model does not exist.", "code": "model_not_found"}},
    429: {"error": {"message": "Slow down.", "type": "rate_limit_error", "code": "rate_limit_exceeded"}},
}


@dataclass
class Key:
    """How calls with one key are answered."""

    latency_s: float = 0.0
    phases: list[dict[str, Any]] = field(default_factory=list)
    since: float = 0.0
    running: int = 0

    def phase(self, now: float, model: str) -> dict[str, Any]:
        """Return the phase of now; one with a `model` is only for that model."""
        ends = self.since
        for phase in self.phases:
            lasts = phase.get("for_s")
            ends += float("inf") if lasts is None else lasts
            if now < ends and phase.get("model", model) == model:
                return phase
        return {}


class Provider:
    """Answers, and remembers."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self.calls: list[dict[str, Any]] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, which is one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            method, path, _ = first.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            if path == "/__calls":
                await _answer(writer, 200, self.calls)
            elif method == "PUT":
                self._set(path.removeprefix("/__keys/"), json.loads(body))
                await _answer(writer, 200, {})
            else:
                await self._serve(writer, headers.get("authorization", "").removeprefix("Bearer "), body)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def _set(self, name: str, script: dict[str, Any]) -> None:
        key = self.keys.setdefault(name, Key())
        key.latency_s = script.get("latency_s", key.latency_s)
        if "phases" in script:
            key.phases, key.since = script["phases"], time.time()

    async def _serve(self, writer: asyncio.StreamWriter, name: str, body: bytes) -> None:
        key = self.keys.setdefault(name, Key())
        model = json.loads(body)["model"] if body else ""
        began = time.time()
        phase = key.phase(began, model)
        key.running += 1
        call = {"key": name, "model": model, "began": began, "ended": None, "status": None, "running": key.running}
        self.calls.append(call)
        await asyncio.sleep(phase.get("latency_s", key.latency_s))
        status = phase.get("status", 200)
        key.running -= 1
        call |= {"ended": time.time(), "status": status}
        if status:
            await _answer(writer, status, _body(status, model), phase.get("headers", {}))


def _body(status: int, model: str) -> dict[str, Any]:
    if status != 200:
        return _BODIES.get(status, {"error": {"message": "Not now."}})
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


async def _answer(
    writer: asyncio.StreamWriter, status: int, document: Any, headers: dict[str, str] | None = None
) -> None:
    content = json.dumps(document).encode()
    lines = {
        "content-type": "application/json",
        "content-length": str(len(content)),
        "connection": "close",
        **(headers or {}),
    }
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"{head}\r\n".encode("latin-1") + content)
    await writer.drain()


async def _main() -> None:
    server = await asyncio.start_server(Provider().handle, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    print(f"listening on http://127.0.0.1:{port}", flush=True)  # noqa: T201 -- read by whoever started it
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())

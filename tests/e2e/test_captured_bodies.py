"""Captured bodies of a server with two workers: whoever served, whoever is asked."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path
from typing import Any

import requests
import zstandard

from tests.e2e.processes import Server, running_server, wait_until

MIB = 1 << 20


def ask(server: Server, key: str, model: str, **more: Any) -> requests.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
    headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
    return requests.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=20)


def files(server: Server) -> list[Path]:
    return sorted((server.data_dir / "bodies").glob("*/*.json.zst"))


def found(server: Server, request_id: str) -> dict[str, Any] | None:
    answer = server.session.get(f"{server.url}/api/usage/logs/{request_id}", timeout=15)
    document: dict[str, Any] | None = answer.json()["bodies"] if answer.status_code == 200 else None
    return document


def test_bodies_of_two_workers(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", workers=2, BODY_MAX_BYTES="1M") as server:
        key = server.new_key()
        server.api("PATCH", "/api/settings", {"captureBodies": "errors"})
        server.settle()
        assert ask(server, key, "sandbox/echo").status_code == 200
        failed = [ask(server, key, "sandbox/fail-400") for _ in range(8)]
        wait_until(lambda: len(files(server)) == 8, within_s=10, what="the failed ones are kept, and they alone")

        server.api("PATCH", "/api/settings", {"captureBodies": "all"})
        server.settle()
        streamed = [ask(server, key, "sandbox/story-20-1", stream=True) for _ in range(8)]
        for answer in (*failed, *streamed):
            request_id = answer.headers["X-OmniRoute-Request-Id"]
            kept = wait_until(lambda: found(server, request_id), within_s=10, what="it is kept")  # noqa: B023
            assert kept["clientResponse"]["body"]["text"] == answer.text
            assert kept["attempts"][0]["request"]["url"].startswith("sandbox:")

        cancelled = requests.post(
            f"{server.url}/v1/chat/completions",
            json={"model": "sandbox/story-1000-20", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
            headers={"Authorization": f"Bearer {key}"},
            stream=True,
            timeout=20,
        )
        next(cancelled.iter_content(64))
        cancelled.close()
        request_id = cancelled.headers["X-OmniRoute-Request-Id"]
        kept = wait_until(lambda: found(server, request_id), within_s=10, what="what there was is kept")
        assert "data: " in kept["attempts"][0]["response"]["body"]["text"]
        assert "[DONE]" not in kept["clientResponse"]["body"]["text"]

        rng = random.Random(1)
        for _ in range(40):  # of what cannot be compressed: more than there is room for
            text = "".join(rng.choices(string.printable[:94], k=60_000))
            assert ask(server, key, "sandbox/echo", messages=[{"role": "user", "content": text}]).status_code == 200

        def total() -> int:
            return sum(path.stat().st_size for path in files(server))

        wait_until(lambda: 0 < total() <= MIB, within_s=10, what="no more is kept than there may be")
        last = ask(server, key, "sandbox/echo")
        assert server.stop() == 0  # what was captured is written before the end
        (path,) = (server.data_dir / "bodies").glob(f"*/{last.headers['X-OmniRoute-Request-Id']}.json.zst")
        written = zstandard.ZstdDecompressor().decompress(path.read_bytes())
        assert json.loads(json.loads(written)["clientResponse"]["body"]["text"]) == last.json()
        for path in files(server):
            assert key.encode() not in zstandard.ZstdDecompressor().decompress(path.read_bytes())

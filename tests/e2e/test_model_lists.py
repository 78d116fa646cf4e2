"""Model lists of a provider that changes its mind, read by a real server with several workers."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

from tests.e2e.processes import Server, running_server, wait_until

WITHIN_S = 10.0
_DAY_S = 86_400


class Provider:
    """A provider on a socket: lists what it is told, and answers every call with the model that was asked for."""

    def __init__(self) -> None:
        self.models: list[dict[str, Any]] = []
        self.status = 200
        self.lists_sent = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                provider.lists_sent += 1
                self._send(provider.status, {"object": "list", "data": provider.models})

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                message = {"role": "assistant", "content": "Hello"}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                self._send(200, {"id": "1", "model": asked["model"], "choices": [choice]})

            def _send(self, status: int, document: Any) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"


@contextmanager
def running_provider() -> Iterator[Provider]:
    provider = Provider()
    thread = threading.Thread(target=provider.server.serve_forever)
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        provider.server.server_close()
        thread.join()


def listed(server: Server, key: str) -> list[str]:
    """Return the models of the node; each question may reach another worker."""
    headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
    answer = requests.get(f"{server.url}/v1/models?provider=mine", headers=headers, timeout=10)
    assert answer.status_code == 200, answer.text
    return [model["root"] for model in answer.json()["data"]]


def all_workers_list(server: Server, key: str, *models: str) -> None:
    wait_until(
        lambda: all(listed(server, key) == list(models) for _ in range(8)),
        within_s=WITHIN_S,
        what=f"all workers list {models}",
    )


def ask(server: Server, key: str, model: str) -> requests.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    return requests.post(
        f"{server.url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=10
    )


def make_due(data_dir: Path) -> None:
    """Let a day pass for the readings and for the job that looks for them."""
    with closing(sqlite3.connect(data_dir / "storage.sqlite")) as database, database:
        database.execute("UPDATE model_syncs SET tried_at = tried_at - ?", (_DAY_S,))
        database.execute("UPDATE job_runs SET last_success_at = last_success_at - ?", (_DAY_S,))


def test_a_list_is_read_when_the_connection_is_new_on_demand_and_on_schedule(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with running_provider() as provider:
        provider.models = [{"id": "first", "context_length": 5000}, {"id": "second"}]
        with running_server(data_dir, workers=2, MODEL_SYNC_INTERVAL_HOURS="24") as server:
            key = server.new_key()
            connection = server.add_node(provider.url, prefix="mine")
            all_workers_list(server, key, "first", "second")
            assert provider.lists_sent == 1, "one worker read it"
            answer = ask(server, key, "first")
            assert (answer.status_code, answer.json()["model"]) == (200, "first")
            assert answer.headers["X-OmniRoute-Model"] == "mine/first"

            provider.models = [{"id": "second", "context_length": 7000}, {"id": "third"}]
            changed = server.api("POST", f"/api/providers/{connection}/sync-models")
            assert changed == {"added": 1, "removed": 1, "total": 2}
            all_workers_list(server, key, "second", "third")
            assert ask(server, key, "first").status_code == 404

            provider.status = 500
            server.api("POST", f"/api/providers/{connection}/sync-models", expect=502)
            provider.status, provider.models = 200, []
            server.api("POST", f"/api/providers/{connection}/sync-models", expect=502)
            all_workers_list(server, key, "second", "third")
            state = server.api("GET", f"/api/providers/{connection}")["connection"]
            assert (state["status"], state["cooldownUntil"]) == ("untested", None), "lists are not held against it"
            server.api("PATCH", "/api/provider-models?provider=mine", {"modelIds": ["third"], "isHidden": True})
            all_workers_list(server, key, "second")
            assert ask(server, key, "mine/third").status_code == 403

        make_due(data_dir)
        provider.models = [{"id": "second"}, {"id": "third"}, {"id": "fourth"}]
        with running_server(data_dir, workers=2, MODEL_SYNC_INTERVAL_HOURS="24") as server:
            all_workers_list(server, key, "fourth", "second")
            sync = server.api("GET", f"/api/providers/{connection}/models")["sync"]
            assert (sync["found"], sync["error"]) == (3, None)

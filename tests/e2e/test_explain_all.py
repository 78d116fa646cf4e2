"""Ten thousand requests over four workers: every one can be explained, and decided again as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from omniroute.routing import decision_document, explain
from omniroute.settings import Settings
from tests.blueprints.app import whole_app
from tests.e2e.processes import Sandbox, running_server, wait_until
from tests.e2e.scripted import Answer, Load, ready

REQUESTS = 10_000
OVER_HTTP = 200
COMBOS: dict[str, tuple[str, list[Any]]] = {
    "in-order": ("priority", ["sandbox/echo", "oa/echo"]),
    "in-turn": ("round-robin", ["sandbox/echo", "oa/echo", "sandbox/json"]),
    "dealt": ("strict-random", ["sandbox/echo", "oa/echo"]),
    "weighed": ("weighted", [{"kind": "model", "model": "sandbox/echo", "weight": 3}, "oa/echo"]),
    "two-choices": ("p2c", ["sandbox/echo", "oa/echo"]),
    "scored": ("auto", ["sandbox/echo", "oa/echo"]),
    "failing-over": ("priority", ["ill/fail-500", "ill/fail-429", "sandbox/echo"]),
    "hopeless": ("priority", ["sandbox/fail-401", "sandbox/fail-429"]),
}
MODELS = ["sandbox/echo", "oa/echo", *COMBOS, *COMBOS, "sandbox/fail-400", "nobody/has-this", "oa/echo"]
"""What is asked for in turn. Some fail, and one stands for nothing."""


def test_each_of_ten_thousand_requests_is_explained_and_replayed(tmp_path: Path, sandbox: Sandbox) -> None:
    data_dir = tmp_path / "data"
    with running_server(data_dir, workers=4) as server:
        for prefix in ("oa", "ill"):
            server.add_node(f"{sandbox.url}/v1", prefix=prefix)
        for name, (strategy, models) in COMBOS.items():
            server.api("POST", "/api/combos", {"name": name, "strategy": strategy, "models": models})
        key = server.new_key()
        ready([server], key, *(name for name in COMBOS if name != "hopeless"))
        load = Load(
            [server],
            key,
            MODELS,
            callers=16,
            at_most=REQUESTS,
            calls_per_connection=40,
            headers=lambda turn: {"X-Session-Id": f"session-{turn % 40}"} if turn % 3 == 0 else {},
        )
        with load:
            wait_until(lambda: len(load.answers) >= REQUESTS, within_s=240, what=f"{REQUESTS} answers")
        statuses = Counter(answer.status for answer in load.answers)
        assert statuses[200] > 0.8 * REQUESTS
        assert {400, 404, 503} <= set(statuses)
        assert statuses[0] == 0, "every request is answered"
        routed = [answer for answer in load.answers if answer.code != "model_not_found"]
        wait_until(lambda: _is_stored(server.url, key, routed[-1]), within_s=20, what="the last decision is stored")
        for answer in routed[:: len(routed) // OVER_HTTP]:
            path = f"/api/routing/decisions/{answer.request_id}"
            assert server.api("GET", path)["requestId"] == answer.request_id
            text = server.session.get(f"{server.url}{path}?format=text", timeout=10)
            assert (text.status_code, answer.request_id in text.text) == (200, True)
        environment = dict(server.environment)
    with whole_app(Settings(data_dir=data_dir, app_log_to_file=False)) as app:
        for answer in routed:
            record = app.own.decisions.get(answer.request_id)
            document = decision_document.document(record)
            assert document["requestId"] == answer.request_id
            assert document["result"]["status"] == answer.status
            assert json.dumps(document)
            assert len(explain.text(record).splitlines()) >= 5
    verified = subprocess.run(
        [sys.executable, "-m", "omniroute", "replay", "--since", "1h", "--verify", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        cwd=tmp_path,
    )
    assert verified.returncode == 0, verified.stderr
    verdict = json.loads(verified.stdout)["verify"]
    assert (verdict["mismatched"], verdict["mismatches"]) == (0, [])
    assert verdict["matched"] >= len(routed)
    assert verdict["notReplayable"] == 0


def _is_stored(url: str, key: str, answer: Answer) -> bool:
    import requests

    path = f"{url}/v1/routing/decisions/{answer.request_id}"
    return requests.get(path, headers={"Authorization": f"Bearer {key}"}, timeout=10).status_code == 200

"""A worker over its limit makes room without cutting a stream."""

from __future__ import annotations

from pathlib import Path

import requests

from tests.e2e.processes import running_server, wait_until


def test_a_worker_that_outgrows_its_limit_is_replaced_and_its_stream_is_whole(tmp_path: Path) -> None:
    """64 MB, the least that can be set, is a little less than a worker needs, so it recycles after its patience."""
    with running_server(tmp_path / "data", workers=1, OMNIROUTE_MEMORY_MB="64") as server:
        first = server.worker_pids()
        answer = requests.post(
            f"{server.url}/v1/chat/completions",
            json={"model": "sandbox/story-450-100", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
            stream=True,
            timeout=60,
        )
        rows = answer.iter_lines()
        next(rows)
        wait_until(lambda: set(server.worker_pids()) - set(first), within_s=45, what="a successor has been started")
        assert requests.get(f"{server.url}/healthz", timeout=5).status_code == 200
        assert b"data: [DONE]" in list(rows), "the stream of the old worker was whole"
        wait_until(lambda: not set(first) & set(server.worker_pids()), within_s=20, what="the old worker has gone")
        wait_until(lambda: len(server.worker_pids()) == 1, within_s=20, what="one worker is left")

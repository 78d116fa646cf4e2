"""What Prometheus is told: sums over all workers of a server run, living and dead."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from omniroute.records import AttemptRecord, RequestRecord
from omniroute.services import metrics
from omniroute.services.metrics import Metrics


def record(**changes: object) -> RequestRecord:
    made = RequestRecord("req_1", 0.0, "/v1/chat/completions", "openai-chat", "up/m", outcome="success", provider="up")
    made.duration_ms = 70.0
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def as_worker(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def become(pid: int) -> None:
        monkeypatch.setattr(os, "getpid", lambda: pid)

    return become


def samples(text: bytes) -> dict[str, float]:
    lines = [line for line in text.decode().splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def attempt(failure_class: str | None) -> AttemptRecord:
    return AttemptRecord("up", "conn_1", "m", 500, failure_class, failure_class, 0.0, None, None, 1.0)


def test_the_sums_of_two_workers_are_one(tmp_path: Path, as_worker: Callable[[int], None]) -> None:
    first, second = Metrics(tmp_path), Metrics(tmp_path)
    first.observe(record(tokens_in=5, tokens_out=2))
    second.observe(record(tokens_in=7, attempts=(attempt("transient"), attempt(None))))
    second.observe(record(outcome="failed", provider=None))
    as_worker(101)
    first.flush()
    as_worker(102)
    found = samples(second.render())
    labels = 'endpoint="/v1/chat/completions"'
    assert found[f'omniroute_requests_total{{{labels},outcome="success",provider="up"}}'] == 2
    assert found[f'omniroute_requests_total{{{labels},outcome="failed",provider=""}}'] == 1
    assert found['omniroute_tokens_total{direction="in",provider="up"}'] == 12
    assert found['omniroute_tokens_total{direction="out",provider="up"}'] == 2
    assert found['omniroute_failed_attempts_total{failure_class="transient",provider="up"}'] == 1
    assert found[f"omniroute_request_duration_seconds_count{{{labels}}}"] == 3


def test_attempts_are_counted_by_what_came_of_them_and_fallbacks_by_where_they_went(tmp_path: Path) -> None:
    made = Metrics(tmp_path)
    failed, served = attempt("transient"), attempt(None)
    other = AttemptRecord("other", "conn_2", "m", 200, None, None, 2.0, None, None, 3.0)
    made.observe(record(provider="up", connection_id="conn_1", model="m", attempts=(failed, served)))
    made.observe(record(provider="other", connection_id="conn_2", model="m", attempts=(failed, other)))
    made.observe(record(provider="up", outcome="failed", attempts=(failed, failed)))
    found = samples(made.render())
    assert {name: value for name, value in found.items() if name.startswith(("omniroute_att", "omniroute_fal"))} == {
        'omniroute_attempts_total{provider="up",result="transient"}': 4,
        'omniroute_attempts_total{provider="up",result="served"}': 1,
        'omniroute_attempts_total{provider="other",result="served"}': 1,
        'omniroute_fallbacks_total{from="up",to="other"}': 1,
    }


def test_a_histogram_is_cumulative(tmp_path: Path) -> None:
    made = Metrics(tmp_path)
    for duration_ms in (10.0, 50.0, 70.0, 2000.0, 900_000.0):
        made.observe(record(duration_ms=duration_ms, ttft_ms=20.0))
    found = samples(made.render())

    def bucket(limit: str) -> float:
        return found[f'omniroute_request_duration_seconds_bucket{{endpoint="/v1/chat/completions",le="{limit}"}}']

    assert [bucket(limit) for limit in ("0.05", "0.1", "1.0", "2.5", "300.0", "+Inf")] == [2, 3, 3, 4, 4, 5]
    total = 'omniroute_request_duration_seconds_sum{endpoint="/v1/chat/completions"}'
    assert found[total] == pytest.approx(902.13)
    assert found['omniroute_first_content_seconds_count{endpoint="/v1/chat/completions"}'] == 5


def test_what_ended_workers_counted_stays_and_is_cleared_with_the_server(
    tmp_path: Path, as_worker: Callable[[int], None]
) -> None:
    as_worker(101)
    ended = Metrics(tmp_path)
    ended.observe(record())
    ended.flush()
    as_worker(102)
    fresh = Metrics(tmp_path)
    fresh.observe(record())
    assert b'outcome="success",provider="up"} 2.0' in fresh.render()
    metrics.clear(tmp_path)
    assert list(tmp_path.parent.glob(f"{tmp_path.name}/*")) == []
    metrics.clear(tmp_path)


@pytest.mark.parametrize("content", ["", "{", '{"requests": 5}', '{"durations": {"/v1/x": [1.0]}}'])
def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "99.json").write_text(content)
    made = Metrics(tmp_path)
    made.observe(record())
    found = made.render()
    assert b'provider="up"} 1.0' in found
    assert b"/v1/x" not in found.replace(b"/v1/chat", b"")


def test_a_disk_that_takes_nothing_ends_neither_scrapes_nor_counting(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    made = Metrics(blocked / "metrics")
    made.observe(record())
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            blocked.unlink()
        if len(naps) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.flush_forever(sleep=sleep)
    [file] = (blocked / "metrics").glob("*.json")
    assert sum(json.loads(file.read_text())["requests"].values()) == 1


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    made = Metrics(tmp_path / "metrics")
    made.flush()
    assert not (tmp_path / "metrics").exists()
    assert made.render() is not None

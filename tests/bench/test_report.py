"""Verdicts and tables say what was measured."""

from __future__ import annotations

import json

import pytest

from omnibench import bodies, wrk
from omnibench.calls import Body, Case, Sample, lines, ratios
from omnibench.report import Bar, table


@pytest.mark.parametrize(
    ("bar", "verdict"),
    [
        (Bar("a", 0.9, 0.9, "ms", goal=0.6), "PASS"),
        (Bar("a", 0.6, 0.9, "ms", goal=0.6), "PASS (goal)"),
        (Bar("a", 0.91, 0.9, "ms", goal=0.6), "FAIL"),
        (Bar("a", 19_999, 20_000, "", is_minimum=True), "FAIL"),
        (Bar("a", 40_000, 20_000, "", goal=40_000, is_minimum=True), "PASS (goal)"),
        (Bar("a", 20_000, 20_000, "", goal=40_000, is_minimum=True), "PASS"),
        (Bar("a", 0, 0, ""), "PASS"),
        (Bar("a", None, 1, "s"), "not measured"),
    ],
)
def test_a_bar_is_judged(bar: Bar, verdict: str) -> None:
    assert bar.verdict == verdict
    assert bar.cells()[3] == verdict


def test_the_columns_of_a_table_line_up() -> None:
    text = table(("Name", "Count"), [("one", "1"), ("a thousand", "1,000"), ("none", "–")])
    rows = text.splitlines()
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[1].endswith("------:|")
    assert rows[2].endswith("     1 |")


def test_the_small_body_has_its_size_and_the_large_one_its_shape() -> None:
    for model in ("echo", "a-much-longer/model-name"):
        assert len(bodies.small(model)) == bodies.SMALL_BYTES
        large = bodies.large(model)
        assert len(large) == bodies.LARGE_BYTES
        content = json.loads(large)
        assert (content["model"], len(content["tools"])) == (model, 24)
        assert len(content["messages"]) > 40


def test_the_summary_of_wrk_is_read_and_failures_are_added_up() -> None:
    line = '{"requests":300,"duration_us":1500000,"p50_us":900,"p99_us":4000,"max_us":9000,'
    line += '"connect":1,"read":2,"write":0,"status":3,"timeout":4}'
    seen = wrk.parse(f"Running 1s test\n\nBENCH {line}\n")
    assert (seen.per_second, seen.p50_ms, seen.p99_ms, seen.failed) == (200.0, 0.9, 4.0, 10)
    with pytest.raises(RuntimeError, match="no summary"):
        wrk.parse("unable to connect")


def _sample(target: str, number: int, cpu_us: float, p50_ms: float) -> Sample:
    return Sample(target, Case(Body.SMALL, 1), number, 1000 / p50_ms, p50_ms, 2 * p50_ms, cpu_us, 100, 0)


def test_targets_are_compared_within_a_round() -> None:
    # The second round ran on a machine half as fast.
    samples = [
        _sample("direct", 0, 100, 1.0),
        _sample("omniroute", 0, 500, 2.0),
        _sample("direct", 1, 200, 2.0),
        _sample("omniroute", 1, 1000, 4.0),
    ]
    direct, ours = lines(samples)
    assert (direct.target, ours.target) == ("direct", "omniroute")
    assert ours.added_p50_ms.median == pytest.approx(1.5)
    (ratio,) = ratios(samples, "omniroute", "direct")
    assert (ratio.cpu.low, ratio.cpu.high) == (5.0, 5.0)

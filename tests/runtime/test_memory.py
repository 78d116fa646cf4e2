"""When a worker is recycled: a table over the pure judgement, and the loop around it with a clock that is told."""

from __future__ import annotations

import pytest

from omniroute.runtime.memory import PATIENCE_S, Advice, Pressure, judge, resident_bytes, watch

LIMIT = 100


@pytest.mark.parametrize(
    ("since", "rss", "now", "expected_since", "advice"),
    [
        (None, 100, 50.0, None, Advice.NOTHING),
        (None, 101, 50.0, 50.0, Advice.NOTHING),
        (50.0, 101, 50.0 + PATIENCE_S - 1, 50.0, Advice.NOTHING),
        (50.0, 101, 50.0 + PATIENCE_S, 50.0, Advice.RECYCLE),
        (50.0, 99, 60.0, None, Advice.NOTHING),
        (None, 201, 50.0, None, Advice.KILL),
    ],
)
def test_judgement(since: float | None, rss: int, now: float, expected_since: float | None, advice: Advice) -> None:
    assert judge(Pressure(since), rss, LIMIT, now) == (Pressure(expected_since), advice)


def _watched(measured: list[int]) -> list[str]:
    done: list[str] = []
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    watch(
        limit_bytes=LIMIT,
        now=lambda: clock[0],
        sleep=sleep,
        measure=lambda: measured.pop(0),
        recycle=lambda: done.append(f"recycle at {clock[0]:.0f}"),
        kill=lambda: done.append(f"kill at {clock[0]:.0f}"),
        interval_s=10.0,
    )
    return done


def test_a_peak_is_forgiven_and_a_level_is_not() -> None:
    assert _watched([150, 150, 90, 150, 150, 150, 150]) == ["recycle at 70"]


def test_twice_the_limit_is_too_much_at_once() -> None:
    assert _watched([90, 201]) == ["kill at 20"]


def test_this_process_has_a_size() -> None:
    assert resident_bytes() > 1 << 20

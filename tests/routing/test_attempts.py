"""The attempt loop: who is tried next, by failure class; a table per rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.routing.attempts import Attempt, Policy, Tried, most_telling, plan
from omniroute.routing.failures import Failure, FailureClass, Sent, Success

Outcome = Success | Failure


def run(
    outcomes: dict[str, list[Outcome]], *, policy: Policy | None = None, times: list[float] | None = None
) -> list[str]:
    """Play outcomes per candidate and return the names in the order in which they were tried."""
    clock = iter(times or [])
    loop = plan(list(outcomes), policy or Policy(), now=lambda: next(clock, 0.0))
    tried: list[str] = []
    remaining = {name: list(queue) for name, queue in outcomes.items()}
    try:
        step = next(loop)
        while True:
            assert isinstance(step, Attempt)
            assert step.number == len(tried) + 1
            tried.append(step.candidate)
            step = loop.send(remaining[step.candidate].pop(0))
    except StopIteration:
        return tried


def failed(failure_class: FailureClass, *, sent: Sent = Sent.FULL, committed: bool = False, kind: str = "x") -> Failure:
    return Failure(kind, failure_class, sent=sent, committed=committed)


@pytest.mark.parametrize("failure_class", list(FailureClass))
def test_every_class_says_whether_another_candidate_may_follow(failure_class: FailureClass) -> None:
    ends_it = failure_class in {FailureClass.CALLER_FAULT, FailureClass.CANCELLED}
    tried = run({"a": [failed(failure_class)], "b": [Success()]})
    assert tried == (["a"] if ends_it else ["a", "b"])


def test_nothing_follows_committed_content() -> None:
    assert run({"a": [failed(FailureClass.TRANSIENT, committed=True)], "b": [Success()]}) == ["a"]


def test_a_transient_failure_with_nothing_sent_is_worth_one_repeat() -> None:
    unreachable = failed(FailureClass.TRANSIENT, sent=Sent.NONE)
    assert run({"a": [unreachable, unreachable], "b": [Success()]}) == ["a", "a", "b"]
    assert run({"a": [unreachable, Success()], "b": [Success()]}) == ["a", "a"]


def test_a_transient_failure_after_sending_is_not_repeated() -> None:
    assert run({"a": [failed(FailureClass.TRANSIENT)], "b": [Success()]}) == ["a", "b"]


def test_attempts_and_time_are_bounded() -> None:
    many: dict[str, list[Outcome]] = {str(i): [failed(FailureClass.UNKNOWN)] for i in range(20)}
    assert len(run(many, policy=Policy(max_attempts=4))) == 4
    assert run(many, policy=Policy(deadline=10.0), times=[0.0, 5.0, 10.0]) == ["0", "1"]


@given(st.lists(st.sampled_from(list(FailureClass)), min_size=1, max_size=12))
def test_the_loop_ends_and_returns_every_failure_in_order(classes: list[FailureClass]) -> None:
    loop = plan(classes, Policy(), now=lambda: 0.0)
    sent: list[FailureClass] = []
    with pytest.raises(StopIteration) as stop:
        _fail_all(loop, sent)
    assert [entry.candidate for entry in stop.value.value] == sent
    assert len(sent) <= Policy().max_attempts


def _fail_all(loop: Any, sent: list[FailureClass]) -> None:
    step = next(loop)
    while True:
        sent.append(step.candidate)
        step = loop.send(failed(step.candidate))


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([failed(FailureClass.CREDENTIAL), failed(FailureClass.RATE_LIMIT)], 1),
        ([failed(FailureClass.TRANSIENT), failed(FailureClass.CALLER_FAULT, kind="context_length")], 1),
        ([failed(FailureClass.TRANSIENT), failed(FailureClass.TRANSIENT, kind="overloaded")], 1),
        ([failed(FailureClass.TRANSIENT, kind="server"), failed(FailureClass.TRANSIENT, kind="timeout_headers")], 1),
        ([failed(FailureClass.QUOTA, kind="no_credit"), failed(FailureClass.MODEL_UNAVAILABLE)], 1),
        ([failed(FailureClass.TRANSIENT, kind="first"), failed(FailureClass.TRANSIENT, kind="second")], 0),
    ],
)
def test_the_failure_that_is_reported(failures: list[Failure], expected: int) -> None:
    tried = [Tried(index, failure) for index, failure in enumerate(failures)]
    assert most_telling(tried).candidate == expected

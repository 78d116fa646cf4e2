"""The attempt loop as a generator: it says what to do next and is told what happened; it never does it.

    step = next(plan)                     # Attempt(candidate, number)
    while True:
        outcome = execute(step)           # Success | Failure
        step = plan.send(outcome)         # StopIteration.value: every failure, in order

Theory. Candidates arrive ordered. One that failed is left for the next one unless its failure class forbids it: a fault
of the caller would fail everywhere, and after content has been sent no other answer may follow it. A transient failure
in which nothing was sent is worth one more try of the same candidate, because the provider cannot have started work.
The loop is bounded by a number of attempts and by a deadline, so that it ends whatever the candidates do.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from omniroute.routing.failures import Failure, FailureClass, Sent, Success

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Attempt(Generic[C]):
    """Try this candidate now; `number` counts from 1 over the whole request."""

    candidate: C
    number: int


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds of one request: attempts in all, repeats of one candidate, the time (of `now`) after which none starts."""

    max_attempts: int = 10
    max_repeats: int = 1
    deadline: float = float("inf")


@dataclass(frozen=True, slots=True)
class Tried(Generic[C]):
    """One failed attempt, for the log and for choosing the error that the caller sees."""

    candidate: C
    failure: Failure


def plan(
    candidates: Sequence[C], policy: Policy, *, now: Callable[[], float]
) -> Generator[Attempt[C], Success | Failure, list[Tried[C]]]:
    """Yield attempts until one succeeds or none may follow; return the failures in order."""
    tried: list[Tried[C]] = []
    for candidate in candidates:
        repeats = 0
        while True:
            if len(tried) >= policy.max_attempts or now() >= policy.deadline:
                return tried
            outcome = yield Attempt(candidate, len(tried) + 1)
            if isinstance(outcome, Success):
                return tried
            tried.append(Tried(candidate, outcome))
            if not _may_go_on(outcome):
                return tried
            if repeats >= policy.max_repeats or not _is_worth_repeating(outcome):
                break
            repeats += 1
    return tried


def _may_go_on(failure: Failure) -> bool:
    if failure.committed:
        return False
    match failure.failure_class:
        case FailureClass.CALLER_FAULT | FailureClass.CANCELLED:
            return False
        case (
            FailureClass.CREDENTIAL
            | FailureClass.QUOTA
            | FailureClass.RATE_LIMIT
            | FailureClass.MODEL_UNAVAILABLE
            | FailureClass.TRANSIENT
            | FailureClass.UNKNOWN
            | FailureClass.LOCAL
        ):
            return True


def _is_worth_repeating(failure: Failure) -> bool:
    return failure.failure_class is FailureClass.TRANSIENT and failure.sent is Sent.NONE


# Which failure the caller sees when several happened: the first rank that occurred, most useful to act on first.
_KIND_RANK = {"context_length": 0, "too_large": 0, "content_policy": 2}
_CLASS_RANK = {
    FailureClass.CALLER_FAULT: 1,
    FailureClass.RATE_LIMIT: 3,
    FailureClass.QUOTA: 3,
    FailureClass.LOCAL: 3,
    FailureClass.TRANSIENT: 6,
    FailureClass.UNKNOWN: 6,
    FailureClass.MODEL_UNAVAILABLE: 7,
    FailureClass.CREDENTIAL: 8,
    FailureClass.CANCELLED: 9,
}


def most_telling(tried: Sequence[Tried[C]]) -> Tried[C]:
    """Choose the failure to report; of equal ranks the first. Raises ValueError when nothing was tried."""
    return min(tried, key=lambda entry: _rank(entry.failure))


def _rank(failure: Failure) -> int:
    if failure.kind in _KIND_RANK:
        return _KIND_RANK[failure.kind]
    if failure.kind == "overloaded":
        return 4
    if failure.kind.startswith("timeout"):
        return 5
    # Our credit at the provider, or an address that we may not call, is our fault and no limit of the caller.
    if failure.kind in {"no_credit", "blocked"}:
        return _CLASS_RANK[FailureClass.CREDENTIAL]
    return _CLASS_RANK[failure.failure_class]

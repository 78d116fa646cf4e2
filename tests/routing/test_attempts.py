"""The attempt loop: who is tried next, by what failed and how far that reaches; a table per rule."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from omniroute.routing.attempts import (
    Alone,
    Attempt,
    Candidate,
    Kind,
    Lagging,
    Limits,
    Outcome,
    PassedOver,
    Raced,
    Step,
    Surroundings,
    Verdict,
    Wait,
    attempts,
)
from omniroute.routing.config import DEFAULTS
from omniroute.routing.continuing import continuations
from omniroute.routing.failures import Failure, FailureClass, Scope, Sent, Success
from omniroute.routing.options import Account, AuthClass, Option
from omniroute.routing.plan import Entry, Exclusion, Plan, Reason, Seat
from omniroute.routing.telling import most_telling

OK = Success()


def entry(name: str, *accounts: str, window: int | None = None, waits: bool = False) -> Entry:
    """An entry `provider/model` with accounts named after it."""
    provider, _, model = name.partition("/")
    made = tuple(Account(one, provider, AuthClass.API_KEY) for one in (accounts or (provider,)))
    option = Option(name, provider, model or "m", made, window=window)
    return Entry(option, tuple(Seat(one) for one in made), waits_when_paced=waits, config=DEFAULTS)


def failed(failure_class: FailureClass, kind: str = "x", **facts: Any) -> Failure:
    return Failure(kind, failure_class, **facts)


DOWN = failed(FailureClass.TRANSIENT, "transport", sent=Sent.NONE)
SERVER = failed(FailureClass.TRANSIENT, "server", status=500)
RATE = failed(FailureClass.RATE_LIMIT, "rate", status=429)
BAD = failed(FailureClass.CALLER_FAULT, "invalid_request", status=400)
LONG = failed(FailureClass.CALLER_FAULT, "context_length", status=400)
FULL = PassedOver(Exclusion("t", Reason.RPM_FULL, until=5.0))

Script = Callable[[Candidate, int], Outcome]


class World:
    """Plays outcomes per account and notes what the loop asked for."""

    def __init__(self, script: dict[str, list[Outcome]] | Script, *, left: float = 600.0) -> None:
        self.script = script
        self.now = 1000.0
        self.deadline = self.now + left
        self.asked: list[str] = []
        self.kinds: list[Kind] = []
        self.patience: list[float] = []
        self.waits: list[Wait] = []
        self.resting: dict[str, Exclusion] = {}
        self.chain: Sequence[Entry] = ()
        self.replan: Callable[[], Plan] | None = None

    def run(self, *entries: Entry, limits: Limits | None = None) -> Verdict:
        plan = Plan(entries)
        around = Surroundings(
            now=lambda: self.now,
            left=lambda: self.deadline - self.now,
            check=lambda _entry, account: self.resting.get(account.id) or Seat(account),
            again=self.replan or (lambda: plan),
            chain=lambda: self.chain,
        )
        rng = random.Random(7)
        loop = attempts(plan, limits or Limits(), around, rng=lambda: rng)
        answer: Outcome | None = None
        try:
            step = next(loop)
            while True:
                answer = self._carry_out(step)
                step = loop.send(answer)
        except StopIteration as stop:
            verdict: Verdict = stop.value
            return verdict

    def _carry_out(self, step: Step) -> Outcome | None:
        assert not isinstance(step, Alone), "nobody was said to be slow"
        if isinstance(step, Wait):
            assert step.seconds >= 0
            self.waits.append(step)
            self.now += step.seconds
            return None
        account = step.candidate.account.id
        self.kinds.append(step.kind)
        self.patience.append(step.patience_s)
        if callable(self.script):
            outcome = self.script(step.candidate, step.number)
        else:
            outcome = self.script[account].pop(0)
        if not isinstance(outcome, PassedOver):
            self.asked.append(account)
            assert step.number == len(self.asked)
        return outcome


@pytest.mark.parametrize(
    ("failure", "goes_on"),
    [
        (failed(FailureClass.CREDENTIAL, "auth"), True),
        (failed(FailureClass.QUOTA, "no_credit", status=402), True),
        (RATE, True),
        (failed(FailureClass.MODEL_UNAVAILABLE, "model_missing"), True),
        (SERVER, True),
        (failed(FailureClass.UNKNOWN), True),
        (failed(FailureClass.LOCAL, "proxy"), True),
        (failed(FailureClass.CANCELLED), False),
        (failed(FailureClass.CALLER_FAULT, "content_policy"), False),
        (failed(FailureClass.CALLER_FAULT, "opaque_token"), False),
        (failed(FailureClass.CALLER_FAULT, "unsupported_param"), True),
        (BAD, True),
        (replace(SERVER, committed=True), False),
    ],
)
def test_every_failure_says_whether_another_target_may_follow(failure: Failure, goes_on: bool) -> None:
    world = World({"a": [failure], "b": [OK]})
    verdict = world.run(entry("a/m"), entry("b/m"))
    assert world.asked == (["a", "b"] if goes_on else ["a"])
    assert verdict.is_served is goes_on
    assert [one.failure for one in verdict.tried] == [failure]


@pytest.mark.parametrize(
    ("failure", "asked"),
    [
        (failed(FailureClass.CREDENTIAL, "auth"), ["a1", "a2", "b"]),
        (RATE, ["a1", "a2", "b"]),
        (failed(FailureClass.MODEL_UNAVAILABLE, "entitlement", scope=Scope.MODEL), ["a1", "a2", "b"]),
        (failed(FailureClass.MODEL_UNAVAILABLE, "model_missing", scope=Scope.MODEL), ["a1", "b"]),
        (failed(FailureClass.TRANSIENT, "overloaded", scope=Scope.MODEL), ["a1", "b"]),
        (BAD, ["a1", "b"]),
        (LONG, ["a1", "b"]),
    ],
)
def test_a_failure_reaches_an_account_a_model_or_the_request(failure: Failure, asked: list[str]) -> None:
    world = World({"a1": [failure], "a2": [failure], "b": [OK]})
    world.run(entry("a/m", "a1", "a2", window=1000), entry("b/m", window=2000))
    assert world.asked == asked


def test_an_account_that_was_limited_is_left_alone_under_every_model() -> None:
    world = World({"a": [RATE], "b": [OK]})
    world.run(entry("p/one", "a"), entry("p/two", "a"), entry("q/m", "b"))
    assert world.asked == ["a", "b"]


def test_a_malformed_request_sees_at_most_two_other_providers() -> None:
    world = World(lambda _candidate, _number: BAD)
    pool = [entry(f"p{i}/m", *(f"p{i}-{k}" for k in range(20))) for i in range(10)]
    verdict = world.run(*pool)
    assert world.asked == ["p0-0", "p1-0", "p2-0"]
    assert not verdict.is_served
    assert not world.waits


def test_what_is_too_long_goes_on_to_larger_windows_only() -> None:
    world = World({"b": [LONG], "d": [OK]})
    world.run(
        entry("b/m", window=2000), entry("a/m", window=1000), entry("c/m", window=2000), entry("d/m", window=9000)
    )
    assert world.asked == ["b", "d"]


def test_a_dead_host_is_left_for_other_providers_before_all_its_accounts_were_tried() -> None:
    world = World(lambda candidate, _n: OK if candidate.option.provider == "q" else DOWN)
    world.run(entry("p/m", *(f"p{i}" for i in range(30))), entry("q/m", "q"))
    assert world.asked == ["p0", "p1", "q"]


def test_other_candidates_come_before_a_second_try() -> None:
    world = World({"a": [SERVER, OK], "b": [RATE]})
    assert world.run(entry("a/m"), entry("b/m")).is_served
    assert world.asked == ["a", "b", "a"]
    assert world.kinds == [Kind.NORMAL, Kind.NORMAL, Kind.RETRY]
    (wait,) = world.waits
    assert wait.reason == "retry"
    assert 0 <= wait.seconds <= 2


def test_retries_come_first_where_the_operator_wants_that() -> None:
    world = World({"a": [SERVER, SERVER, SERVER], "b": [OK]})
    world.run(entry("a/m"), entry("b/m"), limits=Limits(failover_before_retry=False, max_retries=2))
    assert world.asked == ["a", "a", "a", "b"]
    assert [wait.reason for wait in world.waits] == ["retry", "retry"]


def test_a_stumble_over_a_tool_call_is_worth_one_repeat_at_once() -> None:
    slip = failed(FailureClass.TRANSIENT, "generation", scope=Scope.TARGET)
    world = World({"a": [slip, OK], "b": []})
    world.run(entry("a/m"), entry("b/m"))
    assert world.asked == ["a", "a"]
    assert not world.waits


def test_only_what_fails_in_passing_is_tried_again() -> None:
    world = World({"a": [RATE], "b": [failed(FailureClass.UNKNOWN)]})
    verdict = world.run(entry("a/m"), entry("b/m"))
    assert world.asked == ["a", "b"]
    assert len(verdict.tried) == 2


def test_a_retry_is_not_kept_by_the_rest_that_its_own_failure_began() -> None:
    world = World({"a": [SERVER, OK]})
    world.resting["a"] = Exclusion("a/m", Reason.COOLING, "a", 2000.0, "server")
    assert world.run(entry("a/m")).is_served
    limited = World({"a": [SERVER, OK]})
    limited.resting["a"] = Exclusion("a/m", Reason.COOLING, "a", 2000.0, "rate")
    assert not limited.run(entry("a/m")).is_served
    assert limited.asked == ["a"]


def test_the_list_is_walked_again_only_where_that_is_configured() -> None:
    world = World({"a": [SERVER, SERVER, OK]})
    assert world.run(entry("a/m"), limits=Limits(max_retries=0, max_set_retries=2)).is_served
    assert [wait.reason for wait in world.waits] == ["set", "set"]


def test_somebody_who_began_to_rest_meanwhile_is_passed_over() -> None:
    world = World({"a": [RATE], "c": [OK]})
    world.resting["b"] = Exclusion("b/m", Reason.COOLING, "b", 2000.0, "rate")
    verdict = world.run(entry("a/m"), entry("b/m"), entry("c/m"))
    assert world.asked == ["a", "c"]
    assert [one.connection_id for one in verdict.passed_over] == ["b"]


# --- pacing ----------------------------------------------------------------------------------------------------------


def test_a_paced_head_is_waited_for_only_where_the_strategy_says_so() -> None:
    passed = World({"a": [FULL], "b": [OK]})
    passed.run(entry("a/m"), entry("b/m"))
    assert passed.patience == [0.0, 0.0]
    waited = World({"a": [OK], "b": []})
    waited.run(entry("a/m", waits=True), entry("b/m"))
    assert waited.patience == [15.0]


def test_a_free_account_of_the_same_target_comes_before_waiting_for_a_paced_one() -> None:
    world = World({"a1": [FULL], "a2": [OK]})
    world.run(entry("a/m", "a1", "a2", waits=True))
    assert world.asked == ["a2"]
    assert world.patience == [0.0, 0.0]
    both = World({"a1": [FULL, OK], "a2": [PassedOver(Exclusion("t", Reason.RPM_FULL, until=9.0))]})
    both.run(entry("a/m", "a1", "a2", waits=True), entry("b/m"))
    assert both.asked == ["a1"]
    assert both.patience == [0.0, 0.0, 15.0]


def test_where_everybody_is_paced_the_first_to_be_free_is_waited_for() -> None:
    late = PassedOver(Exclusion("t", Reason.CONCURRENCY_FULL, until=50.0))
    world = World({"a": [late], "b": [FULL, OK]})
    world.run(entry("a/m"), entry("b/m"))
    assert world.asked == ["b"]
    assert world.patience == [0.0, 0.0, 15.0]


# --- chains and waiting ----------------------------------------------------------------------------------------------


def test_the_chain_is_walked_when_the_own_targets_are_exhausted_and_before_any_wait() -> None:
    world = World({"a": [RATE], "z": [OK]})
    world.chain = (entry("z/m"),)
    rest = Exclusion("a/m", Reason.COOLING, "a", 1005.0, "rate")
    world.replan = lambda: Plan((), (rest,))
    assert world.run(entry("a/m")).is_served
    assert world.asked == ["a", "z"]
    assert not world.waits


def test_no_chain_after_a_fault_of_the_caller() -> None:
    world = World({"a": [failed(FailureClass.CALLER_FAULT, "content_policy")], "z": [OK]})
    world.chain = (entry("z/m"),)
    assert not world.run(entry("a/m")).is_served
    assert world.asked == ["a"]


def test_a_short_rest_of_everybody_is_waited_for() -> None:
    world = World({"a": [RATE, OK]})
    seat = entry("a/m")
    rest = Exclusion("a/m", Reason.COOLING, "a", 1005.0, "rate")
    world.replan = lambda: Plan((seat,)) if world.now >= 1005.0 else Plan((), (rest,))
    verdict = world.run(seat)
    assert verdict.is_served
    assert world.asked == ["a", "a"]
    assert verdict.waited_s == pytest.approx(5.05)
    assert [wait.reason for wait in world.waits] == ["cooldown"]


def test_a_long_rest_is_answered_at_once_with_its_end() -> None:
    world = World({"a": [RATE]})
    rest = Exclusion("a/m", Reason.COOLING, "a", 1031.0, "rate")
    world.replan = lambda: Plan((), (rest,))
    verdict = world.run(entry("a/m"))
    assert not world.waits
    assert verdict.free_at == 1031.0


@pytest.mark.parametrize("reason", [Reason.CREDENTIAL_DEAD, Reason.BREAKER_OPEN, Reason.QUOTA_EXHAUSTED])
def test_what_time_alone_does_not_mend_is_not_waited_for(reason: Reason) -> None:
    world = World({"a": [RATE]})
    world.replan = lambda: Plan((), (Exclusion("a/m", reason, "a", 1001.0),))
    world.run(entry("a/m"))
    assert not world.waits


def test_nobody_waits_for_somebody_who_has_just_failed() -> None:
    world = World(lambda _c, _n: DOWN)
    rest = Exclusion("a/m", Reason.COOLING, "a", 1003.0, "transport")
    world.replan = lambda: Plan((), (rest,))
    verdict = world.run(entry("a/m"))
    assert world.asked == ["a", "a"], "one retry, then the truth"
    assert [wait.reason for wait in world.waits] == ["retry"]
    assert verdict.free_at is None


def test_waits_are_bounded_in_number_and_sum() -> None:
    world = World(lambda _c, _n: RATE)
    seat = entry("a/m")
    ends = {"at": 0.0}

    def again() -> Plan:
        if ends["at"] <= world.now:
            ends["at"] = world.now + 20.0
            return Plan((), (Exclusion("a/m", Reason.COOLING, "a", ends["at"], "rate"),))
        return Plan((), (Exclusion("a/m", Reason.COOLING, "a", ends["at"], "rate"),))

    world.replan = again
    verdict = world.run(seat, limits=Limits(wait_budget_s=30.0))
    assert verdict.waited_s <= 30.0
    assert len(world.waits) == 1
    endless = World(lambda _c, _n: RATE)
    endless.replan = lambda: Plan((), (Exclusion("a/m", Reason.COOLING, "a", endless.now + 1.0, "rate"),))
    endless.run(seat)
    assert len(endless.waits) == 2


def test_waiting_can_be_switched_off() -> None:
    world = World({"a": [RATE]})
    world.replan = lambda: Plan((), (Exclusion("a/m", Reason.COOLING, "a", 1001.0, "rate"),))
    world.run(entry("a/m"), limits=Limits(waits_for_cooldown=False))
    assert not world.waits


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_attempts_and_time_are_bounded() -> None:
    world = World(lambda _c, _n: RATE)
    world.run(*(entry(f"p{i}/m") for i in range(40)), limits=Limits(max_attempts=4))
    assert len(world.asked) == 4
    late = World(lambda _c, _n: RATE, left=0.0)
    assert late.run(entry("a/m")).tried == ()
    assert not late.asked


_OUTCOMES = st.sampled_from(
    [
        DOWN,
        SERVER,
        RATE,
        BAD,
        LONG,
        FULL,
        OK,
        failed(FailureClass.CREDENTIAL, "auth"),
        failed(FailureClass.QUOTA, "quota", retry_after_s=4.0),
        failed(FailureClass.MODEL_UNAVAILABLE, "model_missing", scope=Scope.MODEL),
        failed(FailureClass.TRANSIENT, "generation", scope=Scope.TARGET),
        failed(FailureClass.UNKNOWN),
        PassedOver(Exclusion("t", Reason.COOLING, until=1500.0)),
    ]
)


@given(
    outcomes=st.lists(_OUTCOMES, min_size=1, max_size=60),
    pool=st.lists(st.tuples(st.sampled_from("pqr"), st.integers(1, 4)), min_size=1, max_size=8),
    rests=st.lists(st.floats(0, 40), max_size=6),
    limits=st.builds(
        Limits,
        max_attempts=st.integers(1, 12),
        max_retries=st.integers(0, 3),
        max_set_retries=st.integers(0, 2),
        failover_before_retry=st.booleans(),
        wait_budget_s=st.floats(0, 60),
    ),
)
def test_the_loop_ends_within_its_bounds_whatever_happens(
    outcomes: list[Outcome], pool: list[tuple[str, int]], rests: list[float], limits: Limits
) -> None:
    queue = list(outcomes)
    world = World(lambda _c, _n: queue.pop(0) if queue else RATE)
    entries = [
        entry(f"{provider}/m{i}", *(f"{provider}{i}-{k}" for k in range(count)), window=1000 + i)
        for i, (provider, count) in enumerate(pool)
    ]
    ends = iter(rests)

    def again() -> Plan:
        end = next(ends, None)
        if end is None:
            return Plan(())
        return Plan(tuple(entries), (Exclusion("x", Reason.COOLING, "x", world.now + end, "rate"),))

    world.replan = again
    verdict = world.run(*entries, limits=limits)
    assert len(world.asked) <= limits.max_attempts
    assert sum(wait.seconds for wait in world.waits if wait.reason == "cooldown") <= limits.wait_budget_s + 0.2
    assert len([wait for wait in world.waits if wait.reason == "cooldown"]) <= limits.wait_rounds
    assert len(verdict.tried) + verdict.is_served == len(world.asked)


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([failed(FailureClass.CREDENTIAL), RATE], 1),
        ([SERVER, LONG], 1),
        ([SERVER, failed(FailureClass.TRANSIENT, kind="overloaded")], 1),
        ([SERVER, failed(FailureClass.TRANSIENT, kind="timeout_headers")], 1),
        ([failed(FailureClass.QUOTA, kind="no_credit"), failed(FailureClass.MODEL_UNAVAILABLE)], 1),
        ([failed(FailureClass.TRANSIENT, kind="first"), failed(FailureClass.TRANSIENT, kind="second")], 0),
        ([RATE, SERVER], 1),
        ([RATE, failed(FailureClass.MODEL_UNAVAILABLE)], 0),
        ([BAD, failed(FailureClass.CALLER_FAULT, "content_policy")], 0),
    ],
)
def test_the_failure_that_is_reported(failures: list[Failure], expected: int) -> None:
    world = World(lambda _c, number: failures[number - 1])
    tried = world.run(entry("a/m", window=10), entry("b/m", window=20), limits=Limits(max_retries=0)).tried
    assert most_telling(tried).failure == failures[expected]


# --- somebody beside a slow one ---------------------------------------------------------------------------------------

CANCELLED = failed(FailureClass.CANCELLED, "cancelled")
INVALID = failed(FailureClass.UNKNOWN, "invalid_answer", scope=Scope.TARGET)


class Told:
    """Plays back what a loop is told, and notes what it says."""

    def __init__(self, *entries: Entry, may: Sequence[str] | None = None, rests: Sequence[str] = (), **limits: Any):
        def check(entry: Entry, account: Account) -> Seat | Exclusion:
            if account.id in rests:
                return Exclusion(entry.option.name, Reason.COOLING, account.id)
            return Seat(account)

        around = Surroundings(
            now=lambda: 1000.0,
            left=lambda: 600.0,
            check=check,
            again=lambda: Plan(()),
            may_hedge=lambda _entry, account: may is None or account.id in may,
        )
        rng = random.Random(7)
        self.loop = attempts(
            Plan(entries), structs.replace(Limits(max_retries=0, retry_delay_s=0.0), **limits), around, rng=lambda: rng
        )
        self.said = [self._name(next(self.loop))]
        self.verdict: Verdict | None = None

    def tell(self, *outcomes: Outcome) -> list[str]:
        for outcome in outcomes:
            try:
                self.said.append(self._name(self.loop.send(outcome)))
            except StopIteration as stop:
                self.verdict = stop.value
        return self.said

    @staticmethod
    def _name(step: Step) -> str:
        match step:
            case Attempt(candidate=candidate, number=number, kind=kind):
                return f"{candidate.account.id}{number}" + ("" if kind is Kind.NORMAL else f" {kind.value}")
            case Alone():
                return "alone"
            case Wait():
                return "wait"

    @property
    def tried(self) -> list[str]:
        assert self.verdict is not None
        return [one.candidate.account.id for one in self.verdict.tried]


A, B, C = (entry(f"{name}/m") for name in "abc")


@pytest.mark.parametrize(
    ("outcomes", "said", "is_served", "tried"),
    [
        ([Lagging(), Raced(CANCELLED, OK)], ["a1", "b2 hedge"], True, []),
        ([Lagging(), Raced(OK, CANCELLED)], ["a1", "b2 hedge"], True, []),
        ([Lagging(), Raced(OK, SERVER)], ["a1", "b2 hedge"], True, []),
        ([Lagging(), Raced(SERVER, OK)], ["a1", "b2 hedge"], True, []),
        ([Lagging(), Raced(OK, None)], ["a1", "b2 hedge"], True, []),
        ([Lagging(), Raced(SERVER, None), OK], ["a1", "b2 hedge", "b2"], True, ["a"]),
        ([Lagging(), Raced(SERVER, RATE), OK], ["a1", "b2 hedge", "c3"], True, ["b", "a"]),
        ([Lagging(), Raced(SERVER, RATE), SERVER], ["a1", "b2 hedge", "c3"], False, ["b", "a", "c"]),
        ([Lagging(), Raced(SERVER, FULL), OK], ["a1", "b2 hedge", "b2"], True, ["a"]),
        ([Lagging(), Raced(FULL, OK)], ["a1", "b2 hedge"], True, []),
        ([Lagging(), FULL, Raced(CANCELLED, OK)], ["a1", "b2 hedge", "c2 hedge"], True, []),
        ([Lagging(), FULL, FULL, OK], ["a1", "b2 hedge", "c2 hedge", "alone"], True, []),
        ([Lagging(), FULL, FULL, SERVER, OK], ["a1", "b2 hedge", "c2 hedge", "alone", "b2"], True, ["a"]),
        (
            [Lagging(), Raced(SERVER, failed(FailureClass.CALLER_FAULT, "content_policy"))],
            ["a1", "b2 hedge"],
            False,
            ["b", "a"],
        ),
    ],
)
def test_a_hedge_counts_as_what_it_was(
    outcomes: list[Outcome], said: list[str], is_served: bool, tried: list[str]
) -> None:
    told = Told(A, B, C)
    assert told.tell(*outcomes) == said
    assert told.verdict is not None
    assert told.verdict.is_served is is_served
    assert told.tried == tried


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Told(A), "alone"),
        (Told(A, B, C, may=["c"]), "c2 hedge"),
        (Told(A, B, C, may=[]), "alone"),
        (Told(A, B, C, rests=["b"]), "c2 hedge"),
        (Told(A, B, C, max_attempts=1), "alone"),
        (Told(entry("a/m", "one", "two"), B), "two2 hedge"),
        (Told(entry("a/m", "one"), entry("b/m", "one"), C), "c2 hedge"),
    ],
)
def test_a_hedge_goes_to_the_next_other_connection(told: Told, said: str) -> None:
    assert told.tell(Lagging())[-1] == said


def test_attempts_stay_bounded_with_hedges() -> None:
    told = Told(A, B, C, max_attempts=2)
    assert told.tell(Lagging(), Raced(SERVER, SERVER)) == ["a1", "b2 hedge"]
    assert told.tried == ["b", "a"]


def test_a_slow_one_that_failed_may_be_repeated_like_any_other() -> None:
    told = Told(A, B, max_retries=1, failover_before_retry=False)
    assert told.tell(Lagging(), Raced(SERVER, SERVER), OK) == ["a1", "b2 hedge", "a3 retry"]


@pytest.mark.parametrize(
    ("outcomes", "asked"),
    [([INVALID, OK], ["a", "b"]), ([INVALID, INVALID], ["a", "b"]), ([SERVER, INVALID, OK], ["a", "b", "c"])],
)
def test_an_answer_that_is_not_asked_for_leads_to_one_other_target(outcomes: list[Outcome], asked: list[str]) -> None:
    world = World({name: [outcome] for name, outcome in zip("abc", outcomes, strict=False)})
    world.run(A, B, C, limits=Limits(max_retries=0))
    assert world.asked == asked


def test_another_account_gives_no_other_answer() -> None:
    world = World({"a": [INVALID], "b": [OK]})
    world.run(entry("a/m", "a", "a2"), B)
    assert world.asked == ["a", "b"]


def test_an_answer_is_finished_by_the_next_in_the_plan() -> None:
    first, second = entry("a/m", "one", "two"), entry("b/m", "three")
    broken = Candidate(first, first.seats[0])

    def check(entry: Entry, account: Account) -> Seat | Exclusion:
        return Exclusion(entry.option.name, Reason.COOLING) if account.id == "two" else Seat(account)

    plan = Plan((first, second, C))
    assert [one.account.id for one in continuations(plan, broken, set(), check)] == ["three", "c"]
    assert [one.account.id for one in continuations(plan, broken, {("b/m", "three")}, check)] == ["c"]

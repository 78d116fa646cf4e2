"""The gate: who gets a grant, in which order, and what becomes of the grants of those who leave."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import gevent
import pytest
from gevent.event import Event

from omniroute.gateway.gate import Refused
from omniroute.routing.config import ComboConfig
from omniroute.routing.limits import QueueRules
from omniroute.routing.plan import Reason, Seat
from tests.gateway.gating import START, FakeStore, FakeTime, Request, Worker, account_of, entry_of, settle

FREE = account_of()
MINUTE = account_of(rpm=60)
"""One each second, eleven at once."""
GAP = account_of(gap_ms=1000)
ONE = account_of(places=1)
TWO = account_of(places=2)


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def store(time: FakeTime) -> FakeStore:
    return FakeStore(time.wall)


@pytest.fixture
def worker(time: FakeTime, store: FakeStore) -> Iterator[Worker]:
    one = Worker(time, store)
    yield one
    one.gate.close()
    settle()


def granted(requests: list[Request]) -> list[Request]:
    return [one for one in requests if one.ticket is not None]


def release(*requests: Request) -> None:
    for one in requests:
        assert one.ticket is not None
        one.ticket.release()
    settle()


# --- without limits -------------------------------------------------------------------------------------------------


def test_without_limits_nothing_is_asked_and_nobody_waits(worker: Worker, store: FakeStore) -> None:
    ticket = worker.gate.enter(
        Seat(FREE), entry_of(FREE), request_id="r", key_id="k", patience_s=0, lease_s=60
    )  # here and now: no other greenlet has run

    assert worker.board.in_flight["conn_1"] == 1
    ticket.release()
    ticket.release()
    ticket.release_probes()
    assert worker.board.in_flight["conn_1"] == 0
    assert not store.calls


# --- rates ----------------------------------------------------------------------------------------------------------


def test_a_rate_grants_a_burst_and_then_one_by_one(worker: Worker, time: FakeTime) -> None:
    requests = worker.send_all(100, MINUTE)
    settle()
    assert len(granted(requests)) == 11

    time.advance(10.5)

    assert len(granted(requests)) == 21
    assert [round(one.at) for one in requests[11:21]] == list(range(1, 11))
    assert worker.answered == requests[:21], "first come, first served"
    tickets = [one.ticket for one in requests[:21] if one.ticket is not None]
    assert [(one.waited_s, one.waited_for) for one in tickets[:11]] == [(0, None)] * 11
    assert [one.waited_for for one in tickets[11:]] == [Reason.RPM_FULL] * 10
    assert tickets[20].waited_s == pytest.approx(10, abs=0.1)
    assert worker.gate.stats().waits == 10
    assert worker.gate.stats().grants == 21
    assert worker.gate.stats().waited_s == pytest.approx(55, abs=1)


def test_the_store_is_not_asked_before_it_can_say_yes(worker: Worker, time: FakeTime, store: FakeStore) -> None:
    worker.send_all(50, MINUTE)
    time.advance(10.5)

    assert len(worker.answered) == 21
    assert store.calls["take_pace"] <= 21 + 12, "one refusal for each second"


def test_a_gap_lets_one_start_at_a_time(worker: Worker, time: FakeTime) -> None:
    requests = worker.send_all(5, GAP)
    time.advance(10)

    assert [one.at for one in requests] == pytest.approx([0, 1, 2, 3, 4], abs=0.1)


def test_a_gap_and_a_rate_hold_together(worker: Worker, time: FakeTime) -> None:
    account = account_of(gap_ms=500, rpm=12)  # a gap of 5 s, and three at once
    requests = worker.send_all(6, account)
    time.advance(14.9)

    assert [one.at for one in granted(requests)] == pytest.approx([0, 0.5, 1, 5, 10], abs=0.6)


def test_the_rules_of_all_hold_where_the_connection_has_none(worker: Worker, time: FakeTime) -> None:
    worker.rules = QueueRules(requests_per_minute=60)
    requests = worker.send_all(20, FREE)
    settle()

    assert len(granted(requests)) == 11


def test_several_workers_share_one_rate(time: FakeTime, store: FakeStore) -> None:
    workers = [Worker(time, store, name=f"w{number}") for number in range(4)]
    for worker in workers:
        worker.send_all(100, MINUTE, patience_s=200)
        worker.rules = QueueRules(max_wait_ms=200_000)
    time.advance(120)

    assert 130 <= sum(len(worker.answered) for worker in workers) <= 132
    assert all(worker.answered for worker in workers)
    for worker in workers:
        worker.gate.close()
    settle()


def test_a_raised_limit_is_noticed_by_those_who_wait(worker: Worker, time: FakeTime) -> None:
    worker.rules = QueueRules(requests_per_minute=1, max_wait_ms=300_000)
    requests = worker.send_all(10, FREE, patience_s=300)
    settle()
    assert len(granted(requests)) == 2

    worker.rules = QueueRules(requests_per_minute=60, max_wait_ms=300_000)
    time.advance(1)

    assert len(granted(requests)) == 10


def test_an_edited_connection_is_noticed_by_those_who_wait_for_it(worker: Worker, time: FakeTime) -> None:
    account = account_of(rpm=1)
    worker.rules = QueueRules(max_wait_ms=300_000)
    requests = worker.send_all(10, account, patience_s=300)
    settle()
    assert len(granted(requests)) == 2

    worker.edited[account.id] = account_of(places=5)
    time.advance(0.5)

    assert len(granted(requests)) == 7


# --- patience -------------------------------------------------------------------------------------------------------


def test_without_patience_a_paced_connection_is_passed_over_at_once(worker: Worker, store: FakeStore) -> None:
    requests = worker.send_all(12, MINUTE, patience_s=0)
    settle()

    assert len(granted(requests)) == 11, "all that were free, although they came together"
    refusal = requests[11].refusal
    assert refusal is not None
    assert refusal.reason is Reason.RPM_FULL
    assert refusal.until == pytest.approx(START + 1)
    assert not refusal.is_timeout
    assert refusal.waited_s == 0
    asked = store.calls["take_pace"]
    again = worker.send(MINUTE, patience_s=0)
    settle()
    assert again.refusal is not None
    assert store.calls["take_pace"] == asked, "it was known"
    assert worker.gate.stats().refusals == {"rpm_full": 2}


def test_who_could_only_be_granted_too_late_is_told_at_once(worker: Worker, time: FakeTime) -> None:
    account = account_of(rpm=1)
    worker.send_all(2, account)
    settle()
    late = worker.send(account)
    settle()

    assert late.refusal is not None
    assert late.refusal.until == pytest.approx(START + 60)
    assert late.at == 0


def test_a_wait_ends_when_its_time_is_over(worker: Worker, time: FakeTime) -> None:
    first, second = worker.send(ONE), worker.send(ONE)
    time.advance(14.9)
    assert second.is_waiting
    time.advance(0.2)

    assert second.refusal is not None
    assert second.refusal.reason is Reason.CONCURRENCY_FULL
    assert second.refusal.is_timeout
    assert second.refusal.waited_s == pytest.approx(15)
    assert worker.gate.queues() == ()
    release(first)
    assert worker.board.in_flight["conn_1"] == 0


def test_the_caller_may_have_less_patience_than_the_settings(worker: Worker, time: FakeTime) -> None:
    worker.send(ONE)
    second = worker.send(ONE, patience_s=2)
    time.advance(2.1)

    assert second.refusal is not None
    assert second.at == pytest.approx(2)


def test_a_store_that_does_not_answer_holds_up_only_those_who_have_time(
    worker: Worker, time: FakeTime, store: FakeStore
) -> None:
    store.gate = Event()
    hasty, patient = worker.send(MINUTE, patience_s=0), worker.send(MINUTE, patience_s=10)
    time.advance(3)

    assert hasty.refusal is not None
    assert hasty.refusal.is_timeout
    assert patient.is_waiting
    store.gate.set()
    settle()
    assert patient.ticket is not None
    assert store.calls["take_pace"] == 1, "it took over the grant that was asked for the other"


# --- the queue ------------------------------------------------------------------------------------------------------


def test_one_busy_key_does_not_starve_others(worker: Worker, time: FakeTime) -> None:
    worker.rules = QueueRules(max_wait_ms=60_000)
    worker.send(GAP)
    settle()
    worker.send_all(20, GAP, key="busy")
    worker.send_all(2, GAP, key="calm")
    settle()
    time.advance(4.5)

    assert [one.name for one in worker.answered] == [f"worker-{number}" for number in (1, 2, 22, 3, 23)]


def test_beyond_its_depth_a_queue_refuses_at_once(worker: Worker, time: FakeTime) -> None:
    worker.rules = QueueRules(max_queue_depth=3)
    first = worker.send(ONE)
    settle()
    waiting = worker.send_all(3, ONE)
    settle()
    over = worker.send(ONE)
    settle()

    assert over.refusal is not None
    assert over.refusal.reason is Reason.QUEUE_FULL
    assert all(one.is_waiting for one in waiting)
    release(first)
    assert waiting[0].ticket is not None
    assert worker.gate.stats().refusals == {"queue_full": 1}


def test_a_crowd_that_comes_at_once_is_cut_to_the_depth(worker: Worker) -> None:
    worker.rules = QueueRules(max_queue_depth=3)
    requests = worker.send_all(10, ONE)
    settle()

    assert granted(requests) == requests[:1]
    assert [one.is_waiting for one in requests[1:]] == [True] * 3 + [False] * 6


def test_a_full_queue_makes_room_for_another_key(worker: Worker) -> None:
    worker.rules = QueueRules(max_queue_depth=3)
    worker.send(ONE)
    settle()
    busy = worker.send_all(3, ONE, key="busy")
    settle()
    calm = worker.send(ONE, key="calm")
    settle()

    assert calm.is_waiting
    assert busy[2].refusal is not None
    assert busy[2].refusal.reason is Reason.QUEUE_FULL


def test_the_queues_can_be_looked_at(worker: Worker, time: FakeTime) -> None:
    worker.send_all(13, MINUTE)
    time.advance(0.5)

    (queue,) = worker.gate.queues()

    assert (queue.name, queue.depth, queue.reason) == ("connection:conn_1", 2, "rpm_full")
    assert queue.oldest_wait_s == pytest.approx(0.5)
    assert queue.until == pytest.approx(START + 1)
    free_at, is_full = worker.gate.pressure("conn_1")
    assert free_at == pytest.approx(START + 1)
    assert not is_full
    assert worker.gate.pressure("conn_2") == (0.0, False)


# --- places ---------------------------------------------------------------------------------------------------------


def test_places_are_never_exceeded(time: FakeTime, store: FakeStore) -> None:
    workers = [Worker(time, store, name=f"w{number}") for number in range(3)]
    requests = [one for worker in workers for one in worker.send_all(15, TWO, patience_s=15)]
    served: list[Request] = []
    for _ in range(100):
        time.advance(0.1)
        running = [one for one in granted(requests) if one not in served]
        assert len(running) <= 2
        for one in running:
            assert one.ticket is not None
            one.ticket.release()
            served.append(one)
    time.advance(6)

    assert len(granted(requests)) >= 40
    assert len(granted(requests)) + sum(one.refusal is not None for one in requests) == 45
    for worker in workers:
        worker.gate.close()
    settle()
    assert store.slots["connection:conn_1"] == {}


def test_a_place_that_comes_free_here_is_taken_at_once(worker: Worker, time: FakeTime) -> None:
    first, second, third = worker.send_all(3, ONE)
    settle()
    assert (first.ticket is not None, second.is_waiting) == (True, True)

    release(first)

    assert second.ticket is not None
    assert second.at == 0, "no time has passed"
    assert third.is_waiting
    assert worker.gate.stats().held_slots == 1


def test_a_place_that_comes_free_elsewhere_is_noticed_soon(time: FakeTime, store: FakeStore) -> None:
    here, there = Worker(time, store, name="here"), Worker(time, store, name="there")
    first = there.send(ONE)
    settle()
    second = here.send(ONE)
    time.advance(1)
    assert second.is_waiting

    release(first)
    time.advance(0.31)

    assert second.ticket is not None
    here.gate.close()
    there.gate.close()
    settle()


def test_the_next_request_of_a_client_finds_the_place_of_its_last_one(worker: Worker) -> None:
    for _ in range(3):
        request = worker.send(ONE, patience_s=0)
        settle()
        assert request.ticket is not None
        request.ticket.release()  # and at once the next one, before the store has heard of it

    assert worker.gate.stats().refusals == {}


def test_attempts_of_one_request_are_told_apart(worker: Worker, store: FakeStore) -> None:
    first, second = worker.send(TWO, name="req_1"), worker.send(TWO, name="req_1")
    settle()
    assert store.held("connection:conn_1") == 2

    release(first)

    assert store.held("connection:conn_1") == 1
    release(second)
    assert store.held("connection:conn_1") == 0


def test_leases_are_renewed_while_they_are_held(worker: Worker, time: FakeTime, store: FakeStore) -> None:
    request = worker.send(ONE, lease_s=40)
    settle()
    assert store.slots["connection:conn_1"]["worker-1/1"] == ("worker", START + 70)

    time.advance(600)
    assert store.held("connection:conn_1") == 1
    release(request)
    assert store.held("connection:conn_1") == 0
    renewed = store.calls["renew_slots"]
    time.advance(120)

    assert renewed == 20
    assert store.calls["renew_slots"] == renewed, "nothing is held any more"


def test_what_a_crashed_worker_held_comes_free_by_time(worker: Worker, time: FakeTime, store: FakeStore) -> None:
    store.acquire_slot("connection:conn_1", 1, "gone", "crashed", time.wall() + 10)
    waiting = worker.send(ONE)
    time.advance(9.9)
    assert waiting.is_waiting
    time.advance(0.5)

    assert waiting.ticket is not None


def test_closing_gives_everything_back(time: FakeTime, store: FakeStore) -> None:
    worker = Worker(time, store)
    held = worker.send_all(2, TWO)
    probing = worker.send(account_of("conn_2"), probes=("provider:acme",))
    settle()
    waiting = worker.send(TWO)
    settle()
    assert store.held("connection:conn_1") == 2

    worker.gate.close()
    settle()

    assert store.held("connection:conn_1") == 0
    assert store.claims == {}
    assert len(granted([*held, probing])) == 3
    assert waiting.refusal is not None


# --- places of a combo's step ---------------------------------------------------------------------------------------


def test_a_step_has_places_of_its_own(worker: Worker, store: FakeStore, time: FakeTime) -> None:
    config = ComboConfig(concurrency_per_model=1, queue_timeout_ms=3000, queue_depth=1)
    first = worker.send(FREE, config=config)
    settle()
    second = worker.send(FREE, config=config)
    settle()
    third = worker.send(FREE, config=config)
    elsewhere = worker.send(FREE)
    settle()

    assert store.held("step:combo_1:s1") == 1
    assert third.refusal is not None
    assert third.refusal.reason is Reason.QUEUE_FULL
    assert elsewhere.ticket is not None
    time.advance(3.1)
    assert second.refusal is not None
    assert second.refusal.reason is Reason.CONCURRENCY_FULL
    release(first)
    assert store.held("step:combo_1:s1") == 0


def test_a_step_without_a_queue_refuses_all_that_have_no_place(worker: Worker) -> None:
    config = ComboConfig(concurrency_per_model=1, queue_depth=0)
    requests = worker.send_all(3, FREE, config=config)
    settle()

    assert granted(requests) == requests[:1]
    assert [one.refusal.reason for one in requests[1:] if one.refusal] == [Reason.QUEUE_FULL] * 2


def test_the_place_of_a_step_is_given_back_when_the_connection_refuses(
    worker: Worker, store: FakeStore, time: FakeTime
) -> None:
    config = ComboConfig(concurrency_per_model=5)
    requests = worker.send_all(2, ONE, config=config)
    settle()
    assert store.held("step:combo_1:s1") == 2
    time.advance(15.1)

    assert requests[1].refusal is not None
    assert store.held("step:combo_1:s1") == 1
    release(requests[0])
    assert store.held("step:combo_1:s1") == 0


# --- what was learned -----------------------------------------------------------------------------------------------


def test_a_learned_limit_of_places_holds(worker: Worker) -> None:
    worker.board.lessons["conn_1"] = (2, None)
    requests = worker.send_all(3, FREE)
    settle()

    assert len(granted(requests)) == 2
    release(requests[0])
    assert len(granted(requests)) == 3


def test_a_learned_pause_is_waited_for_without_asking(worker: Worker, time: FakeTime, store: FakeStore) -> None:
    worker.board.lessons["conn_1"] = (None, START + 5)
    patient, hasty = worker.send(FREE), worker.send(FREE, patience_s=0)
    settle()
    assert hasty.refusal is not None
    assert hasty.refusal.reason is Reason.RPM_FULL
    assert hasty.refusal.until == pytest.approx(START + 5)

    time.advance(5.1)

    assert patient.ticket is not None
    assert patient.at == pytest.approx(5, abs=0.05)
    assert not store.calls


def test_a_pause_that_is_taken_back_ends_the_wait(worker: Worker, time: FakeTime) -> None:
    worker.board.lessons["conn_1"] = (None, START + 10)
    request = worker.send(FREE)
    settle()
    worker.board.lessons.clear()
    time.advance(1)

    assert request.ticket is not None


# --- those who leave ------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_frees_its_place_in_the_queue(worker: Worker, time: FakeTime) -> None:
    worker.rules = QueueRules(max_queue_depth=2)
    worker.send(GAP)
    settle()
    second, third = worker.send_all(2, GAP)
    settle()
    second.leave()
    settle()
    assert worker.gate.queues()[0].depth == 1
    fourth = worker.send(GAP)
    settle()
    time.advance(2.1)

    assert [third.at, fourth.at] == pytest.approx([1, 2], abs=0.1)


def test_a_grant_for_somebody_who_left_goes_to_the_next(worker: Worker, store: FakeStore) -> None:
    """The client leaves at the moment when the grant is there and its request does not know yet."""
    first, second, third = worker.send_all(3, GAP)
    store.before_return = first.leave
    settle()

    assert first.ticket is None
    assert (second.ticket is not None, second.at) == (True, 0)
    assert third.is_waiting
    assert worker.board.in_flight["conn_1"] == 1
    assert store.next_at == {"gap:conn_1:1": pytest.approx(START + 1)}, "one grant for both"


def test_a_place_for_somebody_who_left_goes_to_the_next(worker: Worker, store: FakeStore) -> None:
    first, second = worker.send_all(2, ONE)
    store.before_return = first.leave
    settle()

    assert first.ticket is None
    assert (second.ticket is not None, second.at) == (True, 0)
    assert store.held("connection:conn_1") == 1


@pytest.mark.parametrize("rounds", range(12))
def test_whenever_a_client_leaves_no_grant_is_lost(rounds: int, worker: Worker, store: FakeStore) -> None:
    """The first leaves after a few turns of the loop: before, while and after it is granted; the second gets it."""
    account = account_of(gap_ms=60_000, places=1)
    first, second = worker.send_all(2, account, patience_s=15)
    for _ in range(rounds):
        gevent.sleep(0)
    first.leave()
    settle()

    if first.ticket is not None:
        release(first)
        assert second.refusal is not None
    else:
        assert second.ticket is not None
        release(second)
    assert store.held("connection:conn_1") == 0
    assert worker.gate.stats().held_slots == 0
    assert store.calls["take_pace"] <= 2


def test_a_place_won_for_somebody_who_left_meanwhile_is_given_back(worker: Worker, store: FakeStore) -> None:
    store.gate = Event()
    request = worker.send(ONE)
    settle()
    assert store.held("connection:conn_1") == 1, "the store has decided, its answer is on its way"
    request.leave()
    settle()
    assert request.greenlet.dead, "nobody waits for the store"
    store.gate.set()
    store.gate = None
    settle()

    assert store.held("connection:conn_1") == 0
    assert worker.gate.stats().held_slots == 0
    assert worker.board.in_flight["conn_1"] == 0


def test_a_waiting_client_with_a_place_gives_it_back(worker: Worker, store: FakeStore) -> None:
    account = account_of(gap_ms=10_000, places=2)
    first, second = worker.send_all(2, account)
    settle()
    assert store.held("connection:conn_1") == 2, "the second has its place and waits for the gap"

    second.leave()
    settle()

    assert store.held("connection:conn_1") == 1
    release(first)
    assert store.held("connection:conn_1") == 0


def test_random_leavers_leave_nothing_behind(worker: Worker, store: FakeStore, time: FakeTime) -> None:
    account = account_of(rpm=600, places=3)
    requests = worker.send_all(120, account, patience_s=15)
    for number in range(200):
        time.advance(0.05)
        if number % 3 == 0:
            requests[(number * 37) % 120].leave()
        running = [one for one in granted(requests) if one.ticket._gate is not None]  # type: ignore[union-attr]
        assert len(running) <= 3
        for one in running[: number % 3]:
            assert one.ticket is not None
            one.ticket.release()
    time.advance(20)
    for one in granted(requests):
        assert one.ticket is not None
        one.ticket.release()
    settle()

    assert len(granted(requests)) > 60
    assert store.held("connection:conn_1") == 0
    assert worker.board.in_flight["conn_1"] == 0
    assert worker.board.most["conn_1"] == 3
    assert worker.gate.queues() == ()


# --- probes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "reason"),
    [
        ("provider:acme", Reason.BREAKER_PROBE_TAKEN),
        ("connection:conn_1", Reason.COOLING),
        ("model:conn_1:large", Reason.LOCKED_OUT),
        ("score:acme/large", Reason.LOW_SCORE),
    ],
)
def test_one_request_tries_and_the_others_pass_by(time: FakeTime, store: FakeStore, scope: str, reason: Reason) -> None:
    workers = [Worker(time, store, name=f"w{number}") for number in range(4)]
    requests = [one for worker in workers for one in worker.send_all(25, FREE, probes=(scope,))]
    settle()

    (winner,) = granted(requests)
    refusals = [one.refusal for one in requests if one is not winner]
    assert {(one.reason, one.detail) for one in refusals if one} == {(reason, "probe taken")}
    assert all(one is not None for one in refusals)
    assert store.calls["claim"] == 4, "a worker that has lost does not ask for every request"
    release(winner)
    time.advance(0.3)
    again = workers[2].send(FREE, probes=(scope,))
    settle()
    assert again.ticket is not None
    for worker in workers:
        worker.gate.close()
    settle()


def test_all_probes_are_needed(worker: Worker, store: FakeStore) -> None:
    store.claim("connection:conn_1", "somebody", START + 5)
    request = worker.send(FREE, probes=("provider:acme", "connection:conn_1"))
    settle()

    assert request.refusal is not None
    assert request.refusal.reason is Reason.COOLING
    assert set(store.claims) == {"connection:conn_1"}, "what was won before is given back"


def test_a_probe_ends_by_time(worker: Worker, store: FakeStore, time: FakeTime) -> None:
    worker.send(FREE, probes=("provider:acme", "connection:conn_1"), lease_s=120)
    settle()

    assert store.claims["connection:conn_1"][1] == START + 5
    assert store.claims["provider:acme"][1] == START + 125
    time.advance(5)
    second = worker.send(FREE, probes=("connection:conn_1",))
    settle()
    assert second.ticket is not None


def test_a_verdict_lets_others_try_while_the_attempt_goes_on(worker: Worker, store: FakeStore) -> None:
    account = account_of(places=2)
    request = worker.send(account, probes=("provider:acme",))
    settle()
    assert request.ticket is not None
    request.ticket.release_probes()
    request.ticket.release_probes()
    settle()

    assert store.claims == {}
    assert store.held("connection:conn_1") == 1
    release(request)
    assert store.held("connection:conn_1") == 0


def test_the_next_attempt_of_a_request_may_have_the_probe_of_its_last_one(worker: Worker) -> None:
    first = worker.send(FREE, probes=("provider:acme",))
    settle()
    assert first.ticket is not None
    first.ticket.release()
    second = worker.send(FREE, probes=("provider:acme",))
    settle()

    assert second.ticket is not None


def test_a_client_that_leaves_gives_its_probe_back(worker: Worker, store: FakeStore) -> None:
    store.gate = Event()
    request = worker.send(FREE, probes=("provider:acme",))
    settle()
    request.leave()
    settle()
    store.gate.set()
    store.gate = None
    settle()

    assert store.claims == {}


def test_a_probe_is_claimed_when_the_wait_for_a_place_is_over(worker: Worker, store: FakeStore) -> None:
    first = worker.send(ONE)
    settle()
    second = worker.send(ONE, probes=("connection:conn_1",))
    settle()
    assert store.claims == {}

    release(first)

    assert second.ticket is not None
    assert set(store.claims) == {"connection:conn_1"}


# --- a store that fails ---------------------------------------------------------------------------------------------


def test_limits_fail_open_and_probes_do_not(worker: Worker, store: FakeStore, time: FakeTime) -> None:
    store.is_down = True
    paced = worker.send_all(5, account_of(places=1, rpm=1))
    settle()
    probing = worker.send(FREE, probes=("provider:acme",))
    settle()

    assert len(granted(paced)) == 5
    assert probing.refusal is not None
    assert worker.gate.stats().store_failures == 1, "it is left alone for a moment, since each call may take long"
    time.advance(1.1)
    worker.send(MINUTE)
    settle()
    assert worker.gate.stats().store_failures == 2


def test_a_place_that_could_not_be_given_back_is_later(worker: Worker, store: FakeStore, time: FakeTime) -> None:
    first, second = worker.send_all(2, TWO)
    settle()
    store.is_down = True
    release(first)
    assert store.held("connection:conn_1") == 2

    store.is_down = False
    time.advance(31)

    assert set(store.slots["connection:conn_1"]) == {f"{second.name}/2"}
    assert worker.gate.stats().held_slots == 1


def test_those_who_wait_go_on_when_the_store_fails(worker: Worker, store: FakeStore, time: FakeTime) -> None:
    requests = worker.send_all(14, MINUTE)
    settle()
    store.is_down = True
    time.advance(1.1)

    assert len(granted(requests)) == 14


# --- after a rest ---------------------------------------------------------------------------------------------------


def test_woken_requests_go_on_one_by_one(time: FakeTime, store: FakeStore) -> None:
    workers = [Worker(time, store, name=f"w{number}") for number in range(2)]
    woken: list[float] = []

    def wake(worker: Worker, key: str) -> None:
        worker.gate.pace_wakeups("conn_1", key_id=key, patience_s=30)
        woken.append(time.now())

    greenlets = [gevent.spawn(wake, worker, f"k{number % 3}") for worker in workers for number in range(5)]
    time.advance(2)

    assert all(one.dead for one in greenlets)
    assert len(woken) == 10
    assert min(later - sooner for sooner, later in pairwise(woken)) >= 0.099
    assert woken[-1] <= 1.2
    for worker in workers:
        worker.gate.close()
    settle()


def test_a_wake_up_that_comes_too_late_is_refused(worker: Worker, time: FakeTime) -> None:
    late: list[Reason] = []

    def wake() -> None:
        try:
            worker.gate.pace_wakeups("conn_1", key_id="k", patience_s=0.15)
        except Refused as refused:
            late.append(refused.reason)

    gevent.joinall([gevent.spawn(wake)])
    greenlets = [gevent.spawn(wake) for _ in range(3)]
    time.advance(1)

    assert all(one.dead for one in greenlets)
    assert late == [Reason.RPM_FULL] * 2

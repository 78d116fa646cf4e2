from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from omniroute.records import RequestRecord
from omniroute.routing.asked import Asked, Chance
from omniroute.routing.config import ComboConfig
from omniroute.routing.decision import Record, record_from
from omniroute.routing.failures import Failure, FailureClass
from omniroute.routing.options import (
    Account,
    AccountStrategy,
    AuthClass,
    Block,
    Features,
    Option,
    Rates,
    Step,
    Strategy,
)
from omniroute.routing.planning import plan
from omniroute.routing.recorder import Noted, Recorder
from omniroute.routing.view import Breaker, BreakerState, Figures, Rest, Still
from omniroute.routing.whatif import MOST_SAMPLES, Comparison, Policy, Simulation
from tests.routing.worlds import RATE, TRANSIENT, settled

AT = 1_800_000_000.0
CALLER_FAULT = Failure("invalid_request", FailureClass.CALLER_FAULT, status=400)


def account(name: str) -> Account:
    return Account(f"conn_{name}", name, AuthClass.API_KEY, rest_scope=f"connection:conn_{name}")


DEAR = Option("a/dear", "a", "dear", (account("a"),), rates=Rates(10_000.0, 30_000.0))
CHEAP = Option("b/cheap", "b", "cheap", (account("b"),), rates=Rates(100.0, 300.0))
FREE = Option("c/free", "c", "free", (account("c"),), is_unmetered=True)
STEPS = tuple(Step(f"step_{one.provider}", one, name=one.name) for one in (DEAR, CHEAP, FREE))
COMBO = Block(Strategy.PRIORITY, STEPS, scope="combo_1", name="smart")
RECORDER = Recorder(gateway_version="0.4.0")
NUMBERS = iter(range(10**9))


def request(
    *outcomes: Failure | None,
    block: Block = COMBO,
    view: Still | None = None,
    at: float = AT,
    session: str | None = None,
    **changes: Any,
) -> Record:
    """Record a request whose attempts end as said, in the order of its plan; None served."""
    features = Features(requested=block.name, estimated_input=1000, session=session, is_explicit_session=True)
    asked = Asked(features, Noted(view or Still()), at, Chance(1))
    made = plan(block, asked)
    draft = RECORDER.begin(f"req_{next(NUMBERS)}", block, asked, made)
    candidates = [(entry.option.name, seat.account.id) for entry in made.entries for seat in entry.seats]
    target = connection = None
    for (name, account_id), failure in zip(candidates, outcomes, strict=False):
        draft.attempt(name, account_id, started_ms=0, ended_ms=1, content_ms=1, failure=failure)
        if failure is None:
            target, connection = name, account_id
    ended: dict[str, Any] = {} if target else {"outcome": "failed", "status": 502, "ttft_ms": None}
    settled_one: RequestRecord = settled(connection_id=connection, **{**ended, **changes})
    return record_from(draft.finish(settled_one, target=target, is_committed=target is not None).body)


def compared(policy: Policy, *records: Record) -> Comparison:
    simulation = Simulation(policy)
    for record in records:
        simulation.add(record)
    return simulation.result


def test_a_policy_that_changes_nothing_changes_nothing() -> None:
    records = [request(None), request(RATE, None), request(TRANSIENT, TRANSIENT, TRANSIENT)]
    found = compared(Policy(), *records)
    assert (found.requests, found.identical, found.changed_head, found.changed_final, found.assumed) == (3, 3, 0, 0, 0)
    assert found.before == found.after
    assert found.before.failures == 1
    assert found.samples == []


def test_another_strategy_leads_to_an_assumed_outcome() -> None:
    view = Still(figures={"c/free": Figures(16, 20, ttft_p50=80.0)})
    record = request(None, block=COMBO, view=view)
    found = compared(Policy(strategy=Strategy.COST_OPTIMIZED), record)
    assert (found.identical, found.changed_head, found.changed_final, found.assumed) == (0, 1, 1, 1)
    (sample,) = found.samples
    assert sample.why == "cost-optimized puts c/free first."
    assert (sample.before, sample.after) == (("a/dear", "conn_a"), ("c/free", "conn_c"))
    assert sample.is_assumed
    assert found.before.cost_nano == 1000 * 10_000 + 300 * 30_000
    assert found.after.cost_nano == 0
    assert found.after.failures == 0
    # figures are part of the record only where the recorded strategy asked for them
    assert found.failures_assumed == pytest.approx(1 - 4 / 5)
    assert found.before.spent["conn_a"].tokens == 1300
    assert found.after.spent["conn_c"].requests == 1


def test_what_the_view_said_is_what_is_expected() -> None:
    view = Still(figures={"c/free": Figures(16, 20, ttft_p50=80.0)})
    auto = dataclasses.replace(COMBO, strategy=Strategy.COST_OPTIMIZED)
    found = compared(Policy(strategy=Strategy.PRIORITY), request(RATE, RATE, None, block=auto, view=view))
    assert found.assumed == 0  # a/dear was tried last and served
    assert (found.changed_head, found.changed_final) == (1, 0)
    swapped = dataclasses.replace(COMBO, steps=STEPS[::-1])
    found = compared(Policy(combos={"smart": swapped}), request(None, block=auto, view=view))
    assert found.changed_head == 0
    found = compared(Policy(combos={"smart": swapped}), request(None, block=COMBO, view=view))
    assert found.assumed == 1


def test_what_was_tried_has_its_recorded_outcome() -> None:
    record = request(RATE, None)  # a failed, b served
    turned = dataclasses.replace(COMBO, steps=(STEPS[1], STEPS[0]))
    found = compared(Policy(combos={"smart": turned}), record)
    assert (found.changed_head, found.changed_final, found.assumed) == (1, 0, 0)
    assert found.failures_assumed == 0
    assert found.after.ttfts_ms == found.before.ttfts_ms == [120.5]
    assert "conn_a" in found.before.spent
    assert "conn_a" not in found.after.spent


def test_a_fault_of_the_caller_stays_one() -> None:
    turned = dataclasses.replace(COMBO, steps=STEPS[:1])
    found = compared(Policy(combos={"smart": turned}), request(CALLER_FAULT))
    assert (found.before.failures, found.after.failures, found.assumed) == (1, 1, 0)


def test_a_request_whose_client_left_is_nobodys_failure() -> None:
    gone = Failure("client_gone", FailureClass.CANCELLED)
    record = request(gone, outcome="cancelled", status=499)
    found = compared(Policy(strategy=Strategy.ROUND_ROBIN), record)
    assert (found.before.failures, found.after.failures) == (0, 0)


def test_positions_evolve_inside_the_simulation() -> None:
    records = [request(None, at=AT + number) for number in range(6)]
    found = compared(Policy(strategy=Strategy.ROUND_ROBIN), *records)
    assert found.changed_head == 4
    assert {name: one.requests for name, one in found.after.spent.items()} == {"conn_a": 2, "conn_b": 2, "conn_c": 2}


def test_decks_and_uses_evolve_as_well() -> None:
    records = [request(None, at=AT + number) for number in range(9)]
    for strategy in (Strategy.STRICT_RANDOM, Strategy.LEAST_USED):
        found = compared(Policy(strategy=strategy), *records)
        assert {name: one.requests for name, one in found.after.spent.items()} == {
            "conn_a": 3,
            "conn_b": 3,
            "conn_c": 3,
        }, strategy


def test_uses_that_were_recorded_count_without_what_would_have_gone_elsewhere() -> None:
    least = dataclasses.replace(COMBO, strategy=Strategy.LEAST_USED)
    view = Still(uses={("combo_1", "step_a"): 5, ("combo_1", "step_b"): 1})  # what really was used before
    records = [request(None, block=least, view=view, at=AT + number) for number in range(3)]
    found = compared(Policy(combos={"smart": dataclasses.replace(least, steps=STEPS[:2])}), *records)
    assert {name: one.requests for name, one in found.after.spent.items()} == {"conn_b": 3}


def test_a_session_stays_where_the_simulation_served_it() -> None:
    records = [request(None, at=AT + number, session="5e55") for number in range(3)]
    swapped = Policy(combos={"smart": dataclasses.replace(COMBO, steps=STEPS[1:], strategy=Strategy.LKGP)})
    found = compared(swapped, *records)
    assert found.after.spent["conn_b"].requests == 3


def test_other_accounts_may_come_first() -> None:
    two = (account("a"), dataclasses.replace(account("a"), id="conn_a2", priority=2))
    plain = Block(Strategy.PRIORITY, (Step("a/dear", dataclasses.replace(DEAR, accounts=two)),))
    records = [request(None, block=plain, at=AT + number) for number in range(4)]
    assert compared(Policy(strategy=Strategy.RANDOM), *records).identical == 4  # a plain name has no strategy
    found = compared(Policy(account_strategy=AccountStrategy.ROUND_ROBIN, sticky_limit=1), *records)
    assert {name: one.requests for name, one in found.after.spent.items()} == {"conn_a": 2, "conn_a2": 2}


def test_the_account_that_the_simulation_used_last_is_the_last_to_come_again() -> None:
    two = (account("a"), dataclasses.replace(account("a"), id="conn_a2", priority=2))
    plain = Block(Strategy.PRIORITY, (Step("a/dear", dataclasses.replace(DEAR, accounts=two)),))
    records = [request(None, block=plain, at=AT + number) for number in range(4)]
    found = compared(Policy(account_strategy=AccountStrategy.LEAST_USED), *records)
    assert {name: one.requests for name, one in found.after.spent.items()} == {"conn_a": 2, "conn_a2": 2}


def test_settings_bound_the_attempts() -> None:
    record = request(RATE, RATE, None)
    found = compared(Policy(config={"maxAttempts": 2}), record)
    assert (found.changed_head, found.changed_final, found.after.failures) == (0, 1, 1)
    assert found.samples[0].why == "The order behind the first is another one; nobody would have served."


def test_shorter_rests_let_others_in() -> None:
    resting = Still(rests={"conn_a": Rest("cooling", AT + 60, since=AT - 60)})
    hinted = Still(rests={"conn_a": Rest("cooling", AT + 60, since=AT - 60, hint_source="retry-after")})
    halved = Policy(rest_factor=0.5)
    found = compared(halved, request(None, view=resting))
    assert (found.changed_head, found.samples[0].why) == (1, "a/dear was left out then: cooling.")
    assert compared(halved, request(None, view=hinted)).identical == 1
    assert compared(Policy(rest_factor=0.9), request(None, view=resting)).changed_head == 0


def test_breakers_can_be_ignored() -> None:
    broken = Still(breakers={"a": Breaker(BreakerState.OPEN, 8, AT + 30)})
    found = compared(Policy(ignores_breakers=True), request(None, view=broken), request(None))
    assert (found.changed_head, found.identical) == (1, 1)


def test_a_chain_that_served_still_stands_behind() -> None:
    features = Features(requested="smart", estimated_input=10)
    asked = Asked(features, Noted(Still()), AT, Chance(1))
    short = dataclasses.replace(COMBO, steps=STEPS[:1])
    made = plan(short, asked)
    draft = RECORDER.begin("req_chain", short, asked, made)
    draft.attempt("a/dear", "conn_a", started_ms=0, ended_ms=1, failure=RATE)
    spare = Block(Strategy.PRIORITY, STEPS[2:], name="spare")
    other = Asked(features, Noted(Still()), AT, Chance(2))
    draft.chain("spare", spare, other, plan(spare, other))
    draft.attempt("c/free", "conn_c", started_ms=1, ended_ms=2)
    record = record_from(draft.finish(settled(connection_id="conn_c"), target="c/free", is_committed=True).body)
    found = compared(Policy(config={"maxRetries": 0}), record)
    assert (found.changed_head, found.changed_final, found.assumed) == (0, 0, 0)


def test_a_target_can_vanish_and_nothing_can_be_left() -> None:
    gone = dataclasses.replace(COMBO, steps=(Step("step_a", name="a/dear", problem="inactive"),))
    found = compared(Policy(combos={"smart": gone}), request(None))
    assert found.samples[0].why == "Nothing may serve it under the other policy."
    assert found.after.failures == 1
    found = compared(Policy(combos={"smart": dataclasses.replace(COMBO, steps=STEPS[1:])}), request(None))
    assert found.samples[0].why == "a/dear is not part of the other policy."


def test_records_without_a_ground_are_counted_apart() -> None:
    import msgspec

    record = request(None)
    planned = msgspec.structs.replace(record.decision.rounds[0], ground=None)
    bare = dataclasses.replace(record, decision=msgspec.structs.replace(record.decision, rounds=[planned]))
    found = compared(Policy(), bare)
    assert (found.requests, found.skipped) == (0, 1)


def test_unknown_prices_are_counted_and_not_zero() -> None:
    unpriced = dataclasses.replace(DEAR, rates=None)
    block = dataclasses.replace(COMBO, steps=(Step("step_a", unpriced, name=unpriced.name), STEPS[1]))
    found = compared(Policy(strategy=Strategy.COST_OPTIMIZED), request(None, block=block))
    assert (found.before.unpriced, found.after.unpriced) == (1, 0)
    assert found.after.cost_nano == 1000 * 100 + 300 * 300


def test_the_document() -> None:
    records = [request(None, at=AT + number) for number in range(MOST_SAMPLES + 5)]
    shown = compared(Policy(strategy=Strategy.COST_OPTIMIZED), *records).document()
    assert len(shown["samples"]) == MOST_SAMPLES
    assert shown["requests"] == shown["changedHead"] == MOST_SAMPLES + 5
    assert shown["failuresBefore"] == {"known": 0, "assumed": 0}
    assert shown["costBefore"] == pytest.approx(0.019 * (MOST_SAMPLES + 5))
    assert shown["ttftP50MsBefore"] == shown["ttftP95MsBefore"] == 120.5
    assert shown["ttftP50MsAfter"] is None
    assert shown["quotaSpentBefore"] == {"conn_a": {"requests": 25, "tokens": 32_500}}
    assert shown["samples"][0]["before"] == {"target": "a/dear", "connection": "conn_a"}
    assert ComboConfig().max_attempts == 12

"""Budgets, limits and reservations on both databases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omniroute.money.limits import EVERYBODY, Hold, Standing, budget_hold, rate_hold, token_hold
from omniroute.records import Budget, RequestRecord, TokenLimit
from omniroute.storage.database import Database
from omniroute.storage.ledger import Ledger, Places, Verdict
from omniroute.storage.log_writer import LogWriter, drain_spools
from omniroute.storage.repositories.ledger import Crossing
from tests.storage.conftest import NOW, record

USD = 1_000_000_000
DAILY = Budget("key_1", "daily", USD)


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database)


@pytest.fixture
def crossings() -> list[Crossing]:
    return []


@pytest.fixture
def settle(database: Database, data_dir: Path, crossings: list[Crossing]) -> Callable[..., None]:
    """Write requests to the log, as a worker does."""
    writer = LogWriter(database, data_dir / "spool", now=lambda: NOW, on_crossing=crossings.append)

    def put(*records: RequestRecord) -> None:
        for one in records:
            writer.put(one)
        writer.flush()

    return put


def billed(request_id: str, nano_usd: int | None, **more: Any) -> RequestRecord:
    kind = "unpriced" if nano_usd is None else "billed"
    return record(request_id, cost_nano_usd=nano_usd, cost_kind=kind, **more)


def ask(
    ledger: Ledger,
    *holds: Hold,
    request_id: str = "req_1",
    places: tuple[Places, ...] = (),
    now: float = NOW,
    **more: Any,
) -> Verdict:
    return ledger.admit(holds, places, request_id=request_id, owner="worker", now=now, lease_s=60, **more)


def standing(ledger: Ledger, hold: Hold, now: float = NOW) -> Standing:
    return ledger.standings([hold], now)[0]


# --- budgets ---------------------------------------------------------------------------------------------------------


def test_what_a_request_may_cost_is_held_until_its_row_is_there(ledger: Ledger, settle: Callable[..., None]) -> None:
    ledger.set_budgets([DAILY], NOW)
    hold = budget_hold(DAILY, NOW, nano_usd=300)
    assert ask(ledger, hold).refused is None
    assert (standing(ledger, hold).used, standing(ledger, hold).reserved) == (0, 300)
    settle(billed("req_1", 250))
    assert (standing(ledger, hold).used, standing(ledger, hold).reserved) == (250, 0)


def test_the_last_request_may_cross_the_limit_and_the_next_is_refused(
    ledger: Ledger, settle: Callable[..., None]
) -> None:
    ledger.set_budgets([DAILY], NOW)
    settle(billed("req_1", USD - 1))
    assert ask(ledger, budget_hold(DAILY, NOW, USD), request_id="req_2").refused is None
    refused = ask(ledger, budget_hold(DAILY, NOW, 1), request_id="req_3").refused
    assert refused is not None
    assert not refused.is_spent, "somebody else holds what is left"
    settle(billed("req_2", 2 * USD))
    refused = ask(ledger, budget_hold(DAILY, NOW, 1), request_id="req_4").refused
    assert refused is not None
    assert refused.is_spent
    assert refused.used == 3 * USD - 1


def test_only_the_first_refusal_of_a_window_is_told(ledger: Ledger, settle: Callable[..., None]) -> None:
    ledger.set_budgets([DAILY], NOW)
    settle(billed("req_1", USD))
    hold = budget_hold(DAILY, NOW, 1)
    assert [ask(ledger, hold, request_id=f"req_{n}").is_first_refusal for n in (2, 3, 4)] == [True, False, False]
    tomorrow = NOW + 86_400
    settle(billed("req_5", USD, time=tomorrow))
    assert ask(ledger, budget_hold(DAILY, tomorrow, 1), request_id="req_6", now=tomorrow).is_first_refusal


def test_reaching_the_threshold_is_told_once(
    ledger: Ledger, settle: Callable[..., None], crossings: list[Crossing]
) -> None:
    ledger.set_budgets([DAILY], NOW)
    settle(billed("req_1", 799_999_999))
    assert crossings == []
    settle(billed("req_2", 1), billed("req_3", 1))
    settle(billed("req_4", USD))
    assert [(one.budget.scope_id, one.spent_nano_usd) for one in crossings] == [("key_1", 800_000_001)]


def test_a_refused_request_holds_nothing(ledger: Ledger, settle: Callable[..., None]) -> None:
    other = Budget(EVERYBODY, "monthly", 10 * USD)
    ledger.set_budgets([DAILY, other], NOW)
    settle(billed("req_1", USD))
    assert ask(ledger, budget_hold(other, NOW, 5), budget_hold(DAILY, NOW, 5), request_id="req_2").refused is not None
    assert standing(ledger, budget_hold(other, NOW)).reserved == 0


def test_requests_count_for_the_window_in_which_they_began(ledger: Ledger, settle: Callable[..., None]) -> None:
    ledger.set_budgets([DAILY], NOW)
    midnight = budget_hold(DAILY, NOW).window.end
    settle(billed("req_1", 5, time=midnight - 1), billed("req_2", 7, time=midnight))
    assert standing(ledger, budget_hold(DAILY, midnight - 1)).used == 5
    assert standing(ledger, budget_hold(DAILY, midnight)).used == 7


def test_a_clock_that_jumps_back_over_a_reset_finds_what_was_spent_before_it(
    ledger: Ledger, settle: Callable[..., None]
) -> None:
    ledger.set_budgets([DAILY], NOW)
    midnight = budget_hold(DAILY, NOW).window.end
    settle(billed("req_1", USD, time=midnight - 10), billed("req_2", 7, time=midnight + 10))
    assert ask(ledger, budget_hold(DAILY, midnight + 20, 1), request_id="req_3", now=midnight + 20).refused is None
    assert ask(ledger, budget_hold(DAILY, midnight - 5, 1), request_id="req_4", now=midnight - 5).refused is not None


def test_the_budget_of_all_counts_everybody_and_tests_of_connections_count_nowhere(
    ledger: Ledger, settle: Callable[..., None]
) -> None:
    everybody = Budget(EVERYBODY, "daily", USD)
    ledger.set_budgets([everybody, DAILY], NOW)
    settle(
        billed("req_1", 1),
        billed("req_2", 10, api_key_id="key_2"),
        billed("req_3", 100, api_key_id="local"),
        billed("req_4", 1000, kind="test"),
        billed("req_5", None),
        record("req_6", cost_nano_usd=10_000, cost_kind="subscription", extra_nano_usd=5),
    )
    assert standing(ledger, budget_hold(everybody, NOW)).used == 116
    assert standing(ledger, budget_hold(DAILY, NOW)).used == 6
    details = ledger.details([budget_hold(DAILY, NOW)])
    assert [(one["requests"], one["unpriced"]) for one in details.values()] == [(3, 1)]


def test_a_row_that_is_delivered_twice_counts_once(
    ledger: Ledger, database: Database, data_dir: Path, settle: Callable[..., None]
) -> None:
    ledger.set_budgets([DAILY], NOW)
    settle(billed("req_1", 10))
    again = LogWriter(database, data_dir / "spool", now=lambda: NOW)
    again.put(billed("req_1", 10))
    again.put(billed("req_2", 5))
    again.flush()
    assert standing(ledger, budget_hold(DAILY, NOW)).used == 15


def test_what_a_dead_worker_has_settled_counts_and_what_it_only_held_ends(
    ledger: Ledger, database: Database, data_dir: Path
) -> None:
    ledger.set_budgets([DAILY], NOW)
    hold = budget_hold(DAILY, NOW, 100)
    ask(ledger, hold, request_id="req_1")
    ask(ledger, hold, request_id="req_2")
    dead = LogWriter(database, data_dir / "spool", now=lambda: NOW)
    dead.put(billed("req_1", 70))
    dead._spool.close()  # the process ends here
    assert (standing(ledger, hold).used, standing(ledger, hold).reserved) == (0, 200)
    drain_spools(database, data_dir / "spool", now=lambda: NOW)
    assert (standing(ledger, hold).used, standing(ledger, hold).reserved) == (70, 100)
    assert standing(ledger, hold, NOW + 61).reserved == 0


def test_requests_in_flight_are_held_for_longer(ledger: Ledger) -> None:
    ledger.set_budgets([DAILY], NOW)
    hold = budget_hold(DAILY, NOW, 100)
    ask(ledger, hold, request_id="req_1")
    ask(ledger, hold, request_id="req_2")
    ledger.renew(["req_1"], "worker", NOW + 30, 60)
    assert standing(ledger, hold, NOW + 61).reserved == 100
    ledger.forget(["req_1"])
    assert standing(ledger, hold, NOW + 61).reserved == 0


def test_a_budget_that_is_set_later_knows_what_was_spent_before(ledger: Ledger, settle: Callable[..., None]) -> None:
    day = budget_hold(DAILY, NOW).window
    settle(
        billed("req_1", 1, time=day.start - 1),
        billed("req_2", 10, time=day.start),
        billed("req_3", 100, time=NOW),
        billed("req_4", 1000, time=NOW, api_key_id="key_2"),
        billed("req_5", None, time=NOW),
    )
    ledger.set_budgets([DAILY, Budget(EVERYBODY, "daily", USD)], NOW)
    assert standing(ledger, budget_hold(DAILY, NOW)).used == 110
    assert standing(ledger, budget_hold(Budget(EVERYBODY, "daily", USD), NOW)).used == 1110
    half_past = Budget("key_1", "daily", USD, reset_time="00:30")
    settle(billed("req_6", 7, time=day.start + 1000), billed("req_7", 3, time=day.start + 2000))
    ledger.set_budgets([half_past], NOW)
    assert standing(ledger, budget_hold(half_past, NOW)).used == 103


def test_removed_budgets_are_gone_with_what_was_counted(ledger: Ledger, settle: Callable[..., None]) -> None:
    ledger.set_budgets([DAILY], NOW)
    settle(billed("req_1", 10))
    assert ledger.remove_budgets([("key_1", "daily"), ("key_1", "weekly")]) == 1
    assert ledger.budgets() == {}
    assert standing(ledger, budget_hold(DAILY, NOW)).used == 0


# --- token limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope_type", "value", "used"),
    [
        ("global", None, 33),
        ("provider", "oa", 33 - 16),
        ("model", "oa/gpt", 1),
        ("model", "gpt", 1 + 16),
    ],
)
def test_tokens_count_for_the_limits_that_they_concern(
    ledger: Ledger, settle: Callable[..., None], scope_type: str, value: str | None, used: int
) -> None:
    limit = TokenLimit("tl_1", "key_1", scope_type, value, 100, "daily")
    rows = (
        record("req_1", provider="oa", model="gpt", tokens_in=1, tokens_out=None),
        record("req_2", provider="oa", model="other", tokens_in=6, tokens_out=10),
        record("req_3", provider="ant", model="gpt", tokens_in=16, tokens_out=0),
        record("req_4", provider="oa", model="gpt", tokens_in=99, api_key_id="key_2"),
    )
    ledger.set_token_limit(limit, NOW)
    settle(*rows)
    assert standing(ledger, token_hold(limit, NOW)).used == used
    ledger.set_token_limit(limit, NOW)
    assert standing(ledger, token_hold(limit, NOW)).used == used, "counting anew finds the same"


def test_a_limit_of_a_provider_is_held_but_refuses_nobody_here(ledger: Ledger, settle: Callable[..., None]) -> None:
    limit = TokenLimit("tl_1", "key_1", "provider", "oa", 20, "daily")
    ledger.set_token_limit(limit, NOW)
    settle(record("req_1", provider="oa", tokens_in=20, tokens_out=0))
    verdict = ask(ledger, token_hold(limit, NOW, 5), request_id="req_2")
    assert verdict.refused is None
    assert [one.is_open for one in verdict.standings] == [False]
    whole = TokenLimit("tl_2", "key_1", "global", None, 20, "daily")
    ledger.set_token_limit(whole, NOW)
    assert ask(ledger, token_hold(whole, NOW, 5), request_id="req_3").refused is not None


# --- requests, places ------------------------------------------------------------------------------------------------


def test_no_more_requests_than_the_rule_allows_in_any_window(ledger: Ledger) -> None:
    let_in: list[float] = []
    for tick in range(400):
        now = NOW + tick * 0.5
        if ask(ledger, rate_hold("key_1", 10, 30, now), request_id=f"req_{tick}", now=now).refused is None:
            let_in.append(now)
    for start in let_in:
        assert sum(start <= one < start + 30 for one in let_in) <= 10
    assert len(let_in) >= 10 * int(200 / 31)


def test_a_refusal_says_when_the_next_may_come(ledger: Ledger) -> None:
    def rule(now: float) -> Hold:
        return rate_hold("key_1", 2, 60, now)

    ask(ledger, rule(NOW), request_id="req_1")
    ask(ledger, rule(NOW + 10), request_id="req_2", now=NOW + 10)
    refused = ask(ledger, rule(NOW + 20), request_id="req_3", now=NOW + 20).refused
    assert refused is not None
    again_at = refused.resets_at
    assert NOW + 60 <= again_at <= NOW + 62
    assert ask(ledger, rule(again_at - 1.5), request_id="req_4", now=again_at - 1.5).refused is not None
    assert ask(ledger, rule(again_at), request_id="req_5", now=again_at).refused is None


def test_places_are_taken_and_given_back(ledger: Ledger) -> None:
    def place(holder: str) -> tuple[Places, ...]:
        return (Places("key:key_1", 2, holder, 60),)

    assert ask(ledger, request_id="req_1", places=place("req_1")).full is None
    assert ask(ledger, request_id="req_2", places=place("req_2")).full is None
    assert ask(ledger, request_id="req_3", places=place("req_3")).full is not None
    freed = [("key:key_1", "req_1")]
    assert ask(ledger, request_id="req_3", places=place("req_3"), freed=freed).full is None
    ledger.free([("key:key_1", "req_2")])
    assert ask(ledger, request_id="req_4", places=place("req_4")).full is None


def test_who_finds_one_bound_full_takes_no_place_of_another(ledger: Ledger) -> None:
    concurrent = Places("key:key_1", 1, "req_1", 60)
    sessions = Places("sessions:key_1", 0, "abc", 60, is_session=True)
    assert ask(ledger, places=(concurrent, sessions)).full == sessions
    assert ask(ledger, request_id="req_2", places=(Places("key:key_1", 1, "req_2", 60),)).full is None

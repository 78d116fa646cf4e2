"""Cooldowns, lockouts and dead marks: what failures and successes do to them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.routing.failures import Failure, FailureClass, Scope
from omniroute.routing.health import (
    AttemptFailed,
    AttemptServed,
    Cleared,
    ClearedBy,
    Key,
    Kind,
    ProbeEnded,
    is_forgotten,
    scopes_of,
    transition,
)
from omniroute.routing.marks import State
from omniroute.routing.options import Account
from omniroute.routing.plan import Reason
from omniroute.routing.resilience import DEFAULTS, effective
from omniroute.routing.standing import lockout_keys, rest_keys
from omniroute.routing.view import Rest
from tests.routing.resting import (
    AUTH,
    BLOCKED,
    BUSY,
    DAY,
    FORBIDDEN,
    KEY,
    LOCAL,
    MISSING,
    MODEL,
    NO_CREDIT,
    NOW,
    OAUTH,
    QUOTA,
    RATE,
    SERVER,
    Board,
    FullChance,
    NoChance,
    failure,
    until_of,
)

# --- what each failure rests, and how long ---------------------------------------------------------------------------

NOTHING = "nothing"
FOREVER = None
ROWS = [
    # kind, class, more, account -> what rests, reason, seconds
    ("transport", "transient", {}, KEY, "cooldown", 3),
    ("timeout_headers", "transient", {}, KEY, "cooldown", 3),
    ("timeout_content", "transient", {}, OAUTH, "cooldown", 5),
    ("timeout_idle", "transient", {}, LOCAL, "cooldown", 2),
    ("truncated", "transient", {}, KEY, "cooldown", 3),
    ("protocol", "transient", {}, KEY, "cooldown", 3),
    ("context_length", "caller_fault", {"scope": Scope.REQUEST}, KEY, NOTHING, 0),
    ("model_missing", "model_unavailable", {"status": 404, "scope": Scope.MODEL}, KEY, "lockout", 3600),
    ("model_missing", "model_unavailable", {"status": 410, "scope": Scope.MODEL}, KEY, "lockout", FOREVER),
    ("auth", "credential", {"status": 401}, KEY, "dead", FOREVER),
    ("content_policy", "caller_fault", {"scope": Scope.REQUEST}, KEY, NOTHING, 0),
    ("unsupported_param", "caller_fault", {"scope": Scope.TARGET}, KEY, NOTHING, 0),
    ("opaque_token", "caller_fault", {"scope": Scope.REQUEST}, KEY, NOTHING, 0),
    ("generation", "transient", {"scope": Scope.TARGET}, KEY, NOTHING, 0),
    ("entitlement", "model_unavailable", {"scope": Scope.MODEL}, KEY, "lockout", DAY),
    ("invalid_request", "caller_fault", {"status": 400}, KEY, NOTHING, 0),
    ("no_credit", "quota", {"status": 402}, KEY, "dead", 3600),
    ("no_credit", "quota", {"status": 402, "retry_after_s": 10.0, "hint_source": "retry-after"}, KEY, "dead", 3600),
    ("account_blocked", "credential", {"status": 403}, KEY, "dead", FOREVER),
    ("forbidden", "credential", {"status": 403}, KEY, "cooldown", 120),
    ("misconfigured", "model_unavailable", {"scope": Scope.TARGET}, KEY, "lockout", 120),
    ("misconfigured", "model_unavailable", {"scope": Scope.TARGET}, LOCAL, "lockout", 5),
    ("timeout_upstream", "transient", {"status": 408}, KEY, "cooldown", 3),
    ("conflict", "transient", {"status": 409}, KEY, NOTHING, 0),
    ("too_large", "caller_fault", {"status": 413}, KEY, NOTHING, 0),
    ("quota", "quota", {"status": 429}, KEY, "cooldown", 900),
    ("quota", "quota", {"retry_after_s": 7200.0, "hint_source": "body:resets_at"}, OAUTH, "cooldown", 7205),
    ("quota", "quota", {"scope": Scope.MODEL, "window": "some-quota-id"}, KEY, "lockout", 900),
    ("concurrency", "rate_limit", {"status": 429, "retry_after_s": 1.0}, KEY, "cooldown", 1),
    ("overloaded", "transient", {"status": 429, "scope": Scope.MODEL}, KEY, "lockout", 10),
    ("rate", "rate_limit", {"status": 429}, KEY, "cooldown", 3),
    ("rate", "rate_limit", {"status": 429}, OAUTH, "cooldown", 60),
    ("rate", "rate_limit", {"status": 429}, LOCAL, "cooldown", 2),
    ("rate", "rate_limit", {"status": 429, "scope": Scope.MODEL}, KEY, "lockout", 3),
    ("rate", "rate_limit", {"retry_after_s": 40.0, "hint_source": "retry-after"}, KEY, "cooldown", 40.25),
    ("server", "transient", {"status": 500}, KEY, "cooldown", 3),
    ("server", "transient", {"status": 500, "retry_after_s": 40.0, "hint_source": "retry-after"}, KEY, "cooldown", 3),
    ("gateway", "transient", {"status": 502}, KEY, "cooldown", 3),
    ("warming", "transient", {"retry_after_s": 20.0, "hint_source": "x", "scope": Scope.MODEL}, KEY, "lockout", 20.25),
    ("warming", "transient", {"retry_after_s": 120.0, "hint_source": "x", "scope": Scope.MODEL}, KEY, "lockout", 120),
    ("warming", "transient", {"scope": Scope.MODEL}, KEY, "lockout", 10),
    ("overloaded", "transient", {"status": 503}, KEY, "cooldown", 3),
    ("overloaded", "transient", {"retry_after_s": 8.0, "hint_source": "retry-after"}, KEY, "cooldown", 8.25),
    ("cancelled", "cancelled", {}, KEY, NOTHING, 0),
    ("client_gone", "cancelled", {}, KEY, NOTHING, 0),
    ("queue", "local", {}, KEY, NOTHING, 0),
    ("proxy", "local", {"scope": Scope.PROXY}, KEY, NOTHING, 0),
    ("invalid_answer", "unknown", {"scope": Scope.TARGET}, KEY, NOTHING, 0),
    ("unknown", "unknown", {}, KEY, NOTHING, 0),
]


@pytest.mark.parametrize(("kind", "failure_class", "more", "account", "rests", "seconds"), ROWS)
def test_every_kind_of_failure_rests_what_it_reaches(
    kind: str, failure_class: str, more: Mapping[str, Any], account: Account, rests: str, seconds: float | None
) -> None:
    board = Board()
    board.fail(failure(kind, failure_class, **more), account=account)
    kinds = {key[1].value for key in board.rows}
    if rests == NOTHING:
        assert kinds == set()
        assert board.rest(account=account) is None
        return
    assert kinds == {rests}
    rest = board.lockout(account=account) if rests == "lockout" else board.rest(account=account)
    assert rest is not None
    assert rest.kind == kind
    assert until_of(rest) == seconds
    assert not rest.needs_probe


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (RATE, Reason.COOLING),
        (QUOTA, Reason.QUOTA_EXHAUSTED),
        (NO_CREDIT, Reason.NO_CREDIT),
        (AUTH, Reason.CREDENTIAL_DEAD),
        (BLOCKED, Reason.ACCOUNT_BLOCKED),
        (FORBIDDEN, Reason.COOLING),
    ],
)
def test_planning_is_told_the_reason(one: Failure, reason: str) -> None:
    board = Board()
    board.fail(one)
    rest = board.rest()
    assert rest is not None
    assert rest.reason == reason


def test_a_failure_concerns_one_connection_alone() -> None:
    board = Board()
    for one in (NO_CREDIT, AUTH, RATE, QUOTA):
        board.fail(one)
    assert board.rest(account=OAUTH) is None


def test_connections_with_the_same_key_rest_together() -> None:
    twin = replace(KEY, id="conn_b")
    board = Board()
    board.fail(RATE)
    assert board.rest(account=twin) == board.rest(account=KEY)
    board.serve(NOW + 4, account=twin)
    assert board.rest(NOW + 4, account=KEY) is None


def test_what_is_kept_explains_the_rest() -> None:
    board = Board()
    told = failure("rate", "rate_limit", 30.0, status=429, provider_code="slow", message="Slow down.")
    board.fail(told)
    row = board.cooldown()
    assert row.reason == "rate"
    assert dict(row.data) | {"length_s": 0} == {
        "connection": "conn_a", "provider": "groq", "model": MODEL, "class": "rate_limit", "status": 429,
        "code": "slow", "message": "Slow down.", "since": NOW, "run": 1, "length_s": 0, "source": "retry-after",
    }  # fmt: skip
    rest = board.rest()
    assert rest is not None
    assert (rest.hint_source, rest.detail, rest.since) == ("retry-after", "Slow down.", NOW)


# --- how rests grow --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "one", "lengths"),
    [
        (KEY, SERVER, [3, 6, 12, 24, 48, 96, 96]),
        (KEY, RATE, [3, 6, 12, 24, 48, 96, 96]),
        (OAUTH, SERVER, [5, 10, 20, 40, 80, 120, 120]),
        (OAUTH, RATE, [60, 120, 120]),
        (LOCAL, SERVER, [2, 4, 8, 15, 15]),
        (KEY, QUOTA, [900, 1800, 3600, 7200, 14400, 21600, 21600]),
        (KEY, BUSY, [10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800]),
        (KEY, MISSING, [3600, 3600]),
        (KEY, FORBIDDEN, [120, 120]),
    ],
)
def test_rests_double_up_to_their_cap(account: Account, one: Failure, lengths: list[float]) -> None:
    board = Board()
    now, found = NOW, []
    for _ in lengths:
        board.fail(one, now, account)
        rest = board.lockout(now, account) or board.rest(now, account)
        assert rest is not None
        assert rest.until is not None
        found.append(rest.until - now)
        now = rest.until
    assert found == [pytest.approx(length) for length in lengths]


def test_chance_only_adds() -> None:
    for rng, plain, hinted in ((NoChance(), 3.0, 100.25), (FullChance(), 3.3, 102.25)):
        board = Board(rng=rng)
        board.fail(RATE)
        assert until_of(board.rest()) == plain
        board.fail(failure("rate", "rate_limit", 100.0))
        assert until_of(board.rest()) == hinted


def test_ten_failures_at_once_are_one() -> None:
    board = Board()
    for number in range(10):
        board.fail(RATE, NOW + number / 100, started_at=NOW - 1)
    assert board.cooldown().step == 1
    assert until_of(board.rest(NOW + 1), NOW) == pytest.approx(3.09)


def test_a_burst_of_another_worker_that_does_not_know_yet_is_the_same_failure() -> None:
    board = Board()
    board.fail(RATE)
    for number in range(50):
        board.fail(RATE, NOW + 0.5 + number / 100, started_at=NOW + 0.4)
    assert board.cooldown().step == 1
    board.fail(RATE, NOW + 2.9, started_at=NOW + 1.5)
    assert board.cooldown().step == 2


def test_a_late_failure_of_before_the_rest_extends_it_and_does_not_count() -> None:
    board = Board()
    board.fail(SERVER)
    board.fail(SERVER, NOW + 10, started_at=NOW - 5)
    assert board.cooldown().step == 1
    assert until_of(board.rest(NOW + 10), NOW) == 13


def test_a_failure_never_shortens_a_rest() -> None:
    board = Board()
    board.fail(failure("quota", "quota", 5 * DAY))
    before = board.cooldown()
    board.fail(RATE, NOW + 60)
    board.fail(SERVER, NOW + 120)
    assert board.cooldown() == before


def test_two_days_of_rate_limits() -> None:
    """Somebody asks again as soon as may be, and is refused each time: few calls, and no number runs away."""
    board = Board(rng=random.Random(7))
    now, calls = NOW, 0
    while now < NOW + 2 * DAY:
        board.fail(RATE, now)
        calls += 1
        rest = board.rest(now)
        assert rest is not None
        assert rest.until is not None
        assert rest.until - now <= 120 * 1.1
        now = rest.until + 0.001
    assert calls < 2 * DAY / 96 + 10
    assert board.cooldown().step == 5
    board.serve(now)
    assert board.cooldown().is_clear
    board.fail(RATE, now + 1)
    assert board.rest(now + 1) is not None
    assert board.cooldown().step == 1


def test_the_count_falls_with_time() -> None:
    board = Board()
    now = NOW
    for _ in range(4):
        board.fail(SERVER, now)
        now = board.cooldown().until or 0.0
    assert board.cooldown().step == 4
    last = board.cooldown().number("length_s")
    board.fail(SERVER, board.cooldown().number("since") + 2 * last * 2)  # two of four are forgotten
    assert board.cooldown().step == 3
    assert board.cooldown().number("length_s") == pytest.approx(12)


def test_hints_of_rate_limits_can_be_switched_off_and_resets_of_quotas_not() -> None:
    stored = {"connectionCooldown": {"apikey": {"useUpstreamRetryHints": False}}}
    board = Board(effective(stored))
    board.fail(failure("rate", "rate_limit", 500.0))
    assert until_of(board.rest()) == 3
    board.fail(failure("quota", "quota", 500.0))
    assert until_of(board.rest()) == 505


# --- success, and other ends -----------------------------------------------------------------------------------------


def test_success_with_nothing_at_rest_changes_nothing() -> None:
    assert transition({}, AttemptServed(KEY, MODEL), DEFAULTS, NOW, NoChance()) == ([], [])


def test_success_clears_a_cooldown_and_its_count() -> None:
    board = Board()
    board.fail(RATE)
    board.fail(RATE, NOW + 4)
    board.serve(NOW + 11)
    assert board.cooldown().is_clear
    assert board.rest(NOW + 11) is None
    assert board.serve(NOW + 12) == []


def test_success_that_began_before_the_rest_says_nothing_of_it() -> None:
    board = Board()
    board.fail(RATE)
    board.fail(AUTH)
    board.record(AttemptServed(KEY, MODEL, started_at=NOW - 1), NOW + 1)
    rest = board.rest(NOW + 1)
    assert rest is not None
    assert rest.reason == Reason.CREDENTIAL_DEAD
    assert board.cooldown().state is State.RESTING


def test_success_halves_the_count_of_a_lockout() -> None:
    board = Board()
    now = NOW
    for _ in range(5):
        board.fail(BUSY, now)
        now = (board.lockout(now) or Rest("")).until or 0.0
    key = lockout_keys(KEY.id, MODEL)[0]
    assert board.rows[key].step == 5
    board.serve(now)
    assert (board.rows[key].step, board.rows[key].state) == (2, State.SERVED)
    assert board.lockout(now) is None
    board.fail(BUSY, now + 1)
    assert until_of(board.lockout(now + 1), now + 1) == 40
    board.serve(now + 60)
    board.serve(now + 61)
    assert board.rows[key].is_clear


@pytest.mark.parametrize(
    ("by", "cleared"),
    [
        (ClearedBy.OPERATOR, {"cooldown", "dead", "lockout"}),
        (ClearedBy.TEST, {"cooldown", "dead", "lockout"}),
        (ClearedBy.EDIT, {"cooldown", "dead", "lockout"}),
        (ClearedBy.READING, {"cooldown"}),
        (ClearedBy.CATALOGUE, {"lockout"}),
    ],
)
def test_who_may_end_what(by: ClearedBy, cleared: set[str]) -> None:
    board = Board()
    board.fail(QUOTA)
    board.fail(AUTH)
    board.fail(MISSING)
    changed = board.record(Cleared((*rest_keys(KEY), *lockout_keys(KEY.id, MODEL)), by), NOW + 1)
    assert {row.kind.value for row in changed} == cleared
    assert all(row.is_clear for row in changed)


def test_a_reading_with_room_ends_neither_rate_limits_nor_dead_keys_and_brings_credit_back() -> None:
    board = Board()
    board.fail(RATE)
    board.fail(NO_CREDIT)
    changed = board.record(Cleared(rest_keys(KEY), ClearedBy.READING), NOW + 1)
    assert [row.kind for row in changed] == [Kind.DEAD]


def test_a_fresh_list_of_models_brings_back_only_what_was_missing() -> None:
    board = Board()
    board.fail(replace(MISSING, status=410))
    board.fail(failure("entitlement", "model_unavailable"), model="other")
    keys = (*lockout_keys(KEY.id, MODEL), *lockout_keys(KEY.id, "other"))
    board.record(Cleared(keys, ClearedBy.CATALOGUE))
    assert board.lockout() is None
    assert board.lockout(model="other") is not None


def test_a_probe_without_a_verdict_changes_nothing() -> None:
    board = Board()
    board.fail(RATE)
    assert board.record(ProbeEnded("connection:conn_a"), NOW + 4) == []
    rest = board.rest(NOW + 4)
    assert rest is not None
    assert rest.needs_probe


# --- dead ------------------------------------------------------------------------------------------------------------


def test_forbidden_three_times_in_a_row_is_dead() -> None:
    board = Board()
    for number in range(3):
        rest = board.rest(NOW + 200 * number)
        assert rest is None or rest.reason == Reason.COOLING
        board.fail(FORBIDDEN, NOW + 200 * number)
    rest = board.rest(NOW + 400)
    assert rest is not None
    assert (rest.reason, rest.until, rest.kind) == (Reason.CREDENTIAL_DEAD, None, "forbidden")


def test_forbidden_at_once_or_with_something_between_is_not_a_row() -> None:
    board = Board()
    for _ in range(5):
        board.fail(FORBIDDEN, started_at=NOW - 1)
    board.fail(SERVER, NOW + 130)
    board.fail(FORBIDDEN, NOW + 200)
    board.serve(NOW + 330)
    board.fail(FORBIDDEN, NOW + 331)
    rest = board.rest(NOW + 331)
    assert rest is not None
    assert rest.reason == Reason.COOLING


def test_no_credit_is_tried_again_every_hour() -> None:
    board = Board()
    board.fail(NO_CREDIT)
    board.fail(NO_CREDIT, NOW + 5, started_at=NOW - 1)
    assert until_of(board.rest(NOW + 10), NOW) == 3600
    after = board.rest(NOW + 3600)
    assert after is not None
    assert after.needs_probe
    board.fail(NO_CREDIT, NOW + 3700)
    assert until_of(board.rest(NOW + 3700), NOW + 3700) == 3600
    assert len(board.notices) == 1
    board.serve(NOW + 8000)
    assert board.rest(NOW + 8000) is None


def test_a_dead_account_is_told_once_with_the_vendors_link() -> None:
    board = Board()
    board.fail(BLOCKED)
    board.fail(BLOCKED, NOW + 5)
    board.fail(AUTH, NOW + 6)
    assert [notice.event for notice in board.notices] == ["connection.dead"]
    assert board.notices[0].data == {
        "provider": "groq", "connectionId": "conn_a", "reason": "account_blocked", "status": 403,
        "link": "https://vendor.example/verify",
    }  # fmt: skip


def test_a_refused_key_outlasts_a_lack_of_credit() -> None:
    board = Board()
    board.fail(NO_CREDIT)
    board.fail(AUTH, NOW + 1)
    board.fail(NO_CREDIT, NOW + 4000)
    rest = board.rest(NOW + 5000)
    assert rest is not None
    assert (rest.reason, rest.until) == (Reason.CREDENTIAL_DEAD, None)
    assert len(board.notices) == 2


# --- whatever happens ------------------------------------------------------------------------------------------------


def some_failure(row: tuple[str, str, dict[str, Any], Account, str, float], hint: float | None, source: str) -> Failure:
    kind, failure_class, more, *_ = row
    return failure(
        kind, failure_class, **(more if hint is None else more | {"retry_after_s": hint, "hint_source": source})
    )


FAILURES = st.builds(
    some_failure,
    st.sampled_from(ROWS),
    st.none() | st.floats(0.001, 32 * DAY),
    st.sampled_from(["text", "retry-after", "body:resets_at", None]),
)
STEPS = st.lists(st.tuples(FAILURES, st.floats(0, 4000), st.floats(0, 300)), max_size=30)


@given(STEPS, st.sampled_from([KEY, OAUTH, LOCAL]), st.randoms(use_true_random=False))
def test_failures_only_ever_extend(
    steps: list[tuple[Failure, float, float]], account: Account, rng: random.Random
) -> None:
    board = Board(rng=rng)
    now = NOW
    ends: dict[Key, float] = {}
    for one, pause, lasted in steps:
        now += pause
        board.fail(one, now, account, started_at=now - lasted)
        for key, row in board.rows.items():
            until = float("inf") if row.until is None else row.until
            assert until >= ends.get(key, 0.0)
            assert until > now or row.updated_at < now
            assert 0 <= row.step <= 20
            ends[key] = until
            assert not is_forgotten(row, min(until, now))


@given(STEPS, st.lists(st.floats(0, 10_000), min_size=1, max_size=5))
def test_whatever_rested_is_free_after_enough_successes(
    steps: list[tuple[Failure, float, float]], pauses: list[float]
) -> None:
    board = Board(rng=random.Random(1))
    now = NOW
    for one, pause, lasted in steps:
        now += pause
        board.fail(one, now, started_at=now - lasted)
    for pause in (*pauses, *[1.0] * 5):
        now += pause
        board.serve(now)
        assert board.rest(now) is None
        assert board.lockout(now) is None
    assert all(row.is_clear for row in board.rows.values())


@given(STEPS)
def test_caller_faults_and_our_own_limits_never_touch_anything(steps: list[tuple[Failure, float, float]]) -> None:
    ours = {FailureClass.CALLER_FAULT, FailureClass.LOCAL, FailureClass.CANCELLED, FailureClass.UNKNOWN}
    board = Board()
    for one, _, _ in steps:
        if one.failure_class in ours:
            event = AttemptFailed(KEY, MODEL, one, NOW)
            assert scopes_of(event) == ()
            board.record(event)
    assert board.rows == {}

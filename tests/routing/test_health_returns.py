"""How what rests comes back: probes, early tries, families of models, learned limits."""

from __future__ import annotations

import pytest
from msgspec import structs

from omniroute.routing.failures import Scope
from omniroute.routing.families import families_of, family_named
from omniroute.routing.health import (
    AttemptServed,
    is_forgotten,
)
from omniroute.routing.learned import learned_key, learned_of
from omniroute.routing.plan import Reason
from omniroute.routing.resilience import effective
from omniroute.routing.standing import early_probe_at
from omniroute.routing.view import Rest
from tests.routing.resting import (
    DAY,
    KEY,
    MODEL,
    NO_CREDIT,
    NOW,
    OAUTH,
    RATE,
    Board,
    failure,
    until_of,
)

# --- coming back -----------------------------------------------------------------------------------------------------


def test_after_its_end_a_rest_asks_for_a_probe_until_something_was_served() -> None:
    board = Board()
    board.fail(RATE)
    assert board.rest(NOW + 2.9) == structs.replace(board.rest(NOW) or Rest(""), needs_probe=False)
    over = board.rest(NOW + 3)
    assert over is not None
    assert over.needs_probe
    board.serve(NOW + 4)
    assert board.rest(NOW + 4) is None


def test_long_after_its_end_a_rest_is_forgotten() -> None:
    board = Board()
    board.fail(RATE)
    row = board.cooldown()
    assert not is_forgotten(row, NOW + 600)
    assert is_forgotten(row, NOW + 604)
    assert board.rest(NOW + 604) is None


def test_what_blocks_outweighs_what_may_be_probed() -> None:
    board = Board()
    board.fail(NO_CREDIT)
    board.fail(RATE, NOW + 3600)
    rest = board.rest(NOW + 3601)
    assert rest is not None
    assert (rest.reason, rest.needs_probe) == (Reason.COOLING, False)


@pytest.mark.parametrize(
    ("hint", "source", "is_early"),
    [
        (13 * DAY, "text", True),
        (8 * 3600.0, "per-day quota", True),
        (None, None, True),
        (13 * DAY, "body:resets_at", False),
        (13 * DAY, "retry-after", False),
        (13 * DAY, "body:retryDelay", False),
        (590.0, "text", False),
    ],
)
def test_only_long_rests_whose_end_is_a_guess_are_tried_early(
    hint: float | None, source: str | None, is_early: bool
) -> None:
    board = Board()
    board.fail(failure("quota", "quota", hint, source=source))
    row = board.cooldown()
    assert row.until is not None
    probe_at = early_probe_at(row)
    if not is_early:
        assert probe_at is None
        return
    half = NOW + (row.until - NOW) / 2
    assert probe_at == pytest.approx(half)
    before, after = board.rest(half - 1), board.rest(half + 1)
    assert before is not None
    assert after is not None
    assert (before.needs_probe, after.needs_probe) == (False, True)
    assert after.until == row.until


def test_after_half_time_the_next_early_tries_are_half_an_hour_apart() -> None:
    board = Board()
    weak = failure("quota", "quota", 10 * 3600.0, source="text")
    board.fail(weak)
    half = NOW + 5 * 3600 + 3
    board.fail(failure("quota", "quota", 4 * 3600.0, source="text"), half)
    assert early_probe_at(board.cooldown()) == half + 1800
    assert board.cooldown().until == pytest.approx(NOW + 36_005)
    board.fail(failure("quota", "quota", 6 * 3600.0, source="text"), half + 1900)
    assert early_probe_at(board.cooldown()) == half + 1900 + 1800
    assert board.cooldown().until == pytest.approx(half + 1900 + 21_605)
    board.serve(half + 4000)
    assert board.rest(half + 4000) is None


def test_what_a_plan_lacks_is_not_tried_early() -> None:
    board = Board()
    board.fail(failure("entitlement", "model_unavailable", scope=Scope.MODEL))
    rest = board.lockout(NOW + DAY - 1)
    assert rest is not None
    assert not rest.needs_probe


# --- families --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "model", "family"),
    [
        ("7d_opus", "claude-opus-4-7", "opus"),
        ("seven_day_opus", "anthropic/claude-opus-4-7", "opus"),
        ("opus weekly", "claude-opus-4-7", "opus"),
        ("7d_opus", "claude-sonnet-4-6", None),
        ("7d", "claude-opus-4-7", None),
        ("five_hour", "claude-opus-4-7", None),
        ("free-models-per-day", "meta/llama-3.3:free", "free"),
        ("free-models-per-day", "meta/llama-3.3", None),
        ("pro weekly", "gemini-2.5-pro", None),
        ("primary", "gpt-5.1-codex", None),
        ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "gemini-2.5-flash", None),
    ],
)
def test_windows_name_families(window: str, model: str, family: str | None) -> None:
    assert family_named(window, model) == family


def test_a_family_window_rests_its_models_on_that_connection_only() -> None:
    board = Board()
    opus = failure("quota", "quota", DAY, window="7d_opus", scope=Scope.MODEL, source="body:resets_at")
    board.fail(opus, account=OAUTH, model="claude-opus-4-7")
    assert until_of(board.lockout(account=OAUTH, model="claude-opus-4-6")) == DAY + 5
    assert board.lockout(account=OAUTH, model="claude-sonnet-4-6") is None
    assert board.lockout(account=KEY, model="claude-opus-4-7") is None
    assert board.rest(account=OAUTH) is None
    board.serve(NOW + 10, account=OAUTH, model="claude-sonnet-4-6")
    assert board.lockout(NOW + 10, account=OAUTH, model="claude-opus-4-7") is not None
    board.serve(NOW + 20, account=OAUTH, model="claude-opus-4-6")
    assert board.lockout(NOW + 20, account=OAUTH, model="claude-opus-4-7") is None


def test_families_of_a_model_are_few() -> None:
    assert families_of("anthropic/claude-opus-4-7:free") == ("anthropic", "claude", "opus", "free")
    assert len(families_of("abc-" + "-".join("xyz" + chr(97 + n) for n in range(26)))) == 12


# --- learned limits --------------------------------------------------------------------------------------------------


def test_a_concurrency_limit_is_learned_for_ten_minutes() -> None:
    board = Board()
    busy = failure("concurrency", "rate_limit", status=429)
    board.fail(busy, in_flight=5)
    key = learned_key(KEY.id)
    assert learned_of(board.rows[key], NOW) == (4, None)
    board.fail(busy, NOW + 60, in_flight=9)
    assert learned_of(board.rows[key], NOW + 60) == (4, None)
    board.serve(NOW + 70)
    assert learned_of(board.rows[key], NOW + 659) == (4, None)
    assert learned_of(board.rows[key], NOW + 661) == (None, None)
    assert is_forgotten(board.rows[key], NOW + 661)
    board.fail(busy, NOW + 700, in_flight=1)
    assert learned_of(board.rows[key], NOW + 700) == (1, None)


def test_a_spent_window_of_an_answer_that_serves_pauses() -> None:
    board = Board()
    board.record(AttemptServed(KEY, MODEL, paused_until=NOW + 20))
    assert learned_of(board.rows[learned_key(KEY.id)], NOW + 19) == (None, NOW + 20)
    assert board.record(AttemptServed(KEY, MODEL, paused_until=NOW + 20.5), NOW + 1) == []
    assert board.record(AttemptServed(KEY, MODEL, paused_until=NOW + 2), NOW + 1.5) == []
    board.record(AttemptServed(KEY, MODEL, paused_until=NOW + 40 * DAY), NOW + 1)
    assert learned_of(board.rows[learned_key(KEY.id)], NOW + 2) == (None, NOW + 3601)


def test_learning_can_be_switched_off() -> None:
    board = Board(effective({"rateLimitDetection": {"enabled": False}}))
    board.fail(failure("concurrency", "rate_limit"), in_flight=5)
    board.record(AttemptServed(KEY, MODEL, paused_until=NOW + 20), NOW + 5)
    assert learned_key(KEY.id) not in board.rows

"""The breaker: its table row by row, and a check against a simple model over random histories."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniroute.routing.breaker import breaker_key, breaker_of, multiplier
from omniroute.routing.failures import Failure, FailureClass, Scope, counts_for_breaker
from omniroute.routing.health import (
    Cleared,
    ClearedBy,
    Event,
    HealthRow,
    Notice,
    ProbeEnded,
    ProviderFailed,
    ProviderServed,
    is_forgotten,
    scopes_of,
    transition,
)
from omniroute.routing.options import AuthClass
from omniroute.routing.resilience import DEFAULTS, ResilienceSettings, effective
from omniroute.routing.view import Breaker, BreakerState

NOW = 1_800_000_000.0
DOWN = Failure("server", FailureClass.TRANSIENT, status=500)
LIMITED = Failure("rate", FailureClass.RATE_LIMIT, status=429)


class Provider:
    """One breaker as a store would keep it."""

    def __init__(self, auth: AuthClass = AuthClass.LOCAL, rules: ResilienceSettings = DEFAULTS) -> None:
        self.auth = auth
        self.rules = rules
        self.row: HealthRow | None = None
        self.notices: list[Notice] = []

    def record(self, event: Event, now: float) -> bool:
        key = breaker_key("p")
        before = {} if self.row is None else {key: self.row}
        changed, notices = transition(before, event, self.rules, now, random.Random(0))
        assert [row.key for row in changed] in ([], [key])
        self.notices += notices
        self.row = changed[0] if changed else self.row
        return bool(changed)

    def fail(self, now: float, failure: Failure = DOWN, started_at: float | None = None) -> bool:
        return self.record(ProviderFailed("p", self.auth, failure, started_at=started_at or now), now)

    def serve(self, now: float, started_at: float | None = None) -> bool:
        return self.record(ProviderServed("p", started_at=started_at or now), now)

    def seen(self, now: float) -> Breaker:
        return breaker_of(self.row, now, self.rules)

    def opened(self, now: float = NOW) -> Provider:
        while self.seen(now).state is BreakerState.CLOSED:
            self.fail(now)
        return self


def test_success_of_a_healthy_provider_changes_nothing() -> None:
    assert transition({}, ProviderServed("p"), DEFAULTS, NOW, random.Random(0)) == ([], [])
    assert scopes_of(ProviderServed("p")) == (breaker_key("p"),)


def test_closed_counts_and_success_begins_anew() -> None:
    provider = Provider(AuthClass.API_KEY)
    for number in range(11):
        provider.fail(NOW + number)
    assert provider.seen(NOW + 11) == Breaker(failures=11, is_degraded=True)
    provider.serve(NOW + 12)
    assert provider.seen(NOW + 12) == Breaker()
    assert provider.row is not None
    assert provider.row.is_clear
    assert not provider.serve(NOW + 13)


@pytest.mark.parametrize(
    ("auth", "threshold", "degraded_at", "lengths"),
    [
        (AuthClass.OAUTH, 8, 5, [60, 60, 120, 240, 480, 480]),
        (AuthClass.API_KEY, 12, 7, [30, 30, 30, 60, 120, 120]),
        (AuthClass.LOCAL, 2, 1, [15, 30, 60, 60]),
    ],
)
def test_opens_at_the_threshold_and_longer_each_time(
    auth: AuthClass, threshold: int, degraded_at: int, lengths: list[float]
) -> None:
    provider = Provider(auth)
    for number in range(1, threshold):
        provider.fail(NOW)
        seen = provider.seen(NOW)
        assert (seen.state, seen.failures) == (BreakerState.CLOSED, number)
        assert seen.is_degraded is (number >= degraded_at)
    provider.fail(NOW)
    now, found = NOW, []
    for _ in lengths:
        seen = provider.seen(now)
        assert seen.state is BreakerState.OPEN
        assert seen.until is not None
        found.append(seen.until - now)
        now = seen.until
        assert provider.seen(now).state is BreakerState.HALF_OPEN
        provider.fail(now)
    assert found == lengths


def test_half_open_closes_with_a_probe_that_serves() -> None:
    provider = Provider().opened()
    provider.fail(NOW + 15)
    assert provider.serve(NOW + 50)
    assert provider.seen(NOW + 50) == Breaker()
    assert [notice.event for notice in provider.notices] == [
        "circuit_breaker.opened",
        "circuit_breaker.opened",
        "circuit_breaker.closed",
    ]
    assert provider.notices[0].data == {
        "provider": "p",
        "failures": 2,
        "lastError": {"class": "transient", "status": 500},
        "until": NOW + 15,
        "multiplier": 1,
    }
    assert provider.notices[1].data["multiplier"] == 2
    assert provider.notices[2].data == {"provider": "p", "openSeconds": 50.0, "by": "probe"}
    provider.opened(NOW + 60)
    assert provider.seen(NOW + 60).until == NOW + 75, "the multiplier begins anew"


@pytest.mark.parametrize(
    "without_verdict",
    [
        ProbeEnded("provider:p"),
        ProviderFailed("p", AuthClass.LOCAL, LIMITED),
        ProviderFailed("p", AuthClass.LOCAL, Failure("invalid_request", FailureClass.CALLER_FAULT, status=400)),
        ProviderFailed("p", AuthClass.LOCAL, Failure("client_gone", FailureClass.CANCELLED)),
    ],
)
def test_a_probe_without_a_verdict_leaves_it_half_open(without_verdict: Event) -> None:
    provider = Provider().opened()
    assert not provider.record(without_verdict, NOW + 20)
    assert provider.seen(NOW + 20).state is BreakerState.HALF_OPEN


def test_those_that_were_on_their_way_say_nothing() -> None:
    provider = Provider().opened()
    for now in (NOW + 5, NOW + 20):
        assert not provider.fail(now, started_at=NOW - 30)
        assert not provider.serve(now, started_at=NOW - 30)
    assert provider.seen(NOW + 20).state is BreakerState.HALF_OPEN


def test_the_operator_closes_whatever_its_state() -> None:
    for now in (NOW + 1, NOW + 20):
        provider = Provider().opened()
        provider.record(Cleared((breaker_key("p"),), ClearedBy.OPERATOR), now)
        assert provider.seen(now) == Breaker()
        assert provider.notices[-1].data["by"] == "operator"
    counting = Provider()
    counting.fail(NOW)
    counting.record(Cleared((breaker_key("p"),), ClearedBy.OPERATOR), NOW)
    assert counting.seen(NOW) == Breaker()
    assert counting.notices == []


@pytest.mark.parametrize("by", [ClearedBy.TEST, ClearedBy.READING, ClearedBy.CATALOGUE, ClearedBy.EDIT])
def test_nobody_else_closes_it(by: ClearedBy) -> None:
    provider = Provider().opened()
    assert not provider.record(Cleared((breaker_key("p"),), by), NOW)


def test_old_failures_are_not_in_a_row_with_new_ones() -> None:
    provider = Provider()
    provider.fail(NOW)
    provider.fail(NOW + 601)
    assert provider.seen(NOW + 601) == Breaker(failures=1, is_degraded=True)
    assert provider.row is not None
    assert is_forgotten(provider.row, NOW + 601 + 601)
    provider.fail(NOW + 1201)
    assert provider.seen(NOW + 1201).state is BreakerState.OPEN


def test_limits_never_open_it() -> None:
    provider = Provider()
    for number in range(1000):
        provider.fail(NOW + number / 10, LIMITED)
        provider.fail(NOW + number / 10, Failure("overloaded", FailureClass.TRANSIENT, status=429, scope=Scope.MODEL))
    assert provider.row is None


def test_thresholds_are_settings() -> None:
    rules = effective({"providerBreaker": {"local": {"failureThreshold": 4, "degradationThreshold": 0}}})
    provider = Provider(rules=rules)
    for _ in range(3):
        provider.fail(NOW)
    assert provider.seen(NOW) == Breaker(failures=3)
    provider.fail(NOW)
    assert provider.seen(NOW).state is BreakerState.OPEN


def test_multipliers_stay_in_bounds() -> None:
    rule = replace(DEFAULTS.breaker.oauth, max_multiplier=1000)
    assert [multiplier(rule, openings) for openings in (1, 2, 3, 12, 10_000)] == [1, 1, 2, 1000, 1000]


COUNTS = {
    ("transport", "transient", None): True,
    ("timeout_headers", "transient", None): True,
    ("timeout_content", "transient", None): True,
    ("timeout_idle", "transient", None): True,
    ("truncated", "transient", None): True,
    ("protocol", "transient", 200): True,
    ("generation", "transient", 400): False,
    ("timeout_upstream", "transient", 408): True,
    ("timeout_upstream", "transient", 425): False,
    ("timeout_upstream", "transient", 499): False,
    ("conflict", "transient", 409): False,
    ("overloaded", "transient", 429): False,
    ("overloaded", "transient", 503): True,
    ("overloaded", "transient", 529): True,
    ("warming", "transient", 503): False,
    ("server", "transient", 500): True,
    ("gateway", "transient", 502): True,
    ("unknown", "unknown", 418): True,
    ("unknown", "unknown", 429): False,
    ("invalid_answer", "unknown", 200): False,
    ("internal", "unknown", None): False,
    ("auth", "credential", 401): False,
    ("quota", "quota", 429): False,
    ("no_credit", "quota", 402): False,
    ("rate", "rate_limit", 429): False,
    ("model_missing", "model_unavailable", 404): False,
    ("invalid_request", "caller_fault", 400): False,
    ("client_gone", "cancelled", None): False,
    ("queue", "local", None): False,
}


@pytest.mark.parametrize(("what", "counts"), COUNTS.items())
def test_what_counts(what: tuple[str, str, int | None], counts: bool) -> None:
    kind, failure_class, status = what
    assert counts_for_breaker(Failure(kind, FailureClass(failure_class), status=status)) is counts


def test_every_class_has_a_say() -> None:
    assert {FailureClass(failure_class) for _, failure_class, _ in COUNTS} == set(FailureClass)


def test_a_model_without_capacity_does_not_count_whatever_its_status() -> None:
    assert not counts_for_breaker(Failure("overloaded", FailureClass.TRANSIENT, status=503, scope=Scope.MODEL))


# --- against a model -------------------------------------------------------------------------------------------------


@dataclass
class Reference:
    """The state table, word for word, with its third state written down."""

    threshold: int
    reset_s: float
    free: int
    most: int
    state: str = "closed"
    times: list[float] = field(default_factory=list)
    openings: int = 0
    until: float = 0.0

    def look(self, now: float) -> str:
        if self.state == "open" and now >= self.until:
            self.state = "half_open"
        return self.state

    def outcome(self, what: str, now: float) -> None:
        state = self.look(now)
        if what == "reset" or (what == "served" and state != "open"):
            self.state, self.times, self.openings = "closed", [], 0
        elif what == "failed" and state == "half_open":
            self._open(now)
        elif what == "failed" and state == "closed":
            self.times = [time for time in self.times if now - time <= 600] + [now]
            if len(self.times) >= self.threshold:
                self._open(now)

    def _open(self, now: float) -> None:
        self.openings += 1
        times = 1
        for _ in range(self.openings - self.free):
            times = min(times * 2, self.most)
        self.state, self.until, self.times = "open", now + self.reset_s * times, []


OUTCOMES = st.lists(
    st.tuples(
        st.sampled_from(["failed", "failed", "failed", "served", "limited", "caller", "gone", "look", "reset"]),
        st.sampled_from([0.0, 0.5, 5.0, 14.0, 16.0, 61.0, 250.0, 601.0]),
    ),
    max_size=120,
)
WITHOUT_VERDICT = {
    "limited": LIMITED,
    "caller": Failure("invalid_request", FailureClass.CALLER_FAULT, status=400),
    "gone": Failure("client_gone", FailureClass.CANCELLED),
}


@settings(max_examples=400)
@given(OUTCOMES, st.sampled_from(list(AuthClass)))
def test_every_history_ends_as_the_table_says(history: list[tuple[str, float]], auth: AuthClass) -> None:
    rule = DEFAULTS.breaker.of(auth)
    expected = Reference(rule.threshold, rule.reset_ms / 1000, rule.multiplier_after, rule.max_multiplier)
    provider = Provider(auth)
    now = NOW
    for what, pause in history:
        now += pause
        match what:
            case "failed":
                provider.fail(now)
            case "served":
                provider.serve(now)
            case "reset":
                provider.record(Cleared((breaker_key("p"),), ClearedBy.OPERATOR), now)
            case "look":
                pass
            case _:
                assert not provider.fail(now, WITHOUT_VERDICT[what])
        expected.outcome(what, now)
        seen = provider.seen(now)
        assert seen.state.value == expected.look(now)
        if seen.state is BreakerState.CLOSED:
            assert seen.failures == len([time for time in expected.times if now - time <= 600])
        else:
            assert seen.until == expected.until
    opened = [notice for notice in provider.notices if notice.event == "circuit_breaker.opened"]
    assert len(provider.notices) - len(opened) <= len(opened)

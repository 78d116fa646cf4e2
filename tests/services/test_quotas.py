"""Asking providers for quotas: whose turn it is, what is asked over real sockets, what comes of it."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import NotFound
from omniroute.gateway.quotas import ENDPOINT
from omniroute.records import GrantWindow, QuotaReading
from omniroute.routing.events import AttemptFailed
from omniroute.routing.failures import Failure, FailureClass
from omniroute.routing.view import Rest
from omniroute.services.keys import SYSTEM
from omniroute.services.quotas import LEAST_GAP_S, MOST_A_LOOK, ProviderQuotas, due_at
from omniroute.settings import Settings
from tests.blueprints.app import App, whole_app
from tests.fakes.upstream import Act, FakeUpstream, answer, fake_upstream, hang_up, silence

KEY = "sk-usage-0123456789abcdef"
INTERVAL = 4200.0
HOUR = 3600.0
FIVE_HOURS = 18_000.0


def plan(percent: float, resets_in: float = 9000.0) -> bytes:
    """A report in the shape of GLM."""
    resets_at = int((time.time() + resets_in) * 1000)
    limits = [{"type": "TOKENS_LIMIT", "unit": 3, "percentage": percent, "nextResetTime": resets_at}]
    return json.dumps({"code": 200, "data": {"level": "pro", "limits": limits}}).encode()


# --- whose turn it is


@pytest.mark.parametrize(
    ("last", "rest", "due"),
    [
        (-math.inf, None, -math.inf),
        (0.0, None, INTERVAL),
        # a rest for lack of quota is looked at when it begins, and after each quarter
        (0.0, Rest("quota_exhausted", until=11_000.0, kind="quota", since=1000.0), 1000.0),
        (1000.0, Rest("quota_exhausted", until=11_000.0, kind="quota", since=1000.0), 3500.0),
        (3500.0, Rest("quota_exhausted", until=11_000.0, kind="quota", since=1000.0), 6000.0),
        (8600.0, Rest("quota_exhausted", until=11_000.0, kind="quota", since=1000.0), 11_000.0),
        # never sooner than five minutes after the last look
        (900.0, Rest("quota_exhausted", until=11_000.0, kind="quota", since=1000.0), 1200.0),
        (1000.0, Rest("quota_exhausted", until=1100.0, kind="quota", since=1000.0), 1300.0),
        # long rests are looked at as often as everybody
        (1000.0, Rest("quota_exhausted", until=900_000.0, kind="quota", since=1000.0), 1000 + INTERVAL),
        # without credit: every hour
        (1000.0, Rest("no_credit", until=4600.0, kind="no_credit", since=1000.0), 1000 + HOUR),
        (1000.0, Rest("no_credit", until=None, kind="quota", since=1000.0), 1000 + HOUR),
        # other rests are no matter of quota
        (0.0, Rest("cooling", until=11_000.0, kind="rate", since=1000.0), INTERVAL),
    ],
)
def test_when_a_connection_is_asked_next(last: float, rest: Rest | None, due: float) -> None:
    assert due_at(last, rest, INTERVAL) == due


@given(
    st.floats(0, 1e6),
    st.one_of(st.none(), st.tuples(st.floats(0, 1e6), st.one_of(st.none(), st.floats(0, 1e6)))),
    st.floats(60, 1e5),
)
def test_nobody_is_asked_more_often_than_every_five_minutes(
    last: float, span: tuple[float, float | None] | None, interval: float
) -> None:
    rest = None if span is None else Rest("quota_exhausted", until=span[1], kind="quota", since=span[0])
    assert due_at(last, rest, interval) >= last + LEAST_GAP_S
    assert due_at(last, rest, interval) <= max(last + interval, last + LEAST_GAP_S, 0 if span is None else span[0])


# --- over real sockets


@dataclasses.dataclass
class Site:
    """A gateway with a provider of the operator's own, whose reports are in the shape of GLM."""

    app: App
    upstream: FakeUpstream
    pauses: list[float]

    @property
    def service(self) -> ProviderQuotas:
        return self.app.own.quotas

    def connect(self, name: str = "Main", key: str = KEY, **fields: Any) -> str:
        made = self.app.own.connections.create({"provider": "mine", "apiKey": key, "name": name, **fields}, SYSTEM)
        return made.id

    def asked(self) -> list[str]:
        return [request.headers["authorization"] for request in self.upstream.received]

    def used(self, connection_id: str) -> float | None:
        windows = self.app.own.routing.board.load_of(connection_id).windows
        return windows[0].used if windows else None


@pytest.fixture
def site(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    with ExitStack() as stack:

        def make(*acts: Act, **changes: Any) -> Site:
            upstream = stack.enter_context(fake_upstream(*acts))
            row = {
                "id": "mine",
                "tier": "subscription",
                "urls": {"openai_chat": upstream.url + "/v1/chat/completions"},
                "usage_url": upstream.url + "/usage",
                "usage_shape": "glm",
                "is_local": True,
            }
            file = tmp_path / "providers.json"
            file.write_text(json.dumps({"providers": [row]}))
            built = stack.enter_context(
                whole_app(settings, providers_file=file, provider_limits_sync_spacing_ms=0, **changes)
            )
            pauses: list[float] = []
            built.own.quotas._sleep = pauses.append
            return Site(built, upstream, pauses)

        yield make


def test_each_connection_is_asked_with_its_key(site: Callable[..., Site]) -> None:
    made = site(answer(plan(25)))
    one, other = made.connect("One"), made.connect("Other", KEY + "x")
    made.service.run_due()
    assert made.upstream.received[0].head.startswith(b"GET /usage HTTP/1.1")
    assert made.asked() == [KEY, KEY + "x"]
    assert (made.used(one), made.used(other)) == (0.25, 0.25)
    states = {state.connection.id: state for state in made.service.states()}
    assert set(states) == {one, other}
    assert (states[one].plan, states[one].problem) == ("pro", None)
    assert states[one].windows[0].reading.source == ENDPOINT
    made.service.run_due()
    assert len(made.asked()) == 2, "their turn is over"
    assert made.pauses == [0.0], "between two"


def test_a_look_asks_thirty_at_most_and_the_next_one_the_others(site: Callable[..., Site]) -> None:
    made = site(answer(plan(25)))
    ids = {made.connect(f"c{number}", f"{KEY}{number}") for number in range(MOST_A_LOOK + 3)}
    made.service.run_due()
    assert len(made.asked()) == MOST_A_LOOK
    made.service.run_due()
    assert len(set(made.asked())) == len(ids)


@pytest.mark.parametrize("changes", [{"provider_limits_sync_interval_minutes": 0}])
def test_it_can_be_switched_off_and_asked_by_hand(site: Callable[..., Site], changes: dict[str, Any]) -> None:
    made = site(answer(plan(25)), **changes)
    one = made.connect()
    made.service.run_due()
    assert made.asked() == []
    assert [state.connection.id for state in made.service.sync()] == [one]
    assert made.used(one) == 0.25


def test_who_is_inactive_or_has_no_report_is_not_asked(site: Callable[..., Site]) -> None:
    made = site(answer(plan(25)))
    one = made.connect()
    made.app.own.connections.set_active([one], False, SYSTEM)
    made.app.own.connections.create({"provider": "groq", "apiKey": KEY}, SYSTEM)
    made.service.run_due()
    assert (made.asked(), made.service.states()) == ([], [])


def test_what_was_asked_by_an_earlier_leader_is_not_asked_again(site: Callable[..., Site]) -> None:
    made = site(answer(plan(25)))
    one = made.connect()
    made.service.run_due()
    made.service._asked_at.clear()
    made.service.run_due()
    assert (len(made.asked()), made.used(one)) == (1, 0.25)


@pytest.mark.parametrize(
    ("act", "problem"),
    [
        (answer(b"no", status=401), "The provider does not let this key see its quota."),
        (answer(b"no", status=500), "The provider answered with status 500."),
        (answer(b"{}", headers={"Location": "http://127.0.0.1:1/"}, status=302), "status 302"),
        (answer(b"<html>"), "The answer is not JSON."),
        (answer(b"{}"), "The report lacks its data."),
        (answer(b'{"data": {"limits": [' + b" " * 300_000 + b"]}}"), "cannot be read"),
        (hang_up, "cannot be read"),
    ],
)
def test_a_provider_that_says_nothing_useful_changes_nothing(site: Callable[..., Site], act: Act, problem: str) -> None:
    made = site(answer(plan(25)), act)
    one = made.connect()
    made.service.run_due()
    state = made.service.sync()[0]
    assert state.problem is not None
    assert problem in state.problem
    assert KEY not in state.problem
    assert "127.0.0.1" not in state.problem
    assert made.used(one) == 0.25
    made.upstream.acts[:] = [answer(plan(30))]
    assert made.service.sync()[0].problem is None


def test_a_provider_that_does_not_answer_is_left_in_time(
    site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    from omniroute.services import quotas

    monkeypatch.setattr(quotas, "_DEADLINES", dataclasses.replace(quotas._DEADLINES, headers_s=0.05, total_s=0.1))
    made = site(silence)
    made.connect()
    assert made.service.sync()[0].problem == "The provider did not answer in time."


def test_a_spent_plan_rests_its_connection_and_room_ends_that(site: Callable[..., Site]) -> None:
    made = site(answer(plan(100)), answer(plan(10)))
    one = made.connect()
    made.service.run_due()
    rest = made.app.own.connections.standing_of(made.app.own.connections.get(one))
    assert (rest.status, rest.reason) == ("cooling", "quota")
    assert rest.until == pytest.approx(time.time() + 9005, abs=5)
    made.service.sync()
    assert made.app.own.connections.standing_of(made.app.own.connections.get(one)).status is None


def test_a_quota_failure_makes_it_somebodys_turn(site: Callable[..., Site]) -> None:
    made = site(answer(plan(10)))
    one = made.connect()
    made.service.run_due()
    account = made.app.own.directories.current.accounts_of("mine")[0]
    failure = Failure("quota", FailureClass.QUOTA, status=429, retry_after_s=86_400.0)
    made.app.own.routing.board.record(AttemptFailed(account, "m", failure, time.time()))
    made.service.run_due()
    assert len(made.asked()) == 1, "five minutes have not passed"
    later = time.time() + LEAST_GAP_S + 1
    made.service._now = lambda: later
    made.service.run_due()
    assert len(made.asked()) == 2
    assert made.app.own.connections.standing_of(made.app.own.connections.get(one)).status is None


def test_a_live_look_asks_once_in_ten_seconds(site: Callable[..., Site]) -> None:
    made = site(answer(plan(10)))
    one = made.connect()
    assert [made.service.live(one).windows[0].reading.window.used for _ in range(3)] == [0.1] * 3
    assert len(made.asked()) == 1
    with pytest.raises(NotFound):
        made.service.live("conn_none")


def test_a_new_key_forgets_what_the_old_one_had(site: Callable[..., Site]) -> None:
    made = site(answer(plan(10)))
    one = made.connect()
    made.service.sync()
    made.app.own.connections.change(one, {"apiKey": KEY + "new"}, SYSTEM)
    assert made.used(one) is None
    assert made.app.own.routing.store.load_quotas() == ()


def test_a_state_shows_reserve_and_forecast(site: Callable[..., Site]) -> None:
    made = site(answer(plan(10)))
    one = made.connect()
    now = time.time()
    account = made.app.own.directories.current.accounts_of("mine")[0]
    for ago, used in ((HOUR, 0.2), (0.0, 0.6)):
        window = GrantWindow("5h", used, length_s=FIVE_HOURS, resets_at=now + 9000)
        made.app.own.routing.quotas.note_report(account, [QuotaReading(one, window, now - ago, ENDPOINT)])
        made.app.own.routing.quotas.flush()
    state = made.service.states()[0].windows[0]
    assert state.reserve == pytest.approx(0.1)
    assert state.forecast is not None
    # 60 % in the 2.5 hours since the window began
    assert state.forecast.exhausted_at == pytest.approx(now + 9000 * 0.4 / 0.6, abs=5)
    assert state.forecast.lapses == 0.0

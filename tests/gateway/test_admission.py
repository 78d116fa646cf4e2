"""Requests of callers with budgets and limits, from the store to what the client is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gevent
import pytest

from omniroute.errors import BudgetExceeded, InternalError, OmniRouteError, RateLimited, StorageError
from omniroute.gateway.admission import LEASE_S, Admission
from omniroute.gateway.handover import ClientGone
from omniroute.money.limits import EVERYBODY, Standing, budget_hold
from omniroute.records import ApiKey, Budget, PriceRow, RateRule, Snapshot, TokenLimit
from omniroute.services.access import Caller, CallerKind, ModelRules
from omniroute.storage.database import Database
from omniroute.storage.ledger import Ledger
from omniroute.storage.log_writer import LogWriter
from omniroute.storage.schema import ensure_schema
from tests.fakes.upstream import answer, fake_upstream, silence, stream
from tests.gateway.conftest import Bench
from tests.gateway.test_inference import HELLO, STREAMED, WHOLE, completion, drink, refused

Make = Callable[..., Bench]
NOW = 1_800_000_000.0
USD = 1_000_000_000
PRICES = (PriceRow("node_up", "m", "override", 0.0, 0.0, input="1000", output="1000"),)
"""A tenth of a cent a token: an answer of `completion()` costs 11 of them."""
COST = 11 * USD // 1000


@dataclass
class World:
    """A service whose caller is limited, over a real store and a clock of the test's."""

    bench: Bench
    ledger: Ledger
    writer: LogWriter
    admission: Admission
    refusals: list[Standing]
    now: float = NOW
    paused_s: float = 0.0

    def limit(
        self,
        *,
        budgets: tuple[Budget, ...] = (),
        limits: tuple[TokenLimit, ...] = (),
        settings: dict[tuple[str, str], Any] | None = None,
        **rules: Any,
    ) -> None:
        key = ApiKey(
            id="key_1",
            name="k",
            key_id="k",
            key_hash=b"",
            key_prefix="",
            key_last4="",
            scopes=frozenset({"chat"}),
            created_at=NOW,
            updated_at=NOW,
            **rules,
        )
        self.bench.caller = Caller(CallerKind.KEY, key, "key_1", "k", ModelRules())
        self.ledger.set_budgets(budgets, self.now)
        for limit in limits:
            self.ledger.set_token_limit(limit, self.now)
        self.admission.rebuild(
            Snapshot(2, budgets=self.ledger.budgets(), token_limits=self.ledger.token_limits(), settings=settings or {})
        )

    def refuse(self, **more: Any) -> OmniRouteError:
        with pytest.raises(OmniRouteError) as caught:
            self.bench.call(HELLO, **more)
        return caught.value

    def written(self) -> None:
        """Wait for the log, as a quarter of a second does."""
        for record in self.bench.log.records:
            self.writer.put(replace(record, time=self.now))
        self.writer.flush()


@pytest.fixture
def world_of(bench_of: Make, tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(*upstreams: Any, prices: tuple[PriceRow, ...] = PRICES, **more: Any) -> World:
        database = Database(f"sqlite:///{tmp_path / 'storage.sqlite'}")
        ensure_schema(database, backup=lambda _: None, log=logging.getLogger("test"), data_dir=tmp_path)
        ledger, refusals = Ledger(database), list[Standing]()

        def pause(seconds: float) -> None:
            world.paused_s += seconds
            gevent.sleep(0)

        bench = bench_of(*upstreams, is_local=False, prices=prices, **more)
        admission = Admission(ledger=ledger, wall=lambda: world.now, sleep=pause, on_refused=refusals.append)
        bench.inference.admission = admission
        bench.inference.sleep = pause
        writer = LogWriter(database, tmp_path / "spool", now=lambda: world.now)
        world = World(bench, ledger, writer, admission, refusals)
        made.append(world)
        return world

    yield make
    for world in made:
        world.admission.close()
        world.writer.stop()
        world.ledger._database.dispose()


def daily(usd: float, scope: str = "key_1") -> Budget:
    return Budget(scope, "daily", int(usd * USD))


def test_a_caller_without_limits_is_not_looked_at(world_of: Callable[..., World]) -> None:
    with fake_upstream(answer(completion())) as upstream:
        world = world_of(upstream)
        world.admission._ledger = None  # type: ignore[assignment]
        opened = world.bench.call(HELLO)
    assert opened.status == 200
    assert "X-OmniRoute-Budget-Remaining" not in opened.headers


def test_an_answer_says_what_is_left_and_a_spent_budget_refuses(world_of: Callable[..., World]) -> None:
    with fake_upstream(answer(completion()), answer(completion())) as upstream:
        world = world_of(upstream)
        world.limit(budgets=(daily(0.015),))
        first = world.bench.call(HELLO)
        world.written()
        second = world.bench.call(HELLO)
        world.written()
        error = world.refuse()
    assert first.headers["X-OmniRoute-Budget-Remaining"] == "0.015"
    assert second.headers["X-OmniRoute-Budget-Remaining"] == "0.004"
    assert isinstance(error, BudgetExceeded)
    assert (error.http_status, error.error_code, error.should_retry) == (402, "budget_exceeded", False)
    assert error.extras == {
        "scope": "key",
        "period": "daily",
        "limit_usd": 0.015,
        "spent_usd": 0.022,
        "resets_at": "2027-01-16T00:00:00Z",
    }
    assert "2027-01-16T00:00:00Z" in error.message
    assert [one.hold.scope_id for one in world.refusals] == ["key_1"]
    assert len(upstream.received) == 2
    assert [record.cost_nano_usd for record in world.bench.log.records[:2]] == [COST, COST]
    refusal = world.bench.log.records[2]
    assert (refusal.status, refusal.error_code, refusal.decision is not None) == (402, "budget_exceeded", True)


def test_what_others_hold_is_not_spent_twice(world_of: Callable[..., World]) -> None:
    with fake_upstream(stream(*WHOLE[:2], end=False)) as upstream:
        world = world_of(upstream)
        world.limit(budgets=(daily(0.01), daily(5, EVERYBODY)))
        opened = world.bench.call(STREAMED)
        assert not isinstance(opened.body, bytes)
        assert next(iter(opened.body))
        error = world.refuse()
        opened.body.close()
    assert isinstance(error, BudgetExceeded)
    assert error.should_retry
    assert error.retry_after_s == 2
    assert error.extras["spent_usd"] == 0
    assert error.extras["reserved_usd"] > 0.01
    assert world.refusals[0].hold.scope_id == "key_1"
    world.written()
    spent = world.ledger.standings([budget_hold(daily(0.01), NOW)], NOW)[0]
    assert spent.reserved == 0
    assert spent.used > 0, "an answer that was left is paid for"


def test_the_budget_of_the_server_says_so(world_of: Callable[..., World]) -> None:
    with fake_upstream() as upstream:
        world = world_of(upstream)
        world.limit(budgets=(daily(0, EVERYBODY),))
        error = world.refuse()
    assert error.extras["scope"] == "server"
    assert "this server" in error.message


def test_a_model_of_unknown_price_needs_the_operators_word(world_of: Callable[..., World]) -> None:
    with fake_upstream(answer(completion())) as upstream:
        world = world_of(upstream, prices=())
        world.limit(budgets=(daily(1),))
        error = world.refuse()
        world.limit(budgets=(daily(1),), settings={("budgets", "unpriced"): "allow"})
        opened = world.bench.call(HELLO)
    assert (error.http_status, error.error_code) == (402, "price_unknown")
    assert opened.status == 200
    assert world.bench.log.records[-1].cost_kind == "unpriced"


def test_a_failed_request_lets_go_of_what_it_held(world_of: Callable[..., World]) -> None:
    with fake_upstream(refused(400, "bad", "invalid_request_error"), answer(completion())) as upstream:
        world = world_of(upstream)
        world.limit(budgets=(daily(0.01),))
        assert world.bench.call(HELLO).status == 400
        world.written()
        assert world.bench.call(HELLO).status == 200


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_limit_refuses_until_its_window_ends(world_of: Callable[..., World]) -> None:
    with fake_upstream(answer(completion()), answer(completion())) as upstream:
        world = world_of(upstream)
        world.limit(limits=(TokenLimit("tl_1", "key_1", "global", None, 11, "daily"),))
        assert world.bench.call(HELLO).status == 200
        world.written()
        error = world.refuse()
        world.now = NOW + 86_400
        again = world.bench.call(HELLO)
    assert isinstance(error, RateLimited)
    assert (error.http_status, error.extras["limit"], error.should_retry) == (429, "tokens", False)
    assert error.retry_after_s == budget_hold(daily(1), NOW).window.end - NOW
    assert again.status == 200


def test_a_limit_of_a_model_leaves_the_others(world_of: Callable[..., World]) -> None:
    with fake_upstream(answer(completion()), answer(completion())) as one, fake_upstream(answer(completion())) as two:
        world = world_of(one, two, combo=("up/m", "up/other"))
        world.limit(limits=(TokenLimit("tl_1", "key_1", "model", "up/m", 11, "daily"),))
        mixed = {**HELLO, "model": "mix"}
        served = []
        for _ in range(2):
            served.append(world.bench.call(mixed).headers["X-OmniRoute-Model"])
            world.written()
        error = world.refuse()
    assert served == ["up/m", "up/other"]
    assert error.http_status == 429
    assert "up/m" in error.message


# --- requests, places, delays ----------------------------------------------------------------------------------------


def test_a_rule_of_requests_says_how_many_are_left(world_of: Callable[..., World]) -> None:
    with fake_upstream(*[answer(completion())] * 3) as upstream:
        world = world_of(upstream)
        world.limit(rate_limits=(RateRule(2, 60), RateRule(100, 3600)))
        left = [world.bench.call(HELLO).headers["X-RateLimit-Remaining"] for _ in range(2)]
        error = world.refuse()
        world.now += 61
        again = world.bench.call(HELLO)
    assert left == ["1", "0"]
    assert error.extras["limit"] == "requests"
    assert error.headers["X-RateLimit-Limit"] == "2"
    assert 59 <= (error.retry_after_s or 0) <= 61
    assert again.headers["X-RateLimit-Remaining"] == "1"


def test_one_at_a_time_serves_one_after_the_other_at_once(world_of: Callable[..., World]) -> None:
    with fake_upstream(*[answer(completion())] * 5, stream(*WHOLE[:2], 1.0)) as upstream:
        world = world_of(upstream)
        world.limit(max_concurrent=1)
        assert [world.bench.call(HELLO).status for _ in range(5)] == [200] * 5
        assert world.paused_s == 0, "nobody waits for a place that is free"
        opened = world.bench.call(STREAMED)
        error = world.refuse()
        assert not isinstance(opened.body, bytes)
        opened.body.close()
    assert error.extras["limit"] == "concurrency"
    assert world.paused_s > 0, "another worker's place may have become free"


def test_no_more_sessions_than_allowed(world_of: Callable[..., World]) -> None:
    with fake_upstream(*[answer(completion())] * 4) as upstream:
        world = world_of(upstream)
        world.limit(max_sessions=2)

        def call(session: str) -> int:
            body = {**HELLO, "user": session, "prompt_cache_key": session}
            return world.bench.call(body).status

        assert [call("a"), call("b"), call("a")] == [200, 200, 200]
        with pytest.raises(RateLimited) as caught:
            call("c")
        world.now += 1900
        assert call("c") == 200
    assert caught.value.extras["limit"] == "sessions"


def test_a_delay_comes_before_the_provider_is_asked(world_of: Callable[..., World]) -> None:
    with fake_upstream(answer(completion())) as upstream:
        world = world_of(upstream)
        world.limit(throttle_delay_ms=1500)
        assert world.bench.call(HELLO).status == 200
    assert world.paused_s == 1.5


# --- when the store fails --------------------------------------------------------------------------------------------


def test_whoever_has_limits_is_refused_when_they_cannot_be_checked(world_of: Callable[..., World]) -> None:
    with fake_upstream(answer(completion())) as upstream:
        world = world_of(upstream)
        world.limit(budgets=(daily(1),))

        def fail(*_: object, **__: object) -> None:
            raise StorageError

        world.ledger.admit = fail  # type: ignore[assignment,method-assign]
        error = world.refuse()
        world.limit(throttle_delay_ms=1)
        world.ledger.remove_budgets([("key_1", "daily")])
        world.limit()
        opened = world.bench.call(HELLO)
    assert isinstance(error, InternalError)
    assert (error.http_status, error.error_code) == (503, "policy_unavailable")
    assert opened.status == 200


def test_a_client_that_leaves_gives_its_place_back(world_of: Callable[..., World]) -> None:
    with fake_upstream(silence, answer(completion())) as upstream:
        world = world_of(upstream)
        world.limit(max_concurrent=1)

        def leave() -> None:
            with pytest.raises(ClientGone):
                world.bench.call(STREAMED)

        leaving = gevent.spawn(leave)
        gevent.sleep(0.05)
        world.bench.client.close()
        leaving.join(5)
        assert world.bench.log.records
        assert world.bench.call(HELLO).status == 200


def test_what_is_in_flight_is_held_on(world_of: Callable[..., World]) -> None:
    with fake_upstream(stream(*WHOLE[:2], end=False)) as upstream:
        world = world_of(upstream)
        world.limit(budgets=(daily(1),))
        opened = world.bench.call(STREAMED)
        held = world.ledger.standings([budget_hold(daily(1), NOW)], NOW)[0].reserved
        world.ledger.renew(tuple(world.admission._live), "any", NOW + LEASE_S - 1, LEASE_S)
        later = world.ledger.standings([budget_hold(daily(1), NOW)], NOW + LEASE_S + 1)[0].reserved
        data = drink(opened)
    assert held == later > 0
    assert b"hello" in data

"""Breakers, fairness, sessions, quotas and size, over hours of traffic."""

from __future__ import annotations

import random
import statistics
from collections import Counter, defaultdict
from functools import partial
from itertools import pairwise

import pytest

from omniroute.routing.asked import AccountRules, Asked, Chance
from omniroute.routing.config import effective
from omniroute.routing.decision import record_from
from omniroute.routing.explain import text
from omniroute.routing.marks import BREAKER_CLOSED, BREAKER_OPENED, Kind, connection_scope
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
from omniroute.routing.plan import Reason
from omniroute.routing.planning import plan
from omniroute.routing.prepared import EXPANDED, MOST_SCORED
from omniroute.routing.recorder import Noted
from omniroute.routing.view import Figures, Rest, Still
from tests.routing.ledger import Ended
from tests.routing.simulator import World, options_of, sessions
from tests.routing.upstreams import (
    DOWN,
    NO_CREDIT,
    RATE_LIMITED,
    REFUSED,
    UNAUTHORIZED,
    Always,
    Flaky,
    PerMinute,
    Quota,
    Reply,
    Site,
)
from tests.routing.worlds import settled

HOUR = 3600.0


def assert_sound(world: World) -> None:
    """Whatever happens, these hold."""
    ledger = world.ledger
    assert ledger.inside_rests == [], "a call of what rests"
    assert ledger.needless == [], "a client saw an error although somebody would have served"
    assert ledger.astray == [], "served by something nobody chose"
    assert ledger.mismatches == [], "a recorded decision is decided differently"


# --- how breakers go


def test_a_breaker_opens_probes_one_at_a_time_and_closes() -> None:
    """Row 11: a provider that fails for everybody is left alone, looked at by one request at a time, and taken back."""
    with World(workers=4, verifies=0.1) as world:
        down = Always(DOWN, until=world.time.wall() + 400)
        world.accounts("acme", 3, site=lambda _n: Site([down]))
        world.combo("smart", Strategy.PRIORITY, [world.option("acme"), world.option("spare")])
        world.traffic("smart", per_second=1.5)
        world.run(600)
        events = [(at, notice.event) for at, notice in world.ledger.notices if notice.event.startswith("circuit")]
        assert [event for _, event in events[-1:]] == [BREAKER_CLOSED]
        assert {event for _, event in events} == {BREAKER_OPENED, BREAKER_CLOSED}
        assert 400 <= events[-1][0] <= 400 + 4 * 30 + 5, "taken back within its longest rest"
        opened = [at for at, event in events if event == BREAKER_OPENED]
        assert min(later - sooner for sooner, later in pairwise(opened)) >= 30
        assert world.ledger.failed == []
        probes = {call.request: call.at for call in world.ledger.probes if opened[0] < call.at < 400}
        assert len(probes) == len(opened) - 1 + (events[-1][0] < 400)
        late = [one for one in world.ledger.ended if one.began_at > 550]
        assert {one.served_by for one in late} == {"acme/large"}
        assert_sound(world)


def test_limits_of_accounts_never_open_a_breaker() -> None:
    """Row 11: 429s are no sign that a provider is down, however many there are."""
    with World(workers=4) as world:
        world.accounts("acme", 8, site=lambda _n: Site([PerMinute(2, None)]))
        world.combo("smart", Strategy.PRIORITY, [world.option("acme"), world.option("spare")])
        world.traffic("smart", per_second=2)
        world.run(300)
        assert Counter(call.status for call in world.ledger.calls)[429] > 50
        assert [row for row in world.store.health.values() if row.kind is Kind.BREAKER] == []
        assert world.ledger.notices == []
        assert_sound(world)


def test_a_provider_with_one_account_that_flaps_stays_in_use() -> None:
    """Row 11: a success ends the count, so that one failure in three never opens a breaker."""
    with World(workers=2) as world:
        rng = random.Random(5)
        world.accounts("acme", 4, site=lambda _n: Site([Flaky(DOWN, 0.3, rng)]))
        world.combo("smart", Strategy.PRIORITY, [world.option("acme"), world.option("spare")])
        world.traffic("smart", per_second=1)
        world.run(600)
        assert world.ledger.failed == []
        assert world.ledger.notices == []
        by = Counter(one.served_by for one in world.ledger.ended)
        assert by["acme/large"] > 0.5 * len(world.ledger.ended)
        assert_sound(world)


def test_a_probe_that_begins_to_answer_lets_all_others_in() -> None:
    """Row 11: the breaker closes at the probe's first content, not when its answer of minutes is over."""
    with World(workers=2) as world:
        down = Always(DOWN, until=world.time.wall() + 60)
        world.accounts("ollama", auth=AuthClass.LOCAL, site=lambda _n: Site([down], whole_s=200))
        name = world.plain(world.option("ollama"))
        world.traffic(name, per_second=0.5)
        world.run(250)
        closed = next(at for at, notice in world.ledger.notices if notice.event == BREAKER_CLOSED)
        assert 60 <= closed <= 60 + 60 + 5
        assert [one for one in world.ledger.failed if one.began_at > closed + 6] == []


# --- no hot loop, no starvation


@pytest.mark.parametrize(
    "reply", [DOWN, REFUSED, RATE_LIMITED, NO_CREDIT, UNAUTHORIZED], ids=["500", "refused", "429", "402", "401"]
)
def test_nothing_is_called_in_a_loop_when_everything_fails(reply: Reply) -> None:
    """Rows 5 and 8: when every leg fails for good, calls die down, whatever the number of requests."""
    with World(workers=4, verifies=0.02) as world:
        for name in ("one", "two"):
            world.accounts(name, 3, site=lambda _n: Site([Always(reply)]))
        world.combo("smart", Strategy.ROUND_ROBIN, [world.option("one"), world.option("two")])
        world.traffic("smart", per_second=3, for_s=180)
        world.run(180)
        ledger = world.ledger
        assert ledger.served == []
        late = ledger.by_account(since=90)
        assert max(late.values(), default=0) <= 12, "calls of one account within a minute and a half"
        assert max(len(one.calls) for one in ledger.ended) <= 12
        for account in ledger.by_account():
            assert ledger.most_in(1, account) <= 12
        assert_sound(world)


FAIR = [
    (Strategy.ROUND_ROBIN, 0.02),
    (Strategy.STRICT_RANDOM, 0.02),
    (Strategy.RANDOM, 0.12),
    (Strategy.LEAST_USED, 0.02),
    (Strategy.P2C, 0.12),
]


@pytest.mark.parametrize(("strategy", "tolerance"), FAIR)
def test_load_is_spread_over_workers(strategy: Strategy, tolerance: float) -> None:
    """Each of four equal legs gets its quarter, with three workers that share their counters a little late."""
    with World(workers=3, verifies=0.02) as world:
        world.combo("smart", strategy, [world.option(name) for name in "abcd"])
        world.traffic("smart", per_second=1.5)
        world.run(300)
        heads = world.ledger.heads()
        share = sum(heads.values()) / 4
        # Workers that turn a counter within the same second cannot know of each other.
        slack = tolerance + (0.1 if strategy in {Strategy.ROUND_ROBIN, Strategy.STRICT_RANDOM} else 0.04)
        assert all(abs(heads[f"{name}/large"] - share) <= slack * share * 4 for name in "abcd"), heads
        assert_sound(world)


def test_turns_are_counted_when_answers_begin() -> None:
    """Requests that come while long answers are still running take the next turns, not all the same one."""
    with World() as world:
        legs = [world.option(name) for name in "abc"]
        for name in "abc":
            world.site(f"{name}-0").whole_s = 120
        world.combo("smart", Strategy.ROUND_ROBIN, legs)
        for _ in range(9):
            world.send("smart")
            world.run(5)
        assert "".join(call.option[0] for call in world.ledger.calls) == "abcabcabc"


def test_weights_are_shares() -> None:
    """A leg of weight 3 beside one of weight 1 gets three quarters of the requests; one of weight 0 nothing."""
    with World() as world:
        legs = [world.option(name) for name in "abc"]
        world.combo("smart", Strategy.WEIGHTED, legs, weights=(3, 1, 0))
        world.traffic("smart", per_second=1.5)
        world.run(300)
        heads = world.ledger.heads()
        assert heads["a/large"] / sum(heads.values()) == pytest.approx(0.75, abs=0.05)
        assert "c/large" not in heads


@pytest.mark.parametrize("strategy", [AccountStrategy.ROUND_ROBIN, AccountStrategy.P2C, AccountStrategy.LEAST_USED])
def test_accounts_share_the_load_past_those_that_rest(strategy: AccountStrategy) -> None:
    """Of six accounts with equal limits nobody starves, and one that is out leaves its share to all others."""
    with World(workers=2, rules=AccountRules(strategy=strategy, sticky_limit=1), verifies=0.02) as world:
        dead = Always(NO_CREDIT)
        world.accounts("acme", 6, site=lambda n: Site([dead] if n == 2 else [PerMinute(40, "header")]))
        world.plain(world.option("acme"))
        world.traffic("acme/large", per_second=2)
        world.run(400)
        served = Counter(one.connection for one in world.ledger.served)
        assert world.ledger.failed == []
        assert len(served) == 5
        assert max(served.values()) <= 1.5 * min(served.values()), served
        assert_sound(world)


def test_paced_accounts_serve_everybody_in_turn() -> None:
    """Two accounts of 30 a minute under 50 a minute: nobody is refused, no key starves, no rate is broken."""
    with World(workers=2) as world:
        world.accounts("acme", 2, requests_per_minute=30)
        name = world.plain(world.option("acme"))

        def keyed(number: int) -> Features:
            return Features(estimated_input=1000, key_id="quiet" if number % 10 == 0 else "busy")

        world.traffic(name, per_second=0.83, features=keyed)
        world.run(600)
        ledger = world.ledger
        assert ledger.failed == []
        assert max(ledger.most_in(60, f"acme-{number}") for number in range(2)) <= 30 + 6
        assert statistics.fmean(one.waited_s for one in ledger.ended) < 5
        assert max(one.waited_s for one in ledger.ended if one.features.key_id == "quiet") <= 15
        assert_sound(world)


def test_a_place_that_does_not_come_free_is_waited_for_once() -> None:
    """Row 8: all places are taken for minutes: the request hears so when its time in the queue is over."""
    with World() as world:
        world.accounts("acme", max_concurrent=1, site=lambda _n: Site(whole_s=300))
        name = world.plain(world.option("acme"))
        world.send(name)
        world.run(5)
        request = world.send(name)
        world.run(100)
        assert request in world.ledger.failed
        assert request.ended_at - request.began_at == pytest.approx(15, abs=1)


# --- inside each other


def test_a_child_keeps_its_own_strategy_and_its_place() -> None:
    """Row 15: legs of a nested combo take turns inside their block, and only when all are out the next step leads."""
    with World(workers=1, verifies=0.1) as world:
        now = world.time.wall()
        world.accounts("a", site=lambda _n: Site([Always(UNAUTHORIZED, since=now + 200)]))
        world.accounts("b", site=lambda _n: Site([Always(UNAUTHORIZED, since=now + 400)]))
        child = world.combo("child", Strategy.ROUND_ROBIN, [world.option("a"), world.option("b")])
        world.combo("parent", Strategy.PRIORITY, [child, world.option("c")])
        world.traffic("parent", per_second=1)
        world.run(600)
        served = [(one.began_at, one.served_by) for one in world.ledger.ended]
        early = Counter(name for at, name in served if at < 195)
        assert set(early) == {"a/large", "b/large"}
        assert abs(early["a/large"] - early["b/large"]) <= 16, "two at once see the same position"
        assert {name for at, name in served if 205 < at < 395} == {"b/large"}
        assert {name for at, name in served if at > 405} == {"c/large"}
        assert_sound(world)


def test_what_a_setting_is_and_where_it_comes_from_is_said() -> None:
    """Row 15: the strongest level wins, and the record names the level of each value."""
    levels = [
        ("header", {"maxRetries": 3}),
        ("combo", {"maxRetries": 2, "retryDelayMs": 50}),
        ("strategy", {"retryDelayMs": 70, "fallbackDelayMs": 10}),
        ("global", {"maxAttempts": 5, "fallbackDelayMs": 999}),
    ]
    config, origin = effective(levels)
    assert (config.max_retries, config.retry_delay_ms, config.fallback_delay_ms, config.max_attempts) == (3, 50, 10, 5)
    assert origin == {
        "maxRetries": "header",
        "retryDelayMs": "combo",
        "fallbackDelayMs": "strategy",
        "maxAttempts": "global",
    }
    with World() as world:
        block = world.combo("smart", Strategy.PRIORITY, [world.option("a")], config=config, levels=origin)
        asked = Asked(Features(requested="smart"), Noted(Still()), world.time.wall(), Chance(1))
        router = world.workers[0].router
        draft = router.recorder.begin("req_1", block, asked, plan(block, asked))
        record = record_from(draft.finish(settled(), target="a/large", is_committed=True).body)
        told = text(record)
        assert "maxAttempts" in told
        assert "global" in told


# --- sessions


def test_a_bound_session_moves_once_and_stays() -> None:
    """Row 16: its account dies and comes back; each session that was there moves once, and none flaps back."""
    with World(workers=3, verifies=0.05) as world:
        start = world.time.wall()
        outage = Always(DOWN, start + 300, start + 420)
        world.accounts("acme", 4, site=lambda n: Site([outage] if n == 0 else []))
        name = world.plain(world.option("acme", has_prompt_cache=True))
        world.traffic(name, per_second=0.8, features=sessions(24))
        world.run(900)
        assert world.ledger.failed == []
        paths: defaultdict[str | None, list[str | None]] = defaultdict(list)
        for one in sorted(world.ledger.served, key=lambda one: one.began_at):
            stays = paths[one.features.session]
            if not stays or stays[-1] != one.connection:
                stays.append(one.connection)
        moved = [stays for stays in paths.values() if len(stays) > 1]
        assert len(paths) == 24
        assert moved, "some sessions were there"
        assert all(len(stays) == 2 and stays[0] == "acme-0" for stays in moved)
        assert_sound(world)


def test_a_session_is_drawn_to_one_account_by_all_workers() -> None:
    """Row 16: without talking to each other, workers send a new session to the same account."""
    with World(workers=4) as world:
        world.accounts("acme", 5)
        name = world.plain(world.option("acme"))
        for worker in range(4):
            for number in range(25):
                asked = Features(session=f"{number:064x}", is_explicit_session=True, key_id="key_1")
                world.send(name, worker=worker, features=partial(lambda features, _number: features, asked))
        world.run(5)
        at: defaultdict[str | None, set[str | None]] = defaultdict(set)
        for one in world.ledger.served:
            at[one.features.session].add(one.connection)
        assert {len(connections) for connections in at.values()} == {1}
        assert len({next(iter(connections)) for connections in at.values()}) == 5


# --- quotas that lapse


def test_what_lapses_soonest_is_spent_first_and_the_reserve_holds() -> None:
    """Row 17: with demand above supply at most 2 % of each window lapses, and no reserve is touched before its time."""
    broken: list[tuple[str, float]] = []
    with World(workers=2, pulse=20, verifies=0.1) as world:
        start = world.time.wall()
        for number, offset in enumerate((0.0, -2 * HOUR)):
            quota = Quota(150, 5 * HOUR, start + offset, name=f"five_hour_{number}")
            world.accounts(
                f"plan{number}", auth=AuthClass.OAUTH, site=partial(lambda quota, _number: Site([quota]), quota)
            )
        plans = [world.option(f"plan{number}", tier="subscription", is_unmetered=True) for number in range(2)]
        paid = world.option("paid", rates=Rates(1000.0, 3000.0))
        world.combo("smart", Strategy.EXPIRING_FIRST, [paid, *plans])
        world.read_quotas(30)

        def watch(request: Ended) -> None:
            for number in range(2):
                window = world.site(f"plan{number}-0").windows(world.time.wall())[0]
                if request.served_by != f"plan{number}/large" or window.used is None or window.resets_at is None:
                    continue
                left_s = window.resets_at - world.time.wall()
                reserve = 0.10 * min(1.0, left_s / (0.10 * 5 * HOUR))
                if window.used > 1 - reserve + 5 / 150:  # those of one reading, and those on their way
                    broken.append((f"plan{number}", round(world.time.passed)))

        world.judges.append(watch)
        world.traffic("smart", per_second=0.035)
        world.run(15.5 * HOUR)
        lapsed = [world.site(f"plan{number}-0").rules[0] for number in range(2)]
        shares = [share for quota in lapsed if isinstance(quota, Quota) for share in quota.lapsed[1:]]
        assert len(shares) >= 4
        assert max(shares) <= 0.02, shares
        assert broken == []
        assert world.ledger.failed == []
        served = Counter(one.served_by for one in world.ledger.served)
        assert served["paid/large"] < 0.65 * sum(served.values())
        assert_sound(world)


# --- size


class Counted(Still):
    """A view that counts what it is asked."""

    def __init__(self, **known: object) -> None:
        super().__init__(**known)  # type: ignore[arg-type]
        self.asked: Counter[str] = Counter()

    def rest(self, account_id: str, rest_scope: str) -> Rest | None:
        self.asked["rest"] += 1
        return super().rest(account_id, rest_scope)

    def lockout(self, account_id: str, model: str) -> Rest | None:
        self.asked["lockout"] += 1
        return super().lockout(account_id, model)

    def figures(self, option_name: str) -> Figures:
        self.asked["figures"] += 1
        return super().figures(option_name)


def pool(providers: int, models: int, accounts: int) -> list[Option]:
    """Return models spread over providers, of which each account can call all at its own provider."""
    own = [
        tuple(
            Account(f"c{provider}-{n}", f"p{provider}", AuthClass.API_KEY, rest_scope=f"connection:c{provider}-{n}")
            for n in range(accounts // providers + (provider < accounts % providers))
        )
        for provider in range(providers)
    ]
    return [
        Option(f"p{n % providers}/m{n}", f"p{n % providers}", f"m{n}", own[n % providers], fitness=(0.5, 0.5, 0.5))
        for n in range(models)
    ]


@pytest.mark.parametrize("providers", [19, 1])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_planning_a_large_pool_is_bounded_work(strategy: Strategy, providers: int) -> None:
    """57 accounts and 647 candidates: at most 200 are scored, and nothing grows with accounts x models."""
    options = pool(providers, 647, 57)
    steps = tuple(Step(f"s{number}", option, name=option.name) for number, option in enumerate(options))
    block = Block(strategy, steps, scope="combo:big", name="big", channel="auto" if strategy is Strategy.AUTO else "")
    rng = random.Random(3)
    everyone = sorted({account.id for option in options for account in option.accounts})
    assert len(everyone) == 57
    resting = rng.sample(everyone, 12)
    rests = {one: Rest(Reason.COOLING, 2e9, since=1.0) for one in resting}
    for seed in range(3):
        view = Counted(rests=rests)
        made = plan(block, Asked(Features(estimated_input=1000), view, 1.8e9, Chance(seed)))
        assert 0 < len(made.entries) <= MOST_SCORED
        assert len(made.scores) <= MOST_SCORED
        assert view.asked["figures"] <= 2 * MOST_SCORED
        assert view.asked["rest"] <= 2 * len(everyone), "each account once, and once more by the strategy"
        assert view.asked["lockout"] <= MOST_SCORED * 2 + EXPANDED * len(everyone)
        assert sum(len(entry.seats) > 1 for entry in made.entries) <= EXPANDED
        assert {entry.option.name for entry in made.entries} <= {option.name for option in options_of(block)}


def test_the_only_healthy_target_is_found_however_far_back_it_stands() -> None:
    """Of 647 candidates all rest but one behind the first 200: it serves."""
    options = pool(19, 647, 57)
    last = Option("far/away", "far", "away", (Account("far-0", "far", AuthClass.API_KEY),))
    rests = {account.id: Rest(Reason.COOLING, 2e9) for option in options for account in option.accounts}
    steps = tuple(Step(f"s{number}", option, name=option.name) for number, option in enumerate([*options, last]))
    for strategy in Strategy:
        block = Block(strategy, steps, scope="combo:big", channel="auto" if strategy is Strategy.AUTO else "")
        made = plan(block, Asked(Features(estimated_input=1000), Still(rests=rests), 1.8e9, Chance(1)))
        assert [entry.option.name for entry in made.entries] == ["far/away"], strategy


def test_a_pool_that_rests_says_when_the_first_is_back() -> None:
    """Row 8: of thousands of pairs that rest, those of the last provider end first, and that is what is waited for."""
    options = sorted(pool(19, 647, 57), key=lambda option: option.provider)
    rests = {account.id: Rest(Reason.COOLING, 2e9) for option in options for account in option.accounts}
    last = options[-1].accounts[-1].id
    rests[last] = Rest(Reason.COOLING, 1.8e9 + 7)
    steps = tuple(Step(f"s{number}", option, name=option.name) for number, option in enumerate(options))
    view = Counted(rests=rests)
    made = plan(Block(Strategy.PRIORITY, steps, scope="combo:big"), Asked(Features(), view, 1.8e9, Chance(1)))
    assert made.entries == ()
    assert min(one.until for one in made.exclusions if one.until is not None) == 1.8e9 + 7
    assert len(made.exclusions) <= 512 + 57
    assert view.asked["rest"] == 57


def test_an_hour_of_mixed_traffic_with_everything_at_once() -> None:
    """An hour over four workers with limits, outages, sessions and restarts: nobody sees an error."""
    with World(workers=4, pulse=4, seed=11, verifies=0.1) as world:
        now = world.time.wall()
        world.accounts("sub", 3, AuthClass.OAUTH, site=lambda n: Site([Quota(60, HOUR / 2, now - 300 * n)]))
        world.accounts("key", 4, site=lambda n: Site([PerMinute(4 + n, ("header", "text", None, "ms")[n])]))
        world.accounts("flap", 2, site=lambda n: Site([Always(DOWN, now + 600 * n, now + 600 * n + 500)]))
        world.accounts("local", 1, AuthClass.LOCAL, site=lambda _n: Site([Always(REFUSED, now, now + 1800)]))
        legs = [world.option(name) for name in ("sub", "key", "flap", "local")]
        world.combo("smart", Strategy.PRIORITY, legs)
        world.combo("even", Strategy.ROUND_ROBIN, legs)
        world.traffic("smart", per_second=0.15, features=sessions(9))
        world.traffic("even", per_second=0.15)
        for number in range(6):
            world.time.after(500.0 * (number + 1), world.workers[number % 4].restart)
        world.run(HOUR)
        ledger = world.ledger
        assert len(ledger.ended) > 900
        assert ledger.failed == []
        assert set(ledger.by_account()) == set(world.sites)
        assert_sound(world)


def test_a_cooled_leg_never_leads_while_a_healthy_one_waits() -> None:
    """At every attempt of a busy half hour the leg that is asked is well, or is probed with somebody behind it."""
    with World(workers=2, seed=3) as world:
        world.accounts("a", 2, site=lambda _n: Site([PerMinute(6, "header")]))
        world.accounts("b", 2, site=lambda _n: Site([PerMinute(9, "text")]))
        world.combo("smart", Strategy.FILL_FIRST, [world.option(name) for name in ("a", "b", "spare")])
        world.traffic("smart", per_second=0.7)
        world.run(1200)
        assert world.ledger.failed == []
        assert max(len(one.calls) for one in world.ledger.ended) <= 5
        resting = [row for row in world.store.health.values() if row.key[0] == connection_scope("spare-0")]
        assert resting == []
        assert_sound(world)

"""What has said that it is to be left alone is left alone, by all workers and over restarts, and not for longer."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest

from omniroute.routing.config import ComboConfig
from omniroute.routing.events import ClearedBy
from omniroute.routing.marks import Kind, connection_scope
from omniroute.routing.options import AuthClass, Strategy
from tests.routing.simulator import World
from tests.routing.upstreams import (
    DOWN,
    MALFORMED,
    RATE_LIMITED,
    Always,
    AtOnce,
    PerMinute,
    Quota,
    Reply,
    Rule,
    Site,
    limited,
    said,
)

HOUR = 3600.0
DAY = 24 * HOUR


def cooldown(account: str) -> tuple[str, Kind]:
    return connection_scope(account), Kind.COOLDOWN


class Until:
    """Limited until a time, which each answer names in one form."""

    def __init__(self, ends: float, form: str = "header", *, tells: float | None = None) -> None:
        """`tells`: how many seconds it says; the truth when left out."""
        self.ends, self.form, self.tells = ends, form, tells

    def reply(self, model: str, now: float) -> Reply | None:
        if self.lets_pass(model, now):
            return None
        return limited(self.ends - now if self.tells is None else self.tells, self.form)

    def lets_pass(self, model: str, now: float) -> bool:
        return now >= self.ends


def limited_until(world: World, seconds: float, form: str = "header") -> Callable[[int], Site]:
    ends = world.time.wall() + seconds
    return lambda _number: Site([Until(ends, form)])


def test_two_days_of_429s_on_one_account_cost_one_call() -> None:
    """Row 5: an account that said when it is back is not asked before, however many ask for it and however long."""
    with World(workers=2, pulse=120, verifies=0.05) as world:
        world.accounts("spent", site=limited_until(world, 2 * DAY))
        world.combo("smart", Strategy.PRIORITY, [world.option("spent"), world.option("spare")])
        world.ask("smart")
        world.run(240)
        world.traffic("smart", per_second=0.004)
        world.run(DAY)  # no provider is believed for longer than a day when it speaks of a rate
        assert world.ledger.by_account()["spent-0"] == 1
        world.run(DAY + HOUR)
        calls = [call for call in world.ledger.calls if call.account == "spent-0"]
        assert [call.status for call in calls[:2]] == [429, 429]
        assert calls[2].status == 200, "and it is back when it said"
        assert world.ledger.failed == []
        assert world.ledger.inside_rests == []


@pytest.mark.parametrize("seed", [1, 2])
def test_a_recorded_burst_over_four_workers_and_restarts_makes_no_call_inside_a_rest(seed: int) -> None:
    """Row 5: rests are stored, shared by workers, survive restarts, and every hint form is understood."""
    with World(workers=4, seed=seed, verifies=0.05) as world:
        for form in ("header", "ms", "window", "text"):
            world.accounts(form, 2, site=partial(limited_sites, form))
        forms = [world.option(form) for form in ("header", "ms", "window", "text")]
        world.combo("smart", Strategy.ROUND_ROBIN, [*forms, world.option("spare")])
        world.traffic("smart", per_second=8)
        world.run(60)
        world.workers[0].restart()
        world.run(40)
        for worker in world.workers:
            worker.restart()
        world.run(60)
        ledger = world.ledger
        refused = [call for call in ledger.calls if call.status == 429]
        assert ledger.inside_rests == []
        assert ledger.failed == []
        assert 40 <= len(refused) <= 200
        assert {call.account for call in refused} == {account for form in forms for account in names(world, form.name)}


def limited_sites(form: str, number: int) -> Site:
    return Site([PerMinute(20 + 10 * number, form)])


def names(world: World, option: str) -> list[str]:
    return [account.id for account in world.options[option].accounts]


def test_a_rest_of_hours_survives_a_restart_with_its_reason() -> None:
    """Row 5: a connection that cools for two more hours still does after all workers have begun anew."""
    with World(workers=2, pulse=10) as world:
        world.accounts("spent", site=limited_until(world, 3 * HOUR))
        world.combo("smart", Strategy.PRIORITY, [world.option("spent"), world.option("spare")])
        world.ask("smart")
        world.run(HOUR)
        for worker in world.workers:
            worker.restart()
        row = next(row for row in world.workers[1].board.state() if row.key == cooldown("spent-0"))
        assert (row.reason, row.data["source"]) == ("rate", "retry-after")
        assert row.until == pytest.approx(world.time.wall() + 2 * HOUR, rel=0.05)
        world.traffic("smart", per_second=0.1)
        world.run(HOUR)
        assert world.ledger.by_account()["spent-0"] == 1


def test_a_burst_blacks_out_a_leg_for_its_window_and_no_longer() -> None:
    """Rows 5 and 7: a short limit is a short rest: the leg leads again as soon as its window has passed."""
    with World(workers=4) as world:
        world.accounts("quick", site=lambda _n: Site([PerMinute(30, "header")], first_s=0.1, whole_s=0.2))
        world.combo("smart", Strategy.PRIORITY, [world.option("quick"), world.option("spare")])
        for number in range(60):
            world.send("smart", worker=number % 4)
        world.run(58)
        world.traffic("smart", per_second=0.25)
        world.run(6)
        before = len(world.ledger.calls)
        world.run(120)
        late = [call for call in world.ledger.calls[before:] if call.account == "quick-0"]
        assert world.ledger.failed == []
        assert {call.status for call in late} == {200}
        assert len(late) >= 0.9 * len(world.ledger.calls[before:])
        assert world.ledger.inside_rests == []


def test_a_reading_that_shows_room_ends_a_rest_at_once() -> None:
    """Row 6: a reading at 25 % of the rest shows room: all workers use the leg within one look."""
    with World(workers=4) as world:
        quota = Quota(5, 2 * HOUR, world.time.wall())
        world.accounts("plan", auth=AuthClass.OAUTH, site=lambda _n: Site([quota]))
        world.combo("smart", Strategy.PRIORITY, [world.option("plan"), world.option("paid")])
        for _ in range(6):
            world.ask("smart")
        world.run(HOUR / 2)
        assert world.ask("smart", worker=2).served_by == "paid/large"
        quota.used = 0  # the vendor has given back, earlier than it said
        world.site("plan-0").told_until = 0.0
        world.workers[0].board.clear([cooldown("plan-0")], ClearedBy.READING)
        world.run(1.0)
        assert [world.ask("smart", worker=number).served_by for number in range(4)] == ["plan/large"] * 4
        assert world.ledger.inside_rests == []


def test_a_vague_rest_is_looked_at_halfway_by_a_request_with_somebody_behind_it() -> None:
    """Row 6: without a time from the provider, live probes find out that the window has reset."""
    with World(workers=4, pulse=4) as world:
        quota = Quota(3, 1200, world.time.wall(), tells=False)
        world.accounts("plan", auth=AuthClass.OAUTH, site=lambda _n: Site([quota]))
        world.combo("smart", Strategy.PRIORITY, [world.option("plan"), world.option("paid")])
        world.traffic("smart", per_second=0.3)
        world.run(1200)
        probes = [call for call in world.ledger.probes if call.account == "plan-0"]
        assert [round(call.at / 900, 1) for call in probes] == [0.5], "half of the 15 minutes that are guessed"
        quota.calls = 10**6
        world.run(2000)
        late = [one for one in world.ledger.ended if one.began_at > 1200 + 1800]
        assert {one.served_by for one in late} == {"plan/large"}
        probes = [call for call in world.ledger.probes if call.account == "plan-0"]
        assert len(probes) <= 3
        assert world.ledger.failed == [], "no user waited for a probe"
        assert world.ledger.inside_rests == []


def test_nobody_is_probed_early_without_somebody_behind() -> None:
    """Row 6: a leg that stands alone rests to its end, since its probe would be a user's error."""
    with World(workers=2, pulse=10) as world:
        quota = Quota(1, 10 * HOUR, world.time.wall(), tells=False)
        world.accounts("plan", auth=AuthClass.OAUTH, site=lambda _n: Site([quota]))
        name = world.plain(world.option("plan"))
        for _ in range(2):
            world.ask(name)
        world.traffic(name, per_second=0.05)
        world.run(850)
        assert world.site("plan-0").calls == 2
        world.run(120)
        assert world.site("plan-0").calls == 3


@pytest.mark.parametrize(
    ("message", "least", "most"),
    [
        ("Usage limit reached. Resets in 6 days.", 5.9 * DAY, 6.1 * DAY),
        ("You have reached your weekly limit. Try again in 2 days.", 1.9 * DAY, 2.1 * DAY),
        ("Rate limit reached. Please try again in 20s.", 20, 21),
        ("Rate limit reached, retry in 1m2.5s", 62.5, 65),
        ("Too many requests.", 1, 4),
    ],
)
def test_a_rest_is_as_long_as_its_window(message: str, least: float, most: float) -> None:
    """Row 7: class and time follow what the answer names."""
    with World() as world:
        world.accounts("acme", site=lambda _n: Site([Always(Reply(429, body=said(message)))]))
        world.combo("smart", Strategy.PRIORITY, [world.option("acme"), world.option("spare")])
        world.ask("smart")
        row = world.row(cooldown("acme-0"))
        assert row is not None
        assert row.until is not None
        assert least <= row.until - row.number("since") <= most


class Adversary:
    """Always limited, and each time for another while."""

    def __init__(self, world: World, shortest: float, longest: float) -> None:
        self.world, self.shortest, self.longest = world, shortest, longest

    def reply(self, model: str, now: float) -> Reply | None:
        return limited(self.world.rng.uniform(self.shortest, self.longest), "ms")

    def lets_pass(self, model: str, now: float) -> bool:
        return False


@pytest.mark.parametrize(("shortest", "longest"), [(1, 5), (1, 40), (10, 29), (25, 90)])
def test_no_request_waits_longer_than_configured(shortest: float, longest: float) -> None:
    """Row 8: against cooldowns that go on and on, waits are few, and their sum stays within its bound."""
    with World(workers=2, pulse=2, verifies=0.2) as world:
        rules: list[Rule] = [Adversary(world, shortest, longest)]
        world.accounts("acme", 3, site=lambda _n: Site(rules))
        world.combo("smart", Strategy.PRIORITY, [world.option("acme")])
        world.traffic("smart", per_second=0.5, for_s=200)
        world.run(300)
        rule = world.resilience.wait
        ended = world.ledger.ended
        assert len(ended) > 50
        assert world.ledger.served == []
        assert max(sum(wait >= 1.05 for wait in one.cooldown_waits) for one in ended) <= rule.max_rounds
        assert max(len(one.cooldown_waits) for one in ended) <= rule.max_rounds + 3, "and three for a moment more"
        assert max(max(one.cooldown_waits, default=0) for one in ended) <= rule.longest_s + 0.1
        assert max(sum(one.cooldown_waits) for one in ended) <= rule.budget_s + 0.2
        assert max(one.ended_at - one.began_at for one in ended) <= rule.budget_s + 12
        assert world.ledger.inside_rests == []


def test_what_ends_too_late_is_said_at_once_with_its_true_time() -> None:
    """Row 8: the earliest end is farther away than a request may wait, so that it does not wait at all."""
    with World() as world:
        world.accounts("acme", site=limited_until(world, 300))
        world.accounts("bolt", site=limited_until(world, 45))
        world.combo("smart", Strategy.PRIORITY, [world.option("acme"), world.option("bolt")])
        world.ask("smart")
        request = world.ask("smart")
        assert request.calls == []
        assert request.ended_at - request.began_at < 0.1
        assert request.verdict is not None
        assert request.verdict.free_at is not None
        assert 40 <= request.verdict.free_at - world.time.wall() <= 47


def test_nobody_waits_while_somebody_else_is_free() -> None:
    """Row 8: a rest is not waited for when another leg serves."""
    with World(workers=2) as world:
        world.accounts("acme", site=lambda _n: Site([PerMinute(10, "header")]))
        world.combo("smart", Strategy.PRIORITY, [world.option("acme"), world.option("spare")])
        world.traffic("smart", per_second=2)
        world.run(120)
        assert max(one.waited_s for one in world.ledger.ended) == 0
        assert world.ledger.failed == []


def test_a_hundred_who_wait_for_the_same_account_are_let_in_one_by_one() -> None:
    """Row 8: those who waited for a rest go on one after the other, and whoever cannot, hears why: none breaks off."""
    with World(workers=1, verifies=0.1) as world:
        world.accounts("acme", site=limited_until(world, 10))
        name = world.plain(world.option("acme"))
        requests = [world.send(name) for _ in range(3)]
        world.run(0.5)
        requests += [world.send(name) for _ in range(100)]
        world.run(120)
        assert all(one in world.ledger.ended for one in requests)
        assert sum(one.is_served for one in requests) >= 95, "two turns of five seconds take a hundred"
        assert world.ledger.most_in(1, "acme-0") <= 11


def test_one_that_finds_its_only_leg_being_probed_waits_for_the_verdict() -> None:
    """Row 8: when a rest ends, one of five tries; the other four wait for their turn rather than fail beside it."""
    with World(workers=2, verifies=1.0) as world:
        world.accounts("acme", site=limited_until(world, 5))
        name = world.plain(world.option("acme"))
        requests = [world.send(name, worker=number % 2) for number in range(5)]
        world.run(30)
        assert all(one.is_served for one in requests)
        assert all(sum(one.cooldown_waits) <= 15 for one in requests)
        assert world.ledger.inside_rests == []


def test_nobody_waits_for_a_leg_to_hear_once_more_that_the_request_is_malformed() -> None:
    """Row 8: a caller's fault is said at once, also where another provider will be back in a moment."""
    with World() as world:
        world.accounts("rests", site=limited_until(world, 20))
        world.accounts("strict", site=lambda _n: Site([Always(MALFORMED)]))
        world.combo("smart", Strategy.PRIORITY, [world.option("rests"), world.option("strict")])
        world.ask("smart")
        request = world.ask("smart")
        assert request.kinds == ["invalid_request"]
        assert request.ended_at - request.began_at < 1


@pytest.mark.parametrize("workers", [1, 4])
def test_ten_at_once_are_one_failure_in_the_row(workers: int) -> None:
    """Row 9: ten requests that meet the same limit at the same time raise the step to 1, in one worker or in four."""
    with World(workers=workers) as world:
        world.accounts("acme", site=lambda _n: Site([Always(RATE_LIMITED)]))
        world.combo("smart", Strategy.PRIORITY, [world.option("acme"), world.option("spare")])
        for number in range(10):
            world.send("smart", worker=number % workers)
        world.run(2)
        row = world.row(cooldown("acme-0"))
        assert row is not None
        assert row.step == 1
        assert len([call for call in world.ledger.calls if call.account == "acme-0"]) == 10


def test_backoff_grows_with_failures_in_a_row_and_falls_with_success() -> None:
    """Row 9: rests double up to their cap, and the first success ends the row."""
    with World() as world:
        broken = Always(RATE_LIMITED, until=world.time.wall() + 600)
        world.accounts("acme", site=lambda _n: Site([broken]))
        world.combo("smart", Strategy.PRIORITY, [world.option("acme"), world.option("spare")])
        world.traffic("smart", per_second=2)
        world.run(600)
        times = [call.at for call in world.ledger.calls if call.account == "acme-0" and call.status == 429]
        gaps = [after - before for before, after in pairwise(times)]
        assert 7 <= len(times) <= 14
        assert all(after > before for before, after in pairwise(gaps[:6]))
        assert max(gaps) <= 120 * 1.1 + 5
        world.run(150)
        assert world.row(cooldown("acme-0")) is None or world.row(cooldown("acme-0")).is_clear  # type: ignore[union-attr]


def test_parallel_limits_are_learned_and_kept() -> None:
    """Row 9: an account that takes three at once is soon given no more, and is not rested for it."""
    with World(workers=1) as world:
        site = Site(first_s=1.0, whole_s=2.0)
        site.rules.append(AtOnce(4, lambda: site.running))
        world.accounts("acme", site=lambda _n: site)
        world.combo("smart", Strategy.FILL_FIRST, [world.option("acme"), world.option("spare")])
        world.traffic("smart", per_second=3)
        world.run(300)
        refused = [call for call in world.ledger.calls if call.status == 429]
        assert len(refused) <= 4
        assert world.ledger.failed == []
        assert world.ledger.by_account()["acme-0"] > 100


def test_a_rest_is_over_for_all_once_one_request_was_served() -> None:
    """Row 6: of those who come when it ends, one tries; the others pass it by, and use it as soon as it has served."""
    with World(workers=4) as world:
        world.accounts("acme", site=limited_until(world, 30))
        world.combo("smart", Strategy.PRIORITY, [world.option("acme"), world.option("spare")])
        world.ask("smart")
        world.traffic("smart", per_second=10)
        world.run(40)
        back = [call for call in world.ledger.calls if call.account == "acme-0" and call.at > 5]
        assert back[0].kind.value == "probe"
        first = back[0].at
        together = [call for call in back if call.at < first + 0.2]
        assert len(together) == 1, "one at a time"
        assert sum(call.at > first + 3 for call in back) > 40
        assert math.isclose(first, 30, abs_tol=2)
        assert world.ledger.failed == []


def test_retries_first_keep_to_their_candidate_and_end() -> None:
    """Row 15: where the operator wants retries before the next candidate, they come in that order and are bounded."""
    with World() as world:
        world.accounts("acme", site=lambda _n: Site([Always(DOWN)]))
        config = ComboConfig(failover_before_retry=False, max_retries=2, retry_delay_ms=100)
        world.combo("smart", Strategy.PRIORITY, [world.option("acme"), world.option("spare")], config=config)
        request = world.ask("smart")
        assert [call.account for call in request.calls] == ["acme-0"] * 3 + ["spare-0"]
        assert [call.kind.value for call in request.calls] == ["normal", "retry", "retry", "normal"]

"""What one failure may reach: a connection, a model, a provider or the request, and never more than that."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from omniroute.routing.config import ComboConfig
from omniroute.routing.marks import Kind
from omniroute.routing.options import AuthClass, Features, Option, Strategy
from tests.routing.ledger import Ended
from tests.routing.simulator import World
from tests.routing.upstreams import (
    DOWN,
    FORBIDDEN,
    MALFORMED,
    MISSING,
    NO_CREDIT,
    NOT_IN_PLAN,
    RATE_LIMITED,
    REFUSED,
    TOO_LONG,
    UNAUTHORIZED,
    Always,
    Flaky,
    PerMinute,
    Reply,
    Site,
    said,
)

UNKNOWN_KNOB = Reply(400, body=said("Unsupported parameter: 'top_k'.", "unsupported_parameter", param="top_k"))


def always(reply: Reply, *only: int) -> Callable[[int], Site]:
    """Return sites of which some, or all, give the same answer to every call."""
    return lambda number: Site([Always(reply)] if not only or number in only else [])


def assert_sound(world: World) -> None:
    """Whatever happens, these hold."""
    ledger = world.ledger
    assert ledger.inside_rests == [], "a call of what rests"
    assert ledger.needless == [], "a client saw an error although somebody would have served"
    assert ledger.astray == [], "served by something nobody chose"
    assert ledger.mismatches == [], "a recorded decision is decided differently"


@pytest.mark.parametrize(
    ("reply", "most"),
    [(NO_CREDIT, 1), (UNAUTHORIZED, 1), (FORBIDDEN, 3), (RATE_LIMITED, 8)],
    ids=["402", "401", "403", "429"],
)
def test_a_refused_connection_is_removed_alone(reply: Reply, most: int) -> None:
    """Row 1: 402, 401, 403 and 429 remove one connection; its neighbour goes on with the same leg."""
    with World(workers=2, verifies=0.2) as world:
        world.accounts("first", 2, site=always(reply, 0))
        world.combo("smart", Strategy.PRIORITY, [world.option(name) for name in ("first", "second", "third")])
        world.traffic("smart", per_second=0.5)
        world.run(300)
        assert world.ledger.failed == []
        assert {one.connection for one in world.ledger.ended} == {"first-1"}
        assert 1 <= world.site("first-0").calls <= most
        assert_sound(world)


@pytest.mark.parametrize("reply", [NO_CREDIT, UNAUTHORIZED, FORBIDDEN, RATE_LIMITED], ids=["402", "401", "403", "429"])
def test_a_leg_without_a_usable_connection_does_not_end_the_combo(reply: Reply) -> None:
    """Row 1: the first of three legs has one account, which answers with such a code; the second leg serves."""
    with World() as world:
        world.accounts("first", site=always(reply))
        world.combo("smart", Strategy.PRIORITY, [world.option(name) for name in ("first", "second", "third")])
        first, second = world.ask("smart"), world.ask("smart")
        assert [call.option for call in first.calls] == ["first/large", "second/large"]
        assert [call.option for call in second.calls] == ["second/large"]
        assert_sound(world)


def test_a_vendor_that_refuses_connections_takes_only_its_own_legs() -> None:
    """Row 2: all accounts of one vendor are down; the other vendor serves, and no request tries more than two."""
    with World(workers=2, verifies=0.2) as world:
        world.accounts("down", 5, site=always(REFUSED))
        legs = [world.option("down"), world.option("down", "small"), world.option("up")]
        world.combo("smart", Strategy.PRIORITY, legs)
        world.traffic("smart", per_second=1)
        world.run(600)
        ledger = world.ledger
        assert ledger.failed == []
        assert {one.served_by for one in ledger.ended} == {"up/large"}
        assert max(len(one.calls) for one in ledger.ended) <= 3
        assert max(ledger.most_in(60, f"down-{number}") for number in range(5)) <= 10
        assert any(notice.event == "circuit_breaker.opened" for _, notice in ledger.notices)
        assert_sound(world)


def test_a_dead_local_port_costs_one_look_a_minute() -> None:
    """Row 2: a local server that is not running is tried by one request at a time, and less and less often."""
    with World(workers=4) as world:
        world.accounts("ollama", auth=AuthClass.LOCAL, site=always(REFUSED))
        world.combo("smart", Strategy.PRIORITY, [world.option("ollama"), world.option("cloud")])
        world.traffic("smart", per_second=0.5)
        world.run(900)
        assert {one.served_by for one in world.ledger.ended} == {"cloud/large"}
        assert world.ledger.most_in(60, "ollama-0") <= 10
        late = sum(call.at > 300 and call.account == "ollama-0" for call in world.ledger.calls)
        assert 5 <= late <= 12, "once a minute, and still looked at"
        assert_sound(world)


def test_what_one_model_cannot_take_goes_on_to_another() -> None:
    """Row 3: too long goes on to a larger window, never to one that is as small; an unknown knob to the next target."""
    with World() as world:
        world.accounts("small", 3, site=always(TOO_LONG))
        world.accounts("also", site=always(TOO_LONG))
        legs = [
            world.option("small", window=8192),
            world.option("also", window=8192),
            world.option("big", window=200_000),
        ]
        world.combo("smart", Strategy.PRIORITY, legs)
        request = world.ask("smart")
        assert [call.option for call in request.calls] == ["small/large", "big/large"]
        world.accounts("strict", 3, site=always(UNKNOWN_KNOB))
        world.combo("knobs", Strategy.PRIORITY, [world.option("strict"), world.option("lenient")])
        request = world.ask("knobs")
        assert [call.account for call in request.calls] == ["strict-0", "lenient-0"]
        assert world.store.health == {}
        assert_sound(world)


def test_a_plan_without_the_model_is_asked_once_a_day_and_other_accounts_serve() -> None:
    """Rows 3 and 10: an entitlement error goes on to the next account, and is not met again."""
    with World(workers=2, pulse=20) as world:
        world.accounts("first", 3, site=always(NOT_IN_PLAN, 0, 1))
        world.combo("smart", Strategy.PRIORITY, [world.option("first"), world.option("second")])
        world.traffic("smart", per_second=0.005)
        world.run(23 * 3600)
        assert {one.connection for one in world.ledger.ended} == {"first-2"}
        assert world.ledger.by_account()["first-0"] == 1
        assert world.ledger.by_account()["first-1"] == 1
        assert_sound(world)


def test_a_malformed_request_walks_through_no_accounts() -> None:
    """Row 4: a broken body to a pool of 20 accounts makes at most three calls and changes nothing."""
    with World() as world:
        world.accounts("acme", 20, site=always(MALFORMED))
        name = world.plain(world.option("acme"))
        for _ in range(10):
            request = world.ask(name)
            assert not request.is_served
            assert len(request.calls) == 1
        assert_unchanged(world)


def test_a_malformed_request_is_shown_to_three_providers_at_most() -> None:
    """Row 4: the same in a combo of 20 providers: a quirk of translation may be to blame, so two others see it."""
    with World() as world:
        legs = []
        for number in range(20):
            world.accounts(f"vendor{number}", 2, site=always(MALFORMED))
            legs.append(world.option(f"vendor{number}"))
        world.combo("smart", Strategy.ROUND_ROBIN, legs)
        requests = [world.ask("smart") for _ in range(20)]
        assert {len(request.calls) for request in requests} == {3}
        assert all(len({call.option for call in request.calls}) == 3 for request in requests)
        assert_unchanged(world)


def assert_unchanged(world: World) -> None:
    """Nothing rests, is counted or learned, in the store or in any copy."""
    world.run(60)
    assert world.store.health == {}
    assert all(worker.board.state() == () for worker in world.workers)


def test_a_model_that_does_not_exist_is_asked_for_once() -> None:
    """Row 10: the second request makes no call to the dead pair; other models on the account go on."""
    with World(workers=4, pulse=10) as world:
        world.accounts("acme", 1, site=lambda _n: Site([Always(MISSING, models=("gone",))]))
        gone, here = world.option("acme", "gone"), world.option("acme", "here")
        world.combo("smart", Strategy.PRIORITY, [gone, here])
        world.ask("smart")
        world.run(12)
        world.traffic("smart", per_second=0.1)
        world.run(3500)
        assert [call.option for call in world.ledger.calls].count("acme/gone") == 1
        assert {one.served_by for one in world.ledger.ended} == {"acme/here"}
        world.run(300)  # the hour of the lockout is over: one request looks again
        assert [call.option for call in world.ledger.calls].count("acme/gone") == 2
        assert_sound(world)


def test_a_catalogue_that_lists_the_model_ends_its_lockout() -> None:
    """Row 10: cleared when the catalogue has it."""
    from omniroute.routing.events import ClearedBy

    with World(workers=2) as world:
        world.accounts("acme", site=lambda _n: Site([Always(MISSING, until=world.time.wall() + 30)]))
        name = world.plain(world.option("acme"))
        assert not world.ask(name).is_served
        world.run(60)
        assert world.ask(name, worker=1).calls == []
        keys = [row.key for row in world.workers[0].board.state() if row.kind is Kind.LOCKOUT]
        world.workers[0].board.clear(keys, ClearedBy.CATALOGUE)
        world.run(1.1)
        assert world.ask(name, worker=1).is_served


def test_only_the_operators_chain_leads_out_of_a_combo() -> None:
    """Row 12: what serves is a resolved target, or one of the chain; without a chain the request fails."""
    with World(verifies=1.0) as world:
        world.accounts("acme", 2, site=always(DOWN))
        broken, other = world.option("acme"), world.option("other")
        world.combo("alone", Strategy.PRIORITY, [broken])
        world.combo("backed", Strategy.PRIORITY, [broken])
        world.combo("proud", Strategy.PRIORITY, [broken], config=ComboConfig(allow_fallback_chain=False))
        for name in ("backed", "proud"):
            world.chain(name, broken, other)
        config = {name: world.ask(name).served_by for name in ("alone", "backed", "proud")}
        assert config == {"alone": None, "backed": "other/large", "proud": None}
        pinned = world.ask("backed", features=lambda _n: Features(connection_id="acme-0"))
        assert pinned.served_by is None
        assert_sound(world)


@pytest.mark.parametrize("reply", [MALFORMED, TOO_LONG, Reply(400, body=said("No.", "content_filter"))])
def test_no_chain_follows_a_callers_fault(reply: Reply) -> None:
    """Row 12: what the caller has to mend is not sent to somebody nobody chose."""
    with World() as world:
        world.accounts("acme", site=always(reply))
        world.combo("smart", Strategy.PRIORITY, [world.option("acme", window=8192)])
        world.chain("smart", world.option("other", window=1_000_000))
        request = world.ask("smart")
        assert [call.option for call in request.calls] == ["acme/large"]
        assert request.served_by is None


def test_every_request_in_a_chaotic_world_is_served_by_what_it_names() -> None:
    """Rows 12 and 13: whatever fails, nobody strays, and every recorded decision is decided again bit for bit."""
    with World(workers=3, seed=7, verifies=1.0, pulse=4) as world:
        options = [chaotic(world, number) for number in range(6)]
        strategies = [one for one in Strategy if one is not Strategy.AUTO]
        for number, strategy in enumerate(strategies):
            legs = [options[(number + offset) % len(options)] for offset in range(4)]
            world.combo(strategy.value, strategy, legs)
            world.chain(strategy.value, options[(number + 4) % len(options)])
            world.traffic(strategy.value, per_second=0.025, features=varied)
        world.run(2400)
        ledger = world.ledger
        assert ledger.verified == len(ledger.ended) > 600
        assert len(ledger.served) > 0.97 * len(ledger.ended)
        assert max(len(one.calls) for one in ledger.ended) <= 12
        assert_sound(world)


def chaotic(world: World, number: int) -> Option:
    """Add a provider with a trouble of its own."""
    start = world.time.wall()
    troubles: list[Callable[[int], Site]] = [
        lambda _n: Site([PerMinute(5, "text")]),
        lambda _n: Site([Flaky(DOWN, 0.3, world.rng)]),
        lambda n: Site([Always(REFUSED, start + 600 * n, start + 600 * n + 900)]),
        lambda _n: Site([PerMinute(4, None)]),
        lambda n: Site([Always(NO_CREDIT, start + 1200)] if n else []),
        lambda _n: Site([]),
    ]
    world.accounts(f"p{number}", 3, site=troubles[number % len(troubles)])
    return world.option(f"p{number}", window=(16_000, 128_000, None)[number % 3], has_prompt_cache=bool(number % 2))


def varied(number: int) -> Features:
    """Return what a request is like: some with sessions, some long."""
    return Features(
        estimated_input=(500, 9000, 60_000)[number % 3],
        session=f"{number % 11:064x}" if number % 2 else None,
        is_explicit_session=bool(number % 4 == 1),
        key_id="key_1",
    )


def test_a_request_ends_with_the_error_of_its_own_try() -> None:
    """Row 1: where every leg has failed, each of them was asked once, and the caller hears of it."""
    with World() as world:
        for name, reply in (("one", NO_CREDIT), ("two", UNAUTHORIZED), ("three", FORBIDDEN)):
            world.accounts(name, site=always(reply))
        world.combo("smart", Strategy.PRIORITY, [world.option(name) for name in ("one", "two", "three")])
        request: Ended = world.ask("smart")
        assert request.kinds == ["no_credit", "auth", "forbidden"]
        assert world.ask("smart").calls == []
        assert_sound(world)

"""A simulator that saw nothing would let everything pass: it has to notice what is wrong, and do the same each time."""

from __future__ import annotations

from dataclasses import replace

import gevent
import pytest
from gevent.event import Event

from omniroute.routing.options import Strategy
from tests.routing.simulator import World
from tests.routing.upstreams import DOWN, Always, Flaky, PerMinute, Site, limited
from tests.routing.virtual_time import VirtualTime


def test_a_call_inside_a_rest_is_seen() -> None:
    with World(workers=2) as world:
        world.accounts("acme", site=lambda _n: Site([Always(limited(600))]))
        world.combo("smart", Strategy.PRIORITY, [world.option("acme"), world.option("spare")])
        world.ask("smart")
        world.run(2)
        assert world.ledger.inside_rests == []
        world.workers[1].board.copy.replace({})  # it forgets, and asks
        world.ask("smart", worker=1)
        assert [call.account for call, _ in world.ledger.inside_rests] == ["acme-0"]


def test_an_error_beside_somebody_who_would_serve_is_seen() -> None:
    with World() as world:
        world.accounts("acme", site=lambda _n: Site([Always(DOWN)]))
        block = world.combo("smart", Strategy.PRIORITY, [world.option("acme"), world.option("spare")])
        broken, spare = block.steps
        world.names.change("smart", replace(block, steps=(broken, replace(spare, problem="inactive"))))
        request = world.ask("smart")
        assert request.spared == ["spare/large at spare-0"]
        assert world.ledger.needless == [request]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_seed_makes_the_same_world(seed: int) -> None:
    def calls() -> list[tuple[float, str, int]]:
        with World(workers=3, seed=seed) as world:
            world.accounts("acme", 2, site=lambda n: Site([PerMinute(9 + n), Flaky(DOWN, 0.1, world.rng)]))
            world.combo("smart", Strategy.RANDOM, [world.option("acme"), world.option("spare")])
            world.traffic("smart", per_second=2)
            world.run(60)
            return [(call.at, call.account, call.status) for call in world.ledger.calls]

    assert calls() == calls()


def test_time_passes_from_one_event_to_the_next() -> None:
    time, told = VirtualTime(), []
    came = Event()

    def sleeper() -> None:
        time.sleep(3)
        told.append(("slept", time.now()))
        told.append((time.wait(came, 10), time.now()))  # type: ignore[arg-type]
        told.append((time.wait(Event(), 10), time.now()))  # type: ignore[arg-type]

    gevent.spawn(sleeper)
    time.after(5, came.set)
    end = time.every(4, lambda: told.append(("tick", time.now())))
    time.run(9)
    end()
    time.run(20)
    assert told == [("slept", 3), ("tick", 4), (True, 5), ("tick", 8), (False, 15)]
    assert time.now() == 29

"""What the routing part of the benchmark takes a request through, and what it says of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibench import bodies, routing_cost, routing_world
from omnibench.parts.routing import findings_of
from omnibench.routing_cost import CASES, COMBO, DIRECT, LARGE, LONG, POOL, RESTING, STAGES, Cost, Job
from omnibench.routing_world import World
from omniroute.providers import catalog
from omniroute.routing.packing import Reader


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A combo of ten models, each with two connections."""
    catalogue = catalog.load()
    providers = routing_world.connected_to(catalogue, 10)
    combo = routing_world.combo_of("priority", routing_world.models_in_turn(catalogue, providers)[:10])
    made = World(
        catalogue, tmp_path, routing_world.configured(providers, 2, combo), combo.name, bodies.small(combo.name)
    )
    yield made
    made.close()


def test_a_request_goes_all_the_way_to_its_stored_record(world: World) -> None:
    work = world.work()
    world.serve(work)
    decision = Reader().read(work.packed).decision
    assert decision.request_id == work.record.request_id
    assert [len(place.accounts) for place in decision.rounds[0].outline.places] == [2] * 10
    [tried] = decision.attempts
    assert (tried.option, tried.status) == (work.route.plan.entries[0].option.name, 200)
    assert decision.result is not None
    assert (decision.result.outcome, decision.result.option, decision.result.is_committed) == (
        "success",
        tried.option,
        True,
    )
    assert decision.rounds[0].features.session, "a combo's requests belong to sessions"


def test_recording_alone_makes_the_record_of_the_request_once_more(world: World) -> None:
    work = world.work()
    world.serve(work)
    served = Reader().read(work.packed)
    world.record_again(work)
    again = Reader().read(work.packed)
    assert again.grounds == served.grounds
    assert again.decision.rounds == served.decision.rounds
    assert again.decision.attempts == served.decision.attempts


def test_requests_come_from_many_conversations(world: World) -> None:
    works = [world.work() for _ in range(20)]
    for work in works:
        world.serve(work)
    assert len({work.route.asked.features.session for work in works}) == 20
    assert len({work.call.request_id for work in works}) == 20
    assert {len(work.call.body) for work in works} == {bodies.SMALL_BYTES + len("0000 ")}


def test_every_case_is_measured_in_a_process_of_its_own() -> None:
    costs = {cost.name: cost for cost in routing_cost.run_in_process(Job(batches=2, requests=5))}
    assert list(costs) == [case.name for case in CASES]
    for cost in costs.values():
        assert 0 < cost.least_us <= cost.median_us
        assert cost.uncompressed_us > 0
        assert cost.recording_us > 0
        assert set(cost.stages_us) == set(STAGES)
        assert all(spent > 0 for spent in cost.stages_us.values())
        assert cost.stored_bytes > 100
    sizes = {case: (costs[case.name].options, costs[case.name].accounts) for case in CASES}
    assert sizes[DIRECT] == (1, 1)
    assert sizes[COMBO] == sizes[RESTING] == sizes[LONG] == (10, 20)
    assert sizes[LARGE] == (647, 57)
    options, accounts = sizes[POOL]
    assert accounts == 57
    assert options > 50
    assert costs[COMBO.name].entries == 10


def test_what_is_to_rest_does(tmp_path: Path) -> None:
    world = routing_cost._world(RESTING, catalog.load(), tmp_path)
    try:
        work = world.work()
        world.serve(work)
        assert [len(entry.seats) for entry in work.route.plan.entries] == [1] * 3 + [2] * 7
        assert [one.reason for one in work.route.plan.exclusions] == ["cooling"] * 3
        assert [tried.account for tried in Reader().read(work.packed).decision.attempts] == [
            work.route.plan.entries[0].seats[0].account.id
        ]
    finally:
        world.close()


def _cost(name: str, least_us: float) -> Cost:
    return Cost(name, 1, 1, 1, least_us, 2 * least_us, least_us / 2, dict.fromkeys(STAGES, 1.0), 5.0, 300)


@pytest.mark.parametrize(
    ("direct_us", "combo_us", "verdicts"),
    [(59.9, 149.0, ["PASS", "PASS"]), (60.4, 151.0, ["FAIL", "FAIL"])],
)
def test_the_bars_judge_the_direct_model_and_the_combo(direct_us: float, combo_us: float, verdicts: list[str]) -> None:
    costs = (_cost(DIRECT.name, direct_us), _cost(COMBO.name, combo_us), _cost(LONG.name, 900.0))
    found = findings_of(costs, batches=4)
    assert [bar.verdict for bar in found.bars] == verdicts
    assert [bar.limit for bar in found.bars] == [60, 150]
    text = found.section.render()
    assert "Not inside" in text
    assert all(cost.name in text for cost in costs)

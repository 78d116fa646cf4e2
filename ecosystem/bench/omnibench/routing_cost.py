"""What routing costs by itself: no sockets, no web server, one process that does nothing else.

Runs as a process of its own (`python -m omnibench.routing_cost`, a job as JSON on standard input, the report as JSON on
standard output), so that it can be bound to the worker's core. A request goes through everything that routing adds to
it, in the order in which the handler and the driver do it: the name; the session and what the request is like; the
plan; the loop of attempts with the gate; the notes on what served; the decision record, and its compression. Nobody is
asked: the first candidate serves at once.

The least mean of many batches is quoted: what disturbs a batch only ever adds to it.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omnibench import bodies
from omnibench.processes import bound_to
from omnibench.targets import REPOSITORY

if TYPE_CHECKING:
    from omnibench.routing_world import Work, World
    from omniroute.providers.catalog import Catalogue

STAGES: Final = ("name", "plan", "attempt", "end", "compression")
"""Of a request, in order."""
AUTO: Final = "auto"
_TURNS: Final = 5
"""How often a job comes round: the batches of one case lie apart, so that a slow second does not fall on one case."""


@dataclass(frozen=True, slots=True)
class Job:
    """How much to measure: so many batches of so many requests, of each case."""

    batches: int
    requests: int


@dataclass(frozen=True, slots=True)
class Case:
    """A configuration, and what is asked of it.

    Attributes:
        providers: of the catalogue.
        accounts: connections to each of them.
        strategy: of a combo of `steps` models; "" where one model or the channel `auto` is asked for.
        is_long: an agent's request of 115 KB, otherwise one of 1 KB.
        resting: providers of which one connection rests.
    """

    name: str
    providers: int
    accounts: int
    strategy: str = ""
    steps: int = 0
    is_auto: bool = False
    is_long: bool = False
    resting: int = 0


DIRECT: Final = Case("direct model", 1, 1)
COMBO: Final = Case("combo", 10, 2, "priority", 10)
RESTING: Final = Case("combo, 3 connections rest", 10, 2, "priority", 10, resting=3)
LONG: Final = Case("combo, 115 KB", 10, 2, "priority", 10, is_long=True)
POOL: Final = Case("`auto`", 19, 3, is_auto=True)
LARGE: Final = Case("combo by score", 19, 3, "auto", 647)
CASES: Final = (DIRECT, COMBO, RESTING, LONG, POOL, LARGE)


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds per request of one case.

    Attributes:
        options: models that the name stands for.
        accounts: connections that may serve them.
        entries: models that a plan had in order.
        least_us, median_us: means of batches.
        uncompressed_us: the least mean of a batch without the compression of the decision record.
        stages_us: of the request in the middle, by stage, on the clock and so with reading it.
        recording_us: the part of the decision record with its compression, measured alone: the least mean of a batch.
        stored_bytes: of a decision.
    """

    name: str
    options: int
    accounts: int
    entries: int
    least_us: float
    median_us: float
    uncompressed_us: float
    stages_us: Mapping[str, float]
    recording_us: float
    stored_bytes: int


@dataclass(slots=True)
class _Times:
    """Microseconds per request, of batches; and of each request by stage."""

    whole: list[float] = field(default_factory=list)
    uncompressed: list[float] = field(default_factory=list)
    recording: list[float] = field(default_factory=list)
    stages: tuple[list[float], ...] = field(default_factory=lambda: tuple([] for _ in STAGES))


def run(job: Job) -> tuple[Cost, ...]:
    """Measure in this process."""
    # Only this process needs the package under test.
    from omniroute.providers import catalog

    catalogue = catalog.load()
    with ExitStack() as stack:
        worlds: dict[Case, World] = {}
        for case in CASES:
            data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omniroute-bench-routing-")))
            worlds[case] = _world(case, catalogue, data_dir)
            stack.callback(worlds[case].close)
        gc.collect()
        gc.freeze()
        times = {case: _Times() for case in CASES}
        turns = min(_TURNS, job.batches)
        for _ in range(turns):
            for case, world in worlds.items():
                _warm(world, job.requests)
                for _ in range(max(1, job.batches // turns)):
                    _measure(world, job.requests, times[case])
        return tuple(_cost(case, world, times[case]) for case, world in worlds.items())


def _world(case: Case, catalogue: Catalogue, data_dir: Path) -> World:
    from omnibench import routing_world as worlds

    providers = worlds.connected_to(catalogue, case.providers)
    models = worlds.models_in_turn(catalogue, providers)
    if len(models) < case.steps:
        raise ValueError(f"{case.name}: {case.providers} providers of the catalogue have {len(models)} chat models")
    combo = worlds.combo_of(case.strategy, models[: case.steps]) if case.strategy else None
    requested = AUTO if case.is_auto else models[0] if combo is None else combo.name
    body = bodies.large(requested) if case.is_long else bodies.small(requested)
    world = worlds.World(catalogue, data_dir, worlds.configured(providers, case.accounts, combo), requested, body)
    world.rest(provider.id for provider in providers[: case.resting])
    return world


def _warm(world: World, requests: int) -> None:
    """Serve a batch that does not count: the one before was of another case."""
    for _ in range(requests):
        world.serve(world.work())


def _measure(world: World, requests: int, times: _Times) -> None:
    times.whole.append(_flow_us(world, world.serve, requests))
    times.uncompressed.append(_flow_us(world, world.route, requests))
    works = [world.work() for _ in range(requests)]
    for work in works:
        world.serve(work)
    times.recording.append(_mean_us(world.record_again, works))
    stages = (world.resolve, world.plan, world.attempt, world.close_route, world.pack)
    for _ in range(requests):
        work = world.work()
        for stage, found in zip(stages, times.stages, strict=True):
            start = time.perf_counter()
            stage(work)
            found.append(1e6 * (time.perf_counter() - start))


def _flow_us(world: World, step: Callable[[Work], None], requests: int) -> float:
    """Return what a step costs for requests that come one after the other.

    Each is forgotten before the next one comes, as in a worker: many that are kept alive lie further apart in memory
    than a request's own data ever does. What it costs to make and forget them is taken off.
    """
    began = time.process_time()
    for _ in range(requests):
        step(world.work())
    middle = time.process_time()
    for _ in range(requests):
        world.work()
    return 1e6 * (middle - began - (time.process_time() - middle)) / requests


def _mean_us(step: Callable[[Work], None], works: Sequence[Work]) -> float:
    began = time.process_time()
    for work in works:
        step(work)
    return 1e6 * (time.process_time() - began) / len(works)


def _cost(case: Case, world: World, times: _Times) -> Cost:
    work = world.work()
    world.serve(work)
    options = work.resolved.options
    return Cost(
        name=case.name,
        options=len(options),
        accounts=len({account.id for option in options for account in option.accounts}),
        entries=len(work.route.plan.entries),
        least_us=min(times.whole),
        median_us=statistics.median(times.whole),
        uncompressed_us=min(times.uncompressed),
        stages_us={name: statistics.median(found) for name, found in zip(STAGES, times.stages, strict=True)},
        recording_us=min(times.recording),
        stored_bytes=len(work.packed),
    )


def run_in_process(job: Job, cores: Iterable[int] | None = None) -> tuple[Cost, ...]:
    """Run a job in a child process bound to `cores`.

    Raises:
        RuntimeError: the child did not report.
    """
    folder = str(Path(__file__).resolve().parent.parent)
    search = os.pathsep.join((folder, str(REPOSITORY)))
    with bound_to(cores):
        child = subprocess.run(
            [sys.executable, "-m", "omnibench.routing_cost"],
            check=False,
            input=json.dumps(dataclasses.asdict(job)),
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": search},
            timeout=300,
        )
    if child.returncode:
        raise RuntimeError(f"the measurement of routing failed: {child.stderr[-2000:]}")
    return tuple(Cost(**cost) for cost in json.loads(child.stdout))


def main() -> None:
    """Read a job from standard input, run it, print the report."""
    gc.set_threshold(20_000, 20, 50)  # as the worker does
    costs = run(Job(**json.load(sys.stdin)))
    json.dump([dataclasses.asdict(cost) for cost in costs], sys.stdout)


if __name__ == "__main__":
    main()

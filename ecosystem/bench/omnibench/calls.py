"""Plain calls: added latency, throughput and CPU per request, target by target in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from omnibench import bodies, wrk
from omnibench.machine import Cores
from omnibench.processes import TargetFailed
from omnibench.stats import Spread, paired_difference, paired_ratio, spread
from omnibench.targets import CALL_MODEL, Target

_AFTERWORK_S: Final = 0.35
"""The log is written in batches every 250 ms: the batch of the last requests belongs to the CPU of this run."""
_PATIENCE: Final = 10

Say = Callable[[str], None]


class Body(StrEnum):
    """Which request body."""

    SMALL = "1 KB"
    LARGE = "115 KB"


@dataclass(frozen=True, slots=True)
class Case:
    """One point of the comparison."""

    body: Body
    connections: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One target in one case in one round."""

    target: str
    case: Case
    round: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU microseconds of the worker per finished request."""
    requests: int
    failed: int
    waiting_share: float = 0.0
    """How much of the time that it wanted to run the worker stood in line for its core."""


def body_for(target: Target, body: Body) -> bytes:
    """Return the bytes to send to a target."""
    build = bodies.small if body is Body.SMALL else bodies.large
    return build(target.model(CALL_MODEL))


def measure(
    target: Target, case: Case, seconds: float, number: int, cores: Cores, *, body: bytes | None = None
) -> Sample:
    """Drive one target once and account its worker; a target too slow for a single answer gets more time, once.

    `body` is sent instead of the one that the case names.

    Raises:
        TargetFailed: not one request was finished then either.
    """
    content = body_for(target, case.body) if body is None else body
    for length in (seconds, seconds * _PATIENCE):
        load = wrk.Load(target.url, content, target.headers, case.connections, length)
        before = target.account()
        outcome = wrk.run(load, cores.rest)
        if outcome.requests:
            break
    else:
        raise TargetFailed(f"{target.name} finished no request in {seconds * _PATIENCE:g} s\n{target.server.tail()}")
    time.sleep(_AFTERWORK_S)
    used = target.account().since(before)
    return Sample(
        target=target.name,
        case=case,
        round=number,
        per_second=outcome.per_second,
        p50_ms=outcome.p50_ms,
        p99_ms=outcome.p99_ms,
        cpu_us=1e6 * used.cpu_s / outcome.requests,
        waiting_share=used.waiting_share,
        requests=outcome.requests,
        failed=outcome.failed,
    )


def rotate(targets: Sequence[Target], number: int) -> Iterator[Target]:
    """Yield the targets, beginning with another one each round, so that none always has the warm machine."""
    for index in range(len(targets)):
        yield targets[(index + number) % len(targets)]


def compare(
    targets: Sequence[Target],
    cases: Iterable[Case],
    rounds: int,
    seconds: float,
    cores: Cores,
    say: Say,
    *,
    most_connections: Mapping[str, int] | None = None,
) -> list[Sample]:
    """Measure every target in every case, `rounds` times, the targets of a case right after each other.

    `most_connections` leaves a target, by name, out of the cases with more.
    """
    bounds = most_connections or {}
    wanted = list(cases)
    samples: list[Sample] = []
    for number in range(rounds):
        for case in wanted:
            # With many connections much is in flight at the end and not counted: a longer run makes that small.
            length = seconds * 2 if case.connections >= 256 and seconds > 1 else seconds
            for target in rotate(targets, number):
                if case.connections > bounds.get(target.name, case.connections):
                    continue
                sample = measure(target, case, length, number, cores)
                samples.append(sample)
                say(
                    f"  round {number + 1}/{rounds}  {case.body:>6}  c={case.connections:<3}  {target.name:<10}"
                    f"{sample.per_second:9.0f}/s  p50 {sample.p50_ms:7.2f} ms  p99 {sample.p99_ms:8.2f} ms"
                    f"  {sample.cpu_us:6.0f} µs CPU, {100 * sample.waiting_share:2.0f} % waiting"
                    + (f"  {sample.failed} FAILED" if sample.failed else "")
                )
    return samples


@dataclass(frozen=True, slots=True)
class Line:
    """One target in one case over all rounds, beside the direct way in the same rounds."""

    target: str
    case: Case
    per_second: Spread
    p50_ms: Spread
    p99_ms: Spread
    added_p50_ms: Spread
    added_p99_ms: Spread
    cpu_us: Spread
    failed: int
    requests: int


def lines(samples: Sequence[Sample], base: str = "direct") -> list[Line]:
    """Fold the samples into one line for each case and target, in the order of first appearance."""
    groups: dict[tuple[Case, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.case, sample.target), []).append(sample)
    found: list[Line] = []
    for case, target in sorted(groups, key=lambda group: (group[0].body, group[0].connections, group[1] != base)):
        mine, direct = groups[case, target], groups[case, base]
        found.append(
            Line(
                target=target,
                case=case,
                per_second=spread([s.per_second for s in mine]),
                p50_ms=spread([s.p50_ms for s in mine]),
                p99_ms=spread([s.p99_ms for s in mine]),
                added_p50_ms=paired_difference({s.round: s.p50_ms for s in mine}, {s.round: s.p50_ms for s in direct}),
                added_p99_ms=paired_difference({s.round: s.p99_ms for s in mine}, {s.round: s.p99_ms for s in direct}),
                cpu_us=spread([s.cpu_us for s in mine]),
                failed=sum(s.failed for s in mine),
                requests=sum(s.requests for s in mine),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Ratio:
    """One target against another in one case, round by round."""

    case: Case
    cpu: Spread
    per_second: Spread
    p50: Spread


def ratios(samples: Sequence[Sample], target: str, other: str) -> list[Ratio]:
    """Return target / other for each case that both took part in."""
    found: list[Ratio] = []
    for case in dict.fromkeys(s.case for s in samples):
        mine = {s.round: s for s in samples if s.case == case and s.target == target}
        theirs = {s.round: s for s in samples if s.case == case and s.target == other}
        if not mine.keys() & theirs.keys():
            continue
        found.append(
            Ratio(
                case,
                cpu=paired_ratio({r: s.cpu_us for r, s in mine.items()}, {r: s.cpu_us for r, s in theirs.items()}),
                per_second=paired_ratio(
                    {r: s.per_second for r, s in mine.items()}, {r: s.per_second for r, s in theirs.items()}
                ),
                p50=paired_ratio({r: s.p50_ms for r, s in mine.items()}, {r: s.p50_ms for r, s in theirs.items()}),
            )
        )
    return found


# --- two servers in turn -----------------------------------------------------------------------------------------


def alternate(
    first: Target, second: Target, case: Case, pairs: int, seconds: float, cores: Cores, say: Say
) -> list[Sample]:
    """Measure two servers in turn, A B, B A, A B …, so that a drift of the machine falls on both alike."""
    samples: list[Sample] = []
    for number in range(pairs):
        order = (first, second) if number % 2 == 0 else (second, first)
        pair = {target.name: measure(target, case, seconds, number, cores) for target in order}
        samples += pair.values()
        a, b = pair[first.name], pair[second.name]
        say(
            f"  pair {number + 1}/{pairs}  {first.name} {a.cpu_us:.0f} µs, {second.name} {b.cpu_us:.0f} µs CPU"
            f"  ratio {a.cpu_us / b.cpu_us:.3f}" + (f"  {a.failed + b.failed} FAILED" if a.failed + b.failed else "")
        )
    return samples

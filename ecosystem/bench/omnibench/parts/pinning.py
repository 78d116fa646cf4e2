"""Is it fairer to give the worker a core of its own? The same servers, bound and free in turn."""

from __future__ import annotations

from omnibench import calls
from omnibench.bench import Bench, Findings
from omnibench.calls import Body, Case, Sample
from omnibench.machine import FREE
from omnibench.processes import pin
from omnibench.report import Section, number
from omnibench.stats import Spread, spread
from omnibench.targets import Target


def run(bench: Bench) -> Findings:
    """Measure 1 KB calls both ways; nothing to judge, but it says how far the other figures can be trusted."""
    section = Section("A core of its own, or not")
    if not bench.cores.are_pinned or not bench.plan.pin_rounds:
        section.say("Not compared in this run.")
        return Findings([], section)
    section.say(
        "The same servers in turn with the worker on one core and everything else on the others (own), and with the "
        "kernel's choice (free). Width: (highest − lowest round) / median; the smaller it is, the steadier the figure."
    )
    cases = (Case(Body.SMALL, 1), Case(Body.SMALL, 64))
    header = ("Target", "Conn.", "Cores", "Requests/s", "Width", "p50 ms", "Width", "CPU µs", "Width")
    section.table(header, [_row(key, samples) for key, samples in sorted(_measure(bench, cases).items())])
    return Findings([], section)


def _measure(bench: Bench, cases: tuple[Case, ...]) -> dict[tuple[str, int, str], list[Sample]]:
    """Return the samples by target, connections and `own` or `free`."""
    targets = (bench.upstream, bench.omniroute)
    found: dict[tuple[str, int, str], list[Sample]] = {}
    rounds = bench.plan.pin_rounds
    try:
        for number_ in range(rounds):
            for way in ("own", "free") if number_ % 2 == 0 else ("free", "own"):
                for target in targets:
                    _place(bench, target, is_free=way == "free")
                cores = bench.cores if way == "own" else FREE
                for case in cases:
                    for target in targets:
                        sample = calls.measure(target, case, bench.plan.seconds, number_, cores)
                        found.setdefault((target.name, case.connections, way), []).append(sample)
            bench.say(f"  pinned and free, round {number_ + 1}/{rounds}")
    finally:
        for target in targets:
            _place(bench, target, is_free=False)
    return found


def _place(bench: Bench, target: Target, *, is_free: bool) -> None:
    worker, rest = bench.cores.worker or (), bench.cores.rest or ()
    own = rest if target is bench.upstream else worker
    pin(target.worker_pid, (*worker, *rest) if is_free else own)


def _row(key: tuple[str, int, str], samples: list[Sample]) -> tuple[str, ...]:
    name, connections, way = key
    rate = spread([s.per_second for s in samples])
    p50 = spread([s.p50_ms for s in samples])
    cpu = spread([s.cpu_us for s in samples])
    figures = (number(rate.median), _width(rate), number(p50.median, 2), _width(p50), number(cpu.median), _width(cpu))
    return (name, str(connections), way, *figures)


def _width(figure: Spread) -> str:
    return f"{100 * figure.relative_width:.0f}%"

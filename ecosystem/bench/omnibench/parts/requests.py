"""Plain calls at several concurrencies and two sizes: direct, nginx, OmniRoute, and the peers on demand."""

from __future__ import annotations

from typing import Final

from omnibench import calls, flows
from omnibench.bench import Bench, Findings
from omnibench.calls import Body, Case
from omnibench.peers import start_peers
from omnibench.report import Bar, Section, number
from omnibench.targets import FAST_STREAM_MODEL, Target

_PEER_WARM_UP_S: Final = 8
"""A just-in-time compiler needs thousands of calls until it is as fast as it gets."""


_PEER_CONNECTIONS: Final = 64
"""With 256 the slowest of them needs more than a whole measurement for its first answers."""


def run(bench: Bench) -> Findings:
    """Measure all targets in turn, round by round."""
    plan = bench.plan
    own = bench.targets
    peers: list[Target] = []
    versions: dict[str, str] = {}
    if bench.with_peers:
        peers, versions = start_peers(bench.park, bench.upstream, bench.cores, bench.scratch, bench.say)
    targets = own + peers
    cases = [Case(Body.SMALL, c) for c in plan.connections] + [Case(Body.LARGE, c) for c in plan.large_connections]
    for target in targets:  # not counted: caches, connection pools and code paths get warm
        seconds = _PEER_WARM_UP_S if target in peers else 1
        calls.measure(target, Case(Body.SMALL, 16), seconds, 0, bench.cores)
    bounds = dict.fromkeys((peer.name for peer in peers), _PEER_CONNECTIONS)
    samples = calls.compare(targets, cases, plan.rounds, plan.seconds, bench.cores, bench.say, most_connections=bounds)
    lines = calls.lines(samples)
    section = Section("Requests")
    section.say(
        "Non-stream chat calls, medians over the rounds. Added p50 and p99 are the differences to the direct call of "
        "the same round. CPU is the worker's own per finished request (for *direct* that of the sandbox server), the "
        "writing of the log included."
    )
    header = ("Body", "Conn.", "Target", "Requests/s", "p50 ms", "p99 ms", "Added p50", "Added p99", "CPU µs", "Failed")
    section.table(header, [_row(line) for line in lines])
    if peers:
        _compare_peers(bench, section, samples, peers)
    for peer in peers:
        bench.park.stop(peer.server)
    bars = _bars([line for line in lines if line.target == bench.omniroute.name])
    waiting = [sample.waiting_share for sample in samples if sample.target == bench.omniroute.name]
    return Findings(bars, section, versions, waiting)


def _row(line: calls.Line) -> tuple[str, ...]:
    is_base = line.target == "direct"
    return (
        line.case.body,
        str(line.case.connections),
        line.target,
        number(line.per_second.median),
        number(line.p50_ms.median, 2),
        number(line.p99_ms.median, 2),
        "–" if is_base else number(line.added_p50_ms.median, 2),
        "–" if is_base else number(line.added_p99_ms.median, 2),
        number(line.cpu_us.median),
        number(line.failed),
    )


def _bars(lines: list[calls.Line]) -> list[Bar]:
    """Judge OmniRoute's lines; CPU by the worst concurrency, so that no choice of a lucky one is needed."""
    small = [line for line in lines if line.case.body is Body.SMALL]
    large = [line for line in lines if line.case.body is Body.LARGE]
    single = next(line for line in small if line.case.connections == 1)
    worst_small = max(small, key=lambda line: line.cpu_us.median)
    worst_large = max(large, key=lambda line: line.cpu_us.median)
    best = max(small, key=lambda line: line.per_second.median)
    return [
        Bar(
            "1 KB call: CPU per request, worst concurrency",
            worst_small.cpu_us.median / 1000,
            0.9,
            "ms",
            goal=0.6,
            digits=3,
            note=f"at {worst_small.case.connections} connections; "
            f"{best.per_second.median:,.0f} requests/s at {best.case.connections}",
        ),
        Bar("1 KB call: added p50 at concurrency 1", single.added_p50_ms.median, 2.0, "ms", goal=1.0),
        Bar(
            "115 KB call: CPU per request, worst concurrency",
            worst_large.cpu_us.median / 1000,
            2.0,
            "ms",
            digits=3,
            note=f"at {worst_large.case.connections} connections",
        ),
        Bar(
            "Failed requests",
            sum(line.failed for line in lines),
            0,
            "",
            digits=0,
            note=f"of {sum(line.requests for line in lines):,}",
        ),
    ]


def _compare_peers(bench: Bench, section: Section, samples: list[calls.Sample], peers: list[Target]) -> None:
    section.say(
        "**Peers against OmniRoute**, medians of the rounds' ratios. CPU and p50: theirs over OmniRoute's; requests/s: "
        "OmniRoute's over theirs. A figure over 1 is in OmniRoute's favour."
    )
    rows = [
        (
            ratio.case.body,
            str(ratio.case.connections),
            peer.name,
            f"{ratio.cpu.median:.2f}×",
            f"{ratio.p50.median:.2f}×",
            f"{1 / ratio.per_second.median:.2f}×",
        )
        for peer in peers
        for ratio in calls.ratios(samples, peer.name, bench.omniroute.name)
    ]
    section.table(("Body", "Conn.", "Peer", "CPU", "p50", "Requests/s"), rows)
    flow = flows.Flow("50 streams at 200 chunks/s", FAST_STREAM_MODEL, 50, 200, 0.25, 120)
    # Portkey's gateway answers these streams with status 500 on Node: calls only.
    targets = [bench.upstream, bench.omniroute, *(peer for peer in peers if peer.name != "portkey")]
    streamed = flows.compare(targets, flow, min(3, bench.plan.few_rounds), bench.cores, bench.say)
    section.say("The same targets with 50 streams of 200 chunks:")
    section.table(flows.HEADER, [flows.row(flows.line(streamed, target.name)) for target in targets])

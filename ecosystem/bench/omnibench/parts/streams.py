"""Streams: a thousand paced ones, five hundred as fast as they come, fifty that must end when the direct ones do."""

from __future__ import annotations

from typing import Final

from omnibench import calls, flows
from omnibench.bench import Bench, Findings
from omnibench.calls import Body, Case
from omnibench.report import Bar, Section
from omnibench.stats import spread
from omnibench.targets import FAST_STREAM_MODEL, configured_omniroute

_NEW_PER_S: Final = 200
"""How fast paced streams are opened: a thousand callers do not arrive within one millisecond."""


def run(bench: Bench) -> Findings:
    """Measure the three flows; every stream of every one is checked chunk by chunk."""
    section = Section("Streams")
    section.say(
        "Every chunk carries its number; a stream is whole when each number arrived exactly once and in order, and "
        f"then `[DONE]`. Paced streams are opened at {_NEW_PER_S} a second and are all open together after that, the "
        "500 fast ones are opened at once. Time to first content counts from before the connect. Gaps are the times "
        "between chunks as they arrive; chunks that came in one read have none."
    )
    findings = Findings([], section)
    for measure in (_paced, _fast, _few):
        bars, samples = measure(bench, section)
        findings.bars += bars
        findings.waiting_shares += [s.waiting_share for s in samples if s.target == "omniroute"]
    return findings


def _paced(bench: Bench, section: Section) -> tuple[list[Bar], list[flows.FlowSample]]:
    """Run the thousand streams through a fresh server each round, so that their memory shows."""
    plan = bench.plan
    count, chunks = 1_000, plan.slow_chunks
    length_s = chunks / 5
    flow = flows.Flow(
        f"{count:,} at 5 chunks/s", f"story-{chunks}-200", count, chunks, count / _NEW_PER_S, length_s + 60
    )
    samples: list[flows.FlowSample] = []
    for number in range(plan.slow_rounds):
        fresh = configured_omniroute(bench.park, bench.upstream, bench.data_dir(), bench.cores)
        calls.measure(fresh, Case(Body.SMALL, 1), 1, 0, bench.cores)
        pair = (bench.upstream, fresh) if number % 2 == 0 else (fresh, bench.upstream)
        for target in pair:
            sample = flows.measure(target, flow, number, bench.cores)
            samples.append(sample)
            bench.say(f"  round {number + 1}/{plan.slow_rounds}  {flows.describe(sample)}")
        bench.park.stop(fresh.server)
    mine = flows.line(samples, "omniroute")
    added = mine.added_first_p99_ms
    memory = spread([s.rss_per_stream for s in samples if s.target == "omniroute"])
    section.table(flows.HEADER, [flows.row(flows.line(samples, name)) for name in ("direct", "omniroute")])
    short = "" if chunks == 200 else f"{chunks} chunks each in this quick run"
    bars = [
        Bar("1,000 streams: not whole", mine.opened - mine.whole, 0, "", digits=0, note=short),
        Bar("1,000 streams: chunks lost or out of order", mine.lost + mine.reordered, 0, "", digits=0, note=short),
        Bar(
            "1,000 streams: added time to first content, p99",
            added.median if added else None,
            250,
            "ms",
            digits=0,
            note=f"opened at {_NEW_PER_S}/s; worker at {100 * mine.worker_load.median:.0f} % of a core",
        ),
        Bar("1,000 streams: memory per open stream", memory.median / 1024, 60, "KB", digits=1),
    ]
    return bars, samples


def _fast(bench: Bench, section: Section) -> tuple[list[Bar], list[flows.FlowSample]]:
    flow = flows.Flow("500 at 200 chunks/s", FAST_STREAM_MODEL, 500, 200, 0.0, 60)
    samples = flows.compare(bench.targets, flow, bench.plan.fast_rounds, bench.cores, bench.say)
    mine = flows.line(samples, bench.omniroute.name)
    section.table(flows.HEADER, [flows.row(flows.line(samples, target.name)) for target in bench.targets])
    bars = [
        Bar("500 fast streams: not whole", mine.opened - mine.whole, 0, "", digits=0),
        Bar(
            "500 fast streams: chunks relayed per second",
            mine.chunks_per_s.median,
            20_000,
            "",
            goal=40_000,
            is_minimum=True,
            digits=0,
            note=f"worker at {100 * mine.worker_load.median:.0f} % of a core",
        ),
        Bar("500 fast streams: CPU per chunk", mine.cpu_us_per_chunk.median, 50, "µs", digits=1),
    ]
    return bars, samples


def _few(bench: Bench, section: Section) -> tuple[list[Bar], list[flows.FlowSample]]:
    flow = flows.Flow("50 at 200 chunks/s", FAST_STREAM_MODEL, 50, 200, 50 / _NEW_PER_S, 30)
    samples = flows.compare(bench.targets, flow, bench.plan.few_rounds, bench.cores, bench.say)
    mine = flows.line(samples, bench.omniroute.name)
    section.table(flows.HEADER, [flows.row(flows.line(samples, target.name)) for target in bench.targets])
    ratio, single = mine.wall_ratio, mine.stream_ratio
    note = f"the median stream: {single.median:.3f}×" if single else ""
    bars = [
        Bar("50 fast streams: not whole", mine.opened - mine.whole, 0, "", digits=0),
        Bar("50 fast streams: time against direct", ratio.median if ratio else None, 1.03, "×", digits=3, note=note),
    ]
    return bars, samples

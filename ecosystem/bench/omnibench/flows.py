"""Streams: what arrives, in which order, how late, and what a chunk costs the worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from omnibench import bodies, streams
from omnibench.calls import Say
from omnibench.machine import Cores
from omnibench.processes import rss_bytes
from omnibench.report import number
from omnibench.stats import Spread, paired_difference, paired_ratio, spread
from omnibench.targets import CHAT_PATH, Target

_SAMPLE_EVERY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Flow:
    """One kind of stream load."""

    name: str
    model: str
    streams: int
    chunks: int
    ramp_s: float
    deadline_s: float


@dataclass(frozen=True, slots=True)
class FlowSample:
    """One target under one flow in one round."""

    target: str
    flow: Flow
    round: int
    report: streams.StreamReport
    cpu_s: float
    rss_before: int
    rss_peak: int
    """Largest resident memory of the worker while the streams ran; all of them were open at that time."""
    waiting_share: float
    """How much of the time that it wanted to run the worker stood in line for its core."""

    @property
    def cpu_us_per_chunk(self) -> float:
        """Return CPU microseconds of the worker per delivered chunk, the opening of the streams included."""
        return 1e6 * self.cpu_s / max(1, self.report.chunks)

    @property
    def worker_load(self) -> float:
        """Return which share of one core the worker used."""
        return self.cpu_s / self.report.wall_s if self.report.wall_s else 0.0

    @property
    def rss_per_stream(self) -> float:
        """Return bytes of memory for one more open stream."""
        return (self.rss_peak - self.rss_before) / max(1, self.report.peak_open)


@dataclass(slots=True)
class _Watch:
    """Follows the memory of a process in a thread that sleeps."""

    pid: int
    peak: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._stop.wait(_SAMPLE_EVERY_S):
            self.peak = max(self.peak, rss_bytes(self.pid))

    def stop(self) -> None:
        self._stop.set()


def measure(target: Target, flow: Flow, round_number: int, cores: Cores) -> FlowSample:
    """Run one flow against one target and account its worker."""
    job = streams.StreamJob(
        port=target.port,
        path=CHAT_PATH,
        body=bodies.small(target.model(flow.model), stream=True, most_tokens=max(256, 2 * flow.chunks)).decode(),
        headers=target.headers,
        streams=flow.streams,
        chunks=flow.chunks,
        ramp_s=flow.ramp_s,
        deadline_s=flow.deadline_s,
    )
    before = rss_bytes(target.worker_pid)
    watch = _Watch(target.worker_pid, before)
    thread = threading.Thread(target=watch.run, daemon=True)
    usage_before = target.account()
    thread.start()
    try:
        report = streams.run_in_process(job, cores.rest)
    finally:
        watch.stop()
        thread.join()
    time.sleep(0.35)
    used = target.account().since(usage_before)
    return FlowSample(
        target.name, flow, round_number, report, used.cpu_s, before, watch.peak, waiting_share=used.waiting_share
    )


def compare(targets: Sequence[Target], flow: Flow, rounds: int, cores: Cores, say: Say) -> list[FlowSample]:
    """Run a flow against every target in turn, `rounds` times."""
    samples: list[FlowSample] = []
    for turn in range(rounds):
        for index in range(len(targets)):
            sample = measure(targets[(index + turn) % len(targets)], flow, turn, cores)
            samples.append(sample)
            say(f"  round {turn + 1}/{rounds}  {describe(sample)}")
    return samples


def describe(sample: FlowSample) -> str:
    """Return one line about a sample for the terminal."""
    report = sample.report
    wrong = report.streams - report.whole
    text = (
        f"{sample.flow.name}  {sample.target:<10} {report.whole}/{report.streams} whole  "
        f"{report.chunks_per_s:8.0f} chunks/s  {sample.cpu_us_per_chunk:5.1f} µs CPU per chunk, "
        f"{100 * sample.waiting_share:2.0f} % waiting  first content p50 {report.first_content_p50_ms:.0f} "
        f"p99 {report.first_content_p99_ms:.0f} ms  wall {report.wall_s:.2f} s"
    )
    return f"{text}  PROBLEMS: {'; '.join(report.problems[:2])}" if wrong else text


@dataclass(frozen=True, slots=True)
class FlowLine:
    """One target under one flow over all rounds."""

    target: str
    flow: Flow
    rounds: int
    whole: int
    opened: int
    lost: int
    reordered: int
    """Out of order or repeated."""
    chunks_per_s: Spread
    cpu_us_per_chunk: Spread
    worker_load: Spread
    first_p50_ms: Spread
    first_p99_ms: Spread
    added_first_p99_ms: Spread | None
    gap_p50_ms: Spread
    gap_p99_ms: Spread
    wall_s: Spread
    wall_ratio: Spread | None
    stream_ratio: Spread | None
    """Median time of a single stream against the direct one."""


def line(samples: Sequence[FlowSample], target: str, base: str = "direct") -> FlowLine:
    """Fold the samples of one target under one flow; the comparison with `base` goes round by round."""
    mine = [s for s in samples if s.target == target]
    direct = {s.round: s.report for s in samples if s.target == base}
    reports = {s.round: s.report for s in mine}
    is_compared = bool(direct.keys() & reports.keys())
    return FlowLine(
        target=target,
        flow=mine[0].flow,
        rounds=len(mine),
        whole=sum(r.whole for r in reports.values()),
        opened=sum(r.streams for r in reports.values()),
        lost=sum(r.lost for r in reports.values()),
        reordered=sum(r.reordered + r.duplicated for r in reports.values()),
        chunks_per_s=spread([r.chunks_per_s for r in reports.values()]),
        cpu_us_per_chunk=spread([s.cpu_us_per_chunk for s in mine]),
        worker_load=spread([s.worker_load for s in mine]),
        first_p50_ms=spread([r.first_content_p50_ms for r in reports.values()]),
        first_p99_ms=spread([r.first_content_p99_ms for r in reports.values()]),
        added_first_p99_ms=paired_difference(
            {n: r.first_content_p99_ms for n, r in reports.items()},
            {n: r.first_content_p99_ms for n, r in direct.items()},
        )
        if is_compared
        else None,
        gap_p50_ms=spread([r.gap_p50_ms for r in reports.values()]),
        gap_p99_ms=spread([r.gap_p99_ms for r in reports.values()]),
        wall_s=spread([r.wall_s for r in reports.values()]),
        wall_ratio=paired_ratio({n: r.wall_s for n, r in reports.items()}, {n: r.wall_s for n, r in direct.items()})
        if is_compared
        else None,
        stream_ratio=paired_ratio(
            {n: r.stream_p50_s for n, r in reports.items()}, {n: r.stream_p50_s for n, r in direct.items()}
        )
        if is_compared
        else None,
    )


HEADER: Final = (
    "Streams",
    "Target",
    "Whole",
    "Lost",
    "Out of order",
    "Chunks/s",
    "CPU µs/chunk",
    "First content p50 ms",
    "p99 ms",
    "Added p99 ms",
    "Gap p50 ms",
    "Gap p99 ms",
    "Wall s",
    "To direct",
)


def row(folded: FlowLine) -> tuple[str, ...]:
    """Return the cells of a line under :data:`HEADER`."""
    is_base = folded.target == "direct"
    return (
        folded.flow.name,
        folded.target,
        f"{folded.whole:,}/{folded.opened:,}",
        number(folded.lost),
        number(folded.reordered),
        number(folded.chunks_per_s.median),
        number(folded.cpu_us_per_chunk.median, 1),
        number(folded.first_p50_ms.median, 1),
        number(folded.first_p99_ms.median, 1),
        "–" if is_base or folded.added_first_p99_ms is None else number(folded.added_first_p99_ms.median, 1),
        number(folded.gap_p50_ms.median, 2),
        number(folded.gap_p99_ms.median, 2),
        number(folded.wall_s.median, 2),
        "–" if is_base or folded.wall_ratio is None else f"{folded.wall_ratio.median:.3f}×",
    )

"""The stream load generator: many SSE streams in one process, each checked chunk by chunk.

Raw asyncio protocols on uvloop, HTTP framing by httptools, the chunk numbers found by one regular expression per read,
so that the generator takes in over 100,000 chunks a second and is not what the benchmark measures. Runs as a process of
its own (`python -m omnibench.streams`, a job as JSON on standard input, the report as JSON on standard output) so that
it can be bound to another core than the worker.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import os
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httptools

from omnibench.processes import bound_to, raise_open_files
from omnibench.sequence import CHUNK_NUMBER, SequenceCheck, expected_numbers
from omnibench.stats import percentile

_END_OF_EVENT = b"\n\n"
_DONE = b"data: [DONE]"


@dataclass(frozen=True, slots=True)
class StreamJob:
    """What to open, and what must come back."""

    port: int
    path: str
    body: str
    headers: Mapping[str, str]
    streams: int
    chunks: int
    ramp_s: float = 0.0
    """The streams are opened evenly over this time; all stay open together when a stream lasts longer."""
    deadline_s: float = 120.0
    """When it passes, what is still open counts as cut."""
    first_number: int = 0


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What came back. Gaps are the times between chunks as they arrive; chunks of one read have none."""

    streams: int
    whole: int
    refused: int
    """Answered with another status than 200."""
    cut: int
    """Ended without `[DONE]`, or not at all before the deadline."""
    chunks: int
    lost: int
    duplicated: int
    reordered: int
    peak_open: int
    first_content_p50_ms: float
    first_content_p99_ms: float
    first_content_max_ms: float
    gap_p50_ms: float
    gap_p99_ms: float
    gap_max_ms: float
    stream_p50_s: float
    stream_max_s: float
    wall_s: float
    """From the first opening to the last end."""
    generator_cpu_s: float
    problems: tuple[str, ...] = field(default=())
    """The first few failures in words."""

    @property
    def chunks_per_s(self) -> float:
        """Return chunks delivered per second of the whole run."""
        return self.chunks / self.wall_s if self.wall_s else 0.0

    @property
    def is_whole(self) -> bool:
        """True when every stream came back complete and in order."""
        return self.whole == self.streams


class _Gaps:
    """Times between chunks of one stream, gathered over all streams."""

    def __init__(self) -> None:
        self.values = array("d")

    def add(self, gap_s: float, count: int) -> None:
        """Add the gap before a read that held `count` chunks: one gap, then chunks that came at once."""
        self.values.append(gap_s)
        if count > 1:
            self.values.extend([0.0] * (count - 1))


class _Stream(asyncio.Protocol):
    """One request and its SSE answer; also the callback object of the HTTP parser."""

    def __init__(
        self,
        request: bytes,
        expected: list[bytes],
        gaps: _Gaps,
        opened_at: float,
        on_end: Callable[[], None],
    ) -> None:
        self.check = SequenceCheck(expected)
        self.opened_at = opened_at
        self.first_content_at = 0.0
        self.ended_at = 0.0
        self.status = 0
        self.is_done = False
        self.problem = ""
        self._request = request
        self._gaps = gaps
        self._on_end = on_end
        self._parser = httptools.HttpResponseParser(self)
        self._bodies: list[bytes] = []
        self._tail = b""
        self._last_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(now, f"broken HTTP framing: {error}")
            return
        if self._bodies:
            self._scan(now)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(time.perf_counter(), "" if exc is None else repr(exc))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._bodies.append(body)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        if self._bodies:
            self._scan(now)
        self._end(now, "")

    def _scan(self, now: float) -> None:
        data = b"".join((self._tail, *self._bodies))
        self._bodies.clear()
        end = data.rfind(_END_OF_EVENT) + len(_END_OF_EVENT)
        if end < len(_END_OF_EVENT):
            self._tail = data
            return
        events, self._tail = (data, b"") if end == len(data) else (data[:end], data[end:])
        numbers = CHUNK_NUMBER.findall(events)
        if numbers:
            self.check.feed(numbers)
            if self.first_content_at:
                self._gaps.add(now - self._last_at, len(numbers))
            else:
                self.first_content_at = now
            self._last_at = now
        if _DONE in events:
            self.is_done = True

    def _end(self, now: float, problem: str) -> None:
        if self.ended_at:
            return
        self.ended_at = now
        if self.status != 200:
            self.problem = problem or f"status {self.status}: {self._tail[:200]!r}"
        elif not self.is_done:
            self.problem = problem or "ended without [DONE]"
        if self._transport is not None:
            self._transport.close()
        self._on_end()

    def give_up(self) -> None:
        """End a stream that is still open at the deadline."""
        self._end(time.perf_counter(), "still open at the deadline")


def request_bytes(job: StreamJob) -> bytes:
    """Return the HTTP request that opens one stream."""
    body = job.body.encode()
    lines = [f"POST {job.path} HTTP/1.1", f"Host: 127.0.0.1:{job.port}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in job.headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def drive(job: StreamJob) -> StreamReport:
    """Open the streams of a job, follow them to their end and report."""
    loop = asyncio.get_running_loop()
    request = request_bytes(job)
    expected = expected_numbers(job.chunks, job.first_number)
    gaps = _Gaps()
    streams: list[_Stream] = []
    unopened: list[str] = []
    finished = asyncio.Event()
    ended = 0
    peak_open = 0

    def one_ended() -> None:
        nonlocal ended
        ended += 1
        if ended == job.streams:
            finished.set()

    async def open_one(number: int) -> None:
        nonlocal peak_open
        await asyncio.sleep(job.ramp_s * number / job.streams)
        stream = _Stream(request, expected, gaps, time.perf_counter(), one_ended)
        try:
            await loop.create_connection(lambda: stream, "127.0.0.1", job.port)
        except OSError as error:
            unopened.append(repr(error))
            one_ended()
        else:
            streams.append(stream)
            peak_open = max(peak_open, len(streams) + len(unopened) - ended)

    cpu_before = time.process_time()
    began = time.perf_counter()
    tasks = [asyncio.ensure_future(open_one(number)) for number in range(job.streams)]
    try:
        await asyncio.wait_for(finished.wait(), job.deadline_s)
    except TimeoutError:
        for task in tasks:
            task.cancel()
        for stream in streams:
            stream.give_up()
    return _report(job, streams, unopened, gaps, began, peak_open, time.process_time() - cpu_before)


def _report(
    job: StreamJob,
    streams: list[_Stream],
    unopened: list[str],
    gaps: _Gaps,
    began: float,
    peak_open: int,
    cpu_s: float,
) -> StreamReport:
    reports = [stream.check.report() for stream in streams]
    good = [r.is_whole and s.is_done and s.status == 200 for s, r in zip(streams, reports, strict=True)]
    waits = [1e3 * (s.first_content_at - s.opened_at) for s in streams if s.first_content_at] or [0.0]
    lengths = [s.ended_at - s.opened_at for s in streams] or [0.0]
    never_opened = job.streams - len(streams)
    problems = [s.problem for s in streams if s.problem] + unopened
    return StreamReport(
        streams=job.streams,
        whole=sum(good),
        refused=sum(s.status not in (0, 200) for s in streams),
        cut=never_opened + sum(s.status in (0, 200) and not s.is_done for s in streams),
        chunks=sum(r.received for r in reports),
        lost=sum(r.lost for r in reports) + never_opened * job.chunks,
        duplicated=sum(r.duplicated for r in reports),
        reordered=sum(r.reordered for r in reports),
        peak_open=peak_open,
        first_content_p50_ms=percentile(waits, 0.5),
        first_content_p99_ms=percentile(waits, 0.99),
        first_content_max_ms=max(waits),
        gap_p50_ms=1e3 * percentile(gaps.values or [0.0], 0.5),
        gap_p99_ms=1e3 * percentile(gaps.values or [0.0], 0.99),
        gap_max_ms=1e3 * max(gaps.values, default=0.0),
        stream_p50_s=percentile(lengths, 0.5),
        stream_max_s=max(lengths),
        wall_s=max((s.ended_at for s in streams), default=began) - began,
        generator_cpu_s=cpu_s,
        problems=tuple(problems[:5]),
    )


def run(job: StreamJob) -> StreamReport:
    """Drive a job in this process, which does nothing else and ends soon."""
    import uvloop  # only the load needs it; the protocol itself runs on any loop

    gc.collect()
    gc.freeze()
    gc.disable()  # the collector's pauses would show up as gaps between chunks
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(drive(job))


def run_in_process(job: StreamJob, cores: Iterable[int] | None = None) -> StreamReport:
    """Drive a job in a child process bound to `cores`.

    Raises:
        RuntimeError: the child did not report.
    """
    folder = str(Path(__file__).resolve().parent.parent)
    search = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    with bound_to(cores):
        child = subprocess.run(
            [sys.executable, "-m", "omnibench.streams"],
            check=False,
            input=json.dumps(dataclasses.asdict(job)),
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": search},
            timeout=job.deadline_s + 60,
        )
    if child.returncode:
        raise RuntimeError(f"the stream load generator failed: {child.stderr[-2000:]}")
    fields = json.loads(child.stdout)
    return StreamReport(**{**fields, "problems": tuple(fields["problems"])})


def main() -> None:
    """Read a job from standard input, drive it, print the report."""
    raise_open_files()
    report = run(StreamJob(**json.load(sys.stdin)))
    json.dump(dataclasses.asdict(report), sys.stdout)


if __name__ == "__main__":
    main()

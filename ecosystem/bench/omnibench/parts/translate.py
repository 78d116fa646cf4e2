"""Translation: what it adds to a call and to an event of a stream, and whether a huge request holds up others."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from omnibench import agents, bodies, calls, flows, inprocess
from omnibench.bench import Bench, Findings
from omnibench.calls import Body, Case, Sample
from omnibench.processes import TargetFailed, call
from omnibench.report import Bar, Section, number, span
from omnibench.stats import Spread, paired_difference, spread
from omnibench.targets import (
    CALL_MODEL,
    MESSAGES_PATH,
    MESSAGES_PREFIX,
    NODE_PREFIX,
    OTHER_PREFIX,
    Target,
    add_key,
    add_messages_upstream,
    add_upstream,
    as_target,
    login,
    start_omniroute,
    start_upstream,
)

_CONNECTIONS: Final = 16
_STREAMS: Final = 20
_INTERVAL_S: Final = 0.005
_PER_HUGE_S: Final = 1.0
"""How long the streams last for each huge request: longer than one takes."""


def run(bench: Bench) -> Findings:
    """Measure calls and huge requests through a server with nodes of two formats, the rest in a process of its own."""
    section = Section("Translation")
    findings = Findings([], section)
    server = _server(bench)
    try:
        _calls(bench, server, findings)
        _huge(bench, server, findings)
    finally:
        bench.park.stop(server.server)
    _alone(bench, findings)
    return findings


def _server(bench: Bench) -> Target:
    """Start a server that knows the sandbox as a node of each format, and another sandbox that huge requests go to.

    A sandbox that reads ten megabytes writes no streams meanwhile.
    """
    server, port, worker = start_omniroute(bench.park, bench.data_dir(), bench.cores, name="translating")
    management = login(port)
    add_upstream(management, bench.upstream)
    add_messages_upstream(management, bench.upstream)
    add_upstream(management, start_upstream(bench.park, bench.cores, "other sandbox"), OTHER_PREFIX)
    return as_target("omniroute", server, port, worker, add_key(management))


# --- calls -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Way:
    """A client's format and the node that serves it."""

    client: str
    prefix: str

    @property
    def is_translated(self) -> bool:
        return (self.client == "Messages") is not (self.prefix == MESSAGES_PREFIX)

    @property
    def title(self) -> str:
        return f"{self.client} → {'Messages' if self.prefix == MESSAGES_PREFIX else 'Chat'}"

    def target(self, server: Target) -> Target:
        path = MESSAGES_PATH if self.client == "Messages" else server.path
        return replace(server, name=self.title, path=path)

    @property
    def body(self) -> bytes:
        build = agents.small if self.client == "Messages" else bodies.small
        return build(f"{self.prefix}/{CALL_MODEL}")


_WAYS: Final = tuple(
    _Way(client, prefix) for client in ("Chat", "Messages") for prefix in (NODE_PREFIX, MESSAGES_PREFIX)
)


def _calls(bench: Bench, server: Target, findings: Findings) -> None:
    case = Case(Body.SMALL, _CONNECTIONS)
    samples: dict[str, list[Sample]] = {way.title: [] for way in _WAYS}
    for way in _WAYS:
        _check(server, way)
        calls.measure(way.target(server), case, 1, 0, bench.cores, body=way.body)
    for turn in range(bench.plan.cross_pairs):
        for way in _WAYS if turn % 2 == 0 else reversed(_WAYS):
            sample = calls.measure(way.target(server), case, bench.plan.cross_seconds, turn, bench.cores, body=way.body)
            samples[way.title].append(sample)
            bench.say(
                f"  round {turn + 1}/{bench.plan.cross_pairs}  {way.title:<20} {sample.cpu_us:6.0f} µs CPU, "
                f"{100 * sample.waiting_share:2.0f} % waiting" + (f"  {sample.failed} FAILED" if sample.failed else "")
            )
    section = findings.section
    section.say(
        f"1 KB non-stream calls on {_CONNECTIONS} connections to one server in turn; CPU of its worker per request. "
        "*Added* is the difference to the passthrough of the same client in the same round; the bar is about the mean "
        "of both, since one upstream's answers cost more than the other's however they are served."
    )
    rows, added = [], {}
    for way in _WAYS:
        mine = samples[way.title]
        if way.is_translated:
            own = next(other for other in _WAYS if other.client == way.client and not other.is_translated)
            added[way.title] = added_cpu_us(mine, samples[own.title])
        more = added.get(way.title)
        rows.append(
            (
                way.title,
                "translated" if way.is_translated else "passthrough",
                number(statistics.median(sample.cpu_us for sample in mine)),
                "–" if more is None else number(more.median),
                "–" if more is None else span(more, 0),
            )
        )
    section.table(("Client → upstream", "Way", "CPU µs per request", "Added µs", "Rounds"), rows)
    findings.waiting_shares += [sample.waiting_share for mine in samples.values() for sample in mine]
    cost = translation_cost(samples)
    findings.bars += [
        Bar(
            "1 KB call translated: CPU above passthrough",
            cost.median / 1000,
            0.4,
            "ms",
            digits=3,
            note="mean of both directions; "
            + ", ".join(f"{title} {more.median:.0f} µs" for title, more in added.items()),
        ),
        Bar(
            "1 KB calls translated: failed",
            sum(sample.failed for mine in samples.values() for sample in mine),
            0,
            "",
            digits=0,
        ),
    ]


def translation_cost(samples: Mapping[str, Sequence[Sample]]) -> Spread:
    """Return what translating a call costs: the mean of both directions.

    Each direction alone also holds how much dearer the other upstream's answers are to read (its headers, its body),
    once with either sign.
    """
    sums: dict[int, float] = {}
    for way in _WAYS:
        sign = 1 if way.is_translated else -1
        for sample in samples[way.title]:
            sums[sample.round] = sums.get(sample.round, 0.0) + sign * sample.cpu_us / 2
    return spread(list(sums.values()))


def added_cpu_us(translated: Sequence[Sample], passed: Sequence[Sample]) -> Spread:
    """Return how much more CPU a translated call costs than a passed one, round by round."""
    return paired_difference({s.round: s.cpu_us for s in translated}, {s.round: s.cpu_us for s in passed})


def _check(server: Target, way: _Way) -> None:
    """Look at one answer, so that no figure is that of an error page.

    Raises:
        TargetFailed: it is not an answer of the client's format.
    """
    target = way.target(server)
    headers = {"Content-Type": "application/json", **target.headers}
    answer = call(target.port, "POST", target.path, body=way.body, headers=headers)
    member = "content" if way.client == "Messages" else "choices"
    if answer.status != 200 or not json.loads(answer.body).get(member):
        raise TargetFailed(f"{way.title} answered {answer.status}: {answer.body[:300]!r}\n{server.server.tail()}")


# --- huge requests beside streams ------------------------------------------------------------------------------------


def _huge(bench: Bench, server: Target, findings: Findings) -> None:
    body = agents.huge(f"{OTHER_PREFIX}/{CALL_MODEL}")
    _post(server, body)
    count = bench.plan.huge_requests
    chunks = round(count * _PER_HUGE_S / _INTERVAL_S)
    flow = flows.Flow(
        f"{_STREAMS} at 200 chunks/s",
        f"story-{chunks}-{round(1000 * _INTERVAL_S)}",
        _STREAMS,
        chunks,
        0.2,
        4 * count * _PER_HUGE_S + 30,
    )
    quiet = flows.measure(server, flow, 0, bench.cores)
    found: list[flows.FlowSample] = []
    thread = threading.Thread(target=lambda: found.append(flows.measure(server, flow, 1, bench.cores)))
    thread.start()
    took: list[float] = []
    time.sleep(1.0)  # the load generator is an interpreter that has to start
    while thread.is_alive() and len(took) < count:
        began = time.perf_counter()
        _post(server, body)
        took.append(time.perf_counter() - began)
    thread.join()
    if not found or not took:
        raise TargetFailed("the streams beside the huge requests were not measured")
    beside = found[0]
    for name, sample in (("alone", quiet), ("beside huge requests", beside)):
        bench.say(f"  streams {name}: largest gap {sample.report.gap_max_ms:.0f} ms  {flows.describe(sample)}")
    findings.section.say(
        f"{len(body) / 1e6:.1f} MB of a long session (Messages: {agents.HUGE_MESSAGES} messages, {agents.HUGE_TOOLS} "
        f"tools, screenshots), translated to Chat {len(took)} times one after another while {_STREAMS} streams of "
        f"{1000 * _INTERVAL_S:.0f} ms a chunk run through the same worker. Gaps are those that the streams' readers "
        "see, the chunk's own interval and the delays of the load generator included."
    )
    header = ("Streams", "Gap p50 ms", "Gap p99 ms", "Largest gap ms", "Whole", "Huge request, median s")
    rows = [
        _gaps("alone", quiet, "–"),
        _gaps("beside huge requests", beside, number(statistics.median(took), 2)),
    ]
    findings.section.table(header, rows)
    findings.waiting_shares += [quiet.waiting_share, beside.waiting_share]
    findings.bars += [
        Bar(
            "10 MB request translated: largest gap in other streams",
            beside.report.gap_max_ms,
            50,
            "ms",
            digits=0,
            note=f"{quiet.report.gap_max_ms:.0f} ms without such requests",
        ),
        Bar(
            "10 MB request translated: other streams not whole",
            beside.report.streams - beside.report.whole,
            0,
            "",
            digits=0,
        ),
    ]


def _gaps(name: str, sample: flows.FlowSample, took: str) -> tuple[str, ...]:
    report = sample.report
    return (
        name,
        number(report.gap_p50_ms, 2),
        number(report.gap_p99_ms, 2),
        number(report.gap_max_ms, 1),
        f"{report.whole}/{report.streams}",
        took,
    )


def _post(server: Target, body: bytes) -> None:
    headers = {"Content-Type": "application/json", **server.headers}
    answer = call(server.port, "POST", MESSAGES_PATH, body=body, headers=headers, timeout_s=60)
    if answer.status != 200:
        raise TargetFailed(
            f"a huge request was answered {answer.status}: {answer.body[:300]!r}\n{server.server.tail()}"
        )


# --- translations alone ----------------------------------------------------------------------------------------------


def _alone(bench: Bench, findings: Findings) -> None:
    repetitions = bench.plan.translations
    report = inprocess.run_in_process(inprocess.Job(repetitions, repetitions), bench.cores.worker)
    section = findings.section
    size = report.requests[0].bytes
    section.say(
        f"An agent's request of {size / 1024:.0f} KB in the Messages format (system list and cache marks, 18 tools, 47 "
        f"messages with calls and results) to each upstream format, without the server around it: least CPU of "
        f"{repetitions} runs."
    )
    rows = [
        (
            cost.upstream,
            number(cost.scan_ms, 2),
            number(cost.parse_ms, 2),
            number(cost.render_ms, 2),
            number(cost.total_ms, 2),
        )
        for cost in report.requests
    ]
    section.table(("To", "Scan ms", "Parse ms", "Prepare, render ms", "Total ms"), rows)
    section.say(
        "Streams event by event, from the provider's bytes to the client's (reasoning, 200 pieces of text, a tool "
        "call), in µs of CPU per upstream event; beginning and end included. Least of as many runs."
    )
    cells = {(cost.client, cost.upstream): cost for cost in report.streams}
    section.table(
        ("Client", *(f"from {name}" for name in inprocess.UPSTREAMS)),
        [
            (client, *(number(cells[client, up].event_us, 1) if client != up else "–" for up in inprocess.UPSTREAMS))
            for client in inprocess.CLIENTS
        ],
    )
    to_chat = next(cost for cost in report.requests if cost.upstream == "openai_chat")
    events = spread([cost.event_us for cost in report.streams])
    worst = max(report.streams, key=lambda cost: cost.event_us)
    for cost in report.streams:
        bench.say(f"  {cost.upstream} to {cost.client}: {cost.event_us:.1f} µs per event")
    findings.bars += [
        Bar("115 KB agent request to Chat: CPU of the translation", to_chat.total_ms, 6, "ms"),
        Bar(
            "Translated stream: CPU per event, dearest pair",
            worst.event_us,
            25,
            "µs",
            digits=1,
            note=f"{worst.upstream} to {worst.client}; {events.median:.1f} µs in the median pair",
        ),
    ]

"""Memory of the worker: idle, after few and after many requests."""

from __future__ import annotations

import time
from typing import Final

from omnibench import wrk
from omnibench.bench import Bench, Findings
from omnibench.calls import Body, body_for
from omnibench.machine import Cores
from omnibench.processes import TargetFailed, pss_bytes, rss_bytes
from omnibench.report import Bar, Section, mib
from omnibench.targets import Target, add_key, add_upstream, as_target, login, start_omniroute

_CONNECTIONS: Final = 16
_SLICE_S: Final = 2.0
_MOST_SLICES: Final = 200


def run(bench: Bench) -> Findings:
    """Follow one server from its start through an hour's worth of requests in small."""
    plan = bench.plan
    data_dir = bench.data_dir()
    server, port, worker = start_omniroute(bench.park, data_dir, bench.cores, name="memory-fresh")
    time.sleep(plan.idle_settle_s)
    fresh = rss_bytes(worker)
    bench.park.stop(server)
    server, port, worker = start_omniroute(bench.park, data_dir, bench.cores, name="memory")
    time.sleep(plan.idle_settle_s)
    idle, shared_out = rss_bytes(worker), pss_bytes(worker)
    master = rss_bytes(server.pid) if server.pid != worker else 0
    bench.say(f"  idle {mib(idle)} MB, after the start that made the database {mib(fresh)} MB")
    management = login(port)
    add_upstream(management, bench.upstream)
    target = as_target("memory", server, port, worker, add_key(management))
    first = _send(target, plan.first_requests, bench.cores)
    after_first = rss_bytes(worker)
    bench.say(f"  after {first:,} requests {mib(after_first)} MB")
    last = first + _send(target, plan.last_requests - first, bench.cores)
    after_last = rss_bytes(worker)
    bench.say(f"  after {last:,} requests {mib(after_last)} MB")
    bench.park.stop(server)
    section = Section("Memory")
    section.say(
        "One server from its start on; resident memory (RSS) in MB of 2^20 bytes, shared pages counted in full."
    )
    rows = [
        ("idle, worker", mib(idle)),
        ("idle, worker, after the very first start, which made the database", mib(fresh)),
        ("idle, worker, shared pages divided (PSS)", mib(shared_out)),
        ("idle, the master beside it", mib(master)),
        (f"after {first:,} requests", mib(after_first)),
        (f"after {last:,} requests", mib(after_last)),
    ]
    section.table(("Station", "MB"), rows)
    grown = (after_last - after_first) / 2**20
    bars = [
        Bar(
            "Memory idle, worker RSS",
            idle / 2**20,
            80,
            "MB",
            digits=1,
            note=f"PSS {mib(shared_out)} MB; very first start {mib(fresh)} MB",
        ),
        Bar("Memory growth under load", grown, 10, "MB", digits=1, note=f"from {first:,} to {last:,} requests"),
    ]
    return Findings(bars, section)


def _send(target: Target, wanted: int, cores: Cores) -> int:
    """Drive a target in slices until `wanted` requests are through; then wait until the log is written."""
    done = 0
    load = wrk.Load(target.url, body_for(target, Body.SMALL), target.headers, _CONNECTIONS, _SLICE_S)
    for _ in range(_MOST_SLICES):
        if done >= wanted:
            break
        outcome = wrk.run(load, cores.rest)
        if outcome.failed:
            raise TargetFailed(f"{outcome.failed} requests to {target.name} failed\n{target.server.tail()}")
        done += outcome.requests
    time.sleep(1.0)
    return done

"""Does a request cost more once the database is full? Two servers in turn."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Final

from omnibench import calls, fill
from omnibench.bench import Bench, Findings
from omnibench.calls import Body, Case
from omnibench.processes import TargetFailed
from omnibench.report import Bar, Section, number, span
from omnibench.targets import (
    Management,
    Target,
    add_key,
    add_upstream,
    as_target,
    configured_omniroute,
    login,
    start_omniroute,
)

KEYS: Final = 300
CONNECTIONS: Final = 70
_OWN_MODELS: Final = 400
"""Models of an operator's own provider row; with the built-in ones they are 2,600 and some."""


def run(bench: Bench) -> Findings:
    """Measure a server with nothing in it against one that has served for long."""
    plan = bench.plan
    empty = configured_omniroute(bench.park, bench.upstream, bench.data_dir(), bench.cores, name="empty")
    full, facts = _full_server(bench)
    case = Case(Body.SMALL, 16)
    for target in (empty, full):
        calls.measure(target, case, 2, 0, bench.cores)
    samples = calls.alternate(full, empty, case, plan.state_pairs, plan.state_seconds, bench.cores, bench.say)
    (ratio,) = calls.ratios(samples, full.name, empty.name)
    section = Section("State")
    section.say(
        f"Two servers in turn (A B, B A, …), {plan.state_pairs} pairs of {plan.state_seconds:g} s, 1 KB calls on "
        f"{case.connections} connections. Full: {facts}."
    )
    rows = [_row(name, [s for s in samples if s.target == name]) for name in (empty.name, full.name)]
    ratios = (f"{ratio.cpu.median:.3f}×", f"{ratio.per_second.median:.3f}×", f"{ratio.p50.median:.3f}×")
    section.table(("Server", "CPU µs per request", "Requests/s", "p50 ms"), [*rows, ("full / empty", *ratios)])
    for target in (empty, full):
        bench.park.stop(target.server)
    is_small = plan.state_rows < 1_000_000
    note = f"{plan.state_rows:,} rows in this quick run" if is_small else f"pairs: {span(ratio.cpu, 3)}"
    bars = [
        Bar("Full against empty database: CPU per request", ratio.cpu.median, 1.05, "×", digits=3, note=note),
        Bar("Full and empty database: failed requests", sum(s.failed for s in samples), 0, "", digits=0),
    ]
    return Findings(bars, section, waiting_shares=[sample.waiting_share for sample in samples])


def _row(name: str, samples: list[calls.Sample]) -> tuple[str, ...]:
    return (
        name,
        number(statistics.median(s.cpu_us for s in samples)),
        number(statistics.median(s.per_second for s in samples)),
        number(statistics.median(s.p50_ms for s in samples), 2),
    )


def _full_server(bench: Bench) -> tuple[Target, str]:
    """Build a data directory as it is after long use, start a server on it, and say what is in it."""
    data_dir = bench.data_dir()
    settings = {"OMNIROUTE_PROVIDERS_FILE": str(write_models(bench.scratch))}
    server, port, _ = start_omniroute(bench.park, data_dir, bench.cores, name="filling", settings=settings)
    management = login(port)
    add_upstream(management, bench.upstream)
    key = add_key(management)
    key_ids = [management.post("/api/keys", {"name": f"key {n}"})["id"] for n in range(KEYS - 1)]
    connection_ids = add_connections(management)
    models = sum(len(row["models"]) for row in management.get("/api/models/catalog")["catalog"].values())
    bench.park.stop(server)
    rows = fill.fill_request_log(data_dir, bench.plan.state_rows, key_ids, connection_ids)
    server, port, worker = start_omniroute(bench.park, data_dir, bench.cores, name="full", settings=settings)
    facts = f"{rows:,} rows in the request log, {CONNECTIONS} connections, {models:,} models, {KEYS} keys"
    bench.say(f"  full: {facts}")
    return as_target("full", server, port, worker, key), facts


def write_models(folder: Path) -> Path:
    """Write a provider row of an operator's own with many models; return its file."""
    models = [{"id": f"model-{number_}", "context": 128_000, "max_output": 8_192} for number_ in range(_OWN_MODELS)]
    urls = {"openai_chat": "https://models.invalid/v1/chat/completions"}
    path = folder / "providers.json"
    path.write_text(json.dumps({"providers": [{"id": "own", "name": "Own", "urls": urls, "models": models}]}))
    return path


def add_connections(management: Management) -> list[str]:
    """Add connections of as many providers as take a bare key; some want an account or a region as well."""
    waiting = [
        row["id"] for row in management.get("/api/providers/available")["providers"] if "apikey" in row["authKinds"]
    ]
    found: list[str] = []
    while len(found) < CONNECTIONS - 1:
        provider = waiting.pop(0)
        body = {"provider": provider, "name": f"connection {len(found)}", "apiKey": f"sk-of-no-one-{len(found):06d}"}
        try:
            found.append(management.post("/api/providers", body)["connection"]["id"])
        except TargetFailed:
            if not waiting:
                raise
            continue
        waiting.append(provider)
    return found

"""The dashboard of a server that is full: how long each page takes, what it weighs, and what others notice of it."""

from __future__ import annotations

import http.client
import re
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

from omnibench import calls, usage_world
from omnibench.bench import Bench, Findings
from omnibench.calls import Body, Case
from omnibench.parts.state import CONNECTIONS, KEYS, add_connections, write_models
from omnibench.processes import TargetFailed, usage
from omnibench.report import Bar, Section, number
from omnibench.targets import Management, Target, add_key, add_upstream, as_target, login, start_omniroute
from omnibench.usage_world import World

_REPEATED: Final = 11
_LIMIT_MS: Final = 60.0
_LIMIT_KB: Final = 200.0
_PAIRS: Final = 4
_SECONDS: Final = 4.0
_PAUSE_S: Final = 1.0
_ASSET: Final = re.compile(r'(?:<link[^>]+rel="stylesheet"[^>]+href|<script[^>]+src)="([^"]+)"')
_LOADED_LATER: Final = {
    "data-chart=": ("lib/uplot.js", "lib/uplot.css", "js/charts.js"),
    "data-reorder": ("js/reorder.js",),
}
"""What scripts fetch beside what the page names, by what in the page makes them do it."""


@dataclass(frozen=True, slots=True)
class Page:
    """How a page did."""

    path: str
    median_ms: float
    worst_ms: float
    cpu_ms: float
    own_kb: float
    cold_kb: float


def run(bench: Bench) -> Findings:
    """Fill a server, open every page several times, then open pages beside other people's requests."""
    target, management, facts, paths = _full_server(bench)
    try:
        pages = _open_all(management, paths, target.worker_pid)
        section = Section("Dashboard")
        section.say(
            f"{facts}. All pages one after another, {_REPEATED} times, from the request to the last byte; CPU of the "
            "worker for one; what is transferred (Brotli) for the page alone and for a first visit with all that it "
            "loads."
        )
        for page in pages:
            bench.say(f"  {page.path:<60} {page.median_ms:6.1f} ms, CPU {page.cpu_ms:5.1f} ms, {page.cold_kb:5.0f} KB")
        rows = [
            (
                page.path,
                *(number(value, 1) for value in (page.median_ms, page.worst_ms, page.cpu_ms, page.own_kb)),
                number(page.cold_kb),
            )
            for page in pages
        ]
        section.table(("Page", "Median ms", "Worst ms", "CPU ms", "Page KB", "First visit KB"), rows)
        alone, beside = _beside(bench, target, management, paths)
        section.say(
            f"A client that sends one 1 KB call after another, alone and while a visitor opens a page every "
            f"{_PAUSE_S:g} s, in turn, {_PAIRS} times {_SECONDS:g} s each: p50 {number(alone.p50_ms, 2)} and "
            f"{number(beside.p50_ms, 2)} ms, p99 {number(alone.p99_ms, 2)} and {number(beside.p99_ms, 2)} ms (medians)."
        )
    finally:
        bench.park.stop(target.server)
    slowest = max(pages, key=lambda page: page.median_ms)
    heaviest = max(pages, key=lambda page: page.cold_kb)
    return Findings(
        [
            Bar("Dashboard: the slowest page", slowest.median_ms, _LIMIT_MS, "ms", digits=1, note=slowest.path),
            Bar("Dashboard: the heaviest first visit", heaviest.cold_kb, _LIMIT_KB, "KB", digits=0, note=heaviest.path),
            Bar(
                "Requests beside a visitor of the dashboard: p50",
                beside.p50_ms / alone.p50_ms,
                1.05,
                "×",
                digits=3,
                note=f"p99 {alone.p99_ms:.1f} and {beside.p99_ms:.1f} ms",
            ),
        ],
        section,
    )


def _full_server(bench: Bench) -> tuple[Target, Management, str, list[str]]:
    data_dir = bench.data_dir()
    settings = {
        "OMNIROUTE_PROVIDERS_FILE": str(write_models(bench.scratch)),
        "CALL_LOG_RETENTION_DAYS": "3650",
        "MODEL_SYNC_INTERVAL_HOURS": "0",
    }
    server, port, _ = start_omniroute(bench.park, data_dir, bench.cores, name="filling", settings=settings)
    management = login(port)
    add_upstream(management, bench.upstream)
    key = add_key(management)
    key_ids = tuple(management.post("/api/keys", {"name": f"key {n}"})["id"] for n in range(KEYS - 1))
    add_connections(management)
    for count in range(12):
        management.post("/api/combos", {"name": f"combo-{count}", "models": ["sandbox/echo", "sandbox/story"]})
    bench.park.stop(server)
    world = World(bench.plan.state_rows, time.time(), key_ids[:20])
    usage_world.fill_in_process(data_dir, world)
    server, port, worker = start_omniroute(bench.park, data_dir, bench.cores, name="full", settings=settings)
    management = login(port)
    models = sum(len(row["models"]) for row in management.get("/api/models/catalog")["catalog"].values())
    facts = f"{world.rows:,} requests of a year, {CONNECTIONS} connections, {models:,} models, {KEYS} keys, 12 combos"
    return as_target("full", server, port, worker, key), management, facts, list(_paths(management, key_ids[0]))


def _paths(management: Management, key_id: str) -> Iterator[str]:
    combo = management.get("/api/combos?limit=1")["combos"][0]["id"]
    request = management.get("/api/usage/logs?limit=1")["logs"][0]["id"]
    yield from (
        "/dashboard",
        "/dashboard/setup",
        "/dashboard/endpoints",
        "/dashboard/search?q=model",
        "/dashboard/account",
    )
    yield from ("/dashboard/keys", f"/dashboard/keys/{key_id}", "/dashboard/keys/new")
    yield from ("/dashboard/providers", "/dashboard/providers/openai", "/dashboard/providers/own?tab=models")
    yield from ("/dashboard/combos", f"/dashboard/combos/{combo}", "/dashboard/combos/new", "/dashboard/auto-combo")
    yield from ("/dashboard/usage", "/dashboard/usage?range=365d")
    yield from (f"/dashboard/costs?tab={tab}" for tab in ("overview", "budget", "pricing"))
    yield from ("/dashboard/quota", "/dashboard/health")
    yield from (f"/dashboard/logs?tab={tab}" for tab in ("requests", "active", "application"))
    yield from (
        f"/dashboard/logs/requests/{request}",
        "/dashboard/audit",
        "/dashboard/cli-tools",
        "/dashboard/playground",
    )
    yield from (f"/dashboard/translator?tab={tab}" for tab in ("playground", "tester", "bench", "monitor"))
    tabs = ("general", "appearance", "ai", "security", "routing", "resilience", "advanced")
    yield from (f"/dashboard/settings?tab={tab}" for tab in tabs)
    yield from ("/dashboard/settings/access-tokens", "/dashboard/backups")


def _open_all(management: Management, paths: Sequence[str], worker_pid: int) -> list[Page]:
    """Open all pages in rounds, so that a machine that is slow for a minute is so for every page."""
    for path in paths:
        _fetch(management, path)
    took: dict[str, list[float]] = {path: [] for path in paths}
    cpu_s = dict.fromkeys(paths, 0.0)
    for _ in range(_REPEATED):
        for path in paths:
            before, began = usage(worker_pid), time.perf_counter()
            _fetch(management, path)
            took[path].append(1000 * (time.perf_counter() - began))
            cpu_s[path] += usage(worker_pid).since(before).cpu_s
    pages = []
    for path in paths:
        own = len(_fetch(management, path))
        cold = own + sum(len(_fetch(management, asset)) for asset in _assets(path, _plain(management, path)))
        times = took[path]
        cpu_ms = 1000 * cpu_s[path] / _REPEATED
        pages.append(Page(path, statistics.median(times), max(times), cpu_ms, own / 1e3, cold / 1e3))
    return pages


def _assets(path: str, text: str) -> set[str]:
    found = {urljoin(path, asset.replace("&amp;", "&")) for asset in _ASSET.findall(text)}
    for mark, names in _LOADED_LATER.items():
        if mark in text:
            found |= {f"/static/{name}" for name in names}
    return found


def _fetch(management: Management, path: str) -> bytes:
    return _get(management, path, {"Accept-Encoding": "br"})


def _plain(management: Management, path: str) -> str:
    return _get(management, path, {}).decode()


def _get(management: Management, path: str, headers: dict[str, str]) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", management.port, timeout=60)
    try:
        connection.request("GET", path, headers={"Cookie": management.cookie, "Accept": "text/html", **headers})
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise TargetFailed(f"GET {path} answered {answer.status}")
    return body


def _beside(
    bench: Bench, target: Target, management: Management, paths: list[str]
) -> tuple[calls.Sample, calls.Sample]:
    case = Case(Body.SMALL, 1)
    calls.measure(target, case, 1, 0, bench.cores)
    alone: list[calls.Sample] = []
    beside: list[calls.Sample] = []
    for count in range(_PAIRS):
        alone.append(calls.measure(target, case, _SECONDS, count, bench.cores))
        with _visitor(management, paths):
            beside.append(calls.measure(target, case, _SECONDS, count, bench.cores))
    return _middle(alone), _middle(beside)


def _middle(samples: list[calls.Sample]) -> calls.Sample:
    return sorted(samples, key=lambda sample: sample.p50_ms)[len(samples) // 2]


@contextmanager
def _visitor(management: Management, paths: list[str]) -> Iterator[None]:
    leaves = threading.Event()

    def wander() -> None:
        count = 0
        while not leaves.wait(_PAUSE_S):
            _fetch(management, paths[count % len(paths)])
            count += 1

    thread = threading.Thread(target=wander)
    thread.start()
    try:
        yield
    finally:
        leaves.set()
        thread.join()

"""A year of usage: how long the questions take that dashboards and operators ask of it."""

from __future__ import annotations

import http.client
import statistics
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from omnibench import usage_world
from omnibench.bench import Bench, Findings
from omnibench.processes import TargetFailed
from omnibench.report import Bar, Section, number
from omnibench.targets import Management, login, start_omniroute
from omnibench.usage_world import DAY_S, KEYS, RARE_MODEL, World

_REPEATED: Final = 9
_LIMIT_MS: Final = 100.0
_RANGES: Final = ("24h", "7d", "30d", "90d", "365d", "all")
_KEPT: Final = {
    "CALL_LOG_RETENTION_DAYS": "3650",
    "CALL_LOG_MAX_ROWS": "1000000000",
    "USAGE_HOURLY_RETENTION_DAYS": "90",
    "DISABLE_SQLITE_AUTO_BACKUP": "true",
}


@dataclass(frozen=True, slots=True)
class Question:
    """One query of the management API."""

    title: str
    path: str


@dataclass(frozen=True, slots=True)
class Took:
    """How long it took, in milliseconds."""

    question: Question
    median_ms: float
    worst_ms: float


def run(bench: Bench) -> Findings:
    """Fill a database, start a server on it, ask every question several times."""
    data_dir = bench.data_dir()
    server, port, _ = start_omniroute(bench.park, data_dir, bench.cores, name="empty year", settings=_KEPT)
    management = login(port)
    keys = tuple(management.post("/api/keys", {"name": f"team {n}"})["id"] for n in range(KEYS))
    bench.park.stop(server)
    world = World(bench.plan.state_rows, time.time(), keys)
    usage_world.fill_in_process(data_dir, world)
    size_mb = (data_dir / "storage.sqlite").stat().st_size / 1e6
    server, port, _ = start_omniroute(bench.park, data_dir, bench.cores, name="a year", settings=_KEPT)
    try:
        asked = [_ask(login(port), question) for question in questions(world)]
    finally:
        bench.park.stop(server)
    section = Section("Usage")
    section.say(
        f"{world.rows:,} requests of a year ({size_mb:,.0f} MB on SQLite; {KEYS} keys, 10 providers, 60 models, 30 "
        f"connections), each question {_REPEATED} times through the management API, one after another; from the "
        "request to the last byte, of exports to the first."
    )
    rows = [(one.question.title, number(one.median_ms, 1), number(one.worst_ms, 1)) for one in asked]
    section.table(("Question", "Median ms", "Worst ms"), rows)
    for one in asked:
        bench.say(f"  {one.question.title:<44} {one.median_ms:6.1f} ms, worst {one.worst_ms:6.1f} ms")
    middle_ms = statistics.median(one.median_ms for one in asked)
    slowest = max(asked, key=lambda one: one.median_ms)
    return Findings(
        [
            Bar(
                f"Usage queries over {world.rows:,} requests: the slowest",
                slowest.median_ms,
                _LIMIT_MS,
                "ms",
                digits=1,
                note=f"{slowest.question.title}; {middle_ms:.1f} ms in the median",
            )
        ],
        section,
    )


def questions(world: World) -> list[Question]:
    """Return what is asked: what is common, what is rare, what is not there."""
    common, rare = (world.keys[0], world.keys[-1]) if world.keys else (usage_world.key_id(0), usage_world.key_id(19))
    middle, day_after = (_iso(world.since + days * DAY_S) for days in (180, 181))
    logs = {
        "newest page": "",
        "page 20,000 rows deep": "offset=20000",
        "page at the end": f"offset={world.rows - 50}",
        "a common key": f"apiKeyId={common}",
        "a common key, 20,000 rows deep": f"apiKeyId={common}&offset=20000",
        "a rare key": f"apiKeyId={rare}",
        "a key that made none": "apiKeyId=nobody",
        "a connection": f"connection={usage_world.connection_id(3)}",
        "a provider": f"provider={usage_world.provider_name(1)}",
        "a provider that served none": "provider=nobody",
        "a model": f"model={usage_world.model_name(2)}",
        "a model of long ago": f"model={RARE_MODEL}",
        "a combo": f"combo={usage_world.combo_id(1)}",
        "a session that is none": "sessionId=none",
        "all failures": "status=failed",
        "status 429": "status=429",
        "status 200": "status=200",
        "status 404, never": "status=404",
        "slower than a minute": "minDurationMs=60000",
        "slower than anything": "minDurationMs=999999999",
        "a day in the middle": f"since={middle}&until={day_after}",
        "text that many have": "q=preview",
        "text that none has": "q=nowhere",
        "text, a day in the middle": f"q=nowhere&since={middle}&until={day_after}",
        "key and model of long ago": f"apiKeyId={common}&model={RARE_MODEL}",
        "failures of a key": f"apiKeyId={rare}&status=failed",
        "failures with a text that none has": "status=failed&q=nowhere",
    }
    found = [Question(f"logs: {title}", f"/api/usage/logs?{query}") for title, query in logs.items()]
    found += [Question(f"analytics: {name}", f"/api/usage/analytics?range={name}") for name in _RANGES]
    narrowed = {
        "a key": f"apiKeyId={common}",
        "a provider": f"provider={usage_world.provider_name(1)}",
        "a model": f"model={usage_world.model_name(2)}",
    }
    for title, query in narrowed.items():
        found += [Question(f"analytics: 365d, {title}", f"/api/usage/analytics?range=365d&{query}")]
    times = f"start={middle}&end={_iso(world.since + 300 * DAY_S)}"
    more = {
        "analytics: 120 days of the middle": f"/api/usage/analytics?{times}",
        "analytics: 30d by day": "/api/usage/analytics?range=30d&groupBy=day",
        "latency: 24 h by model": "/api/usage/latency",
        "latency: 90 days by model": "/api/usage/latency?windowHours=2160",
        "latency: 90 days by provider": "/api/usage/latency?windowHours=2160&by=provider",
        "usage of a key": f"/api/keys/{common}/usage",
        "requests in flight": "/api/usage/active",
        "export: requests, first byte": "/api/usage/export?format=csv",
        "export: text that none has, first byte": "/api/usage/export?format=csv&q=nowhere",
        "export: days, first byte": "/api/usage/export?of=daily&format=csv",
    }
    return found + [Question(title, path) for title, path in more.items()]


def _iso(moment: float) -> str:
    return quote(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)))


def _ask(management: Management, question: Question) -> Took:
    took: list[float] = []
    for _ in range(_REPEATED):
        connection = http.client.HTTPConnection("127.0.0.1", management.port, timeout=60)
        began = time.perf_counter()
        connection.request("GET", question.path, headers={"Cookie": management.cookie})
        answer = connection.getresponse()
        answer.read(1 if "first byte" in question.title else None)
        took.append(1000 * (time.perf_counter() - began))
        connection.close()
        if answer.status != 200:
            raise TargetFailed(f"GET {question.path} answered {answer.status}")
    return Took(question, statistics.median(took), max(took))

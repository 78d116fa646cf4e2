"""A year of usage: requests of a few teams, through the repositories that the gateway uses.

Runs as a process of its own (`python -m omnibench.usage_world`, what to do as JSON on standard input), while no server
has the database open.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omnibench.targets import REPOSITORY
from omniroute.records import RequestRecord
from omniroute.storage.database import Database
from omniroute.storage.repositories import request_log, usage
from omniroute.storage.repositories.request_log import POSITIONS, Row

DAY_S: Final = 86_400
_PER_TRANSACTION: Final = 10_000
_PROVIDERS: Final = 10
_MODELS: Final = 60
_CONNECTIONS: Final = 30
KEYS: Final = 20
_COMBOS: Final = 6
_PER_SESSION: Final = 12
_ATTEMPT: Final = (
    '[{"provider":"%s","connection_id":"%s","model":"%s","status":%d,"failure_class":null,"kind":null,'
    '"started_ms":1.25,"connected_ms":31.5,"first_content_ms":412.75,"ended_ms":5123.5}]'
)
RARE_MODEL: Final = "retired-model"
"""Asked for a handful of times, near the beginning of the year."""
_RARE_ROWS: Final = 7
_RARE_AT: Final = 0.03


@dataclass(frozen=True, slots=True)
class World:
    """Who asks for what.

    Attributes:
        span_s: over how many seconds the requests are spread, up to `until`.
        keys: ids of API keys; made up where there are none.
    """

    rows: int
    until: float
    keys: tuple[str, ...] = ()
    span_s: float = 365 * DAY_S
    seed: int = 5

    @property
    def since(self) -> float:
        """When the first request arrived."""
        return self.until - self.span_s


def key_id(number: int) -> str:
    """Return the id of a key; the last ones are used least."""
    return f"key_{number:016x}"


def connection_id(number: int) -> str:
    """Return the id of a connection."""
    return f"conn_{number:016x}"


def model_name(number: int) -> str:
    """Return the id of a model."""
    return f"model-{number:02d}-preview"


def provider_name(number: int) -> str:
    """Return the prefix of a provider."""
    return f"provider{number}"


def combo_id(number: int) -> str:
    """Return the id of a combo."""
    return f"combo_{number:016x}"


def fill(database: Database, world: World) -> None:
    """Write the requests of a world, with their sums, oldest first."""
    batch: list[Row] = []
    for row in _rows(world):
        batch.append(row)
        if len(batch) == _PER_TRANSACTION:
            _store(database, batch)
            batch = []
    if batch:
        _store(database, batch)


def _store(database: Database, batch: Sequence[Row]) -> None:
    def store(sql: Sql) -> None:
        request_log.insert_batch(sql, batch)
        usage.add(sql, batch)

    database.write(store)


def _template() -> list[Any]:
    record = RequestRecord("", 0.0, "/v1/chat/completions", "openai_chat", "")
    line = request_log.line_of(record)
    return list(request_log.read_line(line.rstrip(b"\n")).row)


@dataclass(slots=True)
class _Session:
    """Requests that follow one another: one key, one model, one connection."""

    key: str
    hash: str
    model: int
    connection: int
    combo: str | None
    left: int


def _rows(world: World) -> Iterator[Row]:
    rng = random.Random(world.seed)  # noqa: S311 - the same year every time, not a secret
    template = _template()
    sessions: list[_Session] = []
    rare = {int(world.rows * _RARE_AT) + number for number in range(_RARE_ROWS)}
    for number in range(world.rows):
        moment = world.since + world.span_s * number / world.rows
        if len(sessions) < 40 or rng.random() < 1 / _PER_SESSION:
            sessions.append(_session(rng, number, world.keys))
        at = rng.randrange(len(sessions))
        session = sessions[at]
        row = _row(rng, template, session, moment, number)
        if number in rare:
            row[POSITIONS["model"]] = RARE_MODEL
        session.left -= 1
        if session.left <= 0:
            sessions[at] = sessions[-1]
            sessions.pop()
        yield tuple(row)


def _session(rng: random.Random, number: int, keys: Sequence[str]) -> _Session:
    # Teams differ in size, and each has its few favourite models: the square prefers small numbers.
    key = int(KEYS * rng.random() ** 2)
    model = (key * 7 + int(6 * rng.random() ** 2)) % _MODELS
    provider = model % _PROVIDERS
    connection = provider + _PROVIDERS * rng.choice((0, 0, 1, 2))
    combo = combo_id(key % _COMBOS) if key % 2 else None
    name = f"{number:08x}{rng.getrandbits(32):08x}"
    owner = keys[key] if keys else key_id(key)
    return _Session(owner, name, model, connection % _CONNECTIONS, combo, 1 + int(rng.expovariate(1 / 11)))


def _row(rng: random.Random, template: list[Any], session: _Session, moment: float, number: int) -> list[Any]:
    chance = rng.random()
    is_failed, is_cancelled = chance < 0.02, 0.02 <= chance < 0.035
    status = rng.choice((429, 500, 502, 529)) if is_failed else 499 if is_cancelled else 200
    tokens_in, tokens_out = rng.randrange(200, 60_000), rng.randrange(1, 4_000)
    model, provider = model_name(session.model), provider_name(session.model % _PROVIDERS)
    kind = "subscription" if session.connection % 3 == 0 else "unpriced" if session.model % 20 == 9 else "billed"
    row = template.copy()
    values = {
        "request_id": f"req_{int(moment * 1000):012x}{number:06x}{rng.getrandbits(32):08x}",
        "time": moment,
        "endpoint": "/v1/messages" if session.model % 3 == 0 else "/v1/chat/completions",
        "upstream_format": "openai_chat",
        "requested_model": "team/coding" if session.combo else f"{provider}/{model}",
        "provider": provider,
        "model": model,
        "connection_id": connection_id(session.connection),
        "combo_id": session.combo,
        "api_key_id": session.key,
        "status": status,
        "outcome": "failed" if is_failed else "cancelled" if is_cancelled else "success",
        "error_code": "upstream_error" if is_failed else "client_gone" if is_cancelled else None,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "cache_read": tokens_in // 2,
        "cache_write": tokens_in // 10,
        "reasoning": tokens_out // 3,
        "cost_nano_usd": None if kind == "unpriced" else 3_000 * tokens_in + 15_000 * tokens_out,
        "cost_kind": kind,
        "price_id": None if kind == "unpriced" else "2027-01-01",
        "duration_ms": rng.expovariate(1 / 9_000),
        "ttft_ms": rng.expovariate(1 / 900),
        "session_hash": session.hash,
        "stream": 1,
        "bytes_in": rng.randrange(500, 200_000),
        "bytes_out": rng.randrange(500, 50_000),
        "attempts": 1 if rng.random() < 0.97 else 2,
        "attempts_json": _ATTEMPT % (provider, connection_id(session.connection), model, status),
        "is_estimated": 1 if rng.random() < 0.01 else 0,
    }
    for name, value in values.items():
        row[POSITIONS[name]] = value
    return row


def fill_in_process(data_dir: Path, world: World) -> None:
    """Fill the database of a data directory in a child process, whose memory ends with it.

    Raises:
        RuntimeError: it failed.
    """
    search = os.pathsep.join((str(Path(__file__).resolve().parent.parent), str(REPOSITORY)))
    job = {"url": f"sqlite:///{data_dir / 'storage.sqlite'}", "rows": world.rows, "until": world.until}
    child = subprocess.run(
        [sys.executable, "-m", "omnibench.usage_world"],
        check=False,
        input=json.dumps({**job, "keys": world.keys}),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
        timeout=1200,
    )
    if child.returncode:
        raise RuntimeError(f"the year of usage could not be made: {child.stderr[-2000:]}")


def main() -> None:
    """Read a job from standard input and do it."""
    job = json.load(sys.stdin)
    database = Database(job["url"])
    fill(database, World(job["rows"], job["until"], tuple(job["keys"])))
    database.dispose()


if __name__ == "__main__":
    main()

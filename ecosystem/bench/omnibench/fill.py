"""Fill a data directory with what a busy year leaves behind: rows straight into SQLite, while no server has it open."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

_BATCH: Final = 20_000


def fill_request_log(data_dir: Path, rows: int, key_ids: list[str], connection_ids: list[str]) -> int:
    """Add `rows` rows, spread over the last six days, to the request log of a stopped server; return its size."""
    rng = random.Random(3)  # noqa: S311 - text of the same shape every time, not a secret
    with closing(sqlite3.connect(data_dir / "storage.sqlite")) as database:
        columns = _columns(database, "request_log")
        database.execute("PRAGMA synchronous=OFF")
        template = {name: _default(kind, is_needed) for name, kind, is_needed in columns}
        names = list(template)
        marks = ", ".join("?" * len(names))
        statement = f"INSERT INTO request_log ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 - names of our own table
        for start in range(0, rows, _BATCH):
            batch = _rows(rng, min(_BATCH, rows - start), start, rows, key_ids, connection_ids)
            with database:
                database.executemany(statement, ([{**template, **row}[name] for name in names] for row in batch))
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(database.execute("SELECT count(*) FROM request_log").fetchone()[0])


def _columns(database: sqlite3.Connection, table: str) -> list[tuple[str, str, bool]]:
    """Return name, type and whether a value is needed, of every column."""
    found = database.execute(f"PRAGMA table_info({table})").fetchall()
    return [(name, kind.upper(), bool(needed) and default is None) for _, name, kind, needed, default, _ in found]


def _default(kind: str, is_needed: bool) -> Any:
    if not is_needed:
        return None
    return 0 if any(word in kind for word in ("INT", "REAL", "FLOAT", "NUM", "BOOL")) else ""


def _rows(
    rng: random.Random, size: int, start: int, total: int, key_ids: list[str], connection_ids: list[str]
) -> Iterator[dict[str, Any]]:
    now = time.time()
    span = 6 * 86_400
    for number in range(start, start + size):
        moment = now - span + span * number / total
        status = 200 if rng.random() < 0.97 else 502
        yield {
            "request_id": f"req_{int(moment * 1000):012x}{rng.getrandbits(56):014x}",
            "time": moment,
            "endpoint": "/v1/chat/completions",
            "client_format": "openai_chat",
            "upstream_format": "openai_chat",
            "requested_model": f"upstream/model-{rng.randrange(400)}",
            "provider": f"provider-{rng.randrange(40)}",
            "model": f"model-{rng.randrange(400)}",
            "connection_id": rng.choice(connection_ids) if connection_ids else None,
            "api_key_id": rng.choice(key_ids) if key_ids else None,
            "status": status,
            "outcome": "success" if status == 200 else "failed",
            "error_code": None if status == 200 else "upstream_error",
            "tokens_in": rng.randrange(20, 40_000),
            "tokens_out": rng.randrange(1, 4_000),
            "cost_kind": "unpriced",
            "cache": "bypass",
            "duration_ms": rng.uniform(200, 60_000),
            "ttft_ms": rng.uniform(100, 5_000),
            "attempts": 1,
            "attempts_json": "[]",
            "stream": 1,
            "kind": "request",
            "bytes_in": rng.randrange(500, 200_000),
            "bytes_out": rng.randrange(500, 50_000),
        }

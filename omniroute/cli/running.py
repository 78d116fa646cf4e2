"""The server that runs on this machine, seen from outside: what it wrote about itself, and whether it answers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from omniroute.settings import Settings

STATE_FILE: Final = "server.json"
_TIMEOUT_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to a question."""

    status: int
    body: Any


@dataclass(frozen=True, slots=True)
class Announcement:
    """The file a server leaves while it runs: `{"address", "version", "pid", "startedAt"}`."""

    address: str | None
    version: str | None
    pid: int | None
    started_at: float | None


def announcement(runtime_dir: Path) -> Announcement | None:
    """Read what the server of a data directory says about itself; None if it left nothing readable."""
    try:
        found = json.loads((runtime_dir / STATE_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict):
        return None

    def of(name: str, *kinds: type) -> Any:
        value = found.get(name)
        return value if isinstance(value, kinds) else None

    return Announcement(of("address", str), of("version", str), of("pid", int), of("startedAt", int, float))


def process_exists(pid: int) -> bool:
    """Say whether a process with this id is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def address_of(settings: Settings) -> str:
    """Return where the server of this data directory listens, or would."""
    said = announcement(settings.runtime_dir)
    return said.address if said and said.address else settings.local_url


def ask(address: str, path: str) -> Answer | None:
    """GET a path without a credential; None if nothing answers HTTP there."""
    parts = urlsplit(address)
    if parts.hostname is None:
        return None
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers={"Accept": "application/json"})
        response = connection.getresponse()
        raw = response.read(1 << 20)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    body = None
    with contextlib.suppress(ValueError):
        body = json.loads(raw)
    return Answer(response.status, body)

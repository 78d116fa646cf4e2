"""One run of wrk (Debian package) and what it reported."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from omnibench.processes import bound_to

_SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """What to send, and how."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    connections: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of wrk saw. `failed` counts answers over 399, time-outs and socket errors."""

    requests: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    failed: int

    @property
    def per_second(self) -> float:
        """Return finished requests per second."""
        return self.requests / self.duration_s


def run(load: Load, cores: Iterable[int] | None = None) -> Outcome:
    """Drive one target for `load.seconds` with one wrk thread.

    Raises:
        RuntimeError: wrk did not finish or its summary is missing.
    """
    with tempfile.TemporaryDirectory(prefix="omniroute-wrk-") as folder:
        body, headers = Path(folder, "body"), Path(folder, "headers")
        body.write_bytes(load.body)
        headers.write_text("".join(f"{name}: {value}\n" for name, value in load.headers.items()))
        command = ["wrk", "--threads", "1", "--connections", str(load.connections)]
        command += ["--duration", f"{max(1, round(load.seconds))}s", "--timeout", "20s", "--latency"]
        command += ["--script", str(_SCRIPT), load.url]
        with bound_to(cores):
            finished = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                env={**os.environ, "BENCH_BODY": str(body), "BENCH_HEADERS": str(headers)},
                timeout=load.seconds + 60,
            )
    return parse(finished.stdout, finished.stderr)


def parse(output: str, errors: str = "") -> Outcome:
    """Read the line that the script prints at the end.

    Raises:
        RuntimeError: there is none.
    """
    line = next((text for text in reversed(output.splitlines()) if text.startswith("BENCH ")), None)
    if line is None:
        raise RuntimeError(f"wrk printed no summary: {output[-400:]} {errors[-400:]}")
    seen = json.loads(line.removeprefix("BENCH "))
    failed = sum(seen[name] for name in ("connect", "read", "write", "status", "timeout"))
    return Outcome(
        requests=seen["requests"],
        duration_s=seen["duration_us"] / 1e6,
        p50_ms=seen["p50_us"] / 1e3,
        p99_ms=seen["p99_us"] / 1e3,
        max_ms=seen["max_us"] / 1e3,
        failed=failed,
    )

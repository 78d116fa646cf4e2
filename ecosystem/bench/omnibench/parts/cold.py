"""Cold start: from the start of the process to the first successful answer, and how long the command line takes."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from omnibench import bodies
from omnibench.bench import Bench, Findings
from omnibench.machine import FREE
from omnibench.processes import Park, TargetFailed, free_port
from omnibench.report import Bar, Section, number, span
from omnibench.stats import spread
from omnibench.targets import CHAT_PATH, clean_environ, omniroute_command, spawn_omniroute

_DEADLINE_S: Final = 30.0


def run(bench: Bench) -> Findings:
    """Start servers on fresh and on existing data in turn, then the command line."""
    existing = bench.data_dir()
    first_answer_s(bench.park, existing)  # creates it, and warms the file cache
    fresh_s: list[float] = []
    again_s: list[float] = []
    for _ in range(bench.plan.cold_starts):
        fresh_s.append(first_answer_s(bench.park, bench.data_dir()))
        again_s.append(first_answer_s(bench.park, existing))
    again, fresh = spread(again_s), spread(fresh_s)
    version = spread([command_s(["--version"], bench.scratch) for _ in range(2 * bench.plan.cold_starts)])
    bench.say(f"  existing {again.median:.2f} s, fresh {fresh.median:.2f} s, --version {version.median:.3f} s")
    section = Section("Cold start")
    section.say(
        "From the start of the process (`omniroute server`, one worker, all cores free to use) to the last byte of the "
        "first `sandbox/echo` answer. A fresh data directory also costs secrets, database and first password."
    )
    named = (("existing data directory", again), ("fresh data directory", fresh), ("`omniroute --version`", version))
    section.table(
        ("What", "Runs", "Median s", "Best s", "Worst s"),
        [(name, str(s.count), number(s.median, 3), number(s.low, 3), number(s.high, 3)) for name, s in named],
    )
    bars = [
        Bar("Cold start to first answer, existing data", again.median, 2.0, "s", note=span(again, 2)),
        Bar("Cold start to first answer, fresh data", fresh.median, 2.0, "s", note=span(fresh, 2)),
        Bar("`omniroute --version`", version.median, 0.25, "s", digits=3, note=span(version, 3)),
    ]
    return Findings(bars, section)


def first_answer_s(park: Park, data_dir: Path) -> float:
    """Start a server on `data_dir` and return the seconds to its first chat completion (`sandbox/echo`); then end it.

    Raises:
        TargetFailed: there was none before the deadline, or the server refused.
    """
    port = free_port()
    server = spawn_omniroute(park, data_dir, port, FREE, "cold", keyless=True)
    body = bodies.small("sandbox/echo")
    request = (
        f"POST {CHAT_PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body
    try:
        while True:
            status, answer = _try_once(port, request)
            now = time.perf_counter()
            if status == 200:
                return now - server.started_at
            if server.popen.poll() is not None or now - server.started_at > _DEADLINE_S or 400 <= status < 500:
                raise TargetFailed(f"the cold server answered {status} {answer[-300:]!r}\n{server.tail()}")
            time.sleep(0.002)
    finally:
        park.stop(server)


def _try_once(port: int, request: bytes) -> tuple[int, bytes]:
    """Return status and answer, or 0 while nobody listens."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_DEADLINE_S) as connection:
            connection.sendall(request)
            while piece := connection.recv(65536):
                answer += piece
    except OSError:
        return 0, b""
    return (int(answer[9:12]), answer) if answer.startswith(b"HTTP/1.1 ") else (0, answer)


def command_s(arguments: list[str], home: Path) -> float:
    """Return the seconds of one run of an `omniroute` command.

    Raises:
        TargetFailed: it did not end well.
    """
    environ = clean_environ(home)
    command = omniroute_command(*arguments)
    began = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, env=environ, cwd=home, timeout=_DEADLINE_S)
    took = time.perf_counter() - began
    if done.returncode:
        raise TargetFailed(f"omniroute {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-300:]!r}")
    return took

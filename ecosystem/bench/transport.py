"""The measurement behind the choice of the outbound client (decision record 0001).

One Flask view under gunicorn with a gevent worker and the C request parser passes a 1 KB call on to the sandbox server,
once with each client; a view that makes no call is the base line. All servers run at the same time and take turns, so
that the differences hold when the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from omnibench import bodies, calls
from omnibench.calls import Body, Case
from omnibench.machine import Cores, split_cores
from omnibench.processes import Park, TargetFailed, free_port, raise_open_files, wait_until_answers
from omnibench.report import number, table
from omnibench.stats import paired_difference
from omnibench.targets import CALL_MODEL, CHAT_PATH, REPOSITORY, Target, start_upstream
from transport_app import CLIENTS

_BASE_LINE = "no upstream call"


def main() -> int:
    """Measure every client in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    options = parser.parse_args()
    raise_open_files()
    cores = split_cores(pinned=True)
    try:
        with tempfile.TemporaryDirectory(prefix="omniroute-bench-") as scratch, Park(Path(scratch)) as park:
            upstream = start_upstream(park, cores)
            targets = [upstream, *(_start(park, name, upstream, cores) for name in CLIENTS)]
            for target in targets:
                calls.measure(target, Case(Body.SMALL, 16), 1, 0, cores)
            cases = [Case(Body.SMALL, connections) for connections in options.connections]
            samples = calls.compare(targets, cases, options.rounds, options.seconds, cores, _say)
    except TargetFailed as error:
        _say(f"Stopped: {error}")
        return 2
    print(_render(samples))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _start(park: Park, client: str, upstream: Target, cores: Cores) -> Target:
    port = free_port()
    folders = (str(Path(__file__).resolve().parent), str(REPOSITORY))
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(folders),
        "BENCH_CLIENT": client,
        "BENCH_PORT": str(upstream.port),
    }
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gevent", "--workers", "1"]
    command += ["--bind", f"127.0.0.1:{port}", "--worker-connections", "1000", "--keep-alive", "30"]
    name = client.replace(" ", "-")
    server = park.start(name, [*command, "transport_app:create_app()"], environ=environ, cores=cores.worker)
    body = bodies.small(CALL_MODEL)
    wait_until_answers(server, port, "POST", CHAT_PATH, body=body, headers={"Content-Type": "application/json"})
    target = Target(client, port, server, server.worker_pid())
    target.check()
    return target


def _render(samples: list[calls.Sample]) -> str:
    rows: list[tuple[str, ...]] = []
    for line in calls.lines(samples):
        if line.target == "direct":
            continue
        mine = {s.round: s.cpu_us for s in samples if s.target == line.target and s.case == line.case}
        base = {s.round: s.cpu_us for s in samples if s.target == _BASE_LINE and s.case == line.case}
        more = paired_difference(mine, base).median
        rows.append(
            (
                line.target,
                str(line.case.connections),
                number(line.per_second.median),
                number(line.p50_ms.median, 2),
                number(line.cpu_us.median),
                "–" if line.target == _BASE_LINE else number(more),
                number(line.failed),
            )
        )
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("gunicorn", "gevent", "flask", "requests", "urllib3", "geventhttpclient", "httptools")
    )
    header = ("Client", "Conn.", "Requests/s", "p50 ms", "CPU µs per request", "beyond no call", "Failed")
    return f"{table(header, rows)}\n\n{versions}"


if __name__ == "__main__":
    sys.exit(main())

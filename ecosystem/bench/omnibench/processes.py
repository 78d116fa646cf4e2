"""Start servers, account for them and end them by pid, also when the run is interrupted."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TAIL_BYTES: Final = 3000


class TargetFailed(Exception):
    """A server of the benchmark did not start or did not answer as it must."""


def raise_open_files(wanted: int = 20_000) -> int:
    """Raise the limit of open files towards `wanted` for this process and its children; return what is in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    target = wanted if hard == infinite else min(wanted, hard)
    if soft != infinite and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        return target
    return wanted if soft == infinite else soft


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, all threads, user and system, to the nanosecond.

    The kernel's clock of the process (clock_getcpuclockid): utime + stime of /proc/<pid>/stat tick only every 10 ms.
    """
    return time.clock_gettime((~pid << 3) | 2)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process got of the processor, and how long it stood in line for it."""

    cpu_s: float
    waited_s: float

    def since(self, earlier: Usage) -> Usage:
        """Return what came in addition since an earlier reading."""
        return Usage(self.cpu_s - earlier.cpu_s, self.waited_s - earlier.waited_s)

    @property
    def waiting_share(self) -> float:
        """Return which share of the time that it wanted to run it had to wait: 0 on a machine without other work."""
        wanted = self.cpu_s + self.waited_s
        return self.waited_s / wanted if wanted > 0 else 0.0


def usage(pid: int) -> Usage:
    """Read a process's account: all its threads."""
    waited_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError, IndexError):
            waited_ns += int((task / "schedstat").read_text().split()[1])
    return Usage(cpu_s(pid), waited_ns / 1e9)


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process, shared pages included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def pss_bytes(pid: int) -> int:
    """Return the proportional memory of a process: shared pages divided by their users."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def descendants(pid: int) -> list[int]:
    """Return the pids below `pid`, parents before children."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    queue = [pid]
    while queue:
        children = sorted(parents.get(queue.pop(0), []))
        found += children
        queue += children
    return found


def pin(pid: int, cores: Iterable[int]) -> None:
    """Bind every thread of a process to `cores`."""
    wanted = set(cores)
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), wanted)


@dataclass(slots=True)
class Server:
    """One process that the benchmark started, with its log."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    started_at: float
    _below: set[int] = field(default_factory=set)

    @property
    def pid(self) -> int:
        """Return the pid of the process itself (a master, if it has workers)."""
        return self.popen.pid

    def worker_pid(self) -> int:
        """Return the process that serves: the deepest descendant, or the process itself when it has none.

        Of several on the same level the largest one, which is the worker and not a helper.
        """
        below = descendants(self.pid)
        self._below.update(below)
        leaves = [pid for pid in below if not descendants(pid)]
        return max(leaves, key=rss_bytes, default=self.pid)

    def tail(self) -> str:
        """Return the end of the log, for a message about a failure."""
        with contextlib.suppress(OSError):
            return self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
        return ""

    def stop(self, grace_s: float = 10.0) -> None:
        """End the process: politely, then with SIGKILL; what it started goes with it. Idempotent."""
        self._below.update(descendants(self.pid))
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(grace_s)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        # The group is our own (start_new_session): a worker that outlived its master is still in it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


class Park:
    """All servers of a run; leaving the `with` block ends them, newest first."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._servers: list[Server] = []

    def __enter__(self) -> Self:
        signal.signal(signal.SIGINT, _interrupt)
        signal.signal(signal.SIGTERM, _interrupt)
        signal.signal(signal.SIGHUP, _interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in reversed(self._servers):
            server.stop()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environ: Mapping[str, str] | None = None,
        cores: Iterable[int] | None = None,
        cwd: Path | None = None,
    ) -> Server:
        """Start a process in a session of its own, bound to `cores`, its output in a log file."""
        log = self._log_dir / f"{name}-{len(self._servers)}.log"
        with log.open("wb") as output, bound_to(cores):
            started_at = time.perf_counter()
            popen = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environ is None else dict(environ),
                cwd=cwd,
                start_new_session=True,
            )
        server = Server(name, popen, log, started_at)
        self._servers.append(server)
        return server

    def stop(self, server: Server) -> None:
        """End one server before the others."""
        server.stop()
        self._servers.remove(server)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def bound_to(cores: Iterable[int] | None) -> Iterator[None]:
    """Bind this thread for the moment, so that a process started in the block inherits its cores.

    Not by a function between fork and exec: other threads run while the load generator is started.
    """
    if cores is None:
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of repeated headers the last one."""
    body: bytes


def call(
    port: int,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
) -> Answer:
    """Make one HTTP call to a loopback port and read the answer to its end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def wait_until_answers(
    server: Server,
    port: int,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    statuses: Iterable[int] = (200,),
    deadline_s: float = 60.0,
    pause_s: float = 0.02,
) -> Answer:
    """Repeat a call until its status is one of `statuses`.

    Raises:
        TargetFailed: the process ended, or the deadline passed.
    """
    wanted = set(statuses)
    end = time.monotonic() + deadline_s
    last = "no answer"
    while time.monotonic() < end:
        if server.popen.poll() is not None:
            break
        try:
            answer = call(port, method, path, body=body, headers=headers, timeout_s=10.0)
        except (OSError, http.client.HTTPException) as error:
            last = repr(error)
        else:
            if answer.status in wanted:
                return answer
            last = f"status {answer.status}: {answer.body[:300]!r}"
        time.sleep(pause_s)
    raise TargetFailed(f"{server.name} did not answer {method} {path} ({last})\n{server.tail()}")

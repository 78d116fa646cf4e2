"""What the figures were measured on: the machine, the versions, and which core does what."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores the measured worker and everything else may use; None leaves the choice to the kernel."""

    worker: tuple[int, ...] | None
    rest: tuple[int, ...] | None

    @property
    def are_pinned(self) -> bool:
        """True when the worker has a core of its own."""
        return self.worker is not None


FREE = Cores(None, None)


def split_cores(*, pinned: bool) -> Cores:
    """Give the first usable core to the measured worker, the others to upstream and load; free with a single core."""
    usable = sorted(os.sched_getaffinity(0))
    if not pinned or len(usable) < 2:
        return FREE
    return Cores((usable[0],), tuple(usable[1:]))


def describe_machine() -> dict[str, str]:
    """Return cores, processor, memory and kernel in words."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    total_kib = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1])  # type: ignore[index]
    return {
        "Cores": str(len(os.sched_getaffinity(0))),
        "Processor": cpu,
        "Memory": f"{total_kib / 2**20:.1f} GiB",
        "System": f"Linux {platform.release()} {platform.machine()}",
    }


def describe_versions() -> dict[str, str]:
    """Return the versions of everything that takes part, without the peers."""
    versions = {"Python": platform.python_version()}
    for name in ("gevent", "greenlet", "gunicorn", "gunicorn_h1c", "flask", "httptools", "sqlalchemy", "uvloop"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    versions["wrk"] = _first_match(["wrk", "-v"], r"wrk (\S+)")
    versions["nginx"] = _first_match([nginx_program() or "nginx", "-v"], r"nginx/(\S+)")
    return versions


def nginx_program() -> str | None:
    """Return the path of nginx, which Debian keeps outside a user's search path; None when it is not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _first_match(command: list[str], pattern: str) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    except OSError:
        return "not installed"
    match = re.search(pattern, done.stdout + done.stderr)
    return match[1] if match else "unknown"

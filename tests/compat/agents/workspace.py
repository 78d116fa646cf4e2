"""Where an agent runs: a home and a folder of its own, the environment it gets, and what came of a turn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TURN_S = 90.0
_NOWHERE = "http://127.0.0.1:9"
"""Nobody listens on the port for discarding: what an agent wants from anywhere but loopback is refused at once."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where the gateway is, and the key for it."""

    url: str
    key: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What an agent said to one prompt.

    Attributes:
        text: its answer.
        pieces: the answer as it came, for agents that show it.
        error: what it told its user went wrong.
        compactions: how often it made its history smaller.
        output: everything it printed, for the message of a failed test.
    """

    exit_code: int
    text: str
    pieces: tuple[str, ...]
    error: str
    compactions: int
    output: str


class Workspace:
    """An empty home, an empty folder to work in, and a folder for temporary files."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.folder = root / "work"
        self._temporary = root / "tmp"
        for folder in (self.home, self.folder, self._temporary):
            folder.mkdir(parents=True, exist_ok=True)

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a process that may only reach this machine."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self._temporary),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "TZ": "UTC",
            "HTTP_PROXY": _NOWHERE,
            "HTTPS_PROXY": _NOWHERE,
            "ALL_PROXY": _NOWHERE,
            "NO_PROXY": "127.0.0.1,localhost",
            **variables,
        }

    def call(
        self,
        command: Sequence[str | Path],
        variables: Mapping[str, str],
        prompt: str,
        *,
        folder: Path | None = None,
        within_s: float = TURN_S,
    ) -> Finished:
        """Run a command to its end with the prompt on its standard input, in `folder` if not in the working folder."""
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder or self.folder,
            env=self.environment(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            output, complaints = process.communicate(prompt.encode(), timeout=within_s)
        except BaseException:
            end_group(process)
            raise
        end_group(process)
        return Finished(process.returncode, output.decode(errors="replace"), complaints.decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that has ended."""

    exit_code: int
    output: str
    complaints: str
    events: list[dict[str, Any]] = field(init=False)
    """The lines of its output that are JSON objects."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "events", list(_objects(self.output)))

    @property
    def all_output(self) -> str:
        """Return what it printed on both ways."""
        return f"{self.output}\n--- standard error ---\n{self.complaints}"


def _objects(output: str) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        if line.startswith("{"):
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End what a process has left behind; it leads a group of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait(10)

"""The server as a process of this machine: started in the background, found again, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.running import announcement, ask, process_exists

if TYPE_CHECKING:
    from omniroute.settings import Settings

_START_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.1
_OPTIONS_FILE: Final = "server-options.json"
_TAIL_BYTES: Final = 4096
_MARK: Final = b"omniroute.runtime"
"""What the command line of a server process holds."""


def remember_options(runtime_dir: Path, options: Mapping[str, str]) -> None:
    """Keep what the command line set, so that a restart can set it again."""
    runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    (runtime_dir / _OPTIONS_FILE).write_text(json.dumps(dict(options)), encoding="utf-8")


def remembered_options(runtime_dir: Path) -> dict[str, str]:
    """Return what the command line of the last start set."""
    try:
        found = json.loads((runtime_dir / _OPTIONS_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def start_in_background(
    settings: Settings, arguments: Sequence[str], environ: Mapping[str, str], options: Mapping[str, str]
) -> Path:
    """Start the server apart from this terminal, wait until it answers, and return where its output goes.

    Raises:
        Failure: it ended, or did not answer in time; the end of its output is in the message.
    """
    remember_options(settings.runtime_dir, options)
    log = settings.data_dir / "logs" / "server.out"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        began_at = log.stat().st_size
        process = subprocess.Popen(
            list(arguments),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    give_up_at = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < give_up_at:
        if process.poll() is not None:
            raise Failure(f"The server ended at once:\n{_tail(log, began_at)}", Exit.FAILED)
        answer = ask(settings.local_url, "/healthz")
        if answer is not None and answer.status == 200:
            process.returncode = 0  # it lives on without us: nobody waits for it here
            return log
        time.sleep(_POLL_S)
    process.terminate()
    raise Failure(f"The server did not answer within {_START_TIMEOUT_S:g} s:\n{_tail(log, began_at)}", Exit.TIMED_OUT)


def _tail(log: Path, began_at: int) -> str:
    with log.open("rb") as file:
        file.seek(max(began_at, log.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace").strip()


def follow(log: Path) -> None:
    """Print what is added to a file until interrupted; the server runs on."""
    with log.open("rb") as file, contextlib.suppress(KeyboardInterrupt):
        while True:
            text = file.read()
            if text:
                click.echo(text, nl=False)
            else:
                time.sleep(_POLL_S)


def running_pid(runtime_dir: Path) -> int | None:
    """Return the process of the server of a data directory; None if it does not run."""
    said = announcement(runtime_dir)
    if said is None or said.pid is None or not process_exists(said.pid) or not _is_server(said.pid):
        return None
    return said.pid


def _is_server(pid: int) -> bool:
    """Tell our server from a process that was given the same number since."""
    try:
        return _MARK in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True  # no /proc here, or not ours to read


def stop(
    pid: int,
    timeout_s: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Let the server finish its requests and end.

    Raises:
        Failure: it still runs after the time.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    give_up_at = now() + timeout_s
    while process_exists(pid) and not _is_zombie(pid):
        if now() >= give_up_at:
            raise Failure(
                f"The server (process {pid}) still finishes requests after {timeout_s:g} s. It ends when they have.",
                Exit.TIMED_OUT,
            )
        sleep(_POLL_S)


def _is_zombie(pid: int) -> bool:
    try:
        return b") Z " in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False

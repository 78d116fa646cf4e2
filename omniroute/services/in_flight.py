"""The requests in flight in all workers of this host: seen from any of them, and cancelled by any of them.

Workers are processes that share a directory. Each writes what it has in flight to a file of its own once a second, if
there is anything, and looks for requests that others want cancelled: files named after them, which the worker takes
away that has the request. So a request costs nothing on its way, and an idle worker a look into an empty directory.
What is shown of other workers is at most a second old; of this one it is of this moment.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from omniroute.gateway.active import ActiveRun

log = logging.getLogger(__name__)

LOOK_S: Final = 0.25
PUBLISH_S: Final = 1.0
_STALE_S: Final = 4.0
"""A worker that has not written for so long has nothing in flight, is gone, or hangs."""
_FORGOTTEN_S: Final = 60.0
_PATIENCE_S: Final = 1.5
_ASK_S: Final = 0.05
_SUFFIX: Final = ".json"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")


class Published(msgspec.Struct):
    """What a worker has in flight."""

    written_at: float
    runs: list[ActiveRun]


@dataclass(frozen=True, slots=True)
class Worked:
    """A request in flight, and the process that serves it."""

    run: ActiveRun
    pid: int


class InFlight:
    """One worker's part: publishes its own list, reads those of others, passes cancellations on."""

    def __init__(
        self,
        directory: Path,
        *,
        runs: Callable[[], list[ActiveRun]],
        cancel: Callable[[str], bool],
        now: Callable[[], float],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        pid: Callable[[], int] = os.getpid,
    ) -> None:
        """`directory` is shared by the workers of this host; `runs` and `cancel` are about those of this worker."""
        self._lists = directory / "lists"
        self._wanted = directory / "cancel"
        self._runs = runs
        self._cancel = cancel
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._pid = pid
        self._is_published = False

    def all(self) -> list[Worked]:
        """Return the requests in flight in all workers, the oldest first."""
        me, now = self._pid(), self._now()
        found = [Worked(run, me) for run in self._runs()]
        for file in self._lists.glob(f"*{_SUFFIX}"):
            pid = int(file.stem) if file.stem.isdecimal() else 0
            published = None if pid == me else _read(file)
            if published is None:
                continue
            if now - published.written_at > _FORGOTTEN_S:
                file.unlink(missing_ok=True)
            elif now - published.written_at <= _STALE_S:
                found += [Worked(run, pid) for run in published.runs]
        found.sort(key=lambda worked: (worked.run.started_at, worked.run.request_id))
        return found

    def cancel(self, request_id: str) -> bool:
        """End a request in flight, whichever worker has it; False if none has."""
        if self._cancel(request_id):
            return True
        if not _ID.fullmatch(request_id):
            return False
        self._wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
        wanted = self._wanted / request_id
        wanted.touch(mode=0o600)
        os.utime(wanted, times=(self._now(), self._now()))
        give_up_at = self._monotonic() + _PATIENCE_S
        while self._monotonic() < give_up_at:
            self._sleep(_ASK_S)
            if not wanted.exists():
                return True
        try:
            wanted.unlink()
        except FileNotFoundError:
            return True
        return False

    def serve_forever(self) -> None:
        """Do this worker's part for as long as it lives."""
        published_at = self._monotonic()
        while True:
            self._sleep(LOOK_S)
            try:
                self.look()
                if self._monotonic() - published_at >= PUBLISH_S:
                    published_at = self._monotonic()
                    self.publish()
            except OSError as error:  # a full disk must not end this greenlet
                log.warning("The requests in flight cannot be shared: %s", error.strerror or error)

    def look(self) -> None:
        """Cancel those of this worker's requests that somebody wants cancelled."""
        try:
            everything = list(self._wanted.iterdir())
        except FileNotFoundError:
            return
        for wanted in everything:
            if self._cancel(wanted.name) or self._is_forgotten(wanted):
                wanted.unlink(missing_ok=True)

    def _is_forgotten(self, wanted: Path) -> bool:
        """Say whether nobody waits for this any more: the worker that asked was killed."""
        try:
            return self._now() - wanted.stat().st_mtime > _FORGOTTEN_S
        except FileNotFoundError:
            return False

    def publish(self) -> None:
        """Write what is in flight where other workers read it; nothing while there is nothing."""
        runs = self._runs()
        file = self._lists / f"{self._pid()}{_SUFFIX}"
        if not runs:
            if self._is_published:
                file.unlink(missing_ok=True)
                self._is_published = False
            return
        self._lists.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = file.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(Published(self._now(), runs)))
        temporary.replace(file)
        self._is_published = True

    def withdraw(self) -> None:
        """Take back what was published: the worker ends."""
        if self._is_published:
            with suppress(OSError):
                (self._lists / f"{self._pid()}{_SUFFIX}").unlink(missing_ok=True)


def _read(file: Path) -> Published | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Published)
    except FileNotFoundError:  # its worker has just ended, or has nothing in flight any more
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("The list of requests in flight %s cannot be read: %s", file.name, error)
        return None

"""The application log and the request log as they grow: the last lines, and what is added to them.

All workers write one log file (`logging_setup`), which any of them reads here: backwards for the last lines, forwards
to follow it, also over rotations. Where no file is written, each worker keeps its own last lines and shows those. Lines
were freed of credentials when they were written, and are again when they are read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from omniroute.errors import RateLimited
from omniroute.logging_setup import LastLines, redact
from omniroute.services.usage import Filters, LogRow, Usage
from omniroute.storage.threads import NativePool

MOST_LINES: Final = 1000
MOST_FOLLOWERS: Final = 4
"""Of each kind, per worker."""
_BLOCK: Final = 128 << 10
_MOST_READ: Final = 32 << 20
"""How far back lines are looked for."""
_MOST_AT_ONCE: Final = 256 << 10
_LONGEST_LINE: Final = 16 << 10
_CONTINUED: Final = "    | "
_HEAD: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([A-Z]+) +(\S+) (?:\[([^\]\s]{1,200})\] )?(.*)", re.DOTALL
)
_KNOWN: Final = ("time", "level", "logger", "message", "requestId", "traceback")


class Level(StrEnum):
    """How grave a line is."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


_RANK: Final = {level.value: rank for rank, level in enumerate(Level)}


@dataclass(frozen=True, slots=True)
class Line:
    """One event of the application log. `fields` is what it says beside its message."""

    time: float
    level: str
    logger: str
    message: str
    request_id: str | None = None
    traceback: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are wanted; None does not narrow."""

    level: Level = Level.DEBUG
    since: float | None = None
    until: float | None = None
    request_id: str | None = None
    q: str | None = None

    def takes(self, line: Line) -> bool:
        """Say whether a line is wanted."""
        return (
            _RANK.get(line.level, 1) >= _RANK[self.level]
            and (self.since is None or line.time >= self.since)
            and (self.until is None or line.time < self.until)
            and self.request_id in (None, line.request_id)
            and (self.q is None or self.q.casefold() in f"{line.logger} {line.message}".casefold())
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader of a file stands: the file, whatever it is called by now, and the next byte."""

    inode: int
    offset: int


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Lines, the oldest first. `is_cut`: further back nobody has looked."""

    lines: tuple[Line, ...]
    is_cut: bool


class Source(Protocol):
    """Where lines come from."""

    def newest(self, wanted: Wanted, limit: int) -> tuple[Excerpt, Any]:
        """Return the last wanted lines, and the place behind them."""
        ...

    def after(self, place: Any) -> tuple[Sequence[Line], Any]:
        """Return lines behind a place, wanted or not, and the place behind those."""
        ...


# --- lines -----------------------------------------------------------------------------------------------------------


def parsed(head: str, continued: Sequence[str] = ()) -> Line | None:
    """Return the event of a line in either form; None for what is no line of ours."""
    head = head[:_LONGEST_LINE]
    if head.startswith("{"):
        return _from_json(head)
    match = _HEAD.match(head)
    if match is None:
        return None
    at, level, logger, request_id, message = match.groups()
    traceback = tuple(redact(text.removeprefix(_CONTINUED)) for text in continued)
    return Line(_seconds(at), level.lower(), logger, redact(message), request_id, traceback)


def _from_json(text: str) -> Line | None:
    try:
        entry = json.loads(text)
        time = _seconds(entry["time"])
        level, logger, message = str(entry["level"]), str(entry["logger"]), redact(str(entry["message"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    request_id = entry.get("requestId")
    fields = {
        str(name): redact(value) if isinstance(value, str) else value
        for name, value in entry.items()
        if name not in _KNOWN and isinstance(value, str | int | float | bool | None)
    }
    traceback = tuple(redact(str(part)) for part in entry.get("traceback") or ())
    return Line(time, level, logger, message, str(request_id) if request_id else None, traceback, fields)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def lines_of(texts: Sequence[str]) -> list[Line]:
    """Return the events of whole lines in order; a traceback belongs to the line above it."""
    found: list[Line] = []
    head, continued = "", []
    for text in texts:
        if text.startswith(_CONTINUED):
            continued.append(text[:_LONGEST_LINE])
            continue
        if head and (line := parsed(head, continued)) is not None:
            found.append(line)
        head, continued = text, []
    if head and (line := parsed(head, continued)) is not None:
        found.append(line)
    return found


# --- sources ---------------------------------------------------------------------------------------------------------


class LogFile:
    """The log file and those that it was rotated into: `log`, `log.1`, `log.2` and so on, the newest first."""

    def __init__(self, path: Path, max_files: int) -> None:
        self._paths = (path, *(path.with_name(f"{path.name}.{number}") for number in range(1, max_files)))

    def newest(self, wanted: Wanted, limit: int) -> tuple[Excerpt, Place]:
        """See :class:`Source`."""
        place: Place | None = None
        found: list[Line] = []
        read = 0
        for path in self._paths:
            for lines, inode, size, amount in _backwards(path):
                if place is None:
                    place = Place(inode, size)
                read += amount
                found += [line for line in reversed(lines) if wanted.takes(line)]
                is_before = wanted.since is not None and bool(lines) and lines[0].time < wanted.since
                if len(found) >= limit or is_before or read >= _MOST_READ:
                    is_cut = len(found) > limit or not is_before
                    return Excerpt(tuple(reversed(found[:limit])), is_cut), place
        return Excerpt(tuple(reversed(found)), is_cut=False), place or Place(0, 0)

    def after(self, place: Place) -> tuple[Sequence[Line], Place]:
        """See :class:`Source`."""
        position = self._position_of(place.inode)
        if position is None:  # it is gone: what is there now is all new
            return self._read(self._paths[0], 0)
        lines, reached = self._read(self._paths[position], place.offset)
        if position > 0 and reached.offset == place.offset:
            return self._read(self._paths[position - 1], 0)
        return lines, reached

    def _position_of(self, inode: int) -> int | None:
        for position, path in enumerate(self._paths):
            try:
                if path.stat().st_ino == inode:
                    return position
            except FileNotFoundError:
                return None
        return None

    def _read(self, path: Path, offset: int) -> tuple[Sequence[Line], Place]:
        try:
            with path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                file.seek(offset)
                data = file.read(_MOST_AT_ONCE)
        except FileNotFoundError:
            return (), Place(0, 0)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == _MOST_AT_ONCE:
            end = len(data)  # no line of ours is so long: it is passed over
        # A traceback may be cut off from its line where so much comes at once; then it is shown without it.
        return lines_of(data[:end].decode("utf-8", "replace").split("\n")), Place(inode, offset + end)


def _backwards(path: Path) -> Iterator[tuple[list[Line], int, int, int]]:
    """Yield the lines of a file, a block at a time from its end; with the file, where it ended, and bytes read."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        facts = os.fstat(file.fileno())
        end = size = _whole(file, facts.st_size)
        rest = b""
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            data = file.read(end - start) + rest
            # What may have begun before this block waits for the one before: up to the first line that is a head.
            cut = 0 if start == 0 else _first_head(data)
            rest, whole = (data, b"") if cut is None else (data[:cut], data[cut:])
            if len(rest) > _MOST_AT_ONCE:
                rest = b""
            yield lines_of(whole.decode("utf-8", "replace").split("\n")), facts.st_ino, size, end - start
            end = start


def _whole(file: Any, size: int) -> int:
    """Return where the last whole line ends."""
    file.seek(max(0, size - _BLOCK))
    data = file.read(min(size, _BLOCK))
    return max(0, size - len(data)) + int(data.rfind(b"\n")) + 1


def _first_head(data: bytes) -> int | None:
    """Return where the first line begins that is surely whole and no part of a traceback."""
    mark = _CONTINUED.encode()
    at = data.find(b"\n") + 1
    while at and data.startswith(mark, at):
        at = data.find(b"\n", at) + 1
    return at or None


class KeptLines:
    """The last lines of this worker, where no file has them."""

    def __init__(self, handler: LastLines) -> None:
        self._handler = handler

    def newest(self, wanted: Wanted, limit: int) -> tuple[Excerpt, int]:
        """See :class:`Source`."""
        lines, number = self.after(0)
        found = [line for line in lines if wanted.takes(line)]
        return Excerpt(tuple(found[-limit:]) if limit else (), is_cut=len(found) > limit), number

    def after(self, place: int) -> tuple[Sequence[Line], int]:
        """See :class:`Source`."""
        texts, number = self._handler.after(place)
        found = (lines_of(text.split("\n")) for text in texts)
        return [line for some in found for line in some], number


# --- followers -------------------------------------------------------------------------------------------------------


class Seats:
    """How many may follow at once."""

    def __init__(self, most: int = MOST_FOLLOWERS) -> None:
        self._free = most
        self._most = most

    def take(self) -> Callable[[], None]:
        """Take a seat; return what gives it back, once however often it is called.

        Raises:
            RateLimited: `too_many_followers`.
        """
        if not self._free:
            message = f"{self._most} clients follow already through this worker."
            raise RateLimited(message, code="too_many_followers", retry_after_s=5)
        self._free -= 1
        is_taken = True

        def leave() -> None:
            nonlocal is_taken
            self._free += is_taken
            is_taken = False

        return leave


class LineFollower:
    """Hands out wanted lines as they are written; the last ones first."""

    def __init__(self, source: Source, wanted: Wanted, first: Sequence[Line], place: Any) -> None:
        self._source = source
        self._wanted = wanted
        self._first = list(first)
        self._place = place

    def poll(self) -> list[Line]:
        """Return what has come since the last time."""
        if self._first:
            first, self._first = self._first, []
            return first
        lines, self._place = self._source.after(self._place)
        return [line for line in lines if self._wanted.takes(line)]


class RequestFollower:
    """Hands out the requests that are settled from now on, in the order in which they are stored."""

    def __init__(self, usage: Usage, filters: Filters) -> None:
        self._usage = usage
        self._filters = filters
        self._cursor = usage.end()

    def poll(self) -> list[LogRow]:
        """Return what has come since the last time."""
        rows, self._cursor = self._usage.settled_after(self._filters, self._cursor)
        return list(rows)


class LogFeed:
    """Shows and follows the logs."""

    def __init__(self, *, source: Source, usage: Usage, pool: NativePool | None = None) -> None:
        self._source = source
        self._usage = usage
        self._pool = pool or NativePool(1)
        self.is_closed = False
        """This worker goes: those who follow are to go to another."""
        self.line_seats = Seats()
        self.request_seats = Seats()

    def close(self) -> None:
        """Send away who follows."""
        self.is_closed = True

    def newest(self, wanted: Wanted, limit: int) -> Excerpt:
        """Return the last wanted lines."""
        return self._pool.run(lambda: self._source.newest(wanted, limit))[0]

    def follow(self, wanted: Wanted, limit: int) -> LineFollower:
        """Return the last wanted lines and all that follow."""
        excerpt, place = self._pool.run(lambda: self._source.newest(wanted, limit))
        return LineFollower(self._source, wanted, excerpt.lines, place)

    def follow_requests(self, filters: Filters) -> RequestFollower:
        """Return the requests that are settled from now on."""
        return RequestFollower(self._usage, filters)

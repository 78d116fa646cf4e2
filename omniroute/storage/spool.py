"""Append-only files that hold settled requests until the database has them.

A worker appends one line per request to its own file, with one `write`, and keeps the file locked while it lives; the
kernel lets go of the lock when it dies, and whoever can take it then delivers what is left. A line counts once its
newline is there, so a line that was torn by a kill is simply not there yet.

Files are dealt with in pieces: some complete lines from a known position. After a piece is in the database the position
moves on; a file that is delivered to its end is emptied, or removed if a newer one has taken its place. A crash between
the two delivers lines again, which the database ignores by their request id.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omniroute.storage.locks import try_lock_descriptor

SUFFIX: Final = ".spool"
_ROLL_BYTES: Final = 4 << 20
_READ_BYTES: Final = 256 << 10
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(slots=True)
class _File:
    path: Path
    descriptor: int
    size: int = 0
    """Bytes appended."""
    position: int = 0
    """Bytes delivered."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Where undelivered bytes stand."""

    descriptor: int
    position: int
    end: int

    def lines(self, at_most: int) -> tuple[list[bytes], int]:
        """Read some complete lines; return them and the number of bytes that they take, newlines included.

        Runs in any thread: the file is not removed before the piece is done, and what is read does not change.
        """
        length = min(self.end - self.position, _READ_BYTES)
        while True:
            data = os.pread(self.descriptor, length, self.position)
            lines = data.split(b"\n", at_most)
            rest = lines.pop()
            if lines or length >= self.end - self.position:
                return lines, len(data) - len(rest)
            length *= 2  # one line longer than the buffer


class Spool:
    """The files of this process. Not for several native threads at once."""

    def __init__(self, directory: Path, *, roll_bytes: int = _ROLL_BYTES) -> None:
        self._directory = directory
        self._roll_bytes = roll_bytes
        self._files: deque[_File] = deque()
        self._numbers = itertools.count()
        self._is_torn = False

    @property
    def pending_bytes(self) -> int:
        """Bytes that are not delivered yet."""
        return sum(file.size - file.position for file in self._files)

    def append(self, line: bytes) -> None:
        """Append a line that ends in a newline, with one write.

        Raises:
            OSError: it was not written, or only in part; the next line will be set apart from the part.
        """
        file = self._files[-1] if self._files else self._open()
        if file.size >= self._roll_bytes:
            file = self._open()
        data = b"\n" + line if self._is_torn else line
        written = os.write(file.descriptor, data)
        file.size += written
        self._is_torn = written != len(data)
        if self._is_torn:
            raise OSError("the spool file took only part of a line")

    def next_piece(self) -> Piece | None:
        """Return what is to be delivered next, oldest first."""
        self._drop_delivered()
        if not self._files or self._files[0].position == self._files[0].size:
            return None
        file = self._files[0]
        return Piece(file.descriptor, file.position, file.size)

    def delivered(self, length: int) -> None:
        """Move on after the next piece's first `length` bytes are in the database."""
        self._files[0].position += length
        self._drop_delivered()

    def close(self) -> None:
        """Let go of the files: remove what is delivered, leave the rest to whoever drains it."""
        self._drop_delivered()
        for file in self._files:
            if file.position == file.size:
                file.path.unlink(missing_ok=True)
            os.close(file.descriptor)
        self._files.clear()

    def _open(self) -> _File:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            # The process is asked for here: the object may have been made before a fork.
            path = self._directory / f"{_boot_id()}-{os.getpid()}-{next(self._numbers)}{SUFFIX}"
            try:
                descriptor = os.open(path, _FLAGS, 0o600)
            except FileExistsError:
                continue  # left by an earlier process with the same number: somebody will drain it
            # Between these two calls somebody may have taken it for a dead worker's, found it empty and removed it.
            if try_lock_descriptor(descriptor) and _is_at(descriptor, path):
                file = _File(path, descriptor)
                self._files.append(file)
                self._is_torn = False
                return file
            os.close(descriptor)

    def _drop_delivered(self) -> None:
        while self._files and self._files[0].position == self._files[0].size:
            file = self._files[0]
            if len(self._files) == 1:
                if file.size and not self._is_torn:
                    os.ftruncate(file.descriptor, 0)
                    file.size = file.position = 0
                return
            file.path.unlink(missing_ok=True)
            os.close(file.descriptor)
            self._files.popleft()


@contextmanager
def taken_over(path: Path) -> Iterator[Piece | None]:
    """Lock the file of a dead worker for the block; None if its worker lives or somebody else is at it.

    The file is removed by whoever holds it, see :func:`remove`.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        if not try_lock_descriptor(descriptor) or not _is_at(descriptor, path):
            yield None
            return
        yield Piece(descriptor, 0, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def files_in(directory: Path) -> tuple[Path, ...]:
    """Return the spool files of a directory, dead or alive, oldest name first."""
    return tuple(sorted(directory.glob(f"*{SUFFIX}")))


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()[:8]
    except OSError:
        return "host"

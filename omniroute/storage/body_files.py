"""Captured bodies on disk: one compressed file per request, in a directory per day of UTC.

A file appears whole or not at all, and nobody but the server's user may read it. Its time is that of its request, by
which it is found again and grows old. Several processes may write, read and remove at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import zstandard

from omniroute.errors import StorageError
from omniroute.storage.threads import NativePool

SUFFIX: Final = ".json.zst"
_HALF_SUFFIX: Final = ".part"
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_LEVEL: Final = 3
_MOST_READ: Final = 256 << 20
_HALF_AGE_S: Final = 3600
"""A file that was begun so long ago was left by a process that has died."""
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LEFT_TENTHS: Final = 9
"""Of the room, so many tenths are left full when it is cleared: not every file has to clear it again."""


@dataclass(frozen=True, slots=True)
class _Kept:
    time: float
    size: int
    path: Path


class BodyFiles:
    """The files below one directory. What blocks runs in a native thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pool = NativePool(1)

    def write(self, request_id: str, time: float, render: Callable[[], bytes]) -> int:
        """Keep what was captured of a request; return the bytes that it takes. `render` is called off the hub too.

        Raises:
            OSError: it was not kept.
        """
        return self._pool.run(lambda: self._write(request_id, time, render()))

    def read(self, request_id: str, time: float) -> bytes | None:
        """Return what was captured of a request; None if nothing is kept.

        Raises:
            StorageError: it cannot be read.
        """
        return self._pool.run(lambda: self._read(request_id, time))

    def remove(self, *, before: float, most_bytes: int | None = None) -> int:
        """Remove what is older than `before`, and the oldest of what is more than `most_bytes`; return how many."""
        return self._pool.run(lambda: self._remove(before, most_bytes))

    def _write(self, request_id: str, time: float, data: bytes) -> int:
        packed = zstandard.ZstdCompressor(level=_LEVEL).compress(data)
        path = self._path(request_id, time)
        half = path.with_name(f".{path.name}.{os.getpid()}{_HALF_SUFFIX}")
        try:
            descriptor = self._create(half)
            with os.fdopen(descriptor, "wb") as file:
                file.write(packed)
            os.utime(half, (time, time))
            half.replace(path)
        except OSError:
            with suppress(OSError):
                half.unlink(missing_ok=True)
            raise
        return len(packed)

    def _read(self, request_id: str, time: float) -> bytes | None:
        if not _ID.fullmatch(request_id):
            return None
        try:
            packed = self._path(request_id, time).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError("The captured bodies cannot be read.") from error
        try:
            if zstandard.frame_content_size(packed) > _MOST_READ:
                raise StorageError("The captured bodies are too large to be read.")
            return zstandard.ZstdDecompressor().decompress(packed, max_output_size=_MOST_READ)
        except zstandard.ZstdError as error:
            raise StorageError("The captured bodies cannot be read.") from error

    def _remove(self, before: float, most_bytes: int | None) -> int:
        kept: list[_Kept] = []
        removed = 0
        for one in self._files(before):
            if one.time < before:
                removed += _removed(one.path)
            else:
                kept.append(one)
        total = sum(one.size for one in kept)
        if most_bytes is not None and total > most_bytes:
            kept.sort(key=lambda one: one.time)
            for one in kept:
                if total <= most_bytes * _LEFT_TENTHS // 10:
                    break
                removed += _removed(one.path)
                total -= one.size
        for day in self._days():
            with suppress(OSError):  # it still holds something
                day.rmdir()
        return removed

    def _path(self, request_id: str, time: float) -> Path:
        if not _ID.fullmatch(request_id):
            raise OSError("the id of the request cannot name a file")
        return self._directory / datetime.fromtimestamp(time, UTC).date().isoformat() / f"{request_id}{SUFFIX}"

    def _create(self, half: Path) -> int:
        for is_last in (False, True):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            half.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                return os.open(half, _FLAGS, 0o600)
            except FileNotFoundError:  # somebody found the new directory empty and removed it
                if is_last:
                    raise
        raise AssertionError

    def _days(self) -> list[Path]:
        try:
            found = [path for path in self._directory.iterdir() if _DAY.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        return sorted(path for path in found if path.is_dir() and not path.is_symlink())

    def _files(self, before: float) -> Iterator[_Kept]:
        for day in self._days():
            with suppress(FileNotFoundError), os.scandir(day) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        found = entry.stat(follow_symlinks=False)
                        is_half = entry.name.endswith(_HALF_SUFFIX)
                        time = found.st_mtime + (_HALF_AGE_S if is_half else 0)
                        if not is_half or time < before:
                            yield _Kept(time, found.st_size, Path(entry.path))


def _removed(path: Path) -> int:
    try:
        path.unlink()
    except OSError:
        return 0
    return 1

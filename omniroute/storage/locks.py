"""Exclusive locks between processes of one host, by `flock`. The kernel lets go when the holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from omniroute.errors import ConfigurationError

_POLL_S: Final = 0.02


def try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock on `path`, or None if another process does. Closing it lets go."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    if not try_lock_descriptor(descriptor):
        os.close(descriptor)
        return None
    return descriptor


def try_lock_descriptor(descriptor: int) -> bool:
    """Lock an open file if nobody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(
    path: Path,
    *,
    wait_s: float = 60.0,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lock on `path` for the block, waiting for it cooperatively.

    Raises:
        ConfigurationError: another process kept it for all of `wait_s`.
    """
    deadline = monotonic() + wait_s
    while (descriptor := try_lock(path)) is None:
        if monotonic() >= deadline:
            raise ConfigurationError(f"Another process of this installation holds {path.name} for over {wait_s:.0f} s.")
        sleep(_POLL_S)
    try:
        yield
    finally:
        os.close(descriptor)

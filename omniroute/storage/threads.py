"""Native threads for work that would hold the gevent hub; plain calls where there is no hub.

A statement of SQLite blocks its thread, and a greenlet that blocks stops every stream of the worker. Code that runs
here must not use gevent, nor locks that `monkey.patch_all` has replaced.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast

T = TypeVar("T")


class Lock(Protocol):
    """The part of a lock that is used."""

    def __enter__(self) -> bool: ...
    def __exit__(self, *_: object) -> None: ...


def is_cooperative() -> bool:
    """Say whether this process is monkey-patched, so that a blocking call would stop other greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def native(module: str, name: str) -> Any:
    """Return a standard library object as it was before patching."""
    if is_cooperative():
        from gevent import monkey

        return monkey.get_original(module, name)
    return getattr(__import__(module), name)


def native_lock() -> Lock:
    """Return a lock between native threads; to be held briefly, and never by a greenlet on the hub's thread."""
    return cast("Lock", native("threading", "Lock")())


class _Outcome(Generic[T]):
    """What a call in another thread came to; raising there would make gevent print it."""

    __slots__ = ("error", "value")

    def __init__(self) -> None:
        self.value: T | None = None
        self.error: BaseException | None = None


class NativePool:
    """At most `size` native threads, started at first use and again after a fork."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pool: Any = None
        self._owner: tuple[int, int] | None = None

    def run(self, work: Callable[[], T]) -> T:
        """Call `work` off the hub and wait for it cooperatively; call it here where nothing would be held up."""
        if not is_cooperative():
            return work()
        here = (os.getpid(), native("threading", "get_ident")())
        if self._pool is None or (self._owner is not None and self._owner[0] != here[0]):
            from gevent.threadpool import ThreadPool

            self._pool, self._owner = ThreadPool(self._size), here
        if self._owner != here:  # already in a native thread: it has no hub that could be held up
            return work()
        outcome: _Outcome[T] = _Outcome()

        def call() -> None:
            try:
                outcome.value = work()
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's greenlet
                outcome.error = error

        self._pool.spawn(call).get()
        if outcome.error is not None:
            raise outcome.error
        return cast("T", outcome.value)

    def close(self) -> None:
        """End the threads; a later `run` starts new ones."""
        if self._pool is not None and self._owner is not None and self._owner[0] == os.getpid():
            self._pool.kill()
        self._pool = self._owner = None

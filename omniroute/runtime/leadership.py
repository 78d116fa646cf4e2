"""One worker of all is the leader and runs the scheduled jobs.

SQLite: whoever holds a lock file of the data directory; the kernel passes it on when the holder dies. The file is
opened after the fork, because a lock taken before it would be held by every child, and its descriptor is kept by this
module, because a lock ends with the object that holds it. PostgreSQL: whoever holds an advisory lock of the database,
on a connection of its own that is checked regularly; when that connection is lost, so is the lead.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection, exc, text

from omniroute.storage import locks, postgres
from omniroute.storage.database import Database

CHECK_INTERVAL_S: Final = 0.5
_log = logging.getLogger(__name__)
_HELD: Final[set[int]] = set()
"""Descriptors of locks that this process holds."""


class _Lock(Protocol):
    """Something that one process can hold."""

    def acquire(self) -> bool:
        """Try to get hold of it, without waiting; True if held afterwards."""
        ...

    def is_held(self) -> bool:
        """Check that it is still ours."""
        ...

    def release(self) -> None:
        """Let go of it."""
        ...


class Leadership:
    """A candidate: leads when asked to and nobody else does; callbacks run when the lead is won and lost.

    Either the worker calls `try_to_lead` regularly itself, or `start` does that in the background.
    """

    def __init__(
        self,
        database: Database,
        runtime_dir: Path,
        *,
        on_won: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
        interval_s: float = CHECK_INTERVAL_S,
    ) -> None:
        self._lock: _Lock = _FileLock(runtime_dir / "scheduler.lock") if database.is_sqlite else _AdvisoryLock(database)
        self._on_won = on_won
        self._on_lost = on_lost
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_leader = False

    def start(self) -> None:
        """Stand for election in the background. To be called in the worker, after the fork."""
        self._thread = threading.Thread(target=self._run, name="leadership", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Step down."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._step_down()

    def try_to_lead(self) -> bool:
        """Take the lead if it is free, or make sure that it is still ours; return whether we lead. Does not wait."""
        if self.is_leader:
            if not self._lock.is_held():
                _log.warning("This worker has lost the lead.")
                self._step_down()
        elif self._lock.acquire():
            self.is_leader = True
            _log.info("This worker leads: it runs the scheduled jobs.")
            self._on_won()
        return self.is_leader

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.try_to_lead()
            except Exception:  # noqa: BLE001 - a callback failed; the election goes on
                _log.exception("The lead could not be checked.")
            self._stopping.wait(self._interval_s)

    def _step_down(self) -> None:
        if self.is_leader:
            self.is_leader = False
            try:
                self._on_lost()
            finally:
                self._lock.release()


class _FileLock:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        self._descriptor = locks.try_lock(self._path)
        if self._descriptor is not None:
            _HELD.add(self._descriptor)
        return self._descriptor is not None

    def is_held(self) -> bool:
        # Somebody may have removed the file: then a lock on it keeps nobody out any more.
        try:
            return self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:
            return False

    def release(self) -> None:
        if self._descriptor is not None:
            _HELD.discard(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None


class _AdvisoryLock:
    """Held by a session of the database server; a ping that fails means that the session is gone."""

    _PING_EVERY_S: Final = 2.0

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._pinged_at = 0.0

    def acquire(self) -> bool:
        try:
            if self._connection is None:
                # Taken out of the pool: it must not be handed to anybody else, nor be recycled.
                self._connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                self._connection.detach()
            statement = text("SELECT pg_try_advisory_lock(:key)")
            is_held = bool(self._connection.execute(statement, {"key": postgres.LOCK_LEADER}).scalar_one())
        except (exc.SQLAlchemyError, OSError):
            self.release()
            return False
        self._pinged_at = time.monotonic()
        return is_held

    def is_held(self) -> bool:
        if self._connection is None:
            return False
        if time.monotonic() - self._pinged_at < self._PING_EVERY_S:
            return True
        try:
            self._connection.execute(text("SELECT 1"))
        except (exc.SQLAlchemyError, OSError):
            return False
        self._pinged_at = time.monotonic()
        return True

    def release(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            try:
                connection.close()
            except (exc.SQLAlchemyError, OSError):
                _log.debug("The connection of the lead was gone already.")

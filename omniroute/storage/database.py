"""The one way to the database: short transactions on SQLite or PostgreSQL that never hold the gevent hub.

SQLite: one connection writes and a few read, all of them in native threads; a transaction that finds the database
locked is tried again, and the wait between is a cooperative sleep of the caller. PostgreSQL: psycopg waits
cooperatively by itself, so transactions run where they are called, on a small pool.

Nothing is opened before the first call, and a forked child opens its own.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, exc, text
from sqlalchemy.pool import NullPool

from omniroute.errors import Conflict, OmniRouteError, StorageError
from omniroute.storage import postgres, sqlite
from omniroute.storage.threads import NativePool, native_lock

if TYPE_CHECKING:
    from omniroute.settings import Settings

T = TypeVar("T")
Work = Callable[[Connection], T]

_READERS: Final = 2
_FIRST_WAIT_S: Final = 0.01
_LONGEST_WAIT_S: Final = 0.1
_BUMP: Final = text("UPDATE config_version SET version = version + 1, changed_at = :now WHERE id = 1")


def url_of(settings: Settings) -> str:
    """Return the database URL: as set, or the file in the data directory."""
    return settings.database_url or f"sqlite:///{settings.data_dir / 'storage.sqlite'}"


class Database:
    """Runs work in transactions and turns the driver's errors into ours.

    Work may run more than once (after a lost race for a lock), so it does nothing but SQL on the connection it is
    given; it must not call the database again, sleep, or touch the network.
    """

    def __init__(
        self,
        url: str,
        *,
        wait_s: float = 5.0,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.is_sqlite = url.startswith("sqlite")
        self.path: Path | None = sqlite.path_of(url) if self.is_sqlite else None
        """The file of an SQLite database."""
        self._url = url
        self._wait_s = wait_s
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._after_bump: list[Callable[[], None]] = []
        self._readers = NativePool(_READERS)
        self._writers = NativePool(1)
        self._detached = NativePool(1)
        self._open_handles = _Handles(url)

    # --- transactions -------------------------------------------------------------------------------------------

    def read(self, work: Work[T]) -> T:
        """Run `work` in a read transaction: all its statements see one state of the database."""
        return self._repeated(self._read_once, work)

    def write(self, work: Work[T], *, bump: bool = False) -> T:
        """Run `work` in one write transaction.

        Args:
            work: gets the connection; its error rolls everything back.
            bump: the configuration changes: raise its version in the same transaction, and let the snapshot of this
                worker follow before returning.

        Raises:
            Conflict: a row with the same unique value exists.
            StorageError: the database cannot be used, or stayed locked for too long.
        """

        def bumped(connection: Connection) -> T:
            result = work(connection)
            if bump:
                connection.execute(_BUMP, {"now": self._now()})
            return result

        result = self._repeated(self._write_once, bumped)
        if bump:
            self.follow_bump()
        return result

    def detached(self, work: Work[T]) -> T:
        """Run long work on a connection of its own without a transaction: backups, checks, maintenance."""
        with _converted():
            if self.is_sqlite:
                return self._detached.run(lambda: self._on_fresh_connection(work))
            return self._on_fresh_connection(work)

    def change_token(self) -> tuple[int, int] | None:
        """Return a value that differs from the last one if another connection has committed since.

        A few microseconds of work on SQLite, so that polling costs nothing while nothing happens; None on PostgreSQL.
        """
        if not self.is_sqlite:
            return None
        with _converted():
            return self._readers.run(self._data_version)

    def after_bump(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever this worker has changed the configuration."""
        self._after_bump.append(callback)

    def follow_bump(self) -> None:
        """Have this worker follow a change of the configuration that was not made by :meth:`write`."""
        for callback in self._after_bump:
            callback()

    # --- life ---------------------------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The engine, for what brings its own connection handling (migrations, leadership)."""
        return self._handles.engine

    @contextmanager
    def connected(self, *, is_write: bool = False) -> Iterator[Connection]:
        """Give a fresh connection in the caller's own thread: for start-up and tests, not for a serving worker."""
        with _converted(), closing(self._opened(is_write=is_write)) as connection:
            yield connection

    def dispose(self) -> None:
        """Close everything; a later call opens anew. To be called before a fork by whoever used the database."""
        handles, self._open_handles = self._handles, _Handles(self._url)
        handles.close()
        for pool in (self._readers, self._writers, self._detached):
            pool.close()

    @property
    def _handles(self) -> _Handles:
        """What is open in this process. A child leaves its parent's connections alone: closing would end them there."""
        if self._open_handles.pid != os.getpid():
            _INHERITED.append(self._open_handles)
            self._open_handles = _Handles(self._url)
        return self._open_handles

    # --- one try ------------------------------------------------------------------------------------------------

    def _repeated(self, once: Callable[[Work[T]], T], work: Work[T]) -> T:
        deadline = self._monotonic() + self._wait_s
        pause = _FIRST_WAIT_S
        with _converted():
            while True:
                try:
                    return once(work)
                except exc.DBAPIError as error:
                    if not self._is_busy(error.orig) or self._monotonic() >= deadline:
                        raise
                self._sleep(pause)
                pause = min(pause * 2, _LONGEST_WAIT_S)

    def _is_busy(self, error: BaseException | None) -> bool:
        return sqlite.is_busy(error) if self.is_sqlite else postgres.is_busy(error)

    def _read_once(self, work: Work[T]) -> T:
        if self.is_sqlite:
            return self._readers.run(lambda: self._read_in_thread(work))
        with self.engine.connect() as connection:
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            with (ready := connection.execution_options(**options)).begin():
                return work(ready)

    def _write_once(self, work: Work[T]) -> T:
        if self.is_sqlite:
            return self._writers.run(lambda: self._write_in_thread(work))
        with self.engine.begin() as connection:
            return work(connection)

    def _read_in_thread(self, work: Work[T]) -> T:
        idle = self._handles.idle
        connection = idle.pop() if idle else self._opened_alone(is_write=False)
        try:
            with connection.begin():
                result = work(connection)
        except exc.DBAPIError:
            connection.close()  # its state is unknown
            raise
        except BaseException:
            idle.append(connection)
            raise
        idle.append(connection)
        return result

    def _write_in_thread(self, work: Work[T]) -> T:
        handles = self._handles
        with handles.writing:
            if handles.writer is None:
                handles.writer = self._opened_alone(is_write=True)
            try:
                with handles.writer.begin():
                    return work(handles.writer)
            except exc.DBAPIError as error:
                if not sqlite.is_busy(error.orig):
                    handles.writer.close()
                    handles.writer = None
                raise

    def _data_version(self) -> tuple[int, int]:
        handles = self._handles
        with handles.probing:
            if handles.probe is None:
                handles.probe = _without_transactions(self._opened_alone(is_write=False))
                handles.probe_number = next(_PROBES)  # the numbers of two connections say nothing about each other
            try:
                return handles.probe_number, int(handles.probe.exec_driver_sql("PRAGMA data_version").scalar_one())
            except exc.DBAPIError:
                handles.probe.close()
                handles.probe = None
                raise

    def _opened_alone(self, *, is_write: bool) -> Connection:
        """Open one connection at a time: SQLAlchemy's own locks are not made for native threads under gevent."""
        with self._handles.opening:
            return self._opened(is_write=is_write)

    def _opened(self, *, is_write: bool) -> Connection:
        if self.path is not None:
            sqlite.create_file(self.path)
        connection = self.engine.connect()
        return connection.execution_options(**{sqlite.BEGIN_OPTION: sqlite.BEGIN_WRITE}) if is_write else connection

    def _on_fresh_connection(self, work: Work[T]) -> T:
        with closing(self._opened(is_write=False)) as connection:
            return work(_without_transactions(connection))


class _Handles:
    """Everything of one process that is open or may be."""

    def __init__(self, url: str) -> None:
        self.pid = os.getpid()
        self.engine = create_engine_for(url)
        self.writer: Connection | None = None
        self.probe: Connection | None = None
        self.probe_number = 0
        self.idle: deque[Connection] = deque()
        self.opening, self.writing, self.probing = native_lock(), native_lock(), native_lock()

    def close(self) -> None:
        for connection in (self.writer, self.probe, *self.idle):
            if connection is not None:
                connection.close()
        self.engine.dispose()


def create_engine_for(url: str) -> Engine:
    """Return an engine that is prepared for its database and has opened nothing yet."""
    if url.startswith("sqlite"):
        engine = create_engine(url, poolclass=NullPool, connect_args={"check_same_thread": False}, hide_parameters=True)
        sqlite.install(engine)
        return engine
    return create_engine(
        postgres.url_of(url),
        pool_size=5,
        max_overflow=5,
        pool_timeout=5,
        pool_pre_ping=True,
        connect_args=postgres.CONNECT_ARGS,
        hide_parameters=True,
    )


def _without_transactions(connection: Connection) -> Connection:
    if connection.dialect.name == "sqlite":
        return connection.execution_options(**{sqlite.BEGIN_OPTION: ""})
    return connection.execution_options(isolation_level="AUTOCOMMIT")


_PROBES: Final = itertools.count(1)
_INHERITED: Final[list[_Handles]] = []
"""Connections of a parent process, kept so that nobody closes them."""


@contextmanager
def _converted() -> Iterator[None]:
    """Turn the driver's errors into ours; what the work raised on purpose passes, and so does an order to end."""
    handled = sys.exception()
    try:
        yield
    except OmniRouteError:
        raise
    except exc.SQLAlchemyError as error:
        order = _order_behind(error, handled)
        if order is not None:
            raise order from None
        if isinstance(error, exc.IntegrityError):
            raise Conflict("A stored row already has this value, or is still referred to.") from error
        raise StorageError from error


def _order_behind(error: BaseException | None, handled: BaseException | None) -> BaseException | None:
    """Return the order to end (a killed greenlet, a timeout) behind an error, unless the caller is already handling it.

    The driver complains when it cleans up after a statement that was broken off; a loop that took its complaint for the
    database's would go on after it was killed.
    """
    while error is not None and error is not handled:
        if not isinstance(error, Exception):
            return error
        error = error.__cause__ or error.__context__
    return None

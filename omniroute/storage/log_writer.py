"""Moves settled requests from the spool into the request log and the usage sums.

`put` is on the path of every request: it encodes the record, appends it to the spool file with one `write`, and
returns. The record is not kept in memory: a greenlet reads it back from the file, some hundred lines at a time, and
inserts them in one transaction together with their sums. So memory does not grow while the database is away, and what
a killed worker leaves is delivered by the same code. A row is inserted once, whatever is delivered twice, and only an
inserted row is added to the sums.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection as Sql
from sqlalchemy import exc

from omniroute.errors import Conflict, OmniRouteError, StorageError
from omniroute.records import AttemptRecord, RequestRecord
from omniroute.routing.packing import Packer
from omniroute.storage.database import Database
from omniroute.storage.repositories import decisions, ledger, request_log, usage
from omniroute.storage.repositories.ledger import Crossing
from omniroute.storage.repositories.request_log import Line
from omniroute.storage.spool import Piece, Spool, files_in, taken_over

R = TypeVar("R", RequestRecord, AttemptRecord)

BATCH_ROWS: Final = 200
INTERVAL_S: Final = 0.25
_MOST_UNSPOOLED: Final = 2000
_FIRST_BACKOFF_S: Final = 0.25
_LONGEST_BACKOFF_S: Final = 10.0
_LARGEST: Final = 10**15  # beyond any count of tokens, and thousands of them still add up within 64 bits
_NUL: Final = b"\\u0000"  # PostgreSQL has no place for it
_PACKED_AT_ONCE: Final = 40
"""Decisions that are compressed before others get their turn: about a millisecond."""
_PAUSE_S: Final = 0.001
_log = logging.getLogger(__name__)

OnCrossing = Callable[[Crossing], None]


@dataclass(frozen=True, slots=True)
class WriterStats:
    """How the writer is doing, for health and metrics."""

    written: int
    """Rows that this worker delivered."""
    pending: int
    """Rows that wait for the database."""
    spool_bytes: int
    rejected: int
    """Lines or rows that could not be stored and were left out."""
    unspooled: int
    """Rows that could not be appended to the spool (disk full) and were held in memory instead."""
    failing_since: float | None
    """When deliveries began to fail; None while they work."""


class LogWriter:
    """The request log of one worker. Create it after the fork; `start` runs it, `stop` delivers what is left.

    Args:
        database: where rows go.
        directory: holds the spool files (`DATA_DIR/spool`).
        now: the time of day in epoch seconds.
        on_crossing: told of a budget that rows have brought to its warning threshold.
    """

    def __init__(
        self,
        database: Database,
        directory: Path,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        batch_rows: int = BATCH_ROWS,
        interval_s: float = INTERVAL_S,
        on_crossing: OnCrossing | None = None,
    ) -> None:
        self._database = database
        self._spool = Spool(directory)
        self._now = now
        self._monotonic = monotonic
        self._batch_rows = batch_rows
        self._interval_s = interval_s
        self._store = _Store(database, now, on_crossing).put
        self._appending = threading.Lock()
        self._delivering = threading.Lock()
        self._awake = threading.Event()
        self._full = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._unspooled: deque[Line] = deque(maxlen=_MOST_UNSPOOLED)
        self._pending = 0
        self._written = 0
        self._rejected = 0
        self._unspooled_total = 0
        self._failing_since: float | None = None

    def put(self, record: RequestRecord) -> None:
        """Keep a settled request: durable against a kill of this process when it returns. Never raises, never waits."""
        try:
            line = _line(record)
        except (ValueError, OverflowError, TypeError):
            self._rejected += 1
            _log.exception("A request cannot be encoded and is left out of the log.")
            return
        with self._appending:
            try:
                self._spool.append(line)
            except OSError as error:
                self._keep_in_memory(line, error)
            self._pending += 1
        if self._pending == 1:
            self._awake.set()
        elif self._pending == self._batch_rows:
            self._full.set()

    def start(self) -> None:
        """Begin to deliver in the background (a greenlet under gevent, else a thread)."""
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Deliver what is left and let go of the spool; what cannot be delivered in time waits for the next start."""
        self._stopping.set()
        self._awake.set()
        self._full.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        try:
            self.flush(timeout_s)
        except OmniRouteError as error:
            _log.warning("Requests stay in the spool until the next start: %s", error)
        with self._appending:
            self._spool.close()

    def flush(self, timeout_s: float = 5.0) -> None:
        """Deliver everything that was put before.

        Raises:
            StorageError: the database does not take it.
        """
        deadline = self._monotonic() + timeout_s
        while self._deliver_some():
            if self._monotonic() > deadline:
                raise StorageError("The request log could not be written in time.")

    def stats(self) -> WriterStats:
        """Return how the writer is doing."""
        return WriterStats(
            written=self._written,
            pending=self._pending,
            spool_bytes=self._spool.pending_bytes,
            rejected=self._rejected,
            unspooled=self._unspooled_total,
            failing_since=self._failing_since,
        )

    def _run(self) -> None:
        backoff = _FIRST_BACKOFF_S
        while not self._stopping.is_set():
            self._awake.wait()
            self._full.wait(self._interval_s)
            self._awake.clear()
            self._full.clear()
            try:
                while self._deliver_some() >= self._batch_rows and not self._stopping.is_set():
                    pass
                self._failing_since, backoff = None, _FIRST_BACKOFF_S
            except Exception as error:  # noqa: BLE001 - nothing is lost, and this loop must outlive any database
                if self._failing_since is None:
                    self._failing_since = self._now()
                    _log.warning("The request log cannot be written; requests wait in the spool: %r", error)
                self._stopping.wait(backoff)
                backoff = min(backoff * 2, _LONGEST_BACKOFF_S)
            if self._pending:
                self._awake.set()

    def _deliver_some(self) -> int:
        """Deliver one batch and return its rows; 0 when there is nothing left."""
        with self._delivering:
            if self._unspooled:
                return self._deliver_unspooled()
            with self._appending:
                piece = self._spool.next_piece()
                if piece is None:
                    self._pending = 0
                    return 0
            batch = _deliver(self._store, piece, self._batch_rows)
            with self._appending:
                self._spool.delivered(batch.length)
                self._pending = max(0, self._pending - batch.lines)
            self._written += batch.inserted
            self._rejected += batch.rejected
            return batch.lines

    def _deliver_unspooled(self) -> int:
        lines = [self._unspooled.popleft() for _ in range(min(len(self._unspooled), self._batch_rows))]
        try:
            inserted, rejected = self._store(lines)
        except OmniRouteError:
            self._unspooled.extendleft(reversed(lines))
            raise
        self._written += inserted
        self._rejected += rejected
        self._pending = max(0, self._pending - len(lines))
        return len(lines)

    def _keep_in_memory(self, line: bytes, error: OSError) -> None:
        if not self._unspooled_total:
            _log.error("The spool cannot be written; requests are held in memory: %s", error.strerror or error)
        self._unspooled_total += 1
        self._unspooled.append(request_log.read_line(line))


def drain_spools(
    database: Database,
    directory: Path,
    *,
    now: Callable[[], float] = time.time,
    on_crossing: OnCrossing | None = None,
) -> int:
    """Deliver the spools of workers that are dead, remove them, and return the rows inserted.

    Any process may call it at any time: living workers hold their files, and two that drain do not meet in one.

    Raises:
        StorageError: the database does not take it; the rest of the files stays.
    """
    inserted = 0
    store = _Store(database, now, on_crossing).put
    for path in files_in(directory):
        with taken_over(path) as piece:
            if piece is None:
                continue
            rest, rejected = piece, 0
            # A last line without its end is none: its request was never settled.
            while (batch := _deliver(store, rest, BATCH_ROWS)).length:
                inserted += batch.inserted
                rejected += batch.rejected
                rest = dataclasses.replace(rest, position=rest.position + batch.length)
            path.unlink(missing_ok=True)
            _log.info("Delivered the spool of an ended worker; %s lines were not readable.", rejected)
    return inserted


@dataclass(frozen=True, slots=True)
class _Batch:
    length: int
    """Bytes of the spool that are dealt with."""
    lines: int
    inserted: int
    rejected: int


def _deliver(store: Callable[[Sequence[Line]], tuple[int, int]], piece: Piece, at_most: int) -> _Batch:
    """Read a batch of lines and store it."""
    texts, length = piece.lines(at_most)
    lines: list[Line] = []
    for line in texts:
        try:
            lines.append(request_log.read_line(line))
        except ValueError:
            if line:
                _log.warning("A line of the spool cannot be read and is left out.")
    inserted, rejected = store(lines) if lines else (0, 0)
    return _Batch(length, len(texts), inserted, rejected + len(texts) - len(lines))


@dataclass(frozen=True, slots=True)
class _Entry:
    """What goes into the tables for one request."""

    row: request_log.Row
    decision: decisions.Values | None


class _Store:
    """Puts requests into the tables: the log, the sums, and how they were routed."""

    def __init__(self, database: Database, now: Callable[[], float], on_crossing: OnCrossing | None) -> None:
        self._database = database
        self._now = now
        self._on_crossing = on_crossing
        self._packer = Packer()

    def put(self, lines: Sequence[Line]) -> tuple[int, int]:
        """Insert requests and add them to the sums in one transaction; return how many were inserted and refused."""
        entries = self._packed(lines)
        try:
            return self._write(_insert, entries), 0
        except _Redelivered:
            return self._write(_insert_new, entries), 0
        except (OmniRouteError, OverflowError) as error:
            if not _is_fault_of_data(error):
                raise
        inserted = rejected = 0
        for entry in entries:  # one of them cannot be stored: find it, and let the others pass
            clean = _Entry(tuple(map(_clean, entry.row)), entry.decision)
            try:
                inserted += self._write(_insert_new, [clean])
            except (OmniRouteError, OverflowError) as error:
                if not _is_fault_of_data(error):
                    raise
                rejected += 1
                _log.exception("A request cannot be stored and is left out.")
        return inserted, rejected

    def _write(self, insert: _Insert, entries: Sequence[_Entry]) -> int:
        """Insert rows, and count them where budgets and limits are kept: both or neither."""

        def work(sql: Sql) -> tuple[int, list[Crossing]]:
            rows = insert(sql, entries)
            return len(rows), ledger.settle(sql, rows, self._now())

        inserted, crossings = self._database.write(work)
        if self._on_crossing is not None:
            for crossing in crossings:
                self._on_crossing(crossing)
        return inserted

    def _packed(self, lines: Sequence[Line]) -> list[_Entry]:
        """Compress the decisions, with pauses: under gevent this runs beside the requests of the worker."""
        entries = []
        for number, line in enumerate(lines, 1):
            entries.append(_Entry(line.row, self._decision(line)))
            if number % _PACKED_AT_ONCE == 0 and number < len(lines) and line.decision is not None:
                time.sleep(_PAUSE_S)
        return entries

    def _decision(self, line: Line) -> decisions.Values | None:
        made = line.decision
        if made is None:
            return None
        try:
            packed = self._packer.pack(made.body)
        except ValueError:
            _log.warning("A decision record cannot be read and is left out.")
            return None
        row = line.row
        return decisions.values_of(row[_REQUEST_ID], row[_TIME], made.policy_hash, made.seed, packed)


_REQUEST_ID: Final = request_log.POSITIONS["request_id"]
_TIME: Final = request_log.POSITIONS["time"]


class _Redelivered(Exception):
    """Some of a batch is already there; undoes the transaction."""


def _insert(sql: Sql, entries: Sequence[_Entry]) -> Sequence[request_log.Row]:
    rows = [entry.row for entry in entries]
    if request_log.insert_batch(sql, rows) != len(rows):
        raise _Redelivered
    decisions.insert_batch(sql, [entry.decision for entry in entries if entry.decision is not None])
    usage.add(sql, rows)
    return rows


def _insert_new(sql: Sql, entries: Sequence[_Entry]) -> Sequence[request_log.Row]:
    inserted = request_log.insert_new(sql, [entry.row for entry in entries])
    made = {entry.row[_REQUEST_ID]: entry.decision for entry in entries}
    new = [made[row[_REQUEST_ID]] for row in inserted]
    decisions.insert_batch(sql, [values for values in new if values is not None])
    usage.add(sql, inserted)
    return inserted


_Insert = Callable[[Sql, Sequence[_Entry]], Sequence[request_log.Row]]


def _is_fault_of_data(error: Exception) -> bool:
    if isinstance(error, OmniRouteError):
        return isinstance(error, Conflict) or isinstance(error.__cause__, exc.DataError)
    return True


def _line(record: RequestRecord) -> bytes:
    try:
        line = request_log.line_of(record)
    except (ValueError, OverflowError):  # half of a surrogate pair, or a number beyond 64 bits
        return request_log.line_of(_cleaned(record))
    return request_log.line_of(_cleaned(record)) if _NUL in line else line


def _cleaned(record: R) -> R:
    """Return a copy that every database can hold: no NUL, no half of a surrogate pair, no absurd numbers."""
    changes = {
        field.name: clean
        for field in dataclasses.fields(record)
        if (clean := _clean(value := getattr(record, field.name))) is not value
    }
    return dataclasses.replace(record, **changes)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        text = value.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
        return value if text == value else text
    if isinstance(value, int) and abs(value) > _LARGEST:
        return _LARGEST if value > 0 else -_LARGEST
    if isinstance(value, tuple):
        return tuple(_cleaned(item) for item in value)
    return value

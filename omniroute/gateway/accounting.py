"""Settlement: every request that was let in ends in exactly one log record, whatever happens to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from omniroute.formats.usage import Usage
from omniroute.records import AttemptRecord, RequestRecord
from omniroute.routing.failures import Failure


class RequestLog(Protocol):
    """Where settled requests go."""

    def put(self, record: RequestRecord) -> None:
        """Keep the record durably before returning; must not block on the database."""
        ...


class Observer(Protocol):
    """Counts settled requests for the metrics page."""

    def observe(self, record: RequestRecord) -> None:
        """Count one settled request."""
        ...


class Settlement:
    """The record of one request while it runs; :meth:`settle` writes it once and ignores every later call."""

    __slots__ = ("_attempts", "_is_private", "_log", "_now", "_observer", "_started", "is_settled", "record")

    def __init__(
        self,
        record: RequestRecord,
        *,
        log: RequestLog,
        observer: Observer,
        now: Callable[[], float],
        started: float,
        is_private: bool,
    ) -> None:
        """`started`: when the request began on the monotonic clock `now`; `is_private`: the key keeps no details."""
        self.record = record
        self.is_settled = False
        self._log = log
        self._observer = observer
        self._now = now
        self._started = started
        self._is_private = is_private
        self._attempts: list[AttemptRecord] = []

    @property
    def attempts(self) -> int:
        """Attempts that have ended so far."""
        return len(self._attempts)

    def elapsed_ms(self) -> float:
        """Milliseconds since the request began."""
        return (self._now() - self._started) * 1000

    def add_attempt(self, attempt: AttemptRecord) -> None:
        """Note one attempt, in order."""
        self._attempts.append(attempt)

    def note_broken(self, failure: Failure) -> None:
        """Note that the attempt which served has broken off, and that another one goes on."""
        for place, attempt in enumerate(self._attempts):
            if attempt.failure_class is None:
                self._attempts[place] = replace(
                    attempt, failure_class=failure.failure_class.value, kind=failure.kind, ended_ms=self.elapsed_ms()
                )

    def note_first_content(self) -> None:
        """Note that the first content is on its way to the client."""
        if self.record.ttft_ms is None:
            self.record.ttft_ms = self.elapsed_ms()

    def end(
        self,
        outcome: str,
        *,
        status: int,
        usage: Usage | None = None,
        error_code: str | None = None,
        bytes_out: int = 0,
    ) -> None:
        """Fill in what became of the request: outcome `success`, `failed`, `cancelled` or `truncated`."""
        record = self.record
        record.outcome = outcome
        record.status = status
        record.error_code = error_code
        record.bytes_out = bytes_out
        record.duration_ms = self.elapsed_ms()
        record.attempts = tuple(self._attempts)
        if usage is not None:
            record.tokens_in = usage.input
            record.tokens_out = usage.output
            record.cache_read = usage.cache_read
            record.cache_write = usage.cache_write
            record.reasoning = usage.reasoning

    def write(self) -> None:
        """Write the record, once."""
        if self.is_settled:
            return
        self.is_settled = True
        record = self.record
        if self._is_private:
            record.requested_model = ""
            record.tag = None
            record.session_hash = None
            record.attempts = ()
            record.decision = None
        self._log.put(record)
        self._observer.observe(record)

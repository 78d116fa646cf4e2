"""Brute-force protection of the password, shared by every place that asks for it, and by guesses of API keys.

An attempt is counted before the password is looked at and taken back when it was right, so that many attempts at once
cannot all slip through between the check and the count. The counts live in the database, so all workers and restarts
agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Final

from sqlalchemy import Connection

from omniroute.errors import RateLimited, StorageError
from omniroute.records import Snapshot
from omniroute.services.reach import lockout_subject
from omniroute.storage.database import Database
from omniroute.storage.repositories import login_attempts as rows

WINDOW_S: Final = 15 * 60.0
MOST_FAILURES: Final = 5
MOST_FAILURES_OVERALL: Final = 100
SLOWDOWN_S: Final = 1.0

_EVERYBODY: Final = "*"
_NO_LIMIT: Final = 2**31
_MOST_REMEMBERED: Final = 1000


@dataclass(frozen=True, slots=True)
class _Claim:
    failures: int
    failures_overall: int
    locked_until: float | None
    """Set when the address is locked, and the attempt therefore not admitted."""


@dataclass(slots=True)
class Attempt:
    """One attempt in progress; `succeeded` is set by whoever checked the password."""

    succeeded: bool = False
    locks_now: bool = False
    """This attempt was the last one that the address had."""


class Lockout:
    """Counts failed passwords per address (an IPv6 network of 64 bits is one address) and over all.

    Args:
        is_enabled: whether addresses are locked; the overall slowdown stays on.
        sleep: waits for the overall slowdown; cooperative in a serving worker.
    """

    def __init__(
        self,
        *,
        database: Database,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        is_enabled: Callable[[], bool] = lambda: True,
    ) -> None:
        self._database = database
        self._now = now
        self._sleep = sleep
        self._is_enabled = is_enabled
        self._locked: dict[str, float] = {}

    @contextmanager
    def attempt(self, address: str) -> Iterator[Attempt]:
        """Guard the check of a password.

        Raises:
            RateLimited: `locked`; the address has used up its attempts, and the password must not be looked at.
        """
        subject = lockout_subject(address)
        claim = self._database.write(lambda connection: self._claim(connection, subject))
        if claim.locked_until is not None:
            raise self._refusal(claim.locked_until, "logins")
        if claim.failures_overall >= MOST_FAILURES_OVERALL:
            self._sleep(SLOWDOWN_S)
        attempt = Attempt(locks_now=self._is_enabled() and claim.failures >= MOST_FAILURES)
        yield attempt
        if attempt.succeeded:
            attempt.locks_now = False
            self._database.write(lambda connection: rows.clear(connection, subject))
        else:
            self._database.write(lambda connection: self._count(connection, _EVERYBODY, _NO_LIMIT))

    def count_guess(self, address: str) -> bool:
        """Count an API key that somebody made up against its address; True when that locks the address.

        Guesses have no part in the overall slowdown: they would let anybody slow down the login of everybody. While an
        address is locked its guesses cost no write.

        Raises:
            RateLimited: `locked`; the address has used up its attempts.
        """
        if not self._is_enabled():
            return False
        subject = lockout_subject(address)
        locked_until = self._locked.get(subject, 0.0)
        if locked_until > self._now():
            raise self._refusal(locked_until, "attempts")
        try:
            claim = self._database.write(lambda connection: self._claim(connection, subject))
        except StorageError:
            return False  # the guess is refused in any case
        if claim.locked_until is not None:
            if len(self._locked) >= _MOST_REMEMBERED:
                self._locked.clear()
            self._locked[subject] = claim.locked_until
            raise self._refusal(claim.locked_until, "attempts")
        return claim.failures >= MOST_FAILURES

    def _refusal(self, locked_until: float, noun: str) -> RateLimited:
        wait_s = max(1.0, locked_until - self._now())
        return RateLimited(
            f"Too many failed {noun} from this address. Try again in {max(1, round(wait_s / 60))} minutes.",
            code="locked",
            retry_after_s=wait_s,
        )

    def clear(self, subject: str) -> None:
        """Forget the failures of one address; other workers, which may remember its lock, are told."""
        self._locked.pop(subject, None)
        self._database.write(lambda connection: rows.clear(connection, subject), bump=True)

    def rebuild(self, snapshot: Snapshot) -> None:
        """Remember no lock across a change of the configuration: it may have been ended early."""
        del snapshot
        self._locked.clear()

    def clear_all(self) -> None:
        """Forget every failure, as after a password reset on the host."""
        self._locked.clear()
        self._database.write(lambda connection: rows.delete_old(connection, inf))

    def _claim(self, connection: Connection, subject: str) -> _Claim:
        now = self._now()
        present = rows.get(connection, subject)
        if self._is_enabled() and present is not None and (present.locked_until or 0.0) > now:
            return _Claim(present.failures, 0, present.locked_until)
        counted = self._count(connection, subject, MOST_FAILURES if self._is_enabled() else _NO_LIMIT)
        overall = rows.get(connection, _EVERYBODY)
        is_recent = overall is not None and now - overall.window_start < WINDOW_S
        return _Claim(counted.failures, overall.failures if overall is not None and is_recent else 0, None)

    def _count(self, connection: Connection, subject: str, limit: int) -> rows.Attempts:
        return rows.add_failure(connection, subject, now=self._now(), window_s=WINDOW_S, limit=limit, lock_s=WINDOW_S)

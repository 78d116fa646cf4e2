"""What an operator should know about a gateway that runs: what fails, what is unwise, and what removes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from omniroute.money.tariff import NANO
from omniroute.records import Snapshot
from omniroute.services.resilience_state import ResilienceState
from omniroute.storage.database import Database
from omniroute.storage.repositories import telemetry as rows

LATE_FACTOR: Final = 3
LATE_GRACE_S: Final = 900.0
BACKLOG_BYTES: Final = 16 << 20
UNUSUAL_FACTOR: Final = 3.0
_UNUSUAL_LEAST_NANO: Final = NANO // 10
_UNUSUAL_LEAST_HOURS: Final = 12
_WEEK_S: Final = 7 * 86_400
_HOUR_S: Final = 3600
_FRESH_S: Final = 60.0
_MOST_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Notice:
    """Something an operator should know, and what removes it. `is_failure`: the gateway works less well for it."""

    code: str
    message: str
    remedy: str | None = None
    is_failure: bool = False


def of_jobs(
    runs: Iterable[Mapping[str, Any]], intervals: Mapping[str, int], now: float, started_at: float
) -> Iterator[Notice]:
    """Yield what is to be said of the scheduled jobs: those that failed, and those that are long overdue."""
    for run in runs:
        name = str(run["name"])
        if name not in intervals:
            continue  # of another release
        if run["lastError"]:
            code = "backup_failed" if name == "backup" else "job_failed"
            message = f"The job {name} failed when it ran last ({run['lastError']})."
            yield Notice(code, message, "The log of the server says why.", is_failure=True)
        elif (last := run["lastSuccessAt"]) is not None:
            limit = LATE_FACTOR * intervals[name] + LATE_GRACE_S
            if now - max(last, started_at) > limit:
                message = f"The job {name} has not run for {_duration(now - last)}."
                yield Notice("job_late", message, "Is the scheduler off in every worker?", is_failure=True)


def of_breakers(state: ResilienceState, names: Mapping[str, str] = MappingProxyType({})) -> Iterator[Notice]:
    """Yield what is to be said of providers that fail altogether, and of credentials that are refused.

    `names` are those of the operator's own endpoints, by their ids.
    """
    opened = sorted({names.get(one.provider, one.provider) for one in state.breakers if one.opened_at is not None})
    if opened:
        message = f"So many requests to {_named(opened)} failed that none is sent there for now."
        yield Notice("provider_down", message, "See what they answer; or reset the breaker.", is_failure=True)
    dead = sorted({one.connection or one.connection_id for one in state.dead})
    if dead:
        message = f"The provider refuses the credential of {_named(dead)}."
        yield Notice("credential_refused", message, "Enter a new one, or switch the connection off.", is_failure=True)


def of_spool(directory: Path) -> Notice | None:
    """Return what is to be said of settled requests that wait for the database, if they are many."""
    waiting = directory_bytes(directory)
    if waiting < BACKLOG_BYTES:
        return None
    message = f"{waiting >> 20} MiB of settled requests wait for the database."
    return Notice("spool_backlog", message, "Is the database slow, locked or full?", is_failure=True)


def directory_bytes(directory: Path) -> int:
    """Return what the files of a directory hold; 0 where there is none."""
    total = 0
    try:
        for file in directory.iterdir():
            try:
                total += file.stat().st_size
            except OSError:
                continue
    except OSError:
        return 0
    return total


class SpendingWatch:
    """Finds API keys that spend far more in an hour than they used to; looked at once a minute."""

    def __init__(self, *, database: Database, snapshot: Callable[[], Snapshot], now: Callable[[], float]) -> None:
        self._database = database
        self._snapshot = snapshot
        self._now = now
        self._found: tuple[Notice, ...] = ()
        self._looked_at = -math.inf

    def notices(self) -> tuple[Notice, ...]:
        """Return what is to be said of this hour and the one before.

        Raises:
            StorageError: the database does not answer.
        """
        now = self._now()
        if now - self._looked_at >= _FRESH_S:
            this_hour = int(now) - int(now) % _HOUR_S
            spent = self._database.read(lambda sql: rows.spending_by_hour(sql, this_hour - _WEEK_S))
            self._found = tuple(self._judge(spent, this_hour))
            self._looked_at = now
        return self._found

    def _judge(self, spent: Mapping[str, Mapping[int, int]], this_hour: int) -> Iterator[Notice]:
        names = {key.id: key.name for key in self._snapshot().keys}
        recent = (this_hour, this_hour - _HOUR_S)
        for key, by_hour in sorted(spent.items()):
            usual = usual_spending([amount for hour, amount in by_hour.items() if hour not in recent])
            most = max((by_hour.get(hour, 0) for hour in recent), default=0)
            if usual is not None and most > max(UNUSUAL_FACTOR * usual, _UNUSUAL_LEAST_NANO):
                who = names.get(key, key or "none")
                message = (
                    f"The API key {who} spent {most / NANO:.2f} USD within an hour; nearly all hours of the last week "
                    f"cost less than {usual / NANO:.2f} USD."
                )
                yield Notice("unusual_spend", message, "Look at its requests; give it a budget; or revoke it.")


def usual_spending(hours: Iterable[int]) -> int | None:
    """Return what 95 of 100 hours in which anything was spent stayed below; None of too few hours."""
    ordered = sorted(amount for amount in hours if amount > 0)
    if len(ordered) < _UNUSUAL_LEAST_HOURS:
        return None
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    return f"{shown} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else shown


def _duration(seconds: float) -> str:
    hours = int(seconds // _HOUR_S)
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours" if hours >= 2 else f"{int(seconds // 60)} minutes"

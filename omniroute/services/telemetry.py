"""How fast providers answer now, and which sessions stay where: what changes from minute to minute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection as Sql

from omniroute.errors import NotFound
from omniroute.services.access import Snapshots
from omniroute.services.analytics import KEYLESS_NAMES
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.storage import dialects
from omniroute.storage.database import Database
from omniroute.storage.repositories import bindings
from omniroute.storage.repositories import telemetry as rows
from omniroute.storage.repositories.bindings import StoredBinding
from omniroute.storage.repositories.telemetry import Timed

DEFAULT_WINDOW_MS: Final = 3_600_000
LONGEST_WINDOW_MS: Final = 86_400_000
MOST_REQUESTS: Final = 20_000
"""The newest so many of a window are looked at."""
POINTS: Final = 30
_FRESH_S: Final = 5.0
_PERCENTILES: Final = (0.50, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Three percentiles of a time in milliseconds, and of how many values."""

    p50: float
    p95: float
    p99: float
    count: int


@dataclass(frozen=True, slots=True)
class Timings:
    """How a provider, or all together, did: times to the first content and to the end."""

    requests: int
    failed: int
    total: Percentiles | None
    first: Percentiles | None


@dataclass(frozen=True, slots=True)
class Moment:
    """A piece of the window."""

    start: float
    requests: int
    failed: int
    p50_ms: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The times of a window.

    Attributes:
        since: where the window begins, or where its newest requests do, if there are too many to look at all.
        is_partial: there are.
    """

    window_ms: int
    since: float
    until: float
    is_partial: bool
    totals: Timings
    providers: dict[str, Timings]
    series: tuple[Moment, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """A session that stays at a connection of a provider, with the names that the ids stand for now."""

    id: str
    provider: str
    connection_id: str
    connection: str | None
    target: str | None
    api_key_id: str | None
    api_key: str | None
    last_used_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions, the last used first; and how many there are, in all and by API key."""

    sessions: tuple[Session, ...]
    total: int
    by_key: tuple[tuple[str, str | None, int], ...]


class Telemetry:
    """Looks at the newest rows of the request log."""

    def __init__(self, *, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now
        self._last: dict[int, Summary] = {}

    def summary(self, window_ms: int = DEFAULT_WINDOW_MS) -> Summary:
        """Return the times of the last so many milliseconds; they are looked at once in a few seconds."""
        now = self._now()
        known = self._last.get(window_ms)
        if known is not None and 0 <= now - known.until < _FRESH_S:
            return known
        made = self._database.read(lambda sql: _summary(sql, window_ms, now))
        if len(self._last) > 3:
            self._last.clear()
        self._last[window_ms] = made
        return made


class StickySessions:
    """Lists and ends sessions that stay somewhere."""

    def __init__(self, *, database: Database, snapshots: Snapshots, audit: Recorder, now: Callable[[], float]) -> None:
        self._database = database
        self._snapshots = snapshots
        self._audit = audit
        self._now = now

    def page(self, *, limit: int, offset: int, connection_id: str | None = None) -> SessionPage:
        """Return one page of the sessions in force."""
        now = self._now()

        def work(sql: Sql) -> tuple[list[rows.Kept], int, dict[str, str], dict[str, int]]:
            found, total = rows.sessions(sql, now, connection_id=connection_id, limit=limit, offset=offset)
            keys = rows.keys_of(sql, list({one.session for one in found}))
            return found, total, keys, rows.sessions_by_key(sql, now)

        found, total, keys, by_key = self._database.read(work)
        snapshot = self._snapshots.current
        connections = {row.id: row.name for row in snapshot.connections}
        names = {**KEYLESS_NAMES, **{key.id: key.name for key in snapshot.keys}}
        sessions = tuple(
            Session(
                one.session,
                one.provider,
                one.connection_id,
                connections.get(one.connection_id),
                one.target,
                key_id := keys.get(one.session),
                names.get(key_id or ""),
                one.updated_at,
                one.expires_at,
            )
            for one in found
        )
        counted = sorted(by_key.items(), key=lambda item: (-item[1], item[0]))
        return SessionPage(sessions, total, tuple((key, names.get(key), number) for key, number in counted))

    def expire(self, session: str | None, origin: Origin) -> int:
        """Let a session, or with None all of them, go wherever the next request is best served; return how many.

        Workers follow within a second or two.

        Raises:
            NotFound: there is no such session.
        """
        now = self._now()

        def work(sql: Sql) -> int:
            ended = [StoredBinding(*key, "", None, bindings.ENDED) for key in rows.session_keys(sql, now, session)]
            bindings.save(sql, ended, dialects.of(sql).clock(sql, now))
            return len({one.session for one in ended})

        count = self._database.write(work)
        if session is not None and not count:
            raise NotFound("There is no session with this id.")
        self._audit.record(
            "sessions.expired", target_kind="session", target_id=session, details={"count": count}, **origin.facts()
        )
        return count


def _summary(sql: Sql, window_ms: int, now: float) -> Summary:
    since = now - window_ms / 1000
    found = rows.newest_times(sql, since, MOST_REQUESTS + 1)
    is_partial = len(found) > MOST_REQUESTS
    found = found[:MOST_REQUESTS]
    if is_partial:
        since = found[-1].time
    by_provider: dict[str, list[Timed]] = {}
    for one in found:
        by_provider.setdefault(one.provider, []).append(one)
    providers = {name: _timings(some) for name, some in sorted(by_provider.items()) if name}
    return Summary(window_ms, since, now, is_partial, _timings(found), providers, _series(found, since, now))


def _timings(some: Sequence[Timed]) -> Timings:
    return Timings(
        len(some),
        sum(one.outcome == "failed" for one in some),
        percentiles_of(one.duration_ms for one in some if one.outcome == "success"),
        percentiles_of(one.ttft_ms for one in some if one.ttft_ms is not None),
    )


def _series(found: Sequence[Timed], since: float, now: float) -> tuple[Moment, ...]:
    step = max(now - since, 0.001) / POINTS
    parts: list[list[Timed]] = [[] for _ in range(POINTS)]
    for one in found:
        parts[max(0, min(POINTS - 1, int((one.time - since) / step)))].append(one)
    return tuple(
        Moment(since + number * step, len(part), timings.failed, timings.total.p50 if timings.total else None)
        for number, part in enumerate(parts)
        for timings in (_timings(part),)
    )


def percentiles_of(values: Iterable[float]) -> Percentiles | None:
    """Return the percentiles of some times, each the smallest value that so many do not exceed; None of none."""
    ordered = sorted(values)
    if not ordered:
        return None
    p50, p95, p99 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in _PERCENTILES)
    return Percentiles(p50, p95, p99, len(ordered))

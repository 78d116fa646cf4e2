"""Providers' quotas: asked for regularly and when something rests, shown with what comes of them at today's pace."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NotRequired, Protocol, TypedDict

from omniroute.errors import (
    NotFound,
    OmniRouteError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
    UrlBlocked,
)
from omniroute.gateway.answers import read_all
from omniroute.gateway.directory import Directories
from omniroute.gateway.health_board import HealthBoard
from omniroute.gateway.ports import Transport
from omniroute.gateway.quotas import ENDPOINT, Quotas
from omniroute.money.forecast import DAY_S, Forecast, Point, forecast
from omniroute.providers.quota_endpoints import Report, Unreadable, read_report
from omniroute.providers.requests import NotUsable, usage_request
from omniroute.providers.spec import Provider
from omniroute.providers.upstream import Deadlines, UpstreamRequest
from omniroute.records import Connection, GrantWindow, QuotaReading, Snapshot
from omniroute.routing.config import ComboConfig
from omniroute.routing.expiring import CREDIT, reserve
from omniroute.routing.options import Account
from omniroute.routing.view import QuotaWindow, Rest
from omniroute.storage.state import StateStore

log = logging.getLogger(__name__)

LOOK_S: Final = 60
"""How often the leader looks who is to be asked."""
LEAST_GAP_S: Final = 300.0
"""How long, at least, a connection is left alone between two questions that nobody asked for."""
MOST_A_LOOK: Final = 30
MOST_WINDOWS_SHOWN: Final = 50

_DEADLINES: Final = Deadlines(connect_s=10.0, headers_s=15.0, content_s=15.0, idle_s=15.0, total_s=20.0)
_MAX_BODY: Final = 256 * 1024
_LIVE_FOR_S: Final = 10.0
_HOUR_S: Final = 3600.0
_SPREAD: Final = 0.1
_CHECKED_AT: Final = (0.25, 0.5, 0.75, 1.0)
"""Parts of a rest after which the provider is asked whether it is over."""
_FOR_LACK: Final = frozenset({"quota", "no_credit"})
_NO_ACCESS: Final = frozenset({401, 403})


class ForecastDocument(TypedDict, total=False):
    """What comes of a window at today's pace: when it is used up, or which part of it lapses."""

    exhaustedAt: str
    lapsesFraction: float


class QuotaWindowDocument(TypedDict):
    """One window of a quota."""

    name: str
    usedPercent: float | None
    remaining: float | None
    limit: float | None
    unit: str | None
    resetsAt: str | None
    lengthSeconds: float | None
    family: str | None
    kind: str
    source: str
    readAt: str | None
    stale: bool
    reservePercent: float | None
    forecast: NotRequired[ForecastDocument]


class QuotaDocument(TypedDict):
    """What is known of a connection's quota."""

    connectionId: str
    connectionName: str
    provider: str
    plan: str | None
    windows: list[QuotaWindowDocument]
    fetchedAt: str | None
    stale: bool
    hasReport: bool
    problem: NotRequired[str]


class Snapshots(Protocol):
    """Where the configuration is."""

    @property
    def current(self) -> Snapshot:
        """The configuration in force."""
        ...


@dataclass(frozen=True, slots=True)
class WindowState:
    """One window as people look at it. `reserve` is the fraction that routing holds back of it now."""

    reading: QuotaReading
    is_stale: bool
    reserve: float | None
    forecast: Forecast | None


@dataclass(frozen=True, slots=True)
class QuotaState:
    """What is known of a connection's quota.

    Attributes:
        is_asked: its provider has a report that is asked for.
        problem: why the last question led to nothing; None when it did, or was not asked in this process.
    """

    connection: Connection
    provider: Provider | None
    windows: tuple[WindowState, ...]
    is_asked: bool
    problem: str | None = None

    @property
    def fetched_at(self) -> float | None:
        """When the newest of the readings was made."""
        return max((one.reading.fetched_at for one in self.windows), default=None)

    @property
    def plan(self) -> str | None:
        """The name of the plan, where the provider says one."""
        return next((one.reading.plan for one in self.windows if one.reading.plan), None)


class ProviderQuotas:
    """Asks providers, and shows what they said."""

    def __init__(
        self,
        *,
        snapshots: Snapshots,
        directories: Directories,
        quotas: Quotas,
        board: HealthBoard,
        store: StateStore,
        transport: Transport,
        config: Callable[[], ComboConfig],
        interval_s: Callable[[], float],
        spacing_s: float,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        spawn: Callable[[Callable[[], None]], object],
    ) -> None:
        """`interval_s`: how often every connection is asked, 0 for never; `spacing_s`: between two connections."""
        self._snapshots = snapshots
        self._directories = directories
        self._quotas = quotas
        self._board = board
        self._store = store
        self._transport = transport
        self._config = config
        self._interval_s = interval_s
        self._spacing_s = spacing_s
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._spawn = spawn
        self._asked_at: dict[str, float] = {}
        self._problems: dict[str, str | None] = {}

    # --- shown ----------------------------------------------------------------------------------------------------

    def states(self, *, provider: str | None = None, connection_ids: Collection[str] = ()) -> list[QuotaState]:
        """Return what is known of the connections that say something of their quota, or could be asked.

        `connection_ids`: only these; empty is all.
        """
        history = self._history(None)
        chosen = (one for one in self._connections(provider) if not connection_ids or one.id in connection_ids)
        found = (self._state(connection, history) for connection in chosen)
        return [state for state in found if state.windows or state.is_asked]

    def reporting(self) -> list[str]:
        """Return the names of the providers that say how much of a quota or credit is left."""
        return sorted(
            provider.name for provider in self._directories.current.providers() if provider.usage_url is not None
        )

    def live(self, connection_id: str) -> QuotaState:
        """Ask a connection's provider now, unless that was done in the last seconds, and return what is known then.

        Raises:
            NotFound: there is no connection with this id.
        """
        connection = self._connection(connection_id)
        if self._now() - self._asked_at.get(connection_id, -math.inf) >= _LIVE_FOR_S and self._is_asked(connection):
            self._ask(connection)
            self._quotas.exchange()
        return self._state(connection, self._history(connection_id))

    def _state(self, connection: Connection, history: dict[tuple[str, str], list[QuotaReading]]) -> QuotaState:
        windows = tuple(
            self._window_state(reading, history.get((connection.id, reading.window.name), []))
            for reading in self._quotas.of(connection.id)[:MOST_WINDOWS_SHOWN]
        )
        return QuotaState(
            connection,
            self._provider_of(connection),
            windows,
            self._is_asked(connection),
            self._problems.get(connection.id),
        )

    def _window_state(self, reading: QuotaReading, history: list[QuotaReading]) -> WindowState:
        window, now = reading.window, self._now()
        is_stale = self._quotas.is_stale(reading)
        held = None
        if not window.is_credit and not is_stale:
            planned = QuotaWindow(window.name, window.used, window.resets_at, window.length_s)
            held = reserve(planned, now, self._config())
        points = list(_points([*history, reading], window))
        coming = forecast(points, now=now, resets_at=window.resets_at, length_s=window.length_s)
        return WindowState(reading, is_stale, held, None if is_stale else coming)

    def _history(self, connection_id: str | None) -> dict[tuple[str, str], list[QuotaReading]]:
        found: dict[tuple[str, str], list[QuotaReading]] = {}
        for reading in self._store.load_quota_history(self._now() - DAY_S, connection_id):
            found.setdefault((reading.connection_id, reading.window.name), []).append(reading)
        return found

    # --- asked ----------------------------------------------------------------------------------------------------

    def refresh(self, *, provider: str | None = None, connection_id: str | None = None) -> list[str]:
        """Have the connections that can be asked, or those named, asked in the background; return their ids.

        Raises:
            NotFound: there is no connection with this id.
        """
        chosen = self._asked_of(provider, connection_id)
        if chosen:
            self._spawn(lambda: self._ask_all(chosen))
        return [connection.id for connection in chosen]

    def sync(self, *, provider: str | None = None, connection_id: str | None = None) -> list[QuotaState]:
        """Ask the connections that can be asked, or those named, and return what is known then."""
        chosen = self._asked_of(provider, connection_id)
        self._ask_all(chosen)
        self._quotas.exchange()
        history = self._history(connection_id)
        return [self._state(connection, history) for connection in chosen]

    def run_due(self) -> None:
        """Ask those whose turn it is: regularly, and while they rest for lack of quota or credit."""
        interval_s = self._interval_s()
        if not interval_s:
            return
        now = self._now()
        due = []
        for connection in self._asked_of(None, None):
            at = self._due_at(connection, interval_s)
            if at <= now:
                due.append((at, connection.id, connection))
        self._ask_all([connection for _, _, connection in sorted(due, key=lambda one: one[:2])[:MOST_A_LOOK]])

    def _due_at(self, connection: Connection, interval_s: float) -> float:
        reported = [one.fetched_at for one in self._quotas.of(connection.id) if one.source == ENDPOINT]
        last = max([*reported, self._asked_at.get(connection.id, -math.inf)], default=-math.inf)
        account = self._account(connection)
        rest = None if account is None else self._board.copy.rest(account.id, account.rest_scope)
        # Everybody's turn comes at another moment, in every worker that ever leads at the same.
        share = zlib.crc32(connection.id.encode()) / 2**32
        return due_at(last, rest, interval_s * (1 + _SPREAD * share))

    def _ask_all(self, connections: Sequence[Connection]) -> None:
        for place, connection in enumerate(connections):
            if place:
                self._sleep(self._spacing_s)
            self._ask(connection)

    def _ask(self, connection: Connection) -> None:
        """Ask a provider, and note what it says or why it says nothing."""
        self._asked_at[connection.id] = self._now()
        provider, account = self._provider_of(connection), self._account(connection)
        if provider is None or account is None or provider.usage_shape is None:
            return
        try:
            request = self._request(provider, connection)
            report = None if request is None else self._report(request, provider.usage_shape)
        except (NotUsable, Unreadable, OmniRouteError) as error:
            self._problems[connection.id] = _problem_of(error)
            return
        self._problems[connection.id] = None
        if report is not None:
            at = self._now()
            readings = [QuotaReading(connection.id, window, at, ENDPOINT, report.plan) for window in report.windows]
            self._quotas.note_report(account, readings)

    def _request(self, provider: Provider, connection: Connection) -> UpstreamRequest | None:
        return usage_request(
            provider,
            connection.credential,
            connection.provider_data,
            deadlines=_DEADLINES,
            connection_id=connection.id,
        )

    def _report(self, request: UpstreamRequest, shape: str) -> Report:
        response = self._transport.send(request)
        try:
            body = read_all(response, _DEADLINES.total_s, _MAX_BODY, self._monotonic)
        finally:
            response.close()
        if response.status in _NO_ACCESS:
            raise Unreadable("The provider does not let this key see its quota.")
        if response.status != 200:
            raise Unreadable(f"The provider answered with status {response.status}.")
        return read_report(shape, body, self._now())

    # --- whom -----------------------------------------------------------------------------------------------------

    def _asked_of(self, provider: str | None, connection_id: str | None) -> list[Connection]:
        some = self._connections(provider) if connection_id is None else [self._connection(connection_id)]
        return [connection for connection in some if self._is_asked(connection)]

    def _connections(self, provider: str | None) -> list[Connection]:
        wanted = None
        if provider is not None:
            row = self._directories.current.provider(provider)
            wanted = provider if row is None else row.id
        rows = self._snapshots.current.connections
        found = [row for row in rows if wanted is None or row.provider == wanted]
        return sorted(found, key=lambda row: (row.provider, row.priority, row.created_at))

    def _connection(self, connection_id: str) -> Connection:
        for row in self._snapshots.current.connections:
            if row.id == connection_id:
                return row
        raise NotFound("There is no connection with this id.")

    def _is_asked(self, connection: Connection) -> bool:
        provider = self._provider_of(connection)
        has_report = provider is not None and provider.usage_url is not None
        return has_report and connection.is_active and connection.credential is not None

    def _provider_of(self, connection: Connection) -> Provider | None:
        return self._directories.current.provider(connection.provider)

    def _account(self, connection: Connection) -> Account | None:
        accounts: Iterable[Account] = self._directories.current.accounts_of(connection.provider)
        return next((one for one in accounts if one.id == connection.id), None)


def due_at(last: float, rest: Rest | None, interval_s: float) -> float:
    """Return when a connection is to be asked next; `last` is when it was, in epoch seconds.

    While it rests for lack of quota or credit it is asked when that begins, after each quarter of it, and every hour
    where nobody knows its end.
    """
    due = last + interval_s
    if rest is not None and rest.kind in _FOR_LACK:
        since = rest.since if rest.since is not None else last
        if since > last:
            due = since
        elif rest.until is None or rest.kind == "no_credit":
            due = min(due, last + _HOUR_S)
        else:
            length_s = max(0.0, rest.until - since)
            looks = (since + length_s * part for part in _CHECKED_AT)
            due = min([due, *(at for at in looks if at > last)])
    return max(due, last + LEAST_GAP_S)


def _points(readings: Iterable[QuotaReading], window: GrantWindow) -> Iterator[Point]:
    """Yield what was left over time, in the measure of the newest reading."""
    last_at = -math.inf
    for reading in readings:
        if reading.fetched_at <= last_at:
            continue
        then = reading.window
        if window.used is not None and then.used is not None:
            left: float | None = 1 - then.used
        else:
            left = then.remaining if window.used is None else None
        if left is not None:
            last_at = reading.fetched_at
            yield Point(reading.fetched_at, max(0.0, left))


def _problem_of(error: Exception) -> str:
    """Return one sentence without addresses or secrets."""
    match error:
        case Unreadable():
            return str(error)
        case NotUsable():
            return "The connection is not set up completely."
        case UpstreamTimeout():
            return "The provider did not answer in time."
        case UpstreamUnreachable() | UrlBlocked():
            return "The provider cannot be reached."
        case UpstreamError():
            return "The provider's answer cannot be read."
        case _:
            return "The provider could not be asked."


# --- as documents ----------------------------------------------------------------------------------------------------


def document(state: QuotaState, iso_time: Callable[[float | None], str | None]) -> QuotaDocument:
    """Return what is known of a connection under the public names."""
    found: QuotaDocument = {
        "connectionId": state.connection.id,
        "connectionName": state.connection.name,
        "provider": state.connection.provider,
        "plan": state.plan,
        "windows": [window_document(one, iso_time) for one in state.windows],
        "fetchedAt": iso_time(state.fetched_at),
        "stale": all(one.is_stale for one in state.windows),
        "hasReport": state.is_asked,
    }
    if state.problem is not None:
        found["problem"] = state.problem
    return found


def window_document(one: WindowState, iso_time: Callable[[float | None], str | None]) -> QuotaWindowDocument:
    """Return a window under the public names."""
    window = one.reading.window
    found: QuotaWindowDocument = {
        "name": window.name,
        "usedPercent": None if window.used is None else round(window.used * 100, 2),
        "remaining": window.remaining,
        "limit": window.limit,
        "unit": window.unit,
        "resetsAt": iso_time(window.resets_at),
        "lengthSeconds": window.length_s,
        "family": window.family,
        "kind": CREDIT if window.is_credit else "grant",
        "source": one.reading.source,
        "readAt": iso_time(one.reading.fetched_at),
        "stale": one.is_stale,
        "reservePercent": None if one.reserve is None else round(one.reserve * 100, 2),
    }
    if one.forecast is not None:
        coming: ForecastDocument = {}
        exhausted_at = iso_time(one.forecast.exhausted_at)
        if exhausted_at is not None:
            coming["exhaustedAt"] = exhausted_at
        if one.forecast.lapses is not None:
            coming["lapsesFraction"] = round(one.forecast.lapses, 4)
        found["forecast"] = coming
    return found

"""What is left of each account's quota, in this worker's own copy, and what this worker tells the others of it.

Theory. The headers of an answer are read on its way through: the copy and the board that plans look at know of them at
once. What is new in them is queued, and stored by a greenlet every second, as is what an account's usage endpoint said.
The same greenlet takes over what others have stored. An account whose answers say the same again and again is stored
every half minute.

Two answers that were under way together may come in the wrong order, so that within one window the larger number of two
headers counts; what an endpoint reports counts as it is. A window that is spent rests the account, or the family of
models that it is about, until its reset, unless the provider says that it serves all the same.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import gevent

from omniroute.errors import OmniRouteError
from omniroute.gateway.health_board import HealthBoard
from omniroute.providers.quota_headers import has_quota, read_quota
from omniroute.records import GrantWindow, QuotaReading
from omniroute.routing.events import AttemptFailed, ClearedBy
from omniroute.routing.expiring import CREDIT
from omniroute.routing.failures import Failure, FailureClass, Scope
from omniroute.routing.marks import QUOTA_EXCEEDED, Key, Kind, Notice
from omniroute.routing.options import Account
from omniroute.routing.standing import rest_keys
from omniroute.routing.view import QuotaWindow
from omniroute.storage.state import StateStore

log = logging.getLogger(__name__)

STALE_AFTER_S: Final = 2 * 70 * 60.0
"""Twice the usual distance of two readings: what is older says nothing any more."""
EXCHANGE_INTERVAL_S: Final = 1.0
STORED_EVERY_S: Final = 30.0
HEADERS: Final = "headers"
ENDPOINT: Final = "endpoint"

_FULL_EVERY_S: Final = 60.0
_OVERLAP_S: Final = 30.0
"""A reading is stamped before it is stored, and clocks of hosts differ a little."""
_NEWS: Final = 0.01
_SAME_RESET_S: Final = 60.0
_MOST_QUEUED: Final = 2000
_MOST_WINDOWS: Final = 50
_EVENT_S: Final = 86_400.0
_WORD: Final = re.compile(r"[a-z]{3,}")
_OWNER: Final = "quota-event"


class Quotas:
    """One worker's readings of quotas."""

    def __init__(
        self,
        *,
        store: StateStore,
        board: HealthBoard,
        now: Callable[[], float],
        stale_after_s: float | Callable[[], float] = STALE_AFTER_S,
        on_event: Callable[[Notice], None] | None = None,
    ) -> None:
        """`now`: epoch seconds; `on_event`: gets `quota.exceeded`, once per window and reset over all workers."""
        self.ignored = 0
        """Values in headers that cannot be true."""
        self.unstored = 0
        """Readings that only this worker knows, because too many waited for the store."""
        self.store_failures = 0
        self._store = store
        self._board = board
        self._now = now
        self._stale_after_s = stale_after_s if callable(stale_after_s) else lambda: stale_after_s
        self._on_event = on_event or (lambda _notice: None)
        self._known: dict[str, dict[str, QuotaReading]] = {}
        self._stored_at: dict[str, float] = {}
        self._queue: dict[tuple[str, str], QuotaReading] = {}
        self._events: list[tuple[str, float, Notice]] = []
        self._token: tuple[int, int] | None = None
        self._newest = 0.0
        self._full_at = 0.0
        self._greenlet: gevent.Greenlet[..., None] | None = None

    # --- asked ----------------------------------------------------------------------------------------------------

    def of(self, connection_id: str) -> tuple[QuotaReading, ...]:
        """Return the newest reading of each window of a connection, by name."""
        known = self._known.get(connection_id, {})
        return tuple(known[name] for name in sorted(known))

    def is_stale(self, reading: QuotaReading) -> bool:
        """Say whether a reading is too old to go by: by its age, or because the window has begun anew since."""
        now, resets_at = self._now(), reading.window.resets_at
        return reading.fetched_at + self._stale_after_s() <= now or (resets_at is not None and resets_at <= now)

    # --- told -----------------------------------------------------------------------------------------------------

    def note_answer(self, account: Account, model: str, headers: Mapping[str, str], *, has_served: bool) -> None:
        """Note what the headers of an answer say. Never blocks, never raises."""
        if not has_quota(headers, account.provider):
            return
        now = self._now()
        found = read_quota(headers, provider=account.provider, model=model, now=now)
        self.ignored += found.ignored
        if not found.windows:
            return
        known = self._known.get(account.id, {})
        kept = []
        for window in found.windows:
            before = known.get(window.name)
            if before is not None and _is_late(before.window, window):
                self.ignored += 1
                continue
            kept.append(QuotaReading(account.id, window, now, HEADERS))
        # What a refusal means for the account's rest is read from the refusal as a whole.
        self._take(account, kept, rests=has_served, is_urgent=False)

    def note_report(self, account: Account, readings: Iterable[QuotaReading]) -> None:
        """Note what an account's usage endpoint says: rest what is spent, end the rests of what has room."""
        readings = tuple(readings)
        self._take(account, readings, rests=True, is_urgent=True)
        self._end_rests(account, [reading.window for reading in readings])

    def forget(self, connection_id: str) -> None:
        """Forget a connection's readings, here and in the store: they were of another account."""
        self._drop(connection_id)
        for key in [key for key in self._queue if key[0] == connection_id]:
            del self._queue[key]
        self._try(lambda: self._store.forget_quotas(connection_id))

    def _take(self, account: Account, readings: Iterable[QuotaReading], *, rests: bool, is_urgent: bool) -> None:
        known = self._known.setdefault(account.id, {})
        is_new = is_urgent or self._now() - self._stored_at.get(account.id, 0.0) >= STORED_EVERY_S
        taken = []
        for reading in readings:
            name = reading.window.name
            before = known.get(name)
            if before is None and len(known) >= _MOST_WINDOWS:
                continue
            is_new = is_new or before is None or _is_news(before.window, reading.window)
            if reading.window.is_spent and not (before is not None and _is_same_spent(before.window, reading.window)):
                self._exceeded(account, reading)
            if rests and reading.window.is_spent:
                self._rest(account, reading)
            known[name] = reading
            taken.append(reading)
        if not taken:
            return
        self._show(account.id)
        if is_new:
            self._stored_at[account.id] = self._now()
            for reading in taken:
                self._enqueue(reading)

    def _enqueue(self, reading: QuotaReading) -> None:
        key = (reading.connection_id, reading.window.name)
        if len(self._queue) >= _MOST_QUEUED and key not in self._queue:
            self.unstored += 1
            return
        self._queue[key] = reading

    def _show(self, connection_id: str) -> None:
        """Let plans see what is known."""
        windows = tuple(self._planned(reading) for reading in self.of(connection_id))
        self._board.set_windows(connection_id, windows)

    def _planned(self, reading: QuotaReading) -> QuotaWindow:
        window = reading.window
        return QuotaWindow(
            window.name,
            used=window.used,
            resets_at=window.resets_at,
            length_s=window.length_s,
            kind=CREDIT if window.is_credit else "grant",
            source=reading.source,
            read_at=reading.fetched_at,
            stale_at=reading.fetched_at + self._stale_after_s(),
            family=window.family or "",
        )

    # --- rests ----------------------------------------------------------------------------------------------------

    def _rest(self, account: Account, reading: QuotaReading) -> None:
        """Rest what a spent window is about. One without a reset is left to the traffic: it may serve all the same."""
        window, now = reading.window, self._now()
        if window.resets_at is None or window.is_open or window.resets_at <= now:
            return
        family = window.family
        is_word = family is not None and _WORD.fullmatch(family) is not None
        if family is None:
            rest = self._board.copy.rest(account.id, account.rest_scope)
        else:
            rest = self._board.copy.lockout(account.id, family)
        if rest is not None and (rest.until is None or rest.until >= window.resets_at):
            return
        failure = Failure(
            "quota",
            FailureClass.QUOTA,
            message=f"The quota window {window.name} is used up.",
            retry_after_s=window.resets_at - now,
            hint_source=f"reading:{reading.source}",
            window=f"{window.name} {family}" if is_word else window.name if family is None else None,
            scope=Scope.CONNECTION if family is None or is_word else Scope.MODEL,
        )
        self._board.record(AttemptFailed(account, family or "", failure, now))

    def _end_rests(self, account: Account, windows: list[GrantWindow]) -> None:
        """End what rests for lack of quota or credit where a report shows room."""
        general = [window for window in windows if window.family is None]
        keys: list[Key] = []
        if general and not any(window.is_spent and not window.is_open for window in general):
            keys += rest_keys(account)
        for window in windows:
            if window.family is not None and not window.is_spent:
                scopes = (f"family:{account.id}|{window.family}", f"model:{account.id}|{window.family}")
                keys += [(scope, Kind.LOCKOUT) for scope in scopes]
        known = self._board.copy.of(keys)
        if known:
            self._board.clear(known, ClearedBy.READING)

    def _exceeded(self, account: Account, reading: QuotaReading) -> None:
        window = reading.window
        told = {
            "provider": account.provider,
            "connectionId": account.id,
            "window": window.name,
            "family": window.family,
            "resetsAt": window.resets_at,
        }
        until = window.resets_at or self._now() + _EVENT_S
        claim = f"{_OWNER}:{account.id}:{window.name}"[:200]
        notice = Notice(QUOTA_EXCEEDED, {name: value for name, value in told.items() if value is not None})
        self._events.append((claim, until, notice))

    # --- life -----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take over what the store knows; without it nothing is known."""
        self._full_at = 0.0
        self._try(self._adopt)

    def start(self) -> None:
        """Exchange with the others from now on; after the fork."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """End that, and store what is queued."""
        if self._greenlet is not None:
            self._greenlet.kill(timeout=2)
            self._greenlet = None
        self._try(self.flush)

    def exchange(self) -> None:
        """Store what is queued, and take over what others have stored."""
        if self._try(self.flush):
            self._try(self._adopt)

    def _run(self) -> None:
        while True:
            gevent.sleep(EXCHANGE_INTERVAL_S)
            self.exchange()

    def flush(self) -> None:
        """Store what is queued, and tell of what was exceeded.

        Raises:
            StorageError: the store refused; what is not stored is part of the next try.
        """
        while self._events:
            claim, until, notice = self._events[0]
            is_first = self._store.claim(claim, _OWNER, until)
            self._events.pop(0)
            if is_first:
                self._on_event(notice)
        if not self._queue:
            return
        queued, self._queue = self._queue, {}
        try:
            self._store.save_quotas(queued.values())
        except OmniRouteError:
            self._queue = queued | self._queue
            raise

    # --- from the store -------------------------------------------------------------------------------------------

    def _adopt(self) -> None:
        now = self._now()
        is_full = now >= self._full_at
        token = self._store.change_token()
        if not is_full and token is not None and token == self._token:
            return
        readings = self._store.load_quotas(None if is_full else self._newest - _OVERLAP_S)
        changed = set()
        for reading in readings:
            self._newest = max(self._newest, reading.fetched_at)
            known = self._known.setdefault(reading.connection_id, {})
            before = known.get(reading.window.name)
            if before is None or before.fetched_at < reading.fetched_at:
                known[reading.window.name] = reading
                changed.add(reading.connection_id)
        if is_full:
            self._drop_gone(readings)
            self._full_at = now + _FULL_EVERY_S
        for connection_id in changed:
            self._show(connection_id)
        self._token = token

    def _drop_gone(self, readings: Iterable[QuotaReading]) -> None:
        """Drop what others have forgotten: whatever is older than a round of storing and not in the store."""
        stored = {(reading.connection_id, reading.window.name) for reading in readings}
        settled_at = self._now() - 2 * STORED_EVERY_S
        for connection_id, known in list(self._known.items()):
            gone = [
                name
                for name, reading in known.items()
                if (connection_id, name) not in stored and reading.fetched_at < settled_at
            ]
            for name in gone:
                del known[name]
            if not known:
                self._drop(connection_id)
            elif gone:
                self._show(connection_id)

    def _drop(self, connection_id: str) -> None:
        self._known.pop(connection_id, None)
        self._stored_at.pop(connection_id, None)
        self._board.set_windows(connection_id, ())

    def _try(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except OmniRouteError as error:
            self.store_failures += 1
            if self.store_failures == 1:
                log.warning("Quotas cannot be shared; each worker goes by its own readings: %s", error)
            return False
        return True


def _is_same_reset(old: GrantWindow, new: GrantWindow) -> bool:
    if old.resets_at is None or new.resets_at is None:
        return old.resets_at is new.resets_at
    return abs(old.resets_at - new.resets_at) <= _SAME_RESET_S


def _is_late(old: GrantWindow, new: GrantWindow) -> bool:
    """Say whether a header tells of an earlier moment than the one before: use does not shrink within a window."""
    if old.used is None or new.used is None:
        return False
    if old.resets_at is not None and new.resets_at is not None and new.resets_at < old.resets_at - _SAME_RESET_S:
        return new.length_s is not None and old.resets_at - new.resets_at >= new.length_s / 2  # of the window before
    return _is_same_reset(old, new) and new.used < old.used and new.resets_at is not None


def _is_news(old: GrantWindow, new: GrantWindow) -> bool:
    if not _is_same_reset(old, new) or old.is_spent is not new.is_spent:
        return True
    return abs((old.used or 0.0) - (new.used or 0.0)) > _NEWS


def _is_same_spent(old: GrantWindow, new: GrantWindow) -> bool:
    return old.is_spent and _is_same_reset(old, new)

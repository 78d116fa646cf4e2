"""What rests, in this worker's own copy, and what this worker tells the others of it.

Theory. An event changes the copy at once, so that the next plan of this worker knows of it, and is queued for the
store. There the same transition is made again, in one transaction with the rows as all workers left them, and what came
out is taken over. So the copy may be ahead of the store for a moment, and behind it for as long as polls are apart; the
store decides what both disagree about. Events that are queued when rows are taken over are applied to them again.

Where nothing rests a success changes nothing, and nothing is queued. When the store fails, the copy goes on by itself
and the queue waits.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import gevent
from gevent.event import Event as Signal
from gevent.lock import BoundedSemaphore

from omniroute.errors import OmniRouteError
from omniroute.gateway.health_copy import HealthCopy
from omniroute.routing.events import AttemptFailed, AttemptServed, Cleared, ClearedBy, Event, ProviderServed
from omniroute.routing.health import is_forgotten, scopes_of, transition
from omniroute.routing.marks import HealthRow, Key, Notice, cleared
from omniroute.routing.options import Account
from omniroute.routing.resilience import ResilienceSettings
from omniroute.routing.view import IDLE, Load, QuotaWindow
from omniroute.storage.state import StateStore

log = logging.getLogger(__name__)

POLL_INTERVAL_S: Final = 0.5
_FULL_EVERY_S: Final = 30.0
_OVERLAP_S: Final = 5.0
"""A row is stamped before it is committed, so that rows of the last seconds are read once more."""
_BATCH: Final = 50
_MOST_QUEUED: Final = 10_000
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 5.0


@dataclass(slots=True)
class _Queued:
    event: Event
    keys: tuple[Key, ...]
    at: float
    notices: tuple[Notice, ...]
    """What the copy had to tell; told only if the store cannot be asked."""
    is_told: bool = False


class HealthBoard:
    """One worker's health rows and running requests."""

    def __init__(
        self,
        *,
        store: StateStore,
        now: Callable[[], float],
        rng: random.Random,
        settings: Callable[[], ResilienceSettings],
        tell: Callable[[Notice], None] | None = None,
    ) -> None:
        """`now`: epoch seconds; `tell`: gets what operators want to hear, once per event over all workers."""
        self.store_failures = 0
        """Exchanges that the store refused."""
        self.unstored = 0
        """Events that only this worker knows, because too many waited for the store."""
        self._store = store
        self._now = now
        self._rng = rng
        self._settings = settings
        self._tell = tell or _untold
        self.copy = HealthCopy(now, settings)
        """What planning asks about rests, lockouts and breakers."""
        self.learned = self.copy.learned
        """See :class:`omniroute.gateway.gate.Board`."""
        self._loads: dict[str, Load] = {}
        self._queue: deque[_Queued] = deque()
        self._wake, self._hurry, self._drained = Signal(), Signal(), Signal()
        self._exchange = BoundedSemaphore(1)
        self._token: tuple[int, int] | None = None
        self._newest = 0.0
        self._full_at = 0.0
        self._writer: gevent.Greenlet[..., None] | None = None
        self._poller: gevent.Greenlet[..., None] | None = None

    # --- running requests -----------------------------------------------------------------------------------------

    def load_of(self, account_id: str) -> Load:
        """Return how busy an account is in this worker."""
        return self._loads.get(account_id, IDLE)

    def enter(self, account_id: str) -> None:
        """Count a request that starts at an account."""
        load = self._loads.get(account_id, IDLE)
        self._loads[account_id] = Load(load.in_flight + 1, self._now(), windows=load.windows)

    def leave(self, account_id: str) -> None:
        """Count it out again."""
        load = self._loads.get(account_id, IDLE)
        if load.in_flight:
            self._loads[account_id] = Load(load.in_flight - 1, load.last_used_at, windows=load.windows)

    def set_windows(self, account_id: str, windows: tuple[QuotaWindow, ...]) -> None:
        """Note what was read of an account's quota."""
        load = self._loads.get(account_id, IDLE)
        self._loads[account_id] = Load(load.in_flight, load.last_used_at, windows=windows)

    # --- events ---------------------------------------------------------------------------------------------------

    def attempt_served(
        self, account: Account, model: str, *, started_at: float, paused_until: float | None = None
    ) -> None:
        """Record that an attempt served; where nothing rests, there is nothing to do."""
        if paused_until is not None or not self.copy.is_well(account.id, account.rest_scope):
            self.record(AttemptServed(account, model, started_at, paused_until))

    def provider_served(self, provider: str, *, started_at: float) -> None:
        """Record that a provider served; where it has not failed lately, there is nothing to do."""
        if self.copy.has_breaker(provider):
            self.record(ProviderServed(provider, started_at))

    def record(self, event: Event) -> None:
        """Apply an event to the copy at once, and have it stored soon. Never blocks, never raises."""
        copy = self.copy
        if isinstance(event, AttemptFailed) and not event.in_flight:
            event = replace(event, in_flight=self.load_of(event.account.id).in_flight)
        keys, now = scopes_of(event), self._now()
        changed, notices = transition(copy.of(keys), event, self._settings(), now, self._rng)
        for row in changed:
            copy.put(row)
        # What others have made rest may be cleared here before this worker knows of it.
        if changed or isinstance(event, Cleared):
            self._enqueue(_Queued(event, keys, now, tuple(notices)))

    def clear(self, keys: Iterable[Key], by: ClearedBy = ClearedBy.OPERATOR, *, timeout_s: float = 2.0) -> bool:
        """End rests early, everywhere; False when the store could not be told in time, and will be later."""
        self.record(Cleared(tuple(keys), by))
        return self.flush(timeout_s)

    def state(self) -> tuple[HealthRow, ...]:
        """Return everything that this worker knows to rest or to be counted, for people to look at."""
        now = self._now()
        return tuple(sorted((row for row in self.copy.rows.values() if not is_forgotten(row, now)), key=_order))

    @property
    def queued(self) -> int:
        """How many events the store does not know yet."""
        return len(self._queue)

    def _enqueue(self, item: _Queued) -> None:
        if len(self._queue) >= _MOST_QUEUED:
            self.unstored += 1
            return
        self._queue.append(item)
        self._drained.clear()
        self._wake.set()

    # --- life -----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take over what the store knows: all that rested before a restart still does."""
        self._full_at = 0.0
        self.poll()

    def start(self) -> None:
        """Store events as they come, and follow the others, from now on; after the fork."""
        self._writer = gevent.spawn(self._write_forever)
        self._poller = gevent.spawn(self._poll_forever)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Store what is queued, if that is possible in time, and end."""
        self.flush(timeout_s)
        gevent.killall([one for one in (self._writer, self._poller) if one is not None], timeout=2)
        self._writer = self._poller = None

    def flush(self, timeout_s: float) -> bool:
        """Store what is queued now; False when that was not possible in time."""
        if not self._queue:
            return True
        if self._writer is None:
            return self._drain_quietly()
        self._hurry.set()
        return self._drained.wait(timeout_s)

    def poll(self) -> None:
        """Take over what others have changed; without the store the copy stays as it is."""
        try:
            with self._exchange:
                is_full = self._adopt_changes()
            if is_full:
                self._clear_forgotten()
        except OmniRouteError as error:
            self._note_failure(error)

    def _poll_forever(self) -> None:
        while True:
            gevent.sleep(POLL_INTERVAL_S)
            self.poll()

    # --- to the store ---------------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._drain_quietly():
                pause = _FIRST_PAUSE_S
                continue
            self._hurry.wait(pause)
            self._hurry.clear()
            self._wake.set()
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _drain_quietly(self) -> bool:
        try:
            self._drain()
        except OmniRouteError as error:
            self._note_failure(error)
            for item in list(self._queue):
                if item.notices and not item.is_told:
                    item.is_told = True
                    self._tell_all(item.notices)
            return False
        return True

    def _drain(self) -> None:
        while self._queue:
            with self._exchange:
                batch = list(islice(self._queue, _BATCH))
                notices = self._stored(batch) if batch else []
            self._tell_all(notices)
        self._drained.set()

    def _stored(self, batch: Collection[_Queued]) -> list[Notice]:
        """Make the transitions of queued events in the store, and take over what came of them."""
        settings = self._settings()
        notices: list[Notice] = []

        def change(rows: Mapping[Key, HealthRow]) -> Collection[HealthRow]:
            notices.clear()  # it may be called again
            current = dict(rows)
            changed: dict[Key, HealthRow] = {}
            for item in batch:
                before = {key: current[key] for key in item.keys if key in current}
                news, told = transition(before, item.event, settings, item.at, self._rng)
                for row in news:
                    current[row.key] = changed[row.key] = row
                if not item.is_told:
                    notices.extend(told)
            return changed.values()

        keys = {key for item in batch for key in item.keys}
        rows = self._store.change_health({scope for scope, _ in keys}, change)
        for _ in batch:
            self._queue.popleft()
        self._take_over(keys, rows)
        return notices

    def _clear_forgotten(self) -> None:
        """Clear, for all workers, what says nothing any more."""
        now = self._now()
        old = {row.key for row in self.copy.rows.values() if is_forgotten(row, now)}
        if not old:
            return

        def clear_old(rows: Mapping[Key, HealthRow]) -> list[HealthRow]:
            found = (rows[key] for key in old if key in rows)
            return [cleared(row, now) for row in found if not row.is_clear and is_forgotten(row, now)]

        with self._exchange:
            self._take_over(old, self._store.change_health({scope for scope, _ in old}, clear_old))

    # --- from the store -------------------------------------------------------------------------------------------

    def _adopt_changes(self) -> bool:
        """Read what has changed, or all that there is when that was long ago; True for all."""
        now = self._now()
        is_full = now >= self._full_at
        token = self._store.change_token()
        if not is_full and token is not None and token == self._token:
            return False
        rows = {
            row.key: row for row in self._store.load_health(0.0 if is_full else max(0.0, self._newest - _OVERLAP_S))
        }
        if is_full:
            self.copy.replace(rows)
            self._apply_queued(None)
            self._full_at = now + _FULL_EVERY_S
        else:
            self._take_over(rows, rows)
        self._newest = max((row.updated_at for row in rows.values()), default=self._newest)
        self._token = token
        return is_full

    def _take_over(self, keys: Collection[Key], rows: Mapping[Key, HealthRow]) -> None:
        """Let rows of the store replace those of the copy, then apply to them again what it does not know yet."""
        for key in keys:
            row = rows.get(key)
            if row is None:
                self.copy.drop(key)
            else:
                self.copy.put(row)
        self._apply_queued(keys)

    def _apply_queued(self, keys: Collection[Key] | None) -> None:
        """Apply queued events to rows that were replaced; None is all."""
        for item in self._queue:
            if keys is not None and not any(key in keys for key in item.keys):
                continue
            news, _ = transition(self.copy.of(item.keys), item.event, self._settings(), item.at, self._rng)
            for row in news:
                if keys is None or row.key in keys:  # the others have seen the event already
                    self.copy.put(row)

    # --- telling --------------------------------------------------------------------------------------------------

    def _tell_all(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            self._tell(notice)

    def _note_failure(self, error: OmniRouteError) -> None:
        self.store_failures += 1
        if self.store_failures == 1:
            log.warning("Health cannot be shared; each worker goes by its own: %s", error)


def _untold(_notice: Notice) -> None:
    """Tell nobody."""


def _order(row: HealthRow) -> tuple[str, str]:
    return row.scope, row.kind

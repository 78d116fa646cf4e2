"""What strategies remember from request to request: counters, last good targets, uses of steps, where sessions stay.

Read and changed in memory; every second what has changed is stored, and what other workers have stored is taken over.
Two workers that change the same thing within that second go on from whichever was stored last: approximate by design,
except that uses are added up. Without the store each worker goes on alone and stores later.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

import gevent

from omniroute.errors import OmniRouteError
from omniroute.routing import uses
from omniroute.routing.view import Binding
from omniroute.storage.repositories.bindings import ENDED, StoredBinding
from omniroute.storage.repositories.counters import Counter
from omniroute.storage.state import StateStore

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")
Key = tuple[str, str]

EXCHANGE_INTERVAL_S: Final = 1.0
MOST_BINDINGS: Final = 20_000
MOST_COUNTERS: Final = 20_000
MOST_LAST_GOOD: Final = 20_000
LAST_GOOD_S: Final = 86_400.0
_FAILURES_TO_DROP: Final = 2
_OVERLAP_S: Final = 5.0
"""A row is stamped before it is committed, so that rows of the last seconds are read once more."""
_BATCH: Final = 200
_RESTORED_AFTER: Final = 0.1
"""A binding that only lives on is stored again when this share of its life has passed."""
_LAST_GOOD: Final = "last_good:"
_USES: Final = "uses:"


@dataclass(slots=True)
class _Bound:
    binding: Binding
    expires_at: float
    stored_until: float


@dataclass(slots=True)
class _Good:
    option: str
    at: float
    failures: int
    stored_at: float


class RoutingMemory:
    """The part of a view that remembers. Counters have a scope (a combo, a provider) and a kind."""

    def __init__(self, *, store: StateStore, now: Callable[[], float]) -> None:
        """`now`: epoch seconds."""
        self.store_failures = 0
        """Exchanges that the store refused."""
        self._store = store
        self._now = now
        self._counters: OrderedDict[Key, Any] = OrderedDict()
        self._goods: OrderedDict[Key, _Good] = OrderedDict()
        self._bindings: OrderedDict[Key, _Bound] = OrderedDict()
        self._uses: dict[Key, dict[int, int]] = {}
        self._changed: set[Key] = set()
        self._moves: dict[Key, int] = {}
        self._changed_goods: set[Key] = set()
        self._changed_bindings: set[Key] = set()
        self._new_uses: dict[Key, dict[int, int]] = {}
        self._token: tuple[int, int] | None = None
        self._counters_since = 0.0
        self._bindings_since = 0.0
        self._greenlet: gevent.Greenlet[..., None] | None = None

    # --- asked ----------------------------------------------------------------------------------------------------

    def counter(self, scope: str, kind: str) -> Any:
        """Return what is kept under a scope and kind; None for nothing."""
        return self._counters.get((scope, kind))

    def last_good(self, scope: str, session: str) -> str | None:
        """Return the option that last served a session ("" for all) under a scope."""
        good = self._goods.get((scope, session))
        return good.option if good is not None and good.at > self._now() - LAST_GOOD_S else None

    def binding(self, session: str, provider: str) -> Binding | None:
        """Return where a session stays at a provider."""
        bound = self._bindings.get((session, provider))
        return bound.binding if bound is not None and bound.expires_at > self._now() else None

    def uses(self, scope: str, step_id: str, window_min: int) -> int:
        """Return how many requests a step has served within the last minutes."""
        key, minute = (scope, step_id), uses.minute_of(self._now())
        parts = (self._uses.get(key), self._new_uses.get(key))
        return sum(uses.within(part, window_min, minute) for part in parts if part)

    # --- told -----------------------------------------------------------------------------------------------------

    def set_counter(self, scope: str, kind: str, value: Any) -> None:
        """Keep a JSON value under a scope and kind."""
        _put(self._counters, (scope, kind), value, MOST_COUNTERS)
        self._changed.add((scope, kind))

    def advance(self, scope: str, kind: str, by: int) -> None:
        """Move a whole number on; what several workers add is added up."""
        key = (scope, kind)
        self._moves[key] = self._moves.get(key, 0) + by
        _put(self._counters, key, _number(self._counters.get(key)) + by, MOST_COUNTERS)

    def bind(self, session: str, provider: str, binding: Binding, ttl_s: float, now: float) -> None:
        """Let a session stay at a connection, from now on for as long as its life says."""
        key, expires_at = (session, provider), now + ttl_s
        bound = self._bindings.get(key)
        if bound is None or bound.binding != binding:
            bound = _Bound(binding, expires_at, 0.0)
            _put(self._bindings, key, bound, MOST_BINDINGS)
        else:
            bound.expires_at = expires_at
            self._bindings.move_to_end(key)
        if bound.stored_until < now + ttl_s * (1 - _RESTORED_AFTER):
            self._changed_bindings.add(key)
            bound.stored_until = expires_at

    def note_use(self, scope: str, step_id: str, now: float) -> None:
        """Count a request that a step has served."""
        new = self._new_uses.setdefault((scope, step_id), {})
        minute = uses.minute_of(now)
        new[minute] = new.get(minute, 0) + 1

    def note_served(self, scope: str, session: str, option: str, now: float) -> None:
        """Remember that an option has served a session ("" for none) to a clean end."""
        for key in {(scope, session), (scope, "")}:
            good = self._goods.get(key)
            if good is None or good.option != option or good.failures:
                good = _Good(option, now, 0, 0.0)
                _put(self._goods, key, good, MOST_LAST_GOOD)
            else:
                good.at = now
                self._goods.move_to_end(key)
            if now - good.stored_at > LAST_GOOD_S * _RESTORED_AFTER:
                self._changed_goods.add(key)
                good.stored_at = now

    def note_failed(self, scope: str, session: str, option: str) -> None:
        """Count a failure against an option that last served; the second in a row makes it forgotten."""
        for key in {(scope, session), (scope, "")}:
            good = self._goods.get(key)
            if good is None or good.option != option:
                continue
            good.failures += 1
            if good.failures >= _FAILURES_TO_DROP:
                del self._goods[key]
            self._changed_goods.add(key)

    # --- shared ---------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take over what earlier workers have left; a store that fails leaves nothing known."""
        self._token = None
        self._try(self._adopt)

    def exchange(self) -> None:
        """Store what has changed here, and take over what others have changed."""
        if self._try(self.flush):
            self._try(self._adopt)

    def start(self) -> None:
        """Exchange every second from now on; after the fork."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """End that, and store what has changed."""
        if self._greenlet is not None:
            self._greenlet.kill(timeout=2)
            self._greenlet = None
        self._try(self.flush)

    def flush(self) -> None:
        """Store what has changed here.

        Raises:
            StorageError: the store refused; what is not stored is part of the next try.
        """
        self._flush_counters()
        self._flush_moves()
        self._flush_uses()
        self._flush_bindings()

    def _run(self) -> None:
        while True:
            gevent.sleep(EXCHANGE_INTERVAL_S)
            self.exchange()

    def _flush_counters(self) -> None:
        counters, goods = self._changed, self._changed_goods
        if not counters and not goods:
            return
        self._changed, self._changed_goods = set(), set()
        values = {key: self._counters[key] for key in counters if key in self._counters}
        for scope, session in goods:
            good = self._goods.get((scope, session))
            value = None if good is None else [good.option, good.at, good.failures]
            values[scope, _LAST_GOOD + session] = value
        try:
            self._store.save_counters(values)
        except OmniRouteError:
            self._changed |= counters
            self._changed_goods |= goods
            raise

    def _flush_moves(self) -> None:
        """Move the stored positions on by as much as ours have moved: those of other workers have moved as well."""
        if not self._moves:
            return
        moves, self._moves = self._moves, {}
        try:
            positions = self._store.change_counters(
                moves, lambda stored: {key: _number(stored.get(key)) + by for key, by in moves.items()}
            )
        except OmniRouteError:
            for key, by in moves.items():
                self._moves[key] = self._moves.get(key, 0) + by
            raise
        for key, position in positions.items():
            _put(self._counters, key, position + self._moves.get(key, 0), MOST_COUNTERS)

    def _flush_uses(self) -> None:
        minute = uses.minute_of(self._now())
        while self._new_uses:
            keys = list(islice(self._new_uses, _BATCH))
            new = {key: self._new_uses.pop(key) for key in keys}

            def add(
                stored: Mapping[Key, Any], new: dict[Key, dict[int, int]] = new, minute: int = minute
            ) -> dict[Key, Any]:
                return {
                    (scope, _USES + step): uses.added(_buckets(stored.get((scope, _USES + step))), more, minute)
                    for (scope, step), more in new.items()
                }

            # They count all the while, or a plan made meanwhile would see a step that nobody uses.
            for key, more in new.items():
                self._uses[key] = uses.added(self._uses.get(key, {}), more, minute)
            try:
                sums = self._store.change_counters({(scope, _USES + step) for scope, step in keys}, add)
            except OmniRouteError:
                for key, more in new.items():
                    taken_back = {began: -count for began, count in more.items()}
                    self._uses[key] = uses.added(self._uses[key], taken_back, minute)
                    self._new_uses[key] = uses.added(self._new_uses.get(key, {}), more, minute)
                raise
            for (scope, kind), value in sums.items():
                self._uses[scope, kind.removeprefix(_USES)] = value

    def _flush_bindings(self) -> None:
        keys, self._changed_bindings = self._changed_bindings, set()
        some = [
            StoredBinding(*key, bound.binding.connection_id, bound.binding.target, bound.expires_at)
            for key in keys
            if (bound := self._bindings.get(key)) is not None
        ]
        if not some:
            return
        try:
            self._store.save_bindings(some)
        except OmniRouteError:
            self._changed_bindings |= keys
            raise

    def _adopt(self) -> None:
        token = self._store.change_token()
        if token is not None and token == self._token:
            return
        since = max(0.0, self._counters_since - _OVERLAP_S)
        for row in self._store.load_counters(since, at_most=MOST_COUNTERS + MOST_LAST_GOOD):
            self._counters_since = max(self._counters_since, row.updated_at)
            self._adopt_counter(row)
        since = max(0.0, self._bindings_since - _OVERLAP_S)
        for one in self._store.load_bindings(since, at_most=MOST_BINDINGS):
            self._bindings_since = max(self._bindings_since, one.updated_at)
            key = (one.session, one.provider)
            if one.expires_at == ENDED:
                if key not in self._changed_bindings:
                    self._bindings.pop(key, None)
            elif key not in self._changed_bindings:
                bound = _Bound(Binding(one.connection_id, one.target), one.expires_at, one.expires_at)
                _put(self._bindings, key, bound, MOST_BINDINGS)
        self._token = token

    def _adopt_counter(self, row: Counter) -> None:
        """Take over a stored value, unless it has changed here since."""
        key = (row.scope, row.kind)
        if row.kind.startswith(_USES):
            self._uses[row.scope, row.kind.removeprefix(_USES)] = _buckets(row.value)
        elif row.kind.startswith(_LAST_GOOD):
            self._adopt_good((row.scope, row.kind.removeprefix(_LAST_GOOD)), row)
        elif key in self._moves:
            _put(self._counters, key, _number(row.value) + self._moves[key], MOST_COUNTERS)
        elif key not in self._changed:
            _put(self._counters, key, row.value, MOST_COUNTERS)

    def _adopt_good(self, key: Key, row: Counter) -> None:
        if key in self._changed_goods:
            return
        if row.value is None:
            self._goods.pop(key, None)
            return
        option, at, failures = row.value
        _put(self._goods, key, _Good(option, at, failures, row.updated_at), MOST_LAST_GOOD)

    def _try(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except OmniRouteError as error:
            if not self.store_failures:
                log.warning("What routing remembers cannot be shared; each worker goes by its own: %s", error)
            self.store_failures += 1
            return False
        return True


def _put(mapping: OrderedDict[K, V], key: K, value: V, at_most: int) -> None:
    """Set a value as the newest; the oldest goes when there are too many."""
    mapping[key] = value
    mapping.move_to_end(key)
    if len(mapping) > at_most:
        mapping.popitem(last=False)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _buckets(value: Any) -> dict[int, int]:
    """Return counts as they were before JSON made texts of their minutes."""
    return {int(began): count for began, count in value.items()} if value else {}

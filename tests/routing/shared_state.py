"""The state that workers share, in memory: what `StateStore` keeps in tables, with the same answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from omniroute.routing.marks import HealthRow
from omniroute.routing.marks import Key as HealthKey
from omniroute.storage.repositories.bindings import StoredBinding
from omniroute.storage.repositories.counters import FIGURES, Counter
from omniroute.storage.state import CounterChange, HealthChange, Key, StateStore


class SharedState(StateStore):
    """One store for all workers of a simulated world; every call is a transaction of its own."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.health: dict[HealthKey, HealthRow] = {}
        self.counters: dict[Key, Counter] = {}
        self.bindings: dict[Key, StoredBinding] = {}
        self.claims: dict[str, tuple[str, float]] = {}
        self.claimed: list[tuple[float, str]] = []
        """Every claim that was won: when, and its name."""
        self.paces: dict[str, float] = {}
        self.slots: dict[str, dict[str, tuple[str, float]]] = {}
        self._version = 0

    def change_token(self) -> tuple[int, int]:
        return self._version, 0

    # --- health

    def change_health(self, scopes: Collection[str], change: HealthChange) -> dict[HealthKey, HealthRow]:
        rows = {key: row for key, row in self.health.items() if key[0] in scopes}
        at = self.now()
        changed = {row.key: replace(row, data=_stored(row.data), updated_at=at) for row in change(rows)}
        if changed:
            self.health |= changed
            self._version += 1
        return rows | changed

    def load_health(self, since: float = 0.0) -> tuple[HealthRow, ...]:
        return tuple(row for row in self.health.values() if row.updated_at >= since)

    # --- limits

    def take_pace(self, key: str, gap_s: float, burst: float, now: float) -> float:
        next_at = max(self.paces.get(key, 0.0), now)
        wait_s = next_at - now - burst * gap_s
        if wait_s > 1e-6:
            return max(0.001, wait_s)
        self.paces[key] = next_at + gap_s
        return 0.0

    def acquire_slot(self, scope: str, limit: int, request_id: str, owner: str, until: float) -> bool:
        held = self.slots.setdefault(scope, {})
        if sum(end > self.now() for name, (_, end) in held.items() if name != request_id) >= limit:
            return False
        held[request_id] = (owner, until)
        return True

    def renew_slots(self, owner: str, until: float) -> int:
        own = [(held, name) for held in self.slots.values() for name, slot in held.items() if slot[0] == owner]
        for held, name in own:
            held[name] = (owner, until)
        return len(own)

    def release_slot(self, scope: str, request_id: str) -> bool:
        return self.slots.get(scope, {}).pop(request_id, None) is not None

    def release_owner(self, owner: str) -> int:
        own = [(held, name) for held in self.slots.values() for name, slot in held.items() if slot[0] == owner]
        for held, name in own:
            del held[name]
        return len(own)

    # --- claims

    def claim(self, name: str, owner: str, until: float) -> bool:
        if name in self.claims and self.claims[name][1] > self.now():
            return False
        self.claims[name] = (owner, until)
        self.claimed.append((self.now(), name))
        return True

    def release_claim(self, name: str, owner: str) -> bool:
        if self.claims.get(name, ("", 0.0))[0] != owner:
            return False
        del self.claims[name]
        return True

    # --- memory

    def save_counters(self, values: Mapping[Key, Any]) -> None:
        at = self.now()
        for (scope, kind), value in values.items():
            self.counters[scope, kind] = Counter(scope, kind, _stored(value), at)
        self._version += bool(values)

    def change_counters(self, keys: Collection[Key], change: CounterChange) -> dict[Key, Any]:
        values = {key: self.counters[key].value for key in keys if key in self.counters}
        changed = {key: _stored(value) for key, value in change(values).items()}
        self.save_counters(changed)
        return values | changed

    def load_counters(self, since: float = 0.0, *, of_figures: bool = False, at_most: int) -> tuple[Counter, ...]:
        some = (
            row for row in self.counters.values() if (row.kind == FIGURES) is of_figures and row.updated_at >= since
        )
        return tuple(sorted(some, key=lambda row: row.updated_at)[-at_most:])

    def save_bindings(self, some: Iterable[StoredBinding]) -> None:
        for one in some:
            self.bindings[one.session, one.provider] = replace(one, updated_at=self.now())
            self._version += 1

    def load_bindings(self, since: float = 0.0, *, at_most: int) -> tuple[StoredBinding, ...]:
        some = (one for one in self.bindings.values() if one.updated_at >= since and one.expires_at > self.now())
        return tuple(sorted(some, key=lambda one: one.updated_at)[-at_most:])


def _stored(value: Any) -> Any:
    """Return a value as it comes back from a column of JSON."""
    return msgspec.json.decode(msgspec.json.encode(value))

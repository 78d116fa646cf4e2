"""One worker's copy of the health rows, filed so that asking about what is well costs one look into a dictionary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from omniroute.routing.breaker import breaker_of
from omniroute.routing.learned import learned_of
from omniroute.routing.marks import HealthRow, Key, Kind
from omniroute.routing.resilience import ResilienceSettings
from omniroute.routing.standing import lockout_keys, lockout_of, rest_of
from omniroute.routing.view import CLOSED, Breaker, Rest

_NOTHING_LEARNED: Final = (None, None)
_CONNECTION: Final = "connection:"


class HealthCopy:
    """Rows by key, without those that have nothing left to say."""

    __slots__ = ("_breakers", "_cooldowns", "_dead", "_learned", "_lockouts", "_now", "_settings", "changes", "rows")

    def __init__(self, now: Callable[[], float], settings: Callable[[], ResilienceSettings]) -> None:
        self.rows: dict[Key, HealthRow] = {}
        self.changes = 0
        """How often a row has come, changed or gone: whoever remembers what rows say does so until it differs."""
        self._now = now
        self._settings = settings
        self._cooldowns: dict[str, HealthRow] = {}  # by scope; those of one connection by its id as well
        self._dead: dict[str, HealthRow] = {}  # by connection
        self._lockouts: dict[str, dict[Key, HealthRow]] = {}  # by connection
        self._breakers: dict[str, HealthRow] = {}  # by provider
        self._learned: dict[str, HealthRow] = {}  # by connection

    # --- asked ----------------------------------------------------------------------------------------------------

    def rest(self, account_id: str, rest_scope: str) -> Rest | None:
        """Return why an account rests; `rest_scope` is "" for one that rests alone."""
        cooldown = self._cooldowns.get(rest_scope or account_id)
        dead = self._dead.get(account_id)
        if cooldown is None and dead is None:
            return None
        return rest_of([row for row in (cooldown, dead) if row is not None], self._now())

    def lockout(self, account_id: str, model: str) -> Rest | None:
        """Return why a model is locked out on an account."""
        rows = self._lockouts.get(account_id)
        if rows is None:
            return None
        return lockout_of([rows[key] for key in lockout_keys(account_id, model) if key in rows], self._now())

    def breaker(self, provider: str) -> Breaker:
        """Return the breaker of a provider."""
        row = self._breakers.get(provider)
        return CLOSED if row is None else breaker_of(row, self._now(), self._settings())

    def learned(self, account_id: str) -> tuple[int | None, float | None]:
        """Return how many requests may run at once, and before when none may start; None for neither."""
        row = self._learned.get(account_id)
        return _NOTHING_LEARNED if row is None else learned_of(row, self._now())

    def is_well(self, account_id: str, rest_scope: str) -> bool:
        """Say whether no row concerns an account: nothing is there that a success could change."""
        return (
            (rest_scope or account_id) not in self._cooldowns
            and account_id not in self._dead
            and account_id not in self._lockouts
        )

    def has_breaker(self, provider: str) -> bool:
        """Say whether anything is kept of a provider's failures."""
        return provider in self._breakers

    def of(self, keys: Iterable[Key]) -> dict[Key, HealthRow]:
        """Return those of the rows that exist."""
        rows = self.rows
        return {key: rows[key] for key in keys if key in rows}

    # --- changed --------------------------------------------------------------------------------------------------

    def put(self, row: HealthRow) -> None:
        """Take a row over, or drop the one in its place if it has nothing left to say."""
        if row.is_clear:
            self.drop(row.key)
            return
        self.rows[row.key] = row
        self.changes += 1
        name = _name(row.scope)
        match row.kind:
            case Kind.COOLDOWN:
                self._cooldowns[row.scope] = row
                if row.scope.startswith(_CONNECTION):
                    self._cooldowns[name] = row
            case Kind.DEAD:
                self._dead[name] = row
            case Kind.LOCKOUT:
                self._lockouts.setdefault(_connection(name), {})[row.key] = row
            case Kind.BREAKER:
                self._breakers[name] = row
            case Kind.LEARNED:
                self._learned[name] = row

    def drop(self, key: Key) -> None:
        """Forget a row; nothing happens when there is none."""
        if self.rows.pop(key, None) is None:
            return
        self.changes += 1
        scope, kind = key
        name = _name(scope)
        match kind:
            case Kind.COOLDOWN:
                del self._cooldowns[scope]
                if scope.startswith(_CONNECTION):
                    del self._cooldowns[name]
            case Kind.DEAD:
                del self._dead[name]
            case Kind.LOCKOUT:
                rows = self._lockouts[_connection(name)]
                del rows[key]
                if not rows:
                    del self._lockouts[_connection(name)]
            case Kind.BREAKER:
                del self._breakers[name]
            case Kind.LEARNED:
                del self._learned[name]

    def replace(self, rows: Mapping[Key, HealthRow]) -> None:
        """Take over these rows and no others."""
        for key in [key for key in self.rows if key not in rows]:
            self.drop(key)
        for row in rows.values():
            self.put(row)


def _name(scope: str) -> str:
    """Return what a scope names: `connection:<id>` is the connection's id."""
    return scope.partition(":")[2]


def _connection(name: str) -> str:
    """Return the connection of a name that says a model or a family behind it."""
    return name.partition("|")[0]

"""How connections stand with their providers, as the traffic of all workers found out; and how that is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from omniroute.gateway.directory import Directories
from omniroute.gateway.health_board import HealthBoard
from omniroute.records import Connection
from omniroute.routing.events import ClearedBy
from omniroute.routing.learned import learned_key
from omniroute.routing.marks import HealthRow, Key, Kind, State, connection_scope
from omniroute.routing.standing import lockout_keys, steps_left

_LOCKOUTS: Final = ("model", "family")


@dataclass(frozen=True, slots=True)
class Standing:
    """Why a connection is left alone now, if it is.

    Attributes:
        status: `dead` or `cooling`; None when it may serve.
        reason: the kind of failure.
        until: when it is tried again (epoch seconds); None where only somebody's action ends it.
        message: what the provider said, without secrets.
        since: when that began.
        backoff: failures in a row that still count.
    """

    status: str | None = None
    reason: str | None = None
    until: float | None = None
    message: str | None = None
    since: float = 0.0
    backoff: int = 0


class Standings:
    """Reads and clears what rests connections."""

    def __init__(
        self,
        *,
        board: HealthBoard,
        directories: Directories,
        now: Callable[[], float],
        on_forgotten: Callable[[str], None] = lambda _connection_id: None,
    ) -> None:
        """`now` is the time of day in epoch seconds; `on_forgotten` is told of connections that are others now."""
        self._on_forgotten = on_forgotten
        self._board = board
        self._directories = directories
        self._now = now

    def of(self, connection: Connection) -> Standing:
        """Return how a connection stands."""
        now = self._now()
        cooldown_key, dead_key = self._rest_keys(connection)
        rows = self._board.copy.of((cooldown_key, dead_key))
        dead, cooldown = rows.get(dead_key), rows.get(cooldown_key)
        backoff = steps_left(cooldown, now)
        if dead is not None and dead.state is State.RESTING:
            return _standing("dead", dead, backoff)
        if cooldown is not None and cooldown.state is State.RESTING and now < (cooldown.until or now + 1):
            return _standing("cooling", cooldown, backoff)
        return Standing(backoff=backoff)

    def forget(self, ids: Iterable[str], by: ClearedBy = ClearedBy.EDIT) -> None:
        """Forget everything that is known of connections: what it was learned with has gone."""
        keys: list[Key] = []
        wanted = set(ids)
        for connection_id in wanted:
            scope = connection_scope(connection_id)
            keys += [(scope, Kind.COOLDOWN), (scope, Kind.DEAD), learned_key(connection_id)]
            self._on_forgotten(connection_id)
        self._clear([*keys, *self._lockouts_of(wanted)], by)

    def reset(self, connection: Connection) -> None:
        """Forget it because an operator says so, what a connection shares with others of the same key included."""
        keys = [*self._rest_keys(connection), learned_key(connection.id), *self._lockouts_of({connection.id})]
        self._clear(keys, ClearedBy.OPERATOR)

    def revive(self, ids: Iterable[str]) -> None:
        """Let connections that were given up be tried again; what merely rests goes on resting."""
        self._clear([(connection_scope(connection_id), Kind.DEAD) for connection_id in ids], ClearedBy.EDIT)

    def note_works(self, connection: Connection, model: str | None) -> None:
        """End the rests that a test has shown to be over; it says nothing of other models."""
        models = () if model is None else lockout_keys(connection.id, model)
        self._clear([*self._rest_keys(connection), *models], ClearedBy.TEST)

    def _clear(self, keys: list[Key], by: ClearedBy) -> None:
        if keys:
            self._board.clear(keys, by)

    def _rest_keys(self, connection: Connection) -> tuple[Key, Key]:
        own = connection_scope(connection.id)
        accounts = self._directories.current.accounts_of(connection.provider)
        shared = next((one.rest_scope for one in accounts if one.id == connection.id), "") or own
        return (shared, Kind.COOLDOWN), (own, Kind.DEAD)

    def _lockouts_of(self, ids: set[str]) -> list[Key]:
        """Return the rows of models on connections; what others stored until now is looked for first."""
        self._board.poll()
        found = []
        for scope, kind in self._board.copy.rows:
            what, _, name = scope.partition(":")
            if what in _LOCKOUTS and name.partition("|")[0] in ids:
                found.append((scope, kind))
        return found


def _standing(status: str, row: HealthRow, backoff: int) -> Standing:
    message = row.data.get("message")
    return Standing(
        status=status,
        reason=row.reason,
        until=row.until,
        message=message if isinstance(message, str) else None,
        since=row.number("since", row.updated_at),
        backoff=backoff,
    )

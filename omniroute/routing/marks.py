"""What is kept of health: one row per scope and kind, the same in the database, in a snapshot and in every rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, TypeAlias

from omniroute.routing.options import Account


class Kind(StrEnum):
    """What a row is about."""

    COOLDOWN = "cooldown"
    LOCKOUT = "lockout"
    DEAD = "dead"
    BREAKER = "breaker"
    LEARNED = "learned"
    """Limits that a provider let us know."""


class State(StrEnum):
    """What a row says."""

    RESTING = "resting"
    """In force; after its end, until something was served, one request at a time tries."""
    SERVED = "served"
    """Over, but how often it happened still counts."""
    CLOSED = "closed"
    OPEN = "open"
    """An open breaker whose time is over is half open: nothing is written for that."""
    NOTED = "noted"
    CLEAR = "clear"
    """Nothing is left to remember: the row may be deleted."""


Key: TypeAlias = tuple[str, Kind]


@dataclass(frozen=True, slots=True)
class HealthRow:
    """One thing that rests, is locked out, dead, counted or learned.

    Attributes:
        scope: `connection:<id>`, `model:<connection>|<model>`, `family:<connection>|<family>` or `provider:<id>`.
        step: failures in a row; of an open breaker, openings in a row.
        until: when it ends; None where only somebody's action ends it.
        reason: the kind of failure.
        data: JSON; `since` and `length_s` of the rest, `source` of its hint, `probe_at` of an early try, `run` of
            failures of one kind, and `connection`, `provider`, `model`, `status`, `code`, `message` of the failure.
    """

    scope: str
    kind: Kind
    state: State
    step: int = 0
    until: float | None = None
    reason: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def key(self) -> Key:
        """What tells rows apart."""
        return self.scope, self.kind

    @property
    def is_clear(self) -> bool:
        """Whether nothing is left to remember."""
        return self.state is State.CLEAR

    def number(self, name: str, default: float = 0.0) -> float:
        """Return a number out of `data`."""
        value = self.data.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else default


def row_at(key: Key, old: HealthRow | None, now: float) -> HealthRow:
    """Return the row to change at a key: the one that is there, or a new one when it says nothing any more."""
    return HealthRow(*key, State.CLEAR, created_at=now) if old is None or old.is_clear else old


def cleared(row: HealthRow, now: float) -> HealthRow:
    """Return a row with nothing left to remember."""
    return replace(row, state=State.CLEAR, step=0, until=None, reason=None, data={}, updated_at=now)


BREAKER_OPENED: Final = "circuit_breaker.opened"
BREAKER_CLOSED: Final = "circuit_breaker.closed"
CONNECTION_DEAD: Final = "connection.dead"
QUOTA_EXCEEDED: Final = "quota.exceeded"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that operators want to hear of; `data` is JSON with public names and holds no secret."""

    event: str
    data: Mapping[str, Any]


def connection_scope(connection_id: str) -> str:
    """Return the scope of a connection."""
    return f"connection:{connection_id}"


def rest_scope(account: Account) -> str:
    """Return the scope that a cooldown of an account rests: its own, or that of all which hold the same credential."""
    return account.rest_scope or connection_scope(account.id)


def model_scope(connection_id: str, model: str) -> str:
    """Return the scope of a model on a connection."""
    return f"model:{connection_id}|{model}"


def family_scope(connection_id: str, family: str) -> str:
    """Return the scope of a family of models on a connection."""
    return f"family:{connection_id}|{family}"


def provider_scope(provider: str) -> str:
    """Return the scope of a provider."""
    return f"provider:{provider}"

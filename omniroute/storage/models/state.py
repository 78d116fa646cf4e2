"""Tables that workers share to act as one, and the two version rows."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from omniroute.storage.models.base import ZERO, Epoch, Model, TextKey, Whole, Words


class HealthState(Model):
    """What is known to be resting, locked, open or dead, and until when."""

    __tablename__ = "health_state"

    scope: Mapped[TextKey]
    kind: Mapped[TextKey]
    state: Mapped[Words]
    step: Mapped[Whole] = mapped_column(server_default=ZERO)
    until: Mapped[Epoch | None]
    reason: Mapped[Words | None]
    data_json: Mapped[Words | None]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class Pacing(Model):
    """When the next request may start at a paced connection: one row of the generic cell rate algorithm."""

    __tablename__ = "pacing"

    key: Mapped[TextKey]
    next_slot_at: Mapped[Epoch]


class Slot(Model):
    """A place of a scope that a running request holds until it lets go, or until the lease ends."""

    __tablename__ = "slots"
    __table_args__ = (Index(None, "expires_at"),)

    scope: Mapped[TextKey]
    request_id: Mapped[TextKey]
    owner: Mapped[Words]
    expires_at: Mapped[Epoch]


class RoutingCounter(Model):
    """What a strategy remembers between requests (position, deck, head, last good target), as workers left it."""

    __tablename__ = "routing_counters"
    __table_args__ = (Index(None, "updated_at"),)

    scope: Mapped[TextKey]
    kind: Mapped[TextKey]
    value_json: Mapped[Words]
    updated_at: Mapped[Epoch]


class SessionBinding(Model):
    """Which connection and target a session stays with at a provider."""

    __tablename__ = "session_bindings"
    __table_args__ = (Index(None, "expires_at"), Index(None, "updated_at"))

    session_hash: Mapped[TextKey]
    provider: Mapped[TextKey]
    connection_id: Mapped[Words]
    target: Mapped[Words | None]
    position: Mapped[Whole | None]
    note: Mapped[Words | None]
    updated_at: Mapped[Epoch]
    expires_at: Mapped[Epoch]


class JobRun(Model):
    """When a scheduled job ran last, so that a new leader does not run a daily job twice."""

    __tablename__ = "job_runs"

    name: Mapped[TextKey]
    last_start_at: Mapped[Epoch | None]
    last_success_at: Mapped[Epoch | None]
    last_error: Mapped[Words | None]


class Claim(Model):
    """Work that exactly one worker does: won by a conditional update, lost by time."""

    __tablename__ = "claims"

    name: Mapped[TextKey]
    owner: Mapped[Words]
    until: Mapped[Epoch]


class ConfigVersion(Model):
    """The single row that every configuration write raises."""

    __tablename__ = "config_version"
    __table_args__ = (CheckConstraint("id = 1", name="single_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[Whole]
    changed_at: Mapped[Epoch]


class SchemaVersion(Model):
    """One row per migration that was applied."""

    __tablename__ = "schema_version"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[Words]
    checksum: Mapped[Words]
    applied_at: Mapped[Epoch]

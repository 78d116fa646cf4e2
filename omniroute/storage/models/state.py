"""Tables that workers share to act as one, and the two version rows."""

from __future__ import annotations

from sqlalchemy import CheckConstraint
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

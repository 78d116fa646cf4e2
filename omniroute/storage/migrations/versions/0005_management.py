"""What management adds: models by hand and from providers, outbound proxies, address rules, long jobs, file imports."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _real(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


def _whole(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=True)


def _flag(name: str, default: str = "0") -> sa.Column[int]:
    return sa.Column(name, sa.SmallInteger, nullable=False, server_default=default)


def _made() -> tuple[sa.Column[Any], ...]:
    return _real("created_at"), _real("updated_at")


def upgrade() -> None:
    op.create_table(
        "custom_models",
        *(_text(name) for name in ("provider", "model_id")),
        *(_text(name, nullable=True) for name in ("name", "kind", "api_format")),
        _whole("context_length"),
        _whole("max_output"),
        _text("capabilities_json", nullable=True),
        *_made(),
        sa.PrimaryKeyConstraint("provider", "model_id"),
    )
    op.create_table(
        "discovered_models",
        *(_text(name) for name in ("provider", "connection_id", "model_id")),
        *(_text(name, nullable=True) for name in ("name", "kind")),
        _whole("context_length"),
        _whole("max_output"),
        *(_text(name, nullable=True) for name in ("capabilities_json", "price_json")),
        _real("first_seen_at"),
        _real("last_seen_at"),
        sa.PrimaryKeyConstraint("provider", "connection_id", "model_id"),
    )
    op.create_table(
        "model_overrides",
        *(_text(name) for name in ("provider", "model_id")),
        _flag("is_hidden"),
        _whole("context_length"),
        _whole("max_output"),
        _text("capabilities_json", nullable=True),
        *_made(),
        sa.PrimaryKeyConstraint("provider", "model_id"),
    )
    op.create_table(
        "model_syncs",
        *(_text(name) for name in ("connection_id", "provider")),
        _real("synced_at", nullable=True),
        _real("tried_at"),
        _whole("found"),
        _text("error", nullable=True),
        sa.PrimaryKeyConstraint("connection_id"),
    )
    op.create_table(
        "proxies",
        *(_text(name) for name in ("id", "name", "type", "host")),
        sa.Column("port", sa.BigInteger, nullable=False),
        *(_text(name, nullable=True) for name in ("username", "password_enc")),
        _flag("is_active", "1"),
        *_made(),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "proxy_bindings",
        *(_text(name) for name in ("level", "level_id", "proxy_id")),
        *_made(),
        sa.PrimaryKeyConstraint("level", "level_id"),
    )
    op.create_index("ix_proxy_bindings_proxy_id", "proxy_bindings", ["proxy_id"])
    op.create_table(
        "ip_rules",
        *(_text(name) for name in ("id", "cidr", "kind")),
        _text("reason", nullable=True),
        _real("until", nullable=True),
        *_made(),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("cidr", "kind"),
    )
    op.create_table(
        "jobs",
        *(_text(name) for name in ("id", "kind", "state")),
        _real("progress", nullable=True),
        *(_text(name, nullable=True) for name in ("result_json", "error", "owner")),
        _real("lease_until", nullable=True),
        _real("finished_at", nullable=True),
        *_made(),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_jobs_kind_state", "jobs", ["kind", "state"])
    # Nothing could set it before there were proxies, and it now says whether a connection takes part in them.
    op.execute("UPDATE provider_connections SET proxy_enabled = 1")


def downgrade() -> None:
    op.execute("UPDATE provider_connections SET proxy_enabled = 0")
    for table in (
        "jobs",
        "ip_rules",
        "proxy_bindings",
        "proxies",
        "model_syncs",
        "model_overrides",
        "discovered_models",
        "custom_models",
    ):
        op.drop_table(table)

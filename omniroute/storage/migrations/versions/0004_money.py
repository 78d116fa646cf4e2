"""Money: prices, budgets, limits, readings of quotas; how the cost of a request came about."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _real(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


def _whole(name: str, default: str | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=default)


def upgrade() -> None:
    op.create_table(
        "prices",
        *(_text(name) for name in ("provider", "model", "source")),
        *(_text(name, nullable=True) for name in ("input", "output", "cache_read", "cache_write", "cache_write_1h")),
        *(_text(name, nullable=True) for name in ("reasoning", "audio_input", "audio_output", "per_request")),
        *(_text(name, nullable=True) for name in ("per_image", "per_second", "per_character", "tiers_json", "note")),
        _real("valid_from"),
        _real("updated_at"),
        sa.PrimaryKeyConstraint("provider", "model", "source"),
    )
    op.create_table(
        "budgets",
        _text("scope_id"),
        _text("period"),
        _whole("limit_nano_usd"),
        _real("warning_threshold"),
        _text("reset_time"),
        _text("time_zone"),
        _real("created_at"),
        _real("updated_at"),
        sa.PrimaryKeyConstraint("scope_id", "period"),
    )
    op.create_table(
        "budget_ledger",
        _text("scope_id"),
        _text("period"),
        sa.Column("period_start", sa.BigInteger, autoincrement=False, nullable=False),
        _whole("spent_nano_usd", "0"),
        _whole("requests", "0"),
        _whole("unpriced", "0"),
        _real("warned_at", nullable=True),
        _real("exceeded_at", nullable=True),
        sa.PrimaryKeyConstraint("scope_id", "period", "period_start"),
    )
    op.create_table(
        "token_limits",
        _text("id"),
        _text("scope_id"),
        _text("scope_type"),
        _text("scope_value", nullable=True),
        _whole("token_limit"),
        _text("period"),
        sa.Column("enabled", sa.SmallInteger, nullable=False, server_default="1"),
        _real("created_at"),
        _real("updated_at"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_token_limits_scope_id", "token_limits", ["scope_id"])
    op.create_table(
        "limit_usage",
        _text("limit_id"),
        sa.Column("window_start", sa.BigInteger, autoincrement=False, nullable=False),
        _whole("window_end"),
        _whole("used", "0"),
        sa.PrimaryKeyConstraint("limit_id", "window_start"),
    )
    op.create_index("ix_limit_usage_window_end", "limit_usage", ["window_end"])
    op.create_table(
        "reservations",
        _text("request_id"),
        _text("scope"),
        _whole("window_start"),
        _whole("amount"),
        _text("owner"),
        _real("expires_at"),
        sa.PrimaryKeyConstraint("request_id", "scope"),
    )
    op.create_index("ix_reservations_scope_window_start", "reservations", ["scope", "window_start"])
    op.create_index("ix_reservations_expires_at", "reservations", ["expires_at"])
    op.create_table(
        "quota_snapshots",
        _text("connection_id"),
        _text("window_name"),
        _real("fetched_at"),
        _real("used_fraction", nullable=True),
        _real("limit_value", nullable=True),
        _real("remaining", nullable=True),
        _text("unit", nullable=True),
        _real("length_s", nullable=True),
        _real("resets_at", nullable=True),
        _text("family", nullable=True),
        _text("plan", nullable=True),
        _text("source"),
        sa.PrimaryKeyConstraint("connection_id", "window_name", "fetched_at"),
    )
    op.create_index("ix_quota_snapshots_fetched_at", "quota_snapshots", ["fetched_at"])
    with op.batch_alter_table("request_log") as table:
        table.add_column(sa.Column("is_estimated", sa.SmallInteger, nullable=False, server_default="0"))
        table.add_column(_whole("extra_nano_usd", "0"))
        table.add_column(_text("price_id", nullable=True))
        table.add_column(_text("charges_json", nullable=True))
    for name in ("usage_hourly", "usage_daily"):
        with op.batch_alter_table(name) as table:
            table.add_column(_whole("estimated", "0"))
    _add_months()
    op.drop_index("ix_request_log_time", "request_log")
    op.create_index("ix_request_log_time_request_id", "request_log", ["time", "request_id"])
    op.create_index("ix_request_log_api_key_id_time", "request_log", ["api_key_id", "time"])
    op.create_index("ix_request_log_connection_id_time", "request_log", ["connection_id", "time"])
    for column, condition in (
        ("session_hash", "session_hash IS NOT NULL"),
        ("combo_id", "combo_id IS NOT NULL"),
        ("outcome", "outcome <> 'success'"),
        ("status", "status >= 300"),
    ):
        where = sa.text(condition)
        op.create_index(
            f"ix_request_log_{column}_time",
            "request_log",
            [column, "time"],
            sqlite_where=where,
            postgresql_where=where,
        )


def _add_months() -> None:
    """Add the sums by thirty days, made of those by day."""
    keys = ("api_key_id", "provider", "model", "connection_id", "combo_id", "endpoint")
    sums: tuple[sa.Column[Any], ...] = (
        *(_whole(name, "0") for name in ("requests", "failed", "cancelled", "fallbacks", "cache_hits", "tokens_in")),
        *(_whole(name, "0") for name in ("tokens_out", "cache_read", "cache_write", "reasoning", "billed_nano_usd")),
        *(_whole(name, "0") for name in ("subscription_nano_usd", "unpriced")),
        *(_real_sum(name) for name in ("duration_ms_sum", "ttft_ms_sum")),
        _whole("ttft_count", "0"),
        *(_whole(f"latency_{ms}", "0") for ms in (100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, "over")),
        _whole("estimated", "0"),
    )
    op.create_table(
        "usage_monthly",
        sa.Column("bucket", sa.BigInteger, autoincrement=False, nullable=False),
        *(_text(name) for name in keys),
        *sums,
        sa.PrimaryKeyConstraint("bucket", *keys),
    )
    same, names = ", ".join(keys), [column.name for column in sums]
    added = ", ".join(f"sum({name})" for name in names)
    op.execute(
        f"INSERT INTO usage_monthly (bucket, {same}, {', '.join(names)})"  # noqa: S608 - names that stand above
        f" SELECT bucket - bucket % {30 * 86_400} AS month, {same}, {added} FROM usage_daily GROUP BY month, {same}"
    )


def _real_sum(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False, server_default="0")

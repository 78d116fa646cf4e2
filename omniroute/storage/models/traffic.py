"""Tables that traffic writes: one row per request, and sums of them by hour and by day."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from omniroute.storage.models.base import ZERO, Digest, Epoch, Flag, Model, Real, TextKey, Whole, Words

FIRST_FAULT: Final = 300
"""Statuses from here on are in an index."""
_SOME_SESSION: Final = text("session_hash IS NOT NULL")
_SOME_COMBO: Final = text("combo_id IS NOT NULL")
_NO_SUCCESS: Final = text("outcome <> 'success'")
_FAULT: Final = text(f"status >= {FIRST_FAULT}")


class RequestLog(Model):
    """One settled request.

    Every index is paid for by every request. The id (time-ordered, hence appended at the right edge of its tree) and
    the time (with the id, by which pages are ordered) serve pages, ranges and retention. Keys and connections are what
    people look for, however rarely they are used; sessions, combos and what went wrong have indexes that most requests
    are not in. Everything else is looked for in a part of the log at a time.
    """

    __tablename__ = "request_log"
    __table_args__ = (
        Index(None, "time", "request_id"),
        Index(None, "api_key_id", "time"),
        Index(None, "connection_id", "time"),
        Index(None, "session_hash", "time", sqlite_where=_SOME_SESSION, postgresql_where=_SOME_SESSION),
        Index(None, "combo_id", "time", sqlite_where=_SOME_COMBO, postgresql_where=_SOME_COMBO),
        Index(None, "outcome", "time", sqlite_where=_NO_SUCCESS, postgresql_where=_NO_SUCCESS),
        Index(None, "status", "time", sqlite_where=_FAULT, postgresql_where=_FAULT),
    )

    request_id: Mapped[TextKey]
    time: Mapped[Epoch]
    kind: Mapped[Words]
    endpoint: Mapped[Words]
    client_format: Mapped[Words]
    upstream_format: Mapped[Words | None]
    requested_model: Mapped[Words]
    provider: Mapped[Words | None]
    model: Mapped[Words | None]
    connection_id: Mapped[Words | None]
    combo_id: Mapped[Words | None]
    step_id: Mapped[Words | None]
    api_key_id: Mapped[Words | None]
    status: Mapped[Whole]
    outcome: Mapped[Words]
    error_code: Mapped[Words | None]
    stream: Mapped[Flag]
    tokens_in: Mapped[Whole | None]
    tokens_out: Mapped[Whole | None]
    cache_read: Mapped[Whole | None]
    cache_write: Mapped[Whole | None]
    reasoning: Mapped[Whole | None]
    cost_nano_usd: Mapped[Whole | None]
    cost_kind: Mapped[Words]
    cache: Mapped[Words]
    duration_ms: Mapped[Real]
    ttft_ms: Mapped[Real | None]
    attempts: Mapped[Whole]
    attempts_json: Mapped[Words | None]
    session_hash: Mapped[Words | None]
    tag: Mapped[Words | None]
    bytes_in: Mapped[Whole]
    bytes_out: Mapped[Whole]
    body_path: Mapped[Words | None]
    body_sha256: Mapped[Words | None]
    is_estimated: Mapped[Flag] = mapped_column(server_default=ZERO)
    """At least one token count is ours, because the provider gave none."""
    extra_nano_usd: Mapped[Whole] = mapped_column(server_default=ZERO)
    """Billed for attempts that did not serve: hedges that lost, beginnings of streams that others finished."""
    price_id: Mapped[Words | None]
    """Version of the price of the model that answered."""
    charges_json: Mapped[Words | None]
    """How the cost came about, attempt by attempt."""


class Decision(Model):
    """How one request was routed: candidates, exclusions, attempts; enough to decide again."""

    __tablename__ = "decisions"
    __table_args__ = (Index(None, "time"),)

    request_id: Mapped[TextKey]
    time: Mapped[Epoch]
    policy_hash: Mapped[Words]
    rng_seed: Mapped[Words]
    """64 bits as hexadecimal digits: more than either database's integer holds with its sign."""
    record: Mapped[Digest]
    """Compressed JSON."""


class _Usage:
    """Columns of the roll-ups. Key columns hold '' for "none", because NULLs would not be equal to each other."""

    bucket: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Epoch second at which the hour, day or month (UTC) begins."""
    api_key_id: Mapped[TextKey]
    provider: Mapped[TextKey]
    model: Mapped[TextKey]
    connection_id: Mapped[TextKey]
    combo_id: Mapped[TextKey]
    endpoint: Mapped[TextKey]
    requests: Mapped[Whole] = mapped_column(server_default=ZERO)
    failed: Mapped[Whole] = mapped_column(server_default=ZERO)
    cancelled: Mapped[Whole] = mapped_column(server_default=ZERO)
    fallbacks: Mapped[Whole] = mapped_column(server_default=ZERO)
    cache_hits: Mapped[Whole] = mapped_column(server_default=ZERO)
    tokens_in: Mapped[Whole] = mapped_column(server_default=ZERO)
    tokens_out: Mapped[Whole] = mapped_column(server_default=ZERO)
    cache_read: Mapped[Whole] = mapped_column(server_default=ZERO)
    cache_write: Mapped[Whole] = mapped_column(server_default=ZERO)
    reasoning: Mapped[Whole] = mapped_column(server_default=ZERO)
    billed_nano_usd: Mapped[Whole] = mapped_column(server_default=ZERO)
    subscription_nano_usd: Mapped[Whole] = mapped_column(server_default=ZERO)
    unpriced: Mapped[Whole] = mapped_column(server_default=ZERO)
    duration_ms_sum: Mapped[Real] = mapped_column(server_default=ZERO)
    ttft_ms_sum: Mapped[Real] = mapped_column(server_default=ZERO)
    ttft_count: Mapped[Whole] = mapped_column(server_default=ZERO)
    latency_100: Mapped[Whole] = mapped_column(server_default=ZERO)
    """Histogram of total durations: requests of at most 100 ms, then of at most 250 ms (and over 100 ms), …"""
    latency_250: Mapped[Whole] = mapped_column(server_default=ZERO)
    latency_500: Mapped[Whole] = mapped_column(server_default=ZERO)
    latency_1000: Mapped[Whole] = mapped_column(server_default=ZERO)
    latency_2500: Mapped[Whole] = mapped_column(server_default=ZERO)
    latency_5000: Mapped[Whole] = mapped_column(server_default=ZERO)
    latency_10000: Mapped[Whole] = mapped_column(server_default=ZERO)
    latency_30000: Mapped[Whole] = mapped_column(server_default=ZERO)
    latency_60000: Mapped[Whole] = mapped_column(server_default=ZERO)
    latency_over: Mapped[Whole] = mapped_column(server_default=ZERO)
    estimated: Mapped[Whole] = mapped_column(server_default=ZERO)
    """Requests with a token count of our own."""


class UsageHourly(_Usage, Model):
    """Sums by hour."""

    __tablename__ = "usage_hourly"


class UsageDaily(_Usage, Model):
    """Sums by day (UTC)."""

    __tablename__ = "usage_daily"


class UsageMonthly(_Usage, Model):
    """Sums by month: thirty days counted from the epoch, because that is arithmetic on every database."""

    __tablename__ = "usage_monthly"

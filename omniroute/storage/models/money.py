"""Tables of money and limits: prices, budgets and what was spent of them, token limits, readings of quotas.

Money is whole nano-USD; prices are decimal text in USD, as whoever set them wrote them.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Index
from sqlalchemy.orm import Mapped, mapped_column

from omniroute.storage.models.base import ONE, ZERO, Epoch, Flag, Model, Real, TextKey, Whole, Words


class Price(Model):
    """What a model at a provider costs, as an operator set it or a price list was read; USD per million tokens."""

    __tablename__ = "prices"

    provider: Mapped[TextKey]
    model: Mapped[TextKey]
    source: Mapped[TextKey]
    """`override` or `import`; what is built in is no row."""
    input: Mapped[Words | None]
    output: Mapped[Words | None]
    cache_read: Mapped[Words | None]
    cache_write: Mapped[Words | None]
    cache_write_1h: Mapped[Words | None]
    reasoning: Mapped[Words | None]
    audio_input: Mapped[Words | None]
    audio_output: Mapped[Words | None]
    per_request: Mapped[Words | None]
    """USD per call."""
    per_image: Mapped[Words | None]
    per_second: Mapped[Words | None]
    """Of audio or video."""
    per_character: Mapped[Words | None]
    """USD per million characters."""
    tiers_json: Mapped[Words | None]
    """List of {above, input, output, cache_read, cache_write}: in force once a prompt has more than `above` tokens."""
    note: Mapped[Words | None]
    """Where an imported price was read."""
    valid_from: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class Budget(Model):
    """How much may be spent in a period: by a key, by callers without one (`local`), by all together (`*`)."""

    __tablename__ = "budgets"

    scope_id: Mapped[TextKey]
    period: Mapped[TextKey]
    """`daily`, `weekly` or `monthly`."""
    limit_nano_usd: Mapped[Whole]
    warning_threshold: Mapped[Real]
    reset_time: Mapped[Words]
    """`HH:MM` in the time zone."""
    time_zone: Mapped[Words]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class BudgetLedger(Model):
    """What was spent of a budget in one of its periods: the sum of the rows of the request log, never anything else."""

    __tablename__ = "budget_ledger"

    scope_id: Mapped[TextKey]
    period: Mapped[TextKey]
    period_start: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Epoch second."""
    spent_nano_usd: Mapped[Whole] = mapped_column(server_default=ZERO)
    requests: Mapped[Whole] = mapped_column(server_default=ZERO)
    unpriced: Mapped[Whole] = mapped_column(server_default=ZERO)
    """Requests whose cost is not known, and so not in the sum."""
    warned_at: Mapped[Epoch | None]
    exceeded_at: Mapped[Epoch | None]


class TokenLimit(Model):
    """How many tokens may be used in a period."""

    __tablename__ = "token_limits"
    __table_args__ = (Index(None, "scope_id"),)

    id: Mapped[TextKey]
    scope_id: Mapped[Words]
    """Whose: a key's id, `local`, or `*` for all together."""
    scope_type: Mapped[Words]
    """Of what: `global`, `provider` or `model`."""
    scope_value: Mapped[Words | None]
    token_limit: Mapped[Whole]
    period: Mapped[Words]
    enabled: Mapped[Flag] = mapped_column(server_default=ONE)
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class LimitUsage(Model):
    """What was used of a limit in one of its windows: tokens of a token limit, requests of a rate rule."""

    __tablename__ = "limit_usage"
    __table_args__ = (Index(None, "window_end"),)

    limit_id: Mapped[TextKey]
    window_start: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    window_end: Mapped[Whole]
    used: Mapped[Whole] = mapped_column(server_default=ZERO)


class Reservation(Model):
    """What a request in flight may still cost: held from before it is sent until its row is in the log."""

    __tablename__ = "reservations"
    __table_args__ = (Index(None, "scope", "window_start"), Index(None, "expires_at"))

    request_id: Mapped[TextKey]
    scope: Mapped[TextKey]
    """`budget:<scope>:<period>` (nano-USD) or `tokens:<limit>` (tokens)."""
    window_start: Mapped[Whole]
    amount: Mapped[Whole]
    owner: Mapped[Words]
    expires_at: Mapped[Epoch]


class QuotaSnapshot(Model):
    """One reading of one window of a connection's grant at its provider."""

    __tablename__ = "quota_snapshots"
    __table_args__ = (Index(None, "fetched_at"),)

    connection_id: Mapped[TextKey]
    window_name: Mapped[TextKey]
    fetched_at: Mapped[float] = mapped_column(primary_key=True)
    """Epoch seconds."""
    used_fraction: Mapped[Real | None]
    """0 to 1; None where only a remainder is known."""
    limit_value: Mapped[Real | None]
    remaining: Mapped[Real | None]
    unit: Mapped[Words | None]
    """What limit and remainder count: `requests`, `tokens`, `usd`, `credits`."""
    length_s: Mapped[Real | None]
    resets_at: Mapped[Epoch | None]
    family: Mapped[Words | None]
    """The model family that the window is about; None for all models."""
    plan: Mapped[Words | None]
    source: Mapped[Words]
    """`headers` or `endpoint`."""

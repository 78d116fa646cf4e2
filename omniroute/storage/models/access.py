"""Tables that decide who may call, and the record of what they did."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index
from sqlalchemy.orm import Mapped, mapped_column

from omniroute.storage.models.base import ONE, ZERO, Digest, Epoch, Flag, Model, TextKey, Whole, Words


class ApiKey(Model):
    """An inference key: its digest, never the key (`key_enc` only while reveal is allowed)."""

    __tablename__ = "api_keys"

    id: Mapped[TextKey]
    name: Mapped[Words]
    key_id: Mapped[Words] = mapped_column(unique=True)
    key_hash: Mapped[Digest] = mapped_column(unique=True)
    key_prefix: Mapped[Words]
    key_last4: Mapped[Words]
    key_enc: Mapped[Words | None]
    scopes_json: Mapped[Words | None]
    allowed_models_json: Mapped[Words | None]
    blocked_models_json: Mapped[Words | None]
    allowed_combos_json: Mapped[Words | None]
    allowed_connections_json: Mapped[Words | None]
    allowed_endpoints_json: Mapped[Words | None]
    ip_allowlist_json: Mapped[Words | None]
    schedule_json: Mapped[Words | None]
    rate_limits_json: Mapped[Words | None]
    disabled_guardrails_json: Mapped[Words | None]
    max_concurrent: Mapped[Whole | None]
    max_sessions: Mapped[Whole | None]
    throttle_delay_ms: Mapped[Whole | None]
    no_log: Mapped[Flag] = mapped_column(server_default=ZERO)
    stream_default: Mapped[Words] = mapped_column(server_default="request")
    hide_paid_models: Mapped[Flag] = mapped_column(server_default=ZERO)
    is_canary: Mapped[Flag] = mapped_column(server_default=ZERO)
    is_active: Mapped[Flag] = mapped_column(server_default=ONE)
    is_banned: Mapped[Flag] = mapped_column(server_default=ZERO)
    expires_at: Mapped[Epoch | None]
    revoked_at: Mapped[Epoch | None]
    last_used_at: Mapped[Epoch | None]
    previous_hash: Mapped[Digest | None]
    previous_until: Mapped[Epoch | None]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class AccessToken(Model):
    """A management token, by its digest."""

    __tablename__ = "access_tokens"

    id: Mapped[TextKey]
    name: Mapped[Words]
    token_hash: Mapped[Digest] = mapped_column(unique=True)
    token_prefix: Mapped[Words]
    scope: Mapped[Words]
    expires_at: Mapped[Epoch | None]
    revoked_at: Mapped[Epoch | None]
    last_used_at: Mapped[Epoch | None]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class DashboardSession(Model):
    """A login of the dashboard, by the digest of its session id."""

    __tablename__ = "dashboard_sessions"

    id: Mapped[TextKey]
    session_hash: Mapped[Digest] = mapped_column(unique=True)
    address: Mapped[Words | None]
    user_agent: Mapped[Words | None]
    last_seen_at: Mapped[Epoch]
    expires_at: Mapped[Epoch]
    revoked_at: Mapped[Epoch | None]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class Credential(Model):
    """A password hash with its parameters, by name."""

    __tablename__ = "credentials"

    name: Mapped[TextKey]
    password_hash: Mapped[Words]
    changed_at: Mapped[Epoch]


class LoginAttempt(Model):
    """Failed logins of one address in its current window."""

    __tablename__ = "login_attempts"

    address: Mapped[TextKey]
    failures: Mapped[Whole]
    window_start: Mapped[Epoch]
    locked_until: Mapped[Epoch | None]


class AuditLog(Model):
    """One audited action; each row holds the digest of the row before it."""

    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "time"),)

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[Words] = mapped_column(unique=True)
    time: Mapped[Epoch]
    action: Mapped[Words]
    actor: Mapped[Words]
    outcome: Mapped[Words]
    target_kind: Mapped[Words | None]
    target_id: Mapped[Words | None]
    address: Mapped[Words | None]
    user_agent: Mapped[Words | None]
    request_id: Mapped[Words | None]
    details_json: Mapped[Words | None]
    previous_row_hash: Mapped[Digest]
    row_hash: Mapped[Digest]

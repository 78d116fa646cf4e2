"""Tables that the operator writes: connections, nodes, per-provider settings, combos, run-time settings."""

from __future__ import annotations

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from omniroute.storage.models.base import ONE, ZERO, Epoch, Flag, Model, Real, TextKey, Whole, Words


class ProviderConnection(Model):
    """One credential at one provider."""

    __tablename__ = "provider_connections"
    __table_args__ = (UniqueConstraint("provider", "account_ref"), Index(None, "provider"))

    id: Mapped[TextKey]
    provider: Mapped[Words]
    auth_type: Mapped[Words]
    name: Mapped[Words]
    email: Mapped[Words | None]
    account_ref: Mapped[Words | None]
    priority: Mapped[Whole] = mapped_column(server_default=ONE)
    is_active: Mapped[Flag] = mapped_column(server_default=ONE)
    group_name: Mapped[Words | None]
    default_model: Mapped[Words | None]
    api_key_enc: Mapped[Words | None]
    access_token_enc: Mapped[Words | None]
    refresh_token_enc: Mapped[Words | None]
    extra_secret_enc: Mapped[Words | None]
    token_expires_at: Mapped[Epoch | None]
    refresh_lease_until: Mapped[Epoch | None]
    provider_data_json: Mapped[Words | None]
    max_concurrent: Mapped[Whole | None]
    requests_per_minute: Mapped[Whole | None]
    min_gap_ms: Mapped[Whole | None]
    quota_cutoffs_json: Mapped[Words | None]
    proxy_enabled: Mapped[Flag] = mapped_column(server_default=ZERO)
    terms_accepted_at: Mapped[Epoch | None]
    test_status: Mapped[Words] = mapped_column(server_default="untested")
    last_error_json: Mapped[Words | None]
    last_tested_at: Mapped[Epoch | None]
    last_used_at: Mapped[Epoch | None]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class ProviderNode(Model):
    """A self-defined endpoint."""

    __tablename__ = "provider_nodes"

    id: Mapped[TextKey]
    name: Mapped[Words]
    prefix: Mapped[Words] = mapped_column(unique=True)
    type: Mapped[Words]
    api_type: Mapped[Words | None]
    base_url: Mapped[Words]
    chat_path: Mapped[Words | None]
    models_path: Mapped[Words | None]
    custom_headers_enc: Mapped[Words | None]
    is_local: Mapped[Flag] = mapped_column(server_default=ZERO)
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class ProviderSetting(Model):
    """What the operator chose for a provider as a whole."""

    __tablename__ = "provider_settings"

    provider: Mapped[TextKey]
    account_strategy: Mapped[Words | None]
    sticky_limit: Mapped[Whole | None]
    blocked: Mapped[Flag] = mapped_column(server_default=ZERO)
    param_filters_json: Mapped[Words | None]
    auto_sync_models: Mapped[Flag] = mapped_column(server_default=ONE)
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class Combo(Model):
    """Ordered targets with a strategy. The table exists from the first schema on: imports are checked against it."""

    __tablename__ = "combos"

    id: Mapped[TextKey]
    name: Mapped[Words] = mapped_column(unique=True)
    description: Mapped[Words | None]
    strategy: Mapped[Words]
    steps_json: Mapped[Words]
    config_json: Mapped[Words | None]
    system_message: Mapped[Words | None]
    tool_filter_regex: Mapped[Words | None]
    context_cache_protection: Mapped[Flag] = mapped_column(server_default=ZERO)
    allowed_providers_json: Mapped[Words | None]
    allowed_families_json: Mapped[Words | None]
    context_length: Mapped[Whole | None]
    is_active: Mapped[Flag] = mapped_column(server_default=ONE)
    is_default: Mapped[Flag] = mapped_column(server_default=ZERO)
    sort_order: Mapped[Whole] = mapped_column(server_default=ZERO)
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class Setting(Model):
    """One run-time setting."""

    __tablename__ = "settings"

    section: Mapped[TextKey]
    name: Mapped[TextKey]
    value_json: Mapped[Words]
    changed_by: Mapped[Words | None]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class ModelAlias(Model):
    """Another name for a model, a combo or a channel: exact, or a pattern with `*` and `?`."""

    __tablename__ = "model_aliases"

    id: Mapped[TextKey]
    pattern: Mapped[Words] = mapped_column(unique=True)
    target: Mapped[Words]
    priority: Mapped[Whole] = mapped_column(server_default=ZERO)
    enabled: Mapped[Flag] = mapped_column(server_default=ONE)
    hit_count: Mapped[Whole] = mapped_column(server_default=ZERO)
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class ComboPattern(Model):
    """Model names that lead to a combo."""

    __tablename__ = "combo_patterns"
    __table_args__ = (Index(None, "combo_id"),)

    id: Mapped[TextKey]
    pattern: Mapped[Words]
    combo_id: Mapped[Words]
    priority: Mapped[Whole] = mapped_column(server_default=ZERO)
    enabled: Mapped[Flag] = mapped_column(server_default=ONE)
    description: Mapped[Words | None]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class FallbackChain(Model):
    """Names to try when the targets of a request are exhausted."""

    __tablename__ = "fallback_chains"

    id: Mapped[TextKey]
    name: Mapped[Words] = mapped_column(unique=True)
    models_json: Mapped[Words]
    match_json: Mapped[Words]
    sort_order: Mapped[Whole] = mapped_column(server_default=ZERO)
    enabled: Mapped[Flag] = mapped_column(server_default=ONE)
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class AutoChannel(Model):
    """How an `auto` channel is tuned, for everybody (`api_key_id` is '') or for one API key."""

    __tablename__ = "auto_channels"

    channel: Mapped[TextKey]
    api_key_id: Mapped[TextKey]
    weights_json: Mapped[Words | None]
    exploration: Mapped[Real | None]
    exclusions_json: Mapped[Words | None]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]

"""Tables that management adds: models by hand and from providers, outbound proxies, address rules, long jobs."""

from __future__ import annotations

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from omniroute.storage.models.base import ONE, ZERO, Epoch, Flag, Model, Real, TextKey, Whole, Words


class CustomModel(Model):
    """A model that the operator declared for a provider or a node."""

    __tablename__ = "custom_models"

    provider: Mapped[TextKey]
    model_id: Mapped[TextKey]
    name: Mapped[Words | None]
    kind: Mapped[Words | None]
    api_format: Mapped[Words | None]
    context_length: Mapped[Whole | None]
    max_output: Mapped[Whole | None]
    capabilities_json: Mapped[Words | None]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class DiscoveredModel(Model):
    """A model that a provider listed for one connection."""

    __tablename__ = "discovered_models"

    provider: Mapped[TextKey]
    connection_id: Mapped[TextKey]
    model_id: Mapped[TextKey]
    name: Mapped[Words | None]
    kind: Mapped[Words | None]
    context_length: Mapped[Whole | None]
    max_output: Mapped[Whole | None]
    capabilities_json: Mapped[Words | None]
    price_json: Mapped[Words | None]
    first_seen_at: Mapped[Epoch]
    last_seen_at: Mapped[Epoch]


class ModelOverride(Model):
    """What the operator says about a model, whatever anybody else says."""

    __tablename__ = "model_overrides"

    provider: Mapped[TextKey]
    model_id: Mapped[TextKey]
    is_hidden: Mapped[Flag] = mapped_column(server_default=ZERO)
    context_length: Mapped[Whole | None]
    max_output: Mapped[Whole | None]
    capabilities_json: Mapped[Words | None]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class ModelSync(Model):
    """When the model list of a connection was last read, and how that went."""

    __tablename__ = "model_syncs"

    connection_id: Mapped[TextKey]
    provider: Mapped[Words]
    synced_at: Mapped[Epoch | None]
    tried_at: Mapped[Epoch]
    found: Mapped[Whole | None]
    error: Mapped[Words | None]


class Proxy(Model):
    """An outbound proxy."""

    __tablename__ = "proxies"

    id: Mapped[TextKey]
    name: Mapped[Words] = mapped_column(unique=True)
    type: Mapped[Words]
    host: Mapped[Words]
    port: Mapped[Whole]
    username: Mapped[Words | None]
    password_enc: Mapped[Words | None]
    is_active: Mapped[Flag] = mapped_column(server_default=ONE)
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class ProxyBinding(Model):
    """Which proxy a level uses: `global` (id ''), or a provider, combo or key by its id."""

    __tablename__ = "proxy_bindings"
    __table_args__ = (Index(None, "proxy_id"),)

    level: Mapped[TextKey]
    level_id: Mapped[TextKey]
    proxy_id: Mapped[Words]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class IpRule(Model):
    """An address range that is let in, kept out, or kept out for a while."""

    __tablename__ = "ip_rules"
    __table_args__ = (UniqueConstraint("cidr", "kind"),)

    id: Mapped[TextKey]
    cidr: Mapped[Words]
    kind: Mapped[Words]
    reason: Mapped[Words | None]
    until: Mapped[Epoch | None]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]


class Job(Model):
    """Long work that a caller asked for and follows: its owner renews the lease while it runs."""

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "kind", "state"),)

    id: Mapped[TextKey]
    kind: Mapped[Words]
    state: Mapped[Words]
    progress: Mapped[Real | None]
    result_json: Mapped[Words | None]
    error: Mapped[Words | None]
    owner: Mapped[Words | None]
    lease_until: Mapped[Epoch | None]
    finished_at: Mapped[Epoch | None]
    created_at: Mapped[Epoch]
    updated_at: Mapped[Epoch]

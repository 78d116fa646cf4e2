"""What one process of the server is made of: built once by the factory, found through the application.

A plain holder: nothing here decides anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from flask import Flask, current_app

if TYPE_CHECKING:
    from omniroute.gateway.counting import Counting
    from omniroute.gateway.directory import Directories
    from omniroute.gateway.egress import Egress
    from omniroute.gateway.inference import Inference
    from omniroute.gateway.routing import Routing
    from omniroute.gateway.stored_responses import StoredResponses
    from omniroute.gateway.transport import RoutedTransport
    from omniroute.services.access import AccessControl
    from omniroute.services.access_tokens import AccessTokens
    from omniroute.services.aliases import Aliases, Hits
    from omniroute.services.analytics import Analytics
    from omniroute.services.arbiter import Arbiter
    from omniroute.services.audit import Audit
    from omniroute.services.backups import Backups
    from omniroute.services.body_capture import BodyCapture
    from omniroute.services.budgets import Budgets
    from omniroute.services.candidates import Candidates
    from omniroute.services.chains import Chains
    from omniroute.services.client_tools import ClientTools
    from omniroute.services.combo_reports import ComboReports
    from omniroute.services.combos import Combos
    from omniroute.services.configuration import Configuration
    from omniroute.services.connections import Connections
    from omniroute.services.custom_models import CustomModels
    from omniroute.services.database_care import DatabaseCare
    from omniroute.services.decisions import Decisions
    from omniroute.services.encryption_keys import EncryptionKeys
    from omniroute.services.exports import Exports
    from omniroute.services.health import Health
    from omniroute.services.imports import Imports
    from omniroute.services.in_flight import InFlight
    from omniroute.services.ip_filter import AddressGate, IpFilter
    from omniroute.services.jobs import Jobs
    from omniroute.services.key_limits import KeyLimits
    from omniroute.services.keys import Keys
    from omniroute.services.locked import LockedOut
    from omniroute.services.lockout import Lockout
    from omniroute.services.log_feed import LogFeed
    from omniroute.services.login import Login
    from omniroute.services.maintenance import Maintenance
    from omniroute.services.metrics import Metrics, NoMetrics
    from omniroute.services.model_catalog import ModelCatalog
    from omniroute.services.model_sync import ModelLists
    from omniroute.services.model_tests import ModelTests
    from omniroute.services.models import Models
    from omniroute.services.nodes import Nodes
    from omniroute.services.param_filters import ProviderFilters
    from omniroute.services.passwords import Passwords
    from omniroute.services.price_sync import PriceSync
    from omniroute.services.prices import Prices
    from omniroute.services.provider_imports import ProviderImports
    from omniroute.services.proxies import Proxies
    from omniroute.services.quotas import ProviderQuotas
    from omniroute.services.receipts import Receipts
    from omniroute.services.reconciliation import Reconciliation
    from omniroute.services.resilience import Resilience
    from omniroute.services.restore import Restore
    from omniroute.services.retention import Retention
    from omniroute.services.routing_settings import RoutingSettings
    from omniroute.services.secrets_at_start import ServerSecrets
    from omniroute.services.sessions import Sessions
    from omniroute.services.settings import RuntimeSettings, SettingsInForce
    from omniroute.services.telemetry import StickySessions, Telemetry
    from omniroute.services.together import Parts
    from omniroute.services.token_limits import TokenLimits
    from omniroute.services.translator import Translator
    from omniroute.services.translator_bench import Bench
    from omniroute.services.translator_history import History
    from omniroute.services.translator_send import ChatTester
    from omniroute.services.usage import Usage
    from omniroute.settings import Settings
    from omniroute.storage.database import Database
    from omniroute.storage.log_writer import LogWriter
    from omniroute.storage.snapshot import SnapshotHolder

_KEY: Final = "omniroute"


@dataclass(slots=True)
class Container:
    """The services of one application; see the fields."""

    settings: Settings
    secrets: ServerSecrets
    database: Database
    snapshots: SnapshotHolder
    request_log: LogWriter
    audit: Audit
    passwords: Passwords
    sessions: Sessions
    lockout: Lockout
    locked_out: LockedOut
    addresses: AddressGate
    ip_filter: IpFilter
    in_force: SettingsInForce
    runtime_settings: RuntimeSettings
    parts: Parts
    configuration: Configuration
    keys: Keys
    access: AccessControl
    access_tokens: AccessTokens
    connections: Connections
    provider_imports: ProviderImports
    provider_filters: ProviderFilters
    nodes: Nodes
    models: Models
    model_catalog: ModelCatalog
    model_lists: ModelLists
    model_tests: ModelTests
    custom_models: CustomModels
    directories: Directories
    routing: Routing
    combos: Combos
    combo_reports: ComboReports
    aliases: Aliases
    alias_hits: Hits
    chains: Chains
    candidates: Candidates
    routing_settings: RoutingSettings
    resilience: Resilience
    egress: Egress
    proxies: Proxies
    quotas: ProviderQuotas
    prices: Prices
    price_sync: PriceSync
    budgets: Budgets
    token_limits: TokenLimits
    key_limits: KeyLimits
    usage: Usage
    receipts: Receipts
    reconciliation: Reconciliation
    analytics: Analytics
    in_flight: InFlight
    jobs: Jobs
    retention: Retention
    body_capture: BodyCapture
    decisions: Decisions
    health: Health
    telemetry: Telemetry
    sticky_sessions: StickySessions
    log_feed: LogFeed
    database_care: DatabaseCare
    arbiter: Arbiter
    backups: Backups
    restore: Restore
    imports: Imports
    exports: Exports
    encryption_keys: EncryptionKeys
    maintenance: Maintenance
    inference: Inference
    counting: Counting
    stored_responses: StoredResponses
    transport: RoutedTransport
    metrics: Metrics | NoMetrics
    login: Login
    translator: Translator
    chat_tester: ChatTester
    bench: Bench
    translator_history: History
    client_tools: ClientTools


def container() -> Container:
    """Return the container of the application that handles the current request."""
    return cast("Container", current_app.extensions[_KEY])


def container_of(app: Flask) -> Container:
    """Return the container of an application."""
    return cast("Container", app.extensions[_KEY])


def attach(app: Flask, own: Container) -> None:
    """Make a container found through its application."""
    app.extensions[_KEY] = own

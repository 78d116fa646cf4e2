"""The tables, declared once for SQLAlchemy and compared with the migrations by a test.

Belongs here: columns, keys, indexes. Must not be here: statements, conversions, behaviour.

Types are chosen so that both databases hold the same values: text, 64-bit integers, double precision for epoch
seconds, 0/1 for booleans, JSON as text (suffix `_json`), ciphertext as text (`_enc`), digests as bytes (`_hash`).
"""

from __future__ import annotations

from omniroute.storage.models import access, configuration, conversations, management, money, state, traffic
from omniroute.storage.models.access import (
    AccessToken,
    ApiKey,
    AuditLog,
    Credential,
    DashboardSession,
    LoginAttempt,
)
from omniroute.storage.models.configuration import (
    AutoChannel,
    Combo,
    ComboPattern,
    FallbackChain,
    ModelAlias,
    ProviderConnection,
    ProviderNode,
    ProviderSetting,
    Setting,
)
from omniroute.storage.models.conversations import IssuedResponse, ResponseOrigin
from omniroute.storage.models.management import (
    CustomModel,
    DiscoveredModel,
    IpRule,
    Job,
    ModelOverride,
    ModelSync,
    Proxy,
    ProxyBinding,
)
from omniroute.storage.models.money import (
    Budget,
    BudgetLedger,
    LimitUsage,
    Price,
    QuotaSnapshot,
    Reservation,
    TokenLimit,
)
from omniroute.storage.models.state import (
    Claim,
    ConfigVersion,
    HealthState,
    JobRun,
    Pacing,
    RoutingCounter,
    SchemaVersion,
    SessionBinding,
    Slot,
)
from omniroute.storage.models.traffic import Decision, RequestLog, UsageDaily, UsageHourly, UsageMonthly

__all__ = [
    "AccessToken",
    "ApiKey",
    "AuditLog",
    "AutoChannel",
    "Budget",
    "BudgetLedger",
    "Claim",
    "Combo",
    "ComboPattern",
    "ConfigVersion",
    "Credential",
    "CustomModel",
    "DashboardSession",
    "Decision",
    "DiscoveredModel",
    "FallbackChain",
    "HealthState",
    "IpRule",
    "IssuedResponse",
    "Job",
    "JobRun",
    "LimitUsage",
    "LoginAttempt",
    "ModelAlias",
    "ModelOverride",
    "ModelSync",
    "Pacing",
    "Price",
    "ProviderConnection",
    "ProviderNode",
    "ProviderSetting",
    "Proxy",
    "ProxyBinding",
    "QuotaSnapshot",
    "RequestLog",
    "Reservation",
    "ResponseOrigin",
    "RoutingCounter",
    "SchemaVersion",
    "SessionBinding",
    "Setting",
    "Slot",
    "TokenLimit",
    "UsageDaily",
    "UsageHourly",
    "UsageMonthly",
    "access",
    "configuration",
    "conversations",
    "management",
    "money",
    "state",
    "traffic",
]

"""The values that storage hands out and every ring may hold: plain, no behaviour. Known to all, knows nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from omniroute.secret import Secret


class AuthType(StrEnum):
    """How a connection authenticates at its provider."""

    API_KEY = "apikey"
    NONE = "none"


class NodeType(StrEnum):
    """Protocol of a self-defined endpoint."""

    OPENAI = "openai-compatible"
    ANTHROPIC = "anthropic-compatible"
    GEMINI = "gemini-compatible"
    OLLAMA = "ollama"


@dataclass(frozen=True, slots=True)
class Connection:
    """One credential at one provider. Lower `priority` is tried first; equal ones by creation."""

    id: str
    provider: str
    """Provider id of the catalogue, or the id of a node (`node_…`)."""
    auth_type: AuthType
    name: str
    priority: int
    is_active: bool
    credential: Secret | None
    """The decrypted API key; None for `AuthType.NONE` and when it could not be opened (`is_unreadable`)."""
    is_unreadable: bool = False
    default_model: str | None = None
    group_name: str | None = None
    max_concurrent: int | None = None
    requests_per_minute: int | None = None
    min_gap_ms: int | None = None
    quota_cutoffs: Mapping[str, float] = field(default_factory=dict)
    """Percentage of a quota window, by its name, from which on the connection is left alone until the reset."""
    proxy_enabled: bool = True
    """Whether it uses the proxy of its provider, of the global level or of the environment."""
    provider_data: Mapping[str, Any] = field(default_factory=dict)
    test_status: str = "untested"
    """`untested`, `ok` or `error`: what the last test found."""
    last_error: Mapping[str, Any] | None = None
    """`{"code", "message", "at"}` of the last failed test."""
    last_tested_at: float | None = None
    last_used_at: float | None = None
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Node:
    """A self-defined endpoint; its id acts as a provider id, its prefix as a model prefix."""

    id: str
    name: str
    prefix: str
    type: NodeType
    base_url: str
    api_type: str | None = None
    chat_path: str | None = None
    models_path: str | None = None
    custom_headers: Mapping[str, Secret] = field(default_factory=dict)
    is_local: bool = False
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class RateRule:
    """At most `limit` requests in any `window_seconds`."""

    limit: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class AccessSchedule:
    """When a key may be used. Days: 0 is Monday. `start`/`end` are "HH:MM" in `tz`; a window may cross midnight."""

    enabled: bool
    start: str
    end: str
    days: tuple[int, ...]
    tz: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An inference key. Empty lists do not restrict. Times are epoch seconds."""

    id: str
    name: str
    key_id: str
    """The 12 characters after `sk-`."""
    key_hash: bytes
    key_prefix: str
    key_last4: str
    scopes: frozenset[str] = frozenset()
    allowed_models: tuple[str, ...] = ()
    blocked_models: tuple[str, ...] = ()
    allowed_combos: tuple[str, ...] = ()
    allowed_connections: tuple[str, ...] = ()
    allowed_endpoints: tuple[str, ...] = ()
    ip_allowlist: tuple[str, ...] = ()
    schedule: AccessSchedule | None = None
    rate_limits: tuple[RateRule, ...] = ()
    max_concurrent: int | None = None
    max_sessions: int | None = None
    throttle_delay_ms: int | None = None
    no_log: bool = False
    stream_default: str = "request"
    hide_paid_models: bool = False
    is_canary: bool = False
    is_active: bool = True
    is_banned: bool = False
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    previous_hash: bytes | None = None
    previous_until: float | None = None
    disabled_guardrails: tuple[str, ...] = ()
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ComboStep:
    """One step of a combo: a model, another combo, or an `auto` channel; `kind` says which of the names counts.

    Attributes:
        kind: `model`, `combo-ref` or `auto`.
        model: any model name; it is resolved when a request comes.
        provider: the provider to ask, where the name alone does not say; None otherwise.
        connection_id: the only connection that may serve the step; None for all of its provider.
        weight: 0 to 100.
    """

    id: str
    kind: str = "model"
    model: str = ""
    provider: str | None = None
    connection_id: str | None = None
    combo_name: str = ""
    channel: str = ""
    weight: float = 1.0
    label: str | None = None
    tags: tuple[str, ...] = ()
    prompt: str | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Combo:
    """Ordered steps with a strategy, under a name that clients use as a model."""

    id: str
    name: str
    strategy: str = "priority"
    steps: tuple[ComboStep, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    """The settings that it sets itself, under the names of `routing/config.py`."""
    description: str | None = None
    system_message: str | None = None
    tool_filter_regex: str | None = None
    context_cache_protection: bool = False
    allowed_providers: tuple[str, ...] = ()
    allowed_families: tuple[str, ...] = ()
    context_length: int | None = None
    is_active: bool = True
    is_default: bool = False
    sort_order: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelAlias:
    """Another name, exact or with `*` and `?`, for a model name, `combo/<name>` or an `auto` channel."""

    id: str
    pattern: str
    target: str
    priority: int = 0
    enabled: bool = True
    hit_count: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ComboPattern:
    """Model names that lead to a combo."""

    id: str
    pattern: str
    combo_id: str
    priority: int = 0
    enabled: bool = True
    description: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class FallbackChain:
    """Names to try when a request's own targets are exhausted; `match` holds globs on the requested name."""

    id: str
    name: str
    models: tuple[str, ...]
    match: tuple[str, ...] = ("*",)
    order: int = 0
    enabled: bool = True
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class CustomModel:
    """A model that the operator declared for a provider or node.

    Attributes:
        kind: what it does, as in the model lists: `chat`, `embedding`, ….
        api_format: the only format in which it is served; None for all that its provider speaks.
        able, unable: capabilities that it is said to have, and to lack.
    """

    provider: str
    model_id: str
    name: str | None = None
    kind: str = "chat"
    api_format: str | None = None
    context_length: int | None = None
    max_output: int | None = None
    able: frozenset[str] = frozenset()
    unable: frozenset[str] = frozenset()
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class DiscoveredModel:
    """A model as a provider's own list has it. What the list does not say is None or empty.

    Attributes:
        able, unable: capabilities that it is said to have, and to lack.
        input: kinds of content that it takes.
        prices: decimal text in USD by the names of a price row.
    """

    model_id: str
    name: str | None = None
    kind: str | None = None
    context_length: int | None = None
    max_output: int | None = None
    able: frozenset[str] = frozenset()
    unable: frozenset[str] = frozenset()
    input: tuple[str, ...] = ()
    prices: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DiscoveredList:
    """The models that a provider listed for one connection when it was last asked with success."""

    connection_id: str
    provider: str
    synced_at: float
    models: tuple[DiscoveredModel, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSync:
    """How the last reading of a connection's model list went; `error` is None when it went well."""

    connection_id: str
    provider: str
    tried_at: float
    synced_at: float | None = None
    found: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ModelOverride:
    """What the operator says about a model, whatever anybody else says; None and empty leave it to the others."""

    provider: str
    model_id: str
    is_hidden: bool = False
    context_length: int | None = None
    max_output: int | None = None
    able: frozenset[str] = frozenset()
    unable: frozenset[str] = frozenset()
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        stated = self.context_length, self.max_output
        return not (self.is_hidden or self.able or self.unable) and all(value is None for value in stated)


@dataclass(frozen=True, slots=True)
class ProviderRouting:
    """What the operator chose for a provider as a whole; None leaves it to the global setting."""

    provider: str
    account_strategy: str | None = None
    sticky_limit: int | None = None
    is_blocked: bool = False


@dataclass(frozen=True, slots=True)
class ParamFilters:
    """What is taken out of requests to a provider (`strip`) and what is set in them (`force`), by dotted name."""

    strip: tuple[str, ...] = ()
    force: Mapping[str, Any] = field(default_factory=dict)


class ProxyType(StrEnum):
    """How an outbound proxy is spoken to."""

    HTTP = "http"
    HTTPS = "https"
    SOCKS5 = "socks5"
    SOCKS5H = "socks5h"
    """The same, with names looked up by the proxy."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An outbound proxy: stored, or read from the environment. One without a name of its own has its id as name."""

    id: str
    name: str
    type: ProxyType
    host: str
    port: int
    username: str | None = None
    password: Secret | None = None
    is_active: bool = True
    is_unreadable: bool = False
    """Its stored password cannot be opened with the present encryption key."""
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def is_named(self) -> bool:
        """Whether the operator gave it a name, so that several levels may refer to it."""
        return self.name != self.id


class ProxyLevel(StrEnum):
    """What a proxy is chosen for; the first level that has one counts."""

    KEY = "key"
    COMBO = "combo"
    PROVIDER = "provider"
    GLOBAL = "global"
    ENVIRONMENT = "environment"
    """Nothing is bound to it: it is what the server was started with."""


@dataclass(frozen=True, slots=True)
class ProxyBinding:
    """Which proxy a level uses. `level_id`: of the key, combo, provider or node; "" of the global level."""

    level: ProxyLevel
    level_id: str
    proxy_id: str


@dataclass(frozen=True, slots=True)
class ChannelTuning:
    """How an `auto` channel is tuned, for everybody (`api_key_id` is "") or for one API key."""

    channel: str
    api_key_id: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    exploration: float | None = None
    excluded_providers: tuple[str, ...] = ()
    excluded_models: tuple[str, ...] = ()
    excluded_families: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """A dashboard session as the guard needs it."""

    session_hash: bytes
    expires_at: float
    created_at: float
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A management token, without its secret.

    Attributes:
        prefix: how the secret begins, as lists show it.
        scope: `read`, `write` or `admin`.
    """

    id: str
    name: str
    token_hash: bytes
    prefix: str
    scope: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None


@dataclass(frozen=True, slots=True)
class PriceStep:
    """Prices once a prompt has more than `above` tokens: they hold for all of it."""

    above: int
    input: str | None = None
    output: str | None = None
    cache_read: str | None = None
    cache_write: str | None = None


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A stored price: decimal text in USD, per million tokens or characters, or per one of what the field names."""

    provider: str
    """Provider or node id."""
    model: str
    source: str
    """`override` or `import`."""
    valid_from: float
    updated_at: float
    input: str | None = None
    output: str | None = None
    cache_read: str | None = None
    cache_write: str | None = None
    cache_write_1h: str | None = None
    reasoning: str | None = None
    audio_input: str | None = None
    audio_output: str | None = None
    per_request: str | None = None
    per_image: str | None = None
    per_second: str | None = None
    per_character: str | None = None
    tiers: tuple[PriceStep, ...] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True)
class IpRule:
    """A range of addresses on one of the lists of the address filter, or banned for a while."""

    id: str
    cidr: str
    kind: str
    """`allow`, `block` or `ban`."""
    reason: str | None = None
    until: float | None = None
    """When a ban ends."""
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a scope may spend in a period."""

    scope_id: str
    period: str
    """`daily`, `weekly` or `monthly`."""
    limit_nano_usd: int
    warning_threshold: float = 0.8
    reset_time: str = "00:00"
    time_zone: str = "UTC"
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """How many tokens a scope may use in a period, of everything, of a provider's models, or of one model."""

    id: str
    scope_id: str
    scope_type: str
    """`global`, `provider` or `model`."""
    scope_value: str | None
    token_limit: int
    period: str
    enabled: bool = True
    created_at: float = 0.0
    updated_at: float = 0.0


CREDIT_UNITS: Final = frozenset({"usd", "cny", "credits", "points"})
"""What credit is counted in."""


@dataclass(frozen=True, slots=True)
class GrantWindow:
    """How much of a provider's grant is used, as one reading says. What the reading does not say is None.

    Attributes:
        name: the provider's word where it has one: `5h`, `7d_opus`, `primary`; else `requests/day`, `credits`, ….
        used: fraction; above 1 only where the provider says so.
        limit, remaining: in `unit`: `requests`, `tokens`, `usd`, `credits`, ….
        length_s, resets_at: how long it is, and when it begins anew (epoch seconds). Credit has neither.
        family: the family of models, or the one model, that it is about; None for all.
        is_open: it is used up and the provider serves all the same, out of something else.
    """

    name: str
    used: float | None = None
    limit: float | None = None
    remaining: float | None = None
    unit: str | None = None
    length_s: float | None = None
    resets_at: float | None = None
    family: str | None = None
    is_open: bool = False

    @property
    def is_credit(self) -> bool:
        """Whether it is money or points that last until they are spent, rather than a grant that comes again."""
        return self.unit in CREDIT_UNITS and self.resets_at is None and self.length_s is None

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left."""
        if self.used is not None:
            return self.used >= 1.0
        return self.remaining is not None and self.remaining <= 0


@dataclass(frozen=True, slots=True)
class QuotaReading:
    """One reading of one window of a connection."""

    connection_id: str
    window: GrantWindow
    fetched_at: float
    source: str
    """`headers` or `endpoint`."""
    plan: str | None = None


class JobState(StrEnum):
    """How far long work is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class LongJob:
    """Work that a caller asked for and follows."""

    id: str
    kind: str
    state: JobState
    created_at: float
    progress: float | None = None
    """From 0 to 1; None while nobody can say."""
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    """`{"code", "message"}` of one that failed."""
    owner: str | None = None
    lease_until: float | None = None
    """Until when its worker is believed to live; renewed while it does."""
    finished_at: float | None = None
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that requests read, at one configuration version. Immutable; replaced whole."""

    version: int
    connections: tuple[Connection, ...] = ()
    nodes: tuple[Node, ...] = ()
    keys: tuple[ApiKey, ...] = ()
    keys_by_hash: Mapping[bytes, ApiKey] = field(default_factory=dict)
    """SHA-256 digest (32 bytes) of a whole key, also of a previous key in its grace time, to its row."""
    sessions: Mapping[bytes, Session] = field(default_factory=dict)
    access_tokens: Mapping[bytes, AccessToken] = field(default_factory=dict)
    """SHA-256 digest of a whole token to its row, those that have ended included: their refusal says so."""
    settings: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    """Stored run-time settings by (section, name)."""
    combos: tuple[Combo, ...] = ()
    """In their stored order, inactive ones included."""
    aliases: tuple[ModelAlias, ...] = ()
    combo_patterns: tuple[ComboPattern, ...] = ()
    chains: tuple[FallbackChain, ...] = ()
    """In the order in which they are looked at."""
    provider_routing: Mapping[str, ProviderRouting] = field(default_factory=dict)
    """By provider id."""
    param_filters: Mapping[str, ParamFilters] = field(default_factory=dict)
    """By provider id; providers without any are left out."""
    proxies: tuple[Proxy, ...] = ()
    proxy_bindings: tuple[ProxyBinding, ...] = ()
    channels: tuple[ChannelTuning, ...] = ()
    prices: tuple[PriceRow, ...] = ()
    """Those of operators and of imported lists; what is built in is not among them."""
    custom_models: tuple[CustomModel, ...] = ()
    discovered: Mapping[str, DiscoveredList] = field(default_factory=dict)
    """By connection id; a connection whose list was never read has no entry."""
    model_overrides: tuple[ModelOverride, ...] = ()
    ip_rules: tuple[IpRule, ...] = ()
    budgets: Mapping[str, tuple[Budget, ...]] = field(default_factory=dict)
    """By scope: a key's id, `local`, or `*` for all together."""
    token_limits: Mapping[str, tuple[TokenLimit, ...]] = field(default_factory=dict)
    """By scope as well; disabled ones are left out."""
    has_password: bool = False


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try of one target, as the request log keeps it. Times in milliseconds since the request began."""

    provider: str
    connection_id: str
    model: str
    status: int | None
    failure_class: str | None
    """None for the attempt that served."""
    kind: str | None
    started_ms: float
    connected_ms: float | None
    first_content_ms: float | None
    ended_ms: float


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """How a request was routed, as it is stored: `body` is the JSON document of `routing/decision.py`."""

    policy_hash: str
    seed: int
    body: bytes


@dataclass(frozen=True, slots=True)
class ChargePart:
    """One line of a bill: so many of something at a rate. Whole numbers throughout."""

    name: str
    """`input`, `output`, `cache_read`, `cache_write`, `cache_write_1h`, `reasoning`, `audio_in`, …"""
    count: int
    rate: int
    """Nano-USD per million of it."""
    nano_usd: int
    """Rounded for display; the charge is the sum before rounding, rounded once."""
    is_estimated: bool = False


@dataclass(frozen=True, slots=True)
class Charge:
    """What one attempt of a request cost."""

    kind: str
    """`normal`, `retry`, `hedge`, `probe` or `continuation`."""
    provider: str
    model: str
    cost_kind: str
    """`billed`, `subscription`, `free`, `cache` or `unpriced`."""
    nano_usd: int | None
    """None where the price is not known."""
    price_id: str | None = None
    price_source: str | None = None
    """`override`, `provider`, `import` or `builtin`."""
    parts: tuple[ChargePart, ...] = ()
    is_serving: bool = True
    """Its answer is the one that the client got."""
    upstream_id: str | None = None
    """What the provider calls the request; its bill may name it."""


@dataclass(slots=True)
class RequestRecord:
    """One settled request: exactly one row of `request_log`. Token counts are None when not reported."""

    request_id: str
    time: float
    endpoint: str
    client_format: str
    requested_model: str
    status: int = 0
    outcome: str = "failed"
    """`success`, `failed`, `cancelled` or `truncated`."""
    upstream_format: str | None = None
    model: str | None = None
    provider: str | None = None
    connection_id: str | None = None
    combo_id: str | None = None
    step_id: str | None = None
    api_key_id: str | None = None
    error_code: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    cost_nano_usd: int | None = None
    """What the attempt that served cost; None where its price is not known."""
    cost_kind: str = "unpriced"
    """See :class:`Charge`; also `none` (cost 0) where no provider has answered."""
    extra_nano_usd: int = 0
    """Billed for attempts that did not serve."""
    price_id: str | None = None
    is_estimated: bool = False
    """At least one token count is ours, because the provider gave none."""
    charges: tuple[Charge, ...] = ()
    cache: str = "bypass"
    duration_ms: float = 0.0
    ttft_ms: float | None = None
    attempts: tuple[AttemptRecord, ...] = ()
    tag: str | None = None
    session_hash: str | None = None
    stream: bool = False
    bytes_in: int = 0
    bytes_out: int = 0
    kind: str = "request"
    """`request`, or `test` for connection tests, which stay out of usage."""
    decision: DecisionRecord | None = None
    """How it was routed; None for what is not routed."""

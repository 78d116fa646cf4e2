"""The table of what can be changed while the server runs: where it stands, what it takes, and who may change it.

A row that names a field of :class:`omniroute.settings.Settings` can also be set by that field's variable, which then
fixes it; its default is the field's. Values are stored by section and name; a name stands in one section only, so that
it may also be given alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from omniroute.formats.canonical import Effort
from omniroute.services.budgets import is_zone
from omniroute.services.models import Naming
from omniroute.settings import Variable, cron_of, variables


class Tab(StrEnum):
    """The tabs of the settings whose values are rows of this table."""

    GENERAL = "general"
    APPEARANCE = "appearance"
    AI = "ai"
    SECURITY = "security"
    ADVANCED = "advanced"


LANGUAGES: Final = ("en", "de", "es", "fr", "ja", "nl", "pt-BR", "zh-Hans")
"""Languages of the dashboard, as BCP 47 tags."""

FLAGS: Final = "flags"
"""The section of the feature flags."""


class Kind(StrEnum):
    """What a value is."""

    FLAG = "boolean"
    WHOLE = "integer"
    TEXT = "text"
    LONG_TEXT = "multiline"
    WORD = "choice"
    WORDS = "list"
    ZONE = "timezone"
    CRON = "cron"


class ThinkingMode(StrEnum):
    """What is asked of models about reasoning in place of what the caller says."""

    PASSTHROUGH = "passthrough"
    """Nothing: the caller's words go on."""
    AUTO = "auto"
    """Nothing is said: the model decides."""
    CUSTOM = "custom"
    """The same amount for every request."""
    ADAPTIVE = "adaptive"
    """More for harder requests."""


class PromptPosition(StrEnum):
    """Where the server's system prompt stands beside the caller's."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Definition:
    """One setting.

    Attributes:
        default: what holds when nobody has chosen; with a `field` it is the field's.
        minimum, maximum: of a whole number; for texts `maximum` is the most characters, for lists the most entries.
        field: the field of `Settings` whose variable fixes it.
        is_security: only an admin changes it.
        is_read_only: it is changed elsewhere, as the description says.
        only_tightens: the variable fixes the setting only while it is true.
    """

    section: str
    name: str
    kind: Kind
    description: str
    default: Any = None
    minimum: int = 0
    maximum: int = 200
    choices: tuple[str, ...] = ()
    field: str | None = None
    is_security: bool = False
    is_read_only: bool = False
    only_tightens: bool = False
    needs_restart: bool = False

    @property
    def path(self) -> str:
        """Section and name."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> Variable | None:
        """The variable that fixes it."""
        return None if self.field is None else _VARIABLES[self.field]

    @property
    def takes(self) -> str:
        """What values it takes, in words."""
        match self.kind:
            case Kind.FLAG:
                return "true or false"
            case Kind.WHOLE:
                return f"a whole number from {self.minimum} to {self.maximum}"
            case Kind.TEXT:
                return f"one line of at most {self.maximum} characters"
            case Kind.LONG_TEXT:
                return f"text of at most {self.maximum} characters"
            case Kind.WORD:
                return f"one of {', '.join(self.choices)}"
            case Kind.WORDS:
                return f"a list of at most {self.maximum} different texts"
            case Kind.ZONE:
                return "the name of a time zone, such as Europe/Berlin"
            case Kind.CRON:
                return "five fields of cron, such as 0 3 * * *, or off"

    def fits(self, value: Any) -> bool:
        """Say whether a value other than null is one of this setting."""
        match self.kind:
            case Kind.FLAG:
                return isinstance(value, bool)
            case Kind.WHOLE:
                return isinstance(value, int) and not isinstance(value, bool) and self.minimum <= value <= self.maximum
            case Kind.TEXT:
                return isinstance(value, str) and len(value) <= self.maximum and value.isprintable()
            case Kind.LONG_TEXT:
                return isinstance(value, str) and len(value) <= self.maximum and _is_storable(value)
            case Kind.WORD:
                return isinstance(value, str) and value in self.choices
            case Kind.WORDS:
                return (
                    isinstance(value, list | tuple)
                    and len(value) <= self.maximum
                    and all(isinstance(word, str) and 0 < len(word) <= _LONGEST_WORD for word in value)
                    and all(word.isprintable() for word in value)
                    and len(set(value)) == len(value)
                )
            case Kind.ZONE:
                return isinstance(value, str) and is_zone(value)
            case Kind.CRON:
                return isinstance(value, str) and is_cron(value)


_LONGEST_WORD: Final = 300
_VARIABLES: Final = variables()
_DAY_MS: Final = 86_400_000
_MOST_DAYS: Final = 36_500
_EFFORTS: Final = tuple(effort.value for effort in Effort)


def is_cron(text: str) -> bool:
    """Say whether a text is a schedule of five fields, or says that there is none."""
    try:
        cron_of(text)
    except ValueError:
        return False
    return True


def _is_storable(text: str) -> bool:
    return all(character.isprintable() or character in "\n\t" for character in text.replace("\r\n", "\n"))


def _milliseconds(name: str, field: str, description: str, *, minimum: int = 1, maximum: int = _DAY_MS) -> Definition:
    return Definition(Tab.ADVANCED, name, Kind.WHOLE, description, minimum=minimum, maximum=maximum, field=field)


def _days(name: str, field: str, description: str) -> Definition:
    return Definition(Tab.GENERAL, name, Kind.WHOLE, description, minimum=1, maximum=_MOST_DAYS, field=field)


def _flag(name: str, description: str, *, default: bool = False, **more: Any) -> Definition:
    return Definition(FLAGS, name, Kind.FLAG, description, default, **more)


_ROWS: Final = (
    Definition(
        Tab.GENERAL,
        "instanceName",
        Kind.TEXT,
        "Name of this server in page headers.",
        maximum=100,
        field="instance_name",
    ),
    Definition(
        Tab.GENERAL,
        "modelPrefix",
        Kind.WORD,
        "What stands before the slash in model lists unless the query says otherwise: the provider's short name, its "
        "id, or both in turn.",
        Naming.ALIAS.value,
        choices=tuple(Naming),
    ),
    Definition(
        Tab.GENERAL, "timeZone", Kind.ZONE, "Time zone in which the days of new budgets begin unless they say.", "UTC"
    ),
    _days("callLogRetentionDays", "call_log_retention_days", "Age at which a row of the request log is deleted."),
    Definition(
        Tab.GENERAL,
        "callLogMaxRows",
        Kind.WHOLE,
        "Rows of the request log that are kept.",
        minimum=1,
        maximum=1_000_000_000,
        field="call_log_max_rows",
    ),
    _days("usageHourlyRetentionDays", "usage_hourly_retention_days", "Age at which sums by hour are deleted."),
    _days("usageDailyRetentionDays", "usage_daily_retention_days", "Age at which sums by day are deleted."),
    _days("auditRetentionDays", "audit_retention_days", "Age at which an audit row is deleted."),
    Definition(
        Tab.APPEARANCE,
        "theme",
        Kind.WORD,
        "Colours of the dashboard for visitors who have not chosen.",
        "system",
        choices=("system", "light", "dark"),
    ),
    Definition(
        Tab.APPEARANCE,
        "language",
        Kind.WORD,
        "Language of the dashboard for visitors who have not chosen; auto: what their browser asks for.",
        "auto",
        choices=("auto", *LANGUAGES),
    ),
    Definition(
        Tab.APPEARANCE,
        "accent",
        Kind.WORD,
        "Colour of buttons, links and marks.",
        "blue",
        choices=("blue", "teal", "violet", "rose", "amber"),
    ),
    Definition(
        Tab.APPEARANCE,
        "density",
        Kind.WORD,
        "How much room rows and panels take.",
        "comfortable",
        choices=("comfortable", "compact"),
    ),
    Definition(
        Tab.APPEARANCE,
        "hiddenMenuItems",
        Kind.WORDS,
        "Names of pages that the menu leaves out; they stay reachable by address and search.",
        (),
        maximum=40,
    ),
    Definition(
        Tab.APPEARANCE,
        "blurEmails",
        Kind.FLAG,
        "Whether e-mail addresses of accounts are blurred until they are clicked.",
        True,
    ),
    Definition(
        Tab.APPEARANCE,
        "refreshIntervalSec",
        Kind.WHOLE,
        "How often a page fetches what changes; 0: only when it is loaded.",
        10,
        maximum=3600,
    ),
    Definition(
        Tab.AI,
        "thinkingMode",
        Kind.WORD,
        "What models are asked about reasoning: what the caller says (passthrough), nothing (auto), the same for every "
        "request (custom), or more for harder ones (adaptive).",
        ThinkingMode.PASSTHROUGH.value,
        choices=tuple(ThinkingMode),
    ),
    Definition(
        Tab.AI,
        "thinkingMaxTokens",
        Kind.WHOLE,
        "Tokens for reasoning: the amount (custom), or the most (adaptive).",
        maximum=1_000_000,
    ),
    Definition(
        Tab.AI,
        "thinkingEffort",
        Kind.WORD,
        "Effort of reasoning where no amount is given (custom), or that of an easy request (adaptive).",
        Effort.MEDIUM.value,
        choices=_EFFORTS,
    ),
    Definition(Tab.AI, "systemPromptEnabled", Kind.FLAG, "Whether the server's system prompt is added.", False),
    Definition(
        Tab.AI,
        "systemPromptPosition",
        Kind.WORD,
        "Where it stands beside the caller's.",
        PromptPosition.BEFORE.value,
        choices=tuple(PromptPosition),
    ),
    Definition(Tab.AI, "systemPromptText", Kind.LONG_TEXT, "The server's system prompt.", "", maximum=50_000),
    Definition(
        Tab.AI,
        "systemPromptModels",
        Kind.WORDS,
        "Names of models, with * and ?, to whose requests it is added, as callers spell them; empty for all.",
        (),
        maximum=100,
    ),
    Definition(
        Tab.AI,
        "contextLengthDefault",
        Kind.WHOLE,
        "Context window assumed for a model whose window nobody states.",
        minimum=1,
        maximum=100_000_000,
        field="context_length_default",
    ),
    Definition(
        Tab.SECURITY,
        "requireLogin",
        Kind.FLAG,
        "Whether management needs a credential. Changed at /api/settings/require-login, with the password.",
        True,
        is_security=True,
        is_read_only=True,
    ),
    Definition(
        Tab.SECURITY,
        "requireApiKey",
        Kind.FLAG,
        "Whether loopback callers need an API key too; others always do.",
        field="require_api_key",
        is_security=True,
        only_tightens=True,
    ),
    Definition(
        Tab.SECURITY,
        "requireApiKeyForModels",
        Kind.FLAG,
        "Whether loopback callers need an API key for lists of models.",
        False,
        is_security=True,
    ),
    Definition(
        Tab.SECURITY,
        "bruteForceProtection",
        Kind.FLAG,
        "Whether addresses are locked after failed logins; always so where others than this host reach the port.",
        True,
        is_security=True,
    ),
    Definition(
        Tab.ADVANCED,
        "logLevel",
        Kind.WORD,
        "Lowest level written to the log.",
        choices=("debug", "info", "warning", "error"),
        field="app_log_level",
    ),
    Definition(
        Tab.ADVANCED,
        "captureBodies",
        Kind.WORD,
        "Of which requests bodies are kept, to be seen with the request: of none (off), of those that failed (errors), "
        "or of all.",
        choices=("off", "errors", "all"),
        field="call_log_capture_bodies",
    ),
    Definition(
        Tab.ADVANCED,
        "requestTimeoutMs",
        Kind.WHOLE,
        "Whole request; replaces the total and idle limits.",
        minimum=1,
        maximum=_DAY_MS,
        field="request_timeout_ms",
    ),
    _milliseconds("connectTimeoutMs", "fetch_connect_timeout_ms", "Connecting to a provider, TLS included."),
    _milliseconds("headersTimeoutMs", "fetch_headers_timeout_ms", "Response headers of a streamed answer."),
    _milliseconds("answerTimeoutMs", "fetch_timeout_ms", "Answer that is not streamed."),
    _milliseconds("streamReadinessTimeoutMs", "stream_readiness_timeout_ms", "First content of a streamed answer."),
    _milliseconds(
        "streamReadinessMaxTimeoutMs",
        "stream_readiness_max_timeout_ms",
        "Bound of that wait for large requests, which get longer.",
    ),
    _milliseconds("streamIdleTimeoutMs", "stream_idle_timeout_ms", "Silence of a provider within a stream."),
    _milliseconds("streamTotalTimeoutMs", "stream_total_timeout_ms", "Whole stream."),
    _milliseconds(
        "streamCommitAfterMs",
        "stream_commit_after_ms",
        "Wait for content before the status line is sent without it; until then another connection can be tried.",
        minimum=0,
        maximum=30_000,
    ),
    _milliseconds(
        "sseHeartbeatMs",
        "sse_heartbeat_ms",
        "Silence after which a heartbeat is sent.",
        minimum=1000,
        maximum=60_000,
    ),
    Definition(
        Tab.ADVANCED,
        "providerLimitsSyncIntervalMinutes",
        Kind.WHOLE,
        "How often providers are asked what is left of quotas; 0: only when somebody wants to know.",
        maximum=10_080,
        field="provider_limits_sync_interval_minutes",
    ),
    Definition(
        Tab.ADVANCED,
        "modelSyncIntervalHours",
        Kind.WHOLE,
        "How often providers are asked for their model lists; 0: only when somebody wants to know.",
        maximum=8760,
        field="model_sync_interval_hours",
    ),
    Definition(
        Tab.ADVANCED,
        "backupCron",
        Kind.CRON,
        "When a snapshot of the database is made by itself, in the time zone of the server; off: never.",
        maximum=100,
        field="db_backup_cron",
    ),
    Definition(
        Tab.ADVANCED,
        "backupKeepLatest",
        Kind.WHOLE,
        "Snapshots that are kept.",
        minimum=1,
        field="db_backup_max_files",
    ),
    Definition(
        Tab.ADVANCED,
        "backupRetentionDays",
        Kind.WHOLE,
        "Age at which a snapshot is deleted; 0: by count only.",
        maximum=3650,
        field="db_backup_retention_days",
    ),
    _flag("sseComments", "Heartbeats and facts about an answer as comments of its stream.", field="sse_comments"),
    _flag("metrics", "Prometheus metrics at /metrics.", field="metrics", needs_restart=True),
    _flag("publicPriceList", "Fetch a public price list on a schedule.", field="pricing_sync_enabled"),
    _flag(
        "hedging",
        "Ask a second target beside a slow one where a combo wants that; off: no combo does.",
        default=True,
    ),
    _flag(
        "midStreamContinuation",
        "Let another target end an answer that broke off where a combo wants that; off: no combo does.",
        default=True,
    ),
)

DEFINITIONS: Final[Mapping[tuple[str, str], Definition]] = {(row.section, row.name): row for row in _ROWS}
"""Every row by section and name."""
BY_NAME: Final[Mapping[str, Definition]] = {row.name: row for row in _ROWS if row.section != FLAGS}
"""The rows of the tabs by their name alone."""


def in_section(section: str) -> tuple[Definition, ...]:
    """Return the rows of a section in their order."""
    return tuple(row for row in _ROWS if row.section == section)

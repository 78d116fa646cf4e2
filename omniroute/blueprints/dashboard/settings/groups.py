"""Which settings stand together under one heading of a tab, and are saved together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flask_babel import LazyString
from flask_babel import lazy_gettext as _l

TABS: Final[dict[str, LazyString]] = {
    "general": _l("General"),
    "appearance": _l("Appearance"),
    "ai": _l("AI"),
    "security": _l("Security"),
    "routing": _l("Routing"),
    "resilience": _l("Resilience"),
    "advanced": _l("Advanced"),
}
"""The tabs by name."""


@dataclass(frozen=True, slots=True)
class Group:
    """Settings that are saved together.

    Attributes:
        section: where the API has them; also the tab.
        names: of the settings, in the order in which they are shown.
    """

    name: str
    section: str
    title: LazyString
    names: tuple[str, ...]
    sub: LazyString | str = ""


_ALL: Final = (
    Group("server", "general", _l("This server"), ("instanceName", "modelPrefix", "timeZone")),
    Group(
        "retention",
        "general",
        _l("Retention"),
        (
            "callLogRetentionDays",
            "callLogMaxRows",
            "usageHourlyRetentionDays",
            "usageDailyRetentionDays",
            "auditRetentionDays",
        ),
        _l("How long what traffic writes is kept. Older rows are removed by themselves, a few at a time."),
    ),
    Group(
        "look",
        "appearance",
        _l("Look"),
        ("theme", "accent", "density", "language", "blurEmails", "refreshIntervalSec"),
    ),
    Group("menu", "appearance", _l("Menu"), ("hiddenMenuItems",)),
    Group(
        "thinking",
        "ai",
        _l("Thinking budget"),
        ("thinkingMode", "thinkingMaxTokens", "thinkingEffort"),
        _l("What models are asked about reasoning in place of what callers say."),
    ),
    Group(
        "prompt",
        "ai",
        _l("Global system prompt"),
        ("systemPromptEnabled", "systemPromptPosition", "systemPromptText", "systemPromptModels"),
        _l("Added to every request, or to those for some models."),
    ),
    Group("models", "ai", _l("Models"), ("contextLengthDefault",)),
    Group(
        "access",
        "security",
        _l("Who needs a credential"),
        ("requireApiKey", "requireApiKeyForModels", "bruteForceProtection"),
    ),
    Group(
        "times",
        "advanced",
        _l("Time limits"),
        (
            "connectTimeoutMs",
            "headersTimeoutMs",
            "answerTimeoutMs",
            "streamReadinessTimeoutMs",
            "streamReadinessMaxTimeoutMs",
            "streamIdleTimeoutMs",
            "streamTotalTimeoutMs",
            "requestTimeoutMs",
            "streamCommitAfterMs",
            "sseHeartbeatMs",
        ),
        _l("Of requests to providers, in milliseconds."),
    ),
    Group(
        "upkeep",
        "advanced",
        _l("Log and upkeep"),
        ("logLevel", "captureBodies", "providerLimitsSyncIntervalMinutes", "modelSyncIntervalHours"),
    ),
)
GROUPS: Final[dict[str, Group]] = {group.name: group for group in _ALL}
"""By name."""

ELSEWHERE: Final[dict[str, str]] = {
    "requireLogin": "login",
    "backupCron": "backups",
    "backupKeepLatest": "backups",
    "backupRetentionDays": "backups",
}
"""Settings with a form of their own: under which heading, or on which page."""


def group_of(name: str) -> str:
    """Return under which heading a setting stands."""
    return next((group.name for group in _ALL if name in group.names), ELSEWHERE.get(name, ""))

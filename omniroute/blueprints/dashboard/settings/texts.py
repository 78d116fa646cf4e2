"""Settings in words: what each is called, what to know of it, and what its choices mean."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from flask_babel import LazyString
from flask_babel import lazy_gettext as _l

from omniroute.blueprints.dashboard import languages


class Text(NamedTuple):
    """The name of a setting, and a sentence beside it."""

    label: LazyString
    hint: LazyString | str = ""


TEXTS: Final[dict[str, Text]] = {
    # general
    "instanceName": Text(_l("Name of this server"), _l("Stands in the head of every page.")),
    "modelPrefix": Text(
        _l("Prefix in model lists"), _l("What stands before the slash, unless a client asks for another form.")
    ),
    "timeZone": Text(_l("Time zone of new budgets"), _l("Their days begin there at midnight, such as Europe/Berlin.")),
    "callLogRetentionDays": Text(_l("Requests, days"), _l("Rows of the request log are deleted at this age.")),
    "callLogMaxRows": Text(_l("Requests, rows"), _l("So many rows of the request log are kept at most.")),
    "usageHourlyRetentionDays": Text(_l("Sums by hour, days"), _l("Charts of single hours reach back so far.")),
    "usageDailyRetentionDays": Text(_l("Sums by day, days"), _l("Costs and usage by day reach back so far.")),
    "auditRetentionDays": Text(_l("Audit, days"), _l("Audit rows are deleted at this age; the newest thousand stay.")),
    # appearance
    "theme": Text(_l("Theme"), _l("For visitors who have not chosen one at the top of the page.")),
    "language": Text(_l("Language"), _l("For visitors who have not chosen one in the account menu.")),
    "accent": Text(_l("Accent colour"), _l("Of buttons, links and marks.")),
    "density": Text(_l("Density"), _l("How much room rows and panels take.")),
    "hiddenMenuItems": Text(_l("Pages left out of the menu"), _l("They stay reachable by address and search.")),
    "blurEmails": Text(_l("Blur e-mail addresses of accounts"), _l("A click shows one.")),
    "refreshIntervalSec": Text(_l("Refresh every, seconds"), _l("0: only when a page is loaded.")),
    # ai
    "thinkingMode": Text(_l("Thinking budget"), _l("What models are asked about reasoning.")),
    "thinkingMaxTokens": Text(_l("Tokens for reasoning"), _l("The amount (custom), or the most (adaptive).")),
    "thinkingEffort": Text(_l("Effort"), _l("Where no amount is given (custom), or of an easy request (adaptive).")),
    "systemPromptEnabled": Text(_l("Add a system prompt to requests")),
    "systemPromptPosition": Text(_l("Position"), _l("Beside the system prompt of the caller.")),
    "systemPromptText": Text(_l("System prompt")),
    "systemPromptModels": Text(
        _l("Only for these models"),
        _l("One to a line, as callers spell them; * and ? stand for any characters and for one. Empty: for all."),
    ),
    "contextLengthDefault": Text(_l("Assumed context window, tokens"), _l("Of a model whose window nobody states.")),
    # security
    "requireLogin": Text(_l("Management needs a login")),
    "requireApiKey": Text(
        _l("Callers on this host need an API key too"), _l("Callers from elsewhere always need one.")
    ),
    "requireApiKeyForModels": Text(_l("Lists of models need an API key too"), _l("For callers on this host.")),
    "bruteForceProtection": Text(
        _l("Lock addresses after failed logins"), _l("Always on where others than this host reach the port.")
    ),
    # advanced
    "logLevel": Text(_l("Log level"), _l("The lowest level that is written to the log.")),
    "captureBodies": Text(
        _l("Keep bodies of requests"),
        _l("What clients send and providers answer, shown with the request. Credentials are masked; prompts are not."),
    ),
    "requestTimeoutMs": Text(_l("Whole request, ms"), _l("Replaces the limits for the whole and for silence.")),
    "connectTimeoutMs": Text(_l("Connecting, ms"), _l("To a provider, TLS included.")),
    "headersTimeoutMs": Text(_l("Response headers, ms"), _l("Of a streamed answer.")),
    "answerTimeoutMs": Text(_l("Whole answer, ms"), _l("Of one that is not streamed.")),
    "streamReadinessTimeoutMs": Text(_l("First content, ms"), _l("Of a streamed answer.")),
    "streamReadinessMaxTimeoutMs": Text(_l("First content at most, ms"), _l("Large requests get longer, up to this.")),
    "streamIdleTimeoutMs": Text(
        _l("Silence within a stream, ms"), _l("After it another target is tried or the stream ends.")
    ),
    "streamTotalTimeoutMs": Text(_l("Whole stream, ms")),
    "streamCommitAfterMs": Text(
        _l("Hold the status line, ms"), _l("Until content comes or this is over, another connection can be tried.")
    ),
    "sseHeartbeatMs": Text(_l("Heartbeat after, ms"), _l("Of silence, so that no proxy on the way hangs up.")),
    "providerLimitsSyncIntervalMinutes": Text(
        _l("Ask providers for quotas every, minutes"), _l("0: only when somebody wants to know.")
    ),
    "modelSyncIntervalHours": Text(
        _l("Ask providers for models every, hours"), _l("0: only when somebody wants to know.")
    ),
    "backupCron": Text(
        _l("Schedule"), _l("Five fields of cron in the time zone of the server, such as 0 3 * * *, or off.")
    ),
    "backupKeepLatest": Text(_l("Backups that are kept")),
    "backupRetentionDays": Text(_l("Days a backup is kept"), _l("0: by number only.")),
    # flags
    "sseComments": Text(_l("Comments in streams"), _l("Heartbeats, and facts about an answer, as comments.")),
    "metrics": Text(_l("Metrics"), _l("Prometheus metrics at /metrics.")),
    "publicPriceList": Text(_l("Public price list"), _l("Fetch it on a schedule.")),
    "hedging": Text(_l("Hedging"), _l("Ask a second target beside a slow one where a combo wants that.")),
    "midStreamContinuation": Text(
        _l("Continue broken answers"), _l("Another target ends an answer that broke off where a combo wants that.")
    ),
}
"""By the name of the setting."""

CHOICES: Final[dict[str, dict[str, LazyString]]] = {
    "modelPrefix": {
        "alias": _l("Short name of the provider"),
        "canonical": _l("Id of the provider"),
        "dual": _l("Both, each model twice"),
    },
    "theme": {"system": _l("As the device"), "light": _l("Light"), "dark": _l("Dark")},
    "language": {"auto": _l("As the browser asks")},
    "accent": {
        "blue": _l("Blue"),
        "teal": _l("Teal"),
        "violet": _l("Violet"),
        "rose": _l("Rose"),
        "amber": _l("Amber"),
    },
    "density": {"comfortable": _l("Comfortable"), "compact": _l("Compact")},
    "thinkingMode": {
        "passthrough": _l("What the caller says"),
        "auto": _l("Nothing: the model decides"),
        "custom": _l("The same for every request"),
        "adaptive": _l("More for harder requests"),
    },
    "thinkingEffort": {
        "none": _l("None"),
        "minimal": _l("Minimal"),
        "low": _l("Low"),
        "medium": _l("Medium"),
        "high": _l("High"),
        "xhigh": _l("Very high"),
        "max": _l("Most"),
    },
    "systemPromptPosition": {"before": _l("Before the caller's"), "after": _l("After the caller's")},
    "captureBodies": {"off": _l("Of none"), "errors": _l("Of those that failed"), "all": _l("Of all")},
    "logLevel": {"debug": _l("Debug"), "info": _l("Info"), "warning": _l("Warning"), "error": _l("Error")},
}
"""What choices mean, by the name of the setting."""


def label(name: str) -> str:
    """Return what a setting is called."""
    return str(TEXTS[name].label) if name in TEXTS else name


def choice(name: str, value: Any) -> str:
    """Return what a choice of a setting means."""
    known = CHOICES.get(name, {}).get(str(value))
    if known is None and name == "language":
        return languages.NAMES.get(str(value), str(value))
    return str(value if known is None else known)


ON: Final = _l("on")
OFF: Final = _l("off")

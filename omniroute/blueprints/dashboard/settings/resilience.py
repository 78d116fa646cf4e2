"""Resilience: how long things rest, and who waits for them; configuration alone, the state stands under Health."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import request
from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done
from omniroute.blueprints.dashboard.settings import tabs, values
from omniroute.blueprints.dashboard.settings.tabs import Forms

AUTHS: Final = (("oauth", _l("Accounts")), ("apikey", _l("API keys")), ("local", _l("Local models")))
"""Kinds of credential, in the order of the columns."""

PROFILES: Final = (
    ("conservative", _l("Conservative: rests twice as long")),
    ("balanced", _l("Balanced: the defaults")),
    ("aggressive", _l("Aggressive: rests half as long, and nobody waits for them")),
)

PLAIN: Final[tuple[tuple[str, LazyString, LazyString, tuple[tuple[str, LazyString], ...]], ...]] = (
    (
        "requestQueue",
        _l("Queue and pacing"),
        _l("Of each connection that does not say otherwise; 0 is no limit."),
        (
            ("requestsPerMinute", _l("Requests per minute")),
            ("minTimeBetweenRequestsMs", _l("Between two requests, ms")),
            ("concurrentRequests", _l("Requests at once")),
            ("maxWaitMs", _l("Longest wait, ms")),
            ("maxQueueDepth", _l("Requests that wait at most")),
        ),
    ),
    (
        "waitForCooldown",
        _l("When everything rests"),
        _l("Whether a request waits until the first target may be tried again."),
        (
            ("enabled", _l("Wait")),
            ("maxRetryWaitSec", _l("For an end at most so far away, s")),
            ("maxRetries", _l("Waits of one request")),
            ("budgetSec", _l("All waits of one request, s")),
        ),
    ),
    (
        "rateLimitDetection",
        _l("Limits that providers tell"),
        _l("Headers of answers say how many requests are left; connections are paced by them."),
        (("enabled", _l("Learn limits from answers")),),
    ),
    (
        "modelLockout",
        _l("Rests of a single model"),
        _l("How long a model is left alone on one connection, in seconds."),
        (
            ("modelMissingSec", _l("The model is not there")),
            ("entitlementSec", _l("The plan does not include it")),
            ("misconfiguredSec", _l("It is set up wrongly")),
            ("misconfiguredLocalSec", _l("It is set up wrongly, on a local server")),
            ("overloadedSec", _l("It has no capacity, the first time")),
            ("maxTransientSec", _l("It has no capacity, at most")),
            ("maxWarmingSec", _l("It is being loaded, at most")),
        ),
    ),
)
"""Sections whose fields stand alone: name, title, what they are, and their fields."""

BY_AUTH: Final[tuple[tuple[str, LazyString, LazyString, tuple[tuple[str, LazyString], ...]], ...]] = (
    (
        "connectionCooldown",
        _l("Cooldown of a connection"),
        _l("After a failure a connection rests, twice as long each time, unless the provider says until when."),
        (
            ("baseCooldownMs", _l("First rest, ms")),
            ("rateLimitCooldownMs", _l("First rest after a rate limit, ms")),
            ("maxBackoffSteps", _l("Doublings")),
            ("maxCooldownMs", _l("Longest rest, ms")),
            ("useUpstreamRetryHints", _l("Follow the provider's hints")),
        ),
    ),
    (
        "providerBreaker",
        _l("Breaker of a provider"),
        _l("After so many failures in a row no request goes there for a while; then one tries."),
        (
            ("failureThreshold", _l("Failures that open it")),
            ("degradationThreshold", _l("Failures that show it as degraded")),
            ("resetTimeoutMs", _l("Time until a try, ms")),
            ("multiplierAfter", _l("Openings before the time doubles")),
            ("maxMultiplier", _l("Longest time, in multiples")),
        ),
    ),
)
"""Sections with a value for each kind of credential."""


@tabs.tab("resilience")
def context(forms: Forms) -> dict[str, Any]:
    """Return the settings of resilience by path, and their form."""
    found = api.get("/api/resilience/fields")
    fields = {row["path"]: row for row in found["fields"]}
    if "resilience" not in forms:
        forms["resilience"] = FormState.of({path: _text(row["value"]) for path, row in fields.items()})
    return {
        "profile": found["profile"],
        "fields": fields,
        "profiles": PROFILES,
        "plain": PLAIN,
        "by_auth": BY_AUTH,
        "auths": AUTHS,
        "has_own": any(row["source"] == "db" for row in fields.values()),
    }


@blueprint.post("/dashboard/settings/resilience")
def save_resilience() -> Response:
    """Choose a profile, or save the settings that were changed."""
    found = api.get("/api/resilience/fields")
    profile = request.form.get("profile")
    change = {"profile": profile} if profile is not None else _changed(found["fields"])
    back = tabs.at("resilience")
    if not change:
        return done(_("Nothing was changed."), back, "info")
    try:
        api.patch("/api/resilience", change)
    except Refused as refused:
        return tabs.show("resilience", 400, {"resilience": FormState.typed(request.form, refused)})
    if profile is not None:
        return done(_("The profile is in force; values of your own were replaced by it."), back)
    return done(_("The settings of resilience are saved."), back)


def _changed(fields: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what was changed in the form, in the sections of the API."""
    change: dict[str, Any] = {}
    for row in fields:
        path = row["path"]
        if row["fixedBy"] is not None:
            continue
        is_flag = isinstance(row["value"], bool)
        value = path in request.form if is_flag else values.number(request.form.get(path, ""))
        before = request.form.get(values.SHOWN_BEFORE + path)
        if before is not None and before == _text(value):
            continue
        *sections, name = path.split(".")
        inner = change
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = row["default"] if value is None else value
    return change


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else ""
    return "" if value is None else str(value)

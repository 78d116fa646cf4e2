"""What health has to say in words: why something rests, who said until when, what jobs do."""

from __future__ import annotations

from typing import Final

from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

_REASONS: Final[dict[str, LazyString]] = {
    "account_blocked": _l("The account is blocked"),
    "auth": _l("The credential was refused"),
    "blocked": _l("Its address is not allowed"),
    "concurrency": _l("Too many requests at once"),
    "conflict": _l("Two requests met"),
    "content_policy": _l("The content was refused"),
    "context_length": _l("The request was too long"),
    "entitlement": _l("The plan does not include the model"),
    "forbidden": _l("The account may not do this"),
    "gateway": _l("A gateway of the provider failed"),
    "generation": _l("The model stumbled"),
    "internal": _l("A fault of this server"),
    "invalid_answer": _l("The answer was not valid"),
    "misconfigured": _l("The model is set up wrongly"),
    "model_missing": _l("The model is not there"),
    "no_credit": _l("No credit is left"),
    "opaque_token": _l("The credential was not understood"),
    "overloaded": _l("The provider is overloaded"),
    "protocol": _l("The answer could not be read"),
    "proxy": _l("The proxy cannot be reached"),
    "quota": _l("The quota is spent"),
    "rate": _l("Rate limit reached"),
    "server": _l("The provider failed"),
    "timeout": _l("No answer in time"),
    "timeout_upstream": _l("The provider gave up waiting"),
    "transport": _l("The provider cannot be reached"),
    "unknown": _l("An unknown failure"),
    "warming": _l("The model is being loaded"),
}
_JOBS: Final[dict[str, LazyString]] = {
    "shared-state": _l("Cooldowns and breakers, kept for a restart"),
    "retention": _l("Old rows, removed at their age"),
    "prices": _l("Prices, recounted and fetched"),
    "jobs": _l("Long work that nobody finished"),
    "provider-limits": _l("Quotas, asked of providers"),
    "model-lists": _l("Lists of models, asked of providers"),
    "backup": _l("Backups by schedule"),
}
_STATES: Final[dict[str, LazyString]] = {
    "healthy": _l("Healthy"),
    "degraded": _l("Degraded"),
    "unhealthy": _l("Unhealthy"),
}


def reason(name: str | None, status: int | None) -> str:
    """Return why something rests."""
    words = str(_REASONS[name]) if name in _REASONS else (name or "").replace("_", " ") or _("An unknown failure")
    return _("%(reason)s (%(status)s)", reason=words, status=status) if status else words


def hint(source: str | None) -> str:
    """Return who said until when something rests."""
    if source is None:
        return _("Computed here")
    if source == "text":
        return _("Said by the provider in its message")
    if source.startswith("reading:"):
        return _("From a reading of its quota")
    return _("Said by the provider (%(where)s)", where=source)


def job(name: str) -> str:
    """Return what a job does; its name where nothing is known."""
    return str(_JOBS[name]) if name in _JOBS else name


def state(name: str) -> str:
    """Return the state of the server in a word."""
    return str(_STATES.get(name, name))

"""Why routing left a candidate out, and what failures mean, in the words of pages."""

from __future__ import annotations

from typing import Final

from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

_REASONS: Final[dict[str, LazyString]] = {
    "inactive": _l("switched off or not connected"),
    "hidden": _l("hidden"),
    "provider_blocked": _l("its provider is blocked by the operator"),
    "terms_not_accepted": _l("its provider's terms were not accepted"),
    "key_policy": _l("the API key may not use it"),
    "credential_dead": _l("its credential was refused"),
    "account_blocked": _l("its account is blocked at the provider"),
    "no_credit": _l("its account has no credit left"),
    "quota_exhausted": _l("its quota is spent"),
    "quota_cutoff": _l("its quota is used up to the cut-off that the operator set"),
    "cooling": _l("it rests after a failure"),
    "locked_out": _l("this model rests on this connection"),
    "breaker_open": _l("its provider's breaker is open"),
    "breaker_probe_taken": _l("its provider is being probed by another request"),
    "reserve": _l("only its reserve of quota is left"),
    "concurrency_full": _l("all its places are taken"),
    "rpm_full": _l("its requests per minute are used up"),
    "queue_full": _l("its queue is full"),
    "capability": _l("it lacks what the request needs"),
    "context_too_small": _l("the request does not fit its window"),
    "output_too_small": _l("it cannot answer at the length asked for"),
    "feature_pinned": _l("the request is bound to another connection"),
    "price_above_budget": _l("it costs more than the budget"),
    "price_unknown": _l("its price is not known, and there is a budget"),
    "not_local": _l("it is not on this machine or network"),
    "low_score": _l("its score was too low"),
    "channel_excluded": _l("it is excluded from the channel"),
    "family_not_allowed": _l("its model family is not allowed here"),
    "provider_not_allowed": _l("its provider is not allowed here"),
    "tried": _l("it was tried already"),
    "proxy_unavailable": _l("its proxy cannot be reached"),
}


def reason_text(reason: str, detail: str | None = None) -> str:
    """Return a reason in words; one that is not known here stands as it is."""
    word, _colon, need = reason.partition(":")
    said = str(_REASONS.get(word, word))
    more = ", ".join(part for part in (need, detail) if part)
    return _("%(reason)s (%(detail)s)", reason=said, detail=more) if more else said

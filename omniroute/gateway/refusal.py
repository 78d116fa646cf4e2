"""From everything that happened to one error: the most telling failure, or why there was nobody to ask."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from omniroute.errors import (
    BudgetExceeded,
    CallerError,
    ModelNotFound,
    NoEligibleTarget,
    OmniRouteError,
    ProviderCredentials,
    RateLimited,
    UnsupportedFeature,
    UpstreamTimeout,
)
from omniroute.formats.waits import moment, with_wait
from omniroute.gateway.directory import Target
from omniroute.gateway.faults import error_for
from omniroute.routing.attempts import Candidate, Tried, Verdict
from omniroute.routing.failures import Failure
from omniroute.routing.plan import WAITABLE, Exclusion, Plan, Reason
from omniroute.routing.telling import LIMITS, OURS, most_telling

_POINTLESS_AFTER_S: Final = 600.0
_SHORTLY_S: Final = 60.0
"""A larger window that rests for less than this is worth coming back for."""
_LEAST_WAIT_S: Final = 1.0
_PLACE_S: Final = 5.0
"""When to try again where all places are taken: nobody knows when one comes free."""
_CREDENTIALS: Final = frozenset({Reason.CREDENTIAL_DEAD, Reason.ACCOUNT_BLOCKED, Reason.NO_CREDIT})
_FULL: Final = frozenset({Reason.RPM_FULL, Reason.CONCURRENCY_FULL, Reason.QUEUE_FULL})
_SPENT: Final = frozenset({Reason.QUOTA_EXHAUSTED, Reason.QUOTA_CUTOFF})
_BREAKERS: Final = frozenset({Reason.BREAKER_OPEN, Reason.BREAKER_PROBE_TAKEN})
_NO_SUCH_MODEL: Final = frozenset({"model_missing", "entitlement", "misconfigured"})
"""Kinds of lockouts that say what the provider said: it does not serve the model."""
_LISTED: Final = 20

UNSUPPORTED: Final = "unsupported"
"""Reason of a target that cannot be asked in any format that says this request."""


def target_of(candidate: Candidate) -> Target:
    """Return what an attempt calls."""
    target: Target = candidate.option.handles[candidate.account.id]
    return target


@dataclass(frozen=True, slots=True)
class Situation:
    """What an error is made from.

    Attributes:
        requested: the model name that the caller used.
        is_combo: whether several targets stood behind it: the answer then says more of them.
        wall: epoch seconds.
        provider_names: by provider id.
        count: our own count of the prompt's tokens for a target, where the provider did not say.
    """

    requested: str
    plan: Plan
    verdict: Verdict
    is_combo: bool
    wall: float
    count: Callable[[Target], int]
    unsupported: UnsupportedFeature | None = None
    pinned: CallerError | None = None


def refusal(situation: Situation) -> tuple[OmniRouteError, Failure | None]:
    """Return the error to report, and the failure that it stands for; None where nobody was asked."""
    tried = situation.verdict.tried
    if not tried:
        error = _nobody(situation)
        return _with_diagnostics(error, situation), None
    chosen = most_telling(tried)
    kind = chosen.failure.kind
    if kind == "context_length":
        if (rest := _larger_at_rest(situation, chosen)) is not None:
            return _with_diagnostics(_resting(situation, rest), situation), None
        chosen = max((one for one in tried if one.failure.kind == kind), key=_window_of)
    elif chosen.failure.failure_class in LIMITS and kind not in OURS:
        chosen = min((one for one in tried if one.failure.failure_class in LIMITS), key=_wait_of)
    failure = _with_numbers(chosen, situation)
    if failure.failure_class in LIMITS and kind not in OURS:
        failure = _with_first_end(failure, situation)
    error = error_for(failure, target_of(chosen.candidate).provider.name, wall=situation.wall)
    return _with_diagnostics(error, situation), chosen.failure


# --- somebody was asked ----------------------------------------------------------------------------------------------


def _window_of(tried: Tried) -> int:
    """Return how much the target takes: in its own words, else as the catalogue has it; 0 when nobody says."""
    return tried.failure.limit or tried.candidate.option.window or 0


def _wait_of(tried: Tried) -> float:
    """Return when the target may serve again; last of all one whose account lacks credit."""
    return math.inf if tried.failure.kind in OURS else tried.failure.retry_after_s or 0.0


def _with_numbers(chosen: Tried, situation: Situation) -> Failure:
    """Fill in what a provider left unsaid of a request that is too long: the model's window, and our own count."""
    failure = chosen.failure
    if failure.kind != "context_length":
        return failure
    limit = _window_of(chosen) or None
    used = failure.used
    if used is None:
        used = situation.count(target_of(chosen.candidate))
        used = used if limit is None else max(used, limit + 1)
    return replace(failure, used=used, limit=limit)


def _with_first_end(failure: Failure, situation: Situation) -> Failure:
    """Let a limit say when the first of all targets is free again, if that is sooner than its own end."""
    free_at = situation.verdict.free_at
    if free_at is None:
        return failure
    wait = max(_LEAST_WAIT_S, free_at - situation.wall)
    if failure.retry_after_s is not None and failure.retry_after_s <= wait:
        return failure
    return replace(failure, retry_after_s=wait)


def _larger_at_rest(situation: Situation, chosen: Tried) -> Exclusion | None:
    """Return a target with room that merely rests for a moment: the caller need not shorten anything."""
    if not situation.is_combo:
        return None
    tried = {one.candidate.option.name for one in situation.verdict.tried}
    window = _window_of(chosen)
    windows = {entry.option.name: entry.option.planned_window for entry in situation.plan.entries}
    for exclusion in (*situation.plan.exclusions, *situation.verdict.passed_over):
        if exclusion.target in tried or exclusion.reason not in WAITABLE or exclusion.until is None:
            continue
        if exclusion.until - situation.wall <= _SHORTLY_S and windows.get(exclusion.target, 0) > window:
            return exclusion
    return None


# --- nobody was asked ------------------------------------------------------------------------------------------------


def _nobody(situation: Situation) -> OmniRouteError:
    left_out = (*situation.plan.exclusions, *situation.verdict.passed_over)
    if situation.plan.is_over_budget:
        return BudgetExceeded(
            f"Every target of {situation.requested[:200]!r} costs more than the budget of this request.",
            should_retry=False,
        )
    if situation.unsupported is not None:
        return situation.unsupported
    if not left_out:
        return UpstreamTimeout("total")
    if situation.pinned is not None and any(one.reason == Reason.FEATURE_PINNED for one in left_out):
        left_out = tuple(one for one in left_out if one.reason != Reason.FEATURE_PINNED)
        if not left_out:
            return situation.pinned
    reasons = {one.reason for one in left_out}
    if reasons == {Reason.PRICE_UNKNOWN}:
        return BudgetExceeded(
            f"What {situation.requested[:200]!r} costs is not known, and this caller has a budget. "
            "The gateway's operator can set its price, or let budgets pass what has none.",
            code="price_unknown",
            param="model",
            should_retry=False,
        )
    if all(one.detail in _NO_SUCH_MODEL for one in left_out):
        return ModelNotFound(
            f"No connection serves the model {situation.requested[:200]!r}.", param="model", should_retry=False
        )
    waitable = [one for one in left_out if one.reason in WAITABLE or one.reason in _SPENT]
    if waitable:
        return _resting(situation, min(waitable, key=lambda one: one.until or math.inf))
    if reasons & _BREAKERS:
        return _behind_breaker(situation, left_out)
    if reasons and reasons <= _CREDENTIALS:
        return ProviderCredentials(
            f"No connection for {situation.requested[:200]!r} has a usable credential; the gateway's operator has to "
            "mend it.",
            should_retry=False,
            retry_after_s=120.0,
        )
    said = ", ".join(sorted({str(one.reason) for one in left_out}))
    return NoEligibleTarget(
        f"Nothing may serve {situation.requested[:200]!r} now: {said}.",
        param="model",
        should_retry=False,
        retry_after_s=_SHORTLY_S,
    )


def _resting(situation: Situation, first: Exclusion) -> RateLimited:
    """Return the error of a request for which everybody merely rests, with the time at which the first is back."""
    unknown = _PLACE_S if first.reason in _FULL else _SHORTLY_S
    wait = max(_LEAST_WAIT_S, (first.until or situation.wall + unknown) - situation.wall)
    if first.reason in _FULL:
        code = "queue_full" if first.reason == Reason.QUEUE_FULL else "queue_timeout"
        message = f"All connections for {situation.requested[:200]!r} are busy"
    else:
        code = "model_cooldown"
        message = f"All connections for {situation.requested[:200]!r} are cooling down"
    cooling = [
        one.connection_id
        for one in (*situation.plan.exclusions, *situation.verdict.passed_over)
        if one.connection_id is not None and one.reason in WAITABLE
    ]
    return RateLimited(
        with_wait(f"{message}.", wait),
        code=code,
        retry_after_s=wait,
        should_retry=wait <= _POINTLESS_AFTER_S,
        extras={
            "model": situation.requested[:240],
            "reset_seconds": math.ceil(wait),
            "retry_after": moment(situation.wall + wait),
            "credentials_cooling": len(set(cooling)),
        },
    )


def _behind_breaker(situation: Situation, left_out: Sequence[Exclusion]) -> NoEligibleTarget:
    ends = [one.until for one in left_out if one.reason in _BREAKERS and one.until is not None]
    wait = max(_LEAST_WAIT_S, min(ends, default=situation.wall + _LEAST_WAIT_S) - situation.wall)
    return NoEligibleTarget(
        f"The providers of {situation.requested[:200]!r} have failed repeatedly and are left alone for a while.",
        code="provider_circuit_open",
        retry_after_s=wait,
        should_retry=wait <= _POINTLESS_AFTER_S,
        headers={"X-OmniRoute-Provider-Breaker": "open"},
    )


# --- what stands beside the error ------------------------------------------------------------------------------------


def _with_diagnostics(error: OmniRouteError, situation: Situation) -> OmniRouteError:
    """Add what became of the targets, where several stood behind a name."""
    if not situation.is_combo:
        return error
    plan, verdict = situation.plan, situation.verdict
    excluded = {
        (one.target, one.connection_id, str(one.reason)): one for one in (*plan.exclusions, *verdict.passed_over)
    }
    attempted = len({one.candidate.option.name for one in verdict.tried})
    pool = len({entry.option.name for entry in plan.entries} | {one.target for one in plan.exclusions})
    wait = error.retry_after_s
    headers = {
        "X-OmniRoute-Combo-Pool-Size": str(pool),
        "X-OmniRoute-Combo-Attempted": str(attempted),
        "X-OmniRoute-Combo-Excluded": str(len(excluded)),
        "X-OmniRoute-Combo-Terminal-Reason": error.error_code,
        "X-OmniRoute-Recovery-Action": _action(error),
    }
    if wait is not None:
        headers["X-OmniRoute-Retry-After-Seconds"] = str(math.ceil(wait))
    error.headers = {**error.headers, **headers}
    diagnostics = {
        "poolSize": pool,
        "attempted": attempted,
        "excluded": [_told(one) for one in list(excluded.values())[:_LISTED]],
        "attemptOrder": [_attempt(one) for one in verdict.tried[:_LISTED]],
        "terminalReason": error.error_code,
    }
    error.extras = {**error.extras, "diagnostics": diagnostics}
    return error


def _action(error: OmniRouteError) -> str:
    if isinstance(error, CallerError) and not isinstance(error, RateLimited):
        return "switch"
    if error.retry_after_s is not None and error.retry_after_s <= _POINTLESS_AFTER_S:
        return "wait"
    return "retry" if error.should_retry is not False else "switch"


def _told(exclusion: Exclusion) -> Mapping[str, Any]:
    until = None if exclusion.until is None else moment(exclusion.until)
    return {"target": exclusion.target, "reason": str(exclusion.reason), "until": until}


def _attempt(one: Tried) -> Mapping[str, Any]:
    said: dict[str, Any] = {"target": one.candidate.option.name, "class": one.failure.failure_class.value}
    if one.failure.status is not None:
        said["status"] = one.failure.status
    return said

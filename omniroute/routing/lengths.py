"""How long a failure rests what it reaches, and whether a provider's hint, a formula or a table says so."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum
from typing import Final

from omniroute.routing.failures import Failure, FailureClass, Scope
from omniroute.routing.options import AuthClass
from omniroute.routing.resilience import ResilienceSettings

_JITTER: Final = 0.1
_HINT_JITTER: Final = 0.02
_HINT_MARGIN_S: Final = 0.25
_QUOTA_MARGIN_S: Final = 5.0
_QUOTA_S: Final = 900.0
_QUOTA_CAP_S: Final = 21_600.0
_FORBIDDEN_S: Final = 120.0
_CONCURRENCY_S: Final = 1.0
NO_CREDIT_S: Final = 3600.0
"""How often an account without credit is tried again."""
FORBIDDEN_IN_A_ROW: Final = 3
"""Refusals in a row after which a connection counts as dead."""
_MOST_DOUBLINGS: Final = 20


class Effect(Enum):
    """What a failure does to health."""

    NONE = 0
    COOLDOWN = 1
    LOCKOUT = 2
    DEAD = 3
    FORBIDDEN = 4
    """A cooldown, and a dead mark when it goes on."""


_PASSING: Final = frozenset({"generation", "conflict"})
"""Transient, and over with the answer."""


def effect_of(failure: Failure) -> Effect:
    """Return what a failure does to health."""
    is_of_model = failure.scope is Scope.MODEL
    match failure.failure_class:
        case FailureClass.CALLER_FAULT | FailureClass.UNKNOWN | FailureClass.CANCELLED | FailureClass.LOCAL:
            return Effect.NONE
        case FailureClass.MODEL_UNAVAILABLE:
            return Effect.LOCKOUT
        case FailureClass.CREDENTIAL:
            return Effect.FORBIDDEN if failure.kind == "forbidden" else Effect.DEAD
        case FailureClass.QUOTA if failure.kind == "no_credit":
            return Effect.DEAD
        case FailureClass.TRANSIENT if failure.kind in _PASSING:
            return Effect.NONE
        case FailureClass.QUOTA | FailureClass.RATE_LIMIT | FailureClass.TRANSIENT:
            return Effect.LOCKOUT if is_of_model else Effect.COOLDOWN


@dataclass(frozen=True, slots=True)
class Length:
    """A rest. `seconds` is None where time does not end it; `source` is the hint's, None when we computed it."""

    seconds: float | None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Streak:
    """What went before: `steps` failures in a row of any kind, and this one is the `run`-th in a row of its kind."""

    steps: int = 0
    run: int = 1


def length_of(
    failure: Failure, auth: AuthClass, streak: Streak, settings: ResilienceSettings, rng: random.Random
) -> Length:
    """Return how long a failure rests the connection or the model that it reaches."""
    rules = settings.lockout
    match failure.kind:
        case "quota":
            return _quota(failure, streak)
        case "forbidden":
            return Length(_FORBIDDEN_S)
        case "model_missing":
            return Length(None if failure.status == 410 else float(rules.missing_s))
        case "entitlement":
            return Length(float(rules.entitlement_s))
        case "warming":
            length = _hinted(failure, rng) or Length(_doubled(rules.overloaded_s, streak))
            assert length.seconds is not None  # noqa: S101 -- neither way leaves it out
            return Length(min(length.seconds, float(rules.warming_cap_s)), length.source)
        case "overloaded" if failure.scope is Scope.MODEL:
            return _hinted(failure, rng) or Length(
                min(_doubled(rules.overloaded_s, streak), float(rules.transient_cap_s))
            )
        case "overloaded":
            return _hinted(failure, rng) or _computed(failure, auth, streak, settings, rng)
    match failure.failure_class:
        case FailureClass.MODEL_UNAVAILABLE:
            is_local = auth is AuthClass.LOCAL
            return Length(float(rules.misconfigured_local_s if is_local else rules.misconfigured_s))
        case FailureClass.RATE_LIMIT:
            hinted = _hinted(failure, rng) if settings.cooldown.of(auth).uses_hints else None
            if hinted is None and failure.kind == "concurrency":
                return Length(_CONCURRENCY_S)
            return hinted or _computed(failure, auth, streak, settings, rng)
        case _:
            return _computed(failure, auth, streak, settings, rng)


def _quota(failure: Failure, streak: Streak) -> Length:
    if failure.retry_after_s is not None:
        return Length(failure.retry_after_s + _QUOTA_MARGIN_S, failure.hint_source)
    return Length(min(_QUOTA_CAP_S, _QUOTA_S * 2.0 ** min(streak.run - 1, _MOST_DOUBLINGS)))


def _hinted(failure: Failure, rng: random.Random) -> Length | None:
    """Return a rest as the provider says: never shorter, so that chance only adds."""
    if failure.retry_after_s is None or failure.hint_source is None:
        return None
    seconds = failure.retry_after_s * (1 + _HINT_JITTER * rng.random()) + _HINT_MARGIN_S
    return Length(seconds, failure.hint_source)


def _doubled(base_s: float, streak: Streak) -> float:
    return base_s * 2.0 ** min(streak.steps, _MOST_DOUBLINGS)


def _computed(
    failure: Failure, auth: AuthClass, streak: Streak, settings: ResilienceSettings, rng: random.Random
) -> Length:
    rule = settings.cooldown.of(auth)
    base_ms = rule.rate_base_ms if failure.failure_class is FailureClass.RATE_LIMIT else rule.base_ms
    rest_ms = min(float(rule.cap_ms), base_ms * 2.0 ** min(streak.steps, rule.max_steps))
    return Length(rest_ms / 1000 * (1 + _JITTER * rng.random()))

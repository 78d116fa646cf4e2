"""The settings of resilience: what they are called in public, what they take, the profiles, and what is in force.

Stored is only what differs from a profile: `{"profile": …, <section>: {<field>: …}}`, sections of connections and
providers by kind of credential in between. What the environment fixes wins over both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from omniroute.routing.limits import QueueRules
from omniroute.routing.options import AuthClass

R = TypeVar("R")

_DAY_MS: Final = 86_400_000
_DAY_S: Final = 86_400


class Profile(StrEnum):
    """A whole set of values."""

    CONSERVATIVE = "conservative"
    """Doubled rests."""
    BALANCED = "balanced"
    """The defaults."""
    AGGRESSIVE = "aggressive"
    """Halved rests, and no waiting for them."""


@dataclass(frozen=True, slots=True)
class CooldownRule:
    """How long a connection rests: base x 2^(failures in a row), up to a cap, unless the provider says when.

    Attributes:
        rate_base_ms: the base after a rate limit that came without a hint.
        uses_hints: whether providers' hints after rate limits are followed; resets of quotas always are.
    """

    base_ms: int
    max_steps: int
    cap_ms: int
    rate_base_ms: int
    uses_hints: bool = True


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """When a provider is left alone, and for how long.

    Attributes:
        threshold: failures in a row that open the breaker.
        degraded_at: failures in a row from which it is shown as degraded; 0 never does.
        multiplier_after: openings in a row that last `reset_ms`; each one after them lasts twice as long.
    """

    threshold: int
    degraded_at: int
    reset_ms: int
    multiplier_after: int
    max_multiplier: int


@dataclass(frozen=True, slots=True)
class ByAuth(Generic[R]):
    """A rule for each kind of credential."""

    oauth: R
    apikey: R
    local: R

    def of(self, auth: AuthClass) -> R:
        """Return the rule for a kind of credential."""
        match auth:
            case AuthClass.OAUTH:
                return self.oauth
            case AuthClass.API_KEY:
                return self.apikey
            case AuthClass.LOCAL:
                return self.local


@dataclass(frozen=True, slots=True)
class WaitRule:
    """Whether a request waits when every candidate rests.

    Attributes:
        longest_s: an end farther away is not waited for.
        max_rounds: how often one request waits.
        budget_s: the sum of its waits.
    """

    is_on: bool = True
    longest_s: int = 30
    max_rounds: int = 2
    budget_s: int = 60


@dataclass(frozen=True, slots=True)
class LockoutRule:
    """How long a model rests on one connection, by what was wrong with it.

    Attributes:
        warming_cap_s: the longest rest of a model that is being loaded.
        transient_cap_s: up to where the rests of a model without capacity double.
    """

    missing_s: int = 3600
    entitlement_s: int = _DAY_S
    misconfigured_s: int = 120
    misconfigured_local_s: int = 5
    overloaded_s: int = 10
    warming_cap_s: int = 120
    transient_cap_s: int = 1800


_QUEUE_RULES: Final = QueueRules()
_COOLDOWN: Final = ByAuth(
    oauth=CooldownRule(5000, 8, 120_000, 60_000),
    apikey=CooldownRule(3000, 5, 120_000, 3000),
    local=CooldownRule(2000, 3, 15_000, 2000),
)
_BREAKER: Final = ByAuth(
    oauth=BreakerRule(8, 5, 60_000, 2, 8),
    apikey=BreakerRule(12, 7, 30_000, 3, 4),
    local=BreakerRule(2, 1, 15_000, 1, 4),
)


@dataclass(frozen=True, slots=True)
class ResilienceSettings:
    """Everything that decides how long something rests and who waits for it."""

    profile: Profile = Profile.BALANCED
    queue: QueueRules = _QUEUE_RULES
    cooldown: ByAuth[CooldownRule] = _COOLDOWN
    breaker: ByAuth[BreakerRule] = _BREAKER
    wait: WaitRule = WaitRule()
    lockout: LockoutRule = LockoutRule()


DEFAULTS: Final = ResilienceSettings()


def _scaled(rule: R, factor: float, names: frozenset[str]) -> R:
    changes = {name: max(1, round(getattr(rule, name) * factor)) for name in names}
    return replace(rule, **changes)  # type: ignore[type-var]


def _with_rests(factor: float) -> ResilienceSettings:
    """Return the defaults with every rest longer or shorter by a factor."""
    cooldown, breaker = frozenset({"base_ms", "cap_ms", "rate_base_ms"}), frozenset({"reset_ms"})
    every = frozenset(one.name for one in fields(LockoutRule))
    return replace(
        DEFAULTS,
        cooldown=ByAuth(*(_scaled(DEFAULTS.cooldown.of(auth), factor, cooldown) for auth in _AUTHS)),
        breaker=ByAuth(*(_scaled(DEFAULTS.breaker.of(auth), factor, breaker) for auth in _AUTHS)),
        lockout=_scaled(DEFAULTS.lockout, factor, every),
    )


_AUTHS: Final = (AuthClass.OAUTH, AuthClass.API_KEY, AuthClass.LOCAL)
PROFILES: Final[Mapping[Profile, ResilienceSettings]] = {
    Profile.CONSERVATIVE: replace(_with_rests(2.0), profile=Profile.CONSERVATIVE),
    Profile.BALANCED: DEFAULTS,
    Profile.AGGRESSIVE: replace(_with_rests(0.5), profile=Profile.AGGRESSIVE, wait=WaitRule(is_on=False)),
}


# --- the public names ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: where it stands in public, which field it is, and what values it takes."""

    path: str
    attributes: tuple[str, ...]
    is_fit: Callable[[Any], bool]
    takes: str


def _whole(least: int, most: int) -> tuple[Callable[[Any], bool], str]:
    def is_fit(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return is_fit, f"a whole number from {least} to {most}"


_FLAG: Final = (lambda value: isinstance(value, bool), "true or false")
_LENGTH_S: Final = _whole(1, 30 * _DAY_S)
_QUEUE: Final = (
    ("requestsPerMinute", "requests_per_minute", _whole(0, 1_000_000)),
    ("minTimeBetweenRequestsMs", "min_gap_ms", _whole(0, 3_600_000)),
    ("concurrentRequests", "concurrent_requests", _whole(0, 100_000)),
    ("maxWaitMs", "max_wait_ms", _whole(0, 600_000)),
    ("maxQueueDepth", "max_queue_depth", _whole(0, 100_000)),
)
_COOLDOWN_FIELDS: Final = (
    ("baseCooldownMs", "base_ms", _whole(1, _DAY_MS)),
    ("maxBackoffSteps", "max_steps", _whole(0, 20)),
    ("maxCooldownMs", "cap_ms", _whole(1, _DAY_MS)),
    ("rateLimitCooldownMs", "rate_base_ms", _whole(1, _DAY_MS)),
    ("useUpstreamRetryHints", "uses_hints", _FLAG),
)
_BREAKER_FIELDS: Final = (
    ("failureThreshold", "threshold", _whole(1, 1000)),
    ("degradationThreshold", "degraded_at", _whole(0, 999)),
    ("resetTimeoutMs", "reset_ms", _whole(1, _DAY_MS)),
    ("multiplierAfter", "multiplier_after", _whole(1, 100)),
    ("maxMultiplier", "max_multiplier", _whole(1, 1024)),
)
_WAIT: Final = (
    ("enabled", "is_on", _FLAG),
    ("maxRetryWaitSec", "longest_s", _whole(0, 3600)),
    ("maxRetries", "max_rounds", _whole(0, 10)),
    ("budgetSec", "budget_s", _whole(0, 3600)),
)
_LOCKOUT: Final = (
    ("modelMissingSec", "missing_s", _LENGTH_S),
    ("entitlementSec", "entitlement_s", _LENGTH_S),
    ("misconfiguredSec", "misconfigured_s", _LENGTH_S),
    ("misconfiguredLocalSec", "misconfigured_local_s", _LENGTH_S),
    ("overloadedSec", "overloaded_s", _LENGTH_S),
    ("maxWarmingSec", "warming_cap_s", _LENGTH_S),
    ("maxTransientSec", "transient_cap_s", _LENGTH_S),
)


def _keys() -> Iterator[Key]:
    for name, attribute, (is_fit, takes) in _QUEUE:
        yield Key(f"requestQueue.{name}", ("queue", attribute), is_fit, takes)
    for section, part, its_fields in (
        ("connectionCooldown", "cooldown", _COOLDOWN_FIELDS),
        ("providerBreaker", "breaker", _BREAKER_FIELDS),
    ):
        for auth in _AUTHS:
            for name, attribute, (is_fit, takes) in its_fields:
                yield Key(f"{section}.{auth.value}.{name}", (part, auth.value, attribute), is_fit, takes)
    for name, attribute, (is_fit, takes) in _WAIT:
        yield Key(f"waitForCooldown.{name}", ("wait", attribute), is_fit, takes)
    yield Key("rateLimitDetection.enabled", ("queue", "learns_limits"), *_FLAG)
    for name, attribute, (is_fit, takes) in _LOCKOUT:
        yield Key(f"modelLockout.{name}", ("lockout", attribute), is_fit, takes)


KEYS: Final[Mapping[str, Key]] = {key.path: key for key in _keys()}
_SECTIONS: Final = frozenset(path.rpartition(".")[0] for path in KEYS) | {"connectionCooldown", "providerBreaker"}
_PROFILE: Final = "profile"


def _leaves(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of everything that is no section, whether it is a setting or not."""
    for name, value in values.items():
        path = f"{at}.{name}" if at else str(name)
        if path in _SECTIONS and isinstance(value, Mapping):
            yield from _leaves(value, path)
        else:
            yield path, value


def problems(values: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return what is wrong with a change, by path; empty when nothing is.

    Args:
        values: the change, in the public shape; it may be partial.
        stored: what it would be merged into; a threshold may be wrong only together with another.
    """
    found = {}
    for path, value in _leaves(values):
        if path == _PROFILE:
            if _profile_of(value) is None:
                found[path] = f"must be one of {', '.join(Profile)}"
            continue
        key = KEYS.get(path)
        if path in _SECTIONS:
            found[path] = "must be an object"
        elif key is None:
            found[path] = "is not a setting of resilience"
        elif not key.is_fit(value):
            found[path] = f"must be {key.takes}"
    if found:
        return found
    settings = _applied(merged(stored or {}, values))
    touched = {path for path, _ in _leaves(values)}
    for auth in _AUTHS:
        rule, path = settings.breaker.of(auth), f"providerBreaker.{auth.value}"
        if rule.degraded_at >= rule.threshold and touched & {
            f"{path}.degradationThreshold",
            f"{path}.failureThreshold",
        }:
            found[f"{path}.degradationThreshold"] = f"must be below failureThreshold ({rule.threshold})"
    return found


def merged(stored: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to store after a change: a profile in it replaces everything that was stored."""
    result: dict[str, Any] = {} if _PROFILE in change else _copied(stored)
    _put_into(result, change)
    return result


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _copied(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def _put_into(result: dict[str, Any], change: Mapping[str, Any]) -> None:
    for name, value in change.items():
        inner = result.get(name)
        if isinstance(value, Mapping) and isinstance(inner, dict):
            _put_into(inner, value)
        else:
            result[name] = _copied(value) if isinstance(value, Mapping) else value


def effective(stored: Mapping[str, Any], fixed: Mapping[str, Any] | None = None) -> ResilienceSettings:
    """Return the settings in force.

    Args:
        stored: what an operator chose, in the public shape. A value out of its range counts as not chosen: it may come
            from another release or an import.
        fixed: what the environment says, by path (`providerBreaker.oauth.failureThreshold`).
    """
    settings = _applied(stored)
    for path, value in (fixed or {}).items():
        key = KEYS.get(path)
        if key is not None and key.is_fit(value):
            settings = _with(settings, key.attributes, value)
    for auth in _AUTHS:
        rule = settings.breaker.of(auth)
        if rule.degraded_at >= rule.threshold:
            settings = _with(settings, ("breaker", auth.value, "degraded_at"), rule.threshold - 1)
    return settings


def _applied(stored: Mapping[str, Any]) -> ResilienceSettings:
    settings = PROFILES[_profile_of(stored.get(_PROFILE)) or Profile.BALANCED]
    for path, value in _leaves(stored):
        key = KEYS.get(path)
        if key is not None and key.is_fit(value):
            settings = _with(settings, key.attributes, value)
    return settings


def _profile_of(value: Any) -> Profile | None:
    return next((profile for profile in Profile if profile.value == value), None)


def _with(whole: R, path: tuple[str, ...], value: Any) -> R:
    """Return a value with one field replaced, however deep it stands."""
    name, *rest = path
    inner = _with(getattr(whole, name), tuple(rest), value) if rest else value
    return replace(whole, **{name: inner})  # type: ignore[type-var]


def public(settings: ResilienceSettings) -> dict[str, Any]:
    """Return settings in the public shape."""
    shown: dict[str, Any] = {_PROFILE: settings.profile.value}
    for key in KEYS.values():
        value: Any = settings
        for attribute in key.attributes:
            value = getattr(value, attribute)
        *sections, name = key.path.split(".")
        inner = shown
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return shown

"""The settings of resilience: public shape, what they take, profiles, what is in force."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.routing.options import AuthClass
from omniroute.routing.resilience import (
    DEFAULTS,
    KEYS,
    PROFILES,
    Profile,
    effective,
    merged,
    problems,
    public,
)


def test_the_defaults_in_public() -> None:
    cooldown = {"maxCooldownMs": 120_000, "useUpstreamRetryHints": True}
    assert public(DEFAULTS) == {
        "profile": "balanced",
        "requestQueue": {
            "requestsPerMinute": 0,
            "minTimeBetweenRequestsMs": 0,
            "concurrentRequests": 0,
            "maxWaitMs": 15_000,
            "maxQueueDepth": 100,
        },
        "connectionCooldown": {
            "oauth": cooldown | {"baseCooldownMs": 5000, "maxBackoffSteps": 8, "rateLimitCooldownMs": 60_000},
            "apikey": cooldown | {"baseCooldownMs": 3000, "maxBackoffSteps": 5, "rateLimitCooldownMs": 3000},
            "local": cooldown
            | {"baseCooldownMs": 2000, "maxBackoffSteps": 3, "maxCooldownMs": 15_000, "rateLimitCooldownMs": 2000},
        },
        "providerBreaker": {
            "oauth": {
                "failureThreshold": 8, "degradationThreshold": 5, "resetTimeoutMs": 60_000,
                "multiplierAfter": 2, "maxMultiplier": 8,
            },
            "apikey": {
                "failureThreshold": 12, "degradationThreshold": 7, "resetTimeoutMs": 30_000,
                "multiplierAfter": 3, "maxMultiplier": 4,
            },
            "local": {
                "failureThreshold": 2, "degradationThreshold": 1, "resetTimeoutMs": 15_000,
                "multiplierAfter": 1, "maxMultiplier": 4,
            },
        },
        "waitForCooldown": {"enabled": True, "maxRetryWaitSec": 30, "maxRetries": 2, "budgetSec": 60},
        "rateLimitDetection": {"enabled": True},
        "modelLockout": {
            "modelMissingSec": 3600, "entitlementSec": 86_400, "misconfiguredSec": 120, "misconfiguredLocalSec": 5,
            "overloadedSec": 10, "maxWarmingSec": 120, "maxTransientSec": 1800,
        },
    }  # fmt: skip


@pytest.mark.parametrize("profile", list(Profile))
def test_every_profile_round_trips(profile: Profile) -> None:
    settings = PROFILES[profile]
    assert effective({"profile": profile.value}) == settings
    assert effective(public(settings)) == settings
    assert problems(public(settings)) == {}


def test_aggressive_halves_rests_and_does_not_wait() -> None:
    settings = PROFILES[Profile.AGGRESSIVE]
    assert not settings.wait.is_on
    for auth in AuthClass:
        mine, default = settings.cooldown.of(auth), DEFAULTS.cooldown.of(auth)
        assert (mine.base_ms, mine.cap_ms, mine.max_steps) == (
            default.base_ms / 2,
            default.cap_ms / 2,
            default.max_steps,
        )
        assert settings.breaker.of(auth).reset_ms == DEFAULTS.breaker.of(auth).reset_ms / 2
        assert settings.breaker.of(auth).threshold == DEFAULTS.breaker.of(auth).threshold
    assert settings.lockout.missing_s == 1800


def test_conservative_doubles_rests() -> None:
    settings = PROFILES[Profile.CONSERVATIVE]
    assert settings.cooldown.oauth.base_ms == 10_000
    assert settings.lockout.overloaded_s == 20
    assert settings.wait == DEFAULTS.wait


def test_a_partial_change_keeps_the_rest() -> None:
    stored = merged({"waitForCooldown": {"maxRetries": 1}}, {"waitForCooldown": {"enabled": False}})
    assert stored == {"waitForCooldown": {"maxRetries": 1, "enabled": False}}
    settings = effective(stored)
    assert (settings.wait.is_on, settings.wait.max_rounds, settings.wait.budget_s) == (False, 1, 60)


def test_a_profile_replaces_what_was_stored() -> None:
    stored = merged({"profile": "aggressive", "requestQueue": {"maxWaitMs": 5}}, {"profile": "conservative"})
    assert stored == {"profile": "conservative"}
    both = merged({"requestQueue": {"maxWaitMs": 5}}, {"profile": "aggressive", "waitForCooldown": {"enabled": True}})
    settings = effective(both)
    assert settings.queue.max_wait_ms == 15_000
    assert settings.wait.is_on
    assert settings.cooldown.apikey.base_ms == 1500


def test_merging_leaves_its_arguments_alone() -> None:
    stored = {"waitForCooldown": {"maxRetries": 1}}
    change = {"waitForCooldown": {"maxRetries": 2}}
    result = merged(stored, change)
    result["waitForCooldown"]["maxRetries"] = 3
    assert (stored, change) == ({"waitForCooldown": {"maxRetries": 1}}, {"waitForCooldown": {"maxRetries": 2}})


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({"profile": "reckless"}, {"profile"}),
        ({"profile": 1}, {"profile"}),
        ({"profile": None}, {"profile"}),
        ({"nonsense": 1}, {"nonsense"}),
        ({"requestQueue": 1}, {"requestQueue"}),
        ({"connectionCooldown": {"oauth": None}}, {"connectionCooldown.oauth"}),
        ({"connectionCooldown": {"cookie": {}}}, {"connectionCooldown.cookie"}),
        ({"connectionCooldown": {"oauth": {"baseCooldownMs": 0}}}, {"connectionCooldown.oauth.baseCooldownMs"}),
        ({"connectionCooldown": {"local": {"useUpstreamRetryHints": 1}}},
         {"connectionCooldown.local.useUpstreamRetryHints"}),
        ({"waitForCooldown": {"enabled": "yes", "maxRetries": 1.5}},
         {"waitForCooldown.enabled", "waitForCooldown.maxRetries"}),
        ({"requestQueue": {"maxWaitMs": True}}, {"requestQueue.maxWaitMs"}),
        ({"requestQueue": {"maxWait": 5}}, {"requestQueue.maxWait"}),
        ({"providerBreaker": {"local": {"failureThreshold": 0}}}, {"providerBreaker.local.failureThreshold"}),
        ({"providerBreaker": {"local": {"failureThreshold": 1}}}, {"providerBreaker.local.degradationThreshold"}),
        ({"providerBreaker": {"oauth": {"degradationThreshold": 8}}}, {"providerBreaker.oauth.degradationThreshold"}),
        ({"providerBreaker": {"oauth": {"degradationThreshold": 7}}}, set()),
        ({"providerBreaker": {"local": {"failureThreshold": 1, "degradationThreshold": 0}}}, set()),
        ({}, set()),
        ({"requestQueue": {}}, set()),
    ],
)  # fmt: skip
def test_problems_are_named_by_path(change: Any, paths: set[str]) -> None:
    found = problems(change)
    assert set(found) == paths
    assert all(text for text in found.values())


def test_a_threshold_may_be_wrong_only_with_what_is_stored() -> None:
    change = {"providerBreaker": {"oauth": {"failureThreshold": 6}}}
    assert problems(change) == {}
    stored = {"providerBreaker": {"oauth": {"degradationThreshold": 7}}}
    assert set(problems(change, stored)) == {"providerBreaker.oauth.degradationThreshold"}


def test_the_environment_wins_and_keeps_the_label_below_the_threshold() -> None:
    stored = {"providerBreaker": {"oauth": {"failureThreshold": 20, "resetTimeoutMs": 1000}}}
    fixed = {"providerBreaker.oauth.failureThreshold": 3, "providerBreaker.local.resetTimeoutMs": 7}
    settings = effective(stored, fixed)
    assert (settings.breaker.oauth.threshold, settings.breaker.oauth.degraded_at) == (3, 2)
    assert settings.breaker.oauth.reset_ms == 1000
    assert settings.breaker.local.reset_ms == 7


def test_every_setting_is_public_once_and_can_be_set() -> None:
    shown = public(DEFAULTS)
    for path, key in KEYS.items():
        value: Any = shown
        for name in path.split("."):
            value = value[name]
        assert key.is_fit(value), path
        assert key.takes
        other = value - 1 if path.endswith("degradationThreshold") else value + 1
        other = not value if isinstance(value, bool) else other
        stored: Any = other
        for name in reversed(path.split(".")):
            stored = {name: stored}
        changed = public(effective(stored))
        assert changed != shown, path


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.dictionaries(
        st.sampled_from(
            ["profile", "oauth", "local", *{p.split(".")[0] for p in KEYS}, *{p.split(".")[-1] for p in KEYS}]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["profile", *{path.split(".")[0] for path in KEYS}]), values, max_size=6))
def test_whatever_is_stored_gives_settings_that_fit(stored: dict[str, Any]) -> None:
    settings = effective(stored)
    assert problems(public(settings)) == {}
    if not problems(stored):
        assert effective(merged({}, stored)) == settings

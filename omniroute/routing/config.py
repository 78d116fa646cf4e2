"""The settings of a combo: names, defaults, ranges, and which level a value comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class ComboConfig:
    """Effective settings of one block. Times in milliseconds where the name says so; see `KEYS` for public names."""

    max_retries: int = 1
    retry_delay_ms: int = 2000
    failover_before_retry: bool = True
    max_set_retries: int = 0
    set_retry_delay_ms: int = 2000
    max_attempts: int = 12
    fallback_delay_ms: int = 0
    timeout_ms: int | None = None
    target_timeout_ms: int = 120_000
    concurrency_per_model: int = 0
    queue_timeout_ms: int = 30_000
    queue_depth: int = 20
    sticky_round_robin_limit: int = 1
    sticky_weighted_limit: int = 1
    disable_session_stickiness: bool = False
    max_combo_depth: int = 3
    nested_combo_mode: str = "flatten"
    allow_fallback_chain: bool = True
    least_used_window_min: int = 60
    handoff_threshold: float = 0.85
    handoff_model: str | None = None
    max_messages_for_summary: int = 30
    context_requirements: Mapping[str, Any] = field(default_factory=dict)
    candidate_pool: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    mode_pack: str | None = None
    exploration_rate: float | None = None
    budget_cap: float | None = None
    budget_fallback: str = "soft"
    reserve_percent: float = 10.0
    reserve_release_percent: float = 10.0
    spend_reserve: str = "last-resort"
    hedging: bool = False
    hedge_delay_ms: int | str = 500
    hedge_allow_paid: bool = False
    mid_stream_continuation: bool = False
    response_validation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def min_context_window(self) -> int | None:
        """Tokens that a target's window must have; None for no demand."""
        value = self.context_requirements.get("minContextWindow")
        return value if isinstance(value, int) else None


DEFAULTS: Final = ComboConfig()

Check = Callable[[Any], bool]


def _whole(least: int, most: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(least: float, most: float) -> Check:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _word(*words: str) -> Check:
    return lambda value: isinstance(value, str) and value in words


def _name(value: Any) -> bool:
    return value is None or (isinstance(value, str) and 1 <= len(value) <= 300)


def _names(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) <= 500 and all(isinstance(v, str) and v for v in value)


def _weights(value: Any) -> bool:
    is_number = _number(0.0, 1000.0)
    return isinstance(value, Mapping) and all(name in FACTORS and is_number(number) for name, number in value.items())


def _context(value: Any) -> bool:
    is_window = _whole(1000, 10_000_000)
    return isinstance(value, Mapping) and all(
        name == "minContextWindow" and (number is None or is_window(number)) for name, number in value.items()
    )


def _hedge_delay(value: Any) -> bool:
    return value == "auto" or _whole(100, 30_000)(value)


def _validation(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    for name, rule in value.items():
        match name:
            case "forbidden" | "required":
                is_fit = _names(rule)
            case "minContentLength":
                is_fit = _whole(0, 1_000_000)(rule)
            case "jsonPath":
                is_fit = isinstance(rule, list | tuple) and len(rule) <= 50 and all(map(_predicate, rule))
            case _:
                is_fit = False
        if not is_fit:
            return False
    return True


def _predicate(rule: Any) -> bool:
    """Say whether something is `{path, equals}` or `{path, exists}`; names and places in a path stand between dots."""
    if not isinstance(rule, Mapping) or len(rule) != 2:
        return False
    path = rule.get("path")
    if not isinstance(path, str) or len(path) > 300 or not all(path.split(".")):
        return False
    if "exists" in rule:
        return isinstance(rule["exists"], bool)
    return "equals" in rule and (rule["equals"] is None or isinstance(rule["equals"], str | bool | int | float))


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


FACTORS: Final = ("latency", "cost", "success", "context", "fitness", "recent", "quota", "breaker")
"""What the `auto` strategy weighs."""
MODES: Final = ("fast", "cheap", "quality", "balanced", "default", "reliable", "offline")


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: its public name, its field, what values it takes, and that in words."""

    name: str
    attribute: str
    is_fit: Check
    takes: str


KEYS: Final[Mapping[str, Key]] = {
    key.name: key
    for key in (
        Key("maxRetries", "max_retries", _whole(0, 10), "0 to 10"),
        Key("retryDelayMs", "retry_delay_ms", _whole(0, 60_000), "0 to 60000"),
        Key("failoverBeforeRetry", "failover_before_retry", _flag, "true or false"),
        Key("maxSetRetries", "max_set_retries", _whole(0, 5), "0 to 5"),
        Key("setRetryDelayMs", "set_retry_delay_ms", _whole(0, 60_000), "0 to 60000"),
        Key("maxAttempts", "max_attempts", _whole(1, 30), "1 to 30"),
        Key("fallbackDelayMs", "fallback_delay_ms", _whole(0, 10_000), "0 to 10000"),
        Key("timeoutMs", "timeout_ms", _or_none(_whole(1000, 3_600_000)), "1000 to 3600000, or null"),
        Key("targetTimeoutMs", "target_timeout_ms", _whole(1000, 3_600_000), "1000 to 3600000"),
        Key("concurrencyPerModel", "concurrency_per_model", _whole(0, 1000), "0 to 1000"),
        Key("queueTimeoutMs", "queue_timeout_ms", _whole(0, 300_000), "0 to 300000"),
        Key("queueDepth", "queue_depth", _whole(0, 1000), "0 to 1000"),
        Key("stickyRoundRobinLimit", "sticky_round_robin_limit", _whole(1, 1000), "1 to 1000"),
        Key("stickyWeightedLimit", "sticky_weighted_limit", _whole(1, 1000), "1 to 1000"),
        Key("disableSessionStickiness", "disable_session_stickiness", _flag, "true or false"),
        Key("maxComboDepth", "max_combo_depth", _whole(1, 10), "1 to 10"),
        Key("nestedComboMode", "nested_combo_mode", _word("flatten", "execute"), "flatten or execute"),
        Key("allowFallbackChain", "allow_fallback_chain", _flag, "true or false"),
        Key("leastUsedWindowMin", "least_used_window_min", _whole(1, 1440), "1 to 1440"),
        Key("handoffThreshold", "handoff_threshold", _number(0.50, 0.94), "0.50 to 0.94"),
        Key("handoffModel", "handoff_model", _name, "a model name, or null"),
        Key("maxMessagesForSummary", "max_messages_for_summary", _whole(5, 100), "5 to 100"),
        Key("contextRequirements", "context_requirements", _context, "{minContextWindow: 1000 to 10000000}"),
        Key("candidatePool", "candidate_pool", _names, "a list of model names"),
        Key("weights", "weights", _weights, f"numbers from 0 for {', '.join(FACTORS)}"),
        Key("modePack", "mode_pack", _or_none(_word(*MODES)), f"one of {', '.join(MODES)}, or null"),
        Key("explorationRate", "exploration_rate", _or_none(_number(0.0, 0.5)), "0 to 0.5, or null"),
        Key("budgetCap", "budget_cap", _or_none(_number(1e-9, 1e6)), "USD above 0, or null"),
        Key("budgetFallback", "budget_fallback", _word("soft", "strict"), "soft or strict"),
        Key("reservePercent", "reserve_percent", _number(0, 50), "0 to 50"),
        Key("reserveReleasePercent", "reserve_release_percent", _number(0, 50), "0 to 50"),
        Key("spendReserve", "spend_reserve", _word("never", "last-resort"), "never or last-resort"),
        Key("hedging", "hedging", _flag, "true or false"),
        Key("hedgeDelayMs", "hedge_delay_ms", _hedge_delay, "100 to 30000, or auto"),
        Key("hedgeAllowPaid", "hedge_allow_paid", _flag, "true or false"),
        Key("midStreamContinuation", "mid_stream_continuation", _flag, "true or false"),
        Key(
            "responseValidation",
            "response_validation",
            _validation,
            "{forbidden?, required?: [text], minContentLength?: 0 to 1000000, jsonPath?: [{path, equals or exists}]}",
        ),
    )
}


def problems(values: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with given settings, by public name; empty when nothing is."""
    found = {}
    for name, value in values.items():
        key = KEYS.get(name)
        if key is None:
            found[name] = "is not a setting of combos"
        elif not key.is_fit(value):
            found[name] = f"must be {key.takes}"
    return found


def effective(levels: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[ComboConfig, dict[str, str]]:
    """Return the settings in force and the level of each one that some level sets.

    Args:
        levels: name and values of each level, the strongest first (`header`, `combo`, `strategy`, `global`). A value
            that is out of its range counts as not given: it may come from an older release or an import.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for level, given in levels:
        for name, value in given.items():
            key = KEYS.get(name)
            if key is None or name in origin or not key.is_fit(value):
                continue
            values[key.attribute] = tuple(value) if isinstance(value, list) else value
            origin[name] = level
    return (replace(DEFAULTS, **values), origin) if values else (DEFAULTS, {})

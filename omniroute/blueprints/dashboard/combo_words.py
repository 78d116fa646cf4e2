"""What the pages of combos say about strategies, settings, channels and reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flask_babel import LazyString
from flask_babel import lazy_gettext as _l


@dataclass(frozen=True, slots=True)
class StrategyWords:
    """A strategy: its name for people, when it is the right one, and an example."""

    label: LazyString
    when: LazyString
    example: LazyString


STRATEGIES: Final[dict[str, StrategyWords]] = {
    "priority": StrategyWords(
        _l("Priority"),
        _l("You have a favourite, and the others only stand in for it."),
        _l("Opus first; while it rests, Sonnet; then a free model."),
    ),
    "fill-first": StrategyWords(
        _l("Fill first"),
        _l("The first one should do all it can take, and what is too much flows over without waiting."),
        _l("A subscription until its window is full, then an API key."),
    ),
    "round-robin": StrategyWords(
        _l("Round robin"),
        _l("All are equally good and should get the same number of requests."),
        _l("Three accounts of one provider, one request each in turn."),
    ),
    "random": StrategyWords(
        _l("Random"),
        _l("You want an even spread and no pattern in it."),
        _l("Any of five free models, drawn anew for each request."),
    ),
    "strict-random": StrategyWords(
        _l("Strict random"),
        _l("Random, but nobody twice before all had their turn."),
        _l("Four models as a shuffled deck of cards."),
    ),
    "weighted": StrategyWords(
        _l("Weighted"),
        _l("Each should get a share that you choose."),
        _l("70% to the cheap model, 30% to the strong one."),
    ),
    "least-used": StrategyWords(
        _l("Least used"),
        _l("The load should even out over an hour, also when requests differ in length."),
        _l("Two providers with the same hourly limit."),
    ),
    "cost-optimized": StrategyWords(
        _l("Cost optimized"),
        _l("The cheapest for this very request should go first; an unknown price comes last."),
        _l("Free, then a small model, then a large one."),
    ),
    "p2c": StrategyWords(
        _l("Power of two choices"),
        _l("Traffic is high, and slow or busy targets should get less of it by themselves."),
        _l("Two are drawn, the less loaded one serves."),
    ),
    "auto": StrategyWords(
        _l("Auto"),
        _l("The best by score should lead: latency, cost, success, context and more, weighted."),
        _l("A pool of ten models, ranked anew for each request."),
    ),
    "lkgp": StrategyWords(
        _l("Last known good"),
        _l("A conversation should stay with the target that served it well."),
        _l("The model that answered last goes first again."),
    ),
    "context-optimized": StrategyWords(
        _l("Context optimized"),
        _l("Long prompts should go where most room is left."),
        _l("A million tokens of window before 200,000."),
    ),
    "context-relay": StrategyWords(
        _l("Context relay"),
        _l("Conversations grow, and should move on to a larger window before they hit the limit."),
        _l("Start at 128,000 tokens, continue at a million."),
    ),
    "expiring-first": StrategyWords(
        _l("Expiring first"),
        _l("Quota that lapses soon should be spent before anything that costs money."),
        _l("The plan whose week ends tomorrow goes first."),
    ),
}


CHANNELS: Final[dict[str, LazyString]] = {
    "auto": _l("A balance of speed, cost, success and quality, for everything."),
    "auto/coding": _l("For coding agents: models that are good at code, call tools and have a large window."),
    "auto/cheap": _l("The lowest cost first; unknown prices come after all known ones."),
    "auto/fast": _l("The shortest time to the first token; nothing is explored."),
    "auto/offline": _l("Only models on this machine or its network; never a remote one."),
    "auto/smart": _l("The best models at reasoning, whatever they cost."),
    "auto/lkgp": _l("As auto, but what served a session well leads again."),
}

FACTORS: Final[dict[str, LazyString]] = {
    "latency": _l("Latency"),
    "cost": _l("Cost"),
    "success": _l("Success"),
    "context": _l("Context"),
    "fitness": _l("Fitness"),
    "recent": _l("Recent failures"),
    "quota": _l("Quota"),
    "breaker": _l("Breaker"),
}

MODES: Final[dict[str, LazyString]] = {
    "balanced": _l("Balanced"),
    "fast": _l("Fast"),
    "cheap": _l("Cheap"),
    "quality": _l("Quality"),
    "reliable": _l("Reliable"),
    "offline": _l("Offline"),
}

_REASONS: Final[dict[str, LazyString]] = {
    "ok": _l("ready"),
    "disabled": _l("switched off in this combo"),
    "inactive": _l("no active connection"),
    "hidden": _l("hidden"),
    "provider_blocked": _l("provider blocked"),
    "terms_not_accepted": _l("terms not accepted"),
    "key_policy": _l("not allowed for this API key"),
    "credential_dead": _l("credential refused"),
    "account_blocked": _l("account blocked"),
    "no_credit": _l("no credit left"),
    "quota_exhausted": _l("quota spent"),
    "quota_cutoff": _l("quota kept back"),
    "cooling": _l("resting"),
    "locked_out": _l("model rests on this connection"),
    "breaker_open": _l("provider rests"),
    "breaker_probe_taken": _l("waits for a probe"),
    "reserve": _l("only the reserve is left"),
    "concurrency_full": _l("all places taken"),
    "rpm_full": _l("request rate reached"),
    "queue_full": _l("queue full"),
    "context_too_small": _l("window too small"),
    "output_too_small": _l("output limit too small"),
    "feature_pinned": _l("pinned to another connection"),
    "price_above_budget": _l("above the budget of a request"),
    "price_unknown": _l("price unknown"),
    "not_local": _l("not local"),
    "low_score": _l("score too low"),
    "channel_excluded": _l("excluded from this channel"),
    "family_not_allowed": _l("family not allowed"),
    "provider_not_allowed": _l("provider not allowed"),
    "tried": _l("tried already"),
    "proxy_unavailable": _l("proxy not reachable"),
    "capability:tools": _l("cannot call tools"),
    "capability:vision": _l("cannot read images"),
    "capability:audio": _l("cannot hear"),
    "capability:document": _l("cannot read documents"),
    "capability:schema": _l("cannot keep to a schema"),
    "capability:reasoning": _l("cannot reason"),
}
_PASSING: Final = frozenset(
    {
        "cooling",
        "locked_out",
        "breaker_open",
        "breaker_probe_taken",
        "concurrency_full",
        "rpm_full",
        "queue_full",
        "quota_exhausted",
        "quota_cutoff",
        "reserve",
        "low_score",
    }
)


def reason_words(reason: str | None, detail: str | None = None) -> str:
    """Return why something is left out, in words."""
    if detail == "assumed":
        return str(_l("taken to fail"))
    return str(_REASONS.get(reason or "", reason or ""))


def kind_of(health: str) -> str:
    """Return the kind of badge of a target's health: what passes by itself is a warning."""
    if health == "ok":
        return "good"
    return "off" if health == "disabled" else "warn" if health in _PASSING else "bad"

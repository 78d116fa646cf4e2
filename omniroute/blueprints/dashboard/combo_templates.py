"""Ready-made combos: each is made out of what is connected at that moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask_babel import LazyString
from flask_babel import lazy_gettext as _l

from omniroute.blueprints.dashboard import api

_MOST: Final = 8
_FREE: Final = ("free", "local")
_TIERS: Final = ("subscription", "cheap", "api_key", "free", "local")
_SANDBOX: Final = "sandbox"


@dataclass(frozen=True, slots=True)
class Pooled:
    """A model that could serve now.

    Attributes:
        tier: of its provider.
        fitness: how good it is at the task of the channel whose pool it is from.
        cost: the factor of its cost: 1 costs nothing more.
    """

    model: str
    provider: str
    tier: str
    fitness: float
    cost: float
    is_free: bool


@dataclass(frozen=True, slots=True)
class Template:
    """A combo to be made.

    Attributes:
        name: of the combo.
        channel: whose pool it is made from.
        choose: the models out of the pool, in their order.
    """

    name: str
    title: LazyString
    text: LazyString
    strategy: str
    channel: str
    choose: Callable[[Sequence[Pooled]], list[Pooled]]
    config: Mapping[str, Any]


def _subscription_first(pool: Sequence[Pooled]) -> list[Pooled]:
    """Return the best of each provider: what is paid for already, then what is cheap, then what is free."""
    best = _best_of_each(pool)
    return sorted(
        best, key=lambda one: (_place(one.tier), -one.cost if one.tier != "subscription" else 0, -one.fitness)
    )


def _free_only(pool: Sequence[Pooled]) -> list[Pooled]:
    return sorted((one for one in pool if one.is_free or one.tier in _FREE), key=lambda one: -one.fitness)


def _one_of_each(pool: Sequence[Pooled]) -> list[Pooled]:
    return sorted(_best_of_each(pool), key=lambda one: -one.fitness)


def _cheapest_capable(pool: Sequence[Pooled]) -> list[Pooled]:
    """Return those of the better half, the cheapest first."""
    able = sorted(pool, key=lambda one: -one.fitness)
    return sorted(able[: max(2, len(able) // 2)], key=lambda one: -one.cost)


def _as_ranked(pool: Sequence[Pooled]) -> list[Pooled]:
    return list(pool)


TEMPLATES: Final = (
    Template(
        "subscription-first",
        _l("Subscription first, then cheap"),
        _l("What you pay for by the month answers first; cheap and free ones stand in when its quota is spent."),
        "priority",
        "auto/coding",
        _subscription_first,
        {},
    ),
    Template(
        "free-only",
        _l("Free only"),
        _l("Nothing in it costs anything: free tiers and local models, the best one first."),
        "fill-first",
        "auto",
        _free_only,
        {},
    ),
    Template(
        "high-availability",
        _l("High availability"),
        _l("The best model of each provider, so that no single outage stops you; the list is tried twice."),
        "priority",
        "auto",
        _one_of_each,
        {"maxSetRetries": 1},
    ),
    Template(
        "cheapest-capable",
        _l("Cheapest capable"),
        _l("The better half of what is connected, and of it the cheapest for each request."),
        "cost-optimized",
        "auto/smart",
        _cheapest_capable,
        {},
    ),
    Template(
        "fast",
        _l("Fast"),
        _l("The shortest time to the first token, ranked anew for each request."),
        "auto",
        "auto/fast",
        _as_ranked,
        {"modePack": "fast"},
    ),
)


def template(name: str) -> Template | None:
    """Return the template with a name."""
    return next((one for one in TEMPLATES if one.name == name), None)


def made(chosen: Template) -> dict[str, Any] | None:
    """Store the combo of a template under a free name and return it; None when nothing is connected that fits it."""
    models = [one.model for one in chosen.choose(_pool(chosen.channel))][:_MOST]
    if not models:
        return None
    taken = {one["name"] for one in api.get("/api/combos", q=chosen.name, limit=200)["combos"]}
    name = next(free for at in range(1, len(taken) + 2) if (free := _numbered(chosen.name, at)) not in taken)
    body = {"name": name, "strategy": chosen.strategy, "models": models, "config": dict(chosen.config)}
    stored: dict[str, Any] = api.post("/api/combos", {**body, "description": str(chosen.text)})
    return stored


def _pool(channel: str) -> list[Pooled]:
    """Return the models that a channel would choose from now, best first; the sandbox only if nothing else is there."""
    candidates = api.get("/api/combos/auto-candidates", channel=channel)["candidates"]
    if not any(one["eligible"] for one in candidates) and channel != "auto":
        candidates = api.get("/api/combos/auto-candidates")["candidates"]
    tiers = {one["id"]: one["tier"] for one in api.get("/api/providers/available")["providers"]}
    found: dict[str, Pooled] = {}
    for one in candidates:
        if one["eligible"] and one["model"] not in found:
            tier = tiers.get(one["provider"], "api_key")
            cost = _factor(one, "cost")
            is_free = cost >= 1.0 and tier != "subscription"
            found[one["model"]] = Pooled(one["model"], one["provider"], tier, _factor(one, "fitness"), cost, is_free)
    real = [one for one in found.values() if one.provider != _SANDBOX]
    return real or list(found.values())


def _factor(candidate: Mapping[str, Any], name: str) -> float:
    factor = candidate["factors"].get(name)
    return float(factor["value"]) if factor else 0.5


def _best_of_each(pool: Iterable[Pooled]) -> list[Pooled]:
    best: dict[str, Pooled] = {}
    for one in pool:
        if one.provider not in best or one.fitness > best[one.provider].fitness:
            best[one.provider] = one
    return list(best.values())


def _place(tier: str) -> int:
    return _TIERS.index(tier) if tier in _TIERS else len(_TIERS)


def _numbered(name: str, at: int) -> str:
    return name if at == 1 else f"{name}-{at}"

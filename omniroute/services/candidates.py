"""Who could serve now, without asking anybody: of an `auto` channel with scores, and of the steps of a combo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from omniroute.gateway.resolver import Resolver
from omniroute.records import Combo
from omniroute.routing.asked import Asked, Chance
from omniroute.routing.options import Features
from omniroute.routing.plan import Plan, Scored
from omniroute.routing.planning import plan
from omniroute.routing.resolve import channel_name
from omniroute.routing.view import View
from omniroute.services.access import Caller
from omniroute.services.combo_steps import StepStanding, standing_of

_USUAL_PROMPT: Final = 1000
"""Tokens of the request that candidates are scored for."""
_SEED: Final = 0
"""Always the same chance, so that asking twice gives the same answer."""


class Candidates:
    """Scores the pools of channels without sending anything."""

    def __init__(self, *, resolver: Callable[[], Resolver], view: View, now: Callable[[], float]) -> None:
        self._resolver = resolver
        self._view = view
        self._now = now

    def of(self, channel: str, caller: Caller) -> dict[str, Any]:
        """Return `{"channel", "candidates"}`, the best first and those that are left out last.

        Raises:
            ModelNotFound: there is no such channel.
            PermissionDenied: the caller's key may use nothing of it.
        """
        name = channel_name(channel)
        resolver = self._resolver()
        resolved = resolver.resolve(name, caller=caller)
        features = Features(requested=name, estimated_input=_USUAL_PROMPT, key_id=caller.key_id)
        asked = Asked(features, self._view, self._now(), Chance(_SEED), resolver.rules, resolved.permits)
        made = plan(resolved.block, asked)
        scores = {scored.target: scored for scored in made.scores}
        providers = {option.name: option.provider for option in resolved.options}
        return {
            "channel": name,
            "candidates": [*_eligible(made, scores), *_left_out(made, scores, providers)],
        }

    def of_combo(self, combo: Combo) -> list[StepStanding]:
        """Return how the steps of a combo stand now, in their order."""
        return standing_of(combo, self._resolver(), self._view, self._now())


def _eligible(made: Plan, scores: dict[str, Scored]) -> Iterator[dict[str, Any]]:
    for entry in made.entries:
        for seat in entry.seats:
            yield {
                **_scored(entry.option.name, scores),
                "provider": entry.option.provider,
                "connection": seat.account.id,
                "eligible": True,
            }


def _left_out(made: Plan, scores: dict[str, Scored], providers: dict[str, str]) -> Iterator[dict[str, Any]]:
    for exclusion in made.exclusions:
        yield {
            **_scored(exclusion.target, scores),
            "provider": providers.get(exclusion.target),
            "connection": exclusion.connection_id,
            "eligible": False,
            "reason": str(exclusion.reason),
        }


def _scored(target: str, scores: dict[str, Scored]) -> dict[str, Any]:
    scored = scores.get(target)
    factors = {} if scored is None else scored.factors
    return {
        "model": target,
        "score": None if scored is None else round(scored.score, 4),
        "factors": {
            name: {"value": round(value, 4), "weight": round(weight, 4), "known": is_known}
            for name, (value, weight, is_known) in factors.items()
        },
    }

"""How the steps of a combo stand now: where each leads, who could serve it, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Final

from omniroute.gateway.blocks import walked
from omniroute.gateway.resolver import Resolver
from omniroute.records import Combo
from omniroute.routing.asked import Asked, Chance
from omniroute.routing.eligibility import Eligibility
from omniroute.routing.options import Features, Option, Step
from omniroute.routing.plan import Exclusion
from omniroute.routing.view import View

OK: Final = "ok"
DISABLED: Final = "disabled"

_NANO: Final = 1e9
_MILLION: Final = 1e6


@dataclass(frozen=True, slots=True)
class StepStanding:
    """One target of a step; a step that leads to several has one for each, one that leads nowhere a single one.

    Attributes:
        number: the place of the step, from 1.
        model: the target; for a step that leads nowhere, its name.
        health: `ok` when a connection could serve now, else why not.
        connections: how many could be asked.
        usable: how many of them could serve now.
        until: when the first of them can again (epoch seconds); None when that is not known, or now.
        input_usd, output_usd: per million tokens; None is not known.
        window: how many tokens it takes; None is not known.
    """

    number: int
    step_id: str
    model: str
    provider: str | None
    weight: float
    health: str
    connections: int = 0
    usable: int = 0
    until: float | None = None
    input_usd: float | None = None
    output_usd: float | None = None
    window: int | None = None


def standing_of(combo: Combo, resolver: Resolver, view: View, now: float) -> list[StepStanding]:
    """Return how the steps of a combo stand, in their order; `now` is epoch seconds."""
    block = resolver.block_of(combo)
    disabled = {step.id for step in combo.steps if not step.enabled}
    judge = Eligibility(Asked(Features(), view, now, Chance(0), resolver.rules))
    found: list[StepStanding] = []
    for number, step in enumerate(block.steps, 1):
        if step.id in disabled:
            found.append(StepStanding(number, step.id, step.name, None, step.weight, DISABLED))
        elif not (targets := list(_targets(step))):
            found.append(StepStanding(number, step.id, step.name, None, step.weight, step.problem or "inactive"))
        else:
            found += [_stands(number, step, target, option, judge) for target, option in targets]
    return found


def _targets(step: Step) -> Iterator[tuple[Step, Option]]:
    if step.option is not None:
        yield step, step.option
    elif step.block is not None:
        inner: list[Step] = []
        walked(step.block, inner.append)
        yield from ((one, one.option) for one in inner if one.option is not None)


def _stands(number: int, step: Step, target: Step, option: Option, judge: Eligibility) -> StepStanding:
    excluded: list[Exclusion] = []
    only = step.connection_id or target.connection_id
    seats = judge.seats(option, only, excluded)
    wanted = [account for account in option.accounts if only is None or account.id == only]
    reasons = [one for one in excluded if only is None or one.connection_id == only]
    first = min(reasons, key=lambda one: inf if one.until is None else one.until, default=None)
    health = OK if seats else "inactive" if first is None else str(first.reason)
    rates = option.rates
    return StepStanding(
        number,
        step.id,
        option.name,
        option.provider,
        step.weight,
        target.problem or health,
        len(wanted),
        0 if target.problem else len(seats),
        None if seats or first is None else first.until,
        _per_million(None if rates is None else rates.input, option),
        _per_million(None if rates is None else rates.output, option),
        option.window,
    )


def _per_million(nano: float | None, option: Option) -> float | None:
    """Return US dollars per million tokens; what costs nothing more is free."""
    if option.is_unmetered:
        return 0.0
    return None if nano is None else round(nano * _MILLION / _NANO, 6)

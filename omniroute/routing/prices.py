"""What a request would cost at an option, and which options a budget leaves. Whole nano-USD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from omniroute.routing.asked import Asked
from omniroute.routing.config import ComboConfig
from omniroute.routing.options import Features, Option, Rates
from omniroute.routing.plan import Exclusion, Reason
from omniroute.routing.view import Figures

NANO: Final = 1_000_000_000
USUAL_OUTPUT: Final = 800
"""Tokens of an answer at an option that has not answered yet."""
OVER_BUDGET: Final = "budget_exceeded"
"""The warning that an answer costs more than its budget, because nothing within it was left."""


def estimate_nano(option: Option, features: Features, figures: Figures) -> int | None:
    """Return what a request is expected to cost; 0 where a call costs nothing more, None where a price is not known.

    How much of the prompt the provider holds in its cache is not known beforehand: all of it counts in full.
    """
    if option.is_unmetered:
        return 0
    rates = option.rates
    if rates is None:
        return None
    step = _step_of(rates, features.estimated_input)
    input_rate = rates.input if step.input is None else step.input
    output_rate = rates.output if step.output is None else step.output
    if input_rate is None or output_rate is None:
        return None
    return round(features.estimated_input * input_rate + expected_output(features, figures) * output_rate)


def expected_output(features: Features, figures: Figures) -> float:
    """Return how many tokens an answer is expected to have."""
    usual = USUAL_OUTPUT if figures.output_mean is None else figures.output_mean
    return usual if features.max_output is None else min(features.max_output, usual)


def _step_of(rates: Rates, tokens: int) -> Rates:
    """Return the rates for a prompt's length: the longest step that it exceeds counts for all of it."""
    found = rates
    for above, dearer in rates.steps:
        if tokens <= above:
            break
        found = dearer
    return found


@dataclass(frozen=True, slots=True)
class Budgeted:
    """What a budget leaves.

    Attributes:
        kept: indexes of the options that may be tried, ascending.
        is_refused: none is left, and the budget is strict.
        warnings: what the caller is told of an answer that costs more than its budget.
    """

    kept: tuple[int, ...]
    exclusions: tuple[Exclusion, ...] = ()
    is_refused: bool = False
    warnings: tuple[str, ...] = ()


def budget_of(features: Features, config: ComboConfig) -> int | None:
    """Return the highest cost of a request: the request's own, else the combo's; None for no limit."""
    if features.budget_nano is not None:
        return features.budget_nano
    return None if config.budget_cap is None else round(config.budget_cap * NANO)


def within_budget(options: Sequence[Option], eligible: Sequence[int], asked: Asked, config: ComboConfig) -> Budgeted:
    """Leave out the options whose estimate exceeds the budget, and where it is strict, those without a known price.

    Where nothing is left, a soft budget gives way for the cheapest option; a strict one refuses the request.

    `eligible` are indexes into `options`, ascending; `config` has the settings in force, what the request's headers say
    included.
    """
    budget = budget_of(asked.features, config)
    if budget is None:
        return Budgeted(tuple(eligible))
    is_strict = asked.features.is_budget_strict or config.budget_fallback == "strict"
    kept, excluded = [], []
    cheapest: tuple[int, int] | None = None
    for index in eligible:
        option = options[index]
        price = estimate_nano(option, asked.features, asked.view.figures(option.name))
        if price is None:
            if is_strict:
                excluded.append((index, Exclusion(option.name, Reason.PRICE_UNKNOWN)))
            else:
                kept.append(index)
        elif price <= budget:
            kept.append(index)
        else:
            cheapest = min(cheapest or (price, index), (price, index))
            excluded.append((index, Exclusion(option.name, Reason.PRICE_ABOVE_BUDGET, detail=f"{price} nano-USD")))
    if kept or not excluded:
        return Budgeted(tuple(kept), tuple(exclusion for _, exclusion in excluded))
    if is_strict or cheapest is None:
        return Budgeted((), tuple(exclusion for _, exclusion in excluded), is_refused=True)
    return Budgeted(
        kept=(cheapest[1],),
        exclusions=tuple(exclusion for index, exclusion in excluded if index != cheapest[1]),
        warnings=(OVER_BUDGET,),
    )

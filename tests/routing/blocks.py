"""Blocks, options and questions for the tests of strategies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omniroute.routing.asked import AccountRules, Asked, Chance
from omniroute.routing.config import ComboConfig
from omniroute.routing.options import Account, AuthClass, Block, Features, Option, Rates, Step, Strategy
from omniroute.routing.plan import Intent
from omniroute.routing.strategies import Ordering, order_steps
from omniroute.routing.view import Still, View

NOW = 1_800_000_000.0
COMBO = "combo_1"


def account(name: str, *, provider: str = "p", priority: int = 1, created_at: float = 0.0) -> Account:
    return Account(
        name, provider, AuthClass.API_KEY, priority=priority, created_at=created_at, rest_scope=f"connection:{name}"
    )


def option(name: str, **facts: Any) -> Option:
    """Return `name/m` with one account of the same name, unless told otherwise."""
    facts.setdefault("accounts", (account(name, provider=name),))
    return Option(f"{name}/m", name, "m", **facts)


def options(count: int, **facts: Any) -> list[Option]:
    return [option(chr(ord("a") + index), **facts) for index in range(count)]


def priced(name: str, nano: float | None, **facts: Any) -> Option:
    """Return an option whose tokens all cost the same."""
    return option(name, rates=None if nano is None else Rates(nano, nano), **facts)


def block(
    strategy: Strategy,
    leads: Sequence[Option],
    *,
    weights: Sequence[float] | None = None,
    config: ComboConfig | None = None,
    scope: str = COMBO,
) -> Block:
    """Return a block with a step per option, whose id is `s` and its number."""
    steps = tuple(
        Step(f"s{index}", option=lead, weight=weights[index] if weights else 1.0, name=lead.name)
        for index, lead in enumerate(leads)
    )
    return Block(strategy, steps, scope=scope, config=config or ComboConfig())


def asked(
    view: View | None = None,
    *,
    seed: int = 1,
    now: float = NOW,
    rules: AccountRules | None = None,
    **features: Any,
) -> Asked:
    return Asked(
        features=Features(**features), view=view or Still(), now=now, chance=Chance(seed), rules=rules or AccountRules()
    )


def names(leads: Sequence[Option], ordering: Ordering) -> str:
    """Return the order as the first letters of the options."""
    return "".join(leads[index].name[0] for index in ordering.order)


class Table:
    """A combo that is asked again and again: what strategies want kept is kept, as the gateway does it."""

    def __init__(self, given: Block, **numbers: Any) -> None:
        self.block = given
        self.leads = [step.option for step in given.steps if step.option is not None]
        self.counters: dict[tuple[str, str], Any] = {}
        self.numbers = numbers
        self.seed = 0

    def ask(self, *, without: Sequence[int] = (), **features: Any) -> Ordering:
        eligible = [index for index in range(len(self.leads)) if index not in without]
        self.seed += 1
        view = Still(counters=self.counters, **self.numbers)
        ordering = order_steps(self.block, self.leads, eligible, asked(view, seed=self.seed, **features))
        apply_intents(self.counters, ordering.intents)
        assert sorted(ordering.order) == eligible
        return ordering

    def heads(self, count: int, *, without: Sequence[int] = ()) -> list[int]:
        return [self.ask(without=without).order[0] for _ in range(count)]


def apply_intents(counters: dict[tuple[str, str], Any], intents: Sequence[Intent]) -> None:
    """Keep what is wanted kept; what is noted at the end of a request is added up."""
    for intent in intents:
        key = (intent.scope, intent.kind)
        counters[key] = counters.get(key, 0) + intent.value if intent.is_at_end else intent.value


def chi_square(counts: Mapping[Any, int], cells: int) -> float:
    """Return how far counts are from being equal."""
    expected = sum(counts.values()) / cells
    missing = cells - len(counts)
    return sum((count - expected) ** 2 / expected for count in counts.values()) + missing * expected

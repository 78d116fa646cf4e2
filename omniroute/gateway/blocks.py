"""From combos and found options to blocks: what routing plans with, compiled once per name and configuration.

A step that leads nowhere just now (its provider was switched off, its model has vanished, an import refers to itself)
stays in the block with its problem: it is explained, never an error, and the steps behind it keep their places.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final, Protocol

from omniroute.errors import CallerError, PermissionDenied
from omniroute.providers.spec import Model, Provider
from omniroute.records import Combo, ComboStep, ProviderRouting
from omniroute.routing.auto import CHANNELS
from omniroute.routing.config import DEFAULTS, ComboConfig, effective
from omniroute.routing.options import Account, Block, Option, Step, Strategy
from omniroute.routing.plan import Reason
from omniroute.routing.resolve import AUTO, Book, Kind, resolve

MOST_STEPS: Final = 1000
"""Steps of a combo together with those of the combos in it: references multiply."""

_FLAGGED: Final = ("hedging", "midStreamContinuation")
"""What a feature flag of the same name can keep from all combos."""
_POOLED: Final = "pool:"
_DEAD: Final = Reason.INACTIVE.value


Scores = Callable[[str], tuple[float, float, float] | None]
"""How good a model is, by its id; None is not known."""


def _unrated(_model: str) -> None:
    return None


class Lookup(Protocol):
    """Finds options by name: the directory."""

    def find(self, name: str) -> Sequence[Option]:
        """Return the options of a model name, first choice first."""
        ...

    def pinned(self, provider: str, name: str) -> Sequence[Option]:
        """Return the options of a model at one provider."""
        ...

    def provider(self, name: str) -> Provider | None:
        """Return the provider or node with this id, prefix or alias."""
        ...

    def models_of(self, provider_id: str) -> Mapping[str, Model]:
        """Return the listed models of a provider."""
        ...

    def accounts_of(self, provider_id: str) -> Sequence[Account]:
        """Return the usable accounts of a provider in their order."""
        ...


class ChannelPools(Protocol):
    """Has the pools of the `auto` channels."""

    def pool(self, channel: str, key_id: str = "") -> Block:
        """Return everything that a channel may choose from, as it is tuned for a key; "" is nobody in particular."""
        ...


@dataclass(frozen=True, slots=True)
class ComboDefaults:
    """The settings that combos have unless they say otherwise."""

    everywhere: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    by_strategy: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    denied: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What no combo may have, because a feature flag is off."""

    @classmethod
    def stored(cls, settings: Mapping[tuple[str, str], Any]) -> ComboDefaults:
        """Read them from the run-time settings."""
        everywhere = settings.get(("combo-defaults", "config"))
        by_strategy = settings.get(("combo-defaults", "strategies"))
        return cls(
            everywhere if isinstance(everywhere, Mapping) else {},
            {name: config for name, config in by_strategy.items() if isinstance(config, Mapping)}
            if isinstance(by_strategy, Mapping)
            else {},
            {name: False for name in _FLAGGED if settings.get(("flags", name)) is False},
        )

    def levels(self, *between: tuple[str, Mapping[str, Any]]) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """Return the levels of settings, the strongest first, with those of one block in their place."""
        inner = (*between, ("global", self.everywhere))
        return (("flag", self.denied), *inner) if self.denied else inner

    def effective(self, combo: Combo) -> tuple[ComboConfig, dict[str, str]]:
        """Return the settings of a combo, and which level each comes from."""
        of_strategy = self.by_strategy.get(combo.strategy, {})
        return effective(self.levels(("combo", combo.config), ("strategy", of_strategy)))


class Blocks:
    """Compiles blocks over one configuration."""

    def __init__(
        self,
        *,
        book: Book,
        lookup: Lookup,
        pools: ChannelPools | None,
        defaults: ComboDefaults,
        provider_routing: Mapping[str, ProviderRouting],
        scores: Scores = _unrated,
    ) -> None:
        """`scores` rates models for combos that choose by score."""
        self._book = book
        self._scores = scores
        self._rated: dict[Option, Option] = {}
        self._spelt = book.without_patterns()
        self._lookup = lookup
        self._pools = pools
        self._defaults = defaults
        self._blocked = frozenset(name for name, chosen in provider_routing.items() if chosen.is_blocked)

    def is_blocked(self, option: Option) -> bool:
        """Say whether the operator has blocked the provider of an option."""
        return option.provider in self._blocked

    def of_options(self, options: Sequence[Option], name: str = "") -> Block:
        """Return the block of a plain model name: its options in their order, under what holds for everybody."""
        config, levels = effective(self._defaults.levels())
        steps = tuple(self._step(option.name, option) for option in options)
        return _sealed(Block(Strategy.PRIORITY, steps, name=name, config=config, levels=levels))

    def of_channel(self, channel: str, key_id: str = "") -> Block:
        """Return the pool of a channel as it is tuned for a key; an empty one where there are no pools."""
        if self._pools is None:
            return _sealed(Block(Strategy.AUTO, (), scope=channel, name=channel, channel=channel))
        return self._pools.pool(channel, key_id)

    def of_combo(self, combo: Combo) -> Block:
        """Return the block of a combo with those of the combos in it."""
        config, _ = self._defaults.effective(combo)
        return self._combo(combo, (), config.max_combo_depth, _Budget(MOST_STEPS))

    def of_names(self, names: Sequence[str], name: str) -> Block:
        """Return a block that tries what the names stand for, one after the other; what is nothing now is left out."""
        steps = []
        for place, wanted in enumerate(names):
            step = self._named(wanted, f"{place}", is_last=place == len(names) - 1)
            if step is not None:
                steps.append(step)
        return _sealed(Block(Strategy.PRIORITY, tuple(steps), name=name))

    def _named(self, wanted: str, step_id: str, *, is_last: bool) -> Step | None:
        try:
            found = resolve(wanted, self._book, self._lookup.find)
        except CallerError:
            return None
        match found.kind:
            case Kind.CHANNEL:
                return Step(step_id, block=self.of_channel(found.channel), name=wanted) if is_last else None
            case Kind.COMBO if found.combo is not None:
                return Step(step_id, block=self.of_combo(found.combo), name=wanted)
            case _:
                return self._of_found(step_id, found.options, name=wanted, scope="")

    def _combo(self, combo: Combo, above: tuple[str, ...], depth: int, budget: _Budget) -> Block:
        config, levels = self._defaults.effective(combo)
        strategy = Strategy(combo.strategy) if combo.strategy in frozenset(Strategy) else Strategy.PRIORITY
        inside = _Inside(combo.id, (*above, combo.id), depth, budget)
        steps = tuple(self._combo_step(step, inside) for step in _chosen(combo, strategy, config))
        return _sealed(
            Block(
                strategy,
                steps,
                scope=combo.id,
                name=combo.name,
                channel=AUTO if strategy is Strategy.AUTO else "",
                config=config,
                levels=levels,
                allowed_providers=combo.allowed_providers,
                allowed_families=combo.allowed_families,
            )
        )

    def _combo_step(self, step: ComboStep, inside: _Inside) -> Step:
        made = self._alive(step, inside) if step.enabled and inside.budget.take() else None
        if made is None:
            made = Step(step.id, name=_name_of(step), problem=_DEAD)
        return replace(made, weight=step.weight, label=step.label, connection_id=step.connection_id)

    def _alive(self, step: ComboStep, inside: _Inside) -> Step | None:
        """Return a step that leads somewhere; None for one that does not."""
        match step.kind:
            case "combo-ref":
                return self._reference(step, self._book.combos.get(step.combo_name), inside)
            case "auto" if step.channel in CHANNELS:
                return Step(step.id, block=self.of_channel(step.channel), name=step.channel)
            case "model":
                return self._model(step, inside)
            case _:
                return None

    def _reference(self, step: ComboStep, combo: Combo | None, inside: _Inside) -> Step | None:
        if combo is None or combo.id in inside.path or len(inside.path) >= inside.depth:
            return None
        return Step(step.id, block=self._combo(combo, inside.path, inside.depth, inside.budget), name=combo.name)

    def _model(self, step: ComboStep, inside: _Inside) -> Step | None:
        try:
            if step.provider is not None:
                options = self._lookup.pinned(step.provider, step.model)
            else:
                options = self._lookup.find(step.model)
        except PermissionDenied:
            return Step(step.id, name=_name_of(step), problem=Reason.HIDDEN.value)
        except CallerError:
            return self._by_alias(step, inside) if step.provider is None else None
        if step.connection_id is not None:
            options = [option for option in options if _has_account(option, step.connection_id)]
        return self._of_found(step.id, options, name=step.model, scope=inside.scope) if options else None

    def _by_alias(self, step: ComboStep, inside: _Inside) -> Step | None:
        """Return what an alias of exactly this name leads to. Patterns are for callers: a catch-all would loop."""
        if next(self._spelt.aliases.exact(step.model), None) is None:
            return None
        try:
            found = resolve(step.model, self._spelt, self._lookup.find)
        except CallerError:
            return None
        match found.kind:
            case Kind.CHANNEL:
                return Step(step.id, block=self.of_channel(found.channel), name=step.model)
            case Kind.COMBO:
                return self._reference(step, found.combo, inside)
            case Kind.OPTIONS:
                return self._of_found(step.id, found.options, name=step.model, scope=inside.scope)

    def _of_found(self, step_id: str, options: Sequence[Option], *, name: str, scope: str) -> Step:
        """Return one step for what a name leads to: several providers share it, and are tried in turn."""
        if scope:
            options = [self._with_scores(option) for option in options]
        if len(options) == 1:
            return self._step(step_id, options[0])
        # Each has the id of the step, under which its use is counted.
        steps = tuple(self._step(step_id, option) for option in options)
        return Step(step_id, block=_sealed(Block(Strategy.PRIORITY, steps, scope=scope)), name=name)

    def _with_scores(self, option: Option) -> Option:
        if option.fitness is not None:
            return option
        known = self._rated.get(option)
        if known is None:
            known = self._rated[option] = replace(option, fitness=self._scores(option.model))
        return known

    def _step(self, step_id: str, option: Option) -> Step:
        problem = Reason.PROVIDER_BLOCKED.value if self.is_blocked(option) else None
        return Step(step_id, option=option, name=option.name, problem=problem)


@dataclass(slots=True)
class _Budget:
    left: int

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


@dataclass(frozen=True, slots=True)
class _Inside:
    """Where a step stands: the combo whose metrics it counts for, and the combos above it."""

    scope: str
    path: tuple[str, ...]
    depth: int
    budget: _Budget


def _chosen(combo: Combo, strategy: Strategy, config: ComboConfig) -> tuple[ComboStep, ...]:
    """Return the steps to plan with: those of the combo, or with `auto` the pool that its settings name instead."""
    if strategy is not Strategy.AUTO or not config.candidate_pool:
        return combo.steps
    known = {step.model: step for step in combo.steps if step.kind == "model"}
    return tuple(known.get(name) or ComboStep(f"{_POOLED}{name}", model=name) for name in config.candidate_pool)


def _name_of(step: ComboStep) -> str:
    return step.combo_name or step.channel or step.model


def _has_account(option: Option, connection_id: str) -> bool:
    return any(account.id == connection_id for account in option.accounts)


def walked(block: Block, visit: Callable[[Step], object]) -> None:
    """Call `visit` with every step that has an option, also in the blocks inside a block."""
    for step in block.steps:
        if step.block is not None:
            walked(step.block, visit)
        elif step.option is not None:
            visit(step)


def without(block: Block, names: frozenset[str]) -> Block:
    """Return a block without the options of these names; those that have been tried need no second plan."""
    steps = []
    for step in block.steps:
        if step.block is not None:
            inner = without(step.block, names)
            if inner.steps:
                steps.append(step if inner is step.block else replace(step, block=inner))
        elif step.option is None or step.option.name not in names:
            steps.append(step)
    return block if tuple(steps) == block.steps else _sealed(replace(block, steps=tuple(steps)))


def _sealed(block: Block) -> Block:
    """Give a block the hash of everything that shapes a plan of it."""
    document = [
        block.strategy,
        block.scope,
        block.name,
        block.channel,
        _unusual(block.config),
        block.allowed_providers,
        block.allowed_families,
        [_shape(step) for step in block.steps],
    ]
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=list)
    return replace(block, policy_hash=blake2b(text.encode(), digest_size=8).hexdigest())


def _unusual(config: ComboConfig) -> dict[str, Any]:
    if config is DEFAULTS:
        return {}
    values = ((item.name, getattr(config, item.name)) for item in dataclasses.fields(config))
    return {name: value for name, value in values if value != getattr(DEFAULTS, name)}


def _shape(step: Step) -> list[Any]:
    option = step.option
    inner: Any = None
    if option is not None:
        inner = [option.name, option.effort, [account.id for account in option.accounts]]
    elif step.block is not None:
        inner = step.block.policy_hash
    return [step.id, step.weight, step.connection_id, step.problem, inner]

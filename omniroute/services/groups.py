"""Combos and `auto` channels as models: what the model lists say of a name that stands for several targets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from omniroute.gateway.blocks import walked
from omniroute.gateway.resolver import Resolver
from omniroute.records import Combo
from omniroute.routing.auto import CHANNELS
from omniroute.routing.options import Block, Option, Step, Strategy

COMBO: Final = "combo"
AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class Group:
    """A name for several targets.

    Attributes:
        owner: `combo` or `auto`.
        targets: what it may lead to now, each once.
        context: the operator's figure, else the smallest window that is known; None where none is.
        capabilities: what all targets are known to do.
        combo: the combo; None for a channel.
    """

    name: str
    owner: str
    strategy: Strategy
    targets: tuple[Option, ...]
    context: int | None
    is_context_set: bool
    capabilities: frozenset[str]
    combo: Combo | None = None

    @property
    def connection_ids(self) -> frozenset[str]:
        """The connections of all targets."""
        return frozenset(account.id for option in self.targets for account in option.accounts)

    @property
    def max_output(self) -> int | None:
        """The least that a target may answer with; None where none is known."""
        return min((option.max_output for option in self.targets if option.max_output is not None), default=None)

    @property
    def is_free(self) -> bool:
        """Whether no target costs anything."""
        return bool(self.targets) and all(option.tier in ("free", "local") for option in self.targets)


def groups_of(resolver: Resolver) -> Iterator[Group]:
    """Return the active combos in their order, then the channels that have something to choose from."""
    for combo in resolver.snapshot.combos:
        if combo.is_active:
            yield group_of(combo.name, resolver.block_of(combo), combo)
    for channel in CHANNELS:
        found = group_of(channel, resolver.channel(channel), None)
        if found.targets:
            yield found


def group_of(name: str, block: Block, combo: Combo | None) -> Group:
    """Describe a block as one model."""
    options: dict[str, Option] = {}

    def visit(step: Step) -> None:
        if step.option is not None and step.problem is None:
            options.setdefault(step.option.name, step.option)

    walked(block, visit)
    targets = tuple(options.values())
    chosen = combo.context_length if combo is not None else None
    return Group(
        name=name,
        owner=AUTO if combo is None else COMBO,
        strategy=block.strategy,
        targets=targets,
        context=chosen or smallest_window(targets),
        is_context_set=chosen is not None,
        capabilities=shared_capabilities(targets),
        combo=combo,
    )


def smallest_window(targets: Iterable[Option]) -> int | None:
    """Return the smallest window that is known, in tokens."""
    return min((option.window for option in targets if option.window is not None), default=None)


def shared_capabilities(targets: Iterable[Option]) -> frozenset[str]:
    """Return what all targets are known to do."""
    known = [option.capabilities or frozenset() for option in targets]
    return frozenset.intersection(*known) if known else frozenset()

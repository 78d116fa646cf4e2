"""What the `auto` channels choose from: the best few chat models of each connected provider.

A pool is made when its channel is first asked for and kept as long as the configuration. Models are looked at as rows
of the catalogue; options are made of those only that get into a pool.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, Protocol

from omniroute.gateway.blocks import ComboDefaults
from omniroute.gateway.directory import Leg
from omniroute.gateway.options import capabilities_of
from omniroute.providers.spec import Model, ModelKind, Provider, Tier
from omniroute.records import ChannelTuning, Snapshot
from omniroute.routing.auto import CHANNELS, Channel, channel_block, tunings_for
from omniroute.routing.config import DEFAULTS, ComboConfig, effective
from omniroute.routing.fitness import COLUMNS, UNKNOWN, Fitness
from omniroute.routing.options import Block, Option, Strategy, Task
from omniroute.routing.plan import Reason

MOST_OF_PROVIDER: Final = 5
MOST_IN_ALL: Final = 200
_MOST_BLOCKS: Final = 512
"""Keys may have tunings of their own, so that what is kept is bounded."""


class Offers(Protocol):
    """What is connected: the directory."""

    def providers(self) -> Iterable[Provider]:
        """Return every provider and node once."""
        ...

    def legs_of(self, provider_id: str) -> Sequence[Leg]:
        """Return the usable connections of a provider."""
        ...

    def models_of(self, provider_id: str) -> Mapping[str, Model]:
        """Return the listed models of a provider."""
        ...

    def option(self, provider_id: str, model: str) -> Option:
        """Return a model at a connected provider."""
        ...


@dataclass(frozen=True, slots=True)
class _Offer:
    """A model that may get into a pool, before there is an option for it."""

    provider: Provider
    model: str
    is_fit: bool
    fitness: float


class Pools:
    """The pools of one configuration."""

    def __init__(
        self,
        offers: Offers,
        fitness: Fitness,
        *,
        tunings: Sequence[ChannelTuning] = (),
        blocked: Iterable[str] = (),
        config: ComboConfig = DEFAULTS,
    ) -> None:
        """`blocked` are ids of providers that the operator has blocked, `config` the settings of all channels."""
        self._offers = offers
        self._fitness = fitness
        self._tunings = tunings
        self._blocked = frozenset(blocked)
        self._config = config
        self._members: dict[str, tuple[Option, ...]] = {}
        self._options: dict[tuple[str, str], Option] = {}
        self._blocks: dict[tuple[str, str], Block] = {}

    @classmethod
    def of_snapshot(cls, offers: Offers, fitness: Fitness, snapshot: Snapshot) -> Pools:
        """Make them of a configuration: what is set for combos in general holds for channels, but for what makes them.

        That is what they weigh, what they choose from, and how often they explore.
        """
        defaults = ComboDefaults.stored(snapshot.settings)
        levels = defaults.levels(("strategy", defaults.by_strategy.get(Strategy.AUTO, {})))
        return cls(
            offers,
            fitness,
            tunings=snapshot.channels,
            blocked=(name for name, chosen in snapshot.provider_routing.items() if chosen.is_blocked),
            config=effective([(level, _without_own(given)) for level, given in levels])[0],
        )

    def pool(self, channel: str, key_id: str = "") -> Block:
        """Return everything that a channel may choose from, as it is tuned for a key; "" is nobody in particular."""
        tunings = tunings_for(channel, key_id, self._tunings)
        key = (channel, tunings[-1].api_key_id if tunings else "")
        block = self._blocks.get(key)
        if block is None:
            if len(self._blocks) >= _MOST_BLOCKS:
                self._blocks.clear()
            made = channel_block(channel, self.members(channel), tunings, self._config)
            block = self._blocks[key] = _sealed(self._with_blocked(made))
        return block

    def members(self, channel: str) -> tuple[Option, ...]:
        """Return the options of a channel: at most five of each provider and 200 in all, the fittest of each first."""
        known = self._members.get(channel)
        if known is None:
            known = self._members[channel] = tuple(self._option(offer) for offer in self._chosen(CHANNELS[channel]))
        return known

    def _chosen(self, channel: Channel) -> list[_Offer]:
        column = COLUMNS[channel.task or Task.GENERAL]
        ranked: list[tuple[int, float, str, str, _Offer]] = []
        for provider in self._connected(channel):
            for rank, offer in enumerate(
                sorted(self._offered(provider, channel, column), key=_place)[:MOST_OF_PROVIDER]
            ):
                ranked.append((rank, -offer.fitness, provider.id, offer.model, offer))
        # Where there are too many, each provider gives its best before any gives its second.
        kept = sorted(ranked, key=lambda one: one[:4])[:MOST_IN_ALL]
        return [offer for *_, offer in kept]

    def _connected(self, channel: Channel) -> list[Provider]:
        """Return the providers that count; the simulated one only where there is no other."""
        found = [provider for provider in self._offers.providers() if self._offers.legs_of(provider.id)]
        found = [provider for provider in found if not provider.is_implicit] or found
        if channel.is_local_only:
            return [provider for provider in found if provider.is_local or provider.tier is Tier.LOCAL]
        return found

    def _offered(self, provider: Provider, channel: Channel, column: int) -> Iterator[_Offer]:
        listed = self._offers.models_of(provider.id)
        for name, facts in listed.items():
            if facts.kind is ModelKind.CHAT:
                yield from self._offer(provider, name, facts, channel, column)
        for chosen in dict.fromkeys(leg.default_model for leg in self._offers.legs_of(provider.id)):
            if chosen is not None and chosen not in listed:
                yield from self._offer(provider, chosen, None, channel, column)

    def _offer(
        self, provider: Provider, name: str, facts: Model | None, channel: Channel, column: int
    ) -> Iterator[_Offer]:
        scores = self._fitness.scores(name)
        if scores is None:
            return
        able = capabilities_of(facts)
        window = None if facts is None else facts.context
        is_fit = (able is None or channel.needs <= able) and (window is None or window >= channel.min_window)
        yield _Offer(provider, name, is_fit, scores[column])

    def _option(self, offer: _Offer) -> Option:
        key = (offer.provider.id, offer.model)
        option = self._options.get(key)
        if option is None:
            option = self._offers.option(*key)
            if option.fitness is None:
                option = replace(option, fitness=self._fitness.scores(offer.model) or (UNKNOWN, UNKNOWN, UNKNOWN))
            self._options[key] = option
        return option

    def _with_blocked(self, block: Block) -> Block:
        if not self._blocked:
            return block
        steps = tuple(
            replace(step, problem=Reason.PROVIDER_BLOCKED)
            if step.option is not None and step.option.provider in self._blocked
            else step
            for step in block.steps
        )
        return replace(block, steps=steps)


def _place(offer: _Offer) -> tuple[bool, float, str]:
    # The simulated provider lists its well-behaved models first, and all of them are equally good.
    return not offer.is_fit, -offer.fitness, "" if offer.provider.is_implicit else offer.model


_OWN: Final = frozenset({"weights", "modePack", "explorationRate", "candidatePool"})


def _without_own(given: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in given.items() if name not in _OWN}


def pools_by(fitness: Fitness) -> Callable[[Offers, Snapshot], Pools]:
    """Return what makes the pools of a configuration, with one table of fitness for all of them."""
    return lambda offers, snapshot: Pools.of_snapshot(offers, fitness, snapshot)


def _sealed(block: Block) -> Block:
    """Give a channel's block the hash of everything that shapes a plan of it."""
    config = block.config
    document = [
        block.channel,
        dict(config.weights),
        config.exploration_rate,
        repr(replace(config, weights={})),
        [
            [step.name, step.problem, step.option.fitness, [account.id for account in step.option.accounts]]
            for step in block.steps
            if step.option is not None
        ],
    ]
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return replace(block, policy_hash=blake2b(text.encode(), digest_size=8).hexdigest())

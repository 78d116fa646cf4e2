"""What the `auto` channels choose from, over the whole catalogue."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from omniroute.gateway.directory import Directory, Leg
from omniroute.gateway.options import option_of
from omniroute.gateway.pools import MOST_IN_ALL, MOST_OF_PROVIDER, Pools, pools_by
from omniroute.providers import catalog
from omniroute.providers.spec import Model, ModelKind, Provider, Tier
from omniroute.records import AuthType, ChannelTuning, Connection, ProviderRouting, Snapshot
from omniroute.routing.auto import CHANNELS
from omniroute.routing.fitness import load
from omniroute.routing.options import Account, AuthClass, Option
from omniroute.secret import Secret

CATALOGUE = catalog.load()
FITNESS = load()
SANDBOX = next(row for row in CATALOGUE if row.is_implicit)


def leg(name: str, provider_id: str, model: str | None = None) -> Leg:
    return Leg(name, MappingProxyType({}), Account(name, provider_id, AuthClass.API_KEY), model)


class Connected:
    """Some providers with one or more connections each, and how many options were made of their models."""

    def __init__(self, providers: Iterable[Provider], models: Mapping[str, Mapping[str, Model]], legs: int = 1) -> None:
        self.rows = {SANDBOX.id: SANDBOX} | {provider.id: provider for provider in providers}
        self.models = {SANDBOX.id: CATALOGUE.models_of(SANDBOX.id), **models}
        self.legs = {name: tuple(leg(f"{name}-{n}", name) for n in range(legs)) for name in self.rows}
        self.made: list[str] = []

    def providers(self) -> Iterable[Provider]:
        return self.rows.values()

    def legs_of(self, provider_id: str) -> Sequence[Leg]:
        return self.legs[provider_id]

    def models_of(self, provider_id: str) -> Mapping[str, Model]:
        return self.models.get(provider_id, {})

    def option(self, provider_id: str, model: str) -> Option:
        provider, facts = self.rows[provider_id], self.models_of(provider_id).get(model)
        self.made.append(f"{provider.prefix}/{model}")
        accounts = tuple(one.account for one in self.legs[provider_id])
        window = facts.context if facts is not None else None
        return option_of(provider, model, facts, accounts, window=window, effort=None, tariff=None, handles={})


def connected(*names: str, **changes: Any) -> Connected:
    rows = [CATALOGUE.providers[name] for name in names]
    return Connected(rows, {name: CATALOGUE.models_of(name) for name in names}, **changes)


def provider(name: str, **changes: Any) -> Provider:
    return replace(Provider(name, name, name), **changes)


def listed(*models: Model) -> dict[str, Model]:
    return {model.id: model for model in models}


def names(pools: Pools, channel: str = "auto") -> list[str]:
    return [option.name for option in pools.members(channel)]


def test_each_provider_gives_its_fittest_chat_models() -> None:
    pools = Pools(connected("openai", "anthropic", "groq"), FITNESS)
    members = pools.members("auto")
    assert Counter(option.provider for option in members) == {"openai": 5, "anthropic": 5, "groq": 5}
    assert all(option.fitness == FITNESS.scores(option.model) for option in members)
    for name in ("openai", "anthropic", "groq"):
        chat = [model.id for model in CATALOGUE.models_of(name).values() if model.kind is ModelKind.CHAT]
        fitness = {model: scores[0] for model in chat if (scores := FITNESS.scores(model)) is not None}
        ours = [option.model for option in members if option.provider == name]
        assert ours == sorted(fitness, key=lambda model: (-fitness[model], model))[:MOST_OF_PROVIDER]


def test_options_are_made_of_members_only_and_once_for_all_channels() -> None:
    offers = connected("openai", "anthropic")
    pools = Pools(offers, FITNESS)
    assert offers.made == []
    first = pools.members("auto")
    assert sorted(offers.made) == sorted(option.name for option in first)
    assert pools.members("auto") is first
    pools.members("auto/lkgp")
    assert len(offers.made) == len(first)
    assert pools.pool("auto") is pools.pool("auto", "some key")


def test_the_channels_task_says_who_is_fit() -> None:
    some = [Model(f"gpt-5.2-codex-{n}", context=400_000) for n in range(5)] + [Model(f"gpt-5.4-{n}") for n in range(5)]
    pools = Pools(Connected([provider("p")], {"p": listed(*some)}), FITNESS)
    assert all(name.startswith("p/gpt-5.4") for name in names(pools, "auto"))
    assert all(name.startswith("p/gpt-5.2-codex") for name in names(pools, "auto/coding"))
    assert all(name.startswith("p/gpt-5.4") for name in names(pools, "auto/smart"))


def test_coding_prefers_what_meets_its_demands() -> None:
    able: dict[str, Any] = {"capabilities": ("tools",), "input": ("text",)}
    some = listed(
        *(Model(f"claude-opus-5-{n}", capabilities=("vision",), context=200_000) for n in range(3)),
        *(Model(f"claude-opus-4-9-{n}", context=32_000, **able) for n in range(3)),
        *(Model(f"small-{n}", context=128_000, **able) for n in range(3)),
    )
    pools = Pools(Connected([provider("p")], {"p": some}), FITNESS)
    assert names(pools, "auto/coding") == [
        *(f"p/small-{n}" for n in range(3)),
        *(f"p/claude-opus-4-9-{n}" for n in range(2)),
    ]
    assert names(pools, "auto")[0] == "p/claude-opus-4-9-0"


def test_what_does_not_chat_is_in_no_pool() -> None:
    some = listed(
        Model("text-embedding-3-small"),  # an operator's row without a kind
        Model("painter", kind=ModelKind.IMAGE),
        Model("talker"),
    )
    assert names(Pools(Connected([provider("p")], {"p": some}), FITNESS)) == ["p/talker"]


def test_a_connections_own_model_counts_where_nothing_is_listed() -> None:
    offers = Connected([provider("node_1")], {})
    offers.legs["node_1"] = (
        leg("c1", "node_1", "house-model"),
        leg("c2", "node_1", "house-model"),
        leg("c3", "node_1"),
    )
    assert names(Pools(offers, FITNESS)) == ["node_1/house-model"]


def test_the_simulated_provider_serves_only_where_nothing_else_does() -> None:
    alone = Pools(connected(), FITNESS)
    assert names(alone)[0] == "sandbox/echo"
    assert len(names(alone)) == MOST_OF_PROVIDER
    assert names(alone, "auto/offline") == []
    assert not any(name.startswith("sandbox/") for name in names(Pools(connected("groq"), FITNESS)))


def test_offline_holds_local_providers_only() -> None:
    rows = [provider("cloud"), provider("here", tier=Tier.LOCAL, is_local=True), provider("node", is_local=True)]
    models = {row.id: listed(Model("qwen3-8b")) for row in rows}
    pools = Pools(Connected(rows, models), FITNESS)
    assert names(pools, "auto/offline") == ["here/qwen3-8b", "node/qwen3-8b"]
    assert len(names(pools, "auto")) == 3


def test_of_many_providers_each_gives_its_best_before_any_gives_its_second() -> None:
    rows = [provider(f"p{number:02}") for number in range(70)]
    models = {row.id: listed(*(Model(f"gpt-4o-{n}") for n in range(7)), Model("claude-opus-5")) for row in rows}
    pools = Pools(Connected(rows, models), FITNESS)
    counted = Counter(option.provider for option in pools.members("auto"))
    assert len(pools.members("auto")) == MOST_IN_ALL
    assert set(counted.values()) == {2, 3}
    assert sum(option.model == "claude-opus-5" for option in pools.members("auto")) == 70


def test_tunings_hold_for_everybody_or_for_a_key() -> None:
    tunings = (
        ChannelTuning("auto", weights={"cost": 0.0}),
        ChannelTuning("auto", "key-1", exploration=0.2, excluded_providers=("groq",)),
    )
    pools = Pools(connected("groq", "openai"), FITNESS, tunings=tunings)
    general, own = pools.pool("auto"), pools.pool("auto", "key-1")
    assert general.config.weights["cost"] == own.config.weights["cost"] == 0
    assert {step.problem for step in general.steps} == {None}
    assert {step.problem for step in own.steps if step.name.startswith("groq/")} == {"channel_excluded"}
    assert (general.config.exploration_rate, own.config.exploration_rate) == (0.05, 0.2)
    assert general.policy_hash != own.policy_hash
    assert pools.pool("auto/fast").config.weights == {}, "the channel's own"
    assert pools.pool("auto", "key-2") is general


def test_a_configuration_says_who_is_blocked_and_what_holds_for_all_combos() -> None:
    snapshot = Snapshot(
        1,
        settings={
            ("combo-defaults", "config"): {"maxAttempts": 4, "hedging": True},
            ("combo-defaults", "strategies"): {
                "auto": {"maxAttempts": 3, "weights": {"cost": 1}, "explorationRate": 0.5}
            },
        },
        provider_routing={"groq": ProviderRouting("groq", is_blocked=True), "openai": ProviderRouting("openai")},
        channels=(ChannelTuning("auto/smart", exploration=0.0),),
    )
    pools = pools_by(FITNESS)(connected("groq", "openai"), snapshot)
    block = pools.pool("auto/smart")
    assert (block.scope, block.channel, block.name) == ("auto/smart",) * 3
    assert {step.problem for step in block.steps if step.name.startswith("groq/")} == {"provider_blocked"}
    assert {step.problem for step in block.steps if step.name.startswith("openai/")} == {None}
    assert (block.config.max_attempts, block.config.hedging) == (3, True)
    assert (dict(block.config.weights), block.config.exploration_rate) == (dict(CHANNELS["auto/smart"].weights), 0.0)
    assert len(block.policy_hash) == 16


def test_pools_of_everything_are_small_and_quick() -> None:
    rows = [row for row in CATALOGUE if not row.is_implicit][:70]
    every = [model for models in CATALOGUE.models.values() for model in models.values()]
    models = {rows[0].id: listed(*every)} | {row.id: CATALOGUE.models_of(row.id) for row in rows[1:]}
    offers = Connected(rows, models, legs=10)

    tracemalloc.start()
    try:
        pools = Pools(offers, load())
        started = time.perf_counter()
        blocks = [pools.pool(channel) for channel in CHANNELS]
        elapsed = time.perf_counter() - started
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 100 < len(blocks[0].steps) <= MOST_IN_ALL
    assert peak < 20_000_000
    assert elapsed < 20


def test_a_directory_is_what_pools_are_made_of() -> None:
    key = Secret("sk-test-0123456789abcdef")
    rows = [Connection(f"c{n}", "groq", AuthType.API_KEY, f"c{n}", n, True, key) for n in (2, 1)]
    directory = Directory.compile(Snapshot(1, connections=tuple(rows)), CATALOGUE)
    block = Pools(directory, FITNESS).pool("auto/coding")
    assert len(block.steps) == MOST_OF_PROVIDER
    for step in block.steps:
        assert step.option is not None
        assert [account.id for account in step.option.accounts] == ["c1", "c2"]
        assert set(step.option.handles) == {"c1", "c2"}
        assert step.option.fitness == FITNESS.scores(step.option.model)

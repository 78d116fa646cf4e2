"""From the name in a request to the block that is planned with: combos compiled, keys judged, chains."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from omniroute.errors import InvalidRequest, MissingField, ModelNotFound, NotFound, PermissionDenied
from omniroute.gateway.blocks import MOST_STEPS
from omniroute.gateway.directory import Directories
from omniroute.gateway.resolver import Resolved, Resolver, Resolvers, account_rules
from omniroute.providers import catalog
from omniroute.providers.spec import Model, Provider
from omniroute.records import (
    ApiKey,
    AuthType,
    Combo,
    ComboPattern,
    ComboStep,
    Connection,
    FallbackChain,
    ModelAlias,
    ProviderRouting,
    Snapshot,
)
from omniroute.routing.options import Account, AccountStrategy, AuthClass, Block, Option, Step, Strategy
from omniroute.routing.resolve import Kind
from omniroute.secret import Secret
from omniroute.services.access import Caller, CallerKind, ModelRules

CATALOGUE = catalog.load()


def option(provider: str, model: str, *accounts: str) -> Option:
    made = tuple(Account(name, provider, AuthClass.API_KEY) for name in accounts or (f"{provider}-1",))
    return Option(f"{provider}/{model}", provider, model, made)


class Shelf:
    """A directory of three providers, of which any lists what is listed here and takes what is not."""

    LISTED: Mapping[str, tuple[str, ...]] = {"openai": ("gpt", "both"), "groq": ("llama", "both"), "az": ("gpt-az",)}

    def __init__(self) -> None:
        self.asked = 0

    def find(self, name: str) -> Sequence[Option]:
        self.asked += 1
        provider, slash, model = name.partition("/")
        if slash and provider in self.LISTED:
            return (self._option(provider, model),)
        found = tuple(self._option(row, name) for row, models in self.LISTED.items() if name in models)
        if not found:
            raise ModelNotFound(f"no {name}", extras={"reason": "unknown", "suggestions": []})
        return found

    def pinned(self, provider: str, name: str) -> Sequence[Option]:
        if provider not in self.LISTED:
            raise NotFound("no provider", code="provider_not_found")
        prefix, slash, model = name.partition("/")
        if slash and prefix in self.LISTED and prefix != provider:
            raise InvalidRequest("another's", code="model_provider_mismatch")
        return (self._option(provider, model if slash and prefix == provider else name),)

    def provider(self, name: str) -> Provider | None:
        return Provider(name, name, name) if name in self.LISTED else None

    def models_of(self, provider_id: str) -> Mapping[str, Model]:
        return {name: Model(name) for name in self.LISTED[provider_id]}

    def accounts_of(self, provider_id: str) -> Sequence[Account]:
        return self._option(provider_id, "").accounts

    @staticmethod
    def _option(provider: str, model: str) -> Option:
        return option(provider, model, *(("groq-1", "groq-2") if provider == "groq" else ()))


class Pool:
    def pool(self, channel: str, key_id: str = "") -> Block:
        steps = tuple(Step(name, option=option(*name.split("/")), name=name) for name in ("openai/gpt", "groq/llama"))
        return Block(Strategy.AUTO, steps, scope=channel, name=channel + key_id, channel=channel)


NOBODY = Caller(CallerKind.LOCAL, None, "local", "local", ModelRules())


def holder(**fields: Any) -> Caller:
    key = replace(ApiKey("key_1", "k", "n", b"", "", ""), **fields)
    return Caller(CallerKind.KEY, key, key.id, key.name, ModelRules(key.allowed_models, key.blocked_models))


def step(name: str, /, **changes: Any) -> ComboStep:
    return ComboStep(f"step_{name}", **{"model": name, **changes})


def ref(name: str, /, **changes: Any) -> ComboStep:
    return ComboStep(f"ref_{name}", kind="combo-ref", combo_name=name, **changes)


def combo(name: str, *steps: ComboStep, **changes: Any) -> Combo:
    return Combo(f"combo_{name}", name, steps=steps, **changes)


def resolver(*combos: Combo, **parts: Any) -> Resolver:
    return Resolver(Shelf(), Snapshot(1, combos=combos, **parts), pools=Pool())


def outline(block: Block) -> list[Any]:
    """Return a block as nested lists: option names, `!` and the problem of what is dead."""
    return [
        outline(one.block) if one.block else f"!{one.problem}" if one.problem else one.option and one.option.name
        for one in block.steps
    ]


def resolved(own: Resolver, model: str | None, caller: Caller = NOBODY, provider: str | None = None) -> Resolved:
    return own.resolve(model, provider=provider, caller=caller)


# --- plain models -----------------------------------------------------------------------------------------------------


def test_a_plain_model_is_a_block_of_one() -> None:
    found = resolved(resolver(), "openai/gpt")
    assert (found.kind, outline(found.block), found.block.scope) == (Kind.OPTIONS, ["openai/gpt"], "")
    assert (found.combo, found.permits, found.requested) == (None, None, "openai/gpt")


def test_a_bare_id_of_several_providers_is_tried_in_turn() -> None:
    found = resolved(resolver(), "both")
    assert (found.block.strategy, outline(found.block)) == (Strategy.PRIORITY, ["openai/both", "groq/both"])


def test_the_operator_may_want_ambiguous_ids_refused() -> None:
    own = resolver(settings={("routing", "ambiguousModelPolicy"): "refuse"})
    with pytest.raises(InvalidRequest) as caught:
        resolved(own, "both")
    assert caught.value.error_code == "ambiguous_model"
    assert caught.value.extras["candidates"] == ["openai/both", "groq/both"]
    assert resolved(own, "openai/both").options


def test_a_blocked_provider_serves_nothing() -> None:
    own = resolver(
        combo("mix", step("openai/gpt"), step("both")),
        provider_routing={"openai": ProviderRouting("openai", is_blocked=True)},
    )
    with pytest.raises(PermissionDenied) as caught:
        resolved(own, "openai/gpt")
    assert caught.value.error_code == "model_not_allowed"
    assert outline(resolved(own, "both").block) == ["!provider_blocked", "groq/both"]
    assert outline(resolved(own, "mix").block) == ["!provider_blocked", ["!provider_blocked", "groq/both"]]


def test_a_request_without_a_model_takes_the_default_combo() -> None:
    own = resolver(combo("main", step("gpt"), is_default=True))
    found = resolved(own, None)
    assert (found.kind, found.requested, outline(found.block)) == (Kind.COMBO, "main", ["openai/gpt"])
    for without in (resolver(combo("main", step("gpt"), is_default=True, is_active=False)), resolver()):
        with pytest.raises(MissingField):
            resolved(without, None)
    with pytest.raises(MissingField):
        resolved(own, None, provider="openai")


def test_an_empty_name_is_no_name() -> None:
    with pytest.raises(InvalidRequest):
        resolved(resolver(combo("main", step("gpt"), is_default=True)), "")


# --- combos -----------------------------------------------------------------------------------------------------------


def test_a_combo_keeps_its_steps_with_everything_that_orders_them() -> None:
    own = resolver(
        combo(
            "fast",
            step("openai/gpt", weight=3.0, label="Main"),
            step("llama", connection_id="groq-2"),
            strategy="weighted",
            config={"maxRetries": 4},
            allowed_providers=("groq",),
            allowed_families=("llama",),
        )
    )
    block = resolved(own, "fast").block
    assert (block.strategy, block.scope, block.name) == (Strategy.WEIGHTED, "combo_fast", "fast")
    assert (block.allowed_providers, block.allowed_families) == (("groq",), ("llama",))
    assert (block.config.max_retries, block.levels) == (4, {"maxRetries": "combo"})
    first, second = block.steps
    assert (first.id, first.weight, first.label, first.name) == ("step_openai/gpt", 3.0, "Main", "openai/gpt")
    assert second.connection_id == "groq-2"


def test_settings_come_from_the_nearest_level() -> None:
    settings = {
        ("combo-defaults", "config"): {"maxRetries": 1, "queueDepth": 1, "maxAttempts": 3},
        ("combo-defaults", "strategies"): {"random": {"maxRetries": 2, "queueDepth": 2}, "p2c": {"maxRetries": 9}},
    }
    own = resolver(combo("r", step("gpt"), strategy="random", config={"maxRetries": 3}), settings=settings)
    block = resolved(own, "r").block
    assert (block.config.max_retries, block.config.queue_depth, block.config.max_attempts) == (3, 2, 3)
    assert block.levels == {"maxRetries": "combo", "queueDepth": "strategy", "maxAttempts": "global"}


@pytest.mark.parametrize(
    "dead",
    [
        step("nobody-has-it"),
        step("gpt", enabled=False),
        step("gpt", connection_id="conn_of_another"),
        step("gpt", provider="nobody"),
        ref("missing"),
        ref("off"),
        ComboStep("s", kind="auto", channel="auto/magic"),
        ComboStep("s", kind="future"),
    ],
)
def test_a_step_that_leads_nowhere_is_explained_and_no_error(dead: ComboStep) -> None:
    own = resolver(combo("c", dead, step("llama")), combo("off", step("gpt"), is_active=False))
    assert outline(resolved(own, "c").block) == ["!inactive", "groq/llama"]
    assert outline(resolved(resolver(combo("c", dead)), "c").block) == ["!inactive"]


def test_several_providers_of_one_step_share_its_id_and_its_counters() -> None:
    (one,) = resolved(resolver(combo("c", step("both", weight=2.0))), "c").block.steps
    assert one.block is not None
    assert [(inner.id, one.weight) for inner in one.block.steps] == [("step_both", 2.0)] * 2
    assert (one.block.scope, one.block.strategy) == ("combo_c", Strategy.PRIORITY)


def test_a_pinned_connection_chooses_among_providers() -> None:
    (one,) = resolved(resolver(combo("c", step("both", connection_id="groq-2"))), "c").block.steps
    assert one.option is not None
    assert (one.option.name, one.connection_id) == ("groq/both", "groq-2")


def test_a_step_at_a_provider() -> None:
    assert outline(resolved(resolver(combo("c", step("both", provider="groq"))), "c").block) == ["groq/both"]


def test_references_and_channels_are_blocks_in_their_place() -> None:
    own = resolver(
        combo("outer", step("gpt"), ref("inner", weight=5.0), ComboStep("a", kind="auto", channel="auto/fast")),
        combo("inner", step("llama"), strategy="random", config={"maxAttempts": 2}),
    )
    block = resolved(own, "outer").block
    assert outline(block) == ["openai/gpt", ["groq/llama"], ["openai/gpt", "groq/llama"]]
    inner = block.steps[1].block
    assert inner is not None
    assert (inner.strategy, inner.scope, inner.config.max_attempts) == (Strategy.RANDOM, "combo_inner", 2)
    assert block.steps[1].weight == 5.0
    assert [one.name for one in resolved(own, "outer").options] == ["openai/gpt", "groq/llama"]


def test_a_combo_with_the_name_of_a_model_may_hold_that_model() -> None:
    assert outline(resolved(resolver(combo("gpt", step("gpt"))), "gpt").block) == ["openai/gpt"]


def test_an_alias_of_exactly_the_name_of_a_step_counts() -> None:
    rows = (
        ModelAlias("a1", "daily", "groq/llama"),
        ModelAlias("a2", "best", "combo/inner"),
        ModelAlias("a3", "*", "x"),
    )
    own = resolver(combo("c", step("daily"), step("best"), step("other")), combo("inner", step("gpt")), aliases=rows)
    assert outline(resolved(own, "c").block) == ["groq/llama", ["openai/gpt"], "!inactive"]


def test_circles_of_an_old_import_end() -> None:
    own = resolver(combo("a", ref("b"), step("gpt")), combo("b", ref("a"), ref("b"), step("llama")))
    assert outline(resolved(own, "a").block) == [["!inactive", "!inactive", "groq/llama"], "openai/gpt"]
    looped = resolver(combo("a", step("again"), step("gpt")), aliases=(ModelAlias("x", "again", "combo/a"),))
    assert outline(resolved(looped, "a").block) == ["!inactive", "openai/gpt"]


def test_nesting_ends_where_the_outermost_combo_says() -> None:
    nested = [combo(f"c{n}", ref(f"c{n + 1}"), step("gpt"), config={"maxComboDepth": 9}) for n in range(1, 5)]
    own = resolver(combo("c0", ref("c1"), step("gpt")), *nested)
    assert outline(resolved(own, "c0").block) == [[["!inactive", "openai/gpt"], "openai/gpt"], "openai/gpt"]
    deep = outline(resolved(own, "c1").block)
    assert deep == [[[["!inactive", "openai/gpt"], "openai/gpt"], "openai/gpt"], "openai/gpt"]


def test_references_cannot_multiply_without_end() -> None:
    wide = {"maxComboDepth": 10}
    combos = [combo(f"c{n}", *(replace(ref(f"c{n + 1}"), id=f"{i}") for i in range(30)), config=wide) for n in range(8)]
    started = time.perf_counter()
    found = resolved(resolver(*combos, combo("c8", step("gpt"))), "c0")
    assert time.perf_counter() - started < 2
    assert len(found.options) <= MOST_STEPS


def test_the_pool_of_an_auto_combo_may_be_named_in_its_settings() -> None:
    own = resolver(
        combo("c", step("gpt", weight=3.0), strategy="auto", config={"candidatePool": ["groq/llama", "gpt"]}),
        combo("d", step("gpt"), strategy="auto"),
    )
    block = resolved(own, "c").block
    assert (outline(block), block.channel) == (["groq/llama", "openai/gpt"], "auto")
    assert [one.id for one in block.steps] == ["pool:groq/llama", "step_gpt"]
    assert outline(resolved(own, "d").block) == ["openai/gpt"]


def test_a_channel_is_tuned_by_key() -> None:
    assert resolved(resolver(), "auto/fast").block.name == "auto/fast"
    assert resolved(resolver(), "auto/fast", holder()).block.name == "auto/fastkey_1"
    assert resolved(resolver(), "auto/fast", holder()).kind is Kind.CHANNEL


def test_models_of_combos_are_rated() -> None:
    made = combo("c", step("gpt"), step("both"))
    own = Resolver(Shelf(), Snapshot(1, combos=(made,)), scores=lambda model: (0.1, 0.2, len(model) / 10))
    assert [one.fitness for one in resolved(own, "c").options] == [(0.1, 0.2, 0.3), (0.1, 0.2, 0.4), (0.1, 0.2, 0.4)]
    assert [one.fitness for one in resolved(own, "gpt").options] == [None]


def test_a_strategy_that_an_import_misspelt_is_priority() -> None:
    assert resolved(resolver(combo("c", step("gpt"), strategy="magic")), "c").block.strategy is Strategy.PRIORITY


def test_the_hash_changes_with_what_shapes_the_plan() -> None:
    base = combo("c", step("openai/gpt"), ref("d"))
    inner = combo("d", step("llama"))
    block = resolved(resolver(base, inner), "c").block
    assert len(block.policy_hash) == 16
    assert resolved(resolver(base, inner), "c").block.policy_hash == block.policy_hash
    changed = [
        (replace(base, strategy="random"), inner),
        (replace(base, config={"maxRetries": 7}), inner),
        (replace(base, steps=base.steps[:1]), inner),
        (replace(base, steps=(replace(base.steps[0], weight=2.0), base.steps[1])), inner),
        (replace(base, allowed_providers=("groq",)), inner),
        (base, replace(inner, strategy="random")),
    ]
    hashes = {resolved(resolver(*pair), "c").block.policy_hash for pair in changed}
    assert len(hashes) == len(changed)
    assert block.policy_hash not in hashes
    assert resolved(resolver(replace(base, description="x"), inner), "c").block.policy_hash == block.policy_hash


# --- paths that name a provider ---------------------------------------------------------------------------------------


PINNED = {
    "aliases": (
        ModelAlias("a1", "mine", "groq/llama"),
        ModelAlias("a2", "theirs", "openai/gpt"),
        ModelAlias("a3", "mix", "combo/c"),
        ModelAlias("a4", "llama", "openai/gpt"),
        ModelAlias("a5", "*", "openai/gpt"),
    ),
    "combo_patterns": (ComboPattern("m", "x*", "combo_c"),),
}


@pytest.mark.parametrize(("name", "expected"), [("llama", "groq/llama"), ("mine", "groq/llama"), ("x9", "groq/x9")])
def test_a_name_at_one_provider(name: str, expected: str) -> None:
    assert outline(resolved(resolver(combo("c", step("gpt")), **PINNED), name, provider="groq").block) == [expected]


@pytest.mark.parametrize("name", ["theirs", "mix", "c", "combo/c", "combo/nobody", "auto", "auto/fast", "openai/gpt"])
def test_what_leads_away_from_the_named_provider_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolved(resolver(combo("c", step("gpt")), **PINNED), name, provider="groq")
    assert caught.value.error_code == "model_provider_mismatch"


# --- keys -------------------------------------------------------------------------------------------------------------


MIX = combo("mix", step("openai/gpt"), step("groq/llama"), step("nobody"))


def allowed(own: Resolver, model: str, caller: Caller) -> list[str]:
    found = resolved(own, model, caller)
    assert found.permits is not None
    return [
        f"{one.name}@{account.id}" for one in found.options for account in one.accounts if found.permits(one, account)
    ]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"allowed_models": ("groq/*",)}, ["groq/llama@groq-1", "groq/llama@groq-2"]),
        ({"allowed_models": ("llama",)}, ["groq/llama@groq-1", "groq/llama@groq-2"]),
        ({"allowed_models": ("mix",)}, ["openai/gpt@openai-1", "groq/llama@groq-1", "groq/llama@groq-2"]),
        ({"blocked_models": ("groq/*",)}, ["openai/gpt@openai-1"]),
        ({"allowed_connections": ("groq-2",)}, ["groq/llama@groq-2"]),
        ({"allowed_connections": ("groq-2", "openai-1"), "blocked_models": ("gpt",)}, ["groq/llama@groq-2"]),
    ],
)
def test_targets_of_a_combo_that_a_key_may_not_use_are_left_out(key: dict[str, Any], expected: list[str]) -> None:
    own = resolver(MIX, aliases=(ModelAlias("a", "other", "combo/mix"),))
    assert allowed(own, "mix", holder(**key)) == expected
    assert allowed(own, "combo/mix", holder(**key)) == expected, "however it is spelt"


@pytest.mark.parametrize(
    ("model", "key", "said"),
    [
        ("mix", {"allowed_models": ("az/*",)}, "the model 'mix'"),
        ("mix", {"allowed_models": ("m*",)}, "the model 'mix'"),
        ("mix", {"blocked_models": ("mix",)}, "the model 'mix'"),
        ("combo/mix", {"blocked_models": ("mix",)}, "the model"),
        ("other", {"blocked_models": ("mix",)}, "the model"),
        ("mix", {"allowed_combos": ("fast",)}, "the combo 'mix'"),
        ("other", {"allowed_combos": ("fast",)}, "the combo 'mix'"),
        ("mix", {"allowed_connections": ("az-1",)}, "the connections"),
        ("openai/gpt", {"allowed_models": ("groq/*",)}, "the model"),
        ("openai/gpt", {"allowed_connections": ("groq-1",)}, "the connections"),
        ("nobody", {"allowed_models": ("groq/*",)}, "the model"),
        ("auto", {"allowed_models": ("az/*",)}, "the model 'auto'"),
    ],
)
def test_a_name_of_which_a_key_may_use_nothing_is_refused(model: str, key: dict[str, Any], said: str) -> None:
    own = resolver(MIX, aliases=(ModelAlias("a", "other", "combo/mix"),))
    for _ in range(2):
        with pytest.raises(PermissionDenied, match=said) as caught:
            resolved(own, model, holder(**key))
        assert caught.value.error_code == "model_not_allowed"


@pytest.mark.parametrize("entry", ["mix", "m*", "combo_mix"])
def test_a_list_of_combos_restricts_combos_alone(entry: str) -> None:
    own = resolver(MIX)
    assert resolved(own, "mix", holder(allowed_combos=(entry,))).permits is None
    assert resolved(own, "openai/gpt", holder(allowed_combos=("other",))).permits is None


def test_a_combo_without_live_steps_is_not_forbidden() -> None:
    own = resolver(combo("c", step("nobody")))
    assert resolved(own, "c", holder(allowed_models=("groq/*",))).options == ()


# --- chains -----------------------------------------------------------------------------------------------------------


CHAINS = (
    FallbackChain("f0", "off", ("openai/gpt",), ("*",), enabled=False),
    FallbackChain("f1", "models", ("groq/llama", "nobody", "both", "auto", "mix"), ("gpt*", "openai/*")),
    FallbackChain("f2", "rest", ("mix", "auto/fast"), ("*",), order=1),
)


def test_the_first_chain_that_matches() -> None:
    own = resolver(MIX, chains=CHAINS)
    chain = own.chain_for("openai/gpt", ())
    assert chain is not None
    assert (chain.name, chain.block.strategy) == ("models", Strategy.PRIORITY)
    mix = ["openai/gpt", "groq/llama", "!inactive"]
    assert outline(chain.block) == ["groq/llama", ["openai/both", "groq/both"], mix], (
        "a channel counts only as the last"
    )
    rest = own.chain_for("anything", ())
    assert rest is not None
    assert outline(rest.block) == [mix, ["openai/gpt", "groq/llama"]]


def test_what_was_tried_is_not_tried_again() -> None:
    own = resolver(MIX, chains=CHAINS)
    chain = own.chain_for("gpt", {"groq/llama", "openai/both"})
    assert chain is not None
    assert outline(chain.block) == [["groq/both"], ["openai/gpt", "!inactive"]]
    inner = own.chain_for("anything", {"groq/llama"})
    assert inner is not None
    assert outline(inner.block) == [["openai/gpt", "!inactive"], ["openai/gpt"]]
    tried = {"groq/llama", "openai/both", "groq/both", "openai/gpt"}
    only = resolver(chains=(FallbackChain("f", "c", ("groq/llama", "gpt")),))
    assert only.chain_for("x", tried) is None
    assert resolver().chain_for("x", ()) is None


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_a_known_name_is_looked_up_once_and_costs_next_to_nothing() -> None:
    shelf = Shelf()
    own = Resolver(shelf, Snapshot(1))
    rounds = 20_000
    best = 1.0
    for _ in range(3):
        started = time.perf_counter()
        for _ in range(rounds):
            own.resolve("openai/gpt", caller=NOBODY)
        best = min(best, (time.perf_counter() - started) / rounds)
    assert shelf.asked == 1
    assert best < 10e-6, f"{best * 1e6:.2f} µs"
    assert resolved(own, "openai/gpt").block is resolved(own, "openai/gpt").block


def test_names_do_not_pile_up() -> None:
    shelf = Shelf()
    own = Resolver(shelf, Snapshot(1))
    for number in range(4097):
        resolved(own, f"openai/m{number}")
    resolved(own, "openai/m0")
    assert shelf.asked == 4098


def test_followed_aliases_are_told() -> None:
    told: list[Sequence[str]] = []
    rows = (ModelAlias("a1", "x", "y"), ModelAlias("a2", "y", "groq/llama"))
    own = Resolver(Shelf(), Snapshot(1, aliases=rows), on_alias=told.append)
    for name in ("x", "x", "y", "groq/llama"):
        resolved(own, name)
    assert told == [("a1", "a2"), ("a1", "a2"), ("a2",)]


def test_how_accounts_are_ordered() -> None:
    settings = {
        ("routing", "accountStrategy"): "p2c",
        ("routing", "cacheAffinity"): False,
        ("routing", "switchMargin"): 1,
    }
    routing = {
        "groq": ProviderRouting("groq", "round-robin", 7),
        "openai": ProviderRouting("openai", sticky_limit=9),
        "az": ProviderRouting("az", is_blocked=True),
    }
    rules = account_rules(Snapshot(1, settings=settings, provider_routing=routing))
    assert rules.of("groq") == (AccountStrategy.ROUND_ROBIN, 7)
    assert rules.of("openai") == (AccountStrategy.P2C, 9)
    assert rules.of("az") == (AccountStrategy.P2C, 3)
    assert (rules.has_cache_affinity, rules.switch_margin, rules.affinity_ttl_ms) == (False, 1.0, 1_800_000)
    odd = account_rules(
        Snapshot(1, settings={("routing", "accountStrategy"): "magic", ("routing", "stickyLimit"): "x"})
    )
    assert odd.of("groq") == (AccountStrategy.FILL_FIRST, 3)


# --- with the real directory -----------------------------------------------------------------------------------------


def connected(*providers: str, **parts: Any) -> Snapshot:
    rows = tuple(
        Connection(f"conn_{name}", name, AuthType.API_KEY, name, 1, True, Secret("sk-test-0123456789abcdef"))
        for name in providers
    )
    return Snapshot(1, connections=rows, **parts)


def names(found: Resolved) -> list[str]:
    return [one.name for one in found.options]


def test_names_of_a_whole_catalogue() -> None:
    made = combo("coder", step("claude-opus-4-7-high"), step("openrouter/x/y"), step("groq/llama"))
    snapshot = connected("anthropic", "openrouter", combos=(made,))
    own = Resolvers(Directories(CATALOGUE, snapshot), snapshot)
    assert names(resolved(own.current, "coder")) == ["anthropic/claude-opus-4-7", "openrouter/x/y"]
    assert resolved(own.current, "coder").options[0].effort == "high"
    assert names(resolved(own.current, "Sandbox/echo")) == ["sandbox/echo"]
    with pytest.raises(ModelNotFound) as caught:
        resolved(own.current, "groq/llama")
    assert caught.value.extras["reason"] == "no_connection"
    with pytest.raises(InvalidRequest) as refused:
        resolved(own.current, "coder", provider="anthropic")
    assert refused.value.error_code == "model_provider_mismatch"
    assert names(resolved(own.current, "claude-opus-4-7", provider="anthropic")) == ["anthropic/claude-opus-4-7"]


def test_resolvers_follow_what_names_depend_on() -> None:
    snapshot = connected("anthropic")
    directories = Directories(CATALOGUE, snapshot)
    own = Resolvers(directories, snapshot)
    first = own.current
    own.rebuild(replace(snapshot, version=2, has_password=True))
    assert own.current is first
    own.rebuild(replace(snapshot, version=3, combos=(combo("c", step("claude-opus-4-7")),)))
    assert own.current is not first
    assert names(resolved(own.current, "c")) == ["anthropic/claude-opus-4-7"]
    second, changed = own.current, replace(own.current.snapshot, connections=())
    directories.rebuild(changed)
    own.rebuild(changed)
    assert own.current is not second
    assert names(resolved(own.current, "c")) == []

"""What a policy document may say, and what is said about the ones that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from omniroute.errors import ValidationFailed
from omniroute.records import Combo, ComboStep, Snapshot
from omniroute.routing.options import AccountStrategy, Block, Strategy
from omniroute.routing.whatif import Policy
from omniroute.services.policies import MOST_COMBOS, policy_of

SNAPSHOT = Snapshot(1, combos=(Combo("combo_1", "smart"),))


def compiled(combo: Combo) -> Block:
    return Block(Strategy(combo.strategy), (), scope=combo.id, name=combo.name)


def read(document: dict[str, Any]) -> Policy:
    return policy_of(document, SNAPSHOT, compiled)


def test_an_empty_document_changes_nothing() -> None:
    assert read({}) == Policy()


def test_everything_at_once() -> None:
    seen: list[Combo] = []

    def compile_too(combo: Combo) -> Block:
        seen.append(combo)
        return compiled(combo)

    document = {
        "combos": [
            {
                "name": "smart",
                "strategy": "weighted",
                "models": [
                    "groq/llama",
                    {"model": "gpt", "provider": "openai", "connectionId": "conn_1", "weight": 2.5, "enabled": False},
                    {"kind": "combo-ref", "comboName": "other", "id": "step_9"},
                    {"kind": "auto", "channel": "auto/fast", "label": "fast"},
                ],
                "config": {"maxRetries": 0},
                "allowedProviders": ["groq"],
                "allowedModelFamilies": ["llama"],
            },
            {"name": "new", "models": ["x"]},
        ],
        "strategy": "p2c",
        "config": {"candidatePool": ["a/b"]},
        "accountStrategy": {"strategy": "round-robin", "stickyLimit": 2},
        "resilience": {"restFactor": 0.5, "breakers": False},
    }
    policy = policy_of(document, SNAPSHOT, compile_too)
    assert policy.strategy is Strategy.P2C
    assert policy.config == {"candidatePool": ("a/b",)}
    assert (policy.account_strategy, policy.sticky_limit) == (AccountStrategy.ROUND_ROBIN, 2)
    assert (policy.rest_factor, policy.ignores_breakers) == (0.5, True)
    assert set(policy.combos) == {"smart", "new"}
    smart, new = seen
    assert (smart.id, new.id) == ("combo_1", "draft:new")
    assert smart.steps == (
        ComboStep("draft_0", model="groq/llama"),
        ComboStep("draft_1", model="gpt", provider="openai", connection_id="conn_1", weight=2.5, enabled=False),
        ComboStep("step_9", kind="combo-ref", combo_name="other"),
        ComboStep("draft_3", kind="auto", channel="auto/fast", label="fast"),
    )
    assert (smart.strategy, smart.config, smart.allowed_families) == ("weighted", {"maxRetries": 0}, ("llama",))


def test_an_account_strategy_may_be_one_word() -> None:
    assert read({"accountStrategy": "random"}).account_strategy is AccountStrategy.RANDOM


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({"strategies": "p2c"}, ["policy.strategies"]),
        ({"strategy": "fastest"}, ["policy.strategy"]),
        ({"strategy": ["p2c"]}, ["policy.strategy"]),
        ({"config": []}, ["policy.config"]),
        ({"config": {"maxRetries": 99, "x": 1}}, ["policy.config.maxRetries", "policy.config.x"]),
        ({"accountStrategy": "auto"}, ["policy.accountStrategy"]),
        ({"accountStrategy": 7}, ["policy.accountStrategy"]),
        ({"accountStrategy": {"strategy": {}, "limit": 1}}, ["policy.accountStrategy.limit", "policy.accountStrategy"]),
        ({"accountStrategy": {"stickyLimit": True}}, ["policy.accountStrategy.stickyLimit"]),
        ({"resilience": 1}, ["policy.resilience"]),
        (
            {"resilience": {"restFactor": 2, "breakers": "no", "y": 1}},
            ["policy.resilience.y", "policy.resilience.restFactor", "policy.resilience.breakers"],
        ),
        ({"combos": {}}, ["policy.combos"]),
        ({"combos": [{}] * (MOST_COMBOS + 1)}, ["policy.combos"]),
        ({"combos": ["smart"]}, ["policy.combos[0]"]),
        ({"combos": [{"models": ["x"]}]}, ["policy.combos[0].name"]),
        ({"combos": [{"name": "n", "models": []}]}, ["policy.combos[0].models"]),
        ({"combos": [{"name": "n", "models": ["x"], "isActive": True}]}, ["policy.combos[0].isActive"]),
        ({"combos": [{"name": "n", "models": [7]}]}, ["policy.combos[0].models[0]"]),
        ({"combos": [{"name": "n", "models": [""]}]}, ["policy.combos[0].models[0].model"]),
        ({"combos": [{"name": "n", "models": [{"kind": ["model"]}]}]}, ["policy.combos[0].models[0].kind"]),
        (
            {"combos": [{"name": "n", "models": [{"kind": "auto", "model": "x"}]}]},
            ["policy.combos[0].models[0].model", "policy.combos[0].models[0].channel"],
        ),
        (
            {"combos": [{"name": "n", "models": [{"model": "x", "weight": 101, "enabled": 1}]}]},
            ["policy.combos[0].models[0].weight", "policy.combos[0].models[0].enabled"],
        ),
        (
            {"combos": [{"name": "n", "models": ["x"], "allowedProviders": "groq", "strategy": "x"}]},
            ["policy.combos[0].strategy", "policy.combos[0].allowedProviders"],
        ),
    ],
)
def test_everything_that_is_wrong_is_named(document: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(ValidationFailed) as raised:
        read(document)
    assert [detail["field"] for detail in raised.value.details] == fields

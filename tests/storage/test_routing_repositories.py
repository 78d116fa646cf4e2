"""Combos, aliases, chains and the like, on every database."""

from __future__ import annotations

import dataclasses

import pytest
from sqlalchemy import text

from omniroute.errors import Conflict
from omniroute.records import (
    ChannelTuning,
    Combo,
    ComboPattern,
    ComboStep,
    FallbackChain,
    ModelAlias,
    ProviderRouting,
)
from omniroute.storage.database import Database
from omniroute.storage.repositories import (
    aliases,
    chains,
    channels,
    combo_metrics,
    combos,
    provider_routing,
    request_log,
)
from omniroute.storage.secrets import Cipher
from omniroute.storage.snapshot import SnapshotHolder
from tests.storage.conftest import NOW, record

STEPS = (
    ComboStep("step_1", model="groq/llama"),
    ComboStep(
        "step_2",
        model="gpt-5",
        provider="openai",
        connection_id="conn_1",
        weight=2.5,
        label="Main",
        tags=("a", "b"),
        enabled=False,
    ),
    ComboStep("step_3", kind="combo-ref", combo_name="other"),
    ComboStep("step_4", kind="auto", channel="auto/fast"),
)
COMBO = Combo(
    id="combo_1",
    name="fast [1m]",
    strategy="weighted",
    steps=STEPS,
    config={"maxRetries": 2, "contextRequirements": {"minContextWindow": 1000}},
    description="Was schnell ist",
    allowed_providers=("groq",),
    allowed_families=("llama",),
    context_length=32_000,
    is_active=False,
    is_default=True,
    sort_order=4,
    created_at=NOW,
    updated_at=NOW + 0.5,
)
ALIAS = ModelAlias("alias_1", "gpt-*", "combo/fast", 3, enabled=False, created_at=NOW, updated_at=NOW + 1)
PATTERN = ComboPattern("map_1", "claude-*", "combo_1", 2, False, "All of Claude", NOW, NOW + 1)
CHAIN = FallbackChain("chain_1", "Night", ("groq/a", "auto"), ("gpt-*", "x"), 5, False, NOW, NOW + 1)
TUNING = ChannelTuning("auto", "key_1", {"cost": 0.5}, 0.1, ("groq",), ("openai/*",), ("llama",))


def test_a_combo_comes_back_as_it_was_stored(database: Database) -> None:
    database.write(lambda sql: combos.insert(sql, COMBO))
    assert database.read(lambda sql: combos.get(sql, "combo_1")) == COMBO
    changed = dataclasses.replace(COMBO, name="other", steps=STEPS[:1], config={}, updated_at=NOW + 9)
    assert database.write(lambda sql: combos.update(sql, changed))
    assert database.read(combos.load_all) == (changed,)
    assert database.read(combos.count) == 1
    assert not database.write(lambda sql: combos.update(sql, dataclasses.replace(COMBO, id="combo_0")))


def test_names_of_combos_differ_by_case_and_are_unique(database: Database) -> None:
    database.write(lambda sql: combos.insert(sql, COMBO))
    database.write(lambda sql: combos.insert(sql, dataclasses.replace(COMBO, id="combo_2", name="FAST [1m]")))
    with pytest.raises(Conflict):
        database.write(lambda sql: combos.insert(sql, dataclasses.replace(COMBO, id="combo_3")))


def test_a_combo_takes_its_patterns_with_it(database: Database) -> None:
    database.write(lambda sql: combos.insert(sql, COMBO))
    database.write(lambda sql: combos.insert_pattern(sql, PATTERN))
    assert database.write(lambda sql: combos.delete(sql, "combo_1"))
    assert database.read(combos.load_patterns) == ()
    assert not database.write(lambda sql: combos.delete(sql, "combo_1"))


def test_at_most_one_combo_is_the_default(database: Database) -> None:
    for number in (1, 2):
        made = dataclasses.replace(COMBO, id=f"combo_{number}", name=f"c{number}", is_default=number == 1)
        database.write(lambda sql, made=made: combos.insert(sql, made))  # type: ignore[misc]

    def defaults() -> list[str]:
        return [combo.id for combo in database.read(combos.load_all) if combo.is_default]

    assert database.write(lambda sql: combos.set_default(sql, "combo_2", NOW))
    assert defaults() == ["combo_2"]
    assert database.write(lambda sql: combos.set_default(sql, None, NOW))
    assert defaults() == []
    assert not database.write(lambda sql: combos.set_default(sql, "combo_0", NOW))


def test_combos_are_ordered_as_they_were_told(database: Database) -> None:
    for number in range(3):
        made = dataclasses.replace(COMBO, id=f"combo_{number}", name=f"c{number}", sort_order=number)
        database.write(lambda sql, made=made: combos.insert(sql, made))  # type: ignore[misc]
    database.write(lambda sql: combos.set_order(sql, ["combo_2", "combo_0", "combo_1"]))
    assert [combo.id for combo in database.read(combos.load_all)] == ["combo_2", "combo_0", "combo_1"]


def test_steps_of_an_import_may_be_names_without_ids(database: Database) -> None:
    database.write(lambda sql: combos.insert(sql, COMBO))
    raw = '["groq/a", {"model": "groq/b", "weight": null}, {"id": "s", "kind": "combo-ref", "combo_name": "x", "n": 1}]'
    database.write(lambda sql: sql.execute(text("UPDATE combos SET steps_json = :raw"), {"raw": raw}))
    (found,) = database.read(combos.load_all)
    assert found.steps == (
        ComboStep("combo_1.0", model="groq/a"),
        ComboStep("combo_1.1", model="groq/b"),
        ComboStep("s", kind="combo-ref", combo_name="x"),
    )


def test_patterns_come_back_as_they_were_stored(database: Database) -> None:
    database.write(lambda sql: combos.insert_pattern(sql, PATTERN))
    assert database.read(lambda sql: combos.get_pattern(sql, "map_1")) == PATTERN
    changed = dataclasses.replace(PATTERN, pattern="*", enabled=True, description=None)
    assert database.write(lambda sql: combos.update_pattern(sql, changed))
    assert database.read(combos.load_patterns) == (changed,)
    assert database.write(lambda sql: combos.delete_pattern(sql, "map_1"))
    assert not database.write(lambda sql: combos.delete_pattern(sql, "map_1"))


def test_aliases_come_back_and_count_their_hits(database: Database) -> None:
    database.write(lambda sql: aliases.insert(sql, ALIAS))
    assert database.read(lambda sql: aliases.find(sql, "gpt-*")) == ALIAS
    assert database.read(lambda sql: aliases.find(sql, "gpt-")) is None
    database.write(lambda sql: aliases.add_hits(sql, {"alias_1": 2, "alias_0": 5}))
    database.write(lambda sql: aliases.add_hits(sql, {"alias_1": 3}))
    changed = dataclasses.replace(ALIAS, target="groq/a", enabled=True)
    assert database.write(lambda sql: aliases.update(sql, changed)), "hits are not the operator's to set"
    assert database.read(aliases.load_all) == (dataclasses.replace(changed, hit_count=5),)
    with pytest.raises(Conflict):
        database.write(lambda sql: aliases.insert(sql, dataclasses.replace(ALIAS, id="alias_2")))
    assert database.read(aliases.count) == 1
    assert database.write(lambda sql: aliases.delete(sql, "alias_1"))
    assert database.read(lambda sql: aliases.get(sql, "alias_1")) is None


def test_chains_come_back_in_their_order(database: Database) -> None:
    first = dataclasses.replace(CHAIN, id="chain_0", name="Day", order=1)
    for made in (CHAIN, first):
        database.write(lambda sql, made=made: chains.insert(sql, made))  # type: ignore[misc]
    assert database.read(chains.load_all) == (first, CHAIN)
    assert database.read(lambda sql: chains.find(sql, "Night")) == CHAIN
    changed = dataclasses.replace(CHAIN, order=0)
    assert database.write(lambda sql: chains.update(sql, changed))
    assert database.read(chains.load_all) == (changed, first)
    assert database.write(lambda sql: chains.delete(sql, "chain_0"))
    assert database.read(lambda sql: chains.get(sql, "chain_0")) is None
    assert database.read(chains.count) == 1


def test_a_provider_left_alone_has_no_row_to_show(database: Database) -> None:
    database.write(lambda sql: provider_routing.put(sql, ProviderRouting("groq", "p2c", 5, is_blocked=True), NOW))
    database.write(lambda sql: provider_routing.put(sql, ProviderRouting("openai", is_blocked=True), NOW))
    database.write(lambda sql: provider_routing.put(sql, ProviderRouting("openai"), NOW + 1))
    assert database.read(provider_routing.load_all) == {"groq": ProviderRouting("groq", "p2c", 5, is_blocked=True)}


def test_channels_are_tuned_for_all_or_for_a_key(database: Database) -> None:
    for made in (TUNING, ChannelTuning("auto"), ChannelTuning("auto/fast", weights={"cost": 1.0})):
        database.write(lambda sql, made=made: channels.put(sql, made, NOW))  # type: ignore[misc]
    assert database.read(lambda sql: channels.get(sql, "auto", "key_1")) == TUNING
    changed = dataclasses.replace(TUNING, exploration=None, excluded_models=())
    database.write(lambda sql: channels.put(sql, changed, NOW + 1))
    assert database.read(channels.load_all) == (
        ChannelTuning("auto"),
        changed,
        ChannelTuning("auto/fast", weights={"cost": 1.0}),
    )
    assert database.write(lambda sql: channels.delete(sql, "auto", "key_1"))
    assert database.read(lambda sql: channels.get(sql, "auto", "key_1")) is None


def test_a_snapshot_holds_what_routing_reads(database: Database, cipher: Cipher) -> None:
    database.write(lambda sql: combos.insert(sql, COMBO))
    database.write(lambda sql: combos.insert_pattern(sql, PATTERN))
    database.write(lambda sql: aliases.insert(sql, ALIAS))
    database.write(lambda sql: chains.insert(sql, CHAIN))
    database.write(lambda sql: provider_routing.put(sql, ProviderRouting("groq", is_blocked=True), NOW))
    database.write(lambda sql: channels.put(sql, TUNING, NOW))
    holder = SnapshotHolder(database, cipher, lambda: NOW)
    holder.refresh()
    current = holder.current
    assert (current.combos, current.combo_patterns, current.aliases) == ((COMBO,), (PATTERN,), (ALIAS,))
    assert (current.chains, current.channels) == ((CHAIN,), (TUNING,))
    assert current.provider_routing == {"groq": ProviderRouting("groq", is_blocked=True)}


def test_metrics_are_sums_by_combo_step_and_target(database: Database) -> None:
    def put(number: int, **changes: object) -> None:
        facts = {"combo_id": "combo_1", "step_id": "step_1", "provider": "groq", "model": "llama", **changes}
        line = request_log.line_of(record(f"req_{number}", **facts))
        database.write(lambda sql: request_log.insert_new(sql, [request_log.read_line(line).row]))

    put(1, duration_ms=100.0)
    put(2, duration_ms=50.0, outcome="failed")
    put(3, duration_ms=7.0, step_id="step_2", provider="openai", model="gpt")
    put(4, combo_id="combo_2")
    put(5, combo_id=None)
    put(6, kind="test")
    put(7, time=NOW - 100)
    assert database.read(lambda sql: combo_metrics.sums(sql, since=NOW - 1, combo_id="combo_1")) == [
        combo_metrics.Sum("combo_1", "step_1", "groq", "llama", 2, 1, 0, 100.0),
        combo_metrics.Sum("combo_1", "step_2", "openai", "gpt", 1, 1, 0, 7.0),
    ]
    everything = database.read(lambda sql: combo_metrics.sums(sql, since=NOW - 200))
    assert [(row.combo_id, row.requests) for row in everything] == [("combo_1", 3), ("combo_1", 1), ("combo_2", 1)]

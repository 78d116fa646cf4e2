"""Settings of combos as texts of fields: there and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.blueprints.dashboard.combo_form import Draft, split
from omniroute.blueprints.dashboard.combo_settings import config_of, fields_of
from omniroute.routing.config import FACTORS, problems

_LINES = st.lists(st.from_regex(r"[a-z][a-z0-9 ]{0,10}[a-z]", fullmatch=True), min_size=1, max_size=4)
_PATH = st.from_regex(r"[a-z]{1,5}(\.[a-z0-9]{1,5}){0,2}", fullmatch=True)
_RULES = st.one_of(
    st.builds(lambda path, exists: {"path": path, "exists": exists}, _PATH, st.booleans()),
    st.builds(
        lambda path, value: {"path": path, "equals": value},
        _PATH,
        st.one_of(st.integers(-9, 99), st.booleans(), st.none(), st.from_regex(r"[a-z ]{1,8}", fullmatch=True)),
    ),
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "maxRetries": st.integers(0, 10),
        "retryDelayMs": st.integers(0, 60_000),
        "failoverBeforeRetry": st.booleans(),
        "budgetCap": st.sampled_from([0.25, 1.5, 12.0]),
        "handoffThreshold": st.sampled_from([0.5, 0.85]),
        "hedgeDelayMs": st.one_of(st.just("auto"), st.integers(100, 30_000)),
        "modePack": st.sampled_from(["fast", "quality"]),
        "candidatePool": _LINES,
        "weights": st.dictionaries(st.sampled_from(FACTORS), st.sampled_from([0.25, 1.0, 2.5]), min_size=1),
        "contextRequirements": st.builds(lambda size: {"minContextWindow": size}, st.integers(1000, 10_000_000)),
        "responseValidation": st.fixed_dictionaries(
            {"forbidden": _LINES},
            optional={
                "required": _LINES,
                "minContentLength": st.integers(0, 1000),
                "jsonPath": st.lists(_RULES, min_size=1, max_size=3),
            },
        ),
    },
)


@given(CONFIGS)
def test_settings_survive_their_form(config: dict[str, Any]) -> None:
    again = config_of(fields_of(config))
    assert again == config
    assert problems(again) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("many", "many"), ("  ", None), ("-1", -1)],
)
def test_what_is_no_number_is_left_to_the_api(text: str, value: Any) -> None:
    assert config_of({"config.maxRetries": text}).get("maxRetries") == value


@given(st.lists(st.integers(0, 40), max_size=12))
def test_even_weights_come_to_a_hundred(seeds: list[int]) -> None:
    draft = Draft({})
    for seed in seeds:
        draft = draft.changed(f"add:model:p/{seed}")
    weights = [int(row.weight) for row in draft.changed("even:").rows]
    assert sum(weights) == (100 if seeds else 0)
    assert not weights or max(weights) - min(weights) <= 1


@given(st.lists(st.sampled_from(["add:model:a/b", "up:s1", "down:s0", "remove:s1", "even:", "remove:s9"]), max_size=20))
def test_rows_keep_keys_of_their_own(actions: list[str]) -> None:
    draft = Draft({})
    for action in actions:
        draft = draft.changed(action)
    keys = [row.key for row in draft.rows]
    assert len(keys) == len(set(keys))


def test_lists_are_read_with_commas_and_lines() -> None:
    assert split("a, b\nc,,\n d ") == ["a", "b", "c", "d"]

"""Which scores a model's name stands for."""

from __future__ import annotations

import json
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.routing.fitness import COLUMNS, Fitness, adjusted, load
from omniroute.routing.options import Task

FITNESS = load()
TABLE = json.loads((resources.files("omniroute.routing") / "data" / "fitness.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("model", "scores"),
    [
        ("claude-opus-5", (0.95, 0.98, 0.98)),
        ("claude-opus-4-5-20251101", (0.95, 0.98, 0.98)),
        ("claude-opus-4.7", (0.95, 0.98, 0.98)),
        ("claude-opus-4-1", (0.92, 0.94, 0.94)),
        ("claude-sonnet-4-5", (0.92, 0.95, 0.90)),
        ("claude-sonnet-4-20250514", (0.88, 0.90, 0.84)),
        ("claude-haiku-4-5", (0.78, 0.76, 0.66)),
        ("gpt-5.3-codex-spark", (0.74, 0.84, 0.72)),
        ("gpt-5.2-codex", (0.84, 0.96, 0.90)),
        ("gpt-5.4-nano", (0.65, 0.58, 0.55)),
        ("gpt-5.4-mini", (0.80, 0.78, 0.76)),
        ("gpt-5.4", (0.95, 0.94, 0.96)),
        ("gpt-5.2", (0.92, 0.90, 0.93)),
        ("o3-mini", (0.85, 0.84, 0.92)),
        ("gpt-4o-mini-2024-07-18", (0.68, 0.60, 0.52)),
        ("gpt-4o", (0.80, 0.72, 0.64)),
        ("gpt-oss-20b", (0.64, 0.62, 0.64)),
        ("gemini-3-pro-preview", (0.94, 0.90, 0.94)),
        ("gemini-3-flash-lite", (0.68, 0.58, 0.54)),
        ("gemini-2.5-flash", (0.78, 0.72, 0.70)),
        ("glm-4.6", (0.82, 0.87, 0.80)),
        ("glm-4.7-flash", (0.70, 0.70, 0.64)),
        ("kimi-k2-thinking", (0.84, 0.88, 0.90)),
        ("deepseek-v3.2", (0.82, 0.84, 0.76)),
        ("deepseek-reasoner", (0.80, 0.80, 0.92)),
        ("grok-4-1-fast-non-reasoning", (0.82, 0.76, 0.68)),
        ("llama-3.3-nemotron-ultra-253b", (0.76, 0.72, 0.78)),
        ("qwen3-coder-480b", (0.76, 0.88, 0.72)),
        ("qwen3-max", (0.84, 0.82, 0.83)),
        ("coder-model", (0.76, 0.88, 0.72)),
        ("gemma-3-27b-it", (0.62, 0.54, 0.50)),
    ],
)
def test_the_first_fitting_row_counts(model: str, scores: tuple[float, float, float]) -> None:
    assert FITNESS.scores(model) == scores


@pytest.mark.parametrize(
    "model",
    [
        "claude-opus-4-5",
        "CLAUDE-OPUS-4-5",
        "openrouter/anthropic/claude-opus-4-5",
        "anthropic.claude-opus-4-5-20251101-v1:0",
        "bedrock/us.anthropic.claude-opus-4-5-20251101-v1:0",
        "sap/anthropic--claude-opus-4-5",
        "claude-opus-4-5-high",
    ],
)
def test_prefix_path_vendor_and_case_do_not_matter(model: str) -> None:
    assert FITNESS.scores(model) == (0.95, 0.98, 0.98)


def test_an_effort_comes_off_only_where_the_name_is_none_with_it() -> None:
    assert FITNESS.scores("coder-model-high") == FITNESS.scores("coder-model")
    assert FITNESS.scores("mistral-medium") == (0.80, 0.74, 0.72), "a size of Mistral's, no effort"
    assert FITNESS.scores("qwen3-max") == (0.84, 0.82, 0.83), "a model of Alibaba's, no effort"


@pytest.mark.parametrize(
    ("model", "general"),
    [
        ("smollm2-1.7b", 0.30),
        ("phi-3.8b-instruct", 0.30),
        ("llama-3.1-8b-instant", 0.42),
        ("yi-9b", 0.42),
        ("yi-34b", 0.52),
        ("falcon:10b", 0.52),
        ("llama-3.1-70b", 0.50),
        ("mixtral-8x7b", 0.50),
        ("something-new", 0.50),
    ],
)
def test_names_that_no_row_knows_go_by_their_size(model: str, general: float) -> None:
    assert FITNESS.of(model, Task.GENERAL) == general


@pytest.mark.parametrize(
    "model", ["text-embedding-3-small", "nomic-embed-text", "whisper-1", "gpt-4o-mini-tts", "gpt-image-1", "dall-e-3"]
)
def test_what_is_no_chat_model_has_no_scores(model: str) -> None:
    assert FITNESS.scores(model) is None
    assert FITNESS.of(model, Task.GENERAL) == 0.0


def test_effort_moves_reasoning_alone() -> None:
    reasoning = {effort: FITNESS.of("gpt-5.2", Task.REASONING, effort) for effort in ("low", "medium", "high", "max")}
    assert reasoning == {"low": 0.88, "medium": 0.93, "high": pytest.approx(0.95), "max": pytest.approx(0.96)}
    assert FITNESS.of("gpt-5.2", Task.CODING, "max") == 0.90
    assert FITNESS.of("claude-opus-5", Task.REASONING, "max") == 1.0, "never above one"


def test_an_operators_scores_come_first() -> None:
    own = load({"GPT-4o": {"coding": 0.99}, "house-model": {"general": 3.0, "reasoning": -1.0}})
    assert own.scores("openai/gpt-4o") == (0.80, 0.99, 0.64), "what is not said keeps the table's score"
    assert own.scores("house-model") == (1.0, 0.50, 0.0)
    assert own.scores("gpt-4o-mini") == FITNESS.scores("gpt-4o-mini")
    assert own.is_own("openai/gpt-4o")
    assert not own.is_own("gpt-4o-mini")
    assert not FITNESS.is_own("gpt-4o")


def test_every_score_of_the_table_is_a_fraction() -> None:
    rows = [row["scores"] for row in TABLE["rows"] if row["scores"] is not None]
    rows += [row["scores"] for row in TABLE["sizes"]] + [TABLE["other"]]
    assert all(len(row) == len(COLUMNS) and all(0 <= score <= 1 for score in row) for row in rows)


def test_no_row_hides_another_whole() -> None:
    for row in TABLE["rows"]:
        if row["scores"] is None:
            continue
        for pattern in row["match"]:
            example = pattern.replace("[-.][5-9]", "-6").replace("[3-9]", "4").replace("[4-9]", "6")
            example = example.replace("[67]", "6").replace("[5-9]", "6").replace("[1-9]", "1").replace("*", "-w-")
            assert FITNESS.scores(example.strip("-")) == tuple(row["scores"]), pattern


@given(st.text(max_size=60), st.sampled_from(list(Task)), st.sampled_from([None, "low", "high", "xhigh", "odd"]))
def test_any_name_has_a_fraction_and_always_the_same(model: str, task: Task, effort: str | None) -> None:
    fitness = Fitness(TABLE)
    first = fitness.of(model, task, effort)
    assert 0.0 <= first <= 1.0
    assert fitness.of(model, task, effort) == first == FITNESS.of(model, task, effort)


def test_adjusting_nothing_gives_nothing() -> None:
    assert adjusted(None, Task.REASONING, "high") == 0.0

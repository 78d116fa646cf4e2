"""Efforts, budgets, levels and switches, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.canonical import Effort, Reasoning
from omniroute.formats.profile import Profile, ReasoningStyle, profile_for
from omniroute.formats.reasoning import (
    DYNAMIC,
    budget_of,
    effort_from_budget,
    effort_of,
    fit_budget,
    gemini_thinking,
    is_wanted,
    messages_thinking,
    nearest_effort,
)
from omniroute.formats.wire import WireFormat

E = Effort


def _claude(**facts: object) -> Profile:
    return profile_for(WireFormat.ANTHROPIC_MESSAGES, "claude", reasoning=ReasoningStyle.BUDGET, **facts)


def _adaptive(**facts: object) -> Profile:
    return profile_for(WireFormat.ANTHROPIC_MESSAGES, "claude", reasoning=ReasoningStyle.ADAPTIVE, **facts)


def _gemini(**facts: object) -> Profile:
    return profile_for(WireFormat.GEMINI, "gemini", reasoning=ReasoningStyle.GEMINI_BUDGET, **facts)


def _levels(**facts: object) -> Profile:
    return profile_for(WireFormat.GEMINI, "gemini", reasoning=ReasoningStyle.GEMINI_LEVEL, **facts)


@pytest.mark.parametrize(
    ("effort", "claude", "gemini"),
    [
        (E.NONE, 0, 0),
        (E.MINIMAL, 1024, 1024),
        (E.LOW, 4096, 4096),
        (E.MEDIUM, 10_000, 10_000),
        (E.HIGH, 24_576, 24_576),
        (E.XHIGH, 48_000, 24_576),
        (E.MAX, 48_000, 24_576),
    ],
)
def test_t21_an_effort_becomes_a_budget(effort: Effort, claude: int, gemini: int) -> None:
    assert budget_of(Reasoning(effort=effort), _claude()) == claude
    assert budget_of(Reasoning(effort=effort), _gemini()) == gemini


def test_t21_budgets_stay_within_what_the_model_takes() -> None:
    assert budget_of(Reasoning(effort=E.MAX), _claude(budget_max=32_000)) == 32_000
    assert budget_of(Reasoning(effort=E.MAX), _gemini(budget_max=32_768)) == 32_768
    assert budget_of(Reasoning(budget=10), _claude()) == 1024
    assert budget_of(Reasoning(budget=99_999), _gemini(budget_max=24_576)) == 24_576
    assert budget_of(Reasoning(budget=0), _claude()) == 0
    assert budget_of(Reasoning(effort=E.NONE), _gemini(budget_min=128)) == 128


@pytest.mark.parametrize(
    ("budget", "effort"),
    [
        (0, E.NONE),
        (1, E.MINIMAL),
        (1024, E.MINIMAL),
        (1025, E.LOW),
        (4096, E.LOW),
        (4097, E.MEDIUM),
        (16_000, E.MEDIUM),
        (16_001, E.HIGH),
        (32_000, E.HIGH),
        (32_001, E.XHIGH),
        (-1, E.MEDIUM),
    ],
)
def test_t21_a_budget_becomes_an_effort(budget: int, effort: Effort) -> None:
    assert effort_from_budget(budget) is effort


@pytest.mark.parametrize("effort", [E.NONE, E.MINIMAL, E.LOW, E.MEDIUM, E.HIGH, E.XHIGH])
def test_t21_there_and_back_is_the_same(effort: Effort) -> None:
    budget = budget_of(Reasoning(effort=effort), _claude())
    assert budget is not None
    assert effort_of(Reasoning(budget=budget)) is effort


def test_what_is_left_to_the_model_stays_open() -> None:
    for open_ in (Reasoning(budget=-1), Reasoning(is_adaptive=True)):
        assert is_wanted(open_) is True
        assert effort_of(open_) is None
        assert budget_of(open_, _gemini()) == DYNAMIC
        assert budget_of(open_, _claude()) == 10_000
    assert budget_of(Reasoning(summary="auto"), _claude()) is None
    assert is_wanted(Reasoning(is_visible=True)) is None
    assert is_wanted(None) is None


def test_an_exact_budget_beats_an_effort_where_budgets_count_and_the_reverse() -> None:
    both = Reasoning(effort=E.HIGH, budget=5000)
    assert budget_of(both, _claude()) == 5000
    assert effort_of(both) is E.HIGH
    off = Reasoning(effort=E.LOW, budget=0)  # Messages: no thinking, little effort
    assert is_wanted(off) is False
    assert effort_of(off) is E.NONE
    assert budget_of(off, _claude()) == 0


@pytest.mark.parametrize(
    ("effort", "accepted", "nearest"),
    [
        (E.XHIGH, None, E.XHIGH),
        (E.MINIMAL, (E.LOW, E.MEDIUM, E.HIGH), E.LOW),
        (E.MINIMAL, (E.NONE, E.LOW, E.HIGH), E.LOW),
        (E.MEDIUM, (E.LOW, E.HIGH), E.HIGH),
        (E.XHIGH, (E.LOW, E.MEDIUM, E.HIGH), E.HIGH),
        (E.XHIGH, (E.LOW, E.MEDIUM, E.HIGH, E.MAX), E.HIGH),
        (E.MAX, (E.LOW, E.HIGH, E.XHIGH), E.XHIGH),
        (E.NONE, (E.MINIMAL, E.LOW), E.MINIMAL),
        (E.NONE, (E.NONE, E.LOW), E.NONE),
        (E.LOW, (E.HIGH,), E.HIGH),
        (E.LOW, (E.NONE,), E.NONE),
        (E.HIGH, (E.NONE, E.LOW), E.LOW),
        (E.HIGH, (), E.HIGH),
    ],
)
def test_t21_the_nearest_accepted_effort(effort: Effort, accepted: tuple[Effort, ...] | None, nearest: Effort) -> None:
    assert nearest_effort(effort, accepted) is nearest


def test_t21_messages_with_adaptive_thinking() -> None:
    said = messages_thinking(Reasoning(effort=E.MINIMAL, summary="auto"), _adaptive(), 8000)
    assert (said.thinking, said.effort, said.max_output) == (
        {"type": "adaptive", "display": "summarized"},
        E.LOW,
        8000,
    )
    assert messages_thinking(Reasoning(effort=E.MAX), _adaptive(), 1).effort is E.HIGH
    assert messages_thinking(Reasoning(effort=E.MAX), _adaptive(efforts=tuple(E)), 1).effort is E.MAX
    off = messages_thinking(Reasoning(effort=E.NONE), _adaptive(), 1)
    assert off.thinking == {"type": "disabled"}
    assert not off.is_on
    assert messages_thinking(Reasoning(budget=-1), _adaptive(), 1).effort is None


def test_t58_output_is_raised_to_hold_the_budget_and_the_answer() -> None:
    said = messages_thinking(Reasoning(effort=E.LOW), _claude(), 2000)
    assert (said.thinking, said.max_output) == ({"type": "enabled", "budget_tokens": 4096}, 6096)
    assert said.is_on
    roomy = messages_thinking(Reasoning(effort=E.LOW), _claude(), 32_000)
    assert roomy.max_output == 32_000


def test_t58_the_budget_gives_way_where_the_model_has_no_room() -> None:
    assert fit_budget(24_576, _claude(max_output=8192), 8192) == (4096, 8192)
    assert fit_budget(24_576, _claude(max_output=1500), 1500) == (1024, 1500)
    assert fit_budget(24_576, _claude(max_output=1000), 1000) == (0, 1000)
    assert not messages_thinking(Reasoning(effort=E.HIGH), _claude(max_output=1000), 1000).is_on
    assert fit_budget(4096, _claude(), None) == (4096, None)


@given(
    st.integers(1, 100_000),
    st.integers(1, 200_000),
    st.none() | st.integers(1, 200_000),
)
def test_t58_a_budget_never_reaches_the_output_limit(budget: int, max_output: int, limit: int | None) -> None:
    profile = _claude(max_output=limit)
    reached = budget_of(Reasoning(budget=budget), profile)
    assert reached is not None
    fitted, room = fit_budget(reached, profile, max_output)
    assert room is not None
    assert room >= max_output
    assert fitted == 0 or 1024 <= fitted < room
    assert limit is None or room <= max(limit, max_output)


def test_t21_gemini_with_a_budget() -> None:
    assert gemini_thinking(Reasoning(effort=E.HIGH), _gemini()) == {"thinkingBudget": 24_576, "includeThoughts": True}
    assert gemini_thinking(Reasoning(budget=-1, is_visible=False), _gemini()) == {
        "thinkingBudget": -1,
        "includeThoughts": False,
    }
    assert gemini_thinking(Reasoning(effort=E.NONE), _gemini()) == {"thinkingBudget": 0, "includeThoughts": False}
    assert gemini_thinking(Reasoning(summary="auto"), _gemini()) == {"includeThoughts": True}
    assert gemini_thinking(Reasoning(), _gemini()) is None
    assert gemini_thinking(None, _gemini()) is None


def test_t21_gemini_with_levels() -> None:
    assert gemini_thinking(Reasoning(effort=E.MEDIUM), _levels()) == {"thinkingLevel": "high", "includeThoughts": True}
    full = _levels(efforts=(E.MINIMAL, E.LOW, E.MEDIUM, E.HIGH))
    assert gemini_thinking(Reasoning(effort=E.NONE), full) == {"thinkingLevel": "minimal", "includeThoughts": False}
    assert gemini_thinking(Reasoning(budget=5000), full) == {"thinkingLevel": "medium", "includeThoughts": True}
    assert gemini_thinking(Reasoning(is_adaptive=True), full) == {"includeThoughts": True}


def test_models_that_do_not_reason_are_told_nothing() -> None:
    plain = profile_for(WireFormat.ANTHROPIC_MESSAGES, "haiku")
    assert messages_thinking(Reasoning(effort=E.HIGH), plain, 100) == messages_thinking(None, plain, 100)
    assert gemini_thinking(Reasoning(effort=E.HIGH), profile_for(WireFormat.GEMINI, "gemma")) is None

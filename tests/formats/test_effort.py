"""An effort at the end of a model's name becomes the setting that each format has for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omniroute.errors import InvalidRequest
from omniroute.formats.canonical import Effort, Message, Reasoning, Request, Role, Text
from omniroute.formats.effort import effort_edits, split_effort, with_effort
from omniroute.formats.profile import Profile, ReasoningStyle
from omniroute.formats.reasoning import is_wanted
from omniroute.formats.splice import scan, splice
from omniroute.formats.wire import WireFormat
from tests.formats.crossings import CHAT, GEMINI, MESSAGES, OLLAMA, RESPONSES, able


@pytest.mark.parametrize(
    ("name", "base", "effort"),
    [
        ("gpt-5-high", "gpt-5", Effort.HIGH),
        ("gpt-5-xhigh", "gpt-5", Effort.XHIGH),
        ("claude-opus-4-6-max", "claude-opus-4-6", Effort.MAX),
        ("o4-mini-minimal", "o4-mini", Effort.MINIMAL),
        ("a-low-medium", "a-low", Effort.MEDIUM),
        ("gpt-5", "gpt-5", None),
        ("gpt-5-none", "gpt-5-none", None),
        ("gpt-5-HIGH", "gpt-5-HIGH", None),
        ("high", "high", None),
        ("-high", "-high", None),
        ("gpt-5high", "gpt-5high", None),
    ],
)
def test_t23_a_name_is_split_at_its_effort(name: str, base: str, effort: Effort | None) -> None:
    assert split_effort(name) == (base, effort)


def edited(body: dict[str, Any], profile: Profile, effort: Effort = Effort.HIGH) -> dict[str, Any]:
    top = scan(json.dumps(body).encode())
    found: dict[str, Any] = json.loads(splice(top, effort_edits(top, effort, profile)))
    return found


@pytest.mark.parametrize(
    ("profile", "before", "after"),
    [
        (able(CHAT), {"a": 1}, {"reasoning_effort": "high", "a": 1}),
        (able(CHAT), {"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
        (able(CHAT, efforts=(Effort.LOW, Effort.MEDIUM)), {}, {"reasoning_effort": "medium"}),
        (able(CHAT, reasoning=ReasoningStyle.NONE), {"a": 1}, {"a": 1}),
        (able(RESPONSES), {"reasoning": {"summary": "auto"}}, {"reasoning": {"summary": "auto", "effort": "high"}}),
        (able(RESPONSES), {"reasoning": None}, {"reasoning": {"effort": "high"}}),
        (
            able(MESSAGES, max_output=64_000),
            {"max_tokens": 1000, "temperature": 0.5, "top_k": 3},
            {"thinking": {"type": "enabled", "budget_tokens": 24_576}, "max_tokens": 25_576},
        ),
        (
            able(MESSAGES, reasoning=ReasoningStyle.ADAPTIVE),
            {"max_tokens": 1000, "output_config": {"format": {"type": "json_schema"}}},
            {
                "max_tokens": 1000,
                "output_config": {"format": {"type": "json_schema"}, "effort": "high"},
                "thinking": {"type": "adaptive"},
            },
        ),
        (
            able(GEMINI),
            {"generation_config": {"topK": 3}},
            {"generation_config": {"topK": 3, "thinkingConfig": {"thinkingLevel": "high", "includeThoughts": True}}},
        ),
        (
            able(GEMINI, reasoning=ReasoningStyle.GEMINI_BUDGET, budget_max=32_768),
            {},
            {"generationConfig": {"thinkingConfig": {"thinkingBudget": 24_576, "includeThoughts": True}}},
        ),
        (able(OLLAMA), {"think": False}, {"think": True}),
        (able(OLLAMA, reasoning=ReasoningStyle.EFFORT), {}, {"think": "high"}),
    ],
)
def test_t23_the_effort_stands_where_the_format_has_it(
    profile: Profile, before: dict[str, Any], after: dict[str, Any]
) -> None:
    found = edited(before, profile)
    for levels in [found.get("generationConfig", {}), found.get("generation_config", {})]:
        if "thinkingConfig" in levels and "thinkingLevel" in levels["thinkingConfig"]:
            levels["thinkingConfig"]["thinkingLevel"] = levels["thinkingConfig"]["thinkingLevel"].lower()
    assert found == after


@pytest.mark.parametrize(("profile", "member"), [(able(RESPONSES), "reasoning"), (able(GEMINI), "generationConfig")])
def test_a_setting_that_is_no_object_is_named(profile: Profile, member: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        edited({member: "much"}, profile)
    assert refused.value.param == member


def test_t23_the_name_counts_for_more_than_the_body() -> None:
    request = Request(WireFormat.OPENAI_CHAT, "m", (Message(Role.USER, (Text("Hi"),)),))
    assert with_effort(request, Effort.LOW).reasoning == Reasoning(effort=Effort.LOW)
    said = Request(WireFormat.GEMINI, "m", request.messages, reasoning=Reasoning(budget=0, is_visible=True))
    wanted = with_effort(said, Effort.HIGH).reasoning
    assert wanted == Reasoning(effort=Effort.HIGH, is_visible=True)
    assert is_wanted(wanted) is True

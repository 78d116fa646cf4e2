"""What the operator adds to requests: a system prompt in every dialect, and a word on reasoning for every target."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import InvalidRequest
from omniroute.formats.canonical import (
    ChoiceMode,
    Effort,
    Message,
    Reasoning,
    Request,
    Role,
    Text,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from omniroute.formats.canonical import (
    Thinking as ThinkingBlock,
)
from omniroute.formats.profile import Profile, ReasoningStyle
from omniroute.formats.splice import TopLevel, scan, splice
from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import DIALECTS, Surface
from omniroute.gateway.shaping import Shaping, SystemPrompt, Thinking, hardness, shaping_of
from omniroute.services.setting_definitions import Tab, in_section
from tests.formats.crossings import CHAT, GEMINI, MESSAGES, OLLAMA, RESPONSES, able

OWN = "Be kind."
BEFORE, AFTER = SystemPrompt(OWN), SystemPrompt(OWN, is_behind=True)


def added(prompt: SystemPrompt, surface: Surface, body: dict[str, Any]) -> dict[str, Any]:
    top = scan(json.dumps(body).encode())
    found: dict[str, Any] = json.loads(prompt.added(top, DIALECTS[surface]).body)
    return found


SYSTEM = {"role": "system", "content": OWN}
USER = {"role": "user", "content": "hi"}
DEVELOPER = {"role": "developer", "content": "x"}
PART = {"text": OWN}


@pytest.mark.parametrize(
    ("surface", "before", "in_front", "behind"),
    [
        (Surface.OPENAI_CHAT, {"messages": [USER]}, {"messages": [SYSTEM, USER]}, {"messages": [SYSTEM, USER]}),
        (
            Surface.OPENAI_CHAT,
            {"messages": [DEVELOPER, USER, DEVELOPER]},
            {"messages": [SYSTEM, DEVELOPER, USER, DEVELOPER]},
            {"messages": [DEVELOPER, SYSTEM, USER, DEVELOPER]},
        ),
        (
            Surface.OPENAI_CHAT,
            {"messages": [DEVELOPER]},
            {"messages": [SYSTEM, DEVELOPER]},
            {"messages": [DEVELOPER, SYSTEM]},
        ),
        (Surface.OPENAI_CHAT, {"messages": []}, {"messages": [SYSTEM]}, {"messages": [SYSTEM]}),
        (Surface.OPENAI_CHAT, {"messages": 5}, {"messages": 5}, {"messages": 5}),
        (Surface.OPENAI_CHAT, {"messages": [7]}, {"messages": [SYSTEM, 7]}, {"messages": [SYSTEM, 7]}),
        (Surface.OLLAMA_CHAT, {"messages": [USER]}, {"messages": [SYSTEM, USER]}, {"messages": [SYSTEM, USER]}),
        (Surface.OLLAMA_GENERATE, {"prompt": "x"}, {"system": OWN, "prompt": "x"}, {"system": OWN, "prompt": "x"}),
        (
            Surface.OLLAMA_GENERATE,
            {"system": "s", "prompt": "x"},
            {"system": f"{OWN}\n\ns", "prompt": "x"},
            {"system": f"s\n\n{OWN}", "prompt": "x"},
        ),
        (
            Surface.OPENAI_RESPONSES,
            {"input": "x"},
            {"instructions": OWN, "input": "x"},
            {"instructions": OWN, "input": "x"},
        ),
        (
            Surface.OPENAI_RESPONSES,
            {"instructions": None, "input": "x"},
            {"instructions": OWN, "input": "x"},
            {"instructions": OWN, "input": "x"},
        ),
        (
            Surface.OPENAI_RESPONSES,
            {"instructions": "s"},
            {"instructions": f"{OWN}\n\ns"},
            {"instructions": f"s\n\n{OWN}"},
        ),
        (Surface.OPENAI_RESPONSES, {"instructions": 5}, {"instructions": 5}, {"instructions": 5}),
        (Surface.RESPONSES_COMPACT, {"input": "x"}, {"input": "x"}, {"input": "x"}),
        (Surface.OPENAI_COMPLETIONS, {"prompt": "x"}, {"prompt": "x"}, {"prompt": "x"}),
        (Surface.ANTHROPIC_MESSAGES, {"a": 1}, {"system": OWN, "a": 1}, {"system": OWN, "a": 1}),
        (Surface.ANTHROPIC_MESSAGES, {"system": "s"}, {"system": f"{OWN}\n\ns"}, {"system": f"s\n\n{OWN}"}),
        (
            Surface.ANTHROPIC_MESSAGES,
            {"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]},
            {
                "system": [
                    {"type": "text", "text": OWN},
                    {"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}},
                ]
            },
            {
                "system": [
                    {"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}},
                    {"type": "text", "text": OWN},
                ]
            },
        ),
        (Surface.ANTHROPIC_MESSAGES, {"system": {"x": 1}}, {"system": {"x": 1}}, {"system": {"x": 1}}),
        (
            Surface.GEMINI,
            {"a": 1},
            {"systemInstruction": {"parts": [PART]}, "a": 1},
            {"systemInstruction": {"parts": [PART]}, "a": 1},
        ),
        (
            Surface.GEMINI,
            {"systemInstruction": {"role": "system", "parts": [{"text": "s"}]}},
            {"systemInstruction": {"role": "system", "parts": [PART, {"text": "s"}]}},
            {"systemInstruction": {"role": "system", "parts": [{"text": "s"}, PART]}},
        ),
        (
            Surface.GEMINI_ARRAY,
            {"system_instruction": {"parts": {"text": "s"}}},
            {"system_instruction": {"parts": [PART, {"text": "s"}]}},
            {"system_instruction": {"parts": [{"text": "s"}, PART]}},
        ),
        (
            Surface.GEMINI,
            {"systemInstruction": "s"},
            {"systemInstruction": {"parts": [{"text": f"{OWN}\n\ns"}]}},
            {"systemInstruction": {"parts": [{"text": f"s\n\n{OWN}"}]}},
        ),
        (
            Surface.GEMINI,
            {"systemInstruction": {}},
            {"systemInstruction": {"parts": [PART]}},
            {"systemInstruction": {"parts": [PART]}},
        ),
        (
            Surface.GEMINI,
            {"systemInstruction": {"parts": "s"}},
            {"systemInstruction": {"parts": "s"}},
            {"systemInstruction": {"parts": "s"}},
        ),
        (Surface.GEMINI, {"systemInstruction": 5}, {"systemInstruction": 5}, {"systemInstruction": 5}),
    ],
)
def test_a_prompt_has_its_place_in_each_dialect(
    surface: Surface, before: dict[str, Any], in_front: dict[str, Any], behind: dict[str, Any]
) -> None:
    assert added(BEFORE, surface, before) == in_front
    assert added(AFTER, surface, before) == behind


@given(
    st.sampled_from(list(Surface)),
    st.dictionaries(
        st.sampled_from(["messages", "system", "instructions", "systemInstruction", "input", "a"]),
        st.recursive(
            st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=6,
        ),
    ),
    st.booleans(),
)
def test_whatever_stands_there_the_rest_stays_as_it_is(surface: Surface, body: dict[str, Any], behind: bool) -> None:
    made = added(SystemPrompt(OWN, behind), surface, body)
    touched = {name for name in {**made, **body} if made.get(name) != body.get(name)}
    assert len(touched) <= 1
    assert touched <= {"messages", "system", "instructions", "systemInstruction", "system_instruction"}


def test_a_prompt_may_be_for_some_models_only() -> None:
    values = {row.name: row.default for row in in_section(Tab.AI)}
    on = {**values, "systemPromptEnabled": True, "systemPromptText": OWN}
    everywhere = shaping_of(on)
    assert everywhere is not None
    assert everywhere.prompt is not None
    assert everywhere.prompt.concerns("anything")
    some = shaping_of({**on, "systemPromptModels": ["gpt-*", "combo/a"]})
    assert some is not None
    assert some.prompt is not None
    assert [some.prompt.concerns(name) for name in ("gpt-5", "combo/a", "combo/ab", "claude")] == [
        True,
        True,
        False,
        False,
    ]


def test_nothing_is_added_by_default() -> None:
    values = {row.name: row.default for row in in_section(Tab.AI)}
    assert shaping_of(values) is None
    assert shaping_of({**values, "systemPromptEnabled": True}) is None, "an empty text adds nothing"
    assert shaping_of({**values, "systemPromptText": OWN}) is None, "it is off"
    assert shaping_of({**values, "thinkingMode": "auto"}) == Shaping(None, Thinking(None))


# --- reasoning -------------------------------------------------------------------------------------------------------


@dataclass
class Asked:
    """A client's request, or one that cannot be read."""

    top: TopLevel
    parsed: Request | None = None

    @property
    def request(self) -> Request:
        if self.parsed is None:
            raise InvalidRequest("unreadable")
        return self.parsed


def request_of(*messages: Message, **more: Any) -> Request:
    said = messages or (Message(Role.USER, (Text("hi"),)),)
    return Request(origin=WireFormat.OPENAI_CHAT, model="m", messages=said, **more)


def edited(
    thinking: Thinking, profile: Profile, body: dict[str, Any], request: Request | None = None
) -> dict[str, Any]:
    top = scan(json.dumps(body).encode())
    found: dict[str, Any] = json.loads(splice(top, thinking.edits(Asked(top, request or request_of()), profile)))
    return found


NOTHING = Thinking(None)
HIGH = Thinking(Reasoning(effort=Effort.HIGH))
SOME = Thinking(Reasoning(budget=2000))


@pytest.mark.parametrize(
    ("profile", "thinking", "before", "after"),
    [
        (able(CHAT), HIGH, {"a": 1}, {"reasoning_effort": "high", "a": 1}),
        (able(CHAT), HIGH, {"reasoning_effort": "low", "reasoning": {"effort": "low"}}, {"reasoning_effort": "high"}),
        (able(CHAT), SOME, {}, {"reasoning_effort": "low"}),
        (
            able(CHAT, reasoning=ReasoningStyle.SWITCH),
            SOME,
            {"thinking": {"type": "disabled"}},
            {"thinking": {"type": "enabled"}},
        ),
        (
            able(CHAT, reasoning=ReasoningStyle.BUDGET),
            SOME,
            {},
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        ),
        (
            able(CHAT, reasoning=ReasoningStyle.BUDGET),
            Thinking(Reasoning(budget=0)),
            {},
            {"thinking": {"type": "disabled"}},
        ),
        (able(CHAT, reasoning=ReasoningStyle.NONE), HIGH, {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        (able(CHAT), NOTHING, {"reasoning_effort": "low", "thinking": {}, "a": 1}, {"a": 1}),
        (
            able(RESPONSES),
            HIGH,
            {"reasoning": {"summary": "auto"}},
            {"reasoning": {"summary": "auto", "effort": "high"}},
        ),
        (
            able(RESPONSES),
            NOTHING,
            {"reasoning": {"summary": "auto", "effort": "low"}},
            {"reasoning": {"summary": "auto"}},
        ),
        (able(RESPONSES), NOTHING, {"reasoning": {"effort": "low"}, "a": 1}, {"a": 1}),
        (able(RESPONSES), NOTHING, {"reasoning": {"summary": "auto"}}, {"reasoning": {"summary": "auto"}}),
        (
            able(MESSAGES, max_output=64_000),
            SOME,
            {"max_tokens": 9000, "temperature": 1},
            {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 9000},
        ),
        (able(MESSAGES), NOTHING, {"thinking": {"type": "enabled", "budget_tokens": 1024}, "a": 1}, {"a": 1}),
        (able(MESSAGES), NOTHING, {"output_config": {"effort": "low", "b": 2}}, {"output_config": {"b": 2}}),
        (
            able(GEMINI, reasoning=ReasoningStyle.GEMINI_BUDGET),
            SOME,
            {"generationConfig": {"topK": 1}},
            {"generationConfig": {"topK": 1, "thinkingConfig": {"thinkingBudget": 2000, "includeThoughts": True}}},
        ),
        (
            able(GEMINI),
            NOTHING,
            {"generation_config": {"thinking_config": {}, "topK": 1}},
            {"generation_config": {"topK": 1}},
        ),
        (able(OLLAMA), HIGH, {}, {"think": True}),
        (able(OLLAMA), Thinking(Reasoning(effort=Effort.NONE)), {}, {"think": False}),
        (able(OLLAMA), NOTHING, {"think": True, "a": 1}, {"a": 1}),
    ],
)
def test_a_body_in_the_targets_own_format_says_what_the_operator_wants(
    profile: Profile, thinking: Thinking, before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert edited(thinking, profile, before) == after


def calling(*, signed: bool) -> Sequence[Message]:
    call = ToolCall("c1", "f", "{}")
    blocks = (ThinkingBlock("t"), call) if signed else (call,)
    return (
        Message(Role.USER, (Text("hi"),)),
        Message(Role.ASSISTANT, blocks),
        Message(Role.TOOL, (ToolResult("c1", (Text("r"),)),)),
    )


@pytest.mark.parametrize(
    "request_",
    [
        request_of(tool_choice=ToolChoice(ChoiceMode.REQUIRED)),
        request_of(tool_choice=ToolChoice(ChoiceMode.NAMED, ("f",))),
        request_of(Message(Role.USER, (Text("hi"),)), Message(Role.ASSISTANT, (Text("{"),))),
        request_of(*calling(signed=False)),
    ],
    ids=["any tool", "a tool", "a begun answer", "a loop without its reasoning"],
)
def test_messages_is_not_asked_for_reasoning_where_it_would_refuse_the_request(request_: Request) -> None:
    profile = able(MESSAGES, max_output=64_000, needs_thinking_first=True, reasoning=ReasoningStyle.BUDGET)
    body = {"max_tokens": 9000}
    assert edited(HIGH, profile, body, request_) == body
    assert HIGH.applied(request_, profile) is request_
    assert edited(Thinking(Reasoning(effort=Effort.NONE)), profile, body, request_) != body, "it may be switched off"
    assert edited(HIGH, able(CHAT), {}, request_) == {"reasoning_effort": "high"}, "others have no such rule"


def test_what_only_the_provider_can_read_goes_as_it_is() -> None:
    top = scan(b'{"a":1}')
    assert HIGH.edits(Asked(top), able(CHAT)) == {}
    assert NOTHING.edits(Asked(scan(b'{"think":true}')), able(OLLAMA)) == {"think": None}


def test_a_translated_request_says_it_too() -> None:
    said = Reasoning(effort=Effort.LOW, is_visible=False, summary="auto")
    assert HIGH.applied(request_of(reasoning=said), able(GEMINI)).reasoning == Reasoning(
        effort=Effort.HIGH, is_visible=False, summary="auto"
    )
    assert NOTHING.applied(request_of(reasoning=said), able(GEMINI)).reasoning is None
    assert SOME.applied(request_of(), able(GEMINI)).reasoning == Reasoning(budget=2000)


@pytest.mark.parametrize(
    ("turns", "tools", "question", "factor"),
    [(1, 0, 5, 1.0), (10, 3, 2000, 1.0), (11, 0, 5, 1.5), (1, 4, 5, 1.5), (1, 0, 2001, 1.3), (11, 4, 2001, 2.3)],
)
def test_harder_requests_get_more(turns: int, tools: int, question: int, factor: float) -> None:
    messages = [Message(Role.USER, (Text("x" * question),))] * turns
    assert hardness(request_of(*messages, tools=(object(),) * tools)) == pytest.approx(factor)


def test_an_adaptive_amount_has_a_bound_and_heeds_who_wants_none() -> None:
    adaptive = Thinking(Reasoning(effort=Effort.MEDIUM), is_adaptive=True)
    assert adaptive.applied(request_of(), able(GEMINI)).reasoning == Reasoning(budget=10_000)
    long = request_of(*[Message(Role.USER, (Text("x"),))] * 12)
    assert adaptive.applied(long, able(GEMINI)).reasoning == Reasoning(budget=15_000)
    bounded = Thinking(Reasoning(effort=Effort.MEDIUM), most=12_000, is_adaptive=True)
    assert bounded.applied(long, able(GEMINI)).reasoning == Reasoning(budget=12_000)
    off = request_of(reasoning=Reasoning(effort=Effort.NONE))
    assert adaptive.applied(off, able(GEMINI)).reasoning == Reasoning(effort=Effort.NONE)

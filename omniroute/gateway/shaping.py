"""What the operator adds to every request: a system prompt, and a word on reasoning.

The prompt is put into the body as the client's own format has a place for it, before anything else looks at it, so that
it goes the same way whatever serves. The word on reasoning is said in the target's terms, in the edits that a passed-on
body gets anyway or in the canonical request. Without either a request is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from re import Pattern
from typing import Any, Final, Protocol

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.canonical import ChoiceMode, Effort, Reasoning, Request, Role, Text
from omniroute.formats.effort import reasoning_edits, with_reasoning
from omniroute.formats.profile import Profile
from omniroute.formats.reasoning import budget_of, is_wanted
from omniroute.formats.splice import TopLevel, scan, splice
from omniroute.formats.thoughts import must_rest
from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import Dialect, Surface
from omniroute.routing.patterns import compiled

Edits = dict[str, bytes | None]

_MANY_TURNS: Final = 10
_MANY_TOOLS: Final = 3
_LONG_QUESTION: Final = 2000
_FOR_TURNS, _FOR_TOOLS, _FOR_QUESTION = 0.5, 0.5, 0.3
_ANY_FORMAT: Final = Profile(WireFormat.OPENAI_CHAT, "")
_LEADING: Final = frozenset({"system", "developer"})
_UNSHAPED: Final = frozenset({Surface.OPENAI_COMPLETIONS, Surface.RESPONSES_COMPACT})
"""Ways in without a place for system text."""
_encode: Final = msgspec.json.Encoder().encode
_RAW_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY: Final = msgspec.json.Decoder()


class Asked(Protocol):
    """A client's request: its body, and what that says."""

    @property
    def top(self) -> TopLevel:
        """The checked body."""
        ...

    @property
    def request(self) -> Request:
        """The canonical request; parsed on first use."""
        ...


@dataclass(frozen=True, slots=True)
class Thinking:
    """What models are asked about reasoning in place of what callers say.

    Attributes:
        amount: None asks for nothing, so that the model decides.
        most: for `is_adaptive` the most tokens; None sets no bound.
        is_adaptive: a harder request gets more than `amount`, and one whose caller wants no reasoning gets none.
    """

    amount: Reasoning | None
    most: int | None = None
    is_adaptive: bool = False

    def edits(self, asked: Asked, profile: Profile) -> Edits:
        """Return what to change in a body of the target's own format."""
        if self.amount is None:
            return reasoning_edits(asked.top, None, profile)
        try:
            request = asked.request
        except OmniRouteError:  # its provider may read what we do not
            return {}
        wanted = self._wanted(request)
        if wanted is not None and not _may_reason(request, wanted, profile):
            return {}
        return reasoning_edits(asked.top, wanted, profile)

    def applied(self, request: Request, profile: Profile) -> Request:
        """Return the request as the target is to be asked."""
        wanted = self._wanted(request)
        if wanted is not None and not _may_reason(request, wanted, profile):
            return request
        return with_reasoning(request, wanted)

    def _wanted(self, request: Request) -> Reasoning | None:
        if not self.is_adaptive or self.amount is None:
            return self.amount
        if is_wanted(request.reasoning) is False:
            return request.reasoning
        base = budget_of(self.amount, _ANY_FORMAT) or 0
        budget = int(base * hardness(request))
        return Reasoning(budget=budget if self.most is None else min(budget, self.most))


def hardness(request: Request) -> float:
    """Return how much more reasoning than an easy request one deserves: by its turns, its tools and its question."""
    factor = 1.0
    if len(request.messages) > _MANY_TURNS:
        factor += _FOR_TURNS
    if len(request.tools) > _MANY_TOOLS:
        factor += _FOR_TOOLS
    asked = next((message for message in reversed(request.messages) if message.role is Role.USER), None)
    if asked is not None and sum(len(b.text) for b in asked.blocks if isinstance(b, Text)) > _LONG_QUESTION:
        factor += _FOR_QUESTION
    return factor


def _may_reason(request: Request, wanted: Reasoning, profile: Profile) -> bool:
    """Say whether a target takes reasoning with this request: Messages refuses it beside what it cannot precede."""
    if profile.format is not WireFormat.ANTHROPIC_MESSAGES or not is_wanted(wanted):
        return True
    if request.tool_choice is not None and request.tool_choice.mode in (ChoiceMode.REQUIRED, ChoiceMode.NAMED):
        return False
    if request.messages and request.messages[-1].role is Role.ASSISTANT:  # the answer was begun for the model
        return False
    return not must_rest(request.messages, wanted, profile)


@dataclass(frozen=True, slots=True)
class SystemPrompt:
    """Text that the operator adds to the system text of requests for models with these names."""

    text: str
    is_behind: bool = False
    models: tuple[Pattern[str], ...] = ()

    def concerns(self, model: str) -> bool:
        """Say whether requests for a model, as callers spell it, get it."""
        return not self.models or any(pattern.fullmatch(model) for pattern in self.models)

    def added(self, top: TopLevel, dialect: Dialect) -> TopLevel:
        """Return a body with the text in it. What is no request of its format is left for others to refuse."""
        edits = self._edits(top, dialect)
        return scan(splice(top, edits)) if edits else top

    def _edits(self, top: TopLevel, dialect: Dialect) -> Edits:
        if dialect.surface in _UNSHAPED:
            return {}
        if dialect.surface is Surface.OLLAMA_GENERATE:
            return self._joined(top, "system")
        match dialect.format:
            case WireFormat.OPENAI_CHAT | WireFormat.OLLAMA:
                return self._in_messages(top)
            case WireFormat.OPENAI_RESPONSES:
                return self._joined(top, "instructions")
            case WireFormat.ANTHROPIC_MESSAGES:
                return self._in_system(top)
            case WireFormat.GEMINI:
                return self._in_instruction(top)
            case _:
                return {}

    def _joined(self, top: TopLevel, member: str) -> Edits:
        said = top.value(member)
        if said is not None and not isinstance(said, str):
            return {}
        return {member: _encode(self._with(said) if said else self.text)}

    def _with(self, said: str) -> str:
        return f"{said}\n\n{self.text}" if self.is_behind else f"{self.text}\n\n{said}"

    def _in_messages(self, top: TopLevel) -> Edits:
        items = _list_of(top, "messages")
        if items is None:
            return {}
        place = 0
        if self.is_behind:
            place = next((at for at, item in enumerate(items) if not _is_leading(item)), len(items))
        return {"messages": _listed(items, place, {"role": "system", "content": self.text})}

    def _in_system(self, top: TopLevel) -> Edits:
        said = top.value("system")
        if not isinstance(said, list):
            return self._joined(top, "system")
        items = _list_of(top, "system") or []
        return {"system": _listed(items, len(items) if self.is_behind else 0, {"type": "text", "text": self.text})}

    def _in_instruction(self, top: TopLevel) -> Edits:
        member = "system_instruction" if "system_instruction" in top else "systemInstruction"
        said = top.value(member)
        own = {"text": self.text}
        if said is None:
            return {member: _encode({"parts": [own]})}
        if isinstance(said, str):
            return {member: _encode({"parts": [{"text": self._with(said)}]})}
        if not isinstance(said, dict) or not isinstance(said.get("parts") or [], list | dict):
            return {}
        span = top.spans[member]
        members = _RAW_OBJECT.decode(top.body[span[0] : span[1]])
        parts = said.get("parts") or []
        items = _RAW_LIST.decode(members["parts"]) if isinstance(parts, list) and parts else []
        if isinstance(parts, dict):
            items = [members["parts"]]
        listed = _listed(items, len(items) if self.is_behind else 0, own)
        return {member: _encode({**members, "parts": msgspec.Raw(listed)})}


def _list_of(top: TopLevel, member: str) -> list[msgspec.Raw] | None:
    span = top.spans.get(member)
    if span is None:
        return None
    try:
        return _RAW_LIST.decode(top.body[span[0] : span[1]])
    except msgspec.DecodeError:
        return None


def _is_leading(item: msgspec.Raw) -> bool:
    message = _ANY.decode(item)
    return isinstance(message, dict) and message.get("role") in _LEADING


def _listed(items: list[msgspec.Raw], place: int, own: Mapping[str, Any]) -> bytes:
    parts = [bytes(item) for item in items]
    parts.insert(place, _encode(own))
    return b"[" + b",".join(parts) + b"]"


@dataclass(frozen=True, slots=True)
class Shaping:
    """What is added to requests."""

    prompt: SystemPrompt | None
    thinking: Thinking | None


def shaping_of(values: Mapping[str, Any]) -> Shaping | None:
    """Return what the settings of the tab `ai` add to requests; None where they add nothing."""
    prompt = None
    if values["systemPromptEnabled"] and values["systemPromptText"].strip():
        prompt = SystemPrompt(
            values["systemPromptText"],
            values["systemPromptPosition"] == "after",
            tuple(compiled(pattern) for pattern in values["systemPromptModels"]),
        )
    thinking = _thinking_of(values)
    return Shaping(prompt, thinking) if prompt is not None or thinking is not None else None


def _thinking_of(values: Mapping[str, Any]) -> Thinking | None:
    effort, most = Effort(values["thinkingEffort"]), values["thinkingMaxTokens"]
    match values["thinkingMode"]:
        case "auto":
            return Thinking(None)
        case "custom":
            return Thinking(Reasoning(effort=effort) if most is None else Reasoning(budget=most))
        case "adaptive":
            return Thinking(Reasoning(effort=effort), most, is_adaptive=True)
        case _:
            return None

"""What a target of a translation takes, from the provider's row, the model's facts and what is known of hosts.

The rules are rows: the first part says for whom, the second which members of the format's default profile change. Later
rows win. A fact that no row states is the conservative default of the format (`formats/profile.py`); a capability of a
model that the catalogue does not list is not denied, because a wrong "no" refuses what would have worked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from omniroute.formats.canonical import Effort, MediaKind
from omniroute.formats.profile import IdRule, Profile, ReasoningStyle, profile_for
from omniroute.formats.wire import WireFormat
from omniroute.providers.spec import Model, Provider

_CHAT, _RESPONSES = WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES
_MESSAGES, _GEMINI, _OLLAMA = WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI, WireFormat.OLLAMA

_VENDORS: Final[Mapping[WireFormat, frozenset[str]]] = {
    _CHAT: frozenset({"openai", "azure-openai"}),
    _RESPONSES: frozenset({"openai", "azure-openai", "codex"}),
    _MESSAGES: frozenset({"anthropic", "claude"}),
    _GEMINI: frozenset({"gemini", "vertex"}),
    _OLLAMA: frozenset({"ollama", "ollama-cloud"}),
}
"""Providers where a format is at home: its server tools and files mean something there, and it is the one to prefer."""
_FALLBACK_ORDER: Final = (_CHAT, _RESPONSES, _MESSAGES, _GEMINI, _OLLAMA)
_HOME_ORDER: Final = (_RESPONSES, _MESSAGES, _GEMINI, _CHAT, _OLLAMA)


@dataclass(frozen=True, slots=True)
class _Rule:
    """Facts of some targets. An empty condition holds for all."""

    facts: Mapping[str, Any]
    formats: frozenset[WireFormat]
    providers: frozenset[str] = frozenset()
    model: re.Pattern[str] | None = None

    def holds(self, provider_id: str, model: str, wire_format: WireFormat) -> bool:
        return (
            wire_format in self.formats
            and (not self.providers or provider_id in self.providers)
            and (self.model is None or self.model.search(model) is not None)
        )


def _rule(formats: Iterable[WireFormat], *providers: str, model: str | None = None, **facts: Any) -> _Rule:
    pattern = re.compile(model, re.IGNORECASE) if model is not None else None
    return _Rule(facts, frozenset(formats), frozenset(providers), pattern)


_OPENAI: Final = tuple(_VENDORS[_CHAT])
_LOW_TO_HIGH: Final = (Effort.LOW, Effort.MEDIUM, Effort.HIGH)

RULES: Final[tuple[_Rule, ...]] = (
    # Hosts of the Chat format other than its vendor are asked only for what all of them know.
    _rule(
        [_CHAT],
        max_output_field="max_tokens",
        takes_developer=False,
        takes_names=False,
        takes_store=False,
        takes_service_tier=False,
        thinking_field="reasoning_content",
        reasoning=ReasoningStyle.EFFORT,
        efforts=_LOW_TO_HIGH,
        takes=frozenset({MediaKind.IMAGE, MediaKind.DOCUMENT, MediaKind.AUDIO}),
    ),
    _rule(
        [_CHAT],
        *_OPENAI,
        max_output_field="max_completion_tokens",
        takes_developer=True,
        takes_names=True,
        takes_store=True,
        takes_service_tier=True,
        takes_custom_tools=True,
        thinking_field=None,
    ),
    _rule([_RESPONSES], reasoning=ReasoningStyle.EFFORT),
    # Reasoning models of the vendor know no sampling knobs; the others know no effort.
    _rule([_CHAT, _RESPONSES], *_OPENAI, "codex", reasoning=ReasoningStyle.NONE),
    _rule(
        [_CHAT, _RESPONSES],
        *_OPENAI,
        "codex",
        model=r"^(?:o\d|gpt-(?:[5-9]|\d\d)|codex)",
        reasoning=ReasoningStyle.EFFORT,
        efforts=(Effort.NONE, Effort.MINIMAL, Effort.LOW, Effort.MEDIUM, Effort.HIGH, Effort.XHIGH),
        takes_sampling=False,
        takes_penalties=False,
        takes_logprobs=False,
    ),
    _rule([_CHAT, _RESPONSES], *_OPENAI, model=r"^o\d", efforts=_LOW_TO_HIGH),
    # Hosts that refuse a tool loop without the reasoning that led to the call.
    _rule(
        [_CHAT],
        "deepseek",
        "kimi",
        "kimi-coding",
        "kimi-coding-apikey",
        "moonshot",
        "xiaomi-mimo",
        returns_thinking=True,
    ),
    _rule([_CHAT], model=r"deepseek-(?:reasoner|v3\.[2-9]|v[4-9])|kimi-k2.*thinking|mimo", returns_thinking=True),
    _rule([_CHAT], "openrouter", "vercel-ai-gateway", thinking_field="reasoning", returns_thinking=True),
    _rule([_CHAT], "groq", "cerebras", thinking_field="reasoning"),
    _rule([_CHAT], "mistral", "codestral", id_rule=IdRule.NINE, takes_usage_option=False, thinking_field=None),
    _rule([_CHAT], "xai", takes_penalties=False, model=r"grok-[4-9]"),
    # Messages: the newest models think as they see fit, the ones before take a budget, the oldest do not think.
    _rule([_MESSAGES], reasoning=ReasoningStyle.BUDGET),
    _rule([_MESSAGES], model=r"claude-(?:3-[05]|3-(?:opus|haiku|sonnet)|2|instant)", reasoning=ReasoningStyle.NONE),
    _rule([_MESSAGES], model=r"claude-(?:3-7|(?:opus|sonnet|haiku)-4)", reasoning=ReasoningStyle.BUDGET),
    _rule(
        [_MESSAGES],
        model=r"claude-(?:(?:opus|sonnet|haiku)-(?:4-(?:[6-9]|[1-9]\d(?!\d))|[5-9])|[a-z]+-[5-9])",
        reasoning=ReasoningStyle.ADAPTIVE,
        takes_sampling=False,
        takes_prefill=False,
        takes_inline_system=False,
    ),
    _rule([_MESSAGES], model=r"claude-(?:3|2|instant|(?:opus|sonnet)-4-(?:0|2))", takes_output_schema=False),
    # Gemini
    _rule([_GEMINI], reasoning=ReasoningStyle.GEMINI_BUDGET, budget_max=24576),
    _rule([_GEMINI], model=r"gemini-2\.5-pro", budget_min=128, budget_max=32768),
    _rule([_GEMINI], model=r"gemini-2\.5-flash-lite", budget_min=0),
    _rule([_GEMINI], model=r"gemini-(?:1|2\.0)", reasoning=ReasoningStyle.NONE),
    _rule(
        [_GEMINI],
        model=r"gemini-(?:[3-9]|\d\d)",
        reasoning=ReasoningStyle.GEMINI_LEVEL,
        takes_result_media=True,
    ),
    _rule([_GEMINI], model=r"gemini-[3-9].*pro", efforts=(Effort.LOW, Effort.HIGH)),
    # Ollama
    _rule([_OLLAMA], reasoning=ReasoningStyle.SWITCH),
)

_MEDIA_OF: Final = {
    "image": MediaKind.IMAGE,
    "pdf": MediaKind.DOCUMENT,
    "audio": MediaKind.AUDIO,
    "video": MediaKind.VIDEO,
}


def preferred_format(provider: Provider, offered: Iterable[WireFormat]) -> WireFormat | None:
    """Return the format to speak to a provider in when it does not speak the client's.

    The one that the provider is the vendor of, since nothing is lost there that the provider can do; otherwise the one
    that hosts speak best.
    """
    available = set(offered)
    for wire_format in _HOME_ORDER:
        if wire_format in available and provider.id in _VENDORS[wire_format]:
            return wire_format
    return next((wire_format for wire_format in _FALLBACK_ORDER if wire_format in available), None)


def is_vendor(provider: Provider, wire_format: WireFormat) -> bool:
    """Whether a provider is the vendor of a format."""
    return provider.id in _VENDORS.get(wire_format, ())


@lru_cache(maxsize=1024)
def _facts_of(provider_id: str, model: str, wire_format: WireFormat) -> Mapping[str, Any]:
    facts: dict[str, Any] = {}
    for rule in RULES:
        if rule.holds(provider_id, model, wire_format):
            facts.update(rule.facts)
    facts["is_vendor"] = provider_id in _VENDORS.get(wire_format, ())
    return facts


def profile_of(
    provider: Provider, model: str, known: Model | None, wire_format: WireFormat, connection_id: str
) -> Profile:
    """Return what a model at a provider takes in a format.

    Args:
        provider: the row or node.
        model: the provider's own id.
        known: what the catalogue says of the model, None for one that it does not list.
        wire_format: the one it is spoken to in.
        connection_id: stands for the account, which opaque tokens are bound to.
    """
    return _profile_of(provider.id, model, known, wire_format, connection_id)


@lru_cache(maxsize=1024)
def _profile_of(
    provider_id: str, model: str, known: Model | None, wire_format: WireFormat, connection_id: str
) -> Profile:
    facts = dict(_facts_of(provider_id, model, wire_format))
    if known is not None:
        facts["max_output"] = known.max_output
        facts["context"] = known.context
        if known.input:
            facts["takes"] = frozenset(_MEDIA_OF[kind] for kind in known.input if kind in _MEDIA_OF)
        if known.lacks("tools"):
            facts["takes_tools"] = False
        if known.lacks("reasoning"):
            facts["reasoning"] = ReasoningStyle.NONE
    return profile_for(wire_format, model, provider=provider_id, family=connection_id, **facts)

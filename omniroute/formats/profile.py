"""What the target of a translation can take: facts of provider and model as the renderers need them.

A profile is made once per target by the gateway from the provider's row and the model's facts; the defaults here are
those of the vendor whose format it is, conservative where vendors' own models differ.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from omniroute.formats.canonical import Effort, MediaKind
from omniroute.formats.wire import WireFormat


class ReasoningStyle(StrEnum):
    """How a model is told how hard to think.

    `EFFORT`: OpenAI's word; `ADAPTIVE`: Messages, adaptive thinking with an effort; `BUDGET`: Messages, a token budget;
    `GEMINI_BUDGET`: `thinkingBudget`; `GEMINI_LEVEL`: `thinkingLevel`; `SWITCH`: on or off (Ollama's `think`);
    `NONE`: the model does not reason, or cannot be told.
    """

    NONE = "none"
    EFFORT = "effort"
    ADAPTIVE = "adaptive"
    BUDGET = "budget"
    GEMINI_BUDGET = "gemini_budget"
    GEMINI_LEVEL = "gemini_level"
    SWITCH = "switch"


class SchemaDialect(StrEnum):
    """Which JSON schemas a target reads: all of them, or the OpenAPI subset that Gemini's `parameters` takes."""

    FULL = "full"
    SUBSET = "subset"


class IdRule(StrEnum):
    """Which tool-call ids a target accepts."""

    ANY = "any"
    """Up to 40 characters of any kind: OpenAI Chat."""
    LONG = "long"
    """Up to 64 of `[A-Za-z0-9_-]`: Responses, and what Messages takes."""
    NINE = "nine"
    """Exactly nine letters and digits: Mistral."""
    NONE = "none"
    """Ids are not sent: Ollama."""


class Profile(msgspec.Struct, frozen=True):
    """One target: a model at a provider through one connection, in one format.

    Attributes:
        provider, family: whose opaque tokens the target can read; `family` is that of the connection.
        is_vendor: the provider is the vendor of the format, so that its server tools and file ids mean something there.
        max_output, context: tokens; None when nobody states it.
        efforts: accepted efforts, weakest first; None accepts all.
        budget_min, budget_max: thinking budget in tokens.
        thinking_field: the member of a Chat message that carries reasoning; None for hosts without one.
        returns_thinking: the host wants its reasoning back in the history.
        max_output_field: `max_completion_tokens` or `max_tokens` (Chat).
        takes: media that the model reads in user messages.
        takes_result_media: media inside tool results.
        takes_bypass: a missing thought signature may be replaced by the vendor's documented value.
        needs_thinking_first: a turn that ends in calls must begin with its signed reasoning while reasoning is on.
        takes_text_parts: a content may be a list of several texts (Chat); elsewhere they are joined by a blank line.
        refused: members of the format's request that the target does not accept (Chat); hosts differ in how strict.
        needs_definitions: calls in the history are only accepted beside definitions of tools.
        name_limit: longest tool name; names are letters, digits, `_` and `-`.
    """

    format: WireFormat
    model: str
    provider: str = ""
    family: str = ""
    is_vendor: bool = False
    max_output: int | None = None
    context: int | None = None
    reasoning: ReasoningStyle = ReasoningStyle.NONE
    efforts: tuple[Effort, ...] | None = None
    budget_min: int = 0
    budget_max: int | None = None
    thinking_field: str | None = None
    returns_thinking: bool = False
    max_output_field: str = "max_completion_tokens"
    takes_sampling: bool = True
    takes_top_k: bool = True
    takes_penalties: bool = True
    takes_seed: bool = True
    takes_logprobs: bool = True
    takes_developer: bool = True
    takes_names: bool = True
    takes_inline_system: bool = True
    takes_prefill: bool = True
    takes_usage_option: bool = True
    takes_store: bool = True
    takes_service_tier: bool = True
    takes: frozenset[MediaKind] = frozenset({MediaKind.IMAGE})
    takes_media_urls: bool = True
    takes_result_media: bool = False
    takes_tools: bool = True
    takes_custom_tools: bool = False
    takes_strict: bool = True
    takes_parallel_switch: bool = True
    takes_output_schema: bool = True
    takes_empty_text: bool = True
    takes_bypass: bool = False
    needs_thinking_first: bool = False
    needs_definitions: bool = False
    takes_text_parts: bool = True
    refused: frozenset[str] = frozenset()
    max_stops: int | None = None
    max_tools: int | None = None
    max_temperature: float | None = None
    id_rule: IdRule = IdRule.ANY
    name_limit: int = 64
    schema: SchemaDialect = SchemaDialect.FULL


_IMAGE_AND_DOCUMENT: Final = frozenset({MediaKind.IMAGE, MediaKind.DOCUMENT})

DEFAULTS: Final = {
    WireFormat.OPENAI_CHAT: Profile(WireFormat.OPENAI_CHAT, "", max_stops=4, takes_top_k=False),
    WireFormat.OPENAI_RESPONSES: Profile(
        WireFormat.OPENAI_RESPONSES,
        "",
        takes=_IMAGE_AND_DOCUMENT,
        takes_result_media=True,
        takes_custom_tools=True,
        takes_top_k=False,
        takes_penalties=False,
        takes_seed=False,
        takes_names=False,
        max_stops=0,
        id_rule=IdRule.LONG,
    ),
    WireFormat.ANTHROPIC_MESSAGES: Profile(
        WireFormat.ANTHROPIC_MESSAGES,
        "",
        takes=_IMAGE_AND_DOCUMENT,
        takes_result_media=True,
        takes_penalties=False,
        takes_seed=False,
        takes_logprobs=False,
        takes_developer=False,
        takes_names=False,
        takes_inline_system=False,
        takes_store=False,
        takes_strict=False,
        takes_empty_text=False,
        needs_thinking_first=True,
        needs_definitions=True,
        budget_min=1024,
        max_temperature=1.0,
        id_rule=IdRule.LONG,
        name_limit=128,
    ),
    WireFormat.GEMINI: Profile(
        WireFormat.GEMINI,
        "",
        takes=frozenset(MediaKind),
        takes_media_urls=False,
        takes_result_media=False,
        takes_logprobs=False,
        takes_developer=False,
        takes_names=False,
        takes_inline_system=False,
        takes_store=False,
        takes_service_tier=False,
        takes_strict=False,
        takes_parallel_switch=False,
        takes_empty_text=False,
        takes_bypass=True,
        max_stops=5,
        id_rule=IdRule.LONG,
    ),
    WireFormat.OLLAMA: Profile(
        WireFormat.OLLAMA,
        "",
        takes_media_urls=False,
        takes_penalties=True,
        takes_logprobs=False,
        takes_developer=False,
        takes_names=False,
        takes_store=False,
        takes_service_tier=False,
        takes_strict=False,
        takes_parallel_switch=False,
        thinking_field="thinking",
        id_rule=IdRule.NONE,
    ),
}
"""What a target of each format takes when nothing else is known of it."""


def profile_for(wire_format: WireFormat, model: str, **facts: object) -> Profile:
    """Return the default profile of a format with these facts in place."""
    return msgspec.structs.replace(DEFAULTS[wire_format], model=model, **facts)

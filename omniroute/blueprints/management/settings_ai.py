"""`/api/settings/thinking-budget` and `/api/settings/system-prompt`: what is added to every request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import operation
from omniroute.blueprints.management.bodies import Fields, answer, flag, integer, text, texts
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.formats.canonical import Effort
from omniroute.services.setting_definitions import DEFINITIONS, PromptPosition, Tab, ThinkingMode

blueprint = Blueprint("management_settings_ai", __name__)


class ThinkingBudgetDocument(TypedDict):
    """What models are asked about reasoning in place of what callers say."""

    mode: ThinkingMode
    maxTokens: int | None
    effort: Effort


class SystemPromptDocument(TypedDict):
    """The server's system prompt; with an empty `appliesTo` it is added to every request."""

    enabled: bool
    position: PromptPosition
    text: str
    appliesTo: list[str]


_THINKING_NAMES: Final = {"mode": "thinkingMode", "maxTokens": "thinkingMaxTokens", "effort": "thinkingEffort"}
_PROMPT_NAMES: Final = {
    "enabled": "systemPromptEnabled",
    "position": "systemPromptPosition",
    "text": "systemPromptText",
    "appliesTo": "systemPromptModels",
}
_MOST_TOKENS: Final = DEFINITIONS[Tab.AI, "thinkingMaxTokens"].maximum
_LONGEST: Final = DEFINITIONS[Tab.AI, "systemPromptText"].maximum
_MOST_MODELS: Final = DEFINITIONS[Tab.AI, "systemPromptModels"].maximum
_THINKING: Final = Fields(
    text("mode", nullable=True, choices=ThinkingMode),
    integer("maxTokens", nullable=True, minimum=0, maximum=_MOST_TOKENS),
    text("effort", nullable=True, choices=Effort),
)
_PROMPT: Final = Fields(
    flag("enabled", nullable=True),
    text("position", nullable=True, choices=PromptPosition),
    text("text", nullable=True, min_length=0, max_length=_LONGEST, multiline=True),
    texts("appliesTo", nullable=True, max_items=_MOST_MODELS, max_length=300),
)


@blueprint.get("/api/settings/thinking-budget")
@operation(ThinkingBudgetDocument)
def thinking_budget() -> Response:
    """Show what models are asked about reasoning."""
    values = container().in_force.section(Tab.AI)
    made: ThinkingBudgetDocument = {
        "mode": ThinkingMode(values["thinkingMode"]),
        "maxTokens": values["thinkingMaxTokens"],
        "effort": Effort(values["thinkingEffort"]),
    }
    return answer(made)


@blueprint.route("/api/settings/thinking-budget", methods=["PUT", "PATCH"])
@operation(ThinkingBudgetDocument, body=_THINKING)
def set_thinking_budget() -> Response:
    """Change what models are asked about reasoning; null gives a part back to its default."""
    _change(_THINKING.read(request), _THINKING_NAMES)
    return thinking_budget()


@blueprint.get("/api/settings/system-prompt")
@operation(SystemPromptDocument)
def system_prompt() -> Response:
    """Show the server's system prompt."""
    values = container().in_force.section(Tab.AI)
    made: SystemPromptDocument = {
        "enabled": values["systemPromptEnabled"],
        "position": PromptPosition(values["systemPromptPosition"]),
        "text": values["systemPromptText"],
        "appliesTo": list(values["systemPromptModels"]),
    }
    return answer(made)


@blueprint.route("/api/settings/system-prompt", methods=["PUT", "PATCH"])
@operation(SystemPromptDocument, body=_PROMPT)
def set_system_prompt() -> Response:
    """Change the server's system prompt; null gives a part back to its default."""
    _change(_PROMPT.read(request), _PROMPT_NAMES)
    return system_prompt()


def _change(given: Mapping[str, Any], names: Mapping[str, str]) -> None:
    values = {names[name]: value for name, value in given.items()}
    container().runtime_settings.change({Tab.AI.value: values}, origin())

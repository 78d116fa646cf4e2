"""One wish about reasoning in the words of every vendor: efforts, levels, budgets and switches.

A caller states an effort, a budget, that the model shall decide, or nothing; the target understands one of them. All
conversions between them are here, in both directions, so that they cannot disagree.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import msgspec

from omniroute.formats.canonical import Effort, Reasoning
from omniroute.formats.profile import Profile, ReasoningStyle

DYNAMIC: Final = -1
"""The budget that leaves the amount to the model."""

_ORDER: Final = tuple(Effort)
_HIGHEST_BUDGET: Final = 48_000
_SMALLEST_MESSAGES_BUDGET: Final = 1024
_BUDGETS: Final = MappingProxyType(
    {Effort.NONE: 0, Effort.MINIMAL: 1024, Effort.LOW: 4096, Effort.MEDIUM: 10_000, Effort.HIGH: 24_576}
)
_EFFORT_UP_TO: Final = ((0, Effort.NONE), (1024, Effort.MINIMAL), (4096, Effort.LOW), (16_000, Effort.MEDIUM))
_HIGH_UP_TO: Final = 32_000

# What is accepted where nobody says more: the words that every model of the style has in common.
_MESSAGES_EFFORTS: Final = (Effort.LOW, Effort.MEDIUM, Effort.HIGH)
_GEMINI_LEVELS: Final = (Effort.LOW, Effort.HIGH)


# --- conversions ---------------------------------------------------------------------------------------------------


def is_wanted(reasoning: Reasoning | None) -> bool | None:
    """Say whether the caller wants the model to reason; None when that was left unsaid."""
    if reasoning is None:
        return None
    if reasoning.budget == 0:  # Messages may state an effort for the answer beside it
        return False
    if reasoning.effort is not None:
        return reasoning.effort is not Effort.NONE
    if reasoning.budget is not None:
        return True
    return True if reasoning.is_adaptive else None


def effort_of(reasoning: Reasoning) -> Effort | None:
    """Return the effort that was asked for, or that the budget amounts to; None leaves it to the model."""
    if reasoning.budget == 0:
        return Effort.NONE
    if reasoning.effort is not None:
        return reasoning.effort
    if reasoning.budget is None or reasoning.budget < 0:
        return None
    return effort_from_budget(reasoning.budget)


def effort_from_budget(budget: int) -> Effort:
    """Return what a budget in tokens amounts to; one that leaves the amount to the model counts as medium."""
    if budget < 0:
        return Effort.MEDIUM
    for most, effort in _EFFORT_UP_TO:
        if budget <= most:
            return effort
    return Effort.HIGH if budget <= _HIGH_UP_TO else Effort.XHIGH


def nearest_effort(effort: Effort, accepted: tuple[Effort, ...] | None) -> Effort:
    """Return the effort of those accepted (None: all) that comes closest.

    The next stronger one is closest, except that more than `high` is not turned into even more. No reasoning becomes
    the least there is.
    """
    if not accepted or effort in accepted:
        return effort
    known = sorted(accepted, key=_ORDER.index)
    if effort is Effort.NONE:
        return known[0]
    wanted = _ORDER.index(effort)
    weaker = [one for one in known if _ORDER.index(one) < wanted and one is not Effort.NONE]
    stronger = [one for one in known if _ORDER.index(one) > wanted]
    if effort is Effort.XHIGH and weaker:
        return weaker[-1]
    if stronger:
        return stronger[0]
    return weaker[-1] if weaker else known[-1]


def budget_of(reasoning: Reasoning, profile: Profile) -> int | None:
    """Return the thinking budget in tokens, within what the target takes; None when the caller said nothing of it.

    0 switches reasoning off; it becomes the least of a Gemini model that cannot be switched off. `DYNAMIC` is only
    returned for Gemini; elsewhere a medium budget stands for it.
    """
    is_gemini = profile.reasoning is ReasoningStyle.GEMINI_BUDGET
    if is_wanted(reasoning) is None:
        return None
    budget = reasoning.budget
    if (budget is None or budget < 0) and reasoning.effort is not None:
        budget = _budget_for(reasoning.effort, profile)
    if budget is None or budget < 0:  # left to the model
        if is_gemini:
            return DYNAMIC
        budget = _BUDGETS[Effort.MEDIUM]
    if budget == 0 and not is_gemini:
        return 0
    if profile.budget_max is not None:
        budget = min(budget, profile.budget_max)
    return max(budget, profile.budget_min)


def _budget_for(effort: Effort, profile: Profile) -> int:
    known = _BUDGETS.get(effort)
    if known is not None:
        return known
    if profile.reasoning is ReasoningStyle.GEMINI_BUDGET:
        # The model's cap. Where nobody states it, what all of the family take.
        return _BUDGETS[Effort.HIGH] if profile.budget_max is None else profile.budget_max
    return _HIGHEST_BUDGET


# --- what the vendors' members hold ----------------------------------------------------------------------------------


class MessagesThinking(msgspec.Struct, frozen=True):
    """How Messages is told. A member that is None is left out of the body; `max_output` may have been raised."""

    thinking: dict[str, str | int] | None = None
    effort: Effort | None = None
    max_output: int | None = None

    @property
    def is_on(self) -> bool:
        """The model will reason."""
        return self.thinking is not None and self.thinking["type"] != "disabled"


def messages_thinking(reasoning: Reasoning | None, profile: Profile, max_output: int | None) -> MessagesThinking:
    """Return what a Messages target is told about reasoning.

    Args:
        reasoning: the caller's words.
        profile: the target; models that do not reason are told nothing.
        max_output: output limit that will be sent, in tokens; a budget has to stay below it.
    """
    wanted = is_wanted(reasoning)
    if reasoning is None or wanted is None or profile.reasoning not in (ReasoningStyle.ADAPTIVE, ReasoningStyle.BUDGET):
        return MessagesThinking(max_output=max_output)
    off = MessagesThinking({"type": "disabled"}, max_output=max_output)
    if not wanted:
        return off
    if profile.reasoning is ReasoningStyle.ADAPTIVE:
        thinking: dict[str, str | int] = {"type": "adaptive"}
        is_visible = _is_visible(reasoning)
        if is_visible is not None:
            thinking["display"] = "summarized" if is_visible else "omitted"
        effort = effort_of(reasoning)
        if effort is not None:
            effort = nearest_effort(effort, profile.efforts or _MESSAGES_EFFORTS)
        return MessagesThinking(thinking, effort, max_output)
    budget = budget_of(reasoning, profile)
    if not budget:
        return off
    budget, room = fit_budget(budget, profile, max_output)
    if not budget:
        return off
    return MessagesThinking({"type": "enabled", "budget_tokens": budget}, max_output=room)


def fit_budget(budget: int, profile: Profile, max_output: int | None) -> tuple[int, int | None]:
    """Return budget and output limit such that the budget stays below the limit.

    Both formats count reasoning as output. A limit that the budget would use up is raised by the budget, as far as the
    model allows; then the budget gives way. A budget of 0 says that there is no room for reasoning at all.
    """
    if max_output is None or budget < max_output:
        return budget, max_output
    room = budget + max_output
    if profile.max_output is not None:
        room = max(min(room, profile.max_output), max_output)
    if budget >= room:
        # Half of what there is, or the smallest budget if that is more; the rest is for the answer.
        budget = max(room // 2, profile.budget_min, _SMALLEST_MESSAGES_BUDGET)
        if budget >= room:
            return 0, max_output
    return budget, room


def gemini_thinking(reasoning: Reasoning | None, profile: Profile) -> dict[str, str | int | bool] | None:
    """Return `thinkingConfig` for a Gemini target; None leaves it out.

    Thoughts are shown unless the caller said otherwise: formats whose callers ask for reasoning expect to see it.
    """
    if reasoning is None or profile.reasoning not in (ReasoningStyle.GEMINI_BUDGET, ReasoningStyle.GEMINI_LEVEL):
        return None
    wanted = is_wanted(reasoning)
    config: dict[str, str | int | bool] = {}
    if wanted is not None and profile.reasoning is ReasoningStyle.GEMINI_BUDGET:
        budget = budget_of(reasoning, profile)
        if budget is not None:
            config["thinkingBudget"] = budget
    elif wanted is not None and (effort := effort_of(reasoning)) is not None:
        level = nearest_effort(effort, profile.efforts or _GEMINI_LEVELS)
        if level is not Effort.NONE:
            config["thinkingLevel"] = level.value
    is_visible = _is_visible(reasoning)
    if is_visible is None:
        is_visible = wanted
    if is_visible is not None:
        config["includeThoughts"] = is_visible
    return config or None


def _is_visible(reasoning: Reasoning) -> bool | None:
    # A wish for a summary is a wish to see it.
    return True if reasoning.is_visible is None and reasoning.summary is not None else reasoning.is_visible

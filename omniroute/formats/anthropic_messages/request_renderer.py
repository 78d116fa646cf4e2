"""A prepared canonical request to the body of a Messages request."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omniroute.formats.anthropic_messages.output_schema import constrainable
from omniroute.formats.anthropic_messages.own_request import TYPES, render_own_request
from omniroute.formats.anthropic_messages.turns import Marks, TurnRenderer
from omniroute.formats.canonical import (
    AnyTool,
    ChoiceMode,
    Output,
    Request,
    ServerToolDefinition,
    Tool,
    ToolChoice,
)
from omniroute.formats.codec import Pause
from omniroute.formats.losses import Losses, unsupported
from omniroute.formats.profile import Profile, ReasoningStyle
from omniroute.formats.reasoning import MessagesThinking, is_wanted, messages_thinking
from omniroute.formats.schemas import as_object, is_strictable
from omniroute.formats.thoughts import must_rest
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.ANTHROPIC_MESSAGES

MAX_OUTPUT_UNKNOWN: Final = 8192
"""Tokens of output to ask for where nobody states a limit: what all models but the oldest of the vendor's can give."""

JSON_ONLY: Final = "Answer with one valid JSON object and nothing else: no text around it, no code fence."
"""What JSON mode becomes. Fixed, at the end of the system text, so that the prompt's prefix stays the same."""

_LOWEST_TOP_P_THINKING: Final = 0.95


def render_request(request: Request, profile: Profile, losses: Losses, pause: Pause) -> bytes:
    """See :class:`omniroute.formats.codec.RequestRenderer`."""
    if request.origin is not _ORIGIN:
        return _Renderer(request, profile, losses).render(pause)
    # Preparing leaves a request of the same format alone, but for tokens that are not the target's.
    is_manual = request.reasoning is not None and (request.reasoning.budget or 0) > 0
    with_budget = msgspec.structs.replace(profile, reasoning=ReasoningStyle.BUDGET)
    must_not_think = is_manual and must_rest(request.messages, request.reasoning, with_budget)
    if must_not_think:
        losses.drop("reasoning")
    return render_own_request(request, profile.model, pause, may_think=not must_not_think)


class _Renderer:
    """Renders one request that came in another format."""

    def __init__(self, request: Request, profile: Profile, losses: Losses) -> None:
        self._request = request
        self._profile = profile
        self._losses = losses
        self._marks = Marks(request, losses)

    def render(self, pause: Pause) -> bytes:
        self._refuse_what_must_not_be_dropped()
        thinking = self._thinking()
        tools, choice = self._tools(thinking)
        pause()
        turns = TurnRenderer(self._request, self._profile, self._losses, self._marks)
        system = self._system(turns)
        body: dict[str, Any] = {"model": self._profile.model, "max_tokens": thinking.max_output}
        if system:
            body["system"] = system
        body["messages"] = turns.render(pause, is_thinking=thinking.is_on)
        if tools:
            body["tools"] = tools
        if choice is not None:
            body["tool_choice"] = choice
        if thinking.thinking is not None:
            body["thinking"] = thinking.thinking
        config = self._output_config(thinking)
        if config:
            body["output_config"] = config
        self._put_sampling(body, is_thinking=thinking.is_on)
        self._put_rest(body)
        self._note_losses()
        return msgspec.json.encode(body)

    def _refuse_what_must_not_be_dropped(self) -> None:
        request = self._request
        if request.n is not None and request.n > 1:
            raise unsupported("n", "This model gives one answer at a time.")
        if request.audio_output is not None:
            raise unsupported("audio", "This model cannot answer in audio.")
        if request.previous_id is not None:
            raise unsupported("previous_response_id", "This model's provider keeps no earlier answers.")

    # --- system ------------------------------------------------------------------------------------------------------

    def _system(self, turns: TurnRenderer) -> str | list[dict[str, Any]]:
        blocks = turns.system()
        output = self._request.output
        if output is not None and output.schema is None:
            if blocks:
                blocks[-1]["text"] += f"\n\n{JSON_ONLY}"
            else:
                blocks.append({"type": "text", "text": JSON_ONLY})
        if len(blocks) == 1 and "cache_control" not in blocks[0]:
            text: str = blocks[0]["text"]
            return text
        return blocks

    # --- tools -------------------------------------------------------------------------------------------------------

    def _tools(self, thinking: MessagesThinking) -> tuple[list[Any], dict[str, Any] | None]:
        request = self._request
        if not request.tools:
            return [], None
        return [self._tool(tool) for tool in request.tools], self._choice(request.tool_choice, thinking)

    def _tool(self, tool: AnyTool) -> dict[str, Any] | msgspec.Raw:
        match tool:
            case ServerToolDefinition(raw=raw):
                return raw
            case Tool():
                self._losses.drop_all("tools.extra", tool.extra)
                schema = as_object(tool.schema)
                members: dict[str, Any] = {"name": tool.name}
                if tool.description:
                    members["description"] = tool.description
                members["input_schema"] = schema
                if tool.strict and self._profile.takes_strict and is_strictable(schema):
                    members["input_schema"] = constrainable(schema)
                    members["strict"] = True
                elif tool.strict:
                    self._losses.drop("tools.strict")
                if tool.cache is not None and (mark := self._marks.take(tool.cache)) is not None:
                    members["cache_control"] = mark
                return members

    def _choice(self, choice: ToolChoice | None, thinking: MessagesThinking) -> dict[str, Any] | None:
        is_single = self._request.parallel_tools is False
        mode = ChoiceMode.AUTO if choice is None else choice.mode
        if choice is not None:
            self._losses.drop_all("extra", (f"tool_choice.{name}" for name in choice.extra))
        if mode is ChoiceMode.REQUIRED and _has_budget(thinking):
            self._losses.drop("tool_choice")
            mode = ChoiceMode.AUTO
        if choice is None and not is_single:
            return None
        members: dict[str, Any] = {"type": TYPES[mode]}
        if mode is ChoiceMode.NAMED and choice is not None:
            members["name"] = choice.names[0]
        if is_single and mode is not ChoiceMode.NONE:
            members["disable_parallel_tool_use"] = True
        return members

    # --- reasoning and output ----------------------------------------------------------------------------------------

    def _thinking(self) -> MessagesThinking:
        """Return what is said of thinking, with the output limit that has room for it."""
        request, profile = self._request, self._profile
        limit = request.max_output
        if not limit:
            limit = profile.max_output or MAX_OUTPUT_UNKNOWN
        elif profile.max_output is not None:
            limit = min(limit, profile.max_output)
        thinking = messages_thinking(request.reasoning, profile, limit)
        if request.reasoning is not None:
            self._losses.drop_all("reasoning", request.reasoning.extra)
        if profile.reasoning is not ReasoningStyle.NONE and is_wanted(request.reasoning) and not thinking.is_on:
            self._losses.drop("reasoning")  # no room for the smallest budget
        choice = request.tool_choice
        is_forced = choice is not None and choice.mode is ChoiceMode.NAMED and bool(request.tools)
        if is_forced and _has_budget(thinking):
            # They exclude each other. The very tool that was asked for counts for more: code waits for its input.
            self._losses.drop("reasoning")
            return MessagesThinking({"type": "disabled"}, max_output=limit)
        return thinking

    def _output_config(self, thinking: MessagesThinking) -> dict[str, Any]:
        config: dict[str, Any] = {}
        if thinking.effort is not None:
            config["effort"] = thinking.effort.value
        output: Output | None = self._request.output
        if output is not None and output.schema is not None and self._profile.takes_output_schema:
            config["format"] = {"type": "json_schema", "schema": constrainable(output.schema)}
        return config

    # --- parameters --------------------------------------------------------------------------------------------------

    def _put_sampling(self, body: dict[str, Any], *, is_thinking: bool) -> None:
        request, profile, losses = self._request, self._profile, self._losses
        temperature, top_p, top_k = request.temperature, request.top_p, request.top_k
        if temperature is not None:
            highest = 1.0 if profile.max_temperature is None else profile.max_temperature
            temperature = min(max(temperature, 0.0), highest)
            if is_thinking or not profile.takes_sampling:
                if temperature != 1.0:
                    losses.drop("temperature")
                temperature = None
        if top_p is not None and top_p >= 1.0:
            top_p = None  # takes nothing away, and newer models refuse it beside a temperature
        if top_p is not None and (
            temperature is not None or not profile.takes_sampling or (is_thinking and top_p < _LOWEST_TOP_P_THINKING)
        ):
            losses.drop("top_p")
            top_p = None
        if top_k is not None and (is_thinking or not profile.takes_sampling or not profile.takes_top_k):
            losses.drop("top_k")
            top_k = None
        sampling = {"temperature": temperature, "top_p": top_p, "top_k": top_k}
        body.update({name: value for name, value in sampling.items() if value is not None})

    def _put_rest(self, body: dict[str, Any]) -> None:
        request, losses = self._request, self._losses
        stops = [stop for stop in request.stop if stop.strip()]
        if self._profile.max_stops is not None:
            stops = stops[: self._profile.max_stops]
        if len(stops) != sum(1 for stop in request.stop if stop):
            losses.drop("stop")  # white space is a stop sequence for others, and refused here
        if stops:
            body["stop_sequences"] = stops
        if request.user is not None:
            body["metadata"] = {"user_id": request.user}
        tier = _TIERS.get(request.service_tier) if request.service_tier is not None else None
        if tier is not None and self._profile.takes_service_tier:
            body["service_tier"] = tier
        elif request.service_tier is not None:
            losses.drop("service_tier")
        if request.stream:
            body["stream"] = True

    def _note_losses(self) -> None:
        request = self._request
        for path, value in (
            ("seed", request.seed),
            ("frequency_penalty", request.frequency_penalty or None),
            ("presence_penalty", request.presence_penalty or None),
            ("logit_bias", request.logit_bias),
            ("logprobs", request.logprobs or None),
            ("top_logprobs", request.top_logprobs or None),
            ("metadata", request.metadata),
            ("cache_key", request.cache_key),
            ("verbosity", request.verbosity),
            ("store", request.store or None),  # "do not store" is what happens anyway
        ):
            if value is not None:
                self._losses.drop(path)
        self._losses.drop_all("extra", request.extra)


_TIERS: Final = {"auto": "auto", "default": "standard_only", "priority": "auto"}
"""Tiers that the vendor has, by the word that other formats use."""


def _has_budget(thinking: MessagesThinking) -> bool:
    """Say whether the model thinks by the older, manual way, which has more rules than the adaptive one."""
    return thinking.thinking is not None and thinking.thinking["type"] == "enabled"

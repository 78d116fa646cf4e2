"""A canonical request to a `generateContent` body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from omniroute.formats.canonical import (
    Request,
    Text,
    Tool,
)
from omniroute.formats.codec import Pause, encoded_in_turn
from omniroute.formats.gemini.choice import render_choice
from omniroute.formats.gemini.content_renderer import render_contents
from omniroute.formats.gemini.own import render_own_request
from omniroute.formats.losses import Losses, unsupported
from omniroute.formats.profile import Profile, ReasoningStyle, SchemaDialect
from omniroute.formats.reasoning import fit_budget, gemini_thinking
from omniroute.formats.schemas import reduce
from omniroute.formats.wire import WireFormat

_MOST_STOPS: Final = 5
_JSON: Final = "application/json"
_FOREIGN_VOICES: Final = frozenset(
    ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse")
)


def render_request(request: Request, profile: Profile, losses: Losses, pause: Pause) -> bytes:
    """Return the body for a Gemini model; the model itself is named by the path.

    Raises:
        UnsupportedFeature: the target cannot say something that must not be dropped.
    """
    if request.origin is WireFormat.GEMINI:
        return render_own_request(request, profile, losses, pause)
    _refuse(request)
    body: dict[str, Any] = {}
    system = _system_parts(request, losses)
    if system:
        body["systemInstruction"] = {"parts": system}
    body["contents"] = encoded_in_turn(render_contents(request.messages, profile, losses, pause), pause)
    tools = render_tools(request, profile, losses)
    if tools:
        body["tools"] = tools
    config = _tool_config(request)
    if config is not None:
        body["toolConfig"] = {"functionCallingConfig": config}
    generation = _generation_config(request, profile, losses, has_tools=bool(tools))
    if generation:
        body["generationConfig"] = generation
    _note_losses(request, losses)
    return msgspec.json.encode(body)


def _refuse(request: Request) -> None:
    if request.previous_id is not None:
        raise unsupported("previous_id", "A Gemini model knows no earlier answers: send the whole conversation.")
    if request.stream and (request.n or 1) > 1:
        raise unsupported("n", "A Gemini model streams one answer at a time.")


def _system_parts(request: Request, losses: Losses) -> list[dict[str, str]]:
    parts: list[dict[str, str]] = []
    for message in request.system:
        for block in message.blocks:
            if not isinstance(block, Text):
                raise unsupported("system", "The system instruction of a Gemini model holds nothing but text.")
            if block.cache is not None:
                losses.drop("cache")
            losses.drop_all("messages.extra", block.extra)
            if block.text:
                parts.append({"text": block.text})
    return parts


# --- tools -----------------------------------------------------------------------------------------------------------


def render_tools(request: Request, profile: Profile, losses: Losses) -> list[dict[str, Any] | msgspec.Raw]:
    """Return the tools: all functions in one, then each of the vendor's own."""
    functions: list[dict[str, Any]] = []
    own: list[dict[str, Any] | msgspec.Raw] = []
    for tool in request.tools:
        if isinstance(tool, Tool):
            functions.append(_declaration(tool, profile, losses))
        elif tool.origin is WireFormat.GEMINI:
            own.append(tool.raw)
        else:
            losses.drop("tools.server", tool.type)
    return [{"functionDeclarations": functions}, *own] if functions else own


def _declaration(tool: Tool, profile: Profile, losses: Losses) -> dict[str, Any]:
    if tool.cache is not None:
        losses.drop("cache")
    if tool.strict:
        losses.drop("tools.strict", tool.name)
    losses.drop_all("tools.extra", tool.extra)
    declaration: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        declaration["description"] = tool.description
    if tool.schema is not None:
        if profile.schema is SchemaDialect.FULL:
            declaration["parametersJsonSchema"] = tool.schema
        elif _has_properties(schema := reduce(tool.schema)):
            declaration["parameters"] = schema
    return declaration


class _Object(msgspec.Struct):
    properties: dict[str, msgspec.Raw] | None = None


_OBJECT: Final = msgspec.json.Decoder(_Object)


def _has_properties(schema: msgspec.Raw) -> bool:
    """Say whether a tool takes anything: the subset refuses objects that are said to be empty."""
    return bool(_OBJECT.decode(schema).properties)


def _tool_config(request: Request) -> dict[str, Any] | None:
    choice = request.tool_choice
    if choice is None or not any(isinstance(tool, Tool) for tool in request.tools):
        return None
    return render_choice(choice)


# --- generation settings ---------------------------------------------------------------------------------------------


def _generation_config(request: Request, profile: Profile, losses: Losses, *, has_tools: bool) -> dict[str, Any]:
    config: dict[str, Any] = {}
    temperature = request.temperature
    if temperature is not None and profile.max_temperature is not None:
        temperature = min(temperature, profile.max_temperature)
    thinking, max_output = _thinking(request, profile)
    knobs = {
        "temperature": (temperature, profile.takes_sampling),
        "topP": (request.top_p, profile.takes_sampling),
        "topK": (request.top_k, profile.takes_sampling and profile.takes_top_k),
        "seed": (request.seed, profile.takes_seed),
        "presencePenalty": (request.presence_penalty, profile.takes_penalties),
        "frequencyPenalty": (request.frequency_penalty, profile.takes_penalties),
    }
    for name, (value, is_taken) in knobs.items():
        if value is None:
            continue
        if is_taken:
            config[name] = value
        else:
            losses.drop(_CANONICAL[name])
    if max_output is not None:
        config["maxOutputTokens"] = max_output
    if request.n is not None and request.n > 1:
        config["candidateCount"] = request.n
    stops = _stops(request, profile, losses)
    if stops:
        config["stopSequences"] = stops
    if thinking is not None:
        config["thinkingConfig"] = thinking
    config.update(_output(request, profile, has_tools=has_tools))
    config.update(_audio(request, losses))
    return config


_CANONICAL: Final = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
}


def _thinking(request: Request, profile: Profile) -> tuple[dict[str, str | int | bool] | None, int | None]:
    """Return `thinkingConfig` and the output limit, which thoughts count towards."""
    max_output = request.max_output
    if max_output is not None and profile.max_output is not None:
        max_output = min(max_output, profile.max_output)
    thinking = gemini_thinking(request.reasoning, profile)
    budget = thinking.get("thinkingBudget") if thinking else None
    if thinking is None or not isinstance(budget, int) or budget <= 0:
        return thinking, max_output
    budget, max_output = fit_budget(budget, profile, max_output)
    return {**thinking, "thinkingBudget": max(budget, profile.budget_min)}, max_output


def _stops(request: Request, profile: Profile, losses: Losses) -> list[str]:
    stops = [stop for stop in request.stop if stop.strip()]
    most = _MOST_STOPS if profile.max_stops is None else profile.max_stops
    if len(stops) < len(request.stop) or len(stops) > most:
        losses.drop("stop")
    return stops[:most]


def _output(request: Request, profile: Profile, *, has_tools: bool) -> dict[str, Any]:
    output = request.output
    if output is None:
        return {}
    if has_tools and not _takes_both(profile):
        raise unsupported("output", f"{profile.model} cannot use tools and answer in JSON in one request.")
    if output.schema is None:
        return {"responseMimeType": _JSON}
    if profile.schema is SchemaDialect.FULL:
        return {"responseMimeType": _JSON, "responseJsonSchema": output.schema}
    return {"responseMimeType": _JSON, "responseSchema": reduce(output.schema)}


def _takes_both(profile: Profile) -> bool:
    # Since the generation that is told by levels how hard to think.
    return profile.reasoning is ReasoningStyle.GEMINI_LEVEL


class _Audio(msgspec.Struct):
    voice: str | dict[str, Any] | None = None


_AUDIO: Final = msgspec.json.Decoder(_Audio)


def _audio(request: Request, losses: Losses) -> dict[str, Any]:
    if request.audio_output is None:
        return {}
    config: dict[str, Any] = {"responseModalities": ["AUDIO"]}
    try:
        voice = _AUDIO.decode(request.audio_output).voice
    except msgspec.ValidationError:
        voice = None
    if isinstance(voice, str) and voice not in _FOREIGN_VOICES:
        config["speechConfig"] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": voice}}}
    elif voice is not None:
        losses.drop("extra", "audio.voice")
    return config


def _note_losses(request: Request, losses: Losses) -> None:
    said: Mapping[str, bool] = {
        "logit_bias": request.logit_bias is not None,
        "logprobs": bool(request.logprobs),
        "top_logprobs": request.top_logprobs is not None,
        "user": request.user is not None,
        "metadata": request.metadata is not None,
        "cache_key": request.cache_key is not None,
        "service_tier": request.service_tier not in {None, "auto", "default"},
        "store": bool(request.store),
        "parallel_tools": request.parallel_tools is False,
        "verbosity": request.verbosity is not None,
    }
    for path, is_said in said.items():
        if is_said:
            losses.drop(path)
    if request.reasoning is not None:
        losses.drop_all("reasoning", request.reasoning.extra)
    losses.drop_all("extra", request.extra)

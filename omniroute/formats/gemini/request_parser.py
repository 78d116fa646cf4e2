"""A `generateContent` body to the canonical request."""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.canonical import (
    NO_EXTRA,
    AnyTool,
    ChoiceMode,
    Effort,
    Message,
    Output,
    Reasoning,
    Request,
    ServerToolDefinition,
    Tool,
    ToolChoice,
)
from omniroute.formats.codec import Pause
from omniroute.formats.gemini.content_parser import Source, parse_contents, parse_system
from omniroute.formats.gemini.protojson import (
    elements_of,
    fields_of,
    take_bool,
    take_enum,
    take_fields,
    take_float,
    take_int,
    take_text,
)
from omniroute.formats.losses import SPELLING
from omniroute.formats.members import BadShape, Members, missing, text_of
from omniroute.formats.schemas import expand
from omniroute.formats.surrogates import mend
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.GEMINI
BODY: Final = f"{SPELLING}body"
"""Where the request keeps the body that it was read from: what has not been changed goes back as it was written."""
GENERATION: Final = "generationConfig."
"""In front of the names of generation settings that have no canonical place."""
TOOL_CONFIG: Final = "toolConfig."

_MODES: Final = ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")
_LEVELS: Final = ("THINKING_LEVEL_UNSPECIFIED", "LOW", "HIGH", "MEDIUM", "MINIMAL")
_JSON: Final = "application/json"


class Parsed(msgspec.Struct, frozen=True):
    """A request with the raw contents that its messages were made of."""

    request: Request
    contents: list[msgspec.Raw]
    sources: list[Source]


def parse_request(body: bytes, pause: Pause) -> Request:
    """Parse a body; model and stream are not in it.

    Raises:
        InvalidRequest, MissingField: it is no `generateContent` body.
    """
    return parse_with_sources(body, pause).request


def parse_with_sources(body: bytes, pause: Pause) -> Parsed:
    """Parse a body and keep which content became which message."""
    try:
        readable = mend(body)
        pause()
        return _parsed(body, readable, pause)
    except BadShape as error:
        raise error.for_client() from None


def _parsed(body: bytes, readable: bytes, pause: Pause) -> Parsed:
    fields = fields_of(readable)
    pause()
    whole = fields.get("generateContentRequest")
    if "contents" not in fields and whole is not None:  # how the tokens of a whole request are counted
        body, fields = bytes(whole), fields_of(whole, "generateContentRequest")
    fields.pop("model", None)  # it is named by the path
    raw_contents = fields.pop("contents", None)
    if raw_contents is None:
        missing("contents")
    try:
        contents, sources = parse_contents(raw_contents, pause)
    except BadShape as error:
        raise error.under("contents") from None
    if not contents:
        raise BadShape("contents", "There must be at least one content.")
    messages = tuple(message for source in sources for message in source.messages)
    system = _system(fields)
    tools = _tools(fields)
    choice, choice_rest = _tool_choice(take_fields(fields, "toolConfig"))
    config = take_fields(fields, "generationConfig")
    try:
        generation = _generation(config, messages, system, tools, choice)
    except BadShape as error:
        raise error.under("generationConfig") from None
    extra = {BODY: msgspec.Raw(body), **fields, **choice_rest}
    extra.update({GENERATION + name: value for name, value in config.items()})
    return Parsed(msgspec.structs.replace(generation, extra=extra), contents, sources)


def _system(fields: Members) -> tuple[Message, ...]:
    raw = fields.pop("systemInstruction", None)
    if raw is None:
        return ()
    try:
        return parse_system(raw)
    except BadShape as error:
        raise error.under("systemInstruction") from None


# --- generation settings -------------------------------------------------------------------------------------------


def _generation(
    config: Members,
    messages: tuple[Message, ...],
    system: tuple[Message, ...],
    tools: tuple[AnyTool, ...],
    choice: ToolChoice | None,
) -> Request:
    return Request(
        _ORIGIN,
        "",
        messages,
        system,
        tools,
        choice,
        max_output=take_int(config, "maxOutputTokens"),
        temperature=take_float(config, "temperature"),
        top_p=take_float(config, "topP"),
        top_k=take_int(config, "topK"),
        seed=take_int(config, "seed"),
        frequency_penalty=take_float(config, "frequencyPenalty"),
        presence_penalty=take_float(config, "presencePenalty"),
        logprobs=take_bool(config, "responseLogprobs"),
        top_logprobs=take_int(config, "logprobs"),
        n=take_int(config, "candidateCount"),
        stop=_stops(config),
        reasoning=_reasoning(config),
        output=_output(config),
        audio_output=_audio_output(config),
    )


def _stops(config: Members) -> tuple[str, ...]:
    stops = elements_of(config.pop("stopSequences", None), "stopSequences")
    return tuple(text_of(stop, f"stopSequences.{index}") for index, stop in enumerate(stops))


def _reasoning(config: Members) -> Reasoning | None:
    thinking = take_fields(config, "thinkingConfig")
    if not thinking:
        return None
    try:
        level = take_enum(thinking, "thinkingLevel", _LEVELS)
        budget = take_int(thinking, "thinkingBudget")
        is_visible = take_bool(thinking, "includeThoughts")
    except BadShape as error:
        raise error.under("thinkingConfig") from None
    effort = None
    if level is not None and level != _LEVELS[0]:
        try:
            effort = Effort(level.lower())
        except ValueError:
            raise BadShape("thinkingConfig.thinkingLevel", f"{level!r} is no thinking level.") from None
    return Reasoning(effort, budget, is_visible=is_visible, extra=thinking or NO_EXTRA)


def _output(config: Members) -> Output | None:
    schema = config.pop("responseJsonSchema", None) or config.pop("_responseJsonSchema", None)
    subset = config.pop("responseSchema", None)
    if schema is None and subset is not None:
        schema = expand(subset)
    mime = config.get("responseMimeType")
    kind = None if mime is None else text_of(mime, "responseMimeType")
    if kind in {None, "text/plain", _JSON}:
        config.pop("responseMimeType", None)
        return Output(schema) if schema is not None or kind == _JSON else None
    if subset is not None:
        config["responseSchema"] = subset  # one word out of a list, say: nothing that other formats have
    return None


class _Voice(msgspec.Struct, rename="camel"):
    voice_name: str | None = None


class _VoiceConfig(msgspec.Struct, rename="camel"):
    prebuilt_voice_config: _Voice | None = None


class _SpeechConfig(msgspec.Struct, rename="camel"):
    voice_config: _VoiceConfig | None = None


_SPEECH: Final = msgspec.json.Decoder(_SpeechConfig)


def _audio_output(config: Members) -> msgspec.Raw | None:
    """Return the wish for speech as Chat says it; text alone is what is understood anyway."""
    raw = config.get("responseModalities")
    if raw is None:
        return None
    kinds = {text_of(kind, "responseModalities").upper() for kind in elements_of(raw, "responseModalities")}
    if kinds <= {"TEXT", "MODALITY_UNSPECIFIED"}:
        del config["responseModalities"]
        return None
    if "AUDIO" not in kinds:
        return None
    del config["responseModalities"]
    audio = {"format": "pcm16"}
    speech = config.get("speechConfig")
    if speech is not None:
        try:
            voice = _SPEECH.decode(speech).voice_config
        except msgspec.ValidationError:
            voice = None
        if voice is not None and voice.prebuilt_voice_config is not None:
            name = voice.prebuilt_voice_config.voice_name
            if name:
                audio = {"voice": name, **audio}
                del config["speechConfig"]
    return msgspec.Raw(msgspec.json.encode(audio))


# --- tools -----------------------------------------------------------------------------------------------------------


def _tools(fields: Members) -> tuple[AnyTool, ...]:
    tools: list[AnyTool] = []
    for index, raw in enumerate(elements_of(fields.pop("tools", None), "tools")):
        try:
            _add_tools(tools, fields_of(raw))
        except BadShape as error:
            raise error.under(f"tools.{index}") from None
    return tuple(tools)


def _add_tools(tools: list[AnyTool], members: Members) -> None:
    for name, value in members.items():
        if name != "functionDeclarations":
            definition = msgspec.Raw(msgspec.json.encode({name: value}))
            tools.append(ServerToolDefinition(_ORIGIN, name, definition))
            continue
        for index, declaration in enumerate(elements_of(value, name)):
            try:
                tools.append(_declared(fields_of(declaration)))
            except BadShape as error:
                raise error.under(f"{name}.{index}") from None


def _declared(fields: Members) -> Tool:
    name = take_text(fields, "name")
    if not name:
        missing("name")
    subset = fields.pop("parameters", None)
    schema = fields.pop("parametersJsonSchema", None)
    if schema is None and subset is not None:
        schema = expand(subset)
    return Tool(name, take_text(fields, "description"), schema, extra=fields or NO_EXTRA)


def _tool_choice(config: Members) -> tuple[ToolChoice | None, Members]:
    try:
        calling = take_fields(config, "functionCallingConfig")
        mode = take_enum(calling, "mode", _MODES)
        allowed = elements_of(calling.pop("allowedFunctionNames", None), "allowedFunctionNames")
        names = tuple(text_of(name, "allowedFunctionNames") for name in allowed)
    except BadShape as error:
        raise error.under("toolConfig.functionCallingConfig") from None
    rest = {TOOL_CONFIG + name: value for name, value in config.items()}
    rest.update({f"{TOOL_CONFIG}functionCallingConfig.{name}": value for name, value in calling.items()})
    match mode:
        case None | "MODE_UNSPECIFIED":
            choice = ToolChoice(ChoiceMode.AUTO, names) if names else None
        case "AUTO" | "VALIDATED":
            choice = ToolChoice(ChoiceMode.AUTO, names)
        case "ANY":
            choice = ToolChoice(ChoiceMode.NAMED if len(names) == 1 else ChoiceMode.REQUIRED, names)
        case "NONE":
            choice = ToolChoice(ChoiceMode.NONE)
        case _:
            raise BadShape("toolConfig.functionCallingConfig.mode", f"{mode!r} is no calling mode.")
    return choice, rest

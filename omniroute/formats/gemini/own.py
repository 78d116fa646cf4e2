"""A request that came in this format and goes out in it: what nobody changed goes out as it was written.

The parser keeps the body. Here it is read once more, the same way; whatever is still equal is taken from it, and only
what differs (a message whose foreign token was taken out, say) is written anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from omniroute.formats.canonical import AnyTool, Extra, Message, Request, Text, Tool
from omniroute.formats.codec import Pause
from omniroute.formats.gemini.choice import render_choice
from omniroute.formats.gemini.content_parser import Source
from omniroute.formats.gemini.content_renderer import render_own
from omniroute.formats.gemini.protojson import camel
from omniroute.formats.gemini.request_parser import BODY, GENERATION, TOOL_CONFIG, Parsed, parse_with_sources
from omniroute.formats.losses import Losses
from omniroute.formats.members import Members, as_spelt, object_of
from omniroute.formats.profile import Profile

_NOT_IN_BODY: Final = frozenset({"origin", "model", "stream", "include_usage"})
_GENERATION_MEMBERS: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "max_output": "maxOutputTokens",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
    "n": "candidateCount",
    "stop": "stopSequences",
}


def render_own_request(request: Request, profile: Profile, losses: Losses, pause: Pause) -> bytes:
    """Return the body of a request of this format."""
    body = request.extra.get(BODY)
    if body is None:
        return msgspec.json.encode(_written(request, profile, losses))
    spelt = bytes(body)
    was = parse_with_sources(spelt, pause)
    members = object_of(spelt)
    is_named = members.pop("model", None) is not None  # the path names it
    changed = {
        name
        for name in Request.__struct_fields__
        if name not in _NOT_IN_BODY and getattr(request, name) != getattr(was.request, name)
    }
    if not changed:
        return msgspec.json.encode(members) if is_named else spelt
    kept: dict[str, Any] = {name: value for name, value in members.items() if not _is_changed(name, changed)}
    written = _written(request, profile, losses)
    kept.update({name: value for name, value in written.items() if _is_changed(name, changed)})
    if "messages" in changed:
        kept["contents"] = _contents(request.messages, was, profile, losses)
    return msgspec.json.encode(kept)


_WRITTEN_BY: Final = {
    "contents": frozenset({"messages"}),
    "systemInstruction": frozenset({"system"}),
    "tools": frozenset({"tools"}),
    "toolConfig": frozenset({"tool_choice", "extra"}),
    "generationConfig": frozenset({*_GENERATION_MEMBERS, "reasoning", "output", "audio_output", "extra"}),
}
_BY_EXTRA: Final = frozenset({"extra"})


def _is_changed(name: str, changed: set[str]) -> bool:
    return bool(_WRITTEN_BY.get(camel(name), _BY_EXTRA) & changed)


def _contents(messages: Sequence[Message], was: Parsed, profile: Profile, losses: Losses) -> list[Any]:
    """Return the raw contents of all messages that are still there, and new ones for the others."""
    contents: list[Any] = []
    waiting = list(was.sources)
    place = 0
    while place < len(messages):
        found = _next_source(messages, place, waiting)
        if found is None:
            contents += render_own(messages[place : place + 1], profile, losses)
            place += 1
            continue
        source = waiting[found]
        del waiting[: found + 1]
        contents += was.contents[source.start : source.end]
        place += len(source.messages)
    return contents


def _next_source(messages: Sequence[Message], place: int, waiting: list[Source]) -> int | None:
    for index, source in enumerate(waiting):
        count = len(source.messages)
        if count and tuple(messages[place : place + count]) == source.messages:
            return index
    return None


# --- written anew ----------------------------------------------------------------------------------------------------


def _written(request: Request, profile: Profile, losses: Losses) -> dict[str, Any]:
    body: dict[str, Any] = {"contents": render_own(request.messages, profile, losses)}
    texts = [block for message in request.system for block in message.blocks if isinstance(block, Text)]
    if texts:
        body["systemInstruction"] = {"parts": [{"text": block.text, **as_spelt(block.extra)} for block in texts]}
    tools = list(_tools(request.tools))
    if tools:
        body["tools"] = tools
    config = _tool_config(request)
    if config:
        body["toolConfig"] = config
    generation = _generation_config(request)
    if generation:
        body["generationConfig"] = generation
    return {**body, **_without_place(request.extra)}


def _without_place(extra: Extra) -> Members:
    """Return the top-level members that only this format has."""
    return {
        name: value for name, value in extra.items() if name != BODY and not name.startswith((GENERATION, TOOL_CONFIG))
    }


def _tools(tools: Sequence[AnyTool]) -> Iterator[dict[str, Any] | msgspec.Raw]:
    functions: list[dict[str, Any]] = []
    for tool in tools:
        if not isinstance(tool, Tool):
            yield tool.raw
            continue
        declaration: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            declaration["description"] = tool.description
        if tool.schema is not None:
            declaration["parametersJsonSchema"] = tool.schema
        functions.append({**declaration, **as_spelt(tool.extra)})
    if functions:
        yield {"functionDeclarations": functions}


def _tool_config(request: Request) -> dict[str, Any]:
    config: dict[str, Any] = {}
    calling: dict[str, Any] = {}
    choice = request.tool_choice
    if choice is not None:
        calling = {**(render_choice(choice) or {"mode": "AUTO"}), **as_spelt(choice.extra)}
    for name, value in _below(TOOL_CONFIG, request.extra).items():
        inner = name.removeprefix("functionCallingConfig.")
        (config if inner == name else calling)[inner] = value
    if calling:
        config["functionCallingConfig"] = calling
    return config


def _generation_config(request: Request) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name, spelt in _GENERATION_MEMBERS.items():
        value = getattr(request, name)
        if value is not None and value != ():
            config[spelt] = value
    reasoning = request.reasoning
    if reasoning is not None:
        thinking: dict[str, Any] = dict(as_spelt(reasoning.extra))
        if reasoning.effort is not None:
            thinking["thinkingLevel"] = reasoning.effort.value.upper()
        if reasoning.budget is not None:
            thinking["thinkingBudget"] = reasoning.budget
        if reasoning.is_visible is not None:
            thinking["includeThoughts"] = reasoning.is_visible
        config["thinkingConfig"] = thinking
    if request.output is not None:
        config["responseMimeType"] = "application/json"
        if request.output.schema is not None:
            config["responseJsonSchema"] = request.output.schema
    if request.audio_output is not None:
        config["responseModalities"] = ["AUDIO"]
        voice = object_of(request.audio_output).get("voice")
        if voice is not None:
            config["speechConfig"] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": voice}}}
    return {**config, **_below(GENERATION, request.extra)}


def _below(prefix: str, extra: Extra) -> Members:
    return {name.removeprefix(prefix): value for name, value in extra.items() if name.startswith(prefix)}

"""Gemini `generateContent`, the asking side: check a body as the vendor would and read what it wants."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from omniroute.providers.sandbox.gemini_contents import ContentsReader, known, text_of
from omniroute.providers.sandbox.gemini_schema import check_schema
from omniroute.providers.sandbox.jsontext import dump, load_object
from omniroute.providers.sandbox.prompt import Choice, Output, Prompt, PromptUsage, Record, Tool, digest_of
from omniroute.providers.sandbox.prose import tokens
from omniroute.providers.sandbox.script import Dialect, VendorError

_FIELDS: Final = frozenset(
    (
        "model",
        "contents",
        "systemInstruction",
        "tools",
        "toolConfig",
        "generationConfig",
        "safetySettings",
        "cachedContent",
        "labels",
        "serviceTier",
        "store",
    )
)
_GENERATION: Final = frozenset(
    (
        "candidateCount",
        "enableEnhancedCivicAnswers",
        "frequencyPenalty",
        "imageConfig",
        "logprobs",
        "maxOutputTokens",
        "mediaResolution",
        "presencePenalty",
        "responseFormat",
        "responseJsonSchema",
        "responseLogprobs",
        "responseMimeType",
        "responseModalities",
        "responseSchema",
        "seed",
        "speechConfig",
        "stopSequences",
        "temperature",
        "thinkingConfig",
        "topK",
        "topP",
    )
)
_TOOL_KINDS: Final = frozenset(
    (
        "functionDeclarations",
        "googleSearch",
        "googleSearchRetrieval",
        "codeExecution",
        "urlContext",
        "computerUse",
        "fileSearch",
        "googleMaps",
        "mcpServers",
    )
)
_DECLARATION: Final = frozenset(
    ("name", "description", "parameters", "parametersJsonSchema", "response", "responseJsonSchema", "behavior")
)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
_MODES: Final = ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")
_MOST_STOPS: Final = 5
_MOST_CANDIDATES: Final = 8
_CACHED_FROM: Final = 1024


def parse_request(body: bytes, model: str, *, is_stream: bool) -> Prompt:
    """Read the body of `POST …/models/{model}:generateContent`.

    Raises:
        VendorError: the vendor would refuse it.
    """
    asked = known(load_object(body), _FIELDS, "")
    if (cache := asked.get("cachedContent")) is not None:
        raise VendorError(403, f"CachedContent not found (or permission denied): {cache}")
    record, characters = _read(asked)
    tools, choice, chosen = _tools(asked)
    config = known(asked.get("generationConfig") or {}, _GENERATION, "generation_config")
    _check_numbers(config)
    has_reasoning, is_reasoning_asked, is_visible = _reasoning(config.get("thinkingConfig"))
    return Prompt(
        Dialect.GEMINI,
        model,
        digest_of(b"%b %d %b" % (model.encode("utf-8", "replace"), is_stream, body)),
        record.text,
        _usage(record, characters),
        is_stream=is_stream,
        tools=tools,
        choice=choice,
        chosen=chosen,
        results=tuple(record.results),
        max_words=config.get("maxOutputTokens"),
        stops=_stops(config.get("stopSequences")),
        output=_output(config),
        has_reasoning=has_reasoning,
        is_reasoning_asked=is_reasoning_asked,
        has_visible_reasoning=is_visible,
        count=config.get("candidateCount") or 1,
        entries=tuple(record.entries),
        media=tuple(record.media),
        asked=asked,
    )


def parse_count_request(body: bytes) -> int:
    """Read the body of `POST …:countTokens` and return the tokens of its prompt.

    Raises:
        VendorError: the vendor would refuse it.
    """
    asked = known(load_object(body), _FIELDS | {"generateContentRequest"}, "")
    inner = asked.get("generateContentRequest")
    if isinstance(inner, Mapping):
        asked = known(inner, _FIELDS, "generate_content_request")
    return tokens(_read(asked)[1])


def _read(asked: Mapping[str, Any]) -> tuple[Record, int]:
    record = Record()
    system = asked.get("systemInstruction")
    if system is not None:
        record.system(text_of(system, "system_instruction"))
    contents = asked.get("contents")
    if isinstance(contents, Mapping):
        contents = [contents]
    if not isinstance(contents, list) or not contents:
        raise VendorError(400, "* GenerateContentRequest.contents: contents is not specified\n", param="contents")
    ContentsReader(record, contents)
    return record, record.characters + (len(dump(asked["tools"])) if asked.get("tools") else 0)


def _usage(record: Record, characters: int) -> PromptUsage:
    total = tokens(characters)
    if total < _CACHED_FROM or not record.has_answers:
        return PromptUsage(total)
    last = len(record.entries[-1].text) if record.entries else 0
    return PromptUsage(total, cache_read=max(0, characters - last) // 4)


def _tools(asked: Mapping[str, Any]) -> tuple[tuple[Tool, ...], Choice, str | None]:
    listed = asked.get("tools") or []
    read: dict[str, Tool] = {}
    for index, tool in enumerate([listed] if isinstance(listed, Mapping) else listed):
        path = f"tools[{index}]"
        fields = known(tool, _TOOL_KINDS, path)
        declared = fields.get("functionDeclarations") or []
        for position, declaration in enumerate([declared] if isinstance(declared, Mapping) else declared):
            one = _declaration(declaration, f"{path}.function_declarations[{position}]")
            if one.name in read:
                raise VendorError(400, f"Duplicate function declaration found: {one.name}")
            read[one.name] = one
    return _choice(asked.get("toolConfig"), read)


def _declaration(declaration: Any, path: str) -> Tool:
    fields = known(declaration, _DECLARATION, path)
    name = fields.get("name")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise VendorError(
            400,
            f"* GenerateContentRequest.{path}.name: Invalid function name. Must start with a letter or an underscore. "
            "Must be alphameric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), "
            "with a maximum length of 64.\n",
        )
    description = str(fields.get("description") or "")
    schema, full = fields.get("parameters"), fields.get("parametersJsonSchema")
    if schema is not None and full is not None:
        raise VendorError(
            400, f"* GenerateContentRequest.{path}: only one of parameters and parameters_json_schema may be set\n"
        )
    if schema is not None:
        check_schema(schema, f"{path}.parameters", f"{path}.parameters")
        return Tool(name, _plain(schema), description)
    if full is not None and not isinstance(full, Mapping):
        raise VendorError(400, f"Invalid value at '{path}.parameters_json_schema' (type.googleapis.com/Value)")
    return Tool(name, full or {"type": "object", "properties": {}}, description)


def _plain(schema: Any) -> Any:
    """Return a subset schema in JSON Schema's own words, so that values can be made for it."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "type" and isinstance(value, str):
            plain[key] = value.lower()
        elif key == "properties" and isinstance(value, Mapping):
            plain[key] = {name: _plain(inner) for name, inner in value.items()}
        elif key in ("any_of", "anyOf"):
            plain["anyOf"] = _plain(value)
        elif key == "items":
            plain[key] = _plain(value)
        elif key in ("minItems", "maxItems", "minLength", "maxLength") and isinstance(value, str) and value.isdigit():
            plain[key] = int(value)  # 64-bit integers are strings in the vendor's JSON
        else:
            plain[key] = value
    return plain


def _choice(config: Any, read: dict[str, Tool]) -> tuple[tuple[Tool, ...], Choice, str | None]:
    tools = tuple(read.values())
    if config is None:
        return tools, Choice.AUTO, None
    outer = known(
        config,
        frozenset(("functionCallingConfig", "retrievalConfig", "includeServerSideToolInvocations")),
        "tool_config",
    )
    calling = outer.get("functionCallingConfig")
    if calling is None:
        return tools, Choice.AUTO, None
    path = "tool_config.function_calling_config"
    fields = known(calling, frozenset(("mode", "allowedFunctionNames", "streamFunctionCallArguments")), path)
    mode, allowed = str(fields.get("mode") or "AUTO").upper(), fields.get("allowedFunctionNames")
    if mode not in _MODES:
        raise VendorError(
            400,
            f"Invalid value at '{path}.mode' "
            f'(type.googleapis.com/google.ai.generativelanguage.v1beta.FunctionCallingConfig.Mode), "{mode}"',
            param=f"{path}.mode",
        )
    if not tools and mode in ("ANY", "VALIDATED"):
        raise VendorError(400, "Function calling config is set without function_declarations.")
    if allowed:
        if mode not in ("ANY", "VALIDATED"):
            raise VendorError(400, "Allowed function names should only be set when function calling mode is ANY.")
        for name in allowed:
            if not isinstance(name, str) or name not in read:
                raise VendorError(400, f"Allowed function name '{name}' is not declared.")
        tools = tuple(read[name] for name in dict.fromkeys(allowed))
    match mode:
        case "NONE":
            return tools, Choice.NONE, None
        case "ANY" if allowed and len(tools) == 1:
            return tools, Choice.ONE, tools[0].name
        case "ANY":
            return tools, Choice.ANY, None
        case _:
            return tools, Choice.AUTO, None


def _check_numbers(config: Mapping[str, Any]) -> None:
    for field, least, most in (("temperature", 0, 2), ("topP", 0, 1)):
        value = config.get(field)
        if value is None:
            continue
        if type(value) not in (int, float):
            raise VendorError(400, f"Invalid value at 'generation_config.{_snake(field)}' (TYPE_FLOAT), {value!r}")
        if not least <= value <= most:
            raise VendorError(
                400,
                f"* GenerateContentRequest.generation_config.{_snake(field)}: "
                f"{_snake(field)} must be in the range [{least:.1f}, {most:.1f}].\n",
            )
    for field, most_value in (("maxOutputTokens", None), ("candidateCount", _MOST_CANDIDATES)):
        value = config.get(field)
        if value is None:
            continue
        if type(value) is not int:
            raise VendorError(400, f"Invalid value at 'generation_config.{_snake(field)}' (TYPE_INT32), {value!r}")
        if value < 1 or (most_value is not None and value > most_value):
            raise VendorError(
                400, f"* GenerateContentRequest.generation_config.{_snake(field)}: {_snake(field)} must be positive.\n"
            )


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", lambda match: f"_{match[1].lower()}", name)


def _stops(stops: Any) -> tuple[str, ...]:
    if stops is None:
        return ()
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise VendorError(400, "Invalid value at 'generation_config.stop_sequences' (TYPE_STRING)")
    if len(stops) > _MOST_STOPS:
        raise VendorError(
            400,
            f"Unable to submit request because it must have fewer than {_MOST_STOPS + 1} stopSequences "
            f"but has {len(stops)} stopSequences.",
        )
    return tuple(stop for stop in stops if stop)


def _output(config: Mapping[str, Any]) -> Output | None:
    mime = config.get("responseMimeType")
    subset, full = config.get("responseSchema"), config.get("responseJsonSchema")
    if mime not in (None, "text/plain", "application/json", "text/x.enum"):
        raise VendorError(
            400,
            "* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are `text/plain`, "
            "`application/json`, `application/xml`, `application/yaml` and `text/x.enum`.\n",
        )
    if subset is not None and full is not None:
        raise VendorError(400, "Only one of response_schema and response_json_schema may be set.")
    if (subset is not None or full is not None) and mime not in ("application/json", "text/x.enum"):
        raise VendorError(
            400, "Function calling with a response mime type: 'text/plain' is unsupported with a response schema."
        )
    if subset is not None:
        check_schema(subset, "generation_config.response_schema", "generation_config.response_schema")
        return Output(_plain(subset))
    if full is not None:
        return Output(full)
    return Output(None) if mime == "application/json" else None


def _reasoning(config: Any) -> tuple[bool, bool, bool]:
    """Return whether there is reasoning, whether it was asked for, and whether it is shown."""
    if config is None:
        return True, False, False
    fields = known(
        config,
        frozenset(("includeThoughts", "thinkingBudget", "thinkingLevel")),
        "generation_config.thinking_config",
    )
    budget, level, is_shown = fields.get("thinkingBudget"), fields.get("thinkingLevel"), fields.get("includeThoughts")
    if budget is not None and level is not None:
        raise VendorError(400, "You can only set only one of thinking budget and thinking level.")
    if budget is not None and type(budget) is not int:
        raise VendorError(
            400, f"Invalid value at 'generation_config.thinking_config.thinking_budget' (TYPE_INT32), {budget!r}"
        )
    if level is not None and str(level).lower() not in (
        "thinking_level_unspecified",
        "minimal",
        "low",
        "medium",
        "high",
    ):
        raise VendorError(
            400,
            "Invalid value at 'generation_config.thinking_config.thinking_level' "
            f'(type.googleapis.com/google.ai.generativelanguage.v1beta.ThinkingConfig.ThinkingLevel), "{level}"',
        )
    has_reasoning = budget != 0
    is_asked = has_reasoning and (is_shown is True or budget is not None or level is not None)
    return has_reasoning, is_asked, is_shown is True and has_reasoning

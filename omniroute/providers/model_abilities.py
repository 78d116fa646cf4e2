"""What a row of a provider's model list says about what a model takes, gives, can do and is for."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from omniroute.providers.spec import ModelKind

Row = Mapping[str, Any]
NOTHING: Final[Row] = {}


def object_in(row: Row, name: str) -> Row:
    """Return the object under a name, an empty one where there is none."""
    value = row.get(name)
    return value if isinstance(value, dict) else NOTHING


def properties_of(row: Row) -> Row:
    """Return a list of `{"property_id", "value"}` as an object."""
    given = row.get("properties")
    if not isinstance(given, list):
        return NOTHING
    return {str(one.get("property_id")): one.get("value") for one in given if isinstance(one, dict)}


# --- what it can do --------------------------------------------------------------------------------------------------

_INPUTS: Final[Mapping[str, str]] = {
    "text": "text",
    "image": "image",
    "images": "image",
    "vision": "image",
    "file": "pdf",
    "pdf": "pdf",
    "document": "pdf",
    "audio": "audio",
    "video": "video",
}
_WORDS: Final[Mapping[str, str]] = {
    "tools": "tools",
    "tool": "tools",
    "toolcalls": "tools",
    "toolcalling": "tools",
    "tooluse": "tools",
    "functioncalling": "tools",
    "functioncall": "tools",
    "functions": "tools",
    "vision": "vision",
    "image": "vision",
    "imagein": "vision",
    "imageinput": "vision",
    "reasoning": "reasoning",
    "thinking": "reasoning",
    "structuredoutput": "json_schema",
    "structuredoutputs": "json_schema",
    "jsonschema": "json_schema",
    "responseschema": "json_schema",
}
"""The words of lists in small letters without anything between, and ours."""
_COMPLETE: Final = ("supported_parameters", "supportedParameters", "supported_features")
"""Lists that name everything of their kind: what they leave out the model does not have."""
_STATED_BY_THEM: Final = ("tools", "json_schema", "reasoning")
_SOME: Final = ("tags", "features")
"""Lists that name what is worth mentioning."""
_NOT_A_LETTER: Final = re.compile(r"[^a-z]")


def modalities_of(row: Row, parts: Sequence[Row]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the kinds of content that a model takes, and those that it gives; empty where they are not listed."""
    both = object_in(row, "modalities")
    shape = object_in(row, "architecture")
    plain_list = row.get("modalities")
    taken = _texts(
        shape.get("input_modalities"),
        row.get("input_modalities"),
        row.get("inputModalities"),
        row.get("supported_input_modalities"),
        both.get("input"),
        *(part.get("input_modalities") for part in parts[1:]),
        plain_list,
    )
    given = _texts(
        shape.get("output_modalities"),
        row.get("output_modalities"),
        row.get("outputModalities"),
        row.get("supported_output_modalities"),
        both.get("output"),
    )
    known = dict.fromkeys(_INPUTS[word] for word in taken if word in _INPUTS)
    return tuple(sys.intern(kind) for kind in known), frozenset(given)


def _texts(*lists: Any) -> list[str]:
    """Return the first that is a list of texts with something in it, in small letters."""
    for some in lists:
        if isinstance(some, list):
            found = [word.lower() for word in some if isinstance(word, str)]
            if found:
                return found
    return []


def capabilities_of(row: Row, parts: Sequence[Row], taken: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return what a model is said to be able to do, and what it is said not to be."""
    said: dict[str, bool] = {}
    for word, has_it in _stated(row, parts):
        said[word] = has_it or said.get(word, False)
    if taken:
        said["vision"] = "image" in taken
    return (
        _shared(word for word, has_it in said.items() if has_it),
        _shared(word for word, has_it in said.items() if not has_it),
    )


def _stated(row: Row, parts: Sequence[Row]) -> Iterator[tuple[str, bool]]:
    for name in _COMPLETE:
        words = _words(_texts(row.get(name)))
        if words:
            yield from ((word, word in words) for word in _STATED_BY_THEM)
    for part in parts:
        for name in _SOME:
            yield from ((word, True) for word in _words(_texts(part.get(name))))
    capabilities = row.get("capabilities")
    yield from ((word, True) for word in _words(_texts(capabilities)))
    spec = object_in(object_in(row, "model_spec"), "capabilities")
    inner = object_in(object_in(row, "capabilities"), "supports")
    for some in (object_in(row, "capabilities"), inner, spec, properties_of(row)):
        yield from _flags(some)
    yield from _flags({name: value for name, value in row.items() if name.startswith("supports") or name == "thinking"})


def _words(given: Iterable[str]) -> set[str]:
    return {_WORDS[word] for word in map(_bare, given) if word in _WORDS}


def _flags(given: Row) -> Iterator[tuple[str, bool]]:
    """Yield what an object says with true and false, also one level down: `{"supported": true}`."""
    for name, value in given.items():
        word = _WORDS.get(_bare(name))
        if word is None:
            continue
        if isinstance(value, dict):
            value = value.get("supported")  # noqa: PLW2901 -- the same answer, one level down
        if isinstance(value, str) and value.lower() in ("true", "false"):
            value = value.lower() == "true"  # noqa: PLW2901
        if isinstance(value, bool):
            yield word, value


def _bare(word: str) -> str:
    return _NOT_A_LETTER.sub("", word.lower()).removeprefix("supports")


_SETS: Final[dict[frozenset[str], frozenset[str]]] = {}


def _shared(words: Iterable[str]) -> frozenset[str]:
    """Return one object for equal sets: there are few, and thousands of models have them."""
    made = frozenset(words)
    return _SETS.setdefault(made, made)


# --- what it is for --------------------------------------------------------------------------------------------------

_KINDS: Final[Mapping[str, ModelKind]] = {
    "chat": ModelKind.CHAT,
    "language": ModelKind.CHAT,
    "llm": ModelKind.CHAT,
    "vlm": ModelKind.CHAT,
    "code": ModelKind.CHAT,
    "text": ModelKind.CHAT,
    "completion": ModelKind.CHAT,
    "chatcompletion": ModelKind.CHAT,
    "textgeneration": ModelKind.CHAT,
    "imagetexttotext": ModelKind.CHAT,
    "embedding": ModelKind.EMBEDDING,
    "embeddings": ModelKind.EMBEDDING,
    "textembeddings": ModelKind.EMBEDDING,
    "image": ModelKind.IMAGE,
    "imagegeneration": ModelKind.IMAGE,
    "texttoimage": ModelKind.IMAGE,
    "audio": ModelKind.AUDIO,
    "tts": ModelKind.AUDIO,
    "asr": ModelKind.AUDIO,
    "stt": ModelKind.AUDIO,
    "speech": ModelKind.AUDIO,
    "transcribe": ModelKind.AUDIO,
    "transcription": ModelKind.AUDIO,
    "texttospeech": ModelKind.AUDIO,
    "automaticspeechrecognition": ModelKind.AUDIO,
    "rerank": ModelKind.RERANK,
    "reranker": ModelKind.RERANK,
    "moderation": ModelKind.MODERATION,
    "video": ModelKind.VIDEO,
    "texttovideo": ModelKind.VIDEO,
    "music": ModelKind.MUSIC,
    "ocr": ModelKind.OCR,
}
_GIVEN: Final = (("text", ModelKind.CHAT), ("image", ModelKind.IMAGE), ("video", ModelKind.VIDEO))
_METHODS: Final = (
    ("generateContent", ModelKind.CHAT),
    ("embedContent", ModelKind.EMBEDDING),
    ("predictLongRunning", ModelKind.VIDEO),
    ("predict", ModelKind.IMAGE),
    ("bidiGenerateContent", ModelKind.AUDIO),
)
_ENDPOINTS: Final = (
    ("chat", ModelKind.CHAT),
    ("generate", ModelKind.CHAT),
    ("embed", ModelKind.EMBEDDING),
    ("rerank", ModelKind.RERANK),
)
_BY_NAME: Final = tuple(
    (re.compile(rf"(?:^|[-_/.@:]){words}", re.IGNORECASE), kind)
    for words, kind in (
        (r"(?:\w*embed|bge-|e5-|gte-|voyage-)", ModelKind.EMBEDDING),
        (r"re-?rank", ModelKind.RERANK),
        (r"(?:omni-|text-)?moderation", ModelKind.MODERATION),
        (r"(?:whisper|\w*transcri\w+|tts|speech|voxtral-mini-tts|playai-tts)(?:[-_/.:]|$)", ModelKind.AUDIO),
        (r"(?:gpt-realtime|gpt-audio-realtime|gpt-4o(?:-mini)?-realtime)", ModelKind.AUDIO),
        (r"(?:dall-e|gpt-image|chatgpt-image|imagen|stable-diffusion|sdxl|flux|seedream|qwen-image)", ModelKind.IMAGE),
        (r"(?:sora|veo|seedance|kling|hailuo)(?:[-_/.:\d]|$)", ModelKind.VIDEO),
        (r"(?:lyria|music)(?:[-_/.:\d]|$)", ModelKind.MUSIC),
        (r"ocr(?:[-_/.:\d]|$)", ModelKind.OCR),
    )
)
_NO_KIND: Final = frozenset({"model", "base", ""})


def kind_of(row: Row, parts: Sequence[Row], given: frozenset[str], model_id: str) -> str | None:
    """Return what a model is for: in the list's words, else by its id; None where neither says."""
    stated = _stated_kind(row, parts, given)
    if stated is not None:
        return stated.value
    return next((kind.value for pattern, kind in _BY_NAME if pattern.search(model_id)), None)


def _stated_kind(row: Row, parts: Sequence[Row], given: frozenset[str]) -> ModelKind | None:
    task = row.get("task")
    capabilities = object_in(row, "capabilities")
    words = (
        row.get("type"),
        row.get("model_type"),
        row.get("kind"),
        capabilities.get("type"),
        task.get("name") if isinstance(task, dict) else task,
        *(part.get("type") for part in parts[1:]),
    )
    for word in words:
        if isinstance(word, str) and word.lower() not in _NO_KIND:
            kind = _KINDS.get(_bare(word))
            if kind is not None:
                return kind
    for names, kinds in (
        (row.get("supportedGenerationMethods"), _METHODS),
        (row.get("endpoints"), _ENDPOINTS),
    ):
        if isinstance(names, list):
            found = next((kind for name, kind in kinds if name in names), None)
            if found is not None:
                return found
    if capabilities.get("completion_chat") is True or row.get("supports_chat") is True:
        return ModelKind.CHAT
    found = next((kind for word, kind in _GIVEN if word in given), None)
    if found is not None:
        return found
    if given & {"embedding", "embeddings"}:
        return ModelKind.EMBEDDING
    return ModelKind.AUDIO if given & {"audio", "speech"} else None

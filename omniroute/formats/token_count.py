"""How many tokens a request is, without asking anybody.

OpenAI publishes its vocabularies, so its models are counted exactly (as far as text goes: what surrounds messages and
tools follows published observations). For other vendors' models the same tokenizer counts and a factor of the family
follows; until a vocabulary is loaded, `token_estimate` stands in for it.

A vocabulary takes about half a second to load and 40 to 70 MB, and everything else in the process stands still
meanwhile: :func:`load` is for the start of the process, before it forks, so that its workers share the memory. Counting
itself costs 25 ms per megabyte and happens in slices of 64 KB, after each of which `pause` is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from math import ceil
from typing import Final, cast

import msgspec

from omniroute.formats.canonical import (
    Block,
    Media,
    Message,
    Refusal,
    Request,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Unknown,
)
from omniroute.formats.codec import Pause, no_pause
from omniroute.formats.token_estimate import estimate, estimate_media
from omniroute.formats.wire import WireFormat

__all__ = ["Encoding", "count", "count_texts", "encoding_of", "estimate", "is_exact", "load"]

_SLICE_CHARACTERS: Final = 64 << 10
_LONGEST_WORD: Final = 256


class Encoding(StrEnum):
    """A vocabulary of OpenAI's."""

    O200K = "o200k_base"
    CL100K = "cl100k_base"


_O200K_MODELS: Final = (
    "gpt-4o",
    "gpt-4.1",
    "gpt-4.5",
    "gpt-5",
    "gpt-6",
    "gpt-oss",
    "o1",
    "o3",
    "o4",
    "chatgpt",
    "codex",
)
_CL100K_MODELS: Final = ("gpt-4", "gpt-3.5", "gpt-35", "text-embedding-3", "text-embedding-ada-002")


def encoding_of(model: str) -> Encoding | None:
    """Return the vocabulary of a model; None when it is not one of OpenAI's."""
    name = model.rpartition("/")[2].lower()
    name = name.removeprefix("ft:")
    if any(name.startswith(prefix) for prefix in _O200K_MODELS):
        return Encoding.O200K
    if any(name.startswith(prefix) for prefix in _CL100K_MODELS):
        return Encoding.CL100K
    return None


# --- the tokenizer ---------------------------------------------------------------------------------------------------

_Counter = Callable[[list[str], str, int], list[int]]
_loaded: dict[Encoding, _Counter] = {}


def load(*encodings: Encoding) -> None:
    """Load vocabularies into the process, if they are not there yet. Blocks it; see above."""
    for encoding in encodings or tuple(Encoding):
        if encoding not in _loaded:
            counter = cast("_Counter", importlib.import_module("toktok").batch_count)
            counter([""], encoding.value, 1)
            _loaded[encoding] = counter


def is_exact(model: str) -> bool:
    """Say whether text for a model is counted by its own vocabulary."""
    encoding = encoding_of(model)
    return encoding is not None and encoding in _loaded


def count_texts(texts: list[str], encoding: Encoding, pause: Pause = no_pause) -> int:
    """Return how many tokens some texts are together; estimated if the vocabulary is not loaded."""
    counter = _loaded.get(encoding)
    if counter is None:
        total = 0
        for text in texts:
            total += estimate(text)
        return total
    total = 0
    batch: list[str] = []
    size = 0
    for text in texts:
        for piece in _pieces(text):
            batch.append(piece)
            size += len(piece)
            if size >= _SLICE_CHARACTERS - _LONGEST_WORD:
                total += sum(counter(batch, encoding.value, 1))  # one thread: others belong to other workers
                batch, size = [], 0
                pause()
    return total + sum(counter(batch, encoding.value, 1)) if batch else total


def _pieces(text: str) -> Iterator[str]:
    """Cut a long text where words begin, so that hardly any token is cut in two."""
    if len(text) <= _SLICE_CHARACTERS:
        yield text
        return
    start = 0
    while len(text) - start > _SLICE_CHARACTERS:
        end = start + _SLICE_CHARACTERS
        place = text.rfind(" ", end - _LONGEST_WORD, end)
        end = place if place > start else end
        yield text[start:end]
        start = end
    yield text[start:]


# --- requests --------------------------------------------------------------------------------------------------------


class _Family(msgspec.Struct, frozen=True):
    """What a vendor's models make of the same text, and what they add around it.

    Attributes:
        factor: tokens for each one of the reference vocabulary.
        message, request, tool, tools: tokens around each message, the whole, each definition, and all of them.
        schema: tokens for each one of a schema's JSON; OpenAI rewrites schemas in fewer words.
    """

    factor: float = 1.05
    message: int = 4
    request: int = 3
    tool: int = 8
    tools: int = 10
    schema: float = 1.0


_OPENAI: Final = _Family(factor=1.0, message=3, tool=8, tools=12, schema=0.75)
_CLAUDE: Final = _Family(factor=1.2, message=3, request=5, tool=10, tools=340)
_GEMINI: Final = _Family(factor=1.0, message=1, request=1, tool=6, tools=0, schema=0.75)
_OTHER: Final = _Family()
_FAMILIES: Final[Mapping[WireFormat | None, _Family]] = {
    WireFormat.ANTHROPIC_MESSAGES: _CLAUDE,
    WireFormat.GEMINI: _GEMINI,
}


TextCounter = Callable[[list[str], Encoding, Pause], int]
"""Counts texts together by a vocabulary."""


def count(
    request: Request,
    *,
    model: str,
    wire_format: WireFormat,
    pause: Pause = no_pause,
    exactly: TextCounter = count_texts,
) -> int:
    """Return how many input tokens a request is.

    Args:
        request: as parsed, or prepared for its target.
        model: the target's name of the model; "" when there is none yet.
        wire_format: what the target is spoken to in.
        pause: called after each slice of work.
        exactly: counts the texts of a model whose vocabulary is known.
    """
    encoding = encoding_of(model)
    maker = _maker(model, wire_format)
    family = _OPENAI if encoding is not None else _FAMILIES.get(maker, _OTHER)
    wire_format = wire_format if maker is None else maker
    texts: list[str] = []
    fixed = family.request
    schemas: list[str] = []
    for message in (*request.system, *request.messages):
        fixed += family.message + _collect(message, texts, wire_format, model)
    if request.tools:
        fixed += family.tools + family.tool * len(request.tools)
    for tool in request.tools:
        if isinstance(tool, Tool):
            texts += (tool.name, tool.description or "")
            if tool.schema is not None:
                schemas.append(bytes(tool.schema).decode())
        else:
            schemas.append(bytes(tool.raw).decode())
    if request.output is not None and request.output.schema is not None:
        schemas.append(bytes(request.output.schema).decode())
    vocabulary = encoding or Encoding.O200K
    counter = count_texts if encoding is None else exactly
    counted = counter(texts, vocabulary, pause)
    described = counter(schemas, vocabulary, pause) if schemas else 0
    return fixed + ceil((counted + described * family.schema) * family.factor)


def _maker(model: str, wire_format: WireFormat) -> WireFormat | None:
    """Return the format of the vendor that makes a model: by its name, since many serve models of others."""
    name = model.lower()
    if "claude" in name:
        return WireFormat.ANTHROPIC_MESSAGES
    if "gemini" in name:
        return WireFormat.GEMINI
    return None if model else wire_format


def _collect(message: Message, texts: list[str], wire_format: WireFormat, model: str) -> int:
    """Add a message's texts to a list; return the tokens of what is no text."""
    if message.name:
        texts.append(message.name)
    return _collect_blocks(message.blocks, texts, wire_format, model)


def _collect_blocks(blocks: tuple[Block, ...], texts: list[str], wire_format: WireFormat, model: str) -> int:
    fixed = 0
    for block in blocks:
        match block:
            case Text(text=text) | Thinking(text=text) | Refusal(text=text):
                texts.append(text)
            case ToolCall(name=name, arguments=arguments):
                texts += (name, arguments)
                fixed += 4
            case ToolResult(blocks=inner):
                fixed += 4 + _collect_blocks(inner, texts, wire_format, model)
            case Media():
                fixed += estimate_media(block, wire_format, model.lower())
            case ServerTool(raw=raw) | Unknown(raw=raw):
                texts.append(bytes(raw).decode())
    return fixed

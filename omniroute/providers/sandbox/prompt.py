"""What a request asks for, told apart from the dialect that it was asked in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final

from omniroute.providers.sandbox.script import Dialect, VendorError

_HASHED_ENDS: Final = 4096


class Choice(StrEnum):
    """What the caller says about calling tools."""

    AUTO = "auto"
    NONE = "none"
    ANY = "any"
    ONE = "one"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that may be called; `schema` is None for one that takes free text.

    Attributes:
        namespace: the group that it was given in, where the dialect has groups.
    """

    name: str
    schema: Any
    description: str = ""
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool gave back since the model last spoke."""

    name: str
    text: str
    is_error: bool = False


class Part(StrEnum):
    """Whose words an entry of a conversation holds."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    CALL = "call"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing said in a conversation; for calls `text` holds the arguments, for results what came back."""

    part: Part
    text: str
    name: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Media:
    """A picture, document or sound in the prompt.

    Attributes:
        data: base64 text, or an address or file id as `place` says.
        place: "inline", "url" or "file".
    """

    kind: str
    mime: str
    data: str
    place: str = "inline"


@dataclass(frozen=True, slots=True)
class Output:
    """A shape that the answer must have; `schema` is None for any JSON object."""

    schema: Any


@dataclass(frozen=True, slots=True)
class PromptUsage:
    """Tokens of the prompt: all of them, and which of them a cache would have served or kept."""

    total: int
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request, checked and brought to one form.

    Attributes:
        model: the name as asked, which the answer repeats.
        digest: hex digits that follow from the body alone; ids are cut from it.
        text: the last text the user said.
        max_words: the output limit.
        has_reasoning: False when the caller switched reasoning off.
        is_reasoning_asked: True when the caller switched it on in so many words.
        has_visible_reasoning: False when the caller may not see the reasoning that it pays for.
        entries: the whole conversation in order.
        asked: the body as read, for dialects whose answers repeat parts of it.
    """

    dialect: Dialect
    model: str
    digest: str
    text: str
    usage: PromptUsage
    is_stream: bool = False
    tools: tuple[Tool, ...] = ()
    choice: Choice = Choice.AUTO
    chosen: str | None = None
    is_parallel: bool = True
    results: tuple[Result, ...] = ()
    max_words: int | None = None
    stops: tuple[str, ...] = ()
    output: Output | None = None
    has_reasoning: bool = True
    count: int = 1
    include_usage: bool = False
    is_legacy: bool = False
    """OpenAI `functions` instead of `tools`."""
    is_reasoning_asked: bool = False
    has_visible_reasoning: bool = True
    entries: tuple[Entry, ...] = ()
    media: tuple[Media, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)


class Record:
    """Collects a conversation while a dialect reads it."""

    __slots__ = ("characters", "entries", "has_answers", "media", "results", "text")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.media: list[Media] = []
        self.results: list[Result] = []
        self.text = ""
        self.characters = 0
        self.has_answers = False

    def system(self, text: str) -> None:
        """Note what the operator says."""
        self.characters += len(text)
        self.entries.append(Entry(Part.SYSTEM, text))

    def user(self, text: str) -> None:
        """Note what the user says; empty text only counts as nothing."""
        self.characters += len(text)
        if text:
            self.text = text
            self.entries.append(Entry(Part.USER, text))

    def assistant(self, text: str) -> None:
        """Note what the model said; results before it are used up."""
        self.characters += len(text)
        self.has_answers = True
        self.results.clear()
        if text:
            self.entries.append(Entry(Part.ASSISTANT, text))

    def call(self, name: str, arguments: str) -> None:
        """Note a call that the model made."""
        self.characters += len(name) + len(arguments)
        self.has_answers = True
        self.results.clear()
        self.entries.append(Entry(Part.CALL, arguments, name))

    def result(self, name: str, text: str, *, is_error: bool = False) -> None:
        """Note what a tool gave back."""
        self.characters += len(text)
        self.results.append(Result(name, text, is_error))
        self.entries.append(Entry(Part.RESULT, text, name, is_error))


def digest_of(body: bytes) -> str:
    """Return 64 hex digits that follow from the body; of a long one its ends and length count, for speed."""
    if len(body) > 2 * _HASHED_ENDS:
        body = body[:_HASHED_ENDS] + body[-_HASHED_ENDS:] + str(len(body)).encode()
    return blake2b(body, digest_size=32).hexdigest()


def whole_number(body: Mapping[str, Any], field: str, least: int, most: int | None = None) -> int | None:
    """Return an optional integer field within its bounds."""
    value = body.get(field)
    if value is None:
        return None
    if type(value) is not int:
        raise VendorError(400, f"'{field}' must be an integer.", param=field, code="invalid_type")
    if value < least:
        raise VendorError(400, f"'{field}' must be at least {least}.", param=field, code="integer_below_min_value")
    if most is not None and value > most:
        raise VendorError(400, f"'{field}' must be at most {most}.", param=field, code="integer_above_max_value")
    return value


def decimal(body: Mapping[str, Any], field: str, most: float) -> None:
    """Check an optional number between 0 and `most`."""
    value = body.get(field)
    if value is None:
        return
    if type(value) not in (int, float):
        raise VendorError(400, f"'{field}' must be a number.", param=field, code="invalid_type")
    if not 0 <= value <= most:
        raise VendorError(400, f"'{field}' must be between 0 and {most:g}.", param=field, code="invalid_value")


def flag(body: Mapping[str, Any], field: str, default: bool) -> bool:
    """Return an optional boolean field."""
    value = body.get(field)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise VendorError(400, f"'{field}' must be a boolean.", param=field, code="invalid_type")
    return value

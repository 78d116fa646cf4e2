"""A `GenerateContentResponse` as providers send it: one chunk of a stream, or a whole answer."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.gemini.usage import UsageFields, read_fields
from omniroute.formats.members import NULL
from omniroute.formats.surrogates import mend
from omniroute.formats.usage import NOT_REPORTED, Usage

_T = TypeVar("_T")

_ABSENT: Final = msgspec.Raw(b"")


class FunctionCall(msgspec.Struct):
    """A call; it comes whole."""

    name: str | None = None
    args: msgspec.Raw = _ABSENT
    id: str | None = None


class Blob(msgspec.Struct, rename="camel"):
    """Inline media."""

    mime_type: str | None = None
    data: str | None = None
    display_name: str | None = None


class File(msgspec.Struct, rename="camel"):
    """Media by reference."""

    mime_type: str | None = None
    file_uri: str | None = None


class Part(msgspec.Struct, rename="camel"):
    """A part; one of the fields below `thought_signature` is set."""

    thought: bool | None = None
    thought_signature: str | None = None
    text: str | None = None
    function_call: FunctionCall | None = None
    inline_data: Blob | None = None
    file_data: File | None = None
    executable_code: msgspec.Raw = _ABSENT
    code_execution_result: msgspec.Raw = _ABSENT
    tool_call: msgspec.Raw = _ABSENT
    tool_response: msgspec.Raw = _ABSENT


class Content(msgspec.Struct):
    """The parts of a candidate."""

    parts: list[Part] | None = None


class Candidate(msgspec.Struct, rename="camel"):
    """One of the answers that were asked for."""

    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None
    grounding_metadata: msgspec.Raw = _ABSENT
    citation_metadata: msgspec.Raw = _ABSENT


class PromptFeedback(msgspec.Struct, rename="camel"):
    """Why there is no candidate."""

    block_reason: str | None = None


class Chunk(msgspec.Struct, rename="camel"):
    """See the module. `response` is the envelope of Code Assist, `error` an error instead of an answer."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageFields | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: msgspec.Raw = _ABSENT
    response: msgspec.Raw = _ABSENT

    @property
    def usage(self) -> Usage:
        """The counts in canonical form."""
        return NOT_REPORTED if self.usage_metadata is None else self.usage_metadata.to_usage()


class _LooseChunk(msgspec.Struct, rename="camel"):
    candidates: list[Candidate] | None = None
    prompt_feedback: msgspec.Raw = _ABSENT
    usage_metadata: msgspec.Raw = _ABSENT
    model_version: msgspec.Raw = _ABSENT
    response_id: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


_CHUNK: Final = msgspec.json.Decoder(Chunk)
_LOOSE: Final = msgspec.json.Decoder(_LooseChunk)
_FEEDBACK: Final = msgspec.json.Decoder(PromptFeedback | None)
_TEXT: Final = msgspec.json.Decoder(str | None)


def read_chunk(data: bytes | msgspec.Raw) -> Chunk:
    """Return the chunk that a JSON object is.

    Raises:
        UpstreamProtocolError: it is none.
    """
    try:
        chunk = _CHUNK.decode(data)
        return read_chunk(chunk.response) if is_said(chunk.response) else chunk
    except msgspec.ValidationError:
        return _read_loosely(data)
    except (msgspec.DecodeError, RecursionError):
        mended = mend(bytes(data))  # a provider that cuts a text inside a character pair
        if mended != data:
            return read_chunk(mended)
        raise UpstreamProtocolError("The provider sent a chunk that is not valid JSON.") from None


def is_said(raw: msgspec.Raw) -> bool:
    """Say whether a field is there and not null."""
    return raw is not _ABSENT and bool(memoryview(raw)) and raw != NULL


def one_line(raw: msgspec.Raw) -> msgspec.Raw:
    """Return a value without line breaks: services that are not streaming indent what they send."""
    data = bytes(raw)
    return msgspec.Raw(compact(data)) if b"\n" in data or b"\r" in data else raw


def compact(data: bytes) -> bytes:
    """Return JSON without white space between its tokens, which keep their spelling."""
    try:
        return msgspec.json.format(data, indent=-1)
    except msgspec.DecodeError:  # half a pair of units: the rest is JSON, and breaks stand between tokens only
        return data.replace(b"\r", b" ").replace(b"\n", b" ")


def _read_loosely(data: bytes | msgspec.Raw) -> Chunk:
    """Read a chunk of which something beside the candidates is not as it should be."""
    try:
        loose = _LOOSE.decode(data)
    except msgspec.ValidationError as error:
        raise UpstreamProtocolError(f"The provider sent a chunk that cannot be read: {error}.") from None
    return Chunk(
        candidates=loose.candidates,
        prompt_feedback=_or_none(_FEEDBACK, loose.prompt_feedback),
        usage_metadata=read_fields(loose.usage_metadata) if is_said(loose.usage_metadata) else None,
        model_version=_or_none(_TEXT, loose.model_version),
        response_id=_or_none(_TEXT, loose.response_id),
        error=loose.error,
    )


def _or_none(decoder: msgspec.json.Decoder[_T | None], raw: msgspec.Raw) -> _T | None:
    try:
        return decoder.decode(raw) if is_said(raw) else None
    except msgspec.ValidationError:
        return None

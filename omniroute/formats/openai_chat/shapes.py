"""The JSON of answers and chunks, as loose as the hosts are who write it.

A chunk is an answer whose choices hold a `delta` in the place of a `message`, so both have one set of shapes. What no
rule depends on is not typed, and what is not here is not read.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omniroute.formats.canonical import Citation, Media, MediaKind, SourceKind, Token
from omniroute.formats.members import NULL
from omniroute.formats.openai_chat.media import source_of
from omniroute.formats.openai_chat.usage import read_usage
from omniroute.formats.surrogates import mend
from omniroute.formats.usage import NOT_REPORTED, Usage
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.OPENAI_CHAT


class WireGoogle(msgspec.Struct):
    """What Google's servers of this format add to a call."""

    thought_signature: str | None = None


class WireExtraContent(msgspec.Struct):
    """See :class:`WireGoogle`."""

    google: WireGoogle | None = None


class WireFunction(msgspec.Struct):
    """The inner part of a call. Arguments are a string, but some hosts write the object itself."""

    name: str | None = None
    arguments: msgspec.Raw = NULL
    input: msgspec.Raw = NULL


class WireCall(msgspec.Struct):
    """A call, or a piece of one."""

    index: int | None = None
    id: str | int | None = None
    type: str | None = None
    function: WireFunction | None = None
    custom: WireFunction | None = None
    extra_content: WireExtraContent | None = None

    @property
    def token(self) -> Token | None:
        """The thought signature of Google's models."""
        google = None if self.extra_content is None else self.extra_content.google
        return None if google is None or not google.thought_signature else Token(google.thought_signature, _ORIGIN)


class WireAudio(msgspec.Struct):
    """Spoken output, or a piece of it."""

    id: str | None = None
    data: str | None = None
    transcript: str | None = None
    expires_at: int | None = None


class WireMessage(msgspec.Struct):
    """A message, or a piece of one."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_text: Any = None
    reasoning_details: list[msgspec.Raw] | None = None
    refusal: str | None = None
    tool_calls: list[WireCall] | None = None
    function_call: WireFunction | None = None
    annotations: list[msgspec.Raw] | None = None
    audio: WireAudio | None = None
    images: list[Any] | None = None

    @property
    def plain_reasoning(self) -> str:
        """Reasoning as text, whatever the host calls it; some send two of the names."""
        if self.reasoning_content is None and self.reasoning is None and self.reasoning_text is None:
            return ""
        for said in (self.reasoning_content, self.reasoning, self.reasoning_text):
            if isinstance(said, str) and said:
                return said
        return ""


class WireChoice(msgspec.Struct):
    """A choice, or a piece of one."""

    index: int | None = None
    delta: WireMessage | None = None
    message: WireMessage | None = None
    finish_reason: Any = None
    stop_reason: Any = None
    logprobs: msgspec.Raw = NULL
    usage: msgspec.Raw = NULL
    error: Any = None

    @property
    def finish(self) -> str:
        """The finish reason; some hosts write an empty one into every chunk."""
        return self.finish_reason if isinstance(self.finish_reason, str) else ""


class WireGroq(msgspec.Struct):
    """What Groq adds."""

    usage: msgspec.Raw = NULL


class WireStatus(msgspec.Struct):
    """MiniMax's status of its own inside a 200."""

    status_code: Any = None


class WireAnswer(msgspec.Struct):
    """An answer or a chunk."""

    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    choices: list[WireChoice] | None = None
    usage: msgspec.Raw = NULL
    error: Any = None
    system_fingerprint: msgspec.Raw = NULL
    service_tier: msgspec.Raw = NULL
    citations: list[Any] | None = None
    search_results: list[Any] | None = None
    x_groq: WireGroq | None = None
    base_resp: WireStatus | None = None
    type: Any = None
    code: Any = None
    message: Any = None
    msg: Any = None
    detail: Any = None

    @property
    def is_error(self) -> bool:
        """It reports a failure, in one of the ways that hosts have for it inside a 200."""
        if self.error or self.object == "error" or self.type == "error":
            return True
        if self.base_resp is not None and self.base_resp.status_code not in (None, 0):
            return True
        if self.choices is None:
            return self.usage == NULL and bool(self.code or self.message or self.msg or self.detail)
        for choice in self.choices:  # noqa: SIM110 - asked of every chunk, and a generator costs as much as the rest
            if choice.error:
                return True
        return False

    @property
    def counted(self) -> Usage:
        """The token counts, wherever the host puts them."""
        raw = self.usage
        if raw == NULL and self.x_groq is not None:
            raw = self.x_groq.usage
        if raw == NULL and self.choices:
            raw = self.choices[0].usage
        return NOT_REPORTED if raw == NULL else read_usage(raw)

    @property
    def created_at(self) -> int | None:
        """Epoch seconds."""
        created = self.created
        return int(created) if isinstance(created, int | float) and 0 < created < 1 << 40 else None


ANSWER: Final = msgspec.json.Decoder(WireAnswer, strict=False)

_TEXT: Final = msgspec.json.Decoder(str)


def arguments_text(raw: msgspec.Raw) -> str:
    """Return arguments as text; the object itself is its own text."""
    if raw == NULL:
        return ""
    written = bytes(raw)
    if written[:1] != b'"':
        return written.decode()
    try:
        return _TEXT.decode(written)
    except msgspec.DecodeError:
        return _TEXT.decode(mend(written))


# --- content that is no string ---------------------------------------------------------------------------------------


def pieces_of(content: Any) -> list[tuple[bool, str] | Media]:
    """Return a content that came as a list of parts: texts, marked True where they are reasoning, and images."""
    pieces: list[tuple[bool, str] | Media] = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            pieces.append((False, part))
        if not isinstance(part, dict):
            continue
        match part.get("type"):
            case "text" | "output_text":
                pieces.append((False, _text_in(part.get("text"))))
            case "thinking" | "reasoning":
                thought = part.get("thinking", part.get("text"))
                inner = thought if isinstance(thought, list) else [thought]
                pieces.append((True, "".join(map(_text_in, inner))))
            case "image_url":
                media = image_of(part)
                if media is not None:
                    pieces.append(media)
            case _:
                pass
    return [piece for piece in pieces if isinstance(piece, Media) or piece[1]]


def _text_in(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("text")
    return value if isinstance(value, str) else ""


def image_of(part: Any) -> Media | None:
    """Return an image that the model made."""
    inner = part.get("image_url") if isinstance(part, dict) else None
    url = inner.get("url") if isinstance(inner, dict) else inner
    if not isinstance(url, str) or not url:
        return None
    mime, source, data = source_of(url)
    return Media(MediaKind.IMAGE, source, data, mime)


def audio_of(audio: WireAudio) -> Media | None:
    """Return what the model spoke."""
    if not audio.data:
        return None
    extra = {
        name: msgspec.Raw(msgspec.json.encode(value))
        for name, value in (("id", audio.id), ("transcript", audio.transcript), ("expires_at", audio.expires_at))
        if value is not None
    }
    return Media(MediaKind.AUDIO, SourceKind.INLINE, audio.data, extra=extra)


# --- sources ---------------------------------------------------------------------------------------------------------


class _UrlCitation(msgspec.Struct):
    url: str | None = None
    title: str | None = None
    content: str | None = None
    start_index: int | None = None
    end_index: int | None = None


class _Annotation(msgspec.Struct):
    url_citation: _UrlCitation | None = None


_ANNOTATION: Final = msgspec.json.Decoder(_Annotation)


def citation_of(raw: msgspec.Raw) -> Citation:
    """Return an annotation of a text."""
    try:
        found = _ANNOTATION.decode(raw).url_citation or _UrlCitation()
    except msgspec.ValidationError:
        found = _UrlCitation()
    return Citation(_ORIGIN, raw, found.url, found.title, found.content, found.start_index, found.end_index)


def sources_of(answer: WireAnswer) -> tuple[Citation, ...]:
    """Return the sources that search engines list beside the answer, not at a place in its text."""
    listed = answer.search_results or answer.citations or ()
    sources: list[Citation] = []
    for source in listed:
        url = source.get("url") if isinstance(source, dict) else source
        title = source.get("title") if isinstance(source, dict) else None
        if isinstance(url, str) and url:
            raw = msgspec.Raw(msgspec.json.encode(source))
            sources.append(Citation(_ORIGIN, raw, url, title if isinstance(title, str) else None))
    return tuple(sources)


# --- log probabilities ------------------------------------------------------------------------------------------------


class _Logprobs(msgspec.Struct):
    content: msgspec.Raw = NULL


_LOGPROBS: Final = msgspec.json.Decoder(_Logprobs)


def logprobs_of(raw: msgspec.Raw) -> msgspec.Raw | None:
    """Return the list of token objects of a choice's `logprobs`."""
    try:
        content = _LOGPROBS.decode(raw).content
    except msgspec.ValidationError:  # of another shape: hosts have their own
        return None
    return content if bytes(memoryview(content)[:1]) == b"[" else None

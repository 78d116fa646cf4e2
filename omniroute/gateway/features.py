"""What a request is like, for routing: how long it is, what a model must be able to do for it, what it is about.

This is done for each request that has a choice of models, so most of it is read off the body without parsing it: which
top-level members there are, how long they are, whether the marks of media stand in them. Only where they do, the
request is parsed. The few small members with settings are read by the parser of the caller's own format, around a
conversation of nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from math import ceil
from typing import Final, NamedTuple

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.canonical import Block, Effort, Media, MediaKind, Request, SourceKind, ToolResult
from omniroute.formats.codec import Pause, no_pause
from omniroute.formats.reasoning import effort_of
from omniroute.formats.splice import TopLevel
from omniroute.formats.token_estimate import estimate_media
from omniroute.formats.wire import WireFormat
from omniroute.gateway.asks import Asks
from omniroute.gateway.dialects import Dialect
from omniroute.gateway.exchange import Inquiry
from omniroute.gateway.session_keys import SessionKey
from omniroute.routing.options import Features, Need, Task

IMAGE_TOKENS: Final = 1100
BYTES_PER_TOKEN: Final = 3.6
CJK_BYTES_PER_TOKEN: Final = 2.0
"""Of UTF-8, where a character of Chinese, Japanese or Korean has three."""


def features_of(
    inquiry: Inquiry,
    asks: Asks,
    *,
    key_id: str | None,
    session: SessionKey,
    is_plain: bool = False,
    may_reserve: bool = False,
) -> Features:
    """Return what a request is like.

    Args:
        inquiry: the request.
        asks: what its headers say.
        key_id: whose it is; None for callers without a key.
        session: what it belongs to.
        is_plain: there is one model to ask, so that nobody wants to know how long the request is or what it needs.
        may_reserve: it may use what is held back of quotas.
    """
    is_measured = not is_plain or asks.budget_nano is not None
    seen = _looked_at(inquiry) if is_measured else _UNSEEN
    return Features(
        requested=inquiry.requested,
        client_format=inquiry.dialect.format.value,
        is_stream=inquiry.is_stream,
        estimated_input=seen.estimated_input,
        max_output=seen.max_output,
        needs=seen.needs,
        task=seen.task,
        effort=seen.effort,
        key_id=key_id or "",
        session=session.effective,
        is_explicit_session=session.is_explicit,
        mode=asks.mode,
        budget_nano=asks.budget_nano,
        is_budget_strict=bool(asks.is_budget_strict),
        may_use_reserve=may_reserve,
        connection_id=asks.connection_id,
    )


def length_of(inquiry: Inquiry) -> int:
    """Return about how many tokens a request is, without parsing it for that.

    Media that is not inline counts only where the request has been parsed already.
    """
    if inquiry.is_parsed:
        return _estimated(inquiry.top, inquiry.dialect.format, _media(inquiry))
    count, size = _inline(inquiry.top.body)
    return count * IMAGE_TOKENS + _text_tokens(inquiry.top, inquiry.dialect.format, other_bytes=size)


def _inline(body: bytes) -> tuple[int, int]:
    """Return how many pieces of media stand in a body, and how many bytes they are."""
    count = total = 0
    for mark in _INLINE_MARKS:
        place = body.find(mark)
        while place >= 0:
            start = place + len(mark)
            end = body.find(b'"', start)
            if end < 0:
                break
            if end - start > _LEAST_MEDIA:
                count, total = count + 1, total + end - start
            place = body.find(mark, end)
    return count, total


class _Seen(msgspec.Struct, frozen=True, gc=False):
    """What the body says."""

    estimated_input: int = 0
    max_output: int | None = None
    needs: frozenset[str] = frozenset()
    task: Task = Task.GENERAL
    effort: str | None = None


_UNSEEN: Final = _Seen()


def _looked_at(inquiry: Inquiry) -> _Seen:
    top, dialect = inquiry.top, inquiry.dialect
    names = _tool_names(top)
    settings = _settings(top, dialect)
    media = _media(inquiry)
    needs = settings.needs
    if names is not None or media:
        tools = () if names is None else (Need.TOOLS,)
        needs = needs.union(tools, (_NEEDS[one.kind] for one in media if one.source is not SourceKind.TEXT))
    effort = settings.effort
    return _Seen(
        _estimated(top, dialect.format, media),
        settings.max_output,
        needs,
        _task(names or (), effort),
        None if effort is None else effort.value,
    )


_HARD: Final = frozenset({Effort.HIGH, Effort.XHIGH, Effort.MAX})
_NEEDS: Final[Mapping[MediaKind, Need]] = {
    MediaKind.IMAGE: Need.VISION,
    MediaKind.VIDEO: Need.VISION,
    MediaKind.AUDIO: Need.AUDIO,
    MediaKind.DOCUMENT: Need.DOCUMENT,
}


# --- settings --------------------------------------------------------------------------------------------------------

_SETTING_NAMES: Final[Mapping[WireFormat, tuple[str, ...]]] = {
    WireFormat.OPENAI_CHAT: (
        "max_tokens",
        "max_completion_tokens",
        "response_format",
        "reasoning_effort",
        "reasoning",
        "thinking",
        "enable_thinking",
        "thinking_budget",
        "modalities",
        "audio",
    ),
    WireFormat.OPENAI_RESPONSES: ("max_output_tokens", "text", "reasoning"),
    WireFormat.ANTHROPIC_MESSAGES: ("max_tokens", "thinking", "output_config", "output_format"),
    WireFormat.GEMINI: ("generationConfig", "generation_config"),
    WireFormat.OLLAMA: ("options", "think", "format"),
}
_SETTINGS: Final = {
    wire_format: tuple((name, b'"%b":' % name.encode()) for name in names)
    for wire_format, names in _SETTING_NAMES.items()
}
"""Each with how a member of its name begins."""
_NOTHING_SAID: Final = {
    "messages": b'[{"role":"user","content":""}]',
    "prompt": b'""',
    "input": b'""',
    "contents": b'[{"parts":[{"text":""}]}]',
}


_MOST_KEPT_BYTES: Final = 2048


class _Settings(NamedTuple):
    """What a request's settings say."""

    max_output: int | None = None
    needs: frozenset[str] = frozenset()
    effort: Effort | None = None


_NO_SETTINGS: Final = _Settings()


def _settings(top: TopLevel, dialect: Dialect) -> _Settings:
    """Return what the settings of a request say, read by themselves.

    A client sends the same ones with each request: how they were read is remembered, unless they are long.
    """
    spans, body = top.spans, top.body
    members = []
    for name, head in _SETTINGS[dialect.format]:
        span = spans.get(name)
        if span is not None:
            members.append(head + body[span[0] : span[1]])
    if not members:
        return _NO_SETTINGS
    written = b",".join(members)
    read = _read_again if len(written) <= _MOST_KEPT_BYTES else _read
    return read(dialect.parse_request, dialect.conversation[0], written)


def _read(parse: Callable[[bytes, Pause], Request], conversation: str, written: bytes) -> _Settings:
    """Read settings as those of a request with nothing else in it.

    What cannot be read counts as not said: a provider of the format may know better.
    """
    nothing = _NOTHING_SAID[conversation]
    try:
        request = parse(b'{"model":"-","%b":%b,%b}' % (conversation.encode(), nothing, written), no_pause)
    except OmniRouteError:
        return _NO_SETTINGS
    needs: list[Need] = []
    if request.output is not None and request.output.schema is not None:
        needs.append(Need.SCHEMA)
    if request.audio_output is not None:
        needs.append(Need.AUDIO)
    effort = None if request.reasoning is None else effort_of(request.reasoning)
    is_word = request.reasoning is not None and request.reasoning.effort is not None
    if is_word and effort in _HARD:  # a budget or a switch is a wish that models without reasoning may pass over
        needs.append(Need.REASONING)
    return _Settings(request.max_output, frozenset(needs), effort)


_read_again: Final = lru_cache(maxsize=512)(_read)


# --- tools and task --------------------------------------------------------------------------------------------------


class _Named(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None


class _Tool(msgspec.Struct, frozen=True, gc=False):
    """What a definition of a tool is called, wherever a format says it."""

    name: str | None = None
    type: str | None = None
    function: _Named | None = None
    tools: list[_Named] | None = None
    declared: list[_Named] | None = msgspec.field(name="functionDeclarations", default=None)
    declared_too: list[_Named] | None = msgspec.field(name="function_declarations", default=None)

    def add_to(self, names: list[str]) -> None:
        if self.name is not None:
            names.append(self.name)
        elif self.function is not None:
            names.append(self.function.name or "")
        elif self.type is not None:
            names.append(self.type)
        inner = self.tools or self.declared or self.declared_too
        if inner is not None:
            names.extend(one.name or "" for one in inner)


_TOOLS: Final = msgspec.json.Decoder(list[_Tool])
_TOOL_MEMBERS: Final = ("tools", "functions")
_CODING_WORD: Final = re.compile("bash|shell|edit|write|patch|grep|glob|read_file", re.IGNORECASE)
_CODING_TOOLS: Final = 2
_EMPTY: Final = frozenset({b"", b"null"})


def _tool_names(top: TopLevel) -> list[str] | None:
    """Return the names of the tools that a request declares; None where it declares none."""
    names: list[str] = []
    are_some = False
    for member in _TOOL_MEMBERS:
        span = top.spans.get(member)
        if span is None:
            continue
        written = top.body[span[0] : span[1]]
        try:
            tools = _TOOLS.decode(written)
        except msgspec.DecodeError:  # of a shape that nobody knows, and yet there are some
            are_some = are_some or written.strip(b" \t\r\n[]{}") not in _EMPTY
            continue
        for tool in tools:
            tool.add_to(names)
            are_some = True
    return names if are_some else None


def _task(names: Iterable[str], effort: Effort | None) -> Task:
    found = 0
    for name in names:
        found += _CODING_WORD.search(name) is not None
        if found >= _CODING_TOOLS:
            return Task.CODING
    return Task.REASONING if effort in _HARD else Task.GENERAL


# --- media -----------------------------------------------------------------------------------------------------------

_CONVERSATIONS: Final = ("messages", "input", "contents", "prompt", "images")
_MEDIA_MARKS: Final[Mapping[WireFormat, tuple[bytes, ...]]] = {
    WireFormat.OPENAI_CHAT: (b'"image_url"', b'"input_audio"', b'"file"', b'"video_url"'),
    WireFormat.OPENAI_RESPONSES: (b'"input_image"', b'"input_file"', b'"input_audio"'),
    WireFormat.ANTHROPIC_MESSAGES: (b'"source"',),
    WireFormat.GEMINI: (b'Data"', b'_data"'),
    WireFormat.OLLAMA: (b'"images"',),
}
"""One of these stands in every conversation with media: the name of a member or a type. Quotes inside texts are escaped
and do not match, so that few others have it."""
_MEDIA_MARK: Final = {
    wire_format: re.compile(b"|".join(map(re.escape, marks))) for wire_format, marks in _MEDIA_MARKS.items()
}
"""Looks for all of them at once: each alone would take as long."""


def _media(inquiry: Inquiry) -> tuple[Media, ...]:
    """Return the media of a request; none where it cannot be read, which its provider will say."""
    top = inquiry.top
    if "images" not in top.spans and not _has_mark(top, _MEDIA_MARK[inquiry.dialect.format]):
        return ()
    try:
        request = inquiry.request
    except OmniRouteError:
        return ()
    return tuple(_media_of(block for message in (*request.system, *request.messages) for block in message.blocks))


def _has_mark(top: TopLevel, mark: re.Pattern[bytes]) -> bool:
    for member in _CONVERSATIONS:
        span = top.spans.get(member)
        if span is not None and mark.search(top.body, *span) is not None:
            return True
    return False


def _media_of(blocks: Iterable[Block]) -> Iterator[Media]:
    for block in blocks:
        if isinstance(block, Media):
            yield block
        elif isinstance(block, ToolResult):
            yield from _media_of(block.blocks)


# --- length ----------------------------------------------------------------------------------------------------------

_TEXTS: Final = frozenset(
    (
        *_CONVERSATIONS,
        *("system", "instructions", "systemInstruction", "system_instruction"),
        *_TOOL_MEMBERS,
        *("response_format", "text", "output_config", "output_format", "format"),
    )
)
"""Members that the model reads."""
_OPAQUE: Final[Mapping[WireFormat, tuple[bytes, ...]]] = {
    WireFormat.OPENAI_RESPONSES: (b'"encrypted_content"',),
    WireFormat.ANTHROPIC_MESSAGES: (b'"signature"',),
    WireFormat.GEMINI: (b'"thoughtSignature"', b'"thought_signature"'),
}
"""Members with what providers sealed for themselves: base64 that no model reads."""

_INLINE_MARKS: Final = (b";base64,", b'"data":"', b'"data": "')
_LEAST_MEDIA: Final = 256
_PIECE: Final = 256
_PIECES: Final = 32
_NOT_CJK: Final = bytes(code for code in range(256) if not 0xE3 <= code <= 0xED)
"""All but the first bytes of Chinese, Japanese and Korean characters."""
_ESCAPED: Final = re.compile(rb"\\u([0-9a-fA-F]{4})")


def _estimated(top: TopLevel, wire_format: WireFormat, media: Iterable[Media]) -> int:
    """Return about how many tokens a request is."""
    tokens = size = 0
    for one in media:
        if one.source is SourceKind.TEXT:
            continue
        tokens += IMAGE_TOKENS if one.kind is MediaKind.IMAGE else estimate_media(one, wire_format, "")
        size += len(one.data)
    return tokens + _text_tokens(top, wire_format, other_bytes=size)


def _text_tokens(top: TopLevel, wire_format: WireFormat, *, other_bytes: int) -> int:
    written = 0
    for name, (start, end) in top.spans.items():
        if name in _TEXTS:
            written += end - start
    written -= other_bytes + _opaque_bytes(top, wire_format)
    saved, cjk = _make_up(top.body)
    text = max(0.0, written - saved)
    cjk = min(cjk, text)
    return ceil((text - cjk) / BYTES_PER_TOKEN + cjk / CJK_BYTES_PER_TOKEN)


def _opaque_bytes(top: TopLevel, wire_format: WireFormat) -> int:
    total, body, marks = 0, top.body, _OPAQUE.get(wire_format)
    if marks is None:
        return 0
    for member in _CONVERSATIONS:
        span = top.spans.get(member)
        if span is None:
            continue
        for mark in marks:
            place = body.find(mark, *span)
            while place >= 0:
                start = body.find(b'"', place + len(mark), span[1])
                end = body.find(b'"', start + 1, span[1]) if start >= 0 else -1
                if end < 0:
                    break
                if body[place + len(mark) : start].strip(b" \t\r\n") == b":":  # otherwise it is null
                    total += end - start
                place = body.find(mark, end, span[1])
    return total


def _make_up(body: bytes) -> tuple[float, float]:
    """Return how many bytes a body is longer than what it says, by its escapes, and how many of these are CJK text.

    A long body is judged by pieces from all over it.
    """
    sample = body
    if len(body) > _PIECE * _PIECES:
        step = (len(body) - _PIECE) / (_PIECES - 1)
        sample = b"".join([body[start : start + _PIECE] for start in (int(step * n) for n in range(_PIECES))])
    saved = sample.count(b"\\")
    cjk = 0 if sample.isascii() else 3 * len(sample.translate(None, _NOT_CJK))
    if saved:
        for digits in _ESCAPED.findall(sample):
            code = int(digits, 16)
            size = 1 if code < 0x80 else 2 if code < 0x800 or 0xD800 <= code < 0xE000 else 3
            saved += 5 - size
            cjk += size if 0x3000 <= code < 0xD800 else 0
    scale = len(body) / len(sample) if sample else 1.0
    return saved * scale, cjk * scale

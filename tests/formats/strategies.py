"""Hypothesis strategies for canonical requests, for the tests of all formats.

`requests(origin)` gives requests as a parser of that format could have made them: well-formed, with text, reasoning,
calls, results, media, system text and tools. Switches add what is rarer. `broken_histories()` gives conversations whose
calls and results do not fit together at all. All values are small: what is searched is structure, not size.

    @given(requests(WireFormat.OPENAI_CHAT))
    def test_…(request: Request) -> None: …
"""

from __future__ import annotations

from base64 import b64encode
from typing import Final

import msgspec
from hypothesis import strategies as st

from omniroute.formats.canonical import (
    Block,
    CallKind,
    ChoiceMode,
    Effort,
    Media,
    MediaKind,
    Message,
    Output,
    Reasoning,
    Request,
    Role,
    SourceKind,
    Text,
    Thinking,
    Token,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from omniroute.formats.wire import WireFormat

PNG: Final = b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
JPEG: Final = b64encode(b"\xff\xd8\xff\xe0" + bytes(16)).decode()
GIF: Final = b64encode(b"GIF89a" + bytes(16)).decode()
WEBP: Final = b64encode(b"RIFF\x10\0\0\0WEBP" + bytes(16)).decode()
PDF: Final = b64encode(b"%PDF-1.7\n" + bytes(16)).decode()
WAV: Final = b64encode(b"RIFF\x10\0\0\0WAVE" + bytes(16)).decode()
MP3: Final = b64encode(b"ID3\x04" + bytes(16)).decode()

CACHE_MARK: Final = msgspec.Raw(b'{"type":"ephemeral"}')

WORDS: Final = st.sampled_from(["hello", "weiß €", "日本 😀", "a\nb", " spaced ", "\u200f\u0000", '"quoted"'])
"""Text that is not blank."""

TOOL_NAMES: Final = st.sampled_from(["get_weather", "read-file", "Bash", "mcp__files__read"])
"""Names that every target takes."""

ODD_NAMES: Final = st.one_of(
    TOOL_NAMES,
    st.sampled_from(["a.b", "a b", "1st", "wetter_für_köln", "-x", "a/b", "x" * 65, "x" * 129]),
    st.text(min_size=1, max_size=5),
)
"""Names of which some are refused by every target."""

ARGUMENTS: Final = st.sampled_from(
    ["{}", "", '{"city":"Köln"}', '{"n":12345678901234567890,"x":1e400,"z":-0}', '{"deep":{"list":[1,null,""]}}']
)
"""What models write for functions; "" is a call without arguments."""

SCHEMAS: Final = st.sampled_from(
    [
        b'{"type":"object","properties":{}}',
        b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}',
        b'{"type":"object","properties":{"title":{"type":["string","null"]},"default":{"enum":["a","b"]}}}',
    ]
).map(msgspec.Raw)

IMAGES: Final = st.sampled_from(
    [
        Media(MediaKind.IMAGE, SourceKind.INLINE, PNG, "image/png"),
        Media(MediaKind.IMAGE, SourceKind.INLINE, JPEG, "image/jpeg"),
        Media(MediaKind.IMAGE, SourceKind.URL, "https://example.com/cat.png"),
    ]
)
DOCUMENTS: Final = st.just(Media(MediaKind.DOCUMENT, SourceKind.INLINE, PDF, "application/pdf", "paper.pdf"))


def texts(*, cache: bool = False) -> st.SearchStrategy[Text]:
    """Text blocks; `cache` lets some carry a cache mark."""
    marks = st.sampled_from([None, None, CACHE_MARK]) if cache else st.none()
    return st.builds(Text, WORDS, marks)


def thinking(origin: WireFormat) -> st.SearchStrategy[Thinking]:
    """Reasoning, signed or not, or redacted, as the formats have it."""
    signed = st.builds(Thinking, WORDS, st.builds(Token, st.sampled_from(["c2lnbmVk", "c2VhbA=="]), st.just(origin)))
    redacted = st.just(Thinking("", Token("cmVkYWN0ZWQ=", origin), redacted=True))
    match origin:
        case WireFormat.ANTHROPIC_MESSAGES:
            return st.one_of(signed, redacted)
        case WireFormat.OPENAI_RESPONSES | WireFormat.GEMINI:
            return st.one_of(signed, st.builds(Thinking, WORDS))
        case _:
            return st.builds(Thinking, WORDS)


def tools() -> st.SearchStrategy[tuple[Tool, ...]]:
    """Definitions of functions, no name twice."""
    tool = st.builds(
        Tool, TOOL_NAMES, st.sampled_from([None, "Does it."]), SCHEMAS, st.sampled_from([None, True, False])
    )
    return st.lists(tool, max_size=3, unique_by=lambda tool: tool.name).map(tuple)


@st.composite
def histories(
    draw: st.DrawFn, origin: WireFormat, *, media: bool = True, inline_system: bool = True, names: bool = True
) -> tuple[Message, ...]:
    """Well-formed conversations that end with the user's turn or with the results of a loop of calls.

    Ids are unique and legal everywhere but for targets that want nine characters; every call is answered in order.

    Args:
        draw: Hypothesis's.
        origin: format that the tokens in it belong to.
        media: images and documents in user messages.
        inline_system: system text between the turns.
        names: results carry the name of their tool.
    """
    messages: list[Message] = []
    calls_so_far = 0
    said = st.one_of(texts(), IMAGES, DOCUMENTS) if media else texts()
    for _ in range(draw(st.integers(0, 3))):
        messages.append(Message(Role.USER, tuple(draw(st.lists(said, min_size=1, max_size=3)))))
        if inline_system and draw(st.booleans()):
            messages.append(Message(Role.SYSTEM, (draw(texts()),)))
        for _ in range(draw(st.integers(0, 2))):
            count = draw(st.integers(1, 3))
            calls = [
                ToolCall(f"call_{calls_so_far + place}", draw(TOOL_NAMES), draw(ARGUMENTS)) for place in range(count)
            ]
            calls_so_far += count
            before: list[Block] = draw(st.lists(st.one_of(thinking(origin), texts()), max_size=2))
            messages.append(Message(Role.ASSISTANT, (*before, *calls)))
            results = tuple(
                ToolResult(call.id, (draw(texts()),), draw(st.booleans()), name=call.name if names else None)
                for call in calls
            )
            if draw(st.booleans()):  # some formats have one message for each
                messages += [Message(Role.TOOL, (result,)) for result in results]
            else:
                messages.append(Message(Role.TOOL, results))
        messages.append(Message(Role.ASSISTANT, tuple(draw(st.lists(texts(), min_size=1, max_size=2)))))
    messages.append(Message(Role.USER, tuple(draw(st.lists(said, min_size=1, max_size=2)))))
    if draw(st.booleans()):
        call = ToolCall(f"call_{calls_so_far}", draw(TOOL_NAMES), draw(ARGUMENTS))
        messages.append(Message(Role.ASSISTANT, (call,)))
        messages.append(Message(Role.TOOL, (ToolResult(call.id, (draw(texts()),), name=call.name if names else None),)))
    return tuple(messages)


_BROKEN_IDS: Final = st.sampled_from(["", "a", "b", "c", "é/illegal id", "x" * 70])


def broken_histories() -> st.SearchStrategy[tuple[Message, ...]]:
    """Conversations with orphans, repeated ids, results before calls, out of order, late, double, and no ids at all."""
    call = st.builds(ToolCall, _BROKEN_IDS, st.sampled_from(["f", "g", "h.i"]), ARGUMENTS)
    custom = st.builds(ToolCall, _BROKEN_IDS, st.just("patch"), WORDS, st.just(CallKind.CUSTOM))
    image = st.just(Media(MediaKind.IMAGE, SourceKind.INLINE, PNG, "image/png"))
    blocks = st.lists(st.one_of(texts(), image), max_size=2).map(tuple)
    result = st.builds(
        ToolResult, _BROKEN_IDS, blocks, st.booleans(), name=st.sampled_from([None, "f", "g", "h.i", "never_called"])
    )
    some = st.lists(st.one_of(call, custom, texts()), min_size=1, max_size=4).map(tuple)
    back = st.lists(st.one_of(result, texts()), min_size=1, max_size=4).map(tuple)
    message = st.one_of(
        st.builds(Message, st.just(Role.ASSISTANT), some),
        st.builds(Message, st.just(Role.TOOL), st.lists(result, min_size=1, max_size=4).map(tuple)),
        st.builds(Message, st.just(Role.USER), back),
        st.builds(Message, st.sampled_from([Role.SYSTEM, Role.DEVELOPER]), texts().map(lambda text: (text,))),
    )
    return st.lists(message, max_size=10).map(tuple)


_SYSTEM: Final = st.lists(
    st.builds(Message, st.sampled_from([Role.SYSTEM, Role.DEVELOPER]), texts().map(lambda text: (text,))), max_size=2
).map(tuple)


@st.composite
def requests(
    draw: st.DrawFn,
    origin: WireFormat,
    *,
    media: bool = True,
    inline_system: bool = True,
    names: bool = True,
    output: bool = False,
) -> Request:
    """Whole requests; the switches are those of :func:`histories`.

    Args:
        draw: Hypothesis's.
        origin: the client's format.
        media: see there.
        inline_system: see there.
        names: see there.
        output: some want an answer that fits a schema.
    """
    defined = draw(tools())
    choices = [None, *(ToolChoice(mode) for mode in (ChoiceMode.AUTO, ChoiceMode.NONE, ChoiceMode.REQUIRED))]
    choices += [ToolChoice(ChoiceMode.NAMED, (tool.name,)) for tool in defined]
    formats = [None, Output(), Output(msgspec.Raw(b'{"type":"object","properties":{"x":{"type":"integer"}}}'), "point")]
    return Request(
        origin=origin,
        model="a-model",
        messages=draw(histories(origin, media=media, inline_system=inline_system, names=names)),
        system=draw(_SYSTEM),
        tools=defined,
        tool_choice=draw(st.sampled_from(choices)) if defined else None,
        parallel_tools=draw(st.sampled_from([None, True, False])) if defined else None,
        max_output=draw(st.sampled_from([None, 1000, 64_000])),
        temperature=draw(st.sampled_from([None, 0.0, 0.5, 1.0])),
        top_p=draw(st.sampled_from([None, 0.25, 1.0])),
        stop=draw(st.lists(st.sampled_from(["END", "\n\n", "<stop>"]), max_size=2, unique=True).map(tuple)),
        reasoning=draw(
            st.sampled_from(
                [None, Reasoning(effort=Effort.HIGH), Reasoning(budget=2048), Reasoning(effort=Effort.NONE)]
            )
        ),
        output=draw(st.sampled_from(formats)) if output else None,
        user=draw(st.sampled_from([None, "user-1"])),
        stream=draw(st.booleans()),
    )

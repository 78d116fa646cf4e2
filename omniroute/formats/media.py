"""Images, documents, audio and video: what a target can read, and in which shape.

What a target needs is decided here; fetching is the gateway's (:func:`urls_to_fetch`, then :func:`with_fetched`).

The bytes decide what a piece of media is, not what the client calls it: vendors refuse an image under a wrong name.
What the target's model cannot see is a short text in earlier turns and in tool results, so that a conversation can go
on with another model, but refused in what the user says now: he would be answered as if the model had seen it.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from omniroute.errors import InvalidRequest, UnsupportedFeature
from omniroute.formats.canonical import Block, Media, MediaKind, Message, Request, SourceKind, Text, ToolResult
from omniroute.formats.losses import Losses, unsupported
from omniroute.formats.profile import Profile
from omniroute.formats.wire import WireFormat

_PDF: Final = "application/pdf"
_HEAD_CHARACTERS: Final = 32  # of base64: enough for every signature below
_UNKNOWN_TYPES: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_ALIASES: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "application/x-pdf": _PDF,
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "audio/mpeg3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
}
_KINDS: Final = {"image": MediaKind.IMAGE, "audio": MediaKind.AUDIO, "video": MediaKind.VIDEO}

_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_OPENAI_AUDIO: Final = frozenset({"audio/wav", "audio/mpeg"})
_READABLE: Final[Mapping[tuple[WireFormat, MediaKind], frozenset[str]]] = {
    (WireFormat.OPENAI_CHAT, MediaKind.IMAGE): _IMAGES,
    (WireFormat.OPENAI_CHAT, MediaKind.DOCUMENT): frozenset({_PDF}),
    (WireFormat.OPENAI_CHAT, MediaKind.AUDIO): _OPENAI_AUDIO,
    (WireFormat.OPENAI_RESPONSES, MediaKind.IMAGE): _IMAGES,
    (WireFormat.OPENAI_RESPONSES, MediaKind.AUDIO): _OPENAI_AUDIO,
    (WireFormat.ANTHROPIC_MESSAGES, MediaKind.IMAGE): _IMAGES,
    (WireFormat.ANTHROPIC_MESSAGES, MediaKind.DOCUMENT): frozenset({_PDF}),
    (WireFormat.GEMINI, MediaKind.IMAGE): (_IMAGES - {"image/gif"}) | {"image/heic", "image/heif"},
    (WireFormat.OLLAMA, MediaKind.IMAGE): _IMAGES,
}
"""The types that each format's vendor documents; a pair that is not here has no list that we could hold it against."""

_READS_TEXT_FILES: Final = frozenset({WireFormat.OPENAI_RESPONSES, WireFormat.GEMINI})
_TAKES_URL_OF: Final = {
    WireFormat.OPENAI_CHAT: frozenset({MediaKind.IMAGE}),
    WireFormat.OPENAI_RESPONSES: frozenset({MediaKind.IMAGE, MediaKind.DOCUMENT}),
    WireFormat.ANTHROPIC_MESSAGES: frozenset({MediaKind.IMAGE, MediaKind.DOCUMENT}),
}
_OPENAI: Final = frozenset({WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES})
"""Two formats of one vendor: a file id of one means the same in the other."""

Block_ = TypeVar("Block_", bound=Block)


# --- what has to be fetched ------------------------------------------------------------------------------------------


def urls_to_fetch(request: Request, profile: Profile) -> tuple[str, ...]:
    """Return the addresses whose content the target needs inside the request, each once, in order."""
    if request.origin is profile.format:
        return ()
    needed = dict.fromkeys(
        media.data
        for media in _all_media(request.messages)
        if media.source is SourceKind.URL
        and _is_http(media.data)
        and media.kind in profile.takes
        and not _takes_url(profile, media.kind)
    )
    return tuple(needed)


def with_fetched(request: Request, fetched: Mapping[str, tuple[str, str]]) -> Request:
    """Return the request with what was fetched in the place of its address.

    Args:
        request: the client's.
        fetched: address to its type and its content in base64.
    """
    if not fetched:
        return request
    messages = tuple(_message_with(message, fetched) for message in request.messages)
    return msgspec.structs.replace(request, messages=messages)


def _message_with(message: Message, fetched: Mapping[str, tuple[str, str]]) -> Message:
    blocks = _blocks_with(message.blocks, fetched)
    return message if blocks is message.blocks else msgspec.structs.replace(message, blocks=blocks)


def _blocks_with(blocks: tuple[Block_, ...], fetched: Mapping[str, tuple[str, str]]) -> tuple[Block_, ...]:
    replaced = tuple(_block_with(block, fetched) for block in blocks)
    return blocks if all(a is b for a, b in zip(blocks, replaced, strict=True)) else replaced


def _block_with(block: Block_, fetched: Mapping[str, tuple[str, str]]) -> Block_:
    if isinstance(block, Media) and block.source is SourceKind.URL and (found := fetched.get(block.data)) is not None:
        mime, data = found
        return msgspec.structs.replace(block, source=SourceKind.INLINE, mime=mime or block.mime, data=data)
    if isinstance(block, ToolResult):
        inner = _blocks_with(block.blocks, fetched)
        return block if inner is block.blocks else msgspec.structs.replace(block, blocks=inner)
    return block


def _all_media(messages: Iterable[Message]) -> Iterator[Media]:
    for message in messages:
        for block in message.blocks:
            if isinstance(block, Media):
                yield block
            elif isinstance(block, ToolResult):
                yield from (inner for inner in block.blocks if isinstance(inner, Media))


# --- what the target can read ----------------------------------------------------------------------------------------


class Reader:
    """Fits media to what one target reads."""

    __slots__ = ("_losses", "_origin", "_profile")

    def __init__(self, origin: WireFormat, profile: Profile, losses: Losses) -> None:
        self._origin = origin
        self._profile = profile
        self._losses = losses

    def fit(self, media: Media, path: str, *, is_live: bool) -> Media | Text:
        """Return media as the target reads it, or a text in its place.

        Args:
            media: of any source.
            path: where the client put it.
            is_live: it is part of what the user says now.

        Raises:
            UnsupportedFeature: the target cannot read it, and a text would not do.
            InvalidRequest: it is not what it says it is.
        """
        if media.source is SourceKind.URL and media.data[:5].lower() == "data:":
            media = _from_data_url(media, path)
        match media.source:
            case SourceKind.TEXT:
                return self._plain_text(media)
            case SourceKind.INLINE:
                return self._inline(media, path, is_live=is_live)
            case SourceKind.URL:
                return self._by_url(media, path, is_live=is_live)
            case SourceKind.FILE_ID:
                return self._by_id(media, path, is_live=is_live)

    def _plain_text(self, media: Media) -> Media | Text:
        if self._profile.format is WireFormat.ANTHROPIC_MESSAGES:
            return media
        self._losses.drop_all("messages.extra", media.extra)
        name = (media.name or "").replace('"', "'")
        opening = f'<document name="{name}">' if name else "<document>"
        return Text(f"{opening}\n{media.data}\n</document>", cache=media.cache)

    def _inline(self, media: Media, path: str, *, is_live: bool) -> Media | Text:
        media = normalised(media, path)
        mime = media.mime or ""
        if media.kind is MediaKind.DOCUMENT and (text := self._text_of(media)) is not None:
            return self._plain_text(text)
        if media.kind not in self._profile.takes:
            return self._unread(media, media.kind.value, path, is_live=is_live)
        readable = _READABLE.get((self._profile.format, media.kind))
        if readable is None or mime in readable:
            return media
        return self._unread(media, f"{media.kind} of type {mime or 'unknown'}", path, is_live=is_live)

    def _text_of(self, media: Media) -> Media | None:
        """Return a text file as plain text where the target reads none in base64."""
        mime = media.mime or ""
        if self._profile.format in _READS_TEXT_FILES and MediaKind.DOCUMENT in self._profile.takes:
            return None
        if not (mime.startswith("text/") or mime in ("application/json", "application/xml")):
            return None
        try:
            text = b64decode(media.data).decode()
        except ValueError:
            return None
        return msgspec.structs.replace(media, source=SourceKind.TEXT, data=text, mime="text/plain")

    def _by_url(self, media: Media, path: str, *, is_live: bool) -> Media | Text:
        profile = self._profile
        if media.kind not in profile.takes:
            return self._unread(media, media.kind.value, path, is_live=is_live)
        if _is_http(media.data):
            if _takes_url(profile, media.kind):
                return media
            raise unsupported(
                path, f"{profile.model} cannot read {_a(media.kind)} by its address: send it in the request."
            )
        raise unsupported(path, f"The address of this {media.kind} means nothing to the provider of {profile.model}.")

    def _by_id(self, media: Media, path: str, *, is_live: bool) -> Media | Text:
        profile = self._profile
        if media.kind not in profile.takes:
            return self._unread(media, media.kind.value, path, is_live=is_live)
        if profile.is_vendor and {self._origin, profile.format} <= _OPENAI:
            return media
        raise unsupported(
            path,
            f"This {media.kind} is a file at another vendor; the provider of {profile.model} does not know its id.",
        )

    def _unread(self, media: Media, what: str, path: str, *, is_live: bool) -> Text:
        if is_live or media.kind in (MediaKind.AUDIO, MediaKind.VIDEO):
            raise self._refusal(what, path)
        return Text(f"[{media.kind} omitted]", cache=media.cache)

    def _refusal(self, what: str, path: str) -> UnsupportedFeature:
        return unsupported(path, f"{self._profile.model} cannot read {_a(what)}.")


def normalised(media: Media, path: str) -> Media:
    """Return inline media with the type that its bytes have, the kind of that type, and base64 as all formats read it.

    Raises:
        InvalidRequest: there are no bytes.
    """
    data = _clean_base64(media.data)
    if not data:
        raise InvalidRequest(f"This {media.kind} is empty.", param=path)
    declared = _plain_type(media.mime)
    try:
        found = sniffed(b64decode(data[:_HEAD_CHARACTERS], validate=True))
    except ValueError as error:
        raise InvalidRequest(f"This {media.kind} is not base64.", param=path) from error
    mime = found or declared or None
    kind = _kind_of(mime) or media.kind
    if data is media.data and mime == media.mime and kind is media.kind:
        return media
    return msgspec.structs.replace(media, data=data, mime=mime, kind=kind)


def sniffed(head: bytes) -> str | None:
    """Return the type that the first bytes of a file tell, of the types that models read."""
    for start, mime in _SIGNATURES:
        if head.startswith(start):
            return mime
    if head[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12])
    # A frame of MPEG audio, layer III, without a tag before it: eleven set bits, then version and layer.
    if len(head) > 2 and head[0] == 0xFF and head[1] in (0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2):
        return "audio/mpeg"
    return None


_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", _PDF),
    (b"ID3", "audio/mpeg"),
)
_BRANDS: Final = {b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heif", b"heif": "image/heif"}


def _clean_base64(data: str) -> str:
    if "\n" in data or "\r" in data or " " in data or "\t" in data:
        data = "".join(data.split())
    if "-" in data or "_" in data:
        data = data.replace("-", "+").replace("_", "/")
    return data + "=" * (-len(data) % 4) if len(data) % 4 else data


def _plain_type(mime: str | None) -> str:
    plain = (mime or "").partition(";")[0].strip().lower()
    return "" if plain in _UNKNOWN_TYPES else _ALIASES.get(plain, plain)


def _kind_of(mime: str | None) -> MediaKind | None:
    if mime is None:
        return None
    return MediaKind.DOCUMENT if mime == _PDF else _KINDS.get(mime.partition("/")[0])


def _from_data_url(media: Media, path: str) -> Media:
    head, comma, data = media.data[5:].partition(",")
    mime, _, encoding = head.rpartition(";")
    if not comma or encoding.strip().lower() != "base64":
        raise InvalidRequest("A data URL must hold base64.", param=path)
    return msgspec.structs.replace(media, source=SourceKind.INLINE, data=data, mime=mime or media.mime)


def _is_http(url: str) -> bool:
    return url[:8].lower().startswith(("http://", "https://"))


def _takes_url(profile: Profile, kind: MediaKind) -> bool:
    return profile.takes_media_urls and kind in _TAKES_URL_OF.get(profile.format, ())


def _a(what: str) -> str:
    if what.startswith("audio"):
        return what
    return f"an {what}" if what[:1] in "aeiou" else f"a {what}"


# --- media where the target takes none: in results and in what the model said ----------------------------------------


def moved_out(results: Sequence[ToolResult]) -> tuple[tuple[ToolResult, ...], tuple[Block, ...]]:
    """Return results without media, and the blocks of a user message that brings the media after them."""
    moved: list[Block] = []
    kept: list[ToolResult] = []
    for result in results:
        for block in result.blocks:
            if isinstance(block, Media):
                kept.append(msgspec.structs.replace(result, blocks=_without(result.blocks, moved), plain=False))
                break
        else:
            kept.append(result)
    return tuple(kept), tuple(moved)


def said_by_model(blocks: Sequence[Block]) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
    """Return what the model said without media, and the blocks of a user message that brings the media after it."""
    moved: list[Block] = []
    return _without(blocks, moved), tuple(moved)


def _without(blocks: Sequence[Block_], moved: list[Block]) -> tuple[Block_ | Text, ...]:
    kept: list[Block_ | Text] = []
    for block in blocks:
        if not isinstance(block, Media):
            kept.append(block)
            continue
        name = f"{block.kind} {len(moved) // 2 + 1}"
        kept.append(Text(f"[{name}: see the next message]"))
        moved += (Text(f"[{name}]"), block)
    return tuple(kept)

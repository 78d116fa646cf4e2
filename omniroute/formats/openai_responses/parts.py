"""The parts of messages and tool outputs, both ways: text, images, files, audio, refusals."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from omniroute.errors import MissingField
from omniroute.formats.canonical import (
    Citation,
    Media,
    MediaKind,
    Refusal,
    ServerTool,
    SourceKind,
    Text,
    Unknown,
)
from omniroute.formats.losses import Losses, unsupported
from omniroute.formats.openai_responses.members import Members, encoded, lost, note_of, put_back
from omniroute.formats.wire import WireFormat

Part = Text | Media | Refusal | Unknown

_DATA_URL: Final = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
_AUDIO: Final = {"mp3": "audio/mpeg", "wav": "audio/wav"}
_AUDIO_FORMATS: Final = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
}
_EMPTY_LIST: Final = msgspec.Raw(b"[]")
_PDF: Final = "application/pdf"
_WHITESPACE: Final = {ord(space): None for space in " \t\r\n"}
_TO_STANDARD: Final = str.maketrans("-_", "+/")


def parse_part(raw: msgspec.Raw, path: str, text_type: str) -> Part:
    """Return what a part of a client's message says; `text_type` is the type that text has in such a message."""
    part = Members(raw, path)
    kind = part.needed_text("type")
    match kind:
        case "input_text" | "output_text" | "text":
            text = part.needed_text("text")
            if kind != text_type:
                part.spell("type", encoded(kind))
            for name in ("annotations", "logprobs"):
                if part.peek(name) == _EMPTY_LIST:
                    part.spell_as_is(name)
            return Text(text, extra=part.rest())
        case "refusal":
            return Refusal(part.needed_text("refusal"), extra=part.rest())
        case "input_image":
            media, is_exact = _parse_image(part)
        case "input_file":
            media, is_exact = _parse_file(part)
        case "input_audio":
            media, is_exact = _parse_audio(part)
        case _:
            return Unknown(WireFormat.OPENAI_RESPONSES, raw)
    if not is_exact or not _is_usual(media, kind):
        part.note("whole", raw)  # it cannot be put together again from what it means
    extra = part.rest()
    return msgspec.structs.replace(media, extra=extra) if extra else media


def _parse_image(part: Members) -> tuple[Media, bool]:
    detail, file_id = part.text("detail"), part.text("file_id")
    if file_id is not None:
        return Media(MediaKind.IMAGE, SourceKind.FILE_ID, file_id, detail=detail), True
    address = part.text("image_url")
    if address is None:
        raise MissingField(f"'{part.path}' needs 'image_url' or 'file_id'.", param=part.where("image_url"))
    return _addressed(part, Media(MediaKind.IMAGE, SourceKind.URL, address, detail=detail), "image_url")


def _parse_file(part: Members) -> tuple[Media, bool]:
    media = Media(MediaKind.DOCUMENT, SourceKind.FILE_ID, "", name=part.text("filename"), detail=part.text("detail"))
    replace = msgspec.structs.replace
    file_id = part.text("file_id")
    if file_id is not None:
        return replace(media, data=file_id), True
    content = part.text("file_data")
    if content is None:
        address = part.text("file_url")
        if address is None:
            where = part.where("file_data")
            raise MissingField(f"'{part.path}' needs 'file_data', 'file_url' or 'file_id'.", param=where)
        return _addressed(part, replace(media, source=SourceKind.URL, data=address), "file_url")
    if content[:5].lower() == "data:":
        return _addressed(part, replace(media, data=content), "file_data")
    mime = _mime_of(media.name or "")  # plain base64 is taken too
    kind = _kind_of(mime, MediaKind.DOCUMENT)
    return replace(media, kind=kind, source=SourceKind.INLINE, data=_standard(content), mime=mime), False


def _parse_audio(part: Members) -> tuple[Media, bool]:
    raw = part.raw("input_audio")
    where = part.where("input_audio")
    if raw is None:
        raise MissingField(f"Missing required parameter: '{where}'.", param=where)
    audio = Members(raw, where)
    data, form = audio.needed_text("data"), audio.needed_text("format")
    mime = _AUDIO.get(form, f"audio/{form}")
    standard = _standard(data)
    is_exact = not audio.rest() and standard == data and _audio_format(mime) == form
    return Media(MediaKind.AUDIO, SourceKind.INLINE, standard, mime), is_exact


def _is_usual(media: Media, kind: str) -> bool:
    """Say whether the media alone tells the type of its part."""
    match media.kind:
        case MediaKind.IMAGE:
            return kind == ("input_image" if media.name is None else "input_file")
        case MediaKind.AUDIO:
            return kind == "input_audio"
        case _:
            return kind == "input_file"


def _addressed(part: Members, media: Media, member: str) -> tuple[Media, bool]:
    """Return media behind a URL, or inside one."""
    address = media.data
    if address[:5].lower() != "data:":
        return media, True
    mime, data = _read_data_url(part, member, address)
    is_exact = member != "file_url" and f"data:{mime};base64,{data}" == address
    kind = _kind_of(mime, media.kind)
    return msgspec.structs.replace(media, kind=kind, source=SourceKind.INLINE, data=data, mime=mime), is_exact


def _read_data_url(part: Members, member: str, url: str) -> tuple[str, str]:
    head = _DATA_URL.match(url)
    if head is None:
        raise part.wrong(member, "a URL or a data URL")
    mime = head[1].lower() or "text/plain"
    mime = "image/jpeg" if mime == "image/jpg" else mime
    content = url[head.end() :]
    if "base64" not in head[2].lower():
        return mime, b64encode(unquote_to_bytes(content)).decode()
    return mime, _standard(content)


def _standard(data: str) -> str:
    """Return base64 in the standard alphabet, padded, without white space."""
    if not data.isalnum():
        data = data.translate(_WHITESPACE).translate(_TO_STANDARD).rstrip("=")
    return data + "=" * (-len(data) % 4)


def _kind_of(mime: str, otherwise: MediaKind) -> MediaKind:
    return {"image": MediaKind.IMAGE, "audio": MediaKind.AUDIO, "video": MediaKind.VIDEO}.get(
        mime.partition("/")[0], otherwise
    )


def _mime_of(name: str) -> str:
    ending = name.rpartition(".")[2].lower()
    return {
        "png": "image/png",
        "jpg": "image/jpeg",
        "jpeg": "image/jpeg",
        "gif": "image/gif",
        "webp": "image/webp",
        "txt": "text/plain",
        "md": "text/markdown",
        "csv": "text/csv",
        "json": "application/json",
        "html": "text/html",
    }.get(ending, _PDF)


def _audio_format(mime: str) -> str:
    return _AUDIO_FORMATS.get(mime) or mime.partition("/")[2]


# --- to the provider ----------------------------------------------------------------------------------------------


def write_part(part: Part, text_type: str) -> Any:
    """Return a part of a request of this very format, as it came."""
    match part:
        case Text(text=text, extra=extra):
            return put_back({"type": text_type, "text": text}, extra)
        case Refusal(text=text, extra=extra):
            return put_back({"type": "refusal", "refusal": text}, extra)
        case Media(extra=extra):
            return note_of(extra, "whole") or put_back(_media(part), extra)
        case _:
            return part.raw


def _media(media: Media) -> dict[str, Any]:
    """Return the part for a piece of media."""
    written: dict[str, Any]
    source = media.source
    if media.kind is MediaKind.AUDIO and source is SourceKind.INLINE and media.name is None:
        return {
            "type": "input_audio",
            "input_audio": {"data": media.data, "format": _audio_format(media.mime or "audio/wav")},
        }
    if media.kind is MediaKind.IMAGE and media.name is None:
        written = {"type": "input_image"}
        match source:
            case SourceKind.INLINE:
                written["image_url"] = f"data:{media.mime or 'image/png'};base64,{media.data}"
            case SourceKind.FILE_ID:
                written["file_id"] = media.data
            case _:
                written["image_url"] = media.data
    else:
        written = {"type": "input_file"}
        match source:
            case SourceKind.INLINE:
                written["file_data"] = f"data:{media.mime or _PDF};base64,{media.data}"
            case SourceKind.FILE_ID:
                written["file_id"] = media.data
            case _:
                written["file_url"] = media.data
        if media.name is not None:
            written["filename"] = media.name
    if media.detail is not None:
        written["detail"] = media.detail
    return written


def render_part(part: Any, text_type: str, losses: Losses) -> dict[str, Any]:
    """Return a part of a request of another format.

    Raises:
        UnsupportedFeature: this format has no such content.
    """
    match part:
        case Text():
            if part.cache is not None:
                losses.drop("cache")
            losses.drop_all("messages.extra", lost(part.extra))
            written: dict[str, Any] = {"type": text_type, "text": part.text}
            if part.citations and text_type == "output_text":
                annotations = [one for one in map(_annotation, part.citations) if one is not None]
                if len(annotations) < len(part.citations):
                    losses.drop("citations")
                if annotations:
                    written["annotations"] = annotations
            elif part.citations:
                losses.drop("citations")
            return written
        case Refusal():
            losses.drop_all("messages.extra", lost(part.extra))
            return {"type": "refusal", "refusal": part.text}
        case Media():
            return _render_media(part, losses)
        case ServerTool():
            return {"type": text_type, "text": part.note}
        case _:
            raise unsupported("messages", "The target cannot express a part of the conversation.")


def _render_media(media: Media, losses: Losses) -> dict[str, Any]:
    if media.cache is not None:
        losses.drop("cache")
    losses.drop_all("messages.extra", lost(media.extra))
    if media.kind is MediaKind.VIDEO:
        raise unsupported("messages", "The target does not take video.")
    if media.source is SourceKind.TEXT:
        title = f"{media.name}\n\n" if media.name else ""
        return {"type": "input_text", "text": f"{title}{media.data}"}
    if media.kind is MediaKind.AUDIO:
        if media.source is not SourceKind.INLINE or _audio_format(media.mime or "") not in {"mp3", "wav"}:
            raise unsupported("messages", "The target takes audio as mp3 or wav within the request only.")
        return _media(msgspec.structs.replace(media, name=None))
    if media.kind is MediaKind.IMAGE:
        written = _media(msgspec.structs.replace(media, name=None))
        written.setdefault("detail", "auto")
        return written
    written = _media(media)
    if media.source is SourceKind.INLINE and media.name is None:
        # The vendor refuses inline files without a name.
        written["filename"] = "document.pdf" if media.mime in {None, _PDF} else "document"
    return written


def _annotation(citation: Citation) -> msgspec.Raw | dict[str, Any] | None:
    if citation.origin is WireFormat.OPENAI_RESPONSES:
        return citation.raw
    return annotation_of(citation)


def annotation_of(citation: Citation) -> dict[str, Any] | None:
    """Return a citation of another format as an annotation; None when it names no address."""
    if citation.url is None:
        return None
    start = citation.start or 0
    return {
        "type": "url_citation",
        "start_index": start,
        "end_index": citation.end if citation.end is not None else start,
        "url": citation.url,
        "title": citation.title or citation.url,
    }

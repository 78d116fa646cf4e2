"""Parts of Chat messages that hold media: `image_url`, `input_audio`, `file`, and the hosts' `video_url`.

Media keeps the spelling of its type and its base64: what they are is looked at when they are prepared for a target.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from omniroute.formats.canonical import Media, MediaKind, SourceKind
from omniroute.formats.losses import SPELLING
from omniroute.formats.members import (
    BadShape,
    Members,
    is_text,
    object_of,
    take_raw,
    take_text,
    take_text_if_any,
    text_of,
)

_MIME_OF_AUDIO: Final = {"mp3": "audio/mpeg", "wav": "audio/wav"}
_AUDIO_OF_MIME: Final = {mime: name for name, mime in _MIME_OF_AUDIO.items()}
_MIME_OF_SUFFIX: Final = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "xml": "application/xml",
}
_DEFAULT_MIMES: Final = {
    MediaKind.IMAGE: "image/png",
    MediaKind.VIDEO: "video/mp4",
    MediaKind.AUDIO: "audio/wav",
    MediaKind.DOCUMENT: "application/pdf",
}
_DATA_URL: Final = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)
_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


# --- parts to media ------------------------------------------------------------------------------------------------


def image_of(members: Members, name: str = "image_url", kind: MediaKind = MediaKind.IMAGE) -> Media:
    """Return the image (or video) of a part, `members` without its `type`.

    Raises:
        BadShape: there is no usable URL.
    """
    raw = _taken(members, name)
    detail = None
    if is_text(raw):  # several clients write the URL in the place of the object
        url, is_usual = text_of(raw, name), False
    else:
        inner = object_of(raw, name)
        try:
            url = take_text(inner, "url")
            detail = take_text_if_any(inner, "detail")
        except BadShape as error:
            raise error.under(name) from None
        is_usual = not inner
    mime, source, data = source_of(url)
    cache = take_raw(members, "cache_control")
    media = Media(kind, source, data, mime, detail=detail, cache=cache, extra=members)
    if not is_usual or _url_of(media) != url:
        members[SPELLING + name] = raw
    return media


def audio_of(members: Members) -> Media:
    """Return the recording of an `input_audio` part."""
    raw = _taken(members, "input_audio")
    inner = object_of(raw, "input_audio")
    try:
        data, kind = take_text(inner, "data"), take_text(inner, "format")
    except BadShape as error:
        raise error.under("input_audio") from None
    cache = take_raw(members, "cache_control")
    if inner:
        members[f"{SPELLING}input_audio"] = raw
    mime = _MIME_OF_AUDIO.get(kind, f"audio/{kind}")
    return Media(MediaKind.AUDIO, SourceKind.INLINE, data, mime, cache=cache, extra=members)


def file_of(members: Members) -> Media:
    """Return the document of a `file` part."""
    raw = _taken(members, "file")
    inner = object_of(raw, "file")
    try:
        file_id = take_text_if_any(inner, "file_id")
        written = take_text_if_any(inner, "file_data")
        name = take_text_if_any(inner, "filename")
    except BadShape as error:
        raise error.under("file") from None
    cache = take_raw(members, "cache_control")
    if file_id is not None:
        if inner or written is not None:
            members[f"{SPELLING}file"] = raw
        return Media(MediaKind.DOCUMENT, SourceKind.FILE_ID, file_id, name=name, cache=cache, extra=members)
    if written is None:
        raise BadShape("file.file_data", "This field is required.", is_missing=True)
    mime, source, data = source_of(written)
    if mime is None and source is SourceKind.INLINE:
        mime = _MIME_OF_SUFFIX.get((name or "").rpartition(".")[2].lower())
    media = Media(MediaKind.DOCUMENT, source, data, mime, name, cache=cache, extra=members)
    if inner or _url_of(media) != written:
        members[f"{SPELLING}file"] = raw
    return media


def _taken(members: Members, name: str) -> msgspec.Raw:
    raw = take_raw(members, name)
    if raw is None:
        raise BadShape(name, "This field is required.", is_missing=True)
    return raw


def source_of(url: str) -> tuple[str | None, SourceKind, str]:
    """Return media type, kind of source and data of what stands in the place of a URL."""
    if _SCHEME.match(url):
        return None, SourceKind.URL, url
    match = _DATA_URL.match(url)
    if match is None:  # base64 without the words before it, as clients of other formats are used to
        return None, SourceKind.INLINE, url
    mime, data = match[1].strip() or None, url[match.end() :]
    if ";base64" not in match[2].lower():
        data = b64encode(unquote_to_bytes(data)).decode()
    return mime, SourceKind.INLINE, data


# --- media to parts ------------------------------------------------------------------------------------------------


def _url_of(media: Media) -> str:
    if media.source is not SourceKind.INLINE:
        return media.data
    return f"data:{media.mime or _DEFAULT_MIMES[media.kind]};base64,{media.data}"


def part_of(media: Media) -> dict[str, Any] | None:
    """Return media as a part of a message; None for what the format has no part for."""
    match media.kind, media.source:
        case _, SourceKind.FILE_ID:
            return _file(media, {"file_id": media.data})
        case _, SourceKind.TEXT:
            return {"type": "text", "text": media.data}
        case MediaKind.IMAGE, _:
            url = _url_of(media)
            image = {"url": url} if media.detail is None else {"url": url, "detail": media.detail}
            return {"type": "image_url", "image_url": image}
        case MediaKind.VIDEO, _:
            return {"type": "video_url", "video_url": {"url": _url_of(media)}}
        case MediaKind.AUDIO, SourceKind.INLINE:
            mime = media.mime or _DEFAULT_MIMES[MediaKind.AUDIO]
            kind = _AUDIO_OF_MIME.get(mime) or mime.partition("/")[2].removeprefix("x-")
            return {"type": "input_audio", "input_audio": {"data": media.data, "format": kind}}
        case MediaKind.DOCUMENT, _:
            return _file(media, {"file_data": _url_of(media)})
        case _:
            return None


def _file(media: Media, inner: dict[str, str]) -> dict[str, Any]:
    if media.name is not None:
        inner["filename"] = media.name
    return {"type": "file", "file": inner}

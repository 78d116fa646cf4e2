"""Media as Gemini writes it: `inlineData {mimeType, data}` and `fileData {mimeType, fileUri}`."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from omniroute.formats.canonical import MediaKind, SourceKind

_URL_SAFE: Final = str.maketrans("-_", "+/")
_ALIASES: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "application/x-pdf": "application/pdf",
    "audio/x-wav": "audio/wav",
}
_FIRST_LETTERS: Final = (
    ("iVBOR", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lG", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBER", "application/pdf"),
)
_USUAL: Final = {
    MediaKind.IMAGE: "image/png",
    MediaKind.DOCUMENT: "application/pdf",
    MediaKind.AUDIO: "audio/wav",
    MediaKind.VIDEO: "video/mp4",
}
_BY_SUFFIX: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
}
_VIDEO_HOSTS: Final = frozenset({"www.youtube.com", "youtube.com", "youtu.be", "m.youtube.com"})
_FILE_HOST: Final = "generativelanguage.googleapis.com"


def standard_base64(data: str) -> str:
    """Return base64 in the standard alphabet, padded, on one line; the very same string if it is that already."""
    if "\n" in data or "\r" in data or " " in data:
        data = "".join(data.split())
    if "-" in data or "_" in data:
        data = data.translate(_URL_SAFE)
    missing = -len(data) % 4
    return data + "=" * missing if missing else data


def known_mime(mime: str) -> str:
    """Return a media type without parameters that say nothing, in its registered spelling."""
    plain = mime.strip().lower() if ";" not in mime else mime.strip()
    return _ALIASES.get(plain, plain)


def kind_of(mime: str | None) -> MediaKind:
    """Return what kind of media a type is of; what is neither seen nor heard is a document."""
    match (mime or "").partition("/")[0]:
        case "image":
            return MediaKind.IMAGE
        case "audio":
            return MediaKind.AUDIO
        case "video":
            return MediaKind.VIDEO
        case _:
            return MediaKind.DOCUMENT


def mime_for(kind: MediaKind, mime: str | None, data: str) -> str:
    """Return the media type of inline data: the given one, else what its first letters say, else the usual one."""
    if mime:
        return known_mime(mime)
    for letters, known in _FIRST_LETTERS:
        if data.startswith(letters):
            return known
    return _USUAL[kind]


def locate(uri: str, mime: str | None) -> tuple[SourceKind, MediaKind, str | None]:
    """Return what a `fileUri` is: a file that the vendor keeps, or an address that anybody can fetch."""
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"} or parts.hostname == _FILE_HOST:
        return SourceKind.FILE_ID, kind_of(mime), mime
    if parts.hostname in _VIDEO_HOSTS:
        return SourceKind.URL, MediaKind.VIDEO, mime
    mime = mime or _BY_SUFFIX.get(parts.path.rpartition(".")[2].lower())
    return SourceKind.URL, kind_of(mime), mime

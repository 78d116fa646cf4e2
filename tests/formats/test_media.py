"""Media becomes what the target reads, is named by its bytes, or is refused by name."""

from __future__ import annotations

from base64 import b64decode, b64encode

import msgspec
import pytest

from omniroute.errors import InvalidRequest, UnsupportedFeature
from omniroute.formats.canonical import Media, MediaKind, Message, Request, Role, SourceKind, Text, ToolResult
from omniroute.formats.losses import Losses
from omniroute.formats.media import Reader, normalised, sniffed, urls_to_fetch, with_fetched
from omniroute.formats.profile import Profile, profile_for
from omniroute.formats.wire import WireFormat
from tests.formats.strategies import CACHE_MARK, GIF, JPEG, MP3, PDF, PNG, WAV, WEBP

_CHAT, _RESPONSES = WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES
_MESSAGES, _GEMINI, _OLLAMA = WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI, WireFormat.OLLAMA
_EVERYTHING = frozenset(MediaKind)


def _profile(target: WireFormat, **facts: object) -> Profile:
    return profile_for(target, "the-model", **facts)


def _fit(
    media: Media, profile: Profile, *, origin: WireFormat = WireFormat.OTHER, is_live: bool = True
) -> Media | Text:
    return Reader(origin, profile, Losses(profile.format)).fit(media, "messages.0.content.1", is_live=is_live)


def _inline(data: str, mime: str | None, kind: MediaKind = MediaKind.IMAGE) -> Media:
    return Media(kind, SourceKind.INLINE, data, mime)


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (GIF, "image/gif"),
        (WEBP, "image/webp"),
        (PDF, "application/pdf"),
        (WAV, "audio/wav"),
        (MP3, "audio/mpeg"),
        (b64encode(b"\xff\xfb\x90\x00").decode(), "audio/mpeg"),
        (b64encode(b"\0\0\0\x18ftypheic").decode(), "image/heic"),
        (b64encode(b"\0\0\0\x18ftypmif1").decode(), "image/heif"),
        (b64encode(b"hello").decode(), None),
        ("", None),
    ],
)
def test_signatures(data: str, mime: str | None) -> None:
    assert sniffed(b64decode(data)) == mime


@pytest.mark.parametrize("declared", [None, "image/jpg", "image/png", "application/octet-stream", "IMAGE/JPEG; q=1"])
def test_t25_the_bytes_say_what_it_is(declared: str | None) -> None:
    media = normalised(_inline(JPEG, declared), "p")
    assert (media.mime, media.data, media.kind) == ("image/jpeg", JPEG, MediaKind.IMAGE)


@pytest.mark.parametrize(
    ("declared", "mime"),
    [
        ("image/jpg", "image/jpeg"),
        ("audio/mp3", "audio/mpeg"),
        ("audio/x-wav", "audio/wav"),
        ("image/Tiff", "image/tiff"),
    ],
)
def test_t25_without_a_signature_the_usual_name_of_the_type_is_taken(declared: str, mime: str) -> None:
    assert normalised(_inline("aGVsbG8=", declared), "p").mime == mime


def test_t25_line_breaks_the_other_alphabet_and_missing_padding_are_mended() -> None:
    data = b64encode(b"\x89PNG\r\n\x1a\n" + b"\xfb\xff\xfe" * 9).decode()
    broken = "\r\n".join(data[i : i + 20] for i in range(0, len(data), 20)).replace("+", "-").replace("/", "_")
    assert normalised(_inline(broken.rstrip("="), "image/png"), "p").data == data


def test_media_that_is_right_already_is_not_copied() -> None:
    media = _inline(PNG, "image/png")
    assert normalised(media, "p") is media


def test_a_pdf_in_the_place_of_an_image_is_a_document() -> None:
    assert normalised(_inline(PDF, "image/png"), "p").kind is MediaKind.DOCUMENT


@pytest.mark.parametrize("data", ["", " \n", "é", "%%%%"])
def test_what_is_no_base64_is_the_clients_fault(data: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        normalised(_inline(data, "image/png"), "messages.2.content.0")
    assert caught.value.param == "messages.2.content.0"


@pytest.mark.parametrize(
    ("target", "media"),
    [
        (_CHAT, _inline("aGVsbG8=", "image/tiff")),
        (_MESSAGES, _inline("aGVsbG8=", "image/bmp")),
        (_GEMINI, _inline(GIF, "image/gif")),
        (_MESSAGES, _inline("aGVsbG8=", "application/msword", MediaKind.DOCUMENT)),
        (_RESPONSES, _inline("aGVsbG8=", None)),
    ],
)
def test_t25_types_that_the_target_does_not_read_are_refused_by_name(target: WireFormat, media: Media) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        _fit(media, _profile(target))
    assert (media.mime or "unknown") in caught.value.message
    assert "the-model" in caught.value.message
    assert caught.value.param == "messages.0.content.1"


@pytest.mark.parametrize("target", [_CHAT, _RESPONSES, _MESSAGES, _GEMINI])
def test_t26_a_pdf_reaches_every_target_that_takes_documents(target: WireFormat) -> None:
    media = _inline(PDF, "application/pdf", MediaKind.DOCUMENT)
    assert _fit(media, _profile(target, takes=_EVERYTHING)) is media


@pytest.mark.parametrize(("kind", "data"), [(MediaKind.IMAGE, PNG), (MediaKind.DOCUMENT, PDF)])
def test_t27_a_text_only_target_gets_a_note_in_earlier_turns_and_refuses_now(kind: MediaKind, data: str) -> None:
    media = msgspec.structs.replace(_inline(data, None, kind), cache=CACHE_MARK)
    profile = _profile(_CHAT, takes=frozenset())
    assert _fit(media, profile, is_live=False) == Text(f"[{kind} omitted]", cache=CACHE_MARK)
    with pytest.raises(UnsupportedFeature) as caught:
        _fit(media, profile)
    assert kind.value in caught.value.message


@pytest.mark.parametrize(("kind", "data"), [(MediaKind.AUDIO, WAV), (MediaKind.VIDEO, "aGVsbG8=")])
@pytest.mark.parametrize("is_live", [True, False])
def test_audio_and_video_are_refused_wherever_they_stand(kind: MediaKind, data: str, is_live: bool) -> None:
    with pytest.raises(UnsupportedFeature, match=kind.value):
        _fit(_inline(data, f"{kind}/mp4", kind), _profile(_MESSAGES), is_live=is_live)


def test_t24_a_data_url_in_the_place_of_an_address_is_inline() -> None:
    media = Media(MediaKind.IMAGE, SourceKind.URL, f"data:image/png;base64,{PNG}")
    assert _fit(media, _profile(_GEMINI)) == _inline(PNG, "image/png")
    with pytest.raises(InvalidRequest):
        _fit(msgspec.structs.replace(media, data="data:image/png,abc"), _profile(_GEMINI))


_CAT = Media(MediaKind.IMAGE, SourceKind.URL, "https://example.com/cat")
_PAPER = Media(MediaKind.DOCUMENT, SourceKind.URL, "HTTPS://example.com/paper")


def _request(*blocks: Media | ToolResult, origin: WireFormat = WireFormat.OTHER) -> Request:
    return Request(origin, "m", (Message(Role.USER, blocks),))


@pytest.mark.parametrize(
    ("target", "urls"),
    [
        (_CHAT, (_PAPER.data,)),
        (_RESPONSES, ()),
        (_MESSAGES, ()),
        (_GEMINI, (_PAPER.data, _CAT.data)),
        (_OLLAMA, (_PAPER.data, _CAT.data)),
    ],
)
def test_t24_addresses_are_fetched_for_targets_that_take_none(target: WireFormat, urls: tuple[str, ...]) -> None:
    request = _request(_PAPER, ToolResult("a", (_CAT, _PAPER)), _CAT)
    assert urls_to_fetch(request, _profile(target, takes=_EVERYTHING)) == urls


def test_nothing_is_fetched_for_the_own_format_or_for_what_is_not_read() -> None:
    assert urls_to_fetch(_request(_CAT, origin=_GEMINI), _profile(_GEMINI)) == ()
    assert urls_to_fetch(_request(_PAPER), _profile(_OLLAMA)) == ()
    other = msgspec.structs.replace(_CAT, data="gs://bucket/cat.png")
    assert urls_to_fetch(_request(other), _profile(_GEMINI)) == ()


def test_t24_what_was_fetched_takes_the_place_of_its_address_everywhere() -> None:
    request = _request(_PAPER, ToolResult("a", (_CAT,)), _CAT)
    filled = with_fetched(request, {_CAT.data: ("image/png", PNG)})
    image = _inline(PNG, "image/png")
    assert filled == _request(_PAPER, ToolResult("a", (image,)), image)
    assert with_fetched(request, {}) is request
    assert with_fetched(request, {"https://other": ("image/png", PNG)}).messages[0] is request.messages[0]


def test_an_address_that_nobody_fetched_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match="address"):
        _fit(_CAT, _profile(_GEMINI))


def test_addresses_inside_another_vendor_are_refused() -> None:
    with pytest.raises(UnsupportedFeature):
        _fit(msgspec.structs.replace(_CAT, data="gs://bucket/cat.png"), _profile(_CHAT))


def test_file_ids_stay_with_their_vendor() -> None:
    media = Media(MediaKind.DOCUMENT, SourceKind.FILE_ID, "file-1")
    own = _profile(_RESPONSES, is_vendor=True)
    assert _fit(media, own, origin=_CHAT) is media
    for profile, origin in (
        (_profile(_RESPONSES), _CHAT),
        (own, _MESSAGES),
        (_profile(_MESSAGES, is_vendor=True), _CHAT),
    ):
        with pytest.raises(UnsupportedFeature, match="file"):
            _fit(media, profile, origin=origin)


def test_plain_text_documents_are_text_for_all_but_messages() -> None:
    media = Media(MediaKind.DOCUMENT, SourceKind.TEXT, "to do", "text/plain", 'a "list"', cache=CACHE_MARK)
    assert _fit(media, _profile(_MESSAGES)) is media
    text = Text("<document name=\"a 'list'\">\nto do\n</document>", cache=CACHE_MARK)
    assert _fit(media, _profile(_CHAT, takes=frozenset())) == text
    unnamed = msgspec.structs.replace(media, name=None, cache=None)
    assert _fit(unnamed, _profile(_GEMINI)) == Text("<document>\nto do\n</document>")


def test_text_files_are_read_for_targets_that_take_only_pdf() -> None:
    media = Media(MediaKind.DOCUMENT, SourceKind.INLINE, b64encode("ä,b".encode()).decode(), "text/csv", "t.csv")
    assert _fit(media, _profile(_CHAT)) == Text('<document name="t.csv">\nä,b\n</document>')
    plain = msgspec.structs.replace(media, source=SourceKind.TEXT, data="ä,b", mime="text/plain")
    assert _fit(media, _profile(_MESSAGES)) == plain
    assert _fit(media, _profile(_GEMINI)) is media
    assert _fit(media, _profile(_RESPONSES)) is media


def test_a_text_file_that_is_no_text_is_refused() -> None:
    media = _inline(b64encode(b"\xff\xfe\xfd").decode(), "text/plain", MediaKind.DOCUMENT)
    with pytest.raises(UnsupportedFeature, match="text/plain"):
        _fit(media, _profile(_MESSAGES))

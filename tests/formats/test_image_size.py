"""Sizes of images from the heads of their files."""

from __future__ import annotations

from base64 import b64encode
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.image_size import size_of

_PNG = b"\x89PNG\r\n\x1a\n" + pack(">I4sII", 13, b"IHDR", 640, 480) + b"\x08\x02\x00\x00\x00"
_GIF = b"GIF89a" + pack("<HH", 640, 480) + b"\x00"
_VP8X = b"RIFF\x00\x00\x00\x00WEBPVP8X" + pack("<I", 10) + b"\0\0\0\0" + pack("<I", 639)[:3] + pack("<I", 479)[:3]
_VP8L = b"RIFF\x00\x00\x00\x00WEBPVP8L" + pack("<I", 9) + b"\x2f" + pack("<I", 639 | 479 << 14)
_VP8 = b"RIFF\x00\x00\x00\x00WEBPVP8 " + pack("<I", 9) + b"\0\0\0\x9d\x01\x2a" + pack("<HH", 640, 480)
_FRAME = b"\xff\xc2\x00\x11\x08" + pack(">HH", 480, 640) + b"\x03"
_JPEG = b"\xff\xd8\xff\xe0" + pack(">H", 16) + b"JFIF\0" + bytes(9) + b"\xff\xff\xdb" + pack(">H", 4) + b"ab" + _FRAME
_PREVIEWED = b"\xff\xd8\xff\xe1" + pack(">H", 60_000) + bytes(59_998) + _FRAME


@pytest.mark.parametrize("head", [_PNG, _GIF, _VP8X, _VP8L, _VP8, _JPEG, _PREVIEWED])
def test_the_size_stands_in_the_head(head: bytes) -> None:
    assert size_of(b64encode(head).decode()) == (640, 480)
    assert size_of(b64encode(head + bytes(200_000)).decode()) == (640, 480)


@pytest.mark.parametrize("head", [_PNG, _GIF, _VP8X, _VP8L, _VP8, _JPEG])
def test_a_head_that_is_cut_off_says_nothing(head: bytes) -> None:
    for length in range(len(head) - 6):
        assert size_of(b64encode(head[:length]).decode()) is None


@given(st.binary(max_size=80), st.sampled_from([b"", _PNG[:8], b"GIF8", b"\xff\xd8\xff", b"RIFF....WEBPVP8 "]))
def test_nonsense_is_no_failure(tail: bytes, head: bytes) -> None:
    found = size_of(b64encode(head + tail).decode())
    assert found is None or min(found) > 0


@pytest.mark.parametrize("data", ["", "!", "abc", "é", "https://example.com/a.png"])
def test_what_is_no_base64_says_nothing(data: str) -> None:
    assert size_of(data) is None

"""Lines of JSON, cut out of a byte stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.lines import LineCutter, split_lines
from omniroute.formats.sse import MAX_EVENT_BYTES


@given(st.lists(st.binary(max_size=6)))
def test_t51_only_whole_lines_leave_and_nothing_is_lost(pieces: list[bytes]) -> None:
    cutter = LineCutter()
    out = [cutter.feed(piece) for piece in pieces]
    assert all(not piece or piece.endswith(b"\n") for piece in out)
    assert b"".join(out) + cutter.rest == b"".join(pieces)
    assert b"\n" not in cutter.rest


def test_lines_keep_their_ends() -> None:
    assert list(split_lines(b"a\r\n\nb\n")) == [b"a\r\n", b"\n", b"b\n"]
    assert list(split_lines(b"")) == []


def test_t69_a_line_has_a_limit_however_it_comes() -> None:
    assert LineCutter().feed(b"x" * MAX_EVENT_BYTES) == b""
    cutter = LineCutter()
    for _ in range(MAX_EVENT_BYTES // 1000):
        assert cutter.feed(b"x" * 1000) == b""
    with pytest.raises(UpstreamProtocolError):
        cutter.feed(b"x" * 1000)

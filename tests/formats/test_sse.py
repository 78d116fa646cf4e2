"""Cutting event streams at any byte gives the same events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.sse import MAX_EVENT_BYTES, EventCutter, event_data, split_events

_LINES = st.sampled_from(["data: a", "data:é€😀", "event: x", ": comment", "id: 1", "data"])
_EVENTS = st.lists(st.lists(_LINES, min_size=1, max_size=3), min_size=1, max_size=6)


@given(_EVENTS, st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_events_are_the_same_at_every_cut(events: list[list[str]], end: str, data: st.DataObject) -> None:
    text = "".join(end.join(lines) + end + end for lines in events).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    cutter = EventCutter()
    pieces = [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    seen = [event for piece in pieces for event in split_events(cutter.feed(piece))]
    # A last CR could be half of a CRLF, so the event that it ends is complete only once more arrives.
    rest = cutter.rest
    assert b"".join(seen) + rest == text
    assert len(seen) + (1 if rest else 0) == len(events)
    assert (not rest) or end == "\r"


def test_byte_by_byte_forwards_whole_events_only() -> None:
    text = "data: héllo\n\ndata: wörld\n\n".encode()
    cutter = EventCutter()
    out = [cutter.feed(text[i : i + 1]) for i in range(len(text))]
    assert [piece for piece in out if piece] == ["data: héllo\n\n".encode(), "data: wörld\n\n".encode()]


def test_an_unterminated_event_stays_behind() -> None:
    cutter = EventCutter()
    assert cutter.feed(b"data: 1\n\ndata: 2\n") == b"data: 1\n\n"
    assert cutter.rest == b"data: 2\n"


def test_a_byte_order_mark_is_dropped() -> None:
    assert EventCutter().feed(b"\xef\xbb\xbfdata: 1\n\n") == b"data: 1\n\n"


def test_a_byte_order_mark_is_dropped_at_any_cut() -> None:
    cutter = EventCutter()
    assert b"".join(cutter.feed(bytes([byte])) for byte in b"\xef\xbb\xbfdata: 1\n\n") == b"data: 1\n\n"


@given(_EVENTS, st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=40, max_size=40), st.data())
def test_line_ends_may_be_mixed(events: list[list[str]], ends: list[str], data: st.DataObject) -> None:
    """A CR and an LF that stand for two line ends would be one, so none is put before the other."""
    lines = [line for event in events for line in (*event, "")]
    text = ""
    for line, end in zip(lines, ends, strict=False):
        text += line + ("\r\n" if end == "\n" and not line and text.endswith("\r") else end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text.encode())), max_size=8)))
    cutter = EventCutter()
    whole = text.encode()
    pieces = [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    seen = b"".join(cutter.feed(piece) for piece in pieces)
    assert seen + cutter.rest == whole
    waiting = [event for event in split_events(cutter.rest) if event.strip()]
    assert len(waiting) <= 1


def test_an_endless_event_is_refused() -> None:
    cutter = EventCutter()
    for _ in range(MAX_EVENT_BYTES // 65_536):
        cutter.feed(b"x" * 65_536)
    with pytest.raises(UpstreamProtocolError):
        cutter.feed(b"x" * 65_536)


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: a\n\n", b"a"),
        (b"data:a\r\ndata:  b\r\n\r\n", b"a\n b"),
        (b": ping\n\n", b""),
        (b"event: x\ndata: {}\n\n", b"{}"),
    ],
)
def test_data_of_an_event(event: bytes, data: bytes) -> None:
    assert event_data(event) == data

"""Going on with a torn text: what is repeated goes, what follows gets its place, tokens add up, in any split."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.canonical import Block, Stop, Text, Thinking, ToolCall
from omniroute.formats.changes import Changes
from omniroute.formats.estimates import Estimates
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Checked,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    StreamError,
    UsageUpdate,
)
from omniroute.formats.fold import Folder, unfold_block
from omniroute.formats.journal import Journal
from omniroute.formats.profile import profile_for
from omniroute.formats.seam import HELD, Seam, added, overlap
from omniroute.formats.usage import NOT_REPORTED, Usage
from omniroute.formats.way_back import WayBack
from omniroute.formats.wire import WireFormat

CHAT = WireFormat.OPENAI_CHAT
SENT = "The river runs down to the sea"


@pytest.mark.parametrize(
    ("sent", "text", "gap", "expected"),
    [
        (SENT, " and on.", "", 0),
        (SENT, "to the sea and on.", "", 10),
        (SENT, "the sea and on.", "", 0),  # seven characters may be chance
        (SENT, SENT + " and on.", "", len(SENT)),
        (SENT, "to the se", "", 0),
        (SENT, "to the sea", "", 10),
        (SENT + " ", " and on.", " ", 1),
        (SENT + " \n", "\nand on.", " \n", 1),
        (SENT + " \n", " \nand on.", " \n", 2),
        (SENT + " ", "and on.", " ", 0),
        (SENT + " ", "to the sea and on.", " ", 11),
        ("", "anything", "", 0),
        (SENT, "", "", 0),
        ("x" * 900, "x" * 900, "", HELD),
    ],
)
def test_what_is_repeated(sent: str, text: str, gap: str, expected: int) -> None:
    assert overlap(sent, text, gap) == expected


@given(st.text(min_size=8, max_size=60), st.text(max_size=60), st.integers(8, 60))
def test_a_repeated_end_is_found_whole(sent: str, more: str, size: int) -> None:
    repeated = sent[-size:]
    assert overlap(sent, repeated + more) >= len(repeated)


def new_seam(
    *, sent: str = SENT, index: int = 0, known: frozenset[str] = frozenset(), spent: Usage = NOT_REPORTED
) -> Seam:
    way_back = WayBack(Changes(known_ids=known), profile_for(CHAT, "m"), CHAT, "a" * 32)
    return Seam(way_back, Estimates(9, at_start=False), index=index, sent=sent, gap="", spent=spent)


def answer(*blocks: Block, usage: Usage | None = None, size: int = 5) -> list[Event]:
    """The events of an answer, its texts in pieces."""
    events: list[Event] = [MessageStart("b", "n")]
    for index, block in enumerate(blocks):
        for event in unfold_block(index, block):
            if isinstance(event, BlockDelta) and isinstance(event.value, str):
                value = event.value
                events += [BlockDelta(index, event.kind, value[at : at + size]) for at in range(0, len(value), size)]
            else:
                events.append(event)
    if usage is not None:
        events.append(UsageUpdate(usage))
    return [*events, MessageStop(Stop.END)]


def joined(first: Sequence[Block], seam: Seam, events: Sequence[Event], *, batch: int = 1) -> Folder:
    """Fold what a client sees of both; the last block of the first is torn."""
    seen: list[Event] = [MessageStart("a", "m")]
    for index, block in enumerate(first):
        seen += unfold_block(index, block)
    seen.pop()
    for start in range(0, len(events), batch):
        seen += seam.events(list(events[start : start + batch]))
    checked, folder = Checked(), Folder(CHAT)
    checked.see(seen)
    checked.end()
    folder.see(seen)
    return folder


CALL = ToolCall("c1", "f", "{}")


@pytest.mark.parametrize("batch", [1, 3, 1000])
@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ((Text(" and on."),), (Text(SENT + " and on."),)),
        ((Text("to the sea and on."),), (Text(SENT + " and on."),)),
        ((Text("to the sea" + " and on." * 90),), (Text(SENT + " and on." * 90),)),
        ((Text(""),), (Text(SENT),)),
        ((), (Text(SENT),)),
        ((Thinking("hm"), Text(" on")), (Text(SENT + " on"),)),
        ((Thinking("hm"), Thinking("hm"), CALL), (Text(SENT), CALL)),
        ((CALL,), (Text(SENT), CALL)),
        ((Text(" on"), CALL), (Text(SENT + " on"), CALL)),
        ((Text(" on"), Text("more"), CALL), (Text(SENT + " on"), Text("more"), CALL)),
        ((Text(" on"), Thinking("hm"), CALL), (Text(SENT + " on"), Thinking("hm"), CALL)),
    ],
)
def test_two_answers_become_one(blocks: tuple[Block, ...], expected: tuple[Block, ...], batch: int) -> None:
    stop = Stop.TOOL_USE if CALL in blocks else Stop.END
    for before in ((), (Thinking("first"),)):
        seam = new_seam(index=len(before))
        folder = joined((*before, Text(SENT)), seam, answer(*blocks), batch=batch)
        assert folder.so_far.blocks == (*before, *expected)
        assert folder.so_far.stop is stop
        assert seam.has_content
        assert seam.is_crossed


def test_a_call_gets_an_id_that_the_client_has_not_seen() -> None:
    folder = joined((Text(SENT),), new_seam(known=frozenset({"c1"})), answer(Text(" on"), CALL))
    (call,) = folder.so_far.calls
    assert call.id not in {"c1", ""}


def test_tokens_add_up() -> None:
    spent = Usage(input=10, output=4, cache_read=2, is_input_estimated=True)
    seam = new_seam(spent=spent)
    folder = joined((Text(SENT),), seam, answer(Text(" on"), usage=Usage(input=20, output=7, reasoning=3)))
    assert folder.usage == Usage(input=30, output=11, cache_read=2, reasoning=3, is_input_estimated=True) == seam.usage


def test_what_the_second_does_not_report_is_estimated() -> None:
    seam = new_seam(spent=Usage(input=10, output=4))
    folder = joined((Text(SENT),), seam, answer(Text(" and on.")))
    assert folder.usage == Usage(input=19, output=6, is_input_estimated=True, is_output_estimated=True)


def test_nothing_is_seen_of_a_second_that_fails_at_once() -> None:
    seam = new_seam(spent=Usage(input=10, output=4))
    events: list[Event] = [
        MessageStart("b", "n", None, Usage(input=20)),
        UsageUpdate(Usage(input=20)),
        BlockStart(0, Text("")),
        StreamError(b"{}"),
    ]
    assert seam.events(events) == [StreamError(b"{}")]
    assert not seam.has_content
    assert not seam.is_crossed


def test_what_is_held_back_is_not_seen_of_one_that_fails_soon() -> None:
    seam = new_seam()
    seam.events([MessageStart("b", "n"), BlockStart(0, Text(""))])
    held = seam.events([BlockDelta(0, DeltaKind.TEXT, "x" * (HELD - 1))])
    assert held == []
    assert (seam.has_content, seam.is_crossed) == (True, False)
    assert seam.events([BlockDelta(0, DeltaKind.TEXT, "y")]) != []
    assert seam.is_crossed


@given(st.lists(st.sampled_from([None, 0, 3]), min_size=4, max_size=4))
def test_sums_of_counts(counts: list[int | None]) -> None:
    one, other = Usage(input=counts[0], output=counts[1]), Usage(input=counts[2], output=counts[3])
    total = added(one, other)
    assert total == added(other, one)
    assert (total.input is None) == (counts[0] is None and counts[2] is None)
    assert (total.output or 0) == (counts[1] or 0) + (counts[3] or 0)


def test_a_journal_knows_where_the_client_is() -> None:
    journal = Journal(CHAT)
    events: list[Event] = [
        MessageStart("a", "m"),
        *unfold_block(0, Thinking("hm")),
        *unfold_block(1, CALL),
        BlockStart(2, Text("")),
        BlockDelta(2, DeltaKind.TEXT, "so "),
    ]
    journal.see(events)
    assert (journal.is_torn_in_text, journal.text, journal.all_text) == (True, "so ", "so ")
    assert journal.call_ids == {"c1"}
    assert journal.characters == len("hm{}so ")
    assert [event for event in journal.replay() if not isinstance(event, MessageStart)] == events[1:]
    journal.see([BlockStop(2)])
    assert not journal.is_torn_in_text


@pytest.mark.parametrize("block", [Thinking(""), ToolCall("c1", "f", "")])
def test_what_is_no_text_cannot_be_gone_on_with(block: Block) -> None:
    journal = Journal(CHAT)
    journal.see([MessageStart("a", "m"), *unfold_block(0, Text("hello")), BlockStart(1, block)])
    assert not journal.is_torn_in_text

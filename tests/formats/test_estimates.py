"""Usage that providers leave out: estimated, flagged, replaced."""

from __future__ import annotations

import msgspec

from omniroute.formats.canonical import Answer, Message, Request, Role, Stop, Text
from omniroute.formats.estimates import Estimates, completed, prompt_tokens
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    UsageUpdate,
)
from omniroute.formats.usage import NOT_REPORTED, Usage
from omniroute.formats.wire import WireFormat

REQUEST = Request(WireFormat.OPENAI_CHAT, "m", (Message(Role.USER, (Text("x" * 400),)),))
START = MessageStart("i", "m")
BODY: list[Event] = [
    BlockStart(0, Text("")),
    BlockDelta(0, DeltaKind.TEXT, "y" * 40),
    BlockStop(0),
]
STOP = MessageStop(Stop.END)


def used(events: list[Event]) -> Usage:
    total = NOT_REPORTED
    for event in events:
        known = event.usage if isinstance(event, UsageUpdate | MessageStart) else None
        if known is not None:
            total = total.merge(known)
    return total


def test_t41_nothing_reported_is_estimated_and_flagged() -> None:
    events = Estimates(prompt_tokens(REQUEST), at_start=False).events([START, *BODY, STOP])
    assert used(events) == Usage(input=104, output=10, is_input_estimated=True, is_output_estimated=True)
    assert events[-1] == STOP


def test_t41_what_is_reported_replaces_the_estimate() -> None:
    estimates = Estimates(prompt_tokens(REQUEST), at_start=True)
    first = estimates.events([START])
    assert used(first) == Usage(input=104, is_input_estimated=True)
    rest = estimates.events([*BODY, UsageUpdate(Usage(input=7, output=3)), STOP])
    assert used([*first, *rest]) == Usage(input=7, output=3)


def test_a_stream_that_reports_is_left_alone() -> None:
    events: list[Event] = [START, *BODY, UsageUpdate(Usage(input=7, output=0)), STOP]
    assert Estimates(prompt_tokens(REQUEST), at_start=False).events(events) is events


def test_a_whole_answer() -> None:
    answer = Answer(WireFormat.OPENAI_CHAT, "i", "m", (Text("y" * 40),), Stop.END, usage=Usage(output=3))
    assert completed(answer, REQUEST).usage == Usage(input=104, output=3, is_input_estimated=True)
    whole = msgspec.structs.replace(answer, usage=Usage(input=1, output=1))
    assert completed(whole, REQUEST) is whole


def test_an_empty_prompt_costs_next_to_nothing() -> None:
    assert prompt_tokens(Request(WireFormat.OPENAI_CHAT, "m", ())) == 0

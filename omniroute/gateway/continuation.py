"""Finishing an answer that broke off after its content had begun: another candidate goes on inside the same stream.

Once per request, and only where the operator wants it. What the client has must be a text that is open, long enough to
go on from and short enough to be worth it. The other candidate is asked in its own format: with the text put into its
mouth where it goes on from that, else with an instruction behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.canonical import Answer, Block, Message, Request, Role, Text, ToolCall
from omniroute.formats.codec import StreamParser
from omniroute.formats.estimates import Estimates, prompt_tokens, settled
from omniroute.formats.foreign import call_as_text
from omniroute.formats.losses import SPELLING
from omniroute.formats.reasoning import is_wanted
from omniroute.formats.seam import Seam
from omniroute.formats.translate import UPSTREAMS, ErrorInside, Whole
from omniroute.formats.usage import Usage
from omniroute.formats.way_back import WayBack
from omniroute.formats.wire import WireFormat
from omniroute.gateway.continuable import Continuable, LastEnd
from omniroute.gateway.dialects import RelayedStream, Trailer
from omniroute.gateway.directory import Target
from omniroute.gateway.exchange import Exchange, Inquiry, Translation
from omniroute.gateway.handover import OpenStream
from omniroute.gateway.leg import Trailer as StreamTrailer
from omniroute.providers.profiles import preferred_format
from omniroute.providers.requests import Endpoint
from omniroute.routing.failures import Failure, FailureClass

LEAST_CHARACTERS: Final = 32
MOST_OF_OUTPUT: Final = 0.6
INSTRUCTION: Final = (
    "Your last message was cut off. Go on exactly where its text stops, as if there had been no interruption: do not "
    "repeat any of it, do not comment on this, and do not begin anew."
)

_LIMITS: Final = frozenset({f"{SPELLING}max_tokens", f"{SPELLING}max_completion_tokens"})
"""Where a Chat request keeps the limit of its output as the client wrote it."""


@dataclass(frozen=True, slots=True)
class Torn:
    """An answer that broke off.

    Attributes:
        framed: the stream that the client is given, in its framing; `continuable` is inside.
        used: tokens of its output.
        spent: all its tokens, estimated where its provider had not said.
    """

    framed: RelayedStream
    continuable: Continuable
    answer: Answer
    used: int
    spent: Usage

    @property
    def offset(self) -> int:
        """How many characters the client has."""
        return len(self.continuable.journal.all_text)

    @property
    def has_calls(self) -> bool:
        """Whether it calls tools beside its text."""
        return any(isinstance(block, ToolCall) for block in self.answer.blocks)

    def blocks(self) -> tuple[Block, ...]:
        """Return what another model is told of it: no reasoning, no tokens, calls as words."""
        told: list[Block] = []
        for block in self.answer.blocks:
            if isinstance(block, Text) and block.text:
                told.append(Text(block.text))
            elif isinstance(block, ToolCall):
                told.append(call_as_text(block))
        return tuple(told)


def torn_of(opened: OpenStream, inquiry: Inquiry) -> Torn | None:
    """Return an answer as one that somebody else may finish; None where nobody may."""
    continuable = opened.continuable
    if continuable is None or not continuable.journal.is_torn_in_text:
        return None
    try:
        request = inquiry.request
    except OmniRouteError:  # it was passed on unread
        return None
    if request.n not in (None, 1) or request.output is not None or request.audio_output is not None:
        return None
    journal = continuable.journal
    if len(journal.all_text) < LEAST_CHARACTERS:
        return None
    reported = continuable.usage
    spent = settled(reported, prompt=prompt_tokens(request), characters=journal.characters, is_whole=False)
    used = spent.output or 0
    if request.max_output is not None and used > MOST_OF_OUTPUT * request.max_output:
        return None
    return Torn(opened.stream, continuable, journal.answer, used, spent)


class LastPart(Translation):
    """The request for the rest of an answer, and the rest as the end of the client's stream."""

    def __init__(self, inquiry: Inquiry, target: Target, endpoint: Endpoint, torn: Torn) -> None:
        super().__init__(inquiry, target, endpoint)
        self._torn = torn
        self._gap = ""
        """White space at the end of the text that the model is not shown."""

    def asked(self) -> Request:
        """Return the conversation with what has been said, and what is to come."""
        request, torn = super().asked(), self._torn
        blocks = torn.blocks()
        messages = [*request.messages]
        if self._takes_prefix(request):
            *before, last = blocks
            assert isinstance(last, Text)  # noqa: S101 - the open text
            text = last.text.rstrip()
            self._gap = last.text[len(text) :]
            messages.append(Message(Role.ASSISTANT, (*before, Text(text))))
        else:
            messages += (Message(Role.ASSISTANT, blocks), Message(Role.USER, (Text(INSTRUCTION),), plain=True))
        request = msgspec.structs.replace(request, messages=tuple(messages))
        return request if request.max_output is None else _limited(request, max(1, request.max_output - torn.used))

    def _takes_prefix(self, request: Request) -> bool:
        return (
            self.format is WireFormat.ANTHROPIC_MESSAGES
            and self.profile.takes_prefill
            and is_wanted(request.reasoning) is not True
            and not self._torn.has_calls
            and bool(self._torn.continuable.journal.text.strip())
        )

    def way_back(self) -> WayBack:
        """See :class:`Translation`; calls get ids that the client has not seen."""
        seen = self._torn.continuable.journal.call_ids
        if seen:
            known = self._changes.known_ids | seen
            self._changes = msgspec.structs.replace(self._changes, known_ids=known)
        return super().way_back()

    def stream(self, trailer: Trailer, continuable: Continuable | None = None) -> RelayedStream:
        """See :class:`Exchange`."""
        del trailer, continuable  # those of the stream that goes on
        return self._go_on(UPSTREAMS[self.format].new_parser())

    def replayed(self, body: bytes, trailer: Trailer) -> tuple[RelayedStream, bytes]:
        """See :class:`Exchange`."""
        del trailer
        answer = UPSTREAMS[self.format].parse_answer(body)
        if answer is None:
            raise ErrorInside(body)
        stream = self._go_on(Whole(answer))
        return stream, stream.feed(b"")

    def _go_on(self, parser: StreamParser) -> RelayedStream:
        inquiry, torn = self._inquiry, self._torn
        continuable = torn.continuable
        journal = continuable.journal
        assert journal.open is not None  # noqa: S101 - the open text
        estimates = Estimates(prompt_tokens(self.asked()), at_start=False)
        seam = Seam(
            self.way_back(), estimates, index=journal.open[0], sent=journal.text, gap=self._gap, spent=torn.spent
        )
        if isinstance(continuable.trailer, StreamTrailer):
            continuable.trailer.note_seam(torn.offset, self._target, seam)
        continuable.go_on(parser, seam, inquiry.dialect.new_renderer, inquiry.reply(continuable.trailer))
        return LastEnd(torn.framed, seam)


def _limited(request: Request, limit: int) -> Request:
    """Return the request with another limit of its output, also where it keeps the client's spelling of that."""
    extra = request.extra
    if any(name in extra for name in _LIMITS):
        spelt = msgspec.Raw(str(limit).encode())
        extra = {name: spelt if name in _LIMITS else value for name, value in extra.items()}
    return msgspec.structs.replace(request, max_output=limit, extra=extra)


def last_part_of(inquiry: Inquiry, target: Target, torn: Torn) -> Exchange | None:
    """Return how to ask a target for the rest of an answer; None when it speaks no format that we do."""
    spoken = inquiry.dialect.format
    if spoken not in target.endpoints:
        preferred = preferred_format(target.provider, target.endpoints)
        if preferred is None:
            return None
        spoken = preferred
    return LastPart(inquiry, target, target.endpoints[spoken], torn)


class Continuation:
    """What may still be done for a stream that breaks off; holds its request for that."""

    def __init__(
        self, opened: OpenStream, inquiry: Inquiry, finish: Callable[[Torn, Failure], OpenStream | None]
    ) -> None:
        """`finish` has another candidate asked for the rest."""
        self._opened = opened
        self._inquiry = inquiry
        self._finish = finish
        self._begun: tuple[Torn, Failure] | None = None

    def may_begin(self, failure: Failure) -> bool:
        """Say whether somebody else may finish the answer, once."""
        if self._begun is not None or failure.failure_class is not FailureClass.TRANSIENT:
            return False
        torn = torn_of(self._opened, self._inquiry)
        if torn is None:
            return False
        self._begun = torn, failure
        return True

    def drive(self) -> OpenStream | None:
        """Ask for the rest; None when nobody gives it. In a greenlet of its own, like everything before the content."""
        assert self._begun is not None  # noqa: S101 - see `may_begin`
        return self._finish(*self._begun)

    def give_up(self) -> bool:
        """Leave it torn; say whether the client has seen nothing of an attempt to mend it."""
        assert self._opened.continuable is not None  # noqa: S101 - it is made for such streams
        return self._opened.continuable.give_up()

"""One candidate being asked: from the request that it gets to the point at which it serves, or to its failure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from omniroute.errors import (
    InternalError,
    OmniRouteError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UrlBlocked,
)
from omniroute.formats.error_shapes import is_error_body
from omniroute.formats.estimates import settled
from omniroute.formats.passthrough import spoken_in
from omniroute.formats.seam import Seam
from omniroute.formats.translate import ErrorInside
from omniroute.formats.usage import NOT_REPORTED, Usage
from omniroute.gateway.answers import (
    CANCELLED,
    MAX_ANSWER_BYTES,
    failure_of,
    in_ascii,
    is_json_object,
    read_all,
    says_stream,
    upstream_id,
    without_secrets,
)
from omniroute.gateway.charges import Metered, metered
from omniroute.gateway.clocks import Clocks
from omniroute.gateway.continuable import Continuable
from omniroute.gateway.directory import Target
from omniroute.gateway.exchange import Exchange, Inquiry, exchange_with, exchange_without_tokens
from omniroute.gateway.features import length_of
from omniroute.gateway.handover import Call, OpenStream, WholeAnswer
from omniroute.gateway.knobs import Refusals, droppable, without
from omniroute.gateway.patience import extended, extension_s
from omniroute.gateway.ports import ReadTimeout, UpstreamResponse
from omniroute.gateway.refusal import target_of
from omniroute.gateway.validation import problem_of
from omniroute.providers import classify, requests
from omniroute.providers.upstream import Deadlines, UpstreamRequest
from omniroute.records import AttemptRecord
from omniroute.routing.attempts import Candidate, Kind
from omniroute.routing.config import DEFAULTS, ComboConfig
from omniroute.routing.failures import INVALID_ANSWER, Failure, FailureClass, Scope, Sent

if TYPE_CHECKING:
    from omniroute.gateway.accounting import Settlement
    from omniroute.routing.recorder import Draft

_MAX_ERROR_BYTES: Final = 256 << 10
_ERROR_WAIT_S: Final = 10.0
"""How long the body of a refusal is waited for: its status says most, and the next target waits meanwhile."""
_UNSTREAMED: Final = re.compile(r"application/(?:[a-z.+-]*\+)?json|text/html|text/plain")
_ANSWERED_IN: Final = (
    b'"text":"',
    b'"content":"',
    b'"reasoning_content":"',
    b'"reasoning":"',
    b'"thinking":"',
    b'"arguments":"',
    b'"arguments":{',
    b'"partial_json":"',
    b'"refusal":"',
    b'"args":{',
    b'"delta":"',
    b'"input":{',
)
"""See `PassthroughStream.said_in`: of whole answers, in all formats."""
_UNREADABLE: Final = "The provider's answer is not readable text."

Served = WholeAnswer | OpenStream


class InvalidAnswer(Exception):
    """A whole answer is not what the operator asks for."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Rejection:
    """A provider's own words, fit to be passed on. It holds its failure, by whose identity it is found."""

    failure: Failure
    status: int
    body: bytes


def _unnoted(candidate: Candidate, status: int, headers: Mapping[str, str]) -> None:
    del candidate, status, headers


@dataclass(slots=True)
class Errand:
    """What all attempts of one request share.

    Attributes:
        deadline: on the monotonic clock `now`: when all of them must be through.
        is_hurried: the caller or the operator set that limit for this request.
        is_mendable: somebody else may finish a stream that breaks off.
        number: attempts that were begun.
        note_answer: told of the status and headers of every answer.
        rejections: by the identity of their failure.
    """

    call: Call
    inquiry: Inquiry
    settlement: Settlement
    send: Callable[[UpstreamRequest], UpstreamResponse]
    clocks: Clocks
    now: Callable[[], float]
    wall: Callable[[], float]
    sends_comments: bool
    knobs: Refusals
    deadline: float
    config: ComboConfig = DEFAULTS
    is_hurried: bool = False
    is_mendable: bool = False
    number: int = 0
    note_answer: Callable[[Candidate, int, Mapping[str, str]], None] = _unnoted
    rejections: dict[int, Rejection] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Try:
    """One exchange with the provider: a leg may need two. Milliseconds since the request began."""

    started_ms: float
    connected_ms: float | None
    content_ms: float | None
    ended_ms: float
    failure: Failure | None
    status: int | None


@dataclass(slots=True)
class _Clock:
    """Moments of one attempt, in milliseconds since the request began."""

    started_ms: float
    connected_ms: float | None = None
    content_ms: float | None = None


class Leg:
    """One candidate, asked once; and once more where its refusal says what to leave out.

    Attributes:
        started_at: epoch seconds.
    """

    def __init__(
        self,
        errand: Errand,
        candidate: Candidate,
        kind: Kind,
        exchange_of: Callable[[Inquiry, Target], Exchange | None] = exchange_with,
    ) -> None:
        """`exchange_of` says how the target is asked."""
        self.candidate = candidate
        self.kind = kind
        self.started_at = errand.wall()
        self._errand = errand
        self._exchange_of = exchange_of
        self._target = target_of(candidate)
        self._tries: list[_Try] = []
        self._usage: Usage = NOT_REPORTED
        """What was used without serving anybody."""
        self._upstream_id: str | None = None
        self._headers_due_at: float | None = None
        self._before_content_s = 0.0
        self._said: tuple[str, tuple[str, ...]] = ("", ())
        self._format = ""

    def run(self) -> Served | Failure:
        """Ask.

        Raises:
            OmniRouteError: the target cannot be asked this, or the fault is ours.
        """
        outcome = self._attempt()
        if isinstance(outcome, Failure) and self.kind is not Kind.CONTINUATION:
            return self._mended(outcome)
        return outcome

    def note(self, draft: Draft) -> None:
        """Write what happened into the books of the request."""
        candidate, target = self.candidate, self._target
        cost = None
        if self._tries and self._tries[-1].failure is not None and self._usage is not NOT_REPORTED:
            cost = self._errand.settlement.charge(target, self._usage, self.kind.value, self._upstream_id)
        for one in self._tries:
            failure = one.failure
            self._errand.settlement.add_attempt(
                AttemptRecord(
                    provider=target.provider.prefix,
                    connection_id=target.connection_id,
                    model=target.model,
                    status=one.status,
                    failure_class=None if failure is None else failure.failure_class.value,
                    kind=None if failure is None else failure.kind,
                    started_ms=one.started_ms,
                    connected_ms=one.connected_ms,
                    first_content_ms=one.content_ms,
                    ended_ms=one.ended_ms,
                )
            )
            draft.attempt(
                candidate.option.name,
                candidate.account.id,
                started_ms=one.started_ms,
                ended_ms=one.ended_ms,
                kind=self.kind.value,
                headers_ms=one.connected_ms,
                content_ms=one.content_ms,
                failure=failure,
                status=one.status,
                tokens=(self._usage.input, self._usage.output),
                cost_nano_usd=cost,
            )
        self._tries.clear()

    def serve(self, served: Served) -> None:
        """Let the books say that the client gets this answer."""
        usage = served.usage if isinstance(served, WholeAnswer) else served.stream.usage
        is_counted = usage.input is not None and not usage.is_input_estimated
        self._errand.settlement.serves(
            self._target,
            self.kind.value,
            # A provider that has not counted the prompt by now may never do it, and the request is gone by then.
            prompt_tokens=0 if is_counted else length_of(self._errand.inquiry),
            upstream_id=self._upstream_id,
        )

    # --- beside another one ------------------------------------------------------------------------------------------

    def win(self) -> None:
        """Let the books say that this one serves, whoever was asked after it."""
        self._note_target()
        self._errand.inquiry.warning, self._errand.inquiry.losses = self._said

    def lose(self, outcome: Served | Failure | Exception, *, prompt_tokens: int, has_won: bool = True) -> Failure:
        """Let the books say that it is not this one that serves; return what that means for the target.

        Args:
            outcome: what has come of it; `CANCELLED` where it was stopped.
            prompt_tokens: about how long the request is, for what the provider does not report.
            has_won: another one was faster. A provider that was stopped for that has had its time to read the
                request, whatever it says.
        """
        known = None
        if isinstance(outcome, OpenStream):
            known = metered(outcome.stream)
            outcome.response.close()
        elif isinstance(outcome, WholeAnswer):
            known = Metered(outcome.usage, outcome.characters)
        if isinstance(outcome, Failure) and outcome is not CANCELLED:
            return outcome
        failure = CANCELLED
        if self._headers_due_at is not None and self._errand.now() >= self._headers_due_at:
            failure = failure_of(UpstreamTimeout("headers"))
        if self._tries:
            self._tries[-1] = replace(self._tries[-1], failure=failure)
            if known is not None or has_won:
                known = known or Metered(NOT_REPORTED, is_whole=False)
                self._usage = self._settled(known, prompt_tokens)
        return failure

    # --- once more ---------------------------------------------------------------------------------------------------

    def _mended(self, refused: Failure) -> Served | Failure:
        """Ask a target once more where its refusal says what to leave out."""
        if self._errand.now() >= self._errand.deadline:
            return refused
        if refused.kind == "opaque_token":
            return self._again_without_tokens(refused)
        if refused.kind == "unsupported_param":
            return self._again_without_knob(refused)
        return refused

    def _again_without_knob(self, refused: Failure) -> Served | Failure:
        member = droppable(refused.param)
        if member is None or member in self._errand.knobs.of(self._target.name):
            return refused
        self._errand.knobs.note(self._target.name, member)
        return self._attempt()

    def _again_without_tokens(self, refused: Failure) -> Served | Failure:
        """Ask a target once more that refused an opaque token of the history, now without any."""
        try:
            exchange = exchange_without_tokens(self._errand.inquiry, self._target)
            if exchange is None:
                return refused
            outcome = self._attempt(exchange)
        except OmniRouteError:  # passed on unread before, and no request that could be said in another way
            return refused
        # The first refusal is about what the client sent.
        return refused if isinstance(outcome, Failure) and outcome.kind == refused.kind else outcome

    # --- one exchange ------------------------------------------------------------------------------------------------

    def _attempt(self, exchange: Exchange | None = None) -> Served | Failure:
        errand, target = self._errand, self._target
        errand.number += 1
        clock = _Clock(errand.settlement.elapsed_ms())
        exchange = exchange or self._exchange_of(errand.inquiry, target)
        if exchange is None:
            raise InternalError
        self._format = exchange.format.value
        self._note_target()
        response: UpstreamResponse | None = None
        failure: Failure | None = CANCELLED
        is_handed_over = False
        try:
            request = self._request(exchange)
            self._said = errand.inquiry.warning, errand.inquiry.losses
            began = errand.now()
            answer_by = began + request.deadlines.total_s
            self._headers_due_at = began + request.deadlines.connect_s + request.deadlines.headers_s
            response = errand.send(request)
            errand.note_answer(self.candidate, response.status, response.headers)
            self._headers_due_at = None
            self._upstream_id = upstream_id(response.headers)
            clock.connected_ms = errand.settlement.elapsed_ms()
            if response.status >= 300:  # no redirect is followed: it would carry the credential elsewhere
                failure = self._rejected(response, exchange)
                return failure
            if errand.inquiry.is_stream:
                left_s = began + self._before_content_s - errand.now()
                opened = self._read_until_content(response, exchange, min(request.deadlines.content_s, left_s))
                clock.content_ms = errand.settlement.elapsed_ms()
                is_handed_over = True
                failure = None
                return opened
            whole = self._read_whole(response, exchange, answer_by)
            failure = None
            return whole  # noqa: TRY300 -- the other ways out of this block return as well
        except ErrorInside as inside:
            assert response is not None  # noqa: S101 - it was read
            failure = self._classified(response.status, response.headers, inside.data, exchange)
            return failure
        except InvalidAnswer as invalid:
            failure = Failure(INVALID_ANSWER, FailureClass.UNKNOWN, message=invalid.problem, scope=Scope.TARGET)
            return failure
        except (UpstreamError, UrlBlocked) as error:
            failure = failure_of(error)
            return failure
        except (UnicodeDecodeError, RecursionError):
            if response is None:  # not while the provider's bytes were read
                raise
            failure = Failure("protocol", FailureClass.TRANSIENT, message=_UNREADABLE)
            return failure
        except OmniRouteError as error:
            failure = Failure(
                "untranslatable", FailureClass.CALLER_FAULT, message=error.message, sent=Sent.NONE, scope=Scope.REQUEST
            )
            raise
        except Exception:
            failure = Failure("internal", FailureClass.UNKNOWN, scope=Scope.REQUEST)
            raise
        finally:
            if response is not None and not is_handed_over:
                response.close()
            status = None if response is None else response.status
            ended_ms = errand.settlement.elapsed_ms()
            self._tries.append(_Try(clock.started_ms, clock.connected_ms, clock.content_ms, ended_ms, failure, status))

    def _note_target(self) -> None:
        record, target = self._errand.settlement.record, self._target
        record.provider, record.model = target.provider.prefix, target.model
        record.connection_id = target.connection_id
        record.upstream_format = self._format

    def _request(self, exchange: Exchange) -> UpstreamRequest:
        errand, target = self._errand, self._target
        body = exchange.body()
        if target.body_filter is not None:
            body = target.body_filter.apply(body, errand.inquiry.pause)
        refused = errand.knobs.of(target.name)
        if refused:
            body = without(body, refused)
        deadlines = errand.clocks.answer
        limit_ms = self.candidate.entry.config.target_timeout_ms
        if errand.inquiry.is_stream:
            deadlines = self._stretched(limit_ms / 1000)
        elif limit_ms != DEFAULTS.target_timeout_ms:  # a whole answer has no milestone: only who asks for it is hurried
            deadlines = deadlines.within(limit_ms / 1000)
        if errand.number > 1 or errand.is_hurried:  # what is left of the whole request is all that a target gets
            deadlines = deadlines.within(errand.deadline - errand.now())
        return requests.build(
            exchange.endpoint,
            model=target.model,
            body=body,
            client_headers=errand.call.client_headers if exchange.is_verbatim else (),
            stream=errand.inquiry.is_stream,
            deadlines=deadlines,
        )

    def _stretched(self, limit_s: float) -> Deadlines:
        """Return the limits of a stream at a target: what is large or hard may take longer to begin.

        `limit_s` is how long an attempt may take up to its first content, before that is stretched as well.
        """
        errand, target = self._errand, self._target
        effort = None if target.effort is None else target.effort.value
        extra_s = extension_s(errand.inquiry.top, effort=effort, model=target.model, is_local=target.is_local)
        self._before_content_s = limit_s + extra_s
        clocks = errand.clocks
        return extended(
            clocks.stream, extra_s, most_headers_s=clocks.most_headers_s, most_content_s=clocks.most_content_s
        )

    def _rejected(self, response: UpstreamResponse, exchange: Exchange) -> Failure:
        try:
            body = read_all(response, _ERROR_WAIT_S, _MAX_ERROR_BYTES, self._errand.now)
        except UpstreamError:
            body = b""  # the status was said, and speaks for itself
        return self._classified(response.status, response.headers, body, exchange)

    def _classified(self, status: int, headers: Mapping[str, str], body: bytes, exchange: Exchange) -> Failure:
        body = without_secrets(body, exchange.endpoint)
        failure = classify.classify(exchange.format, status, headers, body, now=self._errand.wall())
        if (
            exchange.is_verbatim
            and status >= 400
            and failure.failure_class is FailureClass.CALLER_FAULT
            and is_error_body(exchange.format, body)
        ):
            self._errand.rejections[id(failure)] = Rejection(failure, status, body)
        return failure

    def _read_whole(self, response: UpstreamResponse, exchange: Exchange, answer_by: float) -> WholeAnswer:
        body = self._read_body(response, answer_by)
        is_stream = says_stream(response)
        if self._errand.config.response_validation and not self._errand.inquiry.dialect.sub_path:
            self._validate(exchange, body, is_stream=is_stream)
        usage, read = exchange.whole(body, is_stream=is_stream)
        characters = spoken_in(body, _ANSWERED_IN) if usage.output is None else 0
        return WholeAnswer(response.status, read, usage, self._target, response.headers, characters)

    def _read_body(self, response: UpstreamResponse, answer_by: float) -> bytes:
        """Read a whole answer; of one that never comes to its end the part that came was generated all the same."""
        errand, parts = self._errand, list[bytes]()
        try:
            return read_all(response, answer_by - errand.now(), MAX_ANSWER_BYTES, errand.now, parts)
        except BaseException:
            if parts and parts[0].lstrip().startswith((b"{", b"data:", b"event:")):
                known = Metered(NOT_REPORTED, spoken_in(b"".join(parts), _ANSWERED_IN), is_whole=False)
                self._usage = self._settled(known, length_of(errand.inquiry))
            raise

    def _settled(self, known: Metered, prompt_tokens: int) -> Usage:
        return settled(known.usage, prompt=prompt_tokens, characters=known.characters, is_whole=known.is_whole)

    def _validate(self, exchange: Exchange, body: bytes, *, is_stream: bool) -> None:
        answer = exchange.answer(body, is_stream=is_stream)
        problem = problem_of(answer, self._errand.config.response_validation)
        if problem is not None:
            known = Metered(answer.usage, spoken_in(body, _ANSWERED_IN))
            self._usage = self._settled(known, length_of(self._errand.inquiry))
            raise InvalidAnswer(problem)

    def _read_until_content(self, response: UpstreamResponse, exchange: Exchange, within_s: float) -> OpenStream:
        target = self._target
        give_up_at = self._errand.now() + within_s
        if not says_stream(response) and _UNSTREAMED.match(response.headers.get("content-type", "").lower()):
            body = read_all(response, within_s, MAX_ANSWER_BYTES, self._errand.now)
            if not is_json_object(body):
                raise UpstreamProtocolError("The provider did not stream although a stream was asked for.")
            stream, frames = exchange.replayed(body, self._trailer())
            return OpenStream(response, stream, frames, target, exchange.endpoint, self._errand.now(), exchange.at_end)
        trailer, continuable = self._trailer(), None
        if self._errand.is_mendable and self.kind is not Kind.CONTINUATION:
            continuable = Continuable(exchange.format, self._errand.inquiry.dialect.format, trailer)
        stream = exchange.stream(trailer, continuable)
        while True:
            try:
                data = response.read(give_up_at - self._errand.now())
            except ReadTimeout:
                raise UpstreamTimeout("content") from None
            first = stream.feed(data) if data else stream.end()
            if stream.error and not stream.has_content:
                raise ErrorInside(stream.error)
            if stream.has_content:
                now = self._errand.now()
                return OpenStream(response, stream, first, target, exchange.endpoint, now, exchange.at_end, continuable)
            if not data:
                raise UpstreamProtocolError("The provider's stream ended before any content.")

    def _trailer(self) -> Trailer | Callable[[Usage], bytes]:
        """Return what writes the facts that are known only at the end of a stream."""
        errand = self._errand
        if not errand.sends_comments:
            return _no_trailer
        head = (
            f": x-omniroute-request-id={errand.call.request_id}\n"
            f": x-omniroute-model={in_ascii(self._target.name)}\n"
            f": x-omniroute-provider={in_ascii(self._target.provider.prefix)}\n"
        )
        return Trailer(head, errand.settlement, errand.number, self._target)


class Trailer:
    """Facts at the end of a stream, as comment lines. It lives as long as that, and so holds nothing of the request."""

    __slots__ = ("_continued", "_head", "_number", "_seam", "_settlement", "_target")

    def __init__(self, head: str, settlement: Settlement, number: int, target: Target) -> None:
        self._target = target
        self._seam: Seam | None = None
        self._continued = ""
        self._head = head
        self._settlement = settlement
        self._number = number

    def note_seam(self, offset: int, target: Target, seam: Seam) -> None:
        """Say that another target goes on with the answer after so many characters."""
        self._target, self._seam = target, seam
        self._number = self._settlement.attempts + 1
        name = in_ascii(target.name)
        self._continued = f": x-omniroute-continued={offset}\n: x-omniroute-continued-model={name}\n"

    def __call__(self, usage: Usage) -> bytes:
        """Return the lines."""
        tokens_in = "" if usage.input is None else f": x-omniroute-tokens-in={usage.input}\n"
        tokens_out = "" if usage.output is None else f": x-omniroute-tokens-out={usage.output}\n"
        # What has been noted may be more, by a hedge; an answer that is over at once has not been noted yet.
        attempts = max(self._number, self._settlement.attempts)
        told = self._settlement.quote(self._target, usage, self._seam)
        cost = "".join(f": {name.lower()}={value}\n" for name, value in told.items())
        tail = f": x-omniroute-attempts={attempts}\n{self._continued}\n"
        return f"{self._head}{tokens_in}{tokens_out}{cost}{tail}".encode("ascii")


def _no_trailer(usage: Usage) -> bytes:
    del usage
    return b""

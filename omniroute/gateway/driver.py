"""The driver's side of a run: try targets in turn until one serves, and read its answer up to the hand-over.

Runs in its own greenlet and owns the upstream until there is something to hand over: a whole answer, the first content
of a stream, or a failure. Knows nothing of the client's socket.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from omniroute.errors import (
    InternalError,
    OmniRouteError,
    UnsupportedFeature,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnreachable,
    UrlBlocked,
)
from omniroute.formats.error_shapes import is_error_body
from omniroute.formats.splice import scan
from omniroute.formats.token_count import count, estimate
from omniroute.formats.translate import ErrorInside
from omniroute.formats.usage import Usage
from omniroute.gateway.clocks import Clocks
from omniroute.gateway.directory import Target
from omniroute.gateway.exchange import Exchange, Inquiry, can_be_asked, exchange_with, exchange_without_tokens
from omniroute.gateway.faults import error_for
from omniroute.gateway.handover import Call, Handover, OpenStream, Refusal, WholeAnswer
from omniroute.gateway.knobs import Refusals, droppable, without
from omniroute.gateway.ports import ReadTimeout, UpstreamResponse
from omniroute.gateway.refusal import UNSUPPORTED, Situation, refusal, target_of
from omniroute.providers import classify, requests
from omniroute.providers.hints import spent_until
from omniroute.providers.profiles import preferred_format
from omniroute.providers.upstream import UpstreamRequest
from omniroute.records import AttemptRecord
from omniroute.routing.attempts import Attempt, Candidate, Kind, Outcome, PassedOver, Verdict, Wait
from omniroute.routing.failures import Failure, FailureClass, Scope, Sent, Success
from omniroute.routing.plan import Exclusion

if TYPE_CHECKING:
    from omniroute.gateway.accounting import Settlement
    from omniroute.gateway.router import Route

MAX_ANSWER_BYTES: Final = 64 << 20
_MAX_ERROR_BYTES: Final = 256 << 10
_ERROR_WAIT_S: Final = 10.0
"""How long the body of a refusal is waited for: its status says most, and the next target waits meanwhile."""
_LONGEST_WAKE_S: Final = 5.0
"""How long those who waited for the same cooldown may be held back for one another."""
_RATE_HEADER: Final = "ratelimit"
_LEAST_SECRET: Final = 8
"""Header values of a node count as secrets, but short ones (`1`, `true`) stand in many texts by chance."""
_UNSTREAMED: Final = re.compile(r"application/(?:[a-z.+-]*\+)?json|text/html|text/plain")


@dataclass(slots=True)
class _Clock:
    """Moments of one attempt, in milliseconds since the request began."""

    started_ms: float
    connected_ms: float | None = None
    content_ms: float | None = None


@dataclass(frozen=True, slots=True)
class _Rejection:
    """A provider's own words, fit to be passed on. It holds its failure, by whose identity it is found."""

    failure: Failure
    status: int
    body: bytes


class Driver:
    """Tries the candidates of one request."""

    def __init__(
        self,
        call: Call,
        inquiry: Inquiry,
        settlement: Settlement,
        *,
        send: Callable[[UpstreamRequest], UpstreamResponse],
        clocks: Clocks,
        started: float,
        now: Callable[[], float],
        wall: Callable[[], float],
        sleep: Callable[[float], None],
        sends_comments: bool,
        knobs: Refusals,
    ) -> None:
        """`started`: when the request began on the monotonic clock `now`; `wall` is the time of day in seconds."""
        self.stage = "connecting"
        self._call = call
        self._inquiry = inquiry
        self._settlement = settlement
        self._send = send
        self._clocks = clocks
        self._started = started
        self._now = now
        self._wall = wall
        self._sleep = sleep
        self._sends_comments = sends_comments
        self._knobs = knobs
        self._number = 0
        self._is_hurried = False
        self._is_woken = False
        self._deadline = started + clocks.before_commit_s
        self._route: Route | None = None
        self._tried: tuple[Candidate, Kind] | None = None
        self._unsupported: UnsupportedFeature | None = None
        self._rejections: dict[int, _Rejection] = {}

    def serve(self, route: Route) -> Handover:
        """Try the candidates of a route in turn.

        Raises:
            OmniRouteError: a fault of our own.
        """
        self._route = route
        before_commit_s = self._clocks.before_commit_s
        self._is_hurried = route.config.timeout_ms is not None
        if route.config.timeout_ms is not None:
            before_commit_s = min(before_commit_s, route.config.timeout_ms / 1000)
        self._deadline = self._started + before_commit_s
        loop = route.steps(lambda: self._deadline - self._now())
        served: WholeAnswer | OpenStream | None = None
        answer: Outcome | None = None
        while True:
            try:
                step = loop.send(answer)
            except StopIteration as stop:
                return served if served is not None else self._refuse(route, stop.value)
            answer = None
            if isinstance(step, Wait):
                self._wait(route, step)
            else:
                answer, served = self._try(route, step)

    def _wait(self, route: Route, step: Wait) -> None:
        self.stage = "waiting"
        self._sleep(step.seconds)
        self._is_woken = step.reason == "cooldown"
        route.waited(step.reason, step.seconds)

    def _try(self, route: Route, step: Attempt) -> tuple[Outcome, WholeAnswer | OpenStream | None]:
        """Carry out one attempt: what to tell the loop, and the answer if there is one."""
        candidate = step.candidate
        target = target_of(candidate)
        if not can_be_asked(self._inquiry.dialect, target):
            return self._pass_over(candidate, _not_spoken(self._inquiry, target)), None
        self.stage = "queued"
        if self._is_woken:
            self._is_woken = False
            route.woken(candidate, min(_LONGEST_WAKE_S, self._deadline - self._now()))
        passed = route.enter(candidate, step.patience_s, self._clocks.before_commit_s)
        if passed is not None:
            return passed, None
        self.stage = "connecting"
        self._tried = (candidate, step.kind)
        started_at = self._wall()
        try:
            outcome = self._attempt(target)
            if isinstance(outcome, Failure):
                outcome = self._mended(target, outcome)
        except UnsupportedFeature as error:  # another target may be able to say it
            route.release()
            return self._pass_over(candidate, error), None
        except BaseException:
            route.failed(candidate, _ENDED_BY_US, started_at)
            raise
        if isinstance(outcome, Failure):
            route.failed(candidate, outcome, started_at)
            return outcome, None
        headers = outcome.headers if isinstance(outcome, WholeAnswer) else outcome.response.headers
        route.opened(candidate, started_at, paused_until=self._paused_until(headers))
        return Success(), outcome

    def _paused_until(self, headers: Mapping[str, str]) -> float | None:
        """Return until when a provider that served says that nothing is left."""
        if not any(_RATE_HEADER in name for name in headers):
            return None
        return spent_until(headers, now=self._wall())

    def _pass_over(self, candidate: Candidate, error: UnsupportedFeature) -> PassedOver:
        self._unsupported = self._unsupported or error
        return PassedOver(
            Exclusion(candidate.option.name, UNSUPPORTED, candidate.account.id, detail=error.message[:200])
        )

    def _mended(self, target: Target, refused: Failure) -> WholeAnswer | OpenStream | Failure:
        """Ask a target once more where its refusal says what to leave out."""
        if self._now() >= self._deadline:
            return refused
        if refused.kind == "opaque_token":
            return self._again_without_tokens(target, refused)
        if refused.kind == "unsupported_param":
            return self._again_without_knob(target, refused)
        return refused

    def _again_without_knob(self, target: Target, refused: Failure) -> WholeAnswer | OpenStream | Failure:
        member = droppable(refused.param)
        if member is None or member in self._knobs.of(target.name):
            return refused
        self._knobs.note(target.name, member)
        return self._attempt(target)

    def _refuse(self, route: Route, verdict: Verdict) -> Refusal:
        error, failure = refusal(
            Situation(
                requested=route.requested,
                plan=route.plan,
                verdict=verdict,
                is_combo=route.is_combo,
                wall=self._wall(),
                count=self._counted,
                unsupported=self._unsupported,
                pinned=route.pin_gone,
            )
        )
        rejection = self._rejections.get(id(failure))
        return Refusal(error, None if rejection is None else (rejection.status, rejection.body))

    def _again_without_tokens(self, target: Target, refused: Failure) -> WholeAnswer | OpenStream | Failure:
        """Ask a target once more that refused an opaque token of the history, now without any."""
        try:
            exchange = exchange_without_tokens(self._inquiry, target)
            if exchange is None:
                return refused
            outcome = self._attempt(target, exchange)
        except OmniRouteError:  # passed on unread before, and no request that could be said in another way
            return refused
        # The first refusal is about what the client sent.
        return refused if isinstance(outcome, Failure) and outcome.kind == refused.kind else outcome

    def _counted(self, target: Target) -> int:
        inquiry = self._inquiry
        spoken = preferred_format(target.provider, target.endpoints) or inquiry.dialect.format
        try:
            return count(inquiry.request, model=target.model, wire_format=spoken, pause=inquiry.pause)
        except OmniRouteError:  # it was passed on unread, and is no request that we understand
            return estimate(inquiry.top.body.decode())

    def _attempt(self, target: Target, exchange: Exchange | None = None) -> WholeAnswer | OpenStream | Failure:
        self._number += 1
        clock = _Clock(self._settlement.elapsed_ms())
        exchange = exchange or exchange_with(self._inquiry, target)
        if exchange is None:
            raise InternalError
        self._note_target(target, exchange)
        response: UpstreamResponse | None = None
        failure: Failure | None = _ENDED_BY_US
        is_handed_over = False
        try:
            request = self._request(exchange, target)
            answer_by = self._now() + request.deadlines.total_s
            response = self._send(request)
            clock.connected_ms = self._settlement.elapsed_ms()
            if response.status >= 300:  # no redirect is followed: it would carry the credential elsewhere
                failure = self._rejected(response, exchange)
                return failure
            if self._inquiry.is_stream:
                opened = self._read_until_content(response, exchange, target, request.deadlines.content_s)
                clock.content_ms = self._settlement.elapsed_ms()
                is_handed_over = True
                failure = None
                return opened
            whole = self._read_whole(response, exchange, target, answer_by)
            failure = None
            return whole  # noqa: TRY300 -- the other ways out of this block return as well
        except ErrorInside as inside:
            assert response is not None  # noqa: S101 - it was read
            failure = self._classified(response.status, response.headers, inside.data, exchange)
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
            self._note_attempt(target, clock, failure, None if response is None else response.status)

    def _note_attempt(self, target: Target, clock: _Clock, failure: Failure | None, status: int | None) -> None:
        ended_ms = self._settlement.elapsed_ms()
        self._settlement.add_attempt(
            AttemptRecord(
                provider=target.provider.prefix,
                connection_id=target.connection_id,
                model=target.model,
                status=status,
                failure_class=None if failure is None else failure.failure_class.value,
                kind=None if failure is None else failure.kind,
                started_ms=clock.started_ms,
                connected_ms=clock.connected_ms,
                first_content_ms=clock.content_ms,
                ended_ms=ended_ms,
            )
        )
        if self._route is None or self._tried is None:
            return
        candidate, kind = self._tried
        self._route.draft.attempt(
            candidate.option.name,
            candidate.account.id,
            started_ms=clock.started_ms,
            ended_ms=ended_ms,
            kind=kind.value,
            headers_ms=clock.connected_ms,
            content_ms=clock.content_ms,
            failure=failure,
            status=status,
        )

    def _note_target(self, target: Target, exchange: Exchange) -> None:
        record = self._settlement.record
        record.provider, record.model = target.provider.prefix, target.model
        record.connection_id = target.connection_id
        record.upstream_format = exchange.format.value

    def _request(self, exchange: Exchange, target: Target) -> UpstreamRequest:
        body = exchange.body()
        refused = self._knobs.of(target.name)
        if refused:
            body = without(body, refused)
        deadlines = self._clocks.stream if self._inquiry.is_stream else self._clocks.answer
        if self._number > 1 or self._is_hurried:  # what is left of the whole request is all that a target gets
            deadlines = deadlines.within(self._deadline - self._now())
        return requests.build(
            exchange.endpoint,
            model=target.model,
            body=body,
            client_headers=self._call.client_headers if exchange.is_verbatim else (),
            stream=self._inquiry.is_stream,
            deadlines=deadlines,
        )

    def _rejected(self, response: UpstreamResponse, exchange: Exchange) -> Failure:
        try:
            body = read_all(response, _ERROR_WAIT_S, _MAX_ERROR_BYTES, self._now)
        except UpstreamError:
            body = b""  # the status was said, and speaks for itself
        return self._classified(response.status, response.headers, body, exchange)

    def _classified(self, status: int, headers: Mapping[str, str], body: bytes, exchange: Exchange) -> Failure:
        body = without_secrets(body, exchange.endpoint)
        failure = classify.classify(exchange.format, status, headers, body, now=self._wall())
        if (
            exchange.is_verbatim
            and status >= 400
            and failure.failure_class is FailureClass.CALLER_FAULT
            and is_error_body(exchange.format, body)
        ):
            self._rejections[id(failure)] = _Rejection(failure, status, body)
        return failure

    def _read_whole(
        self, response: UpstreamResponse, exchange: Exchange, target: Target, answer_by: float
    ) -> WholeAnswer:
        body = read_all(response, answer_by - self._now(), MAX_ANSWER_BYTES, self._now)
        usage, body = exchange.whole(body, is_stream=_says_stream(response))
        return WholeAnswer(response.status, body, usage, target, response.headers)

    def _read_until_content(
        self, response: UpstreamResponse, exchange: Exchange, target: Target, within_s: float
    ) -> OpenStream:
        give_up_at = self._now() + within_s
        if not _says_stream(response) and _UNSTREAMED.match(response.headers.get("content-type", "").lower()):
            body = read_all(response, within_s, MAX_ANSWER_BYTES, self._now)
            if not _is_json_object(body):
                raise UpstreamProtocolError("The provider did not stream although a stream was asked for.")
            stream, frames = exchange.replayed(body, self._trailer_of(target))
            return OpenStream(response, stream, frames, target, exchange.endpoint, self._now(), exchange.at_end)
        stream = exchange.stream(self._trailer_of(target))
        while True:
            try:
                data = response.read(give_up_at - self._now())
            except ReadTimeout:
                raise UpstreamTimeout("content") from None
            first = stream.feed(data) if data else stream.end()
            if stream.error and not stream.has_content:
                raise ErrorInside(stream.error)
            if stream.has_content:
                return OpenStream(response, stream, first, target, exchange.endpoint, self._now(), exchange.at_end)
            if not data:
                raise UpstreamProtocolError("The provider's stream ended before any content.")

    def _trailer_of(self, target: Target) -> Callable[[Usage], bytes]:
        """Return what writes the facts that are known only at the end of a stream, as comment lines.

        It holds nothing of the request, since it lives as long as the stream.
        """
        if not self._sends_comments:
            return _no_trailer
        head = (
            f": x-omniroute-request-id={self._call.request_id}\n"
            f": x-omniroute-model={in_ascii(target.name)}\n"
            f": x-omniroute-provider={in_ascii(target.provider.prefix)}\n"
        )
        tail = f": x-omniroute-attempts={self._number}\n\n"

        def trailer(usage: Usage) -> bytes:
            tokens_in = "" if usage.input is None else f": x-omniroute-tokens-in={usage.input}\n"
            tokens_out = "" if usage.output is None else f": x-omniroute-tokens-out={usage.output}\n"
            return f"{head}{tokens_in}{tokens_out}{tail}".encode("ascii")

        return trailer


def _no_trailer(usage: Usage) -> bytes:
    del usage
    return b""


_UNREADABLE: Final = "The provider's answer is not readable text."
_ENDED_BY_US: Final = Failure("cancelled", FailureClass.CANCELLED)
"""An attempt that neither served nor failed: the client left, or the server stopped."""


def _not_spoken(inquiry: Inquiry, target: Target) -> UnsupportedFeature:
    lacks = "compact conversations" if inquiry.dialect.sub_path else "serve conversations"
    return UnsupportedFeature(f"{target.provider.name} does not {lacks}.", param="model")


def _says_stream(response: UpstreamResponse) -> bool:
    content_type = response.headers.get("content-type", "").lower()
    return "event-stream" in content_type or "ndjson" in content_type


def failure_of(error: UpstreamError | UrlBlocked) -> Failure:
    """Return what an error of the transport means."""
    match error:
        case UrlBlocked():
            return Failure("blocked", FailureClass.LOCAL, message=error.message, sent=Sent.NONE, scope=Scope.PROVIDER)
        case UpstreamUnreachable():
            return Failure("transport", FailureClass.TRANSIENT, sent=Sent.NONE)
        case UpstreamTimeout():
            sent = Sent.NONE if error.phase == "connect" else Sent.FULL
            return Failure(f"timeout_{error.phase}", FailureClass.TRANSIENT, sent=sent)
        case UpstreamProtocolError():
            return Failure("protocol", FailureClass.TRANSIENT, message=error.message)
        case _:
            return Failure("unknown", FailureClass.UNKNOWN)


def without_secrets(body: bytes, endpoint: requests.Endpoint) -> bytes:
    """Take our credential out of a provider's error: some repeat the key that they refuse."""
    for secret in endpoint.secrets:
        if len(secret) >= _LEAST_SECRET:
            body = body.replace(secret, b"[redacted]")
    return body


def error_of_answer(
    response: UpstreamResponse, body: bytes, endpoint: requests.Endpoint, target: Target, wall: float
) -> OmniRouteError:
    """Return what to tell the caller about a provider's answer that is an error; `wall` is epoch seconds."""
    body = without_secrets(body, endpoint)
    failure = classify.classify(endpoint.format, response.status, response.headers, body, now=wall)
    return error_for(failure, target.provider.name, wall=wall)


def in_ascii(text: str) -> str:
    """Return a text as a header can hold it: model names may have any letters."""
    return text if text.isascii() and text.isprintable() else quote(text, safe="/:@+ ")


def _is_json_object(body: bytes) -> bool:
    try:
        scan(body)
    except OmniRouteError:
        return False
    return True


def read_all(response: UpstreamResponse, timeout_s: float, limit: int, now: Callable[[], float]) -> bytes:
    """Read a body to its end.

    Raises:
        UpstreamTimeout: it was not complete after `timeout_s`.
        UpstreamProtocolError: it is larger than `limit` bytes, or broke off.
    """
    give_up_at = now() + timeout_s
    parts: list[bytes] = []
    size = 0
    while True:
        try:
            data = response.read(give_up_at - now())
        except ReadTimeout:
            raise UpstreamTimeout("total") from None
        if not data:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        size += len(data)
        if size > limit:
            raise UpstreamProtocolError("The provider's answer is too large.")
        parts.append(data)

"""Inference calls: read, resolve, plan, drive, relay, settle. The service that views talk to.

    Inference.open(call) -> Answer
        run.py       the handler's side: one request in flight, what the client gets
        driver.py    the driver's side: targets tried in turn, in its own greenlet
        exchange.py  how one target is spoken to: passthrough or translation
        relay.py     the body of a streamed answer

Nothing here reads Flask's context or the database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from msgspec import Struct, structs

from omniroute.errors import InternalError, RequestCancelled, ServerDraining, UrlBlocked
from omniroute.formats.canonical import Token
from omniroute.formats.codec import Pause
from omniroute.formats.splice import TopLevel
from omniroute.gateway.accounting import Observer, RequestLog, Settlement
from omniroute.gateway.admission import Admission, Allowance, Ask, Rules
from omniroute.gateway.admission_errors import refused
from omniroute.gateway.clocks import Clocks
from omniroute.gateway.dialects import DIALECTS, Dialect
from omniroute.gateway.driver import Driver
from omniroute.gateway.exchange import Continued, Inquiry, Kept
from omniroute.gateway.features import features_of
from omniroute.gateway.handover import Answer, Call
from omniroute.gateway.knobs import Refusals
from omniroute.gateway.media_fetch import MediaFetch
from omniroute.gateway.ports import Transport
from omniroute.gateway.proxies import ProxyChoice, Send
from omniroute.gateway.reasoning_store import ReasoningStore
from omniroute.gateway.resolver import Resolved
from omniroute.gateway.response_state import (
    NoResponses,
    Origin,
    ResponseStore,
    Resumed,
    keep_issued,
    keep_issuer,
    origin_gone,
    pin_gone,
)
from omniroute.gateway.router import Route, Router
from omniroute.gateway.run import Run
from omniroute.gateway.session_keys import SessionKeys
from omniroute.gateway.shaping import Shaping
from omniroute.records import RequestRecord
from omniroute.routing.hedging import Shares
from omniroute.routing.options import Block

_RESERVE_SCOPE: Final = "reserve:use"


def _refuse_url(url: str) -> tuple[str, ...]:
    del url
    raise UrlBlocked


class Begun(Struct, frozen=True):
    """A planned request, what to show for its session, what of it was ignored, and what limits its caller."""

    route: Route
    session: str | None
    warnings: tuple[str, ...]
    rules: Rules | None = None


class Inference:
    """Serves inference calls. One per worker; holds the runs in flight."""

    def __init__(
        self,
        *,
        router: Router,
        sessions: SessionKeys,
        transport: Transport,
        request_log: RequestLog,
        observer: Observer,
        clocks: Clocks,
        now: Callable[[], float],
        wall: Callable[[], float],
        sleep: Callable[[float], None],
        max_in_flight: int,
        sends_comments: bool = True,
        check_media_url: Callable[[str], tuple[str, ...]] = _refuse_url,
        responses: ResponseStore | None = None,
        admission: Admission | None = None,
        proxies: ProxyChoice | None = None,
    ) -> None:
        """`now` is a monotonic clock, `wall` the time of day, both in seconds.

        `check_media_url` returns where a host may be reached, and raises UrlBlocked for an address that callers may
        not have fetched; by default for all.
        """
        self.router = router
        self._sessions = sessions
        self._knobs = Refusals(now=now)
        self._shares = Shares()
        self.sleep = sleep
        self._transport = transport
        self._proxies = proxies
        self._request_log = request_log
        self._observer = observer
        self._max_in_flight = max_in_flight
        self._media = MediaFetch(transport, check_url=check_media_url, now=now)
        self._reasoning = ReasoningStore(now=now)
        self.responses: ResponseStore = responses or NoResponses()
        self.admission = admission
        self.clocks = clocks
        self.now = now
        self.wall = wall
        self.sends_comments = sends_comments
        self.shaping: Shaping | None = None
        """What the operator adds to requests."""
        self.monitor: Callable[[Call], Call] | None = None
        """Puts a tap on calls while the operator watches."""
        self.capture: Callable[[Call, Callable[[Call], Answer]], Answer] | None = None
        """Stands around the serving of calls while their bodies are kept: it sees what clients get."""
        self.runs: dict[str, Run] = {}
        self.is_draining = False

    def open(self, call: Call) -> Answer:
        """Serve one call.

        Returns:
            The answer; a stream's body settles itself when it ends or is closed.

        Raises:
            OmniRouteError: rendered by the caller in the client's dialect; settled already.
            ClientGone: the client left; settled as cancelled.
        """
        if self.is_draining:
            raise ServerDraining(retry_after_s=5, should_retry=True, headers={"Connection": "close"})
        if len(self.runs) >= self._max_in_flight:
            raise InternalError(
                "The server handles as many requests as it may.", code="overloaded", status=503, retry_after_s=1
            )
        if self.monitor is not None:
            call = self.monitor(call)
        if self.capture is not None:
            return self.capture(call, self._serve)
        return self._serve(call)

    def _serve(self, call: Call) -> Answer:
        run = Run(self, call, DIALECTS[call.surface])
        self.runs[call.request_id] = run
        try:
            return run.open()
        except BaseException as error:
            run.abandon(error)
            raise

    def drain(self) -> None:
        """Take no new calls; those in flight go on."""
        self.is_draining = True

    def end_all(self) -> None:
        """End every run in flight with an error that tells the client to try again: the drain time is over."""
        for run in list(self.runs.values()):
            run.stop(ServerDraining(retry_after_s=5, should_retry=True))

    def cancel(self, request_id: str) -> bool:
        """End one run in flight with an error that says so; False if it is not one of this worker."""
        run = self.runs.get(request_id)
        if run is None or run.settlement.is_settled:
            return False
        run.stop(RequestCancelled(should_retry=False))
        return True

    def resolve(self, model: str | None, call: Call) -> Resolved:
        """Return what a model name stands for and what of it the caller may use; see :class:`Resolver`."""
        return self.router.resolver().resolve(model, provider=call.provider, caller=call.caller)

    def begin(
        self, call: Call, inquiry: Inquiry, resolved: Resolved, *, origin: Origin | None, started: float
    ) -> Begun:
        """Plan a request that began at `started` on the monotonic clock.

        Where an id in the request belongs to a connection (`origin`), no other may serve it.
        """
        asks = call.asks
        is_plain = is_single(resolved.block)
        session = self._sessions.find(
            call.caller.key_id, asks, inquiry.top, inquiry.dialect.format, derives=not is_plain
        )
        rules = None if self.admission is None else self.admission.rules_of(call.caller)
        features = features_of(
            inquiry,
            asks,
            key_id=call.caller.key_id,
            session=session,
            is_plain=is_plain and not (rules is not None and rules.is_measured),
            may_reserve=_may_reserve(call),
        )
        if rules is not None and rules.needs_price:
            features = structs.replace(features, needs_price=True)
        pin = asks.connection_id if origin is None else origin.connection_id
        if pin is not None:
            features = structs.replace(features, connection_id=pin)
        route = self.router.begin(
            request_id=call.request_id,
            requested=resolved.requested,
            resolved=resolved,
            features=features,
            started=started,
        )
        if origin is not None:
            route.pin_gone = origin_gone()
        elif pin is not None:
            route.pin_gone = pin_gone(pin)
        return Begun(route, session.shown, (*asks.warnings, *session.warnings), rules)

    def admit(self, call: Call, begun: Begun) -> tuple[Route, Allowance | None]:
        """Let a planned request in; its plan is made anew where a limit leaves some of the targets out.

        Raises:
            OmniRouteError: a budget or a limit of the caller is in the way.
        """
        rules, route = begun.rules, begun.route
        if rules is None or self.admission is None:
            return route, None
        nano_usd, tokens = route.expected() if rules.is_measured else (0, 0)
        session = route.asked.features.session
        allowance = self.admission.admit(rules, Ask(call.request_id, nano_usd, tokens, session))
        if not allowance.blocked:
            return route, allowance
        resolved = route.resolved
        permits = allowance.permits(resolved.permits)
        if not any(permits(option, account) for option in resolved.options for account in option.accounts):
            self.admission.withdraw(allowance)
            raise refused(allowance.blocked[0], self.wall())
        try:
            narrowed = self.router.begin(
                request_id=call.request_id,
                requested=resolved.requested,
                resolved=replace(resolved, permits=permits),
                features=route.asked.features,
                started=self.now(),
            )
        except BaseException:  # nobody would give it back
            self.admission.withdraw(allowance)
            raise
        narrowed.pin_gone = route.pin_gone
        return narrowed, allowance

    # --- parts of a run ----------------------------------------------------------------------------------------------

    def new_settlement(self, record: RequestRecord, started: float, *, is_private: bool) -> Settlement:
        """Open the books for one request."""
        return Settlement(
            record,
            log=self._request_log,
            observer=self._observer,
            now=self.now,
            started=started,
            is_private=is_private,
        )

    def new_inquiry(
        self, call: Call, dialect: Dialect, top: TopLevel, *, model: str, is_stream: bool, pause: Pause
    ) -> Inquiry:
        """Prepare what targets are going to be asked."""
        shaping = self.shaping
        if shaping is not None and shaping.prompt is not None and shaping.prompt.concerns(model):
            top = shaping.prompt.added(top, dialect)
        inquiry = Inquiry(dialect, top, model, is_stream, call.request_id, call.caller.key_id or "", self, pause)
        if shaping is not None:
            inquiry.thinking = shaping.thinking
        return inquiry

    def continued(self, call: Call, resumed: Resumed) -> Continued:
        """Return how the answer goes on from an earlier one, and what keeps it for a later request."""
        previous_id, owner = resumed.previous_id, call.caller.key_id
        if resumed.top.value("store") is False:
            return Continued(previous_id)
        keep_origin = keep_issuer(self.responses, owner)
        key = call.caller.key
        if key is not None and key.no_log:  # it leaves no content behind, and where an id came from is none
            return Continued(previous_id, keep_origin=keep_origin)
        return Continued(previous_id, keep_issued(self.responses, owner, previous_id, resumed.turn), keep_origin)

    def fetch_media(self, urls: tuple[str, ...]) -> Mapping[str, tuple[str, str]]:
        """See :class:`omniroute.gateway.exchange.Backing`."""
        return self._media.fetch(urls)

    def thinking_of(self, key_id: str, call_id: str) -> tuple[str, Token | None] | None:
        """See :class:`omniroute.gateway.exchange.Backing`."""
        return self._reasoning.get(key_id, call_id)

    def remember(self, key_id: str, kept: Kept) -> None:
        """See :class:`omniroute.gateway.exchange.Backing`."""
        self._reasoning.put(key_id, kept)

    @property
    def reasoning(self) -> ReasoningStore:
        """The reasoning that this worker keeps for clients whose format cannot carry it."""
        return self._reasoning

    def new_driver(self, call: Call, inquiry: Inquiry, settlement: Settlement, started: float) -> Driver:
        """Return what tries the targets of a request."""
        send: Send = self._transport.send
        if self._proxies is not None:
            send = self._proxies.on_behalf(send, key=call.caller.key_id, combo=settlement.record.combo_id or "")
        if call.tap is not None:
            send = call.tap.around(send, inquiry, settlement.record)
        return Driver(
            call,
            inquiry,
            settlement,
            send=send,
            clocks=self.clocks,
            started=started,
            now=self.now,
            wall=self.wall,
            sleep=self.sleep,
            sends_comments=self.sends_comments,
            knobs=self._knobs,
            shares=self._shares,
        )


def is_single(block: Block) -> bool:
    """Say whether there is but one candidate: nothing has to be found out about the request to order it."""
    step = block.steps[0] if len(block.steps) == 1 else None
    return step is not None and step.option is not None and len(step.option.accounts) == 1 and not block.scope


def _may_reserve(call: Call) -> bool:
    key = call.caller.key
    return call.asks.has_priority and key is not None and _RESERVE_SCOPE in key.scopes

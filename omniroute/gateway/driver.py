"""The driver's side of a run: try targets in turn until one serves, and read its answer up to the hand-over.

Runs in its own greenlet and owns the upstream until there is something to hand over: a whole answer, the first content
of a stream, or a failure. Knows nothing of the client's socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from omniroute.errors import OmniRouteError, UnsupportedFeature
from omniroute.formats.token_count import count, estimate
from omniroute.gateway.answers import CANCELLED
from omniroute.gateway.clocks import Clocks
from omniroute.gateway.continuation import Continuation, Torn, last_part_of
from omniroute.gateway.directory import Target
from omniroute.gateway.exchange import Inquiry, can_be_asked
from omniroute.gateway.features import length_of
from omniroute.gateway.handover import Call, Handover, OpenStream, Refusal, WholeAnswer
from omniroute.gateway.hedging import Ended, Hedging, Race
from omniroute.gateway.knobs import Refusals
from omniroute.gateway.leg import Errand, Leg, Served
from omniroute.gateway.ports import UpstreamResponse
from omniroute.gateway.refusal import UNSUPPORTED, Situation, refusal, target_of
from omniroute.providers.hints import spent_until
from omniroute.providers.profiles import preferred_format
from omniroute.providers.upstream import UpstreamRequest
from omniroute.routing.attempts import (
    Alone,
    Attempt,
    Candidate,
    Kind,
    Lagging,
    Outcome,
    PassedOver,
    Raced,
    Verdict,
    Wait,
)
from omniroute.routing.failures import Failure, FailureClass, Scope, Success
from omniroute.routing.hedging import Shares
from omniroute.routing.plan import Exclusion

if TYPE_CHECKING:
    from omniroute.gateway.accounting import Settlement
    from omniroute.gateway.router import Route

_LONGEST_WAKE_S: Final = 5.0
"""How long those who waited for the same cooldown may be held back for one another."""
_RATE_HEADER: Final = "ratelimit"


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
        shares: Shares,
    ) -> None:
        """`started`: when the request began on the monotonic clock `now`; `wall` is the time of day in seconds."""
        self.stage = "connecting"
        self._inquiry = inquiry
        self._clocks = clocks
        self._started = started
        self._now = now
        self._wall = wall
        self._sleep = sleep
        self._shares = shares
        self._errand = Errand(
            call,
            inquiry,
            settlement,
            send=send,
            clocks=clocks,
            now=now,
            wall=wall,
            sends_comments=sends_comments,
            knobs=knobs,
            deadline=started + clocks.before_commit_s,
        )
        self._is_woken = False
        self._unsupported: UnsupportedFeature | None = None
        self._hedging: Hedging | None = None
        self._race: Race | None = None

    def serve(self, route: Route) -> Handover:
        """Try the candidates of a route in turn.

        Raises:
            OmniRouteError: a fault of our own.
        """
        errand, config = self._errand, route.config
        errand.config = config
        errand.note_answer = route.note_answer
        errand.is_hurried = config.timeout_ms is not None
        if config.timeout_ms is not None:
            errand.deadline = self._started + min(self._clocks.before_commit_s, config.timeout_ms / 1000)
        errand.is_mendable = config.mid_stream_continuation and self._inquiry.is_stream
        if config.hedging:
            self._hedging = Hedging(self._inquiry, route, self._shares, self._now)
        try:
            return self._serve(route)
        finally:
            if self._race is not None:
                self._abandon(route, self._race)

    def _serve(self, route: Route) -> Handover:
        loop = route.steps(lambda: self._errand.deadline - self._now())
        served: Served | None = None
        answer: Outcome | None = None
        while True:
            try:
                step = loop.send(answer)
            except StopIteration as stop:
                if served is None:
                    return self._refuse(route, stop.value)
                return self._mendable(route, served)
            answer = None
            match step:
                case Wait():
                    self._wait(route, step)
                case Alone():
                    answer, served = self._end_alone(route)
                case Attempt(kind=Kind.HEDGE, candidate=candidate):
                    answer, served = self._hedge(route, candidate)
                case Attempt():
                    answer, served = self._try(route, step)

    def _wait(self, route: Route, step: Wait) -> None:
        self.stage = "waiting"
        self._sleep(step.seconds)
        self._is_woken = step.reason == "cooldown"
        route.waited(step.reason, step.seconds)

    def _try(self, route: Route, step: Attempt) -> tuple[Outcome, Served | None]:
        """Carry out one attempt: what to tell the loop, and the answer if there is one."""
        candidate = step.candidate
        target = target_of(candidate)
        if not can_be_asked(self._inquiry.dialect, target):
            return self._pass_over(candidate, _not_spoken(self._inquiry, target)), None
        self.stage = "queued"
        if self._is_woken:
            passed = route.woken(candidate, min(_LONGEST_WAKE_S, self._errand.deadline - self._now()))
            if passed is not None:  # it may come again, and queues again then
                return passed, None
            self._is_woken = False
        passed = route.enter(candidate, step.patience_s, self._clocks.before_commit_s)
        if passed is not None:
            return passed, None
        self.stage = "connecting"
        leg = Leg(self._errand, candidate, step.kind)
        if self._hedging is not None and not self._errand.number:
            return self._start_race(route, leg, self._hedging)
        return self._carry_out(route, leg)

    def _carry_out(self, route: Route, leg: Leg) -> tuple[Success | Failure | PassedOver, Served | None]:
        try:
            outcome: Ended = leg.run()
        except UnsupportedFeature as error:
            outcome = error
        except BaseException:
            leg.note(route.draft)
            route.failed(leg.candidate, CANCELLED, leg.started_at)
            raise
        return self._conclude(route, leg, outcome)

    def _conclude(self, route: Route, leg: Leg, ended: Ended) -> tuple[Success | Failure | PassedOver, Served | None]:
        """Note what came of a leg: what to tell the loop, and the answer if there is one."""
        leg.note(route.draft)
        candidate = leg.candidate
        if isinstance(ended, UnsupportedFeature):  # another target may be able to say it
            route.release(candidate)
            return self._pass_over(candidate, ended), None
        if isinstance(ended, Exception):
            route.failed(candidate, CANCELLED, leg.started_at)
            raise ended
        if isinstance(ended, Failure):
            route.failed(candidate, ended, leg.started_at)
            return ended, None
        headers = ended.headers if isinstance(ended, WholeAnswer) else ended.response.headers
        route.opened(candidate, leg.started_at, paused_until=self._paused_until(headers))
        leg.serve(ended)
        return Success(), ended

    # --- two at once -------------------------------------------------------------------------------------------------

    def _start_race(self, route: Route, leg: Leg, hedging: Hedging) -> tuple[Outcome, Served | None]:
        """Start the first attempt; when it is slow to begin, the loop may know somebody to ask beside it."""
        self._race = Race(leg)
        if not self._race.wait(hedging.delay_s(leg.candidate.option.name)) and hedging.may_start():
            return Lagging(), None
        return self._end_alone(route)

    def _hedge(self, route: Route, candidate: Candidate) -> tuple[Outcome, Served | None]:
        """Start a candidate beside the slow one, if it may start at once."""
        race, hedging, target = self._race, self._hedging, target_of(candidate)
        assert race is not None  # noqa: S101 - only a slow attempt leads here
        assert hedging is not None  # noqa: S101
        if not can_be_asked(self._inquiry.dialect, target):
            return self._pass_over(candidate, _not_spoken(self._inquiry, target)), None
        passed = route.enter(candidate, 0.0, self._clocks.before_commit_s)
        if race.has_ended:  # while a place was asked for
            if passed is None:
                route.release(candidate)
            head, served = self._end_alone(route)
            return Raced(head, None), served
        if passed is not None:
            return passed, None
        hedging.note()
        race.start(Leg(self._errand, candidate, Kind.HEDGE))
        return self._decide(route)

    def _end_alone(self, route: Route) -> tuple[Success | Failure | PassedOver, Served | None]:
        """Wait for the first attempt, beside which nobody was started."""
        race = self._race
        assert race is not None  # noqa: S101 - what is waited for has been started
        race.decide()
        self._race = None
        head = race.legs[0]
        return self._conclude(route, head, race.outcome(head) or CANCELLED)

    def _decide(self, route: Route) -> tuple[Raced, Served | None]:
        """Wait until one of the two serves, or none does; tell what came of both."""
        race = self._race
        assert race is not None  # noqa: S101 - what is decided has been started
        winner = race.decide()
        self._race = None
        head, hedge = race.legs
        ends: list[Success | Failure | PassedOver] = []
        answer: Served | None = None
        fault: Exception | None = None
        for leg in (head, hedge):
            ended = race.outcome(leg) or CANCELLED
            if winner is not None and leg is not winner:
                ended = leg.lose(ended, prompt_tokens=length_of(self._inquiry))
            elif isinstance(ended, Exception) and not isinstance(ended, UnsupportedFeature):
                fault = ended if leg is head else fault
                ended = _OUR_FAULT
            told, served = self._conclude(route, leg, ended)
            ends.append(told)
            answer = answer or served
        if winner is not None:
            winner.win()
            route.reason = "head" if winner is head else "hedge"
        elif fault is not None:
            raise fault
        return Raced(ends[0], ends[1]), answer

    def _abandon(self, route: Route, race: Race) -> None:
        """Stop everything that was started: the client has left, or the server ends."""
        self._race = None
        race.stop()
        for leg in race.legs:
            ended = race.outcome(leg) or CANCELLED
            lost = leg.lose(ended, prompt_tokens=length_of(self._inquiry), has_won=False)
            self._conclude(route, leg, lost)

    # --- after a break -----------------------------------------------------------------------------------------------

    def _mendable(self, route: Route, served: Served) -> Served:
        if not isinstance(served, OpenStream) or served.continuable is None:
            return served
        mending = Continuation(served, self._inquiry, lambda torn, failure: self._finish(route, torn, failure))
        return replace(served, mending=mending)

    def _finish(self, route: Route, torn: Torn, failure: Failure) -> OpenStream | None:
        """Have the next one finish an answer that broke off; None when nobody does. One is asked, and no more."""
        errand = self._errand
        errand.deadline, errand.is_hurried = self._now() + self._clocks.before_commit_s, False
        record = errand.settlement.record
        cost = errand.settlement.breaks_off(failure, torn.spent)
        tokens = torn.spent.input, torn.spent.output
        route.draft.broke_off(failure, offset=torn.offset, tokens=tokens, cost_nano_usd=cost)
        first = record.provider, record.model, record.connection_id, record.upstream_format
        for candidate in route.finishers():
            if not can_be_asked(self._inquiry.dialect, target_of(candidate)):
                continue
            if route.enter(candidate, 0.0, self._clocks.before_commit_s) is not None:
                continue
            leg = Leg(errand, candidate, Kind.CONTINUATION, lambda inquiry, target: last_part_of(inquiry, target, torn))
            outcome, served = self._carry_out(route, leg)
            if isinstance(served, OpenStream):
                errand.settlement.goes_on(torn.continuable.seam)
                return served
            if not isinstance(outcome, PassedOver):
                break
        record.provider, record.model, record.connection_id, record.upstream_format = first
        errand.settlement.goes_on(None)
        return None

    # --- afterwards --------------------------------------------------------------------------------------------------

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
        rejection = self._errand.rejections.get(id(failure))
        return Refusal(error, None if rejection is None else (rejection.status, rejection.body))

    def _counted(self, target: Target) -> int:
        inquiry = self._inquiry
        spoken = preferred_format(target.provider, target.endpoints) or inquiry.dialect.format
        try:
            return count(inquiry.request, model=target.model, wire_format=spoken, pause=inquiry.pause)
        except OmniRouteError:  # it was passed on unread, and is no request that we understand
            return estimate(inquiry.top.body.decode())


_OUR_FAULT: Final = Failure("internal", FailureClass.UNKNOWN, scope=Scope.REQUEST)


def _not_spoken(inquiry: Inquiry, target: Target) -> UnsupportedFeature:
    lacks = "compact conversations" if inquiry.dialect.sub_path else "serve conversations"
    return UnsupportedFeature(f"{target.provider.name} does not {lacks}.", param="model")

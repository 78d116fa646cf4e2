"""Plans requests over the live view, and notes what came of them: for health, figures, sessions, and the record.

    Router.begin(…) -> Route          what the name stands for, who may serve it, in which order
    Route.steps() -> attempt loop     run by the driver
    Route.enter / failed / opened     what the driver tells of each attempt
    Route.close(…)                    once, when the request is over

Nothing here waits for the database but what guards a limit (`gate.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from msgspec import structs

from omniroute.errors import CallerError
from omniroute.gateway.figures import OptionFigures
from omniroute.gateway.gate import Gate, Refused, Ticket
from omniroute.gateway.health_board import HealthBoard
from omniroute.gateway.probes import Probes
from omniroute.gateway.quotas import Quotas
from omniroute.gateway.resolver import Resolved, Resolver
from omniroute.gateway.routing_memory import RoutingMemory
from omniroute.records import RequestRecord
from omniroute.routing.asked import Asked, Chance
from omniroute.routing.attempts import (
    Candidate,
    Limits,
    Outcome,
    PassedOver,
    Step,
    Surroundings,
    Verdict,
)
from omniroute.routing.attempts import attempts as attempt_loop
from omniroute.routing.config import ComboConfig
from omniroute.routing.continuing import continuations
from omniroute.routing.eligibility import Eligibility
from omniroute.routing.events import AttemptFailed, ProbeEnded, ProviderFailed
from omniroute.routing.failures import Failure, FailureClass, counts_for_breaker
from omniroute.routing.hedging import may_serve_beside
from omniroute.routing.marks import provider_scope
from omniroute.routing.options import Account, AuthClass, Features
from omniroute.routing.plan import Entry, Exclusion, Intent, Plan, Reason, Seat
from omniroute.routing.planning import plan as make_plan
from omniroute.routing.prepared import Preparations
from omniroute.routing.prices import estimate_nano, expected_output
from omniroute.routing.recorder import Draft, Noted, Recorder
from omniroute.routing.resilience import ResilienceSettings
from omniroute.routing.strategies import POSITION
from omniroute.routing.view import Binding, View

_LKGP_SCOPE: Final = "auto/lkgp"
_NO_VERDICT: Final = frozenset({FailureClass.CANCELLED, FailureClass.CALLER_FAULT, FailureClass.LOCAL})
"""Classes of failures that say nothing about the target."""
_MOST_LIMITS: Final = 512
_CHAINED: Final = 0x9E3779B97F4A7C15
"""Gives a chain a chance of its own out of the request's."""

_NOBODY: Final[frozenset[tuple[str, str]]] = frozenset()
_EXPECTED_OF: Final = 8
"""Targets whose prices are looked at: few requests come further."""


class Router:
    """Plans requests. One per worker."""

    def __init__(
        self,
        *,
        resolver: Callable[[], Resolver],
        board: HealthBoard,
        memory: RoutingMemory,
        figures: OptionFigures,
        view: View,
        gate: Gate,
        quotas: Quotas,
        recorder: Recorder,
        resilience: Callable[[], ResilienceSettings],
        accounts_of: Callable[[str], Sequence[Account]],
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        seed: Callable[[], int] = lambda: random.getrandbits(64),
    ) -> None:
        """`wall` is the time of day in epoch seconds, `seed` gives 64 random bits."""
        self.resolver = resolver
        self.board = board
        self.memory = memory
        self.figures = figures
        self.view = view
        self.gate = gate
        self.quotas = quotas
        self.recorder = recorder
        self.resilience = resilience
        self.accounts_of = accounts_of
        self.wall = wall
        self.monotonic = monotonic
        self.seed = seed
        self._prepared = Preparations()
        self._limits: dict[int, tuple[ComboConfig, ResilienceSettings, Limits]] = {}

    def begin(
        self,
        *,
        request_id: str,
        requested: str,
        resolved: Resolved,
        features: Features,
        started: float,
    ) -> Route:
        """Plan a request for what its model name stands for."""
        noted = Noted(self.view, resolved.permits)
        asked = Asked(features, noted, self.wall(), Chance(self.seed()), self.resolver().rules, noted.permits)
        made = make_plan(resolved.block, asked, self._prepared.of(resolved.block, asked.rules))
        draft = self.recorder.begin(
            request_id,
            resolved.block,
            asked,
            made,
            trace=resolved.trace,
            config_version=self.resolver().snapshot.version,
            started=started,
        )
        for intent in made.intents:
            if not intent.is_at_end:
                self.keep(intent)
        for scored in made.scores:
            self.figures.note_score(scored.target, scored.score, asked.now)
        return Route(self, resolved, asked, made, draft, request_id=request_id, requested=requested)

    def limits_of(self, config: ComboConfig) -> Limits:
        """Return the bounds of a request under the settings of its block; the same ones until settings change."""
        settings = self.resilience()
        known = self._limits.get(id(config))
        if known is not None and known[0] is config and known[1] is settings:
            return known[2]
        if len(self._limits) >= _MOST_LIMITS:
            self._limits.clear()
        limits = _limits(config, settings)
        self._limits[id(config)] = (config, settings, limits)
        return limits

    def keep(self, intent: Intent) -> None:
        """Keep what a plan wants kept; a position is told as a difference, since several requests move it at once."""
        if intent.kind == POSITION:
            self.memory.advance(intent.scope, intent.kind, intent.value)
        else:
            self.memory.set_counter(intent.scope, intent.kind, intent.value)


def _limits(config: ComboConfig, settings: ResilienceSettings) -> Limits:
    wait = settings.wait
    return Limits(
        max_attempts=config.max_attempts,
        max_retries=config.max_retries,
        retry_delay_s=config.retry_delay_ms / 1000,
        failover_before_retry=config.failover_before_retry,
        max_set_retries=config.max_set_retries,
        set_retry_delay_s=config.set_retry_delay_ms / 1000,
        fallback_delay_s=config.fallback_delay_ms / 1000,
        queue_wait_s=settings.queue.max_wait_ms / 1000,
        waits_for_cooldown=wait.is_on,
        longest_wait_s=wait.longest_s,
        wait_rounds=wait.max_rounds,
        wait_budget_s=wait.budget_s,
    )


class Route:
    """How one request goes; told of everything that happens to it."""

    __slots__ = (
        "_candidate",
        "_chained",
        "_failed",
        "_faults",
        "_is_broken",
        "_is_closed",
        "_is_committed",
        "_is_continued",
        "_judged",
        "_probes",
        "_router",
        "_served",
        "_tickets",
        "asked",
        "draft",
        "pin_gone",
        "plan",
        "reason",
        "request_id",
        "requested",
        "resolved",
        "waited_ms",
    )

    def __init__(
        self,
        router: Router,
        resolved: Resolved,
        asked: Asked,
        made: Plan,
        draft: Draft,
        *,
        request_id: str,
        requested: str,
    ) -> None:
        self.request_id = request_id
        self.requested = requested
        self.resolved = resolved
        self.asked = asked
        self.plan = made
        self.draft = draft
        self.waited_ms = 0.0
        self.pin_gone: CallerError | None = None
        """What to say when the connection that an id belongs to cannot serve."""
        self._router = router
        self.reason: str | None = None
        """Why who serves does, where that is not plain from the plan: for `X-OmniRoute-Decision`."""
        self._tickets: dict[tuple[str, str], Ticket] = {}
        self._candidate: Candidate | None = None
        self._failed = _NOBODY
        self._faults: dict[str, tuple[AuthClass, Failure, float]] = {}
        self._judged: frozenset[str] = frozenset()
        self._probes = Probes(router.gate, router.board)
        self._served: tuple[str, float] | None = None
        self._chained = False
        self._is_broken = False
        self._is_closed = False
        self._is_committed = False
        self._is_continued = False

    @property
    def config(self) -> ComboConfig:
        """The settings in force."""
        return self.resolved.block.config

    @property
    def is_combo(self) -> bool:
        """Whether several targets may stand behind the name."""
        block = self.resolved.block
        return bool(block.scope or block.channel) or len(block.steps) > 1

    def expected(self) -> tuple[int, int]:
        """Return what the request is likely to cost at the dearest of the first targets (nano-USD), and its tokens.

        Whoever serves in the end, others must not spend the same money meanwhile. Where two may be asked at once, both
        are paid for.
        """
        features, dearest, longest = self.asked.features, 0, 0.0
        for entry in self.plan.entries[:_EXPECTED_OF]:
            figures = self._router.view.figures(entry.option.name)
            dearest = max(dearest, estimate_nano(entry.option, features, figures) or 0)
            longest = max(longest, expected_output(features, figures))
        legs = 2 if self.config.hedging else 1
        return legs * dearest, legs * (features.estimated_input + round(longest))

    # --- the loop ----------------------------------------------------------------------------------------------------

    def steps(self, left: Callable[[], float]) -> Generator[Step, Outcome | None, Verdict]:
        """Return the attempt loop; `left` gives the seconds until the deadline."""
        around = Surroundings(
            now=self._router.wall,
            left=left,
            check=self._check,
            again=self._again,
            chain=self._chain,
            may_hedge=self._may_hedge,
        )
        limits = self._router.limits_of(self.config)
        return attempt_loop(self.plan, limits, around, rng=lambda: self.asked.chance.rng)

    def _fresh(self) -> Asked:
        """Return the question as it stands now; the same chance goes on."""
        return structs.replace(self.asked, view=self._router.view, now=self._router.wall())

    def _check(self, entry: Entry, account: Account) -> Seat | Exclusion:
        return Eligibility(self._fresh()).seat(entry.option, account, None)

    def _may_hedge(self, entry: Entry, account: Account) -> bool:
        return may_serve_beside(entry, account, self._fresh(), self.config)

    def _again(self) -> Plan:
        self._judge_faults()  # the request is through with everybody, and may wait for long
        return make_plan(self.resolved.block, self._fresh())

    def _chain(self) -> Sequence[Entry]:
        if self._chained or not self.config.allow_fallback_chain or self.asked.features.connection_id is not None:
            return ()
        self._chained = True
        seen = {entry.option.name for entry in self.plan.entries}
        chain = self._router.resolver().chain_for(self.requested, seen)
        if chain is None:
            return ()
        noted = Noted(self._router.view, self.asked.permits)
        chance = Chance(self.asked.chance.seed ^ _CHAINED)
        asked = structs.replace(self.asked, view=noted, now=self._router.wall(), chance=chance, permits=noted.permits)
        made = make_plan(chain.block, asked)
        self.draft.chain(chain.name, chain.block, asked, made)
        return made.entries

    # --- one attempt -------------------------------------------------------------------------------------------------

    def enter(self, candidate: Candidate, patience_s: float, lease_s: float) -> PassedOver | None:
        """Get what an attempt needs before it may start; what it got is held until `failed` or `close`."""
        entry, seat = candidate.entry, candidate.seat
        if seat.probes:
            seat = self._probes.needed(seat)
        try:
            ticket = self._router.gate.enter(
                seat,
                entry,
                request_id=self.request_id,
                key_id=self.asked.features.key_id,
                patience_s=patience_s,
                lease_s=lease_s,
            )
        except Refused as refused:
            self.waited_ms += refused.waited_s * 1000
            name, account_id = entry.option.name, seat.account.id
            return PassedOver(Exclusion(name, refused.reason, account_id, refused.until, refused.detail))
        self._tickets[candidate.key] = ticket
        waited_for = ticket.waited_for
        if waited_for is not None:
            self.waited(waited_for, ticket.waited_s)
        if seat.probes:
            self._probes.look_again()
        if waited_for is not None or seat.probes:
            checked = self._check(entry, seat.account)
            if isinstance(checked, Exclusion):  # what it waited for, or was to probe, has come to rest meanwhile
                self.release(candidate)
                return PassedOver(checked)
        if not self._is_committed:
            self._candidate = candidate
        return None

    def failed(self, candidate: Candidate, failure: Failure, started_at: float) -> None:
        """Note that an attempt failed; `started_at` is epoch seconds."""
        router, account = self._router, candidate.account
        self._failed |= {candidate.key}
        if not account.is_implicit:
            in_flight = router.board.load_of(account.id).in_flight
            model = candidate.option.model
            router.board.record(AttemptFailed(account, model, failure, started_at, in_flight=in_flight))
            self._end_probes(candidate, failure)
            if counts_for_breaker(failure):
                self._faults.setdefault(account.provider, (account.auth, failure, started_at))
        if failure.failure_class not in _NO_VERDICT:
            router.figures.note(candidate.option.name, ok=False, at=router.wall())
            self._note_last_good(candidate, is_ok=False)
            ticket = self._tickets.get(candidate.key)
            if ticket is not None:
                self._probes.keep(ticket)
        self.release(candidate)

    def _end_probes(self, candidate: Candidate, failure: Failure) -> None:
        """A probe that says nothing about what it probed leaves that to the next one."""
        if failure.failure_class in _NO_VERDICT:
            for probe in candidate.seat.probes:
                self._router.board.record(ProbeEnded(probe.scope))

    def note_answer(self, candidate: Candidate, status: int, headers: Mapping[str, str]) -> None:
        """Note what the headers of an answer, whatever its status, say of the account's quota."""
        if not candidate.account.is_implicit:
            has_served = status < HTTPStatus.MULTIPLE_CHOICES
            self._router.quotas.note_answer(candidate.account, candidate.option.model, headers, has_served=has_served)

    def opened(self, candidate: Candidate, started_at: float, *, paused_until: float | None = None) -> None:
        """Note that an attempt serves: a whole answer, or the first content of a stream.

        `paused_until`: until when (epoch seconds) the provider says that nothing of a limit is left.
        """
        router, entry, seat = self._router, candidate.entry, candidate.seat
        account = seat.account
        if not account.is_implicit:
            router.board.attempt_served(account, entry.option.model, started_at=started_at, paused_until=paused_until)
            if seat.probes:
                if any(probe.scope == provider_scope(account.provider) for probe in seat.probes):
                    router.board.provider_served(account.provider, started_at=started_at)
                ticket = self._tickets.get(candidate.key)
                if ticket is not None:
                    ticket.release_probes()
            self._served = (account.provider, started_at)
            if self._failed:
                self._judge_faults()
        if entry.scope:
            router.memory.note_use(entry.scope, entry.step_id, router.wall())
        if not self._is_committed and self.plan.intents:
            self._keep_at_end()  # not when its stream is over: all that came meanwhile would take the same turn
        self._is_continued = self._is_committed
        self._is_committed = True
        self._is_broken = False
        self._candidate = candidate
        self._bind(candidate)

    def _keep_at_end(self) -> None:
        for intent in self.plan.intents:
            if intent.is_at_end:
                self._router.keep(intent)

    def woken(self, candidate: Candidate, patience_s: float) -> PassedOver | None:
        """Let those who waited for a cooldown go one after the other; one whose turn is too far off passes on."""
        key_id, account_id = self.asked.features.key_id, candidate.account.id
        try:
            seconds = self._router.gate.pace_wakeups(account_id, key_id=key_id, patience_s=patience_s)
        except Refused as refused:
            return PassedOver(Exclusion(candidate.option.name, Reason.COOLING, account_id, refused.until))
        if seconds:
            self.waited(Reason.COOLING, seconds)
        return None

    def waited(self, reason: str, seconds: float) -> None:
        """Note a wait."""
        self.waited_ms += seconds * 1000
        self.draft.wait(reason, seconds * 1000)

    def release(self, candidate: Candidate) -> None:
        """Give back what an attempt held."""
        ticket = self._tickets.pop(candidate.key, None)
        if ticket is not None:
            ticket.release()

    def finishers(self) -> Iterator[Candidate]:
        """Yield who may finish the answer that broke off."""
        assert self._candidate is not None  # noqa: S101 - it was somebody's answer
        return continuations(self.plan, self._candidate, self._failed, self._check)

    # --- the end -----------------------------------------------------------------------------------------------------

    def broke_off(self, failure: Failure) -> None:
        """Note that what was being served failed after its first content."""
        candidate = self._candidate
        if candidate is None or self._is_broken:
            return
        self._is_broken = True
        self._served = None
        self.failed(candidate, replace(failure, committed=True), self._router.wall())

    def close(self, record: RequestRecord) -> None:
        """Note what became of the request, and leave how it was routed in its record. The first ending counts."""
        if self._is_closed:
            return
        self._is_closed = True
        while self._tickets:
            self._tickets.popitem()[1].release()
        router, candidate = self._router, self._candidate
        self._judge_providers()
        if not self._is_committed:
            self._keep_at_end()
        target = None
        if candidate is not None:
            target = candidate.option.name
            record.step_id = candidate.entry.step_id if candidate.entry.scope else None
        if candidate is not None and record.outcome == "success":
            router.figures.note(
                candidate.option.name,
                ok=True,
                at=router.wall(),
                # Of an answer that two have given together, these are nobody's.
                ttft_ms=None if self._is_continued else record.ttft_ms,
                total_ms=None if self._is_continued else record.duration_ms,
                tokens_out=None if self._is_continued else record.tokens_out,
            )
            self._note_last_good(candidate, is_ok=True)
        record.decision = self.draft.finish(record, target=target, is_committed=self._is_committed)

    def summary(self, *, is_head: bool) -> str:
        """Return the value of `X-OmniRoute-Decision`."""
        strategy = self.plan.strategy.value if self.is_combo else "single"
        reason = self.reason or ("fallback" if not is_head else "sticky" if self.plan.is_sticky else "head")
        return f"strategy={strategy}; reason={reason}; waited_ms={round(self.waited_ms)}"

    def _judge_providers(self) -> None:
        """Tell the breakers how each provider did for this request, end to end."""
        if self._served is not None:
            self._router.board.provider_served(self._served[0], started_at=self._served[1])
        if self._failed:
            self._judge_faults()

    def _judge_faults(self) -> None:
        """Count, once per request, those that failed although they had every chance, and let others probe them."""
        served = None if self._served is None else self._served[0]
        for provider, (auth, failure, started_at) in self._faults.items():
            if provider != served and provider not in self._judged and self._counts_end_to_end(provider):
                self._judged |= {provider}
                self._router.board.record(ProviderFailed(provider, auth, failure, started_at=started_at))
        if served is not None:  # what failed there before it served was made good there
            self._faults.clear()
        self._probes.end()

    def _counts_end_to_end(self, provider: str) -> bool:
        """A request that may only use one connection says nothing of a provider that has others."""
        if self.asked.features.connection_id is None:
            return True
        return len(self._router.accounts_of(provider)) <= 1

    def _bind(self, candidate: Candidate) -> None:
        features, rules = self.asked.features, self.asked.rules
        if features.session is None or not rules.affinity_ttl_ms or self.config.disable_session_stickiness:
            return
        is_bound = features.is_explicit_session or (rules.has_cache_affinity and candidate.option.has_prompt_cache)
        if not is_bound:
            return
        memory, ttl_s, now = self._router.memory, rules.affinity_ttl_ms / 1000, self._router.wall()
        option, account_id = candidate.entry.option, candidate.seat.account.id
        before = memory.binding(features.session, option.provider)
        if before is not None:
            self.draft.bind(before.connection_id, has_moved=before.connection_id != account_id)
        binding = Binding(account_id, option.name)
        memory.bind(features.session, option.provider, binding, ttl_s, now)
        if self.is_combo:
            memory.bind(features.session, "", binding, ttl_s, now)

    def _note_last_good(self, candidate: Candidate, *, is_ok: bool) -> None:
        block = self.resolved.block
        scope = _LKGP_SCOPE if block.channel == _LKGP_SCOPE else block.scope
        if not scope or not self.is_combo:
            return
        features, memory = self.asked.features, self._router.memory
        sessions = {features.session or ""}
        if block.channel == _LKGP_SCOPE:
            sessions.add(f"key:{features.key_id}")
        for session in sessions:
            if is_ok:
                memory.note_served(scope, session, candidate.option.name, self._router.wall())
            else:
                memory.note_failed(scope, session, candidate.option.name)

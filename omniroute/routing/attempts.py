"""The attempt loop as a generator: it says what to do next and is told what happened; it never does it.

    step = next(loop)                     # Attempt(candidate, …) | Wait(seconds, reason)
    while True:
        outcome = execute(step)           # Success | Failure | PassedOver; None after a wait
        step = loop.send(outcome)         # StopIteration.value: Verdict

Theory. Candidates come in the order of a plan: targets, and within each target its accounts. A failure says how far it
reaches: an account, a model, a provider, or the request itself; what it reaches is left alone for the rest of the
request, and the next candidate is tried. When the list is through, in this order and each only where it may help:
transient failures are tried once more; the operator's fallback chain is walked; and where all that is left merely
rests, and not for long, the loop waits and plans anew. It is bounded by a number of attempts, by the sum of its waits
and by the time that is left, so that it ends whatever the candidates do. After content was sent nothing follows.

Whoever carries an attempt out may say that it is slow to begin (:class:`Lagging`). The loop then names somebody to ask
beside it, until one of them could be started, and is told what came of both (:class:`Raced`); or it says that there is
nobody (:class:`Alone`), and is told what came of the slow one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from omniroute.routing.failures import INVALID_ANSWER, Failure, FailureClass, Scope, Success
from omniroute.routing.options import Option
from omniroute.routing.outcomes import (
    Alone,
    Attempt,
    Candidate,
    Kind,
    Lagging,
    Limits,
    Outcome,
    PassedOver,
    Raced,
    Step,
    Steps,
    Surroundings,
    Tried,
    Verdict,
    Wait,
)
from omniroute.routing.plan import WAITABLE, Entry, Exclusion, Plan, Reason, Seat

__all__ = [
    "Alone",
    "Attempt",
    "Candidate",
    "Kind",
    "Lagging",
    "Limits",
    "Outcome",
    "PassedOver",
    "Raced",
    "Step",
    "Steps",
    "Surroundings",
    "Tried",
    "Verdict",
    "Wait",
    "attempts",
]

_MOST_OTHER_PROVIDERS: Final = 2
"""Providers that may see a request after one has called it malformed: a quirk of translation may be to blame."""
_FAULTS_OF_A_HOST: Final = 2
"""Accounts of a provider that fail to be reached before other providers come first: it is the host, not the account."""
_LIMITS: Final = frozenset({"rate", "quota", "concurrency", "no_credit"})
"""Kinds of rests that a retry of our own failure must not break."""
_PACED: Final = frozenset({Reason.RPM_FULL, Reason.CONCURRENCY_FULL, Reason.QUEUE_FULL})
_CALLERS_OWN: Final = frozenset({Reason.KEY_POLICY, Reason.PRICE_ABOVE_BUDGET, Reason.PRICE_UNKNOWN})
"""Why nothing is left that no other target is an answer to."""
_GENERATION: Final = "generation"
"""The model stumbled over a tool call: the same request may well succeed at once."""
_INVALID_ANSWERS: Final = 1
"""Answers that are not what the operator asks for which lead to another candidate."""
_AGAIN_SLACK_S: Final = 0.05
"""Waits end a little after the rest that they wait for."""
_MOMENT_S: Final = 1.0
_MOMENTS: Final = 3
"""So many waits that are shorter than that are not counted as rounds."""


def attempts(
    plan: Plan, limits: Limits, around: Surroundings, *, rng: Callable[[], random.Random]
) -> Generator[Step, Outcome | None, Verdict]:
    """Yield attempts and waits until one serves or none may follow; return everything that happened."""
    told: Outcome | None = None
    entry = plan.entries[0] if plan.entries else None
    if entry is not None and entry.seats and limits.max_attempts > 0 and around.left() > 0:
        # Nearly always the head serves: what the loop keeps in mind of failures is only made when there is one.
        seat = entry.seats[0]
        told = yield Attempt(Candidate(entry, seat), 1, _kind_of(seat), _patience_of_head(entry, limits))
        if isinstance(told, Success):
            return _SERVED
    loop = _Loop(limits, around, rng, told)
    yield from loop.run(plan)
    return loop.verdict()


_SERVED: Final = Verdict((), is_served=True)


def _kind_of(seat: Seat) -> Kind:
    return Kind.PROBE if seat.probes else Kind.NORMAL


def _patience_of_head(entry: Entry, limits: Limits) -> float:
    """Return how long to wait for an account of an entry where it is the only one."""
    return _patience(entry, limits) if entry.waits_when_paced and len(entry.seats) == 1 else 0.0


def _patience(entry: Entry, limits: Limits) -> float:
    return min(limits.queue_wait_s, entry.config.queue_timeout_ms / 1000)


class _Fate(Enum):
    """What a tried candidate means for its neighbours."""

    NEXT_ACCOUNT = 1
    NEXT_TARGET = 2
    PACED = 3
    STOP = 4


@dataclass(slots=True)
class _Loop:
    limits: Limits
    around: Surroundings
    rng: Callable[[], random.Random]
    told: Outcome | None = None
    """What came of the head, which was tried before there was a loop."""
    tried: list[Tried] = field(default_factory=list)
    passed_over: list[Exclusion] = field(default_factory=list)
    is_over: bool = False
    is_served: bool = False
    waited_s: float = 0.0
    free_at: float | None = None
    number: int = 0
    accounts_out: set[str] = field(default_factory=set)
    targets_out: set[tuple[str, str]] = field(default_factory=set)
    finished: set[tuple[str, str]] = field(default_factory=set)
    transients: dict[tuple[str, str], Candidate] = field(default_factory=dict)
    faulty: set[tuple[str, str]] = field(default_factory=set)
    """Those that failed in passing: waiting for them would only be a slower way to fail."""
    host_faults: dict[str, int] = field(default_factory=dict)
    refused_by: set[str] = field(default_factory=set)
    too_small: int = 0
    """Windows up to this size have proved too small."""
    invalid: int = 0
    """Answers that were not what the operator asks for."""
    current: Sequence[Entry] = ()
    """The list that is being walked."""

    def run(self, plan: Plan) -> Steps:
        for set_number in range(self.limits.max_set_retries + 1):
            if set_number:
                if not self.transients:
                    break
                yield from self._pause(self._jittered(self.limits.set_retry_delay_s, set_number - 1), "set")
                self.finished.clear()
            yield from self._walk(plan.entries)
            if not self.is_over:
                yield from self._retry()
            if self.is_over:
                return
        if self._may_leave(plan):
            yield from self._walk(self.around.chain())
        if not self.is_over and not self.refused_by:  # what is malformed now still is after a rest
            yield from self._wait_for_room()

    def _may_leave(self, plan: Plan) -> bool:
        """Say whether the fallback chain may serve: not what the caller has to mend, nor what he may not have."""
        if plan.is_over_budget or any(one.failure.failure_class is FailureClass.CALLER_FAULT for one in self.tried):
            return False
        reasons = {exclusion.reason for exclusion in plan.exclusions}
        return bool(plan.entries) or not reasons or bool(reasons - _CALLERS_OWN)

    def verdict(self) -> Verdict:
        return Verdict(tuple(self.tried), tuple(self.passed_over), self.free_at, self.waited_s, self.is_served)

    # --- once through the list ---------------------------------------------------------------------------------------

    def _walk(self, entries: Sequence[Entry]) -> Steps:
        paced: list[tuple[float, Candidate]] = []
        deferred: list[Entry] = []
        providers = {entry.option.provider for entry in entries}
        self.current = entries
        for entry in entries:
            if self._is_down(entry) and len(providers) > 1:
                deferred.append(entry)
                continue
            yield from self._entry(entry, paced, may_defer=len(providers) > 1)
            if self.is_over:
                return
            if self._is_down(entry) and len(entry.seats) > 1:
                deferred.append(entry)
        for entry in deferred:
            yield from self._entry(entry, paced, may_defer=False)
            if self.is_over:
                return
        for _until, candidate in sorted(paced, key=lambda one: one[0]):  # nobody is free: now waiting is worth it
            yield from self._try(candidate, self.limits.queue_wait_s)
            if self.is_over:
                return

    def _is_down(self, entry: Entry) -> bool:
        return self.host_faults.get(entry.option.provider, 0) >= _FAULTS_OF_A_HOST

    def _entry(self, entry: Entry, paced: list[tuple[float, Candidate]], *, may_defer: bool) -> Steps:
        """Try the accounts of one target in turn."""
        waiting: list[tuple[float, Candidate]] = []
        is_only = len(entry.seats) == 1
        for seat in entry.seats:
            if self._is_ruled_out(entry) or (may_defer and self._is_down(entry)):
                return
            candidate = Candidate(entry, seat)
            before = len(self.passed_over)
            fate = yield from self._try(candidate, _patience_of_head(entry, self.limits))
            if not self.is_over and self._is_worth_repeating_now():
                fate = yield from self._repeat()
            if self.is_over or fate is _Fate.NEXT_TARGET:
                return
            if fate is _Fate.PACED:
                waiting.append((self.passed_over[before].until or 0.0, candidate))
        if waiting and entry.waits_when_paced and not is_only:
            _, candidate = min(waiting, key=lambda one: one[0])
            fate = yield from self._try(candidate, _patience(entry, self.limits))
        elif not is_only or not entry.waits_when_paced:
            paced.extend(waiting)

    def _is_worth_repeating_now(self) -> bool:
        """Say whether the last failure is tried again before anybody else is."""
        if not self.transients:
            return False
        last = self.tried[-1]
        if last.candidate.key not in self.transients:
            return False
        return last.failure.kind == _GENERATION or not self.limits.failover_before_retry

    def _repeat(self) -> Generator[Step, Outcome | None, _Fate]:
        """Try the last one again at once: its model stumbled, or the operator wants retries first."""
        key = self.tried[-1].candidate.key
        candidate = self.transients.pop(key)
        turns = 1 if self.tried[-1].failure.kind == _GENERATION else self.limits.max_retries
        fate = _Fate.NEXT_ACCOUNT
        for turn in range(turns):
            is_slip = self.tried[-1].failure.kind == _GENERATION
            if not is_slip and not (yield from self._pause(self._jittered(self.limits.retry_delay_s, turn), "retry")):
                return fate
            fate = yield from self._try(candidate, 0.0, Kind.RETRY)
            if self.is_over or key not in self.transients:
                return fate
        self.transients.pop(key, None)
        return fate

    def _try(
        self, candidate: Candidate, patience_s: float, kind: Kind = Kind.NORMAL
    ) -> Generator[Step, Outcome | None, _Fate]:
        entry, account = candidate.entry, candidate.account
        key = candidate.key
        if kind is not Kind.RETRY and (key in self.finished or account.id in self.accounts_out):
            return _Fate.NEXT_ACCOUNT
        if self.number or self.passed_over:  # what the plan saw may have changed since
            checked = self.around.check(entry, account)
            if isinstance(checked, Exclusion) and not (kind is Kind.RETRY and _is_our_own(checked)):
                self.passed_over.append(checked)
                return _Fate.NEXT_ACCOUNT
            if isinstance(checked, Seat):
                candidate = Candidate(entry, checked)
        outcome, self.told = self.told, None
        if outcome is None:
            if self.number >= self.limits.max_attempts or self.around.left() <= 0:
                self.is_over = True
                return _Fate.STOP
            if self.number and self.limits.fallback_delay_s and kind is Kind.NORMAL:
                yield from self._pause(self.limits.fallback_delay_s, "fallback")
            if kind is Kind.NORMAL:
                kind = _kind_of(candidate.seat)
            outcome = yield Attempt(candidate, self.number + 1, kind, patience_s)
        if isinstance(outcome, Lagging):
            outcome = yield from self._beside(candidate)
        if isinstance(outcome, PassedOver):
            self.passed_over.append(outcome.exclusion)
            is_paced = outcome.exclusion.reason in {Reason.RPM_FULL, Reason.CONCURRENCY_FULL}
            return _Fate.PACED if is_paced else _Fate.NEXT_ACCOUNT
        self.number += 1
        if not isinstance(outcome, Failure):
            self.is_over = self.is_served = True
            return _Fate.STOP
        return self._failed(candidate, outcome)

    def _failed(self, candidate: Candidate, failure: Failure) -> _Fate:
        self.tried.append(Tried(candidate, failure))
        fate = self._judge(candidate, failure)
        if fate is _Fate.STOP:
            self.is_over = True
        return fate

    # --- beside a slow one -------------------------------------------------------------------------------------------

    def _beside(self, head: Candidate) -> Generator[Step, Outcome | None, Outcome | None]:
        """Have the next one asked beside a slow one; return what came of the slow one, or that somebody served."""
        for hedge in self._hedges(head):
            outcome = yield Attempt(hedge, self.number + 2, Kind.HEDGE)
            if isinstance(outcome, PassedOver):
                self.passed_over.append(outcome.exclusion)
                continue
            return self._raced(hedge, outcome) if isinstance(outcome, Raced) else outcome
        return (yield Alone())

    def _hedges(self, head: Candidate) -> Iterator[Candidate]:
        if self.number + 1 >= self.limits.max_attempts:
            return
        for entry in self.current:
            for seat in entry.seats:
                account = seat.account
                if account.id == head.account.id or account.id in self.accounts_out or self._is_ruled_out(entry):
                    continue
                if (entry.option.name, account.id) in self.finished or not self.around.may_hedge(entry, account):
                    continue
                checked = self.around.check(entry, account)
                if isinstance(checked, Seat) and not checked.probes:  # what rested is not tried in passing
                    yield Candidate(entry, checked)

    def _raced(self, hedge: Candidate, raced: Raced) -> Outcome:
        match raced.hedge:
            case Success():
                self.number += 1
                return Success()
            case Failure() as failure:
                self.number += 1
                if not isinstance(raced.head, Success):
                    self._failed(hedge, failure)
            case PassedOver(exclusion=exclusion):
                self.passed_over.append(exclusion)
            case None:
                pass
        return raced.head

    # --- what a failure reaches --------------------------------------------------------------------------------------

    def _is_ruled_out(self, entry: Entry) -> bool:
        option = entry.option
        if (option.provider, option.model) in self.targets_out:
            return True
        if self.too_small and option.planned_window <= self.too_small:
            return True
        return option.provider in self.refused_by or len(self.refused_by) > _MOST_OTHER_PROVIDERS

    def _judge(self, candidate: Candidate, failure: Failure) -> _Fate:
        if failure.committed:
            return _Fate.STOP
        option = candidate.option
        self.finished.add(candidate.key)
        match failure.failure_class:
            case FailureClass.CANCELLED:
                return _Fate.STOP
            case FailureClass.CALLER_FAULT:
                return self._judge_caller_fault(option, failure)
            case FailureClass.MODEL_UNAVAILABLE:
                if failure.kind == "entitlement":  # this account's plan; another's may have it
                    return _Fate.NEXT_ACCOUNT
                self.targets_out.add((option.provider, option.model))
                return _Fate.NEXT_TARGET
            case FailureClass.CREDENTIAL | FailureClass.QUOTA | FailureClass.RATE_LIMIT:
                if failure.scope is not Scope.MODEL:
                    self.accounts_out.add(candidate.account.id)
                return _Fate.NEXT_ACCOUNT
            case FailureClass.TRANSIENT:
                self.transients[candidate.key] = candidate
                self.faulty.add(candidate.key)
                if failure.scope is Scope.MODEL:
                    return _Fate.NEXT_TARGET
                self.host_faults[option.provider] = self.host_faults.get(option.provider, 0) + 1
                return _Fate.NEXT_ACCOUNT
            case FailureClass.UNKNOWN if failure.kind == INVALID_ANSWER:
                self.faulty.add(candidate.key)
                self.invalid += 1
                return _Fate.NEXT_TARGET if self.invalid <= _INVALID_ANSWERS else _Fate.STOP
            case FailureClass.UNKNOWN | FailureClass.LOCAL:
                self.faulty.add(candidate.key)
                return _Fate.NEXT_ACCOUNT

    def _judge_caller_fault(self, option: Option, failure: Failure) -> _Fate:
        match failure.kind:
            case "context_length" | "too_large":
                self.too_small = max(self.too_small, option.planned_window, failure.limit or 0)
                return _Fate.NEXT_TARGET
            case "unsupported_param":
                self.targets_out.add((option.provider, option.model))
                return _Fate.NEXT_TARGET
            case "content_policy":
                return _Fate.NEXT_TARGET if self.limits.passes_content_policy else _Fate.STOP
            case "opaque_token":
                return _Fate.STOP
            case _:
                self.refused_by.add(option.provider)
                return _Fate.NEXT_TARGET

    # --- once more, and later ----------------------------------------------------------------------------------------

    def _retry(self) -> Steps:
        """Try again what failed in passing, after a pause that grows."""
        for turn in range(self.limits.max_retries):
            again = [one for one in self.transients.values() if not self._is_ruled_out(one.entry)]
            if not again or self.number >= self.limits.max_attempts:
                return
            self.transients.clear()
            if not (yield from self._pause(self._jittered(self.limits.retry_delay_s, turn), "retry")):
                return
            for candidate in again:
                yield from self._try(candidate, 0.0, Kind.RETRY)
                if self.is_over:
                    return

    def _wait_for_room(self) -> Steps:
        """Where all that is left merely rests, wait for the first that may serve again, and plan anew."""
        limits, around = self.limits, self.around
        rounds = moments = 0
        while True:
            plan = around.again()
            entries = [entry for entry in plan.entries if not self._is_ruled_out(entry)]
            fresh = [entry for entry in entries if self._has_untried(entry)]
            now = around.now()
            self.free_at = _first_end(plan, self)
            if fresh:  # came back while others were tried
                until = now
            elif self.free_at is None:
                return
            else:
                until = self.free_at
            wait = max(0.0, until - now)
            is_worth_it = wait <= limits.longest_wait_s and self.waited_s + wait <= limits.wait_budget_s
            if rounds == limits.wait_rounds or not limits.waits_for_cooldown or not is_worth_it:
                return
            if wait < _MOMENT_S and moments < _MOMENTS:  # failures beside ours have moved the end on by a little
                moments += 1
            else:
                rounds += 1
            if wait and not (yield from self._pause(wait + _AGAIN_SLACK_S, "cooldown")):
                return
            self.finished = set(self.faulty)
            self.accounts_out.clear()
            yield from self._walk(around.again().entries if wait else fresh)
            if self.is_over:
                return

    def _has_untried(self, entry: Entry) -> bool:
        seen = self.finished | self.faulty
        name = entry.option.name
        return any(
            (name, seat.account.id) not in seen
            and seat.account.id not in self.accounts_out
            and not self._is_held_back(name, seat)
            for seat in entry.seats
        )

    def _is_held_back(self, name: str, seat: Seat) -> bool:
        """Say whether a seat may not start yet: its turn was waited for in vain, or somebody else tries it first."""
        now = self.around.now()
        return any(
            (one.target, one.connection_id) == (name, seat.account.id)
            and (one.reason in _PACED or (bool(seat.probes) and one.until is not None and one.until > now))
            for one in self.passed_over
        )

    def _pause(self, seconds: float, reason: str) -> Generator[Step, Outcome | None, bool]:
        """Wait, unless the request would be over before; say whether it went on."""
        if seconds >= self.around.left():
            self.is_over = reason != "cooldown"
            return False
        if seconds > 0:
            if reason == "cooldown":
                self.waited_s += seconds
            yield Wait(seconds, reason)
        return True

    def _jittered(self, base_s: float, turn: int) -> float:
        """Exponential delay with full jitter."""
        return base_s * 2.0**turn * self.rng().random() if base_s else 0.0


def _is_our_own(exclusion: Exclusion) -> bool:
    """Say whether a rest is that of the failure which is tried again, and no limit of the provider's."""
    return exclusion.reason == Reason.COOLING and exclusion.detail not in _LIMITS


def _first_end(plan: Plan, loop: _Loop) -> float | None:
    """Return when the first of those that merely rest may serve again, but for those that failed just now."""
    now = loop.around.now()
    return min(
        (
            exclusion.until
            for exclusion in (*plan.exclusions, *loop.passed_over)
            if exclusion.until is not None
            and exclusion.until > now
            and exclusion.reason in WAITABLE
            and (exclusion.target, exclusion.connection_id) not in loop.faulty
        ),
        default=None,
    )

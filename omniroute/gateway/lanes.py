"""Those who wait for the same grants, and the one who asks for them.

A *lane* has a fair queue and, while somebody waits in it, a *pump*: a greenlet that asks the shared store on behalf of
whoever is first. Only the pump asks, and no request can end it: one whose client leaves just goes from the queue, and
what the pump wins for it goes to the next one or back.

Between two questions the pump sleeps: until the time that the store named where a rate refused; until a place comes
free in this worker or a quarter of a second has passed where places are taken.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import gevent
from gevent.event import Event

from omniroute.gateway.leases import Leases, Loan, Wait
from omniroute.gateway.queueing import FairQueue
from omniroute.routing.limits import Terms
from omniroute.routing.plan import Probe, Reason

REST_PROBE_S: Final = 5.0
"""For how long others pass by while one request tries what rested."""
PROVIDER_PROBE_MARGIN_S: Final = 5.0
"""How much longer than the attempt a provider's probe is claimed."""
_RECHECK_S: Final = 0.25
"""How soon a place that came free in another worker is noticed."""
_LOOK_S: Final = 0.4
"""How soon a changed limit is noticed by those who wait for the old one."""
_TURN_S: Final = 1.0
"""How long somebody without time to wait for a grant waits for the store's answer."""
_SPARE_S: Final = 0.05
_MOST_JITTER_S: Final = 0.02
_NOTICEABLE_S: Final = 0.01
"""Less is the time of the question itself."""


class Refused(Exception):
    """There is no grant for this request, or not within the time that it has.

    Attributes:
        until: when (epoch seconds) the next one may be had; None when that is not known.
        waited_s: how long it had waited.
        is_timeout: it was let wait, and the time ran out.
    """

    def __init__(
        self, reason: Reason, *, until: float | None = None, detail: str | None = None, is_timeout: bool = False
    ) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.until = until
        self.detail = detail
        self.is_timeout = is_timeout
        self.waited_s = 0.0


@dataclass(slots=True, eq=False)
class Waiter:
    """A request in a lane. The pump answers it, unless it is over before: it has left, or was turned away."""

    key_id: str
    loan: Loan
    probes: tuple[Probe, ...]
    lease_s: float
    since: float
    deadline: float
    done: Event = field(default_factory=Event)
    is_granted: bool = False
    is_over: bool = False
    refusal: Refused | None = None
    waited_for: Reason | None = None
    """What it had to wait for; None when it was granted as soon as it had been asked for."""


@dataclass(frozen=True, slots=True)
class Block:
    """Why the first of a lane cannot go. Monotonic times: none can before `until`; asking again is due at `look_at`."""

    reason: Reason
    terms: Terms
    look_at: float
    until: float | None = None

    def is_hopeless_for(self, waiter: Waiter) -> bool:
        """Say whether a waiter's time ends before anything can be granted."""
        if self.until is not None:
            return waiter.deadline < self.until
        return waiter.deadline <= waiter.since


@dataclass(slots=True)
class Tally:
    """What happened in the lanes of a worker."""

    waits: int = 0
    waited_s: float = 0.0
    refusals: Counter[str] = field(default_factory=Counter)

    def refused(self, refusal: Refused) -> Refused:
        """Count a refusal, and return it."""
        self.refusals[refusal.reason.value] += 1
        return refusal


@dataclass(frozen=True, slots=True)
class QueueState:
    """Who waits in one lane of this worker. `until`: epoch seconds, before which there is no grant."""

    name: str
    depth: int
    oldest_wait_s: float
    reason: str | None
    until: float | None


@dataclass(frozen=True, slots=True)
class Means:
    """What all lanes of a worker share. `now` is the monotonic clock, `wall` gives epoch seconds."""

    leases: Leases
    now: Callable[[], float]
    wall: Callable[[], float]
    rng: random.Random
    wait: Wait
    tally: Tally = field(default_factory=Tally)


class Lane:
    """Grants, one at a time.

    Attributes:
        name: also the scope of its places.
        terms: what it takes to be granted, at any moment.
        depth: how many may wait.
    """

    def __init__(self, name: str, means: Means, on_idle: Callable[[Lane], None]) -> None:
        """`on_idle`: called when nobody waits and nothing is in the way."""
        self.name = name
        self.terms: Callable[[], Terms] = Terms
        self.depth = 0
        self._means = means
        self._on_idle = on_idle
        self._queue: FairQueue[Waiter] = FairQueue()
        self._changed = Event()
        self._pump: gevent.Greenlet[..., None] | None = None
        self._current: Waiter | None = None
        self._block: Block | None = None
        self._last_reason = Reason.QUEUE_FULL
        self._spare_until = float("-inf")
        self._freed = 0

    def __len__(self) -> int:
        return len(self._queue)

    # --- in the greenlet of the request ---------------------------------------------------------------------------

    def enter(self, waiter: Waiter) -> None:
        """Wait until the request may go on.

        Raises:
            Refused: it may not, or not in time.
        """
        block = self.known_block()
        if block is not None and block.is_hopeless_for(waiter):
            raise self._means.tally.refused(self._refusal(block))
        self._queue.push(waiter.key_id, waiter)
        if block is not None:
            self._trim(block)
        if waiter.refusal is None:
            if self._pump is None:
                self._pump = gevent.spawn(self._run)
            self._await(waiter)
        if waiter.refusal is not None:
            raise self._means.tally.refused(waiter.refusal)

    def known_block(self) -> Block | None:
        """Return what is in the way, as far as that is known without asking."""
        block = self._block
        if block is not None and (self._means.now() >= block.look_at or block.terms != self.terms()):
            block = self._block = None
        return block

    def free_slot(self) -> None:
        """Let the first try again: a place has come free in this worker."""
        self._freed += 1
        if self._block is not None and self._block.reason is Reason.CONCURRENCY_FULL:
            self._retry()

    def state(self) -> QueueState:
        """Return who waits."""
        block = self.known_block()
        return QueueState(
            name=self.name,
            depth=len(self._queue),
            oldest_wait_s=self._means.now() - min((one.since for one in self._queue), default=self._means.now()),
            reason=None if block is None else block.reason.value,
            until=None if block is None else self.until(block),
        )

    def until(self, block: Block) -> float | None:
        """Return the end of a block in epoch seconds; None when it is not known."""
        return None if block.until is None else self._means.wall() + block.until - self._means.now()

    def close(self) -> None:
        """End the pump and turn everybody away."""
        if self._pump is not None:
            self._pump.kill(timeout=2)
        for waiter in self._queue:
            self._turn_away(waiter, Refused(Reason.QUEUE_FULL))

    def _await(self, waiter: Waiter) -> None:
        patience_s = waiter.deadline - waiter.since
        try:
            self._means.wait(waiter.done, patience_s if patience_s > 0 else _TURN_S)
        except BaseException:  # the client has left
            if waiter.is_granted:
                self._keep_spare(self.terms())
            self._leave(waiter)
            raise
        waited_s = self._means.now() - waiter.since
        if waited_s > _NOTICEABLE_S:
            self._means.tally.waits += 1
            self._means.tally.waited_s += waited_s
            waiter.waited_for = self._last_reason
        if not waiter.is_granted and waiter.refusal is None:
            waiter.refusal = self._refusal(self.known_block(), is_timeout=True)
            self._leave(waiter)

    def _leave(self, waiter: Waiter) -> None:
        waiter.is_over = True
        self._queue.remove(waiter.key_id, waiter)
        if self._current is waiter:
            self._changed.set()

    # --- in the pump ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Grant to one after the other until nobody waits."""
        try:
            while (waiter := self._queue.first()) is not None:
                self._current = waiter
                if self.known_block() is None:
                    self._serve(waiter)
                if not waiter.is_over and not waiter.is_granted:
                    self._rest(waiter)
                if waiter.is_over:
                    # Here, since only here it is known that no question about it is on its way any more.
                    self._means.leases.give_back(waiter.loan)
        finally:
            self._current = self._pump = None
            if self._block is None and not len(self._queue):
                self._on_idle(self)

    def _serve(self, waiter: Waiter) -> None:
        block = self._ask(waiter)
        if block is not None:
            self._block = block
            self._last_reason = block.reason
            for one in self._queue:
                if block.is_hopeless_for(one):
                    self._turn_away(one, self._refusal(block))
            self._trim(block)
        elif not waiter.is_over:
            waiter.is_granted = True
            self._queue.serve(waiter.key_id, waiter)
            waiter.done.set()

    def _rest(self, waiter: Waiter) -> None:
        """Sleep until it is worth asking again, or the one who is first has gone."""
        while not waiter.is_over and (block := self.known_block()) is not None:
            self._changed.clear()
            self._means.wait(self._changed, min(block.look_at - self._means.now(), _LOOK_S))

    def _ask(self, waiter: Waiter) -> Block | None:
        """Get everything for the first of the lane; return what is in the way. The waiter may be over afterwards.

        Places come first, since they can be given back; then what is claimed; rates last, which take nothing back.
        """
        terms = self.terms()
        ahead_s = 0.0 if terms.paused_until is None else terms.paused_until - self._means.wall()
        if ahead_s > 0:
            return self._later(terms, ahead_s)
        if terms.slots and self.name not in waiter.loan.slots and not self._take_slot(waiter, terms.slots):
            look_at = self._means.now() + _RECHECK_S * (1 + 0.2 * self._means.rng.random())
            return Block(Reason.CONCURRENCY_FULL, terms, look_at)
        self._claim(waiter)
        return None if waiter.is_over else self._take_paces(terms, waiter)

    def _take_slot(self, waiter: Waiter, limit: int) -> bool:
        """Take a place; False when all are taken."""
        leases = self._means.leases
        while not waiter.is_over:
            leases.settle()
            freed = self._freed
            if leases.take_slot(waiter.loan, self.name, limit, waiter.lease_s):
                return True
            if freed == self._freed:  # else a place came free while the answer was on its way
                return False
        return True

    def _claim(self, waiter: Waiter) -> None:
        """Win all that one request alone may try, or turn the waiter away."""
        if waiter.probes:
            self._means.leases.settle()
        for probe in waiter.probes:
            if not waiter.is_over and not self._means.leases.claim(waiter.loan, probe.scope, _term_of(probe, waiter)):
                self._turn_away(waiter, lost(probe, self._means.wall()))

    def _take_paces(self, terms: Terms, waiter: Waiter) -> Block | None:
        if self._use_spare():
            return None
        scope = self.name.partition(":")[2]
        for pace in terms.paces:
            # The rate is part of the name: what was granted at a slower one must not hold back a faster one.
            key = f"{pace.kind}:{scope}:{pace.gap_s:g}"
            wait_s = self._means.leases.take_pace(key, pace)
            if wait_s > 0:  # unless somebody has left while the answer was on its way
                return None if not waiter.is_over and self._use_spare() else self._later(terms, wait_s)
        if waiter.is_over:
            self._keep_spare(terms)
        return None

    def _later(self, terms: Terms, wait_s: float) -> Block:
        """Return the block of a rate. All workers hear of the same moment: a little chance decides who is first."""
        until = self._means.now() + wait_s
        jitter_s = self._means.rng.random() * min(_MOST_JITTER_S, wait_s / 10)
        return Block(Reason.RPM_FULL, terms, until + jitter_s, until)

    def _keep_spare(self, terms: Terms) -> None:
        """Let the next one have a grant of the rates that was won for somebody who has left.

        For a moment only: later it would come too close to the grant after it.
        """
        if terms.paces:
            self._spare_until = self._means.now() + _SPARE_S
            self._retry()

    def _use_spare(self) -> bool:
        is_there = self._spare_until > self._means.now()
        self._spare_until = float("-inf")
        return is_there

    def _retry(self) -> None:
        self._block = None
        self._changed.set()

    def _turn_away(self, waiter: Waiter, refusal: Refused) -> None:
        if not waiter.is_over and not waiter.is_granted:
            waiter.refusal = refusal
            self._leave(waiter)
            waiter.done.set()

    def _trim(self, block: Block) -> None:
        """Hold the queue to its length, at the cost of the key that has the most waiting."""
        while len(self._queue) > self.depth and (waiter := self._queue.most_crowded()) is not None:
            self._turn_away(waiter, Refused(Reason.QUEUE_FULL, until=self.until(block)))

    def _refusal(self, block: Block | None, *, is_timeout: bool = False) -> Refused:
        if block is None:
            return Refused(self._last_reason, is_timeout=is_timeout)
        return Refused(block.reason, until=self.until(block), is_timeout=is_timeout)


def _term_of(probe: Probe, waiter: Waiter) -> float:
    if probe.scope.startswith("provider:"):
        return waiter.lease_s + PROVIDER_PROBE_MARGIN_S
    return REST_PROBE_S


def lost(probe: Probe, wall: float) -> Refused:
    """Return the refusal of a request that comes second to try what rested."""
    reason = _LOST.get(probe.scope.partition(":")[0], Reason.COOLING)
    return Refused(reason, until=wall + REST_PROBE_S, detail="probe taken")


_LOST: Final = {
    "provider": Reason.BREAKER_PROBE_TAKEN,
    "model": Reason.LOCKED_OUT,
    "score": Reason.LOW_SCORE,
}

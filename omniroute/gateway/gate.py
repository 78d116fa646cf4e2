"""The gate: what an attempt must get before it may start.

Nearly all connections have no limits, and pass at the cost of a counter. The others have a lane per connection and
worker (`lanes.py`), and steps of a combo with places of their own have one per step, which is passed first. The limits
themselves are in the store that all workers share (`leases.py`), and hold across them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import gevent

from omniroute.gateway.lanes import Lane, Means, QueueState, Refused, Waiter, lost
from omniroute.gateway.leases import Leases, Loan, Store, Wait, new_owner, wait_for
from omniroute.routing.limits import Pace, QueueRules, Terms, terms
from omniroute.routing.options import Account
from omniroute.routing.plan import Entry, Reason, Seat

__all__ = ["Board", "Gate", "GateStats", "QueueState", "Refused", "Ticket"]

_WAKE: Final = Terms(paces=(Pace("wake", 0.1),))
"""Requests that waited for the end of a rest go on one by one."""
_ANY_DEPTH: Final = 1 << 30
_NO_PRESSURE: Final = (0.0, False)


def _as_it_was(account: Account) -> Account:
    return account


class Board(Protocol):
    """What is counted and learned per connection in this worker."""

    def enter(self, account_id: str) -> object:
        """Count a request that starts at a connection."""
        ...

    def leave(self, account_id: str) -> object:
        """Count it out again."""
        ...

    def learned(self, account_id: str) -> tuple[int | None, float | None]:
        """Return how many may run at once, and before when (epoch seconds) none may start; None for neither."""
        ...


class Ticket:
    """The right to run one attempt. Must be released; by whom and how often does not matter.

    Attributes:
        waited_s: how long it took to get it; 0 when there was nothing to wait for.
        waited_for: what was waited for last.
    """

    __slots__ = ("_gate", "_loan", "account_id", "waited_for", "waited_s")

    def __init__(
        self,
        gate: Gate,
        account_id: str,
        loan: Loan | None = None,
        waited_s: float = 0.0,
        waited_for: Reason | None = None,
    ) -> None:
        self.account_id = account_id
        self.waited_s = waited_s
        self.waited_for = waited_for
        self._gate: Gate | None = gate
        self._loan = loan

    def release(self) -> None:
        """Give back all that it stands for; idempotent, never blocks, safe from any greenlet and from the hub."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.take_back(self.account_id, self._loan)

    def release_probes(self) -> None:
        """Let others try what this attempt was the first to try: its verdict is known."""
        if self._gate is not None and self._loan is not None:
            self._gate.take_back_probes(self._loan)

    def take_claims(self) -> Loan | None:
        """Take the claims out, to be given back by the caller and not with the ticket; None when it has none."""
        loan = self._loan
        if self._gate is None or loan is None or not loan.claims:
            return None
        claims, loan.claims = loan.claims, []
        return Loan(loan.holder, claims=claims)


@dataclass(frozen=True, slots=True)
class GateStats:
    """Counts of requests that needed a grant, since the worker started; `queues` and `held_slots` are of now."""

    grants: int
    waits: int
    waited_s: float
    refusals: Mapping[str, int]
    store_failures: int
    held_slots: int
    queues: tuple[QueueState, ...]


class Gate:
    """Lets attempts start, one by one where there are limits."""

    def __init__(
        self,
        *,
        store: Store,
        board: Board,
        rules: Callable[[], QueueRules],
        now: Callable[[], float],
        wall: Callable[[], float],
        rng: random.Random,
        current: Callable[[Account], Account] = _as_it_was,
        wait: Wait = wait_for,
        owner: Callable[[], str] = new_owner,
    ) -> None:
        """`now`: the monotonic clock; `wall`: epoch seconds; `rules`: the limits in force; `owner` names a process.

        `current` gives an account as it is configured now: its limits may change while requests wait for it.
        """
        self._board = board
        self._rules = rules
        self._current = current
        self._now = now
        self._wall = wall
        self._leases = Leases(store, now=now, wall=wall, on_free=self._free_slot, wait=wait, owner=owner)
        self._means = Means(self._leases, now, wall, rng, wait)
        self._lanes: dict[str, Lane] = {}
        self._serials = itertools.count(1)
        self._grants = 0

    # --- in and out -----------------------------------------------------------------------------------------------

    def enter(
        self, seat: Seat, entry: Entry, *, request_id: str, key_id: str, patience_s: float, lease_s: float
    ) -> Ticket:
        """Get what an attempt needs, and wait for it if need be.

        Args:
            seat: the account that is to serve.
            entry: the target that it stands in.
            request_id: may come several times, for several attempts.
            key_id: the API key; waiting is shared fairly between keys.
            patience_s: how long the caller would wait in all; 0 takes what is free now. The settings may allow less.
            lease_s: how long the attempt may take before its first content.

        Raises:
            Refused: it may not start, or not within that time.
        """
        account = seat.account
        rules = self._rules()
        slots, paused_until = self._board.learned(account.id)
        if not (
            seat.probes
            or account.is_paced
            or rules.has_limits
            or entry.config.concurrency_per_model
            or slots is not None
            or paused_until is not None
        ):
            self._board.enter(account.id)
            return Ticket(self, account.id)
        started = self._now()
        loan = Loan(f"{request_id}/{next(self._serials)}")
        try:
            self._check_probes(seat)
            waited_for = None
            if entry.config.concurrency_per_model:
                step = Waiter(key_id, loan, (), lease_s, started, started + max(0.0, patience_s))
                self._enter_step(entry, step)
                waited_for = step.waited_for
            now = self._now()
            allowed_s = min(patience_s - (now - started), rules.max_wait_ms / 1000)
            waiter = Waiter(key_id, loan, seat.probes, lease_s, now, now + max(0.0, allowed_s))
            lane = self._lane(_name_of(account.id), partial(self._terms_of, account), rules.max_queue_depth)
            lane.enter(waiter)
            waited_for = waiter.waited_for or waited_for
        except BaseException as error:
            self._leases.give_back(loan)
            if isinstance(error, Refused):
                error.waited_s = self._now() - started
            raise
        self._grants += 1
        self._board.enter(account.id)
        waited_s = self._now() - started if waited_for is not None else 0.0
        return Ticket(self, account.id, loan, waited_s, waited_for)

    def pace_wakeups(self, account_id: str, *, key_id: str, patience_s: float) -> float:
        """Wait for a turn after a rest, one request per 100 ms and connection; return how long that took.

        Raises:
            Refused: the turn would come too late.
        """
        started = self._now()
        lane = self._lane(f"wake:{account_id}", _wake_terms, _ANY_DEPTH)
        lane.enter(Waiter(key_id, Loan(""), (), 0.0, started, started + max(0.0, patience_s)))
        return self._now() - started

    def take_back(self, account_id: str, loan: Loan | None) -> None:
        """Take back what a ticket stood for."""
        self._board.leave(account_id)
        if loan is not None:
            self._leases.give_back(loan)

    def take_back_probes(self, loan: Loan) -> None:
        """Take back the claims of a ticket."""
        self._leases.give_back_claims(loan)

    def return_claims(self, loans: Sequence[Loan], *, after: Callable[[], object]) -> None:
        """Take back claims once something is done that may wait; never blocks."""

        def wait_and_return() -> None:
            after()
            for loan in loans:
                self._leases.give_back_claims(loan)

        gevent.spawn(wait_and_return)

    def close(self) -> None:
        """Turn away everybody who waits and give back everything that this worker holds."""
        for lane in list(self._lanes.values()):
            lane.close()
        self._lanes.clear()
        self._leases.close()

    # --- looking on -----------------------------------------------------------------------------------------------

    def pressure(self, account_id: str) -> tuple[float, bool]:
        """Return when (epoch seconds, 0 for now) a connection grants again, and whether all its places are taken.

        As this worker learned when it last asked: nothing is asked for this.
        """
        if not self._lanes:  # plans ask this of every account, and most workers have none
            return _NO_PRESSURE
        lane = self._lanes.get(_name_of(account_id))
        block = None if lane is None else lane.known_block()
        if lane is None or block is None:
            return _NO_PRESSURE
        return lane.until(block) or 0.0, block.reason is Reason.CONCURRENCY_FULL

    def has_pressure(self) -> bool:
        """Say whether there may be a connection that does not grant now, or has no place."""
        return bool(self._lanes)

    def queues(self) -> tuple[QueueState, ...]:
        """Return the lanes in which somebody waits."""
        return tuple(lane.state() for lane in self._lanes.values() if len(lane))

    def stats(self) -> GateStats:
        """Return what was granted, waited and refused."""
        tally = self._means.tally
        return GateStats(
            grants=self._grants,
            waits=tally.waits,
            waited_s=tally.waited_s,
            refusals=dict(tally.refusals),
            store_failures=self._leases.failures,
            held_slots=self._leases.held,
            queues=self.queues(),
        )

    # --- lanes ----------------------------------------------------------------------------------------------------

    def _check_probes(self, seat: Seat) -> None:
        """Refuse at once who would come second, rather than let it wait for its turn first."""
        if seat.probes:
            self._leases.settle()  # the same request may have had the probe at another connection until just now
        for probe in seat.probes:
            if self._leases.is_taken(probe.scope):
                raise self._means.tally.refused(lost(probe, self._wall()))

    def _enter_step(self, entry: Entry, waiter: Waiter) -> None:
        config = entry.config
        demands = Terms(slots=config.concurrency_per_model)
        waiter.deadline = min(waiter.deadline, waiter.since + config.queue_timeout_ms / 1000)
        self._lane(f"step:{entry.scope}:{entry.step_id}", lambda: demands, config.queue_depth).enter(waiter)

    def _terms_of(self, account: Account) -> Terms:
        return terms(self._current(account), self._rules(), self._board.learned(account.id))

    def _lane(self, name: str, demands: Callable[[], Terms], depth: int) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(name, self._means, self._forget)
        lane.terms, lane.depth = demands, depth  # as the newest request knows them
        return lane

    def _forget(self, lane: Lane) -> None:
        self._lanes.pop(lane.name, None)

    def _free_slot(self, scope: str) -> None:
        lane = self._lanes.get(scope)
        if lane is not None:
            lane.free_slot()


def _name_of(account_id: str) -> str:
    return f"connection:{account_id}"


def _wake_terms() -> Terms:
    return _WAKE

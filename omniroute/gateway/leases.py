"""What this worker has borrowed from the state that all workers share: places, claims, and grants of a rate.

Places are rows with an end, renewed while they are held and given back when they are not; what a crash leaves behind
ends by itself. If the store cannot be used, rates and places are granted (a gateway that serves too much is better than
one that serves nothing) and nothing is claimed; both are counted.

The store is called from greenlets that nobody kills but :meth:`Leases.close`: a call whose caller died half-way would
leave a place taken that nobody holds.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, TypeVar
from uuid import uuid4

import gevent
from gevent.event import Event

from omniroute.errors import OmniRouteError
from omniroute.routing.limits import Pace

log = logging.getLogger(__name__)

RENEW_EVERY_S: Final = 30.0
LEASE_MARGIN_S: Final = 30.0
"""How much longer than the attempt a place is leased, so that one missed renewal loses nothing."""
_MISTRUST_S: Final = 1.0
"""After an error the store is left alone for this long: each call may wait for seconds before it fails."""
_LOST_S: Final = 0.25
_SETTLE_S: Final = 1.0
_NOT_ASKED: Final = object()

T = TypeVar("T")
D = TypeVar("D")


class Store(Protocol):
    """The shared state that is used here; every method may raise `StorageError`."""

    def take_pace(self, key: str, gap_s: float, burst: float, now: float) -> float:
        """Take a grant and return 0, or return in how many seconds the next one may be had."""
        ...

    def acquire_slot(self, scope: str, limit: int, request_id: str, owner: str, until: float) -> bool:
        """Take a place of a scope until a time; False when all are taken."""
        ...

    def renew_slots(self, owner: str, until: float) -> object:
        """Move the end of all places of an owner."""
        ...

    def release_slot(self, scope: str, request_id: str) -> object:
        """Give a place back; nothing happens when it is not held."""
        ...

    def release_owner(self, owner: str) -> object:
        """Give back all places of an owner."""
        ...

    def claim(self, name: str, owner: str, until: float) -> bool:
        """Win what only one may do until a time; False when somebody else has it."""
        ...

    def release_claim(self, name: str, owner: str) -> object:
        """Give a claim back; nothing happens when it is not held."""
        ...


Wait = Callable[[Event, float], bool]
"""Wait for an event for at most some seconds; True when it came."""


def wait_for(event: Event, seconds: float) -> bool:
    """Wait in real time."""
    return bool(event.wait(seconds))


def new_owner() -> str:
    """Return a name for this process that no other has or will have."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


@dataclass(slots=True)
class Loan:
    """What one request has borrowed. `holder` is its own name in the store, and of no other attempt."""

    holder: str
    slots: list[str] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)


class Leases:
    """Borrows for one worker and gives back."""

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
        on_free: Callable[[str], None],
        wait: Wait = wait_for,
        owner: Callable[[], str] = new_owner,
    ) -> None:
        """`now`: the monotonic clock; `wall`: epoch seconds; `owner`: names a process, called anew after a fork.

        `on_free` is called with the scope of each place that was given back.
        """
        self.failures = 0
        """Calls that the store did not answer."""
        self._store = store
        self._now = now
        self._wall = wall
        self._on_free = on_free
        self._wait = wait
        self._new_owner = owner
        self._named: tuple[int, str] | None = None
        self._mistrusted_until = float("-inf")
        self._is_failing = False
        self._held: dict[tuple[str, str], float] = {}
        self._claimed: dict[str, str] = {}
        self._taken_until: dict[str, float] = {}
        self._unreturned: list[tuple[str, str]] = []
        self._returns: list[Loan] = []
        self._batch: Event | None = None
        self._running_batch: Event | None = None
        self._returner: gevent.Greenlet[..., None] | None = None
        self._renewer: gevent.Greenlet[..., None] | None = None
        self._closing = Event()

    @property
    def held(self) -> int:
        """How many places this worker holds."""
        return len(self._held)

    # --- borrowing ------------------------------------------------------------------------------------------------

    def take_pace(self, key: str, pace: Pace) -> float:
        """Take a grant of a rate: 0 when it is had, else the seconds until it may be."""
        return self._ask(partial(self._store.take_pace, key, pace.gap_s, pace.burst, self._wall()), 0.0)

    def take_slot(self, loan: Loan, scope: str, limit: int, lease_s: float) -> bool:
        """Take a place; the loan has it then, unless the store could not be asked."""
        if self._is_mistrusted():
            return True
        lease_s = max(lease_s, RENEW_EVERY_S) + LEASE_MARGIN_S
        until = self._wall() + lease_s
        has_won = self._ask(partial(self._store.acquire_slot, scope, limit, loan.holder, self._owner, until), None)
        if has_won is None:
            self._unreturned.append((scope, loan.holder))  # it may have been stored all the same
            self._keep_renewing()
            return True
        if has_won:
            loan.slots.append(scope)
            self._held[scope, loan.holder] = lease_s
            self._keep_renewing()
        return has_won

    def claim(self, loan: Loan, name: str, for_s: float) -> bool:
        """Win a claim, unless the loan has it already. Nobody wins when the store cannot be asked."""
        if self.is_taken(name):
            return name in loan.claims
        has_won = self._ask(partial(self._store.claim, name, loan.holder, self._wall() + for_s), None)
        if has_won is None:
            return False
        if has_won:
            self._claimed[name] = loan.holder
            self._taken_until[name] = self._now() + for_s
            if name not in loan.claims:
                loan.claims.append(name)
        else:
            # Whoever else asks within a moment would lose as well, and there may be hundreds.
            self._taken_until[name] = self._now() + _LOST_S
        return has_won

    def is_taken(self, name: str) -> bool:
        """Say whether a claim is known to be somebody's, without asking the store."""
        until = self._taken_until.get(name)
        if until is None:
            return False
        if until > self._now():
            return True
        del self._taken_until[name]
        return False

    # --- giving back ----------------------------------------------------------------------------------------------

    def give_back(self, loan: Loan) -> None:
        """Give back all of a loan soon; never blocks, so that it may be called from anywhere."""
        returned = Loan(loan.holder, loan.slots, loan.claims)
        loan.slots, loan.claims = [], []
        if not returned.slots and not returned.claims:
            return
        for scope in returned.slots:
            self._held.pop((scope, returned.holder), None)
        self._returns.append(returned)
        if self._batch is None:
            self._batch = Event()
        if self._returner is None or self._returner.dead:
            self._returner = gevent.spawn(self._return_all)

    def give_back_claims(self, loan: Loan) -> None:
        """Give back the claims of a loan soon, and leave it its places."""
        claims, loan.claims = loan.claims, []
        self.give_back(Loan(loan.holder, claims=claims))

    def settle(self) -> None:
        """Wait until what was given back so far is free for others, so that it is not missed by who asks next."""
        batch = self._batch or self._running_batch
        if batch is not None:
            self._wait(batch, _SETTLE_S)

    def close(self) -> None:
        """Give back everything that this worker holds."""
        self._closing.set()
        gevent.killall([one for one in (self._returner, self._renewer) if one is not None], timeout=2)
        claims = dict(self._claimed)
        self._held.clear()
        self._claimed.clear()
        self._taken_until.clear()
        self._unreturned.clear()
        self._returns.clear()
        self._batch = self._running_batch = None
        with suppress(OmniRouteError):  # they end by themselves
            if self._named is not None:  # it has asked for places
                self._store.release_owner(self._owner)
            for name, holder in claims.items():
                self._store.release_claim(name, holder)

    # --- greenlets ------------------------------------------------------------------------------------------------

    def _return_all(self) -> None:
        while self._returns:
            returns, self._returns = self._returns, []
            self._running_batch, self._batch = self._batch, None
            for loan in returns:
                self._return(loan)
            if self._running_batch is not None:
                self._running_batch.set()
                self._running_batch = None

    def _return(self, loan: Loan) -> None:
        for scope in loan.slots:
            self._return_slot(scope, loan.holder)
            self._on_free(scope)
        for name in loan.claims:
            self._ask(partial(self._store.release_claim, name, loan.holder), None)  # else it ends by itself
            if self._claimed.get(name) == loan.holder:
                del self._claimed[name]
                self._taken_until.pop(name, None)

    def _return_slot(self, scope: str, holder: str) -> None:
        if self._ask(partial(self._store.release_slot, scope, holder), _NOT_ASKED) is _NOT_ASKED:
            self._unreturned.append((scope, holder))
            self._keep_renewing()

    def _keep_renewing(self) -> None:
        if self._renewer is None or self._renewer.dead:
            self._renewer = gevent.spawn(self._renew)

    def _renew(self) -> None:
        """Renew what is held, all at once; before that return what could not be, or it would be renewed as well."""
        while not self._wait(self._closing, RENEW_EVERY_S):
            unreturned, self._unreturned = self._unreturned, []
            for scope, holder in unreturned:
                self._return_slot(scope, holder)
            if self._held:
                until = self._wall() + max(self._held.values())
                self._ask(partial(self._store.renew_slots, self._owner, until), None)
            elif not self._unreturned:
                return

    # --- trust ----------------------------------------------------------------------------------------------------

    @property
    def _owner(self) -> str:
        pid = os.getpid()
        if self._named is None or self._named[0] != pid:
            self._named = pid, self._new_owner()
        return self._named[1]

    def _ask(self, call: Callable[[], T], otherwise: D) -> T | D:
        """Call the store; `otherwise` when it cannot be used, or could not a moment ago."""
        if self._is_mistrusted():
            return otherwise
        try:
            answer = call()
        except OmniRouteError:
            if not self._is_failing:
                log.warning("the shared state of limits cannot be used; requests start without asking it")
            self.failures += 1
            self._is_failing = True
            self._mistrusted_until = self._now() + _MISTRUST_S
            return otherwise
        self._is_failing = False
        return answer

    def _is_mistrusted(self) -> bool:
        return self._now() < self._mistrusted_until

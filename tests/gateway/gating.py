"""What tests of the gate stand on: time that moves when told, a store in memory, and requests that say what became of
them.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.event import Event

from omniroute.errors import StorageError
from omniroute.gateway.gate import Gate, Refused, Ticket
from omniroute.gateway.leases import Store
from omniroute.routing.config import ComboConfig
from omniroute.routing.limits import QueueRules
from omniroute.routing.options import Account, AuthClass, Option
from omniroute.routing.plan import Entry, Probe, Seat

START = 1_800_000_000.0


class FakeTime:
    """A clock, and timers that end when it is moved."""

    def __init__(self) -> None:
        self.passed = 0.0
        self._timers: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return self.passed

    def wall(self) -> float:
        return START + self.passed

    def wait(self, event: Event, seconds: float) -> bool:
        timer = (self.passed + seconds, next(self._numbers), Event())
        heapq.heappush(self._timers, timer)
        try:
            gevent.wait([event, timer[2]], count=1)
        finally:
            if timer in self._timers:
                self._timers.remove(timer)
                heapq.heapify(self._timers)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Let time pass, one timer after the other."""
        end = self.passed + seconds
        settle()
        while self._timers and self._timers[0][0] <= end:
            due, _, event = heapq.heappop(self._timers)
            self.passed = max(self.passed, due)
            event.set()
            settle()
        self.passed = end
        settle()


def settle() -> None:
    """Let every greenlet run until all of them wait."""
    for _ in range(60):
        gevent.sleep(0)


class FakeStore:
    """The shared state in memory, with the arithmetic of the real one."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.wall = wall
        self.calls: Counter[str] = Counter()
        self.is_down = False
        self.gate: Event | None = None
        """While set to an event, calls have happened but do not return before it."""
        self.before_return: Callable[[], None] | None = None
        """Called once, when the next call has happened and is about to return."""
        self.next_at: dict[str, float] = {}
        self.slots: dict[str, dict[str, tuple[str, float]]] = {}
        self.claims: dict[str, tuple[str, float]] = {}

    def held(self, scope: str) -> int:
        return sum(until > self.wall() for _, until in self.slots.get(scope, {}).values())

    def _called(self, name: str) -> None:
        self.calls[name] += 1
        if self.is_down:
            raise StorageError

    def _return(self) -> None:
        if self.gate is not None:
            self.gate.wait()
        else:
            gevent.sleep(0)  # other greenlets run meanwhile, as with a real database
        call, self.before_return = self.before_return, None
        if call is not None:
            call()

    def change_token(self) -> None:
        raise StorageError  # nothing is kept of health here: each worker goes by its own

    def change_health(self, *_: object) -> None:
        raise StorageError

    def take_pace(self, key: str, gap_s: float, burst: float, now: float) -> float:
        self._called("take_pace")
        base = max(self.next_at.get(key, 0.0), now)
        wait_s = base - now - burst * gap_s
        if wait_s <= 1e-9:
            self.next_at[key] = base + gap_s
            wait_s = 0.0
        self._return()
        return wait_s

    def acquire_slot(self, scope: str, limit: int, request_id: str, owner: str, until: float) -> bool:
        self._called("acquire_slot")
        has_won = self.held(scope) - (request_id in self.slots.get(scope, {})) < limit
        if has_won:
            self.slots.setdefault(scope, {})[request_id] = (owner, until)
        self._return()
        return has_won

    def renew_slots(self, owner: str, until: float) -> int:
        self._called("renew_slots")
        own = [(rows, name) for rows in self.slots.values() for name, row in rows.items() if row[0] == owner]
        for rows, name in own:
            rows[name] = (owner, until)
        return len(own)

    def release_slot(self, scope: str, request_id: str) -> bool:
        self._called("release_slot")
        has_gone = self.slots.get(scope, {}).pop(request_id, None) is not None
        self._return()
        return has_gone

    def release_owner(self, owner: str) -> int:
        self._called("release_owner")
        own = [(rows, name) for rows in self.slots.values() for name, row in rows.items() if row[0] == owner]
        for rows, name in own:
            del rows[name]
        return len(own)

    def claim(self, name: str, owner: str, until: float) -> bool:
        self._called("claim")
        has_won = name not in self.claims or self.claims[name][1] <= self.wall()
        if has_won:
            self.claims[name] = (owner, until)
        self._return()
        return has_won

    def release_claim(self, name: str, owner: str) -> bool:
        self._called("release_claim")
        is_ours = self.claims.get(name, ("", 0.0))[0] == owner
        if is_ours:
            del self.claims[name]
        self._return()
        return is_ours


class FakeBoard:
    """What is counted and learned."""

    def __init__(self) -> None:
        self.in_flight: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.lessons: dict[str, tuple[int | None, float | None]] = {}

    def enter(self, account_id: str) -> None:
        self.in_flight[account_id] += 1
        self.most[account_id] = max(self.most[account_id], self.in_flight[account_id])

    def leave(self, account_id: str) -> None:
        self.in_flight[account_id] -= 1

    def learned(self, account_id: str) -> tuple[int | None, float | None]:
        return self.lessons.get(account_id, (None, None))


@dataclass
class Request:
    """One request at the gate, in a greenlet of its own."""

    name: str
    greenlet: Any = None
    ticket: Ticket | None = None
    refusal: Refused | None = None
    at: float = 0.0
    """When it was answered."""

    @property
    def is_waiting(self) -> bool:
        return self.ticket is None and self.refusal is None and not self.greenlet.dead

    def leave(self) -> None:
        """The client goes: its driver is killed wherever it is."""
        self.greenlet.kill(block=False)


@dataclass
class Worker:
    """A gate with what it stands on; several may share time and store."""

    time: FakeTime
    store: Store
    rules: QueueRules = field(default_factory=QueueRules)
    name: str = "worker"
    board: FakeBoard = field(default_factory=FakeBoard)
    answered: list[Request] = field(default_factory=list)
    """Those that were granted, in order."""
    edited: dict[str, Account] = field(default_factory=dict)
    """Accounts whose configuration has changed since requests began to wait, by id."""

    def __post_init__(self) -> None:
        self.gate = Gate(
            store=self.store,
            board=self.board,
            rules=lambda: self.rules,
            now=self.time.now,
            wall=self.time.wall,
            rng=random.Random(7),
            current=lambda account: self.edited.get(account.id, account),
            wait=self.time.wait,
            owner=lambda: self.name,
        )
        self._numbers = itertools.count(1)

    def send(
        self,
        account: Account,
        *,
        key: str = "key",
        patience_s: float = 60.0,
        lease_s: float = 120.0,
        probes: tuple[str, ...] = (),
        config: ComboConfig | None = None,
        name: str = "",
    ) -> Request:
        """Send one request to the gate; it runs when greenlets may."""
        request = Request(name or f"{self.name}-{next(self._numbers)}")
        seat = Seat(account, tuple(Probe(scope) for scope in probes))
        entry = entry_of(account, config)

        def go() -> None:
            try:
                request.ticket = self.gate.enter(
                    seat, entry, request_id=request.name, key_id=key, patience_s=patience_s, lease_s=lease_s
                )
                self.answered.append(request)
            except Refused as refusal:
                request.refusal = refusal
            request.at = self.time.now()

        request.greenlet = gevent.spawn(go)
        return request

    def send_all(self, count: int, account: Account, **options: Any) -> list[Request]:
        return [self.send(account, **options) for _ in range(count)]


def entry_of(account: Account, config: ComboConfig | None = None) -> Entry:
    option = Option("acme/large", "acme", "large", (account,))
    return Entry(option, (Seat(account),), step_id="s1", scope="combo_1", config=config or ComboConfig())


def account_of(name: str = "conn_1", *, rpm: int = 0, gap_ms: int = 0, places: int = 0) -> Account:
    """An account with limits."""
    return Account(name, "acme", AuthClass.API_KEY, requests_per_minute=rpm, min_gap_ms=gap_ms, max_concurrent=places)

"""What limits the start of requests at a connection: rate, gap, places, and what its provider taught us.

Rates follow the generic cell rate algorithm: one stored time per limit, the *theoretical arrival time*. A request may
start when that time is at most `burst` gaps ahead, and moves it one gap on. No request is counted twice, and nothing
has to be reset when a window ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from omniroute.routing.options import Account

_MINUTE_S: Final = 60.0
_BURST_SHARE: Final = 6
"""A sixth of a minute's requests may come at once: agents send in bursts, and providers count whole minutes."""


@dataclass(frozen=True, slots=True)
class QueueRules:
    """Limits of every connection that has none of its own; 0 is no limit.

    Attributes:
        max_wait_ms: how long a request waits for its turn at a connection.
        max_queue_depth: how many may wait at one connection in one worker.
        learns_limits: whether what providers say about their limits counts.
    """

    requests_per_minute: int = 0
    min_gap_ms: int = 0
    concurrent_requests: int = 0
    max_wait_ms: int = 15_000
    max_queue_depth: int = 100
    learns_limits: bool = True

    @property
    def has_limits(self) -> bool:
        """Whether connections without limits of their own are limited."""
        return bool(self.requests_per_minute or self.min_gap_ms or self.concurrent_requests)


@dataclass(frozen=True, slots=True)
class Pace:
    """One rate: a request every `gap_s` seconds, and up to `burst` gaps ahead of that."""

    kind: str
    gap_s: float
    burst: float = 0.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What a request must get before it may start.

    Attributes:
        paces: all of them must grant, in this order.
        slots: how many may run at once; 0 is any number.
        paused_until: epoch seconds before which none starts; None for no pause.
    """

    paces: tuple[Pace, ...] = ()
    slots: int = 0
    paused_until: float | None = None


def paces(requests_per_minute: int, min_gap_ms: int) -> tuple[Pace, ...]:
    """Return the rates that hold a number of requests per minute and a least time between two; 0 is no limit.

    The gap comes first: its grant is lost when the other refuses, which delays a request by at most one gap, whereas a
    lost grant of the minute would be a request less.
    """
    found = []
    gap_s = max(0, min_gap_ms) / 1000
    share_s = _MINUTE_S / requests_per_minute if requests_per_minute > 0 else 0.0
    if gap_s > 0:
        found.append(Pace("gap", gap_s))
    if share_s > gap_s:  # otherwise the gap alone keeps the minute
        found.append(Pace("rpm", share_s, max(1.0, requests_per_minute / _BURST_SHARE)))
    return tuple(found)


def terms(account: Account, rules: QueueRules, learned: tuple[int | None, float | None]) -> Terms:
    """Return what an account demands: its own values before those of all, and never more than was learned.

    `learned`: how many may run at once, and until when none may start, as its provider let us know; None for neither.
    """
    slots = account.max_concurrent or rules.concurrent_requests
    paused_until = None
    if rules.learns_limits:
        learned_slots, paused_until = learned
        if learned_slots is not None:
            most = max(1, learned_slots)
            slots = min(slots or most, most)
    rates = paces(
        account.requests_per_minute or rules.requests_per_minute,
        account.min_gap_ms or rules.min_gap_ms,
    )
    return Terms(rates, max(0, slots), paused_until)

"""When a slow attempt may have a second one beside it: how long it is waited for, how often, and in what state.

A hedge costs a second answer. So it is bounded: one request in ten of a key over ten minutes, and none while so much of
the pool is ill that the others need all the room that is left.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from omniroute.routing.asked import Asked
from omniroute.routing.config import ComboConfig
from omniroute.routing.expiring import Class, standing
from omniroute.routing.options import Account
from omniroute.routing.plan import Entry, Plan, Reason
from omniroute.routing.view import Figures

SHARE: Final = 10
"""One hedge for so many requests."""
SPAN_S: Final = 600.0
LEAST_AUTO_S: Final = 0.3
MOST_AUTO_S: Final = 15.0
_SLICE_S: Final = 60.0
_MOST_KEYS: Final = 10_000
_ILL: Final = frozenset(
    {
        Reason.CREDENTIAL_DEAD,
        Reason.ACCOUNT_BLOCKED,
        Reason.NO_CREDIT,
        Reason.QUOTA_EXHAUSTED,
        Reason.COOLING,
        Reason.LOCKED_OUT,
        Reason.BREAKER_OPEN,
        Reason.BREAKER_PROBE_TAKEN,
        Reason.LOW_SCORE,
        Reason.PROXY_UNAVAILABLE,
    }
)
"""Reasons that say something of the health of what is left out."""


def delay_s(config: ComboConfig, figures: Figures, *, is_stream: bool) -> float:
    """Return how long the first attempt is waited for before somebody else is asked beside it.

    `auto` goes by what is usual for the target: the time to its first content, or to the end of a whole answer. Where
    nobody knows what is usual, nothing counts as slow for as long as possible.
    """
    if isinstance(config.hedge_delay_ms, int):
        return config.hedge_delay_ms / 1000
    usual_ms = figures.ttft_p95 if is_stream else figures.total_p95
    if usual_ms is None:
        return MOST_AUTO_S
    return min(MOST_AUTO_S, max(LEAST_AUTO_S, usual_ms / 1000))


def is_mostly_ill(plan: Plan) -> bool:
    """Say whether more than half of the connections that a request could use are out for their health."""
    ill = {(one.target, one.connection_id) for one in plan.exclusions if one.reason in _ILL}
    well = sum(len(entry.seats) for entry in plan.entries)
    return len(ill) > well


def may_serve_beside(entry: Entry, account: Account, asked: Asked, config: ComboConfig) -> bool:
    """Say whether a candidate may be a hedge: metered ones only where that is allowed, and none out of its reserve."""
    if not entry.option.is_unmetered:
        return config.hedge_allow_paid
    return standing(entry.option, account, asked, entry.config).kind is not Class.RESERVE


@dataclass(slots=True)
class _Counts:
    slice: int
    requests: int = 0
    hedges: int = 0


@dataclass(slots=True)
class _Tally:
    slices: deque[_Counts] = field(default_factory=deque)

    def at(self, now: float) -> _Counts:
        """Return the counts of this minute; those that are too old are gone."""
        this = int(now / _SLICE_S)
        while self.slices and self.slices[0].slice <= this - SPAN_S / _SLICE_S:
            self.slices.popleft()
        if not self.slices or self.slices[-1].slice != this:
            self.slices.append(_Counts(this))
        return self.slices[-1]


class Shares:
    """How many hedges each key may still have. `now` is any clock in seconds that goes forward."""

    __slots__ = ("_tallies",)

    def __init__(self) -> None:
        self._tallies: OrderedDict[str, _Tally] = OrderedDict()  # the longest unused first

    def note_request(self, key_id: str, now: float) -> None:
        """Count a request that could be hedged."""
        tally = self._tallies.get(key_id)
        if tally is None:
            tally = self._tallies[key_id] = _Tally()
            if len(self._tallies) > _MOST_KEYS:
                self._tallies.popitem(last=False)
        else:
            self._tallies.move_to_end(key_id)
        tally.at(now).requests += 1

    def has_left(self, key_id: str, now: float) -> bool:
        """Say whether another request of a key may be hedged: of each ten, one."""
        tally = self._tallies.get(key_id)
        if tally is None:
            return False
        tally.at(now)
        hedges = sum(one.hedges for one in tally.slices)
        return hedges * SHARE < sum(one.requests for one in tally.slices)

    def note_hedge(self, key_id: str, now: float) -> None:
        """Count a hedge."""
        tally = self._tallies.get(key_id)
        if tally is not None:
            tally.at(now).hedges += 1

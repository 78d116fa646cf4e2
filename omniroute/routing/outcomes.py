"""What the attempt loop says and what it is told: values, see :mod:`omniroute.routing.attempts`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from omniroute.routing.failures import Failure, Success
from omniroute.routing.options import Account, Option
from omniroute.routing.plan import Entry, Exclusion, Plan, Seat


class Kind(StrEnum):
    """Why an attempt is made."""

    NORMAL = "normal"
    RETRY = "retry"
    HEDGE = "hedge"
    PROBE = "probe"
    CONTINUATION = "continuation"


class Candidate(Struct, frozen=True, gc=False):
    """A target together with the account that is to serve it."""

    entry: Entry
    seat: Seat

    @property
    def option(self) -> Option:
        """The model at its provider."""
        return self.entry.option

    @property
    def account(self) -> Account:
        """The connection."""
        return self.seat.account

    @property
    def key(self) -> tuple[str, str]:
        """What tells candidates apart."""
        return self.entry.option.name, self.seat.account.id


class Attempt(Struct, frozen=True, gc=False):
    """Try this candidate now.

    Attributes:
        number: counts from 1 over the whole request.
        patience_s: how long to wait for its pacing or a free place; 0 passes it over.
    """

    candidate: Candidate
    number: int
    kind: Kind = Kind.NORMAL
    patience_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so long; `reason` is `retry`, `set`, `fallback` or `cooldown`."""

    seconds: float
    reason: str


class PassedOver(Struct, frozen=True, gc=False):
    """The candidate was not asked: no grant, no free place, or somebody else tries it first."""

    exclusion: Exclusion


@dataclass(frozen=True, slots=True)
class Lagging:
    """The attempt is slow to begin: may somebody else be asked beside it?"""


@dataclass(frozen=True, slots=True)
class Alone:
    """Nobody may be asked beside the slow attempt: tell what comes of it."""


@dataclass(frozen=True, slots=True)
class Raced:
    """What came of a slow attempt and of the hedge beside it: where one served, the other one was cancelled.

    Attributes:
        hedge: None when the slow one ended before the hedge could start.
    """

    head: Success | Failure | PassedOver
    hedge: Success | Failure | PassedOver | None


Outcome = Success | Failure | PassedOver | Lagging | Raced
Step = Attempt | Wait | Alone
Steps = Generator[Step, Outcome | None, None]


@dataclass(frozen=True, slots=True)
class Tried:
    """One failed attempt, for the log and for choosing the error that the caller sees."""

    candidate: Candidate
    failure: Failure


class Limits(Struct, frozen=True, gc=False):
    """Bounds of one request; see the settings of combos and of resilience."""

    max_attempts: int = 12
    max_retries: int = 1
    retry_delay_s: float = 2.0
    failover_before_retry: bool = True
    max_set_retries: int = 0
    set_retry_delay_s: float = 2.0
    fallback_delay_s: float = 0.0
    queue_wait_s: float = 15.0
    waits_for_cooldown: bool = True
    longest_wait_s: float = 30.0
    wait_rounds: int = 2
    wait_budget_s: float = 60.0
    passes_content_policy: bool = False


class Verdict(Struct, frozen=True, gc=False):
    """What came of the loop: every failure in order, and who was passed over.

    Attributes:
        free_at: when the first of those that merely rest may serve (epoch seconds); None when nobody does.
        waited_s: the sum of all waits for cooldowns.
    """

    tried: tuple[Tried, ...]
    passed_over: tuple[Exclusion, ...] = ()
    free_at: float | None = None
    waited_s: float = 0.0
    is_served: bool = False


class Surroundings(Struct, frozen=True):
    """What the loop asks the world for.

    Attributes:
        now: epoch seconds.
        left: seconds until the request's deadline.
        check: whether a candidate may still be tried, by fresh health.
        again: a new plan after a wait.
        chain: the operator's fallback chain for this request; () when there is none.
        may_hedge: whether a candidate may be asked beside a slow one.
    """

    now: Callable[[], float]
    left: Callable[[], float]
    check: Callable[[Entry, Account], Seat | Exclusion]
    again: Callable[[], Plan]
    chain: Callable[[], Sequence[Entry]] = tuple
    may_hedge: Callable[[Entry, Account], bool] = lambda _entry, _account: False

"""What is written down of a simulated world: calls, requests, and whatever should not have happened."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from omniroute.routing.attempts import Kind, Verdict
from omniroute.routing.health import Notice
from omniroute.routing.options import Features


@dataclass(frozen=True, slots=True)
class Call:
    """One call that an account received."""

    at: float
    account: str
    option: str
    kind: Kind
    worker: int
    request: int
    status: int
    """200 for one that served; 0 for one that was refused before an answer."""


@dataclass(slots=True)
class Ended:
    """What became of a request. Times are seconds since the world began.

    Attributes:
        waited_s: waits for cooldowns, retries and pauses of the loop, and for grants.
        spared: candidates that would have served when it failed.
    """

    number: int
    name: str
    worker: int
    began_at: float
    ended_at: float = 0.0
    served_by: str | None = None
    connection: str | None = None
    calls: list[Call] = field(default_factory=list)
    waited_s: float = 0.0
    cooldown_waits: list[float] = field(default_factory=list)
    verdict: Verdict | None = None
    spared: list[str] = field(default_factory=list)
    is_broken: bool = False
    features: Features = field(default_factory=Features)

    @property
    def is_served(self) -> bool:
        return self.served_by is not None

    @property
    def kinds(self) -> list[str]:
        """Return the kinds of its failures, in order."""
        return [] if self.verdict is None else [one.failure.kind for one in self.verdict.tried]


@dataclass(slots=True)
class Ledger:
    """Everything that happened.

    Attributes:
        inside_rests: calls of what rested by the stored rows, or by the provider's own words, and was no probe.
        probes: calls that were the first to try something that had rested.
        astray: requests that were served by something that neither their name nor their chain leads to.
        mismatches: requests whose recorded decision was not decided the same again.
    """

    calls: list[Call] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    inside_rests: list[tuple[Call, str]] = field(default_factory=list)
    probes: list[Call] = field(default_factory=list)
    astray: list[Ended] = field(default_factory=list)
    mismatches: list[Any] = field(default_factory=list)
    verified: int = 0
    notices: list[tuple[float, Notice]] = field(default_factory=list)

    @property
    def served(self) -> list[Ended]:
        return [one for one in self.ended if one.is_served]

    @property
    def failed(self) -> list[Ended]:
        return [one for one in self.ended if not one.is_served]

    @property
    def needless(self) -> list[Ended]:
        """Return the requests that failed although somebody would have served them."""
        return [one for one in self.ended if one.spared]

    def by_account(self, since: float = 0.0, until: float = float("inf")) -> Counter[str]:
        """Return calls by account."""
        return Counter(call.account for call in self.calls if since <= call.at < until)

    def heads(self) -> Counter[str]:
        """Return which option each request went to first."""
        return Counter(one.calls[0].option for one in self.ended if one.calls)

    def most_in(self, seconds: float, account: str) -> int:
        """Return the most calls that an account received within any such time."""
        times = sorted(call.at for call in self.calls if call.account == account)
        most = first = 0
        for last, at in enumerate(times):
            while times[first] <= at - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    def since(self, at: float) -> list[Ended]:
        """Return the requests that began at a time or later."""
        return [one for one in self.ended if one.began_at >= at]

"""Loads on limits, rests and breakers that any number of workers and hosts share; each returns what was seen of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.e2e.processes import Server, wait_until
from tests.e2e.scripted import Answer, Call, Load, Scripted, excess, overlapping, ready, stretch

SEEN_BY_ALL_S = 1.0
"""How long others may go on before they know of a rest, or of a changed limit."""
RESTS_AT_LEAST_S = 2.0
"""The shortest cooldown of a node on this machine."""

CALLERS = 12


def add_connections(server: Server, provider: Scripted, prefix: str, *limits: dict[str, Any]) -> list[str]:
    """Add a node with a connection for each of the limits; their keys are `<prefix>-0` and so on."""
    body = {"name": prefix, "prefix": prefix, "type": "openai-compatible", "baseUrl": provider.url, "isLocal": True}
    made = server.api("POST", "/api/provider-nodes", body)["node"]
    ids = []
    for place, limit in enumerate(limits):
        fields = {"provider": made["id"], "apiKey": f"{prefix}-{place}", "priority": place + 1, **limit}
        ids.append(server.api("POST", "/api/providers", fields)["connection"]["id"])
    return ids


@dataclass(frozen=True, slots=True)
class Limited:
    """How connections with limits were used."""

    excess: float
    """Calls beyond the rate, at the worst moment; not above 0 where it was held."""
    used: float
    """Calls as a share of what the rate allows."""
    most_at_once: int
    placed_per_s: float
    statuses: frozenset[int]


@dataclass(frozen=True, slots=True)
class Passed:
    """How a full connection was passed over for one without limits."""

    excess: float
    most_at_once: int
    calls: tuple[int, int]
    """Of the full one, and of the one behind it."""
    statuses: frozenset[int]
    long_wait_ms: float
    """Nine of ten answers came sooner."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What came to a connection from one trouble to its first answer after it."""

    unaware: int
    """Calls inside the rest, of workers that did not know of it yet."""
    unaware_for_s: float
    """How long after the trouble began the last of those started; 0 without any."""
    overlapping: int
    """Probes that ran beside another one, or beside any call."""
    early: int
    """Probes that came before the rest which the one before had brought about was over."""
    failed: int


def rates_and_places(servers: Sequence[Server], provider: Scripted) -> Limited:
    """One connection with a rate of 600, and one with 3 places; more is asked of both than they may give."""
    add_connections(servers[0], provider, "rate", {"requestsPerMinute": 600})
    add_connections(servers[0], provider, "places", {"concurrentRequests": 3})
    provider.script("places-0", latency_s=0.05)
    key = servers[0].new_key()
    ready(servers, key, "rate/m", "places/m")
    with (
        Load(servers, key, ["rate/m"], callers=12) as rated,
        Load(servers, key, ["places/m"], callers=10) as placed,
    ):
        wait_until(lambda: len(rated.answers) >= 150, within_s=60, what="the burst, and some seconds of the rate")
    rate, places = provider.calls("rate-0"), provider.calls("places-0")
    lasted_s = rate[-1].began - rate[0].began
    return Limited(
        excess=excess(rate, per_minute=600),
        used=len(rate) / (lasted_s * 10 + 100),
        most_at_once=max(call.running for call in places),
        placed_per_s=len(places) / lasted_s,
        statuses=frozenset(answer.status for answer in (*rated.answers, *placed.answers)),
    )


def full_connection(servers: Sequence[Server], provider: Scripted) -> Passed:
    """A connection with a rate of 60 and 3 places, and one without limits behind it."""
    add_connections(servers[0], provider, "both", {"requestsPerMinute": 60, "concurrentRequests": 3}, {})
    for name in ("both-0", "both-1"):
        provider.script(name, latency_s=0.05)
    key = servers[0].new_key()
    ready(servers, key, "both/m")
    with Load(servers, key, ["both/m"], callers=8, per_s=40) as load:
        wait_until(lambda: len(load.answers) >= 160, within_s=60, what="four seconds of load")
    first, second = provider.calls("both-0"), provider.calls("both-1")
    waits = sorted(answer.waited_ms for answer in load.answers)
    return Passed(
        excess=excess(first, per_minute=60),
        most_at_once=max(call.running for call in first),
        calls=(len(first), len(second)),
        statuses=frozenset(answer.status for answer in load.answers),
        long_wait_ms=waits[len(waits) * 9 // 10],
    )


def troubles(servers: Sequence[Server], provider: Scripted, *, answers: int) -> tuple[list[Answer], list[Rest]]:
    """The first connection is overloaded, limited, and down; a second one is well all the time.

    Returns the answers that were no success, and what came of each trouble.
    """
    add_connections(servers[0], provider, "pair", {}, {})
    key = servers[0].new_key()
    ready(servers, key, "pair/m")
    rests: list[tuple[float, float]] = []

    def trouble(status: int, for_s: float, least_s: float, **headers: str) -> None:
        """Let the first connection fail for a while, and wait until it serves again."""
        since = provider.calls("pair-0")[-1].began
        provider.script("pair-0", {"for_s": for_s, "status": status, "headers": headers})

        def serves_again() -> bool:
            since_failed = stretch(provider.calls("pair-0", since), lambda call: call.status != 200)
            return any(call.status == 200 for call in since_failed)

        wait_until(serves_again, within_s=40, what=f"it serves again after {status}")
        rests.append((since, least_s))
        seen = len(load.answers)
        wait_until(lambda: len(load.answers) > seen + 60, within_s=20, what="it has served everywhere")

    with Load(servers, key, ["pair/m"], callers=CALLERS, per_s=100) as load:
        wait_until(lambda: len(load.answers) > 100, within_s=20, what="the load is on")
        trouble(503, 3.0, RESTS_AT_LEAST_S)
        trouble(429, 1.0, 2.0, **{"Retry-After": "2"})
        trouble(0, 1.5, RESTS_AT_LEAST_S)
        wait_until(lambda: len(load.answers) >= answers, within_s=60, what="all answers")
    bounds = [since for since, _ in rests[1:]] + [float("inf")]
    return [answer for answer in load.answers if answer.status != 200], [
        _rest([call for call in provider.calls("pair-0", since) if call.began < until], least_s)
        for (since, least_s), until in zip(rests, bounds, strict=True)
    ]


def _rest(calls: list[Call], least_s: float) -> Rest:
    failing = stretch(calls, lambda call: call.status != 200)
    first = failing[0]
    over_at = first.ended + least_s
    unaware = [call for call in failing[1:] if first.ended < call.began < over_at]
    unaware_for_s = max((call.began - first.ended for call in unaware), default=0.0)
    return _probed([call for call in failing if call.began >= over_at], least_s, len(unaware), unaware_for_s)


def _probed(calls: list[Call], apart_s: float, unaware: int = 0, unaware_for_s: float = 0.0) -> Rest:
    served = next(place for place, call in enumerate(calls) if call.status == 200)
    probes = calls[: served + 1]
    return Rest(
        unaware=unaware,
        unaware_for_s=unaware_for_s,
        overlapping=len(overlapping(probes)) + sum(call.running != 1 for call in probes),
        early=sum(other.began < one.ended + apart_s - 0.05 for one, other in itertools.pairwise(probes)),
        failed=served,
    )


def open_breaker(servers: Sequence[Server], provider: Scripted, *, reset_s: float) -> tuple[set[str], Rest]:
    """Every call fails until the breaker has opened and one probe has failed as well.

    Returns the codes of the errors, and what came from the first call after everybody knew of the open breaker.
    """
    add_connections(servers[0], provider, "broken", {})
    key = servers[0].new_key()
    ready(servers, key, "broken/m")
    provider.script("broken-0", {"for_s": None, "status": 500, "latency_s": 0.2})
    with Load(servers, key, ["broken/m"], callers=16) as load:

        def is_open() -> bool:
            return any(answer.code == "provider_circuit_open" for answer in load.answers)

        wait_until(is_open, within_s=40, what="the breaker opens")
        opened_at = provider.calls("broken-0")[-1].ended
        wait_until(lambda: _settled(provider, opened_at), within_s=40, what="a probe has failed")
        provider.script("broken-0", latency_s=0.2)

        def serves_many() -> bool:
            return sum(call.status == 200 for call in provider.calls("broken-0", opened_at)) >= 30

        wait_until(serves_many, within_s=40, what="it serves again")
    ready(servers, key, "broken/m")
    codes = {answer.code for answer in load.answers if answer.status != 200}
    return codes, _probed(_settled(provider, opened_at), reset_s)


def _settled(provider: Scripted, opened_at: float) -> list[Call]:
    """Return the calls since all workers could know that the breaker is open."""
    return provider.calls("broken-0", opened_at + SEEN_BY_ALL_S)


def rows_of(server: Server) -> dict[str, dict[str, Any]]:
    """Return the connections as the management API shows them, by id."""
    return {row["id"]: row for row in server.api("GET", "/api/providers")["connections"]}

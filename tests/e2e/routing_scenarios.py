"""What must hold of limits, rests and breakers, however many workers and hosts share them: told by the diary."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from tests.e2e.processes import Server, wait_until
from tests.e2e.scripted import Call, Load, Scripted, excess, overlapping, ready, stretch

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


def hold_rates_and_places(servers: Sequence[Server], provider: Scripted) -> None:
    """One connection with a rate, and one with places; more is asked of both than they may give."""
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
    assert excess(rate, per_minute=600) <= 0
    assert len(rate) >= 0.8 * (lasted_s * 10 + 100), "the rate is used"
    assert {answer.status for answer in rated.answers} == {200}
    assert max(call.running for call in places) <= 3
    assert len(places) > 5 * lasted_s, "the places are used"
    assert {answer.status for answer in placed.answers} == {200}


def pass_over_who_is_full(servers: Sequence[Server], provider: Scripted) -> None:
    """A connection with a rate and places, and one without limits behind it: nobody waits, and nobody is refused."""
    add_connections(servers[0], provider, "both", {"requestsPerMinute": 60, "concurrentRequests": 3}, {})
    for name in ("both-0", "both-1"):
        provider.script(name, latency_s=0.05)
    key = servers[0].new_key()
    ready(servers, key, "both/m")
    with Load(servers, key, ["both/m"], callers=8, per_s=40) as load:
        wait_until(lambda: len(load.answers) >= 160, within_s=60, what="four seconds of load")
    first, second = provider.calls("both-0"), provider.calls("both-1")
    assert excess(first, per_minute=60) <= 0
    assert max(call.running for call in first) <= 3
    assert len(second) > len(first)
    assert {answer.status for answer in load.answers} == {200}
    waits = sorted(answer.waited_ms for answer in load.answers)
    assert waits[len(waits) * 9 // 10] < 250, "the first would have let one through per second"


def make_good(servers: Sequence[Server], provider: Scripted, *, answers: int) -> None:
    """The first connection is overloaded, limited, and down; a second one is well all the time."""
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
    assert [answer for answer in load.answers if answer.status != 200] == []
    bounds = [since for since, _ in rests[1:]] + [float("inf")]
    for (since, least_s), until in zip(rests, bounds, strict=True):
        check_rests([call for call in provider.calls("pair-0", since) if call.began < until], least_s)


def check_rests(calls: list[Call], least_s: float) -> None:
    """Check one trouble: no call inside a rest but of workers that did not know yet, and one probe at a time."""
    failing = stretch(calls, lambda call: call.status != 200)
    first = failing[0]
    over_at = first.ended + least_s
    unaware = [call for call in failing[1:] if first.ended < call.began < over_at]
    # Those that were under way in a worker when it heard, and one or so of each that had not heard.
    assert len(unaware) <= CALLERS
    assert all(call.began < first.ended + SEEN_BY_ALL_S for call in unaware)
    probes = [call for call in failing if call.began >= over_at]
    served = next(place for place, call in enumerate(probes) if call.status == 200)
    one_by_one(probes[: served + 1], least_s)


def one_by_one(probes: Sequence[Call], apart_s: float) -> None:
    """Check that probes ran alone, and each only after the rest that the one before had brought about."""
    assert overlapping(probes) == []
    assert {call.running for call in probes} == {1}
    for one, other in itertools.pairwise(probes):
        assert other.began >= one.ended + apart_s - 0.05


def let_one_probe_through(servers: Sequence[Server], provider: Scripted, *, reset_s: float) -> None:
    """Every call fails until the breaker has opened and one probe has failed as well."""
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
    probes = _settled(provider, opened_at)
    served = next(place for place, call in enumerate(probes) if call.status == 200)
    assert served >= 1, "at least one probe had failed"
    one_by_one(probes[: served + 1], reset_s)
    assert "provider_circuit_open" in {answer.code for answer in load.answers if answer.status != 200}
    ready(servers, key, "broken/m")


def _settled(provider: Scripted, opened_at: float) -> list[Call]:
    """Return the calls since all workers could know that the breaker is open."""
    return provider.calls("broken-0", opened_at + SEEN_BY_ALL_S)


def rows_of(server: Server) -> dict[str, dict[str, Any]]:
    """Return the connections as the management API shows them, by id."""
    return {row["id"]: row for row in server.api("GET", "/api/providers")["connections"]}

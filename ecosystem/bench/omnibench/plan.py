"""How long and how often: the full run, whose figures count, and the quick one, which shows that everything works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of every part of a run. Seconds are per single measurement; medians are taken over the rounds."""

    name: str
    rounds: int
    seconds: float
    connections: tuple[int, ...]
    large_connections: tuple[int, ...]
    pin_rounds: int
    state_pairs: int
    state_seconds: float
    state_rows: int
    slow_rounds: int
    slow_chunks: int
    fast_rounds: int
    few_rounds: int
    idle_settle_s: float
    first_requests: int
    last_requests: int
    cold_starts: int
    cross_pairs: int
    cross_seconds: float
    translations: int
    huge_requests: int
    routing_batches: int


FULL = Plan(
    name="full",
    rounds=3,
    seconds=3,
    connections=(1, 16, 64, 256),
    large_connections=(1, 16, 64, 256),
    pin_rounds=3,
    state_pairs=8,
    state_seconds=3,
    state_rows=1_000_000,
    slow_rounds=2,
    slow_chunks=200,
    fast_rounds=3,
    few_rounds=5,
    idle_settle_s=5,
    first_requests=5_000,
    last_requests=50_000,
    cold_starts=5,
    cross_pairs=6,
    cross_seconds=3,
    translations=100,
    huge_requests=12,
    routing_batches=25,
)

QUICK = Plan(
    name="quick",
    rounds=1,
    seconds=1,
    connections=(1, 16, 64, 256),
    large_connections=(1, 16),
    pin_rounds=0,
    state_pairs=3,
    state_seconds=1,
    state_rows=50_000,
    slow_rounds=1,
    slow_chunks=26,
    fast_rounds=1,
    few_rounds=1,
    idle_settle_s=1,
    first_requests=1_000,
    last_requests=5_000,
    cold_starts=1,
    cross_pairs=2,
    cross_seconds=1,
    translations=25,
    huge_requests=4,
    routing_batches=5,
)

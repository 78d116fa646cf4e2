"""Figures from samples: percentiles, medians over rounds, ratios of neighbours in time. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several rounds: the median to quote, and how far the rounds lay apart."""

    median: float
    low: float
    high: float
    count: int

    @property
    def relative_width(self) -> float:
        """Return (high - low) / median: how noisy the machine was; 0 for a median of 0."""
        return (self.high - self.low) / self.median if self.median else 0.0


def spread(values: Sequence[float]) -> Spread:
    """Summarise one figure over its rounds.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("a spread needs at least one value")
    return Spread(statistics.median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile; `share` is between 0 and 1, so p99 is 0.99.

    Nearest rank, not interpolated: with few samples the answer is a time that really happened.

    Raises:
        ValueError: there is no value, or `share` is out of range.
    """
    if not values:
        raise ValueError("a percentile needs at least one value")
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share {share} is not between 0 and 1")
    ordered = sorted(values)
    # Rounded first: 100 * 0.07 is a little more than 7 in floating point.
    rank = max(1, math.ceil(round(len(ordered) * share, 6)))
    return ordered[rank - 1]


def paired_ratio(numerator: Mapping[int, float], denominator: Mapping[int, float]) -> Spread:
    """Return the spread of numerator/denominator, round by round.

    The speed of a shared machine drifts over minutes, so only runs of the same round are compared; rounds that one side
    lacks are left out.

    Raises:
        ValueError: the sides have no round in common, or a denominator is zero.
    """
    return spread([_ratio(numerator[r], denominator[r]) for r in sorted(numerator.keys() & denominator.keys())])


def _ratio(numerator: float, denominator: float) -> float:
    if denominator == 0:
        raise ValueError("ratio to zero")
    return numerator / denominator


def paired_difference(minuend: Mapping[int, float], subtrahend: Mapping[int, float]) -> Spread:
    """Return the spread of minuend - subtrahend over the rounds that both sides have.

    Raises:
        ValueError: the sides have no round in common.
    """
    return spread([minuend[r] - subtrahend[r] for r in sorted(minuend.keys() & subtrahend.keys())])

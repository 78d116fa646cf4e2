"""How an option does: outcomes by the minute, times as smoothed percentiles, and who is out for a bad score.

Workers keep a `Tally` per option and show each other `Digest`s; `merged` makes one answer of several. Times are epoch
seconds, lengths of requests milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from msgspec import Struct

from omniroute.routing.view import UNKNOWN, Figures

RATIO_MINUTES: Final = 15
FAILURES_S: Final = 600.0
SMOOTHING: Final = 0.2
MOST_FAILURES: Final = 64
"""What counts of failures falls by half every two minutes, so more of them say nothing new."""

_MINUTE_S: Final = 60.0
_SAMPLES: Final = 64
_BUCKET_SAMPLES: Final = 8
"""A bucket with fewer stays open beyond its minute, since a percentile of two or three numbers is none."""
_LONGEST_BUCKET_S: Final = 900.0
_MEAN_OVER: Final = 50

OUT_BELOW: Final = 0.20
BACK_FROM: Final = 0.30
WORST_RATIO: Final = 0.35
RATIO_NEEDS: Final = 8
OUT_S: Final = (300.0, 600.0, 1200.0, 1800.0)
FORGIVEN_AFTER_S: Final = 1800.0
"""Who has stood for this long starts with the shortest time again."""

Percentiles = tuple[float, float]
"""The median and the 95th percentile."""


class Digest(Struct, frozen=True, gc=False):
    """What one worker knows about an option, small enough to be shown to the others.

    Attributes:
        minutes: (minute since 1970, ok, total) of the last 15 minutes.
        failed_at: times of the failures of the last 10 minutes, newest last.
    """

    minutes: tuple[tuple[int, int, int], ...] = ()
    failed_at: tuple[float, ...] = ()
    ttft: Percentiles | None = None
    total: Percentiles | None = None
    output_mean: float | None = None
    used_at: float = 0.0

    def outcomes(self, now: float, since: float = 0.0) -> tuple[int, int]:
        """Return successes and all outcomes of the last 15 minutes, of those only what began after `since`."""
        first = max(int(now // _MINUTE_S) - RATIO_MINUTES, int(since // _MINUTE_S))
        counted = [(ok, total) for minute, ok, total in self.minutes if minute > first]
        return sum(ok for ok, _ in counted), sum(total for _, total in counted)

    def to_json(self) -> list[Any]:
        """Return it as a JSON value."""
        return [self.minutes, self.failed_at, self.ttft, self.total, self.output_mean, self.used_at]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> Digest:
        """Read what `to_json` gave; what another release wrote differently says nothing."""
        try:
            minutes, failed_at, ttft, total, output_mean, used_at = value
            return cls(
                tuple((int(minute), int(ok), int(some)) for minute, ok, some in minutes),
                tuple(map(float, failed_at)),
                _percentiles(ttft),
                _percentiles(total),
                None if output_mean is None else float(output_mean),
                float(used_at),
            )
        except (TypeError, ValueError):
            return _NOTHING


_NOTHING: Final = Digest()


class Spread:
    """Median and 95th percentile of times: those of each bucket of time, smoothed over the buckets."""

    __slots__ = ("_began_at", "_closed", "_samples", "_seen")

    def __init__(self) -> None:
        self._closed: Percentiles | None = None
        self._samples: list[float] = []
        self._seen = 0
        self._began_at = 0.0

    def add(self, value: float, at: float) -> None:
        """Count one time."""
        age = at - self._began_at
        if self._seen and age >= _MINUTE_S and (self._seen >= _BUCKET_SAMPLES or age >= _LONGEST_BUCKET_S):
            self._closed = self.percentiles()
            self._samples, self._seen = [], 0
        if not self._seen:
            self._began_at = at
        if len(self._samples) < _SAMPLES:
            self._samples.append(value)
        else:
            self._samples[self._seen % _SAMPLES] = value
        self._seen += 1

    def percentiles(self) -> Percentiles | None:
        """Return what is known, the open bucket included; None before the first time."""
        if not self._samples:
            return self._closed
        ordered = sorted(self._samples)
        open_bucket = _rank(ordered, 0.5), _rank(ordered, 0.95)
        if self._closed is None:
            return open_bucket
        return _smoothed(self._closed[0], open_bucket[0]), _smoothed(self._closed[1], open_bucket[1])


class Tally:
    """What this worker has seen of one option. Its size does not depend on how much that was."""

    __slots__ = ("_answers", "_failed_at", "_minutes", "_output_mean", "_total", "_ttft", "used_at")

    def __init__(self) -> None:
        self._minutes: dict[int, list[int]] = {}
        self._failed_at: list[float] = []
        self._ttft = Spread()
        self._total = Spread()
        self._output_mean = 0.0
        self._answers = 0
        self.used_at = 0.0

    def note(
        self, *, ok: bool, at: float, ttft_ms: float | None, total_ms: float | None, tokens_out: int | None
    ) -> None:
        """Count an outcome with what is known of it."""
        self.used_at = at
        minute = int(at // _MINUTE_S)
        bucket = self._minutes.get(minute)
        if bucket is None:
            bucket = self._minutes[minute] = [0, 0]
            for old in [one for one in self._minutes if one <= minute - RATIO_MINUTES]:
                del self._minutes[old]
        bucket[0] += ok
        bucket[1] += 1
        if not ok:
            self._failed_at = [*(one for one in self._failed_at if one > at - FAILURES_S), at][-MOST_FAILURES:]
        if ttft_ms is not None:
            self._ttft.add(ttft_ms, at)
        if total_ms is not None:
            self._total.add(total_ms, at)
        if tokens_out is not None:
            self._answers = min(self._answers + 1, _MEAN_OVER)
            self._output_mean += (tokens_out - self._output_mean) / self._answers

    def digest(self) -> Digest:
        """Return what is known, as a value."""
        return Digest(
            tuple((minute, ok, total) for minute, (ok, total) in self._minutes.items()),
            tuple(self._failed_at),
            self._ttft.percentiles(),
            self._total.percentiles(),
            self._output_mean if self._answers else None,
            self.used_at,
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether an option may be chosen by its score.

    Attributes:
        out_until: out until then, and after it until its score is good enough; 0 is in.
        trips: how often in a row it went out.
        is_on_trial: back in; its next outcome decides.
        since: when it last came back; earlier outcomes are not held against it a second time.
    """

    out_until: float = 0.0
    trips: int = 0
    is_on_trial: bool = False
    since: float = 0.0

    def needs_probe(self, now: float) -> bool:
        """Say whether one request has to try before all may."""
        return self.is_on_trial or 0.0 < self.out_until <= now


GOOD: Final = Standing()


def judged(standing: Standing, *, score: float, ok: int, total: int, now: float) -> Standing:
    """Return the standing after a score was computed.

    Args:
        standing: as it was.
        score: 0 to 1.
        ok: successes of the last 15 minutes that happened after `standing.since`.
        total: all outcomes of the same time.
        now: epoch seconds.
    """
    if standing.out_until > now:
        return standing
    if standing.out_until:
        if score < BACK_FROM:
            return _out(standing, now)
        return Standing(trips=standing.trips, is_on_trial=True, since=now)
    if score < OUT_BELOW:
        return _out(_forgiven(standing, now), now)
    if standing.is_on_trial:
        return standing
    if total >= RATIO_NEEDS and ok < WORST_RATIO * total:
        return _out(_forgiven(standing, now), now)
    return _forgiven(standing, now)


def tried(standing: Standing, *, ok: bool, now: float) -> Standing:
    """Return the standing after an outcome: only of one that is on trial does it change."""
    if not standing.needs_probe(now):
        return standing
    return Standing(trips=standing.trips, since=now) if ok else _out(standing, now)


def merged(digests: Iterable[Digest], standing: Standing, now: float) -> Figures:
    """Return what all workers together know about an option."""
    some = [digest for digest in digests if digest is not _NOTHING]
    if not some and standing is GOOD:
        return UNKNOWN
    counts = [digest.outcomes(now) for digest in some]
    # Who has seen more of late is trusted more; who has seen nothing of late still knows more than nobody.
    weights = [1.0 + total for _, total in counts]
    ttft = _mean_percentiles([digest.ttft for digest in some], weights)
    total_ms = _mean_percentiles([digest.total for digest in some], weights)
    means = [(digest.output_mean, weight) for digest, weight in zip(some, weights, strict=True)]
    failed_at = sorted(at for digest in some for at in digest.failed_at if at > now - FAILURES_S)
    return Figures(
        ok=sum(ok for ok, _ in counts),
        total=sum(total for _, total in counts),
        failed_at=tuple(failed_at[-MOST_FAILURES:]),
        ttft_p50=ttft[0] if ttft else None,
        ttft_p95=ttft[1] if ttft else None,
        total_p50=total_ms[0] if total_ms else None,
        total_p95=total_ms[1] if total_ms else None,
        output_mean=_mean([(mean, weight) for mean, weight in means if mean is not None]),
        low_score_until=standing.out_until if standing.out_until > now else 0.0,
        low_score_trips=standing.trips,
        needs_probe=standing.needs_probe(now),
    )


def _out(standing: Standing, now: float) -> Standing:
    trips = min(standing.trips + 1, len(OUT_S))
    return replace(standing, out_until=now + OUT_S[trips - 1], trips=trips, is_on_trial=False)


def _forgiven(standing: Standing, now: float) -> Standing:
    is_old = not standing.is_on_trial and now - standing.since >= FORGIVEN_AFTER_S
    return GOOD if is_old else standing


def _rank(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _smoothed(before: float, value: float) -> float:
    return before + SMOOTHING * (value - before)


def _percentiles(value: Any) -> Percentiles | None:
    if value is None:
        return None
    median, high = value
    return float(median), float(high)


def _mean_percentiles(values: Sequence[Percentiles | None], weights: Sequence[float]) -> Percentiles | None:
    known = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
    medians = _mean([(value[0], weight) for value, weight in known])
    highs = _mean([(value[1], weight) for value, weight in known])
    return None if medians is None or highs is None else (medians, highs)


def _mean(values: Sequence[tuple[float, float]]) -> float | None:
    if not values:
        return None
    return sum(value * weight for value, weight in values) / sum(weight for _, weight in values)

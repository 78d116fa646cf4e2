"""Counters and histograms for Prometheus, summed over all workers of this host.

Each worker counts in plain dictionaries, which costs a few microseconds a request, and writes its sums to a file of its
own once a second. Whichever worker is asked adds up the files. Those of workers that have ended stay part of the sums
until the server starts anew, because counters must never fall. The text form is the client library's, imported by the
first scrape.
"""

from __future__ import annotations

import logging
import os
import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from omniroute.records import RequestRecord

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
FLUSH_INTERVAL_S: Final = 1.0
_SUFFIX: Final = ".json"
_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

Labels = tuple[str, ...]


class Sums(msgspec.Struct):
    """What one worker has counted. A histogram: a count per bucket (the last beyond all limits), then the sum in s."""

    requests: dict[str, int] = msgspec.field(default_factory=dict)
    tokens: dict[str, int] = msgspec.field(default_factory=dict)
    failed_attempts: dict[str, int] = msgspec.field(default_factory=dict)
    attempts: dict[str, int] = msgspec.field(default_factory=dict)
    fallbacks: dict[str, int] = msgspec.field(default_factory=dict)
    durations: dict[str, list[float]] = msgspec.field(default_factory=dict)
    first_contents: dict[str, list[float]] = msgspec.field(default_factory=dict)


class NoMetrics:
    """Counts nothing: metrics are off."""

    def observe(self, record: RequestRecord) -> None:
        """Ignore a settled request."""


class Metrics:
    """What is counted. One per worker."""

    def __init__(self, directory: Path) -> None:
        """`directory` is shared by the workers of one server run."""
        self._directory = directory
        self._requests: dict[Labels, int] = {}
        self._tokens: dict[Labels, int] = {}
        self._failed: dict[Labels, int] = {}
        self._attempts: dict[Labels, int] = {}
        self._fallbacks: dict[Labels, int] = {}
        self._durations: dict[str, list[float]] = {}
        self._first_contents: dict[str, list[float]] = {}
        self._is_changed = False

    def observe(self, record: RequestRecord) -> None:
        """Count one settled request."""
        self._is_changed = True
        provider = record.provider or ""
        _add(self._requests, (record.endpoint, provider, record.outcome), 1)
        if record.tokens_in:
            _add(self._tokens, (provider, "in"), record.tokens_in)
        if record.tokens_out:
            _add(self._tokens, (provider, "out"), record.tokens_out)
        _count(self._durations, record.endpoint, record.duration_ms / 1000)
        if record.ttft_ms is not None:
            _count(self._first_contents, record.endpoint, record.ttft_ms / 1000)
        if len(record.attempts) > 1 and record.outcome == "success" and _went_elsewhere(record):
            _add(self._fallbacks, (record.attempts[0].provider, provider), 1)
        for attempt in record.attempts:
            _add(self._attempts, (attempt.provider, attempt.failure_class or _SERVED), 1)
            if attempt.failure_class is not None:
                _add(self._failed, (attempt.provider, attempt.failure_class), 1)

    def flush_forever(self, *, sleep: Callable[[float], None]) -> None:
        """Write the sums once a second for as long as the worker lives."""
        while True:
            sleep(FLUSH_INTERVAL_S)
            self._flush_if_possible()

    def flush(self) -> None:
        """Write the sums where the other workers read them.

        Raises:
            OSError: the directory does not take them.
        """
        if not self._is_changed:
            return
        sums = Sums(
            requests=_joined(self._requests),
            tokens=_joined(self._tokens),
            failed_attempts=_joined(self._failed),
            attempts=_joined(self._attempts),
            fallbacks=_joined(self._fallbacks),
            durations=self._durations,
            first_contents=self._first_contents,
        )
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._directory / f"{os.getpid()}{_SUFFIX}"
        temporary = file.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(sums))
        temporary.replace(file)
        self._is_changed = False

    def _flush_if_possible(self) -> None:
        """A full disk must end neither this greenlet nor a scrape; what was not written is part of the next try."""
        try:
            self.flush()
        except OSError as error:
            log.warning("The metrics cannot be written: %s", error.strerror or error)

    def render(self) -> bytes:
        """Return the sums over all workers in Prometheus text form."""
        from prometheus_client import CollectorRegistry, generate_latest

        self._flush_if_possible()
        registry = CollectorRegistry()
        registry.register(_Collector(self._total()))
        return generate_latest(registry)

    def _total(self) -> Sums:
        total = Sums()
        for file in self._directory.glob(f"*{_SUFFIX}"):
            try:
                one = msgspec.json.decode(file.read_bytes(), type=Sums)
            except (OSError, msgspec.DecodeError) as error:
                log.warning("The metrics file %s cannot be read: %s", file.name, error)
                continue
            for name in ("requests", "tokens", "failed_attempts", "attempts", "fallbacks"):
                into = getattr(total, name)
                for key, value in getattr(one, name).items():
                    into[key] = into.get(key, 0) + value
            for name in ("durations", "first_contents"):
                into = getattr(total, name)
                for key, values in getattr(one, name).items():
                    if len(values) != len(_empty()):
                        continue  # of a version with other limits
                    into[key] = [a + b for a, b in zip(into.get(key, _empty()), values, strict=True)]
        return total


def clear(directory: Path) -> None:
    """Drop the files of an earlier server run; called once, before workers start."""
    shutil.rmtree(directory, ignore_errors=True)


class _Collector:
    """Hands the sums to the client library."""

    def __init__(self, sums: Sums) -> None:
        self._sums = sums

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        sums = self._sums
        for name, text, labels, values in (
            ("omniroute_requests", "Settled requests.", ("endpoint", "provider", "outcome"), sums.requests),
            ("omniroute_tokens", "Reported tokens.", ("provider", "direction"), sums.tokens),
            ("omniroute_failed_attempts", "Failed attempts.", ("provider", "failure_class"), sums.failed_attempts),
            ("omniroute_attempts", "Attempts by what came of them.", ("provider", "result"), sums.attempts),
            ("omniroute_fallbacks", "Requests that a later candidate served.", ("from", "to"), sums.fallbacks),
        ):
            counter = CounterMetricFamily(name, text, labels=labels)
            for key, value in values.items():
                counter.add_metric(key.split(_JOINT), value)
            yield counter
        for name, text, series in (
            ("omniroute_request_duration_seconds", "From arrival to end.", sums.durations),
            ("omniroute_first_content_seconds", "From arrival to first content.", sums.first_contents),
        ):
            histogram = HistogramMetricFamily(name, text, labels=("endpoint",))
            for endpoint, counts in series.items():
                histogram.add_metric([endpoint], _cumulative(counts), sum_value=counts[-1])
            yield histogram


def _went_elsewhere(record: RequestRecord) -> bool:
    """Say whether another candidate served than the one that was asked first."""
    first = record.attempts[0]
    return (first.provider, first.connection_id, first.model) != (record.provider, record.connection_id, record.model)


_SERVED: Final = "served"
_JOINT: Final = "\x1f"  # the ASCII unit separator: no label holds it


def _joined(counts: dict[Labels, int]) -> dict[str, int]:
    return {_JOINT.join(labels): value for labels, value in counts.items()}


def _add(counts: dict[Labels, int], labels: Labels, amount: int) -> None:
    counts[labels] = counts.get(labels, 0) + amount


def _empty() -> list[float]:
    return [0.0] * (len(_BUCKETS_S) + 2)


def _count(series: dict[str, list[float]], label: str, value_s: float) -> None:
    counts = series.get(label)
    if counts is None:
        counts = series[label] = _empty()
    counts[bisect_left(_BUCKETS_S, value_s)] += 1
    counts[-1] += value_s


def _cumulative(counts: list[float]) -> list[tuple[str, float]]:
    total = 0.0
    buckets = []
    for limit, count in zip([*map(str, _BUCKETS_S), "+Inf"], counts, strict=False):
        total += count
        buckets.append((limit, total))
    return buckets

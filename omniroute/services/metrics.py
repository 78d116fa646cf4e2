"""Counters and histograms for Prometheus, summed over all workers of this host.

Each worker keeps its figures in a memory-mapped file under the data directory (the client library's multiprocess mode);
whichever worker is asked adds them up. The files of workers that have ended stay part of the sums until the server starts
anew, as counters must never fall.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omniroute.records import RequestRecord

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ENVIRONMENT: Final = "PROMETHEUS_MULTIPROC_DIR"
_DURATION_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_FIRST_CONTENT_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class NoMetrics:
    """Counts nothing: metrics are off."""

    def observe(self, record: RequestRecord) -> None:
        """Ignore a settled request."""


class Metrics:
    """What is counted. One per worker; must be made after the fork, since each process has files of its own."""

    def __init__(self, directory: Path) -> None:
        """`directory` is shared by the workers of one server run."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ[_ENVIRONMENT] = str(directory)  # read by the library when it is imported and at every scrape
        from prometheus_client import CollectorRegistry, Counter, Histogram

        own = CollectorRegistry()
        self._directory = directory
        labels = ("endpoint", "provider", "outcome")
        self._requests = Counter("omniroute_requests_total", "Settled requests.", labels, registry=own)
        self._tokens = Counter("omniroute_tokens_total", "Reported tokens.", ("provider", "direction"), registry=own)
        self._attempts = Counter(
            "omniroute_failed_attempts_total", "Attempts that failed.", ("provider", "failure_class"), registry=own
        )
        self._duration = Histogram(
            "omniroute_request_duration_seconds",
            "From the request's arrival to its end.",
            ("endpoint",),
            buckets=_DURATION_BUCKETS,
            registry=own,
        )
        self._first_content = Histogram(
            "omniroute_first_content_seconds",
            "From the request's arrival to its first content.",
            ("endpoint",),
            buckets=_FIRST_CONTENT_BUCKETS,
            registry=own,
        )
        self._children: dict[tuple[str, ...], tuple[Counter, Histogram, Histogram]] = {}
        self._token_children: dict[str, tuple[Counter, Counter]] = {}

    def observe(self, record: RequestRecord) -> None:
        """Count one settled request. Label children are looked up once: the library's own look-up takes a lock."""
        provider = record.provider or ""
        key = (record.endpoint, provider, record.outcome)
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = (
                self._requests.labels(*key),
                self._duration.labels(record.endpoint),
                self._first_content.labels(record.endpoint),
            )
        children[0].inc()
        children[1].observe(record.duration_ms / 1000)
        if record.ttft_ms is not None:
            children[2].observe(record.ttft_ms / 1000)
        if record.tokens_in or record.tokens_out:
            tokens = self._token_children.get(provider)
            if tokens is None:
                tokens = self._token_children[provider] = (
                    self._tokens.labels(provider, "in"),
                    self._tokens.labels(provider, "out"),
                )
            tokens[0].inc(record.tokens_in or 0)
            tokens[1].inc(record.tokens_out or 0)
        for attempt in record.attempts:
            if attempt.failure_class is not None:
                self._attempts.labels(attempt.provider, attempt.failure_class).inc()

    def render(self) -> bytes:
        """Return the sums over all workers in Prometheus text form."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry: CollectorRegistry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._directory))  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def clear(directory: Path) -> None:
    """Drop the files of an earlier server run; called once, before workers start."""
    shutil.rmtree(directory, ignore_errors=True)

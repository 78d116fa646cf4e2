"""Time limits of an attempt, from the settings."""

from __future__ import annotations

from dataclasses import dataclass

from omniroute.gateway.patience import MOST_HEADERS_S
from omniroute.providers.upstream import Deadlines
from omniroute.settings import Settings


@dataclass(frozen=True, slots=True)
class Clocks:
    """Every wait of a request in seconds. Attempt limits run on the provider's bytes, never on our heartbeats."""

    stream: Deadlines
    answer: Deadlines
    commit_after_s: float
    heartbeat_s: float
    client_write_s: float
    before_commit_s: float = 600.0
    most_headers_s: float = 0.0
    most_content_s: float = 0.0
    """Bounds of the waits for headers and for first content where a request stretches them."""

    @staticmethod
    def of(settings: Settings) -> Clocks:
        """Derive the limits; `REQUEST_TIMEOUT_MS` replaces the total and idle ones."""
        whole_ms = settings.request_timeout_ms
        total_ms = settings.stream_total_timeout_ms if whole_ms is None else whole_ms
        idle_ms = settings.stream_idle_timeout_ms if whole_ms is None else whole_ms
        answer_ms = settings.fetch_timeout_ms if whole_ms is None else whole_ms
        connect_s = settings.fetch_connect_timeout_ms / 1000
        content_ms = min(settings.stream_readiness_timeout_ms, settings.stream_readiness_max_timeout_ms)
        return Clocks(
            stream=Deadlines(
                connect_s=connect_s,
                headers_s=settings.fetch_headers_timeout_ms / 1000,
                content_s=content_ms / 1000,
                idle_s=idle_ms / 1000,
                total_s=total_ms / 1000,
            ),
            # A whole answer has no milestones: its headers may take as long as the answer itself.
            answer=Deadlines(
                connect_s=connect_s,
                headers_s=answer_ms / 1000,
                content_s=answer_ms / 1000,
                idle_s=answer_ms / 1000,
                total_s=answer_ms / 1000,
            ),
            commit_after_s=settings.stream_commit_after_ms / 1000,
            heartbeat_s=settings.sse_heartbeat_ms / 1000,
            most_headers_s=MOST_HEADERS_S,
            most_content_s=settings.stream_readiness_max_timeout_ms / 1000,
            client_write_s=settings.client_write_timeout_ms / 1000,
        )

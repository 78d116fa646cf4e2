"""`/api/telemetry/summary`: how fast providers answer now."""

from __future__ import annotations

from typing import Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import Query, Time, operation
from omniroute.blueprints.management.bodies import answer, iso_time, query_integer
from omniroute.blueprints.management.health import PercentilesDocument, shown_percentiles
from omniroute.container import container
from omniroute.services.telemetry import DEFAULT_WINDOW_MS, LONGEST_WINDOW_MS, Moment, Summary, Timings

blueprint = Blueprint("management_telemetry", __name__)

_SHORTEST: Final = 1000


class TimingsDocument(TypedDict):
    """Requests and their times: to the first content, and of those that succeeded, to the end."""

    requests: int
    failed: int
    totalMs: PercentilesDocument | None
    firstContentMs: PercentilesDocument | None


class MomentDocument(TypedDict):
    """A piece of the window."""

    t: Time
    requests: int
    failed: int
    p50Ms: float | None


class TelemetryDocument(TypedDict):
    """The times of a window. `isPartial`: it has more requests than are looked at, and begins with those at `since`."""

    windowMs: int
    since: Time
    until: Time
    isPartial: bool
    totals: TimingsDocument
    providers: dict[str, TimingsDocument]
    series: list[MomentDocument]


@blueprint.get("/api/telemetry/summary")
@operation(
    TelemetryDocument,
    query=(Query("windowMs", "How far back (an hour).", "integer", minimum=_SHORTEST, maximum=LONGEST_WINDOW_MS),),
)
def summary() -> Response:
    """Show percentiles of times per provider, over the newest 20,000 requests of the last minutes or hours."""
    window_ms = query_integer(
        request, "windowMs", default=DEFAULT_WINDOW_MS, minimum=_SHORTEST, maximum=LONGEST_WINDOW_MS
    )
    return answer(shown(container().telemetry.summary(window_ms)))


def shown(summary: Summary) -> TelemetryDocument:
    """Return times as management answers show them."""
    return {
        "windowMs": summary.window_ms,
        "since": iso_time(summary.since),
        "until": iso_time(summary.until),
        "isPartial": summary.is_partial,
        "totals": _timings(summary.totals),
        "providers": {name: _timings(one) for name, one in summary.providers.items()},
        "series": [_moment(one) for one in summary.series],
    }


def _timings(timings: Timings) -> TimingsDocument:
    return {
        "requests": timings.requests,
        "failed": timings.failed,
        "totalMs": shown_percentiles(timings.total) if timings.total is not None else None,
        "firstContentMs": shown_percentiles(timings.first) if timings.first is not None else None,
    }


def _moment(moment: Moment) -> MomentDocument:
    return {
        "t": iso_time(moment.start),
        "requests": moment.requests,
        "failed": moment.failed,
        "p50Ms": round(moment.p50_ms, 1) if moment.p50_ms is not None else None,
    }

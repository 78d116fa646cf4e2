"""`/api/usage/analytics`, `/api/usage/latency` and the usage of a key: what the gateway was used for."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response, request

from omniroute.blueprints.management import budgets
from omniroute.blueprints.management.bodies import answer, iso_time, query_integer
from omniroute.blueprints.management.usage import query_choice, query_text, query_time
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.services import key_limits
from omniroute.services.analytics import (
    LATENCY_BOUNDS_MS,
    MOST_LATENCY_HOURS,
    By,
    LatencyRow,
    Narrowed,
    Period,
    Point,
    Report,
    Row,
    Totals,
)

blueprint = Blueprint("management_analytics", __name__)

_NANO: Final = 1_000_000_000
_LISTS: Final = {
    By.PROVIDER: "byProvider",
    By.MODEL: "byModel",
    By.KEY: "byKey",
    By.CONNECTION: "byConnection",
    By.COMBO: "byCombo",
}


@blueprint.get("/api/usage/analytics")
def analytics() -> Response:
    """Show the sums of a range: in all, by provider, model, key, connection and combo, and over time."""
    named = query_choice("range", tuple(Period))
    start, end = query_time("start"), query_time("end")
    if named is not None and (start is not None or end is not None):
        raise ValidationFailed([{"field": "range", "message": "stands alone, without start and end"}])
    group_by = query_choice("groupBy", tuple(By))
    report = container().analytics.report(
        None if named is None else Period(named),
        start=start,
        end=end,
        narrowed=_narrowed(),
        by_day=group_by == By.DAY,
    )
    return answer(report_document(report, None if group_by is None else By(group_by)))


@blueprint.get("/api/usage/latency")
@blueprint.get("/api/usage/model-latency-stats")
def latency() -> Response:
    """Show how long requests took, by model or by provider."""
    hours = query_integer(request, "windowHours", default=24, minimum=1, maximum=MOST_LATENCY_HOURS)
    by = query_choice("by", ("model", "provider")) or "model"
    found = container().analytics.latencies(hours, narrowed=_narrowed(), by_model=by == "model")
    body = {
        "windowHours": hours,
        "start": iso_time(found.start),
        "end": iso_time(found.end),
        "by": by,
        "boundsMs": LATENCY_BOUNDS_MS,
        "latency": [_latency(row) for row in found.rows],
    }
    return answer(body)


@blueprint.get("/api/keys/<key_id>/usage")
def key_usage(key_id: str) -> Response:
    """Show what a key has used, and how far that goes of what it may."""
    own = container()
    used = own.analytics.of_key(key_id)
    key = next((key for key in own.snapshots.current.keys if key.id == key_id), None)
    body = {
        "keyId": key_id,
        "keyName": None if key is None else key.name,
        "totals": {period: totals_document(totals) for period, totals in used.items()},
        "limits": key_limits.document(own.key_limits.of(key), iso_time),
        "budgets": budgets.shown(own.budgets.all(key_id)),
        "tokenLimits": budgets.limits_shown(own.token_limits.all(key_id)),
    }
    return answer(body)


def report_document(report: Report, group_by: By | None = None) -> dict[str, Any]:
    """Return a report as JSON values; with `group_by` that division also as `groups`."""
    lists: dict[str, Any] = {name: [_row(by, row) for row in report.by[by]] for by, name in _LISTS.items()}
    series = [point_document(point) for point in report.series]
    body = {
        "range": {
            "name": report.range_name,
            "start": iso_time(report.start),
            "end": iso_time(report.end),
            "stepSec": report.step_s,
        },
        "totals": totals_document(report.totals),
        **lists,
        "series": series,
    }
    if group_by is not None:
        body["groups"] = series if group_by is By.DAY else lists[_LISTS[group_by]]
    return body


def totals_document(totals: Totals) -> dict[str, Any]:
    """Return sums as JSON values. `costUsd` is what was billed; what subscriptions were worth stands beside it."""
    requests = totals.requests
    return {
        "requests": requests,
        "succeeded": requests - totals.failed - totals.cancelled,
        "failed": totals.failed,
        "cancelled": totals.cancelled,
        "tokensIn": totals.tokens_in,
        "tokensOut": totals.tokens_out,
        "cacheRead": totals.cache_read,
        "cacheWrite": totals.cache_write,
        "reasoning": totals.reasoning,
        **_money(totals),
        "estimatedRequests": totals.estimated,
        "avgLatencyMs": round(totals.duration_ms_sum / requests, 1) if requests else None,
        "avgTtftMs": round(totals.ttft_ms_sum / totals.ttft_count, 1) if totals.ttft_count else None,
        "fallbackRate": round(totals.fallbacks / requests, 6) if requests else None,
        "cacheHitRate": round(totals.cache_hits / requests, 6) if requests else None,
    }


def point_document(point: Point) -> dict[str, Any]:
    """Return one step of a series as JSON values."""
    return {
        "t": iso_time(point.bucket),
        "requests": point.requests,
        "succeeded": point.requests - point.failed - point.cancelled,
        "failed": point.failed,
        "cancelled": point.cancelled,
        "tokensIn": point.tokens_in,
        "tokensOut": point.tokens_out,
        "cacheRead": point.cache_read,
        **_money(point),
    }


def _money(sums: Totals | Point) -> dict[str, Any]:
    billed = sums.billed_nano_usd / _NANO
    return {
        "costUsd": billed,
        "billedUsd": billed,
        "subscriptionUsd": sums.subscription_nano_usd / _NANO,
        "unpricedRequests": sums.unpriced,
    }


def _row(by: By, row: Row) -> dict[str, Any]:
    match by:
        case By.PROVIDER:
            named: dict[str, Any] = {"provider": row.id}
        case By.MODEL:
            named = {"provider": row.provider, "model": row.id}
        case By.KEY:
            named = {"apiKeyId": row.id, "name": row.name}
        case By.CONNECTION:
            named = {"connectionId": row.id, "name": row.name, "provider": row.provider}
        case By.COMBO:
            named = {"comboId": row.id, "name": row.name}
        case _:
            raise ValueError(by)
    return {**named, **totals_document(row.totals)}


def _latency(row: LatencyRow) -> dict[str, Any]:
    named = {"provider": row.provider} if row.model is None else {"provider": row.provider, "model": row.model}
    p50, p95, p99 = (round(value, 1) for value in row.percentiles_ms)
    return {
        **named,
        "count": row.count,
        "avgMs": round(row.average_ms, 1),
        "p50Ms": p50,
        "p95Ms": p95,
        "p99Ms": p99,
        "beyondLastBound": row.beyond,
    }


def _narrowed() -> Narrowed:
    return Narrowed(query_text("apiKeyId"), query_text("provider"), query_text("model"))

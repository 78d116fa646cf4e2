"""`/api/usage/analytics`, `/api/usage/latency` and the usage of a key: what the gateway was used for."""

from __future__ import annotations

from typing import Any, Final, NotRequired, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import Query, Time, operation
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
from omniroute.services.budgets import BudgetDocument
from omniroute.services.key_limits import KeyLimitsDocument
from omniroute.services.token_limits import TokenLimitDocument

blueprint = Blueprint("management_analytics", __name__)

_NANO: Final = 1_000_000_000
_LISTS: Final = {
    By.PROVIDER: "byProvider",
    By.MODEL: "byModel",
    By.KEY: "byKey",
    By.CONNECTION: "byConnection",
    By.COMBO: "byCombo",
}
_DAYS: Final = {"today": 1, "7d": 7, "30d": 30, "month": None}
_NARROWED: Final = (
    Query("apiKeyId", "Only requests of this key; `local` and `env` name callers without one."),
    Query("provider", "Only requests that this provider served."),
    Query("model", "Only requests that this model served."),
    Query("combo", "Only requests of this combo, by its id."),
)


class MoneyDocument(TypedDict):
    """What requests cost. `costUsd` is what was billed; what subscriptions were worth stands beside it."""

    costUsd: float
    billedUsd: float
    subscriptionUsd: float
    unpricedRequests: int


class TotalsDocument(MoneyDocument):
    """Sums of requests."""

    requests: int
    succeeded: int
    failed: int
    cancelled: int
    tokensIn: int
    tokensOut: int
    cacheRead: int
    cacheWrite: int
    reasoning: int
    estimatedRequests: int
    avgLatencyMs: float | None
    avgTtftMs: float | None
    fallbackRate: float | None
    cacheHitRate: float | None


class UsagePointDocument(MoneyDocument):
    """One step of a series."""

    t: Time
    requests: int
    succeeded: int
    failed: int
    cancelled: int
    tokensIn: int
    tokensOut: int
    cacheRead: int


class ProviderUsageDocument(TotalsDocument):
    """Sums of one provider."""

    provider: str | None


class ModelUsageDocument(TotalsDocument):
    """Sums of one model of a provider."""

    provider: str | None
    model: str | None


class KeyTotalsDocument(TotalsDocument):
    """Sums of one key, or of callers without one."""

    apiKeyId: str | None
    name: str | None


class ConnectionUsageDocument(TotalsDocument):
    """Sums of one connection."""

    connectionId: str | None
    name: str | None
    provider: str | None


class ComboUsageDocument(TotalsDocument):
    """Sums of one combo."""

    comboId: str | None
    name: str | None


class UsageRangeDocument(TypedDict):
    """From when until when, and how long one step of the series is."""

    name: str | None
    start: Time
    end: Time
    stepSec: int


class AnalyticsDocument(TypedDict):
    """The sums of a range; `groups` is the division that was asked for."""

    range: UsageRangeDocument
    totals: TotalsDocument
    byProvider: list[ProviderUsageDocument]
    byModel: list[ModelUsageDocument]
    byKey: list[KeyTotalsDocument]
    byConnection: list[ConnectionUsageDocument]
    byCombo: list[ComboUsageDocument]
    series: list[UsagePointDocument]
    groups: NotRequired[list[dict[str, Any]]]


class CostDocument(TypedDict):
    """What the days of a period cost, today included.

    `forecastUsd` is what this month will be billed at its pace so far; null before its first hour is over.
    """

    period: str
    start: Time
    end: Time
    totals: TotalsDocument
    groups: list[dict[str, Any]]
    monthBilledUsd: float
    forecastUsd: float | None


class LatencyDocument(TypedDict):
    """How long the requests of a provider or model took; the percentiles in `beyondLastBound` are at least that."""

    provider: str | None
    model: NotRequired[str]
    count: int
    avgMs: float
    p50Ms: float
    p95Ms: float
    p99Ms: float
    beyondLastBound: list[str]


class LatenciesDocument(TypedDict):
    """Latencies over a time, from counts between bounds."""

    windowHours: int
    start: Time
    end: Time
    by: str
    boundsMs: list[float]
    latency: list[LatencyDocument]


class KeyUsageDocument(TypedDict):
    """What a key has used by period, and how far that goes of what it may."""

    keyId: str
    keyName: str | None
    totals: dict[str, TotalsDocument]
    limits: KeyLimitsDocument
    budgets: list[BudgetDocument]
    tokenLimits: list[TokenLimitDocument]


@blueprint.get("/api/usage/analytics")
@operation(
    AnalyticsDocument,
    query=(
        Query("range", "The time up to now; 30d unless said.", choices=tuple(Period)),
        Query("start", "From this ISO 8601 time on, in place of a range."),
        Query("end", "Up to this time."),
        Query("groupBy", "Give this division also as `groups`.", choices=tuple(By)),
        *_NARROWED,
    ),
)
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


@blueprint.get("/api/usage/cost")
@operation(
    CostDocument,
    query=(
        Query("period", "Which days; this calendar month unless said.", choices=tuple(_DAYS)),
        Query("groupBy", "Give this division as `groups`.", choices=tuple(By)),
    ),
)
def cost() -> Response:
    """Show what requests cost, and what this month will at its pace so far."""
    period = query_choice("period", tuple(_DAYS)) or "month"
    group_by = query_choice("groupBy", tuple(By))
    by = None if group_by is None else By(group_by)
    found = container().analytics.cost(_DAYS[period], by)
    groups = [dict(point_document(point)) for point in found.series]
    body: CostDocument = {
        "period": period,
        "start": iso_time(found.start),
        "end": iso_time(found.end),
        "totals": totals_document(found.totals),
        "groups": [*groups, *(_row(by, row) for row in found.by if by is not None)],
        "monthBilledUsd": found.month_billed / _NANO,
        "forecastUsd": None if found.forecast is None else found.forecast / _NANO,
    }
    return answer(body)


@blueprint.get("/api/usage/latency")
@blueprint.get("/api/usage/model-latency-stats")
@operation(
    LatenciesDocument,
    query=(
        Query("windowHours", "How far back; 24 unless said.", "integer", minimum=1, maximum=MOST_LATENCY_HOURS),
        Query("by", "Of what.", choices=("model", "provider")),
        *_NARROWED,
    ),
)
def latency() -> Response:
    """Show how long requests took, by model or by provider."""
    hours = query_integer(request, "windowHours", default=24, minimum=1, maximum=MOST_LATENCY_HOURS)
    by = query_choice("by", ("model", "provider")) or "model"
    found = container().analytics.latencies(hours, narrowed=_narrowed(), by_model=by == "model")
    body: LatenciesDocument = {
        "windowHours": hours,
        "start": iso_time(found.start),
        "end": iso_time(found.end),
        "by": by,
        "boundsMs": list(LATENCY_BOUNDS_MS),
        "latency": [_latency(row) for row in found.rows],
    }
    return answer(body)


@blueprint.get("/api/keys/<key_id>/usage")
@operation(KeyUsageDocument)
def key_usage(key_id: str) -> Response:
    """Show what a key has used, and how far that goes of what it may."""
    own = container()
    used = own.analytics.of_key(key_id)
    key = next((key for key in own.snapshots.current.keys if key.id == key_id), None)
    body: KeyUsageDocument = {
        "keyId": key_id,
        "keyName": None if key is None else key.name,
        "totals": {period: totals_document(totals) for period, totals in used.items()},
        "limits": key_limits.document(own.key_limits.of(key), iso_time),
        "budgets": budgets.shown(own.budgets.all(key_id)),
        "tokenLimits": budgets.limits_shown(own.token_limits.all(key_id)),
    }
    return answer(body)


def report_document(report: Report, group_by: By | None = None) -> AnalyticsDocument:
    """Return a report as JSON values; with `group_by` that division also as `groups`."""
    lists: dict[str, Any] = {name: [_row(by, row) for row in report.by[by]] for by, name in _LISTS.items()}
    series = [point_document(point) for point in report.series]
    body: AnalyticsDocument = {
        "range": {
            "name": report.range_name,
            "start": iso_time(report.start),
            "end": iso_time(report.end),
            "stepSec": report.step_s,
        },
        "totals": totals_document(report.totals),
        "byProvider": lists["byProvider"],
        "byModel": lists["byModel"],
        "byKey": lists["byKey"],
        "byConnection": lists["byConnection"],
        "byCombo": lists["byCombo"],
        "series": series,
    }
    if group_by is not None:
        body["groups"] = [dict(point) for point in series] if group_by is By.DAY else lists[_LISTS[group_by]]
    return body


def totals_document(totals: Totals) -> TotalsDocument:
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


def point_document(point: Point) -> UsagePointDocument:
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


def _money(sums: Totals | Point) -> MoneyDocument:
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


def _latency(row: LatencyRow) -> LatencyDocument:
    p50, p95, p99 = (round(value, 1) for value in row.percentiles_ms)
    body: LatencyDocument = {
        "provider": row.provider,
        "count": row.count,
        "avgMs": round(row.average_ms, 1),
        "p50Ms": p50,
        "p95Ms": p95,
        "p99Ms": p99,
        "beyondLastBound": list(row.beyond),
    }
    if row.model is not None:
        body["model"] = row.model
    return body


def _narrowed() -> Narrowed:
    return Narrowed(query_text("apiKeyId"), query_text("provider"), query_text("model"), query_text("combo"))

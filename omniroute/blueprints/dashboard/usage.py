"""Usage: how much was asked of what, by whom, when, and how it went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from flask import request
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, charts, named
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import page

RANGES: Final = ("24h", "7d", "30d", "90d", "365d", "all")
PAGE: Final = 50
_IN_SECTIONS: Final = 6
_HOURS: Final = {"24h": 24, "7d": 7 * 24, "30d": 30 * 24, "90d": 90 * 24}
"""Ranges of which the distribution of durations is known."""
LISTS: Final = {
    "provider": "byProvider",
    "model": "byModel",
    "key": "byKey",
    "combo": "byCombo",
    "connection": "byConnection",
}
_FIELDS: Final = {"start": "from", "end": "to", "apiKeyId": "key"}
"""What the API calls a field of the form otherwise."""


@dataclass(frozen=True, slots=True)
class Division:
    """The sums by one kind of thing, as a table shows some of them.

    Attributes:
        name: `provider`, `model`, `key`, `combo` or `connection`.
        total: how many rows there are; `rows` may be fewer.
        most: the requests of the row that has most of them.
    """

    name: str
    rows: list[dict[str, Any]]
    total: int
    most: int


@blueprint.get("/dashboard/usage")
def usage() -> Response:
    """Show the sums of a range of time."""
    by = request.args.get("by", "")
    chosen = by if by in LISTS else ""
    form = FormState.of(request.args)
    try:
        query = _query()
        report = api.get("/api/usage/analytics", **query)
    except Refused as refused:
        return page("dashboard/usage.html", form=_with_faults(refused), by=chosen, report=None, status=400)
    points = filled(report["series"], report["range"])
    return page(
        "dashboard/usage.html",
        form=form,
        by=chosen,
        report=report,
        series=points,
        figures=_figures(points),
        divisions=[_division(report, name) for name in ([chosen] if chosen else LISTS)],
        percentiles=_percentiles(chosen, query),
        export=_export(query, report["range"]),
        offset=_offset(),
        limit=PAGE,
    )


def _query() -> dict[str, Any]:
    """Return what the API is asked for."""
    args = request.args
    query: dict[str, Any] = {
        "apiKeyId": named.key_id(args.get("key", "")),
        "provider": args.get("provider", "").strip(),
        "model": args.get("model", "").strip(),
        "combo": named.combo_id(args.get("combo", "")),
    }
    if args.get("range") == "own" or (args.get("from") or args.get("to")):
        return query | {"start": args.get("from"), "end": _day_after(args.get("to", ""))}
    return query | {"range": args.get("range") or "30d"}


def _day_after(text: str) -> str:
    """Return the day after a date: a range that ends on a day holds all of it."""
    try:
        return (date.fromisoformat(text) + timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        return text


def _with_faults(refused: Refused) -> FormState:
    faults = {_FIELDS.get(name, name): message for name, message in refused.faults.items()}
    return FormState(request.args, faults, refused.message, refused.error_code)


def filled(series: list[dict[str, Any]], span: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a series with the steps in which nothing happened; the API leaves them out."""
    step = int(span["stepSec"])
    start, end = _seconds(span["start"]), _seconds(span["end"])
    by_time = {_seconds(point["t"]): point for point in series}
    nothing = {name: 0 for name in (series[0] if series else {}) if name != "t"}
    first = start - start % step
    times = sorted({*range(first, max(end, first + 1), step), *by_time})
    return [(by_time.get(at) or {"t": _iso(at), **nothing}) | {"at": at} for at in times] if series else []


def _figures(points: list[dict[str, Any]]) -> dict[str, Any]:
    return charts.figures(
        [point["at"] for point in points],
        [
            charts.Series(_("Requests"), [point["requests"] for point in points], 1, is_bars=True),
            charts.Series(_("Failed"), [point["failed"] for point in points], 2, is_bars=True),
        ],
        _("requests"),
        _("Requests"),
    )


def _division(report: Mapping[str, Any], name: str) -> Division:
    rows: list[dict[str, Any]] = report[LISTS[name]]
    offset = _offset()
    shown = rows[offset : offset + PAGE] if request.args.get("by") == name else rows[:_IN_SECTIONS]
    return Division(
        name,
        [row | {"label": label(name, row)} for row in shown],
        len(rows),
        max((row["requests"] for row in rows), default=0),
    )


def label(by: str, row: Mapping[str, Any]) -> str:
    """Return what a row of sums is called."""
    return _NAMES[by](row)


def _of_key(row: Mapping[str, Any]) -> str:
    return row["name"] or row["apiKeyId"] or _("without a key")


_NAMES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "provider": lambda row: row["provider"] or _("none: answered or refused by the gateway"),
    "model": lambda row: row["model"] or _("none: answered or refused by the gateway"),
    "key": _of_key,
    "combo": lambda row: row["name"] or row["comboId"],
    "connection": lambda row: row["name"] or row["connectionId"] or _("none: answered or refused by the gateway"),
}


def _percentiles(by: str, query: Mapping[str, Any]) -> dict[tuple[str | None, str | None], dict[str, Any]]:
    """Return the distribution of durations by provider and model, where it is known for the range."""
    hours = _HOURS.get(query.get("range", ""))
    if by not in ("provider", "model") or hours is None:
        return {}
    narrowed = {name: query[name] for name in ("apiKeyId", "provider", "model", "combo")}
    rows = api.get("/api/usage/latency", windowHours=hours, by=by, **narrowed)["latency"]
    return {(row["provider"], row.get("model")): row for row in rows}


def _export(query: Mapping[str, Any], span: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query of an export of the same requests."""
    names = ("apiKeyId", "provider", "model", "combo")
    given = {name: query[name] for name in names if query.get(name)}
    return given | {"since": span["start"], "until": span["end"]}


def _offset() -> int:
    text = request.args.get("offset", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _seconds(iso: str) -> int:
    return int(datetime.fromisoformat(iso).timestamp())


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")

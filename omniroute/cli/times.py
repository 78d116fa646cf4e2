"""Times as people write and read them: how long something takes, how long ago it was, and when it is."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO: Final = re.compile(r"(\d{1,6})\s*([smhdw])", re.ASCII)
_SHORT_S: Final = 600
"""Below it seconds matter."""


def span(seconds: float) -> str:
    """Return a length of time as people say it, such as `2h 30m`; below zero it is over: `0s`."""
    left = max(0, round(seconds))
    days, rest = divmod(left, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        parts = (f"{days}d", f"{hours}h")
    elif hours:
        parts = (f"{hours}h", f"{minutes}m")
    elif minutes:
        parts = (f"{minutes}m", f"{rest}s" if left < _SHORT_S else "0s")
    else:
        return f"{rest}s"
    return " ".join(part for part in parts if not part.startswith("0"))


def seconds_until(time: str | None, now: datetime | None = None) -> float | None:
    """Return how far away a time of the HTTP API is; negative when it is over, None when there is none."""
    if time is None:
        return None
    return (datetime.fromisoformat(time) - (now or datetime.now(UTC))).total_seconds()


def span_until(time: str | None, now: datetime | None = None) -> str | None:
    """Return how long it is until a time of the HTTP API, as people say it."""
    left = seconds_until(time, now)
    return None if left is None else span(left)


class _Moment(click.ParamType[str]):
    """A time, or how long ago it was; becomes a time as the HTTP API takes it, UTC where none is named."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        ago = _AGO.fullmatch(text)
        try:
            if ago is not None:
                return _written(datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _UNITS_S[ago[2]]))
            return _written(datetime.fromisoformat(text))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a length such as 24h nor an ISO 8601 time such as 2027-01-31.", param, ctx)


def _written(moment: datetime) -> str:
    known = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return known.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


MOMENT: Final = _Moment()

"""When a provider says that it will answer again: every spelling of a retry hint, parsed to seconds in one place."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

_DAY_S: Final = 86_400.0
_SKEW_S: Final = 60.0
_EPOCH_S: Final = 1e9
_EPOCH_MS: Final = 1e12
_UNITS: Final = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": _DAY_S}
_AMOUNT: Final = (
    r"[0-9]{1,9}(?:\.[0-9]{1,9})?\s?"
    r"(?:ms|milliseconds?|secs?|seconds?|s|mins?|minutes?|m|hrs?|hours?|h|days?|d)\b"
)
_PART: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s?(ms|milli|s|m|h|d)", re.IGNORECASE)
_DURATION: Final = re.compile(
    r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|[smhd])){1,5}",
    re.IGNORECASE,
)
_IN_TEXT: Final = re.compile(
    r"(?:try again|retry|resets?|available(?: again)?|wait)(?:\s(?:in|after|for|within|at least))?\s(?:about\s)?"
    rf"((?:[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?(?:ms|[smhd])){{2,5}}|{_AMOUNT}(?:(?:,|\sand)?\s?{_AMOUNT}){{0,4}})",
    re.IGNORECASE,
)
_TIME_IN_TEXT: Final = re.compile(
    r"(?:try again|resets?|available(?: again)?) at ([01][0-9]|2[0-3]):([0-5][0-9])(?::[0-5][0-9])? ?(?:UTC|GMT|Z)\b",
    re.IGNORECASE,
)
_RESET_FIELDS: Final = ("resets_at", "reset_at", "nextResetTime", "quota_reset_date")
_DELAY_FIELDS: Final = ("resets_in_seconds", "retry_after", "retry_after_seconds", "estimated_time")
_UNIFIED: Final = "anthropic-ratelimit-unified-"
_CODEX_RESETS: Final = ("x-codex-primary-reset-at", "x-codex-secondary-reset-at")
_RESET_HEADER: Final = re.compile(
    r"x-ratelimit-reset(?:-(?P<window>[a-z-]+))?|ratelimit-reset|anthropic-ratelimit-(?P<kind>[a-z-]+)-reset"
)


@dataclass(frozen=True, slots=True)
class Hint:
    """Seconds from now, and the field or header that says so."""

    seconds: float
    source: str


def retry_hint(
    headers: Mapping[str, str], error: Mapping[str, Any], message: str, *, now: float, windows: bool
) -> Hint | None:
    """Return the most specific hint that lies in the future, or None.

    Header names are in lower case, `error` is the error object of the body and `message` its sentence. A provider's
    clock that differs from `now` by more than a minute is followed for its own times. With `windows` the headers that
    describe rate-limit windows are read too: they come with every answer, so they mean a wait only when a limit was
    the reason.
    """
    now = _their_now(headers, now)
    for source, seconds in _candidates(headers, error, message, now, windows):
        if seconds is not None and math.isfinite(seconds) and seconds > 0:
            return Hint(seconds, source)
    return None


def _candidates(
    headers: Mapping[str, str], error: Mapping[str, Any], message: str, now: float, windows: bool
) -> Iterator[tuple[str, float | None]]:
    for name in _RESET_FIELDS:
        if name in error:
            yield f"body:{name}", _until(error[name], now)
    if windows:
        yield from _rejected_windows(headers, now)
    yield "body:retryDelay", _google_delay(error)
    for name in _DELAY_FIELDS:
        if name in error:
            yield f"body:{name}", _plain_seconds(error[name])
    yield "text", _from_text(message, now)
    yield "retry-after-ms", _scaled(headers.get("retry-after-ms"), 0.001)
    yield "retry-after", _retry_after(headers.get("retry-after"), now)
    if windows:
        yield _from_windows(headers, now)


def _their_now(headers: Mapping[str, str], now: float) -> float:
    theirs = _http_date(headers.get("date", ""))
    return theirs if theirs is not None and abs(theirs - now) > _SKEW_S else now


# --- sources ---------------------------------------------------------------------------------------------------------


def _rejected_windows(headers: Mapping[str, str], now: float) -> Iterator[tuple[str, float | None]]:
    """Subscription windows: the one that was rejected, not the one that resets first."""
    if headers.get(_UNIFIED + "status") == "rejected":
        rejected = [
            name.removesuffix("-status") + "-reset"
            for name, value in headers.items()
            if name.startswith(_UNIFIED) and name.endswith("-status") and value == "rejected"
        ]
        waits = [wait for name in rejected if (wait := _until(headers.get(name), now)) is not None]
        yield _UNIFIED + "reset", max(waits, default=_until(headers.get(_UNIFIED + "reset"), now))
    for name in _CODEX_RESETS:
        if headers.get(name.replace("reset-at", "used-percent"), "").startswith("100"):
            yield name, _until(headers.get(name), now)


def _google_delay(error: Mapping[str, Any]) -> float | None:
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return _duration(detail["retryDelay"])
    return None


def _from_text(message: str, now: float) -> float | None:
    found = _IN_TEXT.search(message)
    if found is not None:
        return _sum_of_parts(found[1])
    clock = _TIME_IN_TEXT.search(message)
    if clock is None:
        return None
    current = datetime.fromtimestamp(now, UTC)
    at = current.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
    return ((at if at > current else at + timedelta(days=1)) - current).total_seconds()


def _retry_after(value: str | None, now: float) -> float | None:
    if value is None:
        return None
    seconds = _plain_seconds(value)
    if seconds is not None:
        return seconds
    at = _http_date(value)
    return None if at is None else at - now


def _from_windows(headers: Mapping[str, str], now: float) -> tuple[str, float | None]:
    """Return the reset of a window that has nothing left, else the latest reset."""
    spent: list[tuple[float, str]] = []
    others: list[tuple[float, str]] = []
    for name, value in headers.items():
        found = _RESET_HEADER.fullmatch(name)
        if found is None or name.startswith(_UNIFIED):
            continue
        wait = _until(value, now)
        if wait is None or wait <= 0:
            continue
        remaining = headers.get(name.replace("-reset", "-remaining"))
        (spent if remaining is not None and _scaled(remaining, 1.0) == 0 else others).append((wait, name))
    for waits in (spent, others):
        if waits:
            wait, name = max(waits)
            return name, wait
    return "ratelimit-reset", None


# --- forms -----------------------------------------------------------------------------------------------------------


def _until(value: Any, now: float) -> float | None:
    """Read a moment or a wait: epoch seconds or milliseconds, RFC 3339, a date, a duration, plain seconds."""
    number = _plain_seconds(value)
    if number is not None:
        if number >= _EPOCH_MS:
            return number / 1000 - now
        return number - now if number >= _EPOCH_S else number
    if not isinstance(value, str) or len(value) > 64:
        return None
    return _first(value.strip(), (_duration, lambda text: _rfc3339(text, now)))


def _first(text: str, readers: tuple[Callable[[str], float | None], ...]) -> float | None:
    return next((seconds for reader in readers if (seconds := reader(text)) is not None), None)


def _plain_seconds(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e15 else None
    return _scaled(value, 1.0) if isinstance(value, str) else None


def _scaled(value: str | None, factor: float) -> float | None:
    if value is None or not re.fullmatch(r"\s*[0-9]{1,15}(?:\.[0-9]{1,9})?\s*", value, re.ASCII):
        return None
    return float(value) * factor


def _duration(text: str) -> float | None:
    return _sum_of_parts(text) if _DURATION.fullmatch(text) else None


def _sum_of_parts(text: str) -> float:
    return sum(
        float(amount) * _UNITS["ms" if unit.lower() == "milli" else unit.lower()]
        for amount, unit in _PART.findall(text)
    )


def _rfc3339(text: str, now: float) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp() - now


def _http_date(text: str) -> float | None:
    if not text or len(text) > 64:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()

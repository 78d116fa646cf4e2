"""When a provider says that it will answer again: every spelling of a retry hint, parsed to seconds in one place."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from omniroute.providers import hint_text
from omniroute.providers.spent import UNIFIED, rejected_windows
from omniroute.routing.failures import DAY_HINT, TEXT_HINT

_SKEW_S: Final = 60.0
_EPOCH_S: Final = 1e9
_EPOCH_MS: Final = 1e12
_RESET_FIELDS: Final = ("resets_at", "reset_at", "nextResetTime", "quota_reset_date")
_DELAY_FIELDS: Final = ("resets_in_seconds", "retry_after", "retry_after_seconds", "estimated_time")
_GOOGLE_RESETS: Final = ("quotaResetTimeStamp", "quotaResetDelay")
_CODEX: Final = ("x-codex-primary-", "x-codex-secondary-")
_RESET_HEADER: Final = re.compile(
    r"x-ratelimit-reset(?:-(?P<window>[a-z-]+))?|ratelimit-reset|anthropic-ratelimit-(?P<kind>[a-z-]+)-reset"
)


@dataclass(frozen=True, slots=True)
class Hint:
    """Seconds from now, and the field or header that says so."""

    seconds: float
    source: str


@dataclass(frozen=True, slots=True)
class Hints:
    """The hint that counts, and where there were others that say nothing."""

    hint: Hint | None = None
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Where hints may stand.

    Attributes:
        headers: names in lower case.
        error: the error object of the body.
        message: its sentence.
        codes: its codes in lower case.
        is_limit: a limit was the reason. Headers that describe limits come with every answer, so they mean a wait only
            then.
        is_per_day: the limit is one per day of a vendor whose days end at a known hour.
    """

    headers: Mapping[str, str]
    error: Mapping[str, Any]
    message: str = ""
    codes: Sequence[str] = ()
    is_limit: bool = False
    is_per_day: bool = False


def retry_hint(refusal: Refusal, *, now: float) -> Hints:
    """Return the most specific hint that lies in the future.

    A provider's clock that differs from `now` by more than a minute is followed for its own times.
    """
    now = _their_now(refusal.headers, now)
    ignored: list[str] = []
    for source, seconds in _candidates(refusal, now):
        if seconds is not None and math.isfinite(seconds) and seconds > 0:
            return Hints(Hint(seconds, source), tuple(dict.fromkeys(ignored)))
        ignored.append(source)
    return Hints(None, tuple(dict.fromkeys(ignored)))


def spent_until(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return until when the limit headers of an answer say that nothing is left; None when something is.

    `now` and the result are epoch seconds of our clock.
    """
    # Asked of every answer that serves, and nearly none has a window without room: the cheap question comes first.
    if not any(value[:1] == "0" and "-remaining" in name for name, value in headers.items()):
        return None
    theirs = _their_now(headers, now)
    spent = [wait for wait, _, is_spent in _windows(headers, theirs) if is_spent]
    return now + max(spent) if spent else None


def _candidates(refusal: Refusal, now: float) -> Iterator[tuple[str, float | None]]:
    headers, error = refusal.headers, refusal.error
    for name in _RESET_FIELDS:
        if name in error:
            yield f"body:{name}", _until(error[name], now)
    if refusal.is_limit:
        yield from _rejected(headers, now)
    yield from _google(error, now)
    for name in _DELAY_FIELDS:
        if name in error:
            yield f"body:{name}", _plain_seconds(error[name])
    seconds = hint_text.seconds_in(refusal.message, refusal.codes, now)
    if seconds is not None or hint_text.looks_like_hint(refusal.message):
        yield TEXT_HINT, seconds
    if "retry-after-ms" in headers:
        yield "retry-after-ms", _scaled(headers["retry-after-ms"], 0.001)
    if "retry-after" in headers:
        yield "retry-after", _retry_after(headers["retry-after"], now)
    if refusal.is_limit:
        yield from _from_windows(headers, now)
    if refusal.is_per_day:
        yield DAY_HINT, hint_text.to_midnight(now)


def _their_now(headers: Mapping[str, str], now: float) -> float:
    theirs = _http_date(headers.get("date", ""))
    return theirs if theirs is not None and abs(theirs - now) > _SKEW_S else now


# --- sources ---------------------------------------------------------------------------------------------------------


def _rejected(headers: Mapping[str, str], now: float) -> Iterator[tuple[str, float | None]]:
    """Subscription windows: the one that was rejected, not the one that resets first."""
    if headers.get(UNIFIED + "status") == "rejected":
        resets = [headers.get(f"{UNIFIED}{name}-reset") for name in rejected_windows(headers)]
        waits = [wait for reset in resets if (wait := _until(reset, now)) is not None]
        if waits or UNIFIED + "reset" in headers:
            yield UNIFIED + "reset", max(waits, default=_until(headers.get(UNIFIED + "reset"), now))
    for prefix in _CODEX:
        if not headers.get(prefix + "used-percent", "").startswith("100"):
            continue
        for name in (prefix + "reset-at", prefix + "reset-after-seconds"):
            if name in headers:
                yield name, _until(headers[name], now)


def _google(error: Mapping[str, Any], now: float) -> Iterator[tuple[str, float | None]]:
    details = error.get("details")
    found = [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    for name in _GOOGLE_RESETS:
        for detail in found:
            metadata = detail.get("metadata")
            if isinstance(metadata, dict) and name in metadata:
                yield f"body:{name}", _until(metadata[name], now)
    for detail in found:
        if isinstance(detail.get("retryDelay"), str):
            yield "body:retryDelay", hint_text.duration(detail["retryDelay"])


def _retry_after(value: str | None, now: float) -> float | None:
    if value is None:
        return None
    seconds = _plain_seconds(value)
    if seconds is not None:
        return seconds
    at = _http_date(value)
    return None if at is None else at - now


def _from_windows(headers: Mapping[str, str], now: float) -> Iterator[tuple[str, float | None]]:
    """Yield the reset of a window that has nothing left, else the latest reset."""
    waits = list(_windows(headers, now))
    if waits:
        spent = [one for one in waits if one[2]]
        wait, name, _ = max(spent or waits)
        yield name, wait


def _windows(headers: Mapping[str, str], now: float) -> Iterator[tuple[float, str, bool]]:
    """Yield each window's wait, its header, and whether it has nothing left."""
    for name, value in headers.items():
        if _RESET_HEADER.fullmatch(name) is None or name.startswith(UNIFIED):
            continue
        wait = _until(value, now)
        if wait is None or wait <= 0:
            continue
        remaining = headers.get(name.replace("-reset", "-remaining"))
        yield wait, name, remaining is not None and _scaled(remaining, 1.0) == 0


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
    return _first(value.strip(), (hint_text.duration, lambda text: _rfc3339(text, now)))


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


def _rfc3339(text: str, now: float) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, OverflowError):
        return None


def _http_date(text: str) -> float | None:
    if not text or len(text) > 64:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None

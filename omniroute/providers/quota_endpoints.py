"""Providers' own reports of quota and credit: one reader for each shape of answer. Values in, windows out.

Which row has which report stands in the rows (`usage_url`, `usage_shape`). Shapes, and where they are described:

* `openrouter`: openrouter.ai/docs/api/api-reference/api-keys/get-current-key
* `deepseek`: api-docs.deepseek.com/api/get-user-balance
* `moonshot`: platform.moonshot.ai/docs/api/balance
* `siliconflow`: docs.siliconflow.com/en/api-reference/userinfo/get-user-info
* `vercel`: vercel.com/docs/ai-gateway/usage
* `novita`: novita.ai/docs/api-reference/basic-get-user-balance
* `poe`: creator.poe.com/docs (usage API)
* `minimax`: platform.minimax.io/docs, token plan remains
* `synthetic`: dev.synthetic.new/docs/api/quotas
* `elevenlabs`: elevenlabs.io/docs/api-reference/user/subscription/get
* `kie`: docs.kie.ai (get remaining credits)
* `glm`, `kimi`, `nanogpt`, `crof`: undocumented; as several published readers describe real answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from omniroute.providers.quota_values import (
    DAY_S,
    HOUR_S,
    MONTH_S,
    MOST_USED,
    WEEK_S,
    fraction_of,
    moment_of,
    number_of,
)
from omniroute.records import GrantWindow

_FIVE_HOURS_S: Final = 5 * HOUR_S
_MAX_PLAN: Final = 60
_MOST_WINDOWS: Final = 24
_PLAN: Final = re.compile(r"[\w .+()/-]+")


@dataclass(frozen=True, slots=True)
class Report:
    """What a provider says: its windows, the name of the plan where it has one."""

    windows: tuple[GrantWindow, ...]
    plan: str | None = None


class Unreadable(ValueError):
    """The answer is not a report."""


Reader = Callable[[Mapping[str, Any], float], Report]


def read_report(shape: str, body: bytes, now: float) -> Report:
    """Return what a report says; what in it cannot be true is left out.

    Raises:
        Unreadable: it is no report of this shape.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise Unreadable("The answer is not JSON.") from None
    if not isinstance(document, dict):
        raise Unreadable("The answer is not an object.")
    report = READERS[shape](document, now)
    return Report(report.windows[:_MOST_WINDOWS], report.plan)


def credit_of(remaining: Any, unit: str, *, limit: Any = None, name: str = "credits") -> GrantWindow | None:
    """Return credit that lasts until it is spent; None where nobody says how much there is."""
    left = number_of(remaining)
    if left is None:
        # An account in debt has nothing left; how much it owes is no concern of ours.
        left = 0.0 if _is_negative(remaining) else None
    if left is None:
        return None
    whole = number_of(limit)
    used = None if not whole else max(0.0, 1 - left / whole)
    return GrantWindow(name, used=used, limit=whole or None, remaining=left, unit=unit)


# --- credit ----------------------------------------------------------------------------------------------------------


def _openrouter(document: Mapping[str, Any], now: float) -> Report:
    data = _object(document, "data")
    plan = "free" if data.get("is_free_tier") is True else None
    limit = number_of(data.get("limit"))
    credit = credit_of(data.get("limit_remaining"), "usd", limit=limit, name="key")
    if credit is None or limit is None:  # a key without a limit of its own
        return Report((), plan)
    period = {"daily": DAY_S, "weekly": WEEK_S, "monthly": MONTH_S}.get(str(data.get("limit_reset")).lower())
    if period is None:
        return Report((credit,), plan)
    window = GrantWindow(
        "key", credit.used, limit, credit.remaining, "usd", length_s=period, resets_at=next_start(period, now)
    )
    return Report((window,), plan)


def _deepseek(document: Mapping[str, Any], now: float) -> Report:
    del now
    rows = _list(document, "balance_infos")
    found = []
    for row in rows:
        currency = str(row.get("currency", "")).lower()
        if currency in ("usd", "cny"):
            window = credit_of(row.get("total_balance"), currency, name=f"credits_{currency}")
            found += [window] if window is not None else []
    if document.get("is_available") is False:  # whatever is left does not suffice
        found = [GrantWindow(one.name, remaining=0.0, unit=one.unit) for one in found]
    return Report(tuple(found))


def _moonshot(document: Mapping[str, Any], now: float) -> Report:
    del now
    return _credits(_object(document, "data").get("available_balance"), "usd")


def _siliconflow(document: Mapping[str, Any], now: float) -> Report:
    del now
    return _credits(_object(document, "data").get("totalBalance"), "usd")


def _siliconflow_cn(document: Mapping[str, Any], now: float) -> Report:
    del now
    return _credits(_object(document, "data").get("totalBalance"), "cny")


def _vercel(document: Mapping[str, Any], now: float) -> Report:
    del now
    return _credits(document.get("balance"), "usd")


def _novita(document: Mapping[str, Any], now: float) -> Report:
    del now
    window = credit_of(document.get("availableBalance"), "usd")
    if window is None or window.remaining is None:
        raise Unreadable("The report names no balance.")
    return Report((GrantWindow(window.name, remaining=window.remaining / 10_000, unit="usd"),))


def _poe(document: Mapping[str, Any], now: float) -> Report:
    del now
    return _credits(document.get("current_point_balance"), "points")


def _kie(document: Mapping[str, Any], now: float) -> Report:
    del now
    return _credits(document.get("data"), "credits")


def _crof(document: Mapping[str, Any], now: float) -> Report:
    del now
    credit = credit_of(document.get("credits"), "usd")
    requests = credit_of(document.get("usable_requests"), "requests", name="requests")
    return _some((credit, requests))


def _credits(remaining: Any, unit: str) -> Report:
    return _some((credit_of(remaining, unit),))


# --- plans -----------------------------------------------------------------------------------------------------------

_GLM_WINDOWS: Final[Mapping[tuple[str, int], tuple[str, float]]] = {
    ("TOKENS_LIMIT", 3): ("5h", _FIVE_HOURS_S),
    ("TOKENS_LIMIT", 6): ("7d", WEEK_S),
    ("TIME_LIMIT", 5): ("tools/month", MONTH_S),
}


def _glm(document: Mapping[str, Any], now: float) -> Report:
    data = _object(document, "data")
    found = []
    for row in _list(data, "limits"):
        unit = row.get("unit")
        known = _GLM_WINDOWS.get((str(row.get("type")), unit)) if isinstance(unit, int) else None
        used = fraction_of(row.get("percentage"), 100.0)
        if known is None or used is None:
            continue
        name, length_s = known
        is_tools = name.startswith("tools")
        found.append(
            GrantWindow(
                name,
                used=used,
                limit=number_of(row.get("usage")),
                remaining=number_of(row.get("remaining")),
                unit="calls" if is_tools else "tokens",
                length_s=length_s,
                resets_at=moment_of(row.get("nextResetTime"), now),
                family="tools" if is_tools else None,  # of its own tools: no model belongs to it
            )
        )
    return Report(tuple(found), _plan(data.get("planName") or data.get("level")))


def _minimax(document: Mapping[str, Any], now: float) -> Report:
    document = document["data"] if isinstance(document.get("data"), dict) else document
    rows = _list(document, "model_remains")
    row = next((one for one in rows if str(one.get("model_name")).lower().startswith(("general", "minimax-m"))), None)
    if row is None:
        raise Unreadable("The report names no text model.")
    windows = (
        _minimax_window(row, "5h", now, counts="current_interval", times="", length_s=_FIVE_HOURS_S),
        _minimax_window(row, "7d", now, counts="current_weekly", times="weekly_", length_s=WEEK_S),
    )
    return _some(windows, plan=document.get("current_subscribe_title"))


def _minimax_window(
    row: Mapping[str, Any], name: str, now: float, *, counts: str, times: str, length_s: float
) -> GrantWindow | None:
    """Read one span of a text model; what is called a usage count is what remains."""
    limit, left = number_of(row.get(f"{counts}_total_count")), number_of(row.get(f"{counts}_usage_count"))
    percent = fraction_of(row.get(f"{counts}_remaining_percent"), 100.0)
    if percent is not None:
        used = 1 - min(1.0, percent)
    elif limit and left is not None and left <= limit:
        used = 1 - left / limit
    else:
        return None
    began, ends = number_of(row.get(f"{times}start_time")), number_of(row.get(f"{times}end_time"))
    if began is not None and ends is not None and ends > began:
        length_s = (ends - began) / 1000
    resets_at = moment_of(row.get(f"{times}end_time"), now)
    is_counted = bool(limit) and left is not None
    return GrantWindow(
        name,
        used,
        limit if is_counted else None,
        left if is_counted else None,
        "requests" if is_counted else None,
        length_s=length_s,
        resets_at=resets_at,
    )


_KIMI_UNITS: Final = {"MINUTE": 60.0, "HOUR": HOUR_S, "DAY": DAY_S, "WEEK": WEEK_S}


def _kimi(document: Mapping[str, Any], now: float) -> Report:
    document = document["data"] if isinstance(document.get("data"), dict) else document
    found = []
    if isinstance(document.get("usage"), dict):
        found.append(_counted(document["usage"], "7d", WEEK_S, now))
    for row in _list(document, "limits", is_needed=not found):
        window, detail = row.get("window"), row.get("detail")
        if not isinstance(detail, dict):
            continue
        length_s = _FIVE_HOURS_S
        if isinstance(window, dict):
            unit = str(window.get("timeUnit", "")).upper().removeprefix("TIME_UNIT_").removesuffix("S")
            duration = number_of(window.get("duration"))
            length_s = duration * _KIMI_UNITS[unit] if duration and unit in _KIMI_UNITS else _FIVE_HOURS_S
        found.append(_counted(detail, _name_of(length_s), length_s, now))
    user = document.get("user")
    membership = user.get("membership") if isinstance(user, dict) else None
    plan = document.get("planName") or (membership.get("level") if isinstance(membership, dict) else None)
    return _some(found, plan=plan)


def _nanogpt(document: Mapping[str, Any], now: float) -> Report:
    spans = (
        ("dailyInputTokens", "1d", DAY_S, "tokens"),
        ("weeklyInputTokens", "7d", WEEK_S, "tokens"),
        ("daily", "1d", DAY_S, "requests"),
        ("monthly", "30d", MONTH_S, "requests"),
    )
    found = {}
    for key, name, length_s, unit in spans:
        row = document.get(key)
        if not isinstance(row, dict) or name in found:
            continue
        window = _counted(row, name, length_s, now, unit=unit)
        used = fraction_of(row.get("percentUsed"))
        if window is None and used is not None:
            resets_at = moment_of(row.get("resetAt"), now)
            window = GrantWindow(name, used, unit=unit, length_s=length_s, resets_at=resets_at)
        if window is not None:
            found[name] = window
    return _some(tuple(found.values()), is_empty_fine=document.get("active") is False)


def _synthetic(document: Mapping[str, Any], now: float) -> Report:
    found: list[GrantWindow | None] = []
    rolling, weekly = document.get("rollingFiveHourLimit"), document.get("weeklyTokenLimit")
    if isinstance(rolling, dict):  # it grows back a slice at a time, and so has no reset
        limit, left = number_of(rolling.get("max")), number_of(rolling.get("remaining"))
        if limit and left is not None:
            used = max(0.0, 1 - left / limit)
            found.append(GrantWindow("5h", used, limit, left, "requests", length_s=_FIVE_HOURS_S))
    if isinstance(weekly, dict):
        percent = fraction_of(weekly.get("percentRemaining"), 100.0)
        if percent is not None:
            found.append(GrantWindow("7d", max(0.0, 1 - percent), unit="credits", length_s=WEEK_S))
    subscription = document.get("subscription")
    if isinstance(subscription, dict) and not found:
        resets_at = moment_of(subscription.get("renewsAt"), now)
        length_s = None if resets_at is None else (DAY_S if resets_at - now > _FIVE_HOURS_S else _FIVE_HOURS_S)
        row = {"limit": subscription.get("limit"), "used": subscription.get("requests")}
        found.append(_counted(row, "subscription", length_s, now, resets_at=resets_at, unit="requests"))
    return _some(found)


def _elevenlabs(document: Mapping[str, Any], now: float) -> Report:
    row = {"limit": document.get("character_limit"), "used": document.get("character_count")}
    resets_at = moment_of(document.get("next_character_count_reset_unix"), now)
    window = _counted(row, "30d", MONTH_S, now, resets_at=resets_at, unit="characters")
    return _some((window,), plan=document.get("tier"))


def _counted(
    row: Mapping[str, Any],
    name: str,
    length_s: float | None,
    now: float,
    *,
    resets_at: float | None = None,
    unit: str | None = None,
) -> GrantWindow | None:
    """Read `{limit, used or remaining, resetTime}` in the spellings that are about."""
    limit = number_of(_first(row, "limit", "total"))
    used, left = number_of(row.get("used")), number_of(row.get("remaining"))
    if not limit and used is not None and left is not None:
        limit = used + left
    if not limit:
        return None
    if used is None and left is not None and left <= limit:
        used = limit - left
    if used is None or used / limit > MOST_USED:
        return None
    reset = _first(row, "resetTime", "reset_time", "resetAt", "resetsAt", "reset_at")
    return GrantWindow(
        name,
        used=used / limit,
        limit=limit,
        remaining=max(0.0, limit - used),
        unit=unit,
        length_s=length_s,
        resets_at=resets_at if resets_at is not None else moment_of(reset, now),
    )


# --- parts -----------------------------------------------------------------------------------------------------------


def next_start(period: float, now: float) -> float:
    """Return when the next day, week (from Monday) or month begins in UTC."""
    midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == DAY_S:
        return (midnight + timedelta(days=1)).timestamp()
    if period == WEEK_S:
        return (midnight + timedelta(days=7 - midnight.weekday())).timestamp()
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1).timestamp()


def _some(windows: Any, *, plan: Any = None, is_empty_fine: bool = False) -> Report:
    found = tuple(one for one in windows if one is not None)
    if not found and not is_empty_fine:
        raise Unreadable("The report names no quota.")
    return Report(found, _plan(plan))


def _plan(value: Any) -> str | None:
    return value[:_MAX_PLAN] if isinstance(value, str) and _PLAN.fullmatch(value[:_MAX_PLAN]) else None


def _name_of(length_s: float) -> str:
    for span_s, letter in ((WEEK_S, "d"), (DAY_S, "d"), (HOUR_S, "h")):
        if length_s >= span_s:
            return f"{length_s / (DAY_S if letter == 'd' else HOUR_S):g}{letter}"
    return f"{length_s / 60:g}m"


def _first(row: Mapping[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _object(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    if not isinstance(found, dict):
        raise Unreadable("The report lacks its data.")
    return found


def _list(document: Mapping[str, Any], name: str, *, is_needed: bool = True) -> Iterator[Mapping[str, Any]]:
    found = document.get(name)
    if not isinstance(found, list):
        if is_needed:
            raise Unreadable("The report lacks its list.")
        return iter(())
    return iter([row for row in found if isinstance(row, dict)])


def _is_negative(value: Any) -> bool:
    if isinstance(value, str):
        return value[:1] == "-" and number_of(value[1:]) is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e15 < value < 0


READERS: Final[Mapping[str, Reader]] = {
    "crof": _crof,
    "deepseek": _deepseek,
    "elevenlabs": _elevenlabs,
    "glm": _glm,
    "kie": _kie,
    "kimi": _kimi,
    "minimax": _minimax,
    "moonshot": _moonshot,
    "nanogpt": _nanogpt,
    "novita": _novita,
    "openrouter": _openrouter,
    "poe": _poe,
    "siliconflow": _siliconflow,
    "siliconflow-cn": _siliconflow_cn,
    "synthetic": _synthetic,
    "vercel": _vercel,
}
"""By the word that stands in a row's `usage_shape`."""

PLAIN_KEY: Final = frozenset({"glm"})
"""Shapes whose report is asked for with the bare key in `Authorization`; the others take it as a bearer token."""
OWN_KEY: Final = frozenset({"elevenlabs"})
"""Shapes whose report is asked for with the key as it goes with any other request."""

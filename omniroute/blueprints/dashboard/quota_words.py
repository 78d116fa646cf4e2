"""What quotas have to say in words: which window one is, and how much of it is left."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from babel.dates import format_timedelta
from flask_babel import LazyString, get_locale
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from omniroute.blueprints.dashboard.figures import format_currency, grouped, money

_NAMES: Final[Mapping[str, LazyString]] = {
    "credits": _l("Credit"),
    "free": _l("Free models"),
    "key": _l("Limit of the key"),
    "requests": _l("Requests"),
    "subscription": _l("Subscription"),
    "tokens": _l("Tokens"),
    "tools": _l("Tools"),
}
_PERIODS: Final[Mapping[str, LazyString]] = {
    "day": _l("%(what)s, each day"),
    "month": _l("%(what)s, each month"),
}
_UNITS: Final[Mapping[str, LazyString]] = {
    "calls": _l("calls"),
    "characters": _l("characters"),
    "credits": _l("credits"),
    "points": _l("points"),
    "requests": _l("requests"),
    "tokens": _l("tokens"),
}
_CURRENCIES: Final = {"usd": "USD", "cny": "CNY", "eur": "EUR"}


def title(window: Mapping[str, Any]) -> str:
    """Return what a window of the API is called: `5h` is "5 hours", `requests/day:llama` "Requests, each day · llama".

    Windows that providers name in a way that says nothing here (`primary`) are called by their length; without one,
    the name stays.
    """
    name, family, length_s = str(window["name"]), window["family"], window["lengthSeconds"]
    what, _slash, period = name.partition(":")[0].partition("/")
    if period in _PERIODS and what in _NAMES:
        words = str(_PERIODS[period]) % {"what": _NAMES[what]}
    elif what in _NAMES or what.startswith("credits_"):
        return str(_NAMES[what.partition("_")[0]])
    elif length_s:
        words = format_timedelta(timedelta(seconds=length_s), threshold=1, locale=get_locale())
    else:
        return name
    return f"{words} · {family}" if family and family != what else words


def left(window: Mapping[str, Any]) -> str:
    """Return how much is left of a window, and of how much; empty where nobody has said so."""
    remaining, limit, unit = window["remaining"], window["limit"], window["unit"] or ""
    if remaining is None:
        return ""
    if unit and unit not in _CURRENCIES:
        counted = str(_UNITS.get(unit, unit))
        if limit is None:
            return _("%(left)s %(unit)s left", left=grouped(remaining), unit=counted)
        return _("%(left)s of %(limit)s %(unit)s left", left=grouped(remaining), limit=grouped(limit), unit=counted)
    if limit is None:
        return _("%(left)s left", left=_amount(remaining, unit))
    return _("%(left)s of %(limit)s left", left=_amount(remaining, unit), limit=_amount(limit, unit))


def _amount(value: float, unit: str) -> str:
    if not unit:
        return grouped(value)
    if unit == "usd":
        return money(value)
    return format_currency(value, _CURRENCIES[unit], locale=get_locale())


FILTERS: Final = {"quota_title": title, "quota_left": left}

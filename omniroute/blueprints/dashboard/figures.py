"""Numbers as pages show them, in the language of the page: what is unknown is a dash, never a zero."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from babel import Locale, numbers
from flask_babel import get_locale, ngettext
from flask_babel import gettext as _
from markupsafe import Markup

UNKNOWN: Final = "–"
_ONE_CENT: Final = 0.01
_KIB: Final = 1024
_THOUSAND: Final = 1000
_KEPT: Final = 2048

# A page shows hundreds of numbers, often those of the page before: to write one takes longer than all else in its cell.
_kept: Final = lru_cache(maxsize=_KEPT, typed=True)
format_compact_decimal: Final = _kept(numbers.format_compact_decimal)
format_currency: Final = _kept(numbers.format_currency)
format_decimal: Final = _kept(numbers.format_decimal)
format_percent: Final = _kept(numbers.format_percent)


@_kept
def _point(locale: Locale | None) -> str:
    """Return what stands before the fraction of a number."""
    return str(numbers.get_decimal_symbol(locale))


@_kept
def _around_dollars(locale: Locale | None) -> tuple[str, str]:
    """Return what stands before and after an amount of US dollars."""
    before, _one, after = numbers.format_currency(
        1, "USD", format="¤0", locale=locale, currency_digits=False
    ).partition("1")
    return before, after


def _small(value: float, places: int, locale: Locale | None) -> str:
    """Return a number below a thousand; Babel needs twenty times as long for the same."""
    text = f"{value:.{places}f}"
    return text.replace(".", _point(locale)) if places else text


def grouped(value: float | None) -> str:
    """Return a number with its thousands apart."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int) and 0 <= value < _THOUSAND:
        return str(value)
    return format_decimal(value, locale=get_locale())


def short(value: float | None) -> str:
    """Return a large number in three digits and a letter or word."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int) and 0 <= value < _THOUSAND:
        return str(value)
    digits = 1 if abs(value) >= _THOUSAND else 0
    return format_compact_decimal(value, format_type="short", locale=get_locale(), fraction_digits=digits)


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share; never rounded up to a full hundred."""
    if value is None:
        return UNKNOWN
    below = 1.0 - 10.0 ** (-digits - 2)
    shown = value if value >= 1.0 else min(value, below)
    return format_percent(shown, format="#,##0.#%" if digits else "#,##0%", locale=get_locale())


def money(value: float | None, digits: int | None = None) -> str:
    """Return an amount in US dollars: two digits, four below a cent, so that little is not shown as nothing."""
    if value is None:
        return UNKNOWN
    places = digits if digits is not None else 4 if 0 < abs(value) < _ONE_CENT else 2
    if 0 < abs(value) < 10**-places / 2:
        return "<\u2009" + money(10.0**-places, places)
    if 0 <= value < _THOUSAND - 1:
        locale = get_locale()
        before, after = _around_dollars(locale)
        return f"{before}{_small(value, places, locale)}{after}"
    return format_currency(value, "USD", format="¤#,##0." + "0" * places, locale=get_locale(), currency_digits=False)


def duration(milliseconds: float | None) -> str | Markup:
    """Return a time span in the unit that fits it."""
    if milliseconds is None:
        return UNKNOWN
    locale = get_locale()
    # All that is put between the tags are digits, separators of a language, and nothing of a request.
    if milliseconds < _THOUSAND:
        return Markup(f"{round(milliseconds)} <small>ms</small>")  # noqa: S704
    seconds = milliseconds / 1000
    if seconds < _THOUSAND - 1:
        text = _small(seconds, 2 if seconds < 10 else 0, locale)
    else:
        text = format_decimal(seconds, format="#,##0", locale=locale)
    return Markup(f"{text} <small>s</small>")  # noqa: S704


def uptime(seconds: float) -> str:
    """Return a running time in its two largest units."""
    minutes = int(seconds // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return _("%(days)d d %(hours)d h", days=days, hours=hours)
    if hours:
        return _("%(hours)d h %(minutes)d min", hours=hours, minutes=minutes % 60)
    return _("%(minutes)d min", minutes=minutes) if minutes else _("%(seconds)d s", seconds=int(seconds))


def size(count: float | None) -> str:
    """Return a number of bytes in the unit that fits it."""
    if count is None:
        return UNKNOWN
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < _KIB or unit == "GiB":
            break
        value /= _KIB
    pattern = "#,##0.0" if unit != "B" and value < 100 else "#,##0"
    return f"{format_decimal(value, format=pattern, locale=get_locale())} {unit}"


def counted(value: int, noun: str) -> str:
    """Return a number with its noun in the right form; the nouns are those that pages count."""
    forms: dict[str, Callable[[], str]] = {
        "connection": lambda: ngettext("%(num)s connection", "%(num)s connections", value),
        "request": lambda: ngettext("%(num)s request", "%(num)s requests", value),
        "model": lambda: ngettext("%(num)s model", "%(num)s models", value),
        "key": lambda: ngettext("%(num)s key", "%(num)s keys", value),
        "attempt": lambda: ngettext("%(num)s attempt", "%(num)s attempts", value),
        "target": lambda: ngettext("%(num)s target", "%(num)s targets", value),
    }
    return forms[noun]()


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "grouped": grouped,
    "short": short,
    "percent": percent,
    "money": money,
    "duration": duration,
    "size": size,
    "uptime": uptime,
    "counted": counted,
}
"""The forms of the pages."""

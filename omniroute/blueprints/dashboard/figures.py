"""Numbers as pages show them: what is unknown is a dash, never a zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from markupsafe import Markup

_UNKNOWN: Final = "–"
_THIN_SPACE: Final = "\u202f"


def grouped(value: int | None) -> str:
    """Return a whole number with its thousands apart."""
    return _UNKNOWN if value is None else f"{value:,}".replace(",", _THIN_SPACE)


def short(value: int | None) -> str:
    """Return a large number in three digits and a letter."""
    if value is None:
        return _UNKNOWN
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.0f}{letter}" if scaled >= 100 else f"{scaled:.1f}{letter}"
    return str(value)


def percent(value: float | None) -> str:
    """Return a share; never rounded up to a full hundred."""
    if value is None:
        return _UNKNOWN
    if value >= 1.0:
        return "100%"
    return f"{min(value * 100, 99.9):.1f}%"


def duration(milliseconds: float | None) -> str | Markup:
    """Return a time span in the unit that fits it."""
    if milliseconds is None:
        return _UNKNOWN
    if milliseconds < 1000:
        return Markup("{} <small>ms</small>").format(f"{milliseconds:.0f}")
    return Markup("{} <small>s</small>").format(
        f"{milliseconds / 1000:.2f}" if milliseconds < 10_000 else f"{milliseconds / 1000:.0f}"
    )


def uptime(seconds: float) -> str:
    """Return a running time in its two largest units."""
    minutes = int(seconds // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"


def counted(value: int, noun: str) -> str:
    """Return a number with its noun in the right form."""
    return f"{grouped(value)} {noun}" + ("" if value == 1 else "s")


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "grouped": grouped,
    "short": short,
    "percent": percent,
    "duration": duration,
    "counted": counted,
}

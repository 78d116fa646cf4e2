"""Read what a request asks of routing from its WSGI environment.

Servers spell `-` and `_` alike there: `x_session_id` arrives under the same name as `X-Session-Id`. Nothing fails
because of a hint: what cannot be used counts as not sent, and the answer names it in a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from omniroute.gateway.asks import NO_ASKS, Asks, ignored, is_session_key
from omniroute.routing.config import MODES

_SESSION: Final = ("HTTP_X_SESSION_ID", "HTTP_X_OMNIROUTE_SESSION_ID")
_NATIVE: Final = ("HTTP_SESSION_ID", "HTTP_X_CODEX_SESSION_ID")
_MODE: Final = "HTTP_X_OMNIROUTE_MODE"
_BUDGET: Final = "HTTP_X_OMNIROUTE_BUDGET"
_FALLBACK: Final = "HTTP_X_OMNIROUTE_BUDGET_FALLBACK"
_PRIORITY: Final = "HTTP_X_OMNIROUTE_PRIORITY"
_CONNECTION: Final = "HTTP_X_OMNIROUTE_CONNECTION"
_NAMES: Final = (*_SESSION, *_NATIVE, _MODE, _BUDGET, _FALLBACK, _PRIORITY, _CONNECTION)

_STRICTNESS: Final = {"soft": False, "cheapest": False, "strict": True, "block": True, "hard": True}
_HIGH: Final = "high"
_NANO: Final = 1_000_000_000
_MOST_USD: Final = 1_000_000
_LONGEST_NUMBER: Final = 32
_LONGEST_ID: Final = 100


def read(environ: Mapping[str, Any]) -> Asks:
    """Return what the routing headers of a request say."""
    if environ.keys().isdisjoint(_NAMES):
        return NO_ASKS
    warnings: list[str] = []
    return Asks(
        session=_first_session(environ, _SESSION, warnings),
        native_session=_first_session(environ, _NATIVE, warnings),
        mode=_mode(environ, warnings),
        budget_nano=_budget(environ, warnings),
        is_budget_strict=_strictness(environ, warnings),
        has_priority=_priority(environ, warnings),
        connection_id=_connection(environ, warnings),
        warnings=tuple(warnings),
    )


def _first_session(environ: Mapping[str, Any], names: tuple[str, ...], warnings: list[str]) -> str | None:
    for name in names:
        value = environ.get(name)
        if value is None:
            continue
        text = _text(value)
        if is_session_key(text):
            return text
        _warn(name, warnings)
    return None


def _text(value: str) -> str:
    """Return a header as its sender wrote it: servers read the bytes as Latin-1, clients write UTF-8."""
    value = value.strip()
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _mode(environ: Mapping[str, Any], warnings: list[str]) -> str:
    value = environ.get(_MODE)
    if value is None:
        return ""
    word = value.strip().lower()
    if word in MODES:
        return word  # type: ignore[no-any-return]
    _warn(_MODE, warnings)
    return ""


def _budget(environ: Mapping[str, Any], warnings: list[str]) -> int | None:
    """Return the budget in nano-USD; 0 is one as well, and leaves what costs nothing."""
    value = environ.get(_BUDGET)
    if value is None:
        return None
    try:
        amount = Decimal(value.strip()) if len(value) <= _LONGEST_NUMBER else Decimal("NaN")
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount <= _MOST_USD:
        _warn(_BUDGET, warnings)
        return None
    return int(amount * _NANO)


def _strictness(environ: Mapping[str, Any], warnings: list[str]) -> bool | None:
    value = environ.get(_FALLBACK)
    if value is None:
        return None
    is_strict = _STRICTNESS.get(value.strip().lower())
    if is_strict is None:
        _warn(_FALLBACK, warnings)
    return is_strict


def _priority(environ: Mapping[str, Any], warnings: list[str]) -> bool:
    value = environ.get(_PRIORITY)
    if value is None:
        return False
    if value.strip().lower() == _HIGH:
        return True
    _warn(_PRIORITY, warnings)
    return False


def _connection(environ: Mapping[str, Any], warnings: list[str]) -> str | None:
    value = environ.get(_CONNECTION)
    if value is None:
        return None
    name: str = value.strip()
    if 0 < len(name) <= _LONGEST_ID and name.isascii() and name.isprintable() and " " not in name:
        return name
    _warn(_CONNECTION, warnings)
    return None


def _warn(variable: str, warnings: list[str]) -> None:
    warnings.append(ignored(variable.removeprefix("HTTP_").replace("_", "-").lower()))

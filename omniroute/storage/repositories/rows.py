"""Conversions between column values and the values of records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def to_json(value: Any) -> str | None:
    """Return the JSON text of a value; None for what is empty, so that "no restriction" is stored as NULL."""
    if value is None or (isinstance(value, Mapping | Sequence | frozenset | set) and not value):
        return None
    if isinstance(value, frozenset | set):
        value = sorted(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def mapping_of(text: str | None) -> Mapping[str, Any]:
    """Return the object behind a JSON column; empty for NULL."""
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}


def texts_of(text: str | None) -> tuple[str, ...]:
    """Return the list of texts behind a JSON column; empty for NULL."""
    value: Iterable[Any] = json.loads(text) if text else ()
    return tuple(str(item) for item in value)


def flag(value: bool) -> int:
    """Return how a truth is stored."""
    return 1 if value else 0

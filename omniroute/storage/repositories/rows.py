"""Conversions between column values and the values of records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

_decoded: Final = msgspec.json.Decoder().decode
"""Lists of keys and connections are read by the thousand: this takes a tenth of the time of `json.loads`."""


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
    return tuple(map(str, _decoded(text))) if text else ()


def flag(value: bool) -> int:
    """Return how a truth is stored."""
    return 1 if value else 0

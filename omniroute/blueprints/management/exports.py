"""Lists without an end as files: written a part at a time, so that they take no more memory than one part."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from flask import Response

_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")
_TYPES: Final = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson; charset=utf-8"}
_encode: Final = msgspec.json.Encoder().encode

Parts = Iterable[Sequence[Mapping[str, Any]]]


def streamed(parts: Parts, columns: Sequence[str], form: str, name: str) -> Response:
    """Return rows as an attachment, `form` being `csv` or `jsonl`. Its first bytes do not wait for the rows."""
    pieces = _csv(parts, columns) if form == "csv" else _jsonl(parts)
    response = Response(pieces, content_type=_TYPES[form])
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.{form}"'
    response.headers["Cache-Control"] = "no-store"
    return response


def cell(value: Any) -> Any:
    """Return a value for CSV. Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            # Never 1e-06, which some programs read as text.
            return f"{value:.9f}".rstrip("0").rstrip(".")
        case str() if value.startswith(_FORMULAS):
            return f"'{value}"
        case _:
            return value


def _csv(parts: Parts, columns: Sequence[str]) -> Iterator[bytes]:
    yield _lines([columns])
    for rows in parts:
        if rows:
            yield _lines([[cell(row.get(name)) for name in columns] for row in rows])


def _lines(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def _jsonl(parts: Parts) -> Iterator[bytes]:
    for rows in parts:
        if rows:
            yield b"".join(_encode(row) + b"\n" for row in rows)

"""Rows of PostgreSQL's backups: of scripts that `pg_restore` makes of archives, and of files of one line per row."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import BigInteger, Float, Integer, LargeBinary, SmallInteger

from omniroute.errors import StorageError
from omniroute.extensions import Base
from omniroute.storage.copies import LOGICAL_FORMAT
from omniroute.storage.staging import Row

_COPY: Final = re.compile(r'COPY (?:[\w"]+\.)?"?(\w+)"? \((.*)\) FROM stdin;')
_END: Final = "\\."
_NULL: Final = "\\N"
_ESCAPE: Final = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_VERSIONS: Final = "schema_version"
_TIMEOUT_S: Final = 3600

Convert = Callable[[str], Any]


def readable(path: Path, directory: Path) -> Path:
    """Return a file that :func:`rows_of` reads: an archive becomes a script in `directory`. Waits cooperatively.

    Raises:
        StorageError: `pg_restore` is missing or cannot read the archive.
    """
    if path.suffix != ".dump":
        return path
    script = directory / "rows.sql"
    command = ("pg_restore", "--data-only", f"--file={script}", str(path))
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    try:
        subprocess.run(command, env=environment, capture_output=True, check=True, timeout=_TIMEOUT_S)  # noqa: S603 - a fixed program
    except (OSError, subprocess.SubprocessError) as error:
        raise StorageError("pg_restore cannot read the backup, or is not installed.") from error
    return script


def version_of(path: Path) -> int:
    """Return the schema version of a backup; 0 where it has none.

    Raises:
        StorageError: it cannot be read.
    """
    found = 0
    for _, columns, values in rows_of(path, only=_VERSIONS):
        found = max(found, int(values[list(columns).index("version")]))
    return found


def rows_of(path: Path, *, only: str | None = None) -> Iterator[Row]:
    """Give the rows of a backup, of one table or of all.

    Raises:
        StorageError: it cannot be read.
    """
    rows = _of_script(path) if path.suffix == ".sql" else _of_lines(path)
    return (row for row in rows if only in (None, row[0]))


def _of_lines(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8") as file:
            if json.loads(file.readline()).get("format") != LOGICAL_FORMAT:
                raise StorageError("The backup has a format that is not known here.")
            for line in file:
                found = json.loads(line)
                if found["table"] is not None:
                    row = found["row"]
                    yield found["table"], tuple(row), tuple(map(_from_json, row.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError("The backup cannot be read.") from error


def _from_json(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


def _of_script(path: Path) -> Iterator[Row]:
    """Take the rows out of a script: `COPY table (columns) FROM stdin;`, lines of values, and a line that ends them."""
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                head = _COPY.fullmatch(line.rstrip("\n"))
                if head is not None:
                    columns = tuple(name.strip().strip('"') for name in head[2].split(","))
                    yield from _of_table(head[1], columns, lines)
    except (OSError, ValueError) as error:
        raise StorageError("The backup cannot be read.") from error


def _of_table(table: str, columns: Sequence[str], lines: Iterator[str]) -> Iterator[Row]:
    convert = _conversions(table, columns)
    for line in lines:
        text = line.removesuffix("\n")
        if text == _END:
            return
        yield table, columns, tuple(to(field) for to, field in zip(convert, text.split("\t"), strict=True))
    raise ValueError("the rows of a table have no end")


def _conversions(table: str, columns: Sequence[str]) -> list[Convert]:
    types: Mapping[str, Any] = {}
    if (known := Base.metadata.tables.get(table)) is not None:
        types = {column.name: column.type for column in known.c}
    return [_nullable(_conversion(types.get(name))) for name in columns]


def _conversion(kind: Any) -> Convert:
    match kind:
        case BigInteger() | SmallInteger() | Integer():
            return int
        case Float():
            return float
        case LargeBinary():
            return lambda text: bytes.fromhex(_unescaped(text).removeprefix("\\x"))
        case _:
            return _unescaped


def _nullable(convert: Convert) -> Convert:
    return lambda text: None if text == _NULL else convert(text)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] == "x" and len(code) > 1:
        return chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8))
    return _ESCAPES.get(code, code)

"""What a database holds, as documents that people and other programs read: configuration, prices, sums of usage.

They are written from a copy whose secrets are blanked, and name no secret column besides.
"""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Float, SmallInteger, Table

from omniroute.services.audit import redact
from omniroute.storage.models import (
    ApiKey,
    AutoChannel,
    Combo,
    ComboPattern,
    FallbackChain,
    ModelAlias,
    Price,
    ProviderConnection,
    ProviderNode,
    ProviderSetting,
    Setting,
    UsageDaily,
)
from omniroute.storage.models.base import table_of
from omniroute.storage.replacing import AUDIT

DOCUMENTS: Final[Mapping[str, Mapping[str, Table]]] = {
    "combos.json": {
        "combos": table_of(Combo),
        "aliases": table_of(ModelAlias),
        "patterns": table_of(ComboPattern),
        "chains": table_of(FallbackChain),
        "channels": table_of(AutoChannel),
    },
    "providers.json": {
        "connections": table_of(ProviderConnection),
        "nodes": table_of(ProviderNode),
        "settings": table_of(ProviderSetting),
    },
    "api-keys.json": {"apiKeys": table_of(ApiKey)},
    "prices.json": {"prices": table_of(Price)},
}
SETTINGS: Final = "settings.json"
USAGE: Final = "usage-daily.csv"
_USAGE: Final = table_of(UsageDaily)
_SETTINGS: Final = table_of(Setting)
_SECRET: Final = ("_enc", "_hash")
_MOMENT: Final = ("_at", "_until", "_from")
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")
_LONGEST_MASKED: Final = 500  # beyond it the mask would cut what is no secret
_HUMP: Final = re.compile(r"_([a-z0-9])")


def write_documents(database: Path, directory: Path) -> list[str]:
    """Write every document of a blanked copy into a directory and return their names."""
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        _write(directory / SETTINGS, _settings(connection))
        for name, tables in DOCUMENTS.items():
            _write(directory / name, {key: list(_rows(connection, table)) for key, table in tables.items()})
        with (directory / USAGE).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            columns = [column.name for column in _USAGE.c]
            writer.writerow(columns)
            for row in connection.execute(f'SELECT * FROM "{_USAGE.name}" ORDER BY bucket'):  # noqa: S608 - of the schema
                writer.writerow([_cell(name, row[name]) for name in columns])
    return [SETTINGS, *DOCUMENTS, USAGE]


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _settings(connection: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    query = f'SELECT section, name, value_json FROM "{_SETTINGS.name}" ORDER BY section, name'  # noqa: S608 - of the schema
    for section, name, text in connection.execute(query):
        if section != AUDIT:
            found.setdefault(section, {})[name] = _masked(json.loads(text), name)
    return found


def _rows(connection: sqlite3.Connection, table: Table) -> Iterator[dict[str, Any]]:
    keys = ", ".join(f'"{column.name}"' for column in table.primary_key)
    for row in connection.execute(f'SELECT * FROM "{table.name}" ORDER BY {keys}'):  # noqa: S608 - of the schema
        yield dict(_member(table, name, row[name]) for name in row.keys() if not name.endswith(_SECRET))  # noqa: SIM118 - a row is no mapping


def _member(table: Table, name: str, value: Any) -> tuple[str, Any]:
    column = table.c[name]
    if name.endswith("_json"):
        shown = _camel(name.removesuffix("_json"))
        return shown, _masked(json.loads(value), shown) if value is not None else None
    if isinstance(column.type, SmallInteger) and value is not None:
        return _camel(name), bool(value)
    if isinstance(column.type, Float) and name.endswith(_MOMENT) and value is not None:
        return _camel(name), _iso(value)
    return _camel(name), value


def _masked(value: Any, name: str) -> Any:
    """Return a value without what looks like a secret, by name or shape."""
    if isinstance(value, dict):
        return {key: _masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, name) for item in value]
    if isinstance(value, str):
        hidden = redact(value[:_LONGEST_MASKED], name)
        return value if hidden == value[:_LONGEST_MASKED] else hidden
    return value


def _camel(name: str) -> str:
    return _HUMP.sub(lambda match: match[1].upper(), name)


def _cell(name: str, value: Any) -> Any:
    if name == "bucket":
        return datetime.fromtimestamp(value, UTC).date().isoformat()
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"  # a spreadsheet would calculate it
    return value


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

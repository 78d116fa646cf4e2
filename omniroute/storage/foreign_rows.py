"""Rows of a file that has our four tables but no schema marker: another build's, mapped by what its columns are called.

Secrets in clear are encrypted on the way in. What has no place here is left out, and the report says what and why.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from omniroute.ids import new_id
from omniroute.records import AuthType, NodeType
from omniroute.routing.options import Strategy
from omniroute.secret import Secret
from omniroute.storage import schema, staging
from omniroute.storage.brought_files import Check, NotUsable, columns_of, quoted, reader, refusal_of
from omniroute.storage.secrets import Cipher, key_id_of
from omniroute.storage.staging import Staged, TableReport, Told

MOST_ROWS: Final = 100_000
_MOST_REASONS: Final = 50
_LONGEST_ID: Final = 100
_LONGEST_TEXT: Final = 4000
_MILLISECONDS_FROM: Final = 100_000_000_000
_DIGEST_BYTES: Final = 32
_POWERFUL: Final = frozenset({"manage", "admin", "mcp:connect"})
_FOREIGN_CIPHERTEXT: Final = ("enc:", "encrypted:", "$enc$")
_NODE_TYPES: Final = {"openai": NodeType.OPENAI, "anthropic": NodeType.ANTHROPIC, "gemini": NodeType.GEMINI}
_KEY_KINDS: Final = frozenset({"", "apikey", "api_key", "api-key", "key", "bearer"})


class Skip(Exception):
    """A row is left out; the text says why."""


class _Row:
    """One row, asked by the names that a column may have, in whatever spelling."""

    def __init__(self, values: Mapping[str, Any], report: TableReport) -> None:
        self._values = values
        self.report = report

    def get(self, *names: str) -> Any:
        for name in names:
            if self._values.get(_folded(name)) is not None:
                return self._values[_folded(name)]
        return None

    def text(self, *names: str) -> str | None:
        value = self.get(*names)
        if isinstance(value, int | float):
            value = str(value)
        if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_TEXT or "\x00" in value:
            return None
        return value.strip()

    def needed(self, *names: str) -> str:
        found = self.text(*names)
        if found is None:
            raise Skip(f"{names[0]} is missing")
        return found

    def whole(self, *names: str, low: int, high: int) -> int | None:
        try:
            value = int(self.get(*names))
        except (TypeError, ValueError, OverflowError):
            return None
        return value if low <= value <= high else None

    def flag(self, *names: str, default: bool) -> int:
        value = self.get(*names)
        if isinstance(value, str):
            value = value.strip().lower() in ("1", "true", "yes", "on")
        return int(bool(value)) if value is not None else int(default)

    def moment(self, *names: str) -> float | None:
        value = self.get(*names)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value).timestamp()
            except (ValueError, OverflowError):
                return None
        if not isinstance(value, int | float) or not 0 < value < _MILLISECONDS_FROM * 10_000:
            return None
        return float(value) / 1000 if value >= _MILLISECONDS_FROM else float(value)

    def document(self, *names: str) -> Any:
        value = self.get(*names)
        if isinstance(value, str):
            try:
                return json.loads(value)
            except ValueError:
                return None
        return None

    def identity(self, prefix: str) -> str:
        found = self.text("id")
        return found if found is not None and len(found) <= _LONGEST_ID else new_id(prefix)


@dataclass(frozen=True, slots=True)
class _Mapper:
    cipher: Cipher
    now: float

    # --- the tables ----------------------------------------------------------------------------------------------

    def connection(self, row: _Row) -> dict[str, Any]:
        row_id = row.identity("conn")
        secret = self._secret(row, "provider_connections", "api_key_enc", row_id, "api_key", "key", "credential")
        kind = (row.text("auth_type") or "").lower()
        if kind == AuthType.NONE.value or (not kind and secret is None):
            auth = AuthType.NONE
        elif kind in _KEY_KINDS:
            auth = AuthType.API_KEY
        else:
            raise Skip("its kind of sign-in is not known here")
        provider = row.needed("provider", "provider_id")
        data = row.document("provider_data_json", "provider_data", "provider_specific_data")
        return {
            "id": row_id,
            "provider": provider,
            "auth_type": auth.value,
            "name": row.text("name", "display_name", "label") or provider,
            "email": row.text("email"),
            "priority": row.whole("priority", low=1, high=100) or 1,
            "is_active": row.flag("is_active", "active", "enabled", default=True),
            "group_name": row.text("group_name", "group"),
            "default_model": row.text("default_model"),
            "api_key_enc": secret,
            "provider_data_json": json.dumps(data) if isinstance(data, dict) and data else None,
            "max_concurrent": row.whole("max_concurrent", "concurrent_requests", low=1, high=1000),
            **self._times(row),
        }

    def node(self, row: _Row) -> dict[str, Any]:
        row_id = row.identity("node")
        kind = row.needed("type", "kind").lower()
        known = {item.value: item for item in NodeType} | _NODE_TYPES
        if kind not in known:
            raise Skip("its type is not known here")
        prefix = row.needed("prefix")
        return {
            "id": row_id,
            "name": row.text("name") or prefix,
            "prefix": prefix,
            "type": known[kind].value,
            "api_type": row.text("api_type"),
            "base_url": row.needed("base_url", "url", "endpoint"),
            "chat_path": row.text("chat_path"),
            "models_path": row.text("models_path"),
            "custom_headers_enc": self._headers(row, row_id),
            "is_local": row.flag("is_local", "local", default=False),
            **self._times(row),
        }

    def combo(self, row: _Row) -> dict[str, Any]:
        steps = [step for item in self._list(row, "steps_json", "steps", "models", "targets") if (step := _step(item))]
        strategy = (row.text("strategy") or Strategy.PRIORITY.value).lower()
        if strategy not in {item.value for item in Strategy}:
            row.report.note("a strategy is not known here; priority takes its place")
            strategy = Strategy.PRIORITY.value
        return {
            "id": row.identity("cmb"),
            "name": row.needed("name"),
            "description": row.text("description"),
            "strategy": strategy,
            "steps_json": json.dumps(steps),
            "is_active": row.flag("is_active", "active", "enabled", default=True),
            "sort_order": row.whole("sort_order", "position", low=0, high=1_000_000) or 0,
            **self._times(row),
        }

    def key(self, row: _Row) -> dict[str, Any]:
        plain, digest = row.text("key", "api_key", "secret"), _digest_of(row.get("key_hash", "hash"))
        if plain is not None and not plain.startswith(_FOREIGN_CIPHERTEXT):
            digest = hashlib.sha256(plain.encode()).digest()
        if digest is None:
            raise Skip("neither the key nor its SHA-256 is in the file")
        scopes = [str(scope) for scope in self._list(row, "scopes_json", "scopes")]
        if _POWERFUL.intersection(scopes):
            row.report.note("scopes that manage this server are not taken over")
        kept = sorted(set(scopes) - _POWERFUL)
        models = [str(model) for model in self._list(row, "allowed_models_json", "allowed_models")]
        known = plain or row.text("key_prefix", "prefix") or ""
        return {
            "id": row.identity("key"),
            "name": row.text("name", "label") or "imported",
            "key_id": row.text("key_id") or digest.hex()[:12],
            "key_hash": digest,
            "key_prefix": known[:8],
            "key_last4": plain[-4:] if plain else (row.text("key_last4", "last4") or "")[-4:],
            "scopes_json": json.dumps(kept) if kept else None,
            "allowed_models_json": json.dumps(models) if models else None,
            "is_active": row.flag("is_active", "active", "enabled", default=True),
            "expires_at": row.moment("expires_at"),
            "revoked_at": row.moment("revoked_at"),
            **self._times(row),
        }

    # --- values --------------------------------------------------------------------------------------------------

    def _times(self, row: _Row) -> dict[str, float]:
        created = row.moment("created_at") or self.now
        return {"created_at": created, "updated_at": row.moment("updated_at") or created}

    def _list(self, row: _Row, *names: str) -> list[Any]:
        found = row.document(*names)
        return found if isinstance(found, list) else []

    def _secret(self, row: _Row, table: str, column: str, row_id: str, *names: str) -> str | None:
        sealed = row.text(column)
        if sealed is not None and key_id_of(sealed) is not None:
            return sealed  # ours: whether it opens is found out like that of any other
        plain = row.text(*names)
        if plain is not None and not plain.startswith(_FOREIGN_CIPHERTEXT):
            return self._sealed(row, Secret(plain), table, column, row_id)
        if plain is not None or sealed is not None:
            row.report.note("a secret was encrypted by another program and is left out")
        return None

    def _headers(self, row: _Row, row_id: str) -> str | None:
        sealed = row.text("custom_headers_enc")
        if sealed is not None and key_id_of(sealed) is not None:
            return sealed
        headers = row.document("custom_headers", "custom_headers_json", "headers")
        if not isinstance(headers, dict) or not headers:
            return None
        text = json.dumps({str(name): str(value) for name, value in headers.items()}, ensure_ascii=False)
        return self._sealed(row, Secret(text), "provider_nodes", "custom_headers_enc", row_id)

    def _sealed(self, row: _Row, plain: Secret, table: str, column: str, row_id: str) -> str | None:
        if self.cipher.is_sealed:
            row.report.note("a secret is left out, because this server's encryption key is missing")
            return None
        return self.cipher.encrypt(plain, table=table, column=column, row_id=row_id)


def stage_foreign(source: Path, target: Path, *, cipher: Cipher, now: float, told: Told) -> Staged:
    """Make a database of what the four tables of a file without a marker hold.

    Raises:
        NotUsable: the tables cannot be read.
    """
    staging.build(target, schema.newest_version())
    told("built")
    mapper = _Mapper(cipher, now)
    tables: Mapping[str, Callable[[_Row], dict[str, Any]]] = {
        "provider_nodes": mapper.node,
        "provider_connections": mapper.connection,
        "combos": mapper.combo,
        "api_keys": mapper.key,
    }
    mapped: dict[str, TableReport] = {}
    with closing(staging.writable(target)) as connection:
        connection.execute("BEGIN")
        for name, to_values in tables.items():
            mapped[name] = TableReport()
            _map_table(connection, _rows(source, name, mapped[name]), name, to_values)
        connection.execute("INSERT INTO config_version (id, version, changed_at) VALUES (1, 1, 0)")
        connection.execute("COMMIT")
    told("copied")
    staging.finish(target, told=told)
    return Staged(target, None, mapped)


def _map_table(
    connection: sqlite3.Connection, rows: Iterator[_Row], name: str, to_values: Callable[[_Row], dict[str, Any]]
) -> None:
    for row in rows:
        try:
            values = to_values(row)
            columns = ", ".join(map(quoted, values))
            places = ", ".join(f":{column}" for column in values)
            connection.execute(f"INSERT INTO {quoted(name)} ({columns}) VALUES ({places})", values)  # noqa: S608 - of our schema
        except Skip as reason:
            row.report.skip(str(reason))
        except sqlite3.IntegrityError:
            row.report.skip("another row has the same id, name or key")
        else:
            row.report.taken += 1


def _rows(source: Path, table: str, report: TableReport) -> Iterator[_Row]:
    with reader(source) as connection:
        names = columns_of(connection, table)
        known = _known_columns(table)
        for name in names:
            if _folded(name) not in known and len(report.reasons) < _MOST_REASONS:
                report.note(f"the column {_shown(name)} is not known here")
        columns = ", ".join(map(quoted, names))
        try:
            for number, values in enumerate(connection.execute(f"SELECT {columns} FROM {quoted(table)}")):  # noqa: S608 - quoted
                if number >= MOST_ROWS:
                    raise NotUsable(Check.CONTENT, f"The table {table} has more than {MOST_ROWS} rows.")
                yield _Row({_folded(name): value for name, value in zip(names, values, strict=True)}, report)
        except sqlite3.Error as error:
            raise refusal_of(error, Check.CONTENT, f"The table {table} cannot be read.") from error


_ASKED: Final[Mapping[str, str]] = {
    "provider_connections": (
        "id api_key_enc api_key key credential auth_type provider provider_id name display_name label email priority"
        " is_active active enabled group_name group default_model provider_data_json provider_data"
        " provider_specific_data max_concurrent concurrent_requests created_at updated_at"
    ),
    "provider_nodes": (
        "id type kind prefix name api_type base_url url endpoint chat_path models_path custom_headers_enc"
        " custom_headers custom_headers_json headers is_local local created_at updated_at"
    ),
    "combos": (
        "id name description strategy steps_json steps models targets is_active active enabled sort_order position"
        " created_at updated_at"
    ),
    "api_keys": (
        "id key api_key secret key_hash hash scopes_json scopes allowed_models_json allowed_models key_prefix prefix"
        " name label key_id key_last4 last4 is_active active enabled expires_at revoked_at created_at updated_at"
    ),
}
"""The names under which each mapping looks for values."""


def _known_columns(table: str) -> frozenset[str]:
    return frozenset(_folded(name) for name in _ASKED[table].split())


def _folded(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _shown(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name[:64])


def _digest_of(value: Any) -> bytes | None:
    if isinstance(value, str):
        try:
            value = bytes.fromhex(value.strip())
        except ValueError:
            return None
    return value if isinstance(value, bytes) and len(value) == _DIGEST_BYTES else None


def _step(item: Any) -> dict[str, Any] | None:
    if isinstance(item, str):
        return {"model": item} if item.strip() else None
    if not isinstance(item, dict):
        return None
    model = next(
        (item[name] for name in ("model", "modelId", "model_id", "name") if isinstance(item.get(name), str)), ""
    )
    if not model:
        return None
    weight = item.get("weight")
    if isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight <= 100:
        return {"model": model, "weight": float(weight)}
    return {"model": model}

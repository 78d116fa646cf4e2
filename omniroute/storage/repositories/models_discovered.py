"""The model lists of providers, as they were last read for each connection, and how the readings went."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import RowMapping, select

from omniroute.records import DiscoveredList, DiscoveredModel, ModelSync
from omniroute.storage import dialects, models
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.models_custom import words_of, words_to_json
from omniroute.storage.repositories.rows import mapping_of

TABLE: Final = table_of(models.DiscoveredModel)
SYNCS: Final = table_of(models.ModelSync)
_COLUMNS: Final = (
    "connection_id",
    "model_id",
    "name",
    "kind",
    "context_length",
    "max_output",
    "capabilities_json",
    "price_json",
)
_KEY: Final = ("provider", "connection_id", "model_id")
_INPUT: Final = "input"


# --- lists -----------------------------------------------------------------------------------------------------------


def load_all(sql: Sql, before: Mapping[str, DiscoveredList] | None = None) -> dict[str, DiscoveredList]:
    """Return the list of every connection that has been read, by connection id.

    Lists are long and seldom change: one that was not read again since is taken from `before` as the same object.
    """
    before = before or {}
    heads = sql.execute(
        select(SYNCS.c.connection_id, SYNCS.c.provider, SYNCS.c.synced_at)
        .where(SYNCS.c.synced_at.is_not(None))
        .order_by(SYNCS.c.connection_id)
    ).all()
    found: dict[str, DiscoveredList] = {}
    to_read: list[tuple[str, str, float]] = []
    for connection_id, provider, synced_at in heads:
        known = before.get(connection_id)
        if known is not None and known.synced_at == synced_at and known.provider == provider:
            found[connection_id] = known
        else:
            to_read.append((connection_id, provider, synced_at))
    if to_read:
        read = _read(sql, [connection_id for connection_id, _, _ in to_read], _Shared(before.values()))
        for connection_id, provider, synced_at in to_read:
            models_of_it = tuple(read.get(connection_id, ()))
            found[connection_id] = DiscoveredList(connection_id, provider, synced_at, models_of_it)
    return found


def load_of(sql: Sql, connection_id: str) -> tuple[DiscoveredModel, ...]:
    """Return the stored list of one connection."""
    return tuple(_read(sql, [connection_id], _Shared(())).get(connection_id, ()))


def seen_at(sql: Sql, connection_id: str) -> dict[str, tuple[float, float]]:
    """Return when each model of a connection was listed first and last, by model id."""
    rows = sql.execute(
        select(TABLE.c.model_id, TABLE.c.first_seen_at, TABLE.c.last_seen_at).where(
            TABLE.c.connection_id == connection_id
        )
    )
    return {model_id: (first, last) for model_id, first, last in rows}


def replace(
    sql: Sql,
    *,
    provider: str,
    connection_id: str,
    removed: Iterable[str],
    changed: Sequence[DiscoveredModel],
    now: float,
) -> None:
    """Make a stored list what was read: take out what is gone, write what is new or says something else.

    What is `changed` keeps the time when it was first seen; everything that is left was seen now.
    """
    mine = TABLE.c.connection_id == connection_id
    gone = list(removed)
    for start in range(0, len(gone), 500):  # the databases limit how many values a statement may have
        sql.execute(TABLE.delete().where(mine, TABLE.c.model_id.in_(gone[start : start + 500])))
    sql.execute(TABLE.update().where(mine).values(last_seen_at=now))
    if changed:
        insert = dialects.of(sql).insert_into(TABLE)
        rows = [_values(one, provider, connection_id, now) for one in changed]
        kept = (*_KEY, "first_seen_at")
        new = {name: insert.excluded[name] for name in rows[0] if name not in kept}
        keys = [TABLE.c[name] for name in _KEY]
        sql.execute(insert.on_conflict_do_update(index_elements=keys, set_=new), rows)


def delete_of_connection(sql: Sql, connection_id: str) -> None:
    """Remove what is known about a connection's list."""
    sql.execute(TABLE.delete().where(TABLE.c.connection_id == connection_id))
    sql.execute(SYNCS.delete().where(SYNCS.c.connection_id == connection_id))


def delete_of_provider(sql: Sql, provider: str) -> None:
    """Remove what is known about the lists of all connections of a provider or node."""
    sql.execute(TABLE.delete().where(TABLE.c.provider == provider))
    sql.execute(SYNCS.delete().where(SYNCS.c.provider == provider))


# --- readings --------------------------------------------------------------------------------------------------------


def load_syncs(sql: Sql) -> dict[str, ModelSync]:
    """Return how the last reading of each connection went, by connection id."""
    return {row["connection_id"]: _sync(row) for row in sql.execute(select(SYNCS)).mappings()}


def get_sync(sql: Sql, connection_id: str) -> ModelSync | None:
    """Return how the last reading of a connection went; None before the first."""
    row = sql.execute(select(SYNCS).where(SYNCS.c.connection_id == connection_id)).mappings().first()
    return _sync(row) if row is not None else None


def put_sync(sql: Sql, record: ModelSync) -> None:
    """Store how a reading went."""
    values = {
        "connection_id": record.connection_id,
        "provider": record.provider,
        "synced_at": record.synced_at,
        "tried_at": record.tried_at,
        "found": record.found,
        "error": record.error,
    }
    insert = dialects.of(sql).insert_into(SYNCS)
    changed = {name: insert.excluded[name] for name in values if name != "connection_id"}
    sql.execute(insert.on_conflict_do_update(index_elements=[SYNCS.c.connection_id], set_=changed), values)


# --- columns ---------------------------------------------------------------------------------------------------------


class _Shared:
    """Lets equal rows be one object: the connections of a provider have the same list."""

    def __init__(self, known: Iterable[DiscoveredList]) -> None:
        self._models = {one: one for listed in known for one in listed.models}
        self._said: dict[str | None, tuple[frozenset[str], frozenset[str], tuple[str, ...]]] = {}

    def model(self, row: RowMapping) -> DiscoveredModel:
        """Return a row as a value."""
        text = row["capabilities_json"]
        said = self._said.get(text)
        if said is None:
            said = self._said[text] = _said(text)
        able, unable, taken = said
        made = DiscoveredModel(
            model_id=row["model_id"],
            name=row["name"],
            kind=sys.intern(row["kind"]) if row["kind"] else None,
            context_length=row["context_length"],
            max_output=row["max_output"],
            able=able,
            unable=unable,
            input=taken,
            prices=_prices(row["price_json"]),
        )
        return self._models.setdefault(made, made)


def _read(sql: Sql, connection_ids: Sequence[str], shared: _Shared) -> dict[str, list[DiscoveredModel]]:
    found: dict[str, list[DiscoveredModel]] = {}
    for start in range(0, len(connection_ids), 500):
        some = connection_ids[start : start + 500]
        rows = sql.execute(
            select(*(TABLE.c[name] for name in _COLUMNS))
            .where(TABLE.c.connection_id.in_(some))
            .order_by(TABLE.c.connection_id, TABLE.c.model_id)
        )
        for row in rows.mappings():
            found.setdefault(row["connection_id"], []).append(shared.model(row))
    return found


def _said(text: str | None) -> tuple[frozenset[str], frozenset[str], tuple[str, ...]]:
    able, unable = words_of(text)
    taken = mapping_of(text).get(_INPUT)
    return able, unable, tuple(sys.intern(str(kind)) for kind in taken) if isinstance(taken, list) else ()


def _prices(text: str | None) -> tuple[tuple[str, str], ...]:
    return tuple((sys.intern(name), str(usd)) for name, usd in mapping_of(text).items()) if text else ()


def _values(one: DiscoveredModel, provider: str, connection_id: str, now: float) -> dict[str, Any]:
    said = json.loads(words_to_json(one.able, one.unable) or "{}")
    if one.input:
        said[_INPUT] = one.input
    return {
        "provider": provider,
        "connection_id": connection_id,
        "model_id": one.model_id,
        "name": one.name,
        "kind": one.kind,
        "context_length": one.context_length,
        "max_output": one.max_output,
        "capabilities_json": json.dumps(said, separators=(",", ":")) if said else None,
        "price_json": json.dumps(dict(one.prices), separators=(",", ":")) if one.prices else None,
        "first_seen_at": now,
        "last_seen_at": now,
    }


def _sync(row: RowMapping) -> ModelSync:
    return ModelSync(
        connection_id=row["connection_id"],
        provider=row["provider"],
        tried_at=row["tried_at"],
        synced_at=row["synced_at"],
        found=row["found"],
        error=row["error"],
    )

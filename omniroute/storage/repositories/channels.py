"""How `auto` channels are tuned, for everybody or for one API key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import RowMapping, select

from omniroute.records import ChannelTuning
from omniroute.storage import dialects
from omniroute.storage.models import AutoChannel
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.rows import mapping_of, to_json

TABLE: Final = table_of(AutoChannel)

_KEY: Final = ("channel", "api_key_id")


def load_all(sql: Sql) -> tuple[ChannelTuning, ...]:
    """Return every tuning by channel and key."""
    rows = sql.execute(select(TABLE).order_by(TABLE.c.channel, TABLE.c.api_key_id)).mappings()
    return tuple(_record(row) for row in rows)


def get(sql: Sql, channel: str, api_key_id: str = "") -> ChannelTuning | None:
    """Return the tuning of a channel for everybody, or for one key; None where there is none."""
    chosen = select(TABLE).where(TABLE.c.channel == channel, TABLE.c.api_key_id == api_key_id)
    row = sql.execute(chosen).mappings().first()
    return _record(row) if row is not None else None


def put(sql: Sql, record: ChannelTuning, now: float) -> None:
    """Store a tuning in place of what was there."""
    insert = dialects.of(sql).insert_into(TABLE)
    values = _values(record)
    changed = {name: insert.excluded[name] for name in values if name not in _KEY} | {
        "updated_at": insert.excluded.updated_at
    }
    statement = insert.on_conflict_do_update(index_elements=[TABLE.c[name] for name in _KEY], set_=changed)
    sql.execute(statement, {**values, "created_at": now, "updated_at": now})


def delete(sql: Sql, channel: str, api_key_id: str = "") -> bool:
    """Remove a tuning, so that what is built in counts again; False if there was none."""
    chosen = TABLE.delete().where(TABLE.c.channel == channel, TABLE.c.api_key_id == api_key_id)
    return sql.execute(chosen).rowcount == 1


def _values(record: ChannelTuning) -> dict[str, Any]:
    exclusions = {
        "providers": list(record.excluded_providers),
        "models": list(record.excluded_models),
        "families": list(record.excluded_families),
    }
    return {
        "channel": record.channel,
        "api_key_id": record.api_key_id,
        "weights_json": to_json(record.weights),
        "exploration": record.exploration,
        "exclusions_json": to_json({name: names for name, names in exclusions.items() if names}),
    }


def _record(row: RowMapping) -> ChannelTuning:
    exclusions = mapping_of(row["exclusions_json"])
    return ChannelTuning(
        channel=row["channel"],
        api_key_id=row["api_key_id"],
        weights=_weights_of(row["weights_json"]),
        exploration=row["exploration"],
        excluded_providers=tuple(exclusions.get("providers", ())),
        excluded_models=tuple(exclusions.get("models", ())),
        excluded_families=tuple(exclusions.get("families", ())),
    )


def _weights_of(text: str | None) -> Mapping[str, float]:
    return {name: float(weight) for name, weight in mapping_of(text).items()}

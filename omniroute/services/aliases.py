"""Other names for models: aliases, and patterns that lead to combos."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute.errors import Conflict, InvalidRequest, NotFound, OmniRouteError, ValidationFailed
from omniroute.ids import new_id
from omniroute.records import Combo, ComboPattern, ModelAlias
from omniroute.routing.auto import CHANNELS
from omniroute.routing.patterns import is_exact
from omniroute.routing.resolve import COMBO_PREFIX, MAX_HOPS, Book, cleaned, is_auto, is_reserved
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.storage.database import Database
from omniroute.storage.repositories import aliases as rows
from omniroute.storage.repositories import combos as combo_rows

MAX_PATTERN: Final = 300
MOST_ALIASES: Final = 2000
MOST_PRIORITY: Final = 1000
FLUSH_INTERVAL_S: Final = 30.0

_log = logging.getLogger(__name__)


class Hits:
    """Counts how often aliases are followed. In memory until told to store: a hit is no reason for a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counted: Counter[str] = Counter()

    def note(self, alias_ids: Iterable[str]) -> None:
        """Count one use of each."""
        self._counted.update(alias_ids)

    def flush(self) -> None:
        """Store what was counted.

        Raises:
            StorageError: the database does not answer; the counts are kept.
        """
        counted, self._counted = self._counted, Counter()
        if not counted:
            return
        try:
            self._database.write(lambda sql: rows.add_hits(sql, counted))
        except BaseException:
            self._counted.update(counted)
            raise

    def flush_forever(self, *, interval_s: float = FLUSH_INTERVAL_S, sleep: Callable[[float], None]) -> None:
        """Store what was counted now and then, until the greenlet is killed."""
        while True:
            sleep(interval_s)
            try:
                self.flush()
            except OmniRouteError as error:
                _log.warning("The hits of aliases cannot be stored yet: %s", error)


class Aliases:
    """Lists, sets and removes aliases and patterns."""

    def __init__(self, *, database: Database, audit: Recorder, hits: Hits, now: Callable[[], float]) -> None:
        self._database = database
        self._audit = audit
        self._hits = hits
        self._now = now

    # --- aliases -------------------------------------------------------------------------------------------------

    def all(self) -> list[ModelAlias]:
        """Return the aliases, the oldest first, with the hits of this worker up to now."""
        self._hits.flush()
        return list(self._database.read(rows.load_all))

    def put(self, fields: Mapping[str, Any], origin: Origin) -> ModelAlias:
        """Store an alias in place of one with the same pattern; what is not given stays.

        Raises:
            ValidationFailed: the pattern is reserved, or the target leads nowhere or in a circle.
        """
        pattern = _checked_pattern(fields["pattern"])
        now = self._now()

        def work(sql: Sql) -> ModelAlias:
            old = rows.find(sql, pattern)
            made = old or ModelAlias(new_id("alias"), pattern, "", created_at=now)
            given = {name: fields[name] for name in ("target", "priority", "enabled") if name in fields}
            made = replace(made, **given, updated_at=now)
            if not made.target:
                raise _invalid("target", "is required")
            others = [row for row in rows.load_all(sql) if row.id != made.id]
            if old is None and len(others) >= MOST_ALIASES:
                raise Conflict(f"There are {MOST_ALIASES} aliases already.")
            _check_target(made, others, combo_rows.load_patterns(sql), combo_rows.load_all(sql))
            if old is None:
                rows.insert(sql, made)
            else:
                rows.update(sql, made)
            return made

        made = self._database.write(work, bump=True)
        self._record(
            "alias", made.id, origin, {"pattern": made.pattern, "target": made.target, "enabled": made.enabled}
        )
        return made

    def delete(self, *, pattern: str | None, alias_id: str | None, origin: Origin) -> ModelAlias:
        """Remove the alias with this pattern or id.

        Raises:
            NotFound: there is none.
        """

        def work(sql: Sql) -> ModelAlias:
            found = rows.find(sql, pattern) if pattern is not None else rows.get(sql, alias_id or "")
            if found is None:
                raise NotFound("There is no such alias.")
            rows.delete(sql, found.id)
            return found

        gone = self._database.write(work, bump=True)
        self._record("alias", gone.id, origin, {"pattern": gone.pattern, "deleted": True})
        return gone

    # --- patterns ------------------------------------------------------------------------------------------------

    def mappings(self) -> list[ComboPattern]:
        """Return the patterns that lead to combos, the oldest first."""
        return list(self._database.read(combo_rows.load_patterns))

    def mapping(self, mapping_id: str) -> ComboPattern:
        """Return one pattern.

        Raises:
            NotFound: there is none with this id.
        """
        found = self._database.read(lambda sql: combo_rows.get_pattern(sql, mapping_id))
        if found is None:
            raise _no_mapping()
        return found

    def create_mapping(self, fields: Mapping[str, Any], origin: Origin) -> ComboPattern:
        """Store a new pattern.

        Raises:
            ValidationFailed: the pattern is reserved, or there is no such combo.
        """
        now = self._now()
        draft = ComboPattern(new_id("map"), "", "", created_at=now, updated_at=now)
        made = replace(draft, **_mapping_values(fields))

        def work(sql: Sql) -> None:
            _check_combo(sql, made.combo_id)
            if len(combo_rows.load_patterns(sql)) >= MOST_ALIASES:
                raise Conflict(f"There are {MOST_ALIASES} mappings already.")
            combo_rows.insert_pattern(sql, made)

        self._database.write(work, bump=True)
        self._record("mapping", made.id, origin, {"pattern": made.pattern, "comboId": made.combo_id})
        return made

    def change_mapping(self, mapping_id: str, fields: Mapping[str, Any], origin: Origin) -> ComboPattern:
        """Change the given fields of a pattern."""
        changed = replace(self.mapping(mapping_id), **_mapping_values(fields), updated_at=self._now())

        def work(sql: Sql) -> None:
            _check_combo(sql, changed.combo_id)
            if not combo_rows.update_pattern(sql, changed):
                raise _no_mapping()

        self._database.write(work, bump=True)
        details = {"pattern": changed.pattern, "comboId": changed.combo_id, "fields": sorted(fields)}
        self._record("mapping", changed.id, origin, details)
        return changed

    def delete_mapping(self, mapping_id: str, origin: Origin) -> None:
        """Remove a pattern."""
        if not self._database.write(lambda sql: combo_rows.delete_pattern(sql, mapping_id), bump=True):
            raise _no_mapping()
        self._record("mapping", mapping_id, origin, {"deleted": True})

    def combo_names(self) -> dict[str, str]:
        """Return the names of the combos by id."""
        return {combo.id: combo.name for combo in self._database.read(combo_rows.load_all)}

    def _record(self, kind: str, target_id: str, origin: Origin, details: dict[str, Any]) -> None:
        self._audit.record("alias.changed", target_kind=kind, target_id=target_id, details=details, **origin.facts())


def _checked_pattern(pattern: str) -> str:
    if is_reserved(pattern):
        raise _invalid("pattern", "is reserved: no pattern matches auto, auto/… and combo/…")
    return pattern


def _mapping_values(fields: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: fields[name] for name in ("priority", "enabled", "description") if name in fields}
    if "pattern" in fields:
        values["pattern"] = _checked_pattern(fields["pattern"])
    if "comboId" in fields:
        values["combo_id"] = fields["comboId"]
    return values


def _check_combo(sql: Sql, combo_id: str) -> None:
    if combo_rows.get(sql, combo_id) is None:
        raise _invalid("comboId", "is not the id of a combo")


def _check_target(
    alias: ModelAlias, others: Sequence[ModelAlias], patterns: Iterable[ComboPattern], combos: Sequence[Combo]
) -> None:
    try:
        target = cleaned(alias.target)
    except InvalidRequest as error:
        raise _invalid("target", error.message) from None
    if not is_exact(target):
        raise _invalid("target", "must be a name, without wildcards")
    if is_auto(target) and target not in CHANNELS:
        raise _invalid("target", f"must be one of {', '.join(CHANNELS)}")
    if target.startswith(COMBO_PREFIX) and target.removeprefix(COMBO_PREFIX) not in {combo.name for combo in combos}:
        raise _invalid("target", "is not a combo")
    if alias.pattern == target:
        raise _invalid("target", "is the alias itself")
    if alias.enabled:
        _follow(target, Book(combos, [*others, alias], patterns))


def _follow(target: str, book: Book) -> None:
    """Follow a target as a request would. A pattern may match its own target, but nothing may come back to a name."""
    seen = [target]
    while not is_reserved(target) and target not in book.combos:
        rule = next(book.aliases.matching(target), None)
        if rule is None or rule.row.name == target:
            return
        target = rule.row.name
        if target in seen:
            raise _invalid("target", f"would lead in a circle: {' → '.join((*seen, target))}")
        seen.append(target)
        if len(seen) > MAX_HOPS:
            raise _invalid("target", f"leads over more than {MAX_HOPS} aliases")


def _no_mapping() -> NotFound:
    return NotFound("There is no mapping with this id.")


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])

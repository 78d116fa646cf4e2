"""Fallback chains: what is tried when a request's own targets are exhausted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute.errors import Conflict, InvalidRequest, NotFound, ValidationFailed
from omniroute.gateway.directory import Directories
from omniroute.ids import new_id
from omniroute.records import FallbackChain
from omniroute.routing.auto import CHANNELS
from omniroute.routing.patterns import is_exact
from omniroute.routing.resolve import cleaned, is_auto
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.storage.database import Database
from omniroute.storage.repositories import chains as rows

MOST_CHAINS: Final = 200
MOST_MODELS: Final = 50
MOST_GLOBS: Final = 50
MOST_ORDER: Final = 100_000

_OF_MODEL: Final = "model "
"""Begins the names of chains that were given for one model."""
_DEFAULT_PRIORITY: Final = 50


class Chains:
    """Creates, lists, changes and removes chains."""

    def __init__(
        self, *, database: Database, audit: Recorder, directories: Directories, now: Callable[[], float]
    ) -> None:
        self._database = database
        self._audit = audit
        self._directories = directories
        self._now = now

    def all(self) -> list[FallbackChain]:
        """Return the chains in the order in which they are looked at."""
        return list(self._database.read(rows.load_all))

    def get(self, chain_id: str) -> FallbackChain:
        """Return one chain.

        Raises:
            NotFound: there is none with this id.
        """
        found = self._database.read(lambda sql: rows.get(sql, chain_id))
        if found is None:
            raise _unknown()
        return found

    def create(self, fields: Mapping[str, Any], origin: Origin) -> FallbackChain:
        """Store a new chain.

        Raises:
            ValidationFailed: a name in it is none, or a channel is not the last.
            Conflict: the name is taken.
        """
        now = self._now()
        draft = FallbackChain(new_id("chain"), fields["name"], (), created_at=now, updated_at=now)
        return self._stored(replace(draft, **_values(fields)), origin)

    def create_of_model(self, fields: Mapping[str, Any], origin: Origin) -> FallbackChain:
        """Store the chain of one model: the same id at other providers, in the order of their priority.

        It takes the place of the one that the model has.
        """
        model = _name("model", fields["model"])
        if not is_exact(model):
            raise _invalid("model", "must be a name, without wildcards")
        entries = sorted(fields["chain"], key=lambda entry: int(entry.get("priority", _DEFAULT_PRIORITY)))
        names = tuple(self._at(entry["provider"], model) for entry in entries if entry.get("enabled", True))
        if not names:
            raise _invalid("chain", "has no provider that is enabled")
        now = self._now()
        name = f"{_OF_MODEL}{model}"
        old = self._database.read(lambda sql: rows.find(sql, name))
        draft = old or FallbackChain(new_id("chain"), name, (), created_at=now)
        return self._stored(replace(draft, models=names, match=(model,), enabled=True, updated_at=now), origin)

    def change(self, chain_id: str, fields: Mapping[str, Any], origin: Origin) -> FallbackChain:
        """Change the given fields of a chain."""
        return self._stored(replace(self.get(chain_id), **_values(fields), updated_at=self._now()), origin)

    def delete(self, chain_id: str, origin: Origin) -> FallbackChain:
        """Remove a chain."""
        old = self.get(chain_id)
        if not self._database.write(lambda sql: rows.delete(sql, chain_id), bump=True):
            raise _unknown()
        self._record(old, origin, {"name": old.name, "deleted": True})
        return old

    def delete_of_model(self, model: str, origin: Origin) -> FallbackChain:
        """Remove the chain that was given for one model."""
        found = self._database.read(lambda sql: rows.find(sql, f"{_OF_MODEL}{model}"))
        if found is None:
            raise NotFound("There is no chain for this model.")
        return self.delete(found.id, origin)

    def _at(self, provider_name: str, model: str) -> str:
        """Return a model's name at a provider; a provider in the name it has gives way."""
        directory = self._directories.current
        provider = directory.provider(provider_name)
        if provider is None:
            raise _invalid("chain.provider", f"{provider_name[:100]!r} is not a provider or node")
        prefix, slash, rest = model.partition("/")
        is_qualified = bool(slash) and directory.provider(prefix) is not None
        return f"{provider.prefix}/{rest if is_qualified else model}"

    def _stored(self, chain: FallbackChain, origin: Origin) -> FallbackChain:
        def work(sql: Sql) -> None:
            holder = rows.find(sql, chain.name)
            if holder is not None and holder.id != chain.id:
                raise Conflict("There is a chain with this name.", extras={"field": "name"})
            if rows.update(sql, chain):
                return
            if rows.count(sql) >= MOST_CHAINS:
                raise Conflict(f"There are {MOST_CHAINS} chains already.")
            rows.insert(sql, chain)

        self._database.write(work, bump=True)
        self._record(chain, origin, {"name": chain.name, "models": chain.models, "enabled": chain.enabled})
        return chain

    def _record(self, chain: FallbackChain, origin: Origin, details: dict[str, Any]) -> None:
        facts = origin.facts()
        self._audit.record("chain.changed", target_kind="chain", target_id=chain.id, details=details, **facts)


def _values(fields: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: fields[name] for name in ("name", "order", "enabled") if name in fields}
    if "models" in fields:
        values["models"] = _checked_models(fields["models"])
    if "match" in fields:
        values["match"] = tuple(fields["match"])
    return values


def _checked_models(names: Iterable[str]) -> tuple[str, ...]:
    models = tuple(_name("models", name) for name in names)
    for place, name in enumerate(models, 1):
        if not is_exact(name):
            raise _invalid("models", f"entry {place} must be a name, without wildcards")
        if is_auto(name) and name not in CHANNELS:
            raise _invalid("models", f"entry {place} must be one of {', '.join(CHANNELS)}")
        if is_auto(name) and place < len(models):
            raise _invalid("models", "may have a channel as the last entry only")
    return models


def _name(field: str, name: str) -> str:
    try:
        return cleaned(name)
    except InvalidRequest as error:
        raise _invalid(field, error.message) from None


def _unknown() -> NotFound:
    return NotFound("There is no chain with this id.")


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])

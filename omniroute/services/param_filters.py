"""Which parameters are taken out of requests to a provider, and which are set in them whatever the caller says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from omniroute.errors import NotFound, ValidationFailed
from omniroute.gateway.body_filter import NAME, PROTECTED, clashing
from omniroute.gateway.directory import Directories
from omniroute.providers.spec import Provider
from omniroute.records import ParamFilters
from omniroute.services.access import Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.storage.database import Database
from omniroute.storage.repositories import param_filters as rows

MOST_NAMES: Final = 50
LONGEST_NAME: Final = 259


@dataclass(frozen=True, slots=True)
class Filtered:
    """A provider and its filters."""

    provider: Provider
    filters: ParamFilters


class ProviderFilters:
    """Shows, sets and removes the filters of providers."""

    def __init__(
        self,
        *,
        database: Database,
        snapshots: Snapshots,
        directories: Directories,
        audit: Recorder,
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._directories = directories
        self._audit = audit
        self._now = now

    def get(self, name: str) -> Filtered:
        """Return the filters of a provider: by its id, prefix or alias, or by the id of one of its connections.

        Raises:
            NotFound: there is no such provider or connection.
        """
        provider = self._provider(name)
        found = self._database.read(rows.load_all).get(provider.id)
        return Filtered(provider, found or ParamFilters())

    def put(self, name: str, strip: tuple[str, ...], force: Mapping[str, Any], origin: Origin) -> Filtered:
        """Set the filters of a provider in place of those that it had.

        Raises:
            NotFound: there is no such provider or connection.
            ValidationFailed: a name is not one, stands twice, or is a part of the request itself.
        """
        provider = self._provider(name)
        _check(strip, force)
        filters = ParamFilters(strip, dict(force))
        now = self._now()
        if strip or force:
            self._database.write(lambda sql: rows.put(sql, provider.id, filters, now), bump=True)
        else:
            self._database.write(lambda sql: rows.delete(sql, provider.id, now), bump=True)
        self._record(provider, {"strip": list(strip), "force": dict(force)}, origin)
        return Filtered(provider, filters)

    def delete(self, name: str, origin: Origin) -> Filtered:
        """Remove the filters of a provider.

        Raises:
            NotFound: there is no such provider or connection, or it has none.
        """
        provider, now = self._provider(name), self._now()
        if not self._database.write(lambda sql: rows.delete(sql, provider.id, now), bump=True):
            raise NotFound("This provider has no filters.")
        self._record(provider, {"deleted": True}, origin)
        return Filtered(provider, ParamFilters())

    def _provider(self, name: str) -> Provider:
        connection = next((row for row in self._snapshots.current.connections if row.id == name), None)
        provider = self._directories.current.provider(connection.provider if connection is not None else name)
        if provider is None:
            raise NotFound("There is no provider or connection with this id.")
        return provider

    def _record(self, provider: Provider, details: Mapping[str, Any], origin: Origin) -> None:
        details = {"paramFilters": details}
        self._audit.record(
            "settings.changed", target_kind="provider", target_id=provider.id, details=details, **origin.facts()
        )


def _check(strip: tuple[str, ...], force: Mapping[str, Any]) -> None:
    details = [
        {"field": f"{field}.{name[:64]}", "message": why}
        for field, names in (("strip", strip), ("force", force))
        for name in names
        if (why := _objection(name)) is not None
    ]
    clash = clashing((*strip, *force))
    if clash is not None and not details:
        details.append({"field": "strip" if clash in strip else "force", "message": f"{clash} is named twice"})
    if details:
        raise ValidationFailed(details)


def _objection(name: str) -> str | None:
    if not NAME.fullmatch(name):
        return "is not the name of a member; names of members inside others are joined by dots"
    if name.partition(".")[0] in PROTECTED:
        return "is a part of the request itself and cannot be filtered"
    return None

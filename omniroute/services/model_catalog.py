"""Every model of every provider, connected or not, as operators look at them: who knows of it, and how it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NotRequired, TypedDict

from omniroute.gateway.directory import ContextWindow, Directories, Directory
from omniroute.gateway.listings import Listing, Origin
from omniroute.providers.spec import Model, Provider
from omniroute.records import Connection, DiscoveredList
from omniroute.routing.patterns import is_exact
from omniroute.routing.view import View
from omniroute.services.access import Snapshots
from omniroute.services.model_lines import encode, is_free, prices_of

_PRICES: Final = {
    "input": "input",
    "output": "output",
    "cacheRead": "cache_read",
    "cacheWrite": "cache_write",
}


class CatalogModelDocument(TypedDict):
    """A model in the catalogue."""

    id: str
    name: str
    type: str
    custom: bool
    source: str
    hidden: bool
    context_source: str
    free: NotRequired[bool]
    context_length: NotRequired[int]
    max_output_tokens: NotRequired[int]
    capabilities: NotRequired[list[str]]
    price: NotRequired[dict[str, float]]


class CatalogProviderDocument(TypedDict):
    """A provider with its models."""

    provider: str
    alias: str
    active: bool
    models: list[CatalogModelDocument]


class CatalogDocument(TypedDict):
    """Every provider with its models, by its id."""

    catalog: dict[str, CatalogProviderDocument]
    catalogVersion: str


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a model could be called now: `ok`, `resting` until a time, or `unavailable` without a connection."""

    state: str
    reason: str | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model at one provider.

    Attributes:
        is_active: it can be called: a connection may serve it, and nobody has hidden it.
    """

    provider: Provider
    model: Model
    origin: Origin
    is_hidden: bool
    is_active: bool

    @property
    def name(self) -> str:
        """The model as `prefix/model`."""
        return f"{self.provider.prefix}/{self.model.id}"


@dataclass(frozen=True, slots=True)
class ConnectionModel:
    """A model of one connection; `is_listed` says whether the provider's list has it for this one."""

    row: ModelRow
    is_listed: bool


class ModelCatalog:
    """Shows the catalogue."""

    def __init__(
        self,
        *,
        directories: Directories,
        snapshots: Snapshots,
        view: View,
        version: Callable[[], str],
        now: Callable[[], float],
    ) -> None:
        """`version` is that of the lists for clients."""
        self._directories = directories
        self._snapshots = snapshots
        self._view = view
        self._version = version
        self._now = now
        self._rendered: tuple[Directory, str, bytes] | None = None

    def whole(self) -> tuple[bytes, str]:
        """Return the catalogue as `GET /api/models/catalog` answers it, and its version."""
        directory, version = self._directories.current, self._version()
        known = self._rendered
        if known is None or known[0] is not directory or known[1] != version:
            catalog = {row.id: _provider_document(directory, row) for row in directory.providers()}
            known = (directory, version, encode(CatalogDocument(catalog=catalog, catalogVersion=version)))
            self._rendered = known
        return known[2], version

    def rows(self, provider: str | None = None) -> list[ModelRow]:
        """Return every model at every provider and node, or at one of them, in the order of the catalogue."""
        directory = self._directories.current
        if provider is None:
            return [made for row in directory.providers() for made in _rows(directory, row)]
        row = directory.provider(provider)
        return [] if row is None else list(_rows(directory, row))

    def of_connection(self, connection: Connection) -> list[ConnectionModel]:
        """Return the models of one connection: those of its provider but for what its own list is known to lack."""
        directory = self._directories.current
        provider = directory.provider(connection.provider)
        if provider is None:
            return []
        listing = directory.listing(provider.id)
        listed = self._listed(connection)
        is_usable = any(leg.connection_id == connection.id for leg in directory.legs_of(provider.id))
        return [
            ConnectionModel(
                ModelRow(provider, row.model, row.origin, row.is_hidden, is_usable and not row.is_hidden),
                row.model.id in listed,
            )
            for row in _rows(directory, provider)
            if listing.may_serve(row.model.id, connection.id) or row.model.id in listed
        ]

    def _listed(self, connection: Connection) -> frozenset[str]:
        found: DiscoveredList | None = self._snapshots.current.discovered.get(connection.id)
        return frozenset() if found is None else frozenset(model.model_id for model in found.models)

    def aliases(self) -> Mapping[str, Sequence[str]]:
        """Return the exact names that lead to a model, by the name of the target as the alias spells it."""
        found: dict[str, list[str]] = {}
        for alias in self._snapshots.current.aliases:
            if alias.enabled and is_exact(alias.pattern):
                found.setdefault(alias.target, []).append(alias.pattern)
        return found

    def health_of(self, row: ModelRow) -> Health:
        """Return how a model stands: it rests when it does on every connection that could serve it."""
        directory = self._directories.current
        listing = directory.listing(row.provider.id)
        now = self._now()
        resting: list[tuple[str, float | None]] = []
        for account in directory.accounts_of(row.provider.id):
            if not listing.may_serve(row.model.id, account.id):
                continue
            rest = self._view.rest(account.id, account.rest_scope) or self._view.lockout(account.id, row.model.id)
            if rest is None or (rest.until is not None and rest.until <= now):
                return Health("ok")
            resting.append((str(rest.reason), rest.until))
        if not resting:
            return Health("unavailable")
        reason, until = min(resting, key=lambda one: one[1] if one[1] is not None else float("inf"))
        return Health("resting", reason, until)

    def price_of(self, row: ModelRow) -> Mapping[str, float] | None:
        """Return the price in force of a model, in USD per million tokens; None where nobody states one."""
        return prices_of(self._directories.current, row.provider, row.model, _PRICES)

    def figures(self, row: ModelRow) -> tuple[ContextWindow, bool]:
        """Return the window of a model, and whether a call costs nothing."""
        directory = self._directories.current
        return directory.context_of(row.provider, row.model), is_free(directory, row.provider, row.model)


def _rows(directory: Directory, provider: Provider) -> Iterator[ModelRow]:
    listing = directory.listing(provider.id)
    is_connected = bool(directory.legs_of(provider.id))
    for models, is_hidden in ((listing.models, False), (listing.hidden, True)):
        for model in models.values():
            origin = listing.origin(model.id)
            yield ModelRow(provider, model, origin, is_hidden, is_connected and not is_hidden)


def _provider_document(directory: Directory, row: Provider) -> CatalogProviderDocument:
    listing = directory.listing(row.id)
    return {
        "provider": row.name,
        "alias": row.prefix,
        "active": bool(directory.legs_of(row.id)),
        "models": [_model_document(directory, made, listing) for made in _rows(directory, row)],
    }


def _model_document(directory: Directory, row: ModelRow, listing: Listing) -> CatalogModelDocument:
    provider, model = row.provider, row.model
    window = directory.context_of(provider, model)
    shown: CatalogModelDocument = {
        "id": row.name,
        "name": model.name or model.id,
        "type": model.kind,
        "custom": row.origin is Origin.CUSTOM,
        "source": listing.origin(model.id).value,
        "hidden": row.is_hidden,
        "context_source": window.source,
    }
    if is_free(directory, provider, model):
        shown["free"] = True
    if not window.is_assumed:
        shown["context_length"] = window.tokens
    if model.max_output is not None:
        shown["max_output_tokens"] = model.max_output
    if model.capabilities:
        shown["capabilities"] = list(model.capabilities)
    price = prices_of(directory, provider, model, _PRICES)
    if price is not None:
        shown["price"] = price
    return shown

"""What is known about the models of each provider, all sources taken together.

For every single fact the operator's override comes first, then what he declared for a model of his own, then what the
provider's own list says, then what is built in. What nobody says stays unknown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

from omniroute.formats.wire import WireFormat
from omniroute.money.book import DECLARED, Builtin, PriceBook
from omniroute.providers.catalog import Catalogue
from omniroute.providers.list_prices import list_prices, row_of
from omniroute.providers.spec import Model, ModelKind, Price
from omniroute.records import CustomModel, DiscoveredList, DiscoveredModel, ModelOverride, PriceRow, Snapshot


class Origin(StrEnum):
    """Who says that a model exists."""

    CUSTOM = "custom"
    PROVIDER = "provider"
    BUILTIN = "builtin"


class Source(StrEnum):
    """Who says how large a window is."""

    OVERRIDE = "override"
    PROVIDER = "provider"
    BUILTIN = "builtin"
    DEFAULT = "default"


_JUDGED: Final = ("tools", "vision", "reasoning", "json_schema")
"""Capabilities that routing asks about: of each it is known that it holds, that it does not, or neither."""
_TAKEN: Final = ("audio", "pdf")
_NOBODY: Final[frozenset[str]] = frozenset()
_KINDS: Final[Mapping[str, ModelKind]] = {kind.value: kind for kind in ModelKind}
_FORMATS: Final[Mapping[str, WireFormat]] = {wire_format.value: wire_format for wire_format in WireFormat}

Words = tuple[frozenset[str], frozenset[str]]
"""What a model is said to be able to do, and what not."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The models of one provider or node.

    Attributes:
        models: those that may be used, by id: built-in ones, then the provider's own, then the operator's.
        hidden: those that the operator has hidden.
        unlisted: what the operator says about models that are on no list.
        origins: who says that a model exists, where that is not the built-in list alone.
        windows: who says how large a window is, where that is not the built-in list.
        holders: of a model that only providers' lists know, the connections whose list has it.
        readers: the connections whose list is known.
        prices: what the provider's own list says.
    """

    models: Mapping[str, Model]
    hidden: Mapping[str, Model] = field(default_factory=dict)
    unlisted: Mapping[str, Model] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    windows: Mapping[str, Source] = field(default_factory=dict)
    holders: Mapping[str, frozenset[str]] = field(default_factory=dict)
    readers: frozenset[str] = _NOBODY
    prices: Mapping[str, Price] = field(default_factory=dict)

    def facts(self, model: str) -> Model | None:
        """Return what is known about a model, listed or not."""
        return self.models.get(model) or self.hidden.get(model) or self.unlisted.get(model)

    def knows(self, model: str) -> bool:
        """Say whether a model is on the list, hidden ones included."""
        return model in self.models or model in self.hidden

    def origin(self, model: str) -> Origin:
        """Return who says that a model exists."""
        return self.origins.get(model, Origin.BUILTIN)

    def may_serve(self, model: str, connection_id: str) -> bool:
        """Say whether a connection may have a model: it does not when its own list is known and lacks it."""
        holders = self.holders.get(model)
        return holders is None or connection_id in holders or connection_id not in self.readers


NO_MODELS: Final = Listing({})

_Key = tuple[tuple[DiscoveredList, ...], tuple[CustomModel, ...], tuple[ModelOverride, ...]]


class Listings:
    """Makes the listings of a configuration; what has not changed is taken from the configuration before."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._plain: dict[str, Listing] = {}
        self._made: dict[str, tuple[_Key, Listing]] = {}
        self._prices: dict[tuple[tuple[str, str], ...], Price] = {}

    def of(self, snapshot: Snapshot, usable: Mapping[str, Sequence[str]]) -> dict[str, Listing]:
        """Return the listing of every provider that has models, by its id.

        Args:
            snapshot: the configuration.
            usable: the connections that may serve, by provider, in their order. Where there are some, only their lists
                count.
        """
        found: dict[str, Listing] = {}
        made: dict[str, tuple[_Key, Listing]] = {}
        keys = _keys(snapshot, usable)
        for provider_id in (*self._catalogue.providers, *sorted(keys.keys() - self._catalogue.providers.keys())):
            key = keys.get(provider_id)
            if key is None:
                found[provider_id] = self._builtin(provider_id)
                continue
            before = self._made.get(provider_id)
            listing = before[1] if before is not None and before[0] == key else self._merged(provider_id, key)
            made[provider_id] = (key, listing)
            found[provider_id] = listing
        self._made = made
        return found

    def _builtin(self, provider_id: str) -> Listing:
        listing = self._plain.get(provider_id)
        if listing is None:
            models = self._catalogue.models_of(provider_id)
            listing = self._plain[provider_id] = Listing(models) if models else NO_MODELS
        return listing

    def _merged(self, provider_id: str, key: _Key) -> Listing:
        lists, customs, overrides = key
        builtin = self._catalogue.models_of(provider_id)
        merging = _Merging(dict(builtin), self._prices)
        merging.add_lists(lists, builtin)
        for custom in customs:
            merging.add_custom(custom)
        for override in overrides:
            merging.override(override)
        return merging.listing(frozenset(one.connection_id for one in lists))


def _keys(snapshot: Snapshot, usable: Mapping[str, Sequence[str]]) -> dict[str, _Key]:
    lists: dict[str, list[DiscoveredList]] = {}
    for one in snapshot.discovered.values():
        lists.setdefault(one.provider, []).append(one)
    customs: dict[str, list[CustomModel]] = {}
    for custom in snapshot.custom_models:
        customs.setdefault(custom.provider, []).append(custom)
    overrides: dict[str, list[ModelOverride]] = {}
    for override in snapshot.model_overrides:
        overrides.setdefault(override.provider, []).append(override)
    return {
        provider_id: (
            tuple(_counting(lists.get(provider_id, ()), usable.get(provider_id, ()))),
            tuple(customs.get(provider_id, ())),
            tuple(overrides.get(provider_id, ())),
        )
        for provider_id in {*lists, *customs, *overrides}
    }


def _counting(lists: Iterable[DiscoveredList], usable: Sequence[str]) -> Iterable[DiscoveredList]:
    if not usable:
        return lists
    by_connection = {one.connection_id: one for one in lists}
    return [by_connection[connection_id] for connection_id in usable if connection_id in by_connection]


def holders_by_id(listed: Mapping[str, Mapping[str, Model]], implicit: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return which providers list which model id. Those that are always there give way to those of operators."""
    index: dict[str, tuple[str, ...]] = {}
    for provider_id, models in listed.items():
        if provider_id in implicit:
            continue
        alone = (provider_id,)
        for model_id in models:
            holders = index.get(model_id)
            index[model_id] = alone if holders is None else (*holders, provider_id)
    for provider_id in implicit:
        for model_id in listed.get(provider_id, ()):
            index.setdefault(model_id, (provider_id,))
    return index


def _declared(listings: Mapping[str, Listing]) -> Builtin:
    """Return what looks up the price that a provider's own list has for a model."""

    def look_up(provider_id: str, model: str) -> PriceRow | None:
        listing = listings.get(provider_id)
        price = listing.prices.get(model) if listing is not None else None
        return None if price is None else row_of(provider_id, model, price, DECLARED)

    return look_up


class PriceRows:
    """Makes the price book of a configuration; where no price has changed it is the one of the configuration before."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._builtin = list_prices(catalogue)
        self._of: tuple[tuple[PriceRow, ...], list[Mapping[str, Price]]] | None = None
        self._book = PriceBook((), self._builtin)

    def book(self, snapshot: Snapshot, listings: Mapping[str, Listing]) -> PriceBook:
        """Return the price book of a snapshot whose models are in `listings`."""
        declared = {name: listing for name, listing in listings.items() if listing.prices}
        key = (snapshot.prices, [listing.prices for listing in declared.values()])
        if key != self._of:
            self._of = key
            self._book = PriceBook(snapshot.prices, self._builtin, _declared(declared))
        return self._book


class _Merging:
    """One listing in the making."""

    def __init__(self, models: dict[str, Model], prices: dict[tuple[tuple[str, str], ...], Price]) -> None:
        self._models = models
        self._shared_prices = prices
        self._hidden: dict[str, Model] = {}
        self._unlisted: dict[str, Model] = {}
        self._origins: dict[str, Origin] = {}
        self._windows: dict[str, Source] = {}
        self._holders: dict[str, set[str]] = {}
        self._prices: dict[str, Price] = {}

    def add_lists(self, lists: Sequence[DiscoveredList], builtin: Collection[str]) -> None:
        """Lay the provider's own lists over what is built in.

        The first connection's word counts. Where they state different sizes, the smaller holds: it fits everywhere.
        """
        for number, listed in enumerate(lists):
            for model in listed.models:
                known = self._models.get(model.model_id)
                if number and known is not None and model.model_id in self._origins:
                    self._models[model.model_id] = _narrowed(known, model)
                else:
                    self._models[model.model_id] = self._discovered(known, model)
                    self._origins[model.model_id] = Origin.PROVIDER
                if model.model_id not in builtin:
                    self._holders.setdefault(model.model_id, set()).add(listed.connection_id)

    def _discovered(self, known: Model | None, model: DiscoveredModel) -> Model:
        price = self._price(model.prices)
        if price is not None:
            self._prices[model.model_id] = price
        if model.context_length is not None:
            self._windows[model.model_id] = Source.PROVIDER
        words = (model.able, model.unable)
        if known is None:
            capabilities, unstated = _able((), None, words, is_input_stated=bool(model.input))
            return Model(
                model.model_id,
                name=model.name,
                kind=_KINDS.get(model.kind or "", ModelKind.CHAT),
                context=model.context_length,
                max_output=model.max_output,
                capabilities=capabilities,
                input=model.input,
                price=price,
                unstated=unstated,
            )
        taken = model.input or known.input
        capabilities, unstated = _able(known.capabilities, known.unstated, words, is_input_stated=bool(taken))
        return _changed(
            known,
            name=known.name or model.name,
            context=model.context_length or known.context,
            max_output=model.max_output or known.max_output,
            input=taken,
            price=price or known.price,
            capabilities=capabilities,
            unstated=unstated,
        )

    def add_custom(self, custom: CustomModel) -> None:
        """Lay a model that the operator declared over what else is known about it."""
        known = self._models.get(custom.model_id) or Model(custom.model_id)
        spoken = _FORMATS.get(custom.api_format or "")
        capabilities, unstated = _said(known, custom)
        self._models[custom.model_id] = _changed(
            known,
            name=custom.name or known.name,
            kind=_KINDS.get(custom.kind, ModelKind.CHAT),
            formats=known.formats if spoken is None else (spoken,),
            context=custom.context_length or known.context,
            max_output=custom.max_output or known.max_output,
            capabilities=capabilities,
            unstated=unstated,
        )
        self._origins[custom.model_id] = Origin.CUSTOM
        self._holders.pop(custom.model_id, None)
        if custom.context_length is not None:
            self._windows[custom.model_id] = Source.OVERRIDE

    def override(self, override: ModelOverride) -> None:
        """Lay over everything what the operator says about a model, and take it off the list if he hides it."""
        model_id = override.model_id
        is_listed = model_id in self._models
        known = self._models.get(model_id) or Model(model_id)
        capabilities, unstated = _said(known, override)
        made = _changed(
            known,
            context=override.context_length or known.context,
            max_output=override.max_output or known.max_output,
            capabilities=capabilities,
            unstated=unstated,
        )
        if override.context_length is not None:
            self._windows[model_id] = Source.OVERRIDE
        if override.is_hidden:
            self._models.pop(model_id, None)
            self._hidden[model_id] = made
        elif is_listed:
            self._models[model_id] = made
        else:
            self._unlisted[model_id] = made

    def listing(self, readers: frozenset[str]) -> Listing:
        """Return what was put together."""
        sets: dict[frozenset[str], frozenset[str]] = {}
        holders = {}
        for model_id, some in self._holders.items():
            made = frozenset(some)
            holders[model_id] = sets.setdefault(made, made)
        return Listing(
            self._models,
            self._hidden,
            self._unlisted,
            self._origins,
            self._windows,
            holders,
            readers,
            self._prices,
        )

    def _price(self, given: tuple[tuple[str, str], ...]) -> Price | None:
        if not given:
            return None
        price = self._shared_prices.get(given)
        if price is None:
            price = self._shared_prices[given] = msgspec.convert(dict(given), type=Price)
        return price


def _narrowed(known: Model, model: DiscoveredModel) -> Model:
    """Return a model with the smaller sizes of two lists."""
    context = min(filter(None, (known.context, model.context_length)), default=None)
    max_output = min(filter(None, (known.max_output, model.max_output)), default=None)
    return _changed(known, context=context, max_output=max_output)


def _said(known: Model, by: CustomModel | ModelOverride) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    return _able(known.capabilities, known.unstated, (by.able, by.unable), is_input_stated=bool(known.input))


@lru_cache(maxsize=1024)
def _able(
    capabilities: tuple[str, ...], unstated: tuple[str, ...] | None, words: Words, *, is_input_stated: bool
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Return capabilities with what is said on top of what is known, and of which nobody says anything.

    Thousands of models have the same few combinations, so that what comes of them is remembered.
    """
    able, unable = words
    if not able and not unable:
        return capabilities, unstated
    has = [word for word in capabilities if word not in unable]
    has += sorted(able.difference(has))
    if unstated is None:
        open_words = () if capabilities else _JUDGED
        unstated = (*open_words, *_TAKEN)
        if is_input_stated:
            unstated = tuple(word for word in open_words if word != "vision")
    return tuple(has), tuple(word for word in unstated if word not in able and word not in unable)


def _changed(model: Model, **values: object) -> Model:
    """Return a model with other values; the same object where nothing differs."""
    different = {name: value for name, value in values.items() if getattr(model, name) != value}
    return replace(model, **different) if different else model  # type: ignore[arg-type]

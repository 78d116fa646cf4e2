"""The rows: the built-in providers and models, and those of the operator's own file.

The lists live in `data/` as JSON, one row a line: `providers.json` and, by provider id, `models.json`. They are read
by :func:`load`, not at import, because the remote commands of the CLI never need them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from omniroute.errors import ConfigurationError
from omniroute.formats.wire import WireFormat
from omniroute.money.book import BUILTIN, PRICES
from omniroute.money.tariff import tariff_of
from omniroute.providers.quota_endpoints import READERS
from omniroute.providers.spec import PARAMETERS, Model, Price, Provider

_NO_MODELS: Final[Mapping[str, Model]] = {}
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_RESERVED: Final = frozenset({"auto", "combo", "models"})
_ROW_FIELDS: Final = frozenset(Provider.__dataclass_fields__) - {"is_operator"} | {"models"}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All provider rows and their models, with look-ups by name."""

    providers: Mapping[str, Provider]
    """By id, in the order of the list."""
    models: Mapping[str, Mapping[str, Model]]
    """By provider id, then by model id."""
    by_name: Mapping[str, Provider]
    """By id, prefix or alias in lower case."""

    def find(self, name: str) -> Provider | None:
        """Return the provider with this id, prefix or alias, in any case."""
        return self.by_name.get(name.lower())

    def models_of(self, provider_id: str) -> Mapping[str, Model]:
        """Return the known models of a provider by id; empty for one without a list."""
        return self.models.get(provider_id, _NO_MODELS)

    def __iter__(self) -> Iterator[Provider]:
        return iter(self.providers.values())


def load(providers_file: Path | None = None) -> Catalogue:
    """Read the built-in rows and merge the operator's file over them.

    The file is `{"providers": [row, …]}` with the fields of :class:`Provider`; a row with a known id changes the given
    fields of that row, another one is added. A row may hold `models`, a list with the fields of :class:`Model`.

    Raises:
        ConfigurationError: the file cannot be read, or a row is not usable.
    """
    data = resources.files("omniroute.providers") / "data"
    rows = msgspec.json.decode((data / "providers.json").read_bytes(), type=list[Provider])
    listed = msgspec.json.decode((data / "models.json").read_bytes(), type=dict[str, list[Model]])
    providers = {row.id: row for row in rows}
    models = {provider_id: _by_id(some) for provider_id, some in _sharing_prices(listed).items()}
    if providers_file is not None:
        _merge(providers_file, providers, models)
    return Catalogue(providers, models, _by_name(providers))


def _by_id(models: list[Model]) -> dict[str, Model]:
    return {model.id: model for model in models}


def _sharing_prices(listed: dict[str, list[Model]]) -> dict[str, list[Model]]:
    """Let equal prices be one object: the same model is on the lists of many providers."""
    seen: dict[Price, Price] = {}
    for models in listed.values():
        for model in models:
            if model.price is not None:
                shared = seen.setdefault(model.price, model.price)
                if shared is not model.price:
                    object.__setattr__(model, "price", shared)  # the rows are ours alone until they are handed out
    return listed


def _by_name(providers: Mapping[str, Provider]) -> dict[str, Provider]:
    # Ids and prefixes first, so that an alias of one row can never hide another row.
    names = {row.id: row for row in providers.values()}
    for row in providers.values():
        names.setdefault(row.prefix, row)
    for row in providers.values():
        for alias in row.aliases:
            names.setdefault(alias, row)
    return names


# --- the operator's file -------------------------------------------------------------------------------------------


def _merge(path: Path, providers: dict[str, Provider], models: dict[str, dict[str, Model]]) -> None:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"OMNIROUTE_PROVIDERS_FILE cannot be read: {error.strerror}.") from error
    try:
        document = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"OMNIROUTE_PROVIDERS_FILE is not valid JSON: {error}.") from error
    rows = document.get("providers") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise ConfigurationError('OMNIROUTE_PROVIDERS_FILE must be an object with a list "providers".')
    for number, row in enumerate(rows, 1):
        try:
            _merge_row(row, providers, models)
        except (ValueError, msgspec.ValidationError) as error:
            raise ConfigurationError(f"OMNIROUTE_PROVIDERS_FILE, row {number}: {error}") from error


def _merge_row(row: Any, providers: dict[str, Provider], models: dict[str, dict[str, Model]]) -> None:
    row = msgspec.convert(row, type=dict[str, Any])
    row_id = msgspec.convert(row.get("id"), type=str)
    if unknown := sorted(set(row) - _ROW_FIELDS):
        raise ValueError(f"unknown field {unknown[0]}")
    given = {name: value for name, value in row.items() if name != "models"}
    known = providers.get(row_id)
    if known is not None and known.is_implicit:
        raise ValueError("the simulated provider cannot be changed")
    base = msgspec.to_builtins(known) if known is not None else {"prefix": row_id, "name": row_id}
    merged = replace(msgspec.convert({**base, **given}, type=Provider), is_operator=True)
    _check_row(merged, providers)
    providers[merged.id] = merged
    if "models" in row:
        listed = msgspec.convert(row["models"], type=list[Model])
        _check_prices(listed)
        models[merged.id] = {**models.get(merged.id, {}), **_by_id(listed)}


def _check_prices(models: list[Model]) -> None:
    for model in models:
        if model.price is None:
            continue
        given = {name: getattr(model.price, name) for name in PRICES}
        try:
            tariff_of(BUILTIN, given, model.price.tiers)
        except ValueError as error:
            raise ValueError(f"a price of {model.id} {error}") from None


def _check_row(row: Provider, providers: Mapping[str, Provider]) -> None:
    for name in row.names:
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise ValueError("ids, prefixes and aliases are lower case letters, digits, dots, dashes and underscores")
        holder = next((other for other in providers.values() if other.id != row.id and name in other.names), None)
        if holder is not None:
            raise ValueError(f"the name {name} belongs to {holder.id}")
    if not row.urls:
        raise ValueError("urls needs at least one address")
    if WireFormat.OTHER in row.urls:
        raise ValueError("urls are given by format, and other is not one")
    schemes = ("https://", "http://") if row.is_local else ("https://",)
    if (row.usage_url is None) is not (row.usage_shape is None) or row.usage_shape not in {None, *READERS}:
        raise ValueError(f"usage_url goes with a usage_shape: {', '.join(READERS)}")
    for url in (*row.urls.values(), *filter(None, (row.models_url, row.usage_url))):
        if not url.startswith(schemes):
            raise ValueError("an address starts with https://, or http:// with is_local")
    unknown = [name for name in row.parameters if name not in PARAMETERS]
    if unknown:
        raise ValueError(f"{{{unknown[0]}}} is not a known part of an address")

"""Which connections serve which model name: a read view compiled once per configuration, then only looked up.

`resolve` answers a name with the targets that may serve it, in the order in which they are tried. Whatever a request
needs later (addresses, headers with the key, facts about the model) hangs ready on the target.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from omniroute.errors import InvalidRequest, ModelNotFound, NotFound, PermissionDenied
from omniroute.formats.canonical import Effort
from omniroute.formats.effort import split_effort
from omniroute.formats.wire import WireFormat
from omniroute.gateway.body_filter import BodyFilter
from omniroute.gateway.listings import NO_MODELS, Listing, Listings, PriceRows, Source, holders_by_id
from omniroute.gateway.options import BILLED, account_of, cost_kind_of, implicit_account, option_of
from omniroute.money.book import PriceBook
from omniroute.money.tariff import Tariff
from omniroute.providers.catalog import Catalogue
from omniroute.providers.makers import makers_of
from omniroute.providers.requests import Endpoint, NotUsable, prepare, provider_of_node
from omniroute.providers.spec import AuthKind, Model, ModelKind, Provider, ProviderStatus, Tier
from omniroute.records import AuthType, Connection, Node, Snapshot
from omniroute.routing.options import Account, Option

DEFAULT_CONTEXT: Final = 128_000
MAX_NAME: Final = 300
MAX_MODEL_ID: Final = 240

_CACHED_NAMES: Final = 4096
"""Names are chosen by callers, so what is remembered about them is bounded."""
_SUGGESTIONS: Final = 3
_CACHED_OPTIONS: Final = 8192
_TIERS: Final = tuple(Tier)
_DEPENDED_ON: Final = (
    "connections",
    "nodes",
    "prices",
    "param_filters",
    "custom_models",
    "discovered",
    "model_overrides",
)
"""Parts of a snapshot."""
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\\u2028\u2029\ud800-\udfff]|^/|/$|\.\.|(?:^|/)\.(?:/|$)")
_GEMINI_PREFIX: Final = "models/"
_LONG_WINDOW: Final = "[1m]"
"""What some clients put behind a Claude model's name; the vendor is told by a beta header, which they send as well."""


@dataclass(frozen=True, slots=True)
class Target:
    """One model on one connection: what an attempt calls.

    Attributes:
        model: the provider's own model id.
        endpoints: the addresses that serve it, by format.
        facts: what is known about the model; None where nobody says anything.
        effort: how hard it shall think, where the caller said so in the name.
        tariff: what it costs; None where nobody said.
        cost_kind: `billed`; `subscription`, whose cost is a list value; or `free`, which costs nothing whatever the
            tariff says.
        body_filter: what the operator wants changed in every body; None for nothing.
    """

    provider: Provider
    connection_id: str
    model: str
    endpoints: Mapping[WireFormat, Endpoint]
    facts: Model | None
    effort: Effort | None = None
    tariff: Tariff | None = None
    cost_kind: str = BILLED
    body_filter: BodyFilter | None = None

    @property
    def name(self) -> str:
        """The model as `prefix/model`, whatever the caller called it."""
        return f"{self.provider.prefix}/{self.model}"

    @property
    def is_local(self) -> bool:
        """Whether it runs on the operator's own machine or network."""
        return self.provider.is_local


Targets = tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Leg:
    """A usable connection with its prepared addresses and the model that its operator named."""

    connection_id: str
    endpoints: Mapping[WireFormat, Endpoint]
    account: Account
    default_model: str | None = None


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """A model's window in tokens and where the figure is from: `override`, `provider`, `builtin` or `default`."""

    tokens: int
    source: str

    @property
    def is_assumed(self) -> bool:
        """Whether nobody stated it."""
        return self.source == Source.DEFAULT


class Directory:
    """The compiled view of one snapshot. Immutable but for what it remembers about names it was asked."""

    __slots__ = (
        "_accounts",
        "_bare",
        "_body_filters",
        "_catalogue",
        "_found",
        "_hidden",
        "_legs",
        "_listings",
        "_options",
        "_providers",
        "default_context",
        "prices",
        "problems",
    )

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        providers: Mapping[str, Provider],
        legs: Mapping[str, tuple[Leg, ...]],
        problems: Mapping[str, str],
        prices: PriceBook,
        listings: Mapping[str, Listing],
        default_context: int,
        body_filters: Mapping[str, BodyFilter] = MappingProxyType({}),
    ) -> None:
        self._catalogue = catalogue
        self._providers = providers
        self._legs = legs
        self.default_context = default_context
        self._body_filters = body_filters
        self._accounts = {provider_id: tuple(leg.account for leg in some) for provider_id, some in legs.items()}
        self._listings = listings
        implicit = frozenset(name for name in legs if providers[name.lower()].is_implicit)
        self._bare = holders_by_id({name: listings[name].models for name in legs if name in listings}, implicit)
        self._hidden = holders_by_id({name: listings[name].hidden for name in legs if name in listings}, implicit)
        self._found: dict[str, tuple[Option, ...]] = {}
        self._options: dict[tuple[str, str, Effort | None], Option] = {}
        self.problems: Mapping[str, str] = problems
        """Why active connections cannot be used, by connection id."""
        self.prices = prices
        """What every model costs at every provider and node."""

    @classmethod
    def compile(
        cls,
        snapshot: Snapshot,
        catalogue: Catalogue,
        *,
        default_context: int = DEFAULT_CONTEXT,
        listings: Listings | None = None,
        prices: PriceRows | None = None,
    ) -> Directory:
        """Build the view of a snapshot: a few milliseconds for 70 connections and 5,000 models.

        `listings` and `prices` remember what they made of the snapshot before.
        """
        nodes = {node.id: provider_of_node(node) for node in snapshot.nodes}
        headers = {node.id: node for node in snapshot.nodes}
        legs: dict[str, list[Leg]] = {row.id: [_implicit_leg(row)] for row in catalogue if row.is_implicit}
        problems: dict[str, str] = {}
        scopes = _rest_scopes(snapshot.connections)
        for connection in sorted(snapshot.connections, key=lambda c: (c.priority, c.created_at, c.id)):
            provider = nodes.get(connection.provider) or catalogue.providers.get(connection.provider)
            if provider is None or not connection.is_active or provider.status is ProviderStatus.DISCONTINUED:
                continue
            try:
                leg = _leg(provider, connection, headers.get(provider.id), scopes[connection.id])
            except NotUsable as error:
                problems[connection.id] = str(error)
            else:
                legs.setdefault(provider.id, []).append(leg)
        usable = {provider_id: [leg.connection_id for leg in some] for provider_id, some in legs.items()}
        listed = (listings or Listings(catalogue)).of(snapshot, usable)
        for provider_id, some in legs.items():
            hidden = listed.get(provider_id, NO_MODELS).hidden
            legs[provider_id] = [
                replace(leg, default_model=None) if leg.default_model in hidden else leg for leg in some
            ]
        return cls(
            catalogue=catalogue,
            providers=_by_name(catalogue, nodes),
            legs={provider_id: tuple(some) for provider_id, some in legs.items()},
            problems=problems,
            prices=(prices or PriceRows(catalogue)).book(snapshot, listed),
            listings=listed,
            default_context=default_context,
            body_filters={name: BodyFilter.of(filters) for name, filters in snapshot.param_filters.items()},
        )

    # --- from a name to targets ----------------------------------------------------------------------------------

    def resolve(self, name: str) -> Targets:
        """Return every target of a model name, first choice first; never empty. Raises what :meth:`find` raises."""
        return tuple(target for option in self.find(name) for target in _targets_of(option))

    def resolve_at(self, provider_name: str, name: str) -> Targets:
        """Return every target of a model at one provider. Raises what :meth:`pinned` raises."""
        return tuple(target for option in self.pinned(provider_name, name) for target in _targets_of(option))

    def find(self, name: str) -> tuple[Option, ...]:
        """Return the options that a model name stands for, first choice first; never empty.

        `prefix/model`, where the prefix is a provider's prefix, id or alias or a node's prefix, goes to that provider,
        also for a model that nobody lists. Any other name is the id of a listed model; several connected providers may
        have it: its maker comes first, then the tiers by what a call costs. An effort at the end of a name that is not
        listed itself is taken off.

        Raises:
            InvalidRequest: the name is not one.
            ModelNotFound: extras `reason` is `unknown`, `no_connection` or `discontinued`.
            PermissionDenied: `model_not_allowed`, the operator has hidden it.
        """
        found = self._found.get(name)
        if found is not None:
            return found
        found = self._find(checked_name(name))
        if len(self._found) >= _CACHED_NAMES:
            self._found.clear()
        self._found[name] = found
        return found

    def pinned(self, provider_name: str, name: str) -> tuple[Option, ...]:
        """Return the option of a model at one provider, whose prefix the name may lack.

        Raises:
            NotFound: `provider_not_found`.
            InvalidRequest: the name is not one, or another provider's (`model_provider_mismatch`).
            ModelNotFound: the provider has no connection.
            PermissionDenied: `model_not_allowed`, the operator has hidden it.
        """
        provider = self.named_provider(provider_name)
        name = checked_name(name)
        if not self.listing(provider.id).knows(name):  # some have ids that look like another's prefix
            prefix, slash, model = name.partition("/")
            other = self._providers.get(prefix.lower()) if slash else None
            if other is not None and other.id != provider.id:
                raise InvalidRequest(
                    f"The model {name[:100]!r} belongs to another provider than {provider.prefix}: ask for "
                    f"'{provider.prefix}/…', or use the path without a provider.",
                    param="model",
                    code="model_provider_mismatch",
                )
            name = model if other is not None else name
        if provider.id not in self._legs:
            raise self._not_found(f"{provider.prefix}/{name}", provider, name)
        model, effort = self._split(provider, name)
        self._refuse_hidden(provider, model)
        return (self._option(provider, model, effort),)

    def option(self, provider_id: str, model: str, effort: Effort | None = None) -> Option:
        """Return a model at a connected provider, listed or not; the same object each time.

        Raises:
            KeyError: the provider has no usable connection.
        """
        return self._option(self._providers[provider_id.lower()], model, effort)

    def options(self) -> Iterator[tuple[Provider, Model]]:
        """Yield every listed model of every connected provider, without making its option."""
        for provider_id in self._legs:
            provider = self._providers[provider_id]
            for model in self.models_of(provider_id).values():
                yield provider, model

    def accounts_of(self, provider_id: str) -> tuple[Account, ...]:
        """Return the usable accounts of a provider in their order; empty when there is none."""
        return self._accounts.get(provider_id, ())

    def named_provider(self, name: str) -> Provider:
        """Return the provider or node with this id, prefix or alias.

        Raises:
            NotFound: `provider_not_found`.
        """
        provider = self.provider(name)
        if provider is None:
            raise NotFound(f"There is no provider {name[:100]!r}.", code="provider_not_found")
        return provider

    def _find(self, name: str) -> tuple[Option, ...]:
        prefix, slash, model = name.partition("/")
        provider = self._providers.get(prefix.lower()) if slash else None
        if provider is not None and provider.id in self._legs:
            model, effort = self._split(provider, model)
            self._refuse_hidden(provider, model)
            if provider.is_strict and model not in self.models_of(provider.id):
                raise _missing(
                    f"{provider.name} has no model {model!r}.", "unknown", self._suggestions(name, provider, model)
                )
            return (self._option(provider, model, effort),)
        holders, effort, bare = self._bare.get(name, ()), None, name
        if not holders:
            bare, effort = split_effort(name)
            holders = self._bare.get(bare, ())
        if not holders:
            if name in self._hidden or bare in self._hidden:
                raise _hidden(name)
            raise self._not_found(name, provider, model)
        if len(holders) > 1:
            holders = self._by_preference(bare, holders)
        return tuple(self._option(self._providers[holder], bare, effort) for holder in holders)

    def _by_preference(self, model: str, holders: tuple[str, ...]) -> tuple[str, ...]:
        """Order the providers of one model id: its maker, then the tiers by what a call costs, then by priority."""
        makers = makers_of(model)

        def rank(holder: str) -> tuple[int, int, int, str]:
            maker = makers.index(holder) if holder in makers else len(makers)
            tier = _TIERS.index(self._providers[holder].tier)
            return (maker, tier, self._legs[holder][0].account.priority, holder)

        return tuple(sorted(holders, key=rank))

    def _split(self, provider: Provider, model: str) -> tuple[str, Effort | None]:
        """Take an effort off a name that the provider's list does not have as it is, but without it."""
        listing = self.listing(provider.id)
        base, effort = split_effort(model)
        return (base, effort) if not listing.knows(model) and listing.knows(base) else (model, None)

    def _refuse_hidden(self, provider: Provider, model: str) -> None:
        if model in self.listing(provider.id).hidden:
            raise _hidden(f"{provider.prefix}/{model}")

    def _option(self, provider: Provider, model: str, effort: Effort | None = None) -> Option:
        key = (provider.id, model, effort)
        found = self._options.get(key)
        if found is not None:
            return found
        listing = self.listing(provider.id)
        facts = listing.facts(model)
        tariff = self.prices.tariff(provider.id, model)
        kind = cost_kind_of(provider, facts, tariff)
        handles = {}
        legs = self._legs[provider.id]
        able = [leg for leg in legs if listing.may_serve(model, leg.connection_id)] or legs
        for leg in able:
            endpoints = leg.endpoints
            if facts is not None and facts.formats:
                endpoints = {key: endpoint for key, endpoint in endpoints.items() if key in facts.formats}
            handles[leg.connection_id] = Target(
                provider,
                leg.connection_id,
                model,
                endpoints,
                facts,
                effort,
                tariff,
                kind,
                self._body_filters.get(provider.id),
            )
        window = self.context_of(provider, facts)
        made = option_of(
            provider,
            model,
            facts,
            self._accounts[provider.id] if len(able) == len(legs) else tuple(leg.account for leg in able),
            window=None if window.is_assumed else window.tokens,
            assumed_window=self.default_context,
            effort=None if effort is None else effort.value,
            tariff=tariff,
            handles=handles,
        )
        if len(self._options) >= _CACHED_OPTIONS:
            self._options.clear()
        self._options[key] = made
        return made

    def _not_found(self, name: str, provider: Provider | None, model: str) -> ModelNotFound:
        suggestions = self._suggestions(name, provider, model)
        if provider is None:
            owners = [row for row in self._catalogue if name in self.models_of(row.id) and _is_open(row)]
            if owners:
                names = " or ".join(row.name for row in owners[:_SUGGESTIONS])
                return _missing(f"The model {name!r} needs a connection to {names}.", "no_connection", suggestions)
            hint = f" Did you mean {' or '.join(suggestions)}?" if suggestions else ""
            return _missing(f"The model {name!r} does not exist.{hint}", "unknown", suggestions)
        if provider.status is ProviderStatus.DISCONTINUED:
            instead = f" Use {' or '.join(provider.replaced_by)} instead." if provider.replaced_by else ""
            return _missing(f"{provider.name} has been discontinued.{instead}", "discontinued", suggestions)
        message = f"The model {name!r} needs an active connection to {provider.name}; there is none."
        return _missing(message, "no_connection", suggestions)

    def _suggestions(self, name: str, provider: Provider | None, model: str) -> list[str]:
        """Return up to three names of connected providers that look like `name`."""
        wanted = (model if provider is not None else name.rpartition("/")[2])[:100].lower()
        candidates: dict[str, list[str]] = {}
        for model_id, holders in self._bare.items():
            tail = model_id.rpartition("/")[2].lower()
            if tail[:1] == wanted[:1] or tail in wanted or wanted in tail:  # the matcher itself is slow
                candidates.setdefault(tail, []).append(f"{self._providers[holders[0]].prefix}/{model_id}")
        close = difflib.get_close_matches(wanted, candidates, n=_SUGGESTIONS, cutoff=0.6)
        return [full for tail in close for full in candidates[tail]][:_SUGGESTIONS]

    # --- facts ---------------------------------------------------------------------------------------------------

    def context_of(self, provider: Provider, facts: Model | None) -> ContextWindow:
        """Return a model's window; the one answer for router, lists and pages."""
        if facts is not None and facts.context is not None:
            source = self.listing(provider.id).windows.get(facts.id, Source.BUILTIN)
            return ContextWindow(facts.context, source.value)
        if provider.default_context is not None and (facts is None or facts.kind is ModelKind.CHAT):
            return ContextWindow(provider.default_context, Source.BUILTIN.value)
        return ContextWindow(self.default_context, Source.DEFAULT.value)

    def provider(self, name: str) -> Provider | None:
        """Return the provider or node with this id, prefix or alias, in any case."""
        return self._providers.get(name.lower())

    def providers(self) -> Iterable[Provider]:
        """Return the rows of the catalogue, then the nodes, each once."""
        return {row.id: row for row in (*self._catalogue, *self._providers.values())}.values()

    def legs_of(self, provider_id: str) -> tuple[Leg, ...]:
        """Return the usable connections of a provider in their order; empty when there is none."""
        return self._legs.get(provider_id, ())

    def models_of(self, provider_id: str) -> Mapping[str, Model]:
        """Return the known models of a provider or node, without those that the operator has hidden."""
        return self.listing(provider_id).models

    def holders_of(self, model: str) -> list[str]:
        """Return the ids of the providers and nodes, connected or not, that have a model which is not hidden."""
        providers = self._providers
        return [name for name, found in self._listings.items() if model in found.models and name.lower() in providers]

    def listing(self, provider_id: str) -> Listing:
        """Return everything that is known about the models of a provider or node."""
        return self._listings.get(provider_id, NO_MODELS)


def checked_name(name: str) -> str:
    """Return a model name as it is looked up.

    Raises:
        InvalidRequest: it is too long, or holds what no model name has.
    """
    if len(name) > MAX_NAME:
        raise InvalidRequest(f"'model' must have at most {MAX_NAME} characters.", param="model")
    name = name.strip().removeprefix(_GEMINI_PREFIX).removesuffix(_LONG_WINDOW)
    if not name or len(name.partition("/")[2] or name) > MAX_MODEL_ID:
        raise InvalidRequest(f"'model' must have 1 to {MAX_MODEL_ID} characters.", param="model")
    if _UNFIT.search(name):
        raise InvalidRequest("'model' holds characters or path segments that no model name has.", param="model")
    return name


def _missing(message: str, reason: str, suggestions: list[str]) -> ModelNotFound:
    return ModelNotFound(
        message, param="model", should_retry=False, extras={"reason": reason, "suggestions": suggestions}
    )


def _hidden(name: str) -> PermissionDenied:
    return PermissionDenied(
        f"The operator has hidden the model {name[:100]!r}.", code="model_not_allowed", param="model"
    )


def _is_open(row: Provider) -> bool:
    return row.status is not ProviderStatus.DISCONTINUED


def _by_name(catalogue: Catalogue, nodes: Mapping[str, Provider]) -> dict[str, Provider]:
    names = dict(catalogue.by_name)
    for node in nodes.values():
        names.setdefault(node.prefix.lower(), node)
        names[node.id.lower()] = node
    return names


def _implicit_leg(provider: Provider) -> Leg:
    return Leg(provider.id, MappingProxyType(prepare(provider, None, {})), implicit_account(provider))


def _targets_of(option: Option) -> Iterator[Target]:
    yield from option.handles.values()


def _rest_scopes(connections: Iterable[Connection]) -> dict[str, str]:
    """Return whom a limit of each connection rests: all that hold the same key rest together, under the oldest's id."""
    scopes: dict[str, str] = {}
    oldest: dict[tuple[str, str], str] = {}
    for connection in sorted(connections, key=lambda c: (c.created_at, c.id)):
        first = connection.id
        if connection.credential is not None:
            first = oldest.setdefault((connection.provider, connection.credential.reveal()), connection.id)
        scopes[connection.id] = f"connection:{first}"
    return scopes


def _leg(provider: Provider, connection: Connection, node: Node | None, rest_scope: str) -> Leg:
    if connection.is_unreadable:
        raise NotUsable("apiKey", "The stored key cannot be opened with the present encryption key.")
    if connection.auth_type is AuthType.NONE:
        if AuthKind.NONE not in provider.auth:
            raise NotUsable("apiKey", f"{provider.name} needs a key.")
        credential = None
    elif connection.credential is None:
        raise NotUsable("apiKey", "The connection has no key.")
    else:
        credential = connection.credential
    own_headers = node.custom_headers if node is not None else None
    endpoints = prepare(
        provider, credential, connection.provider_data, secret_headers=own_headers, connection_id=connection.id
    )
    account = account_of(provider, connection, rest_scope)
    return Leg(connection.id, MappingProxyType(endpoints), account, connection.default_model)


class Directories:
    """Holds the directory of the current snapshot; `current` is a plain attribute read."""

    def __init__(
        self, catalogue: Catalogue, snapshot: Snapshot, *, default_context: int | Callable[[], int] = DEFAULT_CONTEXT
    ) -> None:
        """`default_context`: the window of models of which nobody states one; looked at with every new snapshot."""
        self.catalogue = catalogue
        self._assumed = default_context if callable(default_context) else lambda: default_context
        self._default_context = self._assumed()
        self._of = snapshot
        self._listings = Listings(catalogue)
        self._prices = PriceRows(catalogue)
        self.current = self._compiled(snapshot)

    def rebuild(self, snapshot: Snapshot) -> None:
        """Follow a new snapshot; one in which nothing differs that models depend on keeps the compiled view."""
        known, self._of = self._of, snapshot
        window, self._default_context = self._default_context, self._assumed()
        if window != self._default_context or any(getattr(snapshot, n) != getattr(known, n) for n in _DEPENDED_ON):
            self.current = self._compiled(snapshot)

    def _compiled(self, snapshot: Snapshot) -> Directory:
        return Directory.compile(
            snapshot,
            self.catalogue,
            default_context=self._default_context,
            listings=self._listings,
            prices=self._prices,
        )

    def beside(self) -> Directories:
        """Return a holder of the same directory that follows others' snapshots: those that are only tried.

        It keeps nothing in common that changes: it may be used in another thread.
        """
        return Directories(self.catalogue, self._of, default_context=self._assumed)

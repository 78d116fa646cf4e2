"""From the name in a request to the block that is planned with, for a caller who may use some of it.

    Resolver.resolve(name, caller=…) -> Resolved      what the name stands for, and what the caller's key permits of it
    Resolver.chain_for(name, tried)  -> Chain | None  what the operator set up for when all of it has failed

A resolver belongs to one configuration. What a name stands for is compiled once and kept, so that a request for a known
name costs a look-up; only the rules of the caller's key are judged each time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from omniroute.errors import InvalidRequest, MissingField, ModelNotFound, PermissionDenied
from omniroute.gateway.blocks import Blocks, ChannelPools, ComboDefaults, Lookup, Scores, walked, without
from omniroute.gateway.directory import Directories, Directory
from omniroute.records import ApiKey, Combo, FallbackChain, Snapshot
from omniroute.routing.asked import DEFAULT_AFFINITY_TTL_MS, DEFAULT_STICKY_LIMIT, DEFAULT_SWITCH_MARGIN, AccountRules
from omniroute.routing.config import ComboConfig
from omniroute.routing.options import Account, AccountStrategy, Block, Option, Step
from omniroute.routing.patterns import matches
from omniroute.routing.resolve import COMBO_PREFIX, Book, Hop, Kind, Resolution, cleaned, is_auto, resolve
from omniroute.services.access import Caller, ModelRules, glob_matches

_CACHED_NAMES: Final = 4096
"""Names are chosen by callers, so what is remembered about them is bounded."""
_LISTED: Final = 10
_SHOWN: Final = 200
_DEPENDED_ON: Final = ("combos", "aliases", "combo_patterns", "chains", "provider_routing", "channels", "settings")
"""Parts of a snapshot."""
_Key = tuple[str | None, str | None]
"""The name as it was sent, None without one; the provider that the path names."""
Permits = Callable[[Option, Account], bool]


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a request is planned with.

    Attributes:
        requested: the name as the caller sent it; the default combo's where none was sent.
        permits: what the caller's key allows; None when it has no such rules.
    """

    block: Block
    trace: tuple[Hop, ...]
    kind: Kind
    requested: str
    combo: Combo | None = None
    channel: str = ""
    permits: Permits | None = None

    @property
    def options(self) -> tuple[Option, ...]:
        """Every option of the block, in the order of the list."""
        found: dict[str, Option] = {}
        walked(self.block, lambda step: _note(found, step))
        return tuple(found.values())


def _note(found: dict[str, Option], step: Step) -> None:
    if step.option is not None and step.problem is None:
        found.setdefault(step.option.name, step.option)


@dataclass(frozen=True, slots=True)
class Chain:
    """A fallback chain without what was tried already."""

    name: str
    block: Block


@dataclass(frozen=True, slots=True)
class _Known:
    """What is kept of a name: what it is for a caller without rules, the aliases followed, and its options."""

    unrestricted: Resolved
    alias_ids: tuple[str, ...]
    options: tuple[Option, ...]


class Resolver:
    """Resolves names under one configuration. Immutable but for what it remembers about names it was asked."""

    def __init__(
        self,
        lookup: Lookup,
        snapshot: Snapshot,
        *,
        pools: ChannelPools | None = None,
        scores: Scores = lambda _model: None,
        on_alias: Callable[[Sequence[str]], None] = lambda _ids: None,
    ) -> None:
        """`scores` rates models for combos that choose by score.

        `on_alias` is told the aliases that a request followed; it must be quick and not raise.
        """
        self.snapshot = snapshot
        self.book = Book(snapshot.combos, snapshot.aliases, snapshot.combo_patterns)
        self.rules = account_rules(snapshot)
        """How the accounts of an option are ordered."""
        self.defaults = ComboDefaults.stored(snapshot.settings)
        self._lookup = lookup
        self._blocks = Blocks(
            book=self.book,
            lookup=lookup,
            pools=pools,
            defaults=self.defaults,
            provider_routing=snapshot.provider_routing,
            scores=scores,
        )
        self._on_alias = on_alias
        self._refuses_ambiguous = snapshot.settings.get(("routing", "ambiguousModelPolicy")) == "refuse"
        self._default = next((combo for combo in snapshot.combos if combo.is_default and combo.is_active), None)
        self._chains = tuple(chain for chain in snapshot.chains if chain.enabled)
        self._chain_blocks: dict[str, Block] = {}
        self._known: dict[_Key, _Known] = {}

    def resolve(self, model: str | None, *, provider: str | None = None, caller: Caller) -> Resolved:
        """Return what a name stands for; without a name, the default combo.

        Args:
            model: the name as it was sent.
            provider: the only provider that may serve it, where the path names one.
            caller: whose key decides what of it may be used.

        Raises:
            InvalidRequest: it is no name, or stands for something that this path does not take.
            MissingField: there is none, and no default combo.
            ModelNotFound: nothing has this name.
            PermissionDenied: `model_not_allowed`, nothing of it may be used.
        """
        known = self._known.get((model, provider))
        if known is None:
            known = self._remembered((model, provider), caller)
        if known.alias_ids:
            self._on_alias(known.alias_ids)
        found = known.unrestricted
        if caller.key is None:
            return found
        permits = permits_of(caller, found.requested, found.combo)
        if permits is not None:
            _refuse_all_forbidden(known, permits, caller)
        block = found.block
        if found.kind is Kind.CHANNEL:
            block = self._blocks.of_channel(found.channel, caller.key_id)
        return found if permits is None and block is found.block else replace(found, block=block, permits=permits)

    def block_of(self, combo: Combo) -> Block:
        """Return the block of a combo, also of one that is not stored or not active."""
        return self._blocks.of_combo(combo)

    def settings_of(self, combo: Combo) -> ComboConfig:
        """Return the settings in force for a combo."""
        return self.defaults.effective(combo)[0]

    def channel(self, channel: str, key_id: str = "") -> Block:
        """Return the pool of a channel as it is tuned for a key; "" is nobody in particular."""
        return self._blocks.of_channel(channel, key_id)

    def accounts_of(self, provider_id: str) -> Sequence[Account]:
        """Return the usable accounts of a provider in their order."""
        return self._lookup.accounts_of(provider_id)

    def chain_for(self, requested: str, tried: Collection[str]) -> Chain | None:
        """Return the first chain that matches a requested name, without the options that were tried.

        None when no chain matches, or when nothing of it is left. A chain's entries are resolved like any name; a
        channel counts as the last entry only, and chains lead to no further chains.
        """
        chain = self._chain_of(cleaned(requested)) if self._chains else None
        if chain is None:
            return None
        block = self._chain_blocks.get(chain.id)
        if block is None:
            block = self._chain_blocks[chain.id] = self._blocks.of_names(chain.models, chain.name)
        rest = without(block, frozenset(tried))
        return Chain(chain.name, rest) if rest.steps else None

    def _chain_of(self, requested: str) -> FallbackChain | None:
        return next((c for c in self._chains if any(matches(pattern, requested) for pattern in c.match)), None)

    # --- from a name to a block ----------------------------------------------------------------------------------

    def _remembered(self, key: _Key, caller: Caller) -> _Known:
        name, provider = key
        try:
            known = self._compiled(name, provider)
        except ModelNotFound:
            if name is not None:
                caller.check_model(name)  # a key that may not use it need not know that there is none
            raise
        if len(self._known) >= _CACHED_NAMES:
            self._known.clear()
        self._known[key] = known
        return known

    def _compiled(self, name: str | None, provider: str | None) -> _Known:
        if name is None:
            resolution = self._defaulted(provider)
        elif provider is not None:
            resolution = self._pinned(provider, name)
        else:
            resolution = resolve(name, self.book, self._find)
        match resolution.kind:
            case Kind.COMBO if resolution.combo is not None:
                block = self._blocks.of_combo(resolution.combo)
            case Kind.CHANNEL:
                block = self._blocks.of_channel(resolution.channel)
            case _:
                block = self._blocks.of_options(resolution.options)
                self._refuse_blocked(resolution.options)
        found: dict[str, Option] = {}
        walked(block, lambda step: _note(found, step))
        requested = name if name is not None else block.name
        unrestricted = Resolved(
            block, resolution.trace, resolution.kind, requested, resolution.combo, resolution.channel
        )
        return _Known(unrestricted, resolution.alias_ids, tuple(found.values()))

    def _defaulted(self, provider: str | None) -> Resolution:
        combo = self._default
        if combo is None or provider is not None:
            raise MissingField("The field 'model' is required.", param="model")
        return Resolution(Kind.COMBO, (Hop("default", "", combo.name),), combo=combo)

    def _pinned(self, provider: str, name: str) -> Resolution:
        """Resolve at one provider. Its models come first; what else a name may stand for must lead to it."""
        wanted = current = cleaned(name)
        trace: list[Hop] = []
        alias_ids: list[str] = []
        if not self._is_listed_at(provider, wanted):
            if wanted in self.book.combos or wanted.startswith(COMBO_PREFIX) or is_auto(wanted):
                raise _not_at(provider, wanted)
            rule = next(self.book.aliases.exact(wanted), None)
            if rule is not None:
                current = rule.row.name
                trace.append(Hop("alias", wanted, current))
                if current.startswith(COMBO_PREFIX) or current in self.book.combos or is_auto(current):
                    raise _not_at(provider, wanted)
                alias_ids += [rule.row.alias_id] if rule.row.alias_id is not None else []
        options = tuple(self._lookup.pinned(provider, current))
        trace.append(Hop("provider", current, ", ".join(option.name for option in options)))
        return Resolution(Kind.OPTIONS, tuple(trace), options=options, alias_ids=tuple(alias_ids))

    def _is_listed_at(self, provider: str, name: str) -> bool:
        row = self._lookup.provider(provider)
        return row is not None and name in self._lookup.models_of(row.id)

    def _find(self, name: str) -> Sequence[Option]:
        options = self._lookup.find(name)
        if self._refuses_ambiguous and len(options) > 1:
            names = [option.name for option in options[:_LISTED]]
            raise InvalidRequest(
                f"Several providers have the model {name!r}: ask for {' or '.join(names)}.",
                param="model",
                code="ambiguous_model",
                extras={"candidates": names},
            )
        return options

    def _refuse_blocked(self, options: Sequence[Option]) -> None:
        if all(self._blocks.is_blocked(option) for option in options):
            raise PermissionDenied(
                f"The operator has blocked the provider of {options[0].name[:_SHOWN]!r}.",
                code="model_not_allowed",
                param="model",
            )


# --- what a key may use ----------------------------------------------------------------------------------------------


def permits_of(caller: Caller, requested: str, combo: Combo | None = None) -> Permits | None:
    """Return what says whether a caller may use an option on an account; None when his key has no such rules.

    The model lists judge the name that was asked for, with a combo also by its own name, and each option. A combo that
    the key does not list gives nothing.
    """
    key = caller.key
    if key is None:
        return None
    if combo is not None and not may_use_combo(key, combo):
        return lambda _option, _account: False
    rules, connections = caller.models, frozenset(key.allowed_connections)
    if not rules.allowed and not rules.blocked and not connections:
        return None
    names = (requested,) if combo is None or combo.name == requested else (requested, combo.name)
    admitted: dict[str, bool] = {}

    def permits(option: Option, account: Account) -> bool:
        if connections and account.id not in connections:
            return False
        is_admitted = admitted.get(option.name)
        if is_admitted is None:
            is_admitted = admitted[option.name] = _admits(rules, names, option.name)
        return is_admitted

    return permits


def may_use_combo(key: ApiKey, combo: Combo) -> bool:
    """Say whether a key's list of combos admits a combo; an empty one admits all."""
    return is_listed(key.allowed_combos, combo)


def is_listed(allowed: Sequence[str], combo: Combo) -> bool:
    """Say whether a list of ids and globs on names admits a combo; an empty one admits all."""
    return not allowed or any(entry == combo.id or glob_matches(entry, combo.name) for entry in allowed)


def _admits(rules: ModelRules, names: Sequence[str], target: str) -> bool:
    """Judge every name that was used: one that is blocked refuses, one that is allowed suffices."""
    blocks, allows = ModelRules(blocked=rules.blocked), ModelRules(allowed=rules.allowed)
    return all(blocks.admit(name, target) for name in names) and any(allows.admit(name, target) for name in names)


def _refuse_all_forbidden(known: _Known, permits: Permits, caller: Caller) -> None:
    """Refuse a name of which a key may use nothing.

    Raises:
        PermissionDenied: `model_not_allowed`.
    """
    requested, combo = known.unrestricted.requested, known.unrestricted.combo
    if combo is not None and caller.key is not None and not may_use_combo(caller.key, combo):
        raise _forbidden(f"This API key may not use the combo {combo.name!r}.")
    if not known.options or any(permits(option, account) for option in known.options for account in option.accounts):
        return
    names = (requested,) if combo is None else (requested, combo.name)
    if any(_admits(caller.models, names, option.name) for option in known.options):
        raise _forbidden("This API key may not use the connections of this provider.")
    raise _forbidden(f"This API key may not use the model {requested[:_SHOWN]!r}.")


def _forbidden(message: str) -> PermissionDenied:
    return PermissionDenied(message, code="model_not_allowed", param="model")


def _not_at(provider: str, name: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name[:_SHOWN]!r} is not a model of {provider[:_SHOWN]}: use the path without a provider.",
        param="model",
        code="model_provider_mismatch",
    )


# --- settings --------------------------------------------------------------------------------------------------------


def account_rules(snapshot: Snapshot) -> AccountRules:
    """Return how accounts are ordered under a configuration; stored values that do not fit count as not given."""
    given = {name: value for (section, name), value in snapshot.settings.items() if section == "routing"}
    strategy = _strategy(given.get("accountStrategy")) or AccountStrategy.FILL_FIRST
    sticky = _whole(given.get("stickyLimit"), DEFAULT_STICKY_LIMIT)
    margin = given.get("switchMargin")
    return AccountRules(
        strategy=strategy,
        sticky_limit=sticky,
        by_provider={
            name: (_strategy(own.account_strategy) or strategy, own.sticky_limit or sticky)
            for name, own in snapshot.provider_routing.items()
            if own.account_strategy is not None or own.sticky_limit is not None
        },
        affinity_ttl_ms=_whole(given.get("sessionAffinityTtlMs"), DEFAULT_AFFINITY_TTL_MS),
        has_cache_affinity=given.get("cacheAffinity") is not False,
        switch_margin=float(margin) if isinstance(margin, int | float) else DEFAULT_SWITCH_MARGIN,
    )


def _strategy(value: Any) -> AccountStrategy | None:
    return AccountStrategy(value) if value in frozenset(AccountStrategy) else None


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) else default


class Resolvers:
    """Holds the resolver of the current snapshot; `current` is a plain attribute read.

    To be told of new snapshots after the directories.
    """

    def __init__(
        self,
        directories: Directories,
        snapshot: Snapshot,
        *,
        pools: Callable[[Directory, Snapshot], ChannelPools] | None = None,
        scores: Scores = lambda _model: None,
        on_alias: Callable[[Sequence[str]], None] = lambda _ids: None,
    ) -> None:
        """`pools` makes the pools of a configuration; without it channels are empty. The rest: see Resolver."""
        self._scores = scores
        self._directories = directories
        self._pools = pools
        self._on_alias = on_alias
        self._directory = directories.current
        self.current = self._made(snapshot)

    def rebuild(self, snapshot: Snapshot) -> None:
        """Follow a new snapshot; one in which nothing differs that names depend on keeps what is compiled."""
        directory = self._directories.current
        if directory is not self._directory or _differs(snapshot, self.current.snapshot):
            self._directory = directory
            self.current = self._made(snapshot)

    def beside(self, directories: Directories) -> Resolvers:
        """Return the same over other directories, those of a configuration that is only tried."""
        return Resolvers(directories, self.current.snapshot, pools=self._pools, scores=self._scores)

    def _made(self, snapshot: Snapshot) -> Resolver:
        pools = self._pools(self._directory, snapshot) if self._pools is not None else None
        return Resolver(self._directory, snapshot, pools=pools, scores=self._scores, on_alias=self._on_alias)


def _differs(new: Snapshot, old: Snapshot) -> bool:
    return any(getattr(new, name) != getattr(old, name) for name in _DEPENDED_ON)

"""The lines of the model lists: every model, combo and channel that can be called, rendered once.

A provider's lines are made anew when something about that provider changes; thousands of others stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final

import msgspec

from omniroute.formats.wire import WireFormat
from omniroute.gateway.directory import ContextWindow, Directory, Target
from omniroute.gateway.listings import Listing, Origin
from omniroute.money.book import PriceBook
from omniroute.providers.spec import Model, ModelKind, Provider, Tier
from omniroute.routing.options import Need
from omniroute.services.groups import AUTO, COMBO, Group

# The models of the built-in list carry the date of that list; providers do not tell when a model was made.
LISTED_AT: Final = 1_795_219_200
LISTED_DAY: Final = "2026-11-21T00:00:00Z"

encode: Final = msgspec.json.Encoder().encode
_ID: Final = b'{"id":'

_SPOKEN: Final = frozenset(WireFormat) - {WireFormat.OTHER}
_ENDPOINTS: Final = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1beta/models/{model}:generateContent",
    "/api/chat",
)
"""Every model that converses answers at all of them: what it does not speak itself is translated."""
_OUTPUT: Final[Mapping[ModelKind, tuple[str, ...]]] = {
    ModelKind.CHAT: ("text",),
    ModelKind.EMBEDDING: ("embedding",),
    ModelKind.IMAGE: ("image",),
    ModelKind.AUDIO: ("audio",),
    ModelKind.VIDEO: ("video",),
    ModelKind.MUSIC: ("audio",),
    ModelKind.RERANK: ("score",),
    ModelKind.MODERATION: ("score",),
    ModelKind.SEARCH: ("text",),
    ModelKind.OCR: ("text",),
}
_SHOWN_CAPABILITIES: Final = ("tools", "vision", "reasoning", "json_schema")
_SHOWN_NEEDS: Final[Mapping[str, str]] = {
    Need.TOOLS: "tools",
    Need.VISION: "vision",
    Need.REASONING: "reasoning",
    Need.SCHEMA: "json_schema",
}
_OWNERS: Final = {name: Provider(name, name, name) for name in (COMBO, AUTO)}
"""What stands for the provider of names that lead to several."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list: what filters look at, and what is rendered of it."""

    name: str
    provider: Provider
    model: Model
    connection_ids: frozenset[str]
    is_free: bool
    window: int
    """Tokens, an assumed window included."""
    rendered: bytes
    """The OpenAI form."""
    canonical: str | None = None
    """The name with the provider's id before the slash, where that is another."""
    group: Group | None = None
    """What a name for several targets stands for; None for a model."""

    @property
    def rendered_canonical(self) -> bytes:
        """The OpenAI form under the provider's id."""
        if self.canonical is None:
            return self.rendered
        return _ID + encode(self.canonical) + self.rendered[len(_ID) + len(encode(self.name)) :]

    @property
    def rendered_anthropic(self) -> bytes:
        """The Anthropic form."""
        title = self.model.name or self.model.id
        return encode({"type": "model", "id": self.name, "display_name": title, "created_at": LISTED_DAY})


@dataclass(frozen=True, slots=True)
class _Made:
    """A provider's lines and what they were made of."""

    provider: Provider
    listing: Listing
    prices: PriceBook
    default_context: int
    legs: tuple[tuple[str, str | None, frozenset[WireFormat]], ...]
    entries: tuple[Entry, ...] = ()
    digest: bytes = b""

    def is_of(self, other: _Made) -> bool:
        """Say whether another is made of the same."""
        return (
            self.listing is other.listing
            and self.prices is other.prices
            and self.provider == other.provider
            and self.default_context == other.default_context
            and self.legs == other.legs
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """The lines of all single models, and what is another when they are."""

    entries: tuple[Entry, ...]
    digest: bytes


class Lines:
    """Makes the lines of single models; what a provider's are made of being the same, they are the same."""

    def __init__(self) -> None:
        self._made: dict[str, _Made] = {}

    def of(self, directory: Directory, *, pause: Callable[[], None] = lambda: None) -> Listed:
        """Return what can be called now, real providers first and the simulated one last.

        `pause` is called between two providers, so that others get their turn.
        """
        rows = [row for row in directory.providers() if directory.legs_of(row.id)]
        rows.sort(key=lambda row: row.is_implicit)
        made: dict[str, _Made] = {}
        for row in rows:
            made[row.id] = self._of_provider(directory, row)
            if made[row.id] is not self._made.get(row.id):
                pause()
        self._made = made
        return Listed(
            tuple(entry for one in made.values() for entry in one.entries),
            digest_of(one.digest for one in made.values()),
        )

    def _of_provider(self, directory: Directory, row: Provider) -> _Made:
        legs = tuple(
            (leg.connection_id, leg.default_model, frozenset(leg.endpoints)) for leg in directory.legs_of(row.id)
        )
        listing, known = directory.listing(row.id), self._made.get(row.id)
        wanted = _Made(row, listing, directory.prices, directory.default_context, legs)
        if known is not None and known.is_of(wanted):
            return known
        entries = tuple(_entries(directory, row))
        return replace(wanted, entries=entries, digest=digest_of_entries(entries))


def digest_of_entries(entries: Iterable[Entry]) -> bytes:
    """Return what is another when a line is."""
    return digest_of(entry.rendered for entry in entries)


def digest_of(parts: Iterable[bytes]) -> bytes:
    """Return a short digest of parts and of where each ends."""
    digest = blake2b(digest_size=12)
    for part in parts:
        digest.update(part)
        digest.update(b"\0")
    return digest.digest()


def _entries(directory: Directory, row: Provider) -> Iterator[Entry]:
    legs = directory.legs_of(row.id)
    listing = directory.listing(row.id)
    connection_ids = frozenset(leg.connection_id for leg in legs)
    formats = frozenset(key for leg in legs for key in leg.endpoints)
    # What an operator named is known to exist, also at a provider or node without a list.
    defaults = dict.fromkeys(leg.default_model for leg in legs if leg.default_model)
    own = [listing.facts(model_id) or Model(model_id) for model_id in defaults if not listing.knows(model_id)]
    shared: dict[str, frozenset[str]] = {}
    for model in (*listing.models.values(), *own):
        if not _converses(model, formats):
            continue
        holders = connection_ids
        if model.id in listing.holders:
            able = frozenset(one for one in connection_ids if listing.may_serve(model.id, one))
            holders = shared.setdefault(",".join(sorted(able)), able)
        yield _entry(directory, row, model, holders)


def unlisted_entry(directory: Directory, target: Target) -> Entry:
    """Return the line of a model at a node that has no list."""
    connection_ids = frozenset(leg.connection_id for leg in directory.legs_of(target.provider.id))
    return _entry(directory, target.provider, target.facts or Model(target.model), connection_ids)


def _converses(model: Model, formats: frozenset[WireFormat]) -> bool:
    spoken = formats.intersection(model.formats) if model.formats else formats
    return model.kind is ModelKind.CHAT and not spoken.isdisjoint(_SPOKEN)


def _entry(directory: Directory, row: Provider, model: Model, connection_ids: frozenset[str]) -> Entry:
    name = f"{row.prefix}/{model.id}"
    window, free = directory.context_of(row, model), is_free(directory, row, model)
    return Entry(
        name=name,
        provider=row,
        model=model,
        connection_ids=connection_ids,
        is_free=free,
        window=window.tokens,
        rendered=encode({"id": name, **_facts(directory, row, model, window, free=free)}),
        canonical=None if row.id == row.prefix else f"{row.id}/{model.id}",
    )


def is_free(directory: Directory, row: Provider, model: Model) -> bool:
    """Say whether a call costs nothing; what the operator has set a price for does not."""
    is_offered = model.is_free or row.tier in (Tier.FREE, Tier.LOCAL)
    return is_offered and not directory.prices.is_overridden(row.id, model.id)


def prices_of(directory: Directory, row: Provider, model: Model, names: Mapping[str, str]) -> dict[str, float] | None:
    """Return the prices in force under other names; None where nobody states one."""
    listed = directory.prices.row(row.id, model.id)
    if listed is None:
        return None
    given = ((name, getattr(listed, column)) for name, column in names.items())
    return {name: float(usd) for name, usd in given if usd is not None}


_PRICES: Final = {"input": "input", "output": "output", "cached": "cache_read"}


def _facts(directory: Directory, row: Provider, model: Model, window: ContextWindow, *, free: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "object": "model",
        "created": LISTED_AT,
        "owned_by": row.id,
        "root": model.id,
        "parent": None,
        "name": model.name or model.id,
        "type": model.kind,
        # An assumed window is a planning figure, not a fact about the model.
        "context_length": None if window.is_assumed else window.tokens,
        "context_source": window.source,
        "max_output_tokens": model.max_output,
        "input_modalities": model.input or ("text",),
        "output_modalities": _OUTPUT[model.kind],
        "capabilities": {
            **{name: name in model.capabilities for name in _SHOWN_CAPABILITIES},
            "streaming": model.kind is ModelKind.CHAT,
        },
        "supported_endpoints": _ENDPOINTS,
    }
    if model.subtype is not None:
        facts["subtype"] = model.subtype
    pricing = prices_of(directory, row, model, _PRICES)
    if pricing is not None:
        facts["pricing"] = pricing
    if free:
        facts["free"] = True
    listing = directory.listing(row.id)
    if listing.origin(model.id) is Origin.CUSTOM or not listing.knows(model.id):
        facts["custom"] = True
    return facts


# --- names for several targets ---------------------------------------------------------------------------------------


def group_entries(groups: Iterable[Group], default_context: int) -> list[Entry]:
    """Return the lines of combos and channels."""
    return [_group_entry(group, default_context) for group in groups]


def _group_entry(group: Group, default_context: int) -> Entry:
    capabilities = shown_needs(group)
    model = Model(
        group.name,
        context=group.context,
        max_output=group.max_output,
        capabilities=tuple(name for name, has_it in capabilities.items() if has_it),
        input=("text", "image") if capabilities["vision"] else ("text",),
    )
    source = None if group.context is None else "override" if group.is_context_set else "builtin"
    facts = {
        "id": group.name,
        "object": "model",
        "created": LISTED_AT,
        "owned_by": group.owner,
        "root": group.name,
        "parent": None,
        "name": group.name,
        "type": ModelKind.CHAT,
        "context_length": group.context,
        "context_source": source or "default",
        "max_output_tokens": group.max_output,
        "input_modalities": model.input,
        "output_modalities": _OUTPUT[ModelKind.CHAT],
        "capabilities": {**capabilities, "streaming": True},
        "supported_endpoints": _ENDPOINTS,
    }
    return Entry(
        name=group.name,
        provider=_OWNERS[group.owner],
        model=model,
        connection_ids=group.connection_ids,
        is_free=group.is_free,
        window=group.context or default_context,
        rendered=encode({**facts, "free": True} if group.is_free else facts),
        group=group,
    )


def shown_needs(group: Group) -> dict[str, bool]:
    """Return what all targets of a name can do, by the words of the lists."""
    return {name: need in group.capabilities for need, name in _SHOWN_NEEDS.items()}

"""The model lists: what `/v1/models` offers a key, and the whole catalogue for the dashboard.

A list is rendered once per configuration; a request filters ready pieces and joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final

import msgspec

from omniroute.errors import ModelNotFound
from omniroute.formats.wire import WireFormat
from omniroute.gateway.directory import Directories, Directory, Target
from omniroute.gateway.resolver import Resolver, is_listed
from omniroute.providers.spec import Model, ModelKind, Provider, Tier
from omniroute.routing.options import Need
from omniroute.services.groups import AUTO, COMBO, Group, groups_of
from omniroute.services.model_shapes import gemini_model, ollama_show, ollama_tag

# The models of the built-in list carry the date of that list; providers do not tell when a model was made.
LISTED_AT: Final = 1_795_219_200
_LISTED_DAY: Final = "2026-11-21T00:00:00Z"
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
_encode: Final = msgspec.json.Encoder().encode


class Naming(StrEnum):
    """Which name stands before the slash in a list."""

    ALIAS = "alias"
    CANONICAL = "canonical"
    DUAL = "dual"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list: what filters look at, and the rendered forms."""

    name: str
    provider: Provider
    model: Model
    connection_ids: frozenset[str]
    is_free: bool
    rendered: bytes
    """The OpenAI form under `name`."""
    rendered_canonical: bytes | None
    """The same under the provider's id, where that is another name."""
    rendered_anthropic: bytes
    """The Anthropic form."""
    group: Group | None = None
    """What a name for several targets stands for; None for a model."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What one caller asks for and may see."""

    naming: Naming = Naming.ALIAS
    kind: str | None = None
    provider: str | None = None
    may_use: Callable[..., bool] | None = None
    """Whether the key's lists admit a name, and a target behind it."""
    connections: frozenset[str] = frozenset()
    combos: tuple[str, ...] = ()
    only_free: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether nothing restricts the list."""
        return self == Filters()


@dataclass(frozen=True, slots=True)
class Rendered:
    """A list ready to send. `version` is that of the whole catalogue, `etag` that of these bytes."""

    body: bytes
    etag: str
    version: str
    total: int


class _View:
    """What is prepared for one directory."""

    __slots__ = (
        "_gemini",
        "_ollama",
        "by_name",
        "catalog",
        "directory",
        "entries",
        "models",
        "plain",
        "resolver",
        "version",
    )

    def __init__(self, directory: Directory, resolver: Resolver | None, before: _View | None) -> None:
        self.directory = directory
        self.resolver = resolver
        is_same = before is not None and before.directory is directory
        self.models: tuple[Entry, ...] = before.models if before is not None and is_same else tuple(_entries(directory))
        """The entries of single models, which outlast changes of combos."""
        groups = [_group_entry(group) for group in groups_of(resolver)] if resolver is not None else []
        taken = {entry.name for entry in groups}  # a combo with the name of a model is what answers to it
        self.entries = (*(entry for entry in self.models if entry.name not in taken), *groups)
        self.by_name = {entry.name: entry for entry in self.entries}
        for entry in self.models:
            self.by_name.setdefault(f"{entry.provider.id}/{entry.model.id}", entry)
        self.version = _digest(entry.rendered for entry in self.entries)
        self.plain: Rendered | None = None
        self.catalog: bytes | None = None
        self._gemini: dict[str, bytes] = {}
        self._ollama: dict[str, bytes] = {}

    def gemini(self, entry: Entry) -> bytes:
        """Return an entry in Gemini's shape, rendered once."""
        line = self._gemini.get(entry.name)
        if line is None:
            line = self._gemini[entry.name] = _encode(gemini_model(entry.name, entry.model, self.window(entry)))
        return line

    def ollama(self, entry: Entry) -> bytes:
        """Return an entry as Ollama lists it, rendered once."""
        line = self._ollama.get(entry.name)
        if line is None:
            line = self._ollama[entry.name] = _encode(ollama_tag(entry.name, entry.model, _LISTED_DAY))
        return line

    def window(self, entry: Entry) -> int:
        """Return the context window of an entry in tokens."""
        return self.directory.context_of(entry.provider, entry.model).tokens


class Models:
    """Answers model lists from the compiled directory."""

    def __init__(self, *, directories: Directories, resolver: Callable[[], Resolver] | None = None) -> None:
        """With `resolver` the lists hold combos and channels too."""
        self._directories = directories
        self._resolver = resolver
        self._known: _View | None = None

    # --- for clients ---------------------------------------------------------------------------------------------

    def openai_list(self, filters: Filters, *, limit: int | None = None, offset: int = 0) -> Rendered:
        """Return `{"object": "list", "data": […]}` of what the caller may use."""
        view = self._view
        if filters.is_plain and limit is None and not offset:
            if view.plain is None:
                view.plain = _rendered(view, [entry.rendered for entry in view.entries], b'{"object":"list","data":[')
            return view.plain
        lines = [line for entry in _selected(view, filters) for line in _named(entry, filters.naming)]
        shown = lines[offset : None if limit is None else offset + limit]
        return _rendered(view, shown, b'{"object":"list","data":[', total=len(lines))

    def anthropic_list(
        self, filters: Filters, *, limit: int | None = None, after: str | None = None, before: str | None = None
    ) -> Rendered:
        """Return `{"data": […], "first_id", "last_id", "has_more"}` in Anthropic's shape."""
        view = self._view
        found = _selected(view, filters)
        names = [entry.name for entry in found]
        start = names.index(after) + 1 if after in names else 0
        end = names.index(before) if before in names else len(found)
        if limit is None:
            limit = len(found)
        # Going back from a place takes the last ones before it.
        page = found[max(start, end - limit) : end] if before in names else found[start : min(end, start + limit)]
        has_more = len(page) < end - start
        tail = _encode(
            {
                "first_id": page[0].name if page else None,
                "last_id": page[-1].name if page else None,
                "has_more": has_more,
            }
        )
        lines = [entry.rendered_anthropic for entry in page]
        return _rendered(view, lines, b'{"data":[', b"]," + tail[1:], total=len(found))

    def gemini_list(self, filters: Filters, *, page_size: int, offset: int) -> Rendered:
        """Return `{"models": […], "nextPageToken"?}`; the token is the offset of the next page."""
        view = self._view
        found = _selected(view, filters)
        page = found[offset : offset + page_size]
        lines = [view.gemini(entry) for entry in page]
        is_last = offset + page_size >= len(found)
        tail = b"]}" if is_last else b'],"nextPageToken":"' + str(offset + page_size).encode() + b'"}'
        return _rendered(view, lines, b'{"models":[', tail, total=len(found))

    def gemini_one(self, name: str, filters: Filters) -> bytes:
        """Return one model in Gemini's shape.

        Raises:
            ModelNotFound: it is not on the list of this caller.
        """
        entry = self._entry(name, filters)
        return _encode(gemini_model(entry.name, entry.model, self._view.window(entry)))

    def ollama_list(self, filters: Filters) -> Rendered:
        """Return `{"models": […]}` as Ollama lists what is installed."""
        view = self._view
        lines = [view.ollama(entry) for entry in _selected(view, filters)]
        return _rendered(view, lines, b'{"models":[')

    def ollama_one(self, name: str, filters: Filters) -> bytes:
        """Return one model as Ollama shows it.

        Raises:
            ModelNotFound: it is not on the list of this caller.
        """
        entry = self._entry(name.removesuffix(":latest"), filters)
        return _encode(ollama_show(entry.name, entry.model, self._view.window(entry), _LISTED_DAY))

    def one(self, name: str, filters: Filters, *, anthropic: bool = False) -> bytes:
        """Return one entry of the list.

        Raises:
            ModelNotFound: it is not on the list of this caller.
        """
        entry = self._entry(name, filters)
        return entry.rendered_anthropic if anthropic else entry.rendered

    def _entry(self, name: str, filters: Filters) -> Entry:
        view = self._view
        entry = view.by_name.get(name) or view.by_name.get(_lower_prefix(name))
        if entry is None:
            try:
                target = view.directory.resolve(name)[0]
            except ModelNotFound:
                if filters.may_use is not None:
                    raise _unlisted(name) from None  # and nothing about what there is beside it
                raise  # an unknown name explains itself the same way as in a call
            entry = view.by_name.get(target.name)
            if entry is None and target.provider.is_operator and not view.directory.models_of(target.provider.id):
                # A node has no list to be missing from. Some clients ask about a model before they call it.
                entry = _unlisted_entry(view.directory, target)
        if entry is None or not _is_admitted(entry, filters):
            raise _unlisted(name)
        return entry

    def combos(self, filters: Filters) -> bytes:
        """Return `{"object": "list", "data": […]}` of the combos that the caller may use, with their targets."""
        shown = [
            {
                "id": entry.name,
                "object": "combo",
                "strategy": entry.group.strategy,
                "targets": [option.name for option in entry.group.targets if _may_reach(entry, option.name, filters)],
                "context_length": entry.group.context,
                "capabilities": _shown_needs(entry.group),
            }
            for entry in _selected(self._view, filters)
            if entry.group is not None and entry.group.combo is not None
        ]
        return _encode({"object": "list", "data": shown})

    # --- for management ------------------------------------------------------------------------------------------

    def catalog(self) -> bytes:
        """Return every provider with its models and whether it is in use, as `GET /api/models/catalog` answers it."""
        view = self._view
        if view.catalog is None:
            directory = view.directory
            providers = {row.id: _catalog_row(directory, row) for row in directory.providers()}
            view.catalog = _encode({"catalog": providers, "catalogVersion": view.version})
        return view.catalog

    def available(self, configured: Iterable[str]) -> list[dict[str, Any]]:
        """Return the providers that can be connected; `configured` are the ids that have a stored connection."""
        directory = self._directories.current
        have = frozenset(configured)
        return [
            {
                "id": row.id,
                "alias": row.prefix,
                "aliases": row.aliases,
                "name": row.name,
                "tier": row.tier,
                "authKinds": row.auth,
                "services": row.services,
                "website": row.website,
                "status": row.status,
                "termsNote": row.terms_note,
                "note": row.note,
                "replacedBy": row.replaced_by,
                "parameters": [{"name": name, "default": row.defaults.get(name)} for name in row.parameters],
                "isLocal": row.is_local,
                "isNode": row.id.startswith("node_"),
                "configured": row.is_implicit or row.id in have,
                "active": bool(directory.legs_of(row.id)),
                "models": len(directory.models_of(row.id)),
            }
            for row in directory.providers()
        ]

    @property
    def version(self) -> str:
        """The version of the present catalogue: it moves when the list does."""
        return self._view.version

    @property
    def _view(self) -> _View:
        current = self._directories.current
        resolver = self._resolver() if self._resolver is not None else None
        known = self._known
        if known is None or known.directory is not current or known.resolver is not resolver:
            known = self._known = _View(current, resolver, known)
        return known


def _unlisted(name: str) -> ModelNotFound:
    return ModelNotFound(
        f"The model {name[:100]!r} is not on the list.",
        param="model",
        should_retry=False,
        extras={"reason": "unknown", "suggestions": []},
    )


def _lower_prefix(name: str) -> str:
    prefix, slash, rest = name.partition("/")
    return prefix.lower() + slash + rest


# --- rendering -------------------------------------------------------------------------------------------------------


def _entries(directory: Directory) -> Iterable[Entry]:
    """Return what can be called now, real providers first and the simulated one last."""
    rows = sorted(directory.providers(), key=lambda row: row.is_implicit)
    for row in rows:
        legs = directory.legs_of(row.id)
        if not legs:
            continue
        connection_ids = frozenset(leg.connection_id for leg in legs)
        formats = frozenset(key for leg in legs for key in leg.endpoints)
        listed = directory.models_of(row.id)
        # What an operator named is known to exist, also at a provider or node without a list.
        named = dict.fromkeys(leg.default_model for leg in legs if leg.default_model)
        own = [Model(model_id) for model_id in named if model_id not in listed]
        for model in (*listed.values(), *own):
            if _converses(model, formats):
                yield _entry(directory, row, model, connection_ids)


def _unlisted_entry(directory: Directory, target: Target) -> Entry:
    connection_ids = frozenset(leg.connection_id for leg in directory.legs_of(target.provider.id))
    return _entry(directory, target.provider, Model(target.model), connection_ids)


def _converses(model: Model, formats: frozenset[WireFormat]) -> bool:
    spoken = formats.intersection(model.formats) if model.formats else formats
    return model.kind is ModelKind.CHAT and not spoken.isdisjoint(_SPOKEN)


def _entry(directory: Directory, row: Provider, model: Model, connection_ids: frozenset[str]) -> Entry:
    name = f"{row.prefix}/{model.id}"
    facts = _facts(directory, row, model)
    title = model.name or model.id
    anthropic = _encode({"type": "model", "id": name, "display_name": title, "created_at": _LISTED_DAY})
    return Entry(
        name=name,
        provider=row,
        model=model,
        connection_ids=connection_ids,
        is_free=_is_free(directory, row, model),
        rendered=_encode({"id": name, **facts}),
        rendered_canonical=None if row.id == row.prefix else _encode({"id": f"{row.id}/{model.id}", **facts}),
        rendered_anthropic=anthropic,
    )


def _is_free(directory: Directory, row: Provider, model: Model) -> bool:
    """Say whether a call costs nothing; what the operator has set a price for does not."""
    is_offered = model.is_free or row.tier in (Tier.FREE, Tier.LOCAL)
    return is_offered and not directory.prices.is_overridden(row.id, model.id)


def _group_entry(group: Group) -> Entry:
    capabilities = _shown_needs(group)
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
    shown = {"type": "model", "id": group.name, "display_name": group.name, "created_at": _LISTED_DAY}
    return Entry(
        name=group.name,
        provider=_OWNERS[group.owner],
        model=model,
        connection_ids=group.connection_ids,
        is_free=group.is_free,
        rendered=_encode({**facts, "free": True} if group.is_free else facts),
        rendered_canonical=None,
        rendered_anthropic=_encode(shown),
        group=group,
    )


def _shown_needs(group: Group) -> dict[str, bool]:
    return {name: need in group.capabilities for need, name in _SHOWN_NEEDS.items()}


def _facts(directory: Directory, row: Provider, model: Model) -> dict[str, Any]:
    window = directory.context_of(row, model)
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
    listed = directory.prices.row(row.id, model.id)
    if listed is not None:
        price = {"input": listed.input, "output": listed.output, "cached": listed.cache_read}
        facts["pricing"] = {name: float(usd) for name, usd in price.items() if usd is not None}
    if _is_free(directory, row, model):
        facts["free"] = True
    if model.id not in directory.models_of(row.id):
        facts["custom"] = True
    return facts


def _catalog_row(directory: Directory, row: Provider) -> dict[str, Any]:
    return {
        "provider": row.name,
        "alias": row.prefix,
        "active": bool(directory.legs_of(row.id)),
        "models": [_catalog_model(directory, row, model) for model in directory.models_of(row.id).values()],
    }


def _catalog_model(directory: Directory, row: Provider, model: Model) -> dict[str, Any]:
    window = directory.context_of(row, model)
    shown: dict[str, Any] = {
        "id": f"{row.prefix}/{model.id}",
        "name": model.name or model.id,
        "type": model.kind,
        "custom": False,
    }
    if _is_free(directory, row, model):
        shown["free"] = True
    if not window.is_assumed:
        shown["context_length"] = window.tokens
    if model.max_output is not None:
        shown["max_output_tokens"] = model.max_output
    if model.capabilities:
        shown["capabilities"] = model.capabilities
    listed = directory.prices.row(row.id, model.id)
    if listed is not None:
        price = {
            "input": listed.input,
            "output": listed.output,
            "cacheRead": listed.cache_read,
            "cacheWrite": listed.cache_write,
        }
        shown["price"] = {name: float(usd) for name, usd in price.items() if usd is not None}
    return shown


# --- selecting -------------------------------------------------------------------------------------------------------


def _selected(view: _View, filters: Filters) -> list[Entry]:
    provider = None
    if filters.provider is not None:
        row = view.directory.provider(filters.provider)
        if row is None:
            return []
        provider = row.id
    return [
        entry
        for entry in view.entries
        if (provider is None or entry.provider.id == provider)
        and (filters.kind is None or entry.model.kind == filters.kind)
        and _is_admitted(entry, filters)
    ]


def _is_admitted(entry: Entry, filters: Filters) -> bool:
    if filters.only_free and not entry.is_free:
        return False
    if filters.connections and filters.connections.isdisjoint(entry.connection_ids):
        return False
    group = entry.group
    if group is None:
        return filters.may_use is None or filters.may_use(entry.name)
    if group.combo is not None and not is_listed(filters.combos, group.combo):
        return False
    return filters.may_use is None or any(_may_reach(entry, option.name, filters) for option in group.targets)


def _may_reach(entry: Entry, target: str, filters: Filters) -> bool:
    return filters.may_use is None or filters.may_use(entry.name, target)


def _named(entry: Entry, naming: Naming) -> tuple[bytes, ...]:
    match naming:
        case Naming.ALIAS:
            return (entry.rendered,)
        case Naming.CANONICAL:
            return (entry.rendered_canonical or entry.rendered,)
        case Naming.DUAL if entry.rendered_canonical is not None:
            return (entry.rendered, entry.rendered_canonical)
        case Naming.DUAL:
            return (entry.rendered,)


def _rendered(
    view: _View, lines: Sequence[bytes], head: bytes, tail: bytes = b"]}", *, total: int | None = None
) -> Rendered:
    body = head + b",".join(lines) + tail
    return Rendered(body, _digest((body,)), view.version, len(lines) if total is None else total)


def _digest(parts: Iterable[bytes]) -> str:
    digest = blake2b(digest_size=12)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()

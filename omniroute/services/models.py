"""The model lists: what `/v1/models` offers a key, and what can be connected.

A list is put together once per configuration and per set of rules; a request for one that is known gets ready bytes.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import translate
from functools import lru_cache
from itertools import islice
from typing import Final, TypedDict

from omniroute.errors import ModelNotFound, PermissionDenied
from omniroute.gateway.directory import Directories, Directory
from omniroute.gateway.resolver import Resolver, is_listed
from omniroute.records import Snapshot
from omniroute.services.access import ModelRules
from omniroute.services.groups import groups_of
from omniroute.services.model_lines import (
    LISTED_DAY,
    Entry,
    Lines,
    Listed,
    digest_of,
    digest_of_entries,
    encode,
    group_entries,
    shown_needs,
    unlisted_entry,
)
from omniroute.services.model_shapes import gemini_model, ollama_show, ollama_tag

_MOST_KEPT: Final = 64
"""Lists that are remembered per configuration: there are as many as sets of rules, shapes and pages."""
_MOST_BYTES: Final = 8 << 20
"""Of rendered lists. One of 5,000 models has about three megabytes."""
_OPENAI_HEAD: Final = b'{"object":"list","data":['
_NO_RULES: Final = ModelRules()


class Naming(StrEnum):
    """Which name stands before the slash in a list."""

    ALIAS = "alias"
    CANONICAL = "canonical"
    DUAL = "dual"


class ProviderParameterDocument(TypedDict):
    """Something that a connection of a provider has to say beside its key."""

    name: str
    default: str | None


class AvailableProviderDocument(TypedDict):
    """A provider that can be connected, or is."""

    id: str
    alias: str
    aliases: list[str]
    name: str
    tier: str
    authKinds: list[str]
    services: list[str]
    website: str | None
    status: str
    termsNote: str | None
    note: str | None
    replacedBy: list[str]
    parameters: list[ProviderParameterDocument]
    isLocal: bool
    isNode: bool
    configured: bool
    active: bool
    models: int
    hiddenModels: int


@dataclass(frozen=True, slots=True)
class Filters:
    """What one caller asks for and may see.

    Attributes:
        rules: the model lists of the caller's key.
        connections, combos: the only ones that the key may use; empty for all.
    """

    naming: Naming = Naming.ALIAS
    kind: str | None = None
    provider: str | None = None
    rules: ModelRules = _NO_RULES
    connections: frozenset[str] = frozenset()
    combos: tuple[str, ...] = ()
    only_free: bool = False


class Rendered:
    """A list ready to send. `version` is that of the whole catalogue, `etag` that of these bytes."""

    __slots__ = ("_body", "_keep", "_render", "etag", "total", "version")

    def __init__(
        self, *, render: Callable[[], bytes], keep: Callable[[Rendered], None], etag: str, version: str, total: int
    ) -> None:
        self._render = render
        self._keep = keep
        self._body: bytes | None = None
        self.etag = etag
        self.version = version
        self.total = total

    @property
    def body(self) -> bytes:
        """The bytes; put together when they are first asked for."""
        if self._body is None:
            self._body = self._render()
            self._keep(self)
        return self._body

    @property
    def size(self) -> int:
        """How many bytes are held."""
        return 0 if self._body is None else len(self._body)

    def forget(self) -> None:
        """Let go of the bytes; they can be put together again."""
        self._body = None


class _Kept:
    """The lists of one configuration that were asked for lately."""

    def __init__(self) -> None:
        self._lists: OrderedDict[tuple[object, ...], Rendered] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> Rendered | None:
        found = self._lists.get(key)
        if found is not None:
            self._lists.move_to_end(key)
        return found

    def put(self, key: tuple[object, ...], rendered: Rendered) -> Rendered:
        self._lists[key] = rendered
        if len(self._lists) > _MOST_KEPT:
            self._lists.popitem(last=False)
        return rendered

    def trim(self, newest: Rendered) -> None:
        """Let go of what was not asked for the longest until what is held is small enough."""
        left = sum(one.size for one in self._lists.values())
        for one in self._lists.values():
            if left <= _MOST_BYTES:
                return
            if one is not newest:
                left -= one.size
                one.forget()


@dataclass(frozen=True, slots=True)
class _Selection:
    """The entries that a caller may see, and a digest of which those are."""

    entries: tuple[Entry, ...]
    digest: bytes


class _View:
    """What is prepared for one directory."""

    def __init__(self, directory: Directory, resolver: Resolver | None, models: Listed) -> None:
        self.directory = directory
        self.resolver = resolver
        groups = [] if resolver is None else group_entries(groups_of(resolver), directory.default_context)
        taken = {entry.name for entry in groups}  # a combo with the name of a model is what answers to it
        self.entries = (*(entry for entry in models.entries if entry.name not in taken), *groups)
        self.by_name = {entry.name: entry for entry in self.entries}
        for entry in models.entries:
            if entry.canonical is not None:
                self.by_name.setdefault(entry.canonical, entry)
        window = str(directory.default_context).encode()
        self.version = digest_of((window, models.digest, digest_of_entries(groups))).hex()
        self.kept = _Kept()
        self._selections: OrderedDict[Filters, _Selection] = OrderedDict()

    def selected(self, filters: Filters) -> _Selection:
        """Return the entries that a caller may see."""
        found = self._selections.get(filters)
        if found is None:
            entries = tuple(_selected(self, filters))
            digest = digest_of(entry.name.encode() for entry in entries)
            found = self._selections[filters] = _Selection(entries, digest)
            if len(self._selections) > _MOST_KEPT:
                self._selections.popitem(last=False)
        else:
            self._selections.move_to_end(filters)
        return found

    def rendered(
        self, key: tuple[object, ...], chosen: _Selection, total: int, render: Callable[[], bytes]
    ) -> Rendered:
        """Return a list that is rendered when its bytes are asked for.

        Its tag is the same in every worker: of the filters only what they leave counts, and the spelling of names.
        """
        shape = [one.naming.value if isinstance(one, Filters) else one for one in key]
        etag = digest_of((self.version.encode(), chosen.digest, repr(shape).encode())).hex()
        made = Rendered(render=render, keep=self.kept.trim, etag=etag, version=self.version, total=total)
        return self.kept.put(key, made)


class Models:
    """Answers model lists from the compiled directory."""

    def __init__(
        self,
        *,
        directories: Directories,
        resolver: Callable[[], Resolver] | None = None,
        spawn: Callable[[Callable[[], None]], object] | None = None,
        sleep: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """With `resolver` the lists hold combos and channels too; with `spawn` they are prepared in the background."""
        self._spawn = spawn
        self._sleep = sleep
        self._directories = directories
        self._resolver = resolver
        self._lines = Lines()
        self._known: _View | None = None

    def rebuild(self, _snapshot: Snapshot) -> None:
        """Follow a new snapshot, which the directories and the resolver follow already."""
        if self._spawn is not None and not self._is_current:
            self._spawn(lambda: self.prepare(pause=lambda: self._sleep(0)))

    def prepare(self, *, pause: Callable[[], None]) -> None:
        """Put together what lists are made of, so that no request has to; `pause` lets others have their turn."""
        self._lines.of(self._directories.current, pause=pause)
        self._view.selected(Filters())

    # --- for clients ---------------------------------------------------------------------------------------------

    def openai_list(self, filters: Filters, *, limit: int | None = None, offset: int = 0) -> Rendered:
        """Return `{"object": "list", "data": […]}` of what the caller may use."""
        view = self._view
        key = ("openai", filters, limit, offset)
        known = view.kept.get(key)
        if known is not None:
            return known
        chosen = view.selected(filters)
        entries: Sequence[Entry] = chosen.entries
        is_dual = filters.naming is Naming.DUAL
        total = len(entries) + (sum(entry.canonical is not None for entry in entries) if is_dual else 0)

        def render() -> bytes:
            end = None if limit is None else offset + limit
            if filters.naming is Naming.ALIAS:
                return _joined([entry.rendered for entry in entries[offset:end]], _OPENAI_HEAD)
            if filters.naming is Naming.CANONICAL:
                return _joined([entry.rendered_canonical for entry in entries[offset:end]], _OPENAI_HEAD)
            lines = (line for entry in entries for line in _both(entry))
            return _joined(islice(lines, offset, end), _OPENAI_HEAD)

        return view.rendered(key, chosen, total, render)

    def anthropic_list(
        self, filters: Filters, *, limit: int | None = None, after: str | None = None, before: str | None = None
    ) -> Rendered:
        """Return `{"data": […], "first_id", "last_id", "has_more"}` in Anthropic's shape."""
        view = self._view
        key = ("anthropic", filters, limit, after, before)
        known = view.kept.get(key)
        if known is not None:
            return known
        chosen = view.selected(filters)
        found = chosen.entries
        names = [entry.name for entry in found]
        start = names.index(after) + 1 if after in names else 0
        end = names.index(before) if before in names else len(found)
        if limit is None:
            limit = len(found)
        # Going back from a place takes the last ones before it.
        page = found[max(start, end - limit) : end] if before in names else found[start : min(end, start + limit)]

        def render() -> bytes:
            ends = {
                "first_id": page[0].name if page else None,
                "last_id": page[-1].name if page else None,
                "has_more": len(page) < end - start,
            }
            return _joined((entry.rendered_anthropic for entry in page), b'{"data":[', b"]," + encode(ends)[1:])

        return view.rendered(key, chosen, len(found), render)

    def gemini_list(self, filters: Filters, *, page_size: int, offset: int) -> Rendered:
        """Return `{"models": […], "nextPageToken"?}`; the token is the offset of the next page."""
        view = self._view
        key = ("gemini", filters, page_size, offset)
        known = view.kept.get(key)
        if known is not None:
            return known
        chosen = view.selected(filters)
        page = chosen.entries[offset : offset + page_size]
        is_last = offset + page_size >= len(chosen.entries)
        tail = b"]}" if is_last else b'],"nextPageToken":"' + str(offset + page_size).encode() + b'"}'

        def render() -> bytes:
            return _joined((_gemini(entry) for entry in page), b'{"models":[', tail)

        return view.rendered(key, chosen, len(chosen.entries), render)

    def gemini_one(self, name: str, filters: Filters) -> bytes:
        """Return one model in Gemini's shape.

        Raises:
            ModelNotFound: it is not on the list of this caller.
        """
        return _gemini(self._entry(name, filters))

    def ollama_list(self, filters: Filters) -> Rendered:
        """Return `{"models": […]}` as Ollama lists what is installed."""
        view = self._view
        key = ("ollama", filters)
        known = view.kept.get(key)
        if known is not None:
            return known
        chosen = view.selected(filters)

        def render() -> bytes:
            lines = (encode(ollama_tag(entry.name, entry.model, LISTED_DAY)) for entry in chosen.entries)
            return _joined(lines, b'{"models":[')

        return view.rendered(key, chosen, len(chosen.entries), render)

    def ollama_one(self, name: str, filters: Filters) -> bytes:
        """Return one model as Ollama shows it.

        Raises:
            ModelNotFound: it is not on the list of this caller.
        """
        entry = self._entry(name.removesuffix(":latest"), filters)
        return encode(ollama_show(entry.name, entry.model, entry.window, LISTED_DAY))

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
            except PermissionDenied:
                raise _unlisted(name) from None  # hidden: on nobody's list
            except ModelNotFound:
                if filters.rules != _NO_RULES:
                    raise _unlisted(name) from None  # and nothing about what there is beside it
                raise  # an unknown name explains itself the same way as in a call
            entry = view.by_name.get(target.name)
            if entry is None and target.provider.is_operator and not view.directory.models_of(target.provider.id):
                # A node has no list to be missing from. Some clients ask about a model before they call it.
                entry = unlisted_entry(view.directory, target)
        if entry is None or not _is_admitted(entry, filters, filters.rules.admit):
            raise _unlisted(name)
        return entry

    def combos(self, filters: Filters) -> bytes:
        """Return `{"object": "list", "data": […]}` of the combos that the caller may use, with their targets."""
        shown = [
            {
                "id": entry.name,
                "object": "combo",
                "strategy": entry.group.strategy,
                "targets": [
                    option.name for option in entry.group.targets if filters.rules.admit(entry.name, option.name)
                ],
                "context_length": entry.group.context,
                "capabilities": shown_needs(entry.group),
            }
            for entry in self._view.selected(filters).entries
            if entry.group is not None and entry.group.combo is not None
        ]
        return encode({"object": "list", "data": shown})

    # --- for management ------------------------------------------------------------------------------------------

    def available(self, configured: Iterable[str]) -> list[AvailableProviderDocument]:
        """Return the providers that can be connected; `configured` are the ids that have a stored connection."""
        directory = self._directories.current
        have = frozenset(configured)
        return [
            {
                "id": row.id,
                "alias": row.prefix,
                "aliases": list(row.aliases),
                "name": row.name,
                "tier": row.tier,
                "authKinds": [str(kind) for kind in row.auth],
                "services": [str(kind) for kind in row.services],
                "website": row.website,
                "status": row.status,
                "termsNote": row.terms_note,
                "note": row.note,
                "replacedBy": list(row.replaced_by),
                "parameters": [{"name": name, "default": row.defaults.get(name)} for name in row.parameters],
                "isLocal": row.is_local,
                "isNode": row.id.startswith("node_"),
                "configured": row.is_implicit or row.id in have,
                "active": bool(directory.legs_of(row.id)),
                "models": len(directory.models_of(row.id)),
                "hiddenModels": len(directory.listing(row.id).hidden),
            }
            for row in directory.providers()
        ]

    @property
    def version(self) -> str:
        """The version of the present catalogue: it moves when the list does."""
        return self._view.version

    @property
    def _is_current(self) -> bool:
        known = self._known
        resolver = self._resolver() if self._resolver is not None else None
        return known is not None and known.directory is self._directories.current and known.resolver is resolver

    @property
    def _view(self) -> _View:
        if self._known is None or not self._is_current:
            current = self._directories.current
            resolver = self._resolver() if self._resolver is not None else None
            self._known = _View(current, resolver, self._lines.of(current))
        return self._known


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


# --- selecting -------------------------------------------------------------------------------------------------------


def _selected(view: _View, filters: Filters) -> Iterable[Entry]:
    provider = None
    if filters.provider is not None:
        row = view.directory.provider(filters.provider)
        if row is None:
            return ()
        provider = row.id
    admits = _admitting(filters.rules)
    return [
        entry
        for entry in view.entries
        if (provider is None or entry.provider.id == provider)
        and (filters.kind is None or entry.model.kind == filters.kind)
        and _is_admitted(entry, filters, admits)
    ]


def _is_admitted(entry: Entry, filters: Filters, admits: Callable[[str], bool]) -> bool:
    if filters.only_free and not entry.is_free:
        return False
    if filters.connections and filters.connections.isdisjoint(entry.connection_ids):
        return False
    group = entry.group
    if group is None:
        return admits(entry.name)
    if group.combo is not None and not is_listed(filters.combos, group.combo):
        return False
    return filters.rules == _NO_RULES or any(filters.rules.admit(entry.name, option.name) for option in group.targets)


def _both(entry: Entry) -> Sequence[bytes]:
    return (entry.rendered,) if entry.canonical is None else (entry.rendered, entry.rendered_canonical)


@lru_cache(maxsize=256)
def _admitting(rules: ModelRules) -> Callable[[str], bool]:
    """Return what judges a model by its own name as :meth:`ModelRules.admit` does, fast enough for thousands."""
    if rules == _NO_RULES:
        return lambda _name: True
    blocked, allowed = _any_of(rules.blocked), _any_of(rules.allowed)

    def admits(name: str) -> bool:
        bare = name.partition("/")[2] or name
        if blocked is not None and (blocked(name) or blocked(bare)):
            return False
        return allowed is None or bool(allowed(name) or allowed(bare))

    return admits


def _any_of(patterns: Sequence[str]) -> Callable[[str], object] | None:
    """Return what matches any of some globs; brackets stand for themselves in them."""
    if not patterns:
        return None
    # The expressions of fnmatch do not go back over what they have matched: no pattern is slow.
    return re.compile("|".join(translate(pattern.replace("[", "[[]")) for pattern in patterns)).match


# --- rendering -------------------------------------------------------------------------------------------------------


def _gemini(entry: Entry) -> bytes:
    return encode(gemini_model(entry.name, entry.model, entry.window))


def _joined(lines: Iterable[bytes], head: bytes, tail: bytes = b"]}") -> bytes:
    return head + b",".join(lines) + tail

"""Reads the model lists of providers: the ids, and what a list says about each model.

There is no standard beyond `{"data": [{"id": …}]}`. What is added to it goes by a dozen names, and the same names mean
the same thing nearly everywhere, so that one reader does for all. What is not said stays None: an absent word denies
nothing, an unreadable price is no price, and the size of an answer is never taken for the size of the window.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import msgspec

from omniroute.providers.model_abilities import Row, capabilities_of, kind_of, modalities_of, object_in, properties_of
from omniroute.providers.model_offers import prices_of
from omniroute.providers.spec import ModelKind
from omniroute.records import DiscoveredModel

MAX_MODEL_ID: Final = 240
MAX_NAME: Final = 200
MOST_TOKENS: Final = 100_000_000
MOST_PAGES: Final = 20

_SLICE: Final = 100
"""Rows that are read in one go; a list of thousands would hold everybody else up."""
_LISTS: Final = ("data", "models", "result", "results", "endpoints", "modelSummaries", "publisherModels", "items")
_IDS: Final = ("id", "modelId", "slug", "model", "name")
_NAMES: Final = ("display_name", "displayName", "modelName", "name")
_NUM_CTX: Final = re.compile(r"^num_ctx\s+(\d{1,9})$", re.MULTILINE)
_PATH_PREFIXES: Final = ("models/", "publishers/google/models/")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; `next_url` is the address of the page behind it."""

    models: tuple[DiscoveredModel, ...]
    next_url: str | None = None


def parse(body: bytes, *, url: str, most: int, pause: Callable[[], None] = lambda: None) -> Page | None:
    """Return what an answer lists, each model once; None when it is no list.

    Args:
        body: the answer.
        url: where it came from; the next page is at the same host.
        most: how many models are read.
        pause: called now and then, so that others get their turn.
    """
    document = _decoded(body)
    rows = document
    if isinstance(document, dict):
        rows = next((document[name] for name in _LISTS if isinstance(document.get(name), list)), None)
    if not isinstance(rows, list):
        return None
    found: dict[str, DiscoveredModel] = {}
    for number, row in enumerate(rows[:most]):
        if number % _SLICE == _SLICE - 1:
            pause()
        model = _model(row)
        if model is not None:
            found.setdefault(model.model_id, model)
    return Page(tuple(found.values()), _next_url(document, url) if isinstance(document, dict) and rows else None)


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None


def _next_url(document: Row, url: str) -> str | None:
    """Return where the list goes on, as the document says in one of the usual ways."""
    if document.get("has_more") is True and isinstance(document.get("last_id"), str):
        return _with_query(url, after_id=document["last_id"])
    for name, parameter in (("nextPageToken", "pageToken"), ("next_page_token", "page_token")):
        token = document.get(name)
        if isinstance(token, str) and token:
            return _with_query(url, **{parameter: token})
    following = object_in(document, "links").get("next")
    if isinstance(following, str) and following:
        target = urljoin(url, following)
        here, there = urlsplit(url), urlsplit(target)
        return target if (here.scheme, here.netloc) == (there.scheme, there.netloc) else None
    pages = object_in(document, "result_info")
    page, total = _count(pages.get("page")), _count(pages.get("total_pages"))
    return _with_query(url, page=str(page + 1)) if page is not None and total is not None and page < total else None


def _with_query(url: str, **parameters: str) -> str:
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in parameters]
    return urlunsplit(parts._replace(query=urlencode([*query, *parameters.items()])))


def described(model: DiscoveredModel, body: bytes) -> DiscoveredModel:
    """Return a model with what Ollama's `/api/show` says about it beyond the list.

    The window that the operator has set there wins over what the model was trained with.
    """
    document = _decoded(body)
    if not isinstance(document, dict):
        return model
    info = object_in(document, "model_info")
    trained = next((_count(value) for name, value in info.items() if name.endswith(".context_length")), None)
    given = document.get("parameters")
    set_there = _NUM_CTX.search(given) if isinstance(given, str) else None
    able, unable = capabilities_of(document, (document,), ())
    if able or unable or "completion" in _capability_words(document):
        # This list names everything: a model without the word cannot do it.
        unable = frozenset({"tools", "vision", "reasoning"} - able)
    return replace(
        model,
        kind=ModelKind.EMBEDDING.value if "embedding" in _capability_words(document) else model.kind,
        context_length=_count(set_there[1]) if set_there is not None else trained or model.context_length,
        able=able,
        unable=unable,
    )


def _capability_words(document: Row) -> list[Any]:
    words = document.get("capabilities")
    return words if isinstance(words, list) else []


# --- one row ---------------------------------------------------------------------------------------------------------


def _model(row: Any) -> DiscoveredModel | None:
    if isinstance(row, str):
        row = {"id": row}
    if not isinstance(row, dict):
        return None
    model_id = _id(row)
    if model_id is None:
        return None
    parts = _parts(row)
    context = _context(parts)
    taken, given = modalities_of(row, parts)
    able, unable = capabilities_of(row, parts, taken)
    return DiscoveredModel(
        model_id=model_id,
        name=_name(row, model_id),
        kind=kind_of(row, parts, given, model_id),
        context_length=context,
        max_output=_max_output(parts, context),
        able=able,
        unable=unable,
        input=taken,
        prices=prices_of(row, parts, model_id),
    )


def _id(row: Row) -> str | None:
    names = [row.get(name) for name in _IDS]
    if isinstance(row.get("name"), str) and row["name"].startswith("@"):  # Cloudflare's id is not the model's
        names.insert(0, row["name"])
    for name in names:
        if isinstance(name, str) and 0 < len(name) <= MAX_MODEL_ID and name.isprintable():
            for prefix in _PATH_PREFIXES:
                name = name.removeprefix(prefix)  # noqa: PLW2901 -- the vendor's path is no part of the id
            return name or None
    return None


def _name(row: Row, model_id: str) -> str | None:
    for key in _NAMES:
        name = row.get(key)
        if isinstance(name, str) and name.strip() and name.isprintable():
            name = name.strip()[:MAX_NAME]
            return None if model_id in (name, name.removeprefix("models/")) else name
    return None


def _parts(row: Row) -> tuple[Row, ...]:
    """Return the row and the objects in it that hold facts about the model."""
    capabilities = object_in(row, "capabilities")
    spec = object_in(row, "model_spec")
    inner = (
        object_in(row, "metadata"),
        object_in(row, "limits"),
        object_in(row, "limit"),
        object_in(row, "meta"),
        object_in(row, "model_info"),
        object_in(row, "top_provider"),
        object_in(capabilities, "limits"),
        spec,
        properties_of(row),
    )
    return (row, *(part for part in inner if part))


# --- sizes -----------------------------------------------------------------------------------------------------------

_CONTEXT: Final = (
    "context_length",
    "context_window",
    "max_context_length",
    "max_context_window_tokens",
    "max_model_len",
    "contextLength",
    "contextWindow",
    "context_size",
    "contextSize",
    "max_context_tokens",
    "context_window_tokens",
    "availableContextTokens",
    "context",
    "n_ctx",
    "n_ctx_train",
    "max_input_tokens",
    "inputTokenLimit",
    "input_token_limit",
)
"""The window, the plainest names first: the largest prompt stands for it where nothing else does."""
_OUTPUT: Final = (
    "max_output_tokens",
    "max_completion_tokens",
    "outputTokenLimit",
    "output_token_limit",
    "max_output_length",
    "maxOutputTokens",
    "maxCompletionTokens",
    "max_output",
    "output",
)


def _context(parts: Sequence[Row]) -> int | None:
    return _first_count(parts, _CONTEXT)


def _max_output(parts: Sequence[Row], context: int | None) -> int | None:
    stated = _first_count(parts, _OUTPUT)
    if stated is None and context is not None:
        # Where a window is stated beside it, this is what an answer may have; alone it has been both.
        stated = _first_count(parts, ("max_tokens",))
    return stated if stated is None or context is None or stated <= context else None


def _first_count(parts: Sequence[Row], names: Iterable[str]) -> int | None:
    for name in names:
        for part in parts:
            number = _count(part.get(name))
            if number is not None:
                return number
    return None


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value <= MOST_TOKENS else None

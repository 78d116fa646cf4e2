"""The last few responses, as the vendor keeps those that were not asked to be forgotten: to go on from, to refer to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from omniroute.providers.sandbox.script import VendorError

_MOST: Final = 256

_kept: OrderedDict[str, tuple[list[Any], list[Any]]] = OrderedDict()
"""Response id to the whole conversation before it and its own items."""


def keep(asked: Mapping[str, Any], response_id: str, output: Sequence[Any]) -> None:
    """Remember a response unless its request says `store: false`."""
    if asked.get("store") is False:
        return
    _kept[response_id] = (conversation(asked), list(output))
    while len(_kept) > _MOST:
        _kept.popitem(last=False)


def conversation(asked: Mapping[str, Any]) -> list[Any]:
    """Return the items of a request, with those that it goes on from or refers to in their places.

    Raises:
        VendorError: there is no such response or item.
    """
    said = asked.get("input")
    own = [{"type": "message", "role": "user", "content": said}] if isinstance(said, str) else said
    items = [_resolved(item) for item in own] if isinstance(own, list) else []
    previous = asked.get("previous_response_id")
    if previous is None:
        return items
    kept = _kept.get(previous) if isinstance(previous, str) else None
    if kept is None:
        raise VendorError(
            400,
            f"Previous response with id '{previous}' not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return [*kept[0], *kept[1], *items]


def _resolved(item: Any) -> Any:
    if not isinstance(item, dict) or item.get("type") != "item_reference":
        return item
    for _, output in reversed(_kept.values()):
        for kept in output:
            if kept.get("id") == item.get("id"):
                return kept
    raise VendorError(404, f"Item with id '{item.get('id')}' not found.", param="input")

"""Conversations that the gateway keeps for clients of this format: turns as items, and a request grown by them.

A client may send only what is new and name the response before it (`previous_response_id`), or name single items of it
(`item_reference`). Providers of other formats know neither, so the gateway keeps, per answer, the items that went in
and came out, and writes them into the next request. Instructions of earlier turns are not among them: the vendor does
not inherit them either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from omniroute.errors import InvalidRequest
from omniroute.formats.openai_responses.members import NULL, OBJECT, TEXT, encoded, is_list, is_text
from omniroute.formats.splice import scan, splice

_INDEX_DIGITS: Final = 4
_OWN_KEY: Final = re.compile(r"[0-9a-f]{36}")
"""32 digits of the request and 4 of the item. A vendor's ids are hexadecimal too, but longer."""
_OWN_REASONING: Final = re.compile(rb'"rs_[0-9a-f]{36}"')
_MOST_LISTED: Final = 100
_PREFIXES: Final = {
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "reasoning": "rs",
    "function_call_output": "fco",
    "custom_tool_call_output": "ctco",
}


class _Turn(msgspec.Struct):
    """One stored turn."""

    input: list[msgspec.Raw] = msgspec.field(default_factory=list)
    output: list[msgspec.Raw] = msgspec.field(default_factory=list)


class _Body(msgspec.Struct):
    input: msgspec.Raw = NULL


class _Answer(msgspec.Struct):
    output: list[msgspec.Raw] | None = None


class _Item(msgspec.Struct):
    type: str | None = None
    id: str | None = None
    role: str | None = None


_TURN: Final = msgspec.json.Decoder(_Turn)
_BODY: Final = msgspec.json.Decoder(_Body)
_ANSWER: Final = msgspec.json.Decoder(_Answer)
_ITEM: Final = msgspec.json.Decoder(_Item)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


def stored_items(request_body: bytes, answer: bytes) -> bytes:
    """Return what has to be kept of one turn.

    Args:
        request_body: the client's body, before earlier turns were written into it.
        answer: the response object that the client got, or that the last event of its stream held.
    """
    try:
        output = _ANSWER.decode(answer).output or []
    except msgspec.DecodeError:
        output = []
    return msgspec.json.encode(_Turn(_input_of(request_body), output))


def expand(body: bytes, previous: Sequence[bytes]) -> bytes:
    """Return a body whose input is the whole conversation.

    Args:
        body: the client's body; its `previous_response_id` is taken out.
        previous: what :func:`stored_items` gave for the earlier turns, oldest first.
    """
    items = [item for stored in previous for item in _items_of(stored)]
    items += _input_of(body)
    grown = b"[%b]" % b",".join(map(bytes, items))
    return splice(scan(body), {"input": grown, "previous_response_id": None})


def _items_of(stored: bytes) -> list[msgspec.Raw]:
    turn = _TURN.decode(stored)
    return [*turn.input, *turn.output]


def _input_of(body: bytes) -> list[msgspec.Raw]:
    try:
        said = _BODY.decode(body).input
        if is_list(said):
            return _LIST.decode(said)
        if is_text(said):
            content = [{"type": "input_text", "text": TEXT.decode(said)}]
            return [encoded({"type": "message", "role": "user", "content": content})]
    except msgspec.DecodeError:
        pass  # the parser says what is wrong with it
    return []


# --- items by their ids ---------------------------------------------------------------------------------------------


def referenced_ids(body: bytes) -> tuple[str, ...]:
    """Return the ids of the items that a body refers to instead of repeating them."""
    if b"item_reference" not in body:
        return ()
    return tuple(item.id for item in map(_read, _input_of(body)) if item.type == "item_reference" and item.id)


def response_id_of(item_id: str) -> str | None:
    """Return the id of the response of ours that an item of ours belongs to; None for any other id."""
    _, _, rest = item_id.partition("_")
    return f"resp_{rest[:-_INDEX_DIGITS]}" if _OWN_KEY.fullmatch(rest) else None


def holds_own_reasoning(body: bytes) -> bool:
    """Say whether a body holds reasoning under an id of ours: the vendor looks such ids up, and does not find them."""
    return b'"rs_' in body and _OWN_REASONING.search(body) is not None


def find_item(stored: bytes, item_id: str) -> bytes | None:
    """Return an item of a stored turn's answer."""
    for raw in _TURN.decode(stored).output:
        if _read(raw).id == item_id:
            return bytes(raw)
    return None


def resolve(body: bytes, found: Mapping[str, bytes]) -> bytes:
    """Return a body with items in the place of references to them; what was not found stays a reference."""
    items: list[bytes] = []
    for raw in _input_of(body):
        item = _read(raw)
        if item.type != "item_reference" or not item.id:
            items.append(bytes(raw))
            continue
        items.append(found.get(item.id) or bytes(raw))
    return splice(scan(body), {"input": b"[%b]" % b",".join(items)})


def _read(raw: msgspec.Raw) -> _Item:
    try:
        return _ITEM.decode(raw)
    except msgspec.DecodeError:
        return _Item()


# --- the list of what went in ---------------------------------------------------------------------------------------


def input_items(
    turns: Sequence[bytes],
    response_id: str,
    *,
    limit: int = 20,
    order: str = "desc",
    after: str | None = None,
) -> bytes:
    """Return the page that lists what went into an answer.

    Args:
        turns: what was kept of its conversation, oldest first, its own turn last.
        response_id: whose input it is; items without an id get one made from it.
        limit: most items on the page, 1 to 100.
        order: `asc` or `desc`.
        after: id of the item before the page.

    Raises:
        InvalidRequest: a limit, order or item that there is not.
    """
    if not 1 <= limit <= _MOST_LISTED:
        raise InvalidRequest(f"'limit' must be between 1 and {_MOST_LISTED}.", param="limit")
    if order not in {"asc", "desc"}:
        raise InvalidRequest("'order' must be 'asc' or 'desc'.", param="order")
    listed = list(_named(turns, response_id.removeprefix("resp_")))
    if order == "desc":
        listed.reverse()
    start = 0
    if after is not None:
        places = [place for place, (name, _) in enumerate(listed) if name == after]
        if not places:
            raise InvalidRequest(f"Item with id '{after}' not found.", param="after")
        start = places[0] + 1
    page = listed[start : start + limit]
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [item for _, item in page],
            "first_id": page[0][0] if page else None,
            "last_id": page[-1][0] if page else None,
            "has_more": start + limit < len(listed),
        }
    )


def _named(turns: Sequence[bytes], key: str) -> Iterable[tuple[str, Any]]:
    items = [item for stored in turns[:-1] for item in _items_of(stored)]
    if turns:
        items += _TURN.decode(turns[-1]).input
    for index, raw in enumerate(items):
        read = _read(raw)
        if read.id:
            yield read.id, raw
            continue
        name = f"{_PREFIXES.get(read.type or '', 'msg')}_{key}i{index:x}"
        yield name, _with_id(raw, name, read)


def _with_id(raw: msgspec.Raw, name: str, read: _Item) -> dict[str, Any] | msgspec.Raw:
    try:
        members: dict[str, Any] = dict(OBJECT.decode(raw))
    except msgspec.DecodeError:
        return raw
    members["id"] = name
    if read.role is not None:
        # Short forms are listed in full, as the vendor does it.
        members.setdefault("type", "message")
        members.setdefault("status", "completed")
        content = members.get("content")
        if is_text(content):
            kind = "output_text" if read.role == "assistant" else "input_text"
            part: dict[str, Any] = {"type": kind, "text": content}
            members["content"] = [{**part, "annotations": []} if kind == "output_text" else part]
    return members

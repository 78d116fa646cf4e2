"""Elements of `reasoning_details`: how hosts of this format carry signed and encrypted reasoning.

Theory. An element is `reasoning.text {text, signature}`, `reasoning.summary {summary}` or `reasoning.encrypted {data}`,
with an `id`, a `format` (whose signature it is) and an `index`. A host wants its elements back as it sent them, and a
client of another format can only carry a token. So the token of an element that says more than the plain ones is the
whole element without its text, as JSON; that of a plain element is its signature or data alone.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omniroute.formats.canonical import Thinking, Token
from omniroute.formats.losses import SPELLING
from omniroute.formats.members import EMPTY_TEXT, Members, object_of, take_text_if_any
from omniroute.formats.tokens import is_wrapped
from omniroute.formats.wire import WireFormat

PLAIN_NOTE: Final = f"{SPELLING}plain"
"""Marks reasoning whose text stands in a plain member of the message."""

_SUMMARY: Final = b'"reasoning.summary"'
_PLAIN: Final = frozenset({"type", "index", "id"})


def parse_detail(raw: msgspec.Raw) -> Thinking:
    """Return one element.

    Raises:
        BadShape: it is no object, or a member that holds text is something else.
    """
    members = object_of(raw)
    text = _take_written(members, "text")
    if text is None:
        text = _take_written(members, "summary")
    data = take_text_if_any(members, "data")
    signature = take_text_if_any(members, "signature")
    says_more = any(name not in _PLAIN and not name.startswith(SPELLING) for name in members)
    item_id = take_text_if_any(members, "id")
    value = data if data is not None else signature
    if value is not None and not is_wrapped(value) and (says_more or (data is not None and signature is not None)):
        rest: dict[str, Any] = {name: kept for name, kept in members.items() if not name.startswith(SPELLING)}
        known = {"data": data, "signature": signature, "id": item_id}
        rest.update((name, said) for name, said in known.items() if said is not None)
        value = msgspec.json.encode(rest).decode()
    token = None if value is None else Token(value, WireFormat.OPENAI_CHAT)
    return Thinking(text or "", token, redacted=data is not None and not text, id=item_id, extra=members)


def _take_written(members: Members, name: str) -> str | None:
    text = take_text_if_any(members, name)
    if text == "":
        members[SPELLING + name] = EMPTY_TEXT
    return text


def detail_of(block: Thinking, index: int | None = None) -> dict[str, Any]:
    """Return reasoning as an element; `index` numbers those that have no number of their own."""
    detail: dict[str, Any] = {
        name.removeprefix(SPELLING): value for name, value in block.extra.items() if name != PLAIN_NOTE
    }
    if "type" not in detail:
        detail["type"] = "reasoning.encrypted" if block.redacted else "reasoning.text"
    if block.id is not None:
        detail["id"] = block.id
    if block.token is not None:
        value = block.token.value
        if value.startswith("{"):
            detail.update(object_of(msgspec.Raw(value.encode())))
        else:
            detail["data" if block.redacted else "signature"] = value
    if block.text and PLAIN_NOTE not in block.extra:
        is_summary = bytes(detail["type"]) == _SUMMARY if isinstance(detail["type"], msgspec.Raw) else False
        detail["summary" if is_summary else "text"] = block.text
    if index is not None:
        detail.setdefault("index", index)
    return detail


def is_detail(block: Thinking) -> bool:
    """Say whether reasoning needs an element: a plain member of the message cannot hold all of it."""
    return block.token is not None or "type" in block.extra

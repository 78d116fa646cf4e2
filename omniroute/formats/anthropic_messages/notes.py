"""Sentences for blocks that only Messages has: what another vendor's model is told in their place."""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.members import BadShape, Members, is_text, list_of, object_of, text_of

_MOST_SHOWN: Final = 2000
"""Characters of a server tool's input or output in a note: enough to go on with, not a second copy of the web."""

_MOST_PAGES: Final = 10


def is_noted(kind: str) -> bool:
    """Say whether blocks of this type are what a server did, so that a sentence can stand for them."""
    return kind in _WITH_TEXT or kind.endswith(("_tool_result", "_tool_use")) or kind in _OTHERS


def note_for(kind: str, members: Members) -> str:
    """Return the sentence for a block; it is made from what can be read of it and never fails."""
    if kind == "fallback":
        return "[Another model continued this answer.]"
    if kind == "tool_reference":
        return f"[The tool {_text(members, 'tool_name') or '?'} is available.]"
    if kind == "compaction":
        summary = _text(members, "content")
        return f"[Summary of the conversation so far: {summary}]" if summary else "[The conversation was summarised.]"
    if kind == "search_result":
        return _search_result(members)
    name = _text(members, "name")
    if kind.endswith("_tool_use") or kind == "server_tool_use":
        server = _text(members, "server_name")
        where = f" of {server}" if server else ""
        return f"[The assistant used the tool {name or kind}{where} with the input {_shown(members.get('input'))}]"
    tool = kind.removesuffix("_tool_result").replace("_", " ")
    return f"[The {tool} tool returned: {_result(members.get('content'))}]"


_WITH_TEXT: Final = frozenset({"search_result", "compaction"})
_OTHERS: Final = frozenset({"server_tool_use", "tool_reference", "fallback"})


def _search_result(members: Members) -> str:
    title, source = _text(members, "title"), _text(members, "source")
    where = " ".join(part for part in (title, f"({source})" if source else "") if part)
    content = members.get("content")
    return f"[Search result {where}]\n{_texts(content, most=None)}" if where else _texts(content, most=None)


def _result(raw: msgspec.Raw | None) -> str:
    """Name the pages of a web search, show the text of anything else."""
    if raw is None:
        return "nothing"
    try:
        pages = [object_of(item) for item in list_of(raw)]
    except BadShape:
        return _shown(raw)
    named = [f"{_text(page, 'title')} ({_text(page, 'url')})" for page in pages if "url" in page]
    if named:
        more = f" and {len(named) - _MOST_PAGES} more" if len(named) > _MOST_PAGES else ""
        return ", ".join(named[:_MOST_PAGES]) + more
    return _texts(raw, most=_MOST_SHOWN) or _shown(raw)


def _texts(raw: msgspec.Raw | None, most: int | None) -> str:
    if raw is None:
        return ""
    try:
        if is_text(raw):
            return text_of(raw)[:most]
        texts = [_text(object_of(item), "text") for item in list_of(raw)]
    except BadShape:
        return ""
    return "\n".join(text for text in texts if text)[:most]


def _text(members: Members, name: str) -> str:
    raw = members.get(name)
    return text_of(raw) if raw is not None and is_text(raw) else ""


def _shown(raw: msgspec.Raw | None) -> str:
    text = "{}" if raw is None else msgspec.json.format(bytes(raw), indent=0).decode()
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"

"""Items of tools that the vendor runs, and of tools that need a client of a special kind: a sentence for each.

Only this format can carry such an item; the sentence says to others what happened. It is made from the item alone, so
that a conversation always reads the same.
"""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.openai_responses.members import NULL, OBJECT, TEXT, is_text

CALLS: Final = frozenset(
    {
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "computer_call",
        "mcp_call",
        "mcp_list_tools",
        "mcp_approval_request",
        "shell_call",
        "apply_patch_call",
        "local_shell_call",
        "tool_search_call",
        "program",
    }
)
"""On the model's side of the conversation."""
OUTPUTS: Final = frozenset(
    {
        "computer_call_output",
        "shell_call_output",
        "apply_patch_call_output",
        "local_shell_call_output",
        "tool_search_output",
        "mcp_approval_response",
        "program_output",
    }
)
"""On the other side."""

_NO_NEWS: Final = frozenset(
    {"id", "type", "status", "call_id", "encrypted_content", "fingerprint", "approval_request_id", "result", "caller"}
)
"""Members that say nothing to a reader: ids, seals, and images as text."""
_MOST_CHARACTERS: Final = 4000


class _Action(msgspec.Struct):
    type: str | None = None
    query: str | None = None
    queries: list[str] | None = None
    url: str | None = None
    pattern: str | None = None


class _WebSearch(msgspec.Struct):
    action: _Action | None = None


_WEB_SEARCH: Final = msgspec.json.Decoder(_WebSearch)


def note_on(kind: str, raw: msgspec.Raw) -> str:
    """Return the sentence for an item."""
    if kind == "web_search_call" and (said := _search_note(raw)):
        return said
    try:
        members = OBJECT.decode(raw)
    except msgspec.DecodeError:
        return f"[{kind}]"
    told = [f"{name}: {_shown(value)}" for name, value in members.items() if name not in _NO_NEWS and value != NULL]
    text = f"[{kind}] {'; '.join(told)}" if told else f"[{kind}]"
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…]"


def _shown(value: msgspec.Raw) -> str:
    return TEXT.decode(value) if is_text(value) else bytes(value).decode()


def _search_note(raw: msgspec.Raw) -> str:
    try:
        action = _WEB_SEARCH.decode(raw).action
    except msgspec.DecodeError:
        return ""
    if action is None:
        return ""
    if action.url is not None:
        looked = f" for {action.pattern!r}" if action.pattern else ""
        return f"[Read {action.url}{looked}]"
    queries = action.queries or ([action.query] if action.query else [])
    return f"[Searched the web for {', '.join(map(repr, queries))}]" if queries else ""

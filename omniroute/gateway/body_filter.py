"""What an operator wants taken out of, or set in, every request to a provider.

Works on the bytes that are about to leave, so that it holds for forwarded and for translated requests alike; all other
bytes stay as they are. A name with dots leads into objects: `generationConfig.temperature`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from omniroute.formats.splice import scan, splice
from omniroute.records import ParamFilters

PROTECTED: Final = frozenset(
    {
        "contents",
        "conversation",
        "functions",
        "input",
        "instructions",
        "messages",
        "model",
        "previous_response_id",
        "prompt",
        "stream",
        "system",
        "systemInstruction",
        "system_instruction",
        "tools",
    }
)
"""Members that are the request, or that the gateway answers for: no filter touches them."""
NAME: Final = re.compile(r"[A-Za-z_][\w-]{0,63}(?:\.[A-Za-z_][\w-]{0,63}){0,3}", re.ASCII)

_Tree = dict[str, "bytes | dict[str, Any] | None"]
"""By member: the JSON to set, None to take out, or what is to be done inside."""


@dataclass(frozen=True, slots=True)
class BodyFilter:
    """Filters of one provider, ready to be applied."""

    tree: Mapping[str, Any]

    @classmethod
    def of(cls, filters: ParamFilters) -> BodyFilter:
        """Prepare filters; no name is the beginning of another."""
        tree: _Tree = {}
        for name in filters.strip:
            _plant(tree, name.split("."), None)
        for name, value in filters.force.items():
            _plant(tree, name.split("."), msgspec.json.encode(value))
        return cls(tree)

    def apply(self, body: bytes, pause: Callable[[], None]) -> bytes:
        """Return a request's body as the operator wants it."""
        return _edited(body, self.tree, pause)


def clashing(names: Iterable[str]) -> str | None:
    """Return a name that stands twice or inside another's object, or None."""
    kept: set[str] = set()
    for name in sorted(names):
        parts = name.split(".")
        if any(".".join(parts[:length]) in kept for length in range(1, len(parts) + 1)):
            return name
        kept.add(name)
    return None


def _plant(tree: _Tree, path: list[str], leaf: bytes | None) -> None:
    for name in path[:-1]:
        below = tree.setdefault(name, {})
        assert isinstance(below, dict)  # noqa: S101 - no name is the beginning of another
        tree = below
    tree[path[-1]] = leaf


def _edited(body: bytes, tree: Mapping[str, Any], pause: Callable[[], None]) -> bytes:
    top = scan(body, pause=pause)
    changes: dict[str, bytes] = {}
    for name, what in tree.items():
        match what:
            case bytes():
                changes[name] = what
            case dict():
                inner = body[slice(*top.spans[name])] if name in top else b""
                if inner.startswith(b"{"):
                    changes[name] = _edited(inner, what, pause)
                elif made := _forced(what):
                    changes[name] = msgspec.json.encode(made)
            case _:
                pass
    if changes:
        body = splice(top, changes)
    for name, what in tree.items():
        # One after the other: the commas between members that go belong to both.
        if what is None and name in top:
            body = splice(scan(body, pause=pause), {name: None})
    return body


def _forced(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with what is to be set in it, for where there is none yet."""
    made: dict[str, Any] = {}
    for name, what in tree.items():
        if isinstance(what, bytes):
            made[name] = msgspec.Raw(what)
        elif isinstance(what, dict) and (below := _forced(what)):
            made[name] = below
    return made

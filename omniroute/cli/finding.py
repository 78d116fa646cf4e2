"""Find the one thing that a person means by an id or a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omniroute.cli import Exit, Failure


def find_one(
    rows: Sequence[Mapping[str, Any]], wanted: str, noun: str, names: Sequence[str] = ("name",)
) -> Mapping[str, Any]:
    """Return the row with this id or name.

    Args:
        rows: what there is.
        wanted: an id, or a value of one of the fields `names`.
        noun: what such a row is called in messages, such as `API key`.
        names: the fields that name a row.

    Raises:
        Failure: none has it, or several do.
    """
    matches = [row for row in rows if row.get("id") == wanted] or [
        row for row in rows if any(row.get(name) == wanted for name in names)
    ]
    if not matches:
        raise Failure(f"There is no {noun} with the id or name {wanted!r}.", Exit.MISUSE)
    if len(matches) > 1:
        ids = ", ".join(str(row["id"]) for row in matches)
        raise Failure(f"Several have the name {wanted!r}: {ids}. Give the id.", Exit.MISUSE)
    return matches[0]

"""Families of models, by the words of their names: quotas and plans are granted by family (`opus`, `flash`, `free`)."""

from __future__ import annotations

import re
from typing import Final

_WORD: Final = re.compile(r"[a-z]{3,}")
_MOST_WORDS: Final = 12
# Words that windows of quotas are named with, and plans: no model belongs to a family of that name.
_NO_FAMILY: Final = frozenset(
    re.findall(
        r"\w+",
        """
        the your this for and per all any limit limits quota window usage used rate requests request tokens token
        message messages model models api apps oauth overage primary secondary current account user project
        organization one two three four five six seven ten hour hours hourly day days daily week weekly month monthly
        minute minutes plan pro plus max ultra team business enterprise tier latest preview instruct chat
        """,
    )
)


def families_of(model: str) -> tuple[str, ...]:
    """Return the families that a model id may belong to, as it names them.

    >>> families_of("anthropic/claude-opus-4-7:free")
    ('anthropic', 'claude', 'opus', 'free')
    """
    return _words(model)


def family_named(window: str, model: str) -> str | None:
    """Return the family that a quota window is about, where a model belongs to it; None for a window of all models."""
    named = frozenset(_words(window))
    return next((family for family in families_of(model) if family in named), None)


def binds(family: str, model: str) -> bool:
    """Say whether what is about a family of models, or about one model by its id, concerns a model.

    >>> binds("opus", "claude-opus-4-7"), binds("opus", "claude-sonnet-4-6")
    (True, False)
    """
    return family == model or family.lower() in families_of(model)


def names_family(window: str) -> bool:
    """Say whether the name of a window holds more than a span of time."""
    return bool(_words(window))


def _words(text: str) -> tuple[str, ...]:
    found = dict.fromkeys(word for word in _WORD.findall(text[:300].lower()) if word not in _NO_FAMILY)
    return tuple(found)[:_MOST_WORDS]

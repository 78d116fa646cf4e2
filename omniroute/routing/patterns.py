"""Globs on model names: `*` is any run of characters, `?` is one; and which of several matching rows is the closest.

Matching takes time proportional to the product of both lengths, whatever they hold: callers choose the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Row = TypeVar("Row")

_WILD: Final = re.compile(r"[*?]")
_RUN: Final = re.compile(r"\*+")


def is_exact(pattern: str) -> bool:
    """Say whether a pattern matches nothing but itself."""
    return _WILD.search(pattern) is None


def literals_of(pattern: str) -> int:
    """Return how many characters of a pattern stand for themselves."""
    return len(_WILD.sub("", pattern))


def compiled(pattern: str) -> re.Pattern[str]:
    """Return a matcher of whole names.

    What follows a `*` is found from the left and then held fast (an atomic group), so that no place is tried twice.
    """
    first, *rest = (_literal(part) for part in _RUN.sub("*", pattern).split("*"))
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    held = "".join(f"(?>.*?{part})" for part in middle)
    return re.compile(f"{first}{held}.*{last}", re.DOTALL)


def matches(pattern: str, name: str) -> bool:
    """Say whether a pattern matches a whole name."""
    return pattern == name or (not is_exact(pattern) and compiled(pattern).fullmatch(name) is not None)


def _literal(part: str) -> str:
    return "".join("." if character == "?" else re.escape(character) for character in part)


@dataclass(frozen=True, slots=True)
class Rule(Generic[Row]):
    """A pattern and the row that it belongs to.

    Attributes:
        rank: places rows that are equally close otherwise; lower comes first.
        made_at: the older one counts of what is equal even then.
        id: the last word, and what tells rows apart.
    """

    id: str
    pattern: str
    row: Row
    priority: int = 0
    rank: int = 0
    made_at: float = 0.0


class Rules(Generic[Row]):
    """Rules in the order in which they count: exact ones, then by priority, literal characters, rank and age."""

    __slots__ = ("_exact", "_wild")

    def __init__(self, rules: Iterable[Rule[Row]]) -> None:
        exact: dict[str, list[Rule[Row]]] = {}
        wild: list[Rule[Row]] = []
        for rule in sorted(rules, key=_closeness):
            if is_exact(rule.pattern):
                exact.setdefault(rule.pattern, []).append(rule)
            else:
                wild.append(rule)
        self._exact: Mapping[str, list[Rule[Row]]] = exact
        self._wild = tuple((compiled(rule.pattern), rule) for rule in wild)

    def __bool__(self) -> bool:
        return bool(self._exact or self._wild)

    def matching(self, name: str) -> Iterator[Rule[Row]]:
        """Return the rules that match a name, the closest first."""
        yield from self._exact.get(name, ())
        for pattern, rule in self._wild:
            if pattern.fullmatch(name) is not None:
                yield rule

    def exact(self, name: str) -> Iterator[Rule[Row]]:
        """Return the rules whose pattern is the name itself."""
        return iter(self._exact.get(name, ()))

    def without_wild(self) -> Rules[Row]:
        """Return the exact rules alone."""
        return Rules(rule for rules in self._exact.values() for rule in rules)


def _closeness(rule: Rule[Row]) -> tuple[int, int, int, float, str]:
    return (-rule.priority, -literals_of(rule.pattern), rule.rank, rule.made_at, rule.id)

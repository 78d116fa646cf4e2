"""A value that must not be printed by accident. Known to all rings, knows nobody."""

from __future__ import annotations

from typing import Final

_SHORTEST_WITH_ENDS: Final = 20


class Secret:
    """A secret string whose text form is its mask; only :meth:`reveal` gives the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself, for the one place that sends or encrypts it."""
        return self._value

    def __str__(self) -> str:
        return mask(self._value)

    def __repr__(self) -> str:
        return f"Secret({mask(self._value)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not serialised")


def mask(value: str) -> str:
    """Keep the first 8 and last 4 characters of a long value, nothing of a short one."""
    if len(value) < _SHORTEST_WITH_ENDS:
        return "…"
    return f"{value[:8]}…{value[-4:]}"

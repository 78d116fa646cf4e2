"""How the values of routing are declared that a request makes by the dozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

__all__ = ["value"]

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    from dataclasses import dataclass

    def value(*, frozen: bool, slots: bool) -> Callable[[type[T]], type[T]]:
        """Make a dataclass that is frozen where types are checked, and only there.

        Freezing at run time costs a call per field: a value takes three times as long to make, and a plan for ten
        targets makes a hundred. They can be hashed like frozen ones.
        """
        return dataclass(slots=slots, unsafe_hash=frozen)

"""Combos inside combos: what a change would break, found before it is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from omniroute.errors import InvalidRequest
from omniroute.records import Combo


def references(combo: Combo) -> Iterator[str]:
    """Return the names of the combos that a combo refers to."""
    return (step.combo_name for step in combo.steps if step.kind == "combo-ref")


def check(combos: Mapping[str, Combo], changed: Combo, *, depth_of: Callable[[Combo], int], most_steps: int) -> None:
    """Check a changed combo and those around it.

    Args:
        combos: all combos by name, with the changed one among them.
        changed: the one that is about to be stored.
        depth_of: how many combos deep a combo may be, itself included.
        most_steps: how many steps a combo may have together with those of the combos in it.

    Raises:
        InvalidRequest: `combo_cycle` or `combo_depth`.
    """
    _refuse_circle(combos, changed)
    heights: dict[str, tuple[int, int]] = {}
    for root in combos.values():
        if root.name != changed.name and not _reaches(combos, root, changed.name, set()):
            continue
        height, steps = _height(combos, root, heights)
        whose = "This combo" if root.name == changed.name else f"The combo {root.name!r}, which refers to it,"
        if height > depth_of(root):
            raise _refused("combo_depth", f"{whose} would be {height} combos deep; {depth_of(root)} are allowed.")
        if steps > most_steps:
            raise _refused("combo_depth", f"{whose} would have {steps} steps with those of the combos in it.")


def _refuse_circle(combos: Mapping[str, Combo], changed: Combo) -> None:
    """A new circle goes through what was changed, so it is enough to look from there."""
    path = _way_back(combos, changed, changed.name, set())
    if path is not None:
        raise _refused("combo_cycle", f"Combos would refer to each other in a circle: {' → '.join(path)}.")


def _way_back(combos: Mapping[str, Combo], at: Combo, home: str, seen: set[str]) -> list[str] | None:
    for name in references(at):
        if name == home:
            return [at.name, home]
        if name in seen or name not in combos:
            continue
        seen.add(name)
        rest = _way_back(combos, combos[name], home, seen)
        if rest is not None:
            return [at.name, *rest]
    return None


def _reaches(combos: Mapping[str, Combo], at: Combo, goal: str, seen: set[str]) -> bool:
    for name in references(at):
        if name == goal:
            return True
        if name in combos and name not in seen:
            seen.add(name)
            if _reaches(combos, combos[name], goal, seen):
                return True
    return False


def _height(combos: Mapping[str, Combo], at: Combo, known: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Return how many combos deep a combo is, and its steps in all. A circle elsewhere counts as an end."""
    found = known.get(at.name)
    if found is not None:
        return found
    known[at.name] = (1, len(at.steps))
    inside = [_height(combos, combos[name], known) for name in references(at) if name in combos]
    height = 1 + max((deep for deep, _ in inside), default=0)
    found = known[at.name] = (height, len(at.steps) + sum(steps for _, steps in inside))
    return found


def _refused(code: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, code=code, param="models")

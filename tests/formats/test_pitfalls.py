"""Every numbered pitfall of the wire formats has a test that carries its number: `test_t<number>_…`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parents[1]
NUMBERS: Final = range(1, 76)

_NUMBER: Final = re.compile(r"_[tT]0?(\d{1,2})(?=_)")


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbers that names of test functions in a file carry, each with the name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            # Several may stand in front: `test_t05_t07_…`.
            name = node.name.removeprefix("test")
            while (found := _NUMBER.match(name)) is not None:
                yield int(found[1]), node.name
                name = name[found.end() :]


def _found() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for number, name in _numbered(path):
            found.setdefault(number, []).append(f"{path.relative_to(TESTS)}::{name}")
    return found


FOUND: Final = _found()


@pytest.mark.parametrize("number", NUMBERS)
def test_a_pitfall_has_its_test(number: int) -> None:
    assert FOUND.get(number), f"no test is named test_t{number}_…"


def test_no_number_is_made_up() -> None:
    assert set(FOUND) - set(NUMBERS) == set()
    assert sum(map(len, FOUND.values())) > 300

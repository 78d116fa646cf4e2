"""Golden files: input and output together, so that a change of what is written shows in review.

    pytest --update-golden tests/formats/test_golden.py

writes them anew. A file that no test asks for is an orphan and fails (`orphans`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

ROOT: Final = Path(__file__).parent / "golden"


@dataclass(frozen=True, slots=True)
class Golden:
    """Compares with what was given before, or writes it down."""

    is_updating: bool

    def check(self, name: str, value: Any) -> None:
        """Hold `value` (anything that is JSON, `msgspec.Raw` for JSON text as it is) against the file `name`."""
        self.check_text(name, msgspec.json.format(msgspec.json.encode(value), indent=1).decode() + "\n")

    def check_text(self, name: str, given: str) -> None:
        """Hold a text against the file `name`."""
        path = ROOT / name
        if self.is_updating:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(given, encoding="utf-8")
        assert path.exists(), f"{name} is missing: run with --update-golden, and read what it writes"
        before = path.read_text(encoding="utf-8")
        assert given == before, f"{name} has changed: if that is right, run with --update-golden"


def orphans(folder: str, names: Iterable[str]) -> set[str]:
    """Return the files in a folder of golden files that nobody asks for."""
    found = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()}
    return found - set(names)

"""Write the pages that are made from the code, or say which of them are not up to date.

python ecosystem/docs/generate.py [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE)]

import api_page  # noqa: E402
import cli_page  # noqa: E402


def _api() -> str:
    return api_page.page(api_page.document())


PAGES: Mapping[str, Callable[[], str]] = {"api.md": _api, "cli.md": cli_page.render}
"""What makes each page, by its name in this folder."""


def main(arguments: list[str]) -> int:
    """Write the pages; with `--check` only name those that would change, and return 1 if there are any."""
    stale = []
    for name, make in PAGES.items():
        path, text = HERE / name, make()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    if stale and "--check" in arguments:
        print(f"not up to date: {', '.join(stale)}; run: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

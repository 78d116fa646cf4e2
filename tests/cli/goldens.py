"""Golden output of commands: what is made by chance or by the clock gives way to a word for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from click.testing import Result

from tests.goldens import Golden

_PATTERNS: Final = (
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)"), "<time>"),
    (re.compile(r"\b(alias|chain|combo|conn|job|key|map|node|proxy|req|step|tl|tok)_[0-9A-Za-z-]{8,}"), r"<\1>"),
    (re.compile(r"\bsk-[0-9a-z]{4,}…[0-9A-Za-z_-]{4}"), "<key>"),
)
_SPACES: Final = re.compile(r" {2,}")


def steady(text: str) -> str:
    """Return output in which ids, times and keys are the same in every run."""
    for pattern, word in _PATTERNS:
        text = pattern.sub(word, text)
    return text


def _narrow(table: str) -> str:
    """Return a table whose columns are not as wide as the ids that stood in them."""
    return "".join(_SPACES.sub("  ", line) + "\n" for line in table.splitlines())


def check_list(golden: Golden, run: Callable[..., Result], *arguments: str, name: str | None = None) -> None:
    """Hold the table and the JSON of a list command against what they were before."""
    name = name or "-".join(argument.strip("-") for argument in arguments)
    for form, suffix in (("table", "txt"), ("json", "json")):
        result = run(*arguments, "-o", form)
        assert result.exit_code == 0, result.output
        text = steady(result.stdout)
        golden.check_text(f"cli/{name}.{suffix}", _narrow(text) if form == "table" else text)

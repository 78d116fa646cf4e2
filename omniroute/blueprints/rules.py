"""Routes that compile what builds their URLs when one is first built.

Werkzeug compiles two functions for each rule when it is added, 2 ms a rule: most of what a start of the application
took. Of 335 rules a handful ever build a URL, those of pages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from werkzeug.routing import Rule


class QuickRule(Rule):
    """A rule whose builder is made on first use; it matches as any other."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compiled: Callable[..., tuple[str, str]] | None = None
        make = super()._compile_builder

        def build(rule: Rule, **values: Any) -> tuple[str, str]:
            nonlocal compiled
            if compiled is None:
                compiled = make(append_unknown)
            return compiled(rule, **values)

        return build

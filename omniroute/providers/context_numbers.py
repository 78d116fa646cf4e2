"""Read from a provider's error how long a prompt was and how long it may be: agents shorten it by these numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_N: Final = r"(\d[\d,_]{0,12})"


@dataclass(frozen=True, slots=True)
class ContextNumbers:
    """Tokens of the prompt, of the window, and asked for as output; None where the provider does not say."""

    used: int | None = None
    limit: int | None = None
    output: int | None = None


_REQUESTED: Final = (
    r"context length is # tokens.{0,40}requested # tokens.{0,4}\(# (?:in|of|from) (?:the )?(?:messages|input|text)"
    r".{0,60}?# (?:in|of|for) (?:the )?(?:completion|output)"
)
_WINDOW: Final = r"(?:context|window|maximum|limit)"
_PROMPT: Final = r"(?:prompt|request|input)"
_WINDOW_FIRST: Final = rf"{_WINDOW}[^\d]{{0,24}}# tokens?.{{0,60}}?{_PROMPT}[^\d]{{0,40}}#"
_PROMPT_FIRST: Final = rf"{_PROMPT}[^\d]{{0,40}}# tokens?[^\d]{{0,80}}{_WINDOW}[^\d]{{0,40}}#"

# Sentences of vendors and hosts; the groups are named by what they count.
_SENTENCES: Final = tuple(
    (re.compile(pattern.replace("#", _N), re.IGNORECASE), names)
    for pattern, names in (
        (r"too long: # tokens? > # maximum", ("used", "limit")),
        (r"exceed context limit: # \+ # > #", ("used", "output", "limit")),
        (r"input token count.{0,12}?\(?#\)? exceeds.{0,60}?\(?#\)?", ("used", "limit")),
        (_REQUESTED, ("limit", "", "used", "output")),
        (r"context length is # tokens.{0,80}?(?:resulted in|requested|contains|have|has) #", ("limit", "used")),
        (r"requested token count.{0,80}?# tokens.{0,80}?# tokens", ("limit", "used")),
        (_WINDOW_FIRST, ("limit", "used")),
        (_PROMPT_FIRST, ("used", "limit")),
        (r"context length is # tokens", ("limit",)),
    )
)
_MEMBERS: Final = (
    ("n_prompt_tokens", "n_ctx"),
    ("prompt_tokens", "context_length"),
    ("input_tokens", "max_input_tokens"),
)


def context_numbers(message: str, error: Mapping[str, Any]) -> ContextNumbers:
    """Return what an error says; `error` is its object, where some hosts have the numbers as members."""
    for used, limit in _MEMBERS:
        if isinstance(error.get(used), int) and isinstance(error.get(limit), int):
            return ContextNumbers(used=error[used], limit=error[limit])
    for pattern, names in _SENTENCES:
        found = pattern.search(message)
        if found is not None:
            numbers = {
                name: int(re.sub(r"[,_]", "", text)) for name, text in zip(names, found.groups(), strict=True) if name
            }
            return ContextNumbers(**numbers)
    return ContextNumbers()

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


_PARTS: Final = (
    r"# (?:tokens? )?(?:in|of|from) (?:the |your )?(?:messages|prompt|text input|input|text)"
    r".{0,80}?# (?:tokens? )?(?:in|of|for|from) (?:the )?(?:completion|output)"
)
_WINDOW: Final = r"(?:context|window|maximum|limit)"
_PROMPT: Final = r"(?:prompt|request|input)"
_WINDOW_FIRST: Final = rf"{_WINDOW}[^\d]{{0,24}}# tokens?.{{0,60}}?{_PROMPT}[^\d]{{0,40}}#"
_PROMPT_FIRST: Final = rf"{_PROMPT}[^\d]{{0,40}}# tokens?[^\d]{{0,80}}{_WINDOW}[^\d]{{0,40}}#"

# Sentences of vendors and hosts; the groups are named by what they count, "" for what is of no use (a sum).
_SENTENCES: Final = tuple(
    (re.compile(pattern.replace("#", _N), re.IGNORECASE), names)
    for pattern, names in (
        # Anthropic
        (r"too long: # tokens? > # maximum", ("used", "limit")),
        (r"exceed context limit: # \+ # > #", ("used", "output", "limit")),
        # Gemini and Vertex
        (r"input token count.{0,12}?\(?#\)? exceeds.{0,60}?\(?#\)?", ("used", "limit")),
        (r"input token count is # but .{0,30}?supports up to #", ("used", "limit")),
        (r"input token count exceeds .{0,40}?allowed \(?#", ("limit",)),
        # OpenAI and those who copied it
        (
            rf"context length is # tokens.{{0,40}}requested (?:about )?# tokens.{{0,4}}\({_PARTS}",
            ("limit", "", "used", "output"),
        ),
        (rf"context length of # tokens.{{0,60}}# tokens: {_PARTS}", ("limit", "", "used", "output")),
        (r"configured limit of # tokens.{0,60}resulted in #", ("limit", "used")),
        # vLLM
        (
            r"too large: #.{0,40}context length is # tokens? and your request has # input tokens",
            ("output", "limit", "used"),
        ),
        (
            r"passed # input tokens and requested # output tokens.{0,60}context length is only #",
            ("used", "output", "limit"),
        ),
        (r"length #\) is longer than the maximum model length of #", ("used", "limit")),
        (r"length #\) is too long to fit into the model \(context length #\)", ("used", "limit")),
        (
            r"context length is # tokens.{0,80}?(?:resulted in|requested(?: about)?|contains|have|has) #",
            ("limit", "used"),
        ),
        (r"requested token count.{0,80}?# tokens.{0,80}?# tokens", ("limit", "used")),
        # other hosts
        (r"\(# tokens\) (?:exceeds|is longer than) .{0,60}?\(# tokens\)", ("used", "limit")),
        (r"prompt contains # tokens.{0,60}with # maximum context length", ("used", "limit")),
        (r"maximum prompt length is # but the request contains # tokens", ("limit", "used")),
        (r"<= #\. given: # .{0,20}tokens and # ", ("limit", "used", "output")),
        (r"too long: # tokens exceeds max context window of #", ("used", "limit")),
        (r"too long: #, model maximum context length: #", ("used", "limit")),
        (r"current length is # while limit is #", ("used", "limit")),
        (r"token limit: # \(requested: #\)", ("limit", "used")),
        (r"prompt token count of # exceeds the limit of #", ("used", "limit")),
        (r"prompt cannot exceed # - received #", ("limit", "used")),
        (r"maximum output tokens \(#\) exceeded .{0,40}limit \(#\)", ("used", "limit")),
        (r"keep the first # tokens.{0,100}context length of only # tokens", ("used", "limit")),
        (r"range of input length should be \[1, ?#\]", ("limit",)),
        (_WINDOW_FIRST, ("limit", "used")),
        (_PROMPT_FIRST, ("used", "limit")),
        (r"context length (?:is|of) (?:only )?# tokens", ("limit",)),
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

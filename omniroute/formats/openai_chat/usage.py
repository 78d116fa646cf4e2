"""Token counts of Chat Completions: `prompt_tokens` includes cached ones, `completion_tokens` includes reasoning."""

from __future__ import annotations

from typing import Any

import msgspec

from omniroute.formats.usage import NOT_REPORTED, Count, Usage


class _PromptDetails(msgspec.Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    audio_tokens: Count | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None


class UsageFields(msgspec.Struct):
    """The `usage` object; hosts leave out what they do not count."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: Count | None = None
    """DeepSeek's word for cached tokens."""
    cached_tokens: Count | None = None
    """Moonshot's."""

    def to_usage(self) -> Usage:
        """Convert to the one meaning that the gateway uses."""
        prompt = self.prompt_tokens_details or _NO_PROMPT_DETAILS
        completion = self.completion_tokens_details or _NO_COMPLETION_DETAILS
        cached = prompt.cached_tokens
        if cached is None:
            cached = self.prompt_cache_hit_tokens if self.cached_tokens is None else self.cached_tokens
        return Usage(
            input=self.prompt_tokens,
            output=self._output(completion.reasoning_tokens),
            cache_read=cached,
            cache_write=prompt.cache_write_tokens,
            reasoning=completion.reasoning_tokens,
            audio_in=prompt.audio_tokens,
            audio_out=completion.audio_tokens,
        )

    def _output(self, reasoning: int | None) -> int | None:
        """Return the output with its reasoning: xAI counts them apart, which its total shows."""
        prompt, output, total = self.prompt_tokens, self.completion_tokens, self.total_tokens
        if not reasoning or prompt is None or output is None or total is None:
            return output
        return output + reasoning if total == prompt + output + reasoning else output


_NO_PROMPT_DETAILS = _PromptDetails()
_NO_COMPLETION_DETAILS = _CompletionDetails()
_DECODER = msgspec.json.Decoder(UsageFields | None)


def read_usage(raw: msgspec.Raw) -> Usage:
    """Read a `usage` value; one of a shape that is not the format's counts as not reported."""
    try:
        fields = _DECODER.decode(raw)
    except msgspec.ValidationError:
        return NOT_REPORTED
    return NOT_REPORTED if fields is None else fields.to_usage()


def render_usage(usage: Usage) -> dict[str, Any] | None:
    """Return the `usage` object of an answer; None when nothing was reported."""
    if usage.input is None and usage.output is None:
        return None
    prompt, completion = usage.input or 0, usage.output or 0
    rendered: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    prompt_details = {
        "cached_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write,
        "audio_tokens": usage.audio_in,
    }
    completion_details = {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_out}
    for name, details in (
        ("prompt_tokens_details", prompt_details),
        ("completion_tokens_details", completion_details),
    ):
        reported = {count: value for count, value in details.items() if value is not None}
        if reported:
            rendered[name] = reported
    return rendered

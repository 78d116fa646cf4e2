"""Token counts of Chat Completions: `prompt_tokens` includes cached ones, `completion_tokens` includes reasoning."""

from __future__ import annotations

import msgspec

from omniroute.formats.usage import NOT_REPORTED, Count, Usage


class _PromptDetails(msgspec.Struct):
    cached_tokens: Count | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: Count | None = None


class UsageFields(msgspec.Struct):
    """The `usage` object; hosts leave out what they do not count."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None

    def to_usage(self) -> Usage:
        """Convert to the one meaning that the gateway uses."""
        prompt, completion = self.prompt_tokens_details, self.completion_tokens_details
        return Usage(
            input=self.prompt_tokens,
            output=self.completion_tokens,
            cache_read=None if prompt is None else prompt.cached_tokens,
            reasoning=None if completion is None else completion.reasoning_tokens,
        )


_DECODER = msgspec.json.Decoder(UsageFields | None)


def read_usage(raw: msgspec.Raw) -> Usage:
    """Read a `usage` value; one of a shape that is not the format's counts as not reported."""
    try:
        fields = _DECODER.decode(raw)
    except msgspec.ValidationError:
        return NOT_REPORTED
    return NOT_REPORTED if fields is None else fields.to_usage()

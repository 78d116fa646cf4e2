"""Token counts of Gemini: the prompt includes cached tokens, the candidates do *not* include thoughts."""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.usage import NOT_REPORTED, Count, Usage


class ModalityCount(msgspec.Struct, rename="camel"):
    """The part of a count that is of one modality."""

    modality: str = ""
    token_count: Count | None = None


class UsageFields(msgspec.Struct, rename="camel"):
    """The `usageMetadata` object. The vendor leaves counts of 0 out."""

    prompt_token_count: Count | None = None
    candidates_token_count: Count | None = None
    thoughts_token_count: Count | None = None
    cached_content_token_count: Count | None = None
    tool_use_prompt_token_count: Count | None = None
    total_token_count: Count | None = None
    prompt_tokens_details: list[ModalityCount] | None = None
    candidates_tokens_details: list[ModalityCount] | None = None

    def to_usage(self) -> Usage:
        """Convert to the one meaning that the gateway uses."""
        given = self.prompt_token_count
        # What the vendor's own tools put into the prompt is read, and paid for, as the rest of it.
        prompt = self.tool_use_prompt_token_count if given is None else given + (self.tool_use_prompt_token_count or 0)
        candidates, thoughts = self.candidates_token_count, self.thoughts_token_count
        output = None if candidates is None and thoughts is None else (candidates or 0) + (thoughts or 0)
        if output is None and prompt is not None and self.total_token_count is not None:
            output = max(self.total_token_count - prompt, 0)
        return Usage(
            input=prompt,
            output=output,
            cache_read=self.cached_content_token_count,
            reasoning=thoughts,
            audio_in=_audio(self.prompt_tokens_details),
            audio_out=_audio(self.candidates_tokens_details),
        )


_DECODER: Final = msgspec.json.Decoder(UsageFields | None)


def read_fields(raw: msgspec.Raw) -> UsageFields | None:
    """Read a `usageMetadata` value; one of a shape that is not the format's counts as not reported."""
    try:
        fields: UsageFields | None = _DECODER.decode(raw)
    except msgspec.ValidationError:
        return None
    return fields


def read_usage(raw: msgspec.Raw) -> Usage:
    """Read a `usageMetadata` value as what it means."""
    fields = read_fields(raw)
    return NOT_REPORTED if fields is None else fields.to_usage()


def usage_fields(usage: Usage) -> dict[str, int]:
    """Return `usageMetadata` for a client; what was not reported is left out."""
    fields: dict[str, int] = {}
    if usage.input is not None:
        fields["promptTokenCount"] = usage.input
    if usage.output is not None:
        fields["candidatesTokenCount"] = max(usage.output - (usage.reasoning or 0), 0)
    if usage.input is not None and usage.output is not None:
        fields["totalTokenCount"] = usage.input + usage.output
    if usage.cache_read is not None:
        fields["cachedContentTokenCount"] = usage.cache_read
    if usage.reasoning is not None:
        fields["thoughtsTokenCount"] = usage.reasoning
    return fields


def _audio(details: list[ModalityCount] | None) -> int | None:
    for detail in details or ():
        if detail.modality == "AUDIO":
            return detail.token_count
    return None

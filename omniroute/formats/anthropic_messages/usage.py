"""Token counts of Messages: `input_tokens` excludes cache reads and writes, so they are added on the way in."""

from __future__ import annotations

from typing import Any

import msgspec

from omniroute.formats.usage import Count, Usage


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: Count | None = None
    ephemeral_1h_input_tokens: Count | None = None


class _ServerTools(msgspec.Struct):
    web_search_requests: Count | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: Count | None = None


class UsageFields(msgspec.Struct):
    """The `usage` object of an answer, of `message_start` or of `message_delta`."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_creation: _CacheCreation | None = None
    server_tool_use: _ServerTools | None = None
    output_tokens_details: _OutputDetails | None = None

    def merge(self, later: UsageFields) -> UsageFields:
        """Return the highest count of each field: reports are cumulative, and some hosts send 0 first or last."""
        changed: dict[str, Any] = {}
        for name in self.__struct_fields__:
            old, new = getattr(self, name), getattr(later, name)
            if new is not None and (old is None or not isinstance(new, int) or new > old):
                changed[name] = new
        return msgspec.structs.replace(self, **changed)

    def to_usage(self) -> Usage:
        """Convert to the one meaning that the gateway uses."""
        written, kept_long = self.cache_creation_input_tokens, None
        if (split := self.cache_creation) is not None:
            kept_long = split.ephemeral_1h_input_tokens
            if written is None and (kept_long is not None or split.ephemeral_5m_input_tokens is not None):
                written = (kept_long or 0) + (split.ephemeral_5m_input_tokens or 0)
        total = None
        if self.input_tokens is not None:
            total = self.input_tokens + (self.cache_read_input_tokens or 0) + (written or 0)
        return Usage(
            input=total,
            output=self.output_tokens,
            cache_read=self.cache_read_input_tokens,
            cache_write=written,
            cache_write_1h=kept_long,
            reasoning=None if self.output_tokens_details is None else self.output_tokens_details.thinking_tokens,
            web_searches=None if self.server_tool_use is None else self.server_tool_use.web_search_requests,
        )


class _PlainFields(msgspec.Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None


_DECODER = msgspec.json.Decoder(UsageFields | None)
_PLAIN_DECODER = msgspec.json.Decoder(_PlainFields | None)
_NOTHING = UsageFields()


def read_fields(raw: msgspec.Raw) -> UsageFields:
    """Read a `usage` value; one of a shape that is not the format's counts as not reported.

    Hosts that imitate the format give the details other shapes; the plain counts are read without them then.
    """
    try:
        return _DECODER.decode(raw) or _NOTHING
    except msgspec.ValidationError:
        pass
    try:
        plain = _PLAIN_DECODER.decode(raw) or _PlainFields()
    except msgspec.ValidationError:
        return _NOTHING
    return UsageFields(
        plain.input_tokens, plain.output_tokens, plain.cache_read_input_tokens, plain.cache_creation_input_tokens
    )


def render_usage(usage: Usage) -> dict[str, Any]:
    """Return the `usage` object: both counts always, since clients demand them, and what else is known."""
    read, written = usage.cache_read, usage.cache_write
    members: dict[str, Any] = {
        "input_tokens": max((usage.input or 0) - (read or 0) - (written or 0), 0),
        "output_tokens": usage.output or 0,
    }
    if read is not None:
        members["cache_read_input_tokens"] = read
    if written is not None:
        members["cache_creation_input_tokens"] = written
        if usage.cache_write_1h is not None:
            kept_long = min(usage.cache_write_1h, written)
            members["cache_creation"] = {
                "ephemeral_5m_input_tokens": written - kept_long,
                "ephemeral_1h_input_tokens": kept_long,
            }
    if usage.web_searches is not None:
        members["server_tool_use"] = {"web_search_requests": usage.web_searches, "web_fetch_requests": 0}
    if usage.reasoning is not None:
        members["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return members

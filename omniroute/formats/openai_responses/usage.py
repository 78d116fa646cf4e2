"""Token counts of Responses: `input_tokens` includes cached ones, `output_tokens` includes reasoning."""

from __future__ import annotations

import msgspec

from omniroute.formats.usage import NOT_REPORTED, Count, Usage


class _InputDetails(msgspec.Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Count | None = None


class _WebSearch(msgspec.Struct):
    num_requests: Count | None = None


class _ToolUsage(msgspec.Struct):
    web_search: _WebSearch | None = None


class UsageFields(msgspec.Struct):
    """The `usage` object; hosts leave out what they do not count."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None

    def to_usage(self) -> Usage:
        """Convert to the one meaning that the gateway uses."""
        came, went = self.input_tokens_details, self.output_tokens_details
        return Usage(
            input=self.input_tokens,
            output=self.output_tokens,
            cache_read=None if came is None else came.cached_tokens,
            cache_write=None if came is None else came.cache_write_tokens,
            reasoning=None if went is None else went.reasoning_tokens,
        )


_NOTHING = msgspec.Raw(b"null")
_DECODER = msgspec.json.Decoder(UsageFields | None)
_TOOLS_DECODER = msgspec.json.Decoder(_ToolUsage | None)


def read_usage(raw: msgspec.Raw, tool_usage: msgspec.Raw = _NOTHING) -> Usage:
    """Read `usage` and `tool_usage`; values of a shape that is not the format's count as not reported."""
    try:
        fields = _DECODER.decode(raw)
    except msgspec.ValidationError:
        fields = None
    usage = NOT_REPORTED if fields is None else fields.to_usage()
    if tool_usage == _NOTHING:
        return usage
    try:
        tools = _TOOLS_DECODER.decode(tool_usage)
    except msgspec.ValidationError:
        return usage
    if tools is None or tools.web_search is None or tools.web_search.num_requests is None:
        return usage
    return msgspec.structs.replace(usage, web_searches=tools.web_search.num_requests)


def render_usage(usage: Usage) -> bytes:
    """Return the `usage` value of a response: `null` when nothing was reported.

    The details are required members there, so a count that was not reported stands as 0 in them.
    """
    if usage.input is None and usage.output is None:
        return b"null"
    came, went = usage.input or 0, usage.output or 0
    return (
        b'{"input_tokens":%d,"input_tokens_details":{"cached_tokens":%d,"cache_write_tokens":%d},'
        b'"output_tokens":%d,"output_tokens_details":{"reasoning_tokens":%d},"total_tokens":%d}'
    ) % (came, usage.cache_read or 0, usage.cache_write or 0, went, usage.reasoning or 0, came + went)

"""Token counts of Messages: `input_tokens` excludes cache reads and writes, so they are added on the way in."""

from __future__ import annotations

import msgspec

from omniroute.formats.usage import Count, Usage


class UsageFields(msgspec.Struct):
    """The `usage` object of an answer, of `message_start` or of `message_delta`."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None

    def merge(self, later: UsageFields) -> UsageFields:
        """Return these fields with every field that `later` reports in its place."""
        changed = {name: value for name in self.__struct_fields__ if (value := getattr(later, name)) is not None}
        return msgspec.structs.replace(self, **changed)

    def to_usage(self) -> Usage:
        """Convert to the one meaning that the gateway uses."""
        total = None
        if self.input_tokens is not None:
            total = self.input_tokens + (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
        return Usage(
            input=total,
            output=self.output_tokens,
            cache_read=self.cache_read_input_tokens,
            cache_write=self.cache_creation_input_tokens,
        )


_DECODER = msgspec.json.Decoder(UsageFields | None)
_NOTHING = UsageFields()


def read_fields(raw: msgspec.Raw) -> UsageFields:
    """Read a `usage` value; one of a shape that is not the format's counts as not reported."""
    try:
        return _DECODER.decode(raw) or _NOTHING
    except msgspec.ValidationError:
        return _NOTHING

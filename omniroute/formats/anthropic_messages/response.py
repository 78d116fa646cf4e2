"""A whole Messages answer, as far as the gateway reads it."""

from __future__ import annotations

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.anthropic_messages.usage import read_fields
from omniroute.formats.usage import Usage


class _Answer(msgspec.Struct):
    type: str | None = None
    content: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    model: msgspec.Raw = msgspec.Raw(b"")


_DECODER = msgspec.json.Decoder(_Answer)


def read_answer(body: bytes) -> tuple[Usage, bytes] | None:
    """Return the token counts of an answer and its `model` as it is spelt there.

    Returns None when the body is an error object in spite of its status 200.

    Raises:
        UpstreamProtocolError: the body is not a Messages answer.
    """
    try:
        answer = _DECODER.decode(body)
    except msgspec.DecodeError:
        raise UpstreamProtocolError("The provider's answer is not valid JSON.") from None
    if answer.type == "error":
        return None
    if answer.content is None:
        raise UpstreamProtocolError("The provider's answer has no content.")
    return read_fields(answer.usage).to_usage(), bytes(answer.model)

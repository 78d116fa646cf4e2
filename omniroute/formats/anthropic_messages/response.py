"""A whole Messages answer: what passing it through must know of it, and its translation in both directions."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.anthropic_messages.answer_renderer import render_answer_block
from omniroute.formats.anthropic_messages.content_parser import parse_answer_block
from omniroute.formats.anthropic_messages.stops import parse_stop, render_stop
from omniroute.formats.anthropic_messages.usage import read_fields, render_usage
from omniroute.formats.canonical import NO_EXTRA, Answer, Block, Text
from omniroute.formats.codec import Reply
from omniroute.formats.members import (
    NULL,
    BadShape,
    Members,
    as_spelt,
    is_text,
    list_of,
    object_of,
    take_text_if_any,
    text_of,
)
from omniroute.formats.surrogates import mend
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.ANTHROPIC_MESSAGES
_SAID_ELSEWHERE: Final = frozenset({"type", "role"})


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


def parse_answer(body: bytes) -> Answer | None:
    """See :class:`omniroute.formats.codec.AnswerParser`."""
    try:
        return _parse(object_of(mend(body)))
    except BadShape as error:
        raise error.for_provider() from None


def _parse(members: Members) -> Answer | None:
    if take_text_if_any(members, "type") == "error" or ("content" not in members and "error" in members):
        return None
    content = members.pop("content", None)
    if content is None:
        raise UpstreamProtocolError("The provider's answer has no content.")
    usage = read_fields(members.pop("usage", NULL)).to_usage()
    stop = parse_stop(take_text_if_any(members, "stop_reason"))
    sequence = take_text_if_any(members, "stop_sequence")
    answer_id, model = take_text_if_any(members, "id"), take_text_if_any(members, "model")
    extra = {name: raw for name, raw in as_spelt(members).items() if raw != NULL and name not in _SAID_ELSEWHERE}
    return Answer(
        _ORIGIN,
        answer_id or "",
        model or "",
        _blocks(content),
        stop,
        sequence,
        usage,
        extra=extra or NO_EXTRA,
    )


def _blocks(content: msgspec.Raw) -> tuple[Block, ...]:
    if content == NULL:
        return ()
    if is_text(content):
        return (Text(text_of(content)),)
    blocks = []
    for index, raw in enumerate(list_of(content, "content")):
        try:
            blocks.append(parse_answer_block(raw))
        except BadShape as error:
            raise error.under(f"content.{index}") from None
    return tuple(blocks)


def render_answer(answer: Answer, reply: Reply) -> bytes:
    """See :class:`omniroute.formats.codec.AnswerRenderer`."""
    content = [one for block in answer.blocks if (one := render_answer_block(block, answer)) is not None]
    reason, sequence = render_stop(answer.stop, answer.stop_sequence, reply.request)
    members: dict[str, Any] = {
        "id": message_id(reply),
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": render_usage(answer.usage),
    }
    if answer.origin is _ORIGIN:
        members.update(as_spelt(answer.extra))
    return msgspec.json.encode(members)


def message_id(reply: Reply) -> str:
    """Return the id of the answer: one per request, whatever provider answered in the end."""
    return f"msg_{reply.id}"

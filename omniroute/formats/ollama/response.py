"""A whole Ollama answer: what passing it through must know of it, and its translation in both directions."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import Answer, Block, Text, Thinking
from omniroute.formats.codec import Reply
from omniroute.formats.members import EMPTY_LIST, EMPTY_TEXT, NULL
from omniroute.formats.ollama.answer_renderer import message_of, render_time
from omniroute.formats.ollama.chunk import Chunk, Message, call_of, created_of, image_of, read_chunk, stop_of
from omniroute.formats.ollama.stops import render_stop
from omniroute.formats.ollama.usage import read_usage, render_usage
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.OLLAMA


class _Named(msgspec.Struct):
    model: msgspec.Raw = msgspec.Raw(b"")


_NAMED: Final = msgspec.json.Decoder(_Named)
_NOTHING: Final = (NULL, EMPTY_LIST, EMPTY_TEXT)


def read_answer(body: bytes) -> tuple[Usage, bytes] | None:
    """Return the token counts of an answer and its `model` as it is spelt there.

    Returns None when the body is an error object in spite of its status 200.

    Raises:
        UpstreamProtocolError: the body is not an answer.
    """
    chunk = _read(body)
    if chunk is None:
        return None
    return read_usage(body), bytes(_NAMED.decode(body).model)


def parse_answer(body: bytes) -> Answer | None:
    """See :class:`omniroute.formats.codec.AnswerParser`."""
    chunk = _read(body)
    if chunk is None:
        return None
    return Answer(
        _ORIGIN,
        "",
        chunk.model or "",
        _blocks(chunk.message or Message(), None if chunk.logprobs in _NOTHING else chunk.logprobs),
        stop_of(chunk),
        usage=read_usage(body),
        created=created_of(chunk),
    )


def _read(body: bytes) -> Chunk | None:
    chunk = read_chunk(body)
    if chunk.error != NULL:
        return None
    if chunk.message is None:
        raise UpstreamProtocolError("The provider's answer has no message.")
    if chunk.done is False:
        raise UpstreamProtocolError("The provider's answer broke off before its end.")
    return chunk


def _blocks(message: Message, logprobs: msgspec.Raw | None) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if message.thinking:
        blocks.append(Thinking(message.thinking))
    if message.content:
        blocks.append(Text(message.content, logprobs=logprobs))
    blocks += [image_of(data) for data in message.images or ()]
    blocks += [called for call in message.tool_calls or () if (called := call_of(call)) is not None]
    return tuple(blocks)


def render_answer(answer: Answer, reply: Reply) -> bytes:
    """See :class:`omniroute.formats.codec.AnswerRenderer`; the answer is one to `/api/chat`."""
    message = message_of(answer.blocks, answer.stop)
    return msgspec.json.encode(_head(reply) | {"message": message} | _end(answer) | _logprobs(answer))


def render_generate_answer(answer: Answer, reply: Reply) -> bytes:
    """Return the answer to `/api/generate`, which has the text where a chat has its message."""
    message = message_of(answer.blocks, answer.stop)
    del message["role"]
    said = {"response": message.pop("content"), **message}
    return msgspec.json.encode(_head(reply) | said | _end(answer) | _logprobs(answer))


def _head(reply: Reply) -> dict[str, Any]:
    return {"model": reply.model, "created_at": render_time(reply.created)}


def _end(answer: Answer) -> dict[str, Any]:
    return {"done_reason": render_stop(answer.stop), "done": True, **render_usage(answer.usage)}


def _logprobs(answer: Answer) -> dict[str, Any]:
    for block in answer.blocks:
        if isinstance(block, Text) and block.logprobs is not None:
            return {"logprobs": block.logprobs}
    return {}

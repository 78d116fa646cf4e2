"""The canonical answer to a whole text completion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from omniroute.formats.canonical import Answer, Refusal, Stop, Text
from omniroute.formats.codec import Reply
from omniroute.formats.fold import join_lists
from omniroute.formats.openai_chat.usage import render_usage
from omniroute.formats.openai_completions.request_parser import ECHO_NOTE
from omniroute.formats.wire import WireFormat

_FINISHES: Final = {Stop.LENGTH: "length", Stop.CONTEXT_FULL: "length", Stop.REFUSAL: "content_filter"}


def answer_id(reply: Reply) -> str:
    """Return the id of the answer to one request."""
    return f"cmpl-{reply.id}"


def finish_of(stop: Stop) -> str:
    """Return the finish reason: the format has three."""
    return _FINISHES.get(stop, "stop")


def echo_of(reply: Reply) -> str:
    """Return what the answer begins with: the prompt, where the client asked for it."""
    request = reply.request
    if ECHO_NOTE not in request.extra:
        return ""
    return "".join(block.text for message in request.messages for block in message.blocks if isinstance(block, Text))


def render_answer(answer: Answer, reply: Reply) -> bytes:
    """See :class:`omniroute.formats.codec.AnswerRenderer`."""
    echo = echo_of(reply)
    body: dict[str, Any] = {
        "id": answer_id(reply),
        "object": "text_completion",
        "created": reply.created,
        "model": reply.model,
        "choices": [_choice(index, choice, echo) for index, choice in enumerate((answer, *answer.others))],
        "usage": render_usage(answer.usage),
    }
    fingerprint = answer.extra.get("system_fingerprint")
    if answer.origin is WireFormat.OPENAI_CHAT and fingerprint is not None:
        body["system_fingerprint"] = fingerprint
    return msgspec.json.encode(body)


def _choice(index: int, answer: Answer, echo: str) -> dict[str, Any]:
    said = [block for block in answer.blocks if isinstance(block, Text | Refusal)]
    logprobs = [block.logprobs for block in said if isinstance(block, Text) and block.logprobs is not None]
    return {
        "text": echo + "".join(block.text for block in said),
        "index": index,
        "logprobs": legacy_logprobs(join_lists(logprobs), 0) if logprobs else None,
        "finish_reason": finish_of(answer.stop),
    }


class _Alternative(msgspec.Struct):
    token: str = ""
    logprob: float | None = None


class _Token(_Alternative):
    top_logprobs: list[_Alternative] | None = None


_TOKENS: Final = msgspec.json.Decoder(list[_Token])


def legacy_logprobs(tokens: msgspec.Raw, start: int) -> dict[str, Any] | None:
    """Return log probabilities as this format writes them: four lists side by side.

    Args:
        tokens: list of token objects of the chat format.
        start: where the first token begins in the text.
    """
    try:
        found = _TOKENS.decode(tokens)
    except msgspec.ValidationError:
        return None
    offsets: list[int] = []
    for token in found:
        offsets.append(start)
        start += len(token.token)
    return {
        "tokens": [token.token for token in found],
        "token_logprobs": [token.logprob for token in found],
        "top_logprobs": [_by_token(token.top_logprobs or ()) for token in found],
        "text_offset": offsets,
    }


def _by_token(alternatives: Iterable[_Alternative]) -> dict[str, float | None]:
    return {one.token: one.logprob for one in alternatives}

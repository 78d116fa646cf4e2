"""A whole Chat Completions answer: what the gateway reads of one that passes through, and both ways of translation."""

from __future__ import annotations

from typing import Any

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.openai_chat.answer_parser import parse_answer
from omniroute.formats.openai_chat.answer_renderer import render_answer
from omniroute.formats.openai_chat.usage import read_usage
from omniroute.formats.usage import Usage

__all__ = ["parse_answer", "read_answer", "render_answer"]


class _Answer(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    model: msgspec.Raw = msgspec.Raw(b"")
    error: Any = None


_DECODER = msgspec.json.Decoder(_Answer)


def read_answer(body: bytes) -> tuple[Usage, bytes] | None:
    """Return the token counts of an answer and its `model` as it is spelt there.

    Returns None when the body is an error object in spite of its status 200.

    Raises:
        UpstreamProtocolError: the body is not a Chat Completions answer.
    """
    try:
        answer = _DECODER.decode(body)
    except msgspec.DecodeError:
        raise UpstreamProtocolError("The provider's answer is not valid JSON.") from None
    if answer.error is not None:
        return None
    if answer.choices is None:
        raise UpstreamProtocolError("The provider's answer has no choices.")
    return read_usage(answer.usage), bytes(answer.model)

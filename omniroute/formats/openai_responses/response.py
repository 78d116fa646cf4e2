"""A whole Responses answer: read for passthrough, parsed from a provider, rendered for a client."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import Answer
from omniroute.formats.codec import Reply
from omniroute.formats.events import MessageStart
from omniroute.formats.fold import unfold
from omniroute.formats.openai_responses.output_parser import ORIGIN, blocks_of, stop_for
from omniroute.formats.openai_responses.stream_renderer import Renderer
from omniroute.formats.openai_responses.usage import read_usage
from omniroute.formats.usage import Usage

_NULL: Final = msgspec.Raw(b"null")
_UNFINISHED: Final = frozenset({"in_progress", "queued", "cancelled"})


class _Details(msgspec.Struct):
    reason: str | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    model: msgspec.Raw = msgspec.Raw(b"")
    created_at: float | None = None
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    incomplete_details: _Details | None = None
    error: Any = None
    usage: msgspec.Raw = _NULL
    tool_usage: msgspec.Raw = _NULL


_DECODER: Final = msgspec.json.Decoder(_Answer)
_MODEL: Final = msgspec.json.Decoder(str)


def read_answer(body: bytes) -> tuple[Usage, bytes] | None:
    """Return the token counts of an answer and its `model` as it is spelt there.

    Returns None when the body is an error object in spite of its status 200.

    Raises:
        UpstreamProtocolError: the body is not a Responses answer.
    """
    answer = _read(body)
    return None if answer is None else (read_usage(answer.usage, answer.tool_usage), bytes(answer.model))


def read_id(body: bytes) -> str | None:
    """Return the id of an answer, by which a later request may go on from it; None when it has none."""
    try:
        return _DECODER.decode(body).id
    except msgspec.DecodeError:
        return None


def _read(body: bytes) -> _Answer | None:
    try:
        answer = _DECODER.decode(body)
    except msgspec.ValidationError:
        raise UpstreamProtocolError("The provider's answer is not a response object.") from None
    except msgspec.DecodeError:
        raise UpstreamProtocolError("The provider's answer is not valid JSON.") from None
    if answer.error is not None or answer.status == "failed":
        return None
    if answer.output is None:
        raise UpstreamProtocolError("The provider's answer has no output.")
    return answer


def parse_answer(body: bytes) -> Answer | None:
    """Parse an answer; see :class:`omniroute.formats.codec.AnswerParser`."""
    answer = _read(body)
    if answer is None:
        return None
    if answer.status in _UNFINISHED:
        raise UpstreamProtocolError("The provider's answer is not finished.")
    blocks = blocks_of(answer.output or ())
    details = answer.incomplete_details
    is_incomplete = answer.status == "incomplete" or (details is not None and answer.status != "completed")
    try:
        model = _MODEL.decode(answer.model)
    except msgspec.DecodeError:
        model = ""
    return Answer(
        ORIGIN,
        answer.id or "",
        model,
        blocks,
        stop_for(None if details is None else details.reason, blocks, is_incomplete=is_incomplete),
        usage=read_usage(answer.usage, answer.tool_usage),
        created=None if answer.created_at is None else int(answer.created_at),
    )


def render_answer(answer: Answer, reply: Reply) -> bytes:
    """Render an answer; see :class:`omniroute.formats.codec.AnswerRenderer`.

    It is what the last event of its stream would hold, so that the two cannot differ.
    """
    renderer = Renderer(reply)
    renderer.render([event for event in unfold(answer) if not isinstance(event, MessageStart)])
    return renderer.response

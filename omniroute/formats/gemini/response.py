"""A whole Gemini answer."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import Answer
from omniroute.formats.codec import Reply
from omniroute.formats.events import StreamError
from omniroute.formats.fold import Folder
from omniroute.formats.gemini.answer_renderer import render_candidate
from omniroute.formats.gemini.assembler import Assembler, broken
from omniroute.formats.gemini.chunk import Candidate, Chunk, is_said, read_chunk
from omniroute.formats.gemini.stops import BROKEN
from omniroute.formats.gemini.usage import read_usage, usage_fields
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat


class _Answer(msgspec.Struct, rename="camel"):
    candidates: list[msgspec.Raw] | None = None
    prompt_feedback: dict[str, Any] | None = None
    usage_metadata: msgspec.Raw = msgspec.Raw(b"null")
    model_version: msgspec.Raw = msgspec.Raw(b"")
    error: Any = None


_DECODER: Final = msgspec.json.Decoder(_Answer)


def read_answer(body: bytes) -> tuple[Usage, bytes] | None:
    """Return the token counts of an answer and its `modelVersion` as it is spelt there.

    Returns None when the body is an error object in spite of its status 200.

    Raises:
        UpstreamProtocolError: the body is not a Gemini answer.
    """
    try:
        answer = _DECODER.decode(body)
    except msgspec.DecodeError:
        raise UpstreamProtocolError("The provider's answer is not valid JSON.") from None
    if answer.error is not None:
        return None
    if answer.candidates is None and answer.prompt_feedback is None:
        raise UpstreamProtocolError("The provider's answer has no candidates.")
    return read_usage(answer.usage_metadata), bytes(answer.model_version)


def parse_answer(body: bytes) -> Answer | None:
    """Return the answer that a body is; None for an error object.

    Raises:
        UpstreamProtocolError: it is no answer, or one that did not come about.
    """
    chunk = read_chunk(body)
    if is_said(chunk.error):
        return None
    candidates = sorted(chunk.candidates or (), key=lambda candidate: candidate.index or 0)
    for candidate in candidates:
        if candidate.finish_reason in BROKEN:
            message = msgspec.json.decode(broken(candidate))["error"]["message"]
            raise UpstreamProtocolError(message)
    if not candidates:
        if chunk.prompt_feedback is None or not chunk.prompt_feedback.block_reason:
            raise UpstreamProtocolError("The provider's answer has no candidates.")
        return _whole(chunk, body, None)
    first, *others = (_whole(chunk, body, candidate) for candidate in candidates)
    return msgspec.structs.replace(first, others=tuple(others)) if others else first


def _whole(chunk: Chunk, body: bytes, candidate: Candidate | None) -> Answer:
    assembler, folder = Assembler(), Folder(WireFormat.GEMINI)
    events = assembler.take(chunk, body, candidate)
    events += assembler.close(is_whole=assembler.has_parts)
    if any(isinstance(event, StreamError) for event in events):
        raise UpstreamProtocolError("The provider's answer has no content and no finish reason.")
    folder.see(events)
    return folder.answer()


def render_answer(answer: Answer, reply: Reply) -> bytes:
    """Return the body for a client."""
    answers = (answer, *answer.others)
    body: dict[str, Any] = {
        "candidates": [render_candidate(one, index, reply) for index, one in enumerate(answers)],
        "usageMetadata": usage_fields(answer.usage),
        "modelVersion": reply.model,
        "responseId": reply.id,
    }
    return msgspec.json.encode(body)

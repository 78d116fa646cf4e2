"""A whole Chat Completions answer to the canonical one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import (
    NO_EXTRA,
    Answer,
    Block,
    CallKind,
    Media,
    Refusal,
    Stop,
    Text,
    Thinking,
    ToolCall,
    stop_of,
)
from omniroute.formats.inline_think import InlineThink
from omniroute.formats.members import NULL, BadShape
from omniroute.formats.openai_chat.finish import is_failure, stop_from
from omniroute.formats.openai_chat.reasoning_details import parse_detail
from omniroute.formats.openai_chat.shapes import (
    ANSWER,
    WireAnswer,
    WireCall,
    WireChoice,
    WireFunction,
    WireMessage,
    arguments_text,
    audio_of,
    citation_of,
    image_of,
    logprobs_of,
    pieces_of,
    sources_of,
)
from omniroute.formats.surrogates import mend
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.OPENAI_CHAT


def parse_answer(body: bytes) -> Answer | None:
    """See :class:`omniroute.formats.codec.AnswerParser`."""
    answer = _decoded(body)
    if answer.is_error:
        return None
    if not answer.choices:
        raise UpstreamProtocolError("The provider's answer has no choices.")
    choices = sorted(answer.choices, key=lambda choice: choice.index or 0)
    first, *others = (_choice(answer, choice) for choice in choices)
    extra = {
        name: value
        for name, value in (
            ("system_fingerprint", answer.system_fingerprint),
            ("service_tier", answer.service_tier),
        )
        if value != NULL
    }
    return msgspec.structs.replace(first, usage=answer.counted, others=tuple(others), extra=extra or NO_EXTRA)


def _decoded(body: bytes) -> WireAnswer:
    try:
        return ANSWER.decode(body)
    except msgspec.ValidationError as error:
        raise UpstreamProtocolError(f"The provider's answer is not of its format: {error}.") from None
    except msgspec.DecodeError:
        pass
    try:
        return ANSWER.decode(mend(body))
    except msgspec.DecodeError:
        raise UpstreamProtocolError("The provider's answer is not valid JSON.") from None


def _choice(answer: WireAnswer, choice: WireChoice) -> Answer:
    message = choice.message or choice.delta or WireMessage()
    if is_failure(choice.finish):
        raise UpstreamProtocolError(f"The provider broke off its answer: {choice.finish}.")
    blocks = _blocks(answer, choice, message)
    stop, sequence = stop_from(choice.finish, choice.stop_reason)
    if stop is Stop.END and any(isinstance(block, Refusal) for block in blocks):
        stop = Stop.REFUSAL
    stop = stop_of(stop, (block for block in blocks if isinstance(block, ToolCall)))
    return Answer(
        origin=_ORIGIN,
        id=answer.id if isinstance(answer.id, str) else "",
        model=answer.model if isinstance(answer.model, str) else "",
        blocks=tuple(blocks),
        stop=stop,
        stop_sequence=sequence if stop is Stop.STOP_SEQUENCE else None,
        created=answer.created_at,
    )


def _blocks(answer: WireAnswer, choice: WireChoice, message: WireMessage) -> list[Block]:
    blocks: list[Block] = list(_reasoning(message))
    blocks += _content(message, has_reasoning=bool(blocks))
    _annotate(blocks, answer, choice, message)
    if message.refusal:
        blocks.append(Refusal(message.refusal))
    blocks += (media for image in message.images or () if (media := image_of(image)) is not None)
    spoken = None if message.audio is None else audio_of(message.audio)
    if spoken is not None:
        blocks.append(spoken)
    blocks += (call for wire in message.tool_calls or () if (call := _call(wire)).name)
    if message.function_call is not None and message.function_call.name:
        blocks.append(_function(message.function_call, ""))
    return blocks


def _reasoning(message: WireMessage) -> Iterable[Thinking]:
    """Return the reasoning of a turn; hosts send it as text and in elements, which must not become two of it."""
    plain = message.plain_reasoning
    details = [detail for detail, _ in details_of(message.reasoning_details or ())]
    if not plain or any(detail.text for detail in details):
        return details
    signed = [place for place, detail in enumerate(details) if not detail.redacted]
    if len(signed) != 1:
        return [Thinking(plain), *(detail for detail in details if detail.redacted)]
    details[signed[0]] = msgspec.structs.replace(details[signed[0]], text=plain)
    return details


def details_of(elements: Iterable[msgspec.Raw]) -> list[tuple[Thinking, msgspec.Raw | None]]:
    """Return the elements of an answer that can be read and say something, and the number of each."""
    details: list[tuple[Thinking, msgspec.Raw | None]] = []
    for raw in elements:
        try:
            detail = parse_detail(raw)
        except BadShape:
            continue
        if detail.text or detail.token is not None:
            details.append((msgspec.structs.replace(detail, extra=NO_EXTRA), detail.extra.get("index")))
    return details


def _content(message: WireMessage, *, has_reasoning: bool) -> list[Block]:
    content = message.content
    if content is None or content == "":
        return []
    if not isinstance(content, str):
        return _merged(pieces_of(content))
    if has_reasoning:
        return [Text(content)]
    inline = InlineThink()
    return _merged([*inline.feed(content), *inline.close()])


def _merged(pieces: Iterable[tuple[bool, str] | Media]) -> list[Block]:
    blocks: list[Block] = []
    for piece in pieces:
        last = blocks[-1] if blocks else None
        if isinstance(piece, Media):
            blocks.append(piece)
            continue
        is_thinking, text = piece
        kind: type[Text | Thinking] = Thinking if is_thinking else Text
        if isinstance(last, kind):
            blocks[-1] = msgspec.structs.replace(last, text=last.text + text)
        else:
            blocks.append(kind(text))
    return blocks


def _annotate(blocks: list[Block], answer: WireAnswer, choice: WireChoice, message: WireMessage) -> None:
    """Put sources and log probabilities on the last text."""
    citations = tuple(citation_of(raw) for raw in message.annotations or ()) or sources_of(answer)
    logprobs = None if choice.logprobs == NULL else logprobs_of(choice.logprobs)
    if not citations and logprobs is None:
        return
    for place in range(len(blocks) - 1, -1, -1):
        block = blocks[place]
        if isinstance(block, Text):
            blocks[place] = msgspec.structs.replace(block, citations=citations, logprobs=logprobs)
            return


def _call(wire: WireCall) -> ToolCall:
    call_id = "" if wire.id is None else str(wire.id)
    if wire.custom is not None:
        name = wire.custom.name or ""
        return ToolCall(call_id, name, arguments_text(wire.custom.input), CallKind.CUSTOM, wire.token)
    call = _function(wire.function or WireFunction(), call_id)
    return call if wire.token is None else msgspec.structs.replace(call, token=wire.token)


def _function(function: WireFunction, call_id: str) -> ToolCall:
    return ToolCall(call_id, function.name or "", arguments_text(function.arguments))

"""The canonical answer to a whole Chat Completions answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from omniroute.formats.canonical import (
    Answer,
    CallKind,
    Citation,
    Media,
    MediaKind,
    Refusal,
    SourceKind,
    Text,
    Thinking,
    Token,
    ToolCall,
)
from omniroute.formats.codec import Reply
from omniroute.formats.fold import join_lists
from omniroute.formats.openai_chat.finish import finish_for
from omniroute.formats.openai_chat.media import part_of
from omniroute.formats.openai_chat.message_renderer import signature_of
from omniroute.formats.openai_chat.reasoning_details import detail_of
from omniroute.formats.openai_chat.request_parser import has_legacy_calls
from omniroute.formats.openai_chat.usage import render_usage
from omniroute.formats.wire import WireFormat

Json = dict[str, Any]

_ORIGIN: Final = WireFormat.OPENAI_CHAT
_SPEECH_IS_KEPT_S: Final = 3600


def answer_id(reply: Reply) -> str:
    """Return the id of the answer to one request."""
    return reply.answer_id or f"chatcmpl-{reply.id}"


def render_answer(answer: Answer, reply: Reply) -> bytes:
    """See :class:`omniroute.formats.codec.AnswerRenderer`."""
    body: Json = {
        "id": answer_id(reply),
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.model,
        "choices": [_choice(index, choice, reply) for index, choice in enumerate((answer, *answer.others))],
        "usage": render_usage(answer.usage),
    }
    if answer.origin is _ORIGIN:
        body.update(answer.extra)
    return msgspec.json.encode(body)


def _choice(index: int, answer: Answer, reply: Reply) -> Json:
    is_legacy = has_legacy_calls(reply.request.extra)
    has_refusal = any(isinstance(block, Refusal) for block in answer.blocks)
    logprobs = [block.logprobs for block in answer.blocks if isinstance(block, Text) and block.logprobs is not None]
    return {
        "index": index,
        "message": _message(answer, reply, is_legacy=is_legacy),
        "logprobs": {"content": join_lists(logprobs), "refusal": None} if logprobs else None,
        "finish_reason": finish_for(answer.stop, has_refusal=has_refusal, is_legacy=is_legacy),
    }


def _message(answer: Answer, reply: Reply, *, is_legacy: bool) -> Json:
    texts = [block for block in answer.blocks if isinstance(block, Text)]
    thoughts = [block for block in answer.blocks if isinstance(block, Thinking)]
    refusals = [block.text for block in answer.blocks if isinstance(block, Refusal)]
    content = "".join(text.text for text in texts)
    message: Json = {
        "role": "assistant",
        "content": content if content or not (answer.calls or refusals) else None,
        "refusal": "".join(refusals) or None,
    }
    reasoning = "".join(thought.text for thought in thoughts)
    if reasoning:
        message["reasoning_content"] = reasoning
    details = [detail_of(thought, index) for index, thought in enumerate(thoughts) if is_shown(thought.token)]
    if details:
        message["reasoning_details"] = details
    annotations = _annotations(texts)
    if annotations:
        message["annotations"] = annotations
    _add_media(message, (block for block in answer.blocks if isinstance(block, Media)), reply)
    if answer.calls and is_legacy:
        call = answer.calls[0]  # the old form has room for one; the model asks for the next when it sees the result
        message["function_call"] = {"name": call.name, "arguments": call.arguments or "{}"}
    elif answer.calls:
        message["tool_calls"] = [_call(call) for call in answer.calls]
    return message


def is_shown(token: Token | None) -> bool:
    """Say whether a client is shown an opaque token: only those of this format come back to where they are from."""
    return token is not None and token.origin is _ORIGIN


def call_head(call: ToolCall) -> Json:
    """Return a call without its arguments."""
    kind = call.kind.value
    member = "input" if call.kind is CallKind.CUSTOM else "arguments"
    return {"id": call.id, "type": kind, kind: {"name": call.name, member: ""}}


def _call(call: ToolCall) -> Json:
    if call.kind is CallKind.CUSTOM:
        written: Json = {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    else:
        function = {"name": call.name, "arguments": call.arguments or "{}"}
        written = {"id": call.id, "type": "function", "function": function}
    if is_shown(call.token):
        written["extra_content"] = signature_of(call.token)
    return written


# --- sources ---------------------------------------------------------------------------------------------------------


def _annotations(texts: Iterable[Text]) -> list[Any]:
    annotations: list[Any] = []
    start = 0
    for text in texts:
        end = start + len(text.text)
        annotations += annotations_of(text.citations, start, end)
        start = end
    return annotations


def annotations_of(citations: Iterable[Citation], start: int, end: int) -> list[Any]:
    """Return the sources of one text as annotations.

    Args:
        citations: those of other formats that have no address are left out.
        start: where the text begins in the whole content.
        end: where it ends; a source that names no place stands for all of the text.
    """
    annotations: list[Any] = []
    for citation in citations:
        if citation.url is None:
            if citation.origin is _ORIGIN:
                annotations.append(citation.raw)
            continue
        cites: Json = {
            "url": citation.url,
            "title": citation.title or citation.url,
            "start_index": start if citation.start is None else start + citation.start,
            "end_index": end if citation.end is None else start + citation.end,
        }
        annotations.append({"type": "url_citation", "url_citation": cites})
    return annotations


# --- media -----------------------------------------------------------------------------------------------------------


def _add_media(message: Json, media: Iterable[Media], reply: Reply) -> None:
    images: list[Json] = []
    for one in media:
        shown = media_members(one, reply)
        images += shown.pop("images", [])
        message.update(shown)
    if images:
        message["images"] = images


def media_members(media: Media, reply: Reply) -> Json:
    """Return the members of a message or delta that hold what the model drew or spoke."""
    if media.kind is MediaKind.IMAGE:
        part = part_of(media)
        return {} if part is None else {"images": [part]}
    if media.kind is not MediaKind.AUDIO or media.source is not SourceKind.INLINE:
        return {}
    audio: Json = {
        "id": f"audio_{reply.id}",
        "data": media.data,
        "transcript": "",
        "expires_at": reply.created + _SPEECH_IS_KEPT_S,
    }
    audio.update((name, value) for name, value in media.extra.items() if name in audio)
    return {"audio": audio}

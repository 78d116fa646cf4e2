"""OpenAI Chat Completions, the answering side: answers, streams, errors and model lists as the vendor has them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Final

from omniroute.providers.sandbox.blocks import Answer, Call, Citation, Fault, Refusal, Stop, Text, Thinking
from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.models import LISTED, ListedModel
from omniroute.providers.sandbox.prompt import Prompt
from omniroute.providers.sandbox.script import Frame, VendorError

CREATED: Final = 1_767_225_600
"""The sandbox has no clock: all it makes was made on 1 January 2026."""

_FINISH: Final = {
    Stop.END: "stop",
    Stop.SEQUENCE: "stop",
    Stop.REFUSAL: "stop",
    Stop.LENGTH: "length",
    Stop.TOOLS: "tool_calls",
    Stop.FILTER: "content_filter",
}
_TYPES: Final = {
    401: "invalid_request_error",
    402: "insufficient_quota",
    403: "invalid_request_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}
_DONE: Final = b"data: [DONE]\n\n"


def render_answer(prompt: Prompt, answer: Answer) -> bytes:
    """Return the body of an answer that is not streamed."""
    choices = [
        {
            "index": index,
            "message": _message(prompt, answer, index),
            "logprobs": None,
            "finish_reason": None if answer.fault is Fault.NO_FINISH else _finish(prompt, answer),
        }
        for index in range(prompt.count)
    ]
    return dump(
        {
            "id": _id(prompt),
            "object": "chat.completion",
            "created": CREATED,
            "model": prompt.model,
            "choices": choices,
            "usage": _usage(prompt, answer),
            "service_tier": "default",
            "system_fingerprint": "fp_sandbox",
        }
    )


def _message(prompt: Prompt, answer: Answer, choice: int) -> dict[str, Any]:
    calls = [block for block in answer.blocks if isinstance(block, Call)]
    text, refusal = answer.text, answer.refusal
    is_silent = (bool(calls) and not text) or refusal is not None
    message: dict[str, Any] = {"role": "assistant", "content": None if is_silent else text, "refusal": refusal}
    reasoning = "".join("".join(block.pieces) for block in answer.blocks if isinstance(block, Thinking))
    if reasoning:
        message["reasoning_content"] = reasoning
    if not calls:
        message["annotations"] = [_annotation(citation) for citation in answer.citations]
    elif prompt.is_legacy:
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    else:
        message["tool_calls"] = [_call(call, choice) for call in calls]
    return message


def _annotation(citation: Citation) -> dict[str, Any]:
    where = {"start_index": citation.start, "end_index": citation.end}
    return {"type": "url_citation", "url_citation": {**where, "title": citation.title, "url": citation.url}}


def _call(call: Call, choice: int) -> dict[str, Any]:
    head = {"id": _call_id(call, choice)}
    if call.is_custom:
        return {**head, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {**head, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _call_id(call: Call, choice: int) -> str:
    return f"call_{choice or ''}{call.key}"[:29]


def render_stream(prompt: Prompt, answer: Answer) -> Iterator[Frame]:
    """Yield the events of a streamed answer; choices take turns, piece by piece."""
    if answer.fault is Fault.EARLY_ERROR and answer.error is not None:
        yield 0.0, render_stream_error(answer.error)
        return
    usage = ',"usage":null' if prompt.include_usage else ""
    head = (
        f'data: {{"id":"{_id(prompt)}","object":"chat.completion.chunk","created":{CREATED},'
        f'"model":{dump(prompt.model).decode()},"service_tier":"default",'
        f'"system_fingerprint":"fp_sandbox","choices":[{{"index":'
    ).encode()
    end = f',"logprobs":null,"finish_reason":null}}]{usage}}}\n\n'.encode()
    has_calls = any(isinstance(block, Call) for block in answer.blocks)
    opening = b"null" if (has_calls and not answer.text) or answer.refusal is not None else b'""'
    for choice in range(prompt.count):
        yield (
            0.0,
            b'%b%d,"delta":{"role":"assistant","content":%b,"refusal":null}%b' % (head, choice, opening, end),
        )
    if answer.torn_after == 0:
        if answer.error is not None:
            yield 0.0, render_stream_error(answer.error)
        return
    said = 0
    pace = answer.paced()
    if prompt.count == 1:
        deltas = _deltas(prompt, answer, head + b'0,"delta":{', b"}" + end, 0)
    else:
        voices = [_deltas(prompt, answer, b'%b%d,"delta":{' % (head, n), b"}" + end, n) for n in range(prompt.count)]
        deltas = (b"".join(filter(None, turn)) for turn in zip_longest(*voices))
    for frame in deltas:
        yield next(pace), frame
        said += 1
        if said == answer.torn_after:
            if answer.error is not None:
                yield 0.0, render_stream_error(answer.error)
            return
    late = answer.first_delay_s if not said else 0.0
    for _ in range(2 if answer.fault is Fault.DOUBLE_END else 1):
        for end_frame in _ends(prompt, answer, head, usage.encode()):
            yield late, end_frame
            late = 0.0


def _ends(prompt: Prompt, answer: Answer, head: bytes, usage: bytes) -> Iterator[bytes]:
    """Yield the events after the last piece."""
    finish = dump(_finish(prompt, answer))
    for choice in range(prompt.count):
        yield b'%b%d,"delta":{},"logprobs":null,"finish_reason":%b}]%b}\n\n' % (head, choice, finish, usage)
    if prompt.include_usage:
        start = head[: head.rindex(b"[")]
        yield b'%b[],"usage":%b}\n\n' % (start, dump(_usage(prompt, answer)))
    yield _DONE


def _deltas(prompt: Prompt, answer: Answer, before: bytes, after: bytes, choice: int) -> Iterator[bytes]:
    """Yield one event for each piece of content that one choice says."""
    position = -1
    together: list[Iterator[bytes]] = []
    for block in answer.blocks:
        match block:
            case Text(pieces, citations):
                yield from _spoken("content", pieces, before, after)
                if citations:
                    yield before + b'"annotations":' + dump([_annotation(c) for c in citations]) + after
            case Thinking(pieces):
                yield from _spoken("reasoning_content", pieces, before, after)
            case Refusal(pieces):
                yield from _spoken("refusal", pieces, before, after)
            case Call() if prompt.is_legacy:
                yield before + b'"function_call":' + dump({"name": block.name, "arguments": ""}) + after
                for piece in block.pieces():
                    yield before + b'"function_call":' + dump({"arguments": piece}) + after
            case Call():
                position += 1
                fragments = (before + b'"tool_calls":' + dump([one]) + after for one in _told(block, position, choice))
                if answer.is_interleaved:
                    together.append(fragments)
                else:
                    yield from fragments
            case _:
                raise ValueError(f"unknown block {block!r}")
    for turn in zip_longest(*together):
        yield from filter(None, turn)


def _spoken(field: str, pieces: tuple[str, ...], before: bytes, after: bytes) -> Iterator[bytes]:
    start = before + b'"%b":' % field.encode()
    for piece in pieces:
        yield start + dump(piece) + after


def _told(call: Call, position: int, choice: int) -> Iterator[dict[str, Any]]:
    """Yield the fragments of a call: first what it is, then its arguments piece by piece."""
    kind, field = ("custom", "input") if call.is_custom else ("function", "arguments")
    head = {"index": position, "id": _call_id(call, choice), "type": kind}
    yield {**head, kind: {"name": call.name, field: ""}}
    for piece in call.pieces():
        yield {"index": position, kind: {field: piece}}


def _id(prompt: Prompt) -> str:
    return f"chatcmpl-{prompt.digest[:29]}"


def _finish(prompt: Prompt, answer: Answer) -> str:
    if answer.stop is Stop.TOOLS and prompt.is_legacy:
        return "function_call"
    return _FINISH[answer.stop]


def _usage(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    completion = answer.output_tokens * prompt.count
    return {
        "prompt_tokens": prompt.usage.total,
        "completion_tokens": completion,
        "total_tokens": prompt.usage.total + completion,
        "prompt_tokens_details": {"cached_tokens": prompt.usage.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": answer.reasoning_tokens * prompt.count,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def render_error(error: VendorError) -> bytes:
    """Return the vendor's error body."""
    kind = _TYPES.get(error.status) or ("server_error" if error.status >= 500 else "invalid_request_error")
    return dump({"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}})


def render_stream_error(error: VendorError) -> bytes:
    """Return an error as it comes in a stream that has begun."""
    return b"data: %b\n\n" % render_error(error)


def render_models() -> bytes:
    """Return the list of models."""
    return dump({"object": "list", "data": [_model(model) for model in LISTED]})


def render_model(model: ListedModel) -> bytes:
    """Return one model."""
    return dump(_model(model))


def _model(model: ListedModel) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": CREATED, "owned_by": "sandbox"}

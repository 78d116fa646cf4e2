"""OpenAI Chat Completions, the answering side: answers, streams, errors and model lists as the vendor has them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Final

from omniroute.providers.sandbox.answer import Answer, Call, Stop, Text, Thinking
from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.models import LISTED, ListedModel
from omniroute.providers.sandbox.prompt import Prompt
from omniroute.providers.sandbox.script import Frame, VendorError

CREATED: Final = 1_767_225_600
"""The sandbox has no clock: all it makes was made on 1 January 2026."""

_FINISH: Final = {Stop.END: "stop", Stop.SEQUENCE: "stop", Stop.LENGTH: "length", Stop.TOOLS: "tool_calls"}
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
            "finish_reason": _finish(prompt, answer),
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
    message: dict[str, Any] = {"role": "assistant", "content": None if calls else answer.text, "refusal": None}
    reasoning = "".join("".join(block.pieces) for block in answer.blocks if isinstance(block, Thinking))
    if reasoning:
        message["reasoning_content"] = reasoning
    if not calls:
        message["annotations"] = []
    elif prompt.is_legacy:
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    else:
        message["tool_calls"] = [_call(call, choice) for call in calls]
    return message


def _call(call: Call, choice: int) -> dict[str, Any]:
    head = {"id": _call_id(call, choice)}
    if call.is_custom:
        return {**head, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {**head, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _call_id(call: Call, choice: int) -> str:
    return f"call_{choice or ''}{call.key}"[:29]


def render_stream(prompt: Prompt, answer: Answer) -> Iterator[Frame]:
    """Yield the events of a streamed answer; choices take turns, piece by piece."""
    usage = ',"usage":null' if prompt.include_usage else ""
    head = (
        f'data: {{"id":"{_id(prompt)}","object":"chat.completion.chunk","created":{CREATED},'
        f'"model":{dump(prompt.model).decode()},"service_tier":"default",'
        f'"system_fingerprint":"fp_sandbox","choices":[{{"index":'
    ).encode()
    end = f',"logprobs":null,"finish_reason":null}}]{usage}}}\n\n'.encode()
    has_calls = any(isinstance(block, Call) for block in answer.blocks)
    opening = b"null" if has_calls else b'""'
    for choice in range(prompt.count):
        yield (
            0.0,
            b'%b%d,"delta":{"role":"assistant","content":%b,"refusal":null}%b' % (head, choice, opening, end),
        )
    if answer.torn_after == 0:
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
            return
    finish = dump(_finish(prompt, answer))
    late = answer.first_delay_s if not said else 0.0
    for choice in range(prompt.count):
        ended = b'%b%d,"delta":{},"logprobs":null,"finish_reason":%b}]%b}\n\n' % (head, choice, finish, usage.encode())
        yield late, ended
        late = 0.0
    if prompt.include_usage:
        start = head[: head.rindex(b"[")]
        yield 0.0, b'%b[],"usage":%b}\n\n' % (start, dump(_usage(prompt, answer)))
    yield 0.0, _DONE


def _deltas(prompt: Prompt, answer: Answer, before: bytes, after: bytes, choice: int) -> Iterator[bytes]:
    """Yield one event for each piece of content that one choice says."""
    position = -1
    for block in answer.blocks:
        match block:
            case Text(pieces):
                start = before + b'"content":'
                for piece in pieces:
                    yield start + dump(piece) + after
            case Thinking(pieces):
                start = before + b'"reasoning_content":'
                for piece in pieces:
                    yield start + dump(piece) + after
            case Call() if prompt.is_legacy:
                yield before + b'"function_call":' + dump({"name": block.name, "arguments": ""}) + after
                for piece in block.pieces():
                    yield before + b'"function_call":' + dump({"arguments": piece}) + after
            case Call():
                position += 1
                kind, field = ("custom", "input") if block.is_custom else ("function", "arguments")
                head = {"index": position, "id": _call_id(block, choice), "type": kind}
                yield before + b'"tool_calls":' + dump([{**head, kind: {"name": block.name, field: ""}}]) + after
                for piece in block.pieces():
                    yield before + b'"tool_calls":' + dump([{"index": position, kind: {field: piece}}]) + after
            case _:
                raise ValueError(f"unknown block {block!r}")


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


def render_models() -> bytes:
    """Return the list of models."""
    return dump({"object": "list", "data": [_model(model) for model in LISTED]})


def render_model(model: ListedModel) -> bytes:
    """Return one model."""
    return dump(_model(model))


def _model(model: ListedModel) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": CREATED, "owned_by": "sandbox"}

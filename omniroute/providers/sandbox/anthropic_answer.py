"""Anthropic Messages, the answering side: answers, streams, errors and model lists as the vendor has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from omniroute.providers.sandbox.anthropic_messages import sign
from omniroute.providers.sandbox.blocks import Answer, Block, Call, Citation, Fault, Refusal, Stop, Text, Thinking
from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.models import CONTEXT_TOKENS, LISTED, MAX_OUTPUT_TOKENS, ListedModel
from omniroute.providers.sandbox.prompt import Prompt
from omniroute.providers.sandbox.script import Frame, VendorError
from omniroute.providers.sandbox.seal import Purpose, seal

_STOPS: Final = {
    Stop.END: "end_turn",
    Stop.SEQUENCE: "stop_sequence",
    Stop.LENGTH: "max_tokens",
    Stop.TOOLS: "tool_use",
    Stop.FILTER: "refusal",
    Stop.REFUSAL: "refusal",
}
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'


def render_answer(prompt: Prompt, answer: Answer) -> bytes:
    """Return the body of an answer that is not streamed."""
    return dump(
        {
            "id": _id(prompt),
            "type": "message",
            "role": "assistant",
            "model": prompt.model,
            "content": [_block(block) for block in _blocks(answer)],
            "stop_reason": None if answer.fault is Fault.NO_FINISH else _STOPS[answer.stop],
            "stop_sequence": answer.stop_sequence,
            "usage": _usage(prompt, answer.output_tokens),
        }
    )


def _blocks(answer: Answer) -> Iterator[Block]:
    """Yield the blocks that say something: the vendor sends no empty text."""
    for block in answer.blocks:
        if not isinstance(block, Text | Refusal) or any(block.pieces):
            yield block


def _block(block: Block) -> dict[str, Any]:
    match block:
        case Text(pieces, citations) if citations:
            text = "".join(pieces)
            return {"type": "text", "text": text, "citations": [_citation(c, text) for c in citations]}
        case Text(pieces) | Refusal(pieces):
            return {"type": "text", "text": "".join(pieces)}
        case Thinking(pieces):
            thinking = "".join(pieces)
            return {"type": "thinking", "thinking": thinking, "signature": sign(thinking)}
        case Call():
            arguments = block.parsed()
            # The vendor's own wrapper for arguments that cannot be read.
            broken = {"INVALID_JSON": block.arguments}
            return {**_call_head(block), "input": broken if arguments is None else arguments}
        case _:
            raise ValueError(f"unknown block {block!r}")


def _citation(citation: Citation, text: str) -> dict[str, Any]:
    return {
        "type": "web_search_result_location",
        "cited_text": text[citation.start : citation.end],
        "url": citation.url,
        "title": citation.title,
        "encrypted_index": seal(Purpose.PART, citation.url),
    }


def _call_head(call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_01{call.key[:22]}", "name": call.name}


def render_stream(prompt: Prompt, answer: Answer) -> Iterator[Frame]:
    """Yield the events of a streamed answer."""
    if answer.fault is Fault.EARLY_ERROR and answer.error is not None:
        yield 0.0, render_stream_error(prompt, answer.error)
        return
    message: dict[str, Any] = {
        "id": _id(prompt),
        "type": "message",
        "role": "assistant",
        "model": prompt.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(prompt, 1),
    }
    yield 0.0, _event("message_start", {"message": message})
    yield 0.0, _PING
    if answer.torn_after == 0:
        if answer.error is not None:
            yield 0.0, render_stream_error(prompt, answer.error)
        return
    said = 0
    pace = answer.paced()
    for index, block in enumerate(_blocks(answer)):
        head, kind, field, pieces = _opened(block)
        # The wait for the first content comes before its block opens: an open block is content already.
        wait = 0.0 if said else next(pace)
        yield wait, _event("content_block_start", {"index": index, "content_block": head})
        before = (
            f"event: content_block_delta\n"
            f'data: {{"type":"content_block_delta","index":{index},"delta":{{"type":"{kind}","{field}":'
        ).encode()
        for piece in pieces:
            yield (next(pace) if said else 0.0), before + dump(piece) + b"}}\n\n"
            said += 1
            if said == answer.torn_after:
                if answer.error is not None:
                    yield 0.0, render_stream_error(prompt, answer.error)
                return
        for delta in _last_deltas(block):
            yield 0.0, _event("content_block_delta", {"index": index, "delta": delta})
        yield 0.0, _event("content_block_stop", {"index": index})
    ended = {"stop_reason": _STOPS[answer.stop], "stop_sequence": answer.stop_sequence}
    late = 0.0 if said else next(pace)
    for _ in range(2 if answer.fault is Fault.DOUBLE_END else 1):
        yield late, _event("message_delta", {"delta": ended, "usage": _final_usage(prompt, answer)})
        yield 0.0, _event("message_stop", {})
        late = 0.0


def _last_deltas(block: Block) -> Iterator[dict[str, Any]]:
    """Yield what comes after the last piece of a block and before its end."""
    match block:
        case Thinking(pieces):
            yield {"type": "signature_delta", "signature": sign("".join(pieces))}
        case Text(pieces, citations):
            for citation in citations:
                yield {"type": "citations_delta", "citation": _citation(citation, "".join(pieces))}
        case _:
            pass


def _opened(block: Block) -> tuple[dict[str, Any], str, str, tuple[str, ...]]:
    """Return how a block starts, the type and field of its deltas, and their values."""
    match block:
        case Text(pieces, citations) if citations:
            return {"type": "text", "text": "", "citations": []}, "text_delta", "text", pieces
        case Text(pieces) | Refusal(pieces):
            return {"type": "text", "text": ""}, "text_delta", "text", pieces
        case Thinking(pieces):
            return {"type": "thinking", "thinking": "", "signature": ""}, "thinking_delta", "thinking", pieces
        case Call(arguments="{}"):
            return {**_call_head(block), "input": {}}, "input_json_delta", "partial_json", ("",)
        case Call(arguments=""):
            return {**_call_head(block), "input": {}}, "input_json_delta", "partial_json", ()
        case Call():
            return {**_call_head(block), "input": {}}, "input_json_delta", "partial_json", ("", *block.pieces())
        case _:
            raise ValueError(f"unknown block {block!r}")


def _event(name: str, fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), dump({"type": name, **fields}))


def _id(prompt: Prompt) -> str:
    return f"msg_01{prompt.digest[:22]}"


def _usage(prompt: Prompt, output_tokens: int) -> dict[str, Any]:
    usage = prompt.usage
    written = usage.cache_write_5m + usage.cache_write_1h
    return {
        "input_tokens": usage.total - usage.cache_read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def _final_usage(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    usage = _usage(prompt, answer.output_tokens)
    del usage["cache_creation"], usage["service_tier"]
    return usage


def render_error(error: VendorError, request_id: str) -> bytes:
    """Return the vendor's error body."""
    kind = _TYPES.get(error.status) or ("api_error" if error.status >= 500 else "invalid_request_error")
    return dump({"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id})


def render_stream_error(prompt: Prompt, error: VendorError) -> bytes:
    """Return an error as it comes in a stream that has begun."""
    return b"event: error\ndata: %b\n\n" % render_error(error, f"req_{prompt.digest[32:56]}")


def render_count(input_tokens: int) -> bytes:
    """Return the body of a token count."""
    return dump({"input_tokens": input_tokens})


def render_models() -> bytes:
    """Return the list of models."""
    listed = [_model(model) for model in LISTED]
    return dump({"data": listed, "has_more": False, "first_id": listed[0]["id"], "last_id": listed[-1]["id"]})


def render_model(model: ListedModel) -> bytes:
    """Return one model."""
    return dump(_model(model))


def _model(model: ListedModel) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.title,
        "created_at": "2026-01-01T00:00:00Z",
        "max_input_tokens": CONTEXT_TOKENS,
        "max_tokens": MAX_OUTPUT_TOKENS,
    }

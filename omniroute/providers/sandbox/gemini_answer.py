"""Gemini `generateContent`, the answering side: answers, chunks, errors and model lists as the vendor has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from omniroute.providers.sandbox.blocks import Answer, Call, Fault, Stop, Text, Thinking
from omniroute.providers.sandbox.gemini_contents import call_text
from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.models import CONTEXT_TOKENS, LISTED, MAX_OUTPUT_TOKENS, ListedModel
from omniroute.providers.sandbox.prompt import Prompt
from omniroute.providers.sandbox.script import Frame, VendorError
from omniroute.providers.sandbox.seal import Purpose, seal

_FINISH: Final = {
    Stop.END: "STOP",
    Stop.SEQUENCE: "STOP",
    Stop.TOOLS: "STOP",
    Stop.LENGTH: "MAX_TOKENS",
    Stop.FILTER: "SAFETY",
    Stop.REFUSAL: "STOP",
}
_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_TYPE: Final = "type.googleapis.com/google.rpc."


def render_answer(prompt: Prompt, answer: Answer) -> bytes:
    """Return the body of an answer that is not streamed."""
    if answer.refusal is not None:
        return dump(_blocked(prompt))
    parts: list[dict[str, Any]] = []
    is_signed = False
    for block in answer.blocks:
        match block:
            case Text(pieces):
                if any(pieces):
                    parts.append({"text": "".join(pieces)})
            case Thinking(pieces):
                if prompt.has_visible_reasoning:
                    parts.append({"text": "".join(pieces), "thought": True})
            case Call() as call if call.parsed() is not None:
                parts.append(_call(call, is_first=not is_signed))
                is_signed = True
            case _:
                pass
    if answer.reasoning_tokens and not is_signed and parts and "thought" not in parts[-1]:
        parts[-1]["thoughtSignature"] = seal(Purpose.PART, prompt.digest)
    finish = None if answer.fault is Fault.NO_FINISH else _finish(answer)
    candidates = [_candidate(answer, parts, finish, index, is_last=True) for index in range(prompt.count)]
    return dump({"candidates": candidates, **_tail(prompt, _usage(prompt, answer))})


def render_stream(prompt: Prompt, answer: Answer, *, is_array: bool) -> Iterator[Frame]:
    """Yield the chunks of a streamed answer, as events or as the elements of one JSON array."""
    is_first = True
    for wait, chunk in _chunks(prompt, answer):
        if is_array:
            yield wait, (b"[" if is_first else b",\r\n") + dump(chunk)
        else:
            yield wait, b"data: " + dump(chunk) + b"\r\n\r\n"
        is_first = False
    if is_array:
        yield 0.0, b"[]" if is_first else b"]"


def _chunks(prompt: Prompt, answer: Answer) -> Iterator[tuple[float, Any]]:
    if answer.fault is Fault.EARLY_ERROR and answer.error is not None:
        yield 0.0, stream_error(answer.error)
        return
    pace = answer.paced()
    if answer.refusal is not None:
        yield next(pace), _blocked(prompt)
        return
    said = 0
    for part in _streamed(prompt, answer) if answer.torn_after != 0 else ():
        yield next(pace), _chunk(prompt, answer, [part], None)
        said += 1
        if said == answer.torn_after:
            break
    if answer.torn_after is not None:
        if answer.error is not None:
            yield 0.0, stream_error(answer.error)
        return
    last: dict[str, Any] = {"text": ""}
    has_calls = any(isinstance(block, Call) for block in answer.blocks)
    if answer.reasoning_tokens and not has_calls:
        last["thoughtSignature"] = seal(Purpose.PART, prompt.digest)
    for _ in range(2 if answer.fault is Fault.DOUBLE_END else 1):
        yield (0.0 if said else next(pace)), _chunk(prompt, answer, [last], _finish(answer))


def _streamed(prompt: Prompt, answer: Answer) -> Iterator[dict[str, Any]]:
    """Yield the parts as they are streamed: text in pieces, calls whole."""
    is_signed = False
    for block in answer.blocks:
        match block:
            case Text(pieces):
                for piece in pieces:
                    yield {"text": piece}
            case Thinking(pieces):
                for piece in pieces if prompt.has_visible_reasoning else ():
                    yield {"text": piece, "thought": True}
            case Call() as call if call.parsed() is not None:
                yield _call(call, is_first=not is_signed)
                is_signed = True
            case _:
                pass


def _chunk(prompt: Prompt, answer: Answer, parts: list[Any], finish: str | None) -> dict[str, Any]:
    candidates = [_candidate(answer, parts, finish, index, is_last=finish is not None) for index in range(prompt.count)]
    usage = _usage(prompt, answer) if finish is not None else _prompt_usage(prompt)
    return {"candidates": candidates, **_tail(prompt, usage)}


def _candidate(answer: Answer, parts: list[Any], finish: str | None, index: int, *, is_last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"} if parts else {"role": "model"}}
    if finish is not None:
        candidate["finishReason"] = finish
    candidate["index"] = index
    match finish:
        case "SAFETY":
            rating = {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}
            candidate["safetyRatings"] = [rating]
        case "MALFORMED_FUNCTION_CALL":
            torn = next(b for b in answer.blocks if isinstance(b, Call) and b.parsed() is None)
            candidate["finishMessage"] = f"Malformed function call: {torn.name}({torn.arguments}"
        case _:
            pass
    if is_last and answer.citations:
        candidate["groundingMetadata"] = _grounding(answer)
    return candidate


def _grounding(answer: Answer) -> dict[str, Any]:
    text = answer.text
    supports = [
        {
            "segment": {
                "startIndex": len(text[: c.start].encode()),  # the vendor counts bytes
                "endIndex": len(text[: c.end].encode()),
                "text": text[c.start : c.end],
            },
            "groundingChunkIndices": [number],
        }
        for number, c in enumerate(answer.citations)
    ]
    return {
        "webSearchQueries": ["sandbox"],
        "groundingChunks": [{"web": {"uri": c.url, "title": c.title}} for c in answer.citations],
        "groundingSupports": supports,
    }


def _call(call: Call, *, is_first: bool) -> dict[str, Any]:
    arguments = call.parsed() or {}
    part: dict[str, Any] = {"functionCall": {"id": call.key[:8], "name": call.name, "args": arguments}}
    if is_first:
        part["thoughtSignature"] = seal(Purpose.CALL, call_text(call.name, arguments))
    return part


def _finish(answer: Answer) -> str:
    if any(isinstance(block, Call) and block.parsed() is None for block in answer.blocks):
        return "MALFORMED_FUNCTION_CALL"
    return _FINISH[answer.stop]


def _blocked(prompt: Prompt) -> dict[str, Any]:
    """Return the whole answer to a prompt that the vendor will not take up."""
    return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, **_tail(prompt, _prompt_usage(prompt))}


def _tail(prompt: Prompt, usage: dict[str, Any]) -> dict[str, Any]:
    name = prompt.model.removeprefix("models/")
    return {"usageMetadata": usage, "modelVersion": name, "responseId": prompt.digest[:22]}


def _prompt_usage(prompt: Prompt) -> dict[str, Any]:
    total = prompt.usage.total
    usage: dict[str, Any] = {"promptTokenCount": total, "totalTokenCount": total}
    usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": total}]
    if prompt.usage.cache_read:
        usage["cachedContentTokenCount"] = prompt.usage.cache_read
    return usage


def _usage(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    usage = _prompt_usage(prompt)
    spoken = (answer.output_tokens - answer.reasoning_tokens) * prompt.count
    thought = answer.reasoning_tokens * prompt.count
    usage["candidatesTokenCount"] = spoken
    if thought:
        usage["thoughtsTokenCount"] = thought
    usage["totalTokenCount"] += spoken + thought
    return usage


def render_error(error: VendorError) -> bytes:
    """Return the vendor's error body."""
    return dump(stream_error(error))


def stream_error(error: VendorError) -> dict[str, Any]:
    """Return an error as a value."""
    status = 503 if error.status == 529 else error.status
    kind = _STATUSES.get(error.status) or ("INTERNAL" if error.status >= 500 else "FAILED_PRECONDITION")
    body: dict[str, Any] = {"code": status, "message": error.message, "status": kind}
    details: list[dict[str, Any]] = []
    if error.code == "api_key_invalid":
        info = {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        details.append({"@type": f"{_TYPE}ErrorInfo", **info})
    if error.status == 400 and error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": f"{_TYPE}BadRequest", "fieldViolations": [violation]})
    if error.status == 429:
        violation = {"quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests"}
        details.append({"@type": f"{_TYPE}QuotaFailure", "violations": [violation]})
    if error.retry_after_s is not None:
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{error.retry_after_s:g}s"})
    if details:
        body["details"] = details
    return {"error": body}


def render_count(total_tokens: int) -> bytes:
    """Return the body of a token count."""
    details = [{"modality": "TEXT", "tokenCount": total_tokens}]
    return dump({"totalTokens": total_tokens, "promptTokensDetails": details})


def render_models() -> bytes:
    """Return the list of models."""
    return dump({"models": [_model(model) for model in LISTED]})


def render_model(model: ListedModel) -> bytes:
    """Return one model."""
    return dump(_model(model))


def _model(model: ListedModel) -> dict[str, Any]:
    return {
        "name": f"models/{model.id}",
        "version": "001",
        "displayName": model.title,
        "description": model.summary,
        "inputTokenLimit": CONTEXT_TOKENS,
        "outputTokenLimit": MAX_OUTPUT_TOKENS,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "maxTemperature": 2,
        "thinking": model.has_reasoning,
    }

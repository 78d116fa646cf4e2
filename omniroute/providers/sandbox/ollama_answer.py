"""Ollama, the answering side: lines, whole answers, errors and model lists as the program has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from omniroute.providers.sandbox.blocks import Answer, Call, Fault, Refusal, Stop, Text, Thinking
from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.models import CONTEXT_TOKENS, LISTED, ListedModel
from omniroute.providers.sandbox.prompt import Prompt
from omniroute.providers.sandbox.script import Frame, VendorError

_CREATED: Final = "2026-01-01T00:00:00.000000000Z"
_NANO: Final = 1_000_000
"""Nanoseconds that the sandbox pretends to take for each token."""
_VERSION: Final = "0.12.0"


def render_answer(prompt: Prompt, answer: Answer) -> bytes:
    """Return the body of an answer that is not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": _text(answer)}
    thinking = "".join("".join(block.pieces) for block in answer.blocks if isinstance(block, Thinking))
    if thinking:
        message["thinking"] = thinking
    calls = _calls(answer)
    if calls:
        message["tool_calls"] = calls
    if answer.fault is Fault.NO_FINISH:
        return dump({**_head(prompt), "message": message, "done": False})
    return dump({**_head(prompt), "message": message, **_ended(prompt, answer)})


def render_stream(prompt: Prompt, answer: Answer) -> Iterator[Frame]:
    """Yield the lines of a streamed answer."""
    if answer.fault is Fault.EARLY_ERROR and answer.error is not None:
        yield 0.0, render_error(answer.error) + b"\n"
        return
    said = 0
    pace = answer.paced()
    for fields in _streamed(answer) if answer.torn_after != 0 else ():
        yield next(pace), _line(prompt, {"role": "assistant", "content": "", **fields})
        said += 1
        if said == answer.torn_after:
            break
    if answer.torn_after is not None:
        if answer.error is not None:
            yield 0.0, render_error(answer.error) + b"\n"
        return
    message = {"role": "assistant", "content": ""}
    last = dump({**_head(prompt), "message": message, **_ended(prompt, answer)}) + b"\n"
    for _ in range(2 if answer.fault is Fault.DOUBLE_END else 1):
        yield (0.0 if said else next(pace)), last


def _streamed(answer: Answer) -> Iterator[dict[str, Any]]:
    """Yield what each line says: text in pieces, calls whole."""
    for block in answer.blocks:
        match block:
            case Text(pieces) | Refusal(pieces):
                for piece in pieces:
                    yield {"content": piece}
            case Thinking(pieces):
                for piece in pieces:
                    yield {"thinking": piece}
            case Call() as call:
                arguments = call.parsed()
                # What cannot be read as a call is passed on as the text that the model wrote.
                yield {"content": call.arguments} if arguments is None else {"tool_calls": [_call(call, arguments)]}
            case _:
                raise ValueError(f"unknown block {block!r}")


def _text(answer: Answer) -> str:
    said: list[str] = []
    for block in answer.blocks:
        match block:
            case Text(pieces) | Refusal(pieces):
                said += pieces
            case Call() as call if call.parsed() is None:
                said.append(call.arguments)
            case _:
                pass
    return "".join(said)


def _calls(answer: Answer) -> list[dict[str, Any]]:
    return [
        _call(block, arguments)
        for block in answer.blocks
        if isinstance(block, Call) and (arguments := block.parsed()) is not None
    ]


def _call(call: Call, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"function": {"name": call.name, "arguments": arguments}}


def _head(prompt: Prompt) -> dict[str, Any]:
    return {"model": prompt.model, "created_at": _CREATED}


def _line(prompt: Prompt, message: dict[str, Any]) -> bytes:
    return dump({**_head(prompt), "message": message, "done": False}) + b"\n"


def _ended(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    asked, spoken = prompt.usage.total, answer.output_tokens
    return {
        "done_reason": "length" if answer.stop is Stop.LENGTH else "stop",
        "done": True,
        "total_duration": (asked + spoken) * _NANO,
        "load_duration": _NANO,
        "prompt_eval_count": asked,
        "prompt_eval_duration": asked * _NANO,
        "eval_count": spoken,
        "eval_duration": spoken * _NANO,
    }


def render_load(prompt: Prompt) -> bytes:
    """Return the answer to a request without messages, which only loads the model."""
    return dump({**_head(prompt), "message": {"role": "assistant", "content": ""}, "done_reason": "load", "done": True})


def render_error(error: VendorError) -> bytes:
    """Return the program's error body."""
    return dump({"error": error.message})


def render_version() -> bytes:
    """Return the version that is pretended to."""
    return dump({"version": _VERSION})


def render_models() -> bytes:
    """Return the list of models."""
    return dump({"models": [_model(model) for model in LISTED]})


def _model(model: ListedModel) -> dict[str, Any]:
    return {
        "name": model.id,
        "model": model.id,
        "modified_at": _CREATED,
        "size": 0,
        "digest": f"{abs(hash_of(model.id)):064x}",
        "details": _details(),
    }


def hash_of(name: str) -> int:
    """Return a number that follows from a name, the same in every process."""
    return int.from_bytes(name.encode().ljust(16, b"\0")[:16], "big")


def _details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "sandbox",
        "family": "sandbox",
        "families": ["sandbox"],
        "parameter_size": "0B",
        "quantization_level": "F16",
    }


def render_model(model: ListedModel) -> bytes:
    """Return what `/api/show` tells of one model."""
    capabilities = ["completion"]
    capabilities += ["tools"] if model.has_tools else []
    capabilities += ["thinking"] if model.has_reasoning else []
    return dump(
        {
            "modelfile": f"FROM {model.id}\n",
            "parameters": f"num_ctx {CONTEXT_TOKENS}",
            "template": "{{ .Prompt }}",
            "details": _details(),
            "model_info": {"general.architecture": "sandbox", "sandbox.context_length": CONTEXT_TOKENS},
            "capabilities": capabilities,
            "modified_at": _CREATED,
        }
    )

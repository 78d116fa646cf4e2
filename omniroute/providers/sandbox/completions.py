"""OpenAI's legacy `/v1/completions`: a prompt in, its continuation out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from omniroute.providers.sandbox.blocks import Answer, Fault, Stop
from omniroute.providers.sandbox.jsontext import dump, load_object
from omniroute.providers.sandbox.openai_answer import CREATED, render_stream_error
from omniroute.providers.sandbox.openai_request import include_usage, read_stops
from omniroute.providers.sandbox.prompt import (
    Entry,
    Part,
    Prompt,
    PromptUsage,
    decimal,
    digest_of,
    flag,
    whole_number,
)
from omniroute.providers.sandbox.prose import tokens
from omniroute.providers.sandbox.script import Dialect, Frame, VendorError

_USUAL_TOKENS: Final = 16
_FINISH: Final = {Stop.LENGTH: "length", Stop.FILTER: "content_filter"}


def parse_request(body: bytes) -> Prompt:
    """Read the body of `POST /v1/completions`.

    Raises:
        VendorError: the vendor would refuse it.
    """
    asked = load_object(body)
    model = asked.get("model")
    if not isinstance(model, str) or not model:
        raise VendorError(400, "you must provide a model parameter", param="model", code="missing_required_parameter")
    said = asked.get("prompt", "<|endoftext|>")
    text = "".join(said) if isinstance(said, list) and all(isinstance(one, str) for one in said) else said
    if not isinstance(text, str):
        raise VendorError(400, "Invalid type for 'prompt': expected a string.", param="prompt", code="invalid_type")
    decimal(asked, "temperature", 2)
    decimal(asked, "top_p", 1)
    is_stream = flag(asked, "stream", False)
    limit = whole_number(asked, "max_tokens", 1)
    return Prompt(
        Dialect.OPENAI_CHAT,
        model,
        digest_of(body),
        text,
        PromptUsage(tokens(len(text))),
        is_stream=is_stream,
        max_words=_USUAL_TOKENS if limit is None else limit,
        stops=read_stops(asked.get("stop")),
        has_reasoning=False,
        count=whole_number(asked, "n", 1, 128) or 1,
        include_usage=include_usage(asked, is_stream),
        entries=(Entry(Part.USER, text),),
        asked=asked,
    )


def render_answer(prompt: Prompt, answer: Answer) -> bytes:
    """Return the body of an answer that is not streamed."""
    finish = None if answer.fault is Fault.NO_FINISH else _FINISH.get(answer.stop, "stop")
    echo = prompt.text if prompt.asked.get("echo") is True else ""
    choices = [_choice(index, echo + _text(answer), finish) for index in range(prompt.count)]
    return dump({**_head(prompt), "choices": choices, "usage": _usage(prompt, answer)})


def render_stream(prompt: Prompt, answer: Answer) -> Iterator[Frame]:
    """Yield the events of a streamed answer."""
    if answer.fault is Fault.EARLY_ERROR and answer.error is not None:
        yield 0.0, render_stream_error(answer.error)
        return
    pace = answer.paced()
    said = 0
    pieces = (_text(answer),) if not answer.blocks else tuple(p for b in answer.blocks for p in _pieces(b))
    for piece in pieces if answer.torn_after != 0 else ():
        choices = [_choice(index, piece, None) for index in range(prompt.count)]
        yield next(pace), _event({**_head(prompt), "choices": choices})
        said += 1
        if said == answer.torn_after:
            break
    if answer.torn_after is not None:
        if answer.error is not None:
            yield 0.0, render_stream_error(answer.error)
        return
    ended = [_choice(index, "", _FINISH.get(answer.stop, "stop")) for index in range(prompt.count)]
    for _ in range(2 if answer.fault is Fault.DOUBLE_END else 1):
        yield (0.0 if said else next(pace)), _event({**_head(prompt), "choices": ended})
        if prompt.include_usage:
            yield 0.0, _event({**_head(prompt), "choices": [], "usage": _usage(prompt, answer)})
        yield 0.0, b"data: [DONE]\n\n"


def _pieces(block: Any) -> tuple[str, ...]:
    pieces = getattr(block, "pieces", ())
    return pieces if isinstance(pieces, tuple) else ()


def _text(answer: Answer) -> str:
    return answer.refusal or answer.text


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def _head(prompt: Prompt) -> dict[str, Any]:
    head = {"id": f"cmpl-{prompt.digest[:29]}", "object": "text_completion", "created": CREATED}
    return {**head, "model": prompt.model, "system_fingerprint": "fp_sandbox"}


def _usage(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    completion = answer.output_tokens * prompt.count
    return {
        "prompt_tokens": prompt.usage.total,
        "completion_tokens": completion,
        "total_tokens": prompt.usage.total + completion,
    }


def _event(value: Any) -> bytes:
    return b"data: %b\n\n" % dump(value)

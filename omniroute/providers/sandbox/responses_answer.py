"""OpenAI Responses, the answering side: answers, streams and compactions as the vendor has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from omniroute.providers.sandbox import responses_memory
from omniroute.providers.sandbox.blocks import Answer, Block, Call, Citation, Fault, Refusal, Stop, Text, Thinking
from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.openai_answer import CREATED
from omniroute.providers.sandbox.prompt import Prompt
from omniroute.providers.sandbox.responses_input import reasoning_id
from omniroute.providers.sandbox.script import Frame, VendorError
from omniroute.providers.sandbox.seal import Purpose, seal

_REASONS: Final = {Stop.LENGTH: "max_output_tokens", Stop.FILTER: "content_filter"}
# What the vendor says of itself when something breaks in a stream.
_STREAM_CODES: Final = {429: "rate_limit_exceeded", 503: "server_is_overloaded", 529: "server_is_overloaded"}
# Request fields that an answer repeats, with the vendor's values where the request leaves them out.
_REPEATED: Final[dict[str, Any]] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
    "metadata": {},
}


def render_answer(prompt: Prompt, answer: Answer) -> bytes:
    """Return the body of an answer that is not streamed."""
    response = _response(prompt, _status(answer))
    response["output"] = [_Item(prompt, answer, block, n).whole() for n, block in enumerate(_blocks(answer))]
    responses_memory.keep(prompt.asked, response["id"], response["output"])
    return dump({**response, **_ended(prompt, answer)})


def render_stream(prompt: Prompt, answer: Answer) -> Iterator[Frame]:
    """Yield the events of a streamed answer."""
    writer = _Writer()
    if answer.fault is Fault.EARLY_ERROR and answer.error is not None:
        code = _stream_code(answer.error)
        yield 0.0, writer.event("error", code=code, message=answer.error.message, param=None)
        return
    begun = _response(prompt, "in_progress")
    yield 0.0, writer.event("response.created", response=begun)
    yield 0.0, writer.event("response.in_progress", response=begun)
    output: list[dict[str, Any]] = []
    said = 0
    pace = answer.paced()
    is_torn = answer.torn_after == 0
    for index, block in enumerate(() if is_torn else _blocks(answer)):
        item = _Item(prompt, answer, block, index)
        # The wait for the first content comes before its item opens: an open item is content already.
        wait = 0.0 if said else next(pace)
        for opening in item.opened():
            yield wait, writer.event(**opening)
            wait = 0.0
        for piece in block.pieces() if isinstance(block, Call) else block.pieces:
            if not item.delta:
                break
            yield (next(pace) if said else 0.0), writer.event(**item.delta, delta=piece)
            said += 1
            if said == answer.torn_after:
                is_torn = True
                break
        if is_torn:
            break
        for closing in item.closed():
            yield 0.0, writer.event(**closing)
        output.append(item.whole())
    if is_torn:
        if answer.error is not None:
            failed = {**_response(prompt, "failed"), "output": output}
            failed["error"] = {"code": _stream_code(answer.error), "message": answer.error.message}
            yield 0.0, writer.event("response.failed", response=failed)
        return
    status = _status(answer)
    response = {**_response(prompt, status), "output": output, **_ended(prompt, answer)}
    responses_memory.keep(prompt.asked, response["id"], output)
    yield (0.0 if said else next(pace)), writer.event(f"response.{status}", response=response)
    if answer.fault is Fault.DOUBLE_END:
        yield 0.0, writer.event(f"response.{status}", response=response)


class _Writer:
    """Numbers the events of one stream."""

    __slots__ = ("_number",)

    def __init__(self) -> None:
        self._number = 0

    def event(self, type: str, **fields: Any) -> bytes:  # noqa: A002 - the name of the field on the wire
        """Return one event."""
        data = dump({"type": type, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (type.encode(), data)


class _Item:
    """One output item: how it looks whole, and the events around its pieces."""

    __slots__ = ("_block", "_id", "_index", "_is_sealed", "_is_shown", "_status", "delta")

    def __init__(self, prompt: Prompt, answer: Answer, block: Block, index: int) -> None:
        self._block = block
        self._index = index
        self._status = "incomplete" if answer.stop in _REASONS and index == len(_blocks(answer)) - 1 else "completed"
        self._is_shown = prompt.has_visible_reasoning
        self._is_sealed = _wants_encrypted(prompt)
        self._id = _item_id(prompt, block, index)
        self.delta = self._delta()

    def whole(self) -> dict[str, Any]:
        """Return the finished item."""
        match self._block:
            case Text():
                return self._message([self._part()], self._status)
            case Refusal():
                return self._message([self._part()], self._status)
            case Thinking(pieces):
                summary = [{"type": "summary_text", "text": "".join(pieces)}] if self._is_shown else []
                return self._reasoning(summary)
            case Call() as call:
                return self._call(call, call.arguments, self._status)
            case _:
                raise ValueError(f"unknown block {self._block!r}")

    def opened(self) -> Iterator[dict[str, Any]]:
        """Yield the events before the first piece."""
        match self._block:
            case Text():
                yield self._added(self._message([], "in_progress"))
                empty = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
                yield {"type": "response.content_part.added", **self._at(), "content_index": 0, "part": empty}
            case Refusal():
                yield self._added(self._message([], "in_progress"))
                refused = {"type": "refusal", "refusal": ""}
                yield {"type": "response.content_part.added", **self._at(), "content_index": 0, "part": refused}
            case Thinking():
                yield self._added(self._reasoning([]))
                if self._is_shown:
                    part = {"type": "summary_text", "text": ""}
                    start = {"type": "response.reasoning_summary_part.added", **self._at()}
                    yield {**start, "summary_index": 0, "part": part}
            case Call() as call:
                yield self._added(self._call(call, "", "in_progress"))
            case _:
                raise ValueError(f"unknown block {self._block!r}")

    def closed(self) -> Iterator[dict[str, Any]]:
        """Yield the events after the last piece."""
        at = self._at()
        match self._block:
            case Text() as text:
                for number, citation in enumerate(text.citations):
                    yield {
                        "type": "response.output_text.annotation.added",
                        **at,
                        "content_index": 0,
                        "annotation_index": number,
                        "annotation": _annotation(citation),
                    }
                said = {"content_index": 0, "text": "".join(text.pieces), "logprobs": []}
                yield {"type": "response.output_text.done", **at, **said}
                yield {"type": "response.content_part.done", **at, "content_index": 0, "part": self._part()}
            case Refusal(pieces):
                refused = {"content_index": 0, "refusal": "".join(pieces)}
                yield {"type": "response.refusal.done", **at, **refused}
                yield {"type": "response.content_part.done", **at, "content_index": 0, "part": self._part()}
            case Thinking(pieces):
                if self._is_shown:
                    text_of = "".join(pieces)
                    part = {"type": "summary_text", "text": text_of}
                    yield {"type": "response.reasoning_summary_text.done", **at, "summary_index": 0, "text": text_of}
                    yield {"type": "response.reasoning_summary_part.done", **at, "summary_index": 0, "part": part}
            case Call() as call if call.is_custom:
                yield {"type": "response.custom_tool_call_input.done", **at, "input": call.arguments}
            case Call() as call:
                done = {"name": call.name, "arguments": call.arguments}
                yield {"type": "response.function_call_arguments.done", **at, **done}
            case _:
                raise ValueError(f"unknown block {self._block!r}")
        yield {"type": "response.output_item.done", "output_index": self._index, "item": self.whole()}

    def _delta(self) -> dict[str, Any]:
        """Return the event of a piece without the piece; empty when pieces are not shown."""
        at = self._at()
        match self._block:
            case Text():
                return {"type": "response.output_text.delta", **at, "content_index": 0, "logprobs": []}
            case Refusal():
                return {"type": "response.refusal.delta", **at, "content_index": 0}
            case Thinking():
                shown = {"type": "response.reasoning_summary_text.delta", **at, "summary_index": 0}
                return shown if self._is_shown else {}
            case Call() as call if call.is_custom:
                return {"type": "response.custom_tool_call_input.delta", **at}
            case Call():
                return {"type": "response.function_call_arguments.delta", **at}
            case _:
                raise ValueError(f"unknown block {self._block!r}")

    def _at(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self._index}

    def _added(self, item: dict[str, Any]) -> dict[str, Any]:
        return {"type": "response.output_item.added", "output_index": self._index, "item": item}

    def _message(self, content: list[Any], status: str) -> dict[str, Any]:
        return {"id": self._id, "type": "message", "status": status, "content": content, "role": "assistant"}

    def _part(self) -> dict[str, Any]:
        match self._block:
            case Refusal(pieces):
                return {"type": "refusal", "refusal": "".join(pieces)}
            case Text(pieces, citations):
                notes = [_annotation(citation) for citation in citations]
                return {"type": "output_text", "annotations": notes, "logprobs": [], "text": "".join(pieces)}
            case _:
                raise ValueError(f"{self._block!r} is no part of a message")

    def _reasoning(self, summary: list[Any]) -> dict[str, Any]:
        item: dict[str, Any] = {"id": self._id, "type": "reasoning", "summary": summary}
        if self._is_sealed:
            item["encrypted_content"] = seal(Purpose.REASONING, self._id)
        return item

    def _call(self, call: Call, arguments: str, status: str) -> dict[str, Any]:
        kind, field = ("custom_tool_call", "input") if call.is_custom else ("function_call", "arguments")
        item = {"id": self._id, "type": kind, "status": status, field: arguments}
        item |= {"call_id": f"call_{call.key}"[:29], "name": call.name}
        if call.namespace is not None:
            item["namespace"] = call.namespace
        return item


def _blocks(answer: Answer) -> tuple[Block, ...]:
    """Return the blocks that say something, unless there is no other: the vendor sends no empty text beside calls."""
    said = tuple(b for b in answer.blocks if isinstance(b, Call) or any(b.pieces))
    return said or answer.blocks


def _item_id(prompt: Prompt, block: Block, index: int) -> str:
    key = f"{index:02x}{prompt.digest}"
    match block:
        case Thinking():
            return reasoning_id(key)
        case Call() as call:
            return f"{'ctc' if call.is_custom else 'fc'}_{key[:48]}"
        case _:
            return f"msg_{key[:48]}"


def _annotation(citation: Citation) -> dict[str, Any]:
    where = {"start_index": citation.start, "end_index": citation.end}
    return {"type": "url_citation", **where, "url": citation.url, "title": citation.title}


def _wants_encrypted(prompt: Prompt) -> bool:
    include = prompt.asked.get("include")
    is_included = isinstance(include, list) and "reasoning.encrypted_content" in include
    return is_included or prompt.asked.get("store") is False


def _status(answer: Answer) -> str:
    if answer.fault is Fault.NO_FINISH:
        return "in_progress"
    return "incomplete" if answer.stop in _REASONS else "completed"


def _stream_code(error: VendorError) -> str:
    return error.code or _STREAM_CODES.get(error.status) or "server_error"


def _response(prompt: Prompt, status: str) -> dict[str, Any]:
    """Return a response without output."""
    asked = prompt.asked
    response: dict[str, Any] = {
        "id": f"resp_{prompt.digest[:48]}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": prompt.model,
        "output": [],
        "usage": None,
    }
    for field, default in _REPEATED.items():
        value = asked.get(field)
        response[field] = default if value is None else value
    if response["service_tier"] == "auto":
        response["service_tier"] = "default"
    reasoning = asked.get("reasoning") or {}
    response["reasoning"] = {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")}
    text = asked.get("text") or {}
    response["text"] = {"format": {"type": "text"}, "verbosity": "medium", **text}
    return response


def _ended(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    usage = prompt.usage
    ended: dict[str, Any] = {
        "usage": {
            "input_tokens": usage.total,
            "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": 0},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
            "total_tokens": usage.total + answer.output_tokens,
        }
    }
    match _status(answer):
        case "incomplete":
            ended["incomplete_details"] = {"reason": _REASONS[answer.stop]}
        case "completed":
            ended["completed_at"] = CREATED
        case _:
            pass
    return ended


def render_count(input_tokens: int) -> bytes:
    """Return the body of a token count."""
    return dump({"object": "response.input_tokens", "input_tokens": input_tokens})


def render_compaction(prompt: Prompt) -> bytes:
    """Return the body that stands for a compacted conversation: what the user said last, and a token for the rest."""
    output: list[dict[str, Any]] = []
    if prompt.text:
        said = [{"type": "input_text", "text": prompt.text}]
        kept = {"type": "message", "status": "completed", "role": "user", "content": said}
        output.append({"id": f"msg_{prompt.digest[:48]}", **kept})
    token = seal(Purpose.COMPACTION, prompt.digest)
    output.append({"id": f"cmp_{prompt.digest[:48]}", "type": "compaction", "encrypted_content": token})
    usage = {
        "input_tokens": prompt.usage.total,
        "input_tokens_details": {"cached_tokens": prompt.usage.cache_read, "cache_write_tokens": 0},
        "output_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt.usage.total + 8,
    }
    head = {"id": f"resp_{prompt.digest[:48]}", "object": "response.compaction", "created_at": CREATED}
    return dump({**head, "output": output, "usage": usage})

"""The response object around `output`: what is known of an answer, and the echo of its request that clients expect."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omniroute.formats.canonical import Request, Stop, Text
from omniroute.formats.codec import Reply
from omniroute.formats.openai_responses.members import OBJECT, is_object, put_back
from omniroute.formats.openai_responses.tools import write_choice, write_tools
from omniroute.formats.openai_responses.usage import render_usage
from omniroute.formats.usage import NOT_REPORTED, Usage

_INCOMPLETE: Final = {
    Stop.LENGTH: b'{"reason":"max_output_tokens"}',
    Stop.CONTEXT_FULL: b'{"reason":"max_output_tokens"}',
    Stop.REFUSAL: b'{"reason":"content_filter"}',
}
_LONGEST_ID: Final = 48
_DEFAULTS: Final[dict[str, Any]] = {
    "background": False,
    "max_tool_calls": None,
    "truncation": "disabled",
}
"""Members of the request that no other format has, and what the vendor answers where the request leaves them out."""


class ResponseObject:
    """One response, from its start to its end."""

    __slots__ = ("_echo", "_head", "_item_ids", "_key")

    def __init__(self, reply: Reply) -> None:
        self._key = reply.id[:_LONGEST_ID]
        answer_id = msgspec.json.encode(reply.answer_id or f"resp_{self._key}")
        self._head = b'{"id":%b,"object":"response","created_at":%d' % (answer_id, reply.created)
        self._item_ids = reply.item_ids
        self._echo = msgspec.json.encode(_echo(reply))[1:]

    def item_id(self, prefix: str, index: int) -> str:
        """Return the id of an item of `output`."""
        if index < len(self._item_ids) and self._item_ids[index]:
            return self._item_ids[index]
        return f"{prefix}_{self._key}{index:04x}"

    def render(
        self,
        status: bytes,
        output: bytes = b"",
        *,
        usage: Usage = NOT_REPORTED,
        error: bytes = b"null",
        details: bytes = b"null",
    ) -> bytes:
        """Return the object; `output` are its items, with commas between them."""
        return (
            b'%b,"status":"%b","error":%b,"incomplete_details":%b,"output":[%b],"usage":%b,%b'
            % (self._head, status, error, details, output, render_usage(usage), self._echo)
        )  # fmt: skip

    def ended(self, stop: Stop, output: bytes, usage: Usage, *, has_refusal: bool) -> tuple[bytes, bytes]:
        """Return the status of an answer that has ended, and its object.

        A model that says why it does not answer has completed its answer; a filter that cut it off has not.
        """
        details = None if stop is Stop.REFUSAL and has_refusal else _INCOMPLETE.get(stop)
        if details is None:
            return b"completed", self.render(b"completed", output, usage=usage)
        return b"incomplete", self.render(b"incomplete", output, usage=usage, details=details)


def _echo(reply: Reply) -> dict[str, Any]:
    request = reply.request
    extra = request.extra
    system = [block.text for message in request.system for block in message.blocks if isinstance(block, Text)]
    echo: dict[str, Any] = {
        "instructions": "\n\n".join(system) if system else None,
        "max_output_tokens": request.max_output,
        "model": reply.model,
        "parallel_tool_calls": request.parallel_tools is not False,
        "previous_response_id": request.previous_id,
        "prompt_cache_key": request.cache_key,
        "reasoning": _reasoning(request),
        "safety_identifier": None if "=user" in extra else request.user,
        "service_tier": "default" if request.service_tier in {None, "auto"} else request.service_tier,
        "store": request.store is not False,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": _text(request),
        "tool_choice": "auto" if request.tool_choice is None else write_choice(request.tool_choice),
        "tools": write_tools(request.tools),
        "top_logprobs": request.top_logprobs or 0,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "user": extra.get("=user"),
        "metadata": request.metadata or {},
    }
    for name, default in _DEFAULTS.items():
        echo[name] = extra.get(name, default)
    return echo


def _reasoning(request: Request) -> dict[str, Any]:
    reasoning = request.reasoning
    if reasoning is None:
        return {"effort": None, "summary": None}
    return {
        "effort": None if reasoning.effort is None else reasoning.effort.value,
        "summary": reasoning.summary,
        **{name: value for name, value in reasoning.extra.items() if not name.startswith("=")},
    }


def _text(request: Request) -> dict[str, Any]:
    output = request.output
    form: Any = {"type": "text"}
    if output is not None and output.schema is None:
        form = {"type": "json_object"}
    elif output is not None:
        form = {"type": "json_schema", "name": output.name, "schema": output.schema, "strict": bool(output.strict)}
        if output.description is not None:
            form["description"] = output.description
        form = put_back(form, output.extra)
    spelt = request.extra.get("=text")
    if is_object(spelt):
        form = OBJECT.decode(spelt).get("format", form)
    return {"format": form, "verbosity": request.verbosity or "medium"}

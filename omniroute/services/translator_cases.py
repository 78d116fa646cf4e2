"""What the test bench asks: one request per case, written once, and what an answer must hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from omniroute.formats.canonical import Answer, Text, Thinking, arguments_object

SYSTEM_MARK: Final = "Answer as the keeper of the lighthouse."
PICTURE: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
"""A picture of one pixel."""
_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
_FEW: Final = 256
_MANY: Final = 4096


@dataclass(frozen=True, slots=True)
class Case:
    """One question.

    Attributes:
        body: the request, as Chat Completions writes it.
        model: the simulated model that answers it without a provider.
        expects: what is looked at, in words.
        fault_of: says what is wrong with an answer; None when nothing is.
        carried: what must be found in the request that goes to the target.
        max_output: tokens that the answer may have.
    """

    name: str
    body: Mapping[str, Any]
    model: str
    expects: str
    fault_of: Callable[[Answer], str | None]
    carried: bytes = b""
    max_output: int = _FEW
    is_stream: bool = False
    is_error: bool = False
    needs: str = ""
    """The part of a request without which the case has no meaning: where it is lost, the target cannot do this."""


def _says_something(answer: Answer) -> str | None:
    return None if _text(answer).strip() else "the answer holds no text"


def _calls(least: int) -> Callable[[Answer], str | None]:
    def fault(answer: Answer) -> str | None:
        calls = answer.calls
        if len(calls) < least:
            return f"the answer holds {len(calls)} tool calls and not {least}"
        if len({call.id for call in calls}) < len(calls) or not all(call.id for call in calls):
            return "calls have no id of their own"
        if any(call.name not in ("get_weather", "get_time") for call in calls):
            return "a tool is called that was not offered"
        if any(arguments_object(call.arguments) is None for call in calls):
            return "the arguments of a call are no JSON object"
        return None

    return fault


def _thinks(answer: Answer) -> str | None:
    has_words = any(isinstance(block, Thinking) and (block.text or block.redacted) for block in answer.blocks)
    return None if has_words or answer.usage.reasoning else "the answer shows no reasoning and counts none"


def _fits(answer: Answer) -> str | None:
    try:
        found = msgspec.json.decode(_text(answer))
    except msgspec.DecodeError:
        return "the text is not JSON"
    if not isinstance(found, dict) or not isinstance(found.get("city"), str):
        return "the JSON lacks 'city'"
    return None if isinstance(found.get("degrees"), int) else "the JSON lacks 'degrees'"


def _never(answer: Answer) -> str | None:
    del answer
    return "an answer came where an error was expected"


def _text(answer: Answer) -> str:
    return "".join(block.text for block in answer.blocks if isinstance(block, Text))


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {
        "type": "function",
        "function": {"name": name, "description": f"{name} of a city", "parameters": parameters},
    }


_WEATHER: Final = "What is the weather in Lisbon? Use the tool."
_BOTH: Final = "What is the weather in Lisbon, and what time is it there? Call both tools at once."

CASES: Final[Mapping[str, Case]] = {
    case.name: case
    for case in (
        Case("text", {"messages": [_user("Say hello.")]}, "echo", "the answer holds text", _says_something),
        Case(
            "system",
            {"messages": [{"role": "system", "content": SYSTEM_MARK}, _user("Who are you?")]},
            "echo",
            "the system text reaches the target, and the answer holds text",
            _says_something,
            carried=SYSTEM_MARK.encode(),
        ),
        Case(
            "tools",
            {"messages": [_user(_WEATHER)], "tools": [_tool("get_weather")], "tool_choice": "required"},
            "tools",
            "a tool that was offered is called with a JSON object",
            _calls(1),
            carried=b"get_weather",
        ),
        Case(
            "parallel_tools",
            {
                "messages": [_user(_BOTH)],
                "tools": [_tool("get_weather"), _tool("get_time")],
                "tool_choice": "required",
                "parallel_tool_calls": True,
            },
            "parallel",
            "two calls come in one answer, each with an id of its own",
            _calls(2),
            carried=b"get_time",
        ),
        Case(
            "image",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "What colour is this picture?"},
                            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
                        ],
                    }
                ]
            },
            "image-desc",
            "the picture reaches the target, and the answer holds text",
            _says_something,
            carried=PICTURE.encode(),
        ),
        Case(
            "thinking",
            {"messages": [_user("How many prime numbers are below 30?")], "reasoning_effort": "high"},
            "think",
            "the answer shows its reasoning, or counts it",
            _thinks,
            max_output=_MANY,
            needs="reasoning",
        ),
        Case(
            "json_schema",
            {
                "messages": [_user("Give a city and a temperature in degrees.")],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "weather", "schema": _SCHEMA, "strict": True},
                },
            },
            "json",
            "the text is JSON that fits the schema",
            _fits,
        ),
        Case(
            "stream",
            {"messages": [_user("Say hello and count to five.")]},
            "echo",
            "the stream can be read to its end, and holds text",
            _says_something,
            is_stream=True,
        ),
        Case(
            "error",
            {"messages": [_user("Say hello.")]},
            "fail-429",
            "the error comes in the client's own form",
            _never,
            is_error=True,
        ),
    )
}
"""The cases, in the order in which they are shown."""

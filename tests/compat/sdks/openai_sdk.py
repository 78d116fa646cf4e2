"""The `openai` package: Chat Completions and Responses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai

from tests.compat.agents.workspace import Gateway
from tests.compat.sdks.conversation import Refused, Toolbox


def _client(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=30)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except openai.APIStatusError as error:
        raise Refused(type(error).__name__, error.status_code, str(error.code), error.message) from error


def _said_before(prompts: list[str]) -> list[Any]:
    messages: list[Any] = []
    for prompt in prompts:
        messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": "Noted."}]
    return messages[:-1]


class ChatCompletions:
    """`client.chat.completions`."""

    def __init__(self, gateway: Gateway) -> None:
        self._client = _client(gateway)

    def close(self) -> None:
        """See `Sdk`."""
        self._client.close()

    def text(self, model: str, prompts: list[str]) -> str:
        """See `Sdk`."""
        with _refusals():
            answer = self._client.chat.completions.create(model=model, messages=_said_before(prompts))
        assert answer.usage is not None
        assert answer.usage.prompt_tokens > 0
        assert answer.choices[0].finish_reason == "stop"
        assert answer.model == model
        return answer.choices[0].message.content or ""

    def pieces(self, model: str, prompt: str) -> list[str]:
        """See `Sdk`."""
        asked: list[Any] = [{"role": "user", "content": prompt}]
        chunks = list(
            self._client.chat.completions.create(
                model=model, messages=asked, stream=True, stream_options={"include_usage": True}
            )
        )
        *_, last = chunks
        assert last.usage is not None
        assert last.usage.completion_tokens > 0
        choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
        assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
        return [choice.delta.content for choice in choices if choice.delta.content]

    def loop(self, model: str, prompt: str, toolbox: Toolbox, *, is_streamed: bool) -> str:
        """See `Sdk`."""
        tools: Any = [
            {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
            for t in toolbox.tools
        ]
        messages: list[Any] = [{"role": "user", "content": prompt}]
        while True:
            message = self._message(model, messages, tools, is_streamed=is_streamed)
            if not message.tool_calls:
                return message.content or ""
            called = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]
            results = toolbox.call(called)
            messages.append(message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}))
            messages += [
                {"role": "tool", "tool_call_id": call.id, "content": result}
                for call, result in zip(message.tool_calls, results, strict=True)
            ]

    def _message(self, model: str, messages: list[Any], tools: Any, *, is_streamed: bool) -> Any:
        if not is_streamed:
            answer = self._client.chat.completions.create(model=model, messages=messages, tools=tools)
            return answer.choices[0].message
        with self._client.chat.completions.stream(model=model, messages=messages, tools=tools) as events:
            choice = events.get_final_completion().choices[0]
        assert choice.finish_reason == ("tool_calls" if choice.message.tool_calls else "stop")
        return choice.message


class Responses:
    """`client.responses`: whole answers build on the one before by its id, streamed ones repeat the conversation."""

    def __init__(self, gateway: Gateway) -> None:
        self._client = _client(gateway)

    def close(self) -> None:
        """See `Sdk`."""
        self._client.close()

    def text(self, model: str, prompts: list[str]) -> str:
        """See `Sdk`."""
        with _refusals():
            answer = self._client.responses.create(model=model, input=_said_before(prompts))
        assert answer.usage is not None
        assert answer.usage.input_tokens > 0
        assert answer.status == "completed"
        assert answer.model == model
        return answer.output_text

    def pieces(self, model: str, prompt: str) -> list[str]:
        """See `Sdk`."""
        events = list(self._client.responses.create(model=model, input=prompt, stream=True))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        last: Any = events[-1]
        assert last.type == "response.completed"
        assert last.response.usage.output_tokens > 0
        pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert last.response.output_text == "".join(pieces)
        return pieces

    def loop(self, model: str, prompt: str, toolbox: Toolbox, *, is_streamed: bool) -> str:
        """See `Sdk`."""
        tools: Any = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.schema,
                "strict": False,
            }
            for tool in toolbox.tools
        ]
        items: list[Any] = [{"role": "user", "content": prompt}]
        previous: Any = openai.omit
        while True:
            if is_streamed:
                with self._client.responses.stream(model=model, input=items, tools=tools, store=False) as events:
                    answer: Any = events.get_final_response()
            else:
                answer = self._client.responses.create(
                    model=model, input=items, tools=tools, previous_response_id=previous
                )
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                said: str = answer.output_text
                return said
            results = toolbox.call([(call.name, json.loads(call.arguments)) for call in calls])
            outputs = [
                {"type": "function_call_output", "call_id": call.call_id, "output": result}
                for call, result in zip(calls, results, strict=True)
            ]
            if is_streamed:
                said_items = [_plain(item) for item in answer.output]
                items += [*said_items, *outputs]
            else:
                items, previous = outputs, answer.id


def _plain(item: Any) -> Any:
    """Return an output item as input; the streaming helper's own field is not the API's."""
    return item.model_dump(exclude_none=True, exclude={"parsed_arguments": True, "content": {"__all__": {"parsed"}}})

"""The `anthropic` package."""

from __future__ import annotations

from typing import Any

import anthropic

from tests.compat.agents.workspace import Gateway
from tests.compat.sdks.conversation import MAX_OUTPUT_TOKENS, Refused, Toolbox


class Messages:
    """`client.messages`."""

    def __init__(self, gateway: Gateway) -> None:
        self._client = anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0, timeout=30)

    def close(self) -> None:
        """See `Sdk`."""
        self._client.close()

    def text(self, model: str, prompts: list[str]) -> str:
        """See `Sdk`."""
        messages: list[Any] = []
        for prompt in prompts:
            messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": "Noted."}]
        try:
            answer = self._client.messages.create(model=model, max_tokens=MAX_OUTPUT_TOKENS, messages=messages[:-1])
        except anthropic.APIStatusError as error:
            body: Any = error.body
            said = body["error"]
            raise Refused(type(error).__name__, error.status_code, said["type"], said["message"]) from error
        assert answer.usage.input_tokens > 0
        assert answer.stop_reason == "end_turn"
        assert answer.model == model
        return "".join(block.text for block in answer.content if block.type == "text")

    def pieces(self, model: str, prompt: str) -> list[str]:
        """See `Sdk`."""
        with self._client.messages.stream(
            model=model, max_tokens=MAX_OUTPUT_TOKENS, messages=[{"role": "user", "content": prompt}]
        ) as events:
            pieces = list(events.text_stream)
            final = events.get_final_message()
        assert final.stop_reason == "end_turn"
        assert final.usage.output_tokens > 0
        return pieces

    def loop(self, model: str, prompt: str, toolbox: Toolbox, *, is_streamed: bool) -> str:
        """See `Sdk`."""
        tools: Any = [{"name": t.name, "description": t.description, "input_schema": t.schema} for t in toolbox.tools]
        messages: list[Any] = [{"role": "user", "content": prompt}]
        while True:
            request: dict[str, Any] = {"model": model, "max_tokens": MAX_OUTPUT_TOKENS, "tools": tools}
            if is_streamed:
                with self._client.messages.stream(messages=messages, **request) as events:
                    answer: Any = events.get_final_message()
            else:
                answer = self._client.messages.create(messages=messages, **request)
            calls = [block for block in answer.content if block.type == "tool_use"]
            assert answer.stop_reason == ("tool_use" if calls else "end_turn")
            if not calls:
                return "".join(block.text for block in answer.content if block.type == "text")
            results = toolbox.call([(call.name, call.input) for call in calls])
            blocks = [block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in answer.content]
            messages += [
                {"role": "assistant", "content": blocks},
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": call.id, "content": result}
                        for call, result in zip(calls, results, strict=True)
                    ],
                },
            ]

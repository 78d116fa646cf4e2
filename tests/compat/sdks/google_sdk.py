"""The `google-genai` package."""

from __future__ import annotations

from typing import Any

from google import genai
from google.genai import errors, types

from tests.compat.agents.workspace import Gateway
from tests.compat.sdks.conversation import MAX_OUTPUT_TOKENS, Refused, Toolbox


class GenerateContent:
    """`client.models`."""

    def __init__(self, gateway: Gateway) -> None:
        # Without a version of the API: the package's own choice is what programs get.
        self._client = genai.Client(api_key=gateway.key, http_options=types.HttpOptions(base_url=gateway.url))

    def close(self) -> None:
        """See `Sdk`."""
        self._client.close()

    def text(self, model: str, prompts: list[str]) -> str:
        """See `Sdk`."""
        contents: list[Any] = []
        for prompt in prompts:
            contents += [_content("user", prompt), _content("model", "Noted.")]
        try:
            answer = self._client.models.generate_content(model=model, contents=contents[:-1])
        except errors.APIError as error:
            raise Refused(type(error).__name__, error.code, str(error.status), str(error.message)) from error
        assert answer.usage_metadata is not None
        assert (answer.usage_metadata.prompt_token_count or 0) > 0
        assert answer.candidates
        assert answer.candidates[0].finish_reason is types.FinishReason.STOP
        return answer.text or ""

    def pieces(self, model: str, prompt: str) -> list[str]:
        """See `Sdk`."""
        chunks = list(self._client.models.generate_content_stream(model=model, contents=prompt))
        last = chunks[-1]
        assert last.candidates
        assert last.candidates[0].finish_reason is types.FinishReason.STOP
        assert last.usage_metadata is not None
        assert (last.usage_metadata.candidates_token_count or 0) > 0
        return [chunk.text for chunk in chunks if chunk.text]

    def loop(self, model: str, prompt: str, toolbox: Toolbox, *, is_streamed: bool) -> str:
        """See `Sdk`."""
        declarations = [
            types.FunctionDeclaration(name=tool.name, description=tool.description, parameters_json_schema=tool.schema)
            for tool in toolbox.tools
        ]
        config = types.GenerateContentConfig(
            tools=[types.Tool(function_declarations=declarations)],
            max_output_tokens=MAX_OUTPUT_TOKENS,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )
        contents: list[Any] = [_content("user", prompt)]
        while True:
            if is_streamed:
                stream = self._client.models.generate_content_stream(model=model, contents=contents, config=config)
                parts = [part for chunk in stream for part in _parts(chunk)]
            else:
                parts = _parts(self._client.models.generate_content(model=model, contents=contents, config=config))
            calls = [part.function_call for part in parts if part.function_call]
            if not calls:
                return "".join(part.text for part in parts if part.text and not part.thought)
            results = toolbox.call([(call.name or "", dict(call.args or {})) for call in calls])
            answers = [
                types.Part(
                    function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": result})
                )
                for call, result in zip(calls, results, strict=True)
            ]
            contents += [types.Content(role="model", parts=parts), types.Content(role="user", parts=answers)]


def _content(role: str, text: str) -> types.Content:
    return types.Content(role=role, parts=[types.Part(text=text)])


def _parts(answer: types.GenerateContentResponse) -> list[types.Part]:
    content = answer.candidates[0].content if answer.candidates else None
    return list((content.parts if content else None) or ())

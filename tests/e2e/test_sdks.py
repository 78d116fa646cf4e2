"""The official SDKs, unmodified, through gunicorn: in-process sandbox and stand-alone sandbox as a provider node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.e2e.processes import Sandbox, Server, wait_until

OPENAI_MODELS = pytest.mark.parametrize("prefix", ["sandbox", "oa"])
ANTHROPIC_MODELS = pytest.mark.parametrize("prefix", ["sandbox", "an"])
QUESTION: Any = [{"role": "user", "content": "say marigold"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city", "days"],
}


@pytest.fixture
def oa(server: Server, api_key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=api_key, max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
def an(server: Server, api_key: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key=api_key, max_retries=0, timeout=30) as client:
        yield client


@OPENAI_MODELS
def test_openai_text(oa: openai.OpenAI, prefix: str) -> None:
    answer = oa.chat.completions.create(model=f"{prefix}/echo", messages=QUESTION)
    assert "marigold" in (answer.choices[0].message.content or "")
    assert answer.model == f"{prefix}/echo"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0


@OPENAI_MODELS
def test_openai_stream(oa: openai.OpenAI, prefix: str) -> None:
    chunks = list(oa.chat.completions.create(model=f"{prefix}/echo", messages=QUESTION, stream=True))
    assert "marigold" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


@OPENAI_MODELS
def test_openai_stream_with_usage(oa: openai.OpenAI, prefix: str) -> None:
    chunks = list(
        oa.chat.completions.create(
            model=f"{prefix}/echo", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


@OPENAI_MODELS
@pytest.mark.parametrize("is_streamed", [False, True])
def test_openai_tool_loop(oa: openai.OpenAI, prefix: str, is_streamed: bool) -> None:
    tools: Any = [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": WEATHER}}]
    messages: list[Any] = [{"role": "user", "content": "What is the weather?"}]
    model = f"{prefix}/tools"
    if is_streamed:
        with oa.chat.completions.stream(model=model, messages=messages, tools=tools) as events:
            message: Any = events.get_final_completion().choices[0].message
    else:
        message = oa.chat.completions.create(model=model, messages=messages, tools=tools).choices[0].message
    assert message.tool_calls
    call: Any = message.tool_calls[0]
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == {"city", "days"}
    messages += [
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "sunny and 31 degrees"},
    ]
    answer = oa.chat.completions.create(model=model, messages=messages, tools=tools)
    assert answer.choices[0].finish_reason == "stop"
    assert "31" in (answer.choices[0].message.content or "")


@ANTHROPIC_MODELS
def test_anthropic_text(an: anthropic.Anthropic, prefix: str) -> None:
    answer = an.messages.create(model=f"{prefix}/echo", max_tokens=200, messages=QUESTION)
    block: Any = answer.content[0]
    assert "marigold" in block.text
    assert answer.model == f"{prefix}/echo"
    assert (answer.stop_reason, answer.usage.input_tokens > 0) == ("end_turn", True)


@ANTHROPIC_MODELS
def test_anthropic_stream(an: anthropic.Anthropic, prefix: str) -> None:
    with an.messages.stream(model=f"{prefix}/echo", max_tokens=200, messages=QUESTION) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    assert "marigold" in text
    assert final.model == f"{prefix}/echo"
    assert final.usage.output_tokens > 0


@ANTHROPIC_MODELS
@pytest.mark.parametrize("is_streamed", [False, True])
def test_anthropic_tool_loop(an: anthropic.Anthropic, prefix: str, is_streamed: bool) -> None:
    tools: Any = [{"name": "weather", "description": "d", "input_schema": WEATHER}]
    messages: list[Any] = [{"role": "user", "content": "What is the weather?"}]
    request: dict[str, Any] = {"model": f"{prefix}/tools", "max_tokens": 300, "tools": tools}
    if is_streamed:
        with an.messages.stream(messages=messages, **request) as events:
            answer: Any = events.get_final_message()
    else:
        answer = an.messages.create(messages=messages, **request)
    assert answer.stop_reason == "tool_use"
    call = next(block for block in answer.content if block.type == "tool_use")
    assert set(call.input) == {"city", "days"}
    messages += [
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in answer.content]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny and 31 degrees"}],
        },
    ]
    answer = an.messages.create(messages=messages, **request)
    assert answer.stop_reason == "end_turn"
    assert "31" in "".join(block.text for block in answer.content if block.type == "text")


def test_thinking_streams_through(an: anthropic.Anthropic) -> None:
    with an.messages.stream(
        model="sandbox/think", max_tokens=4000, messages=QUESTION, thinking={"type": "enabled", "budget_tokens": 2000}
    ) as events:
        final = events.get_final_message()
    kinds = [block.type for block in final.content]
    assert kinds[0] == "thinking"
    assert "text" in kinds
    thinking: Any = final.content[0]
    assert thinking.signature


def test_structured_output(oa: openai.OpenAI) -> None:
    schema: Any = {"name": "w", "strict": True, "schema": {**WEATHER, "additionalProperties": False}}
    answer = oa.chat.completions.create(
        model="sandbox/json",
        messages=QUESTION,
        response_format={"type": "json_schema", "json_schema": schema},
    )
    assert set(json.loads(answer.choices[0].message.content or "")) == {"city", "days"}


@pytest.mark.parametrize(
    ("model", "error", "status"),
    [
        ("sandbox/fail-401", openai.InternalServerError, 503),
        ("sandbox/fail-402", openai.InternalServerError, 503),
        ("sandbox/fail-429", openai.RateLimitError, 429),
        ("sandbox/fail-500", openai.InternalServerError, 502),
        ("sandbox/fail-529", openai.InternalServerError, 503),
        ("sandbox/garbage", openai.InternalServerError, 502),
        ("sandbox/no-such-model-here", openai.NotFoundError, 404),
        ("no-such-provider/x", openai.NotFoundError, 404),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_openai_failures_by_name(
    oa: openai.OpenAI, model: str, error: type[openai.APIStatusError], status: int, is_streamed: bool
) -> None:
    with pytest.raises(error) as caught:
        oa.chat.completions.create(model=model, messages=QUESTION, stream=is_streamed)
    assert caught.value.status_code == status
    assert caught.value.response.headers["x-omniroute-request-id"].startswith("req_")
    assert caught.value.response.headers["x-omniroute-error-code"]
    if status == 429:
        assert int(caught.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("model", "status", "kind"),
    [
        ("sandbox/fail-401", 500, "api_error"),
        ("sandbox/fail-429", 429, "rate_limit_error"),
        ("sandbox/fail-500", 500, "api_error"),
        ("sandbox/fail-529", 529, "overloaded_error"),
        ("no-such-provider/x", 404, "not_found_error"),
    ],
)
def test_anthropic_failures_by_name(an: anthropic.Anthropic, model: str, status: int, kind: str) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        an.messages.create(model=model, max_tokens=10, messages=QUESTION)
    body: Any = caught.value.body
    assert caught.value.status_code == status
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert body["request_id"].startswith("req_")


def test_a_stream_that_dies_is_an_error_and_not_an_end(oa: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError):
        list(oa.chat.completions.create(model="sandbox/cut", messages=QUESTION, stream=True))


def test_models_are_listed(oa: openai.OpenAI, an: anthropic.Anthropic) -> None:
    assert "sandbox/echo" in {model.id for model in oa.models.list()}
    assert oa.models.retrieve("sandbox/echo").id == "sandbox/echo"
    assert "sandbox/echo" in {model.id for model in an.models.list(limit=1000)}


def test_every_request_is_in_the_log_with_its_tokens(server: Server, oa: openai.OpenAI) -> None:
    answer = oa.chat.completions.with_raw_response.create(model="oa/echo", messages=QUESTION)
    request_id = answer.headers["x-omniroute-request-id"]
    usage = answer.parse().usage
    assert usage is not None

    def row() -> Any:
        return next((entry for entry in server.logs(model="echo") if entry["requestId"] == request_id), None)

    found = wait_until(row, within_s=5, what="the request is in the log")
    assert (found["tokensIn"], found["tokensOut"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert (found["status"], found["outcome"], found["provider"]) == (200, "success", "oa")
    assert found["requestedModel"] == "oa/echo"
    assert found["ttftMs"] is not None


def test_metrics_count_over_all_workers(server: Server, oa: openai.OpenAI, sandbox: Sandbox) -> None:
    del sandbox
    for _ in range(4):
        oa.chat.completions.create(model="oa/echo", messages=QUESTION)

    def counted() -> float:
        """Return what all workers have shown so far; each shows its figures once a second."""
        text = server.session.get(f"{server.url}/metrics", timeout=10).text
        lines = (line for line in text.splitlines() if line.startswith("omniroute_requests_total"))
        found = [line for line in lines if 'provider="oa"' in line and 'outcome="success"' in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    assert wait_until(lambda: counted() >= 4, within_s=10, what="four requests are counted")

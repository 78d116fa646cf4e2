"""The Ollama dialect of the sandbox, whole answers and streams."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from omniroute.providers.sandbox import LISTED
from tests.providers.sandbox.wire import OLLAMA, answer, ask, content, fold_ollama, lines

HELLO = [{"role": "user", "content": "Hello, how are you?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def say(model: str, **fields: Any) -> Any:
    return answer(OLLAMA, {"model": model, "messages": HELLO, "stream": False, **fields})


def test_it_streams_unless_told_otherwise() -> None:
    read = lines(OLLAMA, {"model": "echo", "messages": HELLO})
    assert [line["message"]["content"] for line in read] == ["Hello, how are y", "ou?", ""]
    assert [line["done"] for line in read] == [False, False, True]
    assert (read[-1]["done_reason"], read[-1]["prompt_eval_count"], read[-1]["eval_count"]) == ("stop", 5, 5)


@pytest.mark.parametrize("model", ["echo", "think", "tools", "json", "length", "mixed", "badargs", "refusal"])
def test_stream_folds_into_the_whole_answer(model: str) -> None:
    body = {"model": model, "messages": HELLO, "tools": [WEATHER, CLOCK], "think": True}
    assert fold_ollama(lines(OLLAMA, body)) == answer(OLLAMA, {**body, "stream": False})


def test_tool_loop_without_ids() -> None:
    message = say("tools", tools=[WEATHER, CLOCK])["message"]
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["weather", "clock"]
    assert all(set(call) == {"function"} for call in message["tool_calls"])
    jsonschema.validate(message["tool_calls"][0]["function"]["arguments"], SCHEMA)
    results = [{"role": "tool", "tool_name": "clock", "content": "noon"}, {"role": "tool", "content": "rain"}]
    reply = say("tools", tools=[WEATHER, CLOCK], messages=[*HELLO, message, *results])
    assert reply["message"]["content"] == "clock returned: noon\nweather returned: rain"


def test_thinking_is_a_field_of_its_own() -> None:
    assert say("think", think="low")["message"]["thinking"].startswith("Let me read this again.")
    assert "thinking" not in say("think", think=False)["message"]


def test_options_end_the_text() -> None:
    cut = say("echo", options={"num_predict": 2})
    assert (cut["message"]["content"], cut["done_reason"]) == ("Hello, how", "length")
    assert say("echo", options={"stop": "how"})["message"]["content"] == "Hello, "
    assert say("echo", options={"num_predict": -1})["done_reason"] == "stop"


def test_json_fits_the_schema() -> None:
    jsonschema.validate(json.loads(say("json", format=SCHEMA)["message"]["content"]), SCHEMA)
    assert isinstance(json.loads(say("json", format="json")["message"]["content"]), dict)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": None}, "model is required"),
        (
            {
                "messages": [
                    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
                ]
            },
            (
                "json: cannot unmarshal string into Go struct field "
                "ChatRequest.messages.tool_calls.function.arguments of type api.ToolCallFunctionArguments"
            ),
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "images": ["data:image/png;base64,aGk="]}]},
            "illegal base64 data at input byte 4",
        ),
        ({"stream": "yes"}, "json: cannot unmarshal string into Go struct field ChatRequest.stream of type bool"),
        ({"format": 5}, 'invalid format: 5; expected "json" or a valid JSON Schema object'),
        ({"think": "huge"}, 'invalid think value: "huge" (must be "high", "medium", "low", true, or false)'),
    ],
)
def test_wrong_types_are_refused(fields: dict[str, Any], message: str) -> None:
    body = {"model": "echo", "messages": HELLO, **fields}
    script = ask(OLLAMA, {name: value for name, value in body.items() if value is not None})
    assert (script.status, json.loads(content(script))) == (400, {"error": message})


def test_request_without_messages_loads_the_model() -> None:
    reply = answer(OLLAMA, {"model": "echo"})
    assert (reply["done"], reply["done_reason"]) == (True, "load")


def test_models_and_version() -> None:
    assert [model["name"] for model in answer("/api/tags", {})["models"]] == [model.id for model in LISTED]
    shown = answer("/api/show", {"model": "agent"})
    assert set(shown["capabilities"]) == {"completion", "tools", "thinking"}
    assert shown["model_info"]["sandbox.context_length"] == 128_000
    assert answer("/api/show", {"model": "none"}) == {"error": "model 'none' not found"}
    assert "version" in answer("/api/version", {})
    assert answer(OLLAMA, {"model": "none", "messages": HELLO}) == {"error": "model 'none' not found"}


def test_failures_by_name() -> None:
    script = ask(OLLAMA, {"model": "fail-429", "messages": HELLO})
    assert (script.status, dict(script.headers)["retry-after"]) == (429, "5")
    assert set(json.loads(content(script))) == {"error"}

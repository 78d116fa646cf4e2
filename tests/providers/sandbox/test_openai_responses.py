"""The OpenAI Responses dialect of the sandbox, whole answers and streams."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from omniroute.providers.sandbox import Ending
from tests.providers.sandbox.wire import RESPONSES, answer, ask, content, events, fold_responses

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "weather", "parameters": SCHEMA}
NOTE = {"type": "custom", "name": "note", "format": {"type": "text"}}
GROUP = {"type": "namespace", "name": "crm", "tools": [{"type": "function", "name": "find", "parameters": SCHEMA}]}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}


def say(model: str, **fields: Any) -> Any:
    return answer(RESPONSES, {"model": model, "input": "Hello, how are you?", **fields})


def stream(model: str, **fields: Any) -> list[tuple[str | None, Any]]:
    return events(RESPONSES, {"model": model, "input": "Hello, how are you?", **fields})


def test_whole_answer_has_the_vendors_shape() -> None:
    reply = say("echo", metadata={"a": "b"}, instructions="Be kind.")
    Response.model_validate(reply, strict=True)
    assert (reply["object"], reply["status"], reply["error"]) == ("response", "completed", None)
    assert reply["output"][0]["content"][0]["text"] == "Hello, how are you?"
    assert reply["output"][0]["id"].startswith("msg_")
    assert (reply["metadata"], reply["instructions"], reply["store"]) == ({"a": "b"}, "Be kind.", True)
    assert reply["usage"]["total_tokens"] == reply["usage"]["input_tokens"] + reply["usage"]["output_tokens"]


@pytest.mark.parametrize(
    "model", ["echo", "think", "tools", "json", "cite", "refusal", "length", "filter", "mixed", "parallel"]
)
def test_stream_ends_with_the_whole_answer(model: str) -> None:
    fields: dict[str, Any] = {"tools": [WEATHER, NOTE], "reasoning": {"effort": "low", "summary": "auto"}}
    read = stream(model, **fields)
    for _, data in read:
        EVENT.validate_python(data)
    folded, whole = fold_responses(read), say(model, **fields)
    assert _plain(folded["output"]) == _plain(whole["output"])
    assert (folded["status"], folded["usage"]) == (whole["status"], whole["usage"])
    assert folded["incomplete_details"] == whole["incomplete_details"]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in ("id", "call_id", "encrypted_content")}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def test_events_of_a_text_in_order() -> None:
    assert [name for name, _ in stream("echo")] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_calls_have_item_ids_beside_their_call_ids() -> None:
    reply = say("tools", tools=[WEATHER, NOTE, GROUP, {"type": "web_search"}])
    function, custom, grouped = reply["output"]
    assert (function["type"], custom["type"]) == ("function_call", "custom_tool_call")
    assert function["id"].startswith("fc_")
    assert custom["id"].startswith("ctc_")
    assert all(item["call_id"].startswith("call_") for item in reply["output"])
    assert (grouped["name"], grouped["namespace"]) == ("find", "crm")
    jsonschema.validate(json.loads(function["arguments"]), SCHEMA)
    assert custom["input"] == "Hello, how are you?"


def test_results_of_tools_become_text() -> None:
    made = say("tools", tools=[WEATHER, NOTE])["output"]
    kinds = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
    results = [{"type": kinds[call["type"]], "call_id": call["call_id"], "output": "rain"} for call in made]
    talk = [{"role": "user", "content": "Hello"}, *made, *results]
    reply = say("tools", tools=[WEATHER, NOTE], input=talk)
    assert reply["output"][0]["content"][0]["text"] == "weather returned: rain\nnote returned: rain"


@pytest.mark.parametrize(
    ("fields", "is_sealed"),
    [({}, False), ({"store": False}, True), ({"include": ["reasoning.encrypted_content"]}, True)],
)
def test_encrypted_reasoning_comes_when_it_has_to(fields: dict[str, Any], is_sealed: bool) -> None:
    reasoning, message = say("think", **fields)["output"]
    assert reasoning["id"].startswith("rs_")
    assert reasoning["summary"] == [], "nobody asked for a summary"
    assert ("encrypted_content" in reasoning) is is_sealed
    talk = [{"role": "user", "content": "x"}, reasoning, message, {"role": "user", "content": "y"}]
    assert say("echo", input=talk, **fields)["status"] == "completed"


def test_reasoning_of_others_is_refused() -> None:
    reasoning, message = say("think", store=False)["output"]
    foreign = {**reasoning, "encrypted_content": "gAAAAABpMm18nXrFLUlQW"}
    error = say("echo", input=[foreign, message])["error"]
    assert error["code"] == "invalid_encrypted_content"
    assert error["message"].startswith("The encrypted content gAAA...UlQW could not be verified.")
    unknown = {"type": "reasoning", "id": "rs_0123", "summary": []}
    script = ask(RESPONSES, {"model": "echo", "input": [unknown, message]})
    assert script.status == 404
    alone = say("echo", input=[reasoning, {"role": "user", "content": "x"}])["error"]["message"]
    assert alone == f"Item '{reasoning['id']}' of type 'reasoning' was provided without its required following item."


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"max_output_tokens": 15}, "max_output_tokens", "Expected a value >= 16, but got 15 instead."),
        ({"top_k": 4}, "top_k", "Unknown parameter: 'top_k'."),
        ({"messages": []}, "messages", "Unknown parameter: 'messages'."),
        ({"model": None}, "model", "Missing required parameter: 'model'."),
        ({"input": []}, "input", 'One of "input" or'),
        ({"input": [CALL]}, "input", "No tool output found for function call call_1."),
        ({"input": [RESULT]}, "input", "No tool call found for function call output with call_id call_1."),
        ({"input": [CALL, RESULT, RESULT]}, "input", "No tool call found for function call output"),
        ({"input": [{**CALL, "id": "toolu_1"}, RESULT]}, "input[0].id", "Expected an ID that begins with 'fc'."),
        ({"input": [{**CALL, "id": "fc_" + "x" * 62}, RESULT]}, "input[0].id", "with length 65 instead."),
        ({"input": [{**CALL, "call_id": "c" * 65}]}, "input[0].call_id", "maximum length 64"),
        ({"input": [{**CALL, "arguments": {}}, RESULT]}, "input[0].arguments", "Missing required parameter"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0]", "Invalid value: 'tool'."),
        (
            {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            "input[0].content[0]",
            "Invalid value: 'text'.",
        ),
        (
            {"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]},
            "input[0].content[0]",
            "Supported values are: 'output_text', and 'refusal'.",
        ),
        ({"input": [{"type": "strange"}]}, "input[0]", "Invalid value: 'strange'."),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools[0].name", "Missing required parameter"),
        ({"tools": [{**WEATHER, "name": "a.b"}]}, "tools[0].name", "pattern '^[a-zA-Z0-9_-]+$'"),
        ({"tools": [{**WEATHER, "strict": True}]}, "tools[0].parameters", "'additionalProperties' is required"),
        ({"tools": [{**WEATHER, "parameters": {"type": "array"}}]}, "tools[0].parameters", "got 'type: \"array\"'"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "tool_choice", "not found in 'tools'"),
        ({"include": ["everything"]}, "include[0]", "Invalid value: 'everything'."),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "Invalid value: 'huge'."),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "Missing required"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "Previous response with id 'resp_1' not found."),
    ],
)
def test_wrong_body_is_refused_in_the_vendors_words(fields: dict[str, Any], param: str, message: str) -> None:
    body = {"model": "echo", "input": "x", **fields}
    script = ask(RESPONSES, {name: value for name, value in body.items() if value is not None})
    error = json.loads(content(script))["error"]
    assert (script.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert message in error["message"]


def test_answers_are_not_kept() -> None:
    assert ask(f"{RESPONSES}/resp_1", {}).status == 404
    assert answer(f"{RESPONSES}/resp_1", {})["error"]["message"] == "Response with id 'resp_1' not found."
    assert ask(f"{RESPONSES}/other", {}).status == 400


def test_compaction_can_be_sent_back() -> None:
    talk = [{"role": "user", "content": "first"}, {"role": "assistant", "content": "reply"}]
    reply = answer(f"{RESPONSES}/compact", {"model": "echo", "input": [*talk, {"role": "user", "content": "more"}]})
    assert reply["object"] == "response.compaction"
    assert reply["output"][-1]["type"] == "compaction"
    assert say("echo", input=[*reply["output"], {"role": "user", "content": "go on"}])["status"] == "completed"


def test_tokens_are_counted_as_they_are_billed() -> None:
    counted = answer(f"{RESPONSES}/input_tokens", {"model": "echo", "input": "Hello", "tools": [WEATHER]})
    assert counted["object"] == "response.input_tokens"
    assert counted["input_tokens"] == say("echo", input="Hello", tools=[WEATHER])["usage"]["input_tokens"]


def test_length_and_filter_are_incomplete() -> None:
    assert say("echo", input="a b " * 20, max_output_tokens=16)["incomplete_details"] == {"reason": "max_output_tokens"}
    assert say("filter")["incomplete_details"] == {"reason": "content_filter"}
    assert say("refusal")["output"][0]["content"][0]["type"] == "refusal"


def test_cut_breaks_off_in_an_open_item() -> None:
    script = ask(RESPONSES, {"model": "cut-2", "input": "x", "stream": True})
    text = content(script)
    assert script.ending is Ending.CUT
    assert text.count(b"event: response.output_text.delta") == 2
    assert b"response.output_item.done" not in text

"""The OpenAI Chat Completions dialect of the sandbox, whole answers and streams."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from omniroute.providers.sandbox import Ending
from tests.providers.sandbox.wire import CHAT, answer, ask, content, events

HELLO = [{"role": "user", "content": "Hello, how are you?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
NOTE = {"type": "custom", "custom": {"name": "note", "description": "Takes a note."}}


def say(model: str, **fields: Any) -> Any:
    return answer(CHAT, {"model": model, "messages": HELLO, **fields})


def stream(model: str, **fields: Any) -> list[tuple[str | None, Any]]:
    return events(CHAT, {"model": model, "messages": HELLO, **fields})


def calls_of(reply: Any) -> list[str]:
    return [call[call["type"]]["name"] for call in reply["choices"][0]["message"].get("tool_calls", [])]


def test_whole_answer() -> None:
    assert say("echo") == {
        "id": "chatcmpl-9b8da927c2a41bbdfc0fe6a1927dc",
        "object": "chat.completion",
        "created": 1767225600,
        "model": "echo",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello, how are you?",
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 5,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": "fp_sandbox",
    }


def test_stream_opens_with_the_role_and_ends_with_finish_and_done() -> None:
    chunks = [data for _, data in stream("echo")]
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:-1]] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hello, how are y"},
        {"content": "ou?"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, None, "stop"]
    assert chunks[-1] == "[DONE]"
    assert all("usage" not in chunk for chunk in chunks[:-1])


def test_usage_comes_in_a_chunk_of_its_own_when_asked_for() -> None:
    chunks = [data for _, data in stream("echo", stream_options={"include_usage": True})][:-1]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == say("echo")["usage"]


def test_several_choices_take_turns() -> None:
    chunks = stream("echo", n=3)
    assert [data["choices"][0]["index"] for _, data in chunks[:-1]] == [0, 1, 2] * 4
    assert len(say("echo", n=3)["choices"]) == 3
    assert say("echo", n=3)["usage"]["completion_tokens"] == 3 * say("echo")["usage"]["completion_tokens"]


def test_text_ends_at_the_output_limit() -> None:
    reply = say("echo", max_completion_tokens=2)
    assert reply["choices"][0]["message"]["content"] == "Hello, how"
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 2
    assert say("echo", max_tokens=4)["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("stop", "said"), [("how", "Hello, "), (["you", "how"], "Hello, "), ("?", "Hello, how are you")]
)
def test_text_ends_before_a_stop_sequence(stop: Any, said: str) -> None:
    choice = say("echo", stop=stop)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (said, "stop")


def test_story_is_prose_and_numbered_when_counted() -> None:
    prose = say("story")["choices"][0]["message"]["content"]
    assert prose.startswith("At the edge")
    assert 150 <= say("story")["usage"]["completion_tokens"] <= 300
    told = say("story-300")["choices"][0]["message"]["content"].split()
    assert [int(word.partition(":")[0]) for word in told] == list(range(300))
    pieces = [d["choices"][0]["delta"].get("content") for _, d in stream("story-30-0-64")[1:-2]]
    assert [len(piece) for piece in pieces] == [64] * 30


def test_all_tools_are_called_with_fitting_arguments() -> None:
    reply = say("tools", tools=[WEATHER, CLOCK, NOTE])
    message = reply["choices"][0]["message"]
    assert reply["choices"][0]["finish_reason"] == "tool_calls"
    assert message["content"] is None
    assert calls_of(reply) == ["weather", "clock", "note"]
    jsonschema.validate(json.loads(message["tool_calls"][0]["function"]["arguments"]), SCHEMA)
    assert message["tool_calls"][1]["function"]["arguments"] == "{}"
    assert message["tool_calls"][2]["custom"] == {"name": "note", "input": "Hello, how are you?"}
    assert len({call["id"] for call in message["tool_calls"]}) == 3


@pytest.mark.parametrize(
    ("fields", "called"),
    [
        ({"parallel_tool_calls": False}, ["weather"]),
        ({"tool_choice": "auto"}, ["weather", "clock"]),
        ({"tool_choice": "required"}, ["weather", "clock"]),
        ({"tool_choice": "none"}, []),
        ({"tool_choice": {"type": "function", "function": {"name": "clock"}}}, ["clock"]),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [{"type": "function", "function": {"name": "clock"}}],
                    },
                }
            },
            ["clock"],
        ),
    ],
)
def test_tool_choice_is_honoured(fields: dict[str, Any], called: list[str]) -> None:
    assert calls_of(say("tools", tools=[WEATHER, CLOCK], **fields)) == called


def test_results_of_tools_become_text() -> None:
    calls = say("tools", tools=[WEATHER, CLOCK])["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": f"result {number}"}
        for number, call in enumerate(calls["tool_calls"])
    ]
    reply = say("tools", messages=[*HELLO, calls, *results], tools=[WEATHER, CLOCK])
    assert reply["choices"][0]["message"]["content"] == "weather returned: result 0\nclock returned: result 1"
    assert reply["choices"][0]["finish_reason"] == "stop"
    again = say("tools", messages=[*HELLO, calls, *results, reply["choices"][0]["message"], *HELLO], tools=[WEATHER])
    assert calls_of(again) == ["weather"]
    assert again["choices"][0]["message"]["tool_calls"][0]["id"] != calls["tool_calls"][0]["id"]


def test_tool_calls_stream_their_id_once_and_their_arguments_in_fragments() -> None:
    deltas = [d["choices"][0]["delta"] for _, d in stream("tools", tools=[WEATHER, CLOCK])[1:-2]]
    fragments = [delta["tool_calls"][0] for delta in deltas]
    assert [f["index"] for f in fragments] == [0, 0, 0, 1, 1]
    assert [f["index"] for f in fragments if "id" in f] == [0, 1]
    assert "".join(f["function"]["arguments"] for f in fragments if f["index"] == 0) == '{"city":"Lisbon"}'


def test_functions_of_old_clients() -> None:
    reply = say("tools", functions=[WEATHER["function"]], function_call={"name": "weather"})
    assert reply["choices"][0]["finish_reason"] == "function_call"
    assert reply["choices"][0]["message"]["function_call"] == {"name": "weather", "arguments": '{"city":"Lisbon"}'}
    messages = [*HELLO, reply["choices"][0]["message"], {"role": "function", "name": "weather", "content": "rain"}]
    assert say("tools", messages=messages)["choices"][0]["message"]["content"] == "weather returned: rain"


def test_reasoning_has_its_own_field_and_tokens() -> None:
    reply = say("think")
    message = reply["choices"][0]["message"]
    assert message["reasoning_content"].startswith("Let me read this again. It has 4 words.")
    assert message["content"].endswith("Hello, how are you?")
    usage = reply["usage"]
    assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] < usage["completion_tokens"]
    assert "reasoning_content" not in say("think", reasoning_effort="none")["choices"][0]["message"]
    kinds = [next(iter(d["choices"][0]["delta"])) for _, d in stream("think")[1:-2]]
    assert sorted(set(kinds)) == ["content", "reasoning_content"]
    assert kinds == sorted(kinds, reverse=True)


def test_json_fits_the_schema() -> None:
    schema = {**SCHEMA, "additionalProperties": False}
    shape = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    text = say("json", response_format=shape)["choices"][0]["message"]["content"]
    jsonschema.validate(json.loads(text), SCHEMA)
    assert isinstance(
        json.loads(say("json", response_format={"type": "json_object"})["choices"][0]["message"]["content"]), dict
    )


def test_long_conversation_is_partly_cached() -> None:
    talk = [{"role": "user", "content": "x" * 8000}, {"role": "assistant", "content": "ok"}, *HELLO]
    usage = say("echo", messages=talk)["usage"]
    assert usage["prompt_tokens"] == 2006
    assert usage["prompt_tokens_details"]["cached_tokens"] == 1920
    assert say("echo", messages=talk[:1])["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_parts_and_pictures_are_read() -> None:
    parts = [
        {"type": "text", "text": "Look: "},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "text", "text": "nice"},
    ]
    reply = say("echo", messages=[{"role": "user", "content": parts}])
    assert reply["choices"][0]["message"]["content"] == "Look: nice"
    assert reply["usage"]["prompt_tokens"] == 88


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "model"),
        ({"model": 5, "messages": HELLO}, "model"),
        ({"model": "echo"}, "messages"),
        ({"model": "echo", "messages": "hi"}, "messages"),
        ({"model": "echo", "messages": []}, "messages"),
        ({"model": "echo", "messages": ["hi"]}, "messages[0]"),
        ({"model": "echo", "messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"model": "echo", "messages": [{"role": "user"}]}, "messages.[0].content"),
        ({"model": "echo", "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"model": "echo", "messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0].type"),
        ({"model": "echo", "messages": [{"role": "tool", "tool_call_id": "a", "content": "x"}]}, "messages.[0].role"),
        ({"model": "echo", "messages": HELLO, "stream": "yes"}, "stream"),
        ({"model": "echo", "messages": HELLO, "max_tokens": 0}, "max_tokens"),
        ({"model": "echo", "messages": HELLO, "max_tokens": 1.5}, "max_tokens"),
        ({"model": "echo", "messages": HELLO, "n": 129}, "n"),
        ({"model": "echo", "messages": HELLO, "temperature": 3}, "temperature"),
        ({"model": "echo", "messages": HELLO, "top_p": "1"}, "top_p"),
        ({"model": "echo", "messages": HELLO, "stop": ["a"] * 5}, "stop"),
        ({"model": "echo", "messages": HELLO, "tools": []}, "tools"),
        ({"model": "echo", "messages": HELLO, "tools": [{"type": "function"}]}, "tools[0].function.name"),
        ({"model": "echo", "messages": HELLO, "tool_choice": "auto"}, "tool_choice"),
        ({"model": "echo", "messages": HELLO, "tools": [WEATHER], "tool_choice": "some"}, "tool_choice"),
        ({"model": "echo", "messages": HELLO, "stream_options": {"include_usage": True}}, "stream_options"),
        ({"model": "echo", "messages": HELLO, "response_format": {"type": "json_schema"}}, "response_format"),
    ],
)
def test_wrong_body_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    script = ask(CHAT, body)
    error = json.loads(content(script))["error"]
    assert (script.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert set(error) == {"message", "type", "param", "code"}


def test_call_without_result_is_refused() -> None:
    calls = say("tools", tools=[WEATHER])["choices"][0]["message"]
    reply = answer(CHAT, {"model": "echo", "messages": [*HELLO, calls, *HELLO]})
    assert calls["tool_calls"][0]["id"] in reply["error"]["message"]


@pytest.mark.parametrize("model", ["nothing", "gpt-5", "../../etc"])
def test_unknown_model(model: str) -> None:
    script = ask(CHAT, {"model": model, "messages": HELLO})
    assert (script.status, json.loads(content(script))["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", None),
        (401, "invalid_request_error", "invalid_api_key"),
        (402, "insufficient_quota", "insufficient_quota"),
        (418, "invalid_request_error", None),
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (500, "server_error", "internal_error"),
        (503, "server_error", "overloaded"),
        (529, "server_error", "overloaded"),
    ],
)
def test_failures_by_name(status: int, kind: str, code: str | None) -> None:
    for is_stream in (False, True):
        script = ask(CHAT, {"model": f"fail-{status}", "messages": HELLO, "stream": is_stream})
        error = json.loads(content(script))["error"]
        assert (script.status, error["type"], error["code"]) == (status, kind, code)


def test_rate_limit_carries_hints() -> None:
    headers = dict(ask(CHAT, {"model": "fail-429-30", "messages": HELLO}).headers)
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("30", "30000")
    assert dict(ask(CHAT, {"model": "fail-429", "messages": HELLO}).headers)["retry-after"] == "5"
    assert "retry-after" not in dict(ask(CHAT, {"model": "fail-500", "messages": HELLO}).headers)


def test_cut_ends_without_its_end() -> None:
    script = ask(CHAT, {"model": "cut-3", "messages": HELLO, "stream": True})
    text = content(script)
    assert script.ending is Ending.CUT
    assert text.count(b'"content":"') == 4, "the role, then three pieces"
    assert b"[DONE]" not in text
    whole = ask(CHAT, {"model": "cut", "messages": HELLO})
    assert whole.ending is Ending.CUT
    assert 0 < len(content(whole)) < int(dict(whole.headers)["content-length"])


def test_garbage_cannot_be_read() -> None:
    whole = ask(CHAT, {"model": "garbage", "messages": HELLO})
    assert (whole.status, whole.ending) == (200, Ending.COMPLETE)
    with pytest.raises(UnicodeDecodeError):
        content(whole).decode()
    frames = content(ask(CHAT, {"model": "garbage", "messages": HELLO, "stream": True})).split(b"\n\n")
    assert len(frames) == 5
    assert all(frame.startswith(b"data: {") for frame in frames[:-1])

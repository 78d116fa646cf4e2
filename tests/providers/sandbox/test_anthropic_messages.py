"""The Anthropic Messages dialect of the sandbox, whole answers and streams."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from omniroute.providers.sandbox import Ending
from tests.providers.sandbox.wire import MESSAGES, answer, ask, content, events

HELLO = [{"role": "user", "content": "Hello, how are you?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "input_schema": SCHEMA}
CLOCK = {"name": "clock", "input_schema": {"type": "object", "properties": {}}}
BASH = {"type": "bash_20250124", "name": "bash"}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}


def say(model: str, **fields: Any) -> Any:
    return answer(MESSAGES, {"model": model, "max_tokens": 1000, "messages": HELLO, **fields})


def stream(model: str, **fields: Any) -> list[tuple[str | None, Any]]:
    return events(MESSAGES, {"model": model, "max_tokens": 1000, "messages": HELLO, **fields})


def test_whole_answer() -> None:
    assert say("echo") == {
        "id": "msg_0181113ef7413ee4bc47dafa",
        "type": "message",
        "role": "assistant",
        "model": "echo",
        "content": [{"type": "text", "text": "Hello, how are you?"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 5,
            "service_tier": "standard",
        },
    }


def test_stream_has_the_events_in_order() -> None:
    read = stream("echo")
    assert [name for name, _ in read] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert read[0][1]["message"]["content"] == []
    assert read[0][1]["message"]["stop_reason"] is None
    assert read[0][1]["message"]["usage"]["input_tokens"] == 5
    assert read[-2][1]["usage"]["output_tokens"] == 5


def test_text_ends_at_the_output_limit() -> None:
    reply = say("echo", max_tokens=2)
    assert reply["content"] == [{"type": "text", "text": "Hello, how"}]
    assert (reply["stop_reason"], reply["usage"]["output_tokens"]) == ("max_tokens", 2)


def test_text_ends_before_a_stop_sequence_that_is_named() -> None:
    reply = say("echo", stop_sequences=["you", "how"])
    assert reply["content"][0]["text"] == "Hello, "
    assert (reply["stop_reason"], reply["stop_sequence"]) == ("stop_sequence", "how")


def test_answer_that_ends_before_its_first_word_has_no_block() -> None:
    assert say("echo", stop_sequences=["Hello"])["content"] == []
    names = [name for name, _ in stream("echo", stop_sequences=["Hello"])]
    assert names == ["message_start", "ping", "message_delta", "message_stop"]


def test_tools_are_called_with_fitting_input() -> None:
    reply = say("tools", tools=[WEATHER, CLOCK, BASH, SEARCH])
    assert reply["stop_reason"] == "tool_use"
    assert [block["name"] for block in reply["content"]] == ["weather", "clock", "bash"]
    jsonschema.validate(reply["content"][0]["input"], SCHEMA)
    assert reply["content"][1]["input"] == {}
    assert reply["content"][2]["input"] == {"command": "echo sandbox"}
    assert all(block["id"].startswith("toolu_01") for block in reply["content"])


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ({"type": "auto"}, ["weather", "clock"]),
        ({"type": "any"}, ["weather", "clock"]),
        ({"type": "any", "disable_parallel_tool_use": True}, ["weather"]),
        ({"type": "tool", "name": "clock"}, ["clock"]),
        ({"type": "none"}, []),
    ],
)
def test_tool_choice_is_honoured(choice: dict[str, Any], called: list[str]) -> None:
    reply = say("tools", tools=[WEATHER, CLOCK], tool_choice=choice)
    assert [block["name"] for block in reply["content"] if block["type"] == "tool_use"] == called


def test_results_of_tools_become_text() -> None:
    calls = say("tools", tools=[WEATHER, CLOCK])["content"]
    results = [
        {"type": "tool_result", "tool_use_id": calls[0]["id"], "content": [{"type": "text", "text": "rain"}]},
        {"type": "tool_result", "tool_use_id": calls[1]["id"], "content": "broken", "is_error": True},
    ]
    talk = [*HELLO, {"role": "assistant", "content": calls}, {"role": "user", "content": results}]
    reply = say("tools", tools=[WEATHER, CLOCK], messages=talk)
    assert reply["content"] == [{"type": "text", "text": "weather returned: rain\nclock failed: broken"}]
    assert reply["stop_reason"] == "end_turn"


def test_tool_input_streams_as_fragments_from_an_empty_object() -> None:
    read = [data for name, data in stream("tools", tools=[WEATHER, CLOCK]) if name and name.startswith("content_block")]
    started = [data["content_block"] for data in read if data["type"] == "content_block_start"]
    assert [block["input"] for block in started] == [{}, {}]
    fragments = [data["delta"]["partial_json"] for data in read if data["type"] == "content_block_delta"]
    assert fragments == ["", '{"city":"Lis', 'bon"}', ""]


def test_thinking_is_signed_and_the_signature_is_checked_on_its_return() -> None:
    thinking, text = say("think")["content"]
    assert thinking["type"] == "thinking"
    assert text["text"].endswith("Hello, how are you?")
    talk = [*HELLO, {"role": "assistant", "content": [thinking, text]}, *HELLO]
    assert say("echo", messages=talk)["type"] == "message"
    changed = {**thinking, "thinking": thinking["thinking"] + "!"}
    talk[1] = {"role": "assistant", "content": [changed, text]}
    assert "signature" in say("echo", messages=talk)["error"]["message"]


def test_signature_comes_last_in_its_block() -> None:
    read = stream("think")
    kinds = [data["delta"]["type"] for name, data in read if name == "content_block_delta" and data["index"] == 0]
    assert kinds[-1] == "signature_delta"
    assert set(kinds[:-1]) == {"thinking_delta"}


def test_thinking_can_be_switched_off() -> None:
    assert [block["type"] for block in say("think", thinking={"type": "disabled"})["content"]] == ["text"]


def test_json_fits_the_schema() -> None:
    reply = say("json", output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    assert list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(json.loads(reply["content"][0]["text"]))) == []


@pytest.mark.parametrize(
    ("mark", "has_answer", "usage"),
    [
        ({}, False, (1001, 0, 0)),
        ({"cache_control": {"type": "ephemeral"}}, False, (1, 1000, 0)),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, False, (1, 1000, 0)),
        ({"cache_control": {"type": "ephemeral"}}, True, (3, 0, 1000)),
    ],
)
def test_marked_prompt_is_kept_first_and_read_later(mark: Any, has_answer: bool, usage: tuple[int, int, int]) -> None:
    talk: list[dict[str, Any]] = [{"role": "user", "content": "more"}]
    if has_answer:
        talk += [{"role": "assistant", "content": "word"}, {"role": "user", "content": "word"}]
    counted = say("echo", system=[{"type": "text", "text": "x" * 4000, **mark}], messages=talk)["usage"]
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    assert tuple(counted[name] for name in names) == usage
    split = counted["cache_creation"]
    assert sum(split.values()) == usage[1]
    assert split["ephemeral_1h_input_tokens"] == (1000 if mark.get("cache_control", {}).get("ttl") else 0)


def test_tokens_are_counted_as_they_are_billed() -> None:
    body = {"model": "echo", "system": "Be kind.", "messages": HELLO, "tools": [WEATHER]}
    counted = answer(MESSAGES + "/count_tokens", body)
    assert counted == {"input_tokens": say("echo", system="Be kind.", tools=[WEATHER])["usage"]["input_tokens"]}


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": None},
        {"max_tokens": 0},
        {"max_tokens": "many"},
        {"model": None},
        {"model": 7},
        {"messages": None},
        {"messages": {}},
        {"messages": []},
        {"messages": ["hi"]},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": [{"role": "assistant", "content": "x"}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
        {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]}]},
        {
            "messages": [
                *HELLO,
                {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]},
            ]
        },
        {"messages": [*HELLO, {"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]}, *HELLO]},
        {"system": 5},
        {"system": [{"type": "text"}]},
        {"temperature": 1.5},
        {"stop_sequences": ["  "]},
        {"stop_sequences": "x"},
        {"stream": 1},
        {"tools": {}},
        {"tools": [{"name": "x"}]},
        {"tools": [CLOCK, CLOCK]},
        {"tool_choice": {"type": "any"}},
        {"tools": [CLOCK], "tool_choice": {"type": "tool", "name": "other"}},
        {"thinking": {"type": "enabled", "budget_tokens": 10}},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        {"output_config": {"format": {"type": "xml"}}},
    ],
)
def test_wrong_body_is_refused_in_the_vendors_words(fields: dict[str, Any]) -> None:
    body = {"model": "echo", "max_tokens": 1000, "messages": HELLO, **fields}
    script = ask(MESSAGES, {name: value for name, value in body.items() if value is not None})
    reply = json.loads(content(script))
    assert script.status == 400
    assert reply["type"] == "error"
    assert reply["error"]["type"] == "invalid_request_error"
    assert reply["request_id"] == dict(script.headers)["request-id"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_failures_by_name(status: int, kind: str) -> None:
    script = ask(MESSAGES, {"model": f"fail-{status}", "max_tokens": 5, "messages": HELLO, "stream": True})
    assert (script.status, json.loads(content(script))["error"]["type"]) == (status, kind)


def test_unknown_model() -> None:
    assert say("nothing")["error"]["type"] == "not_found_error"


def test_cut_and_hang_break_off_in_an_open_block() -> None:
    for model, ending in (("cut-2", Ending.CUT), ("hang-2", Ending.HANG)):
        script = ask(MESSAGES, {"model": model, "max_tokens": 5, "messages": HELLO, "stream": True})
        text = content(script)
        assert script.ending is ending
        assert text.count(b"event: content_block_delta") == 2
        assert b"content_block_stop" not in text

"""The Gemini dialect of the sandbox, whole answers and streams."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import jsonschema
import pytest

from omniroute.providers.sandbox import LISTED, Ending
from tests.providers.sandbox.wire import answer, ask, chunks, content, fold_gemini, gemini

HELLO = [{"role": "user", "parts": [{"text": "Hello, how are you?"}]}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "parameters": SCHEMA}
CLOCK = {"name": "clock"}
CALL = {"functionCall": {"name": "weather", "args": {}}, "thoughtSignature": "skip_thought_signature_validator"}
RESULT = {"functionResponse": {"name": "weather", "response": {"output": "rain"}}}
USER: Any = {"role": "user", "parts": [{"text": "x"}]}


def say(model: str, **fields: Any) -> Any:
    return answer(gemini(model), {"contents": HELLO, **fields})


def parts_of(reply: Any) -> Any:
    return reply["candidates"][0]["content"]["parts"]


def declared(**schema: Any) -> dict[str, Any]:
    return {"tools": [{"functionDeclarations": [{"name": "f", "parameters": schema}]}]}


def test_whole_answer() -> None:
    reply = say("echo")
    assert len(reply.pop("responseId")) == 22
    assert reply == {
        "candidates": [
            {
                "content": {"parts": [{"text": "Hello, how are you?"}], "role": "model"},
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 5,
            "totalTokenCount": 10,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 5}],
            "candidatesTokenCount": 5,
        },
        "modelVersion": "echo",
    }


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_both_versions_and_both_framings(version: str) -> None:
    path = f"/{version}/models/story-5:streamGenerateContent"
    events = chunks(path + "?alt=sse", {"contents": HELLO})
    array = chunks(path, {"contents": HELLO})
    assert events == array
    assert [chunk["candidates"][0].get("finishReason") for chunk in array] == [None] * 5 + ["STOP"]
    assert all("usageMetadata" in chunk for chunk in array)
    assert answer(f"/{version}/models/sandbox%2Fecho:generateContent", {"contents": HELLO})["modelVersion"]


@pytest.mark.parametrize("model", ["echo", "think", "tools", "json", "cite", "length", "filter", "mixed", "badargs"])
def test_stream_folds_into_the_whole_answer(model: str) -> None:
    body = {
        "contents": HELLO,
        "tools": [{"functionDeclarations": [WEATHER, CLOCK]}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
    }
    folded = fold_gemini(chunks(gemini(model, "streamGenerateContent") + "?alt=sse", body))
    whole = answer(gemini(model), body)
    assert _plain(folded["candidates"][0]) == _plain(whole["candidates"][0])
    assert folded["usageMetadata"] == whole["usageMetadata"]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in ("id", "role", "thoughtSignature") and v != []}
        return {k: _plain(v) for k, v in kept.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def test_calls_are_whole_and_the_first_of_a_group_is_signed() -> None:
    reply = say("tools", tools=[{"functionDeclarations": [WEATHER, CLOCK]}])
    first, second = parts_of(reply)
    jsonschema.validate(first["functionCall"]["args"], SCHEMA)
    assert (second["functionCall"]["name"], second["functionCall"]["args"]) == ("clock", {})
    assert first["functionCall"]["id"] != second["functionCall"]["id"]
    assert "thoughtSignature" in first
    assert "thoughtSignature" not in second
    assert reply["candidates"][0]["finishReason"] == "STOP"


def test_tool_loop() -> None:
    tools = [{"functionDeclarations": [WEATHER, CLOCK]}]
    made = say("tools", tools=tools)["candidates"][0]["content"]
    results = [
        {"functionResponse": {"id": part["functionCall"]["id"], "name": part["functionCall"]["name"], "response": told}}
        for part, told in zip(made["parts"], ({"output": "rain"}, {"error": "broken"}), strict=True)
    ]
    talk = [*HELLO, made, {"role": "user", "parts": results}]
    assert parts_of(say("tools", tools=tools, contents=talk)) == [
        {"text": "weather returned: rain\nclock failed: broken"}
    ]


def test_signatures_are_checked() -> None:
    tools = [{"functionDeclarations": [WEATHER]}]
    made = say("tools", tools=tools)["candidates"][0]["content"]
    part = made["parts"][0]

    def replay(**changes: Any) -> Any:
        call = {name: value for name, value in {**part, **changes}.items() if value is not None}
        return say("tools", tools=tools, contents=[*HELLO, {**made, "parts": [call]}, {"parts": [RESULT]}])

    assert "candidates" in replay()
    url_safe = part["thoughtSignature"].replace("+", "-").replace("/", "_").rstrip("=")
    assert "candidates" in replay(thoughtSignature=url_safe)
    for value in ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go"):
        assert "candidates" in replay(thoughtSignature=value)
        assert "candidates" in replay(thoughtSignature=urlsafe_b64encode(value.encode()).decode())
    missing = replay(thoughtSignature=None)["error"]["message"]
    assert missing.startswith("Function call is missing a thought_signature in functionCall parts.")
    assert "`default_api:weather` , position 2." in missing
    assert replay(thoughtSignature="Zm9yZWlnbg==")["error"]["message"] == "Corrupted thought signature."
    other = {**part["functionCall"], "args": {"city": "Rome"}}
    assert replay(functionCall=other)["error"]["message"] == "Corrupted thought signature."
    old = [*HELLO, {"role": "model", "parts": [{"functionCall": part["functionCall"]}]}, {"parts": [RESULT]}]
    talk = [*old, {"role": "model", "parts": [{"text": "Rain."}]}, *HELLO]
    assert "candidates" in say("echo", contents=talk), "only the turn in progress needs signatures"


def test_thoughts_are_shown_on_request_and_counted_apart() -> None:
    hidden = say("think")
    assert all("thought" not in part for part in parts_of(hidden))
    assert hidden["usageMetadata"]["thoughtsTokenCount"] > 0
    shown = say("think", generationConfig={"thinkingConfig": {"includeThoughts": True, "thinkingBudget": -1}})
    assert [part.get("thought") for part in parts_of(shown)] == [True, None]
    usage = shown["usageMetadata"]
    spoken = usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + spoken
    off = say("think", generationConfig={"thinkingConfig": {"thinkingBudget": 0}})
    assert "thoughtsTokenCount" not in off["usageMetadata"]
    talk = [*HELLO, shown["candidates"][0]["content"], *HELLO]
    assert "candidates" in say("echo", contents=talk)


def test_both_spellings_are_read() -> None:
    body = {
        "contents": [
            {"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": "aGVsbG8"}}, {"text": "x"}]}
        ],
        "system_instruction": {"parts": [{"text": "Be kind."}]},
        "generation_config": {"max_output_tokens": 3, "thinking_config": {"thinking_budget": 0}},
        "tool_config": {"function_calling_config": {"mode": "NONE"}},
        "tools": [{"function_declarations": [{"name": "f", "parameters_json_schema": {"$ref": "#"}}]}],
    }
    reply = answer(gemini("image-desc"), body)
    assert parts_of(reply)[0]["text"] == "1 media part"
    assert reply["candidates"][0]["finishReason"] == "MAX_TOKENS"


@pytest.mark.parametrize(
    ("mode", "called"),
    [
        ({"mode": "AUTO"}, ["weather", "clock"]),
        ({"mode": "ANY"}, ["weather", "clock"]),
        ({"mode": "ANY", "allowedFunctionNames": ["clock"]}, ["clock"]),
        ({"mode": "NONE"}, []),
    ],
)
def test_tool_choice_is_honoured(mode: dict[str, Any], called: list[str]) -> None:
    reply = say("tools", tools=[{"functionDeclarations": [WEATHER, CLOCK]}], toolConfig={"functionCallingConfig": mode})
    assert [part["functionCall"]["name"] for part in parts_of(reply) if "functionCall" in part] == called


def test_json_fits_either_kind_of_schema() -> None:
    subset = {"type": "OBJECT", "properties": {"city": {"type": "STRING", "nullable": True}}, "required": ["city"]}
    for field, schema in (("responseSchema", subset), ("responseJsonSchema", SCHEMA)):
        config = {"responseMimeType": "application/json", field: schema}
        text = parts_of(say("json", generationConfig=config))[0]["text"]
        assert not list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(json.loads(text)))


def test_blocked_prompt_has_no_candidate() -> None:
    reply = say("refusal")
    assert reply["promptFeedback"] == {"blockReason": "PROHIBITED_CONTENT"}
    assert "candidates" not in reply


MODEL = {"role": "model", "parts": [CALL]}
UNEQUAL = "number of function response parts is equal to the number of function call parts"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"contents": []}, "contents is not specified"),
        ({"contents": [{"role": "system", "parts": [{"text": "x"}]}]}, "Please use a valid role: user, model."),
        ({"contents": [{"role": "user", "parts": []}]}, "contents.parts must not be empty"),
        ({"contents": [{"role": "user", "parts": [{}]}]}, "required oneof field 'data'"),
        ({"contents": [{"role": "user", "parts": [{"type": "text", "text": "x"}]}]}, 'Unknown name "type"'),
        ({"contents": [USER, MODEL]}, UNEQUAL),
        ({"contents": [USER, MODEL, USER]}, UNEQUAL),
        ({"contents": [USER, {**MODEL, "parts": [CALL, CALL]}, {"parts": [RESULT]}]}, UNEQUAL),
        ({"contents": [USER, MODEL, {"parts": [RESULT, RESULT]}]}, UNEQUAL),
        ({"contents": [USER, {"parts": [RESULT]}]}, "comes immediately after a function call turn"),
        ({"contents": [MODEL, {"parts": [RESULT]}]}, "comes immediately after a user turn"),
        (
            {"contents": [USER, {"role": "model", "parts": [{"text": "x"}]}, MODEL, {"parts": [RESULT]}]},
            "comes immediately after a user turn",
        ),
        ({"model_name": "x"}, 'Unknown name "model_name": Cannot find field.'),
        ({"generationConfig": {"max_tokens": 5}}, "Unknown name \"max_tokens\" at 'generation_config'"),
        (
            declared(type="object", additionalProperties=False),
            "Unknown name \"additionalProperties\" at 'tools[0].function_declarations[0].parameters'",
        ),
        (declared(**{"type": "object", "$schema": "x"}), 'Unknown name "$schema"'),
        (declared(type="object", properties={"a": {"const": 1}}), "parameters.properties[0].value'"),
        (declared(type=["object", "null"]), "cannot start list"),
        (declared(type="object", properties={"a": {"type": "integer", "enum": ["1"]}}), "only allowed for STRING"),
        (declared(type="object", properties={"a": {"type": "string", "format": "uri"}}), "'enum' and 'date-time'"),
        (declared(type="object", properties={"a": {"type": "array"}}), "items: missing field."),
        (declared(type="object", required=["b"]), "required[0]: property is not defined"),
        ({"tools": [{"functionDeclarations": [{"name": "1a"}]}]}, "Invalid function name."),
        ({"tools": [{"functionDeclarations": [CLOCK, CLOCK]}]}, "Duplicate function declaration found: clock"),
        ({"generationConfig": {"stopSequences": list("abcdef")}}, "stopSequences"),
        ({"generationConfig": {"temperature": 3}}, "range [0.0, 2.0]"),
        ({"generationConfig": {"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "low"}}}, "only one of"),
    ],
)
def test_wrong_body_is_refused_in_the_vendors_words(fields: dict[str, Any], message: str) -> None:
    script = ask(gemini("echo"), {"contents": HELLO, **fields})
    error = json.loads(content(script))["error"]
    assert (script.status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert message in error["message"]


def test_unknown_fields_are_named_in_the_details() -> None:
    error = say("echo", **declared(type="object", additionalProperties=False))["error"]
    violation = error["details"][0]["fieldViolations"][0]
    assert error["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert violation["field"] == "tools[0].function_declarations[0].parameters"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
def test_failures_by_name(status: int, kind: str) -> None:
    script = ask(gemini(f"fail-{status}"), {"contents": HELLO})
    error = json.loads(content(script))["error"]
    assert (script.status, error["code"], error["status"]) == (status, status, kind)
    assert "retry-after" not in dict(script.headers)


def test_rate_limit_says_when_to_come_back() -> None:
    details = say("fail-429-7")["error"]["details"]
    assert {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"} in details


def test_refusal_of_an_array_stream_is_an_array() -> None:
    script = ask(gemini("fail-503", "streamGenerateContent"), {"contents": HELLO})
    assert json.loads(content(script))[0]["error"]["status"] == "UNAVAILABLE"
    events = ask(gemini("fail-503", "streamGenerateContent") + "?alt=sse", {"contents": HELLO})
    assert json.loads(content(events))["error"]["status"] == "UNAVAILABLE"


def test_models_and_counts() -> None:
    listed = answer("/v1beta/models?pageSize=1000", {})["models"]
    assert [model["name"] for model in listed] == [f"models/{model.id}" for model in LISTED]
    assert answer("/v1beta/models/echo", {})["displayName"] == "Sandbox Echo"
    assert answer("/v1/models", {}, x_goog_api_key="k")["models"] == listed
    counted = answer(gemini("echo", "countTokens"), {"contents": HELLO})
    assert counted["totalTokens"] == say("echo")["usageMetadata"]["promptTokenCount"]
    wrapped = {"generateContentRequest": {"model": "models/echo", "contents": HELLO}}
    assert answer(gemini("echo", "countTokens"), wrapped) == counted
    assert "models/none is not found" in answer(gemini("none"), {"contents": HELLO})["error"]["message"]


def test_cut_ends_without_a_finish_reason() -> None:
    script = ask(gemini("cut-2", "streamGenerateContent") + "?alt=sse", {"contents": HELLO})
    text = content(script)
    assert (script.ending, text.count(b"data: ")) == (Ending.CUT, 2)
    assert b"finishReason" not in text

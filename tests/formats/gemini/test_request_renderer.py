from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given

from omniroute.errors import UnsupportedFeature
from omniroute.formats.canonical import (
    CallKind,
    ChoiceMode,
    Effort,
    Media,
    MediaKind,
    Message,
    Output,
    Reasoning,
    Refusal,
    Request,
    Role,
    ServerTool,
    ServerToolDefinition,
    SourceKind,
    Text,
    Thinking,
    Token,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Unknown,
)
from omniroute.formats.codec import no_pause
from omniroute.formats.gemini.content_renderer import BYPASS
from omniroute.formats.gemini.request_renderer import render_request
from omniroute.formats.losses import Losses
from omniroute.formats.prepare import prepare
from omniroute.formats.profile import IdRule, Profile, ReasoningStyle, SchemaDialect, profile_for
from omniroute.formats.wire import WireFormat
from tests.formats.gemini.fixtures import foreign, rendered
from tests.formats.strategies import requests

SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"title":{"type":["string","null"]},"n":{"const":1}}}')
TOOLS = (Tool("f", "Does f.", SCHEMA), Tool("g"))
ASK = Message(Role.USER, (Text("Do it."),))


def _turn(*blocks: Any) -> Message:
    return Message(Role.ASSISTANT, blocks)


def _results(*results: ToolResult) -> Message:
    return Message(Role.TOOL, results)


def _call(call_id: str = "c1", arguments: str = '{"a":1}', token: str | None = None) -> ToolCall:
    return ToolCall(call_id, "f", arguments, token=None if token is None else Token(token, WireFormat.GEMINI))


def _said(request: Request, **facts: Any) -> list[dict[str, Any]]:
    contents: list[dict[str, Any]] = rendered(request, **facts)[0]["contents"]
    return contents


def test_system_text_has_its_place() -> None:
    request = foreign(
        system=(Message(Role.SYSTEM, (Text("A"), Text(""))), Message(Role.DEVELOPER, (Text("B"),))),
    )
    body, losses = rendered(request)
    assert body == {
        "systemInstruction": {"parts": [{"text": "A"}, {"text": "B"}]},
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
    }
    assert losses == ()


def test_t31_same_role_neighbours_are_merged_and_the_user_begins() -> None:
    request = foreign(_turn(Text("a")), _turn(Text("b")), ASK, Message(Role.USER, (Text("c"),)))
    assert _said(request) == [
        {"role": "user", "parts": [{"text": "(start of the conversation)"}]},
        {"role": "model", "parts": [{"text": "a"}, {"text": "b"}]},
        {"role": "user", "parts": [{"text": "Do it."}, {"text": "c"}]},
    ]


def test_t30_a_conversation_of_system_text_alone_gets_a_turn_of_the_user() -> None:
    request = Request(WireFormat.OPENAI_CHAT, "m", (), (Message(Role.SYSTEM, (Text("Be brief."),)),))
    body, _ = rendered(request)
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "(start of the conversation)"}]}]


def test_t31_a_trailing_answer_is_a_prefill_only_where_that_is_taken() -> None:
    request = foreign(ASK, _turn(Text("Sure:")))
    assert _said(request)[-1] == {"role": "model", "parts": [{"text": "Sure:"}]}
    assert _said(request, takes_prefill=False)[-1] == {"role": "user", "parts": [{"text": "Continue."}]}


def test_t32_parts_that_say_nothing_are_left_out() -> None:
    request = foreign(Message(Role.USER, (Text(""), Text("x"))), _turn(Text(""), Refusal("")), ASK)
    assert _said(request) == [{"role": "user", "parts": [{"text": "x"}, {"text": "Do it."}]}]


def test_t8_all_results_of_a_turn_stand_in_one_content_before_other_text() -> None:
    request = foreign(
        ASK,
        _turn(_call("a"), _call("b")),
        _results(ToolResult("a", (Text("1"),)), ToolResult("b", (Text("2"),))),
        Message(Role.USER, (Text("next"),)),
    )
    contents = _said(request)
    assert [content["role"] for content in contents] == ["user", "model", "user"]
    assert contents[2]["parts"] == [
        {"functionResponse": {"id": "a", "name": "f", "response": {"output": "1"}}},
        {"functionResponse": {"id": "b", "name": "f", "response": {"output": "2"}}},
        {"text": "next"},
    ]


@pytest.mark.parametrize(
    ("text", "is_error", "response"),
    [
        ("plain", False, {"output": "plain"}),
        ("", False, {"output": ""}),
        ('{"temperature": 20}', False, {"temperature": 20}),
        ("[1, 2]", False, {"output": "[1, 2]"}),
        ("{broken", False, {"output": "{broken"}),
        ("boom", True, {"error": "boom"}),
        ('{"code": 1}', True, {"error": '{"code": 1}'}),
        ('{"error": {"code": 1}}', True, {"error": {"code": 1}}),
    ],
)
def test_t10_results_become_objects_and_errors_stay_errors(text: str, is_error: bool, response: Any) -> None:
    result = ToolResult("c1", (Text(text),), is_error=is_error)
    part = _said(foreign(ASK, _turn(_call()), _results(result)))[2]["parts"][0]
    assert part["functionResponse"]["response"] == response


def test_t9_media_inside_a_result_become_its_parts() -> None:
    image = Media(MediaKind.IMAGE, SourceKind.INLINE, "iVBORw0KGgo=", "image/png")
    result = ToolResult("c1", (Text("see"), image, Text("there")))
    part = _said(foreign(ASK, _turn(_call()), _results(result)))[2]["parts"][0]
    assert part["functionResponse"] == {
        "id": "c1",
        "name": "f",
        "response": {"output": "see\nthere"},
        "parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}],
    }


def test_ids_are_left_out_for_hosts_that_do_not_know_them() -> None:
    request = foreign(ASK, _turn(_call()), _results(ToolResult("c1", (Text("x"),))))
    assert '"id"' not in json.dumps(_said(request, id_rule=IdRule.NONE))


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        ("", {}),
        ("  ", {}),
        ('{"a": 1}', {"a": 1}),
        ('{"a": ', {"raw_arguments": '{"a": '}),
        ("[1]", {"raw_arguments": "[1]"}),
        ('"{\\"a\\":1}"', {"a": 1}),
    ],
)
def test_t2_arguments_are_an_object_whatever_the_model_wrote(arguments: str, args: dict[str, Any]) -> None:
    contents = _said(foreign(ASK, _turn(_call(arguments=arguments))))
    assert contents[1]["parts"][0]["functionCall"]["args"] == args


def test_t70_numbers_in_arguments_keep_their_spelling() -> None:
    request = foreign(ASK, _turn(_call(arguments='{"n":12345678901234567890,"z":-0,"e":1e400}')))
    losses = Losses(WireFormat.GEMINI)
    body = render_request(request, profile_for(WireFormat.GEMINI, "m"), losses, no_pause)
    assert b'{"n":12345678901234567890,"z":-0,"e":1e400}' in body


def test_t17_signatures_return_and_foreign_turns_get_the_documented_value_once() -> None:
    request = foreign(
        ASK,
        _turn(_call("a"), _call("b")),
        _results(ToolResult("a", ()), ToolResult("b", ())),
        _turn(Text("hm"), _call("c", token="U0lH"), _call("d")),
        _results(ToolResult("c", ()), ToolResult("d", ())),
    )
    contents = _said(request)
    assert [part.get("thoughtSignature") for part in contents[1]["parts"]] == [BYPASS, None]
    assert [part.get("thoughtSignature") for part in contents[3]["parts"]] == [None, "U0lH", None]
    assert BYPASS not in json.dumps(_said(request, takes_bypass=False))


def test_thoughts_go_back_with_their_signature() -> None:
    token = Token("U0lH", WireFormat.GEMINI)
    request = foreign(ASK, _turn(Thinking("why", token), Thinking("", token, redacted=True), Thinking("", None)), ASK)
    assert _said(request)[1]["parts"] == [
        {"text": "why", "thought": True, "thoughtSignature": "U0lH"},
        {"thought": True, "thoughtSignature": "U0lH"},
    ]


def test_t24_media_of_all_sources() -> None:
    request = foreign(
        Message(
            Role.USER,
            (
                Media(MediaKind.IMAGE, SourceKind.INLINE, "/9j/AA==", detail="high"),
                Media(MediaKind.DOCUMENT, SourceKind.INLINE, "JVBERi0=", "application/pdf", "a.pdf"),
                Media(MediaKind.DOCUMENT, SourceKind.TEXT, "notes", "text/plain"),
                Media(MediaKind.VIDEO, SourceKind.URL, "https://youtu.be/x"),
            ),
        )
    )
    body, losses = rendered(request)
    assert body["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/jpeg", "data": "/9j/AA=="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
        {"text": "notes"},
        {"fileData": {"fileUri": "https://youtu.be/x"}},
    ]
    assert losses == ("media.detail",)


def test_t13_server_blocks_of_the_vendor_are_verbatim_and_others_a_note() -> None:
    own = msgspec.Raw(b'{"executableCode":{"code":"1"}}')
    request = foreign(
        ASK,
        _turn(
            ServerTool(WireFormat.GEMINI, own),
            ServerTool(WireFormat.OPENAI_RESPONSES, own, "Searched."),
            Unknown(WireFormat.GEMINI, msgspec.Raw(b'{"x":1}')),
        ),
    )
    assert _said(request)[1]["parts"] == [{"executableCode": {"code": "1"}}, {"text": "Searched."}, {"x": 1}]
    with pytest.raises(UnsupportedFeature):
        rendered(foreign(ASK, _turn(Unknown(WireFormat.OPENAI_CHAT, own))))


# --- tools -----------------------------------------------------------------------------------------------------------


def test_t45_tools_that_take_full_schemas_get_them_unreduced() -> None:
    request = foreign(tools=(msgspec.structs.replace(TOOLS[0], strict=True), TOOLS[1]))
    losses = Losses(WireFormat.GEMINI)
    body = render_request(request, profile_for(WireFormat.GEMINI, "m"), losses, no_pause)
    assert bytes(SCHEMA) in body
    assert json.loads(body)["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "description": "Does f.", "parametersJsonSchema": json.loads(bytes(SCHEMA))},
                {"name": "g"},
            ]
        }
    ]
    assert losses.paths == ("tools.strict.f",)


def test_t48_strictness_is_a_loss_and_its_absence_none() -> None:
    for strict, losses in ((True, ("tools.strict.f",)), (False, ()), (None, ())):
        tool = msgspec.structs.replace(TOOLS[0], strict=strict)
        assert rendered(foreign(tools=(tool,)))[1] == losses


def test_t47_others_get_the_subset() -> None:
    empty = Tool("empty", None, msgspec.Raw(b'{"type":"object","properties":{}}'))
    body, _ = rendered(foreign(tools=(TOOLS[0], empty)), schema=SchemaDialect.SUBSET)
    first, second = body["tools"][0]["functionDeclarations"]
    assert first["parameters"]["properties"]["title"]["nullable"] is True
    assert first["parameters"]["properties"]["n"]["enum"] == ["1"]
    assert second == {"name": "empty"}


def test_t14_no_tools_is_no_member() -> None:
    body, _ = rendered(foreign(tools=(), tool_choice=ToolChoice(ChoiceMode.AUTO)))
    assert set(body) == {"contents"}


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (ToolChoice(ChoiceMode.AUTO), None),
        (ToolChoice(ChoiceMode.NONE), {"mode": "NONE"}),
        (ToolChoice(ChoiceMode.REQUIRED), {"mode": "ANY"}),
        (ToolChoice(ChoiceMode.NAMED, ("f",)), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (ToolChoice(ChoiceMode.REQUIRED, ("f", "g")), {"mode": "ANY", "allowedFunctionNames": ["f", "g"]}),
        (ToolChoice(ChoiceMode.AUTO, ("f",)), {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}),
    ],
)
def test_t11_choices(choice: ToolChoice, config: dict[str, Any] | None) -> None:
    body, _ = rendered(foreign(tools=TOOLS, tool_choice=choice))
    assert body.get("toolConfig") == (None if config is None else {"functionCallingConfig": config})


def test_t12_no_choice_without_functions_and_parallel_off_is_a_loss() -> None:
    search = ServerToolDefinition(WireFormat.GEMINI, "googleSearch", msgspec.Raw(b'{"googleSearch":{}}'))
    other = ServerToolDefinition(WireFormat.OPENAI_RESPONSES, "web_search", msgspec.Raw(b"{}"))
    request = foreign(tools=(search, other), tool_choice=ToolChoice(ChoiceMode.REQUIRED), parallel_tools=False)
    body, losses = rendered(request)
    assert body["tools"] == [{"googleSearch": {}}]
    assert "toolConfig" not in body
    assert losses == ("tools.server.web_search", "parallel_tools")


# --- settings --------------------------------------------------------------------------------------------------------


def test_t58_t59_t60_settings_are_named_capped_and_clamped() -> None:
    request = foreign(
        max_output=100_000,
        temperature=3.0,
        top_p=0.5,
        top_k=3,
        seed=1,
        presence_penalty=0.5,
        frequency_penalty=0.1,
        n=2,
    )
    body, losses = rendered(request, max_output=8192, max_temperature=2.0)
    assert body["generationConfig"] == {
        "temperature": 2.0,
        "topP": 0.5,
        "topK": 3,
        "seed": 1,
        "presencePenalty": 0.5,
        "frequencyPenalty": 0.1,
        "maxOutputTokens": 8192,
        "candidateCount": 2,
    }
    assert losses == ()


def test_knobs_that_a_model_refuses_are_losses() -> None:
    request = foreign(temperature=1.0, top_k=2, seed=3, presence_penalty=0.5, frequency_penalty=0.5)
    body, losses = rendered(request, takes_sampling=False, takes_seed=False, takes_penalties=False)
    assert "generationConfig" not in body
    assert losses == ("temperature", "top_k", "seed", "presence_penalty", "frequency_penalty")


def test_t59_several_answers_cannot_be_streamed() -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        rendered(foreign(n=2, stream=True))
    assert caught.value.param == "n"


def test_t36_blank_stops_go_and_five_are_left() -> None:
    body, losses = rendered(foreign(stop=("a", "", " ", "b", "c", "d", "e", "f")))
    assert body["generationConfig"] == {"stopSequences": ["a", "b", "c", "d", "e"]}
    assert losses == ("stop",)


def _thinking(asked: Reasoning | None, limit: int | None = None, **facts: Any) -> dict[str, Any]:
    body, _ = rendered(foreign(reasoning=asked, max_output=limit), **facts)
    config: dict[str, Any] = body.get("generationConfig", {})
    return config


def test_t21_efforts_become_budgets_within_what_the_model_takes() -> None:
    def config(asked: Reasoning, limit: int | None = None) -> dict[str, Any]:
        style = ReasoningStyle.GEMINI_BUDGET
        return _thinking(asked, limit, reasoning=style, budget_min=128, budget_max=32768, max_output=65536)

    assert config(Reasoning(Effort.MEDIUM))["thinkingConfig"] == {"thinkingBudget": 10000, "includeThoughts": True}
    assert config(Reasoning(Effort.NONE))["thinkingConfig"] == {"thinkingBudget": 128, "includeThoughts": False}
    assert config(Reasoning(budget=100_000))["thinkingConfig"]["thinkingBudget"] == 32768
    hidden = config(Reasoning(Effort.LOW, is_visible=False))["thinkingConfig"]
    assert hidden == {"thinkingBudget": 4096, "includeThoughts": False}
    assert config(Reasoning(Effort.MEDIUM), 1000)["maxOutputTokens"] == 11_000
    assert config(Reasoning(Effort.LOW), 8000)["maxOutputTokens"] == 8000


def test_t21_efforts_become_levels() -> None:
    request = foreign(reasoning=Reasoning(Effort.XHIGH))
    profile = profile_for(
        WireFormat.GEMINI, "m", reasoning=ReasoningStyle.GEMINI_LEVEL, efforts=(Effort.LOW, Effort.HIGH)
    )
    body, _ = rendered(request, profile)
    assert body["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "high", "includeThoughts": True}


def test_models_that_do_not_reason_are_told_nothing() -> None:
    assert _thinking(Reasoning(Effort.HIGH)) == {}


def test_json_mode_and_schemas() -> None:
    body, _ = rendered(foreign(output=Output()))
    assert body["generationConfig"] == {"responseMimeType": "application/json"}
    body, _ = rendered(foreign(output=Output(SCHEMA)))
    assert body["generationConfig"]["responseJsonSchema"] == json.loads(bytes(SCHEMA))
    body, _ = rendered(foreign(output=Output(SCHEMA)), schema=SchemaDialect.SUBSET)
    assert body["generationConfig"]["responseSchema"]["properties"]["title"]["nullable"] is True


def test_t46_tools_beside_a_schema_are_refused_where_the_model_cannot() -> None:
    request = foreign(tools=TOOLS, output=Output(SCHEMA))
    with pytest.raises(UnsupportedFeature) as caught:
        rendered(request)
    assert caught.value.param == "output"
    body, _ = rendered(request, profile_for(WireFormat.GEMINI, "m", reasoning=ReasoningStyle.GEMINI_LEVEL))
    assert {"tools", "generationConfig"} <= set(body)


def test_speech() -> None:
    body, losses = rendered(foreign(audio_output=msgspec.Raw(b'{"voice":"Kore","format":"wav"}')))
    assert body["generationConfig"] == {
        "responseModalities": ["AUDIO"],
        "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}},
    }
    assert losses == ()
    body, losses = rendered(foreign(audio_output=msgspec.Raw(b'{"voice":"alloy"}')))
    assert body["generationConfig"] == {"responseModalities": ["AUDIO"]}
    assert losses == ("extra.audio.voice",)


def test_what_the_format_cannot_say_is_listed() -> None:
    mark = msgspec.Raw(b'{"type":"ephemeral"}')
    request = foreign(
        Message(Role.USER, (Text("x", cache=mark, extra={"odd": mark}),), name="Ann"),
        logit_bias=msgspec.Raw(b"{}"),
        logprobs=True,
        top_logprobs=2,
        user="u",
        metadata=msgspec.Raw(b"{}"),
        cache_key="k",
        service_tier="flex",
        store=True,
        verbosity="low",
        extra={"truncation": msgspec.Raw(b'"auto"')},
    )
    _, losses = rendered(request)
    assert set(losses) == {
        "messages.extra.odd",
        "message.name",
        "cache",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "user",
        "metadata",
        "cache_key",
        "service_tier",
        "store",
        "verbosity",
        "extra.truncation",
    }


def test_stored_conversations_are_refused() -> None:
    with pytest.raises(UnsupportedFeature):
        rendered(foreign(previous_id="resp_1"))


def test_free_text_of_a_custom_tool_is_one_member() -> None:
    call = ToolCall("c", "patch", "*** raw", CallKind.CUSTOM)
    assert _said(foreign(ASK, _turn(call)))[1]["parts"][0]["functionCall"]["args"] == {"input": "*** raw"}


PREPARED = Profile(
    WireFormat.GEMINI,
    "gemini-3-pro-preview",
    provider="gemini",
    family="key",
    reasoning=ReasoningStyle.GEMINI_LEVEL,
    takes=frozenset(MediaKind),
    takes_media_urls=False,
    takes_inline_system=False,
    takes_developer=False,
    takes_empty_text=False,
    takes_bypass=True,
    max_stops=5,
    id_rule=IdRule.LONG,
)


@given(requests(WireFormat.OPENAI_CHAT))
def test_t44_prepared_requests_are_sound_and_always_the_same(request: Request) -> None:
    bodies = []
    for _ in range(2):
        losses = Losses(WireFormat.GEMINI)
        try:
            prepared, _changes = prepare(request, PREPARED, losses)
            bodies.append(render_request(prepared, PREPARED, losses, no_pause))
        except UnsupportedFeature:
            return
    assert bodies[0] == bodies[1]
    _check(json.loads(bodies[0]))


def _check(body: dict[str, Any]) -> None:
    """The rules of the vendor for contents."""
    contents = body["contents"]
    assert contents[0]["role"] == "user"
    open_calls: list[str] = []
    for before, content in zip([None, *contents], contents, strict=False):
        assert before is None or before["role"] != content["role"]
        assert content["parts"]
        responses = [p["functionResponse"]["name"] for p in content["parts"] if "functionResponse" in p]
        assert responses == open_calls
        calls = [p for p in content["parts"] if "functionCall" in p]
        assert not calls or content["role"] == "model"
        assert not calls or calls[0]["thoughtSignature"]
        open_calls = [p["functionCall"]["name"] for p in calls]
        assert all(part.get("text") != "" for part in content["parts"])
    assert open_calls == []

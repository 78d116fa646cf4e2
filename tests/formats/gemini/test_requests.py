from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import InvalidRequest, MissingField
from omniroute.formats.canonical import (
    ChoiceMode,
    Effort,
    Media,
    MediaKind,
    Role,
    ServerTool,
    ServerToolDefinition,
    SourceKind,
    Text,
    Thinking,
    Token,
    Tool,
    ToolCall,
    ToolResult,
    Unknown,
)
from omniroute.formats.codec import no_pause
from omniroute.formats.gemini.content_renderer import BYPASS
from omniroute.formats.gemini.request_parser import parse_request
from omniroute.formats.gemini.request_renderer import render_request
from omniroute.formats.losses import Losses
from omniroute.formats.profile import profile_for
from omniroute.formats.wire import WireFormat
from tests.formats.gemini.fixtures import REQUESTS, body_of, parsed, plain, rendered, user

GEMINI = profile_for(WireFormat.GEMINI, "gemini-2.5-pro")


def _back(body: bytes) -> bytes:
    return render_request(parse_request(body, no_pause), GEMINI, Losses(WireFormat.GEMINI), no_pause)


@pytest.mark.parametrize("case", REQUESTS)
def test_a_request_comes_back_as_it_was(case: str) -> None:
    body = body_of(case)
    expected = plain(body)
    expected.pop("model", None)
    assert plain(_back(body)) == expected


# --- generated requests with fields that nobody knows ----------------------------------------------------------------

_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5))
_UNKNOWN = st.dictionaries(st.sampled_from(["future", "future_field", "x"]), _SCALARS, max_size=2)
_NAMES = st.sampled_from(["f", "read_file", "g.h"])
_DATA: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(lambda text: {"text": text}, st.text(max_size=8)),
    st.builds(lambda text: {"text": text, "thought": True}, st.text(max_size=8)),
    st.just({"inlineData": {"mime_type": "image/png", "data": "_-8"}}),
    st.just({"file_data": {"mimeType": "image/png", "fileUri": "https://example.org/a.png"}}),
    st.just({"executableCode": {"language": "PYTHON", "code": "1"}}),
    st.just({"thoughtSignature": "QUJD"}),
    st.just({"somethingNew": {"a_b": 1}}),
    st.just({}),
)
_CALLS = st.builds(
    lambda name, args: {"functionCall": {"name": name, "args": args}},
    _NAMES,
    st.dictionaries(st.sampled_from(["a_b", "c"]), _SCALARS, max_size=2),
)
_RESULTS = st.builds(
    lambda name, response: {"functionResponse": {"name": name, "response": response}},
    _NAMES,
    st.dictionaries(st.sampled_from(["output", "error", "x_y"]), _SCALARS, max_size=2),
)


def _with(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda part, more: {**more, **part}, parts, _UNKNOWN)


_CONTENTS = st.lists(
    st.one_of(
        st.builds(
            lambda parts, role: {"parts": parts, **role},
            st.lists(_with(st.one_of(_DATA, _RESULTS)), max_size=3),
            st.sampled_from([{}, {"role": "user"}]),
        ),
        st.builds(
            lambda parts: {"parts": parts, "role": "model"}, st.lists(_with(st.one_of(_DATA, _CALLS)), max_size=3)
        ),
    ),
    min_size=1,
    max_size=4,
)
_CONFIG = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0, 0.5, "1"]),
        "max_output_tokens": st.sampled_from([1, "12", 3.0]),
        "stopSequences": st.lists(st.text(max_size=3), max_size=7),
        "thinkingConfig": st.sampled_from([{}, {"thinking_budget": -1}, {"thinkingLevel": "low"}]),
        "responseMimeType": st.sampled_from(["text/plain", "application/json", "text/x.enum"]),
        "response_schema": st.just({"type": "STRING", "enum": ["a"]}),
        "responseModalities": st.sampled_from([["TEXT"], ["AUDIO"], ["TEXT", "IMAGE"]]),
        "future_knob": _SCALARS,
    },
)
_BODIES = st.builds(
    lambda contents, more, unknown: {**unknown, "contents": contents, **more},
    _CONTENTS,
    st.fixed_dictionaries(
        {},
        optional={
            "generationConfig": _CONFIG,
            "system_instruction": st.sampled_from(["Be brief.", {"parts": [{"text": "a"}, {"text": "b"}]}]),
            "tools": st.sampled_from([[], [{"function_declarations": [{"name": "f", "x": 1}]}, {"googleSearch": {}}]]),
            "toolConfig": st.sampled_from([{}, {"functionCallingConfig": {"mode": "ANY", "x": 1}, "y": 2}]),
            "safetySettings": st.just([{"category": "A", "threshold": "B"}]),
        },
    ),
    _UNKNOWN,
)


@given(_BODIES)
def test_any_request_comes_back_as_it_was(body: dict[str, Any]) -> None:
    spelt = json.dumps(body).encode()
    assert plain(_back(spelt)) == plain(spelt)


@given(_BODIES)
def test_a_changed_message_changes_nothing_else(body: dict[str, Any]) -> None:
    spelt = json.dumps(
        {**body, "contents": [*body["contents"], {"role": "user", "parts": [{"text": "last"}]}]}
    ).encode()
    request = parse_request(spelt, no_pause)
    *before, last = request.messages
    changed = msgspec.structs.replace(last, blocks=(*last.blocks[:-1], Text("LAST")))
    new = msgspec.structs.replace(request, messages=(*before, changed))
    back = plain(render_request(new, GEMINI, Losses(WireFormat.GEMINI), no_pause))
    was = plain(spelt)
    assert back["contents"][-1]["parts"][-1] == {"text": "LAST"}
    kept = [content for content in was["contents"][:-1] if content in back["contents"]]
    assert len(kept) >= len([m for m in before if m.role is Role.ASSISTANT]) - 1
    del was["contents"], back["contents"]
    assert back == was


def test_a_request_without_its_body_is_written_from_what_it_says() -> None:
    body = body_of("agent")
    request = parse_request(body, no_pause)
    bare = msgspec.structs.replace(request, extra={})
    target = msgspec.structs.replace(GEMINI, takes_bypass=False)
    again = parse_request(render_request(bare, target, Losses(WireFormat.GEMINI), no_pause), no_pause)
    assert msgspec.structs.replace(again, extra={}) == bare


def test_t64_a_token_that_is_taken_out_is_all_that_changes() -> None:
    body = body_of("agent")
    request = parse_request(body, no_pause)
    messages = list(request.messages)
    turn = messages[3]
    blocks = tuple(
        msgspec.structs.replace(block, token=None) if isinstance(block, ToolCall) else block for block in turn.blocks
    )
    messages[3] = msgspec.structs.replace(turn, blocks=blocks)
    new = msgspec.structs.replace(request, messages=tuple(messages))
    back = json.loads(render_request(new, GEMINI, Losses(WireFormat.GEMINI), no_pause))
    was = json.loads(body)
    signatures = [part["thoughtSignature"] for part in back["contents"][3]["parts"] if "thoughtSignature" in part]
    assert signatures == [BYPASS]  # another vendor's model made the turn, as far as this one can know
    assert [len(content["parts"]) for content in back["contents"]] == [1, 1, 1, 3, 3]
    back["contents"][3] = was["contents"][3]
    assert back == was


# --- what a request says ---------------------------------------------------------------------------------------------


def test_text_and_settings_are_read() -> None:
    request = parsed(body_of("text"))
    assert request.system[0].role is Role.SYSTEM
    assert request.system[0].blocks == (Text("You are a terse geographer."),)
    assert request.messages[0].blocks == (Text("Which river runs through Kraków? 🌊"),)
    assert (request.temperature, request.top_p, request.top_k) == (0.7, 0.95, 40)
    assert (request.max_output, request.stop, request.seed) == (1024, ("\n\nUser:",), 7)
    assert set(request.extra) == {"=body", "safetySettings"}


def test_both_spellings_are_one_field() -> None:
    request = parsed(body_of("snake_case"))
    assert request.system[0].blocks == (Text("Describe."),)
    assert request.max_output == 2048
    assert request.top_p == 0.5
    assert request.stop == ("END",)
    assert request.reasoning is not None
    assert (request.reasoning.budget, request.reasoning.is_visible) == (-1, False)
    assert request.output is None
    tool, search = request.tools
    assert isinstance(tool, Tool)
    assert tool.schema is not None
    assert json.loads(bytes(tool.schema)) == {
        "type": "object",
        "properties": {"max_width": {"type": ["integer", "null"]}, "mode": {"type": "string", "enum": ["IN", "OUT"]}},
    }
    assert isinstance(search, ServerToolDefinition)
    assert (search.type, bytes(search.raw)) == ("googleSearch", b'{"googleSearch":{}}')
    assert request.tool_choice is not None
    assert (request.tool_choice.mode, request.tool_choice.names) == (ChoiceMode.NAMED, ("zoom",))
    call = request.messages[1].blocks[0]
    assert isinstance(call, ToolCall)
    # Keys of arguments are no names of the protocol.
    assert json.loads(call.arguments) == {"max_width": 3, "inline_data": True}
    assert call.token == Token("c25ha2U_", WireFormat.GEMINI)


def test_t24_t25_inline_data_becomes_standard_base64_with_a_known_type() -> None:
    first, second, _ = parsed(body_of("snake_case")).messages[0].blocks
    assert isinstance(first, Media)
    assert isinstance(second, Media)
    assert (first.kind, first.source, first.mime) == (MediaKind.IMAGE, SourceKind.INLINE, "image/jpeg")
    assert first.data == second.data
    assert first.data.endswith("=")
    assert "_" not in first.data


def test_t26_media_of_all_kinds_are_told_apart() -> None:
    blocks = parsed(body_of("media")).messages[0].blocks
    said = [(b.kind, b.source, b.mime) for b in blocks if isinstance(b, Media)]
    assert said == [
        (MediaKind.DOCUMENT, SourceKind.INLINE, "application/pdf"),
        (MediaKind.IMAGE, SourceKind.URL, "image/png"),
        (MediaKind.VIDEO, SourceKind.URL, None),
        (MediaKind.VIDEO, SourceKind.FILE_ID, "video/mp4"),
        (MediaKind.AUDIO, SourceKind.FILE_ID, "audio/mpeg"),
        (MediaKind.AUDIO, SourceKind.INLINE, "audio/wav"),
    ]
    assert isinstance(blocks[0], Media)
    assert blocks[0].name == "report.pdf"


def test_t5_missing_ids_are_made_and_stay_when_the_conversation_grows() -> None:
    request = parsed(json.loads(body_of("tools_no_ids")))
    calls = [b for m in request.messages for b in m.blocks if isinstance(b, ToolCall)]
    assert [call.id for call in calls] == ["call_0_weather", "call_1_weather", "call_2_now", "call_3_weather"]
    shorter = json.loads(body_of("tools_no_ids"))
    shorter["contents"] = shorter["contents"][:3]
    assert parsed(shorter).messages == request.messages[: len(parsed(shorter).messages)]


def test_t7_results_without_ids_find_their_calls_by_name_and_order() -> None:
    request = parsed(body_of("tools_no_ids"))
    results = [b for m in request.messages for b in m.blocks if isinstance(b, ToolResult)]
    assert [(r.call_id, r.name, r.is_error) for r in results] == [
        ("call_2_now", "now", False),
        ("call_0_weather", "weather", False),
        ("call_1_weather", "weather", False),
        ("call_3_weather", "weather", True),
    ]


def test_t7_a_result_finds_its_call_by_id_before_others_take_it() -> None:
    request = parsed(
        {
            "contents": [
                {"role": "model", "parts": [_call("f", "a"), _call("f", "b"), _call("g", "c")]},
                {"role": "user", "parts": [_result("f"), _result("f", "a"), _result("h"), _result("x", "zzz")]},
            ]
        }
    )
    results = [b for m in request.messages for b in m.blocks if isinstance(b, ToolResult)]
    assert [r.call_id for r in results] == ["b", "a", "c", "zzz"]
    unnamed = parsed(
        {
            "contents": [
                {"role": "model", "parts": [_call("f", "a"), _call("g", "b")]},
                {"parts": [{"functionResponse": {"response": {}}}, _result("f")]},
            ]
        }
    )
    results = [b for m in unnamed.messages for b in m.blocks if isinstance(b, ToolResult)]
    assert [r.call_id for r in results] == ["b", "a"]


def test_t7_an_answered_call_is_not_answered_again() -> None:
    request = parsed(
        {
            "contents": [
                {"role": "model", "parts": [_call("f", "a"), _call("f", "b")]},
                {"role": "user", "parts": [_result("f", "a"), _result("f", "a")]},
            ]
        }
    )
    results = [b for m in request.messages for b in m.blocks if isinstance(b, ToolResult)]
    assert [r.call_id for r in results] == ["a", "a"]


def _call(name: str, call_id: str | None = None) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": {}, **({"id": call_id} if call_id else {})}}


def _result(name: str, call_id: str | None = None) -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": {"output": "x"}, **({"id": call_id} if call_id else {})}}


def test_t8_results_stand_in_front_of_text_in_a_message_of_their_own() -> None:
    request = parsed(
        {"contents": [{"role": "model", "parts": [_call("f", "a")]}, {"parts": [{"text": "hm"}, _result("f", "a")]}]}
    )
    assert [message.role for message in request.messages] == [Role.ASSISTANT, Role.TOOL, Role.USER]


@pytest.mark.parametrize(
    ("response", "text", "is_error"),
    [
        ({"output": "fine"}, "fine", False),
        ({"result": "fine"}, "fine", False),
        ({"content": ""}, "", False),
        ({"error": "no"}, "no", True),
        ({"output": {"a": 1}}, '{"output": {"a": 1}}', False),
        ({"output": "x", "exitCode": 1}, '{"output": "x", "exitCode": 1}', False),
        ({"error": {"code": 1}}, '{"error": {"code": 1}}', True),
        ({"error": None, "rows": []}, '{"error": null, "rows": []}', False),
        ({}, "{}", False),
        ("bare", "bare", False),
        ([1], "[1]", False),
        (None, "", False),
    ],
)
def test_t10_a_result_is_one_text_and_keeps_its_error(response: object, text: str, is_error: bool) -> None:
    request = user({"functionResponse": {"name": "f", "response": response}})
    (result,) = request.messages[0].blocks
    assert isinstance(result, ToolResult)
    assert result.blocks == (Text(text),)
    assert result.is_error is is_error


def test_t67_content_that_is_no_string_stays_json() -> None:
    request = user({"functionResponse": {"name": "f", "response": {"content": [{"ok": True, "n": None}]}}})
    (result,) = request.messages[0].blocks
    assert isinstance(result, ToolResult)
    (text,) = result.blocks
    assert isinstance(text, Text)
    assert json.loads(text.text) == {"content": [{"ok": True, "n": None}]}


def test_t9_images_inside_a_result_are_its_blocks() -> None:
    (result,) = parsed(body_of("snake_case")).messages[2].blocks
    assert isinstance(result, ToolResult)
    text, image = result.blocks
    assert text == Text("done")
    assert isinstance(image, Media)


@pytest.mark.parametrize(
    ("config", "mode", "names"),
    [
        ({"mode": "AUTO"}, ChoiceMode.AUTO, ()),
        ({"mode": "ANY"}, ChoiceMode.REQUIRED, ()),
        ({"mode": "any", "allowed_function_names": ["a"]}, ChoiceMode.NAMED, ("a",)),
        ({"mode": "ANY", "allowedFunctionNames": ["a", "b"]}, ChoiceMode.REQUIRED, ("a", "b")),
        ({"mode": "NONE"}, ChoiceMode.NONE, ()),
        ({"mode": 3}, ChoiceMode.NONE, ()),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["a"]}, ChoiceMode.AUTO, ("a",)),
    ],
)
def test_t11_calling_modes(config: dict[str, Any], mode: ChoiceMode, names: tuple[str, ...]) -> None:
    choice = user({"text": "x"}, toolConfig={"functionCallingConfig": config}).tool_choice
    assert choice is not None
    assert (choice.mode, choice.names) == (mode, names)


def test_t13_the_vendors_tools_are_kept_with_a_note() -> None:
    request = parsed(body_of("server_tools"))
    code, outcome, text = request.messages[1].blocks
    assert isinstance(code, ServerTool)
    assert isinstance(outcome, ServerTool)
    assert code.note == "[Ran python]\nprint(5117)"
    assert outcome.note == "[Result of the code]\n5117\n"
    assert text == Text("It is 5117.")
    assert [tool.type for tool in request.tools if isinstance(tool, ServerToolDefinition)] == [
        "googleSearch",
        "codeExecution",
        "urlContext",
    ]


def test_pieces_of_a_streamed_turn_are_put_together_again() -> None:
    blocks = parsed(body_of("thinking")).messages[1].blocks
    assert blocks[:2] == (
        Thinking("Easy sum.", Token("RXhhbXBsZQ==", WireFormat.GEMINI)),
        Thinking("", Token("SGlkZGVu", WireFormat.GEMINI), redacted=True),
    )
    contents = [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
        {"role": "model", "parts": [{"text": "c"}]},
        {"role": "model", "parts": [{"text": "d"}]},
    ]
    first, second = parsed({"contents": contents}).messages
    assert first.blocks == (Text("a"), Text("b"))
    assert second.blocks == (Text("cd"),)


def test_t21_reasoning_is_read() -> None:
    level = user({"text": "x"}, generationConfig={"thinkingConfig": {"thinkingLevel": "low"}}).reasoning
    assert level is not None
    assert level.effort is Effort.LOW
    budget = user({"text": "x"}, generationConfig={"thinkingConfig": {"thinkingBudget": "0"}}).reasoning
    assert budget is not None
    assert budget.budget == 0
    assert user({"text": "x"}, generationConfig={"thinkingConfig": {}}).reasoning is None


def test_t45_a_subset_schema_keeps_properties_that_are_named_like_keywords() -> None:
    output = parsed(body_of("structured")).output
    assert output is not None
    assert output.schema is not None
    schema = json.loads(bytes(output.schema))
    assert schema["type"] == "array"
    assert schema["minItems"] == 2
    assert schema["items"]["properties"]["title"] == {"type": "string"}
    assert schema["items"]["properties"]["type"] == {"type": ["string", "null"]}


def test_speech_is_asked_for_as_chat_says_it() -> None:
    request = parsed(body_of("speech"))
    assert request.audio_output == msgspec.Raw(b'{"voice":"Kore","format":"pcm16"}')
    assert set(request.extra) == {"=body"}


def test_what_nobody_knows_is_kept_and_named() -> None:
    request = parsed(body_of("oddities"))
    assert set(request.extra) == {
        "=body",
        "labels",
        "cachedContent",
        "futureTop",
        "generationConfig.futureKnob",
        "generationConfig.imageConfig",
    }
    blocks = request.messages[0].blocks
    assert isinstance(blocks[1], Unknown)
    assert isinstance(blocks[2], Text)
    assert set(blocks[2].extra) == {"partMetadata"}


def test_t71_control_and_paired_characters_survive() -> None:
    first = parsed(body_of("oddities")).messages[0].blocks[0]
    assert first == Text("NUL \0, pair 😀, RTL \u202e")
    lone = parse_request(b'{"contents":[{"parts":[{"text":"cut \\ud83d"}]}]}', no_pause)
    assert lone.messages[0].blocks == (Text("cut \ufffd"),)


@pytest.mark.parametrize(
    "contents",
    ["hi", ["hi"], {"text": "hi"}, [{"text": "hi"}], {"parts": {"text": "hi"}}, [{"role": None, "parts": ["hi"]}]],
)
def test_lenient_contents(contents: object) -> None:
    (message,) = parsed({"contents": contents}).messages
    assert (message.role, message.blocks) == (Role.USER, (Text("hi"),))


def test_the_request_inside_a_count_is_read() -> None:
    inner = {"model": "models/m", "contents": [{"parts": [{"text": "hi"}]}]}
    request = parsed({"generateContentRequest": inner})
    assert request.messages[0].blocks == (Text("hi"),)
    body, _ = rendered(request)
    assert body == {"contents": inner["contents"]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": 1}, "contents.0"),
        ({"contents": [{"role": "system", "parts": [{"text": "x"}]}]}, "contents.0.role"),
        ({"contents": [{"parts": [{"text": 1}]}]}, "contents.0.parts.0.text"),
        ({"contents": [{"parts": [1]}]}, "contents.0.parts.0"),
        ({"contents": [{"parts": [{"inlineData": {"data": "QQ=="}}]}]}, "contents.0.parts.0.inlineData.mimeType"),
        ({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png"}}]}]}, "contents.0.parts.0.inlineData.data"),
        ({"contents": [{"parts": [{"fileData": {"fileUri": "http://["}}]}]}, "contents.0.parts.0.fileData.fileUri"),
        (
            {"contents": [{"role": "model", "parts": [{"functionCall": {"args": {}}}]}]},
            "contents.0.parts.0.functionCall.name",
        ),
        (
            {"contents": [{"role": "model", "parts": [{"functionCall": {"name": "f", "args": []}}]}]},
            "contents.0.parts.0.functionCall.args",
        ),
        ({"contents": [{"role": "user", "parts": [_call("f")]}]}, "contents.0.parts.0.functionCall"),
        ({"contents": "x", "generationConfig": 1}, "generationConfig"),
        ({"contents": "x", "generationConfig": {"topK": "many"}}, "generationConfig.topK"),
        ({"contents": "x", "generationConfig": {"stopSequences": [1]}}, "generationConfig.stopSequences.0"),
        (
            {"contents": "x", "generationConfig": {"thinkingConfig": {"thinkingLevel": "extreme"}}},
            "generationConfig.thinkingConfig.thinkingLevel",
        ),
        ({"contents": "x", "tools": [{"functionDeclarations": [{}]}]}, "tools.0.functionDeclarations.0.name"),
        (
            {"contents": "x", "toolConfig": {"functionCallingConfig": {"mode": "SOMETIMES"}}},
            "toolConfig.functionCallingConfig.mode",
        ),
        ({"contents": "x", "systemInstruction": {"parts": [_call("f")]}}, "systemInstruction.parts.0"),
    ],
)
def test_a_body_of_another_shape_is_refused_by_its_path(body: dict[str, Any], param: str) -> None:
    with pytest.raises((InvalidRequest, MissingField)) as caught:
        parsed(body)
    assert caught.value.param == param


_KEYS = [
    *("parts", "role", "text", "functionCall", "functionResponse", "name", "args", "response", "inlineData", "data"),
    *("mimeType", "tools", "functionDeclarations", "parameters", "thought", "fileData", "fileUri", "thoughtSignature"),
]
_ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4)),
    max_leaves=12,
)


@given(_ANYTHING, _ANYTHING, _ANYTHING)
def test_no_shape_crashes_the_parser(contents: object, tools: object, config: object) -> None:
    body = {"contents": contents, "tools": tools, "generationConfig": config, "systemInstruction": contents}
    try:
        request = parsed(body)
    except (InvalidRequest, MissingField) as error:
        assert error.param  # noqa: PT017 - either outcome is right
    else:
        assert request.origin is WireFormat.GEMINI


def test_every_message_gives_way() -> None:
    pauses = 0

    def pause() -> None:
        nonlocal pauses
        pauses += 1

    parse_request(body_of("agent"), pause)
    assert pauses >= 5

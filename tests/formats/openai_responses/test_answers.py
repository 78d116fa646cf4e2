"""Answers for clients of this format: whole, and as a stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from omniroute.errors import InvalidRequest, Overloaded, QuotaExhausted, RateLimited, UpstreamProtocolError
from omniroute.formats.canonical import (
    Answer,
    Block,
    CallKind,
    Citation,
    Media,
    MediaKind,
    Refusal,
    ServerTool,
    SourceKind,
    Stop,
    Text,
    Thinking,
    Token,
    ToolCall,
)
from omniroute.formats.codec import no_pause
from omniroute.formats.events import PING, BlockDelta, BlockStart, DeltaKind, MessageStart, StreamError
from omniroute.formats.fold import unfold
from omniroute.formats.openai_responses.errors import render, status_of
from omniroute.formats.openai_responses.request_parser import parse_request
from omniroute.formats.openai_responses.response import parse_answer, read_answer, read_id, render_answer
from omniroute.formats.openai_responses.stream_renderer import Renderer
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat
from tests.formats.openai_responses.responses_samples import (
    KEY,
    TARGET,
    cases,
    folded,
    frames,
    parsed,
    reply_to,
    sample,
)

MESSAGES = WireFormat.ANTHROPIC_MESSAGES
RAW = msgspec.Raw
REPLY = reply_to(parsed(input="Hi"))
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

EVERYTHING = (
    Thinking("hmm", Token("c2lnbmF0dXJl", MESSAGES)),
    Thinking("", Token("cmVkYWN0ZWQ=", MESSAGES), redacted=True),
    Thinking("", Token("bm90IHNob3du", MESSAGES)),
    Text("Hello, "),
    Text("wörld.", citations=(Citation(MESSAGES, RAW(b"{}"), url="https://example.com", title="E"),)),
    Refusal("But no more."),
    ToolCall("call_1", "f", '{"a": 1e400}'),
    ToolCall("call_2", "patch", "*** Begin\n\u2028", CallKind.CUSTOM),
    Text("After all."),
)


def answer(*blocks: Block, stop: Stop = Stop.END, usage: Usage | None = None) -> Answer:
    counts = Usage(input=10, output=5, cache_read=4, reasoning=2) if usage is None else usage
    return Answer(MESSAGES, "msg_up", "upstream-model", blocks, stop, usage=counts)


def streamed(found: Answer, reply: Any = REPLY) -> bytes:
    renderer = Renderer(reply)
    return b"".join(renderer.render([event]) for event in unfold(found))


def bare(blocks: tuple[Block, ...]) -> list[Any]:
    """What all formats can say of blocks."""
    found: list[Any] = []
    for block in blocks:
        match block:
            case Thinking(text=text, token=token, redacted=redacted):
                found.append((text, None if token is None else token.value, redacted))
            case ToolCall(id=call_id, name=name, arguments=arguments, kind=kind):
                found.append((call_id, name, arguments, kind))
            case Text(text=text, citations=citations):
                found.append((text, [one.url for one in citations]))
            case Refusal(text=text):
                found.append(text)
    return found


def test_t63_the_grammar_of_a_stream() -> None:
    events = list(frames(streamed(answer(*EVERYTHING, stop=Stop.TOOL_USE))))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"].removeprefix("response.") for event in events[:8]] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    last = events[-1]
    assert last["type"] == "response.completed"
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert last["response"]["output"] == done
    assert [event["output_index"] for event in events if event["type"] == "response.output_item.done"] == list(range(7))
    assert last["response"]["usage"]["total_tokens"] == 15
    assert last["response"]["usage"]["input_tokens_details"]["cached_tokens"] == 4


def test_every_event_is_one_that_the_official_types_know() -> None:
    for event in frames(streamed(answer(*EVERYTHING, stop=Stop.TOOL_USE))):
        read = EVENT.validate_python(event)
        assert read.type == event["type"]


def test_t75_the_official_client_collects_the_stream() -> None:
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    final: Any = None
    for event in frames(streamed(answer(*EVERYTHING, stop=Stop.TOOL_USE))):
        for seen in state.handle_event(EVENT.validate_python(event)):
            final = seen
    assert final.type == "response.completed"
    assert final.response.output_text == "Hello, wörld.After all."


@pytest.mark.parametrize("case", cases("response.json"), ids=lambda path: path.name)
def test_an_answer_of_the_format_survives_its_own_rendering(case: Path) -> None:
    body = (case / "response.json").read_bytes()
    request = parse_request((case / "request.json").read_bytes(), no_pause)
    first = parse_answer(body)
    assert first is not None
    reply = reply_to(request)
    again = parse_answer(render_answer(first, reply))
    assert again is not None
    assert bare(again.blocks) == bare(first.blocks)
    assert (again.stop, again.usage.input, again.usage.output) == (first.stop, first.usage.input, first.usage.output)
    stream = streamed(first, reply)
    assert bare(folded(stream).blocks) == bare(first.blocks)
    assert folded(stream).stop is first.stop
    if case.name != "unknown_fields":
        Response.model_validate_json(render_answer(first, reply))


def test_whole_and_streamed_answers_are_the_same() -> None:
    found = answer(*EVERYTHING, stop=Stop.TOOL_USE)
    last = list(frames(streamed(found)))[-1]
    assert json.loads(render_answer(found, REPLY)) == last["response"]
    Response.model_validate(last["response"])


def test_t16_thinking_comes_back_as_it_went() -> None:
    again = folded(streamed(answer(*EVERYTHING[:3], Text("x"))))
    assert bare(again.blocks[:3]) == bare(EVERYTHING[:3])


def test_t13_grouped_tools_get_their_two_names_back() -> None:
    request = parse_request(sample("codex", "request.json"), no_pause)
    calls = (
        ToolCall("call_1", "collaboration__spawn_agent", "{}"),
        ToolCall("call_2", "mcp__docs__search", "{}"),
        ToolCall("call_3", "apply_patch", "*** x", CallKind.CUSTOM),
        ToolCall("call_4", "collaboration__note", "n", CallKind.CUSTOM),
        ToolCall("call_5", "exec_command", "{}"),
    )
    output = json.loads(render_answer(answer(*calls), reply_to(request)))["output"]
    assert [(item["type"], item.get("namespace"), item["name"]) for item in output] == [
        ("function_call", "collaboration", "spawn_agent"),
        ("function_call", "mcp__docs", "_search"),
        ("custom_tool_call", None, "apply_patch"),
        ("custom_tool_call", "collaboration", "note"),
        ("function_call", None, "exec_command"),
    ]


def test_t13_built_in_tools_of_the_client_get_their_items_back() -> None:
    request = parse_request(sample("codex", "request.json"), no_pause)
    calls = (
        ToolCall("call_1", "local_shell", '{"command": ["ls", "-l"], "timeout_ms": 5}'),
        ToolCall("call_2", "local_shell", '{"command": "ls -l"}'),
        ToolCall("call_3", "tool_search", '{"query": "mail"}'),
        ToolCall("call_4", "local_shell", '{"torn'),
    )
    found = answer(*calls)
    output = json.loads(render_answer(found, reply_to(request)))["output"]
    assert output[0]["action"] == {"type": "exec", "command": ["ls", "-l"], "env": {}, "timeout_ms": 5}
    assert output[1]["action"]["command"] == ["bash", "-lc", "ls -l"]
    assert (output[2]["type"], output[2]["execution"], output[2]["arguments"]) == (
        "tool_search_call",
        "client",
        {"query": "mail"},
    )
    assert (output[3]["type"], output[3]["status"], output[3]["arguments"]) == ("function_call", "incomplete", '{"torn')
    assert list(frames(streamed(found, reply_to(request))))[-1]["response"]["output"] == output


def test_ids_are_made_from_the_request_and_differ_from_call_ids() -> None:
    response = json.loads(render_answer(answer(*EVERYTHING), REPLY))
    assert response["id"] == f"resp_{KEY}"
    ids = [item["id"] for item in response["output"]]
    assert len(set(ids)) == len(ids)
    assert [one.partition("_")[0] for one in ids] == ["rs", "rs", "rs", "msg", "fc", "ctc", "msg"]
    assert all(len(one) <= 64 and one != item.get("call_id") for one, item in zip(ids, response["output"], strict=True))
    assert {item["call_id"] for item in response["output"] if "call_id" in item} == {"call_1", "call_2"}


def test_t73_one_id_in_all_events() -> None:
    events = list(frames(streamed(answer(Text("a")))))
    assert {event["response"]["id"] for event in events if "response" in event} == {f"resp_{KEY}"}


def test_the_seal_of_a_vendor_keeps_its_item_id() -> None:
    sealed = Thinking("t", Token("gAAA", TARGET), id="rs_vendor")
    output = json.loads(render_answer(answer(sealed, sealed), REPLY))["output"]
    assert output[0]["id"] == "rs_vendor"
    assert output[1]["id"] != "rs_vendor"


def test_t61_model_and_request_are_echoed() -> None:
    request = parse_request(sample("conversation", "request.json"), no_pause)
    asked = json.loads(sample("conversation", "request.json"))
    response = json.loads(render_answer(answer(Text("a")), reply_to(request)))
    assert response["model"] == "client-model"
    for name in ("instructions", "temperature", "top_p", "max_output_tokens", "metadata", "truncation", "store"):
        assert response[name] == asked[name]
    codex = json.loads(sample("codex", "request.json"))
    echoed = json.loads(
        render_answer(answer(Text("a")), reply_to(parse_request(json.dumps(codex, indent=1).encode(), no_pause)))
    )
    assert echoed["tools"] == codex["tools"]
    assert echoed["tool_choice"] == "auto"
    assert echoed["reasoning"] == {"effort": "xhigh", "summary": "auto"}
    assert echoed["text"] == {"format": {"type": "text"}, "verbosity": "low"}


def test_json_over_several_lines_stays_on_one_line_of_data() -> None:
    body = json.dumps({"model": "m", "input": "x", "tools": [{"type": "web_search", "x": {"a": 1}}]}, indent=2)
    stream = streamed(answer(Text("a")), reply_to(parse_request(body.encode(), no_pause)))
    assert next(frames(stream))["response"]["tools"] == [{"type": "web_search", "x": {"a": 1}}]


@pytest.mark.parametrize(
    ("blocks", "stop", "status", "reason"),
    [
        ((Text("a"),), Stop.END, "completed", None),
        ((Text("a"),), Stop.STOP_SEQUENCE, "completed", None),
        ((Text("a"),), Stop.PAUSE, "completed", None),
        ((Text("a"), ToolCall("c", "f", "{}")), Stop.TOOL_USE, "completed", None),
        ((Text("a"),), Stop.LENGTH, "incomplete", "max_output_tokens"),
        ((Text("a"),), Stop.CONTEXT_FULL, "incomplete", "max_output_tokens"),
        ((Text("a"),), Stop.REFUSAL, "incomplete", "content_filter"),
        ((Refusal("a"),), Stop.REFUSAL, "completed", None),
        ((), Stop.END, "completed", None),
    ],
)
def test_t34_reasons(blocks: tuple[Block, ...], stop: Stop, status: str, reason: str | None) -> None:
    last = list(frames(streamed(answer(*blocks, stop=stop))))[-1]
    assert last["type"] == f"response.{status}"
    assert last["response"]["status"] == status
    details = last["response"]["incomplete_details"]
    assert (details and details["reason"]) == reason
    if stop is Stop.LENGTH:
        assert last["response"]["output"][0]["status"] == "incomplete"


def test_t74_a_torn_call_is_marked_and_its_arguments_stay_text() -> None:
    found = answer(ToolCall("c", "f", '{"a": "b'), stop=Stop.LENGTH)
    item = json.loads(render_answer(found, REPLY))["output"][0]
    assert (item["status"], item["arguments"]) == ("incomplete", '{"a": "b')


def test_t02_t68_no_arguments_are_the_empty_object() -> None:
    events = list(frames(streamed(answer(ToolCall("c", "f", "")))))
    deltas = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert deltas == ["{}"]
    assert events[-1]["response"]["output"][0]["arguments"] == "{}"


def test_t71_all_characters_survive() -> None:
    text = 'a\x00b \U0001f469\u200d\U0001f4bb \u202eabc\u202c \u2028\u2029 "q" \\ </s>'
    found = answer(Text(text), ToolCall("c", "patch", text, CallKind.CUSTOM))
    assert bare(folded(streamed(found)).blocks) == bare(found.blocks)


def test_logprobs_and_annotations_go_with_their_text() -> None:
    request = parse_request(sample("logprobs", "request.json"), no_pause)
    found = parse_answer(sample("logprobs", "response.json"))
    assert found is not None
    part = json.loads(render_answer(found, reply_to(request)))["output"][0]["content"][0]
    assert part["logprobs"] == json.loads(sample("logprobs", "response.json"))["output"][0]["content"][0]["logprobs"]
    assert request.logprobs is True


def test_a_citation_without_an_address_has_no_place() -> None:
    page = Citation(MESSAGES, RAW(b"{}"), cited_text="x")
    part = json.loads(render_answer(answer(Text("ab", citations=(page,))), REPLY))["output"][0]["content"][0]
    assert part["annotations"] == []


def test_an_image_becomes_an_item_and_foreign_server_tools_have_none() -> None:
    image = Media(MediaKind.IMAGE, SourceKind.INLINE, "AAAA", "image/png")
    output = json.loads(render_answer(answer(image, ServerTool(MESSAGES, RAW(b"{}"), "note")), REPLY))["output"]
    assert [(item["type"], item["result"]) for item in output] == [("image_generation_call", "AAAA")]


def test_the_trailer_follows_the_last_event() -> None:
    assert streamed(answer(Text("a"))).endswith(b"}\n\n: tokens=5\n\n")


def test_t37_usage_that_was_not_reported_is_not_made_up() -> None:
    assert json.loads(render_answer(answer(Text("a"), usage=Usage()), REPLY))["usage"] is None
    usage = json.loads(render_answer(answer(Text("a"), usage=Usage(output=3)), REPLY))["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (0, 3)


# --- errors in a stream ---------------------------------------------------------------------------------------------


def test_a_failure_before_the_start_is_an_error_event() -> None:
    event = next(frames(Renderer(REPLY).fail(Overloaded("Busy."), "req_1")))
    assert event == {
        "type": "error",
        "code": "server_is_overloaded",
        "message": "Busy.",
        "param": None,
        "sequence_number": 0,
    }


def test_a_failure_in_the_middle_ends_with_the_response_so_far() -> None:
    renderer = Renderer(REPLY)
    head = [
        MessageStart("i", "m"),
        *[event for event in unfold(answer(ToolCall("c", "f", "{}"))) if not isinstance(event, MessageStart)][:3],
    ]
    before = renderer.render(head)
    before += renderer.render([BlockStart(1, Text("")), BlockDelta(1, DeltaKind.TEXT, "half")])
    error = RateLimited("Too fast.", retry_after_s=2.5)
    events = list(frames(before + renderer.fail(error, "req_1")))
    last = events[-1]
    assert last["type"] == "response.failed"
    assert last["sequence_number"] == events[-2]["sequence_number"] + 1
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {
        "code": "rate_limit_exceeded",
        "message": "Too fast. Please try again in 2.5s.",
    }
    assert [item["type"] for item in last["response"]["output"]] == ["function_call"]
    EVENT.validate_python(last)


def test_pings_and_errors_have_no_frames() -> None:
    assert Renderer(REPLY).render([PING, StreamError(b"{}")]) == b""


# --- whole answers of providers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"output":{}}', b'{"output":[],"status":"in_progress"}'])
def test_t52_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        parse_answer(body)


@pytest.mark.parametrize("body", [b'{"error":{"message":"x"}}', b'{"output":[],"status":"failed"}'])
def test_t52_an_error_inside_a_200(body: bytes) -> None:
    assert parse_answer(body) is None
    assert read_answer(body) is None


def test_hosts_that_leave_out_what_is_due() -> None:
    found = parse_answer(
        b'{"output":[{"type":"function_call","name":"f","arguments":{"a":1}},{"type":"message","content":null},'
        b'{"type":"message","content":"odd"},{"type":"reasoning","summary":null,"content":[{"text":"t"}]},{"x":1}]}'
    )
    assert found is not None
    assert (found.id, found.model, found.stop) == ("", "", Stop.TOOL_USE)
    assert found.calls[0].arguments == '{"a":1}'
    assert [type(block).__name__ for block in found.blocks] == ["ToolCall", "Unknown", "Thinking", "Unknown"]


def test_what_passthrough_reads() -> None:
    body = sample("web_search", "response.json")
    read = read_answer(body)
    assert read is not None
    usage, model = read
    assert (usage.input, usage.output, usage.web_searches) == (400, 20, 1)
    assert model == b'"gpt-5.2-2025-12-11"'
    assert str(read_id(body)).startswith("resp_")
    assert read_id(b"{") is None


def test_an_error_body_names_the_limit_that_was_reached() -> None:
    error = QuotaExhausted(
        "Limit reached.", code="insufficient_quota", retry_after_s=7200, resets_at=5, should_retry=False
    )
    body = json.loads(render(error))["error"]
    assert (status_of(error), body["type"], body["resets_at"]) == (429, "usage_limit_reached", 5)
    refused = json.loads(render(InvalidRequest("Bad.", param="input")))["error"]
    assert refused == {"message": "Bad.", "type": "invalid_request_error", "param": "input", "code": "invalid_value"}

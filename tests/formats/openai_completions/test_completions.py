"""Text completions: a prompt for a chat model, and its answer as a text."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types import Completion

from omniroute.errors import InvalidRequest, MissingField, UnsupportedFeature, UpstreamProtocolError
from omniroute.formats.canonical import Answer, Block, Message, Refusal, Request, Role, Stop, Text, Thinking, ToolCall
from omniroute.formats.codec import Reply, no_pause
from omniroute.formats.fold import unfold
from omniroute.formats.losses import Losses
from omniroute.formats.openai_chat.request_renderer import render_request
from omniroute.formats.openai_completions import errors
from omniroute.formats.openai_completions.request_parser import parse_request
from omniroute.formats.openai_completions.response import render_answer
from omniroute.formats.openai_completions.stream_renderer import Renderer
from omniroute.formats.profile import profile_for
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat

LOGPROBS = msgspec.Raw(
    json.dumps(
        [
            {"token": "Hi", "logprob": -0.5, "bytes": [72], "top_logprobs": [{"token": "Hi", "logprob": -0.5}]},
            {"token": " you", "logprob": -1, "top_logprobs": []},
        ]
    ).encode()
)


def parsed(prompt: Any = "Once", **members: Any) -> Request:
    return parse_request(json.dumps({"model": "m", "prompt": prompt, **members}).encode(), no_pause)


def reply(**members: Any) -> Reply:
    return Reply(
        parsed(**members), "asked-for", "ab" * 12, 1_700_000_000, lambda usage: f": out={usage.output}\n\n".encode()
    )


def made(*blocks: Block, stop: Stop = Stop.END, **members: Any) -> Answer:
    return Answer(WireFormat.ANTHROPIC_MESSAGES, "a", "m", blocks, stop, **members)


def shown(answer: Answer, **members: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(render_answer(answer, reply(**members)))
    Completion.model_validate(body)
    return body


def streamed(answer: Answer, **members: Any) -> list[Any]:
    stream = Renderer(reply(**members)).render(list(unfold(answer))).decode()
    found = [line.removeprefix("data: ") for line in stream.split("\n") if line]
    return [json.loads(one) if one.startswith("{") else one for one in found]


def test_a_prompt_is_what_the_user_says() -> None:
    asked = parsed("Once upon a time", max_tokens=16, temperature=0.5, stop="\n", user="u", seed=3)
    assert asked.messages == (Message(Role.USER, (Text("Once upon a time"),), plain=True),)
    assert (asked.max_output, asked.temperature, asked.stop, asked.user, asked.seed) == (16, 0.5, ("\n",), "u", 3)
    assert parsed(["one"]).messages[0].blocks == (Text("one"),)


def test_a_provider_of_the_chat_format_is_asked_in_its_own_words() -> None:
    asked = parsed(
        "Once", max_tokens=16, stop="\n", logprobs=2, echo=False, best_of=1, suffix="", stream=True, min_p=0.1
    )
    losses = Losses(WireFormat.OPENAI_CHAT)
    body = json.loads(render_request(asked, profile_for(WireFormat.OPENAI_CHAT, "target"), losses, no_pause))
    assert body == {
        "model": "target",
        "messages": [{"role": "user", "content": "Once"}],
        "max_completion_tokens": 16,
        "stop": ["\n"],
        "logprobs": True,
        "top_logprobs": 2,
        "min_p": 0.1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert losses.paths == ()


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"suffix": "the end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"best_of": 3, "n": 2}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
    ],
)
def test_what_a_chat_model_cannot_do_is_refused(members: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedFeature) as refused:
        parsed(**members)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"echo": "yes"}, "echo"),
        ({"n": 0}, "n"),
    ],
)
def test_a_value_of_a_wrong_shape_is_named(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(**members)
    assert refused.value.param == param


def test_a_prompt_is_needed() -> None:
    with pytest.raises(MissingField) as refused:
        parsed(None)
    assert refused.value.param == "prompt"


def test_the_answer_is_a_text() -> None:
    answer = made(Thinking("Hm"), Text("there "), Text("was"), usage=Usage(3, 4))
    body = shown(answer)
    assert body == {
        "id": f"cmpl-{'ab' * 12}",
        "object": "text_completion",
        "created": 1_700_000_000,
        "model": "asked-for",
        "choices": [{"text": "there was", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }


def test_the_prompt_is_repeated_on_request() -> None:
    assert shown(made(Text(" upon")), echo=True)["choices"][0]["text"] == "Once upon"
    texts = [one["choices"][0]["text"] for one in streamed(made(Text(" upon")), echo=True) if isinstance(one, dict)]
    assert texts == ["Once", " upon", ""]


def test_several_answers() -> None:
    answer = made(Text("a"), others=(made(Text("b"), stop=Stop.LENGTH),))
    assert [(one["index"], one["text"], one["finish_reason"]) for one in shown(answer, n=2)["choices"]] == [
        (0, "a", "stop"),
        (1, "b", "length"),
    ]


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        (Stop.END, "stop"),
        (Stop.STOP_SEQUENCE, "stop"),
        (Stop.TOOL_USE, "stop"),
        (Stop.PAUSE, "stop"),
        (Stop.LENGTH, "length"),
        (Stop.CONTEXT_FULL, "length"),
        (Stop.REFUSAL, "content_filter"),
    ],
)
def test_t34_every_stop_has_a_word(stop: Stop, finish: str) -> None:
    answer = made(Text("x"), stop=stop)
    assert shown(answer)["choices"][0]["finish_reason"] == finish
    assert streamed(answer)[-3]["choices"][0]["finish_reason"] == finish


def test_a_refusal_is_text_and_a_call_is_none() -> None:
    answer = made(Refusal("No."), ToolCall("c", "f", "{}"), stop=Stop.REFUSAL)
    assert shown(answer)["choices"][0]["text"] == "No."


def test_log_probabilities_have_their_old_form() -> None:
    found = shown(made(Text("Hi you", logprobs=LOGPROBS)), logprobs=1)["choices"][0]["logprobs"]
    assert found == {
        "tokens": ["Hi", " you"],
        "token_logprobs": [-0.5, -1],
        "top_logprobs": [{"Hi": -0.5}, {}],
        "text_offset": [0, 2],
    }
    first = streamed(made(Text("Hi you", logprobs=LOGPROBS)), logprobs=1)[0]
    assert first["choices"][0]["logprobs"] == found
    odd = made(Text("Hi", logprobs=msgspec.Raw(b"[3]")))
    assert shown(odd, logprobs=1)["choices"][0]["logprobs"] is None


def test_the_frames_of_a_stream() -> None:
    answer = made(Thinking("Hm"), Text("there"), usage=Usage(3, 4))
    first, last, trailer, done = streamed(answer)
    for chunk in (first, last):
        Completion.model_validate(
            {"usage": None, **chunk} | {"choices": [{**chunk["choices"][0], "finish_reason": "stop"}]}
        )
    assert first["choices"] == [{"index": 0, "text": "there", "logprobs": None, "finish_reason": None}]
    assert last["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]
    assert (trailer, done) == (": out=4", "[DONE]")
    assert {(one["id"], one["object"]) for one in (first, last)} == {(f"cmpl-{'ab' * 12}", "text_completion")}


def test_t40_usage_comes_only_when_asked_for() -> None:
    answer = made(Text("there"), usage=Usage(3, 4))
    assert all("usage" not in one for one in streamed(answer) if isinstance(one, dict))
    chunks = [
        one for one in streamed(answer, stream=True, stream_options={"include_usage": True}) if isinstance(one, dict)
    ]
    assert [one["usage"] and one["usage"]["total_tokens"] for one in chunks] == [None, None, 7]
    assert chunks[-1]["choices"] == []


def test_an_error_ends_the_stream_once() -> None:
    renderer = Renderer(reply())
    frames = renderer.fail(UpstreamProtocolError("It broke off."), "req_1").decode()
    assert json.loads(frames.split("\n")[0].removeprefix("data: "))["error"]["message"] == "It broke off."
    assert frames.endswith("\n\ndata: [DONE]\n\n")
    assert renderer.fail(UpstreamProtocolError(), "req_1") == b""
    assert errors.status_of(UpstreamProtocolError()) == 502

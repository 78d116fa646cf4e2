"""The official SDKs understand our errors as their vendor's: class, status, code, wait, and whether to try again."""

from __future__ import annotations

import math
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google.genai import errors as google_errors

from omniroute.errors import OmniRouteError
from omniroute.formats.anthropic_messages.stream import MessagesStream
from omniroute.formats.openai_chat.stream import ChatStream
from omniroute.formats.openai_responses.stream import ResponsesStream
from omniroute.gateway.dialects import DIALECTS, Surface
from omniroute.gateway.faults import error_for
from omniroute.providers.classify import classify
from tests.gateway.callers import rendered
from tests.gateway.provider_errors import CASES, NOW

ROWS = sorted({case.row for case in CASES})
WAITED_FOR = ("rate", "overloaded")
MODEL = "up/m-1"
MESSAGE: Any = {"role": "user", "content": "hi"}

OPENAI_CLASSES: dict[str, type[openai.APIStatusError]] = {
    "context": openai.BadRequestError,
    "invalid": openai.BadRequestError,
    "unsupported": openai.BadRequestError,
    "policy": openai.BadRequestError,
    "too_large": openai.APIStatusError,
    "model": openai.NotFoundError,
    "rate": openai.RateLimitError,
    "quota_short": openai.RateLimitError,
    "quota_long": openai.RateLimitError,
    "quota_unknown": openai.RateLimitError,
}
ANTHROPIC_TYPES = {
    "context": "invalid_request_error",
    "invalid": "invalid_request_error",
    "unsupported": "invalid_request_error",
    "policy": "invalid_request_error",
    "too_large": "request_too_large",
    "model": "not_found_error",
    "rate": "rate_limit_error",
    "quota_short": "rate_limit_error",
    "quota_long": "rate_limit_error",
    "quota_unknown": "rate_limit_error",
    "overloaded": "overloaded_error",
    "timeout": "timeout_error",
    "fault": "api_error",
    "credential": "api_error",
}


def error_of(row: str) -> OmniRouteError:
    case = next(case for case in CASES if case.row == row)
    return error_for(
        classify(case.format, case.status, case.headers, case.data, now=float(NOW)), "Acme", wall=float(NOW)
    )


def transport(surface: Surface, error: OmniRouteError, seen: list[httpx2.Request]) -> httpx2.Client:
    status, headers, body = rendered(surface, error)

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(status, headers={**headers, "content-type": "application/json"}, content=body)

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def streamed(frames: bytes) -> httpx2.Client:
    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=frames)

    return httpx2.Client(transport=httpx2.MockTransport(answer))


@pytest.mark.parametrize("surface", [Surface.OPENAI_CHAT, Surface.OPENAI_RESPONSES])
@pytest.mark.parametrize("row", ROWS)
def test_openai(row: str, surface: Surface) -> None:
    error = error_of(row)
    client = openai.OpenAI(
        api_key="k", base_url="http://t/v1", max_retries=0, http_client=transport(surface, error, [])
    )

    def ask() -> None:
        if surface is Surface.OPENAI_CHAT:
            client.chat.completions.create(model=MODEL, messages=[MESSAGE])
        else:
            client.responses.create(model=MODEL, input="hi")

    with pytest.raises(OPENAI_CLASSES.get(row, openai.InternalServerError)) as caught:
        ask()
    raised = caught.value
    spelt = {"overloaded": "server_is_overloaded"} if surface is Surface.OPENAI_RESPONSES else {}
    assert raised.status_code == error.http_status
    assert raised.code == spelt.get(error.error_code, error.error_code)
    assert raised.param == error.param
    assert isinstance(raised.type, str)


@pytest.mark.parametrize("row", ROWS)
def test_anthropic(row: str) -> None:
    error = error_of(row)
    http = transport(Surface.ANTHROPIC_MESSAGES, error, [])
    client = anthropic.Anthropic(api_key="k", base_url="http://t", max_retries=0, http_client=http)
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model=MODEL, max_tokens=9, messages=[MESSAGE])
    body: Any = caught.value.body
    assert body["error"]["type"] == ANTHROPIC_TYPES[row]
    assert caught.value.status_code == rendered(Surface.ANTHROPIC_MESSAGES, error)[0]


@pytest.mark.parametrize("row", [row for row in ROWS if row != "policy"])
def test_google(row: str) -> None:
    status, _, body = rendered(Surface.GEMINI, error_of(row))
    expected = google_errors.ClientError if status < 500 else google_errors.ServerError
    with pytest.raises(expected) as caught:
        google_errors.APIError.raise_for_response(httpx2.Response(status, content=body))
    assert caught.value.code == status
    assert caught.value.status
    assert caught.value.message


@pytest.mark.parametrize("row", ROWS)
def test_the_sdks_wait_as_long_as_they_are_told_and_only_if_it_helps(row: str) -> None:
    error = error_of(row)
    seen: list[httpx2.Request] = []
    client = openai.OpenAI(api_key="k", base_url="http://t/v1", http_client=transport(Surface.OPENAI_CHAT, error, seen))
    status, headers, body = rendered(Surface.OPENAI_CHAT, error)
    response = httpx2.Response(status, headers=headers, content=body)
    assert client._should_retry(response) is (error.should_retry is not False and status >= 429)
    if error.retry_after_s is not None:
        told = client._parse_retry_after_header(response.headers)
        assert told == pytest.approx(math.ceil(error.retry_after_s * 1000) / 1000)


# --- inside a stream -------------------------------------------------------------------------------------------------

CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'  # fmt: skip # noqa: E501


def test_openai_raises_in_mid_stream() -> None:
    stream = ChatStream(None, lambda _: b"", wants_usage=False)
    frames = stream.feed(CHUNK) + stream.fail(error_of("overloaded"), "req_1")
    client = openai.OpenAI(api_key="k", base_url="http://t/v1", max_retries=0, http_client=streamed(frames))
    said = []
    with pytest.raises(openai.APIError) as caught:
        said += [
            chunk.choices[0].delta.content
            for chunk in client.chat.completions.create(model=MODEL, messages=[MESSAGE], stream=True)
        ]
    assert caught.value.code == "overloaded"


def test_responses_end_as_failed() -> None:
    begun = b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","status":"in_progress","output":[]}}\n\nevent: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":1,"item_id":"m","output_index":0,"content_index":0,"delta":"Hi"}\n\n'  # fmt: skip # noqa: E501
    stream = ResponsesStream(None, lambda _: b"")
    frames = stream.feed(begun) + stream.fail(error_of("rate"), "req_1")
    client = openai.OpenAI(api_key="k", base_url="http://t/v1", max_retries=0, http_client=streamed(frames))
    events = list(client.responses.create(model=MODEL, input="hi", stream=True))
    last = events[-1]
    assert isinstance(last, openai.types.responses.ResponseFailedEvent)
    assert last.sequence_number == 2
    assert last.response.error is not None
    assert last.response.error.code == "rate_limit_exceeded"
    assert "try again in 2s" in last.response.error.message


def test_responses_report_where_nothing_has_begun() -> None:
    frames = DIALECTS[Surface.OPENAI_RESPONSES].render_in_stream(error_of("overloaded"), "req_1")
    client = openai.OpenAI(api_key="k", base_url="http://t/v1", max_retries=0, http_client=streamed(frames))
    (event,) = client.responses.create(model=MODEL, input="hi", stream=True)
    assert isinstance(event, openai.types.responses.ResponseErrorEvent)
    assert (event.code, event.sequence_number) == ("server_is_overloaded", 0)


def test_anthropic_raises_in_mid_stream() -> None:
    begun = b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}\n\nevent: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\nevent: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}\n\n'  # fmt: skip # noqa: E501
    stream = MessagesStream(None, lambda _: b"")
    frames = stream.feed(begun) + stream.fail(error_of("overloaded"), "req_1")
    client = anthropic.Anthropic(api_key="k", base_url="http://t", max_retries=0, http_client=streamed(frames))
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        client.messages.stream(model=MODEL, max_tokens=9, messages=[MESSAGE]) as events,
    ):
        events.until_done()
    body: Any = caught.value.body
    assert body["error"]["type"] == "overloaded_error"

"""Responses that refer to each other: over targets that are translated to, and over those that keep their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.e2e.processes import Sandbox, Server
from tests.e2e.test_endpoints import Http, http

__all__ = ["http"]

TRANSLATED = pytest.mark.parametrize("prefix", ["oa", "an", "ge", "ol"])


@pytest.fixture
def oa(server: Server, api_key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=api_key, max_retries=0, timeout=30) as client:
        yield client


def texts(page: Any) -> list[str]:
    return [item.content[0].text for item in page]


@TRANSLATED
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_chain_over_a_translated_target(oa: openai.OpenAI, prefix: str, is_streamed: bool) -> None:
    def ask(**request: Any) -> Any:
        if not is_streamed:
            return oa.responses.create(**request)
        last = list(oa.responses.create(**request, stream=True))[-1]
        assert last.type == "response.completed"
        return last.response

    first = ask(model=f"{prefix}/echo", input="say marigold")
    second = ask(model=f"{prefix}/echo", input="say tulip", previous_response_id=first.id)
    # Another target may take over, and the conversation goes with it.
    third = ask(model="sandbox/echo", input="say fern", previous_response_id=second.id)
    assert (second.output_text, second.previous_response_id) == ("say tulip", first.id)
    assert third.output_text == "say fern"
    assert second.usage.input_tokens > first.usage.input_tokens
    assert third.usage.input_tokens > second.usage.input_tokens
    kept = oa.responses.retrieve(second.id)
    assert (kept.output_text, kept.status, kept.model) == ("say tulip", "completed", f"{prefix}/echo")
    expected = ["say marigold", "say marigold", "say tulip"]
    assert texts(oa.responses.input_items.list(second.id, order="asc")) == expected
    assert texts(oa.responses.input_items.list(second.id, limit=1)) == expected[::-1]  # the SDK asks page by page
    with pytest.raises(openai.BadRequestError):
        oa.responses.cancel(second.id)
    oa.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        oa.responses.retrieve(second.id)
    with pytest.raises(openai.NotFoundError) as caught:
        oa.responses.create(model=f"{prefix}/echo", input="on", previous_response_id=second.id)
    assert caught.value.param == "previous_response_id"


@TRANSLATED
def test_a_tool_loop_by_id(oa: openai.OpenAI, prefix: str) -> None:
    tools: Any = [
        {
            "type": "function",
            "name": "weather",
            "description": "d",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            "strict": False,
        }
    ]
    asked = oa.responses.create(model=f"{prefix}/tools", input="What is the weather?", tools=tools)
    call = next(item for item in asked.output if item.type == "function_call")
    done = oa.responses.create(
        model=f"{prefix}/tools",
        tools=tools,
        previous_response_id=asked.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "31 degrees"}],
    )
    assert "31" in done.output_text


def test_items_may_be_named_instead_of_repeated(oa: openai.OpenAI) -> None:
    first = oa.responses.create(model="an/echo", input="say marigold")
    named: Any = [
        {"role": "user", "content": "say marigold"},
        {"type": "item_reference", "id": first.output[0].id},
        {"role": "user", "content": "say tulip"},
    ]
    second = oa.responses.create(model="an/echo", input=named)
    whole: Any = [named[0], {"role": "assistant", "content": "say marigold"}, named[2]]
    repeated = oa.responses.create(model="an/echo", input=whole)
    assert (second.output_text, second.usage) == ("say tulip", repeated.usage)
    unknown: Any = [{"type": "item_reference", "id": "msg_" + "0" * 36}, {"role": "user", "content": "hi"}]
    with pytest.raises(openai.NotFoundError):
        oa.responses.create(model="an/echo", input=unknown)
    foreign: Any = [{"type": "item_reference", "id": "msg_of_a_provider"}, {"role": "user", "content": "hi"}]
    with pytest.raises(openai.BadRequestError) as caught:
        oa.responses.create(model="an/echo", input=foreign)
    assert caught.value.code == "unsupported_feature"


def test_what_is_not_to_be_stored_is_not(oa: openai.OpenAI) -> None:
    for prefix in ("an", "re"):
        answer = oa.responses.create(model=f"{prefix}/echo", input="say marigold", store=False)
        with pytest.raises(openai.NotFoundError):
            oa.responses.retrieve(answer.id)
        with pytest.raises(openai.NotFoundError):
            oa.responses.create(model=f"{prefix}/echo", input="x", previous_response_id=answer.id)


@pytest.mark.parametrize("prefix", ["an", "re"])
def test_nobody_else_has_the_id(server: Server, oa: openai.OpenAI, prefix: str) -> None:
    mine = oa.responses.create(model=f"{prefix}/echo", input="say marigold").id
    other = oa.with_options(api_key=server.new_key())
    for use in (
        lambda: other.responses.retrieve(mine),
        lambda: other.responses.delete(mine),
        lambda: other.responses.cancel(mine),
        lambda: list(other.responses.input_items.list(mine)),
        lambda: other.responses.create(model=f"{prefix}/echo", input="x", previous_response_id=mine),
    ):
        with pytest.raises(openai.NotFoundError):
            use()
    assert oa.responses.create(model=f"{prefix}/echo", input="x", previous_response_id=mine).output_text == "x"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_chain_over_a_provider_that_keeps_its_own(oa: openai.OpenAI, is_streamed: bool) -> None:
    if is_streamed:
        last: Any = list(oa.responses.create(model="re/echo", input="say marigold", stream=True))[-1]
        first = last.response
    else:
        first = oa.responses.create(model="re/echo", input="say marigold")
    second = oa.responses.create(model="re/echo", input="say tulip", previous_response_id=first.id)
    assert second.output_text == "say tulip"
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    # Only that connection knows the id.
    with pytest.raises(openai.ConflictError) as caught:
        oa.responses.create(model="an/echo", input="say fern", previous_response_id=first.id)
    assert caught.value.code == "response_origin_gone"


def test_an_id_of_a_connection_that_is_gone(server: Server, oa: openai.OpenAI, sandbox: Sandbox) -> None:
    connection = server.add_node(f"{sandbox.url}/v1", prefix="brief", api_type="responses")
    server.settle()
    made = oa.responses.create(model="brief/echo", input="say marigold").id
    server.api("DELETE", f"/api/providers/{connection}")
    server.settle()
    for use in (
        lambda: oa.responses.create(model="brief/echo", input="on", previous_response_id=made),
        lambda: oa.responses.retrieve(made),
        lambda: oa.responses.delete(made),
    ):
        with pytest.raises(openai.ConflictError) as caught:
            use()
        assert caught.value.code == "response_origin_gone"


@pytest.mark.parametrize("prefix", ["sandbox", "re"])
def test_compacting_is_the_providers(oa: openai.OpenAI, prefix: str) -> None:
    compacted = oa.responses.compact(model=f"{prefix}/echo", input="say marigold")
    assert compacted.object == "response.compaction"
    on: Any = [item.model_dump(exclude_none=True, warnings=False) for item in compacted.output]
    answer = oa.responses.create(model=f"{prefix}/echo", input=[*on, {"role": "user", "content": "say tulip"}])
    assert answer.output_text == "say tulip"


def test_compacting_elsewhere_is_refused(oa: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        oa.responses.compact(model="an/echo", input="say marigold")
    assert (caught.value.code, caught.value.param) == ("unsupported_feature", "model")


def test_a_response_is_given_back_whole(http: Http, oa: openai.OpenAI) -> None:
    made = oa.responses.create(model="an/echo", input="say marigold").id
    assert http("GET", f"/v1/responses/{made}?stream=true").json()["error"]["param"] == "stream"
    assert http("GET", f"/v1/responses/{made}?stream=false").json()["id"] == made
    for query in ("limit=0", "limit=101", "limit=x", "order=up", "after=none"):
        refused = http("GET", f"/v1/responses/{made}/input_items?{query}")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, query.partition("=")[0])
    page = http("GET", f"/v1/responses/{made}/input_items").json()
    assert (page["object"], page["has_more"], page["first_id"]) == ("list", False, page["data"][0]["id"])


def test_a_key_that_leaves_nothing_behind(server: Server, oa: openai.OpenAI) -> None:
    quiet = oa.with_options(api_key=server.new_key(noLog=True))
    made = quiet.responses.create(model="an/echo", input="say marigold")
    with pytest.raises(openai.NotFoundError):
        quiet.responses.retrieve(made.id)
    # What the provider keeps it keeps: the id leads there, and holds nothing of what was said.
    kept = quiet.responses.create(model="re/echo", input="say marigold")
    assert quiet.responses.create(model="re/echo", input="x", previous_response_id=kept.id).output_text == "x"

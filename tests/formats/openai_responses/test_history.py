"""Conversations kept for clients that send only what is new."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omniroute.errors import InvalidRequest
from omniroute.formats.canonical import Answer, Stop, Text, Thinking, Token, ToolCall
from omniroute.formats.codec import no_pause
from omniroute.formats.openai_responses.history import (
    expand,
    find_item,
    input_items,
    referenced_ids,
    resolve,
    response_id_of,
    stored_items,
)
from omniroute.formats.openai_responses.request_parser import parse_request
from omniroute.formats.openai_responses.response import render_answer
from omniroute.formats.wire import WireFormat
from tests.formats.openai_responses.responses_samples import KEY, parsed, reply_to

FIRST = b'{"model": "m", "instructions": "Be brief.", "input": "Hi"}'
SECOND = b'{"model":"m","input":[{"role":"user","content":"And?"}],"previous_response_id":"resp_1" , "x":1e400}'


def answer_body() -> bytes:
    origin = WireFormat.ANTHROPIC_MESSAGES
    blocks = (Thinking("t", Token("seal", origin)), Text("Hello."), ToolCall("call_1", "f", "{}"))
    return render_answer(Answer(origin, "a", "m", blocks, Stop.TOOL_USE), reply_to(parsed(input="Hi")))


def test_earlier_turns_are_written_in_front() -> None:
    stored = stored_items(FIRST, answer_body())
    body = expand(SECOND, [stored])
    assert b"1e400" in body
    grown = json.loads(body)
    assert "previous_response_id" not in grown
    assert "instructions" not in grown
    assert [item.get("type") for item in grown["input"]] == ["message", "reasoning", "message", "function_call", None]
    request = parse_request(body, no_pause)
    assert [message.role.value for message in request.messages] == ["user", "assistant", "user"]
    assert request.messages[0].blocks == (Text("Hi"),)
    assert request.messages[1].blocks[0] == Thinking(
        "t", Token("seal", WireFormat.OPENAI_RESPONSES), id=f"rs_{KEY}0000"
    )


def test_turns_follow_each_other_and_the_first_may_be_empty() -> None:
    turns = [stored_items(FIRST, answer_body()), stored_items(SECOND, b'{"output":null}'), stored_items(b"{}", b"{")]
    grown = json.loads(expand(b'{"model":"m","previous_response_id":"resp_2"}', turns))
    assert len(grown["input"]) == 5
    assert grown["input"][-1] == {"role": "user", "content": "And?"}


def test_items_of_ours_lead_to_their_response() -> None:
    item_id = f"msg_{KEY}0001"
    assert response_id_of(item_id) == f"resp_{KEY}"
    assert response_id_of("msg_68f0a1") is None
    assert response_id_of("msg_" + "0123456789abcdef" * 3) is None, "as long as a vendor's"
    assert response_id_of("rs_vendor_0123456789abcdef01234567") is None
    assert response_id_of("plain") is None
    found = find_item(stored_items(FIRST, answer_body()), item_id)
    assert json.loads(found or b"")["content"][0]["text"] == "Hello."
    assert find_item(stored_items(FIRST, answer_body()), "msg_other") is None


def test_references_are_replaced_by_what_they_refer_to() -> None:
    item_id = f"msg_{KEY}0001"
    body = json.dumps(
        {"model": "m", "input": [{"type": "item_reference", "id": item_id}, {"role": "user", "content": "x"}]}
    ).encode()
    assert referenced_ids(body) == (item_id,)
    assert referenced_ids(FIRST) == ()
    whole = find_item(stored_items(FIRST, answer_body()), item_id)
    assert whole is not None
    items = json.loads(resolve(body, {item_id: whole}))["input"]
    assert [item["role"] for item in items] == ["assistant", "user"]
    assert json.loads(resolve(body, {})) == json.loads(body)


def page(**wishes: Any) -> Any:
    turns = [stored_items(FIRST, answer_body()), stored_items(SECOND, answer_body())]
    return json.loads(input_items(turns, "resp_2", **wishes))


def test_the_list_of_input_has_ids_and_both_orders() -> None:
    listed = page(order="asc")
    assert listed["object"] == "list"
    assert [item["type"] for item in listed["data"]] == ["message", "reasoning", "message", "function_call", "message"]
    assert listed["data"][-1] == {
        "id": "msg_2i4",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "And?"}],
    }
    assert listed["first_id"] == listed["data"][0]["id"]
    assert [item["id"] for item in page()["data"]] == [item["id"] for item in reversed(listed["data"])]


def test_the_list_of_input_comes_in_pages() -> None:
    first = page(limit=2)
    assert first["has_more"] is True
    second = page(limit=3, after=first["last_id"])
    assert second["has_more"] is False
    assert len(second["data"]) == 3
    assert json.loads(input_items([], "resp_3")) == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("wishes", "param"), [({"limit": 0}, "limit"), ({"order": "up"}, "order"), ({"after": "msg_x"}, "after")]
)
def test_a_page_that_there_is_not(wishes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        page(**wishes)
    assert caught.value.param == param

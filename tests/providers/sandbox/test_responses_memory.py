"""Going on from a response, and referring to its items."""

from __future__ import annotations

import json
from typing import Any

from omniroute.providers.sandbox import respond

USER = {"type": "message", "role": "user", "content": "hello there"}


def ask(**body: Any) -> tuple[int, dict[str, Any]]:
    data = json.dumps({"model": "echo", "input": [USER], **body}).encode()
    script = respond("/v1/responses", {}, data)
    return script.status, json.loads(b"".join(frame for _, frame in script.frames))


def test_a_stored_response_can_be_gone_on_from() -> None:
    _, first = ask(input="remember the number 4711")
    status, second = ask(previous_response_id=first["id"], input="and now?")
    assert status == 200
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    assert second["previous_response_id"] == first["id"]


def test_its_items_can_be_referred_to() -> None:
    _, first = ask(input="a text to echo")
    item_id = first["output"][0]["id"]
    status, _ = ask(input=[USER, {"type": "item_reference", "id": item_id}, USER])
    assert status == 200


def test_what_was_not_to_be_stored_is_not() -> None:
    _, first = ask(input="a secret that nobody keeps", store=False)
    status, refused = ask(previous_response_id=first["id"])
    assert (status, refused["error"]["code"]) == (400, "previous_response_not_found")
    status, refused = ask(input=[USER, {"type": "item_reference", "id": first["output"][0]["id"]}])
    assert status == 404

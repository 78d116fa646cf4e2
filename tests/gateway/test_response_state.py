"""State between Responses requests, where something is missing: a store that fails, content that only a vendor has."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from omniroute.errors import NotFound, StorageError, UnsupportedFeature
from omniroute.gateway.dialects import Surface
from omniroute.gateway.response_state import NoResponses
from omniroute.records import NodeType
from tests.fakes.upstream import answer, fake_upstream, hang_up
from tests.gateway.conftest import Bench
from tests.gateway.test_inference import completion

Make = Callable[..., Bench]

HELLO: dict[str, Any] = {"model": "up/m", "input": "hi"}
RESPONSE = {"id": "resp_up", "object": "response", "status": "completed", "model": "m", "output": []}


class Broken(NoResponses):
    """A database that is away."""

    def keep(self, *_: Any, **__: Any) -> None:
        raise StorageError

    def keep_origin(self, *_: Any, **__: Any) -> None:
        raise StorageError


class Remembering(NoResponses):
    """Notes what it is given."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    def keep(self, owner: str, response_id: str, **_: Any) -> None:
        self.kept.append(f"{owner} {response_id[:5]}")

    def keep_origin(self, owner: str, response_id: str, **_: Any) -> None:
        self.kept.append(f"{owner} {response_id}")


@pytest.mark.parametrize("api_type", [None, "responses"])
def test_an_answer_that_cannot_be_kept_is_still_an_answer(bench_of: Make, api_type: str | None) -> None:
    body = completion() if api_type is None else json.dumps(RESPONSE).encode()
    with fake_upstream(answer(body)) as upstream:
        bench = bench_of(upstream, api_type=api_type)
        bench.inference.responses = Broken()
        assert bench.call(HELLO, Surface.OPENAI_RESPONSES).status == 200
        assert bench.log.only.outcome == "success"


@pytest.mark.parametrize("api_type", [None, "responses"])
@pytest.mark.parametrize("store", [None, True, False])
def test_what_is_kept_of_an_answer(bench_of: Make, api_type: str | None, store: bool | None) -> None:
    body = completion() if api_type is None else json.dumps(RESPONSE).encode()
    with fake_upstream(answer(body)) as upstream:
        bench = bench_of(upstream, api_type=api_type)
        bench.inference.responses = kept = Remembering()
        bench.call({**HELLO, "store": store}, Surface.OPENAI_RESPONSES)
        expected = [] if store is False else ["local resp_"] if api_type is None else ["local resp_up"]
        assert kept.kept == expected


@pytest.mark.parametrize(
    "item",
    [
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"},
        {"type": "item_reference", "id": "msg_of_a_vendor"},
    ],
)
@pytest.mark.parametrize("node_type", [NodeType.ANTHROPIC, NodeType.GEMINI, NodeType.OPENAI, NodeType.OLLAMA])
def test_what_only_its_vendor_can_read_is_not_left_out_in_silence(
    bench_of: Make, item: dict[str, Any], node_type: NodeType
) -> None:
    with fake_upstream(hang_up) as upstream:
        bench = bench_of(upstream, node_type=node_type)
        with pytest.raises(UnsupportedFeature):
            bench.call(
                {"model": "up/m", "input": [item, {"role": "user", "content": "go on"}]}, Surface.OPENAI_RESPONSES
            )
        assert upstream.received == []


def test_an_item_of_ours_that_is_gone_is_not_found(bench_of: Make) -> None:
    reference = {"type": "item_reference", "id": "msg_" + "0" * 36}
    with fake_upstream(hang_up) as upstream, pytest.raises(NotFound) as caught:
        bench_of(upstream, api_type="responses").call({"model": "up/m", "input": [reference]}, Surface.OPENAI_RESPONSES)
    assert caught.value.param == "input"

"""`omniroute sessions`: here, and against a server elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from omniroute.cli import Exit
from tests.cli.conftest import Both, Remote, Run, connected_server, document
from tests.e2e.processes import wait_until
from tests.fakes.upstream import answer, fake_upstream

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


@pytest.fixture(scope="module")
def _connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A server of this module's own: the requests that it sends would show in the sums of others."""
    with connected_server(tmp_path_factory.mktemp("own")) as made:
        yield made


def ask(remote: Remote, conversation: str) -> None:
    assert remote.ask("mine/m", {"X-Session-Id": conversation}).status_code == 200


def test_they_are_listed_and_let_go(both: Both, remote: Remote) -> None:
    with fake_upstream(*[answer(json.dumps(ANSWER).encode()) for _ in range(2)]) as upstream:
        remote.server.add_node(f"{upstream.url}/v1", prefix="mine")
        remote.server.add_connection(remote.server.api("GET", "/api/provider-nodes")["nodes"][0]["id"], priority=2)
        for conversation in ("first", "second"):
            ask(remote, conversation)

    def listed() -> list[str]:
        return [row["id"] for row in document(remote("sessions", "list", "--json"))["sessions"]]

    first, _second = wait_until(lambda: len(listed()) == 2 and listed(), within_s=10, what="both are stored")
    assert listed() == [row["id"] for row in document(both("sessions", "list", "--json"))["sessions"]]
    head, *rows = remote("sessions", "list").stdout.splitlines()
    assert head.split() == ["Id", "Provider", "Connection", "Model", "Key", "Last", "used", "Expires", "in"]
    assert all(" ago " in row for row in rows)
    assert len(document(remote("sessions", "list", "--limit", "1", "--json"))["sessions"]) == 1
    assert remote("sessions", "expire", first).stderr.strip() == "Expired: 1."
    assert first not in listed()
    assert remote("sessions", "expire", first).exit_code == Exit.MISUSE
    declined = remote("sessions", "expire", "--all")
    assert (declined.exit_code, "--yes" in declined.stderr) == (Exit.MISUSE, True)
    assert document(remote("sessions", "expire", "--all", "-y", "--json")) == {"expired": 1}
    assert listed() == []


def test_there_are_none(run: Run) -> None:
    assert run("sessions", "list").stdout.count("\n") == 1
    assert document(run("sessions", "expire", "--all", "-y", "--json")) == {"expired": 0}


@pytest.mark.parametrize(
    "arguments", [("expire",), ("expire", "x", "--all"), ("expire", "nobody"), ("list", "--connection", "nobody")]
)
def test_it_has_to_be_said_what_is_meant(remote: Remote, arguments: tuple[str, ...]) -> None:
    assert remote("sessions", *arguments).exit_code == Exit.MISUSE

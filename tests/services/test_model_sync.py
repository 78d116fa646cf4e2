"""The model lists of providers: what a reading changes, when lists are read, and what a failure leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from omniroute.errors import InvalidRequest, NotFound, StorageError, UpstreamError, UpstreamUnreachable
from omniroute.providers.upstream import UpstreamRequest
from omniroute.records import Connection
from omniroute.services.keys import SYSTEM
from omniroute.services.model_sync import EMPTY, ModelLists, Synced
from omniroute.services.probe import Prober
from tests import harness
from tests.services.providers import Providers, Reply, json_reply, providers_of

KEY = "sk-live-0123456789abcdefghij"
HOUR_S = 3600.0


@dataclass
class Lists:
    """The service with what it stands on; `waiting` is what it wants done in the background."""

    providers: Providers
    own: ModelLists
    interval_h: list[int]
    rests: list[float] = field(default_factory=list)
    waiting: list[Callable[[], None]] = field(default_factory=list)
    listed: dict[str, Any] = field(default_factory=dict)

    def answer(self, request: UpstreamRequest) -> Reply:
        for part, reply in self.listed.items():
            if part in request.url:
                return reply if isinstance(reply, Reply) else json_reply({"data": reply})
        return json_reply({"data": [{"id": "one"}, {"id": "two"}]})

    def add(self, provider: str = "groq", **fields: Any) -> Connection:
        return self.providers.connections.create({"provider": provider, "apiKey": KEY, **fields}, SYSTEM)

    def models(self, connection: Connection) -> list[str]:
        found = self.providers.gateway.snapshots.current.discovered.get(connection.id)
        return [] if found is None else [model.model_id for model in found.models]

    def asked(self) -> list[str]:
        return [request.url for request in self.providers.transport.sent]

    def pass_(self, seconds: float) -> None:
        self.providers.gateway.clock.pass_(seconds)

    def run_waiting(self) -> int:
        waiting, self.waiting[:] = list(self.waiting), []
        for work in waiting:
            work()
        return len(waiting)


@pytest.fixture
def lists(gateway: harness.Gateway) -> Lists:
    return made(gateway, in_background=False)


@pytest.fixture
def served(gateway: harness.Gateway) -> Lists:
    return made(gateway, in_background=True)


def made(gateway: harness.Gateway, *, in_background: bool) -> Lists:
    providers = providers_of(gateway)
    interval_h, waiting, rests = [24], [], []  # type: ignore[var-annotated]
    own = ModelLists(
        database=gateway.database,
        snapshots=gateway.snapshots,
        directories=providers.directories,
        prober=Prober(transport=providers.transport, now=gateway.clock, monotonic=gateway.clock),
        audit=gateway.audit,
        interval_h=lambda: interval_h[0],
        spacing_s=1.5,
        now=gateway.clock,
        sleep=rests.append,
        spawn=waiting.append if in_background else None,
    )
    gateway.snapshots.subscribe(own.rebuild)
    found = Lists(providers, own, interval_h, rests, waiting)
    providers.transport.handler = found.answer
    return found


# --- what a reading changes ------------------------------------------------------------------------------------------


def test_a_reading_is_stored_and_serves_at_once(lists: Lists) -> None:
    connection = lists.add()
    lists.listed["groq"] = [{"id": "new/model", "context_window": 5000}, {"id": "llama-3.3-70b-versatile"}]
    assert lists.own.sync(connection.id, SYSTEM) == Synced(added=2, removed=0, total=2)
    assert lists.models(connection) == ["llama-3.3-70b-versatile", "new/model"]
    (target,) = lists.providers.directories.current.resolve("new/model")
    assert (target.connection_id, target.name) == (connection.id, "groq/new/model")
    assert target.facts is not None
    assert target.facts.context == 5000
    row = lists.providers.asked_by[-1]
    assert (row.action, row.target_id) == ("provider.models.synced", connection.id)
    assert lists.providers.transport.are_all_closed


def test_what_a_provider_lists_no_more_is_taken_out(lists: Lists) -> None:
    connection = lists.add()
    lists.own.sync(connection.id)
    lists.pass_(60)
    lists.listed["groq"] = [{"id": "two", "context_window": 9000}, {"id": "three"}]
    assert lists.own.sync(connection.id) == Synced(added=1, removed=1, total=2)
    assert lists.models(connection) == ["three", "two"]
    assert lists.providers.directories.current.models_of("groq")["two"].context == 9000
    first, last = lists.own.seen_at(connection.id)["two"]
    assert last - first == 60
    assert lists.own.seen_at(connection.id)["three"] == (last, last)


def test_a_reading_that_finds_the_same_is_no_news(lists: Lists) -> None:
    connection = lists.add()
    lists.own.sync(connection.id)
    version = lists.providers.gateway.snapshots.current.version
    lists.pass_(60)
    assert lists.own.sync(connection.id) == Synced(0, 0, 2)
    assert lists.providers.gateway.snapshots.current.version == version
    last = lists.own.last(connection.id)
    assert last is not None
    assert (last.synced_at, last.found, last.error) == (harness.NOW + 60, 2, None)


def test_a_reading_of_the_server_itself_leaves_no_audit_row(lists: Lists) -> None:
    connection = lists.add()
    before = len(lists.providers.asked_by)
    lists.own.sync(connection.id)
    assert len(lists.providers.asked_by) == before


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (json_reply({"error": {"message": "slow down"}}, 429), "slow down"),
        (json_reply({"error": {"message": "no"}}, 401), "no"),
        (Reply(body=b"<html>"), "could not be read"),
        (Reply(503, b"down"), "could not be read"),
        (UpstreamUnreachable(), "could not be reached"),
    ],
)
def test_a_reading_that_fails_leaves_everything_as_it_is(lists: Lists, reply: Any, says: str) -> None:
    connection = lists.add()
    lists.own.sync(connection.id)
    lists.pass_(60)
    lists.providers.transport.handler = lambda _request: reply
    with pytest.raises(UpstreamError, match=says) as caught:
        lists.own.sync(connection.id)
    assert (caught.value.error_code, caught.value.status) == ("provider_unreachable", 502)
    assert lists.models(connection) == ["one", "two"]
    last = lists.own.last(connection.id)
    assert last is not None
    assert (last.tried_at, last.synced_at, last.found) == (harness.NOW + 60, harness.NOW, 2)
    assert last.error
    assert KEY not in last.error
    assert lists.providers.connections.state_of(lists.providers.connections.get(connection.id)) == ("untested", None)
    assert lists.providers.board.state() == ()


def test_a_page_that_fails_fails_the_whole(lists: Lists) -> None:
    connection = lists.add("anthropic")
    lists.own.sync(connection.id)
    lists.pass_(60)
    page = json_reply({"data": [{"id": "first"}], "has_more": True, "last_id": "first"})
    lists.listed = {"after_id": Reply(500, b"oops"), "anthropic": page}
    with pytest.raises(UpstreamError):
        lists.own.sync(connection.id)
    assert lists.models(connection) == ["one", "two"]
    lists.listed["after_id"] = [{"id": "second"}]
    assert lists.own.sync(connection.id) == Synced(2, 2, 2)
    assert lists.models(connection) == ["first", "second"]


def test_an_empty_list_is_believed_the_second_time(lists: Lists) -> None:
    connection = lists.add()
    lists.own.sync(connection.id)
    lists.listed["groq"] = []
    with pytest.raises(UpstreamError, match="stays unless that happens again"):
        lists.own.sync(connection.id)
    assert lists.models(connection) == ["one", "two"]
    last = lists.own.last(connection.id)
    assert last is not None
    assert last.error == EMPTY
    lists.pass_(60)
    assert lists.own.sync(connection.id) == Synced(0, 2, 0)
    assert lists.models(connection) == []


def test_two_empty_answers_with_another_between_are_not_believed(lists: Lists) -> None:
    connection = lists.add()
    for is_empty in (False, True, False, True):
        lists.pass_(60)
        lists.listed = {"groq": []} if is_empty else {}
        if not is_empty:
            lists.own.sync(connection.id)
        else:
            with pytest.raises(UpstreamError):
                lists.own.sync(connection.id)
    assert lists.models(connection) == ["one", "two"]


def test_a_list_may_be_empty_from_the_beginning(lists: Lists) -> None:
    connection = lists.add()
    lists.listed["groq"] = []
    assert lists.own.sync(connection.id) == Synced(0, 0, 0)
    assert connection.id in lists.providers.gateway.snapshots.current.discovered


def test_what_cannot_be_asked(lists: Lists) -> None:
    with pytest.raises(NotFound):
        lists.own.sync("conn_nobody")
    without = lists.add("codestral")
    with pytest.raises(InvalidRequest) as caught:
        lists.own.sync(without.id)
    assert caught.value.error_code == "not_supported"
    assert lists.own.last(without.id) is None


def test_a_connection_that_was_removed_meanwhile(lists: Lists) -> None:
    connection = lists.add()

    def remove(request: UpstreamRequest) -> Reply:
        lists.providers.connections.delete(connection.id, SYSTEM)
        return lists.answer(request)

    lists.providers.transport.handler = remove
    with pytest.raises(NotFound):
        lists.own.sync(connection.id)
    assert lists.own.last(connection.id) is None
    assert lists.own.seen_at(connection.id) == {}


# --- the schedule ----------------------------------------------------------------------------------------------------


def test_lists_are_read_when_they_are_due(lists: Lists) -> None:
    first, second = lists.add(), lists.add("together")
    lists.own.run_due()
    assert len(lists.asked()) == 2
    assert lists.rests == [1.5], "one after the other"
    assert lists.models(first) == lists.models(second) == ["one", "two"]
    lists.pass_(23 * HOUR_S)
    lists.own.run_due()
    assert len(lists.asked()) == 2
    lists.pass_(HOUR_S)
    lists.own.run_due()
    assert len(lists.asked()) == 4


def test_a_failed_reading_waits_for_the_interval_and_keeps_nobody_else_from_his(lists: Lists) -> None:
    lists.add("groq")
    second = lists.add("together")
    lists.listed["groq"] = Reply(500, b"oops")
    lists.own.run_due()
    assert lists.models(second) == ["one", "two"]
    lists.own.run_due()
    assert len(lists.asked()) == 2
    lists.pass_(24 * HOUR_S)
    lists.own.run_due()
    assert len(lists.asked()) == 4


def test_the_interval_may_change_and_be_none(lists: Lists) -> None:
    lists.add()
    lists.interval_h[0] = 0
    lists.own.run_due()
    assert lists.asked() == []
    lists.interval_h[0] = 1
    lists.own.run_due()
    lists.pass_(HOUR_S)
    lists.own.run_due()
    assert len(lists.asked()) == 2


def test_who_is_not_asked_on_schedule(lists: Lists) -> None:
    off = lists.add("groq", isActive=False)
    lists.add("codestral")  # has no list
    lists.own.run_due()
    assert lists.asked() == []
    assert lists.own.sync(off.id).total == 2, "but who asks for it gets it"


def test_those_that_waited_longest_come_first(lists: Lists) -> None:
    lists.add("groq")
    lists.own.run_due()
    lists.pass_(25 * HOUR_S)
    lists.add("together")
    lists.own.run_due()
    assert ["together" in url for url in lists.asked()] == [False, True, False]


# --- new connections -------------------------------------------------------------------------------------------------


def test_the_list_of_a_new_connection_is_read_in_the_background(served: Lists) -> None:
    connection = served.add()
    assert served.asked() == []
    assert served.run_waiting() == 1
    assert served.models(connection) == ["one", "two"]
    assert served.waiting == [], "the news of its list is no news of the connection"


def test_of_many_workers_one_reads(served: Lists) -> None:
    served.add()
    served.waiting *= 3
    served.run_waiting()
    assert len(served.asked()) == 1


def test_a_connection_that_speaks_to_somebody_else_now_is_read_again(served: Lists) -> None:
    connection = served.add()
    served.run_waiting()
    served.pass_(60)
    served.providers.connections.change(connection.id, {"name": "renamed", "priority": 7}, SYSTEM)
    assert served.waiting == []
    served.providers.connections.change(connection.id, {"apiKey": KEY + "2"}, SYSTEM)
    assert served.run_waiting() == 1
    assert len(served.asked()) == 2


def test_a_node_that_moves_is_read_again(served: Lists) -> None:
    fields = {"name": "n", "prefix": "mine", "type": "openai-compatible", "baseUrl": "http://127.0.0.1:1/v1"}
    node = served.providers.nodes.create({**fields, "isLocal": True}, SYSTEM)
    connection = served.add(node.id)
    served.run_waiting()
    served.pass_(60)
    served.listed["127.0.0.1:2"] = [{"id": "other"}]
    served.providers.nodes.change(node.id, {"baseUrl": "http://127.0.0.1:2/v1"}, SYSTEM)
    assert served.run_waiting() == 1
    assert served.models(connection) == ["other"]


def test_nothing_is_read_in_the_background_without_an_interval(served: Lists) -> None:
    served.interval_h[0] = 0
    served.add()
    assert served.waiting == []


def test_a_new_connection_may_fail_and_may_be_gone_again(served: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    served.listed["groq"] = Reply(500, b"oops")
    connection = served.add()
    served.run_waiting()
    assert served.models(connection) == []
    gone = served.add("together")
    served.providers.connections.delete(gone.id, SYSTEM)
    served.run_waiting()
    assert len(served.asked()) == 1
    served.add("mistral")

    def broken(*_: Any, **__: Any) -> None:
        raise StorageError

    with monkeypatch.context() as patched:
        patched.setattr(served.providers.gateway.database, "write", broken)
        served.run_waiting()
    assert len(served.asked()) == 1, "it waits for the schedule"


# --- Ollama ----------------------------------------------------------------------------------------------------------


def test_an_ollama_is_asked_about_each_of_its_models(lists: Lists) -> None:
    connection = lists.add("ollama", apiKey=None)
    shown = {"capabilities": ["completion", "tools"], "model_info": {"qwen3.context_length": 40_960}}

    def answer(request: UpstreamRequest) -> Reply:
        if request.url.endswith("/api/show"):
            assert request.method == "POST"
            is_known = json.loads(request.body) == {"model": "qwen3:8b"}
            return json_reply(shown) if is_known else json_reply({"error": "not found"}, 404)
        return json_reply({"models": [{"name": "qwen3:8b", "model": "qwen3:8b"}, {"name": "odd", "model": "odd"}]})

    lists.providers.transport.handler = answer
    lists.own.sync(connection.id)
    models = lists.providers.directories.current.models_of("ollama")
    assert (models["qwen3:8b"].context, models["qwen3:8b"].capabilities) == (40_960, ("tools",))
    assert models["odd"].context is None
    assert len(lists.asked()) == 3


def test_an_ollama_that_describes_nothing_is_asked_once(lists: Lists) -> None:
    connection = lists.add("ollama", apiKey=None)
    many = json_reply({"models": [{"name": f"m{number}"} for number in range(5)]})
    lists.listed = {"/api/show": Reply(404, b"no"), "/api/tags": many}
    assert lists.own.sync(connection.id).total == 5
    assert len(lists.asked()) == 2


def test_a_key_that_cannot_be_opened_asks_nobody(lists: Lists) -> None:
    connection = lists.add()
    snapshots = lists.providers.gateway.snapshots
    sealed = tuple(replace(row, credential=None, is_unreadable=True) for row in snapshots.current.connections)
    snapshots.current = replace(snapshots.current, connections=sealed)
    with pytest.raises(InvalidRequest, match="encryption key"):
        lists.own.sync(connection.id)
    lists.own.run_due()
    assert lists.asked() == []

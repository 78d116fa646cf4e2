"""Provider nodes: addresses, prefixes and headers that may be stored, and what changing them does."""

from __future__ import annotations

from typing import Any

import pytest

from omniroute.errors import Conflict, NotFound, UpstreamUnreachable, UrlBlocked, ValidationFailed
from omniroute.formats.wire import WireFormat
from omniroute.records import Node, NodeType
from omniroute.secret import Secret
from omniroute.services.keys import SYSTEM
from tests import harness
from tests.services.providers import Providers, Reply, json_reply, providers_of

KEY = "sk-node-0123456789abcdefghij"


@pytest.fixture
def providers(gateway: harness.Gateway) -> Providers:
    return providers_of(gateway)


def fields(**changes: Any) -> dict[str, Any]:
    return {
        "name": "Mine",
        "prefix": "mine",
        "type": "openai-compatible",
        "baseUrl": "http://127.0.0.1:9000/v1/",
        "isLocal": True,
        **changes,
    }


def add(providers: Providers, **changes: Any) -> Node:
    return providers.nodes.create(fields(**changes), SYSTEM)


def test_a_node_with_a_connection_serves(providers: Providers) -> None:
    node = add(providers)
    assert (node.base_url, node.type, node.is_local) == ("http://127.0.0.1:9000/v1", NodeType.OPENAI, True)
    for name in (node.id, "mine", "MINE"):
        made = providers.connections.create({"provider": name, "apiKey": KEY}, SYSTEM)
        assert made.provider == node.id
    targets = providers.directories.current.resolve("mine/some/model:7b")
    assert len(targets) == 3
    assert targets[0].model == "some/model:7b"
    endpoint = targets[0].endpoints[WireFormat.OPENAI_CHAT]
    assert endpoint.url == "http://127.0.0.1:9000/v1/chat/completions"
    assert endpoint.is_operator
    assert endpoint.is_local
    assert providers.directories.current.resolve(f"{node.id}/x")[0].name == "mine/x"


def test_a_node_needs_no_key(providers: Providers) -> None:
    node = add(providers)
    providers.connections.create({"provider": node.id}, SYSTEM)
    assert providers.directories.current.resolve("mine/x")[0].endpoints[WireFormat.OPENAI_CHAT].secrets == ()


@pytest.mark.parametrize("node_type", list(NodeType))
def test_every_type_can_be_stored(providers: Providers, node_type: NodeType) -> None:
    base = "https://h.example/v1beta" if node_type is NodeType.GEMINI else "https://h.example/v1"
    node = add(providers, type=node_type.value, baseUrl=base, isLocal=False)
    assert providers.nodes.get(node.id) == node
    assert providers.nodes.all() == [node]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prefix": "Mine"}, "prefix"),
        ({"prefix": "a/b"}, "prefix"),
        ({"prefix": "-a"}, "prefix"),
        ({"prefix": "a" * 65}, "prefix"),
        ({"prefix": "auto"}, "prefix"),
        ({"prefix": "combo"}, "prefix"),
        ({"prefix": "node_x"}, "prefix"),
        ({"baseUrl": "http://127.0.0.1/v1?x=1"}, "baseUrl"),
        ({"baseUrl": "http://127.0.0.1/v1#x"}, "baseUrl"),
        ({"baseUrl": "http://127.0.0.1/v1/chat/completions"}, "baseUrl"),
        ({"baseUrl": "http://127.0.0.1/v1/messages/"}, "baseUrl"),
        ({"baseUrl": "http://127.0.0.1/../v1"}, "baseUrl"),
        ({"baseUrl": "http://127.0.0.1//v1"}, "baseUrl"),
        ({"baseUrl": "http://127.0.0.1/%2e%2e"}, "baseUrl"),
        ({"type": "gemini-compatible"}, "baseUrl"),
        ({"chatPath": "chat"}, "chatPath"),
        ({"chatPath": "/../x"}, "chatPath"),
        ({"chatPath": "/a b"}, "chatPath"),
        ({"chatPath": "//evil.example/x"}, "chatPath"),
        ({"chatPath": "/{host}"}, "chatPath"),
        ({"modelsPath": "/x#y"}, "modelsPath"),
        ({"customHeaders": {"Authorization": "x"}}, "customHeaders.Authorization"),
        ({"customHeaders": {"x-api-key": "x"}}, "customHeaders.x-api-key"),
        ({"customHeaders": {"Host": "x"}}, "customHeaders.Host"),
        ({"customHeaders": {"Transfer-Encoding": "chunked"}}, "customHeaders.Transfer-Encoding"),
        ({"customHeaders": {"Content-Length": "1"}}, "customHeaders.Content-Length"),
        ({"customHeaders": {"Cookie": "x"}}, "customHeaders.Cookie"),
        ({"customHeaders": {"Proxy-Authorization": "x"}}, "customHeaders.Proxy-Authorization"),
        ({"customHeaders": {"X-Forwarded-For": "x"}}, "customHeaders.X-Forwarded-For"),
        ({"customHeaders": {"a b": "x"}}, "customHeaders.a b"),
        ({"customHeaders": {"X-A": "x\r\nY: z"}}, "customHeaders.X-A"),
        ({"customHeaders": {"X-A": ""}}, "customHeaders.X-A"),
        ({"customHeaders": {"X-A": 1}}, "customHeaders.X-A"),
        ({"customHeaders": {"X-A": "1", "x-a": "2"}}, "customHeaders.x-a"),
        ({"customHeaders": {f"X-{n}": "1" for n in range(17)}}, "customHeaders"),
    ],
)
def test_names_the_field_that_is_wrong(providers: Providers, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        add(providers, **changes)
    assert [detail["field"] for detail in caught.value.details] == [field]
    assert providers.nodes.all() == []


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("http://127.0.0.1:9000/v1", False),
        ("https://127.0.0.1:9000/v1", False),
        ("http://api.example/v1", False),
        ("https://10.0.0.1/v1", True),
        ("http://[::ffff:169.254.169.254]/v1", True),
        ("http://metadata.google.internal/v1", True),
        ("https://user:pw@h.example/v1", True),
        ("http://127.1/v1", True),
        ("http://rebind.example/v1", True),
        ("ftp://h.example/v1", True),
    ],
)
def test_addresses_pass_the_guard(providers: Providers, url: str, is_local: bool) -> None:
    with pytest.raises(UrlBlocked):
        add(providers, baseUrl=url, isLocal=is_local)
    with pytest.raises(UrlBlocked):
        providers.nodes.validate({"baseUrl": url, "type": "openai-compatible", "isLocal": is_local})
    assert providers.nodes.all() == []
    assert providers.transport.sent == []


def test_private_addresses_need_the_setting_too(make_gateway: Any) -> None:
    providers = providers_of(make_gateway(allow_private_provider_urls=True))
    assert add(providers, baseUrl="http://10.0.0.1:8000/v1").is_local
    with pytest.raises(UrlBlocked):
        add(providers, prefix="other", baseUrl="https://10.0.0.1:8000/v1", isLocal=False)


@pytest.mark.parametrize("prefix", ["groq", "cc", "claude", "sandbox"])
def test_prefixes_of_providers_are_taken(providers: Providers, prefix: str) -> None:
    with pytest.raises(Conflict) as caught:
        add(providers, prefix=prefix)
    assert caught.value.extras == {"field": "prefix"}


def test_prefixes_are_unique(providers: Providers) -> None:
    first = add(providers)
    with pytest.raises(Conflict):
        add(providers)
    second = add(providers, prefix="other")
    with pytest.raises(Conflict):
        providers.nodes.change(second.id, {"prefix": "mine"}, SYSTEM)
    assert providers.nodes.change(first.id, {"prefix": "mine", "name": "Same"}, SYSTEM).name == "Same"


def test_custom_headers_are_stored_encrypted_and_sent(providers: Providers) -> None:
    node = add(providers, customHeaders={"X-Team": "secret-team-token-0123456789"})
    providers.connections.create({"provider": node.id, "apiKey": KEY}, SYSTEM)
    raw = b"".join(path.read_bytes() for path in providers.gateway.settings.data_dir.glob("storage.sqlite*"))
    assert b"secret-team-token" not in raw
    endpoint = providers.directories.current.resolve("mine/x")[0].endpoints[WireFormat.OPENAI_CHAT]
    assert ("X-Team", "secret-team-token-0123456789") in endpoint.fixed
    shown = {name: str(value) for name, value in providers.nodes.get(node.id).custom_headers.items()}
    assert shown == {"X-Team": "secret-t…6789"}
    same = providers.nodes.change(node.id, {"customHeaders": {**shown, "X-New": "n"}}, SYSTEM)
    assert same.custom_headers == {"X-Team": Secret("secret-team-token-0123456789"), "X-New": Secret("n")}
    assert providers.nodes.change(node.id, {"name": "y"}, SYSTEM).custom_headers == same.custom_headers
    assert providers.nodes.change(node.id, {"customHeaders": None}, SYSTEM).custom_headers == {}


def test_another_address_makes_connections_untested(providers: Providers) -> None:
    node = add(providers)
    made = providers.connections.create({"provider": node.id, "apiKey": KEY}, SYSTEM)
    providers.connections.test(made.id, "m", SYSTEM)
    assert providers.connections.get(made.id).test_status == "ok"
    providers.nodes.change(node.id, {"name": "Other"}, SYSTEM)
    assert providers.connections.get(made.id).test_status == "ok"
    providers.nodes.change(node.id, {"baseUrl": "http://127.0.0.1:9001/v1"}, SYSTEM)
    after = providers.connections.get(made.id)
    assert (after.test_status, after.last_tested_at) == ("untested", None)
    assert after.credential == Secret(KEY)
    entry = providers.gateway.audited("provider.node.updated")[-1]
    assert entry.details["from"] == "http://127.0.0.1:9000/v1"
    assert entry.details["to"] == "http://127.0.0.1:9001/v1"


def test_taking_the_local_mark_away_needs_a_public_address(providers: Providers) -> None:
    node = add(providers)
    with pytest.raises(UrlBlocked):
        providers.nodes.change(node.id, {"isLocal": False}, SYSTEM)
    moved = providers.nodes.change(node.id, {"isLocal": False, "baseUrl": "https://api.example/v1"}, SYSTEM)
    assert not moved.is_local


def test_paths_can_be_unusual(providers: Providers) -> None:
    node = add(providers, chatPath="/llm/{model}/chat?api-version=1", modelsPath="/llm/list")
    providers.connections.create({"provider": node.id}, SYSTEM)
    endpoint = providers.directories.current.resolve("mine/m")[0].endpoints[WireFormat.OPENAI_CHAT]
    assert endpoint.url == "http://127.0.0.1:9000/v1/llm/{model}/chat?api-version=1"
    back = providers.nodes.change(node.id, {"chatPath": None}, SYSTEM)
    assert back.chat_path is None


def test_deleting_removes_its_connections(providers: Providers) -> None:
    node = add(providers)
    providers.connections.create({"provider": node.id}, SYSTEM)
    assert providers.nodes.delete(node.id, SYSTEM) == 1
    assert providers.connections.all() == []
    with pytest.raises(NotFound):
        providers.nodes.get(node.id)
    with pytest.raises(NotFound):
        providers.nodes.delete(node.id, SYSTEM)
    assert [entry.action for entry in providers.gateway.audited()][-1] == "provider.node.deleted"


def test_validation_asks_for_the_list(providers: Providers) -> None:
    trial = {"baseUrl": "http://127.0.0.1:9000/v1", "type": "openai-compatible", "isLocal": True, "apiKey": KEY}
    found = providers.nodes.validate(trial)
    assert (found.is_reachable, found.models, found.error) == (True, ("model-a", "model-b"), None)
    (request,) = providers.transport.sent
    assert (request.method, request.url) == ("GET", "http://127.0.0.1:9000/v1/models")
    assert ("Authorization", f"Bearer {KEY}") in request.headers
    providers.transport.handler = lambda request: Reply(401)
    found = providers.nodes.validate(trial)
    assert found.is_reachable
    assert found.error is not None
    assert found.error["code"] == "auth"
    providers.transport.handler = lambda request: UpstreamUnreachable()
    found = providers.nodes.validate(trial)
    assert not found.is_reachable
    assert providers.nodes.all() == []


@pytest.mark.parametrize(
    ("node_type", "url", "path", "body", "models"),
    [
        ("ollama", "http://127.0.0.1:9", "/api/tags", {"models": [{"name": "llama3:8b"}]}, ("llama3:8b",)),
        (
            "gemini-compatible",
            "http://127.0.0.1:9/v1beta",
            "/models",
            {"models": [{"name": "models/gemini-x"}]},
            ("gemini-x",),
        ),
        ("anthropic-compatible", "http://127.0.0.1:9/v1", "/models", {"data": [{"id": "c"}, {"id": 5}, {}]}, ("c",)),
        ("openai-compatible", "http://127.0.0.1:9/v1", "/models", [{"id": "a"}, "b", {"id": "a"}], ("a", "b")),
    ],
)
def test_lists_of_each_type_are_read(
    providers: Providers, node_type: str, url: str, path: str, body: Any, models: tuple[str, ...]
) -> None:
    providers.transport.handler = lambda request: json_reply(body)
    found = providers.nodes.validate({"baseUrl": url, "type": node_type, "isLocal": True})
    assert found.models == models
    assert providers.transport.sent[0].url == url + path


@pytest.mark.parametrize("reply", [Reply(200, b"<html>"), Reply(200, b'{"data": 5}'), Reply(200, b'"x"')])
def test_something_else_than_a_list_is_an_error(providers: Providers, reply: Reply) -> None:
    providers.transport.handler = lambda request: reply
    found = providers.nodes.validate({"baseUrl": "http://127.0.0.1/v1", "type": "openai-compatible", "isLocal": True})
    assert found.is_reachable
    assert found.error is not None

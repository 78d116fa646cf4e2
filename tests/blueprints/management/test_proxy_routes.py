"""`/api/settings/proxy` and `/api/settings/proxies` over HTTP, and requests that take the proxies that they set."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from omniroute.records import Proxy, ProxyType
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app
from tests.fakes.proxies import FakeProxy, fake_proxy
from tests.fakes.upstream import FakeUpstream, answer, fake_upstream, stream

PASSWORD = "a-long-password-of-the-proxy"
MASKED = "a-long-p…roxy"
CONFIG = "/api/settings/proxy"
NAMED = "/api/settings/proxies"
OFFICE = {"type": "http", "host": "proxy.example.com", "port": 3128}
WHOLE = answer(
    json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
    ).encode(),
    headers={"Connection": "close"},
)
"""On connections of its own, so that each request is seen by the proxy that it takes."""
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        built.own.egress._resolver = lambda host, _port: _found(host)  # no test looks a name up elsewhere
        yield built


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application for tests that leave nothing behind."""
    data_dir = tmp_path_factory.mktemp("shared") / "data"
    with whole_app(Settings(data_dir=data_dir, app_log_to_file=False)) as built:
        built.own.egress._resolver = lambda host, _port: _found(host)
        yield built


def _found(host: str) -> list[str]:
    if host == "localhost":
        return ["127.0.0.1"]
    if host == "inner.example.com":
        return ["10.0.0.1"]
    raise OSError


def named(app: App, **fields: Any) -> dict[str, Any]:
    response = app.admin.post(NAMED, json={"name": "office", **OFFICE, **fields})
    assert response.status_code == 201, response.get_json()
    made: dict[str, Any] = response.get_json()["proxy"]
    return made


def put(app: App, **body: Any) -> dict[str, Any]:
    response = app.admin.put(CONFIG, json=body)
    assert response.status_code == 200, response.get_json()
    document: dict[str, Any] = response.get_json()
    return document


def connect(app: App, **fields: Any) -> str:
    body = {"provider": "groq", "apiKey": "sk-live-0123456789abcdefghij", **fields}
    response = app.admin.post("/api/providers", json=body)
    assert response.status_code == 201, response.get_json()
    return str(response.get_json()["connection"]["id"])


def audited(app: App) -> list[Any]:
    entries, _ = app.own.audit.entries(limit=100, action="proxy.changed")
    return list(reversed(entries))


# --- named proxies ---------------------------------------------------------------------------------------------------


def test_the_life_of_a_named_proxy(app: App) -> None:
    made = named(app, port="3128", username="ann", password=PASSWORD)
    assert made["password"] == MASKED
    assert (made["type"], made["port"], made["isActive"], made["problem"]) == ("http", 3128, True, None)
    path = f"{NAMED}/{made['id']}"
    assert app.admin.get(path).get_json() == {"proxy": made}
    listed = app.admin.get(NAMED).get_json()
    assert (listed["proxies"], listed["total"]) == ([made], 1)
    changed = app.admin.patch(path, json={"name": "lab", "password": MASKED}).get_json()["proxy"]
    assert (changed["name"], changed["password"]) == ("lab", MASKED)
    assert app.own.proxies.get(made["id"]).password == app.own.snapshots.current.proxies[0].password
    off = app.admin.patch(NAMED, json={"id": made["id"], "isActive": False}).get_json()["proxy"]
    assert (off["isActive"], off["problem"]) == (False, "is switched off")
    assert app.admin.delete(f"{NAMED}?id={made['id']}").get_json() == {"success": True, "id": made["id"]}
    assert error_of(app.admin.get(path))["code"] == "not_found"
    assert [row.details["change"] for row in audited(app)] == ["created", "updated", "updated", "deleted"]
    assert PASSWORD not in json.dumps([row.details for row in audited(app)])


def test_the_password_is_stored_encrypted(app: App) -> None:
    made = named(app, username="ann", password=PASSWORD)
    data = b"".join(path.read_bytes() for path in app.own.settings.data_dir.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in data
    stored = app.own.proxies.get(made["id"]).password
    assert stored is not None
    assert stored.reveal() == PASSWORD


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": "socks4"}, "type"),
        ({"type": "ftp"}, "type"),
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"port": "12x"}, "port"),
        ({"port": True}, "port"),
        ({"port": 1.5}, "port"),
        ({"host": ""}, "host"),
        ({"host": None}, "host"),
        ({"name": ""}, "name"),
        ({"password": "x"}, "username"),
        ({"username": "a:b"}, "username"),
        ({"username": "a\r\nb"}, "username"),
        ({"username": "ann", "password": "…"}, "password"),
        ({"username": "ann", "password": "é" * 200}, "password"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_wrong_fields_are_named(shared: App, fields: dict[str, Any], field: str) -> None:
    response = shared.admin.post(NAMED, json={"name": "office", **OFFICE, **fields})
    assert response.status_code == 400
    assert field in [detail["field"] for detail in error_of(response)["details"]]
    assert shared.admin.get(NAMED).get_json()["total"] == 0


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "metadata.google.internal",
        "10.0.0.1",
        "inner.example.com",
        "0.0.0.0",
        "2130706433",
        "127.1",
        "a b",
        "http://x",
        "x/y",
        "user@x",
    ],
)
def test_an_address_that_is_not_allowed_is_refused(shared: App, host: str) -> None:
    response = shared.admin.post(NAMED, json={"name": "office", **OFFICE, "host": host})
    assert (response.status_code, error_of(response)["code"]) == (422, "url_blocked")
    response = shared.admin.put(CONFIG, json={"global": {**OFFICE, "host": host}})
    assert (response.status_code, error_of(response)["code"]) == (422, "url_blocked")
    response = shared.admin.post(f"{CONFIG}/test", json={"proxy": {**OFFICE, "host": host}})
    assert (response.status_code, error_of(response)["code"]) == (422, "url_blocked")


def test_a_name_is_taken_once(app: App) -> None:
    named(app)
    other = named(app, name="other")
    again = app.admin.post(NAMED, json={"name": "office", **OFFICE})
    assert (again.status_code, error_of(again)["code"]) == (409, "conflict")
    renamed = app.admin.patch(f"{NAMED}/{other['id']}", json={"name": "office"})
    assert renamed.status_code == 409


def test_a_stored_password_goes_to_no_other_host(app: App) -> None:
    made = named(app, username="ann", password=PASSWORD)
    path = f"{NAMED}/{made['id']}"
    for change in ({"host": "evil.example.com"}, {"port": 1}, {"type": "https"}):
        for more in ({}, {"password": MASKED}):
            refused = app.admin.patch(path, json={**change, **more})
            assert error_of(refused)["details"][0]["field"] == "password", (change, more)
    tried = app.admin.post(f"{CONFIG}/test", json={"proxy": {**made, "host": "evil.example.com"}})
    assert error_of(tried)["details"][0]["field"] == "password"
    moved = app.admin.patch(path, json={"host": "new.example.com", "password": "another password, a long one"})
    assert moved.get_json()["proxy"]["host"] == "new.example.com"
    cleared = app.admin.patch(path, json={"password": None, "username": None}).get_json()["proxy"]
    assert (cleared["username"], cleared["password"]) == (None, None)


def test_a_proxy_in_use_stays(app: App) -> None:
    made = named(app)
    put(app, **{"global": {"id": made["id"]}, "providers": {"groq": {"id": made["id"]}}})
    refused = app.admin.delete(f"{NAMED}/{made['id']}")
    error = error_of(refused)
    assert (refused.status_code, error["code"]) == (409, "in_use")
    assert error["details"]["usedBy"] if isinstance(error.get("details"), dict) else error["usedBy"]
    assert app.admin.delete(f"{NAMED}/{made['id']}?force=true").status_code == 200
    document = app.admin.get(CONFIG).get_json()
    assert (document["global"], document["providers"]) == (None, {})


def test_an_unknown_proxy_is_not_found(shared: App) -> None:
    for response in (
        shared.admin.get(f"{NAMED}/proxy_no"),
        shared.admin.patch(f"{NAMED}/proxy_no", json={"name": "x"}),
        shared.admin.delete(f"{NAMED}/proxy_no"),
        shared.admin.post(f"{CONFIG}/test", json={"proxy": {"id": "proxy_no"}}),
    ):
        assert (response.status_code, error_of(response)["code"]) == (404, "not_found")
    assert shared.admin.delete(NAMED).status_code == 400


# --- levels ----------------------------------------------------------------------------------------------------------


def test_levels_are_set_and_shown(app: App) -> None:
    key_id = app.own.keys.usable()[0].id
    combo = app.admin.post("/api/combos", json={"name": "mix", "models": ["groq/llama-3.3-70b-versatile"]})
    combo_id = (combo.get_json().get("combo") or combo.get_json())["id"]
    made = named(app)
    document = put(
        app,
        **{
            "global": {**OFFICE, "username": "ann", "password": PASSWORD},
            "providers": {"groq": {"id": made["id"]}},
            "combos": {"mix": {"type": "socks5", "host": "127.0.0.1", "port": 1080}},
            "keys": {key_id: {"type": "https", "host": "secure.example.com", "port": "443"}},
        },
    )
    assert document == app.admin.get(CONFIG).get_json()
    assert (document["global"]["name"], document["global"]["password"]) == (None, MASKED)
    assert document["providers"]["groq"]["name"] == "office"
    assert document["combos"][combo_id]["type"] == "socks5"
    assert document["keys"][key_id]["port"] == 443
    assert document["environment"] == {"http": None, "https": None, "except": []}
    assert document["failOpen"] is False
    assert app.admin.get(NAMED).get_json()["total"] == 1, "what belongs to a level is not listed"
    assert app.admin.get(f"{CONFIG}?level=combo&id=mix").get_json() == {
        "level": "combo",
        "id": combo_id,
        "proxy": document["combos"][combo_id],
    }
    sent_back = {name: document[name] for name in ("global", "providers", "combos", "keys")}
    assert put(app, **sent_back) == document, "what was shown may be sent back"
    left = app.admin.delete(f"{CONFIG}?level=provider&id=groq").get_json()
    assert left["providers"] == {}
    assert put(app, **{"global": None})["global"] is None
    one = put(app, level="global", proxy={"id": made["id"]})
    assert one["global"] == made
    assert app.admin.delete(f"{CONFIG}?level=key&id={key_id}").status_code == 200
    assert app.admin.delete(f"{CONFIG}?level=key&id={key_id}").status_code == 404
    assert PASSWORD not in json.dumps([row.details for row in audited(app)])
    assert len(app.own.snapshots.current.proxies) == 2, "what nothing refers to any more is gone"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"providers": {"nobody": OFFICE}}, "id"),
        ({"combos": {"nothing": OFFICE}}, "id"),
        ({"keys": {"key_none": OFFICE}}, "id"),
        ({"global": {"id": "proxy_none"}}, "id"),
        ({"global": {"type": "http", "host": "x.example.com"}}, "port"),
        ({"global": {}}, "type"),
        ({"global": {**OFFICE, "type": "gopher"}}, "global.type"),
        ({"providers": {"groq": {**OFFICE, "port": 0}}}, "providers.groq.port"),
        ({"providers": None}, "providers"),
        ({"providers": []}, "providers"),
        ({"level": "planet", "proxy": OFFICE}, "level"),
        ({"level": "provider", "proxy": OFFICE}, "id"),
        ({"level": "global"}, "proxy"),
        ({"proxy": OFFICE}, "level"),
        ({"environment": {}}, "environment"),
    ],
)
def test_a_wrong_configuration_changes_nothing(shared: App, body: dict[str, Any], field: str) -> None:
    put(shared, **{"global": OFFICE})
    before = shared.admin.get(CONFIG).get_json()
    given = {**body, "combos": body.get("combos", {})}
    response = shared.admin.put(CONFIG, json=given)
    assert response.status_code == 400, response.get_json()
    assert field in [detail["field"] for detail in error_of(response)["details"]]
    assert shared.admin.get(CONFIG).get_json() == before


@pytest.mark.parametrize("proxy", [{}, {"type": "http"}, {"type": "http", "host": "proxy.example.com"}])
def test_a_trial_needs_to_know_where_the_proxy_is(shared: App, proxy: dict[str, Any]) -> None:
    response = shared.admin.post(f"{CONFIG}/test", json={"proxy": proxy})
    assert (response.status_code, error_of(response)["code"]) == (400, "validation_failed")


def test_a_named_proxy_is_not_changed_by_a_level(app: App) -> None:
    made = named(app)
    response = app.admin.put(CONFIG, json={"global": {**made, "port": 1}})
    assert "named proxy" in error_of(response)["message"]
    put(app, **{"global": made})
    own = put(app, **{"global": {**OFFICE, "port": 1}})["global"]
    assert own["id"] != made["id"]
    assert app.admin.get(f"{NAMED}/{made['id']}").get_json()["proxy"] == made


def test_levels_of_what_is_gone_are_gone(app: App) -> None:
    node = {"name": "n", "prefix": "nn", "type": "openai-compatible", "baseUrl": "https://n.example.com/v1"}
    node_id = app.admin.post("/api/provider-nodes", json=node).get_json()["node"]["id"]
    put(app, providers={node_id: OFFICE})
    assert app.admin.delete(f"/api/provider-nodes/{node_id}").status_code == 200
    assert app.admin.get(CONFIG).get_json()["providers"] == {}
    put(app, **{"global": None})
    assert app.own.snapshots.current.proxies == ()


def test_what_comes_of_it_for_a_connection(app: App) -> None:
    connection = connect(app)

    def resolved(more: str = "") -> dict[str, Any]:
        found: dict[str, Any] = app.admin.get(f"{CONFIG}?resolve={connection}{more}").get_json()["effective"]
        return found

    assert (resolved()["level"], resolved()["proxy"], resolved()["url"]) == ("none", None, None)
    put(app, **{"global": {**OFFICE, "username": "ann", "password": PASSWORD}})
    assert resolved()["level"] == "global"
    assert resolved()["url"] == "http://ann:***@proxy.example.com:3128"
    made = named(app)
    put(app, providers={"groq": {"id": made["id"]}})
    assert (resolved()["level"], resolved()["levelId"], resolved()["proxy"]) == ("provider", "groq", made)
    key_id = app.own.keys.usable()[0].id
    put(app, keys={key_id: {"id": made["id"]}})
    assert resolved(f"&key={key_id}")["level"] == "key"
    app.admin.put(f"/api/providers/{connection}", json={"proxyEnabled": False})
    assert (resolved()["level"], resolved()["proxyEnabled"]) == ("none", False)
    assert resolved(f"&key={key_id}")["level"] == "key"
    assert app.admin.get(f"{CONFIG}?resolve=conn_none").status_code == 404
    assert app.admin.get(f"{CONFIG}?resolve={connection}&key=none").status_code == 400


def test_what_the_server_was_started_with_is_shown(settings: Settings) -> None:
    proxy = Proxy("", "x", ProxyType.SOCKS5, "env.example.com", 1080, "ann", None)
    with whole_app(settings, all_proxy=proxy, no_proxy=("internal",)) as app:
        environment = app.admin.get(CONFIG).get_json()["environment"]
        shown = "socks5://ann:***@env.example.com:1080"
        assert environment == {"http": shown, "https": shown, "except": ["internal"]}
        effective = app.admin.get(f"{CONFIG}?resolve={connect(app)}").get_json()["effective"]
        assert (effective["level"], effective["url"], effective["proxy"]) == ("environment", shown, None)


def test_only_admins_change_proxies(shared: App) -> None:
    reader = shared.client(shared.key())
    for method, path in (("put", CONFIG), ("post", NAMED), ("post", f"{CONFIG}/test"), ("get", CONFIG)):
        assert getattr(reader, method)(path, json={}).status_code == 403, path
    assert shared.client().get(CONFIG).status_code == 401


# --- trying ----------------------------------------------------------------------------------------------------------


def trial(app: App, proxy: Any, **more: Any) -> dict[str, Any]:
    response = app.admin.post(f"{CONFIG}/test", json={"proxy": proxy, **more})
    assert response.status_code == 200, response.get_json()
    document: dict[str, Any] = response.get_json()
    assert PASSWORD not in json.dumps(document)
    return document


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_a_proxy_that_works(settings: Settings, kind: str) -> None:
    with fake_upstream(answer(b'{"ip":"93.184.215.14"}')) as service, fake_proxy(kind, service.port) as proxy:
        proxy.login = ("ann", PASSWORD)
        with whole_app(settings, public_ip_url=f"{service.url}/ip") as app:
            given = {"type": kind, "host": "localhost", "port": proxy.port, "username": "ann", "password": PASSWORD}
            found = trial(app, given)
            assert (found["success"], found["publicIp"]) == (True, "93.184.215.14")
            assert found["proxyUrl"] == f"{kind}://ann:***@localhost:{proxy.port}"
            assert found["latencyMs"] > 0
            assert b"uthorization" not in service.received[0].head.replace(b"Proxy-Authorization", b"")
            made = named(app, **given)
            off = app.admin.patch(f"{NAMED}/{made['id']}", json={"isActive": False}).get_json()["proxy"]
            assert trial(app, {"id": made["id"]})["success"], "one that is switched off can be tried"
            assert trial(app, off)["success"], "the password is the stored one"
            assert trial(app, given, target=f"{service.url}/other")["publicIp"] == "93.184.215.14"
            assert service.received[-2].head.startswith(b"GET /other ")


def test_a_proxy_that_works_while_nobody_tells_addresses(settings: Settings) -> None:
    with fake_upstream(answer(b"<html>", status=404)) as service, fake_proxy("http", service.port) as proxy:
        given = {"type": "http", "host": "localhost", "port": proxy.port}
        with whole_app(settings, public_ip_url=None) as app:
            assert (trial(app, given, target=service.url)["success"]) is True
            response = app.admin.post(f"{CONFIG}/test", json={"proxy": given})
            assert error_of(response)["details"][0]["field"] == "target"
        with whole_app(settings, public_ip_url=service.url) as app:
            found = trial(app, given)
            assert (found["success"], found["publicIp"]) == (True, None)


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
def test_a_proxy_that_does_not_work(settings: Settings, kind: str) -> None:
    with socket.socket() as closed, whole_app(settings, public_ip_url="http://127.0.0.1:1") as app:
        closed.bind(("127.0.0.1", 0))
        found = trial(app, {"type": kind, "host": "127.0.0.1", "port": closed.getsockname()[1]})
        assert (found["success"], found["publicIp"]) == (False, None)
        assert found["error"]["code"] == "proxy_unavailable"
        assert "cannot be reached" in found["error"]["message"]


def test_a_proxy_that_refuses_can_be_tried_again_at_once(settings: Settings) -> None:
    with (
        fake_upstream(answer(b"1")) as service,
        fake_proxy("http", service.port, fate=407) as proxy,
        whole_app(settings, public_ip_url=service.url) as app,
    ):
        given = {"type": "http", "host": "127.0.0.1", "port": proxy.port}
        assert "wants a user name" in trial(app, given)["error"]["message"]
        proxy.fate = ""
        assert trial(app, given)["success"] is True


def test_the_target_of_a_trial_passes_the_guard(shared: App) -> None:
    for target in ("http://10.0.0.1/", "https://169.254.169.254/", "ftp://x.example.com/", "https://a@b.example.com/"):
        response = shared.admin.post(f"{CONFIG}/test", json={"proxy": OFFICE, "target": target})
        assert (response.status_code, error_of(response)["code"]) == (422, "url_blocked")


# --- requests that take them -----------------------------------------------------------------------------------------


@dataclass
class World:
    """An application with one provider behind a node, and a proxy for each level."""

    app: App
    upstream: FakeUpstream
    node_id: str
    connection_id: str
    proxies: dict[str, FakeProxy]

    def ask(self, model: str = "up/m", key: str | None = None, **more: Any) -> Any:
        return self.app.client(key or self.app.key()).post(
            "/v1/chat/completions", json={"model": model, **HELLO, **more}
        )

    def given(self, level: str) -> dict[str, Any]:
        return {"type": "http", "host": "127.0.0.1", "port": self.proxies[level].port}

    def taken(self) -> list[str]:
        found = [level for level, proxy in self.proxies.items() if proxy.asked]
        for proxy in self.proxies.values():
            proxy.asked.clear()
        return found


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with ExitStack() as stack:
        upstream = stack.enter_context(fake_upstream(WHOLE))
        proxies = {
            level: stack.enter_context(fake_proxy("http", upstream.port))
            for level in ("key", "combo", "provider", "global", "environment")
        }
        port = proxies["environment"].port
        environment = Proxy("", "x", ProxyType.HTTP, "127.0.0.1", port)
        app = stack.enter_context(whole_app(settings, all_proxy=environment))
        yield _world(app, upstream, proxies)


def _world(app: App, upstream: FakeUpstream, proxies: dict[str, FakeProxy]) -> World:
    node = {
        "name": "up",
        "prefix": "up",
        "type": "openai-compatible",
        "baseUrl": f"{upstream.url}/v1",
        "isLocal": True,
    }
    node_id = app.admin.post("/api/provider-nodes", json=node).get_json()["node"]["id"]
    connection_id = connect(app, provider=node_id)
    app.admin.post("/api/combos", json={"name": "mix", "models": ["up/m"]})
    return World(app, upstream, node_id, connection_id, proxies)


def test_precedence_of_requests(world: World) -> None:
    app = world.app
    secret = app.key(name="bound")
    key_id = next(key.id for key in app.own.keys.usable() if key.name == "bound")
    assert world.ask("mix", secret).status_code == 200
    assert world.taken() == ["environment"]
    for level, body in (
        ("global", {"global": world.given("global")}),
        ("provider", {"providers": {world.node_id: world.given("provider")}}),
        ("combo", {"combos": {"mix": world.given("combo")}}),
        ("key", {"keys": {key_id: world.given("key")}}),
    ):
        put(app, **body)
        answered = world.ask("mix", secret)
        assert answered.status_code == 200, answered.get_json()
        assert world.taken() == [level]
    assert world.ask("up/m", secret).status_code == 200
    assert world.taken() == ["key"]
    assert world.ask("up/m").status_code == 200
    assert world.taken() == ["provider"]
    assert world.ask("mix").status_code == 200
    assert world.taken() == ["combo"]
    app.admin.put(f"/api/providers/{world.connection_id}", json={"proxyEnabled": False})
    assert world.ask("up/m").status_code == 200
    assert world.taken() == []
    assert world.ask("mix").status_code == 200
    assert world.taken() == ["combo"]


def test_streams_take_them_too(world: World) -> None:
    chunk = {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "hi"}}]}
    done = {"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    frames = [f"data: {json.dumps(one)}\n\n".encode() for one in (chunk, done)]
    world.upstream.acts[:] = [stream(*frames, b"data: [DONE]\n\n")]
    put(world.app, **{"global": world.given("global")})
    with world.ask(stream=True) as answered:
        assert b'"hi"' in answered.data
    assert world.taken() == ["global"]


def test_tests_and_lists_take_them_too(world: World) -> None:
    put(world.app, providers={world.node_id: world.given("provider")})
    assert world.app.admin.post(f"/api/providers/{world.connection_id}/test", json={"model": "m"}).status_code == 200
    assert world.taken() == ["provider"]
    tested = world.app.admin.post("/api/combos/test", json={"comboName": "mix"})
    assert tested.status_code == 200, tested.get_json()
    assert world.taken() == ["provider"]
    put(world.app, combos={"mix": world.given("combo")})
    assert world.app.admin.post("/api/combos/test", json={"comboName": "mix"}).status_code == 200
    assert world.taken() == ["combo"]
    node = {"type": "openai-compatible", "baseUrl": f"{world.upstream.url}/v1", "isLocal": True}
    assert world.app.admin.post("/api/provider-nodes/validate", json=node).status_code == 200
    assert world.taken() == ["environment"]


def test_a_dead_proxy_refuses_and_the_account_is_not_to_blame(world: World) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        named_proxy = named(world.app, host="127.0.0.1", port=closed.getsockname()[1], username="u", password=PASSWORD)
        put(world.app, **{"global": {"id": named_proxy["id"]}})
        refused = world.ask()
        assert refused.status_code == 503
        error = refused.get_json()["error"]
        assert error["code"] == "proxy_unavailable"
        assert error["message"] == "The outbound proxy 'office' cannot be reached."
        assert refused.headers["Retry-After"]
        shown = world.app.admin.get(f"/api/providers/{world.connection_id}").get_json()["connection"]
        assert (shown["status"], shown["cooldownUntil"]) == ("untested", None)
        assert world.upstream.received == []
        tested = world.app.admin.post(f"/api/providers/{world.connection_id}/test", json={"model": "m"}).get_json()
        assert tested["valid"] is False
        assert "'office' cannot be reached" in json.dumps(tested, ensure_ascii=False)
    put(world.app, **{"global": None})
    assert world.ask().status_code == 200


def test_another_target_with_another_proxy_serves(world: World) -> None:
    app = world.app
    node = {
        "name": "two",
        "prefix": "two",
        "type": "openai-compatible",
        "baseUrl": f"{world.upstream.url}/v1",
        "isLocal": True,
    }
    node_id = app.admin.post("/api/provider-nodes", json=node).get_json()["node"]["id"]
    connect(app, provider=node_id)
    app.admin.post("/api/combos", json={"name": "both", "models": ["up/m", "two/m"]})
    world.proxies["provider"].fate = 407
    put(app, providers={world.node_id: world.given("provider"), node_id: world.given("global")})
    answered = world.ask("both")
    assert answered.status_code == 200, answered.get_json()
    assert answered.headers["X-OmniRoute-Model"] == "two/m"
    assert world.taken() == ["provider", "global"]


def test_without_the_proxy_where_the_operator_says_so(settings: Settings) -> None:
    with socket.socket() as closed, fake_upstream(WHOLE) as upstream:
        closed.bind(("127.0.0.1", 0))
        proxy = Proxy("", "x", ProxyType.HTTP, "127.0.0.1", closed.getsockname()[1])
        with whole_app(settings, all_proxy=proxy) as app:
            assert _world(app, upstream, {}).ask().status_code == 503
        with whole_app(dataclasses.replace(settings, proxy_fail_open=True), all_proxy=proxy) as app:
            answered = app.client(app.key()).post("/v1/chat/completions", json={"model": "up/m", **HELLO})
            assert answered.status_code == 200

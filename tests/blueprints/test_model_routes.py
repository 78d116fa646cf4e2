"""`/v1/models` at every mount, in both shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.services.keys import SYSTEM
from omniroute.settings import Settings
from tests.blueprints.app import App, whole_app

VERSION = {"anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application for tests that leave nothing behind."""
    data_dir = tmp_path_factory.mktemp("shared") / "data"
    with whole_app(Settings(data_dir=data_dir, app_log_to_file=False)) as built:
        _connect(built)
        yield built


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        _connect(built)
        yield built


def _connect(built: App) -> None:
    for provider in ("deepseek", "anthropic"):
        built.own.connections.create({"provider": provider, "apiKey": "sk-live-0123456789abcdefghij"}, SYSTEM)


def ids(document: Any) -> list[str]:
    return [entry["id"] for entry in document["data"]]


@pytest.mark.parametrize("mount", ["/v1", "/v1/v1", "/api/v1", ""])
def test_every_mount(shared: App, mount: str) -> None:
    client = shared.client()
    listed = client.get(f"{mount}/models")
    assert listed.status_code == 200
    assert {"ds/deepseek-chat", "sandbox/echo"} <= set(ids(listed.get_json()))
    assert listed.headers["X-Total-Count"] == str(len(ids(listed.get_json())))
    one = client.get(f"{mount}/models/ds/deepseek-chat")
    assert one.get_json()["id"] == "ds/deepseek-chat"


def test_the_anthropic_shape(shared: App) -> None:
    document = shared.client().get("/v1/models", headers=VERSION).get_json()
    assert document["data"][0]["type"] == "model"
    assert document["first_id"] == document["data"][0]["id"]
    page = shared.client().get(f"/v1/models?limit=1&after_id={document['first_id']}", headers=VERSION).get_json()
    assert ids(page) == ids(document)[1:2]
    one = shared.client().get("/v1/models/anthropic/claude-opus-4-7", headers=VERSION).get_json()
    assert one["display_name"] == "claude-opus-4-7"


def test_queries(shared: App) -> None:
    def found(query: str) -> list[str]:
        return ids(shared.client().get(f"/v1/models?{query}").get_json())

    assert all(name.startswith("deepseek/") for name in found("prefix=canonical&provider=ds"))
    assert len(found("prefix=dual&provider=ds")) == 2 * len(found("provider=ds"))
    assert found("type=image") == []
    assert len(found("limit=3&offset=1")) == 3
    for query in ("type=car", "prefix=none", "limit=0", "limit=x", "offset=-1", "limit=٣"):
        response = shared.client().get(f"/v1/models?{query}")
        assert response.status_code == 400
        assert response.get_json()["error"]["param"] == query.partition("=")[0]


def test_the_operator_chooses_what_stands_before_the_slash(app: App) -> None:
    changed = app.admin.patch("/api/settings", json={"modelPrefix": "canonical"})
    assert changed.status_code == 200
    assert "deepseek/deepseek-chat" in ids(app.client().get("/v1/models").get_json())
    assert "ds/deepseek-chat" in ids(app.client().get("/v1/models?prefix=alias").get_json())


@pytest.mark.parametrize(
    ("path", "headers"), [("/v1/models", VERSION), ("/v1beta/models", {}), ("/api/tags", {}), ("/v1/models", {})]
)
def test_every_shape_has_a_tag(shared: App, path: str, headers: dict[str, str]) -> None:
    first = shared.client().get(path, headers=headers)
    again = shared.client().get(path, headers={**headers, "If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code, again.data) == (200, 304, b"")


def test_an_unchanged_list_is_not_sent_again(app: App) -> None:
    first = app.client().get("/v1/models")
    again = app.client().get("/v1/models", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert again.data == b""
    assert again.headers["X-Model-Catalog-Version"] == first.headers["X-Model-Catalog-Version"]
    app.own.connections.create({"provider": "groq", "apiKey": "sk-live-0123456789abcdefghij"}, SYSTEM)
    changed = app.client().get("/v1/models", headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200
    assert changed.headers["X-Model-Catalog-Version"] != first.headers["X-Model-Catalog-Version"]


def test_a_key_sees_what_it_may_use(shared: App) -> None:
    key = shared.key(allowedModels=("ds/*",))
    seen = ids(shared.client(key).get("/v1/models").get_json())
    assert all(name.startswith(("ds/", "auto")) for name in seen), "channels are left, for what they may choose there"
    assert shared.client(key).get("/v1/models/ds/deepseek-chat").status_code == 200
    assert shared.client(key).get("/v1/models/sandbox/echo").status_code == 404
    blocked = shared.key(blockedModels=("sandbox/*",))
    assert not [
        name for name in ids(shared.client(blocked).get("/v1/models").get_json()) if name.startswith("sandbox/")
    ]
    free = shared.key(hidePaidModels=True)
    assert "ds/deepseek-chat" not in ids(shared.client(free).get("/v1/models").get_json())
    tied = shared.key(allowedConnections=("sandbox",))
    assert {name.partition("/")[0] for name in ids(shared.client(tied).get("/v1/models").get_json())} == {"sandbox"}


@pytest.mark.parametrize("name", ["nobody/x", "groq/x", "ds/not-listed"])
def test_no_such_model(shared: App, name: str) -> None:
    response = shared.client().get(f"/v1/models/{name}")
    assert response.status_code == 404
    assert response.get_json()["error"]["param"] == "model"


@pytest.mark.parametrize("name", ["..%2F..%2Fetc", "x%00y", "a%5Cb", "ds/..", "%2e%2e/x", "x" * 400])
def test_names_that_are_none(shared: App, name: str) -> None:
    response = shared.client().get(f"/v1/models/{name}")
    assert response.status_code in (400, 404)
    assert "error" in response.get_json()


def test_a_stranger_needs_a_key(shared: App) -> None:
    assert shared.client(address="203.0.113.5").get("/v1/models").status_code == 401


def test_the_banner(shared: App) -> None:
    assert shared.client(address="203.0.113.5").get("/v1").get_json()["name"] == "OmniRoute"


def test_head_works_where_get_does(shared: App) -> None:
    response = shared.client().head("/v1/models")
    assert (response.status_code, response.data) == (200, b"")

"""One key: its settings, usage, budgets, secret and end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.blueprints.dashboard.conftest import Pages, field_of, text_of
from tests.blueprints.dashboard.emptied import empty, opened


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with opened(tmp_path_factory.mktemp("pages")) as pages:
        yield pages


@pytest.fixture
def pages(world: Pages) -> Iterator[Pages]:
    yield world
    empty(world)


def make(pages: Pages, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Return the page of a new key, and the key."""
    made = pages.api("POST", "/api/keys", {"name": "laptop", **fields})
    return f"/dashboard/keys/{made['id']}", made


def stored(pages: Pages, key_id: str) -> dict[str, Any]:
    found: dict[str, Any] = pages.api("GET", f"/api/keys/{key_id}")["key"]
    return found


def secret_of(answer: Any) -> str:
    found = re.search(r'<code id="new-key">(sk-[^<]+)</code>', text_of(answer))
    assert found is not None
    return found[1]


def test_usage_models_and_requests(pages: Pages) -> None:
    path, key = make(pages)
    body = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hello"}]}
    pages.app.client(key["key"]).post("/v1/chat/completions", json=body)
    pages.app.own.request_log.flush()
    page = pages.get(f"{path}?range=24h")
    assert "sandbox/echo" in page
    assert 'id="key-figures"' in page
    assert "Show table" in page
    assert key["key"] not in page
    assert "No request with this key in this time." in pages.get(make(pages, name="other")[0])


def test_settings_are_changed_and_the_time_of_expiry_stays(pages: Pages) -> None:
    path, key = make(pages, expiresAt="2030-01-02T03:04:05Z", allowedModels=["sandbox/*"])
    page = pages.get(path)
    assert field_of(page, "expires") == "2030-01-02"
    sent = {"do": "save", "name": "desk", "kind": "inference", "expires": "2030-01-02", "allowedModels": "groq/*"}
    assert "The key is saved." in pages.after(pages.post(path, sent))
    now = stored(pages, key["id"])
    assert (now["name"], now["allowedModels"], now["expiresAt"]) == ("desk", ["groq/*"], "2030-01-02T03:04:05.000Z")
    assert now["scopes"] == ["chat", "self:usage"]
    pages.post(path, {**sent, "expires": ""})
    assert stored(pages, key["id"])["expiresAt"] is None


def test_wrong_settings_keep_what_was_typed(pages: Pages) -> None:
    path, key = make(pages)
    page = text_of(pages.post(path, {"do": "save", "name": "", "kind": "inference", "rules": "x"}, expect=400))
    assert 'id="f-name-fault"' in page
    assert field_of(page, "rules") == "x"
    assert stored(pages, key["id"])["name"] == "laptop"


def test_a_key_is_disabled_and_enabled(pages: Pages) -> None:
    path, key = make(pages)
    assert "The key is disabled" in pages.after(pages.post(f"{path}/switch", {"isActive": "false"}))
    assert pages.app.client(key["key"]).get("/v1/models").status_code == 403
    assert "The key is enabled." in pages.after(pages.post(f"{path}/switch", {"isActive": "true"}))
    assert pages.app.client(key["key"]).get("/v1/models").status_code == 200


def test_a_new_secret_and_the_old_one_for_a_while(pages: Pages) -> None:
    path, key = make(pages)
    answer = pages.post(f"{path}/regenerate", {"graceSec": "3600"}, expect=201)
    assert answer.headers["Cache-Control"] == "no-store"
    assert "The old key still works until:" in text_of(answer)
    new = secret_of(answer)
    for secret in (new, key["key"]):
        assert pages.app.client(secret).get("/v1/models").status_code == 200
    at_once = pages.post(f"{path}/regenerate", {"graceSec": "0"}, expect=201)
    assert "The old key no longer works." in text_of(at_once)
    assert pages.app.client(new).get("/v1/models").status_code == 401
    assert "(code " in pages.after(pages.post(f"{path}/regenerate", {"graceSec": "for ever"}))


def test_budgets_and_token_limits(pages: Pages) -> None:
    path, key = make(pages)
    assert "This key has no budget and no limit." in pages.get(path)
    page = pages.after(pages.post(f"{path}/budget", {"period": "weekly", "limit": "7,5"}))
    assert "The budget is saved." in page
    [budget] = pages.api("GET", f"/api/usage/budget?keyId={key['id']}")["budgets"]
    assert (budget["period"], budget["limit"]) == ("weekly", 7.5)
    pages.post(f"{path}/token-limits", {"period": "daily", "tokenLimit": "5000", "scopeType": "global"})
    pages.post(
        f"{path}/token-limits",
        {"period": "daily", "tokenLimit": "9", "scopeType": "provider", "scopeValue": "sandbox"},
    )
    limits = pages.api("GET", f"/api/usage/token-limits?keyId={key['id']}")["limits"]
    assert {(one["tokenLimit"], one["scopeValue"]) for one in limits} == {(5000, None), (9, "sandbox")}
    for one in limits:
        pages.post(f"{path}/token-limits", {"do": "remove", "id": one["id"]})
    pages.post(f"{path}/budget", {"do": "remove", "period": "weekly"})
    assert "This key has no budget and no limit." in pages.get(path)
    assert "(code " in pages.after(pages.post(f"{path}/budget", {"period": "weekly", "limit": "much"}))
    assert "(code " in pages.after(pages.post(f"{path}/token-limits", {"period": "daily", "tokenLimit": "much"}))


def test_a_key_is_deleted_only_by_its_name(pages: Pages) -> None:
    path, key = make(pages)
    assert "Nothing was deleted" in pages.after(pages.post(f"{path}/delete", {"confirmName": "other"}))
    assert "The key laptop is deleted." in pages.after(pages.post(f"{path}/delete", {"confirmName": "laptop"}))
    assert pages.app.client(key["key"]).get("/v1/models").status_code == 401
    assert "(code not_found)" in pages.after(pages.post(f"{path}/delete", {"confirmName": "laptop"}))


def test_what_is_stored_as_a_hash_cannot_be_shown(pages: Pages) -> None:
    path, _key = make(pages)
    page = pages.get(path)
    assert "Only the hash of this key is stored" in page
    assert "Show the key" not in page
    assert "(code reveal_disabled)" in pages.after(pages.post(f"{path}/reveal"))


def test_a_key_is_shown_again_where_that_is_allowed(tmp_path: Path) -> None:
    with opened(tmp_path, ALLOW_API_KEY_REVEAL="true", STORAGE_ENCRYPTION_KEY="a" * 64) as pages:
        path, key = make(pages)
        assert "Show the key" in pages.get(path)
        answer = pages.post(f"{path}/reveal", expect=200)
        assert answer.headers["Cache-Control"] == "no-store"
        assert secret_of(answer) == key["key"]

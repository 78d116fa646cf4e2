"""A key is shown once: lists, logs, audit rows, pages and files hold its prefix at most."""

from __future__ import annotations

import re

from tests.blueprints.dashboard.conftest import Pages, pages, text_of
from tests.harness import PASSWORD, Gateway

__all__ = ["pages"]

ORIGIN = {"Origin": "http://localhost:20128"}
ROUTES_THAT_SPEAK_OF_KEYS = [
    "/api/keys",
    "/api/usage/logs",
    "/api/audit",
    "/api/monitoring/health",
    "/api/settings/authz",
]


def test_a_key_is_in_its_first_answer_only(gateway: Gateway) -> None:
    client = gateway.logged_in()
    made = client.post("/api/keys", json={"name": "once"}, headers=ORIGIN).get_json()
    secret, row_id = made["key"], made["id"]
    assert secret.startswith("sk-")
    assert secret.count("-") >= 3
    paths = [*ROUTES_THAT_SPEAK_OF_KEYS, f"/api/keys/{row_id}"]
    for path in paths:
        body = client.get(path).get_data(as_text=True)
        assert secret not in body, path
        assert secret[8:-4] not in body, path
    changed = client.patch(f"/api/keys/{row_id}", json={"name": "twice"}, headers=ORIGIN)
    assert secret not in changed.get_data(as_text=True)
    shown = client.get(f"/api/keys/{row_id}").get_json()["key"]["key"]
    assert shown == f"{secret[:8]}…{secret[-4:]}"


def test_regenerating_shows_the_new_one_once(gateway: Gateway) -> None:
    client = gateway.logged_in()
    made = client.post("/api/keys", json={"name": "once"}, headers=ORIGIN).get_json()
    new = client.post(f"/api/keys/{made['id']}/regenerate", headers=ORIGIN).get_json()["key"]
    assert new != made["key"]
    for path in ROUTES_THAT_SPEAK_OF_KEYS:
        body = client.get(path).get_data(as_text=True)
        assert new not in body
        assert made["key"] not in body


def test_the_page_shows_a_new_key_on_that_answer_only(pages: Pages) -> None:
    page = pages.post("/dashboard/keys/new", {"name": "laptop", "kind": "inference", "do": "save"}, expect=201)
    assert page.headers["Cache-Control"] == "no-store"
    found = re.search(r"sk-[A-Za-z0-9_-]{40,}", text_of(page))
    assert found is not None
    assert pages.app.client(found[0]).get("/v1/models").status_code == 200
    (key,) = pages.api("GET", "/api/keys?q=laptop")["keys"]
    for path in (
        "/dashboard",
        "/dashboard/keys",
        f"/dashboard/keys/{key['id']}",
        "/dashboard/audit",
        "/dashboard/logs",
    ):
        assert found[0] not in pages.get(path)


def test_no_file_holds_a_key_a_session_or_the_password(gateway: Gateway) -> None:
    client = gateway.logged_in()
    secret = client.post("/api/keys", json={"name": "once"}, headers=ORIGIN).get_json()["key"]
    cookie = client.get_cookie("auth_token")
    assert cookie is not None
    gateway.database.dispose()
    needles = [secret, secret[16:59], cookie.value, PASSWORD]
    for file in gateway.settings.data_dir.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            for needle in needles:
                assert needle.encode() not in content, file.name

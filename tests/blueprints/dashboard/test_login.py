"""Getting in and out without a script; what every page has."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.datastructures import MultiDict

from omniroute.secret import Secret
from tests.blueprints.dashboard.conftest import PASSWORD as OWN_PASSWORD
from tests.blueprints.dashboard.conftest import Pages
from tests.harness import PASSWORD, Gateway

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
ORIGIN = {"Origin": "http://localhost:20128"}


def text_of(answer: Any) -> str:
    return str(answer.get_data(as_text=True))


def token_in(page: str) -> str:
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_logging_in_and_out_by_forms_alone(gateway: Gateway) -> None:
    client = gateway.client()
    assert client.get("/", headers=BROWSER).headers["Location"] == "/dashboard"
    away = client.get("/dashboard/account")
    assert away.headers["Location"] == "/login?next=/dashboard/account"
    page = text_of(client.get("/login?next=/dashboard"))
    form = {"password": PASSWORD, "next": "/dashboard", "csrf_token": token_in(page)}
    inside = client.post("/login", data=form)  # a browser that sends neither Origin nor Referer
    assert inside.status_code == 303
    assert inside.headers["Location"] == "/dashboard"
    inside_page = client.get("/dashboard/account")
    assert inside_page.status_code == 200
    assert client.get("/", headers=BROWSER).headers["Location"] == "/dashboard"
    assert client.get("/login").headers["Location"] == "/dashboard"
    out = client.post("/logout", data={"csrf_token": token_in(text_of(inside_page))})
    assert out.headers["Location"] == "/login"
    assert client.get("/dashboard/account").status_code == 302


@pytest.mark.parametrize("accept", ["*/*", "application/json", None])
def test_a_program_at_the_root_is_in_the_right_place(gateway: Gateway, accept: str | None) -> None:
    headers = {} if accept is None else {"Accept": accept}
    found = gateway.client(address="203.0.113.5").get("/", headers=headers)
    assert found.status_code == 200
    assert set(found.get_json()) == {"name", "version"}
    looked = gateway.client(address="203.0.113.5").head("/", headers=headers)
    assert (looked.status_code, looked.get_data()) == (200, b"")


def test_a_wrong_password_is_said_on_the_page(gateway: Gateway) -> None:
    client = gateway.client()
    answer = client.post("/login", data={"password": "wrong"}, headers=ORIGIN)
    assert answer.status_code == 401
    assert "The password is not right." in text_of(answer)
    assert "wrong" not in text_of(answer)
    empty = client.post("/login", data={}, headers=ORIGIN)
    assert empty.status_code == 400
    assert "Enter the password." in text_of(empty)
    for _ in range(4):
        client.post("/login", data={"password": "wrong"}, headers=ORIGIN)
    locked = client.post("/login", data={"password": PASSWORD}, headers=ORIGIN)
    assert locked.status_code == 429
    assert locked.headers["Retry-After"]
    assert "Try again in 15 minutes" in text_of(locked)


def test_a_login_form_without_proof_of_origin_is_refused(gateway: Gateway) -> None:
    answer = gateway.client().post("/login", data={"password": PASSWORD})
    assert answer.status_code == 403
    assert gateway.sessions.open_sessions() == ()


def test_unsafe_values_are_shown_as_a_banner(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(jwt_secret=Secret("short"), initial_password=Secret("CHANGEME"))
    page = text_of(gateway.logged_in().get("/dashboard/account"))
    assert "JWT_SECRET has fewer than 32 characters" in page
    assert "INITIAL_PASSWORD has a value that is printed" in page
    assert "CHANGEME" not in page


def test_every_page_has_a_language_a_title_and_a_way_past_the_header(gateway: Gateway) -> None:
    client = gateway.logged_in()
    for answer in (gateway.client().get("/login"), client.get("/dashboard/account"), client.get("/nowhere")):
        page = text_of(answer)
        assert '<html lang="en"' in page
        assert "<title>" in page
        assert 'href="#content"' in page
        assert 'id="content"' in page
        ids = re.findall(r' id="([^"]+)"', page)
        assert len(ids) == len(set(ids))
        for target in re.findall(r' for="([^"]+)"', page):
            assert target in ids


def test_what_was_typed_when_a_session_ended_comes_back_after_the_login(pages: Pages) -> None:
    pages.client.post("/logout", headers=ORIGIN)
    form = {"sessionId": "ses_1", "apiKey": "sk-secret", "note": "two\nlines", "many": ["a", "b"]}
    page = text_of(pages.client.post("/dashboard/account/sessions", data=form, headers=ORIGIN))
    assert "The session has ended." in page
    assert "sk-secret" not in page
    kept = re.findall(r'name="(kept\.[^"]+)" value="([^"]*)"', page)
    assert kept == [("kept.sessionId", "ses_1"), ("kept.note", "two\nlines"), ("kept.many", "a"), ("kept.many", "b")]
    login = MultiDict([("password", OWN_PASSWORD), ("next", "/dashboard/account/sessions"), *kept])
    answer = pages.client.post("/login", data=login, headers=ORIGIN)
    assert answer.status_code == 200
    again = text_of(answer)
    assert 'action="/dashboard/account/sessions"' in again
    assert 'name="sessionId" value="ses_1"' in again
    assert again.count('name="many"') == 2


def test_a_wrong_password_keeps_what_was_typed_too(pages: Pages) -> None:
    pages.client.post("/logout", headers=ORIGIN)
    form = {"password": "guess", "next": "/dashboard", "kept.note": "precious"}
    page = text_of(pages.client.post("/login", data=form, headers=ORIGIN))
    assert 'name="kept.note" value="precious"' in page


def test_a_form_of_another_site_is_not_kept(pages: Pages) -> None:
    pages.client.post("/logout", headers=ORIGIN)
    answer = pages.client.post(
        "/dashboard/account/sessions", data={"note": "x"}, headers={"Origin": "http://evil.test"}
    )
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/login"


def test_a_block_without_a_session_leaves_the_page_alone(pages: Pages) -> None:
    pages.client.post("/logout", headers=ORIGIN)
    answer = pages.block("/dashboard", "now")
    assert (answer.status_code, answer.get_data()) == (401, b"")

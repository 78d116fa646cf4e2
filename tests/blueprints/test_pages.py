"""The pages work without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from omniroute.blueprints.dashboard.figures import duration, grouped, percent, short, uptime
from omniroute.records import RequestRecord
from omniroute.secret import Secret
from tests.harness import NOW, PASSWORD, Gateway

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
    away = client.get("/dashboard")
    assert away.headers["Location"] == "/login?next=/dashboard"
    page = text_of(client.get("/login?next=/dashboard"))
    form = {"password": PASSWORD, "next": "/dashboard", "csrf_token": token_in(page)}
    inside = client.post("/login", data=form)  # a browser that sends neither Origin nor Referer
    assert inside.status_code == 303
    assert inside.headers["Location"] == "/dashboard"
    overview = client.get("/dashboard")
    assert overview.status_code == 200
    assert client.get("/", headers=BROWSER).headers["Location"] == "/dashboard"
    assert client.get("/login").headers["Location"] == "/dashboard"
    out = client.post("/logout", data={"csrf_token": token_in(text_of(overview))})
    assert out.headers["Location"] == "/login"
    assert client.get("/dashboard").status_code == 302


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


def test_the_empty_overview_says_what_to_do_next(gateway: Gateway) -> None:
    page = text_of(gateway.logged_in().get("/dashboard"))
    assert "No request yet" in page
    assert "Create an API key" in page
    assert "only the sandbox so far" in page
    assert "Running" in page
    assert "up 1 d 2 h" in page


def test_the_snippets_name_the_address_that_the_browser_used(gateway: Gateway) -> None:
    page = text_of(gateway.logged_in(address="192.0.2.7", host="gateway.lan:20128").get("/dashboard"))
    assert "curl -N http://gateway.lan:20128/v1/chat/completions" in page
    assert "base_url=&#34;http://gateway.lan:20128/v1&#34;" in page
    assert "ANTHROPIC_BASE_URL=http://gateway.lan:20128\n" in page
    assert "localhost" not in page


def test_a_key_is_made_by_the_form(gateway: Gateway) -> None:
    client = gateway.logged_in()
    form = {"name": " laptop ", "expires": "30", "scope": "inference", "models": "sandbox/*, groq/llama"}
    page = text_of(client.post("/dashboard/keys", data=form, headers=ORIGIN))
    (key,) = gateway.keys.usable()
    assert key.name == "laptop"
    assert key.allowed_models == ("sandbox/*", "groq/llama")
    assert key.scopes == {"chat", "self:usage"}
    assert key.expires_at is not None
    assert "is ready" in page
    assert page.count("Bearer sk-") == 1
    manage = {"name": "ops", "expires": "", "scope": "manage"}
    assert client.post("/dashboard/keys", data=manage, headers=ORIGIN).status_code == 201
    assert "manage" in gateway.keys.usable()[0].scopes | gateway.keys.usable()[1].scopes


@pytest.mark.parametrize(
    "form",
    [
        {"name": "", "expires": "", "scope": "inference"},
        {"name": "x" * 201, "expires": "", "scope": "inference"},
        {"name": "x", "expires": "5", "scope": "inference"},
        {"name": "x", "expires": "", "scope": "everything"},
        {"name": "x", "expires": "", "scope": "inference", "models": "m" * 2001},
    ],
)
def test_a_bad_form_makes_no_key_and_shows_the_page_again(gateway: Gateway, form: dict[str, str]) -> None:
    answer = gateway.logged_in().post("/dashboard/keys", data=form, headers=ORIGIN)
    assert answer.status_code == 400
    assert gateway.keys.usable() == []
    assert "Create an API key" in text_of(answer)


def test_the_last_requests(gateway: Gateway) -> None:
    key = gateway.issue("laptop").key
    gateway.log_requests(
        RequestRecord(
            request_id=f"req_{number:04}",
            time=NOW - number,
            endpoint="/v1/chat/completions",
            client_format="openai-chat",
            requested_model=f"sandbox/model-{number}",
            provider="sandbox",
            status=200 if number else 502,
            outcome="success" if number else "failed",
            error_code=None if number else "upstream_error",
            api_key_id=key.id,
            tokens_in=12_345,
            duration_ms=1234.5,
            ttft_ms=250.4 if number else None,
        )
        for number in range(30)
    )
    client = gateway.logged_in()
    page = text_of(client.get("/dashboard"))
    assert page.count("<tr>") == 21
    assert "12\u202f345" in page
    assert "1.23 <small>s</small>" in page
    assert "250 <small>ms</small>" in page
    assert "502 failed" in page
    assert "96.7%" in page
    fragment = client.get("/dashboard/requests")
    assert "<html" not in text_of(fragment)
    tag = fragment.headers["ETag"]
    again = client.get("/dashboard/requests", headers={"If-None-Match": tag})
    assert again.status_code == 304
    assert again.data == b""


def test_unsafe_values_are_shown_as_a_banner(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(jwt_secret=Secret("short"), initial_password=Secret("CHANGEME"))
    page = text_of(gateway.logged_in().get("/dashboard"))
    assert "JWT_SECRET has fewer than 32 characters" in page
    assert "INITIAL_PASSWORD has a value that is printed" in page
    assert "CHANGEME" not in page


def test_every_page_has_a_language_a_title_and_a_way_past_the_header(gateway: Gateway) -> None:
    client = gateway.logged_in()
    for answer in (gateway.client().get("/login"), client.get("/dashboard"), client.get("/nowhere")):
        page = text_of(answer)
        assert '<html lang="en"' in page
        assert "<title>" in page
        assert 'href="#content"' in page
        assert 'id="content"' in page
        ids = re.findall(r' id="([^"]+)"', page)
        assert len(ids) == len(set(ids))
        for target in re.findall(r' for="([^"]+)"', page):
            assert target in ids


def test_figures() -> None:
    assert [grouped(None), grouped(0), grouped(1234567)] == ["–", "0", "1\u202f234\u202f567"]
    assert [short(None), short(999), short(1500), short(263_000), short(2_300_000), short(5 * 10**9)] == [
        "–",
        "999",
        "1.5k",
        "263k",
        "2.3M",
        "5.0B",
    ]
    assert [percent(None), percent(1.0), percent(0.9999), percent(0.5), percent(0.0)] == [
        "–",
        "100%",
        "99.9%",
        "50.0%",
        "0.0%",
    ]
    assert duration(None) == "–"
    assert duration(12_345.0) == "12 <small>s</small>"
    assert [uptime(5), uptime(65), uptime(3700), uptime(90_000)] == ["5 s", "1 min", "1 h 1 min", "1 d 1 h"]

"""Dashboard sessions and their cookie."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from omniroute.errors import ConfigurationError, NotFound
from omniroute.services.sessions import LIFETIME_S, Sessions, public_id
from tests.harness import PASSWORD, Gateway


def environ_of(token: str, name: str = "auth_token") -> dict[str, str]:
    return {"HTTP_COOKIE": f"other=1; {name}={token}", "REMOTE_ADDR": "127.0.0.1"}


def test_a_session_is_found_by_its_cookie_and_stored_as_a_hash(gateway: Gateway) -> None:
    opened = gateway.sessions.open(address="192.0.2.7", user_agent="Browser/1\r\nx" + "y" * 500)
    (row,) = gateway.sessions.open_sessions()
    assert gateway.sessions.resolve(environ_of(opened.token)) == (opened.id, row.session_hash)
    assert opened.id == row.id == public_id(row.session_hash)
    assert opened.token.encode() not in row.session_hash
    assert row.address == "192.0.2.7"
    assert row.user_agent is not None
    assert len(row.user_agent) == 200
    assert "\n" not in row.user_agent


def test_no_cookie_no_session(gateway: Gateway) -> None:
    for environ in (
        {},
        {"HTTP_COOKIE": ""},
        {"HTTP_COOKIE": "auth_token="},
        {"HTTP_COOKIE": "x=y"},
        environ_of("a.b.c"),
    ):
        assert gateway.sessions.resolve(environ) is None


def test_the_other_name_counts_too(gateway: Gateway) -> None:
    token = gateway.sessions.open(address=None, user_agent=None).token
    assert gateway.sessions.resolve(environ_of(token, "__Host-auth_token")) is not None


def test_a_session_is_renewed_in_its_last_week_only(gateway: Gateway) -> None:
    token = gateway.sessions.open(address=None, user_agent=None).token
    environ = environ_of(token)
    assert gateway.sessions.renewed(environ) is None
    gateway.clock.pass_(LIFETIME_S - 7 * 86400)
    assert gateway.sessions.renewed(environ) is None
    gateway.clock.pass_(1)
    new = gateway.sessions.renewed(environ)
    assert new is not None
    gateway.clock.pass_(LIFETIME_S - 10)
    assert gateway.sessions.resolve(environ) is None
    assert gateway.sessions.resolve(environ_of(new)) is not None


def test_a_page_load_renews_the_cookie(gateway: Gateway) -> None:
    client = gateway.logged_in()
    assert "auth_token" not in "".join(client.get("/dashboard").headers.getlist("Set-Cookie"))
    gateway.clock.pass_(25 * 86400)
    cookies = client.get("/dashboard").headers.getlist("Set-Cookie")
    assert any(cookie.startswith("auth_token=") and "Max-Age=2592000" in cookie for cookie in cookies)
    gateway.clock.pass_(25 * 86400)
    client.delete_cookie("nothing")
    assert gateway.sessions.open_sessions()


def test_use_is_noted_at_most_every_five_minutes(gateway: Gateway) -> None:
    token = gateway.sessions.open(address=None, user_agent=None).token
    began = gateway.clock()
    gateway.clock.pass_(400)
    gateway.sessions.renewed(environ_of(token))
    assert gateway.sessions.open_sessions()[0].last_seen_at == began + 400
    gateway.clock.pass_(100)
    gateway.sessions.renewed(environ_of(token))
    assert gateway.sessions.open_sessions()[0].last_seen_at == began + 400


def test_a_stale_cookie_is_dropped_on_the_way_to_the_login(gateway: Gateway) -> None:
    client = gateway.logged_in()
    gateway.sessions.revoke_all()
    answer = client.get("/dashboard?tab=keys")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/login?next=/dashboard%3Ftab%3Dkeys"
    assert client.get_cookie("auth_token") is None


def test_revoking_an_unknown_session(gateway: Gateway) -> None:
    with pytest.raises(NotFound):
        gateway.sessions.revoke("ses_unknown")


@pytest.mark.parametrize(
    ("changes", "scheme", "name", "is_secure"),
    [
        ({}, "http", "auth_token", False),
        ({}, "https", "__Host-auth_token", True),
        ({"auth_cookie_secure": True}, "http", "__Host-auth_token", True),
        ({"base_path": "/gw"}, "https", "auth_token", True),
    ],
)
def test_the_cookie_fits_the_connection(
    make_gateway: Callable[..., Gateway], changes: dict[str, object], scheme: str, name: str, is_secure: bool
) -> None:
    gateway = make_gateway(**changes)
    answer = gateway.client().post(
        "/api/auth/login", json={"password": PASSWORD}, environ_overrides={"wsgi.url_scheme": scheme}
    )
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{name}=")
    assert ("Secure" in cookie) is is_secure
    assert f"Path={changes.get('base_path', '/')}" in cookie


def test_an_empty_signing_secret_is_refused(gateway: Gateway) -> None:
    with pytest.raises(ConfigurationError):
        Sessions(
            database=gateway.database,
            snapshots=gateway.snapshots,
            reach=gateway.access.reach,
            signing_key=b"",
            now=gateway.clock,
            catch_up=gateway.snapshots.refresh,
        )

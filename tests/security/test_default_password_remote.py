"""A published password opens nothing from another machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness import Gateway


@pytest.mark.parametrize("password", ["CHANGEME", "123456"])
def test_a_published_password_is_refused_from_elsewhere(make_gateway: Callable[..., Gateway], password: str) -> None:
    gateway = make_gateway(password=password)
    answer = gateway.client(address="192.0.2.7").post("/api/auth/login", json={"password": password})
    assert answer.status_code == 403
    assert answer.get_json()["error"]["code"] == "default_password"
    assert "omniroute reset-password" in answer.get_json()["error"]["message"]
    assert "Set-Cookie" not in answer.headers
    assert gateway.sessions.open_sessions() == ()


def test_it_opens_the_page_no_more_than_the_api(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(password="CHANGEME")
    client = gateway.client(address="192.0.2.7")
    answer = client.post("/login", data={"password": "CHANGEME"}, headers={"Origin": "http://192.0.2.10:20128"})
    assert answer.status_code == 403
    assert "omniroute reset-password" in answer.get_data(as_text=True)


def test_a_forwarding_header_makes_the_visitor_remote(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(password="CHANGEME")
    headers = {"X-Forwarded-For": "127.0.0.1"}
    answer = gateway.client().post("/api/auth/login", json={"password": "CHANGEME"}, headers=headers)
    assert answer.status_code == 403


def test_it_works_on_the_host_itself(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(password="CHANGEME")
    assert gateway.client().post("/api/auth/login", json={"password": "CHANGEME"}).status_code == 200


def test_a_wrong_guess_does_not_tell_that_a_published_one_is_set(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(password="CHANGEME")
    answer = gateway.client(address="192.0.2.7").post("/api/auth/login", json={"password": "123456"})
    assert answer.status_code == 401
    assert answer.get_json()["error"]["code"] == "invalid_password"

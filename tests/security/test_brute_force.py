"""Five wrong passwords lock an address: across workers, restarts, and every place that asks for the password."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from omniroute.services.keys import SYSTEM
from omniroute.services.lockout import MOST_FAILURES, MOST_FAILURES_OVERALL, SLOWDOWN_S, WINDOW_S
from tests.harness import PASSWORD, Browser, Gateway


def guess(client: Browser, password: str = "wrong") -> Any:
    return client.post("/api/auth/login", json={"password": password})


def exhaust(gateway: Gateway, address: str = "192.0.2.7") -> None:
    for _ in range(MOST_FAILURES):
        assert guess(gateway.client(address=address)).status_code == 401


def test_the_sixth_attempt_is_not_even_looked_at(gateway: Gateway) -> None:
    exhaust(gateway)
    answer = guess(gateway.client(address="192.0.2.7"), PASSWORD)
    assert answer.status_code == 429
    assert answer.get_json()["error"]["code"] == "locked"
    assert 0 < int(answer.headers["Retry-After"]) <= WINDOW_S
    assert "Set-Cookie" not in answer.headers


def test_other_addresses_are_not_locked(gateway: Gateway) -> None:
    exhaust(gateway)
    assert guess(gateway.client(address="192.0.2.8"), PASSWORD).status_code == 200


def test_the_lock_ends_by_itself(gateway: Gateway) -> None:
    exhaust(gateway)
    gateway.clock.pass_(WINDOW_S - 1)
    assert guess(gateway.client(address="192.0.2.7"), PASSWORD).status_code == 429
    gateway.clock.pass_(2)
    assert guess(gateway.client(address="192.0.2.7"), PASSWORD).status_code == 200


def test_success_clears_the_count(gateway: Gateway) -> None:
    client = gateway.client(address="192.0.2.7")
    for _ in range(3):
        for _ in range(MOST_FAILURES - 1):
            assert guess(client).status_code == 401
        assert guess(client, PASSWORD).status_code == 200


def test_failures_far_apart_do_not_add_up(gateway: Gateway) -> None:
    client = gateway.client(address="192.0.2.7")
    for _ in range(MOST_FAILURES * 2):
        assert guess(client).status_code == 401
        gateway.clock.pass_(WINDOW_S + 1)
    assert guess(client, PASSWORD).status_code == 200


def test_the_count_is_shared_by_workers_and_restarts(gateway: Gateway) -> None:
    other = gateway.other_worker()
    for turn in range(MOST_FAILURES):
        assert guess((gateway, other)[turn % 2].client(address="192.0.2.7")).status_code == 401
    for worker in (gateway, other, gateway.other_worker()):
        assert guess(worker.client(address="192.0.2.7"), PASSWORD).status_code == 429


def test_the_page_and_the_password_change_share_the_count(gateway: Gateway) -> None:
    inside = gateway.logged_in(address="192.0.2.7")
    outside = gateway.client(address="192.0.2.7")
    origin = {"Origin": "http://192.0.2.10:20128"}
    for _ in range(2):
        body = {"currentPassword": "wrong", "newPassword": "a new password"}
        assert inside.post("/api/auth/password", json=body, headers=origin).status_code == 401
    for _ in range(2):
        assert outside.post("/login", data={"password": "wrong"}, headers=origin).status_code == 401
    assert guess(outside).status_code == 401
    assert outside.post("/login", data={"password": PASSWORD}, headers=origin).status_code == 429
    body = {"currentPassword": PASSWORD, "newPassword": "a new password"}
    assert inside.post("/api/auth/password", json=body, headers=origin).status_code == 429
    assert gateway.passwords.verify(PASSWORD)


def test_an_ipv6_network_is_one_address(gateway: Gateway) -> None:
    for last in range(MOST_FAILURES):
        assert guess(gateway.client(address=f"2001:db8:1:2::{last:x}")).status_code == 401
    assert guess(gateway.client(address="2001:db8:1:2:ffff::9"), PASSWORD).status_code == 429
    assert guess(gateway.client(address="2001:db8:1:3::1"), PASSWORD).status_code == 200


def test_a_forwarding_header_does_not_change_the_address(gateway: Gateway) -> None:
    for turn in range(MOST_FAILURES):
        client = gateway.client(address="192.0.2.7")
        headers = {"X-Forwarded-For": f"203.0.113.{turn}"}
        assert client.post("/api/auth/login", json={"password": "x"}, headers=headers).status_code == 401
    assert guess(gateway.client(address="192.0.2.7"), PASSWORD).status_code == 429


def test_many_attempts_at_once_do_not_slip_through(gateway: Gateway) -> None:
    looked_at: list[str] = []
    verify = gateway.passwords.verify

    def watched(password: str) -> bool:
        looked_at.append(password)
        return verify(password)

    gateway.passwords.verify = watched  # type: ignore[method-assign]

    def one(number: int) -> int:
        return int(guess(gateway.client(address="192.0.2.7"), f"guess {number}").status_code)

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(one, range(24)))
    assert statuses.count(401) == MOST_FAILURES
    assert statuses.count(429) == 24 - MOST_FAILURES
    assert len(looked_at) == MOST_FAILURES


def test_many_addresses_slow_everybody_down_but_lock_nobody_out(gateway: Gateway) -> None:
    for number in range(MOST_FAILURES_OVERALL):
        assert guess(gateway.client(address=f"198.51.{number // 200}.{number % 200 + 1}")).status_code == 401
    assert gateway.slept == []
    assert guess(gateway.client(address="192.0.2.7"), PASSWORD).status_code == 200
    assert gateway.slept == [SLOWDOWN_S]


@pytest.mark.parametrize("action", ["auth.login.failed", "auth.login.locked"])
def test_failures_and_locks_are_audited(gateway: Gateway, action: str) -> None:
    exhaust(gateway)
    rows = gateway.audited(action)
    assert len(rows) == (MOST_FAILURES if action.endswith("failed") else 1)
    assert {row.address for row in rows} == {"192.0.2.7"}


def test_the_guessed_password_is_written_nowhere(gateway: Gateway) -> None:
    guess(gateway.client(address="192.0.2.7"), "my-mistyped-real-password")
    gateway.database.dispose()
    for file in gateway.settings.data_dir.rglob("*"):
        if file.is_file():
            assert b"my-mistyped-real-password" not in file.read_bytes(), file.name


MADE_UP = "sk-aaaaaaaaaaaa-" + "A" * 43 + "-00000000"


def try_key(client: Browser, key: str = MADE_UP, path: str = "/v1/models") -> Any:
    return client.get(path, headers={"Authorization": f"Bearer {key}"})


@pytest.mark.parametrize("path", ["/v1/models", "/api/keys"])
def test_guessed_api_keys_count_too(gateway: Gateway, path: str) -> None:
    client = gateway.client(address="192.0.2.7")
    for _ in range(MOST_FAILURES):
        assert try_key(client, path=path).status_code == 401
    for _ in range(2):
        locked = try_key(client, path=path)
        assert (locked.status_code, locked.headers["X-OmniRoute-Error-Code"]) == (429, "locked")
        assert 0 < int(locked.headers["Retry-After"]) <= WINDOW_S
    assert guess(client, PASSWORD).status_code == 429
    assert try_key(gateway.other_worker().client(address="192.0.2.7"), path=path).status_code == 429
    gateway.clock.pass_(WINDOW_S + 1)
    assert try_key(client, path=path).status_code == 401
    assert guess(client, PASSWORD).status_code == 200


def test_a_locked_address_may_use_its_good_keys(gateway: Gateway) -> None:
    secret = gateway.issue().secret
    client = gateway.client(address="192.0.2.7")
    for _ in range(MOST_FAILURES + 1):
        try_key(client)
    assert try_key(client, secret).status_code == 200


def test_a_login_lock_holds_for_guesses_of_keys(gateway: Gateway) -> None:
    exhaust(gateway)
    assert try_key(gateway.client(address="192.0.2.7")).status_code == 429


def test_a_revoked_key_is_no_guess(gateway: Gateway) -> None:
    """A forgotten program that keeps sending it must not lock its user out."""
    issued = gateway.issue()
    gateway.keys.revoke(issued.key.id, SYSTEM)
    client = gateway.client(address="192.0.2.7")
    assert {try_key(client, issued.secret).status_code for _ in range(MOST_FAILURES * 2)} == {401}
    assert guess(client, PASSWORD).status_code == 200


def test_nobody_on_this_host_is_locked_by_guesses(gateway: Gateway) -> None:
    client = gateway.client()
    assert {try_key(client).status_code for _ in range(MOST_FAILURES * 2)} == {401}
    assert guess(client, PASSWORD).status_code == 200


def test_guesses_of_keys_slow_no_login(gateway: Gateway) -> None:
    for number in range(MOST_FAILURES_OVERALL + 1):
        try_key(gateway.client(address=f"192.0.2.{number}"))
    assert guess(gateway.client(address="198.51.100.1"), PASSWORD).status_code == 200
    assert gateway.slept == []

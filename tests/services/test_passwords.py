"""The administrator's password."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from omniroute.errors import ValidationFailed
from omniroute.services.passwords import CURRENT, Cost, Passwords, check_password, hash_password, needs_rehash
from tests.harness import CHEAP, PASSWORD, Gateway


def test_a_hash_carries_its_parameters_and_a_new_salt() -> None:
    text = hash_password("secret", b"0" * 16, CHEAP)
    assert text.startswith("scrypt$16,1,1$")
    assert "secret" not in text
    assert check_password("secret", text)
    assert not check_password("Secret", text)
    assert hash_password("secret", b"1" * 16, CHEAP) != text


def test_new_hashes_use_the_documented_cost() -> None:
    assert Cost(2**15, 8, 1) == CURRENT
    text = hash_password("secret", b"0" * 16)
    assert check_password("secret", text)
    assert not needs_rehash(text)
    assert needs_rehash(hash_password("secret", b"0" * 16, CHEAP))


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "x",
        "scrypt$1,2$a$b",
        "bcrypt$16,1,1$AAAA$AAAA",
        "scrypt$16,1,1$!!$!!",
        "scrypt$99999999,8,1$AAAA$AAAA",
        "scrypt$16,1,1$AAAA",
    ],
)
def test_an_unreadable_hash_matches_nothing(stored: str) -> None:
    assert not check_password("anything", stored)


def test_the_rules(gateway: Gateway) -> None:
    for bad in ("short", "x" * 201, "changeme", "CHANGEME", "gateway-host", "Gateway-Host"):
        with pytest.raises(ValidationFailed) as refusal:
            gateway.passwords.change(bad)
        assert refusal.value.details[0]["field"] == "newPassword"
        assert bad not in refusal.value.message
    assert gateway.passwords.verify(PASSWORD)
    gateway.passwords.change("a better one")
    assert gateway.passwords.verify("a better one")
    assert not gateway.passwords.verify(PASSWORD)


def test_the_first_password_is_set_by_one_only(gateway: Gateway) -> None:
    assert gateway.passwords.exists()
    assert not gateway.passwords.create_first("somebody else's")
    assert gateway.passwords.verify(PASSWORD)


def test_an_outdated_hash_is_renewed_at_the_next_success(gateway: Gateway) -> None:
    stronger = Passwords(database=gateway.database, now=gateway.clock, cost=Cost(32, 1, 1))
    before = stronger._stored()
    assert not stronger.verify("wrong")
    assert stronger._stored() == before
    assert stronger.verify(PASSWORD)
    after = stronger._stored()
    assert after != before
    assert after is not None
    assert after.startswith("scrypt$32,1,1$")
    assert stronger.verify(PASSWORD)


def test_an_endless_password_is_not_hashed(gateway: Gateway) -> None:
    calls: list[int] = []

    def counted(work: Callable[[], Any]) -> Any:
        calls.append(1)
        return work()

    passwords = Passwords(database=gateway.database, now=gateway.clock, cost=CHEAP, offload=counted)
    assert not passwords.verify("x" * 1_000_000)
    assert calls == []
    assert passwords.verify(PASSWORD)
    assert calls == [1]


def test_hashing_does_not_hold_up_other_greenlets() -> None:
    script = """
from gevent import monkey; monkey.patch_all()
import gevent, time
from omniroute.services.passwords import hash_password, in_native_thread
ticks = []
def tick():
    while True:
        ticks.append(time.monotonic()); gevent.sleep(0.005)
watcher = gevent.spawn(tick)
gevent.sleep(0)
in_native_thread(lambda: hash_password("x" * 20, b"0" * 16))
watcher.kill()
print(len(ticks))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) >= 3

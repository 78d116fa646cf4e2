"""One more look before a refusal: shared by those who wait, never more often than it may be."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest

from omniroute.errors import InternalError, StorageError
from omniroute.services.catch_up import PAUSE_S, CatchUp
from tests.harness import Gateway


class Time:
    """A clock that waiting moves, and that reading moves a little, as a real one."""

    def __init__(self) -> None:
        self.reads = 0
        self.slept: list[float] = []
        self._ticks = itertools.count(1)

    def __call__(self) -> float:
        self.reads = next(self._ticks)
        return 100.0 + self.reads / 1e6 + sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def test_looks_keep_their_distance() -> None:
    time = Time()
    looks: list[float] = []
    catch_up = CatchUp(lambda: looks.append(time()), monotonic=time, sleep=time.sleep)
    for _ in range(4):
        catch_up()
    assert len(looks) == 4
    assert len(time.slept) == 3
    assert all(later - earlier >= PAUSE_S for earlier, later in itertools.pairwise(looks))
    time.sleep(PAUSE_S)
    catch_up()
    assert len(time.slept) == 4


def test_those_who_wait_share_a_look_that_began_after_they_came() -> None:
    time = Time()
    has_begun, may_end = threading.Event(), threading.Event()
    looks: list[float] = []

    def look() -> None:
        looks.append(time())
        has_begun.set()
        assert may_end.wait(5)

    catch_up = CatchUp(look, monotonic=time, sleep=time.sleep)
    threads = [threading.Thread(target=catch_up)]
    threads[0].start()
    assert has_begun.wait(5)
    threads += [threading.Thread(target=catch_up) for _ in range(8)]
    before = time.reads
    for thread in threads[1:]:
        thread.start()
    while time.reads < before + 8:  # until all eight have read the clock, so the look in progress is too old for them
        threading.Event().wait(0.001)
    may_end.set()
    for thread in threads:
        thread.join(5)
    assert len(looks) == 2


def test_an_unreadable_store_is_no_refusal() -> None:
    def fail() -> None:
        raise StorageError

    with pytest.raises(InternalError) as refused:
        CatchUp(fail, monotonic=Time(), sleep=lambda _seconds: None)()
    assert (refused.value.http_status, refused.value.error_code) == (503, "auth_unavailable")


def test_a_key_of_another_worker_works_at_once(gateway: Gateway) -> None:
    other = gateway.other_worker()
    for scopes in (("chat",), ("manage",)):
        secret = gateway.issue(scopes=scopes).secret
        headers = {"Authorization": f"Bearer {secret}"}
        assert other.client(address="192.0.2.7").get("/v1/models", headers=headers).status_code == 200
    secret = gateway.issue(scopes=("manage",)).secret
    answer = other.client(address="192.0.2.7").get("/api/keys", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 200


def test_a_session_of_another_worker_works_at_once(gateway: Gateway) -> None:
    other = gateway.other_worker()
    token = gateway.sessions.open(address=None, user_agent=None).token
    environ = {"HTTP_COOKIE": f"auth_token={token}", "REMOTE_ADDR": "127.0.0.1"}
    assert other.sessions.resolve(environ) is not None


@pytest.mark.parametrize("credential", ["placeholder", "sk-ant-abc", "sk-aaaaaaaaaaaa-" + "A" * 43 + "-00000000"])
def test_a_credential_without_our_tag_causes_no_look(make_gateway: Callable[..., Gateway], credential: str) -> None:
    gateway = make_gateway()
    looks: list[None] = []
    gateway.access._catch_up = lambda: looks.append(None)
    for address in ("127.0.0.1", "192.0.2.7"):
        gateway.client(address=address).get("/v1/models", headers={"x-api-key": credential})
    assert looks == []


def test_a_key_with_a_foreign_character_is_refused_like_any_other(gateway: Gateway) -> None:
    key = gateway.issue().secret
    answer = gateway.client().get("/v1/models", headers={"x-api-key": key + "\u00e9"})
    assert answer.status_code == 401

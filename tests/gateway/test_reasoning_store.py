"""Kept reasoning: whose it is, how long, and how much."""

from __future__ import annotations

from omniroute.formats.canonical import Token
from omniroute.formats.wire import WireFormat
from omniroute.gateway import reasoning_store
from omniroute.gateway.reasoning_store import ReasoningStore

TOKEN = Token("sig", WireFormat.GEMINI, "gemini", "conn_1")


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_it_is_found_by_key_and_call_for_half_an_hour() -> None:
    clock = Clock()
    store = ReasoningStore(now=clock)
    store.put("key", {"call_1": ("thought", TOKEN)})
    assert store.get("key", "call_1") == ("thought", TOKEN)
    assert store.get("other", "call_1") is None
    clock.at += reasoning_store.KEPT_S
    assert store.get("key", "call_1") is None
    assert len(store) == 0


def test_the_oldest_goes_first() -> None:
    store = ReasoningStore(now=Clock(), most=2)
    for number in range(4):
        store.put("key", {f"call_{number}": ("", TOKEN)})
    assert [store.get("key", f"call_{number}") is not None for number in range(4)] == [False, False, True, True]


def test_what_is_put_again_is_new_again() -> None:
    store = ReasoningStore(now=Clock(), most=2)
    for number in (0, 1, 0, 2):
        store.put("key", {f"call_{number}": (str(number), None)})
    assert store.get("key", "call_0") == ("0", None)
    assert store.get("key", "call_1") is None


def test_long_reasoning_is_bounded_by_its_length() -> None:
    store = ReasoningStore(now=Clock())
    for number in range(20):
        store.put("key", {f"call_{number}": ("x" * (1 << 20), None)})
    assert len(store) == 16
    assert store.get("key", "call_19") is not None

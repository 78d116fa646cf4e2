"""Exact counts from a process of their own, and what happens when it fails."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from omniroute.formats.codec import no_pause
from omniroute.formats.token_count import Encoding, count_texts
from omniroute.gateway import tokenizer
from omniroute.gateway.tokenizer import Tokenizer


@pytest.fixture
def counter() -> Iterator[Tokenizer]:
    made = Tokenizer()
    yield made
    made.close()


def test_it_counts_as_the_vendor_does(counter: Tokenizer) -> None:
    # Published counts: github.com/openai/openai-cookbook, "How to count tokens with tiktoken".
    assert counter.count(["tiktoken is great!"], Encoding.CL100K, no_pause) == 6
    assert counter.count(["antidisestablishmentarianism"], Encoding.O200K, no_pause) == 6
    assert counter.count(["2 + 2 = 4", "お誕生日おめでとう"], Encoding.CL100K, no_pause) == 7 + 9
    assert counter.count([], Encoding.O200K, no_pause) == 0


def test_others_go_on_while_the_vocabulary_is_loaded(counter: Tokenizer) -> None:
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            gevent.sleep(0.005)
            ticks += 1

    ticker = gevent.spawn(tick)
    try:
        assert counter.count(["hello"], Encoding.O200K, no_pause) == 1
    finally:
        ticker.kill()
    assert ticks > 10


def test_a_process_that_was_killed_is_replaced(counter: Tokenizer) -> None:
    counter.count(["hello"], Encoding.CL100K, no_pause)
    counter._process.kill()
    counter._process.wait()
    assert counter.count(["hello"], Encoding.CL100K, no_pause) == 1


def test_a_process_that_cannot_serve_gives_an_estimate(monkeypatch: pytest.MonkeyPatch, counter: Tokenizer) -> None:
    monkeypatch.setattr(tokenizer, "_MODULE", "omniroute.no_such_module")
    text = ["some words to count"]
    assert counter.count(text, Encoding.CL100K, no_pause) == count_texts(text, Encoding.CL100K)
    assert not counter.is_running


def test_it_ends_when_nobody_asks() -> None:
    counter = Tokenizer(idle_s=0.01)
    counter.count(["hello"], Encoding.CL100K, no_pause)
    with gevent.Timeout(5):
        while counter.is_running:
            gevent.sleep(0.01)
    assert not counter.is_running


def test_an_answer_that_nobody_waits_for_any_more_is_not_the_next_ones(counter: Tokenizer) -> None:
    counter.count(["hello"], Encoding.CL100K, no_pause)
    asked = gevent.spawn(counter.count, ["word " * 200_000], Encoding.CL100K, no_pause)
    gevent.sleep(0)
    asked.kill()
    assert counter.count(["hello"], Encoding.CL100K, no_pause) == 1

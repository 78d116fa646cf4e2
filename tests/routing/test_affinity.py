"""Rendezvous hashing, and which sessions may be bound where."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.routing.affinity import binding_session, favourite, kept_target
from omniroute.routing.asked import AccountRules
from omniroute.routing.config import ComboConfig
from omniroute.routing.options import Strategy
from omniroute.routing.view import Still
from tests.routing.blocks import COMBO, asked, block, option, options

SESSIONS = [f"session-{number}" for number in range(10_000)]
NAMES = [f"conn_{letter}" for letter in "abcde"]


def test_sessions_spread_evenly() -> None:
    counts = Counter(favourite(session, NAMES) for session in SESSIONS)
    for name in NAMES:
        assert counts[name] / len(SESSIONS) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("gone", NAMES)
def test_one_that_goes_moves_only_its_own_sessions(gone: str) -> None:
    left = [name for name in NAMES if name != gone]
    moved = Counter[str]()
    for session in SESSIONS:
        before, after = favourite(session, NAMES), favourite(session, left)
        if before == gone:
            moved[after] += 1
        else:
            assert after == before
    for name in left:
        assert moved[name] / moved.total() == pytest.approx(0.25, abs=0.03)


def test_the_choice_is_the_same_in_every_process() -> None:
    assert [favourite(f"s{number}", NAMES)[-1] for number in range(12)] == list("dedcadedbccd")


@given(st.text(min_size=1), st.sets(st.text(), min_size=1), st.randoms())
def test_the_order_of_the_names_does_not_matter(session: str, names: set[str], rng: object) -> None:
    shuffled = list(names)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert favourite(session, shuffled) == favourite(session, sorted(names))


def test_of_nobody_there_is_no_favourite() -> None:
    with pytest.raises(ValueError, match="empty"):
        favourite("s", [])


@pytest.mark.parametrize(
    ("is_explicit", "has_cache", "has_affinity", "ttl_ms", "binds"),
    [
        (True, False, False, 1000, True),
        (False, True, True, 1000, True),
        (False, True, False, 1000, False),
        (False, False, True, 1000, False),
        (True, True, True, 0, False),
    ],
)
def test_which_sessions_bind(is_explicit: bool, has_cache: bool, has_affinity: bool, ttl_ms: int, binds: bool) -> None:
    question = asked(
        session="me",
        is_explicit_session=is_explicit,
        rules=AccountRules(has_cache_affinity=has_affinity, affinity_ttl_ms=ttl_ms),
    )
    found = binding_session(option("a", has_prompt_cache=has_cache), question)
    assert found == ("me" if binds else None)


def test_without_a_session_nothing_binds() -> None:
    assert binding_session(option("a", has_prompt_cache=True), asked()) is None


def test_the_target_of_a_session_is_what_last_served_it_in_the_block() -> None:
    view = Still(last_good={(COMBO, "me"): "b/m"})
    given_block = block(Strategy.P2C, options(2))
    assert kept_target(given_block, asked(view, session="me")) == "b/m"
    assert kept_target(given_block, asked(view, session="you")) is None
    assert kept_target(given_block, asked(view)) is None
    off = block(Strategy.P2C, options(2), config=ComboConfig(disable_session_stickiness=True))
    assert kept_target(off, asked(view, session="me")) is None

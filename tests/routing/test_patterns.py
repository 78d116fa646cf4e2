"""Globs: what they match, which is the closest, and that nothing makes them slow."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.routing.patterns import Rule, Rules, is_exact, literals_of, matches


@pytest.mark.parametrize(
    ("pattern", "name", "is_match"),
    [
        ("gpt-5", "gpt-5", True),
        ("gpt-5", "GPT-5", False),
        ("gpt-5", "gpt-55", False),
        ("gpt.5", "gpt-5", False),
        ("*", "", True),
        ("*", "anything/at all", True),
        ("gpt-*", "gpt-", True),
        ("gpt-*", "xgpt-5", False),
        ("*-mini", "gpt-5-mini", True),
        ("*-mini", "gpt-5-mini-x", False),
        ("gpt-?", "gpt-5", True),
        ("gpt-?", "gpt-55", False),
        ("a*b*c", "a--b--b--c", True),
        ("a*b*c", "a--c--b", False),
        ("**a**", "xay", True),
        ("*ab", "aab", True),
        ("a*a", "a", False),
        ("?*?", "a", False),
        ("x[1m]", "x[1m]", True),
        ("x[1m]*", "x1", False),
    ],
)
def test_globs(pattern: str, name: str, is_match: bool) -> None:
    assert matches(pattern, name) is is_match


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_globs_agree_with_a_plain_expression(pattern: str, name: str) -> None:
    plain = "".join({"*": ".*", "?": "."}.get(character, character) for character in pattern)
    assert matches(pattern, name) is (re.fullmatch(plain, name) is not None)


def test_no_pattern_takes_long() -> None:
    started = time.perf_counter()
    assert not matches("*a" * 100 + "b", "a" * 300)
    assert not matches("*?" * 100 + "b", "a" * 300)
    assert time.perf_counter() - started < 0.5


def test_what_stands_for_itself() -> None:
    assert is_exact("groq/llama")
    assert not is_exact("groq/*")
    assert literals_of("g*q/?a") == 4


@pytest.mark.parametrize(
    ("rules", "order"),
    [
        ([("*", 0, 0, 0), ("gpt-*", 0, 0, 1), ("gpt-5", 0, 0, 2)], ["gpt-5", "gpt-*", "*"]),
        ([("*", 9, 0, 0), ("gpt-*", 0, 0, 1), ("gpt-5", 0, 0, 2)], ["gpt-5", "*", "gpt-*"]),
        ([("gpt-?", 0, 0, 1), ("gpt-*", 0, 0, 0)], ["gpt-*", "gpt-?"]),
        ([("gpt-?", 0, 0, 1), ("gpt-*", 0, 1, 0)], ["gpt-?", "gpt-*"]),
        ([("nothing", 0, 0, 0)], []),
    ],
)
def test_the_closest_comes_first(rules: list[tuple[str, int, int, float]], order: list[str]) -> None:
    made = Rules(Rule(f"r{n}", p, None, priority, rank, at) for n, (p, priority, rank, at) in enumerate(rules))
    assert [rule.pattern for rule in made.matching("gpt-5")] == order
    assert [rule.pattern for rule in made.exact("gpt-5")] == [p for p in order if p == "gpt-5"]


def test_no_rules_are_nothing() -> None:
    assert not Rules(())
    assert Rules([Rule("r", "*", None)])

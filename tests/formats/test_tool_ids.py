"""Ids of calls fit the target, stay what they are where they can, and never depend on what comes later."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.profile import IdRule
from omniroute.formats.tool_ids import Ids, is_legal
from omniroute.formats.wire import WireFormat

_SOME_IDS = st.lists(st.one_of(st.sampled_from(["", "a", "call_1", "x" * 41, "x" * 65, "é", "toolu_1"]), st.text()))


@pytest.mark.parametrize(
    ("rule", "legal", "illegal"),
    [
        (IdRule.ANY, ["call_1", "é ü", "x" * 40], ["", "x" * 41]),
        (IdRule.LONG, ["call_1", "a-b", "x" * 64], ["", "x" * 65, "a.b", "é", "a\n"]),
        (IdRule.NINE, ["abcDEF123"], ["", "abcDEF12", "abcDEF1234", "abcDEF12_", "abcDEF12\n"]),
        (IdRule.NONE, ["x" * 100], [""]),
    ],
)
def test_rules(rule: IdRule, legal: list[str], illegal: list[str]) -> None:
    assert all(is_legal(text, rule) for text in legal)
    assert not any(is_legal(text, rule) for text in illegal)


@given(_SOME_IDS, st.sampled_from(IdRule))
def test_t05_ids_are_legal_unique_and_the_same_each_time(client_ids: list[str], rule: IdRule) -> None:
    sent = [Ids(rule, WireFormat.OPENAI_CHAT).assign(i, "f") for i in client_ids[:1]]
    ids = Ids(rule, WireFormat.OPENAI_CHAT)
    made = [ids.assign(client_id, "f") for client_id in client_ids]
    assert made[:1] == sent
    assert all(is_legal(text, rule) for text in made)
    assert len(set(made)) == len(made)


@given(_SOME_IDS, _SOME_IDS)
def test_t64_earlier_ids_do_not_change_with_later_calls(first: list[str], later: list[str]) -> None:
    short, long = (Ids(IdRule.LONG, WireFormat.ANTHROPIC_MESSAGES) for _ in range(2))
    before = [short.assign(client_id, "f") for client_id in first]
    after = [long.assign(client_id, "f") for client_id in (*first, *later)]
    assert after[: len(before)] == before


def test_a_legal_id_stays() -> None:
    assert Ids(IdRule.LONG, WireFormat.GEMINI).assign("toolu_01A", "f") == "toolu_01A"


def test_made_ids_look_like_those_of_the_format() -> None:
    assert Ids(IdRule.LONG, WireFormat.ANTHROPIC_MESSAGES).assign("a.b", "f").startswith("toolu_")
    assert Ids(IdRule.ANY, WireFormat.OPENAI_CHAT).assign("x" * 50, "f").startswith("call_")
    assert Ids(IdRule.NINE, WireFormat.OPENAI_CHAT).assign("call_1", "f").isalnum()


def test_an_illegal_id_depends_on_nothing_but_itself() -> None:
    one, other = (Ids(IdRule.LONG, WireFormat.GEMINI) for _ in range(2))
    one.assign("first", "f")
    assert one.assign("a.b", "f") == other.assign("a.b", "g")


def test_a_client_that_writes_down_a_made_id_gets_another_one() -> None:
    made = Ids(IdRule.LONG, WireFormat.GEMINI).assign("a.b", "f")
    ids = Ids(IdRule.LONG, WireFormat.GEMINI)
    assert ids.assign(made, "f") == made
    assert ids.assign("a.b", "f") not in (made, "a.b")

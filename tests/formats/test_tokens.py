"""The envelope around opaque tokens: it survives what clients do to it, and damage makes it fit nobody."""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.canonical import Token
from omniroute.formats.tokens import BROKEN, MARK, is_wrapped, unwrap, wrap
from omniroute.formats.wire import WireFormat

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
_TOKENS = st.builds(Token, _TEXT, st.sampled_from(WireFormat), st.none() | _TEXT, st.none() | _TEXT)
_SIGNED = Token("EqQBCkYIBxgCKkBQ", WireFormat.ANTHROPIC_MESSAGES, "anthropic", "conn_1")


@given(_TOKENS)
def test_t18_an_envelope_keeps_value_and_maker(token: Token) -> None:
    assert unwrap(wrap(token), WireFormat.OPENAI_CHAT) == token


@given(_TOKENS)
def test_an_envelope_is_standard_base64_that_begins_with_the_mark(token: Token) -> None:
    wrapped = wrap(token)
    assert b64decode(wrapped, validate=True)
    assert wrapped.encode().startswith(MARK)
    assert is_wrapped(wrapped)


@given(_TOKENS)
def test_client_libraries_may_write_the_envelope_in_the_other_alphabet(token: Token) -> None:
    again = urlsafe_b64encode(b64decode(wrap(token))).decode()
    assert unwrap(again, WireFormat.GEMINI) == token
    assert unwrap(again.rstrip("="), WireFormat.GEMINI) == token


def test_t44_the_same_token_always_gives_the_same_envelope() -> None:
    assert wrap(_SIGNED) == wrap(_SIGNED)


@pytest.mark.parametrize("value", ["", "EqQBCkYI", "gAAAAABo-_x", "OmniRoute", "é"])
def test_what_is_not_ours_belongs_to_the_format_it_stood_in(value: str) -> None:
    assert unwrap(value, WireFormat.GEMINI) == Token(value, WireFormat.GEMINI)


def test_t19_an_empty_value_marks_reasoning_that_nobody_signed() -> None:
    mark = Token("", WireFormat.OPENAI_CHAT, "deepseek", "")
    assert is_wrapped(wrap(mark))
    assert unwrap(wrap(mark), WireFormat.ANTHROPIC_MESSAGES) == mark


@given(_TOKENS, st.data())
def test_t16_a_damaged_envelope_fits_nobody(token: Token, data: st.DataObject) -> None:
    wrapped = wrap(token)
    cut = data.draw(st.integers(len(MARK), len(wrapped) - 1))
    found = unwrap(wrapped[:cut], WireFormat.ANTHROPIC_MESSAGES)
    assert found in (BROKEN, token)  # only the padding may be missing
    place = data.draw(st.integers(len(MARK), len(wrapped.rstrip("=")) - 1))
    other = "A" if wrapped[place] != "A" else "B"
    changed = unwrap(wrapped[:place] + other + wrapped[place + 1 :], WireFormat.ANTHROPIC_MESSAGES)
    assert changed in (BROKEN, token)  # the last letter has bits that mean nothing
    assert BROKEN.origin is WireFormat.OTHER


@pytest.mark.parametrize("tail", ["", "====", "\u00e9", "AAAA", "not base64!", "A"])
def test_nonsense_behind_the_mark_is_broken(tail: str) -> None:
    assert unwrap(MARK.decode() + tail, WireFormat.GEMINI) == BROKEN


def test_base64_values_do_not_grow_twice() -> None:
    value = "QUJD" * 1000
    assert len(wrap(Token(value, WireFormat.GEMINI))) < len(value) * 1.05

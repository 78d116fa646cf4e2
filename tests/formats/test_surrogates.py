"""Lone halves of surrogate pairs are replaced, and nothing else is."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.surrogates import mend


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        (rb'"\ud83d"', "\ufffd"),
        (rb'"\uDE00x"', "\ufffdx"),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd😀"),
        (rb'"\\ud83d"', r"\ud83d"),
        (rb'"\\\ud83d"', "\\\ufffd"),
        (rb'"\ud83d\n"', "\ufffd\n"),
    ],
)
def test_t71_only_lone_halves_are_replaced(text: bytes, mended: str) -> None:
    assert msgspec.json.decode(mend(text)) == mended


@given(st.text(st.characters(), max_size=20))
def test_t71_any_string_can_be_read_afterwards(text: str) -> None:
    spelt = json.dumps(text).encode()
    expected = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)
    joined = json.loads(spelt)  # two halves side by side are a pair
    assert msgspec.json.decode(mend(spelt)) in (expected, joined)


def test_text_without_halves_is_the_same_object() -> None:
    text = b'{"a":"b"}'
    assert mend(text) is text

"""Reasoning inside visible text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.inline_think import InlineThink


def _split(pieces: list[str]) -> tuple[str, str]:
    splitter = InlineThink()
    found = [piece for text in pieces for piece in splitter.feed(text)] + splitter.close()
    assert all(text for _, text in found)
    kinds = [is_thinking for is_thinking, _ in found]
    assert kinds == sorted(kinds, reverse=True)  # reasoning never follows text
    return "".join(text for is_thinking, text in found if is_thinking), "".join(
        text for is_thinking, text in found if not is_thinking
    )


@pytest.mark.parametrize(
    ("content", "thinking", "text"),
    [
        ("<think>why</think>because", "why", "because"),
        ("\n <think>\nwhy\n</think>\n\nbecause\n", "why\n", "because\n"),
        ("<think>a</thin</think>b", "a</thin", "b"),
        ("<think>a < b</think>", "a < b", ""),
        ("<think></think>x", "", "x"),
        ("<think>cut off", "cut off", ""),
        ("<think>cut off</thi", "cut off</thi", ""),
        ("<think>", "", ""),
        ("<thi", "", "<thi"),
        ("  ", "", "  "),
        ("plain <think>no</think>", "", "plain <think>no</think>"),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ("<thinking>no</thinking>", "", "<thinking>no</thinking>"),
        (" " * 65 + "<think>no</think>", "", " " * 65 + "<think>no</think>"),
        ("", "", ""),
    ],
)
def test_t20_only_the_start_of_the_content_opens_reasoning(content: str, thinking: str, text: str) -> None:
    assert _split([content]) == (thinking, text)
    assert _split(list(content)) == (thinking, text)


_PARTS = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "</", "think", ">", "\n", " ", "word", "é", "</thi", "<th"]),
    max_size=14,
)


@given(_PARTS, st.data())
def test_t20_any_split_gives_the_same(parts: list[str], data: st.DataObject) -> None:
    content = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    assert _split(pieces) == _split([content])


def test_text_without_reasoning_is_not_held_back() -> None:
    splitter = InlineThink()
    assert splitter.feed("Hello") == [(False, "Hello")]
    assert splitter.feed(" <") == [(False, " <")]

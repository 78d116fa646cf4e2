"""Lost, repeated and swapped chunks are told apart, wherever the reads were cut."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnibench.sequence import CHUNK_NUMBER, SequenceCheck, SequenceReport, expected_numbers


def _feed(numbers: list[int], total: int, reads: list[int] | None = None) -> SequenceReport:
    check = SequenceCheck(expected_numbers(total))
    for part in _cut(numbers, reads or [1] * len(numbers)):
        check.feed([str(number).encode() for number in part])
    assert check.received == len(numbers)
    return check.report()


def _cut(numbers: list[int], sizes: list[int]) -> Iterator[list[int]]:
    start = 0
    for size in sizes:
        yield numbers[start : start + size]
        start += size
    yield numbers[start:]


@pytest.mark.parametrize(
    ("numbers", "lost", "duplicated", "reordered"),
    [
        ([0, 1, 2, 3, 4], 0, 0, 0),
        ([0, 1, 3, 4], 1, 0, 0),
        ([1, 2, 3, 4], 1, 0, 0),
        ([0, 1, 2, 3], 1, 0, 0),
        ([], 5, 0, 0),
        ([0, 1, 1, 2, 3, 4], 0, 1, 0),
        ([0, 1, 2, 3, 4, 4], 0, 1, 0),
        ([0, 2, 1, 3, 4], 0, 0, 1),
        ([4, 3, 2, 1, 0], 0, 0, 4),
        ([0, 1, 2, 3, 4, 5], 0, 0, 1),
        ([0, 2, 2, 1, 4], 1, 1, 1),
    ],
)
def test_a_stream_is_judged(numbers: list[int], lost: int, duplicated: int, reordered: int) -> None:
    for reads in ([1] * len(numbers), [len(numbers)], [2, 3]):
        report = _feed(numbers, 5, reads)
        assert (report.lost, report.duplicated, report.reordered) == (lost, duplicated, reordered)
        assert report.is_whole == (not (lost or duplicated or reordered))


@given(st.lists(st.integers(0, 7), max_size=12))
def test_a_whole_stream_is_whole_however_it_is_cut(sizes: list[int]) -> None:
    assert _feed(list(range(20)), 20, sizes) == SequenceReport(20, 0, 0, 0)


@given(st.integers(0, 2**32), st.integers(2, 30))
def test_a_shuffled_stream_loses_nothing_and_is_not_whole(seed: int, total: int) -> None:
    numbers = list(range(total))
    random.Random(seed).shuffle(numbers)
    report = _feed(numbers, total)
    assert report.lost == report.duplicated == 0
    assert report.is_whole == (numbers == sorted(numbers))


def test_the_number_is_found_in_deltas_of_both_dialects_and_nowhere_else() -> None:
    events = (
        b'data: {"id":"c-9","created":17,"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
        b'data: {"id":"c-9","created":17,"choices":[{"index":0,"delta":{"content":"0 once 5"}}]}\n\n'
        b'data: {"id":"c-9","created":17,"choices":[{"index":0,"delta":{"content": "chunk 12 "}}]}\n\n'
        b'data: {"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"13 upon"}}\n\n'
        b'data: {"id":"c-9","choices":[],"usage":{"prompt_tokens":3}}\n\ndata: [DONE]\n\n'
    )
    assert CHUNK_NUMBER.findall(events) == [b"0", b"12", b"13"]

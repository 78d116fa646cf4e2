"""The free text of custom tools out of the JSON that a function's arguments are."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.custom_input import CustomInput

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def _decoded(pieces: list[str]) -> str:
    decoder = CustomInput()
    return "".join([decoder.feed(piece) for piece in pieces]) + decoder.close()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input":"*** Begin Patch\\n+a\\tb\\n*** End Patch"}', "*** Begin Patch\n+a\tb\n*** End Patch"),
        (' {\n "input" : "a \\"quoted\\" \\\\ \\/ \\b\\f\\r" } ', 'a "quoted" \\ / \b\f\r'),
        ('{"input":"\\ud83d\\ude00 \\u00e9"}', "😀 é"),
        ('{"input":"\\ud83d lone \\ude00"}', "\ufffd lone \ufffd"),
        ('{"input":"\\ud83d\\n"}', "\ufffd\n"),
        ('{"input":"\\ud83d\\u0041"}', "\ufffdA"),
        ('{"input":"raw\nbreak \\d \\uzz"}', "raw\nbreak \\d \\uzz"),
        ('{"input":"a","reason":"b"}', "a"),
        ('{"reason":"b","input":"a"}', "a"),
        ('{"patch":"a"}', "a"),
        ('{"in\\u0070ut":"a"}', "a"),
        ('{"input":{"b":1.0}}', '{"b":1.0}'),
        ('{"input":null}', "null"),
        ('{"a":1}', '{"a":1}'),
        ('{"a":"x","b":"y"}', '{"a":"x","b":"y"}'),
        ('"just a string"', "just a string"),
        ("*** Begin Patch", "*** Begin Patch"),
        ("{}", ""),
        ("", ""),
        ("  ", ""),
        ('{"inp', ""),
        ('{"input":"torn \\u00', "torn "),
        ('{"input":"torn \\ud83d', "torn \ufffd"),
    ],
)
def test_t13_custom_tool_input_is_taken_out(arguments: str, text: str) -> None:
    assert _decoded([arguments]) == text
    assert _decoded(list(arguments)) == text


@given(_TEXT, st.booleans(), st.data())
def test_t13_custom_tool_text_stays_intact_however_it_is_split(text: str, is_ascii: bool, data: st.DataObject) -> None:
    arguments = json.dumps({"input": text}, ensure_ascii=is_ascii)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arguments)), max_size=6)))
    pieces = [arguments[a:b] for a, b in zip([0, *cuts], [*cuts, len(arguments)], strict=True)]
    assert _decoded(pieces) == text
    assert _decoded([msgspec.json.encode({"input": text}).decode()]) == text


@given(st.text(st.sampled_from('{}"inputx:\\u0d8cefA \n'), max_size=40), st.data())
def test_any_split_of_anything_gives_the_same(arguments: str, data: st.DataObject) -> None:
    whole = _decoded([arguments])
    assert _decoded(list(arguments)) == whole
    head = '{"input":"' + arguments
    cut = data.draw(st.integers(0, len(head)))
    assert _decoded([head[:cut], head[cut:]]) == _decoded([head])
    assert not any("\ud800" <= character <= "\udfff" for character in whole)


def test_text_arrives_while_it_is_written() -> None:
    decoder = CustomInput()
    assert decoder.feed('{"input": "*** Begin') == "*** Begin"
    assert decoder.feed(" Patch\\n+") == " Patch\n+"
    assert decoder.feed('x"') == "x"
    assert decoder.feed("}") == ""
    assert decoder.close() == ""


def test_t69_a_megabyte_takes_linear_time() -> None:
    def cpu_s(size: int) -> float:
        arguments = json.dumps({"input": 'line "x"\n' * (size // 9)})
        decoder = CustomInput()
        start = time.process_time()
        length = sum(len(decoder.feed(arguments[at : at + 24])) for at in range(0, len(arguments), 24))
        assert length == size // 9 * 9
        return time.process_time() - start

    cpu_s(100_000)
    small = min(cpu_s(100_000) for _ in range(3))
    assert cpu_s(1_000_000) < 25 * small

"""The splice walker: bytes kept, spans right, bad texts refused, in agreement with the standard parser."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import InvalidJson, InvalidRequest
from omniroute.formats.splice import MAX_DEPTH, check_depth, scan, splice

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**20), max_value=10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]))
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
_KEYS = st.text(alphabet=string.ascii_letters + '_"\\{}[]:, é', min_size=1, max_size=8)
_OBJECTS = st.dictionaries(_KEYS, _VALUES, max_size=6)


@st.composite
def _spelt(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """An object with one of the spellings that a client may choose for it."""
    value = draw(_OBJECTS)
    text = json.dumps(
        value,
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 0, 2])),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :\r ")])),
    )
    padding = draw(st.sampled_from(["", " ", "\n\t"]))
    return value, (padding + text + padding).encode()


@given(_spelt(), _KEYS, _VALUES)
def test_a_splice_equals_the_dict_update_and_keeps_all_other_bytes(
    spelt: tuple[dict[str, Any], bytes], key: str, value: Any
) -> None:
    original, body = spelt
    replacement = json.dumps(value).encode()
    result = splice(scan(body), {key: replacement})
    assert json.loads(result) == {**original, key: value}
    if key in original:
        start, end = scan(body).spans[key]
        assert result == body[:start] + replacement + body[end:]


@given(_spelt())
def test_splicing_a_value_by_itself_changes_no_byte(spelt: tuple[dict[str, Any], bytes]) -> None:
    original, body = spelt
    top = scan(body)
    same = {key: body[start:end] for key, (start, end) in top.spans.items()}
    assert set(top.spans) == set(original)
    assert splice(top, dict(same)) == body
    assert {key: top.value(key) for key in original} == original


@given(_spelt(), st.randoms(use_true_random=False))
def test_removing_a_member_leaves_valid_json(spelt: tuple[dict[str, Any], bytes], rng: Any) -> None:
    original, body = spelt
    if not original:
        original, body = {"a": 1}, b'{"a":1}'
    gone = rng.choice(sorted(original))
    result = splice(scan(body), {gone: None})
    assert json.loads(result) == {key: value for key, value in original.items() if key != gone}


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"x","max_tokens":123456789012345678901234567890,"x":1e400}',
        b'{"model" : "x" , "t":"\\ud83d\\ude00 \\u0000 \\/"}',
        b'{"model":"x","a":-0.0,"b":1E+2}',
    ],
)
def test_odd_spellings_pass_untouched(body: bytes) -> None:
    assert splice(scan(body), {"model": b'"y"'}) == body.replace(b'"x"', b'"y"', 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nul",
        b"[1]",
        b'"text"',
        b'{"a":1',
        b'{"a":1} x',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b"{'a':1}",
        b'{"a":01}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\n"}',
        b'{"a":1,}',
    ],
)
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        scan(body)


def test_a_repeated_key_is_refused_only_where_it_is_acted_on() -> None:
    body = b'{"model":"a","x":1,"x":2,"model":"b"}'
    with pytest.raises(InvalidRequest) as caught:
        scan(body, acted_on=frozenset({"model"}))
    assert caught.value.param == "model"
    assert scan(body, acted_on=frozenset({"stream"})).value("x") == 2


def test_a_key_written_with_escapes_is_the_same_key() -> None:
    body = b'{"mod\\u0065l":"a","model":"b"}'
    with pytest.raises(InvalidRequest):
        scan(body, acted_on=frozenset({"model"}))
    assert splice(scan(b'{"mod\\u0065l":"a"}'), {"model": b'"z"'}) == b'{"mod\\u0065l":"z"}'


@pytest.mark.parametrize("opening", [b'{"a":', b"["])
@pytest.mark.parametrize(
    ("depth", "is_allowed"), [(1, True), (MAX_DEPTH - 1, True), (MAX_DEPTH, False), (10_000, False)]
)
def test_depth_is_limited(opening: bytes, depth: int, is_allowed: bool) -> None:
    closing = b"}" if opening.startswith(b"{") else b"]"
    body = b'{"messages":' + opening * depth + b"1" + closing * depth + b"}"
    if is_allowed:
        assert "messages" in scan(body)
    else:
        with pytest.raises(InvalidJson, match="deep"):
            scan(body)


def test_brackets_inside_strings_are_not_depth() -> None:
    text = json.dumps("[{" * 500 + '"' + "\\" * 3 + "[")
    check_depth(f'{{"a":[{text}],"b":{text}}}'.encode())
    wide = "[" + ",".join(["[[]]"] * 5000) + "]"
    check_depth(f'{{"a":{wide}}}'.encode())
    deep = "[" * 70 + "]" * 70
    with pytest.raises(InvalidJson):
        check_depth(f'{{"a":[{text},{{"b":{wide}}},{deep}]}}'.encode())


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


@given(_spelt(), st.integers(min_value=1, max_value=6))
def test_the_depth_check_agrees_with_a_recursive_count(spelt: tuple[dict[str, Any], bytes], limit: int) -> None:
    original, body = spelt
    if _depth(original) <= limit:
        check_depth(body, limit)
    else:
        with pytest.raises(InvalidJson):
            check_depth(body, limit)

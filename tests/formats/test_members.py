"""Members of JSON objects, taken out one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from omniroute.errors import InvalidRequest, MissingField, UpstreamProtocolError
from omniroute.formats import members as m


@pytest.mark.parametrize(
    ("take", "good", "value", "bad"),
    [
        (m.take_text_if_any, b'"x"', "x", b"1"),
        (m.take_int, b"12345678901234567890123", 12345678901234567890123, b'"1"'),
        (m.take_float, b"1", 1.0, b"true"),
        (m.take_bool, b"true", True, b"1"),
        (m.take_texts, b'["a"]', ("a",), b'"a"'),
        (m.take_object, b'{"a":1e400}', msgspec.Raw(b'{"a":1e400}'), b"[]"),
        (m.take_list, b"[1,{}]", [msgspec.Raw(b"1"), msgspec.Raw(b"{}")], b"{}"),
    ],
)
def test_a_member_is_taken_and_null_stays_as_a_spelling(
    take: Callable[[m.Members, str], Any], good: bytes, value: Any, bad: bytes
) -> None:
    members = m.object_of(b'{"a":' + good + b',"b":null}')
    assert take(members, "a") == value
    assert not take(members, "b")
    assert not take(members, "c")
    assert members == {"=b": m.NULL}
    assert m.as_spelt(members) == {"b": m.NULL}
    with pytest.raises(m.BadShape) as caught:
        take(m.object_of(b'{"a":' + bad + b"}"), "a")
    assert caught.value.path == "a"


def test_notes_are_for_the_parser_only() -> None:
    assert m.as_spelt({"==made": m.NULL, "=spelt": m.FALSE, "other": m.EMPTY_LIST}) == {
        "spelt": m.FALSE,
        "other": m.EMPTY_LIST,
    }


def test_a_fault_is_somebodys() -> None:
    fault = m.BadShape("b", "This must be a string.").under("a.0")
    assert fault.path == "a.0.b"
    client = fault.for_client()
    assert isinstance(client, InvalidRequest)
    assert (client.param, client.message) == ("a.0.b", "a.0.b: This must be a string.")
    assert isinstance(fault.for_provider(), UpstreamProtocolError)
    with pytest.raises(m.BadShape) as caught:
        m.take_text({}, "name")
    assert isinstance(caught.value.for_client(), MissingField)

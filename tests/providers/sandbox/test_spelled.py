from __future__ import annotations

from typing import Any

import pytest

from omniroute.providers.sandbox.spelled import spelled

ADD = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "boolean"}}}
CUSTOMER = {"properties": {"customer_name": {"type": "string"}, "age": {"type": "number"}}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is add(3)? Use the tool.", {"a": 3}),
        ('What is add(3, "x", true)?', {"a": 3, "b": "x", "c": True}),
        ("add()", {}),
        ("readd(3)", {}),
        ("add(x)", {}),
        ("add(true)", {}),
        ("add(3.5)", {}),
        ("add(1, 2)", {"a": 1}),
        ("add(1, 'x'", {}),
        ("nothing", {}),
        ('add(1, "x", true, 5)', {"a": 1, "b": "x", "c": True}),
    ],
)
def test_a_call_gives_its_arguments_in_order(text: str, expected: dict[str, Any]) -> None:
    assert spelled(text, "add", ADD) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Create a customer named '你好啊集团' (Hello Group)", {"customer_name": "你好啊集团"}),
        ('a customer named "Oda"', {"customer_name": "Oda"}),
        ("a customer named Oda", {}),
        ("make(\"Ida\") named 'Oda'", {"customer_name": "Ida"}),
    ],
)
def test_a_name_in_quotes_goes_to_the_name(text: str, expected: dict[str, Any]) -> None:
    assert spelled(text, "make", CUSTOMER) == expected


@pytest.mark.parametrize("schema", [{}, {"properties": None}, {"properties": {"a": True}}])
def test_a_schema_without_types_takes_nothing(schema: dict[str, Any]) -> None:
    assert spelled("add(3)", "add", schema) == {}

"""Whether a whole answer is what the operator asks for: the setting `responseValidation` of a combo.

    forbidden         texts of which none may stand in the answer
    required          texts that must all stand in it
    minContentLength  characters that it must have, without white space around it
    jsonPath          the answer must be JSON; each rule names a place in it (`result.items.0.name`), and what must be
                      there (`equals`), or whether anything must (`exists`)

An answer that calls tools is on its way to something, and only held to what is forbidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from omniroute.formats.canonical import Answer, Text

_NOTHING: Final = object()


def problem_of(answer: Answer, rules: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an answer, in words fit for callers; None when nothing is."""
    for choice in (answer, *answer.others):
        problem = _problem(choice, rules)
        if problem is not None:
            return problem
    return None


def _problem(answer: Answer, rules: Mapping[str, Any]) -> str | None:
    text = "".join(block.text for block in answer.blocks if isinstance(block, Text))
    if any(one in text for one in rules.get("forbidden", ())):
        return "The answer holds a text that it may not hold."
    if answer.calls:
        return None
    if any(one not in text for one in rules.get("required", ())):
        return "The answer lacks a text that it must hold."
    if len(text.strip()) < rules.get("minContentLength", 0):
        return "The answer is too short."
    predicates = rules.get("jsonPath", ())
    return _problem_in_json(text, predicates) if predicates else None


def _problem_in_json(text: str, predicates: list[Mapping[str, Any]]) -> str | None:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return "The answer is not JSON."
    if all(_holds(value, predicate) for predicate in predicates):
        return None
    return "The answer is JSON, but not such as it must be."


def _holds(value: Any, predicate: Mapping[str, Any]) -> bool:
    found = _at(value, predicate["path"])
    if "exists" in predicate:
        return (found is not _NOTHING) is predicate["exists"]
    expected = predicate["equals"]
    # True is no number here, although it equals 1 in Python.
    return isinstance(found, bool) is isinstance(expected, bool) and found == expected


def _at(value: Any, path: str) -> Any:
    """Return what stands at a dotted path; numbers are places in a list."""
    for name in path.split("."):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return _NOTHING
    return value

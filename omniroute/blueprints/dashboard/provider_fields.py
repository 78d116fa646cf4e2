"""What forms of providers send, as the API takes it. What cannot be read is passed on, so that the API says why."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from werkzeug.datastructures import MultiDict

Form = MultiDict[str, str]

_DATA: Final = "data."
"""Before the name of a field that is a member of `providerData`."""


def number(text: str) -> int | str | None:
    """Return a whole number; None for an empty field."""
    plain = text.strip()
    if not plain:
        return None
    try:
        return int(plain)
    except ValueError:
        return plain


def decimal(text: str) -> float | str | None:
    """Return a number; None for an empty field."""
    plain = text.strip()
    if not plain:
        return None
    try:
        return float(plain)
    except ValueError:
        return plain


def filled(form: Form, *names: str) -> dict[str, str]:
    """Return those text fields that hold something."""
    return {name: form[name].strip() for name in names if form.get(name, "").strip()}


def cleared(form: Form, *names: str) -> dict[str, str | None]:
    """Return text fields; one that is empty is None."""
    return {name: form.get(name, "").strip() or None for name in names}


def is_ticked(form: Form, name: str) -> bool:
    """Say whether a box was ticked."""
    return form.get(name) == "true"


def provider_data(form: Form, names: Iterable[str], *, clears: bool = False) -> dict[str, str | None]:
    """Return the members of `providerData` that a form names; with `clears` empty ones as None."""
    given = {name: form.get(_DATA + name, "").strip() or None for name in names}
    return given if clears else {name: value for name, value in given.items() if value is not None}


def data_names(provider: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a connection of a provider has to say or may say beside its key."""
    own = ("baseUrl",) if provider["isLocal"] and not provider["isNode"] else ()
    return (*own, *(row["name"] for row in provider["parameters"]))


def spelt(names: Iterable[str]) -> dict[str, str]:
    """Return the fields of a form by the names that the API has for them where it finds fault."""
    found = {"baseUrl": f"{_DATA}baseUrl"}
    for name in names:
        found |= {name: _DATA + name, f"providerData.{name}": _DATA + name}
    return found


def headers(text: str) -> dict[str, str]:
    """Return header lines by name; a line without a colon keeps its text as the name, so that it is refused."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _colon, value = line.partition(":")
        if line.strip():
            found[name.strip()] = value.strip()
    return found


def header_lines(given: Mapping[str, str]) -> str:
    """Return headers as lines; values that the API masks stay masked."""
    return "\n".join(f"{name}: {value}" for name, value in given.items())


def keys(text: str) -> list[dict[str, str]]:
    """Return the keys of a text, one a line; what stands before a comma or tab is the name."""
    found: list[dict[str, str]] = []
    for line in text.splitlines():
        before, separator, after = line.replace("\t", ",").rpartition(",")
        if not line.strip():
            continue
        name = before.strip()
        found.append({"apiKey": after.strip(), **({"name": name} if separator and name else {})})
    return found


def words(text: str) -> list[str]:
    """Return what is between white space and commas."""
    return [word for word in text.replace(",", " ").split() if word]


def in_order(everything: Sequence[str], shown: Sequence[str]) -> list[str]:
    """Return a whole list with those entries that a page showed in the page's order, at the places they had."""
    wanted = [entry for entry in dict.fromkeys(shown) if entry in set(everything)]
    moved = iter(wanted)
    chosen = set(wanted)
    return [next(moved) if entry in chosen else entry for entry in everything]


def moved(order: Sequence[str], entry: str, step: int) -> list[str]:
    """Return a list with an entry one place further up (-1) or down (1)."""
    found = list(order)
    if entry in found:
        at = found.index(entry)
        to = min(max(at + step, 0), len(found) - 1)
        found.insert(to, found.pop(at))
    return found


def json_text(value: Any) -> str:
    """Return a value as JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False) if value else ""


def json_object(text: str) -> Any:
    """Return what a text in JSON says; an empty one is an empty object.

    Raises:
        ValueError: it is not JSON.
    """
    return json.loads(text) if text.strip() else {}

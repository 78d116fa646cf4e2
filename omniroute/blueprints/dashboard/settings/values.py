"""Settings as forms have them: texts of values, values of texts, and which of them were changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, Final

from werkzeug.datastructures import MultiDict

from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.settings import texts

SHOWN_BEFORE: Final = "was."
"""Begins the name of the hidden field that says what a field showed, so that only what was changed is saved."""

Row = Mapping[str, Any]
_MOST_DIGITS: Final = 15


def rows_of(fields: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """Return the settings of the API by name, with their words."""
    return {row["name"]: described(row) for row in fields}


def described(row: Row) -> dict[str, Any]:
    """Return a setting of the API with what pages say of it."""
    name = str(row["name"])
    text = texts.TEXTS.get(name)
    options = [(value, texts.choice(name, value)) for value in row.get("choices", ())]
    return {
        **row,
        "label": str(text.label) if text else name,
        "hint": str(text.hint) if text else row["description"],
        "options": options,
        "text": as_text(row["type"], row["value"]),
        "default_text": _default_text(row),
    }


def form_of(rows: Iterable[Row]) -> FormState:
    """Return a form that shows settings as they are."""
    return FormState.of({row["name"]: row["text"] for row in rows})


def as_text(kind: str, value: Any) -> str:
    """Return a value as its field shows it."""
    if value is None:
        return ""
    match kind:
        case "boolean":
            return "true" if value else ""
        case "list":
            return "\n".join(value)
        case _:
            return str(value)


def typed(kind: str, name: str, form: MultiDict[str, str]) -> Any:
    """Return what was typed as the API takes it; what cannot be read is left as it is, for the API to refuse."""
    match kind:
        case "boolean":
            return name in form
        case "list":
            lines = [line.strip() for part in form.getlist(name) for line in part.splitlines()]
            return [line for line in lines if line]
        case "integer":
            return number(form.get(name, ""))
        case "multiline":
            return "\n".join(form.get(name, "").splitlines())
        case "text":
            return form.get(name, "").strip()
        case _:
            return form.get(name, "").strip() or None


def number(text: str) -> int | str | None:
    """Return a whole number as the API takes it, None for nothing, else the text."""
    plain = text.strip()
    if not plain:
        return None
    digits = plain.removeprefix("-")
    return int(plain) if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS else plain


def changed(rows: Iterable[Row], form: MultiDict[str, str]) -> dict[str, Any]:
    """Return the settings that were changed in a form, by name, as the API takes them."""
    found = {}
    for row in rows:
        name, kind = row["name"], row["type"]
        if row["fixedBy"] is not None or row["isReadOnly"]:
            continue
        value = typed(kind, name, form)
        before = form.get(SHOWN_BEFORE + name)
        if before is None or _plain(before) != _plain(as_text(kind, value)):
            found[name] = value
    return found


def _plain(text: str) -> str:
    return "\n".join(text.splitlines()).strip()


def _default_text(row: Row) -> str:
    """Return the default in words; empty where there is none worth a word."""
    default = row["default"]
    if default is None or default in ("", []):
        return ""
    if row["type"] == "boolean":
        return str(texts.ON if default else texts.OFF)
    if row["type"] == "list":
        return ", ".join(default)
    return texts.choice(row["name"], default)


def decimal(text: str) -> float | str | None:
    """Return a number as the API takes it, None for nothing, else the text."""
    plain = text.strip()
    if not plain:
        return None
    try:
        value = float(plain)
    except ValueError:
        return plain
    return value if isfinite(value) else plain

"""What the form of a combo holds while it is worked on: its rows, and the way to what the API takes and back.

Each row of the list has a key of its own; the order of the hidden fields `step` is the order of the list, so that
rows may be moved in the page without renaming their fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from werkzeug.datastructures import MultiDict

from omniroute.blueprints.dashboard import combo_settings

UNNAMED: Final = "a combo without a name yet"
"""The name under which a combo is checked as long as it has none of its own."""

_TEXTS: Final = ("name", "description", "strategy", "allowedProviders", "allowedModelFamilies", "context_length")
_LISTS: Final = ("allowedProviders", "allowedModelFamilies")
_FLAGS: Final = ("isActive", "isDefault")
SAMPLE: Final = ("sampleTokens", "sampleTools", "sampleVision")
"""The fields of the request that is planned for show."""
_KINDS: Final = {"model": "model", "combo-ref": "comboName", "auto": "channel"}
_MOST_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One step as it stands in the form.

    Attributes:
        key: names its fields.
        target: a model, the name of a combo, or a channel, as `kind` says.
        step_id: the id that the stored step has; empty for a new one.
        weight: as it was typed.
    """

    key: str
    kind: str
    target: str
    step_id: str = ""
    weight: str = "1"
    label: str = ""
    connection: str = ""
    provider: str = ""
    tags: tuple[str, ...] = ()
    is_enabled: bool = True

    def step(self) -> dict[str, Any]:
        """Return the step as the API takes it."""
        body: dict[str, Any] = {
            "kind": self.kind,
            _KINDS[self.kind]: self.target,
            "weight": _number(self.weight),
            "label": self.label or None,
            "tags": list(self.tags),
            "enabled": self.is_enabled,
        }
        if self.step_id:
            body["id"] = self.step_id
        if self.kind == "model":
            body |= {"connectionId": self.connection or None, "provider": self.provider or None}
        return body


@dataclass(frozen=True, slots=True)
class Draft:
    """A combo that is being worked on.

    Attributes:
        values: the texts of the fields by name.
        updated_at: when what was loaded had been stored; empty for a new combo.
    """

    values: Mapping[str, Any]
    rows: tuple[Row, ...] = ()
    updated_at: str = ""

    @classmethod
    def of_combo(cls, combo: Mapping[str, Any]) -> Draft:
        """Return what the form of a stored combo shows first."""
        values: dict[str, Any] = {name: combo.get(name) for name in _TEXTS if combo.get(name) is not None}
        values |= {name: ", ".join(combo.get(name) or ()) for name in _LISTS}
        values |= {name: bool(combo.get(name)) for name in _FLAGS}
        values |= combo_settings.fields_of(combo.get("config") or {})
        rows = tuple(_row_of(f"s{at}", step) for at, step in enumerate(combo.get("models") or ()))
        return cls(values, rows, combo.get("updatedAt") or "")

    @classmethod
    def of_form(cls, form: MultiDict[str, str]) -> Draft:
        """Return what was sent by a form."""
        values: dict[str, Any] = {name: form[name] for name in form if name != "step" and ":" not in name}
        values |= {name: name in form for name in _FLAGS}
        rows = tuple(_row_of_form(form, key) for key in form.getlist("step")[:_MOST_ROWS])
        return cls(values, tuple(row for row in rows if row.target), form.get("updatedAt", ""))

    def body(self) -> dict[str, Any]:
        """Return the combo as the API takes it."""
        values = self.values
        text = {name: str(values.get(name, "")).strip() for name in _TEXTS}
        return {
            "name": text["name"],
            "description": text["description"] or None,
            "strategy": text["strategy"] or "priority",
            "models": [row.step() for row in self.rows],
            "config": combo_settings.config_of(values),
            "isActive": bool(values.get("isActive")),
            "isDefault": bool(values.get("isDefault")),
            "context_length": _number(text["context_length"]) if text["context_length"] else None,
            **{name: split(text[name]) for name in _LISTS},
        }

    def sample(self) -> dict[str, Any]:
        """Return the request that is planned for show."""
        typed = str(self.values.get("sampleTokens", "")).strip()
        return {
            "promptTokens": int(typed) if typed.isdecimal() and len(typed) < 9 else 1000,
            "tools": bool(self.values.get("sampleTools")),
            "vision": bool(self.values.get("sampleVision")),
        }

    def changed(self, action: str) -> Draft:
        """Return the draft after a button of the list was pressed; what is no such button changes nothing."""
        verb, _colon, rest = action.partition(":")
        match verb:
            case "add":
                kind, _colon, target = rest.partition(":")
                return self._with(kind, target.strip())
            case "remove":
                return replace(self, rows=tuple(row for row in self.rows if row.key != rest))
            case "up":
                return replace(self, rows=_moved(self.rows, rest, -1))
            case "down":
                return replace(self, rows=_moved(self.rows, rest, 1))
            case "even":
                return replace(self, rows=tuple(_evenly(self.rows)))
            case _:
                return self

    def _with(self, kind: str, target: str) -> Draft:
        if kind not in _KINDS or not target or len(self.rows) >= _MOST_ROWS:
            return self
        taken = {row.key for row in self.rows}
        key = next(name for at in range(len(taken) + 1) if (name := f"s{at}") not in taken)
        return replace(self, rows=(*self.rows, Row(key, kind, target)))


def split(text: str) -> list[str]:
    """Return the entries of a list that was typed with commas or line ends between them."""
    return [entry.strip() for line in text.splitlines() for entry in line.split(",") if entry.strip()]


def _row_of(key: str, step: Mapping[str, Any]) -> Row:
    kind = step.get("kind", "model")
    return Row(
        key,
        kind,
        step.get(_KINDS[kind]) or "",
        step.get("id") or "",
        f"{step.get('weight', 1):g}",
        step.get("label") or "",
        step.get("connectionId") or "",
        step.get("provider") or "",
        tuple(step.get("tags") or ()),
        bool(step.get("enabled", True)),
    )


def _row_of_form(form: MultiDict[str, str], key: str) -> Row:
    def typed(name: str) -> str:
        return form.get(f"{key}:{name}", "").strip()

    kind = typed("kind")
    return Row(
        key,
        kind if kind in _KINDS else "model",
        typed("target"),
        typed("id"),
        typed("weight") or "1",
        typed("label"),
        typed("connection"),
        typed("provider"),
        tuple(split(typed("tags"))),
        f"{key}:enabled" in form,
    )


def _moved(rows: Sequence[Row], key: str, by: int) -> tuple[Row, ...]:
    at = next((place for place, row in enumerate(rows) if row.key == key), None)
    if at is None or not 0 <= at + by < len(rows):
        return tuple(rows)
    made = list(rows)
    made[at], made[at + by] = made[at + by], made[at]
    return tuple(made)


def _evenly(rows: Iterable[Row]) -> Iterator[Row]:
    """Give all rows that are on the same weight, so that they come to 100 together."""
    rows = list(rows)
    share, rest = divmod(100, max(1, sum(row.is_enabled for row in rows)))
    for row in rows:
        if not row.is_enabled:
            yield row
            continue
        yield replace(row, weight=str(share + (1 if rest > 0 else 0)))
        rest -= 1


def _number(text: str) -> int | float | str:
    """Return a number; what is none stays a text, which the API refuses."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text

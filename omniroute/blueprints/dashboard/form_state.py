"""What a form holds when it is shown: what was typed, else what is stored; and what is wrong with which field.

state = FormState.of(combo)                       # shown the first time
try:
    api.post("/api/combos", body_of(request.form))
except Refused as refused:
    return page("…", form=FormState.typed(request.form, refused), status=400)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from werkzeug.datastructures import MultiDict

from omniroute.blueprints.dashboard.api import Refused


@dataclass(frozen=True, slots=True)
class FormState:
    """Values and faults of a form by field name.

    Attributes:
        values: a text per field; lists where a field is there several times.
        faults: what is wrong with a field, in a sentence.
        message: what is wrong with the form as a whole.
        code: the stable code of the refusal.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    code: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any] | None = None) -> FormState:
        """Return the state of a form that shows stored values, or nothing yet."""
        return cls(values or {})

    @classmethod
    def typed(
        cls, form: MultiDict[str, str], refused: Refused | None = None, names: Mapping[str, str] | None = None
    ) -> FormState:
        """Return the state of a form that is shown again.

        Args:
            form: what was typed.
            refused: what the API said.
            names: fields of the form by their names in the API, where these differ.
        """
        values = {name: form.getlist(name) if len(form.getlist(name)) > 1 else form[name] for name in form}
        if refused is None:
            return cls(values)
        spelt = names or {}
        faults = {spelt.get(name, name): text for name, text in refused.faults.items()}
        return cls(values, faults, refused.message, refused.error_code)

    def value(self, name: str, default: Any = "") -> Any:
        """Return what a field shows."""
        found = self.values.get(name)
        return default if found is None else found

    def has(self, name: str, option: str) -> bool:
        """Say whether a field holds an option: a box that is ticked, an entry of a list that is chosen."""
        found = self.values.get(name)
        if isinstance(found, bool):
            return found
        return option in found if isinstance(found, list | tuple | set | frozenset) else str(found) == option

    def fault(self, name: str) -> str:
        """Return what is wrong with a field; empty when nothing is."""
        return self.faults.get(name, "")

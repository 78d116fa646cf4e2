"""The table of settings as bodies and answers know it: fields to read, and schemas that say the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from omniroute.blueprints.contract import operation_of
from omniroute.blueprints.management import resilience
from omniroute.blueprints.management.bodies import (
    Field,
    Fields,
    flag,
    integer,
    mapping,
    nested,
    number,
    text,
    texts,
)
from omniroute.blueprints.management.fields import nullable_schema
from omniroute.errors import ValidationFailed
from omniroute.routing.options import AccountStrategy
from omniroute.services import routing_settings
from omniroute.services.budgets import UNPRICED
from omniroute.services.setting_definitions import BY_NAME, FLAGS, Definition, Kind, Tab, in_section

_DAY_MS: Final = 86_400_000
_PROVIDER: Final = {
    "type": "object",
    "properties": {
        "accountStrategy": {"type": ["string", "null"], "enum": [*AccountStrategy, None]},
        "stickyLimit": {"type": ["integer", "null"]},
        "blocked": {"type": "boolean"},
    },
    "required": ["accountStrategy", "stickyLimit", "blocked"],
}

ROUTING: Final = (
    text("accountStrategy", nullable=True, choices=AccountStrategy),
    integer("stickyLimit", nullable=True, minimum=1, maximum=1000),
    integer("sessionAffinityTtlMs", nullable=True, minimum=0, maximum=30 * _DAY_MS),
    flag("cacheAffinity", nullable=True),
    number("switchMargin", nullable=True, minimum=0, maximum=1),
    text("ambiguousModelPolicy", nullable=True, choices=routing_settings.AMBIGUOUS),
    mapping("providers", max_items=500, max_bytes=64 * 1024),
)
BUDGETS: Final = (text("unpriced", nullable=True, choices=UNPRICED),)


def field_of(row: Definition) -> Field:
    """Return the field that a setting is given in; null gives it back to its default."""
    name = row.name
    match row.kind:
        case Kind.FLAG:
            made = flag(name, nullable=True)
        case Kind.WHOLE:
            made = integer(name, nullable=True, minimum=row.minimum, maximum=row.maximum)
        case Kind.WORD:
            made = text(name, nullable=True, choices=row.choices)
        case Kind.WORDS:
            made = texts(name, nullable=True, max_items=row.maximum, max_length=300)
        case Kind.LONG_TEXT:
            made = text(name, nullable=True, min_length=0, max_length=row.maximum, multiline=True)
        case _:
            made = text(name, nullable=True, min_length=0, max_length=row.maximum)
    return replace(made, schema={**made.schema, "description": row.description})


def fields_of(section: str) -> Fields:
    """Return the fields of a section."""
    return Fields(*map(field_of, in_section(section)))


SECTIONS: Final = (*(tab.value for tab in Tab), "routing", "resilience", "budgets")
CHANGE: Final = Fields(
    *(nested(tab.value, fields_of(tab)) for tab in Tab),
    nested("routing", Fields(*ROUTING)),
    mapping("resilience", max_bytes=64 * 1024),
    nested("budgets", Fields(*BUDGETS)),
    *map(field_of, BY_NAME.values()),
    *ROUTING,
    *BUDGETS,
)
"""Values by section, or by their names alone."""
FLAG_VALUES: Final = fields_of(FLAGS)

_ROUTING_NAMES: Final = frozenset(field.name for field in ROUTING)
_BUDGET_NAMES: Final = frozenset(field.name for field in BUDGETS)


def by_section(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return values that were given by section, or by their names alone, all by section.

    Raises:
        ValidationFailed: both ways are mixed, so that it is not clear which of two values counts.
    """
    found: dict[str, dict[str, Any]] = {name: dict(given[name]) for name in SECTIONS if name in given}
    alone = {name: value for name, value in given.items() if name not in SECTIONS}
    if found and alone:
        message = "stands in a section where others do"
        raise ValidationFailed([{"field": name, "message": message} for name in alone])
    for name, value in alone.items():
        if name in _ROUTING_NAMES:
            section = "routing"
        elif name in _BUDGET_NAMES:
            section = "budgets"
        else:
            section = BY_NAME[name].section
        found.setdefault(section, {})[name] = value
    return found


# --- schemas of answers ----------------------------------------------------------------------------------------------


def _value_schema(row: Definition) -> dict[str, Any]:
    field = field_of(row)
    is_nullable = row.default is None and row.kind is Kind.WHOLE
    return nullable_schema(field.schema) if is_nullable else dict(field.schema)


def section_schema(section: str) -> dict[str, Any]:
    """Return the schema of a section as it is shown."""
    return _object({row.name: _value_schema(row) for row in in_section(section)})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _routing_schema() -> dict[str, Any]:
    shown = {field.name: dict(field.schema) for field in ROUTING if field.name != "providers"}
    return _object({**shown, "providers": {"type": "object", "additionalProperties": _PROVIDER}})


def _resilience_schema() -> dict[str, Any]:
    declared = operation_of(resilience.show)
    assert declared is not None  # noqa: S101 - every view declares what it gives
    schema: dict[str, Any] = declared.answers[200].document
    return schema


SETTINGS: Final = _object(
    {
        "settings": _object(
            {
                **{tab.value: section_schema(tab) for tab in Tab},
                "routing": _routing_schema(),
                "resilience": _resilience_schema(),
                "budgets": _object({field.name: dict(field.schema) for field in BUDGETS}),
            }
        ),
        "version": {"type": "integer", "description": "Of the configuration; it grows with every change."},
    }
)
"""The answer that shows every setting."""

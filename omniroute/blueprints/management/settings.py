"""`/api/settings`: what can be changed while the server runs, by section, and the defaults of combos."""

from __future__ import annotations

from typing import Any, Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import Query, operation
from omniroute.blueprints.management.bodies import Fields, answer, mapping, text
from omniroute.blueprints.management.origin import origin
from omniroute.blueprints.management.setting_fields import CHANGE, SECTIONS, SETTINGS, by_section
from omniroute.container import container
from omniroute.routing.options import Strategy
from omniroute.services.setting_definitions import Kind
from omniroute.services.settings import SettingState
from omniroute.services.together import Together, in_one

blueprint = Blueprint("management_settings", __name__)


class SettingDocument(TypedDict):
    """One setting: what it is, what it takes, what it is set to and by whom.

    `choices` are those of a choice; `minimum` and `maximum` bound a whole number, for texts and lists they are null.
    `source` is `env`, `db` or `default`; `fixedBy` names the variable that decides, so that nobody can change it here.
    """

    path: str
    section: str
    name: str
    type: str
    description: str
    takes: str
    choices: list[str]
    minimum: int | None
    maximum: int | None
    value: Any
    default: Any
    source: str
    fixedBy: str | None
    variable: str | None
    isSecurity: bool
    isReadOnly: bool
    requiresRestart: bool


class SettingsFieldsDocument(TypedDict):
    """The settings of the tabs, one by one."""

    fields: list[SettingDocument]
    total: int


class ComboDefaultsDocument(TypedDict):
    """What combos have unless they say otherwise."""

    strategy: str
    config: dict[str, Any]
    strategies: dict[str, Any]


_COMBO_DEFAULTS: Final = Fields(
    text("strategy", nullable=True, choices=Strategy),
    mapping("config", nullable=True, max_bytes=64 * 1024),
    mapping("strategies", nullable=True, max_bytes=64 * 1024),
)


@blueprint.get("/api/settings")
@operation(SETTINGS)
def show() -> Response:
    """Show the settings by section."""
    own = container()
    settings: dict[str, Any] = {
        **own.runtime_settings.sections(),
        "routing": own.routing_settings.routing(),
        "resilience": own.resilience.settings(),
        "budgets": own.budgets.settings(),
    }
    return answer({"settings": settings, "version": own.snapshots.current.version})


@blueprint.route("/api/settings", methods=["PATCH", "PUT"])
@operation(SETTINGS, body=CHANGE, refusals=(409,))
def change() -> Response:
    """Change the given settings, by section or by their names alone; null gives one back to its default.

    All of them are changed, or none. Settings of security need an admin. What a variable of the environment decides is
    refused with `fixed_by_environment`.
    """
    sections, who = by_section(CHANGE.read(request)), origin()

    def work(own: Together) -> None:
        own.settings.change({name: sections[name] for name in _TABLE if name in sections}, who)
        if "routing" in sections:
            own.routing.change_routing(sections["routing"], who)
        if "resilience" in sections:
            own.resilience.change(sections["resilience"], who)
        if "budgets" in sections:
            own.budgets.change_settings(sections["budgets"], who)

    in_one(container().parts, work)
    return show()


_TABLE: Final = tuple(name for name in SECTIONS if name not in ("routing", "resilience", "budgets"))


@blueprint.get("/api/settings/fields")
@operation(SettingsFieldsDocument, query=(Query("q", "Only settings in whose name or description this text is."),))
def fields() -> Response:
    """List the settings with their sources and defaults."""
    wanted = request.args.get("q", "").casefold()
    states = container().runtime_settings.states()
    rows = [shown(one) for one in states if wanted in f"{one.definition.path} {one.definition.description}".casefold()]
    return answer(SettingsFieldsDocument(fields=rows, total=len(rows)))


def shown(state: SettingState) -> SettingDocument:
    """Return a setting as management answers show it."""
    row = state.definition
    is_number = row.kind is Kind.WHOLE
    return {
        "path": row.path,
        "section": row.section,
        "name": row.name,
        "type": row.kind.value,
        "description": row.description,
        "takes": row.takes,
        "choices": list(row.choices),
        "minimum": row.minimum if is_number else None,
        "maximum": row.maximum if is_number else None,
        "value": state.value,
        "default": state.default,
        "source": state.source,
        "fixedBy": state.fixed_by,
        "variable": None if row.variable is None else row.variable.name,
        "isSecurity": row.is_security,
        "isReadOnly": row.is_read_only,
        "requiresRestart": row.needs_restart,
    }


@blueprint.get("/api/settings/combo-defaults")
@operation(ComboDefaultsDocument)
def combo_defaults() -> Response:
    """Show what combos have unless they say otherwise."""
    return answer(container().routing_settings.combo_defaults())


@blueprint.route("/api/settings/combo-defaults", methods=["PUT", "PATCH"])
@operation(ComboDefaultsDocument, body=_COMBO_DEFAULTS)
def set_combo_defaults() -> Response:
    """Change what combos have unless they say otherwise."""
    return answer(container().routing_settings.set_combo_defaults(_COMBO_DEFAULTS.read(request), origin()))

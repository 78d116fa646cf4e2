"""What can be changed while the server runs: what is in force, where it comes from, and how it is changed.

Three sources, the strongest first: a variable of the environment, what is stored, the default. Routing, resilience and
budgets keep their own rules for their sections; here they are shown and changed together with the rest, all of it in
one transaction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute.errors import Conflict, PermissionDenied, ValidationFailed
from omniroute.records import Snapshot
from omniroute.services.access import Power, Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.services.setting_definitions import DEFINITIONS, FLAGS, Definition, Tab, in_section
from omniroute.settings import Settings
from omniroute.storage.database import Database
from omniroute.storage.repositories import settings as rows

Sections = Mapping[str, Mapping[str, Any]]
"""Values by section and name; null gives one back to its default."""

_CLASS_DEFAULTS: Final = {field.name: field.default for field in dataclasses.fields(Settings)}


@dataclass(frozen=True, slots=True)
class SettingState:
    """A setting as it is now.

    Attributes:
        source: `env`, `db` or `default`.
        fixed_by: the variable that decides, where one does.
    """

    definition: Definition
    value: Any
    default: Any
    source: str
    fixed_by: str | None


class SettingsInForce:
    """The values that hold under the current configuration; reading one costs a look-up.

    `current` is the object of settings with what is stored in place of defaults, for those that know it as that.
    """

    def __init__(self, settings: Settings, snapshot: Snapshot) -> None:
        self._start = settings
        self._stored: Mapping[tuple[str, str], Any] = MappingProxyType({})
        self._values: Mapping[tuple[str, str], Any] = MappingProxyType({})
        self.current = settings
        self.rebuild(snapshot)

    def rebuild(self, snapshot: Snapshot) -> None:
        """Follow a new snapshot."""
        if snapshot.settings == self._stored and self._values:
            return
        self._stored = snapshot.settings
        states = [self.state(definition) for definition in DEFINITIONS.values()]
        self._values = MappingProxyType({(one.definition.section, one.definition.name): one.value for one in states})
        chosen = {one.definition.field: one.value for one in states if one.definition.field and one.source == "db"}
        made = replace(self._start, **chosen)
        if made != self.current:
            self.current = made

    def value(self, section: str, name: str) -> Any:
        """Return the value of a setting."""
        return self._values[section, name]

    def section(self, section: str) -> dict[str, Any]:
        """Return the values of a section by name."""
        return {row.name: self._values[section, row.name] for row in in_section(section)}

    def state(self, definition: Definition) -> SettingState:
        """Return a setting with its source. A stored value that is none counts as not chosen."""
        default = self._default(definition)
        stored = self._stored.get((definition.section, definition.name))
        chosen = stored if stored is not None and definition.fits(stored) else None
        variable = self.fixed_by(definition)
        if variable is not None:
            assert definition.field is not None  # noqa: S101 - only a field has a variable
            return SettingState(definition, getattr(self._start, definition.field), default, "env", variable)
        if chosen is not None:
            is_moot = definition.only_tightens and definition.field and getattr(self._start, definition.field)
            return SettingState(definition, bool(is_moot) or chosen, default, "db", None)
        if definition.field is not None:
            source = "env" if definition.field in self._start.sources else "default"
            return SettingState(definition, getattr(self._start, definition.field), default, source, None)
        return SettingState(definition, default, default, "default", None)

    def fixed_by(self, definition: Definition) -> str | None:
        """Return the variable that decides a setting; None where it can be changed."""
        field = definition.field
        if field is None or field not in self._start.sources:
            return None
        if definition.only_tightens and getattr(self._start, field) is not True:
            return None
        variable = definition.variable
        return variable.name if variable is not None else None

    def _default(self, definition: Definition) -> Any:
        field = definition.field
        if field is None:
            return list(definition.default) if isinstance(definition.default, tuple) else definition.default
        return _CLASS_DEFAULTS[field] if field in self._start.sources else getattr(self._start, field)


class RuntimeSettings:
    """Changes the settings of the table."""

    def __init__(
        self,
        *,
        database: Database,
        snapshots: Snapshots,
        in_force: SettingsInForce,
        audit: Recorder,
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._in_force = in_force
        self._audit = audit
        self._now = now

    def states(self) -> list[SettingState]:
        """Return every setting of the tabs, in the order of the table."""
        return [self._in_force.state(row) for row in DEFINITIONS.values() if row.section != FLAGS]

    def flags(self) -> list[SettingState]:
        """Return the feature flags."""
        return [self._in_force.state(row) for row in in_section(FLAGS)]

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return the values in force of every tab."""
        return {tab.value: self._in_force.section(tab) for tab in Tab}

    def stored(self) -> dict[str, dict[str, Any]]:
        """Return what is stored and counts, by section and name."""
        found: dict[str, dict[str, Any]] = {}
        for (section, name), value in self._snapshots.current.settings.items():
            row = DEFINITIONS.get((section, name))
            if row is not None and not row.is_read_only and row.fits(value):
                found.setdefault(section, {})[name] = value
        return found

    def fixed(self, section: str, name: str) -> str | None:
        """Return the variable that decides a setting; None where it can be changed."""
        return self._in_force.fixed_by(DEFINITIONS[section, name])

    def change(self, sections: Sections, origin: Origin) -> None:
        """Change the given settings.

        Raises:
            ValidationFailed: a setting is unknown, its value is none, or two contradict each other.
            PermissionDenied: `scope_insufficient`, a setting of security and no admin.
            Conflict: `fixed_by_environment`, a variable decides.
        """
        self.check(sections, origin)
        changes = {
            (section, name): list(value) if isinstance(value, tuple) else value
            for section, values in sections.items()
            for name, value in values.items()
        }
        old = {key: self._in_force.state(DEFINITIONS[key]).value for key in changes}
        now, by = self._now(), origin.actor.audit_name

        def work(sql: Sql) -> None:
            for (section, name), value in changes.items():
                if value is None:
                    rows.delete(sql, section, name)
                else:
                    rows.put(sql, section, name, value, changed_by=by, now=now)

        self._database.write(work, bump=True)
        for section in sections:
            changed = {
                name: [old[section, name], value]
                for (of, name) in changes
                if of == section and (value := self._in_force.value(of, name)) != old[of, name]
            }
            if changed:
                facts = origin.facts()
                self._audit.record(
                    "settings.changed", target_kind="settings", target_id=section, details=changed, **facts
                )

    def check(self, sections: Sections, origin: Origin) -> None:
        """Refuse what :meth:`change` would refuse."""
        wrong: list[dict[str, str]] = []
        fixed: dict[str, str] = {}
        is_security = False
        for section, values in sections.items():
            for name, value in values.items():
                row = DEFINITIONS.get((section, name))
                problem = _problem(row, value)
                if row is None or problem is not None:
                    wrong.append({"field": f"{section[:40]}.{name[:80]}", "message": problem or "unknown field"})
                    continue
                is_security = is_security or row.is_security
                variable = self._in_force.fixed_by(row)
                if variable is not None and value != self._in_force.value(section, name):
                    fixed[row.path] = variable
        wrong += self._contradictions(sections)
        if wrong:
            raise ValidationFailed(wrong)
        if is_security and origin.actor.power < Power.ADMIN:
            held = origin.actor.power.name.lower()
            raise PermissionDenied(
                f"This credential has scope '{held}'; settings of security need 'admin'.",
                code="scope_insufficient",
                extras={"held": held, "required": "admin"},
            )
        if fixed:
            raise _fixed(fixed)

    def _contradictions(self, sections: Sections) -> Iterable[dict[str, str]]:
        given = sections.get(Tab.SECURITY, {})
        if given.get("bruteForceProtection") is False and not self._in_force.current.is_loopback_bind:
            yield {
                "field": "security.bruteForceProtection",
                "message": "cannot be off while others than this host reach the port",
            }
        times = sections.get(Tab.ADVANCED, {})
        usual, most = "streamReadinessTimeoutMs", "streamReadinessMaxTimeoutMs"
        if usual in times or most in times:
            wait, bound = (self._coming(name, times) for name in (usual, most))
            if isinstance(wait, int) and isinstance(bound, int) and bound < wait:
                yield {"field": f"advanced.{most}", "message": f"must not be less than {usual} ({wait})"}

    def _coming(self, name: str, given: Mapping[str, Any]) -> Any:
        state = self._in_force.state(DEFINITIONS[Tab.ADVANCED, name])
        if name not in given:
            return state.value
        return state.default if given[name] is None else given[name]


def _problem(row: Definition | None, value: Any) -> str | None:
    if row is None:
        return "unknown field"
    if row.is_read_only:
        return f"is read-only here. {row.description}"
    if value is not None and not row.fits(value):
        return f"must be {row.takes}, or null"
    return None


def _fixed(fixed: Mapping[str, str]) -> Conflict:
    named = ", ".join(f"{path} by {variable}" for path, variable in fixed.items())
    return Conflict(
        f"The environment decides this: {named}. Change the variable and restart, or remove it.",
        code="fixed_by_environment",
        extras={"fixed": dict(fixed)},
    )

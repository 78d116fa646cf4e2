"""The settings of a configuration document, each part handed to whoever keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from omniroute.errors import ValidationFailed
from omniroute.services.configuration_document import COMBO_DEFAULTS, PROVIDER_ROUTING, USUAL_PROFILE, plain
from omniroute.services.setting_definitions import DEFINITIONS, FLAGS, Tab
from omniroute.services.together import Together

if TYPE_CHECKING:
    from omniroute.services.configuration import Wanted

TABLE_SECTIONS: Final = (*(tab.value for tab in Tab), FLAGS)
OTHER_SECTIONS: Final = ("routing", "resilience", "budgets", "comboDefaults", "channels", "ipFilter")
SECTIONS: Final = (*TABLE_SECTIONS, *OTHER_SECTIONS)

_CHANNEL_PARTS: Final = ("weights", "exploration", "exclude")
At = Callable[[str], AbstractContextManager[None]]
Warn = Callable[[str, str, str], None]


class SettingsPart:
    """Applies the member `settings` of a document."""

    def __init__(self, own: Together, before: Mapping[str, Any], wanted: Wanted, warn: Warn) -> None:
        """`before`: the same member of the configuration as it is; `warn` takes kind, name and message."""
        self._own = own
        self._before = before
        self._wanted = wanted
        self._warn = warn

    def check(self, given: Mapping[str, Any]) -> None:
        """Refuse sections that nobody has.

        Raises:
            ValidationFailed: there is one, or one is no object.
        """
        details = [{"field": name[:80], "message": "unknown section"} for name in given if name not in SECTIONS]
        details += [
            {"field": name, "message": "must be an object"}
            for name, values in given.items()
            if name in SECTIONS and not isinstance(values, Mapping)
        ]
        if details:
            raise ValidationFailed(details)

    def apply(self, given: Mapping[str, Any], at: At) -> None:
        """Change what differs. `at` gathers what is wrong with a section."""
        for section in SECTIONS:
            values = given.get(section)
            if not isinstance(values, Mapping):
                continue
            with at("settings" if section in TABLE_SECTIONS else f"settings.{section}"):
                if section in TABLE_SECTIONS:
                    self._table(section, values)
                else:
                    self._other(section, values)

    def _other(self, section: str, values: Mapping[str, Any]) -> None:
        match section:
            case "routing":
                self._routing(values)
            case "resilience":
                self._resilience(values)
            case "budgets":
                changed = self._changed(section, values)
                if changed:
                    self._own.budgets.change_settings(changed, self._wanted.origin)
            case "comboDefaults":
                self._combo_defaults(values)
            case "channels":
                self._channels(values)
            case _:
                self._ip_filter(values)

    def _changed(self, section: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is new of a section, and with `prunes` null for what is not named any more."""
        old = self._before.get(section, {})
        changed = {name: value for name, value in values.items() if plain(value) != plain(old.get(name))}
        if self._wanted.prunes:
            changed |= {name: None for name in old if name not in values}
        return changed

    def _table(self, section: str, values: Mapping[str, Any]) -> None:
        changed = self._changed(section, values)
        for name in list(changed):
            variable = self._own.settings.fixed(section, name) if (section, name) in DEFINITIONS else None
            if variable is not None:
                self._warn("setting", f"{section}.{name}", f"{variable} decides this: nothing was changed.")
                del changed[name]
        if changed:
            self._own.settings.change({section: changed}, self._wanted.origin)

    def _routing(self, values: Mapping[str, Any]) -> None:
        changed = self._changed("routing", {name: value for name, value in values.items() if name != "providers"})
        changed.pop("providers", None)
        old = self._before.get("routing", {}).get("providers", {})
        given = values.get("providers") or {}
        whole = {name: _with_usual(chosen) for name, chosen in given.items()}
        providers: dict[str, Any] = {
            name: chosen for name, chosen in whole.items() if plain(chosen) != plain(_with_usual(old.get(name)))
        }
        if self._wanted.prunes:
            providers |= {name: None for name in old if name not in given}
        _refuse_unknown(changed, self._own.routing.routing(), "providers")
        if changed or providers:
            self._own.routing.change_routing({**changed, "providers": providers}, self._wanted.origin)

    def _resilience(self, values: Mapping[str, Any]) -> None:
        fixed = self._own.resilience.fixed()
        kept = self._without_fixed(values, fixed)
        if plain(kept) == plain(self._before.get("resilience", {})):
            return
        if self._wanted.prunes:  # a profile takes the place of everything that was chosen
            kept = {"profile": USUAL_PROFILE, **kept}
        if kept:
            self._own.resilience.change(kept, self._wanted.origin)

    def _without_fixed(self, values: Mapping[str, Any], fixed: Mapping[str, str], at: str = "") -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, value in values.items():
            path = f"{at}.{name}" if at else name
            if path in fixed:
                self._warn("setting", f"resilience.{path}", f"{fixed[path]} decides this: nothing was changed.")
            else:
                kept[name] = self._without_fixed(value, fixed, path) if isinstance(value, Mapping) else value
        return kept

    def _combo_defaults(self, values: Mapping[str, Any]) -> None:
        changed = self._changed("comboDefaults", values)
        _refuse_unknown(changed, COMBO_DEFAULTS)
        if changed:
            self._own.routing.set_combo_defaults(changed, self._wanted.origin)

    def _channels(self, values: Mapping[str, Any]) -> None:
        for name, tuning in self._changed("channels", values).items():
            parts = tuning or {}
            if not isinstance(parts, Mapping):
                raise ValidationFailed([{"field": name[:80], "message": "must be an object"}])
            _refuse_unknown(parts, _CHANNEL_PARTS)
            whole = {**dict.fromkeys(_CHANNEL_PARTS), **parts}
            exclude = {**dict.fromkeys(("providers", "models", "families"), ()), **(whole["exclude"] or {})}
            self._own.routing.tune(name, {**whole, "exclude": exclude}, self._wanted.origin)

    def _ip_filter(self, values: Mapping[str, Any]) -> None:
        _refuse_unknown(values, ("enabled", "mode", "list"))
        if self._changed("ipFilter", values):
            self._own.ip_filter.change(
                values, self._wanted.origin, is_local=self._wanted.is_local, is_forced=self._wanted.is_forced
            )


def _with_usual(chosen: Any) -> Any:
    return {**PROVIDER_ROUTING, **(chosen or {})} if chosen is None or isinstance(chosen, Mapping) else chosen


def _refuse_unknown(given: Mapping[str, Any], known: Any, *but: str) -> None:
    unknown = [name for name in given if name not in known or name in but]
    if unknown:
        raise ValidationFailed([{"field": name[:80], "message": "unknown field"} for name in unknown])

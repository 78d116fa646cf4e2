"""The settings of a combo as fields of its form: their words, what they hold, and the way from text to value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from omniroute.routing.config import DEFAULTS, FACTORS, KEYS

PREFIX: Final = "config."
"""Before the name of a setting in the names of fields, as in the faults that the API tells."""

_FALSE: Final = "false"
_TRUE: Final = "true"


@dataclass(frozen=True, slots=True)
class Setting:
    """One field.

    Attributes:
        kind: `number`, `flag`, `choice`, `lines` or `text`.
        unit: what follows the number.
        options: the values of a choice.
    """

    name: str
    label: LazyString
    hint: LazyString | str = ""
    kind: str = "number"
    unit: str = ""
    options: tuple[str, ...] = ()

    @property
    def field(self) -> str:
        """The name of the field."""
        return PREFIX + self.name

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The options as values with their texts."""
        return [(option, option) for option in self.options]

    @property
    def takes(self) -> str:
        """What values it takes, in words; empty where the field itself says so."""
        key = KEYS.get(self.name)
        return key.takes if key is not None and self.kind == "number" else ""


@dataclass(frozen=True, slots=True)
class Section:
    """Settings that belong together."""

    label: LazyString
    settings: tuple[Setting, ...]


SECTIONS: Final = (
    Section(
        _l("Retries and time"),
        (
            Setting("maxRetries", _l("Retries of one target"), _l("After a passing failure, before content was sent.")),
            Setting("retryDelayMs", _l("Pause before a retry"), unit="ms"),
            Setting("failoverBeforeRetry", _l("Others before a retry"), kind="flag"),
            Setting("maxSetRetries", _l("Repeats of the whole list")),
            Setting("setRetryDelayMs", _l("Pause before a repeat"), unit="ms"),
            Setting("maxAttempts", _l("Attempts in all")),
            Setting("fallbackDelayMs", _l("Pause before the next target"), unit="ms"),
            Setting("timeoutMs", _l("Time for a request"), unit="ms"),
            Setting("targetTimeoutMs", _l("Time for one attempt"), unit="ms"),
            Setting("allowFallbackChain", _l("Fallback chains after the list"), kind="flag"),
            Setting("midStreamContinuation", _l("Continue a broken stream elsewhere"), kind="flag"),
        ),
    ),
    Section(
        _l("Load and sessions"),
        (
            Setting("concurrencyPerModel", _l("Requests at once per target"), _l("0 is no limit.")),
            Setting("queueTimeoutMs", _l("Longest wait for a place"), unit="ms"),
            Setting("queueDepth", _l("Most that wait")),
            Setting("stickyRoundRobinLimit", _l("Requests before the turn moves on"), _l("Of round robin.")),
            Setting("stickyWeightedLimit", _l("Requests before a new draw"), _l("Of weighted.")),
            Setting("leastUsedWindowMin", _l("Window of least used"), unit="min"),
            Setting("disableSessionStickiness", _l("Ignore sessions"), kind="flag"),
            Setting("maxComboDepth", _l("Depth of combos in combos")),
        ),
    ),
    Section(
        _l("Money and context"),
        (
            Setting("budgetCap", _l("Most that a request may cost"), unit="USD"),
            Setting(
                "budgetFallback",
                _l("When all cost more"),
                _l("Soft uses the cheapest, strict refuses."),
                kind="choice",
                options=("soft", "strict"),
            ),
            Setting("minContextWindow", _l("Smallest window"), _l("Targets with less are left out."), unit="tokens"),
            Setting("handoffThreshold", _l("Share of the window before moving on"), _l("Of context relay.")),
            Setting("reservePercent", _l("Quota held back"), _l("Of expiring first."), unit="%"),
            Setting("reserveReleasePercent", _l("Released in the last part of the window"), unit="%"),
            Setting("spendReserve", _l("Use of the reserve"), kind="choice", options=("last-resort", "never")),
        ),
    ),
    Section(
        _l("Second request when the first is slow"),
        (
            Setting("hedging", _l("Ask a second target"), kind="flag"),
            Setting("hedgeDelayMs", _l("After so long without content"), _l("A time in ms, or auto."), kind="text"),
            Setting("hedgeAllowPaid", _l("Also one that costs money"), kind="flag"),
        ),
    ),
    Section(
        _l("Scores of the strategy auto"),
        (
            Setting(
                "modePack",
                _l("Weights of"),
                kind="choice",
                options=("balanced", "fast", "cheap", "quality", "reliable", "offline"),
            ),
            Setting("explorationRate", _l("Share of requests that explore"), _l("0 to 0.5")),
            Setting("candidatePool", _l("Further candidates"), _l("One model per line."), kind="lines"),
            Setting("weights", _l("Weights of its own"), _l("One per line: latency = 0.3"), kind="lines"),
        ),
    ),
    Section(
        _l("Checks of an answer"),
        (
            Setting("forbidden", _l("Must not hold"), _l("One text per line; not for streams."), kind="lines"),
            Setting("required", _l("Must hold"), _l("One text per line."), kind="lines"),
            Setting("minContentLength", _l("Least characters")),
            Setting(
                "jsonPath",
                _l("JSON must have"),
                _l("One per line: a.b, a.b = 1, or !a.b for what must be absent."),
                kind="lines",
            ),
        ),
    ),
)
_ALL: Final = tuple(setting for section in SECTIONS for setting in section.settings)
_CHECKS: Final = ("forbidden", "required", "minContentLength", "jsonPath")
FAULT_FIELDS: Final[Mapping[str, str]] = {
    "config.contextRequirements": PREFIX + "minContextWindow",
    "config.responseValidation": PREFIX + "forbidden",
}
"""Where a fault of a setting is shown whose field has another name."""


def fields_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of the fields for stored settings."""
    values = dict(config)
    values["minContextWindow"] = (values.pop("contextRequirements", None) or {}).get("minContextWindow")
    values |= values.pop("responseValidation", None) or {}
    return {one.field: _text(one.name, values[one.name]) for one in _ALL if values.get(one.name) is not None}


def config_of(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that a form holds; an empty field sets nothing."""
    given = {one.name: _value(one, form.get(one.field, "").strip()) for one in _ALL if form.get(one.field, "").strip()}
    window = given.pop("minContextWindow", None)
    if window is not None:
        given["contextRequirements"] = {"minContextWindow": window}
    checks = {name: given.pop(name) for name in _CHECKS if name in given}
    if checks:
        given["responseValidation"] = checks
    return given


def defaults_for(strategy: str, stored: Mapping[str, Any]) -> dict[str, str]:
    """Return what each setting is when a combo with a strategy leaves it out, in words, by the setting's name.

    Args:
        strategy: of the combo.
        stored: what the operator has chosen for all combos, as the API shows it.
    """
    chosen = {**stored.get("config", {}), **(stored.get("strategies", {}).get(strategy) or {})}
    context = chosen.pop("contextRequirements", None) or {}
    checks = chosen.pop("responseValidation", None) or {}
    chosen |= {name: value for name, value in {**context, **checks}.items() if value is not None}
    return {one.name: _shown(one, chosen) for one in _ALL}


def _shown(one: Setting, chosen: Mapping[str, Any]) -> str:
    key = KEYS.get(one.name)
    value = chosen.get(one.name, getattr(DEFAULTS, key.attribute) if key is not None else None)
    if value is None or value in ((), {}, []):
        return _("none")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    text = _text(one.name, value).replace("\n", ", ")
    return f"{text} {one.unit}" if one.unit else text


def _value(one: Setting, text: str) -> Any:
    """Return a value for the API; what is no number stays a text, which the API refuses with the field's name."""
    match one.kind:
        case "flag":
            return text == _TRUE
        case "number":
            return _number(text)
        case "text":
            return _number(text)
        case "lines":
            return _lines(one.name, [line.strip() for line in text.splitlines() if line.strip()])
        case _:
            return text


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _lines(name: str, lines: list[str]) -> Any:
    match name:
        case "weights":
            parts = (line.replace(":", "=").partition("=") for line in lines)
            return {factor.strip(): _number(weight.strip()) for factor, _sign, weight in parts}
        case "jsonPath":
            return [_predicate(line) for line in lines]
        case _:
            return lines


def _predicate(line: str) -> dict[str, Any]:
    path, sign, wanted = line.partition("=")
    if not sign:
        return {"path": path.strip().removeprefix("!"), "exists": not path.strip().startswith("!")}
    try:
        return {"path": path.strip(), "equals": msgspec.json.decode(wanted.strip())}
    except msgspec.DecodeError:
        return {"path": path.strip(), "equals": wanted.strip()}


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if name == "weights":
        return "\n".join(f"{factor} = {value[factor]:g}" for factor in FACTORS if factor in value)
    if name == "jsonPath":
        return "\n".join(_predicate_text(rule) for rule in value)
    if isinstance(value, list | tuple):
        return "\n".join(str(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _predicate_text(rule: Mapping[str, Any]) -> str:
    if "equals" in rule:
        return f"{rule['path']} = {msgspec.json.encode(rule['equals']).decode()}"
    return rule["path"] if rule["exists"] else f"!{rule['path']}"

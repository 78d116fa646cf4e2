"""What the form of an API key holds, and the way to what the API takes and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from flask_babel import gettext as _
from werkzeug.datastructures import MultiDict

from omniroute.blueprints.dashboard.combo_form import split
from omniroute.blueprints.tiers import inference_endpoints

INFERENCE: Final = "inference"
MANAGE: Final = "manage"
CUSTOM: Final = "custom"
_OWN_USAGE: Final = "self:usage"
_SCOPES: Final[Mapping[str, tuple[str, ...]]] = {
    INFERENCE: ("chat", _OWN_USAGE),
    MANAGE: ("chat", "manage", _OWN_USAGE),
}
_LISTS: Final = ("allowedModels", "blockedModels", "allowedCombos", "ipAllowlist")
_NUMBERS: Final = ("maxConcurrent", "maxSessions", "throttleDelayMs")
_FLAGS: Final = ("noLog", "hidePaidModels", "isCanary")
_PERIODS: Final = ("daily", "weekly", "monthly")
FAULT_FIELDS: Final[Mapping[str, str]] = {
    "expiresAt": "expires",
    "rateLimits": "rules",
    "accessSchedule": "scheduleTz",
    "accessSchedule.from": "scheduleFrom",
    "accessSchedule.until": "scheduleUntil",
    "accessSchedule.tz": "scheduleTz",
}
"""Fields of the form by their names in the API, where these differ."""
OF_MORE: Final = (
    "blockedModels",
    "ipAllowlist",
    "rules",
    "scheduleFrom",
    "scheduleUntil",
    "scheduleTz",
    "allowedEndpoints",
    "allowedConnections",
    *_NUMBERS,
    *(f"budget-{period}" for period in _PERIODS),
)
"""Fields that are folded away until something is wrong with one of them."""


def endpoints() -> list[str]:
    """Return the endpoints that a key may be restricted to."""
    return sorted(inference_endpoints())


def kind_of(scopes: Iterable[str]) -> str:
    """Return the kind of key that scopes make."""
    held = {*scopes, _OWN_USAGE}
    return next((kind for kind, given in _SCOPES.items() if held == set(given)), CUSTOM)


def values_of(key: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the fields show for a stored key."""
    values: dict[str, Any] = {name: "\n".join(key[name]) for name in _LISTS}
    values |= {name: "" if key[name] is None else str(key[name]) for name in _NUMBERS}
    values |= {name: bool(key[name]) for name in _FLAGS}
    schedule = key["accessSchedule"] or {}
    return values | {
        "name": key["name"],
        "kind": kind_of(key["scopes"]),
        "scopes": ", ".join(key["scopes"]),
        "expires": (key["expiresAt"] or "")[:10],
        "allowedEndpoints": list(key["allowedEndpoints"]),
        "allowedConnections": list(key["allowedConnections"]),
        "rules": "\n".join(f"{rule['limit']} / {rule['windowSeconds']}" for rule in key["rateLimits"]),
        "hasSchedule": bool(schedule.get("enabled")),
        "scheduleFrom": schedule.get("from", ""),
        "scheduleUntil": schedule.get("until", ""),
        "scheduleDays": [str(day) for day in schedule.get("days", ())],
        "scheduleTz": schedule.get("tz", ""),
    }


def typed_values(form: MultiDict[str, str]) -> dict[str, Any]:
    """Return what the fields show after they were sent."""
    values: dict[str, Any] = dict(form.items())
    values |= {name: name in form for name in (*_FLAGS, "hasSchedule")}
    return values | {name: form.getlist(name) for name in ("allowedEndpoints", "allowedConnections", "scheduleDays")}


def body_of(form: MultiDict[str, str], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the key as the API takes it; `stored` is what it has now."""
    body: dict[str, Any] = {"name": form.get("name", "").strip(), "scopes": _scopes(form)}
    body |= {name: split(form.get(name, "")) for name in _LISTS}
    body |= {name: _number(form.get(name, "")) for name in _NUMBERS}
    body |= {name: name in form for name in _FLAGS}
    body["allowedEndpoints"] = form.getlist("allowedEndpoints")
    body["allowedConnections"] = form.getlist("allowedConnections")
    body["rateLimits"] = [_rule(line) for line in form.get("rules", "").splitlines() if line.strip()]
    body["accessSchedule"] = _schedule(form, stored)
    expires = _expires(form.get("expires", "").strip(), stored)
    return body if expires is _SAME else {**body, "expiresAt": expires}


def budgets_of(form: MultiDict[str, str]) -> dict[str, float]:
    """Return the budgets in USD by period that a form sets.

    Raises:
        ValueError: one is not an amount; its first argument is the field.
    """
    found: dict[str, float] = {}
    for period in _PERIODS:
        text = form.get(f"budget-{period}", "").strip().replace(",", ".")
        if not text:
            continue
        try:
            amount = float(text)
        except ValueError:
            raise ValueError(f"budget-{period}") from None
        if not 0 < amount <= 1e9:
            raise ValueError(f"budget-{period}")
        found[f"{period}LimitUsd"] = amount
    return found


def days() -> list[tuple[str, str]]:
    """Return the days of the week as values with their names."""
    names = (_("Mon"), _("Tue"), _("Wed"), _("Thu"), _("Fri"), _("Sat"), _("Sun"))
    return [(str(at), name) for at, name in enumerate(names)]


_SAME: Final = object()
"""The time of expiry stays what it is, to the second."""


def _expires(text: str, stored: Mapping[str, Any] | None) -> Any:
    """Return when a key ends: at the end of the day that was chosen."""
    was = (stored or {}).get("expiresAt") or ""
    if text == was[:10]:
        return _SAME
    return f"{text}T23:59:59Z" if text else None


def _scopes(form: MultiDict[str, str]) -> list[str]:
    kind = form.get("kind", INFERENCE)
    return list(_SCOPES.get(kind, ())) or split(form.get("scopes", ""))


def _schedule(form: MultiDict[str, str], stored: Mapping[str, Any] | None) -> dict[str, Any] | None:
    days_chosen = [int(day) for day in form.getlist("scheduleDays") if day.isdecimal()]
    is_on = "hasSchedule" in form
    if not is_on and not (stored or {}).get("accessSchedule"):
        return None
    return {
        "enabled": is_on,
        "from": form.get("scheduleFrom", "").strip(),
        "until": form.get("scheduleUntil", "").strip(),
        "days": days_chosen or list(range(7)),
        "tz": form.get("scheduleTz", "").strip() or "UTC",
    }


def _rule(line: str) -> dict[str, Any]:
    limit, _slash, seconds = line.partition("/")
    return {"limit": _number(limit), "windowSeconds": _number(seconds.strip().removesuffix("s"))}


def _number(text: str) -> int | str | None:
    """Return a whole number, None for an empty field; what is none stays a text, which the API refuses."""
    text = text.strip()
    if not text:
        return None
    return int(text) if text.isdecimal() and len(text) < 12 else text

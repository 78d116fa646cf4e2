"""Providers as pages show them: to which group they belong, how they do, and whether they can be connected here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from omniroute.blueprints.dashboard import api
from omniroute.errors import NotFound

GROUPS: Final[Mapping[str, LazyString]] = {
    "custom": _l("Custom endpoints"),
    "subscription": _l("Subscription"),
    "api_key": _l("API key"),
    "cheap": _l("Cheap"),
    "free": _l("Free"),
    "local": _l("Local"),
    "media": _l("Speech and media"),
    "search": _l("Search"),
}
"""The groups in the order in which pages show them; those between the first and the last two are tiers of the API."""

SANDBOX: Final = "sandbox"
_USABLE: Final = frozenset({"ok", "untested"})
_BROKEN: Final = frozenset({"error", "dead"})
_MOST: Final = 200
"""Rows that the API gives at once."""


@dataclass(frozen=True, slots=True)
class State:
    """How a provider does.

    Attributes:
        name: `ok`, `untested`, `partly`, `resting`, `failing`, `off` or `none`.
        kind: the colour of its badge.
        ok, total: connections that can serve, and all.
        until: when the first resting connection, or the provider, is tried again.
    """

    name: str
    label: str
    kind: str
    ok: int = 0
    total: int = 0
    until: str | None = None

    @property
    def is_failing(self) -> bool:
        """Whether something about it needs the operator."""
        return self.name in ("failing", "partly")


def all_of(path: str, name: str, **query: Any) -> list[dict[str, Any]]:
    """Return every row of a list of the API."""
    rows: list[dict[str, Any]] = []
    while True:
        found = api.get(path, limit=_MOST, offset=len(rows), **query)
        rows += found[name]
        if not found[name] or len(rows) >= found["total"]:
            return rows


def catalogue() -> list[dict[str, Any]]:
    """Return the providers that can be connected, or are."""
    found: list[dict[str, Any]] = api.get("/api/providers/available")["providers"]
    return found


def find(name: str) -> dict[str, Any]:
    """Return a provider by its id, its prefix or another of its names.

    Raises:
        NotFound: there is none.
    """
    plain = name.casefold()
    for row in catalogue():
        if plain in (row["id"].casefold(), row["alias"].casefold(), *(other.casefold() for other in row["aliases"])):
            return row
    raise NotFound("There is no provider or endpoint of this name.")


def group_of(provider: Mapping[str, Any]) -> str:
    """Return the group of a provider: what it is for where it has no chat, else what its use costs."""
    if provider["isNode"]:
        return "custom"
    if "chat" not in provider["services"]:
        return "search" if "search" in provider["services"] else "media"
    return str(provider["tier"])


def obstacle(provider: Mapping[str, Any]) -> str:
    """Return why a provider cannot be connected here; empty when it can."""
    if provider["id"] == SANDBOX:
        return _("It is built in and always connected.")
    if provider["status"] == "discontinued":
        instead = " / ".join(provider["replacedBy"])
        ended = provider["note"] or _("This service has ended.")
        return _("%(ended)s Use %(instead)s.", ended=ended, instead=instead) if instead else ended
    if not {"apikey", "none"} & set(provider["authKinds"]):
        return _("It is used with a login, not with a key. This release has no such logins.")
    return ""


def by_provider(connections: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return connections by the id of their provider."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in connections:
        found[row["provider"]].append(row)
    return found


def breakers() -> dict[str, Mapping[str, Any]]:
    """Return the breakers that are not closed, by the name of their provider."""
    found = api.get("/api/resilience/state")["breakers"]
    return {row["provider"]: row for row in found if row["state"].upper() == "OPEN"}


def state_of(
    provider: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], open_breakers: Mapping[str, Mapping[str, Any]]
) -> State:
    """Return how a provider does, from its connections and its breaker."""
    rows = list(rows)
    if provider["id"] == SANDBOX:
        return State("ok", _("Always on"), "good")
    active = [row for row in rows if row["isActive"]]
    breaker = open_breakers.get(provider["id"]) or open_breakers.get(provider["alias"])
    until = min((row["cooldownUntil"] for row in active if row["cooldownUntil"]), default=None)
    if active and breaker is not None:
        name, label, kind = "failing", _("Down"), "bad"
        until = breaker["retryAt"]
    else:
        name, label, kind = _word(rows, [row["status"] for row in active])
    return State(name, label, kind, sum(row["status"] in _USABLE for row in active), len(rows), until)


def _word(rows: Sequence[Mapping[str, Any]], states: Sequence[str]) -> tuple[str, str, str]:
    """Return the name of a state, what it is called, and its colour; `states` are those of active connections."""
    broken = sum(state in _BROKEN for state in states)
    usable = sum(state in _USABLE for state in states)
    if not rows:
        return "none", _("Not connected"), "off"
    if not states:
        return "off", _("Switched off"), "off"
    if broken == len(states):
        return "failing", _("Failing"), "bad"
    if not usable:
        return "resting", _("Resting"), "warn"
    if broken:
        return "partly", _("Partly failing"), "warn"
    if usable < len(states):
        return "ok", _("Partly resting"), "warn"
    if all(state == "untested" for state in states):
        return "untested", _("Not tested"), "info"
    return "ok", _("Working"), "good"

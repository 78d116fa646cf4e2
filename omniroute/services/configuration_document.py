"""The configuration as one document for people to review: names in place of ids, no secrets, always in the same order.

    {version, settings{}, nodes[], providers[], combos[], aliases[], mappings[], chains[], budgets[], tokenLimits[],
     prices{}}

A field that has its usual value is left out; see :data:`KINDS`. Two servers with the same configuration have the same
document, whatever ids they gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from omniroute.money.book import OVERRIDE
from omniroute.money.limits import EVERYBODY, KEYLESS
from omniroute.money.periods import Period
from omniroute.money.tariff import NANO
from omniroute.records import ApiKey, AuthType, Combo, ComboStep, Connection, Node, PriceRow, Snapshot
from omniroute.routing.auto import CHANNELS
from omniroute.routing.resilience import Profile
from omniroute.services.routing_settings import NAMES as ROUTING_NAMES
from omniroute.services.together import Together

VERSION: Final = 1
Entry = Mapping[str, Any]

COMBO_DEFAULTS: Final = ("strategy", "config", "strategies")
PROVIDER_ROUTING: Final = {"accountStrategy": None, "stickyLimit": None, "blocked": False}
"""What holds for a provider of which nothing is said."""
USUAL_PROFILE: Final = Profile.BALANCED.value
PRICE_FIELDS: Final = {
    "input": "input",
    "output": "output",
    "cached": "cache_read",
    "cacheWrite": "cache_write",
    "cacheWrite1h": "cache_write_1h",
    "reasoning": "reasoning",
    "audioInput": "audio_input",
    "audioOutput": "audio_output",
    "perCharacter": "per_character",
    "perRequest": "per_request",
    "perImage": "per_image",
    "perSecond": "per_second",
}
"""Names in the document, and those of the rows."""
STEP_FIELDS: Final = ("input", "output", "cached", "cacheWrite")
ALL_CALLERS: Final = "all"
NO_KEY: Final = "local"
KEY_PREFIX: Final = "key:"

_CONNECTION: Final = {
    "isActive": "is_active",
    "group": "group_name",
    "defaultModel": "default_model",
    "requestsPerMinute": "requests_per_minute",
    "minTimeBetweenRequestsMs": "min_gap_ms",
    "concurrentRequests": "max_concurrent",
    "quotaCutoffs": "quota_cutoffs",
    "proxyEnabled": "proxy_enabled",
    "providerData": "provider_data",
}
_NODE: Final = {"apiType": "api_type", "chatPath": "chat_path", "modelsPath": "models_path", "isLocal": "is_local"}
_COMBO: Final = {
    "description": "description",
    "config": "config",
    "isActive": "is_active",
    "isDefault": "is_default",
    "allowedModelFamilies": "allowed_families",
    "context_length": "context_length",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One list of the document.

    Attributes:
        noun: what one entry is called in reports.
        name: what people call an entry; entries of two documents with the same name are the same thing.
        usual: the fields that are left out while they have this value.
    """

    member: str
    noun: str
    name: Callable[[Entry], str]
    usual: Mapping[str, Any] = field(default_factory=dict)

    def whole(self, entry: Entry) -> dict[str, Any]:
        """Return an entry with the usual values of what it leaves out."""
        return {**self.usual, **entry}

    def lean(self, entry: Entry) -> dict[str, Any]:
        """Return an entry without the values that say nothing."""
        return {
            name: value
            for name, value in entry.items()
            if value is not None and not (name in self.usual and plain(value) == plain(self.usual[name]))
        }


NODES: Final = Kind(
    "nodes", "node", lambda one: str(one["prefix"]), {**dict.fromkeys(_NODE), "isLocal": False, "headers": []}
)
PROVIDERS: Final = Kind(
    "providers",
    "connection",
    lambda one: f"{one['provider']}/{one['name']}",
    {
        **dict.fromkeys(_CONNECTION),
        "auth": AuthType.API_KEY.value,
        "isActive": True,
        "quotaCutoffs": {},
        "proxyEnabled": True,
        "providerData": {},
    },
)
COMBOS: Final = Kind(
    "combos",
    "combo",
    lambda one: str(one["name"]),
    {
        "description": None,
        "config": {},
        "isActive": True,
        "isDefault": False,
        "allowedProviders": [],
        "allowedModelFamilies": [],
        "context_length": None,
    },
)
ALIASES: Final = Kind("aliases", "alias", lambda one: str(one["pattern"]), {"priority": 0, "enabled": True})
MAPPINGS: Final = Kind(
    "mappings",
    "mapping",
    lambda one: f"{one['pattern']} → {one['combo']}",
    {"priority": 0, "enabled": True, "description": None},
)
CHAINS: Final = Kind("chains", "chain", lambda one: str(one["name"]), {"match": ["*"], "order": 0, "enabled": True})
BUDGETS: Final = Kind(
    "budgets",
    "budget",
    lambda one: f"{one['scope']} {one['period']}",
    {"warningThreshold": 0.8, "resetTime": "00:00"},
)
TOKEN_LIMITS: Final = Kind(
    "tokenLimits",
    "token_limit",
    lambda one: " ".join(filter(None, (one["scope"], one.get("of"), one.get("value"), one["period"]))),
    {"of": "global", "value": None, "enabled": True},
)
KINDS: Final = (NODES, PROVIDERS, COMBOS, ALIASES, MAPPINGS, CHAINS, BUDGETS, TOKEN_LIMITS)
_SETTING: Final = "setting"
_STEP_USUAL: Final = {"weight": 1.0, "enabled": True, "tags": []}


def plain(value: Any) -> Any:
    """Return a value as JSON has it, so that equal ones are equal whatever they are kept in."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


class Names:
    """The names of what the document refers to, both ways."""

    def __init__(self, own: Together) -> None:
        self._directory = own.tried.directories.current
        snapshot: Snapshot = own.tried.current
        self._connections = {row.id: row for row in snapshot.connections}
        self._combos = {combo.id: combo.name for combo in snapshot.combos}
        self._keys = {key.id: key for key in snapshot.keys if key.revoked_at is None}

    def provider(self, provider_id: str) -> str:
        """Return the prefix of a provider or node; its id when it is gone."""
        found = self._directory.provider(provider_id)
        return provider_id if found is None else found.prefix

    def connection(self, connection_id: str) -> str:
        """Return what a step calls a connection."""
        found = self._connections.get(connection_id)
        return connection_id if found is None else f"{self.provider(found.provider)}/{found.name}"

    def combo(self, combo_id: str) -> str:
        """Return the name of a combo."""
        return self._combos.get(combo_id, combo_id)

    def scope(self, scope_id: str) -> str:
        """Return what a budget calls its callers; a key whose name others have too goes by its id."""
        match scope_id:
            case str(every) if every == EVERYBODY:
                return ALL_CALLERS
            case str(keyless) if keyless == KEYLESS:
                return NO_KEY
        key = self._keys.get(scope_id)
        name = scope_id if key is None or len(self._named(key.name)) > 1 else key.name
        return KEY_PREFIX + name

    def scope_id(self, scope: str) -> str | None:
        """Return whom a budget is about; None where there is no such key."""
        if scope in (ALL_CALLERS, NO_KEY):
            return EVERYBODY if scope == ALL_CALLERS else KEYLESS
        name = scope.removeprefix(KEY_PREFIX)
        if name in self._keys:
            return name
        found = self._named(name)
        return found[0].id if len(found) == 1 else None

    def connection_id(self, name: str) -> str | None:
        """Return the connection that a step means; None where there is none, or more than one."""
        found = [row.id for row in self._connections.values() if self.connection(row.id) == name]
        return found[0] if len(found) == 1 else None

    def combo_id(self, name: str) -> str | None:
        """Return the id of a combo."""
        return next((key for key, own in self._combos.items() if own == name), None)

    def _named(self, name: str) -> list[ApiKey]:
        return [key for key in self._keys.values() if key.name == name]


def exported(own: Together) -> dict[str, Any]:
    """Return the configuration as a document."""
    names, snapshot = Names(own), own.tried.current
    lists: dict[str, Iterable[Entry]] = {
        "nodes": sorted((_node(node) for node in snapshot.nodes), key=NODES.name),
        "providers": sorted((_connection(row, names) for row in snapshot.connections), key=_by_provider),
        "combos": [_combo(combo, names) for combo in snapshot.combos],
        "aliases": sorted((_alias(row) for row in snapshot.aliases), key=ALIASES.name),
        "mappings": sorted((_mapping(row, names) for row in snapshot.combo_patterns), key=MAPPINGS.name),
        "chains": [_chain(chain) for chain in snapshot.chains],
        "budgets": sorted(_budgets(snapshot, names), key=_by_period),
        "tokenLimits": sorted(_token_limits(own, names), key=TOKEN_LIMITS.name),
    }
    document: dict[str, Any] = {"version": VERSION, "settings": _settings(own, names)}
    for kind in KINDS:
        document[kind.member] = [plain(kind.lean(entry)) for entry in lists[kind.member]]
    document["prices"] = _prices(snapshot.prices, names)
    return document


def _by_provider(one: Entry) -> tuple[str, int, str]:
    return (one["provider"], one["priority"], one["name"])


def _by_period(one: Entry) -> tuple[str, int]:
    return (one["scope"], list(Period).index(Period(one["period"])))


# --- settings --------------------------------------------------------------------------------------------------------


def _settings(own: Together, names: Names) -> dict[str, Any]:
    stored = own.tried.current.settings
    found: dict[str, Any] = {
        name: dict(sorted(values.items())) for name, values in sorted(own.settings.stored().items())
    }
    routing = {name: stored["routing", name] for name in ROUTING_NAMES if ("routing", name) in stored}
    chosen = own.routing.routing()["providers"]
    if chosen:
        routing["providers"] = {
            names.provider(name): {
                field: value for field, value in chosen[name].items() if value != PROVIDER_ROUTING[field]
            }
            for name in sorted(chosen, key=names.provider)
        }
    state = own.ip_filter.state()
    rules = {"enabled": state.is_enabled, "mode": state.mode.value, "list": sorted(state.entries)}
    parts = {
        "routing": routing,
        "resilience": _chosen_resilience(own),
        "budgets": {"unpriced": stored["budgets", "unpriced"]} if ("budgets", "unpriced") in stored else {},
        "comboDefaults": {
            name: stored["combo-defaults", name] for name in COMBO_DEFAULTS if ("combo-defaults", name) in stored
        },
        "channels": _channels(own.tried.current, names),
        "ipFilter": rules if state.is_enabled or state.entries else {},
    }
    found.update((name, values) for name, values in parts.items() if values)
    cleaned: dict[str, Any] = plain(found)
    return cleaned


def _chosen_resilience(own: Together) -> dict[str, Any]:
    stored = own.resilience.stored()
    if stored.get("profile") == USUAL_PROFILE:
        del stored["profile"]
    return dict(sorted(stored.items()))


def _channels(snapshot: Snapshot, names: Names) -> dict[str, Any]:
    tuned = {one.channel: one for one in snapshot.channels if not one.api_key_id}
    found: dict[str, Any] = {}
    for channel in CHANNELS:
        if channel not in tuned:
            continue
        one = tuned[channel]
        exclude = {
            "providers": sorted(names.provider(name) for name in one.excluded_providers),
            "models": list(one.excluded_models),
            "families": list(one.excluded_families),
        }
        parts = {
            "weights": dict(sorted(one.weights.items())),
            "exploration": one.exploration,
            "exclude": {name: values for name, values in exclude.items() if values},
        }
        found[channel] = {name: value for name, value in parts.items() if value not in (None, {})}
    return found


# --- lists -----------------------------------------------------------------------------------------------------------


def _node(node: Node) -> Entry:
    own = {"name": node.name, "prefix": node.prefix, "type": node.type.value, "baseUrl": node.base_url}
    more = {name: getattr(node, column) for name, column in _NODE.items()}
    return {**own, **more, "headers": sorted(node.custom_headers)}


def _connection(row: Connection, names: Names) -> Entry:
    own = {"provider": names.provider(row.provider), "name": row.name, "priority": row.priority}
    own["auth"] = row.auth_type.value
    return {**own, **{name: getattr(row, column) for name, column in _CONNECTION.items()}}


def _combo(combo: Combo, names: Names) -> Entry:
    own = {"name": combo.name, "strategy": combo.strategy, "models": [_step(step, names) for step in combo.steps]}
    more = {name: getattr(combo, column) for name, column in _COMBO.items()}
    return {**own, **more, "allowedProviders": [names.provider(name) for name in combo.allowed_providers]}


def _step(step: ComboStep, names: Names) -> Any:
    match step.kind:
        case "combo-ref":
            own: dict[str, Any] = {"combo": step.combo_name}
        case "auto":
            own = {"channel": step.channel}
        case _:
            own = {"model": step.model}
    if step.provider is not None:
        own["provider"] = names.provider(step.provider)
    if step.connection_id is not None:
        own["connection"] = names.connection(step.connection_id)
    more = {"weight": step.weight, "label": step.label, "tags": list(step.tags), "enabled": step.enabled}
    own.update((k, v) for k, v in more.items() if v is not None and plain(v) != plain(_STEP_USUAL.get(k)))
    return own["model"] if list(own) == ["model"] else own


def _alias(row: Any) -> Entry:
    return {"pattern": row.pattern, "target": row.target, "priority": row.priority, "enabled": row.enabled}


def _mapping(row: Any, names: Names) -> Entry:
    own = {"pattern": row.pattern, "combo": names.combo(row.combo_id), "priority": row.priority}
    return {**own, "enabled": row.enabled, "description": row.description or None}


def _chain(chain: Any) -> Entry:
    own = {"name": chain.name, "models": list(chain.models), "match": list(chain.match)}
    return {**own, "order": chain.order, "enabled": chain.enabled}


def _budgets(snapshot: Snapshot, names: Names) -> Iterable[Entry]:
    for scope_id, some in snapshot.budgets.items():
        for one in some:
            yield {
                "scope": names.scope(scope_id),
                "period": one.period,
                "limit": one.limit_nano_usd / NANO,
                "warningThreshold": one.warning_threshold,
                "resetTime": one.reset_time,
                "timeZone": one.time_zone,
            }


def _token_limits(own: Together, names: Names) -> Iterable[Entry]:
    for state in own.token_limits.all():
        one = state.limit
        yield {
            "scope": names.scope(one.scope_id),
            "of": one.scope_type,
            "value": one.scope_value,
            "period": one.period,
            "limit": one.token_limit,
            "enabled": one.enabled,
        }


def _prices(rows: Iterable[PriceRow], names: Names) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for row in sorted(
        (row for row in rows if row.source == OVERRIDE), key=lambda row: (names.provider(row.provider), row.model)
    ):
        found.setdefault(names.provider(row.provider), {})[row.model] = price_entry(row)
    return found


def price_entry(row: PriceRow) -> dict[str, Any]:
    """Return a price in USD per million, or per one of what the field names."""
    entry: dict[str, Any] = {
        name: _number(price) for name, column in PRICE_FIELDS.items() if (price := getattr(row, column)) is not None
    }
    if row.tiers:
        entry["tiers"] = [
            {
                "above": step.above,
                **{
                    name: _number(price)
                    for name in STEP_FIELDS
                    if (price := getattr(step, PRICE_FIELDS[name])) is not None
                },
            }
            for step in row.tiers
        ]
    return entry


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


# --- comparing -------------------------------------------------------------------------------------------------------


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return how two documents differ: `{kind, name, action, fields?}`, in the order of the document."""
    found = _compared(_SETTING, _settings_by_path(before["settings"]), _settings_by_path(after["settings"]))
    for kind in KINDS:
        old, new = (_by_name(kind, document[kind.member]) for document in (before, after))
        found += _compared(kind.noun, old, new)
    old, new = (
        {
            f"{provider}/{model}": price
            for provider, models in document["prices"].items()
            for model, price in models.items()
        }
        for document in (before, after)
    )
    found += _compared("price", old, new)
    order = [[one["name"] for one in document["combos"]] for document in (before, after)]
    if order[0] != order[1] and sorted(order[0]) == sorted(order[1]):
        found.append({"kind": "combo", "name": "*", "action": "update", "fields": {"order": order}})
    return found


def _by_name(kind: Kind, entries: Iterable[Entry]) -> dict[str, Entry]:
    """Return entries by name; further ones of the same name are counted."""
    found: dict[str, Entry] = {}
    for entry in entries:
        name, number = kind.name(entry), 1
        while (name if number == 1 else f"{name} ({number})") in found:
            number += 1
        found[name if number == 1 else f"{name} ({number})"] = kind.whole(entry)
    return found


def _settings_by_path(settings: Mapping[str, Any]) -> dict[str, Entry]:
    return {path: {"value": value} for path, value in _leaves(settings, "", depth=2)}


def _leaves(values: Mapping[str, Any], at: str, depth: int) -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{at}.{name}" if at else name
        if isinstance(value, Mapping) and depth > 1:
            yield from _leaves(value, path, depth - 1)
        else:
            yield path, value


def _compared(noun: str, old: Mapping[str, Entry], new: Mapping[str, Entry]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in dict.fromkeys((*new, *old)):
        before, after = old.get(name), new.get(name)
        if before is None or after is None:
            one: dict[str, Any] = {"kind": noun, "name": name, "action": "create" if before is None else "delete"}
            if noun == _SETTING:
                one["fields"] = {"value": [(before or {}).get("value"), (after or {}).get("value")]}
            found.append(one)
        else:
            fields = {
                name: [before.get(name), after.get(name)]
                for name in dict.fromkeys((*before, *after))
                if plain(before.get(name)) != plain(after.get(name))
            }
            if fields:
                found.append({"kind": noun, "name": name, "action": "update", "fields": fields})
    return found

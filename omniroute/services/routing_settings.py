"""What holds for routing as a whole: defaults of combos, the order of accounts, blocked providers, `auto` channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute.errors import ValidationFailed
from omniroute.gateway.directory import Directory
from omniroute.gateway.resolver import Resolver, account_rules
from omniroute.records import ChannelTuning, ProviderRouting, Snapshot
from omniroute.routing.auto import CHANNELS, channel_weights, tunings_for
from omniroute.routing.config import FACTORS
from omniroute.routing.options import AccountStrategy, Block, Strategy
from omniroute.routing.resolve import channel_name
from omniroute.services.access import Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.combos import checked_config
from omniroute.services.keys import Origin
from omniroute.storage.database import Database
from omniroute.storage.repositories import channels as channel_rows
from omniroute.storage.repositories import provider_routing as provider_rows
from omniroute.storage.repositories import settings as stored_settings

AMBIGUOUS: Final = ("order", "refuse")
NAMES: Final = (
    "accountStrategy",
    "stickyLimit",
    "sessionAffinityTtlMs",
    "cacheAffinity",
    "switchMargin",
    "ambiguousModelPolicy",
)
"""The settings of the section `routing`."""

_ROUTING: Final = "routing"
_COMBO_DEFAULTS: Final = "combo-defaults"
_PROVIDER_FIELDS: Final = {
    "accountStrategy": "account_strategy",
    "stickyLimit": "sticky_limit",
    "blocked": "is_blocked",
}


@dataclass(frozen=True, slots=True)
class ChannelState:
    """An `auto` channel as it is tuned, and its pool."""

    name: str
    weights: Mapping[str, float]
    exploration: float
    tuning: ChannelTuning
    block: Block


class RoutingSettings:
    """Reads and changes what holds for routing as a whole."""

    def __init__(
        self,
        *,
        database: Database,
        snapshots: Snapshots,
        audit: Recorder,
        resolver: Callable[[], Resolver],
        directory: Callable[[], Directory],
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._audit = audit
        self._resolver = resolver
        self._directory = directory
        self._now = now

    # --- defaults of combos --------------------------------------------------------------------------------------

    def combo_defaults(self) -> dict[str, Any]:
        """Return the strategy and settings that combos have unless they say otherwise."""
        stored = self._stored(_COMBO_DEFAULTS)
        return {
            "strategy": stored.get("strategy", Strategy.PRIORITY.value),
            "config": stored.get("config", {}),
            "strategies": stored.get("strategies", {}),
        }

    def set_combo_defaults(self, fields: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
        """Change the given ones of `strategy`, `config` and `strategies`; each is replaced whole, null takes it away.

        Raises:
            ValidationFailed: a setting or strategy is unknown, or a value out of its range.
        """
        values = dict(fields)
        if values.get("config") is not None:
            values["config"] = checked_config(values["config"])
        if values.get("strategies") is not None:
            values["strategies"] = _checked_strategies(values["strategies"])
        old = self.combo_defaults()
        self._put(_COMBO_DEFAULTS, values, origin)
        new = self.combo_defaults()
        self._record_change(_COMBO_DEFAULTS, {name: [old[name], new[name]] for name in values}, origin)
        return new

    # --- accounts and providers ----------------------------------------------------------------------------------

    def routing(self) -> dict[str, Any]:
        """Return the settings in force, and what was chosen for single providers."""
        snapshot = self._snapshots.current
        rules = account_rules(snapshot)
        return {
            "accountStrategy": rules.strategy.value,
            "stickyLimit": rules.sticky_limit,
            "sessionAffinityTtlMs": rules.affinity_ttl_ms,
            "cacheAffinity": rules.has_cache_affinity,
            "switchMargin": rules.switch_margin,
            "ambiguousModelPolicy": self._stored(_ROUTING).get("ambiguousModelPolicy", AMBIGUOUS[0]),
            "providers": {name: _shown(chosen) for name, chosen in snapshot.provider_routing.items()},
        }

    def change_routing(self, fields: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
        """Change the given settings; null gives one back to its default, also in an entry of `providers`.

        Raises:
            ValidationFailed: a provider is unknown, or a value out of its range.
        """
        chosen = self._checked_providers(fields.get("providers") or {})
        values = {name: value for name, value in fields.items() if name in NAMES}
        old = self.routing()
        self._put(_ROUTING, values, origin, chosen)
        new = self.routing()
        changed = {name: [old[name], new[name]] for name in new if old[name] != new[name]}
        self._record_change(_ROUTING, changed, origin)
        return new

    def _checked_providers(self, given: Mapping[str, Any]) -> list[ProviderRouting]:
        known = self._snapshots.current.provider_routing
        made: dict[str, ProviderRouting] = {}
        for name, fields in given.items():
            provider = self._directory().provider(name)
            if provider is None:
                raise _invalid(f"providers.{name[:64]}", "is not a provider or node")
            before = known.get(provider.id) or ProviderRouting(provider.id)
            made[provider.id] = _chosen(before, fields, f"providers.{name[:64]}")
        return list(made.values())

    # --- auto channels -------------------------------------------------------------------------------------------

    def channels(self) -> list[ChannelState]:
        """Return the channels as they are tuned for everybody."""
        return [self.channel(name) for name in CHANNELS]

    def channel(self, name: str, api_key_id: str = "") -> ChannelState:
        """Return a channel as it is tuned for everybody, or for one API key.

        Raises:
            ModelNotFound: there is no such channel.
        """
        name = channel_name(name)
        snapshot = self._snapshots.current
        tunings = tunings_for(name, api_key_id, snapshot.channels)
        own = next((one for one in tunings if one.api_key_id == api_key_id), None)
        exploration = CHANNELS[name].exploration
        for tuning in tunings:
            exploration = exploration if tuning.exploration is None else tuning.exploration
        return ChannelState(
            name,
            channel_weights(name, tunings),
            exploration,
            own or ChannelTuning(name, api_key_id),
            self._resolver().channel(name, api_key_id),
        )

    def tune(self, name: str, fields: Mapping[str, Any], origin: Origin) -> ChannelState:
        """Change the given parts of a channel's tuning; null gives a part back to what is built in.

        Raises:
            ModelNotFound: there is no such channel.
            ValidationFailed: a factor, provider or key is unknown.
        """
        name = channel_name(name)
        api_key_id = fields.get("apiKeyId") or ""
        snapshot = self._snapshots.current
        if api_key_id and not _is_key(api_key_id, snapshot):
            raise _invalid("apiKeyId", "is not the id of an API key")
        values = self._tuning_values(fields)
        now = self._now()

        def work(sql: Sql) -> None:
            before = channel_rows.get(sql, name, api_key_id) or ChannelTuning(name, api_key_id)
            made = replace(before, **values)
            if made == ChannelTuning(name, api_key_id):
                channel_rows.delete(sql, name, api_key_id)
            else:
                channel_rows.put(sql, made, now)

        self._database.write(work, bump=True)
        changed = {"channel": name, "apiKeyId": api_key_id or None, "fields": sorted(set(fields) - {"apiKeyId"})}
        self._record_change("auto-channels", changed, origin)
        return self.channel(name, api_key_id)

    def _tuning_values(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if "weights" in fields:
            values["weights"] = _checked_weights(fields["weights"] or {})
        if "exploration" in fields:
            values["exploration"] = fields["exploration"]
        exclude = fields.get("exclude") or {}
        if "providers" in exclude:
            values["excluded_providers"] = tuple(self._provider_id(name) for name in exclude["providers"] or ())
        for name in ("models", "families"):
            if name in exclude:
                values[f"excluded_{name}"] = tuple(exclude[name] or ())
        if "exclude" in fields and fields["exclude"] is None:
            values |= {"excluded_providers": (), "excluded_models": (), "excluded_families": ()}
        return values

    def _provider_id(self, name: str) -> str:
        provider = self._directory().provider(name)
        if provider is None:
            raise _invalid("exclude.providers", f"{name[:100]!r} is not a provider or node")
        return provider.id

    # --- storing -------------------------------------------------------------------------------------------------

    def _stored(self, section: str) -> dict[str, Any]:
        settings = self._snapshots.current.settings
        return {name: value for (of, name), value in settings.items() if of == section}

    def _put(
        self, section: str, values: Mapping[str, Any], origin: Origin, chosen: list[ProviderRouting] | None = None
    ) -> None:
        now, by = self._now(), origin.actor.audit_name

        def work(sql: Sql) -> None:
            for name, value in values.items():
                if value is None:
                    stored_settings.delete(sql, section, name)
                else:
                    stored_settings.put(sql, section, name, value, changed_by=by, now=now)
            for routing in chosen or ():
                provider_rows.put(sql, routing, now)

        self._database.write(work, bump=True)

    def _record_change(self, section: str, changed: Mapping[str, Any], origin: Origin) -> None:
        facts = origin.facts()
        self._audit.record(
            "settings.changed", target_kind="settings", target_id=section, details=dict(changed), **facts
        )


def _checked_strategies(given: Mapping[str, Any]) -> dict[str, Any]:
    made = {}
    for name, config in given.items():
        if name not in frozenset(Strategy):
            raise _invalid(f"strategies.{name[:64]}", f"must be one of {', '.join(Strategy)}")
        if not isinstance(config, Mapping):
            raise _invalid(f"strategies.{name}", "must be an object")
        made[name] = checked_config(config, f"strategies.{name}")
    return made


def _chosen(before: ProviderRouting, fields: Any, where: str) -> ProviderRouting:
    """Return what is chosen for a provider: the given fields changed, or with null everything as it was at first."""
    if fields is None:
        return ProviderRouting(before.provider)
    if not isinstance(fields, Mapping):
        raise _invalid(where, "must be an object or null")
    values: dict[str, Any] = {}
    for name, value in fields.items():
        match name:
            case "accountStrategy" if value is None or value in frozenset(AccountStrategy):
                pass
            case "accountStrategy":
                raise _invalid(f"{where}.{name}", f"must be one of {', '.join(AccountStrategy)}, or null")
            case "stickyLimit" if value is None or (type(value) is int and 1 <= value <= 1000):
                pass
            case "stickyLimit":
                raise _invalid(f"{where}.{name}", "must be 1 to 1000, or null")
            case "blocked" if isinstance(value, bool):
                pass
            case "blocked":
                raise _invalid(f"{where}.{name}", "must be true or false")
            case _:
                raise _invalid(f"{where}.{name[:64]}", "unknown field")
        values[_PROVIDER_FIELDS[name]] = value
    return replace(before, **values)


def _checked_weights(given: Mapping[str, Any]) -> dict[str, float]:
    """Check weights by factor. A negative one counts as 0, as it does where they are used."""
    for name, value in given.items():
        if name not in FACTORS:
            raise _invalid(f"weights.{name[:64]}", f"must be one of {', '.join(FACTORS)}")
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= 1000:
            raise _invalid(f"weights.{name}", "must be a number up to 1000")
    return {name: max(0.0, float(value)) for name, value in given.items()}


def _is_key(key_id: str, snapshot: Snapshot) -> bool:
    return any(key.id == key_id and key.revoked_at is None for key in snapshot.keys)


def _shown(chosen: ProviderRouting) -> dict[str, Any]:
    return {name: getattr(chosen, column) for name, column in _PROVIDER_FIELDS.items()}


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])

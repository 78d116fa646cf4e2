"""The address filter: who may reach the server at all, by address.

One list counts: in mode `block` it names who is kept out, in mode `allow` who is let in. Bans for a while hold in both,
and nothing holds while the filter is off. Callers on this host always pass, so nobody who can repair a mistake is kept
from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute.errors import Conflict, PermissionDenied, ValidationFailed
from omniroute.ids import new_id
from omniroute.records import IpRule, Snapshot
from omniroute.services.access import Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.services.reach import Environ, Network, Reach, parse_address
from omniroute.storage.database import Database
from omniroute.storage.repositories import ip_rules as rows
from omniroute.storage.repositories import settings as stored_settings

MOST_ENTRIES: Final = 2000
MOST_BANS: Final = 1000
LONGEST_BAN_S: Final = 366 * 86_400
SECTION: Final = "ip-filter"

_BAN: Final = "ban"
_REMEMBERED: Final = 4096
_REFUSED_BITS: Final = "covers every address; leave the filter off, or use the other mode"
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


class Mode(StrEnum):
    """What the list means."""

    BLOCK = "block"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class Ban:
    """An address range that is kept out for a while."""

    cidr: str
    until: float
    reason: str | None = None
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class FilterState:
    """The filter as it is set. `entries` is the list of the mode; `bans` are those that are not over."""

    is_enabled: bool
    mode: Mode
    entries: tuple[str, ...]
    bans: tuple[Ban, ...]


class Verdicts:
    """The filter of one state, compiled: says whether an address is kept out.

    Networks are kept by the number of their fixed bits, so that a list of thousands costs a few look-ups.
    """

    def __init__(self, state: FilterState) -> None:
        self.is_on = state.is_enabled
        self._state = state
        self._listed = _by_length(ip_network(entry) for entry in state.entries)
        self._bans = tuple((ip_network(ban.cidr), ban.until) for ban in state.bans)
        self._known: dict[str, bool] = {}

    def refuses(self, address: str, now: float) -> bool:
        """Say whether callers from an address are kept out. One that is none is kept out where a list lets in."""
        if not self.is_on:
            return False
        if self._bans and self._is_banned(address, now):
            return True
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            is_listed = self._is_listed(address)
            known = self._known[address] = is_listed if self._state.mode is Mode.BLOCK else not is_listed
        return known

    def _is_banned(self, text: str, now: float) -> bool:
        address = parse_address(text)
        return address is not None and any(now < until and address in network for network, until in self._bans)

    def _is_listed(self, text: str) -> bool:
        address = parse_address(text)
        if address is None:
            return False
        number, width = int(address), address.max_prefixlen
        return any(
            number >> (width - bits) in prefixes
            for (version, bits), prefixes in self._listed.items()
            if version == address.version
        )


def _by_length(networks: Iterable[Network]) -> dict[tuple[int, int], set[int]]:
    found: dict[tuple[int, int], set[int]] = {}
    for network in networks:
        bits = network.prefixlen
        prefix = int(network.network_address) >> (network.max_prefixlen - bits)
        found.setdefault((network.version, bits), set()).add(prefix)
    return found


class AddressGate:
    """Refuses requests by their address, under the current configuration; off, it costs one look."""

    def __init__(self, snapshot: Snapshot, *, reach: Reach, now: Callable[[], float]) -> None:
        self._reach = reach
        self._now = now
        self._of: Any = None
        self.verdicts = Verdicts(state_of(snapshot, now()))
        self.rebuild(snapshot)

    def rebuild(self, snapshot: Snapshot) -> None:
        """Follow a new snapshot."""
        parts = (
            snapshot.ip_rules,
            snapshot.settings.get((SECTION, "enabled")),
            snapshot.settings.get((SECTION, "mode")),
        )
        if parts != self._of:
            self._of = parts
            self.verdicts = Verdicts(state_of(snapshot, self._now()))

    def check(self, environ: Environ) -> None:
        """Let a request pass.

        Raises:
            PermissionDenied: `ip_blocked`.
        """
        verdicts = self.verdicts
        if not verdicts.is_on:
            return
        if verdicts.refuses(self._reach.client_address(environ), self._now()) and not self._reach.is_loopback(environ):
            raise PermissionDenied("This address may not use the server.", code="ip_blocked")


class IpFilter:
    """Shows and changes the filter."""

    def __init__(self, *, database: Database, snapshots: Snapshots, audit: Recorder, now: Callable[[], float]) -> None:
        self._database = database
        self._snapshots = snapshots
        self._audit = audit
        self._now = now

    def state(self) -> FilterState:
        """Return the filter as it is set."""
        return state_of(self._snapshots.current, self._now())

    def change(
        self, fields: Mapping[str, Any], origin: Origin, *, is_local: bool, is_forced: bool = False
    ) -> FilterState:
        """Change the given parts: `enabled`, `mode`, `list` (that of the mode) and `tempBans`, each replaced whole.

        Args:
            fields: the parts; entries of the list are addresses or networks, bans have `address`, `until` or `minutes`,
                and a `reason`.
            origin: who asks; his address is not to be locked out.
            is_local: he is on this host, where the filter does not hold.
            is_forced: lock him out nonetheless.

        Raises:
            ValidationFailed: an entry is no address or network, or a list that lets in is empty.
            Conflict: `would_lock_out`.
        """
        now, old = self._now(), self.state()
        mode = Mode(fields.get("mode", old.mode))
        entries = _checked(fields["list"], "list") if "list" in fields else self._entries(mode)
        bans = self._bans(fields["tempBans"], old.bans, now) if "tempBans" in fields else old.bans
        new = FilterState(fields.get("enabled", old.is_enabled), mode, entries, bans)
        if new.is_enabled and mode is Mode.ALLOW and not entries:
            raise _invalid("list", "must not be empty while it says who is let in")
        if not is_forced and not is_local and Verdicts(new).refuses(origin.address or "", now):
            raise Conflict("This would lock you out. Send force: true if that is what you want.", code="would_lock_out")
        if new != old:
            self._database.write(lambda sql: self._store(sql, new, now, origin), bump=True)
            self._record(old, new, origin)
        return self.state()

    def _entries(self, mode: Mode) -> tuple[str, ...]:
        return tuple(rule.cidr for rule in self._snapshots.current.ip_rules if rule.kind == mode)

    def _bans(self, given: Sequence[Mapping[str, Any]], old: Sequence[Ban], now: float) -> tuple[Ban, ...]:
        known = {ban.cidr: ban for ban in old}
        made: dict[str, Ban] = {}
        for place, one in enumerate(given):
            (cidr,) = _checked([one["address"]], f"tempBans[{place}].address")
            if ("until" in one) == ("minutes" in one):
                raise _invalid(f"tempBans[{place}]", "needs until or minutes, one of them")
            until = one["until"] if "until" in one else now + one["minutes"] * 60
            if not now < until <= now + LONGEST_BAN_S:
                raise _invalid(f"tempBans[{place}].until", "must lie in the next 366 days")
            if cidr in made:
                raise _invalid(f"tempBans[{place}].address", "stands twice")
            since = known[cidr].created_at if cidr in known else now + place * 1e-6
            made[cidr] = Ban(cidr, until, one.get("reason"), since)
        return tuple(made.values())

    def _store(self, sql: Sql, new: FilterState, now: float, origin: Origin) -> None:
        by = origin.actor.audit_name
        for name, value in (("enabled", new.is_enabled), ("mode", new.mode.value)):
            stored_settings.put(sql, SECTION, name, value, changed_by=by, now=now)
        for rule in rows.load_all(sql):
            if rule.kind in (new.mode, _BAN):
                rows.delete(sql, rule.id)
        for place, cidr in enumerate(new.entries):
            # Rules are listed by age: those of one change keep their order.
            rows.insert(sql, IpRule(new_id("ip"), cidr, new.mode.value, created_at=now + place * 1e-6))
        for ban in new.bans:
            rows.insert(sql, IpRule(new_id("ip"), ban.cidr, _BAN, ban.reason, ban.until, ban.created_at))

    def _record(self, old: FilterState, new: FilterState, origin: Origin) -> None:
        details = {
            "enabled": [old.is_enabled, new.is_enabled],
            "mode": [old.mode.value, new.mode.value],
            "added": sorted(set(new.entries) - set(old.entries)),
            "removed": sorted(set(old.entries) - set(new.entries)) if old.mode is new.mode else [],
            "tempBans": [[ban.cidr for ban in old.bans], [ban.cidr for ban in new.bans]],
        }
        self._audit.record("ipfilter.changed", target_kind="ipfilter", details=details, **origin.facts())


def state_of(snapshot: Snapshot, now: float) -> FilterState:
    """Return the filter that a configuration has at a time."""
    settings, rules = snapshot.settings, snapshot.ip_rules
    given = settings.get((SECTION, "mode"))
    mode = Mode(given) if given in frozenset(Mode) else Mode.BLOCK
    bans = tuple(
        Ban(rule.cidr, rule.until, rule.reason, rule.created_at)
        for rule in rules
        if rule.kind == _BAN and rule.until is not None and rule.until > now
    )
    entries = tuple(rule.cidr for rule in rules if rule.kind == mode)
    return FilterState(settings.get((SECTION, "enabled")) is True, mode, entries, bans)


def _checked(entries: Sequence[str], field: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for entry in entries:
        network = _network(entry)
        if network is None:
            raise _invalid(field, f"{entry[:60]!r} is not an address or network")
        if network.prefixlen == 0:
            raise _invalid(field, f"{entry[:60]!r} {_REFUSED_BITS}")
        found[str(network)] = None
    return tuple(found)


def _network(text: str) -> Network | None:
    try:
        network = ip_network(text.strip(), strict=False)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):  # addresses are looked at without that prefix
        mapped = network.network_address.ipv4_mapped
        return IPv4Network((int(mapped or 0), network.prefixlen - _MAPPED.prefixlen))
    return network


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])

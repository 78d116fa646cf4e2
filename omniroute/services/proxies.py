"""Outbound proxies: named ones, what each level is bound to, which one a connection uses, and whether one works."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Connection as Sql

from omniroute import __version__
from omniroute.errors import (
    Conflict,
    NotFound,
    OmniRouteError,
    ProxyUnavailable,
    UpstreamUnreachable,
    ValidationFailed,
)
from omniroute.gateway.answers import read_all
from omniroute.gateway.directory import Directories
from omniroute.gateway.egress import Egress
from omniroute.gateway.proxies import SOCKS, ProxyChoice, Way
from omniroute.gateway.transport import HttpTransport
from omniroute.providers.upstream import Deadlines, Sender, UpstreamRequest
from omniroute.records import Connection, Proxy, ProxyBinding, ProxyLevel, Snapshot
from omniroute.services.access import Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.services.proxy_descriptions import Given, composed, described, is_described, is_same, redacted_url
from omniroute.settings import Settings
from omniroute.storage.database import Database
from omniroute.storage.repositories import proxies as rows
from omniroute.storage.secrets import Cipher

MOST_PROXIES: Final = 500
LONGEST_NAME: Final = 100
LEVELS: Final = (ProxyLevel.GLOBAL, ProxyLevel.PROVIDER, ProxyLevel.COMBO, ProxyLevel.KEY)
"""What a proxy can be bound to."""

_DEADLINES: Final = Deadlines(connect_s=10.0, headers_s=10.0, content_s=10.0, idle_s=10.0, total_s=15.0)
_MOST_BYTES: Final = 64 * 1024
_ASK: Final = (
    ("User-Agent", f"OmniRoute/{__version__}"),
    ("Accept", "application/json, text/plain"),
    ("Accept-Encoding", "identity"),
    ("Connection", "close"),
)

Place = tuple[ProxyLevel, str]


@dataclass(frozen=True, slots=True)
class Use:
    """What a proxy is bound to, with the name that people know it by."""

    level: ProxyLevel
    level_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Effective:
    """The proxy that a connection's requests take; `level` and `way` are None where they take none."""

    connection: Connection
    level: ProxyLevel | None
    level_id: str
    way: Way | None


@dataclass(frozen=True, slots=True)
class Trial:
    """What trying a proxy found. `public_ip`: the address that others see; None where nobody could say."""

    proxy_url: str
    latency_ms: float
    error: OmniRouteError | None
    public_ip: str | None = None


class Proxies:
    """Creates, lists, changes, binds, tries and removes outbound proxies."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        cipher: Cipher,
        snapshots: Snapshots,
        audit: Recorder,
        directories: Directories,
        egress: Egress,
        choice: ProxyChoice,
        transport: HttpTransport,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._public_ip_url = settings.public_ip_url
        self._database = database
        self._cipher = cipher
        self._snapshots = snapshots
        self._audit = audit
        self._directories = directories
        self._egress = egress
        self._transport = transport
        self._now = now
        self._monotonic = monotonic
        self.choice = choice
        """Which proxy requests take, with what the environment says."""

    # --- named ones ----------------------------------------------------------------------------------------------

    def all(self) -> list[Proxy]:
        """Return the proxies that have a name, the oldest first."""
        return [proxy for proxy in self._stored() if proxy.is_named]

    def get(self, proxy_id: str) -> Proxy:
        """Return one proxy.

        Raises:
            NotFound: there is none with this id.
        """
        found = self._database.read(lambda sql: rows.get(sql, proxy_id, self._cipher))
        if found is None:
            raise _unknown()
        return found

    def create(self, fields: Given, origin: Origin) -> Proxy:
        """Store a new proxy with a name.

        Raises:
            ValidationFailed: a field has no usable value.
            UrlBlocked: its address is not allowed.
            Conflict: the name is taken.
        """
        now = self._now()
        made = replace(self._made(fields, None), name=fields["name"], created_at=now, updated_at=now)
        made = replace(made, is_active=fields.get("isActive", True))

        def work(sql: Sql) -> None:
            self._check_room(sql, made)
            rows.insert(sql, made, self._cipher)

        self._database.write(work, bump=True)
        self._record("created", made, origin)
        return made

    def change(self, proxy_id: str, fields: Given, origin: Origin) -> Proxy:
        """Change the given fields.

        A masked password that is sent back leaves the stored one. Another host, port or type takes the password anew:
        the stored one is not for whoever answers there.
        """
        old = self.get(proxy_id)
        if not old.is_named:
            raise _unknown()
        made = self._made({**described(old), **fields}, old)
        plain = {"name": fields.get("name", old.name), "is_active": fields.get("isActive", old.is_active)}
        made = replace(made, **plain, updated_at=self._now())

        def work(sql: Sql) -> None:
            self._check_room(sql, made)
            if not rows.update(sql, made, self._cipher, with_password="password" in fields):
                raise _unknown()

        self._database.write(work, bump=True)
        self._record("updated", made, origin, fields=sorted(fields))
        return made

    def delete(self, proxy_id: str, origin: Origin, *, is_forced: bool = False) -> Proxy:
        """Remove a proxy; if forced, together with what it is bound to.

        Raises:
            Conflict: `in_use`, something is bound to it and the removal is not forced.
        """
        snapshot = self._snapshots.current

        def work(sql: Sql) -> tuple[Proxy, list[Use]]:
            rows.delete_stale(sql)
            found = rows.get(sql, proxy_id, self._cipher)
            if found is None:
                raise _unknown()
            uses = [use_of(one, snapshot) for one in rows.load_bindings(sql) if one.proxy_id == proxy_id]
            if uses and not is_forced:
                said = [{"level": use.level, "id": use.level_id, "name": use.name} for use in uses]
                names = ", ".join(use.name for use in uses[:10])
                raise Conflict(f"The proxy is in use: {names}.", code="in_use", extras={"usedBy": said})
            rows.delete(sql, proxy_id)
            return found, uses

        gone, uses = self._database.write(work, bump=True)
        self._record("deleted", gone, origin, usedBy=[[use.level, use.level_id] for use in uses])
        return gone

    # --- levels --------------------------------------------------------------------------------------------------

    def bound(self) -> dict[Place, Proxy]:
        """Return the proxy of each level that has one."""
        snapshot = self._snapshots.current
        known = {proxy.id: proxy for proxy in snapshot.proxies}
        return {
            (one.level, one.level_id): known[one.proxy_id]
            for one in snapshot.proxy_bindings
            if one.proxy_id in known and self._is_there(one.level, one.level_id)
        }

    def place(self, level: str, level_id: str | None) -> Place:
        """Return a level with the id that it is stored under; providers and combos are found by their names too.

        Raises:
            ValidationFailed: there is no such level, or nothing of this id.
        """
        if level not in LEVELS:
            raise _invalid("level", f"must be one of {', '.join(LEVELS)}")
        chosen, name = ProxyLevel(level), level_id or ""
        if chosen is ProxyLevel.GLOBAL:
            return chosen, ""
        snapshot = self._snapshots.current
        found: str | None = None
        match chosen:
            case ProxyLevel.PROVIDER:
                provider = self._directories.current.provider(name)
                found = None if provider is None else provider.id
            case ProxyLevel.COMBO:
                by_name = {combo.name: combo.id for combo in snapshot.combos}
                found = name if any(combo.id == name for combo in snapshot.combos) else by_name.get(name)
            case _:
                found = name if self._is_there(chosen, name) else None
        if found is None:
            raise _invalid("id", f"{name[:100]!r} is not a {chosen.value}")
        return chosen, found

    def bind(self, given: Mapping[Place, Given | None], origin: Origin) -> None:
        """Give levels their proxies, all of them or none; None leaves a level without one of its own.

        Raises:
            ValidationFailed: a proxy is described wrongly, or there is none of its id.
            UrlBlocked: the address of one is not allowed.
        """
        for proxy in given.values():
            if proxy is not None and is_described(proxy):
                self._check_address(proxy["host"], int(proxy["port"]))

        def work(sql: Sql) -> dict[Place, Proxy | None]:
            made = {place: self._bind(sql, place, proxy) for place, proxy in given.items()}
            rows.delete_stale(sql)
            return made

        made = self._database.write(work, bump=True)
        for (level, level_id), bound in made.items():
            details = {"change": "unbound" if bound is None else "bound", "level": level.value, "id": level_id}
            if bound is not None:
                details |= {"proxy": bound.id, "url": redacted_url(bound)}
            facts = origin.facts()
            self._audit.record("proxy.changed", target_kind="proxy_level", target_id=level, details=details, **facts)

    def unbind(self, place: Place, origin: Origin) -> None:
        """Leave a level without a proxy of its own.

        Raises:
            NotFound: it has none.
        """
        if place not in self.bound():
            raise NotFound("This level has no proxy of its own.")
        self.bind({place: None}, origin)

    def effective(self, connection_id: str, *, key: str = "", combo: str = "") -> Effective:
        """Return the proxy that a connection uses; for requests of an API key and by way of a combo, where given.

        Raises:
            NotFound: there is no connection with this id.
        """
        connection = next((one for one in self._snapshots.current.connections if one.id == connection_id), None)
        if connection is None:
            raise NotFound("There is no connection with this id.")
        ways = self.choice.current
        way = None
        if ways is not None:
            sender = Sender(connection.provider, connection.id, key, combo)
            way = ways.of(sender, *self._address_of(connection))
        if way is None:
            return Effective(connection, None, "", None)
        return Effective(connection, way.level, way.level_id, way)

    # --- trying --------------------------------------------------------------------------------------------------

    def test(self, given: Given, target: str | None = None) -> Trial:
        """Ask something harmless through a proxy: `target`, else the service that tells public addresses.

        It works if it leads there; which status the answer has does not matter. No credential goes along.

        Raises:
            ValidationFailed: the proxy is described wrongly, or there is nothing to ask.
            UrlBlocked: the target may not be called.
        """
        url = target or self._public_ip_url
        if url is None:
            raise _invalid("target", "is required while OMNIROUTE_PUBLIC_IP_URL is off")
        self._egress.check_url(url, is_local=True)
        way = self.choice.trial(self._given(given))
        shown = redacted_url(way.proxy)
        started = self._monotonic()
        error, body = self._asked(url, way)
        latency_ms = round((self._monotonic() - started) * 1000, 1)
        if error is not None:
            return Trial(shown, latency_ms, error)
        if target is not None and self._public_ip_url is not None:
            _, body = self._asked(self._public_ip_url, way)
        return Trial(shown, latency_ms, None, None if self._public_ip_url is None else _address_in(body))

    def _asked(self, url: str, way: Way) -> tuple[OmniRouteError | None, bytes]:
        """Return what is wrong with a proxy, and the answer that came through it."""
        if way.problem is not None:
            return ProxyUnavailable(f"The outbound proxy {way.label} {way.problem}."), b""
        request = UpstreamRequest("GET", url, _ASK, b"", _DEADLINES, is_local=True, is_operator=True)
        try:
            response = self._transport.send_through(request, way)
        except OmniRouteError as error:
            # A tunnel stands before anything is asked: whatever goes wrong after that is not the proxy's doing.
            is_tunnel = url.startswith("https:") or way.proxy.type in SOCKS
            is_proxys = isinstance(error, UpstreamUnreachable) or not is_tunnel
            return (error if is_proxys else None), b""
        try:
            return None, read_all(response, _DEADLINES.total_s, _MOST_BYTES, self._monotonic)
        except OmniRouteError:
            return None, b""
        finally:
            response.close()

    # --- checks --------------------------------------------------------------------------------------------------

    def _stored(self) -> tuple[Proxy, ...]:
        return self._database.read(lambda sql: rows.load_all(sql, self._cipher))

    def _given(self, given: Given) -> Proxy:
        """Return a proxy to try: a stored one, or one as it is described."""
        is_new = is_described(given)
        old = None if given.get("id") is None else self.get(given["id"])
        if old is not None and not is_new:
            return replace(old, is_active=True)
        made = self._made(given, old)
        return replace(made, name=redacted_url(made) if old is None else old.name, is_active=True)

    def _made(self, given: Given, old: Proxy | None) -> Proxy:
        """Return a proxy as it is described, in place of the old one if there is one."""
        self._check_address(given["host"], int(given["port"]))
        return composed(given, old)

    def _check_address(self, host: str, port: int) -> None:
        """Check where a proxy is; a name that does not resolve yet is accepted, and checked when it is used."""
        try:
            self._egress.proxy_addresses(host, port, is_from_environment=False)
        except UpstreamUnreachable:
            return

    def _check_room(self, sql: Sql, proxy: Proxy) -> None:
        others = [one for one in rows.load_all(sql, self._cipher) if one.id != proxy.id]
        if len(others) >= MOST_PROXIES:
            raise Conflict(f"There are {MOST_PROXIES} proxies already.")
        if any(one.name == proxy.name for one in others):
            raise Conflict("Another proxy has this name.", extras={"field": "name"})

    def _bind(self, sql: Sql, place: Place, given: Given | None) -> Proxy | None:
        level, level_id = place
        if given is None:
            rows.unbind(sql, level, level_id)
            return None
        known = {proxy.id: proxy for proxy in rows.load_all(sql, self._cipher)}
        bindings = {(one.level, one.level_id): one.proxy_id for one in rows.load_bindings(sql)}
        wanted = given.get("id")
        if wanted is not None and wanted not in known:
            raise _invalid("id", f"there is no proxy {wanted[:100]!r}")
        old = known.get(wanted or bindings.get(place, ""))
        if wanted is None and old is not None and (old.is_named or list(bindings.values()).count(old.id) > 1):
            old = None  # the level goes from a proxy that it shares to one of its own
        if old is not None and (not is_described(given) or is_same(given, old)):
            proxy = old
        elif old is not None and old.is_named:
            raise _invalid("id", f"{old.name!r} is a named proxy: change it as such, or leave its id out")
        else:
            proxy = self._stored_unnamed(sql, given, old)
        rows.bind(sql, ProxyBinding(level, level_id, proxy.id), now=self._now())
        return proxy

    def _stored_unnamed(self, sql: Sql, given: Given, old: Proxy | None) -> Proxy:
        now = self._now()
        made = replace(composed(given, old), updated_at=now)
        if old is not None:
            rows.update(sql, made, self._cipher, with_password=True)
            return made
        made = replace(made, name=made.id, created_at=now)
        self._check_room(sql, made)
        rows.insert(sql, made, self._cipher)
        return made

    def _is_there(self, level: ProxyLevel, level_id: str) -> bool:
        snapshot = self._snapshots.current
        match level:
            case ProxyLevel.KEY:
                return any(key.id == level_id and key.revoked_at is None for key in snapshot.keys)
            case ProxyLevel.COMBO:
                return any(combo.id == level_id for combo in snapshot.combos)
            case ProxyLevel.PROVIDER:
                return self._directories.current.provider(level_id) is not None
            case _:
                return True

    def _address_of(self, connection: Connection) -> tuple[str, str, int]:
        """Return scheme, host and port of a connection's provider."""
        legs = self._directories.current.legs_of(connection.provider)
        endpoints = next((leg.endpoints for leg in legs if leg.connection_id == connection.id), {})
        provider = self._directories.current.provider(connection.provider)
        url = next((endpoint.url for endpoint in endpoints.values()), provider.base_url if provider else "")
        parts = urlsplit(url if url.startswith(("http://", "https://")) else "https://unknown.invalid")
        return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    def _record(self, change: str, proxy: Proxy, origin: Origin, **details: Any) -> None:
        told = {"change": change, "name": proxy.name, "url": redacted_url(proxy), **details}
        self._audit.record("proxy.changed", target_kind="proxy", target_id=proxy.id, details=told, **origin.facts())


def use_of(binding: ProxyBinding, snapshot: Snapshot) -> Use:
    """Return what a binding is about, with its name."""
    names: Iterable[tuple[str, str]] = ()
    match binding.level:
        case ProxyLevel.KEY:
            names = ((key.id, key.name) for key in snapshot.keys)
        case ProxyLevel.COMBO:
            names = ((combo.id, combo.name) for combo in snapshot.combos)
        case ProxyLevel.PROVIDER:
            names = ((node.id, node.name) for node in snapshot.nodes)
        case _:
            return Use(binding.level, "", "global")
    name = dict(names).get(binding.level_id, binding.level_id)
    return Use(binding.level, binding.level_id, f"{binding.level.value} {name}")


def _address_in(body: bytes) -> str | None:
    """Return the address that a service answers with, bare or in an object."""
    text = body[:_MOST_BYTES].decode("utf-8", "replace").strip()
    try:
        document = json.loads(text)
    except ValueError:
        document = text
    if isinstance(document, dict):
        document = document.get("ip") or document.get("origin") or document.get("ip_addr")
    try:
        return str(ipaddress.ip_address(document)) if isinstance(document, str) else None
    except ValueError:
        return None


def _unknown() -> NotFound:
    return NotFound("There is no proxy with this id.")


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])

"""Connections: credentials at providers. Stored encrypted, shown masked, tested on request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute.errors import InvalidRequest, NotFound, UpstreamError, UpstreamUnreachable, ValidationFailed
from omniroute.formats.wire import WireFormat
from omniroute.gateway.directory import Directories, Directory
from omniroute.gateway.egress import Egress, UrlClass
from omniroute.ids import new_id
from omniroute.providers.requests import Endpoint, NotUsable, own_base_url, prepare
from omniroute.providers.spec import AuthKind, Model, Provider, ProviderStatus
from omniroute.records import AuthType, Connection, NodeType
from omniroute.routing.failures import FailureClass
from omniroute.secret import Secret
from omniroute.services.access import Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.checkups import Checkup, Checkups, RowLog, Subject
from omniroute.services.keys import Origin
from omniroute.services.probe import Prober
from omniroute.services.standings import Standing, Standings
from omniroute.storage.database import Database
from omniroute.storage.repositories import connections as rows
from omniroute.storage.repositories import nodes as node_rows
from omniroute.storage.secrets import Cipher

MOST_PRIORITY: Final = 100
MAX_KEY: Final = 8192
MAX_PER_PROVIDER: Final = 500

_MASK_SIGN: Final = "…"
_WINDOW_NAME: Final = re.compile(r"\w[\w./:@+-]{0,99}", re.ASCII)
_NODE_TYPES: Final = frozenset(NodeType)
_FIELDS: Final = {
    "name": "name",
    "priority": "priority",
    "isActive": "is_active",
    "defaultModel": "default_model",
    "group": "group_name",
    "requestsPerMinute": "requests_per_minute",
    "minTimeBetweenRequestsMs": "min_gap_ms",
    "concurrentRequests": "max_concurrent",
    "quotaCutoffs": "quota_cutoffs",
    "proxyEnabled": "proxy_enabled",
}


@dataclass(frozen=True, slots=True)
class Validation:
    """What a key that is not stored is good for."""

    is_valid: bool
    models: tuple[str, ...]
    error: Mapping[str, Any] | None


class Connections:
    """Creates, lists, changes, orders, tests and removes connections."""

    def __init__(
        self,
        *,
        database: Database,
        cipher: Cipher,
        audit: Recorder,
        directories: Directories,
        egress: Egress,
        prober: Prober,
        standings: Standings,
        now: Callable[[], float],
        request_log: RowLog | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        """`snapshots` spares reading all rows for a list; not to be given within a transaction that changes them."""
        self._database = database
        self._cipher = cipher
        self._audit = audit
        self._directories = directories
        self._egress = egress
        self._standings = standings
        self._checkups = Checkups(prober=prober, now=now, request_log=request_log)
        self._now = now
        self._snapshots = snapshots

    # --- reading -------------------------------------------------------------------------------------------------

    def all(
        self, *, provider: str | None = None, status: str | None = None, is_active: bool | None = None
    ) -> list[Connection]:
        """Return the connections, by provider and then in the order in which they are tried."""
        wanted = self._provider_id(provider) if provider is not None else None
        found = [
            row
            for row in self._database.read(self._load_all)
            if (wanted is None or row.provider == wanted)
            and (status is None or self.state_of(row)[0] == status)
            and (is_active is None or row.is_active is is_active)
        ]
        return sorted(found, key=lambda row: (row.provider, row.priority, row.created_at))

    def _load_all(self, sql: Sql) -> tuple[Connection, ...]:
        if self._snapshots is None:
            return rows.load_all(sql, self._cipher)
        return rows.load_known(sql, self._cipher, self._snapshots.current)

    def get(self, connection_id: str) -> Connection:
        """Return one connection.

        Raises:
            NotFound: there is none with this id.
        """
        found = self._database.read(lambda sql: rows.get(sql, connection_id, self._cipher))
        if found is None:
            raise NotFound("There is no connection with this id.")
        return found

    def provider_of(self, connection: Connection) -> Provider | None:
        """Return the row or node of a connection; None when it is gone."""
        return self._directory.provider(connection.provider)

    def models_of(self, connection: Connection) -> Sequence[Model]:
        """Return the listed models of the connection's provider."""
        return tuple(self._directory.models_of(connection.provider).values())

    def state_of(self, connection: Connection) -> tuple[str, str | None]:
        """Return the state in one word and, where it is not plain, the reason."""
        if connection.is_unreadable:
            return "dead", "credential_unreadable"
        problem = self._directory.problems.get(connection.id)
        if problem is not None and connection.is_active:
            return "error", problem
        standing = self._standings.of(connection)
        if standing.status is not None:
            return standing.status, standing.reason
        if connection.test_status == "error":
            return "error", (connection.last_error or {}).get("message")
        return connection.test_status, None

    def standing_of(self, connection: Connection) -> Standing:
        """Return whether a connection is left alone, why and until when, as its traffic found out."""
        return self._standings.of(connection)

    # --- changing ------------------------------------------------------------------------------------------------

    def create(self, fields: Mapping[str, Any], origin: Origin) -> Connection:
        """Store a new connection; with `testFirst` only one that works.

        Raises:
            ValidationFailed: the provider is unknown, or a value does not fit it.
            InvalidRequest: `not_supported`, a field asks for a limit that nothing would enforce.
            UrlBlocked: an address that was supplied is not allowed.
            UpstreamError: `provider_unreachable`, when it was to be tested and the provider cannot be used.
        """
        new = self.drafted(fields, self.all())
        result = None
        provider = self._usable_provider(new.provider)
        if fields.get("testFirst"):
            result = self._checkups.examine(self._subject(provider, new))
            _refuse_failed(result)
            new = result.applied_to(new)
        self._database.write(lambda sql: rows.insert(sql, new, self._cipher), bump=True)
        if result is not None:
            self._checkups.log(provider, new, result)
        self._record("provider.credentials.created", new.id, origin, {"provider": new.provider, "name": new.name})
        return new

    def create_all(self, drafts: Sequence[Connection], origin: Origin) -> None:
        """Store connections that were drafted: all of them, or none."""

        def work(sql: Sql) -> None:
            for draft in drafts:
                rows.insert(sql, draft, self._cipher)

        self._database.write(work, bump=True)
        made = [{"id": draft.id, "provider": draft.provider, "name": draft.name} for draft in drafts]
        self._record("provider.credentials.imported", None, origin, {"connections": made, "count": len(made)})

    def drafted(self, fields: Mapping[str, Any], known: Iterable[Connection]) -> Connection:
        """Return a new connection as it would be stored beside those that are known, checked; nothing is stored.

        Raises: what :meth:`create` raises, but for what only a test can tell.
        """
        provider = self._usable_provider(fields["provider"])
        credential = _given_key(fields.get("apiKey"))
        now = self._now()
        siblings = [row for row in known if row.provider == provider.id]
        if len(siblings) >= MAX_PER_PROVIDER:
            raise _invalid("provider", f"has {MAX_PER_PROVIDER} connections already")
        new = Connection(
            id=new_id("conn"),
            provider=provider.id,
            auth_type=_auth_type(provider, credential),
            name=fields.get("name") or _default_name(provider, siblings),
            priority=min(1 + max((row.priority for row in siblings), default=0), MOST_PRIORITY),
            is_active=True,
            credential=credential,
            provider_data=self._checked_data(provider, fields.get("providerData") or {}),
            created_at=now,
            updated_at=now,
        )
        new = replace(new, **_plain_values(fields))
        self._prepared(provider, new)
        return new

    def change(self, connection_id: str, fields: Mapping[str, Any], origin: Origin) -> Connection:
        """Change the given fields.

        A masked key that is sent back leaves the stored one; `providerData` is merged, null removes an entry.
        """
        old = self.get(connection_id)
        provider = self.provider_of(old)
        if provider is None:
            raise _invalid("provider", "does not exist any more; delete this connection")
        new = replace(old, **_plain_values(fields), updated_at=self._now())
        has_new_key = "apiKey" in fields and not _is_mask_of(fields["apiKey"], old)
        if has_new_key:
            credential = _given_key(fields["apiKey"])
            auth_type = _auth_type(provider, credential)
            new = replace(new, credential=credential, auth_type=auth_type, is_unreadable=False)
        if "providerData" in fields:
            merged = {**old.provider_data, **fields["providerData"]}
            kept = {name: value for name, value in merged.items() if value is not None}
            new = replace(new, provider_data=self._checked_data(provider, kept))
        if has_new_key or new.provider_data != old.provider_data:
            new = replace(new, test_status="untested", last_error=None, last_tested_at=None)
        if not new.is_unreadable:
            self._prepared(provider, new)
        is_there = self._database.write(
            lambda sql: rows.update(sql, new, self._cipher, with_credential=has_new_key), bump=True
        )
        if not is_there:
            raise NotFound("There is no connection with this id.")
        if has_new_key or new.provider_data != old.provider_data:
            self._standings.forget([new.id])
        elif new.is_active and not old.is_active:
            self._standings.revive([new.id])
        changed = sorted(name for name in fields if name != "apiKey" or has_new_key)
        self._record("provider.credentials.updated", new.id, origin, {"provider": new.provider, "fields": changed})
        return new

    def delete(self, connection_id: str, origin: Origin) -> Connection:
        """Remove a connection and its credential."""
        old = self.get(connection_id)
        if not self._database.write(lambda sql: rows.delete(sql, connection_id), bump=True):
            raise NotFound("There is no connection with this id.")
        self._standings.forget([old.id])
        self._record("provider.credentials.revoked", old.id, origin, {"provider": old.provider, "name": old.name})
        return old

    def set_active(self, ids: Sequence[str], is_active: bool, origin: Origin) -> tuple[int, list[str]]:
        """Switch connections on or off; return how many there were, and the ids that are unknown."""
        now = self._now()

        def work(sql: Sql) -> list[str]:
            known = {row.id: row for row in rows.load_all(sql, self._cipher)}
            for connection_id in ids:
                if connection_id in known:
                    new = replace(known[connection_id], is_active=is_active, updated_at=now)
                    rows.update(sql, new, self._cipher)
            return [connection_id for connection_id in ids if connection_id not in known]

        missing = self._database.write(work, bump=True)
        updated = [connection_id for connection_id in ids if connection_id not in missing]
        if is_active:
            self._standings.revive(updated)
        self._record("provider.credentials.updated", None, origin, {"ids": updated, "isActive": is_active})
        return len(updated), missing

    def delete_many(self, ids: Sequence[str], origin: Origin) -> int:
        """Remove connections; return how many there were."""
        deleted = self._database.write(lambda sql: [key for key in ids if rows.delete(sql, key)], bump=True)
        self._standings.forget(deleted)
        self._record("provider.credentials.revoked", None, origin, {"ids": deleted})
        return len(deleted)

    def reorder(self, provider: str, ids: Sequence[str], origin: Origin) -> list[Connection]:
        """Give a provider's connections the order of `ids`; those left out follow in their old order."""
        provider_id = self._provider_id(provider)
        now = self._now()

        def work(sql: Sql) -> list[str]:
            known = {row.id: row for row in rows.load_of_provider(sql, provider_id, self._cipher)}
            unknown = [connection_id for connection_id in ids if connection_id not in known]
            if unknown:
                return unknown
            for place, connection_id in enumerate(dict.fromkeys((*ids, *known)), 1):
                priority = min(place, MOST_PRIORITY)
                rows.update(sql, replace(known[connection_id], priority=priority, updated_at=now), self._cipher)
            return []

        unknown = self._database.write(work, bump=True)
        if unknown:
            raise _invalid("ids", f"{unknown[0]} is not a connection of this provider")
        self._record("provider.credentials.reordered", None, origin, {"provider": provider_id, "ids": list(ids)})
        return self.all(provider=provider_id)

    def reset(self, connection_id: str, origin: Origin) -> Connection:
        """Forget errors and rests of a connection."""
        old = self.get(connection_id)
        new = replace(old, test_status="untested", last_error=None, last_tested_at=None, updated_at=self._now())
        if not self._database.write(lambda sql: rows.update(sql, new, self._cipher), bump=True):
            raise NotFound("There is no connection with this id.")
        self._standings.reset(new)
        self._record("provider.credentials.reset", new.id, origin, {"provider": new.provider})
        return new

    # --- testing -------------------------------------------------------------------------------------------------

    def test(self, connection_id: str, model: str | None, origin: Origin) -> Checkup:
        """Make one small call and one streamed call, and store what they found."""
        connection = self.get(connection_id)
        provider = self.provider_of(connection)
        if provider is None:
            raise _invalid("provider", "does not exist any more; delete this connection")
        result = self._checkups.examine(self._subject(provider, connection), model)
        tested = result.applied_to(connection)
        self._database.write(
            lambda sql: rows.set_test_result(
                sql, connection_id, status=tested.test_status, error=tested.last_error, tested_at=result.tested_at
            ),
            bump=True,
        )
        if result.is_valid:
            self._standings.note_works(connection, result.model)
        self._checkups.log(provider, connection, result)
        self._record(
            "provider.credentials.tested", connection_id, origin, {"valid": result.is_valid, "model": result.model}
        )
        return result

    def validate(self, fields: Mapping[str, Any]) -> Validation:
        """Try a key without storing anything."""
        provider = self._usable_provider(fields["provider"])
        credential = _given_key(fields.get("apiKey"))
        data = self._checked_data(provider, fields.get("providerData") or {})
        trial = Connection(
            "", provider.id, _auth_type(provider, credential), "", 1, True, credential, provider_data=data
        )
        self._prepared(provider, trial)
        subject = self._subject(provider, trial)
        listed = self._checkups.listed(subject)
        result = self._checkups.examine(subject, listed=listed, with_stream=False)
        return Validation(result.is_valid, listed.models if listed is not None else (), result.error)

    def _subject(self, provider: Provider, connection: Connection) -> Subject:
        known = self._directory.models_of(provider.id)
        return Subject(provider, connection, known, self._node_headers(provider.id))

    # --- checks --------------------------------------------------------------------------------------------------

    @property
    def _directory(self) -> Directory:
        return self._directories.current

    def _provider_id(self, name: str) -> str:
        provider = self._directory.provider(name)
        if provider is None:
            raise _invalid("provider", "is not a provider or node")
        return provider.id

    def _usable_provider(self, name: str) -> Provider:
        provider = self._directory.provider(name)
        if provider is None and name in _NODE_TYPES:
            raise _invalid("provider", "create a provider node of this type first, and use its id here")
        if provider is None:
            raise _invalid("provider", "is not a provider or node")
        if provider.is_implicit:
            raise _invalid("provider", "is always connected and takes no connection")
        if provider.status is ProviderStatus.DISCONTINUED:
            instead = f"; use {' or '.join(provider.replaced_by)}" if provider.replaced_by else ""
            raise _invalid("provider", f"has been discontinued{instead}")
        if AuthKind.API_KEY not in provider.auth and AuthKind.NONE not in provider.auth:
            raise InvalidRequest(
                f"{provider.name} is used with a login that this release does not offer.",
                code="not_supported",
                param="provider",
            )
        return provider

    def _checked_data(self, provider: Provider, data: Mapping[str, Any]) -> dict[str, Any]:
        allowed = {*provider.parameters, *(("baseUrl",) if provider.is_local and not provider.is_operator else ())}
        unknown = sorted(set(data) - allowed)
        if unknown:
            hint = f"; known are {', '.join(sorted(allowed))}" if allowed else f"; {provider.name} takes none"
            raise _invalid(f"providerData.{unknown[0][:80]}", f"unknown field{hint}")
        return {name: value for name, value in data.items() if value is not None}

    def _prepared(self, provider: Provider, connection: Connection) -> dict[WireFormat, Endpoint]:
        """Check that the connection makes usable requests, and return its addresses."""
        try:
            base_url = own_base_url(provider, connection.provider_data)
            if base_url is not None:
                check_base_url(self._egress, base_url, is_local=True)
            return prepare(
                provider,
                connection.credential,
                connection.provider_data,
                secret_headers=self._node_headers(provider.id),
            )
        except NotUsable as error:
            raise _invalid(error.field, str(error)) from None

    def _node_headers(self, node_id: str) -> Mapping[str, Secret] | None:
        if not node_id.startswith("node_"):
            return None
        node = self._database.read(lambda sql: node_rows.get(sql, node_id, self._cipher))
        return node.custom_headers if node is not None else None

    def _record(self, action: str, connection_id: str | None, origin: Origin, details: dict[str, Any]) -> None:
        facts = origin.facts()
        self._audit.record(action, target_kind="connection", target_id=connection_id, details=details, **facts)


def check_base_url(egress: Egress, url: str, *, is_local: bool) -> None:
    """Check a supplied base URL: its spelling, and what its host points at now.

    A name that does not resolve yet is accepted; every connection is checked again when it is opened.

    Raises:
        UrlBlocked: the address is not allowed.
        ValidationFailed: it is not the base of further addresses.
    """
    destination = egress.check_url(url, url_class=UrlClass.OPERATOR, is_local=is_local)
    if "?" in url or "#" in url:
        raise _invalid("baseUrl", "must not have a query or fragment")
    try:
        egress.resolve(destination.host.strip("[]"), destination.port, is_local=is_local, url_class=UrlClass.OPERATOR)
    except UpstreamUnreachable:
        return


def masked_key(connection: Connection) -> str | None:
    """Return what may be shown of a connection's key."""
    return str(connection.credential) if connection.credential is not None else None


def _given_key(value: Any) -> Secret | None:
    if value is None:
        return None
    key = value.strip()
    if _MASK_SIGN in key:
        raise _invalid("apiKey", "is the masked form; send the key itself")
    return Secret(key)


def _is_mask_of(value: Any, connection: Connection) -> bool:
    return value is not None and value == masked_key(connection)


def _auth_type(provider: Provider, credential: Secret | None) -> AuthType:
    if credential is not None:
        if AuthKind.API_KEY not in provider.auth:
            raise _invalid("apiKey", f"{provider.name} takes no key")
        return AuthType.API_KEY
    if AuthKind.NONE not in provider.auth:
        raise _invalid("apiKey", "is required")
    return AuthType.NONE


def _default_name(provider: Provider, siblings: Iterable[Connection]) -> str:
    taken = {row.name for row in siblings}
    names = (provider.name, *(f"{provider.name} {number}" for number in range(2, MAX_PER_PROVIDER + 2)))
    return next(name for name in names if name not in taken)


def _plain_values(fields: Mapping[str, Any]) -> dict[str, Any]:
    if "quotaCutoffs" in fields:
        fields = {**fields, "quotaCutoffs": _checked_cutoffs(fields["quotaCutoffs"] or {})}
    return {column: fields[name] for name, column in _FIELDS.items() if name in fields and fields[name] != ""}


def _checked_cutoffs(cutoffs: Mapping[str, Any]) -> dict[str, float]:
    """Check percentages by the names of windows; null leaves one out.

    Raises:
        ValidationFailed: a name or a percentage is none.
    """
    checked: dict[str, float] = {}
    for name, percent in cutoffs.items():
        if not _WINDOW_NAME.fullmatch(name):
            raise _invalid("quotaCutoffs", "holds a name that no quota window has")
        if percent is None:
            continue
        if isinstance(percent, bool) or not isinstance(percent, int | float) or not 1 <= percent <= 100:
            raise _invalid(f"quotaCutoffs.{name}", "must be a percentage from 1 to 100, or null")
        checked[name] = float(percent)
    return checked


def _refuse_failed(result: Checkup) -> None:
    if result.is_valid or result.error is None:
        return
    if result.error["class"] == FailureClass.CREDENTIAL:
        raise _invalid("apiKey", f"the provider refused it: {result.error['message']}")
    raise UpstreamError(f"The test failed: {result.error['message']}", code="provider_unreachable")


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])

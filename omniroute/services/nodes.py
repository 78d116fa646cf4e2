"""Provider nodes: endpoints that the operator defines, with an address and a model prefix of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute.errors import Conflict, NotFound, ValidationFailed
from omniroute.gateway.directory import Directories
from omniroute.gateway.egress import Egress
from omniroute.ids import new_id
from omniroute.providers.requests import list_request, provider_of_node
from omniroute.records import Node, NodeType
from omniroute.secret import Secret
from omniroute.services.audit import Recorder
from omniroute.services.checkups import diagnosis_of
from omniroute.services.connections import check_base_url
from omniroute.services.keys import Origin
from omniroute.services.probe import DEADLINES, Prober
from omniroute.storage.database import Database
from omniroute.storage.repositories import connections as connection_rows
from omniroute.storage.repositories import models_custom as model_rows
from omniroute.storage.repositories import nodes as rows
from omniroute.storage.repositories import prices as price_rows
from omniroute.storage.secrets import Cipher

API_TYPES: Final = ("chat", "responses", "embeddings", "audio-transcriptions", "audio-speech", "images-generations")
MOST_HEADERS: Final = 16
MAX_NODES: Final = 200

_PREFIX: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_RESERVED: Final = frozenset({"auto", "combo", "models", "v1", "v1beta"})
_BASE_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~@:+-]+)*")
_PATH: Final = re.compile(r"(?:/(?:[A-Za-z0-9._~@:+-]|\{model\})+)+(?:\?[A-Za-z0-9._~@:+=&-]*)?")
_FULL_PATHS: Final = (
    "/chat/completions",
    "/completions",
    "/messages",
    "/responses",
    "/models",
    "/api/chat",
    "/api/tags",
)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,998}[\x21-\x7e])?")
# What authenticates (that is the connection's key), frames the message, or names a hop.
_REFUSED_HEADERS: Final = re.compile(
    r"authorization|x-api-key|api-key|x-goog-api-key|cookie2?|set-cookie|host|content-.*|transfer-encoding|connection"
    r"|keep-alive|te|trailer|upgrade|expect|accept|accept-encoding|proxy-.*|forwarded|x-forwarded-.*|x-real-ip|via"
    r"|sec-.*|x-omniroute-.*|http2-settings|range|if-.*|date",
    re.IGNORECASE,
)
_FIELDS: Final = {
    "name": "name",
    "prefix": "prefix",
    "apiType": "api_type",
    "chatPath": "chat_path",
    "modelsPath": "models_path",
    "isLocal": "is_local",
}


@dataclass(frozen=True, slots=True)
class Reached:
    """What an address that is not stored answers."""

    is_reachable: bool
    latency_ms: float
    models: tuple[str, ...]
    error: Mapping[str, Any] | None


class Nodes:
    """Creates, lists, changes, checks and removes provider nodes."""

    def __init__(
        self,
        *,
        database: Database,
        cipher: Cipher,
        audit: Recorder,
        directories: Directories,
        egress: Egress,
        prober: Prober,
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._audit = audit
        self._directories = directories
        self._egress = egress
        self._prober = prober
        self._now = now

    def all(self) -> list[Node]:
        """Return the nodes, the oldest first."""
        return list(self._database.read(lambda sql: rows.load_all(sql, self._cipher)))

    def get(self, node_id: str) -> Node:
        """Return one node.

        Raises:
            NotFound: there is none with this id.
        """
        found = self._database.read(lambda sql: rows.get(sql, node_id, self._cipher))
        if found is None:
            raise NotFound("There is no provider node with this id.")
        return found

    def create(self, fields: Mapping[str, Any], origin: Origin) -> Node:
        """Store a new node.

        Raises:
            ValidationFailed: a field has no usable value.
            UrlBlocked: the address is not allowed; a private one needs `isLocal`.
            Conflict: the prefix is taken.
        """
        now = self._now()
        draft = Node(
            id=new_id("node"),
            name=fields["name"],
            prefix=fields["prefix"],
            type=NodeType(fields["type"]),
            base_url=_clean_base(fields["baseUrl"]),
            custom_headers=_headers(fields.get("customHeaders") or {}, {}),
            created_at=now,
            updated_at=now,
        )
        new = replace(draft, **_plain_values(fields))
        self._check(new)
        self._database.write(lambda sql: self._insert(sql, new), bump=True)
        details = {"name": new.name, "prefix": new.prefix, "type": new.type.value, "isLocal": new.is_local}
        self._record("provider.node.created", new, origin, details)
        return new

    def change(self, node_id: str, fields: Mapping[str, Any], origin: Origin) -> Node:
        """Change the given fields. With another base URL the node's connections count as untested."""
        old = self.get(node_id)
        values = _plain_values(fields)
        if "type" in fields:
            values["type"] = NodeType(fields["type"])
        if "baseUrl" in fields:
            values["base_url"] = _clean_base(fields["baseUrl"])
        if "customHeaders" in fields:
            values["custom_headers"] = _headers(fields["customHeaders"] or {}, old.custom_headers)
        new = replace(old, **values, updated_at=self._now())
        self._check(new)
        is_moved = (new.base_url, new.type) != (old.base_url, old.type)
        with_headers = "customHeaders" in fields
        self._database.write(lambda sql: self._update(sql, new, with_headers, is_moved), bump=True)
        details: dict[str, Any] = {"fields": sorted(fields)}
        if is_moved:
            details |= {"from": old.base_url, "to": new.base_url}
        self._record("provider.node.updated", new, origin, details)
        return new

    def delete(self, node_id: str, origin: Origin) -> int:
        """Remove a node together with its connections; return how many those were."""
        old = self.get(node_id)

        def work(sql: Sql) -> int:
            removed = connection_rows.delete_of_provider(sql, node_id)
            price_rows.delete_of_provider(sql, node_id)
            model_rows.delete(sql, node_id)
            model_rows.delete_override(sql, node_id)
            rows.delete(sql, node_id)
            return removed

        removed = self._database.write(work, bump=True)
        self._record(
            "provider.node.deleted", old, origin, {"name": old.name, "prefix": old.prefix, "connections": removed}
        )
        return removed

    def validate(self, fields: Mapping[str, Any]) -> Reached:
        """Ask an address for its model list without storing anything."""
        node = Node(
            id="node_trial",
            name="trial",
            prefix="trial",
            type=NodeType(fields["type"]),
            base_url=_clean_base(fields["baseUrl"]),
            models_path=fields.get("modelsPath"),
            is_local=fields.get("isLocal", False),
        )
        self._check_address(node)
        key = fields.get("apiKey")
        provider = provider_of_node(node)
        request = list_request(provider, Secret(key.strip()) if key else None, {}, deadlines=DEADLINES)
        if request is None:
            raise _invalid("modelsPath", "is needed")
        finding = self._prober.list_models(request)
        error = None
        if finding.failure is not None:
            failure = finding.failure
            error = {"code": failure.kind, "message": failure.message or diagnosis_of(failure)}
        # Any HTTP answer shows that something is there, even one that wants another key or path.
        return Reached(finding.status is not None, finding.latency_ms, finding.models, error)

    # --- checks --------------------------------------------------------------------------------------------------

    def _check(self, node: Node) -> None:
        if not _PREFIX.fullmatch(node.prefix):
            raise _invalid("prefix", "must be lower case letters, digits, dots, dashes or underscores, at most 64")
        if node.prefix in _RESERVED or node.prefix.startswith("node_"):
            raise _invalid("prefix", "is reserved")
        for name, path in (("chatPath", node.chat_path), ("modelsPath", node.models_path)):
            if path is not None and (not _PATH.fullmatch(path) or "/../" in f"{path}/" or "/./" in f"{path}/"):
                raise _invalid(name, "must be a plain path that starts with a slash")
        self._check_address(node)

    def _check_address(self, node: Node) -> None:
        check_base_url(self._egress, node.base_url, is_local=node.is_local)
        path = node.base_url.partition("://")[2].partition("/")[2]
        if not _BASE_PATH.fullmatch(f"/{path}" if path else "") or ".." in path.split("/"):
            raise _invalid("baseUrl", "has a path with characters that are not allowed")
        for full in _FULL_PATHS:
            if node.base_url.endswith(full):
                raise _invalid("baseUrl", f"must end before {full}; use chatPath or modelsPath for unusual paths")
        if node.type is NodeType.GEMINI and not node.base_url.endswith("/v1beta"):
            raise _invalid("baseUrl", "must end in /v1beta for this type")

    def _insert(self, sql: Sql, node: Node) -> None:
        self._check_prefix(sql, node)
        if rows.count(sql) >= MAX_NODES:
            raise Conflict(f"There are {MAX_NODES} provider nodes already.")
        rows.insert(sql, node, self._cipher)

    def _update(self, sql: Sql, node: Node, with_headers: bool, is_moved: bool) -> None:
        self._check_prefix(sql, node)
        if not rows.update(sql, node, self._cipher, with_headers=with_headers):
            raise NotFound("There is no provider node with this id.")
        if is_moved:
            for connection in connection_rows.load_of_provider(sql, node.id, self._cipher):
                untested = replace(connection, test_status="untested", last_error=None, last_tested_at=None)
                connection_rows.update(sql, untested, self._cipher)

    def _check_prefix(self, sql: Sql, node: Node) -> None:
        holder = self._directories.catalogue.find(node.prefix)
        if holder is not None:
            raise Conflict(f"The prefix belongs to {holder.name}.", extras={"field": "prefix"})
        for other in rows.load_all(sql, self._cipher):
            if other.prefix == node.prefix and other.id != node.id:
                raise Conflict(f"The prefix belongs to the node {other.name!r}.", extras={"field": "prefix"})

    def _record(self, action: str, node: Node, origin: Origin, details: dict[str, Any]) -> None:
        self._audit.record(action, target_kind="node", target_id=node.id, details=details, **origin.facts())


def _plain_values(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {column: fields[name] for name, column in _FIELDS.items() if name in fields}


def _clean_base(url: str) -> str:
    return url.strip().rstrip("/")


def _headers(given: Mapping[str, Any], stored: Mapping[str, Secret]) -> dict[str, Secret]:
    """Check custom headers; a masked value that is sent back keeps the stored one."""
    if len(given) > MOST_HEADERS:
        raise _invalid("customHeaders", f"must have at most {MOST_HEADERS} entries")
    known = {name.lower(): value for name, value in stored.items()}
    headers: dict[str, Secret] = {}
    seen: set[str] = set()
    for name, value in given.items():
        field = f"customHeaders.{name[:64]}"
        lower = name.lower()
        if not _HEADER_NAME.fullmatch(name) or lower in seen:
            raise _invalid(field, "is not a header name, or is given twice")
        if _REFUSED_HEADERS.fullmatch(name):
            raise _invalid(field, "must not be set: it authenticates, frames the message or belongs to a hop")
        if not isinstance(value, str):
            raise _invalid(field, "must be a string")
        if lower in known and value == str(known[lower]):
            headers[name] = known[lower]
        elif _HEADER_VALUE.fullmatch(value):
            headers[name] = Secret(value)
        else:
            raise _invalid(field, "must be 1 to 1000 printable ASCII characters")
        seen.add(lower)
    return headers


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])

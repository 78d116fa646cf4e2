"""`/api/keys`: API keys. A key is shown in full once, in the answer that creates or regenerates it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints import guard
from omniroute.blueprints.contract import (
    PAGING,
    SEARCH,
    ListDocument,
    Query,
    RemovedDocument,
    Time,
    operation,
    sorting,
)
from omniroute.blueprints.management.auth import visitor
from omniroute.blueprints.management.bodies import (
    Fields,
    Order,
    Page,
    answer,
    flag,
    integer,
    integers,
    iso_time,
    moment,
    nested,
    objects,
    text,
    texts,
)
from omniroute.blueprints.tiers import inference_endpoints
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.records import ApiKey
from omniroute.services import keys as service
from omniroute.services.keys import Origin

blueprint = Blueprint("management_keys", __name__)

_CLOCK: Final = r"([01]\d|2[0-3]):[0-5]\d"
_SCHEDULE: Final = Fields(
    flag("enabled", required=True),
    text("from", required=True, pattern=_CLOCK),
    text("until", required=True, pattern=_CLOCK),
    integers("days", required=True, minimum=0, maximum=6, max_items=7),
    text("tz", required=True, max_length=64),
)
_RULE: Final = Fields(
    integer("limit", required=True, minimum=1, maximum=10**9),
    integer("windowSeconds", required=True, minimum=1, maximum=366 * 86400),
)
_ENDPOINTS: Final = tuple(sorted(prefix + name for name in inference_endpoints() for prefix in ("", "/v1/")))
_CHANGEABLE: Final = (
    texts("scopes", max_items=service.MOST_SCOPES, max_length=service.LONGEST_SCOPE),
    texts("allowedModels", max_items=500, max_length=256),
    texts("blockedModels", max_items=500, max_length=256),
    texts("allowedCombos", max_items=500, max_length=256),
    texts("allowedConnections", max_items=500, max_length=64),
    texts("allowedEndpoints", max_items=50, max_length=64, choices=_ENDPOINTS),
    texts("ipAllowlist", max_items=200, max_length=64),
    moment("expiresAt", nullable=True),
    flag("isActive"),
    flag("isBanned"),
    nested("accessSchedule", _SCHEDULE, nullable=True),
    objects("rateLimits", _RULE, max_items=service.MOST_RATE_RULES),
    integer("maxConcurrent", minimum=1, maximum=10_000, nullable=True),
    integer("maxSessions", minimum=1, maximum=10_000, nullable=True),
    integer("throttleDelayMs", minimum=0, maximum=300_000, nullable=True),
    flag("noLog"),
    texts("disabledGuardrails", max_items=50, max_length=64),
    flag("hidePaidModels"),
    flag("isCanary"),
    text("streamDefault", choices=("request", "json")),
)
_NEW: Final = Fields(text("name", required=True, max_length=200), *_CHANGEABLE)
_CHANGE: Final = Fields(text("name", max_length=200), *_CHANGEABLE)
_ORDER: Final[Order[ApiKey]] = Order(
    searched=lambda key: (key.id, key.name, service.masked(key)),
    fields={
        "name": lambda key: key.name.casefold(),
        "createdAt": lambda key: key.created_at,
        "expiresAt": lambda key: key.expires_at,
        "lastUsedAt": lambda key: key.last_used_at,
    },
)
_REGENERATE: Final = Fields(integer("graceSec", minimum=0, maximum=service.LONGEST_GRACE_S))


AccessScheduleDocument = TypedDict(
    "AccessScheduleDocument", {"enabled": bool, "from": str, "until": str, "days": list[int], "tz": str}
)
"""The days (0 is Monday) and hours at which a key may be used."""


class RateRuleDocument(TypedDict):
    """So many requests in so many seconds."""

    limit: int
    windowSeconds: int


class KeyDocument(TypedDict):
    """An API key, masked; nothing in it opens anything. Empty lists do not restrict."""

    id: str
    name: str
    key: str
    state: str
    scopes: list[str]
    allowedModels: list[str]
    blockedModels: list[str]
    allowedCombos: list[str]
    allowedConnections: list[str]
    allowedEndpoints: list[str]
    ipAllowlist: list[str]
    expiresAt: Time | None
    isActive: bool
    isBanned: bool
    accessSchedule: AccessScheduleDocument | None
    rateLimits: list[RateRuleDocument]
    maxConcurrent: int | None
    maxSessions: int | None
    throttleDelayMs: int | None
    noLog: bool
    disabledGuardrails: list[str]
    hidePaidModels: bool
    isCanary: bool
    streamDefault: str
    previousValidUntil: Time | None
    lastUsedAt: Time | None
    createdAt: Time
    updatedAt: Time


class KeysDocument(ListDocument):
    """A page of keys."""

    keys: list[KeyDocument]
    allowKeyReveal: bool


class RevealedKeyDocument(TypedDict):
    """A key in full."""

    key: str


class OneKeyDocument(TypedDict):
    """One key, and whether keys that are made now can be shown again."""

    key: KeyDocument
    allowKeyReveal: bool


class NewKeyDocument(KeyDocument):
    """A new key. `key` is the secret itself, which is shown here only; `maskedKey` is what lists show."""

    maskedKey: str


class RegeneratedKeyDocument(TypedDict):
    """The new secret of a key, which is shown here only, and until when the old one still works."""

    key: str
    id: str
    previousValidUntil: Time | None


@blueprint.get("/api/keys")
@operation(
    KeysDocument,
    query=(
        *PAGING,
        *SEARCH,
        sorting("name", "createdAt", "expiresAt", "lastUsedAt"),
        Query("state", "Only keys in this state.", choices=service.STATES),
        Query("scope", "Only keys with this scope."),
    ),
)
def index() -> Response:
    """List the keys, masked."""
    page = Page.read(request)
    found = _ORDER.apply(request, _chosen(container().keys.usable()))
    body: KeysDocument = {
        "keys": [shown(key) for key in page.cut(found)],
        "total": len(found),
        "limit": page.limit,
        "offset": page.offset,
        "allowKeyReveal": container().keys.may_reveal,
    }
    return answer(body, headers={"X-Total-Count": str(len(found))})


@blueprint.post("/api/keys")
@operation(NewKeyDocument, status=201, body=_NEW)
def create() -> Response:
    """Create a key; the only answer that ever holds it."""
    issued = container().keys.create(_NEW.read(request), _origin())
    body: NewKeyDocument = {**shown(issued.key), "maskedKey": service.masked(issued.key), "key": issued.secret}
    return answer(body, 201)


@blueprint.get("/api/keys/<key_id>")
@operation(OneKeyDocument)
def show(key_id: str) -> Response:
    """Show one key, masked."""
    return answer(_one(container().keys.get(key_id)))


@blueprint.route("/api/keys/<key_id>", methods=["PUT", "PATCH"])
@operation(OneKeyDocument, body=_CHANGE)
def change(key_id: str) -> Response:
    """Change the given fields."""
    return answer(_one(container().keys.change(key_id, _CHANGE.read(request), _origin())))


@blueprint.delete("/api/keys/<key_id>")
@operation(RemovedDocument)
def revoke(key_id: str) -> Response:
    """End a key at once; its usage stays."""
    container().keys.revoke(key_id, _origin())
    return answer(RemovedDocument(success=True, id=key_id))


@blueprint.post("/api/keys/<key_id>/regenerate")
@operation(RegeneratedKeyDocument, body=_REGENERATE, is_body_optional=True)
def regenerate(key_id: str) -> Response:
    """Replace the secret of a key, keeping the old one for `graceSec` seconds."""
    grace_s = _REGENERATE.read(request, optional=True).get("graceSec", 0)
    issued = container().keys.regenerate(key_id, _origin(), grace_s)
    until = iso_time(issued.key.previous_until)
    return answer(RegeneratedKeyDocument(key=issued.secret, id=issued.key.id, previousValidUntil=until))


@blueprint.get("/api/keys/<key_id>/reveal")
@operation(RevealedKeyDocument, refusals=(404,))
def reveal(key_id: str) -> Response:
    """Show a key in full, where the server keeps those that it makes in a form that can be shown again."""
    return answer(RevealedKeyDocument(key=container().keys.reveal(key_id, _origin()).reveal()))


def _chosen(keys: Iterable[ApiKey]) -> list[ApiKey]:
    """Return the keys of the state and scope that the query asks for."""
    state, scope = request.args.get("state"), request.args.get("scope")
    if state and state not in service.STATES:
        raise ValidationFailed([{"field": "state", "message": f"must be one of {', '.join(service.STATES)}"}])
    now = container().keys.now()
    return [
        key for key in keys if (not state or service.state_of(key, now) == state) and (not scope or scope in key.scopes)
    ]


def _one(key: ApiKey) -> OneKeyDocument:
    return {"key": shown(key), "allowKeyReveal": container().keys.may_reveal}


def _origin() -> Origin:
    who = visitor()
    return Origin(guard.actor(), who.address, who.user_agent, who.request_id)


def shown(key: ApiKey) -> KeyDocument:
    """Return a key as management answers show it; nothing in it opens anything."""
    schedule = key.schedule
    return {
        "id": key.id,
        "name": key.name,
        "key": service.masked(key),
        "state": service.state_of(key, container().keys.now()),
        "scopes": sorted(key.scopes),
        "allowedModels": list(key.allowed_models),
        "blockedModels": list(key.blocked_models),
        "allowedCombos": list(key.allowed_combos),
        "allowedConnections": list(key.allowed_connections),
        "allowedEndpoints": list(key.allowed_endpoints),
        "ipAllowlist": list(key.ip_allowlist),
        "expiresAt": iso_time(key.expires_at),
        "isActive": key.is_active,
        "isBanned": key.is_banned,
        "accessSchedule": None
        if schedule is None
        else {
            "enabled": schedule.enabled,
            "from": schedule.start,
            "until": schedule.end,
            "days": list(schedule.days),
            "tz": schedule.tz,
        },
        "rateLimits": [{"limit": rule.limit, "windowSeconds": rule.window_seconds} for rule in key.rate_limits],
        "maxConcurrent": key.max_concurrent,
        "maxSessions": key.max_sessions,
        "throttleDelayMs": key.throttle_delay_ms,
        "noLog": key.no_log,
        "disabledGuardrails": list(key.disabled_guardrails),
        "hidePaidModels": key.hide_paid_models,
        "isCanary": key.is_canary,
        "streamDefault": key.stream_default,
        "previousValidUntil": iso_time(key.previous_until),
        "lastUsedAt": iso_time(key.last_used_at),
        "createdAt": iso_time(key.created_at),
        "updatedAt": iso_time(key.updated_at),
    }

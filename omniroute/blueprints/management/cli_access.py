"""`/api/cli`: how a command line on another machine gets an access token, and how tokens are listed and ended."""

from __future__ import annotations

from typing import Final, NotRequired, TypedDict

from flask import Blueprint, Response, request

from omniroute import __version__
from omniroute.blueprints import guard
from omniroute.blueprints.contract import operation
from omniroute.blueprints.management.auth import visitor
from omniroute.blueprints.management.bodies import Fields, answer, integer, iso_time, text
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.records import AccessToken
from omniroute.services import access_tokens as service
from omniroute.services.access import ActorKind
from omniroute.services.access_tokens import Issued, Scope, State
from omniroute.services.passwords import LONGEST

blueprint = Blueprint("management_cli_access", __name__)

_EXPIRES: Final = integer("expiresInDays", nullable=True, minimum=1, maximum=service.MOST_DAYS)
_CONNECT: Final = Fields(
    text("password", required=True, max_length=LONGEST, secret=True),
    text("name", max_length=service.LONGEST_NAME),
    text("scope", choices=Scope),
    _EXPIRES,
)
_NEW: Final = Fields(
    text("name", required=True, max_length=service.LONGEST_NAME), text("scope", choices=Scope), _EXPIRES
)


class AccessTokenDocument(TypedDict):
    """An access token without its secret; `tokenPrefix` is how that begins."""

    id: str
    name: str
    scope: Scope
    tokenPrefix: str
    status: State
    createdAt: str | None
    lastUsedAt: str | None
    expiresAt: str | None
    revokedAt: str | None


class AccessTokenListDocument(TypedDict):
    """All tokens, the newest first."""

    tokens: list[AccessTokenDocument]
    total: int


class IssuedTokenDocument(TypedDict):
    """A new token. `token` is its secret, which no other answer ever holds."""

    success: bool
    token: str
    id: str
    name: str
    scope: Scope
    expiresAt: str | None


class RevokedTokenDocument(TypedDict):
    """The token that has ended."""

    success: bool
    id: str


class ServerDocument(TypedDict):
    """Who answers."""

    version: str
    baseUrl: str


class WhoAmIDocument(TypedDict):
    """Who the caller is, to the server."""

    authenticated: bool
    viaAccessToken: bool
    kind: ActorKind
    scope: str
    server: ServerDocument
    id: NotRequired[str]
    name: NotRequired[str]
    createdAt: NotRequired[str | None]
    lastUsedAt: NotRequired[str | None]
    expiresAt: NotRequired[str | None]


@blueprint.post("/api/cli/connect")
@operation(IssuedTokenDocument, body=_CONNECT, refusals=(401, 403, 429))
def connect() -> Response:
    """Give an access token to a caller who knows the management password.

    Wrong passwords are counted together with those of the login; after five the address is locked for a while.
    """
    values = _CONNECT.read(request)
    who = visitor()
    scope = Scope(values.get("scope", Scope.ADMIN))
    issued = container().access_tokens.connect(
        values["password"], values.get("name", "command line"), scope, values.get("expiresInDays"), who
    )
    return answer(_issued(issued))


@blueprint.get("/api/cli/whoami")
@operation(WhoAmIDocument)
def whoami() -> Response:
    """Tell the caller what the server takes it for."""
    held = container()
    actor = guard.actor()
    body: WhoAmIDocument = {
        "authenticated": True,
        "viaAccessToken": actor.kind is ActorKind.TOKEN,
        "kind": actor.kind,
        "scope": actor.power.name.lower(),
        "server": {"version": __version__, "baseUrl": held.settings.base_url},
    }
    token = next((one for one in held.access_tokens.list_all() if one.id == actor.id), None)
    if token is not None:
        body["id"], body["name"] = token.id, token.name
        body["createdAt"], body["lastUsedAt"] = iso_time(token.created_at), iso_time(token.last_used_at)
        body["expiresAt"] = iso_time(token.expires_at)
    elif actor.name:
        body["name"] = actor.name
    return answer(body)


@blueprint.get("/api/cli/tokens")
@operation(AccessTokenListDocument)
def index() -> Response:
    """List the access tokens, the newest first; ended ones are kept for a while."""
    found = container().access_tokens.list_all()
    return answer({"tokens": [shown(token) for token in found], "total": len(found)})


@blueprint.post("/api/cli/tokens")
@operation(IssuedTokenDocument, status=201, body=_NEW)
def create() -> Response:
    """Make an access token; the only answer that ever holds it."""
    values = _NEW.read(request)
    scope = Scope(values.get("scope", Scope.READ))
    issued = container().access_tokens.create(values["name"], scope, values.get("expiresInDays"), origin())
    return answer(_issued(issued), 201)


@blueprint.delete("/api/cli/tokens/<token_id>")
@operation(RevokedTokenDocument, refusals=(404, 409))
def revoke(token_id: str) -> Response:
    """End an access token, given by its id, its name, or how one of its id and secret begins."""
    token = container().access_tokens.revoke(token_id, origin())
    return answer({"success": True, "id": token.id})


def _issued(issued: Issued) -> IssuedTokenDocument:
    token = issued.token
    return {
        "success": True,
        "token": issued.secret,
        "id": token.id,
        "name": token.name,
        "scope": Scope(token.scope),
        "expiresAt": iso_time(token.expires_at),
    }


def shown(token: AccessToken) -> AccessTokenDocument:
    """Return a token as management answers show it; nothing in it opens anything."""
    return {
        "id": token.id,
        "name": token.name,
        "scope": Scope(token.scope),
        "tokenPrefix": token.prefix,
        "status": service.state_of(token, container().access_tokens.now()),
        "createdAt": iso_time(token.created_at),
        "lastUsedAt": iso_time(token.last_used_at),
        "expiresAt": iso_time(token.expires_at),
        "revokedAt": iso_time(token.revoked_at),
    }

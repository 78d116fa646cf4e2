"""`/api/sessions`: conversations that stay at the connection that served them."""

from __future__ import annotations

from typing import TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import PAGING, ListDocument, Query, Time, operation
from omniroute.blueprints.management.bodies import Page, answer, iso_time
from omniroute.blueprints.management.origin import origin
from omniroute.blueprints.management.usage import query_text
from omniroute.container import container
from omniroute.services.telemetry import Session

blueprint = Blueprint("management_sessions", __name__)


class StickySessionDocument(TypedDict):
    """A session that stays at a connection. Whose it is is known as long as the request log knows."""

    id: str
    provider: str
    connectionId: str
    connectionName: str | None
    target: str | None
    apiKeyId: str | None
    apiKeyName: str | None
    lastUsedAt: Time
    expiresAt: Time


class SessionsOfKeyDocument(TypedDict):
    """How many sessions an API key has."""

    apiKeyId: str
    apiKeyName: str | None
    count: int


class StickySessionsDocument(ListDocument):
    """A page of the sessions that stay somewhere, the last used first."""

    sessions: list[StickySessionDocument]
    count: int
    byApiKey: list[SessionsOfKeyDocument]


class ExpiredSessionsDocument(TypedDict):
    """How many sessions were ended."""

    expired: int


@blueprint.get("/api/sessions")
@operation(StickySessionsDocument, query=(*PAGING, Query("connectionId", "Only sessions at this connection.")))
def index() -> Response:
    """List the sessions that stay at a connection, over all workers."""
    page = Page.read(request)
    found = container().sticky_sessions.page(
        limit=page.limit, offset=page.offset, connection_id=query_text("connectionId")
    )
    body = StickySessionsDocument(
        sessions=[shown(session) for session in found.sessions],
        count=found.total,
        byApiKey=[
            SessionsOfKeyDocument(apiKeyId=key, apiKeyName=name, count=count) for key, name, count in found.by_key
        ],
        total=found.total,
        limit=page.limit,
        offset=page.offset,
    )
    return answer(body, headers={"X-Total-Count": str(found.total)})


@blueprint.delete("/api/sessions")
@operation(ExpiredSessionsDocument)
def expire_all() -> Response:
    """Let every session go wherever its next request is best served."""
    return answer(ExpiredSessionsDocument(expired=container().sticky_sessions.expire(None, origin())))


@blueprint.delete("/api/sessions/<session_id>")
@operation(ExpiredSessionsDocument, refusals=(404,))
def expire(session_id: str) -> Response:
    """Let one session go wherever its next request is best served; workers follow within two seconds."""
    return answer(ExpiredSessionsDocument(expired=container().sticky_sessions.expire(session_id, origin())))


def shown(session: Session) -> StickySessionDocument:
    """Return a session as management answers show it."""
    return {
        "id": session.id,
        "provider": session.provider,
        "connectionId": session.connection_id,
        "connectionName": session.connection,
        "target": session.target,
        "apiKeyId": session.api_key_id,
        "apiKeyName": session.api_key,
        "lastUsedAt": iso_time(session.last_used_at),
        "expiresAt": iso_time(session.expires_at),
    }

"""`/api/auth`, `/api/init` and the settings of access: login, sessions, password, the table of tiers."""

from __future__ import annotations

import time
from typing import Final, TypedDict

from flask import Blueprint, Response, current_app, request
from flask_wtf.csrf import generate_csrf

from omniroute import __version__
from omniroute.blueprints import guard
from omniroute.blueprints.contract import PAGING, ListDocument, RemovedDocument, SuccessDocument, Time, operation
from omniroute.blueprints.management.bodies import Fields, Page, answer, flag, iso_time, listing, text
from omniroute.blueprints.tiers import ROUTES
from omniroute.container import container
from omniroute.errors import StorageError
from omniroute.services.login import Login, Visitor
from omniroute.services.passwords import LONGEST

blueprint = Blueprint("management_auth", __name__)

_LOGIN: Final = Fields(
    text("password", required=True, max_length=LONGEST, secret=True),
    text("next", max_length=1000, nullable=True),
)
_PASSWORD: Final = Fields(
    text("currentPassword", required=True, max_length=LONGEST, secret=True),
    text("newPassword", required=True, max_length=LONGEST, secret=True),
)
_REQUIRE_LOGIN: Final = Fields(
    flag("requireLogin", required=True),
    text("currentPassword", required=True, max_length=LONGEST, secret=True),
)


class LoginStateDocument(TypedDict):
    """Whether the caller is logged in, and whether a login is needed at all."""

    authenticated: bool
    requireLogin: bool
    setupComplete: bool


class CsrfTokenDocument(TypedDict):
    """The token that mutations of a script carry as `X-OmniRoute-CSRF`."""

    token: str
    expiresAt: Time


class RevokedSessionsDocument(TypedDict):
    """How many sessions were ended."""

    success: bool
    revokedSessions: int


class SessionDocument(TypedDict):
    """An open session of the dashboard."""

    id: str
    createdAt: Time
    lastSeenAt: Time
    expiresAt: Time
    address: str | None
    userAgent: str | None
    current: bool


class SessionsDocument(ListDocument):
    """A page of open sessions."""

    sessions: list[SessionDocument]


class SetupStateDocument(TypedDict):
    """Whether the server has been set up, and what it runs."""

    setupComplete: bool
    version: str


class LoginNeedDocument(TypedDict):
    """What a login page has to ask for."""

    requireLogin: bool
    hasPassword: bool
    setupComplete: bool


class RouteTierDocument(TypedDict):
    """A route and whom it admits."""

    methods: list[str]
    path: str
    tier: str
    scope: str | None


class RouteTiersDocument(TypedDict):
    """The table of tiers."""

    routes: list[RouteTierDocument]
    total: int


def login_service() -> Login:
    """Return the login of this application."""
    return container().login


def visitor() -> Visitor:
    """Return who stands behind the current request."""
    environ = request.environ
    reach = container().access.reach
    return Visitor(
        address=reach.client_address(environ),
        is_local=reach.is_loopback(environ),
        user_agent=environ.get("HTTP_USER_AGENT"),
        request_id=guard.request_id(),
    )


@blueprint.post("/api/auth/login")
@operation(SuccessDocument, headers={"Set-Cookie": "The session."}, body=_LOGIN, refusals=(401, 403, 429))
def login() -> Response:
    """Open a session for the right password."""
    password = _LOGIN.read(request)["password"]
    opened = login_service().log_in(password, visitor())
    response = answer({"success": True})
    container().sessions.set_cookie(response, request.environ, opened.token)
    return response


@blueprint.post("/api/auth/logout")
@operation(SuccessDocument, refusals=(403,))
def logout() -> Response:
    """End the caller's session, if there is one."""
    held = container()
    login_service().log_out(held.access.session_actor(request.environ), visitor())
    response = answer({"success": True})
    held.sessions.drop_cookie(response, request.environ)
    return response


@blueprint.get("/api/auth/status")
@operation(LoginStateDocument)
def status() -> Response:
    """Tell a page whether it has to log in."""
    held = container()
    is_open = held.access.session_actor(request.environ) or held.access.anonymous_management(request.environ)
    body: LoginStateDocument = {
        "authenticated": is_open is not None,
        "requireLogin": held.access.is_login_required,
        "setupComplete": held.passwords.exists(),
    }
    return answer(body)


@blueprint.get("/api/auth/csrf")
@operation(CsrfTokenDocument)
def csrf() -> Response:
    """Give a script of ours the token that its mutations carry."""
    lifetime_s = current_app.config["WTF_CSRF_TIME_LIMIT"]
    return answer(CsrfTokenDocument(token=generate_csrf(), expiresAt=iso_time(time.time() + lifetime_s)))


@blueprint.post("/api/auth/password")
@operation(RevokedSessionsDocument, body=_PASSWORD)
def change_password() -> Response:
    """Change the password and end all other sessions."""
    values = _PASSWORD.read(request)
    revoked = login_service().change_password(
        values["currentPassword"], values["newPassword"], guard.actor(), visitor()
    )
    return answer(RevokedSessionsDocument(success=True, revokedSessions=revoked))


@blueprint.get("/api/auth/sessions")
@operation(SessionsDocument, query=PAGING)
def sessions() -> Response:
    """List the open sessions."""
    own = guard.actor().session_hash
    page = Page.read(request)
    found = container().sessions.open_sessions()
    rows: list[SessionDocument] = [
        {
            "id": row.id,
            "createdAt": iso_time(row.created_at),
            "lastSeenAt": iso_time(row.last_seen_at),
            "expiresAt": iso_time(row.expires_at),
            "address": row.address,
            "userAgent": row.user_agent,
            "current": row.session_hash == own,
        }
        for row in page.cut(found)
    ]
    return listing("sessions", rows, total=len(found), page=page)


@blueprint.delete("/api/auth/sessions")
@operation(RevokedSessionsDocument)
def revoke_other_sessions() -> Response:
    """End all sessions but the caller's own."""
    revoked = container().sessions.revoke_all(but=guard.actor().session_hash)
    _record_revocation(None, revoked)
    return answer(RevokedSessionsDocument(success=True, revokedSessions=revoked))


@blueprint.delete("/api/auth/sessions/<session_id>")
@operation(RemovedDocument)
def revoke_session(session_id: str) -> Response:
    """End one session."""
    container().sessions.revoke(session_id)
    _record_revocation(session_id, 1)
    return answer(RemovedDocument(success=True, id=session_id))


def _record_revocation(session_id: str | None, revoked: int) -> None:
    who = visitor()
    container().audit.record(
        "auth.session.revoked",
        actor=guard.actor().audit_name,
        target_kind="session",
        target_id=session_id,
        address=who.address,
        user_agent=who.user_agent,
        request_id=who.request_id,
        details={"revoked": revoked},
    )


@blueprint.get("/api/init")
@operation(SetupStateDocument)
def init() -> Response:
    """Tell whether the server has been set up."""
    return answer(SetupStateDocument(setupComplete=container().passwords.exists(), version=__version__))


@blueprint.get("/api/settings/require-login")
@operation(LoginNeedDocument)
def require_login() -> Response:
    """Tell a login page what it has to ask for; with an unreadable store, everything is asked for."""
    held = container()
    try:
        has_password = held.passwords.exists()
        is_required = held.access.is_login_required
    except StorageError:
        return answer(LoginNeedDocument(requireLogin=True, hasPassword=True, setupComplete=True))
    return answer(LoginNeedDocument(requireLogin=is_required, hasPassword=has_password, setupComplete=has_password))


@blueprint.post("/api/settings/require-login")
@operation(SuccessDocument, body=_REQUIRE_LOGIN)
def switch_login() -> Response:
    """Ask for a login, or let callers on this host in without one."""
    values = _REQUIRE_LOGIN.read(request)
    login_service().require(values["requireLogin"], values["currentPassword"], guard.actor(), visitor())
    return answer({"success": True})


@blueprint.get("/api/settings/authz")
@blueprint.get("/api/settings/authz-inventory")
@operation(RouteTiersDocument)
def authz() -> Response:
    """Show the table of tiers; it can be read, never loosened."""
    routes: list[RouteTierDocument] = [
        {
            "methods": list(route.methods),
            "path": route.rule,
            "tier": route.tier.value,
            "scope": route.needed_power.name.lower() if route.needed_power is not None else None,
        }
        for route in ROUTES
    ]
    return answer(RouteTiersDocument(routes=routes, total=len(routes)))

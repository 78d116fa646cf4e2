"""What every request passes before its view: identity, size, tier, origin and policy, in that order, in one place.

The guard decides by the rule that Flask dispatched and the row of `tiers.ROUTES` that belongs to it. What has no row is
not found. Errors leave it in the dialect of the path. The inference path is the hot one: it reads the WSGI environment
directly and touches neither cookies nor sessions nor regular expressions.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import quote

from flask import Flask, Request, Response, g, redirect, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WrongMethod
from werkzeug.http import parse_accept_header
from werkzeug.routing import RequestRedirect
from werkzeug.wrappers import Response as WsgiResponse

from omniroute import __version__
from omniroute.blueprints.etags import conditional
from omniroute.blueprints.management import errors as management_errors
from omniroute.blueprints.page_sessions import PageSessions
from omniroute.blueprints.tiers import ROUTES, Family, MethodTable, Route, Tier, family_of, verify
from omniroute.errors import (
    AuthenticationFailed,
    CallerError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    OmniRouteError,
    PermissionDenied,
    RequestTooLarge,
    ServerDraining,
    UnsupportedMediaType,
)
from omniroute.extensions import compress, csrf
from omniroute.formats.anthropic_messages import errors as anthropic_errors
from omniroute.formats.gemini import errors as gemini_errors
from omniroute.formats.ollama import errors as ollama_errors
from omniroute.formats.openai_chat import errors as openai_errors
from omniroute.ids import new_id
from omniroute.services.access import REALM, AccessControl, Actor, ActorKind, Caller
from omniroute.services.audit import Recorder
from omniroute.services.carriers import carried_credential
from omniroute.services.ip_filter import AddressGate
from omniroute.services.sessions import Sessions

log = logging.getLogger(__name__)

Environ = dict[str, Any]

CALLER: Final = "omniroute.caller"
ACTOR: Final = "omniroute.actor"
PAGE_ACTOR: Final = "omniroute.page_actor"
"""Who asks for a page, in requests that the page makes of the API within the process; no client can set it."""
REQUEST_ID: Final = "omniroute.request_id"
CSRF_HEADER: Final = "HTTP_X_OMNIROUTE_CSRF"
_ROUTE: Final = "omniroute.route"
_STARTED_COOKIE: Final = "omniroute.renewed_cookie"

_INTERNAL_PREFIX: Final = "HTTP_X_OMNIROUTE_"
_INTERNAL_HEADERS: Final = ("HTTP_X_OMNIROUTE_AUTH_", "HTTP_X_OMNIROUTE_PEER_", "HTTP_X_OMNIROUTE_ROUTE_")
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSED_ESCAPES: Final = re.compile(r"%(?:[01][0-9a-f]|7f|2e|5c|25|23|3b|3f)", re.IGNORECASE)
_DOTS: Final = frozenset({"", ".", ".."})
_ESCAPED_SLASH: Final = re.compile(r"%2f", re.IGNORECASE)
_CORRELATION_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_HEADER_NAMES: Final = re.compile(r"[A-Za-z0-9-]{1,64}(?:\s*,\s*[A-Za-z0-9-]{1,64}){0,63}", re.ASCII)
_DENIED_PAUSE_S: Final = 60.0
_MAX_DENIED: Final = 2000

_PAGE_HEADERS: Final = (
    (
        "Content-Security-Policy",
        (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
            "connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
    ),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class Guard:
    """The one check in front of all views.

    Args:
        access: recognises callers.
        sessions: the login cookie.
        audit: told of denials on management routes.
        inference_body_limit: most bytes of a body on inference routes.
        body_limit: most bytes of a body elsewhere.
        upload_limit: most bytes of a body that is a file.
        cors_origins: origins that may read answers of inference routes; `*` for all.
        is_draining: true while the server goes down and takes no new work.
        addresses: keeps callers out by their address; None lets all of them pass.
    """

    def __init__(
        self,
        *,
        access: AccessControl,
        sessions: Sessions,
        audit: Recorder,
        now: Callable[[], float],
        inference_body_limit: int = 50 * 1024 * 1024,
        body_limit: int = 10 * 1024 * 1024,
        upload_limit: int = 100 * 1024 * 1024,
        cors_origins: Iterable[str] = (),
        is_draining: Callable[[], bool] = lambda: False,
        addresses: AddressGate | None = None,
    ) -> None:
        self._access = access
        self._check_address: Callable[[Environ], None] = (
            addresses.check if addresses is not None else lambda _environ: None
        )
        self._sessions = sessions
        self._audit = audit
        self._now = now
        self._inference_body_limit = inference_body_limit
        self._body_limit = body_limit
        self._upload_limit = upload_limit
        self._cors_origins = frozenset(cors_origins)
        self._is_draining = is_draining
        self._table: dict[str, MethodTable] = {}
        self._fixed: dict[str, str] = {}
        self._denied: dict[tuple[str, str], float] = {}
        self.on_interrupted: Callable[[], WsgiResponse] | None = None
        """Answers a form of ours that comes without a session; None leads it to the login page, and it is lost."""

    def init_app(self, app: Flask) -> None:
        """Attach the guard to an application; call :meth:`seal` when all its routes are registered."""
        app.url_map.merge_slashes = False
        app.url_map.strict_slashes = (
            False  # clients append a slash to inference paths; tiers go by rule, so none changes
        )
        app.session_interface = PageSessions()
        app.config["WTF_CSRF_CHECK_DEFAULT"] = False
        app.config["WTF_CSRF_HEADERS"] = ["X-OmniRoute-CSRF"]
        app.config["WTF_CSRF_SSL_STRICT"] = False  # the origin check below does this better: it knows trusted proxies
        csrf.init_app(app)
        app.before_request(self.check)
        app.after_request(self.finish)
        app.register_error_handler(OmniRouteError, self.answer_error)
        app.register_error_handler(HTTPException, self.answer_http_exception)
        app.register_error_handler(Exception, self.answer_unexpected)

    def seal(self, app: Flask, routes: Iterable[Route] = ROUTES) -> None:
        """Compare the table of tiers with the routes; from now on only declared routes are served.

        Raises:
            ConfigurationError: the table and the routes differ.
        """
        self._table = verify(app.url_map, routes)
        self._fixed = {
            rule: ", ".join(sorted({*methods, "OPTIONS"})) for rule, methods in self._table.items() if "<" not in rule
        }

    def route(self, method: str, rule: str) -> Route:
        """Return the row of a sealed rule."""
        return self._table[rule][method]

    # --- before the view ---------------------------------------------------------------------------------------------

    def check(self) -> WsgiResponse | None:
        """Admit the request, answer it, or raise what it lacks."""
        current: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - one look-up
        environ = current.environ
        rule = current.url_rule
        route = self._table.get(rule.rule, _NOTHING).get(environ["REQUEST_METHOD"]) if rule is not None else None
        self._begin(environ, route)
        if route is None:
            if rule is None:
                self._recognise_on_page(environ)
                return None  # Flask raises its 404 or 405 next
            raise NotFound
        if route.tier is Tier.C:
            self._check_size(environ, self._inference_body_limit)
            if environ["REQUEST_METHOD"] == "OPTIONS":
                return self._preflight(environ, route)
            self._check_address(environ)
            environ[CALLER] = self._inference_caller(environ, route)
            return None
        self._refuse_name_as_id(route, environ["PATH_INFO"])
        limit = self._upload_limit if route.is_upload else self._body_limit
        self._check_size(environ, limit)
        current.max_content_length = limit
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return self._preflight(environ, route)
        self._check_address(environ)
        return self._check_tier(environ, route)

    def admit(self, environ: Environ, route: Route) -> None:
        """Do for one inference request what :meth:`check` does, on the WSGI environment alone.

        For callers by credential; those by session need Flask, because their CSRF token is Flask-WTF's.

        Raises:
            OmniRouteError: what the request lacks.
        """
        self._begin(environ, route)
        self._check_size(environ, self._inference_body_limit)
        self._check_address(environ)
        environ[CALLER] = self._access.authenticate_inference(environ, route.endpoint, route.scope)

    def _begin(self, environ: Environ, route: Route | None) -> None:
        """Give the request its identity and refuse it while the server goes down, or for an ambiguous path."""
        if _INTERNAL_PREFIX in "\n".join(environ):  # one search over all names costs a tenth of a loop
            drop_internal_headers(environ)
        if PAGE_ACTOR not in environ:
            environ[REQUEST_ID] = new_id("req")
        environ[_ROUTE] = route
        if self._is_draining() and (route is None or route.rule != "/healthz"):
            raise ServerDraining(retry_after_s=5.0)
        refuse_confusing_path(environ, route)

    def _refuse_name_as_id(self, route: Route, path: str) -> None:
        """Refuse a method that the row of this very path lacks: another rule took its last word for an id."""
        allowed = self._fixed.get(path.removesuffix("/")) if "<" in route.rule else None
        if allowed is not None:
            raise MethodNotAllowed(headers={"Allow": allowed})

    def _check_size(self, environ: Environ, limit: int) -> None:
        length = environ.get("CONTENT_LENGTH")
        if length and length.isdigit() and int(length) > limit:
            raise RequestTooLarge(f"The request body is larger than {limit} bytes.")

    def _preflight(self, environ: Environ, route: Route) -> Response:
        response = Response(status=HTTPStatus.NO_CONTENT)
        rule = request.url_rule
        methods = sorted({*(self._table.get(rule.rule, _NOTHING) if rule else ()), "OPTIONS"})
        response.headers["Allow"] = ", ".join(methods)
        if route.tier is Tier.C and self._cors_origin(environ) is not None:
            response.headers["Access-Control-Allow-Methods"] = ", ".join(methods)
            response.headers["Access-Control-Max-Age"] = "600"
            wanted = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
            if _HEADER_NAMES.fullmatch(wanted):
                response.headers["Access-Control-Allow-Headers"] = wanted
        return response

    def _inference_caller(self, environ: Environ, route: Route) -> Caller:
        if CSRF_HEADER in environ and carried_credential(environ) is None:
            caller = self._access.session_caller(environ)
            if caller is not None:
                self._check_csrf_token(environ, None)
                return caller
        return self._access.authenticate_inference(environ, route.endpoint, route.scope)

    def _check_tier(self, environ: Environ, route: Route) -> WsgiResponse | None:
        match route.tier:
            case Tier.P | Tier.T:
                if route.checks_origin and (route.family is Family.PAGE or self._sessions.has_cookie(environ)):
                    self._check_origin(environ)
                return None
            case Tier.D:
                return self._check_page(environ)
            case Tier.M_READ | Tier.M_WRITE | Tier.M_ADMIN | Tier.X | Tier.L | Tier.S:
                self._check_management(environ, route)
                return None
            case _:
                raise InternalError(f"The tier {route.tier} is not served here.")

    def _check_page(self, environ: Environ) -> WsgiResponse | None:
        actor = self._page_actor(environ)
        if actor is None:
            response = self._without_session(environ)
            if self._sessions.has_cookie(environ):
                self._sessions.drop_cookie(response, environ)
            return response
        environ[ACTOR] = actor
        if environ["REQUEST_METHOD"] not in _SAFE_METHODS:
            self._check_origin(environ)
        elif actor.kind is ActorKind.SESSION:
            environ[_STARTED_COOKIE] = self._sessions.renewed(environ)
        return None

    def _without_session(self, environ: Environ) -> WsgiResponse:
        login = environ.get("SCRIPT_NAME", "") + "/login"
        is_form = environ["REQUEST_METHOD"] not in _SAFE_METHODS
        if "HTTP_HX_REQUEST" in environ:  # a block of a page that may hold a half-filled form: the page stays
            return Response(status=HTTPStatus.UNAUTHORIZED)
        if not is_form:
            return redirect(login + "?next=" + _quoted(own_path(environ)))
        if self.on_interrupted is None or not self._is_ours(environ):
            return redirect(login)
        return self.on_interrupted()

    def _is_ours(self, environ: Environ) -> bool:
        try:
            self._check_origin(environ)
        except PermissionDenied:
            return False
        return True

    def _recognise_on_page(self, environ: Environ) -> None:
        """Note who asks for a page that does not exist: the menu beside the error is for those who are logged in."""
        if family_of(environ["PATH_INFO"]) is Family.PAGE:
            actor = self._page_actor(environ)
            if actor is not None:
                environ[ACTOR] = actor

    def _page_actor(self, environ: Environ) -> Actor | None:
        return self._access.session_actor(environ) or self._access.anonymous_management(environ)

    def _check_management(self, environ: Environ, route: Route) -> None:
        if route.tier is Tier.L and not self._access.reach.is_loopback(environ):
            denied = PermissionDenied("This route answers callers on the same host only.", code="local_only")
            raise self._denial(environ, route, None, denied)
        page_actor: Actor | None = environ.get(PAGE_ACTOR)
        actor = page_actor or self._access.authenticate_management(environ)
        if route.tier in (Tier.X, Tier.L, Tier.S):
            actor = None if actor is not None and actor.kind is ActorKind.ANONYMOUS else actor
        elif actor is None:
            actor = self._access.anonymous_management(environ)
        if actor is None:
            if route.is_reduced or (route.is_open_on_loopback and self._access.reach.is_loopback(environ)):
                return
            raise AuthenticationFailed(
                "A login is needed here. Log in, or send an API key with scope 'manage': 'Authorization: Bearer sk-…'.",
                headers={"WWW-Authenticate": REALM},
            )
        needed = route.needed_power
        if needed is not None and actor.power < needed:
            held = actor.power.name.lower()
            required = needed.name.lower()
            denied = PermissionDenied(
                f"This credential has scope '{held}'; the route needs '{required}'.",
                code="scope_insufficient",
                extras={"held": held, "required": required},
            )
            raise self._denial(environ, route, actor, denied)
        is_session = actor.kind is ActorKind.SESSION
        if route.tier is Tier.S and not is_session and not self._access.reach.is_loopback(environ):
            denied = PermissionDenied(
                "This route needs the dashboard, or a caller on the same host.", code="local_only"
            )
            raise self._denial(environ, route, actor, denied)
        if environ["REQUEST_METHOD"] not in _SAFE_METHODS and page_actor is None:  # the page's own request was checked
            if is_session:
                self._check_origin(environ, actor, route)
            elif actor.kind is ActorKind.ANONYMOUS:
                self._refuse_foreign_page(environ)
        environ[ACTOR] = actor

    # --- origin and CSRF ---------------------------------------------------------------------------------------------

    def _check_origin(self, environ: Environ, actor: Actor | None = None, route: Route | None = None) -> None:
        """Let a mutation pass that comes from our own pages, by its origin or by the token that only they hold."""
        is_ours, origin = self._access.reach.origin_verdict(environ)
        if is_ours:
            g.csrf_valid = True  # tells Flask-WTF's forms that the question is settled
            return
        try:
            self._check_csrf_token(environ, origin)
        except PermissionDenied as denied:
            if route is not None:
                raise self._denial(environ, route, actor, denied) from None
            raise

    def _check_csrf_token(self, environ: Environ, origin: str | None) -> None:
        try:
            csrf.protect()
        except CSRFError:
            seen = f"came from {origin}" if origin else "did not say where it came from"
            raise PermissionDenied(
                f"The request {seen} and carried no valid CSRF token. Reload the page and try again; to admit another "
                "address of this server, set BASE_URL or add its origin to OMNIROUTE_ALLOWED_ORIGINS.",
                code="origin_refused",
            ) from None

    def _refuse_foreign_page(self, environ: Environ) -> None:
        """Keep pages of other sites from acting for a local visitor while login is switched off."""
        is_ours, origin = self._access.reach.origin_verdict(environ)
        is_cross_site = environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin")
        if not is_ours and (origin is not None or is_cross_site):
            self._check_csrf_token(environ, origin)

    def _denial(
        self, environ: Environ, route: Route, actor: Actor | None, denied: PermissionDenied
    ) -> PermissionDenied:
        """Record a denial, at most once a minute for a caller and route, and return it to be raised."""
        address = self._access.reach.client_address(environ)
        name = actor.audit_name if actor is not None else "anonymous"
        now = self._now()
        key = (f"{name}@{address}", route.rule)
        if now - self._denied.get(key, -_DENIED_PAUSE_S) >= _DENIED_PAUSE_S:
            if len(self._denied) >= _MAX_DENIED:
                self._denied.clear()
            self._denied[key] = now
            self._audit.record(
                "authz.denied",
                actor=name,
                outcome="denied",
                target_kind="route",
                target_id=f"{environ['REQUEST_METHOD']} {route.rule}",
                address=address,
                user_agent=environ.get("HTTP_USER_AGENT"),
                request_id=environ[REQUEST_ID],
                details={"code": denied.error_code},
            )
        return denied

    # --- after the view ----------------------------------------------------------------------------------------------

    def finish(self, response: Response) -> Response:
        """Add the headers that every answer carries, and those of its family."""
        environ = request.environ
        headers = response.headers
        for name, value in self.headers_of(environ).items():
            headers[name] = value
        route: Route | None = environ.get(_ROUTE)
        if route is not None and route.tier is Tier.C:
            return response
        headers["X-Content-Type-Options"] = "nosniff"
        if response.mimetype == "text/html":
            for name, value in _PAGE_HEADERS:
                headers[name] = value
        if route is not None and route.family is Family.PAGE:
            _read_whole(response)
            compress.after_request(response)
        if (route is None or route.tier is not Tier.P) or response.mimetype == "text/html":
            headers.setdefault("Cache-Control", "no-store")
        token = environ.get(_STARTED_COOKIE)
        if token is not None:
            self._sessions.set_cookie(response, environ, token)
        if route is not None and route.family is Family.MANAGEMENT and route.tier is not Tier.P:
            return conditional(response)
        return response

    def headers_of(self, environ: Environ) -> dict[str, str]:
        """Return the headers that every answer carries, and those of inference answers."""
        headers = {
            "X-OmniRoute-Version": __version__,
            "X-OmniRoute-Request-Id": environ.get(REQUEST_ID) or new_id("req"),
        }
        correlation_id = environ.get("HTTP_X_REQUEST_ID")
        if correlation_id is not None and _CORRELATION_ID.fullmatch(correlation_id):
            headers["X-Request-Id"] = correlation_id
        route: Route | None = environ.get(_ROUTE)
        if route is not None and route.tier is Tier.C:
            caller: Caller | None = environ.get(CALLER)
            if caller is not None and caller.is_anonymous:
                headers["X-OmniRoute-Auth"] = "anonymous"
            if self._cors_origins:
                headers.update(self._cors_headers(environ))
        return headers

    def _cors_origin(self, environ: Environ) -> str | None:
        origin: str | None = environ.get("HTTP_ORIGIN")
        if origin is None or not self._cors_origins:
            return None
        if "*" in self._cors_origins:
            return "*"
        return origin if origin in self._cors_origins else None

    def _cors_headers(self, environ: Environ) -> dict[str, str]:
        """Never with credentials: a browser must not send our cookie along for another origin."""
        headers = {}
        allowed = self._cors_origin(environ)
        if allowed != "*":
            headers["Vary"] = "Origin"
        if allowed is not None:
            headers["Access-Control-Allow-Origin"] = allowed
            headers["Access-Control-Expose-Headers"] = "X-OmniRoute-Request-Id, Retry-After"
        return headers

    # --- errors ------------------------------------------------------------------------------------------------------

    def answer_error(self, error: OmniRouteError) -> Response:
        """Render an error in the dialect of the path that it happened on."""
        return render_error(error)

    def answer_http_exception(self, error: HTTPException) -> WsgiResponse:
        """Render what Werkzeug refuses: unknown paths, wrong methods, unreadable requests."""
        if isinstance(error, RequestRedirect):
            return error.get_response()
        own = _as_own(error)
        if isinstance(own, MethodNotAllowed):
            # Of the path's own row alone: Werkzeug adds the methods of rules that could read its last word as an id.
            allowed = self._fixed.get(request.environ["PATH_INFO"].removesuffix("/"))
            own = MethodNotAllowed(headers={"Allow": allowed}) if allowed is not None else own
        return render_error(own)

    def answer_unexpected(self, error: Exception) -> Response:
        """Render a fault of ours without a word of its cause; the log has it, under the request id."""
        log.error("request %s failed", request.environ.get(REQUEST_ID), exc_info=error)
        return render_error(InternalError())


_NOTHING: Final[MethodTable] = {}


def drop_internal_headers(environ: Environ) -> None:
    """Remove headers by whose names the parts of a gateway could trust each other; a client's say nothing."""
    for name in [name for name in environ if name.startswith(_INTERNAL_HEADERS)]:
        del environ[name]


def refuse_confusing_path(environ: Environ, route: Route | None) -> None:
    """Refuse paths that two readers could understand differently, before any view sees them.

    Raises:
        NotFound: empty or dot segments, a trailing dot, backslashes, or escapes of characters that structure a path.
    """
    raw: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"]
    path = raw.partition("?")[0]
    if "//" in path or "\\" in path or "#" in path or ";" in path or path[-1:] == ".":
        raise NotFound
    if "/." in path and not _DOTS.isdisjoint(path.strip("/").split("/")):
        raise NotFound
    if "%" in path:
        if _REFUSED_ESCAPES.search(path):
            raise NotFound
        if _ESCAPED_SLASH.search(path):
            is_model = route is not None and "<path:model>" in route.rule
            if not is_model or not _DOTS.isdisjoint(environ["PATH_INFO"].strip("/").split("/")):
                raise NotFound


def request_id() -> str:
    """Return the id of the current request."""
    return str(request.environ[REQUEST_ID])


def caller() -> Caller:
    """Return the inference caller of the current request."""
    return cast("Caller", request.environ[CALLER])


def actor() -> Actor:
    """Return the management actor of the current request."""
    return cast("Actor", request.environ[ACTOR])


def optional_actor() -> Actor | None:
    """Return the management actor of the current request, None where the route may be read without one."""
    return request.environ.get(ACTOR)


def render_error(error: OmniRouteError) -> Response:
    """Return the answer for an error in the dialect of the current request's path."""
    environ = request.environ
    number = environ.setdefault(REQUEST_ID, new_id("req"))
    route: Route | None = environ.get(_ROUTE)
    match route.family if route is not None else family_of(environ["PATH_INFO"]):
        case Family.OPENAI | Family.ANTHROPIC | Family.GEMINI | Family.OLLAMA as family:
            status, body = render_inference_error(error, family, number)
            response = Response(body, status, mimetype="application/json")
        case Family.MANAGEMENT:
            return management_errors.render(error, number)
        case Family.PLAIN:
            response = Response(error.message + "\n", error.http_status, mimetype="text/plain")
        case Family.PAGE if _prefers_json(environ):
            return management_errors.render(error, number)
        case Family.PAGE:
            page = render_template("error.html", error=error, request_id=number, is_known=ACTOR in environ)
            response = Response(page, error.http_status, mimetype="text/html")
        case unknown:
            raise AssertionError(f"no dialect for {unknown}")
    management_errors.add_headers(response, error)
    return response


def render_inference_error(error: OmniRouteError, family: Family, request_id: str) -> tuple[int, bytes]:
    """Return status and body of an error on an inference path."""
    match family:
        case Family.ANTHROPIC:
            return anthropic_errors.status_of(error), anthropic_errors.render(error, request_id)
        case Family.GEMINI:
            return gemini_errors.status_of(error), gemini_errors.render(error, request_id)
        case Family.OLLAMA:
            return ollama_errors.status_of(error), ollama_errors.render(error, request_id)
        case _:
            return openai_errors.status_of(error), openai_errors.render(error)


def add_error_headers(response: Response, error: OmniRouteError) -> None:
    """Add the headers of an error to an answer that a view has rendered itself."""
    management_errors.add_headers(response, error)


def _prefers_json(environ: Environ) -> bool:
    accept = parse_accept_header(environ.get("HTTP_ACCEPT"), MIMEAccept)
    return accept.best_match(["text/html", "application/json"], default="text/html") == "application/json"


def _as_own(error: HTTPException) -> OmniRouteError:
    match error.code:
        case 404:
            return NotFound()
        case 405:
            allowed = ", ".join(sorted(error.valid_methods or ())) if isinstance(error, WrongMethod) else ""
            return MethodNotAllowed(headers={"Allow": allowed} if allowed else None)
        case 413:
            return RequestTooLarge()
        case 415:
            return UnsupportedMediaType()
        case status if status is not None and 400 <= status < 500:
            return InvalidRequest() if status == 400 else CallerError("The request is refused.", status=status)
        case _:
            return InternalError()


def own_path(environ: Environ) -> str:
    """Return path and query of the request as the browser knows them."""
    query = environ.get("QUERY_STRING", "")
    path = str(environ.get("SCRIPT_NAME", "")) + str(environ.get("PATH_INFO", "/"))
    return path + (f"?{query}" if query else "")


def safe_next(target: str | None, default: str) -> str:
    """Return a path to go on to after the login: one of our own, never another host."""
    if not target or len(target) > 1000 or not target.startswith("/") or target[1:2] in ("/", "\\"):
        return default
    if any(ord(character) < 0x21 or character == "\\" for character in target):
        return default
    return target


def _read_whole(response: Response) -> None:
    """Read what a file of ours holds: it is small, and what is streamed is not compressed."""
    if not response.is_sequence:
        body = response.response
        response.make_sequence()
        if hasattr(body, "close"):
            body.close()


def _quoted(text: str) -> str:
    return quote(text, safe="/")

"""What pages need of the application: Bootstrap from the installed package, forms, the login, template filters."""

from __future__ import annotations

import hmac
from datetime import timedelta
from functools import cache
from hashlib import sha256
from importlib.metadata import version as version_of
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from flask import Flask, Request, current_app, g, request, url_for
from flask_bootstrap import Bootstrap5
from flask_login import UserMixin, current_user

from omniroute import __version__
from omniroute.blueprints.dashboard import figures, frame, languages, page_texts, quota_words
from omniroute.blueprints.guard import ACTOR
from omniroute.container import container
from omniroute.extensions import compress, login_manager
from omniroute.services.access import Actor, ActorKind

FORM_LIFETIME_S: Final = 12 * 3600
_BOOTSTRAP_VERSION: Final = version_of("Bootstrap-Flask")
STATIC_LIFETIME: Final = timedelta(days=365)


class Visitor(UserMixin):  # type: ignore[misc]  # Flask-Login ships no types
    """The management actor as Flask-Login shows it to templates."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor

    @property
    def is_authenticated(self) -> bool:
        """True for a session; a local visitor while login is switched off has nothing to log out of."""
        return self.actor.kind is ActorKind.SESSION

    def get_id(self) -> str:
        """Return the public id of the session."""
        return self.actor.id


def init_app(app: Flask, *, signing_key: bytes, base_path: str = "", is_cookie_secure: bool = False) -> None:
    """Prepare an application for the pages.

    Args:
        app: the application.
        signing_key: the session signing secret; the key of form cookies is derived from it.
        base_path: URL prefix of the server.
        is_cookie_secure: send the form cookie over encrypted connections only.
    """
    app.secret_key = hmac.new(signing_key, b"form cookie", sha256).digest()
    app.config.update(
        BOOTSTRAP_SERVE_LOCAL=True,
        SEND_FILE_MAX_AGE_DEFAULT=STATIC_LIFETIME,
        SESSION_COOKIE_NAME="omniroute_form",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=is_cookie_secure,
        SESSION_COOKIE_PATH=base_path or "/",
        WTF_CSRF_TIME_LIMIT=FORM_LIFETIME_S,
        WTF_CSRF_FIELD_NAME="csrf_token",
    )
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    Bootstrap5(app)
    _attach_login(app)
    _attach_compression(app)
    languages.init_app(app)
    frame.init_app(app)
    app.jinja_env.filters.update(figures.FILTERS | quota_words.FILTERS)
    app.jinja_env.globals.update(
        asset=asset,
        bootstrap_css=bootstrap_css,
        version=__version__,
        page_texts=page_texts.all_texts,
        with_query=with_query,
        ui=_Parts(app),
    )


class _Parts:
    """The macros of `_ui.html` as attributes, for templates and for blocks that are rendered alone."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self.icon = cache(self._icon)

    def _icon(self, name: str) -> Any:
        return self._app.jinja_env.get_template("_icons.html").module.icon(name)  # type: ignore[attr-defined]

    def mark(self) -> Any:
        """Return the drawing that stands for the product."""
        return self._app.jinja_env.get_template("_icons.html").module.mark()  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        module = g.get("page_parts")
        if module is None:
            blurs = container().in_force.value("appearance", "blurEmails")
            template = self._app.jinja_env.get_template("_ui.html")
            module = g.page_parts = template.make_module({"request": request, "blurs_emails": blurs})
        return getattr(module, name)


def with_query(**changes: Any) -> str:
    """Return the address of the current page with parameters of its query changed; None leaves one out."""
    path: str
    query: dict[str, list[Any]] = request.args.to_dict(flat=False)
    if "shown_at" in g:
        parts = urlsplit(g.shown_at)
        path, query = parts.path, parse_qs(parts.query)
    else:
        path = request.script_root + (request.path if request.method == "GET" else _page_of(request.path))
    query |= {name: [value] for name, value in changes.items()}
    given = [(name, one) for name, values in query.items() for one in values if one is not None and one != ""]
    return path + ("?" + urlencode(given) if given else "")


def _page_of(path: str) -> str:
    """Return the page that a form belongs to, by the address that takes the form: the nearest one above that opens."""
    routes = current_app.url_map.bind("")
    while path and not routes.test(path, method="GET"):
        path = path.rpartition("/")[0]
    return path or "/"


def asset(name: str) -> str:
    """Return the address of a file of ours; the version in it lets browsers keep the file for good."""
    return url_for("static", filename=name, v=__version__)


def bootstrap_css() -> str:
    """Return the address of the installed Bootstrap; the version of its package lets browsers keep it for good."""
    return url_for("bootstrap.static", filename="css/bootstrap.min.css", v=_BOOTSTRAP_VERSION)


def _attach_login(app: Flask) -> None:
    """Attach Flask-Login without its after-request hook: that opens a session for every inference request."""
    login_manager.session_protection = None
    login_manager.request_loader(_visitor_of)
    app.login_manager = login_manager  # type: ignore[attr-defined]
    app.context_processor(_with_current_user)


def _attach_compression(app: Flask) -> None:
    """Prepare what the guard compresses pages and their files with."""
    app.config.update(
        COMPRESS_REGISTER=False,
        COMPRESS_STREAMS=False,
        COMPRESS_ALGORITHM=["br", "gzip"],
        COMPRESS_MIMETYPES=["text/html", "text/css", "text/javascript", "application/json", "image/svg+xml"],
    )
    compress.init_app(app)


def _visitor_of(request: Request) -> Visitor | None:
    actor: Actor | None = request.environ.get(ACTOR)
    return Visitor(actor) if actor is not None else None


def _with_current_user() -> dict[str, Any]:
    return {"current_user": current_user}

"""Getting in and out; what was typed when a session ended is not lost."""

from __future__ import annotations

from typing import Any, Final

from flask import Response as FlaskResponse
from flask import make_response, redirect, render_template, request, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response
from wtforms import HiddenField, PasswordField
from wtforms.validators import DataRequired, Length

from omniroute import __version__
from omniroute.blueprints import guard
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.management.auth import login_service, visitor
from omniroute.container import container
from omniroute.errors import CallerError
from omniroute.services.passwords import LONGEST

_KEPT: Final = "kept."
"""What names begin with under which the fields of an interrupted form travel through the login."""
_NEVER_KEPT: Final = ("csrf_token", "password", "apiKey", "secret", "key", "token", "credential")
_MOST_KEPT: Final = 200


class LoginForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF ships no types
    """The login page. The guard has checked origin or token before a view sees the form."""

    password = PasswordField(_l("Password"), validators=[DataRequired(_l("Enter the password.")), Length(max=LONGEST)])
    next = HiddenField()


@blueprint.get("/login")
def login_form() -> Response:
    """Show the login page, or go on if there is nothing to log in for.

    Where pages open without a login, some actions still need one; `wanted` in the query asks for it then.
    """
    held = container()
    target = guard.safe_next(request.args.get("next"), url_for("dashboard.home"))
    is_wanted = "wanted" in request.args and held.snapshots.current.has_password
    is_open = held.access.anonymous_management(request.environ) and not is_wanted
    if held.access.session_actor(request.environ) or is_open:
        return redirect(target)
    form = LoginForm()
    form.next.data = target
    return _login_page(form)


@blueprint.post("/login")
def login() -> Response:
    """Open a session for the right password and go on to where the visitor wanted to."""
    form = LoginForm()
    if not form.validate():
        problem = None if form.password.errors else _("The page was open for too long. Try again.")
        return _login_page(form, problem, 400)
    try:
        opened = login_service().log_in(form.password.data, visitor())
    except CallerError as error:
        response = _login_page(form, error.message, error.http_status)
        guard.add_error_headers(response, error)
        return response
    target = guard.safe_next(form.next.data, url_for("dashboard.home"))
    kept = _kept(request.form)
    forward: Response
    if kept:
        forward = make_response(render_template("resume.html", target=target, fields=list(kept.items(multi=True))))
    else:
        forward = redirect(target, 303)
    container().sessions.set_cookie(forward, request.environ, opened.token)
    return forward


@blueprint.post("/logout")
def logout() -> Response:
    """End the session."""
    held = container()
    login_service().log_out(held.access.session_actor(request.environ), visitor())
    response = redirect(url_for("dashboard.login_form"), 303)
    held.sessions.drop_cookie(response, request.environ)
    return response


@blueprint.get("/")
def root() -> Response:
    """Lead a browser to the first page, and tell a program that it is in the right place.

    Agents look here before they send anything (Claude Code, Ollama's clients), some only by HEAD.
    """
    if "text/html" in request.headers.get("Accept", ""):
        return redirect(url_for("dashboard.home"))
    return make_response({"name": "OmniRoute", "version": __version__})


def interrupted() -> Response:
    """Ask for the login in the middle of a form whose session has ended; what was typed comes back after it."""
    form = LoginForm(formdata=None)
    form.next.data = guard.own_path(request.environ)
    typed = [(name, value) for name, value in request.form.items(multi=True) if _is_kept(name)]
    problem = _("The session has ended. After the login your form is still there; passwords and keys are not.")
    return _login_page(form, problem, 401, kept=[(_KEPT + name, value) for name, value in typed[:_MOST_KEPT]])


def _is_kept(name: str) -> bool:
    plain = name.casefold()
    return not any(secret.casefold() in plain for secret in _NEVER_KEPT) and not name.startswith(_KEPT)


def _kept(form: MultiDict[str, str]) -> MultiDict[str, str]:
    found = [(name.removeprefix(_KEPT), value) for name, value in form.items(multi=True) if name.startswith(_KEPT)]
    return MultiDict(found)


def _login_page(form: LoginForm, problem: str | None = None, status: int = 200, kept: Any = None) -> FlaskResponse:
    fields = (
        kept if kept is not None else [(_KEPT + name, value) for name, value in _kept(request.form).items(multi=True)]
    )
    return make_response(render_template("login.html", form=form, problem=problem, kept=fields), status)

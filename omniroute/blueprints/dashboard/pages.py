"""Login, logout and the overview."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, Response, flash, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as WsgiResponse

from omniroute import __version__
from omniroute.blueprints import guard
from omniroute.blueprints.dashboard.figures import uptime
from omniroute.blueprints.dashboard.forms import KeyForm, LoginForm
from omniroute.blueprints.management.auth import login_service, visitor
from omniroute.blueprints.management.bodies import iso_time
from omniroute.container import container
from omniroute.errors import CallerError, ValidationFailed
from omniroute.services.health import Overview, Status
from omniroute.services.keys import Issued, Origin, masked, state_of
from omniroute.services.usage import LogRow

blueprint = Blueprint("dashboard", __name__)

RECENT_REQUESTS: Final = 20
SHOWN_KEYS: Final = 3
_STATUS_TEXT: Final = {
    Status.HEALTHY: "Running",
    Status.DEGRADED: "Running with problems",
    Status.UNHEALTHY: "Database unreachable",
}
_SANDBOX: Final = (
    ("sandbox/story", "a paced stream of text"),
    ("sandbox/echo", "says what you said"),
    ("sandbox/tools", "calls the tools it is given"),
    ("sandbox/think", "thinks before it answers"),
    ("sandbox/json", "answers with JSON"),
    ("sandbox/fail-429", "fails, to try your fallbacks"),
)
_FIELD_OF_API: Final = {"name": "name", "allowedModels": "models"}


@dataclass(frozen=True, slots=True)
class Snippet:
    """The lines that point one kind of client at the gateway."""

    id: str
    title: str
    text: str
    note: str


@blueprint.get("/login")
def login_form() -> WsgiResponse:
    """Show the login page, or go on if there is nothing to log in for."""
    held = container()
    target = guard.safe_next(request.args.get("next"), url_for("dashboard.overview"))
    if held.access.session_actor(request.environ) or held.access.anonymous_management(request.environ):
        return redirect(target)
    form = LoginForm()
    form.next.data = target
    return _login_page(form)


@blueprint.post("/login")
def login() -> WsgiResponse:
    """Open a session for the right password and go on to where the visitor wanted to."""
    form = LoginForm()
    if not form.validate():
        problem = None if form.password.errors else "The page was open for too long. Try again."
        return _login_page(form, problem, 400)
    try:
        opened = login_service().log_in(form.password.data, visitor())
    except CallerError as error:
        response = _login_page(form, error.message, error.http_status)
        guard.add_error_headers(response, error)
        return response
    forward = redirect(guard.safe_next(form.next.data, url_for("dashboard.overview")), 303)
    container().sessions.set_cookie(forward, request.environ, opened.token)
    return forward


@blueprint.post("/logout")
def logout() -> WsgiResponse:
    """End the session."""
    held = container()
    login_service().log_out(held.access.session_actor(request.environ), visitor())
    response = redirect(url_for("dashboard.login_form"), 303)
    held.sessions.drop_cookie(response, request.environ)
    return response


@blueprint.get("/")
def root() -> WsgiResponse:
    """Lead a browser to the first page, and tell a program that it is in the right place.

    Agents look here before they send anything (Claude Code, Ollama's clients), some only by HEAD.
    """
    if "text/html" in request.headers.get("Accept", ""):
        return redirect(url_for("dashboard.overview"))
    return make_response({"name": "OmniRoute", "version": __version__})


@blueprint.get("/dashboard")
def overview() -> Response:
    """Show the first page."""
    return _overview_page(KeyForm(formdata=None))


@blueprint.get("/dashboard/requests")
def requests() -> WsgiResponse:
    """Return the table of the last requests, for the page that refreshes it."""
    body = render_template("_fragments/requests.html", requests=_recent())
    response = make_response(body)
    response.set_etag(hashlib.sha256(body.encode()).hexdigest()[:32])
    response.headers["Cache-Control"] = "no-cache"
    return response.make_conditional(request)


@blueprint.post("/dashboard/keys")
def create_key() -> Response:
    """Create an API key and show it this once, on the answer itself: it is stored nowhere to be shown again."""
    form = KeyForm()
    if not form.validate():
        return _overview_page(form, status=400)
    who = visitor()
    try:
        issued = container().keys.create(
            form.fields(container().keys.now()), Origin(guard.actor(), who.address, who.user_agent, who.request_id)
        )
    except ValidationFailed as error:
        for detail in error.details:
            field = form[_FIELD_OF_API.get(detail["field"], "name")]
            field.errors = (*field.errors, f"This {detail['message']}.")
        return _overview_page(form, status=400)
    return _overview_page(KeyForm(formdata=None), issued=issued, status=201)


def _login_page(form: LoginForm, problem: str | None = None, status: int = 200) -> Response:
    page = render_template("login.html", form=form, problem=problem, **_appearance())
    return make_response(page, status)


def _appearance() -> dict[str, Any]:
    """Return what the operator has chosen for the look of pages."""
    in_force = container().in_force
    return {
        "instance_name": in_force.current.instance_name,
        "theme": in_force.value("appearance", "theme"),
        "refresh_s": in_force.value("appearance", "refreshIntervalSec"),
    }


def _overview_page(form: KeyForm, issued: Issued | None = None, status: int = 200) -> Response:
    held = container()
    for message in form.errors.get("csrf_token", ()):
        flash(str(message), "danger")
    now = held.keys.now()
    base_url = _base_url()
    keys = held.keys.usable()
    page = render_template(
        "dashboard/overview.html",
        **_appearance(),
        base_url=base_url,
        state=_state(held.health.overview()),
        today=held.usage.today(),
        snippets=snippets(base_url, issued.secret if issued is not None else None),
        sandbox=_SANDBOX,
        form=form,
        new_key={"name": issued.key.name, "secret": issued.secret} if issued is not None else None,
        keys=[{"name": key.name, "masked": masked(key), "state": state_of(key, now)} for key in keys[:SHOWN_KEYS]],
        more_keys=max(0, len(keys) - SHOWN_KEYS),
        requests=_recent(),
    )
    return make_response(page, status)


def _state(state: Overview) -> dict[str, Any]:
    return {
        "status": state.status.value,
        "status_text": _STATUS_TEXT[state.status],
        "uptime": uptime(state.uptime_s),
        "warnings": state.warnings,
        "providers_connected": state.providers_connected,
        "connections": state.connections,
    }


def _base_url() -> str:
    """Return the address that works from where the reader sits: the one the browser used."""
    held = container()
    origin = held.access.reach.own_origin(request.environ)
    return origin + request.script_root if origin is not None else held.settings.base_url


def _recent() -> list[dict[str, Any]]:
    return [_shown(row) for row in container().usage.recent(RECENT_REQUESTS)]


def _shown(row: LogRow) -> dict[str, Any]:
    record = row.record
    iso = iso_time(record.time) or ""
    return {
        "request_id": record.request_id,
        "iso_time": iso,
        "clock": iso[11:19],
        "model": record.requested_model or record.model or "–",
        "provider": record.provider,
        "key_name": row.api_key_name or record.api_key_id,
        "status": record.status,
        "outcome": record.outcome,
        "error_code": record.error_code,
        "tokens_in": record.tokens_in,
        "tokens_out": record.tokens_out,
        "ttft_ms": record.ttft_ms,
        "duration_ms": record.duration_ms,
        "attempts": len(record.attempts),
    }


def snippets(base_url: str, secret: str | None = None) -> tuple[Snippet, ...]:
    """Return the lines for each kind of client; with the new key in them while it is shown anyway."""
    key = secret or "sk-…"
    body = '{"model": "sandbox/story", "stream": true,\n       "messages": [{"role": "user", "content": "Hi"}]}'
    return (
        Snippet(
            "curl",
            "curl",
            f"curl -N {base_url}/v1/chat/completions \\\n"
            f"  -H 'Authorization: Bearer {key}' \\\n"
            "  -H 'Content-Type: application/json' \\\n"
            f"  -d '{body}'",
            "Streams an answer from the built-in sandbox; no provider account is needed.",
        ),
        Snippet(
            "openai",
            "OpenAI SDK",
            f'from openai import OpenAI\nclient = OpenAI(base_url="{base_url}/v1", api_key="{key}")\n'
            'client.chat.completions.create(model="sandbox/story", messages=[{"role": "user", "content": "Hello"}])',
            "Or set OPENAI_BASE_URL and OPENAI_API_KEY, which the SDK reads by itself.",
        ),
        Snippet(
            "claude",
            "Claude Code",
            f"export ANTHROPIC_BASE_URL={base_url}\n"
            f"export ANTHROPIC_AUTH_TOKEN={key}\n"
            "export ANTHROPIC_MODEL=sandbox/story",
            "Anthropic clients take the address without /v1. Choose a model of a provider that you have connected.",
        ),
    )

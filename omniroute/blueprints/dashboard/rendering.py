"""How views answer: with a page, or with one block of it where the page asks for that block alone.

    return page("dashboard/health.html", blocks=("cards",), health=api.get("/api/monitoring/health"))

A request with `HX-Request` whose `HX-Target` is one of `blocks` gets that block of the same template, with an ETag, so
that a block that has not changed costs a 304. What blocks use must be in the context or a global: they are rendered
without the rest of their template.
"""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import Any, Final

from flask import Response, current_app, flash, g, make_response, redirect, request
from flask_babel import gettext as _
from flask_wtf.csrf import generate_csrf
from werkzeug.wrappers import Response as WsgiResponse

from omniroute.blueprints.dashboard.api import Refused
from omniroute.gateway.slices import Slices

_FRAGMENT_VARY: Final = "HX-Request, HX-Target"
_PARTS: Final = 16
"""Of a template, between two looks at the clock: a page has thousands of them."""
NO_LOGIN: Final = "auth_required"
LOGIN: Final = "login"
"""The category of a message beside which stands the way to the login."""


def page(
    template: str, /, *, blocks: tuple[str, ...] = (), status: int = 200, shown_at: str = "", **context: Any
) -> WsgiResponse:
    """Return a page, or the block of it that the request targets.

    `shown_at` is where the page is when a form is answered with it: its links lead on from there.
    """
    if shown_at:
        g.shown_at = shown_at
    target = request.headers.get("HX-Target", "")
    if request.headers.get("HX-Request") == "true" and target in blocks:
        response = _block(template, target, context, status)
    else:
        response = make_response(_rendered(template, None, context), status)
    if blocks:
        response.headers["Vary"] = _FRAGMENT_VARY
    return response


def done(message: str, target: str, category: str = "success") -> WsgiResponse:
    """Say what has changed and lead on to a page: the answer to a form that did what it was to do."""
    flash(message, category)
    return go(target)


def failed(error: Refused, target: str) -> WsgiResponse:
    """Say on another page why nothing was changed: for actions that have no form to be shown again."""
    if error.error_code == NO_LOGIN:
        flash(_("This needs a login, although pages open without one."), LOGIN)
        return go(target)
    text = error.message
    if error.faults:
        text = "; ".join(f"{field}: {message}" for field, message in error.faults.items() if field) or text
    flash(_("%(message)s (code %(code)s)", message=text.rstrip("."), code=error.error_code), "danger")
    return go(target)


def go(target: str) -> WsgiResponse:
    """Lead on to another page, also from a request that htmx makes."""
    if request.headers.get("HX-Request") == "true":
        response = make_response("", 204)
        response.headers["HX-Redirect"] = target
        return response
    return redirect(target, 303)


def _rendered(template: str, block: str | None, context: dict[str, Any]) -> str:
    """Return a template, or one block of it, as text; written in slices, so that streams of this worker go on."""
    current_app.update_template_context(context)
    found = current_app.jinja_env.get_template(template)
    parts = found.generate(context) if block is None else found.blocks[block](found.new_context(context))
    pause = Slices(time.monotonic)
    written = []
    for count, part in enumerate(parts):
        written.append(part)
        if not count % _PARTS:
            pause()
    return "".join(written)


def _block(template: str, name: str, context: dict[str, Any], status: int) -> Response:
    body = _rendered(template, name, context)
    response = make_response(body, status)
    if status == 200 and request.method == "GET":
        # The token of forms is new each time it is made; it says nothing about what the block shows.
        digest = blake2b(body.replace(generate_csrf(), "").encode(), digest_size=12).hexdigest()
        response.set_etag(digest, weak=True)
        response.headers["Cache-Control"] = "private, no-cache"
        response.make_conditional(request)
    return response

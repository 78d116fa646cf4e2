"""The chat tester: one request through the gateway, with every stage of its way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from flask import request
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, model_names, named
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import page
from omniroute.blueprints.dashboard.translator_samples import CHAT, pretty
from omniroute.errors import InvalidRequest
from omniroute.services.translator_stages import SentDocument

MESSAGE: Final = "{message}"
"""Stands in a body where the message comes."""
BODIES: Final[Mapping[str, Mapping[str, Any]]] = {
    CHAT: {"messages": [{"role": "user", "content": MESSAGE}]},
    "openai_responses": {"input": MESSAGE},
    "anthropic_messages": {"max_tokens": 1024, "messages": [{"role": "user", "content": MESSAGE}]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": MESSAGE}]}]},
    "ollama": {"messages": [{"role": "user", "content": MESSAGE}]},
}
"""The least that a request holds in each format."""
_NAMES: Final = {"keyId": "key"}


def show() -> Response:
    """Show the form."""
    return _page(FormState({"format": CHAT, "model": request.args.get("model", ""), "stream": True}))


def send() -> Response:
    """Send the request and show its way."""
    form = request.form
    try:
        sent = api.post("/api/translator/send", _asked())
    except Refused as refused:
        names = _NAMES | ({} if form.get("body", "").strip() else {"body": "message"})
        return _page(FormState.typed(form, refused, names), status=400)
    return _page(FormState.typed(form), sent=sent)


@blueprint.post("/dashboard/translator/way")
def translator_way() -> Response:
    """Draw the way of a request that the browser has sent itself, to see the pieces as they came."""
    try:
        sent = msgspec.json.decode(request.get_data(), type=SentDocument)
    except msgspec.DecodeError as error:
        raise InvalidRequest("This is not the way of a request.") from error
    return page("dashboard/_translator_way.html", sent=sent, formats_by_id=dict(_formats()), pretty=pretty)


def _formats() -> list[tuple[str, str]]:
    return [(one["id"], one["name"]) for one in api.get("/api/translator/formats")["formats"]]


def _asked() -> dict[str, Any]:
    form = request.form
    model, wire, body = form.get("model", "").strip(), form.get("format", ""), form.get("body", "").strip()
    if not body:
        faults = {"model": _("is required")} if not model else {}
        faults |= {"message": _("is required")} if not form.get("message", "").strip() else {}
        if faults:
            details = [{"field": name, "message": text} for name, text in faults.items()]
            error = {"code": "validation_failed", "message": _("Nothing was sent."), "details": details}
            raise Refused(400, error)
    return {
        "format": wire,
        "model": model or None,
        "body": body or with_message(BODIES.get(wire, BODIES[CHAT]), form.get("message", "")),
        "stream": "stream" in form,
        "keyId": named.key_id(form.get("key", "")),
    }


def with_message(part: Any, message: str) -> Any:
    """Return a body with the message in its place."""
    match part:
        case str():
            return message if part == MESSAGE else part
        case dict():
            return {name: with_message(value, message) for name, value in part.items()}
        case list():
            return [with_message(value, message) for value in part]
        case _:
            return part


def _page(form: FormState, *, sent: dict[str, Any] | None = None, status: int = 200) -> Response:
    return page(
        "dashboard/translator_tester.html",
        status=status,
        tab="tester",
        form=form,
        formats=_formats(),
        models=model_names.offered(),
        keys=named.key_names(),
        bodies=BODIES,
        sent=sent,
        pretty=pretty,
    )

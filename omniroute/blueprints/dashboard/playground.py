"""The playground: chat with up to four models side by side.

With a script the browser asks the server's own Chat Completions and shows the streams; without one, the form asks one
model and shows its whole answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from flask import request
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, model_names, request_code
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.home import base_url
from omniroute.blueprints.dashboard.rendering import page
from omniroute.blueprints.dashboard.translator_samples import CHAT, pretty

MOST_MODELS: Final = 4
_BY_DEFAULT: Final = 2
_PATH: Final = "/v1/chat/completions"


@blueprint.get("/dashboard/playground")
def playground() -> Response:
    """Show the chat; `model` in the address says which models to begin with."""
    models = request.args.getlist("model")[:MOST_MODELS] or model_names.offered()[:1]
    return _page(FormState({"model": models[0] if models else ""}), others=models[1:])


@blueprint.post("/dashboard/playground")
def ask_playground() -> Response:
    """Ask one model and show its answer: what the form does without a script."""
    form = request.form
    try:
        body = _body(form)
        sent = api.post("/api/translator/send", {"format": CHAT, "body": body, "stream": False})
    except Refused as refused:
        return _page(FormState.typed(form, refused), status=400)
    return _page(FormState.typed(form), body=body, sent=sent, text=_text(sent))


def _page(
    form: FormState,
    *,
    others: list[str] | None = None,
    body: dict[str, Any] | None = None,
    sent: dict[str, Any] | None = None,
    text: str = "",
    status: int = 200,
) -> Response:
    shown = body or _minimal(str(form.value("model")))
    url = base_url() + _PATH
    return page(
        "dashboard/playground.html",
        status=status,
        form=form,
        models=model_names.offered(),
        most=MOST_MODELS,
        others=others or [""] * (_BY_DEFAULT - 1),
        sent=sent,
        text=text,
        url=url,
        raw=pretty(shown | {"stream": True, "stream_options": {"include_usage": True}}),
        code=[(name, label, request_code.written(name, url, shown)) for name, label in request_code.NAMES.items()],
        templates=request_code.TEMPLATES,
    )


def _minimal(model: str) -> dict[str, Any]:
    return {"model": model or "sandbox/story", "messages": [{"role": "user", "content": _("Hello")}]}


def _body(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the request that was typed; raises :class:`Refused` with what is wrong where."""
    faults: dict[str, str] = {}
    model, message = form.get("model", "").strip(), form.get("message", "").strip()
    if not model:
        faults["model"] = _("is required")
    if not message:
        faults["message"] = _("is required")
    messages = [{"role": "user", "content": message}]
    if form.get("system", "").strip():
        messages.insert(0, {"role": "system", "content": form["system"].strip()})
    body: dict[str, Any] = {"model": model, "messages": messages}
    for name, field, read, least, most in (
        ("temperature", "temperature", float, 0.0, 2.0),
        ("max_tokens", "maxTokens", int, 1, 1_000_000),
    ):
        typed = form.get(field, "").strip()
        if not typed:
            continue
        try:
            value = read(typed)
        except ValueError:
            value = -1
        if least <= value <= most:
            body[name] = value
        else:
            faults[field] = _("must be a number from %(least)s to %(most)s", least=int(least), most=int(most))
    if faults:
        details = [{"field": name, "message": text} for name, text in faults.items()]
        raise Refused(400, {"code": "validation_failed", "message": _("Nothing was sent."), "details": details})
    return body


def _text(sent: dict[str, Any]) -> str:
    """Return what the model has said; empty when that cannot be read."""
    try:
        document = json.loads("".join(frame["text"] for frame in sent["clientResponse"]["frames"]))
        return str(document["choices"][0]["message"].get("content") or "")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""

"""The translator's playground: a body in one format beside what it becomes in another. Nothing is sent."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Final

from flask import redirect, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, translator_samples
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import page
from omniroute.blueprints.dashboard.request_bodies import readable
from omniroute.blueprints.dashboard.translator_samples import CHAT, DIRECTIONS, joined, pretty

_TARGET: Final = "anthropic_messages"
_SAMPLE: Final = "request:text"
_MOST_LINES: Final = 1500
"""Lines of a body up to which differences are looked for: the search takes the square of them."""
_NAMES: Final = {"from": "source", "to": "target", "sse": "body"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a body has become.

    Attributes:
        folded: a stream as one answer.
        error: why a stream ends in an error.
    """

    text: str
    losses: list[dict[str, str]]
    difference: str
    folded: str = ""
    error: str = ""


def show() -> Response:
    """Show a sample, or a request that the monitor has seen or the log has kept, with its translation."""
    args = request.args
    source, target = args.get("source") or CHAT, args.get("target") or _TARGET
    values: dict[str, Any] = {"source": source, "target": target, "direction": "request"}
    try:
        if args.get("seen"):
            values |= _seen(args["seen"])
        elif args.get("log"):
            values |= _logged(args["log"])
        else:
            sample = args.get("sample") or _SAMPLE
            values |= {"sample": sample, "direction": translator_samples.direction_of(sample)}
            values["body"] = translator_samples.body_of(sample, source)
        return _page(FormState(values), result=_translated(values))
    except Refused as refused:
        return _page(_refused(values, refused), status=400)


def translate() -> Response:
    """Translate what was typed, say what it is, or put a sample in its place."""
    form = request.form
    values: dict[str, Any] = {name: form.get(name, "") for name in ("source", "target", "direction", "model", "body")}
    if form.get("do") == "sample":
        source, target, sample = (form.get(name) for name in ("source", "target", "sample"))
        address = url_for("dashboard.translator", tab="playground", source=source, target=target, sample=sample)
        return redirect(address, 303)
    try:
        if form.get("do") == "detect":
            found = api.post("/api/translator/detect", {"body": values["body"]})
            values |= {"source": found["format"] or values["source"]}
            values |= {"direction": found["direction"] or values["direction"]}
            return _page(FormState(values), found=found)
        return _page(FormState(values), result=_translated(values))
    except Refused as refused:
        return _page(_refused(values, refused), status=400)


def _page(
    form: FormState, *, result: Shown | None = None, found: dict[str, Any] | None = None, status: int = 200
) -> Response:
    formats = api.get("/api/translator/formats")["formats"]
    return page(
        "dashboard/translator_playground.html",
        status=status,
        tab="playground",
        form=form,
        formats=[(one["id"], one["name"]) for one in formats],
        directions=list(DIRECTIONS.items()),
        samples=translator_samples.names(),
        result=result,
        found=found,
    )


def _translated(values: dict[str, Any]) -> Shown:
    """Return the translation; raises :class:`Refused`."""
    asked = {"from": values["source"], "to": values["target"]}
    body = values["body"]
    if values["direction"] == "stream":
        made = api.post("/api/translator/transform-stream", asked | {"sse": body})
        text = joined(made["frames"], values["target"])
        return Shown(text, made["losses"], _difference(body, text), pretty(made["folded"]), made["error"] or "")
    asked |= {"direction": values["direction"], "body": body}
    if values["direction"] == "request" and values.get("model"):
        asked["model"] = values["model"]
    made = api.post("/api/translator/translate", asked)
    text = pretty(made["result"])
    return Shown(text, made["losses"], _difference(body, text))


def _difference(before: str, after: str) -> str:
    old, new = before.splitlines(), after.splitlines()
    if max(len(old), len(new)) > _MOST_LINES:
        return ""
    return "\n".join(difflib.unified_diff(old, new, lineterm="", n=2))


def _seen(seen_id: str) -> dict[str, Any]:
    """Return what the form holds for a translation of the monitor."""
    rows = api.get("/api/translator/history")["translations"]
    row = next((one for one in rows if one["id"] == seen_id), None)
    if row is None or row["clientRequest"] is None:
        raise Refused(404, {"code": "not_found", "message": _("This request is no longer kept, or was too long.")})
    return {"source": row["from"], "target": row["to"], "body": pretty(row["clientRequest"])}


def _logged(log_id: str) -> dict[str, Any]:
    """Return what the form holds for a request of the log whose bodies were captured."""
    found = api.get(f"/api/usage/logs/{api.segment(log_id)}")
    bodies = found["bodies"]
    if bodies is None or bodies["clientRequest"]["body"]["cut"]:
        raise Refused(404, {"code": "not_found", "message": _("This request is no longer kept, or was too long.")})
    source, body = found["log"]["clientFormat"], bodies["clientRequest"]["body"]["text"]
    return {"source": source, "target": CHAT if source == _TARGET else _TARGET, "body": readable(body)}


def _refused(values: dict[str, Any], refused: Refused) -> FormState:
    """Return the form as typed; faults inside the body stand at the body, with where they are."""
    faults: dict[str, str] = {}
    for name, message in refused.faults.items():
        top, _dot, rest = name.partition(".")
        field = _NAMES.get(top, top)
        faults[field] = f"{rest}: {message}" if rest else message
    return FormState(values, faults, refused.message, refused.error_code)

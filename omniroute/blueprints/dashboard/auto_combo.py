"""Auto Combo: the channels, what they weigh and leave out, whom they would choose from now, and a simulator."""

from __future__ import annotations

from typing import Any, Final

from flask import request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.combo_form import split
from omniroute.blueprints.dashboard.combo_words import CHANNELS, FACTORS, reason_words
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, failed, page

_USUAL: Final = "auto"
_PER_PAGE: Final = 50
_EXCLUDED: Final = ("providers", "models", "families")


@blueprint.get("/dashboard/auto-combo")
def auto_combo() -> Response:
    """Show a channel."""
    return _page(_asked())


@blueprint.post("/dashboard/auto-combo")
def tune_channel() -> Response:
    """Store what was changed of a channel, for everybody or for one key."""
    name, key = _asked(), request.form.get("apiKeyId", "")
    body: dict[str, Any] = {
        "weights": {factor: _number(request.form.get(f"weight-{factor}", "")) for factor in FACTORS},
        "exploration": _share(request.form.get("exploration", "")),
        "exclude": {kind: split(request.form.get(f"exclude-{kind}", "")) for kind in _EXCLUDED},
        "apiKeyId": key or None,
    }
    try:
        api.put(f"/api/combos/auto/{name}", body)
    except Refused as refused:
        names = {f"exclude.{kind}": f"exclude-{kind}" for kind in _EXCLUDED}
        names |= {f"weights.{factor}": f"weight-{factor}" for factor in FACTORS}
        return _page(name, FormState.typed(request.form, refused, names), 400)
    return done(_("The channel %(name)s is saved.", name=name), _of(name, key))


@blueprint.post("/dashboard/auto-combo/reset")
def reset_channel() -> Response:
    """Give a channel back what is built in."""
    name, key = _asked(), request.form.get("apiKeyId", "")
    try:
        body = {"weights": None, "exploration": None, "exclude": None, "apiKeyId": key or None}
        api.put(f"/api/combos/auto/{name}", body)
    except Refused as refused:
        return failed(refused, _of(name, key))
    return done(_("The channel %(name)s is as it was built in.", name=name), _of(name, key))


def _page(name: str, form: FormState | None = None, status: int = 200) -> Response:
    key = request.values.get("apiKeyId", "")
    channel = api.get(f"/api/combos/auto/{name}", apiKeyId=key or None)
    candidates = api.get("/api/combos/auto-candidates", channel=name)["candidates"]
    shown = candidates[:_PER_PAGE] if request.args.get("all") is None else candidates
    simulation, fault = _simulated(name, key) if request.args.get("simulate") else (None, "")
    return page(
        "dashboard/auto_combo.html",
        blocks=("candidates",),
        status=status,
        shown_at=_of(name, key) if request.method == "POST" else "",
        name=name,
        purpose=CHANNELS[name],
        channels=CHANNELS,
        factors=FACTORS,
        channel=channel,
        form=form or FormState(_values(channel)),
        candidates=shown,
        total=len(candidates),
        eligible=sum(one["eligible"] for one in candidates),
        key=key,
        keys=_tunable(key),
        simulation=simulation,
        simulation_fault=fault,
        reason_words=reason_words,
    )


def _values(channel: dict[str, Any]) -> dict[str, Any]:
    values = {f"weight-{name}": f"{value:.4g}" for name, value in channel["weights"].items()}
    values["exploration"] = f"{channel['exploration'] * 100:g}"
    return values | {f"exclude-{kind}": "\n".join(channel["exclude"][kind]) for kind in _EXCLUDED}


def _tunable(chosen: str) -> list[dict[str, Any]]:
    """Return keys to tune the channel for: a few, and the one that is chosen."""
    found: list[dict[str, Any]] = api.get("/api/keys", limit=50, sort="name")["keys"]
    if chosen and all(one["id"] != chosen for one in found):
        found = [api.get(f"/api/keys/{api.segment(chosen)}")["key"], *found]
    return found


def _simulated(name: str, key: str) -> tuple[dict[str, Any] | None, str]:
    """Plan a request of the kind that was asked for; else say why that cannot be planned."""
    typed = request.args.get("promptTokens", "").strip()
    body: dict[str, Any] = {
        "model": name,
        "promptTokens": int(typed) if typed.isdecimal() and len(typed) < 9 else 1000,
        "tools": bool(request.args.get("tools")),
        "vision": bool(request.args.get("vision")),
        "apiKeyId": key or None,
    }
    try:
        found: dict[str, Any] = api.post("/api/routing/simulate", body)
    except Refused as refused:
        return None, "; ".join(refused.faults.values()) or refused.message
    return found, ""


def _asked() -> str:
    given = request.values.get("channel", _USUAL)
    return given if given in CHANNELS else _USUAL


def _of(name: str, key: str) -> str:
    return url_for("dashboard.auto_combo", channel=name, apiKeyId=key or None)


def _number(text: str) -> float | str:
    try:
        return float(text.strip().replace(",", ".") or 0)
    except ValueError:
        return text


def _share(text: str) -> float | str | None:
    """Return a percentage as a share; None, what is built in, without one."""
    if not text.strip():
        return None
    value = _number(text)
    return value / 100 if isinstance(value, float) else value

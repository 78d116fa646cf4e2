"""Audit: who did what, what it was before, and whether the log is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from flask import request
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import page

PAGE: Final = 50
OUTCOMES: Final = ("success", "failure", "denied")
_FILTERS: Final = ("action", "actor", "target", "outcome", "since", "until", "requestId")
_WITH_PAIRS: Final = "settings.changed"
"""The action whose details are pairs of the value before and the one after."""


@blueprint.get("/dashboard/audit")
def audit() -> Response:
    """Show what was done."""
    offset = _offset()
    given = {name: value for name in _FILTERS if (value := request.args.get(name, "").strip())}
    try:
        found = api.get("/api/audit", limit=PAGE, offset=offset, **given)
    except Refused as refused:
        form = FormState(request.args, refused.faults, refused.message, refused.error_code)
        return page("dashboard/audit.html", form=form, found=None, check=None, is_filtered=bool(given), status=400)
    return page(
        "dashboard/audit.html",
        form=FormState.of(request.args),
        found=found,
        entries=[entry | changes(entry["action"], entry["details"]) for entry in found["entries"]],
        check=api.get("/api/audit/verify") if request.args.get("check") else None,
        export=given,
        is_filtered=bool(given),
    )


def changes(action: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Divide the details of an entry into values before and after, and everything else, as text."""
    changed, others = [], []
    for name, value in details.items():
        match value:
            case {"old": old, "new": new}:
                changed.append((name, text_of(old), text_of(new)))
            case [old, new] if action == _WITH_PAIRS:
                changed.append((name, text_of(old), text_of(new)))
            case _:
                others.append((name, text_of(value)))
    return {"changed": changed, "others": others}


def text_of(value: Any) -> str:
    """Return a value as text: a text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=None)


def _offset() -> int:
    text = request.args.get("offset", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 0

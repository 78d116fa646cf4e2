"""Advanced: proxies, time limits, the log, feature flags, and the configuration as a document."""

from __future__ import annotations

from typing import Any

from flask import request
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.rendering import done, failed
from omniroute.blueprints.dashboard.settings import proxies, tabs, texts
from omniroute.blueprints.dashboard.settings.tabs import Forms


@tabs.tab("advanced")
def context(forms: Forms) -> dict[str, Any]:
    """Return proxies and flags."""
    flags = api.get("/api/settings/feature-flags")["flags"]
    return {
        "flags": [{**flag, "text": texts.TEXTS.get(flag["key"])} for flag in flags],
        "outcome": None,
        **proxies.context(forms),
    }


@blueprint.post("/dashboard/settings/flags")
def save_flags() -> Response:
    """Switch feature flags on or off, or give all back to their defaults."""
    back = tabs.at("advanced", "flags")
    try:
        if request.form.get("action") == "reset":
            api.delete("/api/settings/feature-flags")
            return done(_("All flags are what they were at first."), back)
        found = api.get("/api/settings/feature-flags")["flags"]
        chosen = {flag["key"]: flag["key"] in request.form for flag in found if flag["fixedBy"] is None}
        before = {flag["key"]: flag["value"] for flag in found}
        changed = {key: value for key, value in chosen.items() if value != before[key]}
        if not changed:
            return done(_("Nothing was changed."), back, "info")
        api.patch("/api/settings/feature-flags", {"flags": changed})
    except Refused as refused:
        return failed(refused, back)
    return done(_("Saved: %(names)s.", names=", ".join(texts.label(key) for key in changed)), back)

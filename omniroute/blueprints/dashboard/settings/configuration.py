"""The configuration as one document: checked first, then made what the document says."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from flask import request
from flask_babel import gettext as _
from flask_babel import ngettext
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done
from omniroute.blueprints.dashboard.settings import tabs

_MOST_BYTES: Final = 1 << 20


@blueprint.post("/dashboard/settings/import")
def import_settings() -> Response:
    """Show what a document would change, or change it."""
    text = _text()
    is_sure = request.form.get("action") == "apply"
    try:
        document = msgspec.json.decode(text)
        body = {"configuration": document, "dryRun": not is_sure, "prune": "prune" in request.form}
        found = api.post("/api/settings/import-json", {**body, "force": "force" in request.form})
    except msgspec.DecodeError:
        return _again(text, {"document": _("is not JSON")}, _("The document cannot be read."), "invalid_json")
    except Refused as refused:
        faults = "; ".join(f"{field}: {message}" for field, message in list(refused.faults.items())[:8])
        return _again(text, {"document": faults or refused.message}, refused.message, refused.error_code)
    if not is_sure:
        form = FormState.of({**_kept(text)})
        return tabs.show("advanced", 200, {"configuration": form}, extra={"outcome": found})
    back = tabs.at("advanced", "configuration")
    said = ngettext("%(num)s change was made.", "%(num)s changes were made.", len(found["changes"]))
    notes = " ".join(f"{one['name']}: {one['message']}" for one in found["warnings"][:5])
    return done(f"{said} {notes}".strip(), back, "warning" if notes else "success")


def _text() -> str:
    """Return the document: of the file that was chosen, else what stands in the field."""
    file = request.files.get("file")
    if file is not None and file.filename:
        return file.stream.read(_MOST_BYTES + 1).decode("utf-8", "replace")
    return request.form.get("document", "")


def _kept(text: str) -> dict[str, Any]:
    return {"document": text, "prune": "prune" in request.form, "force": "force" in request.form}


def _again(text: str, faults: dict[str, str], message: str, code: str) -> Response:
    return tabs.show("advanced", 400, {"configuration": FormState(_kept(text), faults, message, code)})

"""What a key may know of itself."""

from __future__ import annotations

from flask import Blueprint, request

from omniroute.blueprints.guard import CALLER
from omniroute.blueprints.management.bodies import iso_time
from omniroute.container import container
from omniroute.services.access import describe

blueprint = Blueprint("me", __name__)


@blueprint.get("/v1/me/status")
def status() -> dict[str, object]:
    """Return the calling key, its limits and what it has used today."""
    caller = request.environ[CALLER]
    said = describe(caller)
    expires_at = said.pop("expires_at")
    return {
        "key": {**said, "expiresAt": iso_time(expires_at)},
        "budgets": [],
        "tokenLimits": [],
        "usage": {"today": container().usage.of_key(caller.key_id)},
    }

"""What a key may know of itself."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, request

from omniroute.blueprints.guard import CALLER
from omniroute.blueprints.management import budgets
from omniroute.blueprints.management.bodies import iso_time
from omniroute.container import container
from omniroute.services import key_limits
from omniroute.services.access import describe
from omniroute.services.quotas import window_document

QUOTA_SCOPE: Final = "self:quota"

blueprint = Blueprint("me", __name__)


@blueprint.get("/v1/me/status")
def status() -> dict[str, object]:
    """Return the calling key, its limits, and what it has used today and this month."""
    own, caller = container(), request.environ[CALLER]
    said = describe(caller)
    expires_at = said.pop("expires_at")
    found: dict[str, object] = {
        "key": {**said, "expiresAt": iso_time(expires_at)},
        "limits": key_limits.document(own.key_limits.of(caller.key), iso_time),
        "budgets": budgets.shown(own.budgets.all(caller.key_id)),
        "tokenLimits": budgets.limits_shown(own.token_limits.all(caller.key_id)),
        "usage": own.usage.of_key(caller.key_id),
    }
    if caller.key is not None and QUOTA_SCOPE in caller.key.scopes:
        found["quota"] = [
            {
                "provider": state.connection.provider,
                "plan": state.plan,
                "windows": [window_document(one, iso_time) for one in state.windows],
            }
            for state in own.quotas.states(connection_ids=caller.key.allowed_connections)
            if state.windows
        ]
    return found

"""`/api/usage/quota`, `/api/usage/provider-limits`, `/api/usage/{connectionId}`: what is left at the providers."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, request

from omniroute.blueprints.management.bodies import Fields, answer, iso_time, text
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.services.quotas import document

blueprint = Blueprint("management_quotas", __name__)

_LONGEST: Final = 100
_REFRESH: Final = Fields(text("provider", max_length=_LONGEST), text("connectionId", max_length=_LONGEST))


@blueprint.get("/api/usage/quota")
def index() -> Response:
    """Show what is known of every connection's quota, and what comes of it at today's pace."""
    return answer({"quotas": [document(state, iso_time) for state in container().quotas.states(provider=_provider())]})


@blueprint.get("/api/usage/provider-limits")
def limits() -> Response:
    """Show the same under its other name."""
    found = [document(state, iso_time) for state in container().quotas.states(provider=_provider())]
    return answer({"limits": found, "intervalMinutes": container().settings.provider_limits_sync_interval_minutes})


@blueprint.post("/api/usage/provider-limits")
def refresh() -> Response:
    """Have the providers asked now; the answers are there a little later."""
    values = _REFRESH.read(request) if request.content_length else {}
    ids = container().quotas.refresh(provider=values.get("provider"), connection_id=values.get("connectionId"))
    container().audit.record("provider.limits.refreshed", details={"connections": len(ids)}, **origin().facts())
    response = answer({"accepted": True, "connectionIds": ids})
    response.status_code = 202
    return response


@blueprint.get("/api/usage/<connection_id>")
def live(connection_id: str) -> Response:
    """Ask the provider of one connection now, and show what is known then."""
    return answer({"quota": document(container().quotas.live(connection_id), iso_time)})


def _provider() -> str | None:
    value = request.args.get("provider")
    if value and (len(value) > _LONGEST or "\x00" in value):
        raise ValidationFailed([{"field": "provider", "message": f"must have at most {_LONGEST} characters"}])
    return value or None

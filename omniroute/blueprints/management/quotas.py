"""`/api/usage/quota`, `/api/usage/provider-limits`, `/api/usage/{connectionId}`: what is left at the providers."""

from __future__ import annotations

from typing import Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import Query, operation
from omniroute.blueprints.management.bodies import Fields, answer, iso_time, text
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.services.quotas import QuotaDocument, document

blueprint = Blueprint("management_quotas", __name__)

_LONGEST: Final = 100
_REFRESH: Final = Fields(text("provider", max_length=_LONGEST), text("connectionId", max_length=_LONGEST))


_PROVIDER: Final = Query("provider", "Only connections of this provider.")


class QuotasDocument(TypedDict):
    """What is known of the connections' quotas."""

    quotas: list[QuotaDocument]


class ProviderLimitsDocument(TypedDict):
    """The same under another name, and how often the providers are asked; 0 is never.

    `reporting` names the providers that say how much of a quota or credit is left.
    """

    limits: list[QuotaDocument]
    intervalMinutes: int
    reporting: list[str]


class AskedProvidersDocument(TypedDict):
    """The connections whose providers are asked now."""

    accepted: bool
    connectionIds: list[str]


class OneQuotaDocument(TypedDict):
    """What is known of a connection's quota."""

    quota: QuotaDocument


@blueprint.get("/api/usage/quota")
@operation(QuotasDocument, query=(_PROVIDER,))
def index() -> Response:
    """Show what is known of every connection's quota, and what comes of it at today's pace."""
    found = [document(state, iso_time) for state in container().quotas.states(provider=_provider())]
    return answer(QuotasDocument(quotas=found))


@blueprint.get("/api/usage/provider-limits")
@operation(ProviderLimitsDocument, query=(_PROVIDER,))
def limits() -> Response:
    """Show the same under its other name."""
    found = [document(state, iso_time) for state in container().quotas.states(provider=_provider())]
    minutes = container().settings.provider_limits_sync_interval_minutes
    reporting = container().quotas.reporting()
    return answer(ProviderLimitsDocument(limits=found, intervalMinutes=minutes, reporting=reporting))


@blueprint.post("/api/usage/provider-limits")
@operation(AskedProvidersDocument, status=202, body=_REFRESH, is_body_optional=True, refusals=(404,))
def refresh() -> Response:
    """Have the providers asked now; the answers are there a little later."""
    values = _REFRESH.read(request, optional=True)
    ids = container().quotas.refresh(provider=values.get("provider"), connection_id=values.get("connectionId"))
    container().audit.record("provider.limits.refreshed", details={"connections": len(ids)}, **origin().facts())
    return answer(AskedProvidersDocument(accepted=True, connectionIds=ids), 202)


@blueprint.get("/api/usage/<connection_id>")
@operation(OneQuotaDocument)
def live(connection_id: str) -> Response:
    """Ask the provider of one connection now, and show what is known then."""
    return answer(OneQuotaDocument(quota=document(container().quotas.live(connection_id), iso_time)))


def _provider() -> str | None:
    value = request.args.get("provider")
    if value and (len(value) > _LONGEST or "\x00" in value):
        raise ValidationFailed([{"field": "provider", "message": f"must have at most {_LONGEST} characters"}])
    return value or None

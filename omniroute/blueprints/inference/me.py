"""What a key may know of itself."""

from __future__ import annotations

from typing import Final, NotRequired, TypedDict

from flask import Blueprint, request

from omniroute.blueprints.contract import Time, operation
from omniroute.blueprints.guard import CALLER
from omniroute.blueprints.management import budgets
from omniroute.blueprints.management.bodies import iso_time
from omniroute.container import container
from omniroute.services import key_limits
from omniroute.services.access import describe
from omniroute.services.budgets import BudgetDocument
from omniroute.services.key_limits import KeyLimitsDocument
from omniroute.services.quotas import QuotaWindowDocument, window_document
from omniroute.services.token_limits import TokenLimitDocument
from omniroute.services.usage import OwnUsageDocument

QUOTA_SCOPE: Final = "self:quota"

blueprint = Blueprint("me", __name__)


class OwnKeyDocument(TypedDict):
    """The calling key; the id of a caller without one says what it is: `local`, `env` or `session`."""

    id: str
    name: str
    scopes: list[str]
    expiresAt: Time | None


class OwnQuotaDocument(TypedDict):
    """What is left at a provider that the key may use."""

    provider: str
    plan: str | None
    windows: list[QuotaWindowDocument]


class OwnStatusDocument(TypedDict):
    """The calling key, its limits, and what it has used; `quota` for keys that may see it."""

    key: OwnKeyDocument
    limits: KeyLimitsDocument
    budgets: list[BudgetDocument]
    tokenLimits: list[TokenLimitDocument]
    usage: OwnUsageDocument
    quota: NotRequired[list[OwnQuotaDocument]]


@blueprint.get("/v1/me/status")
@operation(OwnStatusDocument)
def status() -> OwnStatusDocument:
    """Return the calling key, its limits, and what it has used today and this month."""
    own, caller = container(), request.environ[CALLER]
    said = describe(caller)
    found: OwnStatusDocument = {
        "key": {
            "id": said["id"],
            "name": said["name"],
            "scopes": said["scopes"],
            "expiresAt": iso_time(said["expires_at"]),
        },
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

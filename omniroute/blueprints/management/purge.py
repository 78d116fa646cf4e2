"""`/api/settings/purge/…`: remove what is kept of past requests, before its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import operation
from omniroute.blueprints.management.bodies import Fields, answer, integer
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.services.audit import Audit
from omniroute.services.keys import Origin

blueprint = Blueprint("management_purge", __name__)


class PurgedDocument(TypedDict):
    """How many rows were removed."""

    deleted: int


_PURGE: Final = Fields(integer("olderThanDays", minimum=0, maximum=36_500, nullable=True))
_PURGE_AUDIT: Final = Fields(integer("olderThanDays", required=True, minimum=1, maximum=36_500))


@blueprint.post("/api/settings/purge/logs")
@blueprint.post("/api/settings/purge-logs")
@operation(PurgedDocument, body=_PURGE, is_body_optional=True)
def logs() -> Response:
    """Remove requests from the log, with how they were routed."""
    return _purged(container().retention.purge_logs)


@blueprint.post("/api/settings/purge/usage")
@blueprint.post("/api/settings/purge-usage")
@operation(PurgedDocument, body=_PURGE, is_body_optional=True)
def usage() -> Response:
    """Remove sums of usage."""
    return _purged(container().retention.purge_usage)


@blueprint.post("/api/settings/purge/audit-older")
@blueprint.post("/api/settings/purge-audit-older")
@operation(PurgedDocument, body=_PURGE_AUDIT)
def audit_older() -> Response:
    """Remove audit rows that are so old; the newest thousand stay."""
    days = _PURGE_AUDIT.read(request)["olderThanDays"]
    return answer(PurgedDocument(deleted=container().retention.purge_audit(days, container().audit, origin())))


@blueprint.post("/api/settings/purge/quota")
@blueprint.post("/api/settings/purge-quota")
@operation(PurgedDocument, body=_PURGE, is_body_optional=True)
def quota() -> Response:
    """Remove stored readings of providers' quotas."""
    return _purged(container().retention.purge_quota)


def _purged(purge: Callable[[int, Audit, Origin], int]) -> Response:
    days = _PURGE.read(request, optional=True).get("olderThanDays") or 0
    return answer(PurgedDocument(deleted=purge(days, container().audit, origin())))

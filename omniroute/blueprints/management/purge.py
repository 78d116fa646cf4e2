"""`/api/settings/purge/…`: remove what is kept of past requests, before its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import operation
from omniroute.blueprints.management.bodies import Fields, answer, flag, integer
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.services.audit import Audit
from omniroute.services.keys import Origin
from omniroute.services.retention import Purged

blueprint = Blueprint("management_purge", __name__)


_Purge = Callable[[int, Audit, Origin], int]


class PurgedDocument(TypedDict):
    """How many rows were removed, or with `dryRun` would be."""

    deleted: int


_DRY: Final = flag("dryRun")
_PURGE: Final = Fields(integer("olderThanDays", minimum=0, maximum=36_500, nullable=True), _DRY)
_PURGE_AUDIT: Final = Fields(integer("olderThanDays", required=True, minimum=1, maximum=36_500), _DRY)


@blueprint.post("/api/settings/purge/logs")
@blueprint.post("/api/settings/purge-logs")
@operation(PurgedDocument, body=_PURGE, is_body_optional=True)
def logs() -> Response:
    """Remove requests from the log, with how they were routed and their captured bodies."""
    return _purged(Purged.LOGS, container().retention.purge_logs)


@blueprint.post("/api/settings/purge/usage")
@blueprint.post("/api/settings/purge-usage")
@operation(PurgedDocument, body=_PURGE, is_body_optional=True)
def usage() -> Response:
    """Remove sums of usage."""
    return _purged(Purged.USAGE, container().retention.purge_usage)


@blueprint.post("/api/settings/purge/audit-older")
@blueprint.post("/api/settings/purge-audit-older")
@operation(PurgedDocument, body=_PURGE_AUDIT)
def audit_older() -> Response:
    """Remove audit rows that are so old; the newest thousand stay."""
    values = _PURGE_AUDIT.read(request)
    return _removed(Purged.AUDIT, container().retention.purge_audit, values)


@blueprint.post("/api/settings/purge/quota")
@blueprint.post("/api/settings/purge-quota")
@operation(PurgedDocument, body=_PURGE, is_body_optional=True)
def quota() -> Response:
    """Remove stored readings of providers' quotas."""
    return _purged(Purged.QUOTA, container().retention.purge_quota)


def _purged(what: Purged, purge: _Purge) -> Response:
    return _removed(what, purge, _PURGE.read(request, optional=True))


def _removed(what: Purged, purge: _Purge, values: Mapping[str, Any]) -> Response:
    days = values.get("olderThanDays") or 0
    if values.get("dryRun", False):
        return answer(PurgedDocument(deleted=container().retention.count(what, days)))
    return answer(PurgedDocument(deleted=purge(days, container().audit, origin())))

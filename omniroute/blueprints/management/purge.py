"""`/api/settings/purge/…`: remove what is kept of past requests, before its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flask import Blueprint, Response, request

from omniroute.blueprints.management.bodies import Fields, answer, integer
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.services.audit import Audit
from omniroute.services.keys import Origin

blueprint = Blueprint("management_purge", __name__)

_PURGE: Final = Fields(integer("olderThanDays", minimum=0, maximum=36_500, nullable=True))


@blueprint.post("/api/settings/purge/logs")
@blueprint.post("/api/settings/purge-logs")
def logs() -> Response:
    """Remove requests from the log, with how they were routed."""
    return _purged(container().retention.purge_logs)


@blueprint.post("/api/settings/purge/usage")
@blueprint.post("/api/settings/purge-usage")
def usage() -> Response:
    """Remove sums of usage."""
    return _purged(container().retention.purge_usage)


def _purged(purge: Callable[[int, Audit, Origin], int]) -> Response:
    days = _PURGE.read(request, optional=True).get("olderThanDays") or 0
    return answer({"deleted": purge(days, container().audit, origin())})

"""`GET /metrics`: Prometheus text over all workers."""

from __future__ import annotations

from flask import Blueprint, Response

from omniroute.blueprints.contract import operation
from omniroute.container import container
from omniroute.errors import NotFound
from omniroute.services.metrics import CONTENT_TYPE, Metrics

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@operation({"type": "string"}, media_type="text/plain", refusals=(404,))
def metrics() -> Response:
    """Answer a scrape; not found while metrics are off."""
    own = container().metrics
    if not isinstance(own, Metrics):
        raise NotFound("Metrics are off; OMNIROUTE_METRICS=on turns them on.")
    return Response(own.render(), content_type=CONTENT_TYPE)

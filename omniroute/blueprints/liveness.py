"""`GET /healthz`: whether this worker takes work. Touches neither the database nor anything that could block."""

from __future__ import annotations

from flask import Blueprint, Response

from omniroute.blueprints.contract import Answer, operation
from omniroute.container import container

blueprint = Blueprint("liveness", __name__)


@blueprint.get("/healthz")
@operation(
    {"const": "ok"},
    media_type="text/plain",
    also={503: Answer({"const": "stopping"}, "The server goes down.", media_type="text/plain")},
)
def healthz() -> Response:
    """Answer `ok`, or 503 `stopping` while the server goes down."""
    is_stopping = container().inference.is_draining
    return Response("stopping" if is_stopping else "ok", status=503 if is_stopping else 200, mimetype="text/plain")

"""`/api/models`: the catalogue of all providers' models."""

from __future__ import annotations

from flask import Blueprint, Response

from omniroute.container import container

blueprint = Blueprint("management_models", __name__)


@blueprint.get("/api/models/catalog")
def catalog() -> Response:
    """Return every provider with its known models."""
    models = container().models
    response = Response(models.catalog(), mimetype="application/json")
    response.headers["X-Model-Catalog-Version"] = models.version
    response.headers["Cache-Control"] = "no-store"
    return response

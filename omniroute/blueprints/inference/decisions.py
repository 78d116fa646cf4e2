"""What a key may know of how its own requests were routed."""

from __future__ import annotations

from flask import Blueprint, Response

from omniroute.blueprints import guard
from omniroute.blueprints.contract import operation
from omniroute.blueprints.management.routing import FORM, TEXT_FORM, DecisionDocument, shown
from omniroute.blueprints.tiers import INFERENCE_MOUNTS
from omniroute.container import container

blueprint = Blueprint("decisions", __name__)


@operation(DecisionDocument, others=TEXT_FORM, query=(FORM,))
def show(request_id: str) -> Response:
    """Show how one of the key's own requests was routed."""
    return shown(container().decisions.get(request_id, api_key_id=guard.caller().key_id))


for _mount in INFERENCE_MOUNTS:
    blueprint.add_url_rule(f"{_mount}/routing/decisions/<request_id>", view_func=show, methods=["GET"])

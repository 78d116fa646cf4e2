"""`/api/usage/active`: requests in flight in all workers of this host."""

from __future__ import annotations

from typing import TypedDict

from flask import Blueprint, Response

from omniroute.blueprints.contract import Time, operation
from omniroute.blueprints.management.bodies import answer, iso_time
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import NotFound
from omniroute.services.in_flight import Worked

blueprint = Blueprint("management_active", __name__)


class RunningRequestDocument(TypedDict):
    """A request in flight."""

    requestId: str
    startedAt: Time
    durationMs: float
    stage: str
    endpoint: str
    clientFormat: str
    stream: bool
    requestedModel: str
    provider: str | None
    model: str | None
    connectionId: str | None
    connectionName: str | None
    comboId: str | None
    apiKeyId: str | None
    apiKeyName: str | None
    attempts: int
    bytesIn: int
    bytesOut: int
    lastEventAgeMs: float | None
    workerPid: int


class RunningRequestsDocument(TypedDict):
    """The requests in flight in all workers of this host."""

    active: list[RunningRequestDocument]
    total: int


class CancelledRequestDocument(TypedDict):
    """The request that was cancelled."""

    success: bool
    requestId: str


@blueprint.get("/api/usage/active")
@operation(RunningRequestsDocument, headers={"X-Total-Count": ""})
def active() -> Response:
    """List the requests in flight, the oldest first."""
    own = container()
    snapshot = own.snapshots.current
    keys = {key.id: key.name for key in snapshot.keys}
    connections = {connection.id: connection.name for connection in snapshot.connections}
    rows = [_shown(worked, keys, connections) for worked in own.in_flight.all()]
    body: RunningRequestsDocument = {"active": rows, "total": len(rows)}
    return answer(body, headers={"X-Total-Count": str(len(rows))})


@blueprint.delete("/api/usage/active/<request_id>")
@operation(CancelledRequestDocument, refusals=(404,))
def cancel(request_id: str) -> Response:
    """Cancel a request in flight; its client is told so."""
    own = container()
    if not own.in_flight.cancel(request_id):
        raise NotFound("No request with this id is in flight.")
    own.audit.record("request.cancelled", target_kind="request", target_id=request_id, **origin().facts())
    return answer(CancelledRequestDocument(success=True, requestId=request_id))


def _shown(worked: Worked, keys: dict[str, str], connections: dict[str, str]) -> RunningRequestDocument:
    run = worked.run
    return {
        "requestId": run.request_id,
        "startedAt": iso_time(run.started_at),
        "durationMs": run.duration_ms,
        "stage": run.stage,
        "endpoint": run.endpoint,
        "clientFormat": run.client_format,
        "stream": run.is_stream,
        "requestedModel": run.requested_model,
        "provider": run.provider,
        "model": run.model,
        "connectionId": run.connection_id,
        "connectionName": connections.get(run.connection_id or ""),
        "comboId": run.combo_id,
        "apiKeyId": run.api_key_id,
        "apiKeyName": keys.get(run.api_key_id or ""),
        "attempts": run.attempts,
        "bytesIn": run.bytes_in,
        "bytesOut": run.bytes_out,
        "lastEventAgeMs": run.idle_ms,
        "workerPid": worked.pid,
    }

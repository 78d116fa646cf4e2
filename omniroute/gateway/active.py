"""What the requests in flight are doing, for whoever watches them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omniroute.gateway.inference import Inference
    from omniroute.gateway.run import Run


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """One request in flight.

    Attributes:
        started_at: epoch seconds.
        stage: what is being waited for: `reading`, `queued`, `connecting`, `waiting` or `streaming`.
        requested_model: empty for keys of which nothing is noted.
        provider, model, connection_id: the target that is being asked, or that serves; None before the first.
        attempts: those that have ended.
        idle_ms: since the provider's last bytes; None before the first content.
    """

    request_id: str
    started_at: float
    duration_ms: float
    stage: str
    endpoint: str
    client_format: str
    is_stream: bool
    requested_model: str
    provider: str | None
    model: str | None
    connection_id: str | None
    combo_id: str | None
    api_key_id: str | None
    attempts: int
    bytes_in: int
    bytes_out: int
    idle_ms: float | None


def active_runs(inference: Inference) -> list[ActiveRun]:
    """Return the requests in flight in this worker, the oldest first."""
    return [_look_at(run) for run in list(inference.runs.values()) if not run.settlement.is_settled]


def _look_at(run: Run) -> ActiveRun:
    record, body = run.settlement.record, run.body
    key = run.call.caller.key
    last_byte_at = 0.0 if body is None else body.last_byte_at
    return ActiveRun(
        request_id=record.request_id,
        started_at=record.time,
        duration_ms=round(run.settlement.elapsed_ms(), 1),
        stage=run.current_stage,
        endpoint=record.endpoint,
        client_format=record.client_format,
        is_stream=record.stream,
        requested_model="" if key is not None and key.no_log else record.requested_model,
        provider=record.provider,
        model=record.model,
        connection_id=record.connection_id,
        combo_id=record.combo_id,
        api_key_id=record.api_key_id,
        attempts=run.settlement.attempts,
        bytes_in=record.bytes_in,
        bytes_out=0 if body is None else body.bytes_out,
        idle_ms=round((run.now() - last_byte_at) * 1000, 1) if last_byte_at else None,
    )

"""A decision record as the document of the HTTP API: public names, ISO times, candidates with their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from omniroute.routing.config import KEYS
from omniroute.routing.decision import Record, Round, Try
from omniroute.routing.options import Block, Option
from omniroute.routing.prices import NANO
from omniroute.routing.replay import Kept, is_replayable
from omniroute.routing.view import CLOSED, IDLE, UNKNOWN

_VERSION: Final = 1
"""Of the public form."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate with its number, counted over all plans of the request; `planned` is None if it was in none."""

    number: int
    option: str
    account: str
    planned: Round | None


def document(record: Record, *, api_key_id: str | None = None) -> dict[str, Any]:
    """Return a record under the public names. `api_key_id` is whose request it was, where the record does not say."""
    decision = record.decision
    planned = decision.rounds[0]
    candidates = candidates_of(record)
    providers = {option.name: option.provider for one in record.grounds for option in options_of(one.block)}
    ground = record.ground
    body: dict[str, Any] = {
        "v": _VERSION,
        "requestId": decision.request_id,
        "at": iso_time(planned.now),
        "clock": {"now": planned.now, "monotonicStart": decision.started},
        "seed": f"{planned.seed:016x}",
        "policyHash": decision.policy_hash,
        "configVersion": decision.config_version,
        "gatewayVersion": decision.gateway_version,
        "replayable": is_replayable(record),
        "request": _request(planned, api_key_id),
        "resolution": [{"stage": one.stage, "in": one.given, "out": one.found} for one in decision.trace],
        "strategy": planned.outline.strategy,
        "settings": {} if ground is None else settings_of(ground.block),
        "candidates": [_candidate(one, providers.get(one.option, "")) for one in candidates],
        "exclusions": [
            _without_nones(
                target=target, connection=connection, reason=reason, until=iso_time(until), detail=detail or None
            )
            for one in decision.rounds
            for target, reason, connection, until, detail in one.outline.exclusions
        ],
        "truncated": {
            "candidates": sum(one.cut[0] for one in decision.rounds),
            "exclusions": sum(one.cut[1] for one in decision.rounds),
        },
        "attempts": [_attempt(n, one, candidates) for n, one in enumerate(decision.attempts, 1)],
        "waits": [{"reason": reason, "ms": round(ms, 1)} for reason, ms in decision.waits],
        "affinity": _affinity(record),
        "warnings": [warning for one in decision.rounds for warning in one.outline.warnings],
        "result": _result(record),
    }
    if decision.chain is not None:
        body["chain"] = decision.chain
    if decision.continued_at is not None:
        body["continuedAt"] = decision.continued_at
    return body


def settings_of(block: Block) -> dict[str, list[Any]]:
    """Return every setting in force with the level that it comes from."""
    return {
        name: [msgspec.to_builtins(getattr(block.config, key.attribute)), block.levels.get(name, "default")]
        for name, key in KEYS.items()
    }


def options_of(block: Block) -> Iterator[Option]:
    """Return the options of a block and of those inside it."""
    for step in block.steps:
        if step.option is not None:
            yield step.option
        if step.block is not None:
            yield from options_of(step.block)


def candidates_of(record: Record) -> list[Candidate]:
    """Return the candidates of all plans of a request, and those that were tried without being named in them."""
    found: list[Candidate] = []
    seen: set[tuple[str, str]] = set()
    for planned in record.decision.rounds:
        for place in planned.outline.places:
            for account in place.accounts:
                seen.add((place.option, account))
                found.append(Candidate(len(found) + 1, place.option, account, planned))
    for tried in record.decision.attempts:
        if (tried.option, tried.account) not in seen:  # it stood behind what is named in full
            seen.add((tried.option, tried.account))
            found.append(Candidate(len(found) + 1, tried.option, tried.account, None))
    return found


def _request(planned: Round, api_key_id: str | None) -> dict[str, Any]:
    features = planned.features
    headers = _without_nones(
        mode=features.mode or None,
        budget=None if features.budget_nano is None else features.budget_nano / NANO,
    )
    return {
        "model": features.requested,
        "clientFormat": features.client_format,
        "stream": features.is_stream,
        "estInput": features.estimated_input,
        "maxOutput": features.max_output,
        "needs": sorted(features.needs),
        "task": features.task.value,
        "effort": features.effort,
        "keyId": features.key_id or api_key_id,
        "session": features.session,
        "connection": features.connection_id,
        "headers": headers,
    }


def _candidate(one: Candidate, provider: str) -> dict[str, Any]:
    body: dict[str, Any] = {"n": one.number, "target": one.option, "connection": one.account, "rank": one.number}
    if one.planned is None:
        return body
    for target, score, factors in one.planned.outline.scores:
        if target == one.option:
            body["score"] = score
            body["factors"] = {name: list(parts) for name, parts in factors.items()}
            break
    body["view"] = _numbers(one, one.planned, provider)
    return body


def _numbers(one: Candidate, planned: Round, provider: str) -> dict[str, Any]:
    """Return what the view said of a candidate, where it said anything."""
    view = Kept(planned.answers)
    load, figures = view.load(one.account), view.figures(one.option)
    rest = view.rest(one.account, "")
    breaker = view.breaker(provider)
    found: dict[str, Any] = {}
    if load is not IDLE:
        found |= _without_nones(
            inFlight=load.in_flight,
            lastUsedAt=iso_time(load.last_used_at or None),
            freeAt=iso_time(load.free_at or None),
            full=load.is_full or None,
            windows=[msgspec.to_builtins(window) for window in load.windows] or None,
        )
    if figures is not UNKNOWN:
        found |= _without_nones(
            success=round(figures.success, 4),
            outcomes=figures.total,
            failures10Min=len(figures.failed_at),
            ttftP50Ms=figures.ttft_p50,
            ttftP95Ms=figures.ttft_p95,
            totalP50Ms=figures.total_p50,
            totalP95Ms=figures.total_p95,
            outputMean=figures.output_mean,
        )
    if rest is not None:
        found["rest"] = {"reason": rest.reason, "until": iso_time(rest.until), "needsProbe": rest.needs_probe}
    if breaker is not CLOSED:
        found["breaker"] = breaker.state.value
    return found


def _attempt(n: int, one: Try, candidates: Sequence[Candidate]) -> dict[str, Any]:
    number = next((c.number for c in candidates if (c.option, c.account) == (one.option, one.account)), None)
    return _without_nones(
        n=n,
        candidate=number,
        target=one.option,
        connection=one.account,
        kind=one.kind,
        startedMs=_tenth(one.started_ms),
        headersMs=_tenth(one.headers_ms),
        firstContentMs=_tenth(one.content_ms),
        endedMs=_tenth(one.ended_ms),
        outcome="success" if one.has_served else (one.failure_kind or "failed"),
        **{"class": one.failure_class},
        status=one.status,
        code=one.code,
        retryAfterSec=one.retry_after_s,
        hintSource=one.hint_source,
        intents=list(one.intents) or None,
        tokens=None if one.tokens_in is None and one.tokens_out is None else [one.tokens_in, one.tokens_out],
        costNanoUsd=one.cost_nano_usd,
    )


def _affinity(record: Record) -> dict[str, Any]:
    decision = record.decision
    return _without_nones(
        sticky=decision.rounds[0].outline.is_sticky or None, bound=decision.bound, moved=decision.has_moved or None
    )


def _result(record: Record) -> dict[str, Any] | None:
    result = record.decision.result
    if result is None:
        return None
    return {
        "target": result.option,
        "connection": result.account,
        "status": result.status,
        "outcome": result.outcome,
        "errorCode": result.error_code,
        "committed": result.is_committed,
        "attempts": len(record.decision.attempts),
        "firstContentMs": _tenth(result.first_content_ms),
        "durationMs": _tenth(result.duration_ms),
        "tokensIn": result.tokens_in,
        "tokensOut": result.tokens_out,
        "costUsd": None if result.cost_nano_usd is None else result.cost_nano_usd / NANO,
        "costKind": result.cost_kind,
    }


def _without_nones(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _tenth(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 1)


def iso_time(moment: float | None) -> str | None:
    """Return epoch seconds as ISO 8601 UTC with milliseconds and `Z`; None for what is no time of this era."""
    if moment is None or not 0 <= moment < _FAR:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_FAR: Final = 253_402_300_000.0

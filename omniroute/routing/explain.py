"""A decision record in words.

In this order: what was asked, what it resolved to, what was possible, what was left out and until when, who was tried
and what they said, why this one answered, what it cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from omniroute.routing.config import KEYS
from omniroute.routing.decision import Ground, Record, Result, Round, Try
from omniroute.routing.decision_document import Candidate, candidates_of, iso_time, settings_of
from omniroute.routing.plan import Reason
from omniroute.routing.prices import NANO
from omniroute.routing.replay import Kept

_SHOWN_CANDIDATES: Final = 24
_SHOWN_EXCLUSIONS: Final = 40
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400

REASONS: Final[Mapping[str, str]] = {
    Reason.INACTIVE: "is switched off or not connected",
    Reason.HIDDEN: "is hidden",
    Reason.PROVIDER_BLOCKED: "its provider is blocked by the operator",
    Reason.TERMS_NOT_ACCEPTED: "its provider's terms were not accepted",
    Reason.KEY_POLICY: "the API key may not use it",
    Reason.CREDENTIAL_DEAD: "its credential was refused",
    Reason.ACCOUNT_BLOCKED: "its account is blocked at the provider",
    Reason.NO_CREDIT: "its account has no credit left",
    Reason.QUOTA_EXHAUSTED: "its quota is spent",
    Reason.QUOTA_CUTOFF: "its quota is used up to the cut-off that the operator set",
    Reason.COOLING: "it rests after a failure",
    Reason.LOCKED_OUT: "this model rests on this connection",
    Reason.BREAKER_OPEN: "its provider's breaker is open",
    Reason.BREAKER_PROBE_TAKEN: "its provider is being probed by another request",
    Reason.RESERVE: "only its reserve of quota is left",
    Reason.CONCURRENCY_FULL: "all its places are taken",
    Reason.RPM_FULL: "its requests per minute are used up",
    Reason.QUEUE_FULL: "its queue is full",
    Reason.CAPABILITY: "it lacks what the request needs",
    Reason.CONTEXT_TOO_SMALL: "the request does not fit its window",
    Reason.OUTPUT_TOO_SMALL: "it cannot answer at the length asked for",
    Reason.FEATURE_PINNED: "the request is bound to another connection",
    Reason.PRICE_ABOVE_BUDGET: "it costs more than the budget",
    Reason.PRICE_UNKNOWN: "its price is not known, and there is a budget",
    Reason.NOT_LOCAL: "it is not on this machine or network",
    Reason.LOW_SCORE: "its score was too low",
    Reason.CHANNEL_EXCLUDED: "it is excluded from the channel",
    Reason.FAMILY_NOT_ALLOWED: "its model family is not allowed here",
    Reason.PROVIDER_NOT_ALLOWED: "its provider is not allowed here",
    Reason.TRIED: "it was tried already",
    Reason.PROXY_UNAVAILABLE: "its proxy cannot be reached",
}
"""Reasons in words."""


def text(record: Record) -> str:
    """Return a record as text."""
    decision = record.decision
    planned = decision.rounds[0]
    lines = [f"Request {decision.request_id}, {_moment(planned.now)}", ""]
    for title, part in (
        ("Asked", _asked_lines(record)),
        ("Resolved", _resolved_lines(record)),
        ("Possible, in this order", _possible_lines(record)),
        ("Left out", _left_out_lines(record)),
        ("Tried", _tried_lines(record)),
        ("Why this answer", _why_lines(record)),
        ("Cost", _cost_lines(record)),
    ):
        lines += [title, *(f"  {line}" for line in part), ""]
    origin = f"Policy {decision.policy_hash}, configuration {decision.config_version}, "
    lines.append(f"{origin}OmniRoute {decision.gateway_version}, seed {planned.seed:016x}.")
    if decision.is_reduced:
        lines.append("The record was too large to be kept whole: it cannot be replayed.")
    return "\n".join(lines) + "\n"


def _asked_lines(record: Record) -> Iterator[str]:
    features = record.decision.rounds[0].features
    how = "streamed" if features.is_stream else "answered whole"
    rows = [("model", f"{features.requested or '(none)'}, {features.client_format}, {how}")]
    output = "no maximum given for the answer"
    if features.max_output is not None:
        output = f"at most {_tokens(features.max_output)} of answer"
    # Where a name leads to one model, nobody needs to know how long the request is.
    size = f"about {_tokens(features.estimated_input)}" if features.estimated_input else "length not looked at"
    rows.append(("size", f"{size}, {output}"))
    if features.needs:
        rows.append(("needs", ", ".join(sorted(features.needs))))
    rows.append(("task", features.task.value + (f", effort {features.effort}" if features.effort else "")))
    if features.key_id:
        rows.append(("key", features.key_id))
    if features.session:
        kind = "named by the caller" if features.is_explicit_session else "derived from the conversation"
        rows.append(("session", f"{features.session}, {kind}"))
    if features.connection_id:
        rows.append(("bound to", f"connection {features.connection_id}"))
    if features.mode:
        rows.append(("mode", features.mode))
    if features.budget_nano is not None:
        strictness = "strict" if features.is_budget_strict else "soft"
        rows.append(("budget", f"{_usd(features.budget_nano)}, {strictness}"))
    return iter(_aligned(rows))


def _resolved_lines(record: Record) -> Iterator[str]:
    decision = record.decision
    yield from _aligned(
        [(hop.stage, f"{hop.given} → {hop.found}" if hop.found else f"{hop.given}: no") for hop in decision.trace]
    )
    ground = record.ground
    strategy = decision.rounds[0].outline.strategy
    if ground is None:
        yield f"The strategy was {strategy}."
        return
    block = ground.block
    named = f" of {block.name}" if block.name else ""
    steps = "one target" if len(block.steps) == 1 else f"{len(block.steps)} steps"
    yield f"The strategy{named} is {strategy}, over {steps}."
    chosen = {name: level for name, level in block.levels.items() if name in KEYS}
    if chosen:
        yield "Settings that are not the default:"
        values = settings_of(block)
        yield from _aligned([(f"  {name}", f"{values[name][0]} (from {level})") for name, level in chosen.items()])
    if decision.chain is not None:
        yield f"When these were exhausted, the fallback chain {decision.chain} took over."


def _possible_lines(record: Record) -> Iterator[str]:
    candidates = [one for one in candidates_of(record) if one.planned is not None]
    if not candidates:
        yield "Nothing."
        return
    rows = []
    for one in candidates[:_SHOWN_CANDIDATES]:
        assert one.planned is not None  # noqa: S101 - chosen above
        rows.append((str(one.number), one.option, one.account, _said_of(one, one.planned)))
    yield from _aligned(rows)
    more = len(candidates) - len(rows) + sum(planned.cut[0] for planned in record.decision.rounds)
    if more:
        yield f"And {more} more."


def _said_of(one: Candidate, planned: Round) -> str:
    parts = []
    score = next((score for target, score, _ in planned.outline.scores if target == one.option), None)
    if score is not None:
        parts.append(f"score {score:.3f}")
    view = Kept(planned.answers)
    figures, load = view.figures(one.option), view.load(one.account)
    if figures.total:
        parts.append(f"{figures.ok} of {figures.total} succeeded")
    if figures.ttft_p50 is not None:
        parts.append(f"first content after {figures.ttft_p50:.0f} ms")
    if load.in_flight:
        parts.append(f"{load.in_flight} in flight")
    return ", ".join(parts)


def _left_out_lines(record: Record) -> Iterator[str]:
    rounds = record.decision.rounds
    found = [(planned, exclusion) for planned in rounds for exclusion in planned.outline.exclusions]
    if not found:
        yield "Nothing."
        return
    rows = []
    for planned, (target, reason, connection, until, detail) in found[:_SHOWN_EXCLUSIONS]:
        rows.append((target, connection or "all connections", _reason(reason, detail) + _until(until, planned.now)))
    yield from _aligned(rows)
    more = len(found) - len(rows) + sum(planned.cut[1] for planned in rounds)
    if more:
        yield f"And {more} more."


def _reason(reason: str, detail: str | None) -> str:
    word, _, need = reason.partition(":")
    said = REASONS.get(word, word)
    if need:
        said = f"{said} ({need})"
    return f"{said} ({detail})" if detail else said


def _until(until: float | None, now: float) -> str:
    if until is None:
        return ""
    return f", until {_moment(until)} ({_ahead(until - now)})"


def _tried_lines(record: Record) -> Iterator[str]:
    decision = record.decision
    rows = []
    for number, one in enumerate(decision.attempts, 1):
        kind = "" if one.kind == "normal" else f"{one.kind}: "
        rows.append((str(number), one.option, one.account, kind + _said(one)))
    yield from _aligned(rows) if rows else iter(("Nobody.",))
    for reason, ms in decision.waits:
        yield f"Waited {_length(ms / 1000)} ({reason})."


def _said(one: Try) -> str:
    took = f"after {_length((one.ended_ms - one.started_ms) / 1000)}"
    if one.has_served:
        first = "" if one.content_ms is None else f", first content after {_length(_since(one) / 1000)}"
        return f"answered{'' if one.status is None else f' {one.status}'} {took}{first}"
    status = "" if one.status is None else f"{one.status} "
    code = f", code {one.code}" if one.code else ""
    hint = ""
    if one.retry_after_s is not None:
        hint = f", retry after {_length(one.retry_after_s)}"
        hint += f" (said by {one.hint_source})" if one.hint_source else ""
    changed = f"; health: {', '.join(one.intents)}" if one.intents else ""
    return f"{status}{one.failure_kind or 'failed'} ({one.failure_class}) {took}{code}{hint}{changed}"


def _since(one: Try) -> float:
    return (one.content_ms or one.started_ms) - one.started_ms


def _why_lines(record: Record) -> Iterator[str]:
    decision = record.decision
    served = next((one for one in decision.attempts if one.has_served), None)
    if served is None:
        yield from _why_none(record)
        return
    planned = decision.rounds[0]
    order = [(place.option, account) for place in planned.outline.places for account in place.accounts]
    failed = sum(1 for one in decision.attempts if not one.has_served)
    chosen = (served.option, served.account)
    if order and order[0] == chosen and not failed:
        yield f"{served.option} on {served.account} led the order: {_lead(planned, record.ground)}."
    elif decision.chain is not None and chosen not in order:
        yield f"{served.option} on {served.account} came from the fallback chain {decision.chain}."
    elif failed:
        attempts = "attempt" if failed == 1 else "attempts"
        yield f"{served.option} on {served.account} was the first to answer, after {failed} failed {attempts}."
    else:
        yield f"Those before {served.option} on {served.account} had no place free, or rested meanwhile."
    if decision.has_moved:
        yield f"The session, which stayed with {decision.bound}, stays with {served.account} from now on."
    elif decision.bound is not None:
        yield f"The session stays with {decision.bound}."
    for warning in (word for one in decision.rounds for word in one.outline.warnings):
        yield f"The caller was told: {warning}."


def _lead(planned: Round, ground: Ground | None) -> str:
    if planned.outline.is_sticky:
        return "the session stays with it"
    if ground is not None and len(ground.block.steps) == 1 and not ground.block.scope:
        others = len(planned.outline.places[0].accounts) - 1 if planned.outline.places else 0
        return "of the model's connections it comes first" if others else "it is the one that may serve this model"
    score = next((s for target, s, _ in planned.outline.scores if target == planned.outline.places[0].option), None)
    scored = "" if score is None else f", with a score of {score:.3f}"
    skipped = len({target for target, *_ in planned.outline.exclusions})
    passed = f", and {skipped} {'target was' if skipped == 1 else 'targets were'} left out" if skipped else ""
    return f"{planned.outline.strategy} puts it first{scored}{passed}"


def _why_none(record: Record) -> Iterator[str]:
    result = record.decision.result
    if result is not None and result.outcome == "cancelled":
        yield "The client left before anybody answered."
    elif not record.decision.attempts and not record.decision.rounds[0].outline.places:
        yield "Nobody answered: everything that might have was left out."
    else:
        yield "Nobody answered."
    if result is not None and result.error_code:
        yield f"The caller was told {result.status} {result.error_code}."


def _cost_lines(record: Record) -> Iterator[str]:
    result = record.decision.result
    if result is None:
        yield "Not known: the request was not settled."
        return
    if result.tokens_in is not None or result.tokens_out is not None:
        yield f"{_tokens(result.tokens_in)} in{_cached(result)}, {_tokens(result.tokens_out)} out."
    if result.cost_nano_usd is None:
        yield f"No price ({result.cost_kind})."
    else:
        yield f"{_usd(result.cost_nano_usd)} ({result.cost_kind})."
    hedged = sum(one.cost_nano_usd or 0 for one in record.decision.attempts if one.kind == "hedge")
    if hedged:
        yield f"{_usd(hedged)} of it went to a second leg that was started in parallel."
    yield f"Done after {_length(result.duration_ms / 1000)}."


def _cached(result: Result) -> str:
    return f" ({result.cache_read:,} from the cache)" if result.cache_read else ""


def _tokens(number: int | None) -> str:
    match number:
        case None:
            return "an unknown number of tokens"
        case 1:
            return "1 token"
        case _:
            return f"{number:,} tokens"


def _usd(nano: int) -> str:
    return f"${nano / NANO:.6f}"


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    table = list(rows)
    if not table:
        return []
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _moment(at: float) -> str:
    said = iso_time(at)
    return "an unknown time" if said is None else f"{said[:10]} {said[11:19]} UTC"


def _ahead(seconds: float) -> str:
    return f"{_length(seconds)} later" if seconds >= 0 else f"{_length(-seconds)} before"


def _length(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    if seconds < _DAY_S:
        return f"{seconds / _HOUR_S:.1f} h"
    return f"{seconds / _DAY_S:.1f} days"

"""Rests of connections and of models on them: how they begin, grow and end.

Theory. A rest has an end that a new failure can only move away, and a count of failures in a row that decides how long
the next one is. Ten requests that ran at once and hit the same limit are one failure: one that started before the rest
began (or before all workers could know of it) moves the end, but does not count. The count falls with success, and by
one for every two lengths of the last rest that pass. When a rest is over by time, one request at a time tries, until
one was served. Long rests whose end is a guess are tried early: at half time, and from then on every half hour.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from omniroute.routing import learned
from omniroute.routing.events import AttemptFailed, AttemptServed
from omniroute.routing.failures import Failure, FailureClass, is_weak
from omniroute.routing.families import family_named
from omniroute.routing.lengths import FORBIDDEN_IN_A_ROW, NO_CREDIT_S, Effect, Length, Streak, effect_of, length_of
from omniroute.routing.marks import (
    CONNECTION_DEAD,
    HealthRow,
    Key,
    Kind,
    Notice,
    State,
    cleared,
    family_scope,
    model_scope,
    row_at,
)
from omniroute.routing.resilience import ResilienceSettings
from omniroute.routing.standing import lockout_keys, rest_keys, steps_left

_SEEN_BY_ALL_S: Final = 1.0
"""How long other workers may go on before they know of a rest."""
_LONG_S: Final = 600.0
_EARLY_SHARE: Final = 0.5
_EARLY_EVERY_S: Final = 1800.0
_EARLY_CLASSES: Final = frozenset({FailureClass.QUOTA, FailureClass.RATE_LIMIT, FailureClass.TRANSIENT})
"""What a model is, or a plan has, is no guess: those rests are not tried early."""
_MAX_STEPS: Final = 20
_MAX_MESSAGE: Final = 300


@dataclass(frozen=True, slots=True)
class Moment:
    """What the rules need beside rows and event; `now` is epoch seconds."""

    settings: ResilienceSettings
    now: float
    rng: random.Random


# --- whom it may concern ---------------------------------------------------------------------------------------------


def keys_of_failure(event: AttemptFailed) -> tuple[Key, ...]:
    """Return the rows that a failure may change."""
    cooldown, dead = rest_keys(event.account)
    match _effect(event):
        case Effect.NONE:
            return ()
        case Effect.LOCKOUT:
            return (_locked(event),)
        case Effect.DEAD:
            return (dead,)
        case Effect.FORBIDDEN:
            return (cooldown, dead)
        case Effect.COOLDOWN:
            return (cooldown, learned.learned_key(event.account.id)) if _teaches(event) else (cooldown,)


def keys_of_success(event: AttemptServed) -> tuple[Key, ...]:
    """Return the rows that a success may change."""
    keys = (*rest_keys(event.account), *lockout_keys(event.account.id, event.model))
    return keys if event.paused_until is None else (*keys, learned.learned_key(event.account.id))


def _effect(event: AttemptFailed) -> Effect:
    effect = effect_of(event.failure)
    return Effect.LOCKOUT if effect is Effect.COOLDOWN and _family(event) is not None else effect


def _family(event: AttemptFailed) -> str | None:
    failure = event.failure
    if failure.failure_class is not FailureClass.QUOTA or failure.window is None:
        return None
    return family_named(failure.window, event.model)


def _locked(event: AttemptFailed) -> Key:
    family = _family(event)
    if family is not None:
        return family_scope(event.account.id, family), Kind.LOCKOUT
    return model_scope(event.account.id, event.model), Kind.LOCKOUT


def _teaches(event: AttemptFailed) -> bool:
    return event.failure.kind == "concurrency" and event.in_flight > 0


# --- failures --------------------------------------------------------------------------------------------------------


def failed(before: Mapping[Key, HealthRow], event: AttemptFailed, at: Moment) -> tuple[list[HealthRow], list[Notice]]:
    """Return the rows that a failed attempt changes."""
    cooldown, dead = rest_keys(event.account)
    match _effect(event):
        case Effect.NONE:
            return [], []
        case Effect.LOCKOUT:
            key = _locked(event)
            return _rested(key, before.get(key), event, at), []
        case Effect.DEAD:
            return _died(dead, before.get(dead), event, at.now)
        case Effect.FORBIDDEN:
            rows = _rested(cooldown, before.get(cooldown), event, at)
            if not rows or rows[0].number("run") < FORBIDDEN_IN_A_ROW:
                return rows, []
            marks, notices = _died(dead, before.get(dead), event, at.now)
            return [*rows, *marks], notices
        case Effect.COOLDOWN:
            rows = _rested(cooldown, before.get(cooldown), event, at)
            if _teaches(event) and at.settings.queue.learns_limits:
                known = before.get(learned.learned_key(event.account.id))
                rows += learned.refused_at(known, event.account, event.in_flight, at.now)
            return rows, []


def _rested(key: Key, old: HealthRow | None, event: AttemptFailed, at: Moment) -> list[HealthRow]:
    now, failure = at.now, event.failure
    is_new = _is_new(old, event)
    streak = _streak(old, failure.kind, now, is_new=is_new)
    length = length_of(failure, event.account.auth, streak, at.settings, at.rng)
    until = None if length.seconds is None else now + length.seconds
    running = old if old is not None and _is_in_force(old, now) else None
    if running is not None and not _is_later(until, running.until):
        return _moved_on(running, now) if is_new else []
    step, since = min(streak.steps + 1, _most_steps(key, event, at.settings)), now
    if old is not None and not is_new:
        step, since = old.step, old.number("since", now)
    data = {**_facts(event), "since": since, "run": streak.run}
    if until is not None:
        data["length_s"] = until - since
        probe_at = _probe_at(running, failure, length, now)
        if probe_at is not None and probe_at < until:
            data["probe_at"] = probe_at
    if length.source is not None:
        data["source"] = length.source
    base, state = row_at(key, old, now), State.RESTING
    return [replace(base, state=state, step=step, until=until, reason=failure.kind, data=data, updated_at=now)]


def _is_new(old: HealthRow | None, event: AttemptFailed) -> bool:
    """Say whether a failure is a new one in the row, rather than the same one met by another request."""
    if old is None or old.state is not State.RESTING:
        return True
    known_at = old.number("since") + _SEEN_BY_ALL_S
    return event.started_at >= (known_at if old.until is None else min(known_at, old.until))


def _streak(old: HealthRow | None, kind: str, now: float, *, is_new: bool) -> Streak:
    if old is None or old.is_clear:
        return Streak()
    run = int(old.number("run")) if old.reason == kind else 0
    if is_new:
        return Streak(steps_left(old, now), run + 1)
    return Streak(max(0, old.step - 1), max(1, run))


def _is_in_force(row: HealthRow, now: float) -> bool:
    return row.state is State.RESTING and (row.until is None or now < row.until)


def _is_later(new: float | None, old: float | None) -> bool:
    return old is not None and (new is None or new > old)


def _most_steps(key: Key, event: AttemptFailed, settings: ResilienceSettings) -> int:
    if key[1] is not Kind.COOLDOWN:
        return _MAX_STEPS
    return max(1, settings.cooldown.of(event.account.auth).max_steps)


def _moved_on(running: HealthRow, now: float) -> list[HealthRow]:
    """Return a rest whose end stays, with its next early try moved on if this failure was one."""
    probe_at = running.number("probe_at", now + 1)
    if now < probe_at:
        return []
    return [replace(running, data={**running.data, "probe_at": now + _EARLY_EVERY_S}, updated_at=now)]


def _probe_at(running: HealthRow | None, failure: Failure, length: Length, now: float) -> float | None:
    """Return when a long rest, whose end is a guess, is next worth a look."""
    if length.seconds is None or length.seconds <= _LONG_S or not is_weak(length.source):
        return None
    if failure.failure_class not in _EARLY_CLASSES:
        return None
    if running is not None and "probe_at" in running.data:
        planned = running.number("probe_at")
        return planned if now < planned else now + _EARLY_EVERY_S
    return now + length.seconds * _EARLY_SHARE


def _died(key: Key, old: HealthRow | None, event: AttemptFailed, now: float) -> tuple[list[HealthRow], list[Notice]]:
    """Mark a connection as dead: without credit for an hour at a time, otherwise until somebody does something."""
    failure = event.failure
    until = now + NO_CREDIT_S if failure.kind == "no_credit" else None
    marked = old if old is not None and old.state is State.RESTING else None
    is_early = until is not None and marked is not None and event.started_at < (marked.until or now)
    if marked is not None and (marked.until is None or is_early):
        return [], []  # known already
    is_same = marked is not None and marked.reason == failure.kind
    base = row_at(key, old, now)
    row = replace(
        base,
        state=State.RESTING,
        step=min(base.step + 1, _MAX_STEPS) if is_same else 1,
        until=until,
        reason=failure.kind,
        data={**_facts(event), "since": base.number("since", now) if is_same else now},
        updated_at=now,
    )
    return [row], [] if is_same else [_death(event)]


def _death(event: AttemptFailed) -> Notice:
    told = {
        "provider": event.account.provider,
        "connectionId": event.account.id,
        "reason": event.failure.kind,
        "status": event.failure.status,
        "message": event.failure.message[:_MAX_MESSAGE],
        "link": event.failure.link,
    }
    return Notice(CONNECTION_DEAD, {name: value for name, value in told.items() if value not in {None, ""}})


def _facts(event: AttemptFailed) -> dict[str, Any]:
    """Return what people are told about a rest."""
    failure = event.failure
    facts = {
        "connection": event.account.id,
        "provider": event.account.provider,
        "model": event.model,
        "class": failure.failure_class.value,
        "status": failure.status,
        "code": failure.provider_code,
        "message": failure.message[:_MAX_MESSAGE],
        "window": failure.window,
        "link": failure.link,
    }
    return {name: value for name, value in facts.items() if value not in {None, ""}}


# --- successes -------------------------------------------------------------------------------------------------------


def served(
    before: Mapping[Key, HealthRow], event: AttemptServed, settings: ResilienceSettings, now: float
) -> list[HealthRow]:
    """Return the rows that a served attempt changes."""
    rows = []
    if before:
        for key in (*rest_keys(event.account), *lockout_keys(event.account.id, event.model)):
            old = before.get(key)
            if old is None or old.is_clear or event.started_at < old.number("since"):
                continue
            rows.append(_halved(old, now) if key[1] is Kind.LOCKOUT else cleared(old, now))
    if event.paused_until is not None and settings.queue.learns_limits:
        known = before.get(learned.learned_key(event.account.id))
        rows += learned.paused(known, event.account, event.paused_until, now)
    return rows


def _halved(old: HealthRow, now: float) -> HealthRow:
    """Return a lockout that is over, with half of its count."""
    step = old.step // 2
    return replace(old, state=State.SERVED, step=step, until=None, updated_at=now) if step else cleared(old, now)

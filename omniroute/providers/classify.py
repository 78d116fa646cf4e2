"""What a provider's refusal means: one table from its status, codes and sentence to a failure class.

The same table reads error statuses, error objects inside a 200, and error events of a stream. Body codes beat body
text, and text beats the status; within each of these the first matching row counts. Text patterns look at error fields
only, never at what a model wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from omniroute.formats.wire import WireFormat
from omniroute.providers.context_numbers import ContextNumbers, context_numbers
from omniroute.providers.error_body import Said, link_in, named_in, read_error, showable
from omniroute.providers.failure_table import DIALECT_ROWS, LIMITS, ROWS, STATUS_OF_TYPE, Row, words
from omniroute.providers.hints import Hint, Hints, Refusal, retry_hint
from omniroute.providers.spent import Window, is_models_rate, spent_window
from omniroute.routing.failures import Failure, FailureClass, Scope

_NAMES_PARAM: Final = frozenset({"unsupported_param", "invalid_request"})
"""Kinds whose sentence may name a parameter."""
_MAX_CODE: Final = 100
_HOUR_S: Final = 3600.0
_DAY_S: Final = 86_400.0


def classify(
    wire_format: WireFormat,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    banned_signals: Sequence[str] = (),
) -> Failure:
    """Return what an answer that did not serve means.

    Args:
        wire_format: the dialect that the provider was spoken to in.
        status: its HTTP status; 200 for an error object or event inside a successful answer.
        headers: names in lower case.
        body: the answer, or the data of the error event.
        now: epoch seconds.
        banned_signals: parts of sentences that mean to this operator that the account is blocked.
    """
    said = read_error(body, headers.get("x-amzn-errortype", ""))
    meant = status if status >= 300 else _inner_status(said) or status
    row = _row_for(wire_format, status, headers, said) or _UNKNOWN
    if _is_banned(row, said, banned_signals):
        row = _BLOCKED
    every = {**headers, **said.headers}
    window = _window(row, every, said)
    found = _hints(row, every, said, now)
    numbers = context_numbers(said.message, said.error) if row.kind == "context_length" else ContextNumbers()
    return Failure(
        kind=row.kind,
        failure_class=row.failure_class,
        retry_after_s=found.hint.seconds if found.hint is not None else row.wait_s,
        hint_source=found.hint.source if found.hint is not None else None,
        status=status,
        provider_code=said.code[:_MAX_CODE] if said.code else None,
        message=showable(said.message),
        param=said.param or (named_in(said.message) if row.kind in _NAMES_PARAM else None),
        used=numbers.used,
        limit=numbers.limit,
        output=numbers.output,
        scope=_scope(row, meant, window, said),
        window=window.name,
        link=link_in(said.error) if row.kind == "account_blocked" else None,
        ignored_hints=found.ignored,
    )


def _is_banned(row: Row, said: Said, signals: Sequence[str]) -> bool:
    if row.failure_class is FailureClass.CALLER_FAULT or not said.message:
        return False  # the caller's words may stand in those sentences
    message = said.message.lower()
    return any(signal.strip() and signal.strip().lower() in message for signal in signals)


def _window(row: Row, headers: Mapping[str, str], said: Said) -> Window:
    if row.kind != "quota":
        return Window()
    return spent_window(headers, said.error, said.message)


def _scope(row: Row, status: int, window: Window, said: Said) -> Scope:
    """Return how far a failure reaches: a limit or a lack of capacity may be one of the model alone."""
    match row.kind:
        case "quota":
            is_of_model = window.is_of_model
        case "rate":
            is_of_model = is_models_rate(said.error, said.message)
        case "overloaded":
            is_of_model = status == 429 or not _CAPACITY.isdisjoint(said.codes)
        case _:
            return row.scope
    return Scope.MODEL if is_of_model else row.scope


_CAPACITY: Final = words(
    "model_capacity_exhausted insufficient_model_capacity engine_overloaded_error engine_overloaded"
)
"""What is said of one model, whatever the status."""


def _row_for(wire_format: WireFormat, status: int, headers: Mapping[str, str], said: Said) -> Row | None:
    outer = status
    if status < 300:
        if not said.is_readable or said.is_html:
            return _PROTOCOL
        status = _inner_status(said) or status
    elif said.is_html and status >= 500:
        return _GATEWAY
    if status in LIMITS and headers.get("anthropic-ratelimit-unified-status") == "rejected":
        return _QUOTA_ROW
    if status == 429 and _names_daily_quota(said):
        return _QUOTA_ROW
    if status in {400, 403} and _is_disabled_by_policy(said):
        return _ENTITLEMENT
    if status == 503 and "estimated_time" in said.error and not said.codes:
        return _WARMING
    for rows in (_DIALECT_ROWS_OF[wire_format], ROWS):
        row = _first_by_code(rows, {status, outer}, said) or _first_by_text(rows, status, said)
        if row is not None:
            return row
    return next((row for row in ROWS if status in row.statuses), None)


def _first_by_text(rows: Sequence[Row], status: int, said: Said) -> Row | None:
    if not said.message:
        return None
    for row in rows:
        is_looked_at = status in row.text_at or status < 300  # inside a 200 nothing but the sentence may say what it is
        if row.text is not None and is_looked_at and row.text.search(said.message):
            return row
    return None


def _first_by_code(rows: Sequence[Row], statuses: set[int], said: Said) -> Row | None:
    # The most specific code decides, so that "insufficient_quota" is not read as its type "rate_limit_error".
    for code in said.codes:
        for row in rows:
            if code in row.codes and (not row.codes_at or not statuses.isdisjoint(row.codes_at)):
                return row
    return None


_DIALECT_ROWS_OF: Final = {
    wire_format: tuple(row for row in DIALECT_ROWS if wire_format in row.formats) for wire_format in WireFormat
}
_UNKNOWN: Final = Row("unknown", FailureClass.UNKNOWN)
_PROTOCOL: Final = Row("protocol", FailureClass.TRANSIENT)
_BLOCKED: Final = Row("account_blocked", FailureClass.CREDENTIAL)
_ENTITLEMENT: Final = next(row for row in ROWS if row.kind == "entitlement")
_GATEWAY: Final = next(row for row in ROWS if row.kind == "gateway")
_QUOTA_ROW: Final = Row("quota", FailureClass.QUOTA)
_WARMING: Final = next(row for row in ROWS if row.kind == "warming")


def _inner_status(said: Said) -> int | None:
    for code in said.codes:
        if code in STATUS_OF_TYPE:
            return STATUS_OF_TYPE[code]
        if len(code) == 3 and code.isascii() and code.isdigit() and "400" <= code <= "599":
            return int(code)
    return None


def _is_disabled_by_policy(said: Said) -> bool:
    policy = said.error.get("policy")
    return isinstance(policy, dict) and policy.get("state") == "disabled"


def _names_daily_quota(said: Said) -> bool:
    details = said.error.get("details")
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        metadata = detail.get("metadata")
        if isinstance(metadata, dict) and "PerDay" in str(metadata.get("quota_limit", "")):
            return True
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId", "")):
                return True
    return False


# A wait is worth knowing where it can end the failure, and is bounded by what that kind of limit can mean.
_CLAMPS: Final = {
    FailureClass.RATE_LIMIT: (1.0, _DAY_S),
    FailureClass.QUOTA: (10.0, 32 * _DAY_S),
    FailureClass.TRANSIENT: (0.001, _HOUR_S),
}
_MAX_WARMING_S: Final = 120.0


def _hints(row: Row, headers: Mapping[str, str], said: Said, now: float) -> Hints:
    bounds = _CLAMPS.get(row.failure_class)
    if bounds is None:
        return Hints()
    refusal = Refusal(
        headers,
        said.error,
        said.message,
        said.codes,
        is_limit=row.failure_class in (FailureClass.RATE_LIMIT, FailureClass.QUOTA),
        is_per_day=row.kind == "quota" and _names_daily_quota(said),
    )
    found = retry_hint(refusal, now=now)
    if found.hint is None:
        return found
    shortest, longest = (bounds[0], _MAX_WARMING_S) if row.kind == "warming" else bounds
    return Hints(Hint(min(max(found.hint.seconds, shortest), longest), found.hint.source), found.ignored)

"""`/api/usage/budget` and `/api/usage/token-limits`: what callers may spend and use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NotRequired, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import Query, RemovedDocument, operation
from omniroute.blueprints.management.bodies import Fields, answer, flag, integer, iso_time, number, read_object, text
from omniroute.blueprints.management.origin import origin
from omniroute.blueprints.management.usage import query_choice
from omniroute.container import container
from omniroute.errors import InvalidRequest, MissingField, ValidationFailed
from omniroute.money.periods import Period
from omniroute.money.tariff import NANO
from omniroute.services.budgets import MOST_USD, BudgetDocument, BudgetState, document
from omniroute.services.token_limits import MOST_TOKENS, LimitState, TokenLimitDocument
from omniroute.services.token_limits import document as limit_document

blueprint = Blueprint("management_budgets", __name__)

_PERIODS: Final = tuple(Period)
_SCOPE_TYPES: Final = ("global", "provider", "model")
_FLAT: Final = {"dailyLimitUsd": "daily", "weeklyLimitUsd": "weekly", "monthlyLimitUsd": "monthly"}
_BUDGET: Final = Fields(
    text("keyId", alias="apiKeyId", required=True, max_length=100),
    number("limit", alias="limitUsd", minimum=0, maximum=MOST_USD, nullable=True),
    text("period", alias="resetInterval", choices=_PERIODS),
    *(number(name, minimum=0, maximum=MOST_USD, nullable=True) for name in _FLAT),
    number("warningThreshold", minimum=0, maximum=1),
    text("resetTime", max_length=5),
    text("timeZone", max_length=100),
    text("currency", choices=("USD",)),
)
_LIMIT: Final = Fields(
    text("id", max_length=100),
    text("keyId", alias="apiKeyId", max_length=100),
    text("scopeType", choices=_SCOPE_TYPES),
    text("scopeValue", max_length=300, nullable=True),
    integer("tokenLimit", minimum=0, maximum=MOST_TOKENS),
    text("period", alias="resetInterval", choices=_PERIODS),
    flag("enabled"),
)


_KEY_QUERY: Final = (
    Query("keyId", "Only those of this key; `*` names all callers together, `local` those without a key."),
    Query("apiKeyId", "Another name of `keyId`."),
)


_SUBJECT_QUERY: Final = (
    Query("scopeType", "Only those that count tokens of this kind of thing.", choices=_SCOPE_TYPES),
    Query("scopeValue", "Which provider or model that is; needed with `scopeType` `provider` and `model`."),
    Query("period", "Only those of this period.", choices=_PERIODS),
)


class FlatBudgetsDocument(TypedDict):
    """The limits of one key by period, and what it has spent."""

    dailyLimitUsd: float | None
    weeklyLimitUsd: float | None
    monthlyLimitUsd: float | None
    totalCostToday: float
    totalCostMonth: float


class BudgetsDocument(TypedDict):
    """Budgets; asked about one `keyId` with that, and about one `apiKeyId` with its limits once more by period."""

    budgets: list[BudgetDocument]
    keyId: NotRequired[str]
    dailyLimitUsd: NotRequired[float | None]
    weeklyLimitUsd: NotRequired[float | None]
    monthlyLimitUsd: NotRequired[float | None]
    totalCostToday: NotRequired[float]
    totalCostMonth: NotRequired[float]


class ChangedBudgetsDocument(TypedDict):
    """All budgets of the key as they are now."""

    success: bool
    keyId: str
    budgets: list[BudgetDocument]


class RemovedBudgetsDocument(TypedDict):
    """How many budgets were removed."""

    success: bool
    removed: int


class TokenLimitsDocument(TypedDict):
    """Token limits."""

    limits: list[TokenLimitDocument]


class ChangedTokenLimitDocument(TypedDict):
    """The token limit as it is now."""

    success: bool
    limit: TokenLimitDocument


@blueprint.get("/api/usage/budget")
@operation(BudgetsDocument, query=_KEY_QUERY, refusals=(404,))
def budgets() -> Response:
    """List budgets, those of one key if it is named."""
    key_id, is_flat = _key_asked(), "apiKeyId" in request.args
    found = container().budgets.all(key_id)
    said: BudgetsDocument = {"budgets": shown(found)}
    if key_id is not None:
        said["keyId"] = key_id
        if is_flat:
            return answer({**said, **_flat(key_id, found)})
    return answer(said)


@blueprint.post("/api/usage/budget")
@operation(ChangedBudgetsDocument, body=_BUDGET, refusals=(404,))
def set_budget() -> Response:
    """Set one budget, or those of several periods at once."""
    given = _BUDGET.check(read_object(request))
    limits = _limits(given)
    key_id = given["keyId"]
    service = container().budgets
    service.set(key_id, limits, given, origin())
    return answer(ChangedBudgetsDocument(success=True, keyId=key_id, budgets=shown(service.all(key_id))))


@blueprint.delete("/api/usage/budget")
@operation(
    RemovedBudgetsDocument,
    query=(*_KEY_QUERY, Query("period", "Only the budget of this period.", choices=_PERIODS)),
    refusals=(404,),
)
def remove_budget() -> Response:
    """Remove the budget of a key for a period, or all of its budgets."""
    key_id = request.args.get("keyId") or request.args.get("apiKeyId")
    period = request.args.get("period")
    if not key_id:
        raise MissingField("The query parameter 'keyId' is required.", param="keyId")
    if period is not None and period not in _PERIODS:
        raise InvalidRequest(f"'period' must be one of {', '.join(_PERIODS)}.", param="period")
    removed = container().budgets.remove(key_id, period, origin())
    return answer(RemovedBudgetsDocument(success=True, removed=removed))


@blueprint.get("/api/usage/token-limits")
@operation(TokenLimitsDocument, query=(*_KEY_QUERY, *_SUBJECT_QUERY), refusals=(404,))
def token_limits() -> Response:
    """List token limits, those of one key if it is named."""
    service = container().token_limits
    found, period, scope_type = service.all(_key_asked()), query_choice("period", _PERIODS), _scope_type()
    if period is not None:
        found = [one for one in found if one.limit.period == period]
    if scope_type is not None:
        subject = scope_type, service.scope_value(scope_type, request.args.get("scopeValue") or None)
        found = [one for one in found if (one.limit.scope_type, one.limit.scope_value) == subject]
    return answer(TokenLimitsDocument(limits=limits_shown(found)))


@blueprint.post("/api/usage/token-limits")
@operation(ChangedTokenLimitDocument, body=_LIMIT, refusals=(404, 409))
def set_token_limit() -> Response:
    """Store a token limit, or change the one with the given id."""
    made = container().token_limits.set(_LIMIT.check(read_object(request)), origin())
    return answer(ChangedTokenLimitDocument(success=True, limit=limit_document(made, iso_time)))


@blueprint.delete("/api/usage/token-limits")
@operation(RemovedDocument, query=(Query("id", "Id of the limit.", is_required=True),), refusals=(404,))
def remove_token_limit() -> Response:
    """Remove a token limit."""
    limit_id = request.args.get("id")
    if not limit_id:
        raise MissingField("The query parameter 'id' is required.", param="id")
    container().token_limits.remove(limit_id, origin())
    return answer(RemovedDocument(success=True, id=limit_id))


def shown(states: Iterable[BudgetState]) -> list[BudgetDocument]:
    """Return budgets as answers show them."""
    return [document(one, iso_time) for one in states]


def limits_shown(states: Iterable[LimitState]) -> list[TokenLimitDocument]:
    """Return token limits as answers show them."""
    return [limit_document(one, iso_time) for one in states]


def _key_asked() -> str | None:
    """Return the key, or who else it is, that the query asks about.

    Raises:
        NotFound: there is no such key.
    """
    key_id = request.args.get("keyId") or request.args.get("apiKeyId") or None
    if key_id is not None:
        container().budgets.check(key_id)
    return key_id


def _scope_type() -> str | None:
    """Return which limits the query asks about; a value without its kind is refused, not overlooked."""
    scope_type = query_choice("scopeType", _SCOPE_TYPES)
    if scope_type is None and request.args.get("scopeValue"):
        raise MissingField("The query parameter 'scopeType' is required with 'scopeValue'.", param="scopeType")
    return scope_type


def _limits(given: Mapping[str, Any]) -> dict[str, float | None]:
    """Return limits by period, which a body gives as `limit` and `period`, or by the names of several periods."""
    limits = {period: given[name] for name, period in _FLAT.items() if name in given}
    period = given.get("period")
    if "limit" in given:
        if period is None:
            raise ValidationFailed([{"field": "period", "message": f"must be one of {', '.join(_PERIODS)}"}])
        if limits.get(period, given["limit"]) != given["limit"]:
            raise ValidationFailed([{"field": "limit", "message": "given twice with different values"}])
        limits[period] = given["limit"]
    if not limits or (period is not None and period not in limits):
        raise MissingField("The field 'limit' is required.", param="limit")
    return limits


def _flat(key_id: str, found: list[BudgetState]) -> FlatBudgetsDocument:
    limits = {one.budget.period: one.budget.limit_nano_usd / NANO for one in found}
    today, month = container().budgets.spent_of(key_id)
    return {
        "dailyLimitUsd": limits.get("daily"),
        "weeklyLimitUsd": limits.get("weekly"),
        "monthlyLimitUsd": limits.get("monthly"),
        "totalCostToday": today / NANO,
        "totalCostMonth": month / NANO,
    }

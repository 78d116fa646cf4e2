"""`/api/usage/budget` and `/api/usage/token-limits`: what callers may spend and use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from flask import Blueprint, Response, request

from omniroute.blueprints.management.bodies import Fields, answer, flag, integer, iso_time, number, read_object, text
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import InvalidRequest, MissingField, ValidationFailed
from omniroute.money.periods import Period
from omniroute.money.tariff import NANO
from omniroute.services.budgets import MOST_USD, BudgetState, document
from omniroute.services.token_limits import MOST_TOKENS, LimitState
from omniroute.services.token_limits import document as limit_document

blueprint = Blueprint("management_budgets", __name__)

_PERIODS: Final = tuple(Period)
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
    text("scopeType", choices=("global", "provider", "model")),
    text("scopeValue", max_length=300, nullable=True),
    integer("tokenLimit", minimum=0, maximum=MOST_TOKENS),
    text("period", alias="resetInterval", choices=_PERIODS),
    flag("enabled"),
)


@blueprint.get("/api/usage/budget")
def budgets() -> Response:
    """List budgets, those of one key if it is named."""
    key_id, is_flat = _key_asked(), "apiKeyId" in request.args
    found = container().budgets.all(key_id)
    said: dict[str, Any] = {"budgets": shown(found)}
    if key_id is not None:
        said["keyId"] = key_id
        if is_flat:
            said |= _flat(key_id, found)
    return answer(said)


@blueprint.post("/api/usage/budget")
def set_budget() -> Response:
    """Set one budget, or those of several periods at once."""
    given = _BUDGET.check(read_object(request))
    limits = _limits(given)
    key_id = given["keyId"]
    service = container().budgets
    service.set(key_id, limits, given, origin())
    return answer({"success": True, "keyId": key_id, "budgets": shown(service.all(key_id))})


@blueprint.delete("/api/usage/budget")
def remove_budget() -> Response:
    """Remove the budget of a key for a period, or all of its budgets."""
    key_id = request.args.get("keyId") or request.args.get("apiKeyId")
    period = request.args.get("period")
    if not key_id:
        raise MissingField("The query parameter 'keyId' is required.", param="keyId")
    if period is not None and period not in _PERIODS:
        raise InvalidRequest(f"'period' must be one of {', '.join(_PERIODS)}.", param="period")
    return answer({"success": True, "removed": container().budgets.remove(key_id, period, origin())})


@blueprint.get("/api/usage/token-limits")
def token_limits() -> Response:
    """List token limits, those of one key if it is named."""
    key_id = _key_asked()
    return answer({"limits": limits_shown(container().token_limits.all(key_id))})


@blueprint.post("/api/usage/token-limits")
def set_token_limit() -> Response:
    """Store a token limit, or change the one with the given id."""
    made = container().token_limits.set(_LIMIT.check(read_object(request)), origin())
    return answer({"success": True, "limit": limit_document(made, iso_time)})


@blueprint.delete("/api/usage/token-limits")
def remove_token_limit() -> Response:
    """Remove a token limit."""
    limit_id = request.args.get("id")
    if not limit_id:
        raise MissingField("The query parameter 'id' is required.", param="id")
    container().token_limits.remove(limit_id, origin())
    return answer({"success": True, "id": limit_id})


def shown(states: Iterable[BudgetState]) -> list[dict[str, Any]]:
    """Return budgets as answers show them."""
    return [document(one, iso_time) for one in states]


def limits_shown(states: Iterable[LimitState]) -> list[dict[str, Any]]:
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


def _flat(key_id: str, found: list[BudgetState]) -> dict[str, Any]:
    limits = {one.budget.period: one.budget.limit_nano_usd / NANO for one in found}
    today, month = container().budgets.spent_of(key_id)
    return {
        **{name: limits.get(period) for name, period in _FLAT.items()},
        "totalCostToday": today / NANO,
        "totalCostMonth": month / NANO,
    }

"""`/api/pricing`: what models cost, what the operator sets, and what is imported from lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NotRequired, TypedDict, cast

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import PAGING, SEARCH, Body, ListDocument, Query, Time, operation, sorting
from omniroute.blueprints.management.bodies import (
    Field,
    Fields,
    Invalid,
    Order,
    Page,
    answer,
    flag,
    integer,
    iso_time,
    listing,
    objects,
    query_flag,
    read_object,
    text,
)
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.money.book import TOKEN_PRICES, compiled
from omniroute.money.price_text import UNITS, per_unit, price_text
from omniroute.records import PriceRow, PriceStep
from omniroute.services.price_sync import Imported, Source
from omniroute.services.prices import MOST_CHANGES, Change, Unpriced

blueprint = Blueprint("management_pricing", __name__)

_NAMES: Final[Mapping[str, str]] = {
    "input": "input",
    "output": "output",
    "cached": "cache_read",
    "cacheWrite": "cache_write",
    "cacheWrite1h": "cache_write_1h",
    "reasoning": "reasoning",
    "audioInput": "audio_input",
    "audioOutput": "audio_output",
    "perCharacter": "per_character",
    "perRequest": "per_request",
    "perImage": "per_image",
    "perSecond": "per_second",
}
"""The names of the API, and those of the rows."""
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("prompt",),
    "output": ("completion",),
    "cached": ("cacheRead", "cache_read"),
    "cacheWrite": ("cache_creation", "cacheCreation", "cache_write"),
    "cacheWrite1h": ("cache_write_1h",),
    "audioInput": ("audio_input",),
    "audioOutput": ("audio_output",),
    "perCharacter": ("per_character",),
    "perRequest": ("per_request",),
    "perImage": ("per_image",),
    "perSecond": ("per_second",),
}
_ALWAYS: Final = ("input", "output", "cached", "cacheWrite", "reasoning")
_STEP: Final = ("input", "output", "cached", "cacheWrite")
_PER_MANY: Final = frozenset({*TOKEN_PRICES, "per_character"})
"""What the unit is about; the others are for one."""
_MOST_STEPS: Final = 10
_MOST_TOKENS: Final = 100_000_000
_MODEL: Final = 240
_USD: Final = "USD"
_RESERVED: Final = ("unit", "currency")
_MODEL_NAME: Final = text("model", max_length=_MODEL)
_SYNC: Final = Fields(flag("dryRun", alias="dry_run"), text("source", choices=Source))
_ORDER: Final[Order[PriceRow]] = Order(
    searched=lambda row: (f"{row.provider}/{row.model}",),
    fields={
        "provider": lambda row: row.provider,
        "model": lambda row: row.model,
        "source": lambda row: row.source,
        "updatedAt": lambda row: row.updated_at or None,
    },
)


_UNIT: Final = Query("unit", "So many tokens or characters are priced; 1M unless given.", choices=tuple(UNITS))
_WHICH: Final = (
    Query("provider", "Only models of this provider."),
    Query("model", "Only this model."),
)
_LISTING: Final = (
    *PAGING,
    *SEARCH,
    sorting(*_ORDER.fields),
    _UNIT,
    *_WHICH,
    Query("source", "Only prices from there.", choices=("override", "provider", "import", "builtin")),
)


class PriceStepDocument(TypedDict):
    """Prices once a prompt has more than `above` tokens: they hold for all of it."""

    above: int
    input: float | None
    output: float | None
    cached: float | None
    cacheWrite: float | None


class PriceFiguresDocument(TypedDict):
    """Prices in USD per `unit` of tokens or characters, or for one request, image or second."""

    input: float | None
    output: float | None
    cached: float | None
    cacheWrite: float | None
    reasoning: float | None
    cacheWrite1h: NotRequired[float | None]
    audioInput: NotRequired[float | None]
    audioOutput: NotRequired[float | None]
    perCharacter: NotRequired[float | None]
    perRequest: NotRequired[float | None]
    perImage: NotRequired[float | None]
    perSecond: NotRequired[float | None]


class PriceDocument(PriceFiguresDocument):
    """What a model costs.

    A model that was used and has no price is listed with the number of its requests, where that is asked for.
    """

    provider: str
    model: str
    tiers: NotRequired[list[PriceStepDocument]]
    unit: NotRequired[str]
    currency: NotRequired[str]
    source: str | None
    priceId: NotRequired[str]
    note: NotRequired[str]
    validFrom: NotRequired[Time | None]
    updatedAt: NotRequired[Time | None]
    requests: NotRequired[int]


class PricesDocument(ListDocument):
    """A page of prices."""

    prices: list[PriceDocument]


class ChangedPricesDocument(TypedDict):
    """The prices about which something changed."""

    prices: list[PriceDocument]
    changed: int


class DroppedPricesDocument(TypedDict):
    """How many prices of the operator were dropped."""

    success: bool
    deleted: int


class PriceImportErrorDocument(TypedDict):
    """Why the last import failed."""

    message: str
    at: Time | None
    code: NotRequired[str]


class PriceImportStateDocument(TypedDict):
    """How the last import went, and when the next one comes."""

    enabled: bool
    url: str | None
    intervalSeconds: float
    imported: int
    source: str | None
    version: str | None
    at: Time | None
    changed: int | None
    error: PriceImportErrorDocument | None


class PriceImportDocument(TypedDict):
    """What an import changed, or would change."""

    changed: list[PriceDocument]
    imported: int
    source: str
    version: str
    at: Time
    dryRun: bool


@blueprint.get("/api/pricing")
@operation(
    PricesDocument,
    query=(*_LISTING, Query("unpriced", "The models that were used and have no price.", "boolean")),
)
def index() -> Response:
    """List the prices in force; with `unpriced` the models that were used and have none."""
    page, unit = Page.read(request), _unit(request.args.get("unit"))
    if query_flag(request, "unpriced"):
        unpriced = container().prices.unpriced()
        _refuse_unknown_provider(unpriced)
        searched = request.args.get("q", "").casefold()
        is_wanted = _wanted()
        missing = [row for row in unpriced if is_wanted(row) and searched in f"{row.provider}/{row.model}".casefold()]
        return listing("prices", [_shown_unpriced(row) for row in page.cut(missing)], total=len(missing), page=page)
    return _listed(container().prices.all(), page, unit)


@blueprint.get("/api/pricing/defaults")
@operation(PricesDocument, query=_LISTING)
def defaults() -> Response:
    """List the built-in prices."""
    page, unit = Page.read(request), _unit(request.args.get("unit"))
    return _listed(container().prices.defaults(), page, unit)


@blueprint.delete("/api/pricing")
@operation(
    DroppedPricesDocument,
    query=(
        Query("provider", "The provider.", is_required=True),
        Query("model", "Only the price of this model."),
    ),
    refusals=(404,),
)
def delete() -> Response:
    """Drop the operator's price of a model, or of every model of a provider."""
    provider, model = request.args.get("provider", ""), request.args.get("model")
    if not provider:
        raise ValidationFailed([{"field": "provider", "message": "is required"}])
    deleted = container().prices.reset(provider, model or None, origin())
    return answer(DroppedPricesDocument(success=True, deleted=deleted))


@blueprint.get("/api/pricing/sync")
@operation(PriceImportStateDocument)
def sync_state() -> Response:
    """Show how the last import went."""
    state = container().price_sync.state()
    error = state["error"]
    shown_error = None if error is None else {**error, "at": iso_time(error["at"])}
    return answer({**state, "at": iso_time(state["at"]), "error": shown_error})


@blueprint.post("/api/pricing/sync")
@operation(PriceImportDocument, body=_SYNC, is_body_optional=True, refusals=(409, 422, 502, 504))
def sync() -> Response:
    """Import prices now; with `dryRun` only say what would change."""
    asked = _SYNC.read(request, optional=True)
    source = Source(asked["source"]) if "source" in asked else None
    found = container().price_sync.run(origin(), source=source, is_dry_run=asked.get("dryRun", False))
    return answer(_shown_import(found))


def shown(row: PriceRow, unit: str = "1M") -> PriceDocument:
    """Return a price as management answers show it: USD, per so many tokens or characters or for one."""
    given = {
        name: _number(price, unit if field in _PER_MANY else "1M")
        for name, field in _NAMES.items()
        if (price := getattr(row, field)) is not None or name in _ALWAYS
    }
    made = {
        "provider": row.provider,
        "model": row.model,
        **given,
        "unit": unit,
        "currency": _USD,
        "source": row.source,
        "priceId": compiled(row).id,
        "validFrom": iso_time(row.valid_from or None),
        "updatedAt": iso_time(row.updated_at or None),
    }
    body = cast("PriceDocument", made)
    if row.tiers:
        body["tiers"] = [_shown_step(step, unit) for step in row.tiers]
    if row.note:
        body["note"] = row.note
    return body


def _shown_step(step: PriceStep, unit: str) -> PriceStepDocument:
    return {
        "above": step.above,
        "input": _number(step.input, unit),
        "output": _number(step.output, unit),
        "cached": _number(step.cache_read, unit),
        "cacheWrite": _number(step.cache_write, unit),
    }


def _listed(rows: Sequence[PriceRow], page: Page, unit: str) -> Response:
    _refuse_unknown_provider(rows)
    source = request.args.get("source")
    is_wanted = _wanted()
    found = _ORDER.apply(request, (row for row in rows if is_wanted(row) and source in (None, "", row.source)))
    return listing("prices", [shown(row, unit) for row in page.cut(found)], total=len(found), page=page)


def _refuse_unknown_provider(rows: Sequence[PriceRow | Unpriced]) -> None:
    """Refuse a query about a provider that is none; one that is gone may have left rows."""
    name = request.args.get("provider")
    if name and container().directories.current.provider(name) is None and all(row.provider != name for row in rows):
        raise ValidationFailed([{"field": "provider", "message": "is not a provider or node"}])


def _wanted() -> Callable[[PriceRow | Unpriced], bool]:
    """Return what says whether a row is of the provider and model that the query names."""
    name, model = request.args.get("provider"), request.args.get("model")
    if name:
        known = container().directories.current.provider(name)
        name = name if known is None else known.id
    return lambda row: name in (None, "", row.provider) and model in (None, "", row.model)


def _shown_unpriced(row: Unpriced) -> PriceDocument:
    return {
        "provider": row.provider,
        "model": row.model,
        "input": None,
        "output": None,
        "cached": None,
        "cacheWrite": None,
        "reasoning": None,
        "source": None,
        "requests": row.requests,
    }


def _shown_import(found: Imported) -> PriceImportDocument:
    return {
        "changed": [shown(row) for row in found.changed],
        "imported": len(found.rows),
        "source": found.source,
        "version": found.version,
        "at": iso_time(found.at),
        "dryRun": found.is_dry_run,
    }


def _number(price: str | None, unit: str) -> float | int | None:
    if price is None:
        return None
    value = per_unit(price, unit)
    return int(value) if value == value.to_integral_value() else float(value)


# --- reading -------------------------------------------------------------------------------------------------------


def _unit(given: Any) -> str:
    unit = given or "1M"
    if not isinstance(unit, str) or unit not in UNITS:
        raise ValidationFailed([{"field": "unit", "message": f"must be one of {', '.join(UNITS)}"}])
    return unit


_PRICE_SCHEMA: Final = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^\d{1,30}(?:\.\d{1,9})?$"}],
    "description": "In USD, as a number or as decimal text.",
}


def _price(name: str, factor: int) -> Field:
    def check(value: Any) -> str:
        try:
            return price_text(value, factor=factor)
        except ValueError as error:
            raise Invalid(str(error)) from None

    return Field(name, check, _ALIASES.get(name, ()), nullable=True, schema=_PRICE_SCHEMA)


def _currency(value: Any) -> str:
    if value != _USD:
        raise Invalid("must be USD: prices are kept in US dollars only")
    return _USD


def _fields(factor: int) -> Fields:
    of = partial(_price, factor=factor)
    steps = Fields(
        integer("above", alias="abovePromptTokens", required=True, minimum=1, maximum=_MOST_TOKENS), *map(of, _STEP)
    )
    prices = (of(name) if field in _PER_MANY else _price(name, 1) for name, field in _NAMES.items())
    tiers = objects("tiers", steps, nullable=True, max_items=_MOST_STEPS)
    return Fields(*prices, tiers, Field("currency", _currency, schema={"const": _USD}))


_BY_UNIT: Final = {unit: _fields(factor) for unit, factor in UNITS.items()}
_OF_MODELS: Final = {"type": "object", "minProperties": 1, "additionalProperties": _BY_UNIT["1M"].schema}
_CHANGE: Final = Body(
    {
        "type": "object",
        "description": "Prices by provider and model.",
        "properties": {"unit": {"type": "string", "enum": list(UNITS)}, "currency": {"const": _USD}},
        "additionalProperties": _OF_MODELS,
    }
)


@blueprint.route("/api/pricing", methods=["PATCH", "PUT"])
@operation(ChangedPricesDocument, body=_CHANGE)
def change() -> Response:
    """Set prices by provider and model; null takes one back. Show the models about which something changed."""
    body = read_object(request)
    unit = _unit(body.get("unit", "1M"))
    changed = container().prices.change(_changes(body, unit), origin())
    return answer(ChangedPricesDocument(prices=[shown(row, unit) for row in changed], changed=len(changed)))


def _changes(body: Mapping[str, Any], unit: str) -> list[Change]:
    details: list[dict[str, str]] = []
    changes: list[Change] = []
    if body.get("currency", _USD) != _USD:
        details.append({"field": "currency", "message": "must be USD: prices are kept in US dollars only"})
    for provider, models in body.items():
        if provider in _RESERVED:
            continue
        if not isinstance(models, dict) or not models:
            details.append({"field": _shown_path(provider), "message": "must be an object of models with their prices"})
            continue
        for model, given in models.items():
            path = _shown_path(f"{provider}.{model}")
            try:
                changes.append(_change(provider, model, given, unit))
            except Invalid as error:
                details.append({"field": path, "message": str(error)})
            except ValidationFailed as error:
                details += [{**detail, "field": f"{path}.{detail['field']}"} for detail in error.details]
    if not changes and not details:
        details.append({"field": "", "message": "must name a provider, a model and a price"})
    if len(changes) > MOST_CHANGES:
        details = [{"field": "", "message": f"must have at most {MOST_CHANGES} models"}]
    if details:
        raise ValidationFailed(details)
    return changes


def _shown_path(path: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in path[:200])


def _change(provider: str, model: str, given: Any, unit: str) -> Change:
    name = _MODEL_NAME.check(model)
    if not isinstance(given, dict):
        raise Invalid("must be an object of prices")
    values = _BY_UNIT[unit].check(given)
    prices = {field: values[public] for public, field in _NAMES.items() if public in values}
    tiers = _steps(values["tiers"] or ()) if "tiers" in values else None
    if not prices and tiers is None:
        raise Invalid("must have a price")
    return Change(provider, name, prices, tiers)


def _steps(given: Iterable[Mapping[str, Any]]) -> tuple[PriceStep, ...]:
    steps = [PriceStep(step["above"], **{_NAMES[name]: step.get(name) for name in _STEP}) for step in given]
    if len({step.above for step in steps}) != len(steps):
        raise Invalid("has two tiers that begin at the same number of tokens")
    if any(all(getattr(step, _NAMES[name]) is None for name in _STEP) for step in steps):
        raise Invalid("has a tier without a price")
    return tuple(sorted(steps, key=lambda step: step.above))

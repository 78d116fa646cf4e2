"""`/api/provider-models` and `/api/model-capability-overrides`: what the operator says about models."""

from __future__ import annotations

from typing import Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import PAGING, SEARCH, ListDocument, Query, Time, operation, sorting
from omniroute.blueprints.management.bodies import (
    Field,
    Fields,
    Order,
    Page,
    answer,
    flag,
    integer,
    iso_time,
    listing,
    nested,
    query_flag,
    text,
    texts,
)
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.formats.wire import WireFormat
from omniroute.gateway.directory import MAX_MODEL_ID
from omniroute.providers.spec import ModelKind
from omniroute.records import CustomModel, ModelOverride
from omniroute.services import custom_models as service

blueprint = Blueprint("management_provider_models", __name__)

_FORMATS: Final = tuple(dict.fromkeys((*service.FORMATS, *(value.value for value in service.FORMATS.values()))))
_PROVIDER: Final = text("provider", required=True, max_length=100)
_ID: Final = text("modelId", alias="model", required=True, max_length=MAX_MODEL_ID)
_FACTS: Final[tuple[Field, ...]] = (
    text("modelName", alias="name", nullable=True, max_length=200),
    text("type", nullable=True, choices=ModelKind),
    text("apiFormat", nullable=True, choices=_FORMATS),
    integer("contextLength", nullable=True, minimum=1, maximum=service.MOST_TOKENS),
    integer("maxOutputTokens", nullable=True, minimum=1, maximum=service.MOST_TOKENS),
    *(flag(name, nullable=True) for name in service.WORDS),
)
_NEW: Final = Fields(_PROVIDER, _ID, *_FACTS)
_HIDE: Final = Fields(
    text("provider", max_length=100),
    texts("modelIds", min_items=1, max_items=service.MOST_MODELS, max_length=MAX_MODEL_ID),
    flag("isHidden", required=True),
)
_CAPABILITIES: Final = Fields(*(flag(name, nullable=True) for name in service.CAPABILITIES))
_OVERRIDE: Final = Fields(
    text("model", required=True, max_length=300),
    integer("contextLength", nullable=True, minimum=1, maximum=service.MOST_TOKENS),
    integer("maxOutputTokens", nullable=True, minimum=1, maximum=service.MOST_TOKENS),
    nested("capabilities", _CAPABILITIES, nullable=True),
)
_ORDER: Final[Order[CustomModel]] = Order(
    searched=lambda row: (row.provider, row.model_id, row.name),
    fields={
        "provider": lambda row: row.provider,
        "modelId": lambda row: row.model_id,
        "createdAt": lambda row: row.created_at,
        "updatedAt": lambda row: row.updated_at,
    },
)
_OVERRIDE_ORDER: Final[Order[ModelOverride]] = Order(
    searched=lambda row: (row.provider, row.model_id),
    fields={
        "provider": lambda row: row.provider,
        "modelId": lambda row: row.model_id,
        "updatedAt": lambda row: row.updated_at,
    },
)


class CustomModelDocument(TypedDict):
    """A model that the operator declared. What he does not state is null, and others' word counts."""

    provider: str
    modelId: str
    modelName: str | None
    type: str
    apiFormat: WireFormat | None
    contextLength: int | None
    maxOutputTokens: int | None
    supportsTools: bool | None
    supportsVision: bool | None
    supportsReasoning: bool | None
    supportsJsonSchema: bool | None
    createdAt: Time
    updatedAt: Time


class ModelOverrideDocument(TypedDict):
    """What overrides everybody else about a model; null and missing capabilities leave it to the others."""

    model: str
    provider: str
    modelId: str
    isHidden: bool
    contextLength: int | None
    maxOutputTokens: int | None
    capabilities: dict[str, bool]
    updatedAt: Time


class CustomModelsDocument(ListDocument):
    """A page of declared models, with what overrides others about the models of the same providers."""

    models: list[CustomModelDocument]
    overrides: list[ModelOverrideDocument]


class CustomModelEnvelope(TypedDict):
    """A declared model."""

    model: CustomModelDocument


class UpdatedModelsDocument(TypedDict):
    """For how many models something has changed."""

    updated: int


class RemovedModelsDocument(TypedDict):
    """How many models were removed."""

    removed: int


class ModelOverridesDocument(ListDocument):
    """A page of what overrides others."""

    overrides: list[ModelOverrideDocument]


class ModelOverrideEnvelope(TypedDict):
    """What overrides others about one model."""

    override: ModelOverrideDocument


_PROVIDER_QUERY: Final = Query("provider", "Only models of this provider or node.")
_THE_PROVIDER: Final = Query("provider", "The provider or node whose models these are.", is_required=True)


@blueprint.get("/api/provider-models")
@operation(
    CustomModelsDocument,
    query=(*PAGING, *SEARCH, sorting("provider", "modelId", "createdAt", "updatedAt"), _PROVIDER_QUERY),
)
def index() -> Response:
    """List the models that the operator declared, with his overrides.

    At most `limit` overrides are shown; `/api/model-capability-overrides` has them all.
    """
    page = Page.read(request)
    provider = request.args.get("provider") or None
    own = container().custom_models
    found = _ORDER.apply(request, own.all(provider))
    body = CustomModelsDocument(
        models=[shown(row) for row in page.cut(found)],
        overrides=[shown_override(row) for row in own.overrides(provider)[: page.limit]],
        total=len(found),
        limit=page.limit,
        offset=page.offset,
    )
    return answer(body, headers={"X-Total-Count": str(len(found))})


@blueprint.post("/api/provider-models")
@operation(CustomModelEnvelope, status=201, body=_NEW, refusals=(409,))
def create() -> Response:
    """Declare a model for a provider or node.

    It can be called at once, also where no list has it. What is not stated about it is taken from the provider's own
    list and the built-in one.
    """
    return answer({"model": shown(container().custom_models.create(_NEW.read(request), origin()))}, 201)


@blueprint.put("/api/provider-models")
@operation(CustomModelEnvelope, body=_NEW, refusals=(404,))
def change() -> Response:
    """Change the given fields of a declared model; null takes a value back."""
    return answer({"model": shown(container().custom_models.change(_NEW.read(request), origin()))})


@blueprint.patch("/api/provider-models")
@operation(
    UpdatedModelsDocument,
    body=_HIDE,
    query=(Query("provider", "The provider or node; may stand in the body as well."),),
)
def hide() -> Response:
    """Hide models of a provider, or show them again; without `modelIds` all of them.

    A hidden model is on no list, `auto` does not choose it, and a request for it is refused.
    """
    values = _HIDE.read(request)
    provider = request.args.get("provider") or values.get("provider")
    if provider is None:
        raise _missing("provider")
    updated = container().custom_models.hide(provider, values.get("modelIds"), values["isHidden"], origin())
    return answer(UpdatedModelsDocument(updated=updated))


@blueprint.delete("/api/provider-models")
@operation(
    RemovedModelsDocument,
    query=(
        _THE_PROVIDER,
        Query("model", "The id of the model to remove."),
        Query("all", "Remove all models that were declared for the provider.", "boolean"),
    ),
    refusals=(404,),
)
def delete() -> Response:
    """Remove a declared model, or all of a provider."""
    provider, model = request.args.get("provider"), request.args.get("model") or None
    if not provider:
        raise _missing("provider")
    if (model is None) is not (query_flag(request, "all") is True):
        raise ValidationFailed([{"field": "model", "message": "is required, or all=true"}])
    removed = container().custom_models.delete(provider, model, origin())
    return answer(RemovedModelsDocument(removed=removed))


# --- overrides -------------------------------------------------------------------------------------------------------


@blueprint.get("/api/model-capability-overrides")
@operation(
    ModelOverridesDocument,
    query=(*PAGING, *SEARCH, sorting("provider", "modelId", "updatedAt"), _PROVIDER_QUERY),
)
def overrides() -> Response:
    """List what overrides others about models, hidden ones included."""
    page = Page.read(request)
    found = _OVERRIDE_ORDER.apply(request, container().custom_models.overrides(request.args.get("provider") or None))
    return listing("overrides", [shown_override(row) for row in page.cut(found)], total=len(found), page=page)


@blueprint.route("/api/model-capability-overrides", methods=["PATCH", "PUT"])
@operation(ModelOverrideEnvelope, body=_OVERRIDE, refusals=(409,))
def override() -> Response:
    """Say what holds about a model, whatever its provider or the built-in list say.

    `model` is its name with the provider's prefix. Given fields are changed; null gives one back to the others, also
    for a single capability.
    """
    return answer({"override": shown_override(container().custom_models.override(_OVERRIDE.read(request), origin()))})


@blueprint.delete("/api/model-capability-overrides")
@operation(
    ModelOverrideEnvelope,
    query=(Query("model", "The name of the model with its provider's prefix.", is_required=True),),
    refusals=(404,),
)
def drop_override() -> Response:
    """Give everything about a model back to the others; a hidden one stays hidden."""
    model = request.args.get("model")
    if not model:
        raise _missing("model")
    return answer({"override": shown_override(container().custom_models.drop_override(model, origin()))})


def shown(row: CustomModel) -> CustomModelDocument:
    """Return a declared model as management answers show it."""
    said = {word: word in row.able for word in (*row.able, *row.unable)}
    words = {name: said.get(word) for name, word in service.WORDS.items()}
    return {
        "provider": row.provider,
        "modelId": row.model_id,
        "modelName": row.name,
        "type": row.kind,
        "apiFormat": None if row.api_format is None else WireFormat(row.api_format),
        "contextLength": row.context_length,
        "maxOutputTokens": row.max_output,
        "supportsTools": words["supportsTools"],
        "supportsVision": words["supportsVision"],
        "supportsReasoning": words["supportsReasoning"],
        "supportsJsonSchema": words["supportsJsonSchema"],
        "createdAt": iso_time(row.created_at),
        "updatedAt": iso_time(row.updated_at),
    }


def shown_override(row: ModelOverride) -> ModelOverrideDocument:
    """Return an override as management answers show it."""
    provider = container().directories.current.provider(row.provider)
    prefix = row.provider if provider is None else provider.prefix
    return {
        "model": f"{prefix}/{row.model_id}",
        "provider": row.provider,
        "modelId": row.model_id,
        "isHidden": row.is_hidden,
        "contextLength": row.context_length,
        "maxOutputTokens": row.max_output,
        "capabilities": {word: word in row.able for word in sorted((*row.able, *row.unable))},
        "updatedAt": iso_time(row.updated_at),
    }


def _missing(field: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": "is required"}])

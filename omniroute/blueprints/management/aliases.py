"""`/api/models/alias` and `/api/model-combo-mappings`: other names for models and combos."""

from __future__ import annotations

from typing import Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import PAGING, SEARCH, ListDocument, Query, RemovedDocument, Time, operation, sorting
from omniroute.blueprints.management.bodies import Fields, Order, Page, answer, flag, integer, iso_time, listing, text
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.records import ComboPattern, ModelAlias
from omniroute.services import aliases as service

blueprint = Blueprint("management_aliases", __name__)

_PATTERN: Final = service.MAX_PATTERN
_COMMON: Final = (
    integer("priority", minimum=-service.MOST_PRIORITY, maximum=service.MOST_PRIORITY),
    flag("enabled"),
)
_PUT: Final = Fields(
    text("pattern", alias="alias", required=True, max_length=_PATTERN),
    text("target", alias="model", max_length=300),
    *_COMMON,
)
_DESCRIPTION: Final = text("description", nullable=True, min_length=0, max_length=500)
_NEW_MAPPING: Final = Fields(
    text("pattern", required=True, max_length=_PATTERN),
    text("comboId", required=True, max_length=100),
    *_COMMON,
    _DESCRIPTION,
)
_CHANGE_MAPPING: Final = Fields(
    text("pattern", max_length=_PATTERN), text("comboId", max_length=100), *_COMMON, _DESCRIPTION
)
_ORDER: Final[Order[ModelAlias]] = Order(
    searched=lambda alias: (alias.id, alias.pattern, alias.target),
    fields={
        "pattern": lambda alias: alias.pattern,
        "target": lambda alias: alias.target,
        "priority": lambda alias: alias.priority,
        "hits": lambda alias: alias.hit_count,
        "createdAt": lambda alias: alias.created_at,
    },
)
_MAPPING_ORDER: Final[Order[ComboPattern]] = Order(
    searched=lambda row: (row.id, row.pattern, row.description),
    fields={
        "pattern": lambda row: row.pattern,
        "priority": lambda row: row.priority,
        "createdAt": lambda row: row.created_at,
    },
)


class AliasDocument(TypedDict):
    """Another name for a model. `*` and `?` in the pattern stand for any characters, and for one."""

    id: str
    pattern: str
    target: str
    priority: int
    enabled: bool
    hits: int
    createdAt: Time
    updatedAt: Time


class AliasesDocument(ListDocument):
    """A page of aliases."""

    aliases: list[AliasDocument]


class OneAliasDocument(TypedDict):
    """The alias as it is stored now."""

    alias: AliasDocument


class ComboPatternDocument(TypedDict):
    """A pattern of model names that lead to a combo."""

    id: str
    pattern: str
    comboId: str
    comboName: str | None
    priority: int
    enabled: bool
    description: str | None
    createdAt: Time
    updatedAt: Time


class ComboPatternsDocument(ListDocument):
    """A page of patterns."""

    mappings: list[ComboPatternDocument]


class OneComboPatternDocument(TypedDict):
    """One pattern."""

    mapping: ComboPatternDocument


@blueprint.get("/api/models/alias")
@blueprint.get("/api/settings/model-aliases")
@operation(AliasesDocument, query=(*PAGING, *SEARCH, sorting("pattern", "target", "priority", "hits", "createdAt")))
def index() -> Response:
    """List the aliases."""
    page = Page.read(request)
    found = _ORDER.apply(request, container().aliases.all())
    return listing("aliases", [shown(alias) for alias in page.cut(found)], total=len(found), page=page)


@blueprint.route("/api/models/alias", methods=["PUT", "PATCH"])
@blueprint.route("/api/settings/model-aliases", methods=["PUT", "PATCH"])
@operation(OneAliasDocument, body=_PUT)
def put() -> Response:
    """Store an alias in place of one with the same pattern."""
    return answer({"alias": shown(container().aliases.put(_PUT.read(request), origin()))})


@blueprint.delete("/api/models/alias")
@blueprint.delete("/api/settings/model-aliases")
@operation(
    RemovedDocument,
    query=(Query("pattern", "The pattern of the alias."), Query("id", "Its id, in place of the pattern.")),
    refusals=(404,),
)
def delete() -> Response:
    """Remove an alias by its pattern or id."""
    pattern, alias_id = request.args.get("pattern"), request.args.get("id")
    if (pattern is None) == (alias_id is None):
        raise ValidationFailed([{"field": "pattern", "message": "is required, or id"}])
    gone = container().aliases.delete(pattern=pattern, alias_id=alias_id, origin=origin())
    return answer(RemovedDocument(success=True, id=gone.id))


@blueprint.get("/api/model-combo-mappings")
@operation(ComboPatternsDocument, query=(*PAGING, *SEARCH, sorting("pattern", "priority", "createdAt")))
def mappings() -> Response:
    """List the patterns that lead to combos."""
    page = Page.read(request)
    aliases = container().aliases
    found = _MAPPING_ORDER.apply(request, aliases.mappings())
    names = aliases.combo_names()
    return listing("mappings", [shown_mapping(row, names) for row in page.cut(found)], total=len(found), page=page)


@blueprint.post("/api/model-combo-mappings")
@operation(OneComboPatternDocument, status=201, body=_NEW_MAPPING, refusals=(404, 409))
def create_mapping() -> Response:
    """Let names of a pattern lead to a combo."""
    made = container().aliases.create_mapping(_NEW_MAPPING.read(request), origin())
    return answer({"mapping": shown_mapping(made)}, 201)


@blueprint.get("/api/model-combo-mappings/<mapping_id>")
@operation(OneComboPatternDocument)
def show_mapping(mapping_id: str) -> Response:
    """Show one pattern."""
    return answer({"mapping": shown_mapping(container().aliases.mapping(mapping_id))})


@blueprint.route("/api/model-combo-mappings/<mapping_id>", methods=["PUT", "PATCH"])
@operation(OneComboPatternDocument, body=_CHANGE_MAPPING, refusals=(409,))
def change_mapping(mapping_id: str) -> Response:
    """Change the given fields of a pattern."""
    changed = container().aliases.change_mapping(mapping_id, _CHANGE_MAPPING.read(request), origin())
    return answer({"mapping": shown_mapping(changed)})


@blueprint.delete("/api/model-combo-mappings/<mapping_id>")
@operation(RemovedDocument)
def delete_mapping(mapping_id: str) -> Response:
    """Remove a pattern."""
    container().aliases.delete_mapping(mapping_id, origin())
    return answer(RemovedDocument(success=True, id=mapping_id))


def shown(alias: ModelAlias) -> AliasDocument:
    """Return an alias as management answers show it."""
    return {
        "id": alias.id,
        "pattern": alias.pattern,
        "target": alias.target,
        "priority": alias.priority,
        "enabled": alias.enabled,
        "hits": alias.hit_count,
        "createdAt": iso_time(alias.created_at),
        "updatedAt": iso_time(alias.updated_at),
    }


def shown_mapping(row: ComboPattern, names: dict[str, str] | None = None) -> ComboPatternDocument:
    """Return a pattern as management answers show it, with the name of its combo."""
    names = container().aliases.combo_names() if names is None else names
    return {
        "id": row.id,
        "pattern": row.pattern,
        "comboId": row.combo_id,
        "comboName": names.get(row.combo_id),
        "priority": row.priority,
        "enabled": row.enabled,
        "description": row.description,
        "createdAt": iso_time(row.created_at),
        "updatedAt": iso_time(row.updated_at),
    }

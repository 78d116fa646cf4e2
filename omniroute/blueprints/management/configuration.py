"""`/api/settings/export-json` and `/api/settings/import-json`: the configuration as one document without secrets."""

from __future__ import annotations

from typing import Any, Final, NotRequired, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import operation
from omniroute.blueprints.management.auth import visitor
from omniroute.blueprints.management.bodies import (
    Field,
    Fields,
    Invalid,
    answer,
    flag,
    integer,
    mapping,
    nested,
    number,
    objects,
    text,
    texts,
)
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.money.periods import Period
from omniroute.records import AuthType, NodeType
from omniroute.routing.options import Strategy
from omniroute.services.budgets import MOST_USD
from omniroute.services.configuration import Outcome, Wanted
from omniroute.services.configuration_document import PRICE_FIELDS, STEP_FIELDS, VERSION
from omniroute.services.token_limits import MOST_TOKENS

blueprint = Blueprint("management_configuration", __name__)

_BYTES: Final = 1 << 20
_MANY: Final = 2000
_TOKEN_SCOPES: Final = ("global", "provider", "model")
_PRIORITY: Final = 1_000_000

_NODE: Final = Fields(
    text("name", required=True, max_length=200),
    text("prefix", required=True, max_length=64),
    text("type", required=True, choices=NodeType),
    text("baseUrl", required=True, max_length=2048),
    text("apiType", nullable=True, max_length=64),
    text("chatPath", nullable=True, max_length=500),
    text("modelsPath", nullable=True, max_length=500),
    flag("isLocal"),
    texts("headers", max_items=16, max_length=64),
)
_CONNECTION: Final = Fields(
    text("provider", required=True, max_length=64),
    text("name", required=True, max_length=200),
    integer("priority", minimum=1, maximum=100),
    text("auth", choices=AuthType),
    flag("isActive"),
    text("group", nullable=True, max_length=100),
    text("defaultModel", nullable=True, max_length=240),
    integer("requestsPerMinute", nullable=True, minimum=1, maximum=1_000_000),
    integer("minTimeBetweenRequestsMs", nullable=True, minimum=0, maximum=3_600_000),
    integer("concurrentRequests", nullable=True, minimum=1, maximum=100_000),
    mapping("quotaCutoffs", nullable=True),
    flag("proxyEnabled"),
    mapping("providerData", nullable=True),
)
_STEP: Final = Fields(
    text("model", max_length=300),
    text("combo", max_length=100),
    text("channel", max_length=100),
    text("provider", max_length=64),
    text("connection", max_length=300),
    number("weight", minimum=0, maximum=100),
    text("label", nullable=True, max_length=100),
    texts("tags", max_items=20, max_length=50),
    flag("enabled"),
)


def _steps(value: Any) -> list[str | dict[str, Any]]:
    """Read steps: the name of a model alone, or an object that names a model, a combo or a channel."""
    if not isinstance(value, list) or not 1 <= len(value) <= 100:
        raise Invalid("must be a list of 1 to 100 steps")
    return [_step(step, place) for place, step in enumerate(value, 1)]


def _step(step: Any, place: int) -> str | dict[str, Any]:
    if isinstance(step, str):
        return step
    if not isinstance(step, dict):
        raise Invalid(f"entry {place} must be a name or an object")
    try:
        read = _STEP.check(step)
    except ValidationFailed as error:
        wrong = error.details[0]
        raise Invalid(f"entry {place}, {wrong['field']}: {wrong['message']}") from None
    if sum(name in read for name in ("model", "combo", "channel")) != 1:
        raise Invalid(f"entry {place} must name a model, a combo or a channel, one of them")
    return read


_STEPS_SCHEMA: Final = {
    "type": "array",
    "minItems": 1,
    "maxItems": 100,
    "items": {"anyOf": [{"type": "string"}, _STEP.schema]},
}
_COMBO: Final = Fields(
    text("name", required=True, max_length=100),
    text("description", nullable=True, min_length=0, max_length=2000, multiline=True),
    text("strategy", choices=Strategy),
    Field("models", _steps, required=True, schema=_STEPS_SCHEMA),
    mapping("config", max_bytes=64 * 1024),
    flag("isActive"),
    flag("isDefault"),
    texts("allowedProviders", max_items=200, max_length=100),
    texts("allowedModelFamilies", max_items=200, max_length=100),
    integer("context_length", alias="contextLength", nullable=True, minimum=1000, maximum=2_000_000),
)
_ALIAS: Final = Fields(
    text("pattern", required=True, max_length=300),
    text("target", required=True, max_length=300),
    integer("priority", minimum=-_PRIORITY, maximum=_PRIORITY),
    flag("enabled"),
)
_MAPPING: Final = Fields(
    text("pattern", required=True, max_length=300),
    text("combo", required=True, max_length=100),
    integer("priority", minimum=-_PRIORITY, maximum=_PRIORITY),
    flag("enabled"),
    text("description", nullable=True, min_length=0, max_length=500),
)
_CHAIN: Final = Fields(
    text("name", required=True, max_length=200),
    texts("models", required=True, min_items=1, max_items=50, max_length=300),
    texts("match", min_items=1, max_items=50, max_length=300),
    integer("order", minimum=0, maximum=100_000),
    flag("enabled"),
)
_BUDGET: Final = Fields(
    text("scope", required=True, max_length=300),
    text("period", required=True, choices=Period),
    number("limit", required=True, minimum=0, maximum=MOST_USD),
    number("warningThreshold", minimum=0, maximum=1),
    text("resetTime", max_length=5),
    text("timeZone", max_length=100),
)
_LIMIT: Final = Fields(
    text("scope", required=True, max_length=300),
    text("of", choices=_TOKEN_SCOPES),
    text("value", nullable=True, max_length=300),
    text("period", required=True, choices=Period),
    integer("limit", required=True, minimum=0, maximum=MOST_TOKENS),
    flag("enabled"),
)
_TIER: Final = Fields(
    integer("above", required=True, minimum=1, maximum=100_000_000), *(number(name, minimum=0) for name in STEP_FIELDS)
)
_PRICE: Final = Fields(*(number(name, minimum=0) for name in PRICE_FIELDS), objects("tiers", _TIER, max_items=10))


def _prices(value: Any) -> dict[str, dict[str, Any]]:
    """Read prices by provider and model."""
    if not isinstance(value, dict) or not all(isinstance(models, dict) for models in value.values()):
        raise Invalid("must be an object of objects: provider, model, price")
    if sum(map(len, value.values())) > _MANY:
        raise Invalid(f"must have at most {_MANY} models")
    found: dict[str, dict[str, Any]] = {}
    for provider, models in value.items():
        for model, price in models.items():
            if not isinstance(price, dict):
                raise Invalid(f"{provider[:60]}/{model[:100]} must be an object")
            try:
                found.setdefault(provider, {})[model] = _PRICE.check(price)
            except ValidationFailed as error:
                wrong = error.details[0]
                raise Invalid(f"{provider[:60]}/{model[:100]}, {wrong['field']}: {wrong['message']}") from None
    return found


_PRICES_SCHEMA: Final = {
    "type": "object",
    "additionalProperties": {"type": "object", "additionalProperties": _PRICE.schema},
}
_DOCUMENT: Final = Fields(
    integer("version", required=True, minimum=VERSION, maximum=VERSION),
    mapping("settings", max_bytes=_BYTES),
    objects("nodes", _NODE, max_items=200),
    objects("providers", _CONNECTION, max_items=_MANY),
    objects("combos", _COMBO, max_items=1000),
    objects("aliases", _ALIAS, max_items=_MANY),
    objects("mappings", _MAPPING, max_items=_MANY),
    objects("chains", _CHAIN, max_items=200),
    objects("budgets", _BUDGET, max_items=_MANY),
    objects("tokenLimits", _LIMIT, max_items=1000),
    Field("prices", _prices, schema=_PRICES_SCHEMA),
)
_IMPORT: Final = Fields(nested("configuration", _DOCUMENT, required=True), flag("dryRun"), flag("prune"), flag("force"))


class ConfigurationDocument(TypedDict):
    """The configuration without secrets: names in place of ids, fields that have their usual value left out."""

    version: int
    settings: dict[str, Any]
    nodes: list[dict[str, Any]]
    providers: list[dict[str, Any]]
    combos: list[dict[str, Any]]
    aliases: list[dict[str, Any]]
    mappings: list[dict[str, Any]]
    chains: list[dict[str, Any]]
    budgets: list[dict[str, Any]]
    tokenLimits: list[dict[str, Any]]
    prices: dict[str, Any]


class ConfigurationChangeDocument(TypedDict):
    """One thing that differs; `fields` holds the old and the new value of each field."""

    kind: str
    name: str
    action: str
    fields: NotRequired[dict[str, list[Any]]]


class ConfigurationWarningDocument(TypedDict):
    """Something that could not be done, and did not keep the rest from being done."""

    kind: str
    name: str
    message: str


class AppliedConfigurationDocument(TypedDict):
    """What has changed, or with `dryRun` would change."""

    changes: list[ConfigurationChangeDocument]
    warnings: list[ConfigurationWarningDocument]
    applied: bool


@blueprint.get("/api/settings/export-json")
@operation(ConfigurationDocument)
def export() -> Response:
    """Return the configuration as one document, always in the same order.

    It holds no credential: of connections and nodes it names what is there, API keys are not in it.
    """
    return answer(container().configuration.export())


@blueprint.post("/api/settings/import-json")
@operation(AppliedConfigurationDocument, body=_IMPORT, refusals=(409, 422))
def apply() -> Response:
    """Make the configuration what a document says: all of it, or nothing.

    Lists and sections that the document does not have are left alone; with `prune`, what it does not name in those that
    it has is removed. With `dryRun` everything is checked and nothing changed. Connections are matched by provider and
    name; one that needs a credential is never made here.
    """
    given = _IMPORT.read(request)
    wanted = Wanted(
        origin(),
        is_dry_run=given.get("dryRun", False),
        prunes=given.get("prune", False),
        is_local=visitor().is_local,
        is_forced=given.get("force", False),
    )
    return answer(shown(container().configuration.apply(given["configuration"], wanted)))


def shown(outcome: Outcome) -> AppliedConfigurationDocument:
    """Return what came of a document as management answers show it."""
    return {
        "changes": [_shown_change(one) for one in outcome.changes],
        "warnings": [{"kind": w["kind"], "name": w["name"], "message": w["message"]} for w in outcome.warnings],
        "applied": outcome.is_applied,
    }


def _shown_change(one: Any) -> ConfigurationChangeDocument:
    made: ConfigurationChangeDocument = {"kind": one["kind"], "name": one["name"], "action": one["action"]}
    if "fields" in one:
        made["fields"] = one["fields"]
    return made

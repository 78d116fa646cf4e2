"""`/api/combos`: named lists of steps, their order, tests and metrics, and the `auto` channels."""

from __future__ import annotations

from typing import Any, Final, cast

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import (
    PAGING,
    SEARCH,
    Query,
    RemovedDocument,
    SuccessDocument,
    operation,
    sorting,
)
from omniroute.blueprints.inference.documents import CandidatesDocument
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
    mapping,
    moment,
    nested,
    number,
    query_flag,
    query_integer,
    text,
    texts,
)
from omniroute.blueprints.management.combo_documents import (
    ChannelDocument,
    ChannelsDocument,
    CheckedComboDocument,
    ComboDocument,
    ComboMetricsDocument,
    ComboRemarkDocument,
    ComboRowDocument,
    CombosDocument,
    CombosMetricsDocument,
    ComboStepDocument,
    ComboTargetDocument,
    ComboTestDocument,
    DefaultComboDocument,
    OrderedCombosDocument,
    StandingComboDocument,
    TrialDocument,
)
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.records import Combo, ComboStep
from omniroute.routing.options import Strategy
from omniroute.services import combo_reports as reports
from omniroute.services import combos as service
from omniroute.services.combo_steps import StepStanding
from omniroute.services.combos import Assessment, Remark
from omniroute.services.decisions import ANYBODY, USUAL_PROMPT, Hypothesis
from omniroute.services.routing_settings import ChannelState

blueprint = Blueprint("management_combos", __name__)

_NAME: Final = 300
_KINDS: Final = ("model", "combo-ref", "auto")
_MAX_BODY_CONFIG: Final = 64 * 1024

_STEP_MODEL: Final = text("model", max_length=_NAME)
_STEP: Final = Fields(
    text("id", max_length=100),
    text("kind", choices=_KINDS),
    _STEP_MODEL,
    text("comboName", max_length=_NAME),
    text("channel", max_length=_NAME),
    text("provider", nullable=True, max_length=100),
    text("connectionId", nullable=True, max_length=100),
    number("weight", minimum=0, maximum=100),
    text("label", nullable=True, max_length=100),
    texts("tags", max_items=20, max_length=50),
    text("prompt", nullable=True, min_length=0, max_length=10_000, multiline=True),
    flag("enabled"),
)


def _steps(value: Any) -> tuple[str | dict[str, Any], ...]:
    """Read a list of names and objects."""
    if not isinstance(value, list):
        raise Invalid("must be a list")
    if len(value) > service.MOST_OF_COMBO:
        raise Invalid(f"must have at most {service.MOST_OF_COMBO} entries")
    return tuple(_step(given, place) for place, given in enumerate(value))


def _step(given: Any, place: int) -> str | dict[str, Any]:
    try:
        if isinstance(given, dict):
            return _STEP.check(given)
        name: str = _STEP_MODEL.check(given)
    except Invalid as error:
        raise Invalid(f"entry {place + 1} {error}") from None
    except ValidationFailed as error:
        wrong = error.details[0]
        raise Invalid(f"entry {place + 1}, {wrong['field']}: {wrong['message']}") from None
    return name


_STEPS_SCHEMA: Final = {
    "type": "array",
    "maxItems": service.MOST_OF_COMBO,
    "items": {"anyOf": [_STEP_MODEL.schema, _STEP.schema]},
}
_CHANGEABLE: Final = (
    text("description", nullable=True, min_length=0, max_length=2000, multiline=True),
    text("strategy", choices=Strategy),
    mapping("config", max_bytes=_MAX_BODY_CONFIG),
    flag("isActive"),
    flag("isDefault"),
    text("system_message", alias="systemMessage", nullable=True, min_length=0, max_length=100_000, multiline=True),
    text("tool_filter_regex", alias="toolFilterRegex", nullable=True, min_length=0, max_length=1000),
    flag("context_cache_protection", alias="contextCacheProtection"),
    texts("allowedProviders", max_items=200, max_length=100),
    texts("allowedModelFamilies", max_items=200, max_length=100),
    integer("context_length", alias="contextLength", nullable=True, minimum=1000, maximum=2_000_000),
)
# Whether a name fits is the service's to say, with a code of its own.
_NEW: Final = Fields(
    text("name", required=True, min_length=0, max_length=1000),
    Field("models", _steps, required=True, schema=_STEPS_SCHEMA),
    *_CHANGEABLE,
)
_CHANGE: Final = Fields(
    text("name", min_length=0, max_length=1000),
    Field("models", _steps, schema=_STEPS_SCHEMA),
    *_CHANGEABLE,
    moment("ifUnchangedSince"),
)
_CHECK: Final = Fields(
    text("id", nullable=True, max_length=100),
    text("name", required=True, min_length=0, max_length=1000),
    Field("models", _steps, required=True, schema=_STEPS_SCHEMA),
    *_CHANGEABLE,
    integer("promptTokens", minimum=0, maximum=100_000_000),
    integer("maxOutput", minimum=1, maximum=100_000_000),
    flag("tools"),
    flag("vision"),
)
_REORDER: Final = Fields(
    texts("comboIds", required=True, min_items=1, max_items=service.MOST_COMBOS, max_length=100),
)
_DEFAULT: Final = Fields(text("id", nullable=True, max_length=100), text("name", nullable=True, max_length=_NAME))
_TEST: Final = Fields(
    text("comboName", alias="name", max_length=_NAME),
    text("id", max_length=100),
    text("prompt", max_length=4000, multiline=True),
)


def _target_of(step: ComboStep) -> str:
    return step.combo_name or step.channel or step.model


_ORDER: Final[Order[Combo]] = Order(
    searched=lambda combo: (combo.id, combo.name, combo.description, *map(_target_of, combo.steps)),
    fields={
        "name": lambda combo: combo.name.casefold(),
        "sortOrder": lambda combo: combo.sort_order,
        "createdAt": lambda combo: combo.created_at,
        "updatedAt": lambda combo: combo.updated_at,
    },
)
_EXCLUDE: Final = Fields(
    texts("providers", nullable=True, max_items=200, max_length=100),
    texts("models", nullable=True, max_items=500, max_length=_NAME),
    texts("families", nullable=True, max_items=200, max_length=100),
)
_TUNE: Final = Fields(
    mapping("weights", nullable=True),
    number("exploration", alias="explorationRate", nullable=True, minimum=0, maximum=0.5),
    nested("exclude", _EXCLUDE, nullable=True),
    text("apiKeyId", nullable=True, max_length=100),
)


_COMBO_QUERY: Final = Query("combo", "Id or name of a combo; all of them unless given.")


@blueprint.get("/api/combos")
@operation(
    CombosDocument,
    query=(
        *PAGING,
        *SEARCH,
        sorting("name", "sortOrder", "createdAt", "updatedAt"),
        Query("connection", "Only combos that pin a connection; several ids have commas between them."),
        Query("strategy", "Only combos with this strategy.", choices=tuple(Strategy)),
        Query("targets", "Also how the targets of each stand now.", "boolean"),
    ),
)
def index() -> Response:
    """List the combos in their order."""
    page = Page.read(request)
    combos = container().combos.all()
    asked = request.args.get("connection")
    if asked:
        pinned = frozenset(asked.split(","))
        combos = [combo for combo in combos if any(step.connection_id in pinned for step in combo.steps)]
    strategy, has_targets = request.args.get("strategy"), query_flag(request, "targets") is True
    if strategy and strategy not in frozenset(Strategy):
        raise ValidationFailed([{"field": "strategy", "message": f"must be one of {', '.join(Strategy)}"}])
    found = _ORDER.apply(request, (combo for combo in combos if not strategy or combo.strategy == strategy))
    rows = [_listed(combo, has_targets=has_targets) for combo in page.cut(found)]
    return listing("combos", rows, total=len(found), page=page)


@blueprint.post("/api/combos")
@operation(ComboDocument, status=201, body=_NEW, refusals=(409,))
def create() -> Response:
    """Create a combo."""
    made = container().combos.create(_NEW.read(request), origin())
    assessed = container().combos.assess(made)
    body = shown(made, assessed)
    shadow = next((remark for remark in assessed.warnings if remark.code == "COMBO_NAME_SHADOWS_MODEL"), None)
    if shadow is not None:
        body["warning"] = _remark(shadow)
    return answer(body, 201)


@blueprint.post("/api/combos/check")
@operation(CheckedComboDocument, body=_CHECK, refusals=(404,))
def check() -> Response:
    """Say what a combo would come to that is not stored, or, with `id`, one as it would be after a change.

    Nothing is stored and nothing is sent. What storing it would refuse is refused here too.
    """
    fields = _CHECK.read(request)
    asked = Hypothesis(
        model=fields["name"],
        prompt_tokens=fields.pop("promptTokens", USUAL_PROMPT),
        max_output=fields.pop("maxOutput", None),
        has_tools=fields.pop("tools", False),
        has_images=fields.pop("vision", False),
    )
    own = container()
    combo = own.combos.draft(fields.pop("id", None), fields)
    path = own.decisions.path_of(combo, asked)
    return answer(CheckedComboDocument(**shown(combo), targets=_targets_of(combo), path=path))


@blueprint.get("/api/combos/<combo_id>")
@operation(StandingComboDocument)
def show(combo_id: str) -> Response:
    """Show one combo, and how its targets stand now."""
    combo = container().combos.get(combo_id)
    return answer(StandingComboDocument(**shown(combo), targets=_targets_of(combo)))


@blueprint.route("/api/combos/<combo_id>", methods=["PUT", "PATCH"])
@operation(ComboDocument, body=_CHANGE, refusals=(409,))
def change(combo_id: str) -> Response:
    """Change the given fields of a combo.

    With `ifUnchangedSince`, the `updatedAt` that was read before, only if nobody has changed it meanwhile.
    """
    fields = _CHANGE.read(request)
    since = fields.pop("ifUnchangedSince", None)
    return answer(shown(container().combos.change(combo_id, fields, origin(), if_unchanged_since=since)))


@blueprint.delete("/api/combos/<combo_id>")
@operation(RemovedDocument, query=(Query("force", "Also one that others refer to.", "boolean"),), refusals=(409,))
def delete(combo_id: str) -> Response:
    """Remove a combo; with `force` also one that others refer to."""
    container().combos.delete(combo_id, origin(), is_forced=query_flag(request, "force") is True)
    return answer(RemovedDocument(success=True, id=combo_id))


@blueprint.post("/api/combos/reorder")
@operation(OrderedCombosDocument, body=_REORDER)
def reorder() -> Response:
    """Give the combos an order."""
    ordered = container().combos.reorder(_REORDER.read(request)["comboIds"], origin())
    return answer(OrderedCombosDocument(combos=[shown(combo) for combo in ordered]))


@blueprint.get("/api/combos/default")
@operation(DefaultComboDocument)
def show_default() -> Response:
    """Show the combo that serves requests without a model."""
    found = container().combos.default()
    return answer(DefaultComboDocument(default=shown(found) if found is not None else None))


@blueprint.route("/api/combos/default", methods=["PUT", "PATCH"])
@operation(DefaultComboDocument, body=_DEFAULT, refusals=(404,))
def set_default() -> Response:
    """Choose the combo that serves requests without a model, by id or name; null chooses none."""
    values = _DEFAULT.read(request)
    if not values:
        raise ValidationFailed([{"field": "id", "message": "is required, or name"}])
    combos = container().combos
    combo_id, name = values.get("id"), values.get("name")
    chosen = combos.named(combo_id=combo_id, name=name).id if combo_id is not None or name is not None else None
    made = combos.set_default(chosen, origin())
    return answer(DefaultComboDocument(default=shown(made) if made is not None else None))


@blueprint.post("/api/combos/test")
@operation(ComboTestDocument, body=_TEST, refusals=(404,))
def test() -> Response:
    """Make a small call to each target of a combo."""
    values = _TEST.read(request)
    own = container()
    combo = own.combos.named(combo_id=values.get("id"), name=values.get("comboName"))
    trials = own.combo_reports.test(combo, values.get("prompt"))
    body: ComboTestDocument = {
        "strategy": combo.strategy,
        "results": [_trial(trial) for trial in trials],
        "testedAt": iso_time(own.combo_reports.now()),
    }
    return answer(body)


@blueprint.get("/api/combos/metrics")
@operation(
    CombosMetricsDocument,
    query=(
        _COMBO_QUERY,
        Query("windowHours", "How far back; 24 unless given.", "integer", minimum=1, maximum=reports.LONGEST_WINDOW_H),
    ),
)
def metrics() -> Response:
    """Tell how combos have done."""
    window_h = query_integer(request, "windowHours", default=24, minimum=1, maximum=reports.LONGEST_WINDOW_H)
    found = container().combo_reports.metrics(combo=_asked_combo(), window_h=window_h)
    return answer(CombosMetricsDocument(metrics=[_metrics(one) for one in found], windowHours=window_h))


@blueprint.delete("/api/combos/metrics")
@operation(SuccessDocument, query=(_COMBO_QUERY,))
def reset_metrics() -> Response:
    """Let metrics begin now."""
    container().combo_reports.reset(_asked_combo(), origin())
    return answer(SuccessDocument(success=True))


@blueprint.get("/api/combos/auto")
@operation(ChannelsDocument)
def channels() -> Response:
    """List the `auto` channels."""
    return answer(ChannelsDocument(channels=[_channel(one) for one in container().routing_settings.channels()]))


@blueprint.get("/api/combos/auto-candidates")
@operation(CandidatesDocument, query=(Query("channel", "The channel; `auto` unless given."),), refusals=(404,))
def candidates() -> Response:
    """Show what an `auto` channel would choose from now, with scores, factors and reasons."""
    return answer(container().candidates.of(request.args.get("channel") or "auto", ANYBODY))


@blueprint.get("/api/combos/auto/<path:channel>")
@operation(ChannelDocument, query=(Query("apiKeyId", "As it is tuned for this key."),))
def show_channel(channel: str) -> Response:
    """Show one `auto` channel, with `apiKeyId` as it is tuned for that key."""
    found = container().routing_settings.channel(channel, request.args.get("apiKeyId", ""))
    return answer(_channel(found))


@blueprint.route("/api/combos/auto/<path:channel>", methods=["PUT", "PATCH"])
@operation(ChannelDocument, body=_TUNE)
def tune_channel(channel: str) -> Response:
    """Tune an `auto` channel, for everybody or for one key."""
    return answer(_channel(container().routing_settings.tune(channel, _TUNE.read(request), origin())))


def _asked_combo() -> Combo | None:
    """Return the combo that the query names by id or name; None without one."""
    asked = request.args.get("combo")
    if not asked:
        return None
    found = next((combo for combo in container().combos.all() if asked in (combo.id, combo.name)), None)
    if found is None:
        raise ValidationFailed([{"field": "combo", "message": "is neither the id nor the name of a combo"}])
    return found


# --- how things look -------------------------------------------------------------------------------------------------


def shown(combo: Combo, assessed: Assessment | None = None) -> ComboDocument:
    """Return a combo as management answers show it."""
    assessed = assessed or container().combos.assess(combo)
    return {
        "id": combo.id,
        "name": combo.name,
        "description": combo.description,
        "strategy": combo.strategy,
        "models": [_shown_step(step) for step in combo.steps],
        "config": dict(combo.config),
        "isActive": combo.is_active,
        "isDefault": combo.is_default,
        "sortOrder": combo.sort_order,
        "system_message": combo.system_message,
        "tool_filter_regex": combo.tool_filter_regex,
        "context_cache_protection": combo.context_cache_protection,
        "allowedProviders": list(combo.allowed_providers),
        "allowedModelFamilies": list(combo.allowed_families),
        "context_length": combo.context_length,
        "computedContextLength": assessed.context_length,
        "warnings": [_remark(remark) for remark in assessed.warnings],
        "createdAt": iso_time(combo.created_at),
        "updatedAt": iso_time(combo.updated_at),
    }


def _listed(combo: Combo, *, has_targets: bool) -> ComboRowDocument:
    if has_targets:
        return ComboRowDocument(**shown(combo), targets=_targets_of(combo))
    return cast("ComboRowDocument", shown(combo))


def _targets_of(combo: Combo) -> list[ComboTargetDocument]:
    return [_shown_target(one) for one in container().candidates.of_combo(combo)]


def _shown_step(step: ComboStep) -> ComboStepDocument:
    body: ComboStepDocument = {
        "id": step.id,
        "kind": step.kind,
        "weight": step.weight,
        "label": step.label,
        "tags": list(step.tags),
        "enabled": step.enabled,
    }
    match step.kind:
        case "combo-ref":
            body["comboName"] = step.combo_name
        case "auto":
            body["channel"] = step.channel
        case _:
            body["model"] = step.model
            body["provider"] = step.provider
            body["connectionId"] = step.connection_id
    return body


def _shown_target(one: StepStanding) -> ComboTargetDocument:
    return {
        "step": one.number,
        "stepId": one.step_id,
        "model": one.model,
        "provider": one.provider,
        "weight": one.weight,
        "health": one.health,
        "connections": one.connections,
        "usable": one.usable,
        "until": iso_time(one.until),
        "inputUsdPer1M": one.input_usd,
        "outputUsdPer1M": one.output_usd,
        "contextLength": one.window,
    }


def _remark(remark: Remark) -> ComboRemarkDocument:
    return {"code": remark.code, "message": remark.message, **remark.facts}


def _trial(trial: reports.Trial) -> TrialDocument:
    body: TrialDocument = {
        "status": trial.status,
        "model": trial.model,
        "provider": trial.provider,
        "connection": trial.connection_id,
        "latencyMs": trial.latency_ms,
    }
    if trial.error is not None:
        body["error"] = trial.error
    return body


def _metrics(found: reports.ComboMetrics) -> ComboMetricsDocument:
    return {
        "combo": found.name,
        "comboId": found.combo_id,
        "requests": found.requests,
        "success": found.succeeded,
        "avgLatencyMs": found.mean_latency_ms,
        "fallbackRate": found.fallback_rate,
        "targets": [
            {
                "stepId": target.step_id,
                "model": target.model,
                "requests": target.requests,
                "success": target.succeeded,
                "avgLatencyMs": target.mean_latency_ms,
            }
            for target in found.targets
        ],
    }


def _channel(state: ChannelState) -> ChannelDocument:
    live = [step.option for step in state.block.steps if step.option is not None and step.problem is None]
    tuning = state.tuning
    return {
        "channel": state.name,
        "apiKeyId": tuning.api_key_id or None,
        "poolSize": len(live),
        "weights": dict(state.weights),
        "exploration": state.exploration,
        "exclude": {
            "providers": list(tuning.excluded_providers),
            "models": list(tuning.excluded_models),
            "families": list(tuning.excluded_families),
        },
        "contextLength": min((option.window for option in live if option.window is not None), default=None),
        "models": [option.name for option in live],
    }

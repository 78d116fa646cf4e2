"""What `/api/combos` answers: combos, their targets, tests and metrics, and the `auto` channels."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from omniroute.blueprints.contract import ListDocument, Time
from omniroute.services.decisions import PathStepDocument


class ComboRemarkDocument(TypedDict):
    """Something about a combo that its owner should know."""

    code: str
    message: str
    modelId: NotRequired[str]
    providerId: NotRequired[str]
    stepId: NotRequired[str]
    model: NotRequired[str]
    reason: NotRequired[str]


class ComboStepDocument(TypedDict):
    """One step of a combo: a model, another combo, or an `auto` channel, as `kind` says."""

    id: str
    kind: str
    model: NotRequired[str]
    provider: NotRequired[str | None]
    connectionId: NotRequired[str | None]
    comboName: NotRequired[str]
    channel: NotRequired[str]
    weight: float
    label: str | None
    tags: list[str]
    enabled: bool


class ComboDocument(TypedDict):
    """Ordered steps with a strategy, under a name that clients use as a model."""

    id: str
    name: str
    description: str | None
    strategy: str
    models: list[ComboStepDocument]
    config: dict[str, Any]
    isActive: bool
    isDefault: bool
    sortOrder: int
    system_message: str | None
    tool_filter_regex: str | None
    context_cache_protection: bool
    allowedProviders: list[str]
    allowedModelFamilies: list[str]
    context_length: int | None
    computedContextLength: int | None
    warnings: list[ComboRemarkDocument]
    createdAt: Time
    updatedAt: Time
    warning: NotRequired[ComboRemarkDocument]


class ComboTargetDocument(TypedDict):
    """How one target of a step stands now: `health` is `ok`, or why no connection could serve `until` then."""

    step: int
    stepId: str
    model: str
    provider: str | None
    weight: float
    health: str
    connections: int
    usable: int
    until: Time | None
    inputUsdPer1M: float | None
    outputUsdPer1M: float | None
    contextLength: int | None


class StandingComboDocument(ComboDocument):
    """A combo, and how the targets of its steps stand now."""

    targets: list[ComboTargetDocument]


class ComboRowDocument(ComboDocument):
    """A combo of a list; with `targets=true` also how its targets stand now."""

    targets: NotRequired[list[ComboTargetDocument]]


class CombosDocument(ListDocument):
    """A page of combos."""

    combos: list[ComboRowDocument]


class CheckedComboDocument(StandingComboDocument):
    """A combo as it would be, how its targets stand now, and in which order a request would try them."""

    path: list[PathStepDocument]


class OrderedCombosDocument(TypedDict):
    """All combos in their new order."""

    combos: list[ComboDocument]


class DefaultComboDocument(TypedDict):
    """The combo that serves requests without a model."""

    default: ComboDocument | None


class TrialDocument(TypedDict):
    """What one target of a combo said."""

    status: str
    model: str
    provider: str | None
    connection: str | None
    latencyMs: float | None
    error: NotRequired[str]


class ComboTestDocument(TypedDict):
    """What the targets of a combo said."""

    strategy: str
    results: list[TrialDocument]
    testedAt: Time


class TargetMetricsDocument(TypedDict):
    """How a combo has done at one target."""

    stepId: str | None
    model: str
    requests: int
    success: int
    avgLatencyMs: float | None


class ComboMetricsDocument(TypedDict):
    """How a combo has done. `fallbackRate` is the share of requests that needed more than one attempt."""

    combo: str
    comboId: str
    requests: int
    success: int
    avgLatencyMs: float | None
    fallbackRate: float | None
    targets: list[TargetMetricsDocument]


class CombosMetricsDocument(TypedDict):
    """How combos have done."""

    metrics: list[ComboMetricsDocument]
    windowHours: int


class ExclusionsDocument(TypedDict):
    """What a channel leaves out."""

    providers: list[str]
    models: list[str]
    families: list[str]


class ChannelDocument(TypedDict):
    """An `auto` channel as it is tuned, and the models that it chooses from now."""

    channel: str
    apiKeyId: str | None
    poolSize: int
    weights: dict[str, float]
    exploration: float
    exclude: ExclusionsDocument
    contextLength: int | None
    models: list[str]


class ChannelsDocument(TypedDict):
    """The `auto` channels."""

    channels: list[ChannelDocument]

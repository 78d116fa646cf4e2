"""A combo as options and files of the command line say it, checked: no HTTP body stands before the service here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from omniroute.cli import Exit, Failure
from omniroute.records import Combo, ComboStep
from omniroute.routing.options import Strategy

_LARGEST: Final = 1 << 20

_Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=300)]
_Weight: TypeAlias = Annotated[float, Meta(ge=0, le=100)]


def _spelt(name: str) -> str:
    """Return a member as the HTTP API spells it."""
    if name == "context_length":
        return name
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


class _Step(msgspec.Struct, forbid_unknown_fields=True, rename=_spelt):
    id: _Name | UnsetType = UNSET
    kind: Literal["model", "combo-ref", "auto"] | UnsetType = UNSET
    model: _Name | UnsetType = UNSET
    combo_name: _Name | UnsetType = UNSET
    channel: _Name | UnsetType = UNSET
    provider: _Name | UnsetType | None = UNSET
    connection_id: _Name | UnsetType | None = UNSET
    weight: _Weight | UnsetType = UNSET
    label: Annotated[str, Meta(max_length=100)] | UnsetType | None = UNSET
    tags: Annotated[list[_Name], Meta(max_length=20)] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class _Combo(msgspec.Struct, forbid_unknown_fields=True, rename=_spelt):
    name: str | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=2000)] | UnsetType | None = UNSET
    strategy: Strategy | UnsetType = UNSET
    models: Annotated[list[_Name | _Step], Meta(max_length=100)] | UnsetType = UNSET
    config: dict[str, Any] | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET
    allowed_providers: Annotated[list[_Name], Meta(max_length=200)] | UnsetType = UNSET
    allowed_model_families: Annotated[list[_Name], Meta(max_length=200)] | UnsetType = UNSET
    context_length: Annotated[int, Meta(ge=1000, le=2000000)] | UnsetType | None = UNSET


def read(path: Path) -> dict[str, Any]:
    """Read a combo from a JSON file, in the form of `POST /api/combos`.

    Raises:
        Failure: it is too large, no JSON, or has a member that is unknown or wrong.
    """
    if path.stat().st_size > _LARGEST:
        raise Failure(f"{path.name} is larger than {_LARGEST >> 20} MiB.", Exit.MISUSE)
    try:
        given = msgspec.json.decode(path.read_bytes(), type=_Combo)
    except msgspec.MsgspecError as error:
        raise Failure(f"{path.name} does not hold a combo: {error}", Exit.MISUSE) from None
    fields: dict[str, Any] = msgspec.to_builtins(given)
    return fields


def config_of(pairs: Iterable[str]) -> dict[str, Any]:
    """Return settings given as `KEY=VALUE`; a value that is JSON counts as what it says, any other as text.

    Raises:
        Failure: one has no `=`.
    """
    return {key: _value(text) for key, text in (_pair(given, str.partition) for given in pairs)}


def weights_of(pairs: Iterable[str]) -> dict[str, float]:
    """Return weights given as `MODEL=N`.

    Raises:
        Failure: one is no number from 0 to 100.
    """
    weights = {}
    for model, text in (_pair(given, str.rpartition) for given in pairs):  # the name of a model may hold a `=`
        try:
            weights[model] = msgspec.convert(float(text), _Weight)
        except (ValueError, msgspec.ValidationError):
            raise Failure(f"The weight of {model} must be a number from 0 to 100.", Exit.MISUSE) from None
    return weights


def weighted(steps: Sequence[Any], weights: Mapping[str, float]) -> list[Any]:
    """Return steps, names or objects, with these weights.

    Raises:
        Failure: a weight is for a model that is no step.
    """
    made = []
    left = dict(weights)
    for step in steps:
        name = step if isinstance(step, str) else step.get("model") or step.get("comboName") or step.get("channel")
        weight = weights.get(name)
        left.pop(name, None)
        if weight is None:
            made.append(step)
        else:
            made.append({**({"model": step} if isinstance(step, str) else step), "weight": weight})
    if left:
        raise Failure(f"{next(iter(left))!r} is not a step of the combo.", Exit.MISUSE)
    return made


def steps_of(combo: Combo) -> list[dict[str, Any]]:
    """Return the steps of a combo as they could be sent again."""
    return [step_document(step) for step in combo.steps]


def step_document(step: ComboStep) -> dict[str, Any]:
    """Return a step with the names of the HTTP API."""
    body: dict[str, Any] = {"id": step.id, "kind": step.kind}
    match step.kind:
        case "combo-ref":
            body["comboName"] = step.combo_name
        case "auto":
            body["channel"] = step.channel
        case _:
            body |= {"model": step.model, "provider": step.provider, "connectionId": step.connection_id}
    return body | {"weight": step.weight, "label": step.label, "tags": list(step.tags), "enabled": step.enabled}


def _pair(text: str, cut: Callable[[str, str], tuple[str, str, str]]) -> tuple[str, str]:
    name, equals, value = cut(text, "=")
    if not equals or not name:
        raise Failure(f"{text!r} must be of the form NAME=VALUE.", Exit.MISUSE)
    return name, value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

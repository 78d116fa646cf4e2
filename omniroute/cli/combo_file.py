"""A combo as options and files of the command line say it; the server checks what it means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from omniroute.cli import Exit, Failure

_LARGEST: Final = 1 << 20


def read(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        Failure: it is too large, or holds none.
    """
    if path.stat().st_size > _LARGEST:
        raise Failure(f"{path.name} is larger than {_LARGEST >> 20} MiB.", Exit.MISUSE)
    try:
        found = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise Failure(f"{path.name}, line {error.lineno}: {error.msg}.", Exit.MISUSE) from None
    except (ValueError, RecursionError):
        raise Failure(f"{path.name} is not JSON in UTF-8.", Exit.MISUSE) from None
    if not isinstance(found, dict):
        raise Failure(f"{path.name} does not hold a JSON object.", Exit.MISUSE)
    return found


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
            weights[model] = float(text)
        except ValueError:
            weights[model] = -1.0
        if not 0 <= weights[model] <= 100:
            raise Failure(f"The weight of {model} must be a number from 0 to 100.", Exit.MISUSE)
    return weights


def weighted(steps: Sequence[Any], weights: Mapping[str, float]) -> list[Any]:
    """Return steps, names or objects, with these weights.

    Raises:
        Failure: a weight is for a model that is no step.
    """
    made = []
    left = dict(weights)
    for step in steps:
        name = step if isinstance(step, str) else target_of(step)
        weight = weights.get(name)
        left.pop(name, None)
        if weight is None:
            made.append(step)
        else:
            made.append({**({"model": step} if isinstance(step, str) else step), "weight": weight})
    if left:
        raise Failure(f"{next(iter(left))!r} is not a step of the combo.", Exit.MISUSE)
    return made


def target_of(step: Any) -> str:
    """Return the name of what a step leads to."""
    found = step.get("model") or step.get("comboName") or step.get("channel") if isinstance(step, Mapping) else None
    return found if isinstance(found, str) else ""


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

"""How good models are at a kind of task, between 0 and 1: starting values by the name of a model.

The table is `data/fitness.json`: rows of patterns in the order in which they count, then sizes in billions of
parameters for names that no row knows. A row without scores holds what is no chat model. Operators may set scores of
their own, by model id; those come first.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Final

from omniroute.routing.options import Task

Scores = tuple[float, float, float]
"""For general, coding and reasoning tasks, in this order."""

UNKNOWN: Final = 0.5
_NO_SCORE: Final = 0.0
COLUMNS: Final = {Task.GENERAL: 0, Task.CODING: 1, Task.REASONING: 2}
_EFFORTS: Final = {"low": -0.05, "high": 0.02, "xhigh": 0.03, "max": 0.03}
"""What thinking more or less than usual does for reasoning."""
_MOST_REMEMBERED: Final = 16_384
"""Callers may name models that nobody lists, so that what is remembered is bounded."""

_WILD: Final = re.compile(r"[*?\[]")
_VENDOR: Final = re.compile(r"(?:[a-z-]+\.)+(?=[a-z])|[a-z]+--")
"""What some hosts put in front of a name: `us.anthropic.`, `mistralai--`."""
_EFFORT_SUFFIX: Final = re.compile(r"-(?:minimal|low|medium|high|xhigh|max)$")
_SIZE: Final = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)b(?![a-z0-9])")


class Fitness:
    """The table with an operator's own scores; remembers what it found for a name."""

    def __init__(self, table: Mapping[str, Any], overrides: Mapping[str, Mapping[str, float]] | None = None) -> None:
        """`overrides` holds scores by task, by model id; a task that it does not name keeps the table's score."""
        self._patterns = tuple(_pattern(pattern, row["scores"]) for row in table["rows"] for pattern in row["match"])
        self._sizes = tuple((float(row["below"]), _scores(row["scores"])) for row in table["sizes"])
        self._other = _scores(table["other"])
        self._known: dict[str, Scores | None] = {}
        self._own = {name.lower(): given for name, given in (overrides or {}).items()}

    def scores(self, model: str) -> Scores | None:
        """Return the scores of a model id, with or without a prefix; None for what is no chat model."""
        known = self._known
        if model in known:
            return known[model]
        if len(known) >= _MOST_REMEMBERED:
            known.clear()
        found = known[model] = self._find(model.lower())
        return found

    def of(self, model: str, task: Task, effort: str | None = None) -> float:
        """Return how good a model is at a task when it thinks with an effort; None is its usual one."""
        return adjusted(self.scores(model), task, effort)

    def is_own(self, model: str) -> bool:
        """Say whether the operator has set scores for a model."""
        return bool(self._own) and any(name in self._own for name in (model.lower(), *_spellings(model.lower())))

    def _find(self, model: str) -> Scores | None:
        spellings = (model, *_spellings(model))
        found = self._listed(spellings)
        own = next((self._own[name] for name in spellings if name in self._own), None)
        if own is None:
            return found
        general, coding, reasoning = found or self._other
        return (
            _clamped(own.get(Task.GENERAL, general)),
            _clamped(own.get(Task.CODING, coding)),
            _clamped(own.get(Task.REASONING, reasoning)),
        )

    def _listed(self, spellings: Sequence[str]) -> Scores | None:
        for name in spellings[1:]:
            for head, match, scores in self._patterns:
                if name.startswith(head) and match(name) is not None:
                    return scores
        size = _SIZE.search(spellings[-1])
        if size is not None:
            billions = float(size[1])
            return next((scores for below, scores in self._sizes if billions < below), self._other)
        return self._other


def load(overrides: Mapping[str, Mapping[str, float]] | None = None) -> Fitness:
    """Read the table of the package."""
    text = (resources.files("omniroute.routing") / "data" / "fitness.json").read_text(encoding="utf-8")
    return Fitness(json.loads(text), overrides)


def adjusted(scores: Scores | None, task: Task, effort: str | None) -> float:
    """Return the score for a task; an effort moves that for reasoning, None is the model's usual one."""
    if scores is None:
        return _NO_SCORE
    score = scores[COLUMNS[task]]
    if effort is None or task is not Task.REASONING:
        return score
    return _clamped(score + _EFFORTS.get(effort, 0.0))


_Pattern = tuple[str, Callable[[str], object | None], Scores | None]
"""How names that fit begin, a matcher, and the scores. Few names get past the beginning."""


def _pattern(pattern: str, scores: Sequence[float] | None) -> _Pattern:
    head = _WILD.split(pattern, maxsplit=1)[0]
    return head, re.compile(fnmatch.translate(pattern)).match, None if scores is None else _scores(scores)


def _scores(values: Sequence[float]) -> Scores:
    general, coding, reasoning = values
    return general, coding, reasoning


def _spellings(model: str) -> Iterator[str]:
    """Return the names that a lower-case id may stand in the table under, the barest first, but for its effort."""
    bare = model.rpartition("/")[2]
    shorter = _VENDOR.sub("", bare, count=1) if _VENDOR.match(bare) else bare
    if shorter != bare:
        yield shorter
    yield bare
    without_effort = _EFFORT_SUFFIX.sub("", shorter)
    if without_effort != shorter:
        yield without_effort


def _clamped(value: float) -> float:
    return min(1.0, max(0.0, value))

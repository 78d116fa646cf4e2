"""A policy to replay requests against, as a document: draft combos, a strategy, settings, rules of resilience.

    {combos?: [{name, strategy?, models: [step…], config?, allowedProviders?, allowedModelFamilies?}],
     strategy?, config?, accountStrategy?: strategy | {strategy?, stickyLimit?}, resilience?: {restFactor?, breakers?}}

Everything that is not given stays as it was for each request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from omniroute.errors import ValidationFailed
from omniroute.records import Combo, ComboStep, Snapshot
from omniroute.routing.config import problems
from omniroute.routing.options import AccountStrategy, Block, Strategy
from omniroute.routing.whatif import Policy

MOST_COMBOS: Final = 50
MOST_STEPS: Final = 200
_LONGEST_NAME: Final = 300
_MOST_WEIGHT: Final = 100
_MOST_STICKY: Final = 1000
_FIELDS: Final = ("combos", "strategy", "config", "resilience", "accountStrategy")
_COMBO_FIELDS: Final = ("name", "strategy", "models", "config", "allowedProviders", "allowedModelFamilies")
_STEP_FIELDS: Final = {"model": "model", "combo-ref": "comboName", "auto": "channel"}
"""The field that says what a step of each kind leads to."""
_STEP_OPTIONS: Final = ("id", "kind", "provider", "connectionId", "weight", "label", "enabled")


def policy_of(document: Mapping[str, Any], snapshot: Snapshot, block_of: Callable[[Combo], Block]) -> Policy:
    """Return the policy that a document describes.

    `block_of` compiles a draft combo; one that has a stored combo's name takes its place, and its id.

    Raises:
        ValidationFailed: with a detail for each field that is not valid.
    """
    reading = _Reading()
    reading.only(document, _FIELDS, "policy")
    combos = reading.combos(document.get("combos", []), {combo.name: combo.id for combo in snapshot.combos})
    account_strategy, sticky_limit = reading.accounts(document.get("accountStrategy"))
    rest_factor, ignores_breakers = reading.resilience(document.get("resilience", {}))
    policy = Policy(
        strategy=reading.strategy(document.get("strategy"), "policy.strategy"),
        config=reading.config(document.get("config", {}), "policy.config"),
        account_strategy=account_strategy,
        sticky_limit=sticky_limit,
        rest_factor=rest_factor,
        ignores_breakers=ignores_breakers,
        combos={} if reading.details else {combo.name: block_of(combo) for combo in combos},
    )
    if reading.details:
        raise ValidationFailed(reading.details)
    return policy


class _Reading:
    """Reads parts of a document, and notes everything that is wrong with them."""

    def __init__(self) -> None:
        self.details: list[dict[str, str]] = []

    def wrong(self, field: str, message: str) -> None:
        self.details.append({"field": field, "message": message})

    def only(self, given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
        for name in given:
            if name not in known:
                self.wrong(f"{where}.{_shown(name)}", f"unknown field; there are {', '.join(known)}")

    def strategy(self, given: Any, where: str) -> Strategy | None:
        if given is None:
            return None
        if isinstance(given, str) and given in frozenset(Strategy):
            return Strategy(given)
        self.wrong(where, f"must be one of {', '.join(Strategy)}")
        return None

    def config(self, given: Any, where: str) -> Mapping[str, Any]:
        if not isinstance(given, Mapping):
            self.wrong(where, "must be an object")
            return {}
        for name, problem in problems(given).items():
            self.wrong(f"{where}.{_shown(name)}", problem)
        return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}

    def accounts(self, given: Any) -> tuple[AccountStrategy | None, int | None]:
        where = "policy.accountStrategy"
        if given is None:
            return None, None
        own: Any = {"strategy": given} if isinstance(given, str) else given
        if not isinstance(own, Mapping):
            self.wrong(where, "must be a strategy, or an object")
            return None, None
        self.only(own, ("strategy", "stickyLimit"), where)
        word: Any = own.get("strategy")
        limit: Any = own.get("stickyLimit")
        if word is not None and not (isinstance(word, str) and word in frozenset(AccountStrategy)):
            self.wrong(where, f"must be one of {', '.join(AccountStrategy)}")
            word = None
        if limit is not None and not _is_whole(limit, 1, _MOST_STICKY):
            self.wrong(f"{where}.stickyLimit", f"must be a whole number from 1 to {_MOST_STICKY}")
            limit = None
        return None if word is None else AccountStrategy(word), limit

    def resilience(self, given: Any) -> tuple[float, bool]:
        where = "policy.resilience"
        if not isinstance(given, Mapping):
            self.wrong(where, "must be an object")
            return 1.0, False
        self.only(given, ("restFactor", "breakers"), where)
        factor, breakers = given.get("restFactor", 1.0), given.get("breakers", True)
        if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 <= factor <= 1:
            # Requests that a longer rest would have kept away were sent: nobody knows how the others had gone.
            self.wrong(f"{where}.restFactor", "must be a number from 0 to 1")
            factor = 1.0
        if not isinstance(breakers, bool):
            self.wrong(f"{where}.breakers", "must be true or false")
            breakers = True
        return float(factor), not breakers

    def combos(self, given: Any, ids: Mapping[str, str]) -> list[Combo]:
        if not isinstance(given, list) or len(given) > MOST_COMBOS:
            self.wrong("policy.combos", f"must be a list of at most {MOST_COMBOS} combos")
            return []
        made = [self._combo(one, f"policy.combos[{number}]", ids) for number, one in enumerate(given)]
        return [combo for combo in made if combo is not None]

    def _combo(self, given: Any, where: str, ids: Mapping[str, str]) -> Combo | None:
        if not isinstance(given, Mapping):
            self.wrong(where, "must be an object")
            return None
        self.only(given, _COMBO_FIELDS, where)
        name: Any = given.get("name")
        steps: Any = given.get("models")
        if not _is_name(name):
            self.wrong(f"{where}.name", "is required")
            return None
        if not isinstance(steps, list) or not 1 <= len(steps) <= MOST_STEPS:
            self.wrong(f"{where}.models", f"must be a list of 1 to {MOST_STEPS} steps")
            return None
        made = [self._step(one, f"{where}.models[{number}]", number) for number, one in enumerate(steps)]
        return Combo(
            id=ids.get(name, f"draft:{name}"),
            name=name,
            strategy=(self.strategy(given.get("strategy"), f"{where}.strategy") or Strategy.PRIORITY).value,
            steps=tuple(step for step in made if step is not None),
            config=self.config(given.get("config", {}), f"{where}.config"),
            allowed_providers=self._names(given.get("allowedProviders", []), f"{where}.allowedProviders"),
            allowed_families=self._names(given.get("allowedModelFamilies", []), f"{where}.allowedModelFamilies"),
        )

    def _step(self, given: Any, where: str, number: int) -> ComboStep | None:
        own = {"model": given} if isinstance(given, str) else given
        if not isinstance(own, Mapping):
            self.wrong(where, "must be a model name or an object")
            return None
        kind = own.get("kind", "model")
        target = _STEP_FIELDS.get(kind) if isinstance(kind, str) else None
        if target is None:
            self.wrong(f"{where}.kind", f"must be one of {', '.join(_STEP_FIELDS)}")
            return None
        self.only(own, (target, *_STEP_OPTIONS), where)
        weight, enabled = own.get("weight", 1), own.get("enabled", True)
        if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight <= _MOST_WEIGHT:
            self.wrong(f"{where}.weight", f"must be a number from 0 to {_MOST_WEIGHT}")
            weight = 1
        if not isinstance(enabled, bool):
            self.wrong(f"{where}.enabled", "must be true or false")
            enabled = True
        named = {name: own.get(name) for name in (target, "id", "provider", "connectionId", "label")}
        for name, value in named.items():
            if not _is_name(value) and (value is not None or name == target):
                self.wrong(f"{where}.{name}", "is required" if value is None else "must be a name")
                return None
        led = named[target] or ""
        return ComboStep(
            id=named["id"] or f"draft_{number}",
            kind=kind,
            model=led if kind == "model" else "",
            combo_name=led if kind == "combo-ref" else "",
            channel=led if kind == "auto" else "",
            provider=named["provider"],
            connection_id=named["connectionId"],
            label=named["label"],
            weight=float(weight),
            enabled=enabled,
        )

    def _names(self, given: Any, where: str) -> tuple[str, ...]:
        if isinstance(given, list) and all(_is_name(one) for one in given):
            return tuple(given)
        self.wrong(where, "must be a list of names")
        return ()


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= _LONGEST_NAME


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _shown(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name[:80])

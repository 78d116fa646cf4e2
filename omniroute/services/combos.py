"""Combos: named, ordered lists of steps. Stored with stable step ids, checked against each other before they change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypedDict

from sqlalchemy import Connection as Sql

from omniroute.errors import CallerError, Conflict, InvalidRequest, NotFound, ValidationFailed
from omniroute.gateway.blocks import MOST_STEPS
from omniroute.gateway.directory import Directory
from omniroute.gateway.resolver import Resolver
from omniroute.ids import new_id
from omniroute.records import Combo, ComboStep
from omniroute.routing import nesting
from omniroute.routing.auto import CHANNELS
from omniroute.routing.config import problems
from omniroute.routing.options import Strategy
from omniroute.routing.resolve import COMBO_PREFIX, cleaned, is_auto, is_reserved
from omniroute.services.access import Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.groups import group_of, smallest_window
from omniroute.services.keys import Origin, refuse_unenforced
from omniroute.storage.database import Database
from omniroute.storage.repositories import combos as rows

MAX_NAME: Final = 100
MOST_OF_COMBO: Final = 100
"""Steps of one combo, without those of combos in it."""
MOST_COMBOS: Final = 1000
_SAME_S: Final = 0.001
"""Times leave the API in milliseconds."""

_NAME: Final = re.compile(r"[\w \-/.\[\]]{1,100}")
_PLAIN: Final = {
    "name": "name",
    "description": "description",
    "strategy": "strategy",
    "isActive": "is_active",
    "context_length": "context_length",
    "allowedModelFamilies": "allowed_families",
}
_UNENFORCED: Final[Mapping[str, tuple[Any, ...]]] = {
    "system_message": (None, ""),
    "tool_filter_regex": (None, ""),
    "context_cache_protection": (False,),
}
_UNENFORCED_CONFIG: Final[Mapping[str, tuple[Any, ...]]] = {
    "handoffModel": (None,),
    "maxMessagesForSummary": (30,),
    "nestedComboMode": ("flatten",),
}
_UNENFORCED_STEP: Final[Mapping[str, tuple[Any, ...]]] = {"prompt": (None, "")}
"""What is part of combos but that this release does not act on, with the values that ask for nothing."""


class RemarkFacts(TypedDict, total=False):
    """What a remark is about."""

    modelId: str
    providerId: str
    stepId: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about a combo that its owner should know. `facts` are further members of the answer."""

    code: str
    message: str
    facts: RemarkFacts


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a combo comes to under the present configuration."""

    context_length: int | None
    """The smallest window of its targets; None where none is known."""
    warnings: tuple[Remark, ...]


class Combos:
    """Creates, lists, changes, orders and removes combos."""

    def __init__(
        self,
        *,
        database: Database,
        snapshots: Snapshots,
        audit: Recorder,
        resolver: Callable[[], Resolver],
        directory: Callable[[], Directory],
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._audit = audit
        self._resolver = resolver
        self._directory = directory
        self._now = now

    # --- reading -------------------------------------------------------------------------------------------------

    def all(self) -> list[Combo]:
        """Return the combos in their stored order."""
        return list(self._database.read(rows.load_all))

    def get(self, combo_id: str) -> Combo:
        """Return one combo.

        Raises:
            NotFound: there is none with this id.
        """
        found = self._database.read(lambda sql: rows.get(sql, combo_id))
        if found is None:
            raise _unknown()
        return found

    def named(self, *, combo_id: str | None = None, name: str | None = None) -> Combo:
        """Return the combo with this id, or else this name.

        Raises:
            NotFound: there is none.
        """
        found = next((c for c in self.all() if (c.id == combo_id if combo_id is not None else c.name == name)), None)
        if found is None:
            raise _unknown()
        return found

    def default(self) -> Combo | None:
        """Return the combo that serves requests without a model name; None without one."""
        return next((combo for combo in self.all() if combo.is_default), None)

    def assess(self, combo: Combo) -> Assessment:
        """Say what a combo comes to under the present configuration."""
        block = self._resolver().block_of(combo)
        warnings = list(self._shadowed(combo))
        for step in block.steps:
            if step.problem is not None:
                facts: RemarkFacts = {"stepId": step.id, "model": step.name, "reason": step.problem}
                warnings.append(Remark("STEP_UNAVAILABLE", f"{step.name!r} leads nowhere now: {step.problem}.", facts))
        targets = group_of(combo.name, block, combo).targets
        if not targets:
            warnings.append(Remark("NO_ELIGIBLE_STEP", "Nothing in this combo can serve a request now.", {}))
        return Assessment(smallest_window(targets), tuple(warnings))

    def using(self, *connection_ids: str) -> list[str]:
        """Return the names of the combos that pin one of the connections."""
        wanted = frozenset(connection_ids)
        return [combo.name for combo in self.all() if any(s.connection_id in wanted for s in combo.steps)]

    def _shadowed(self, combo: Combo) -> Iterable[Remark]:
        directory = self._directory()
        prefix, slash, rest = combo.name.partition("/")
        named = directory.provider(prefix) if slash else None
        if named is not None and rest in directory.models_of(named.id):
            yield _shadows(rest, named.id)
            return
        holders = directory.holders_of(combo.name)
        if holders:
            connected = [holder for holder in holders if directory.legs_of(holder)]
            yield _shadows(combo.name, (connected or holders)[0])

    # --- changing ------------------------------------------------------------------------------------------------

    def create(self, fields: Mapping[str, Any], origin: Origin) -> Combo:
        """Store a new combo.

        Raises:
            InvalidRequest: `combo_name_taken`, `combo_name_invalid`, `combo_empty`, `combo_cycle`, `combo_depth`; or
                `not_supported` for what nothing would act on.
            ValidationFailed: a field has no usable value.
        """
        now = self._now()
        strategy = self._snapshots.current.settings.get(("combo-defaults", "strategy"), Strategy.PRIORITY.value)
        draft = Combo(new_id("combo"), "", strategy, created_at=now, updated_at=now)

        def work(sql: Sql) -> Combo:
            known = rows.load_all(sql)
            if len(known) >= MOST_COMBOS:
                raise Conflict(f"There are {MOST_COMBOS} combos already.")
            place = 1 + max((combo.sort_order for combo in known), default=-1)
            made = replace(self._changed(draft, fields, known), sort_order=place)
            rows.insert(sql, made)
            return self._with_default(sql, made, fields)

        made = self._database.write(work, bump=True)
        self._record("combo.created", made.id, origin, {"name": made.name, "strategy": made.strategy})
        return made

    def draft(self, combo_id: str | None, fields: Mapping[str, Any]) -> Combo:
        """Return what :meth:`create`, or with an id :meth:`change`, would store; raises as these do."""
        known = self.all()
        now = self._now()
        old = Combo(new_id("combo"), "", Strategy.PRIORITY.value, created_at=now, updated_at=now)
        if combo_id is not None:
            old = self.get(combo_id)
        return self._changed(old, fields, known)

    def change(
        self, combo_id: str, fields: Mapping[str, Any], origin: Origin, *, if_unchanged_since: float | None = None
    ) -> Combo:
        """Change the given fields; with another name, the combos that refer to it follow.

        Raises:
            Conflict: `changed_meanwhile`, it was changed after the time since which it should not have been.
        """
        now = self._now()

        def work(sql: Sql) -> Combo:
            known = rows.load_all(sql)
            old = next((combo for combo in known if combo.id == combo_id), None)
            if old is None:
                raise _unknown()
            if if_unchanged_since is not None and old.updated_at > if_unchanged_since + _SAME_S:
                raise Conflict("Somebody has changed this combo meanwhile.", code="changed_meanwhile")
            made = replace(self._changed(old, fields, known), updated_at=now)
            rows.update(sql, made)
            if made.name != old.name:
                for combo in known:
                    if combo.id != combo_id and old.name in nesting.references(combo):
                        rows.update(sql, replace(_renamed(combo, old.name, made.name), updated_at=now))
            return self._with_default(sql, made, fields)

        made = self._database.write(work, bump=True)
        self._record("combo.updated", made.id, origin, {"name": made.name, "fields": sorted(fields)})
        return made

    def delete(self, combo_id: str, origin: Origin, *, is_forced: bool = False) -> None:
        """Remove a combo with the patterns that lead to it.

        Raises:
            Conflict: `in_use`, another combo refers to it and the removal is not forced.
        """

        def work(sql: Sql) -> Combo:
            known = rows.load_all(sql)
            old = next((combo for combo in known if combo.id == combo_id), None)
            if old is None:
                raise _unknown()
            users = [combo.name for combo in known if combo.id != combo_id and old.name in nesting.references(combo)]
            if users and not is_forced:
                raise Conflict(
                    f"Other combos refer to it: {', '.join(users[:10])}.", code="in_use", extras={"usedBy": users}
                )
            rows.delete(sql, combo_id)
            return old

        old = self._database.write(work, bump=True)
        self._record("combo.deleted", old.id, origin, {"name": old.name})

    def reorder(self, combo_ids: Sequence[str], origin: Origin) -> list[Combo]:
        """Give the combos the order of their ids; those left out follow in their old order."""

        def work(sql: Sql) -> None:
            known = [combo.id for combo in rows.load_all(sql)]
            unknown = [combo_id for combo_id in combo_ids if combo_id not in known]
            if unknown:
                raise _invalid("comboIds", f"{unknown[0]} is not the id of a combo")
            rows.set_order(sql, list(dict.fromkeys((*combo_ids, *known))))

        self._database.write(work, bump=True)
        self._record("combo.updated", None, origin, {"fields": ["sortOrder"], "ids": list(combo_ids)})
        return self.all()

    def set_default(self, combo_id: str | None, origin: Origin) -> Combo | None:
        """Make a combo the one that serves requests without a model name; None makes none."""
        now = self._now()
        if not self._database.write(lambda sql: rows.set_default(sql, combo_id, now), bump=True):
            raise _unknown()
        self._record("combo.default_changed", combo_id, origin, {"id": combo_id})
        return self.get(combo_id) if combo_id is not None else None

    def _with_default(self, sql: Sql, combo: Combo, fields: Mapping[str, Any]) -> Combo:
        wanted = fields.get("isDefault")
        if wanted is None or wanted == combo.is_default:
            return combo
        rows.set_default(sql, combo.id if wanted else None, combo.updated_at)
        return replace(combo, is_default=wanted)

    # --- checks --------------------------------------------------------------------------------------------------

    def _changed(self, old: Combo, fields: Mapping[str, Any], known: Sequence[Combo]) -> Combo:
        """Return a combo with the given fields, checked alone and against all others."""
        refuse_unenforced(fields, _UNENFORCED, "combos")
        values = {column: fields[name] for name, column in _PLAIN.items() if name in fields}
        if "config" in fields:
            values["config"] = checked_config(fields["config"])
        if "allowedProviders" in fields:
            values["allowed_providers"] = tuple(self._provider_ids(fields["allowedProviders"]))
        made = replace(old, **values)
        _check_name(made, known)
        if "models" in fields:
            if not fields["models"]:
                raise InvalidRequest("A combo needs at least one step.", code="combo_empty", param="models")
            others = {combo.name for combo in known if combo.id != made.id} | {made.name}
            steps = [self._step(given, place, others, made) for place, given in enumerate(fields["models"])]
            made = replace(made, steps=_with_ids(steps, old.steps))
        by_name = {combo.name: combo for combo in known if combo.id != made.id} | {made.name: made}
        if made.name != old.name and old.name:
            by_name = {name: _renamed(combo, old.name, made.name) for name, combo in by_name.items()}
        depth_of = self._resolver().settings_of
        nesting.check(
            by_name, by_name[made.name], depth_of=lambda combo: depth_of(combo).max_combo_depth, most_steps=MOST_STEPS
        )
        return by_name[made.name]

    def _provider_ids(self, names: Iterable[str]) -> Iterable[str]:
        for name in names:
            provider = self._directory().provider(name)
            if provider is None:
                raise _invalid("allowedProviders", f"{name[:100]!r} is not a provider or node")
            yield provider.id

    def _step(self, given: str | Mapping[str, Any], place: int, combos: set[str], own: Combo) -> ComboStep:
        """Read a step: a name alone, or an object of one of three kinds."""
        where = f"models[{place}]"
        fields: Mapping[str, Any] = {"model": given} if isinstance(given, str) else given
        refuse_unenforced(fields, _UNENFORCED_STEP, "steps")
        step = ComboStep(
            id=fields.get("id") or "",
            kind=fields.get("kind", "model"),
            model=_named(fields.get("model"), f"{where}.model"),
            combo_name=fields.get("comboName") or "",
            channel=fields.get("channel") or "",
            weight=fields.get("weight", 1.0),
            label=fields.get("label"),
            tags=tuple(fields.get("tags") or ()),
            enabled=fields.get("enabled", True),
        )
        if step.kind == "model":
            step = self._as_meant(step, combos, own)
        match step.kind:
            case "combo-ref":
                if step.combo_name not in combos:
                    raise _invalid(f"{where}.comboName", "is not the name of a combo")
                return replace(step, model="", channel="")
            case "auto":
                if step.channel not in CHANNELS:
                    raise _invalid(f"{where}.channel", f"must be one of {', '.join(CHANNELS)}")
                return replace(step, model="", combo_name="")
            case _:
                return self._model_step(step, fields, where)

    def _as_meant(self, step: ComboStep, combos: set[str], own: Combo) -> ComboStep:
        """Return what the name of a model step stands for where that is a channel or another combo."""
        name = step.model
        if is_auto(name):
            return replace(step, kind="auto", channel=name)
        if name.startswith(COMBO_PREFIX):
            return replace(step, kind="combo-ref", combo_name=name.removeprefix(COMBO_PREFIX))
        if name in combos and name != own.name and not self._is_model(name):
            return replace(step, kind="combo-ref", combo_name=name)
        return step

    def _is_model(self, name: str) -> bool:
        try:
            return bool(self._directory().find(name))
        except CallerError:
            return False

    def _model_step(self, step: ComboStep, fields: Mapping[str, Any], where: str) -> ComboStep:
        if not step.model:
            raise _invalid(f"{where}.model", "is required")
        provider_id = None
        if fields.get("provider"):
            provider = self._directory().provider(fields["provider"])
            if provider is None:
                raise _invalid(f"{where}.provider", "is not a provider or node")
            provider_id = provider.id
        connection_id = fields.get("connectionId")
        if connection_id is not None and connection_id not in {c.id for c in self._snapshots.current.connections}:
            raise _invalid(f"{where}.connectionId", "is not the id of a connection")
        return replace(step, provider=provider_id, connection_id=connection_id, combo_name="", channel="")

    def _record(self, action: str, combo_id: str | None, origin: Origin, details: dict[str, Any]) -> None:
        self._audit.record(action, target_kind="combo", target_id=combo_id, details=details, **origin.facts())


def checked_config(config: Mapping[str, Any], field: str = "config") -> dict[str, Any]:
    """Check settings of combos.

    Raises:
        ValidationFailed: a setting is unknown or out of its range.
        InvalidRequest: `not_supported`, nothing would act on a value.
    """
    found = problems(config)
    if found:
        raise ValidationFailed([{"field": f"{field}.{name[:80]}", "message": text} for name, text in found.items()])
    refuse_unenforced(config, _UNENFORCED_CONFIG, "combos")
    return dict(config)


def _check_name(combo: Combo, known: Iterable[Combo]) -> None:
    name = combo.name
    if not _NAME.fullmatch(name) or name != name.strip() or "\n" in name:
        raise InvalidRequest(
            f"A combo's name has 1 to {MAX_NAME} letters, digits, spaces and - _ / . [ ].",
            code="combo_name_invalid",
            param="name",
        )
    if is_reserved(name):
        raise InvalidRequest(
            "Names that are auto, or begin with auto/, combo/ or models/, are reserved.",
            code="combo_name_invalid",
            param="name",
        )
    if any(other.name == name and other.id != combo.id for other in known):
        raise InvalidRequest(f"There is a combo {name!r} already.", code="combo_name_taken", param="name")


def _named(given: Any, field: str) -> str:
    if given is None:
        return ""
    try:
        return cleaned(given)
    except InvalidRequest as error:
        raise _invalid(field, error.message) from None


def _with_ids(steps: Iterable[ComboStep], old: Sequence[ComboStep]) -> tuple[ComboStep, ...]:
    """Give steps their ids: the one they were sent with if it is known, else that of the same step before, else new."""
    steps = list(steps)
    known = {step.id for step in old}
    taken = {step.id for step in steps if step.id in known}
    left = [step for step in old if step.id not in taken]
    given: set[str] = set()
    made = []
    for step in steps:
        if step.id in known and step.id not in given:
            chosen = step.id
        else:
            same = next((one for one in left if _target(one) == _target(step)), None)
            if same is not None:
                left.remove(same)
            chosen = same.id if same is not None else new_id("step")
        given.add(chosen)
        made.append(replace(step, id=chosen))
    return tuple(made)


def _target(step: ComboStep) -> tuple[str | None, ...]:
    return (step.kind, step.model, step.provider, step.connection_id, step.combo_name, step.channel)


def _renamed(combo: Combo, old: str, new: str) -> Combo:
    steps = tuple(
        replace(step, combo_name=new) if step.kind == "combo-ref" and step.combo_name == old else step
        for step in combo.steps
    )
    return replace(combo, steps=steps)


def _shadows(model_id: str, provider_id: str) -> Remark:
    message = f"The name is also that of a model of {provider_id}; requests for it go to this combo."
    return Remark("COMBO_NAME_SHADOWS_MODEL", message, {"modelId": model_id, "providerId": provider_id})


def _unknown() -> NotFound:
    return NotFound("There is no such combo.")


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])

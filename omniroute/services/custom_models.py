"""What the operator says about models: which he declares, which he hides, and what overrides everybody else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute.errors import Conflict, InvalidRequest, NotFound, ValidationFailed
from omniroute.formats.wire import WireFormat
from omniroute.gateway.directory import MAX_MODEL_ID, Directories, Directory, checked_name
from omniroute.providers.spec import Provider
from omniroute.records import CustomModel, ModelOverride
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.storage.database import Database
from omniroute.storage.repositories import models_custom as rows

MOST_MODELS: Final = 5000
MOST_CHANGED: Final = 10_000
MOST_TOKENS: Final = 100_000_000
FORMATS: Final[Mapping[str, WireFormat]] = {
    "chat": WireFormat.OPENAI_CHAT,
    "responses": WireFormat.OPENAI_RESPONSES,
    "messages": WireFormat.ANTHROPIC_MESSAGES,
    "gemini": WireFormat.GEMINI,
    "ollama": WireFormat.OLLAMA,
}
"""The formats by the names of the API; those of the rest of the program are taken as well."""
WORDS: Final[Mapping[str, str]] = {
    "supportsTools": "tools",
    "supportsVision": "vision",
    "supportsReasoning": "reasoning",
    "supportsJsonSchema": "json_schema",
}
CAPABILITIES: Final = (*WORDS.values(), "prompt_cache", "audio", "pdf")
"""What an override may say that a model has or lacks."""

_FIELDS: Final = {
    "modelName": "name",
    "type": "kind",
    "contextLength": "context_length",
    "maxOutputTokens": "max_output",
}
_SIZES: Final = {"contextLength": "context_length", "maxOutputTokens": "max_output"}


class CustomModels:
    """Declares, changes, hides and removes models, and overrides what is known about them."""

    def __init__(
        self, *, database: Database, directories: Directories, audit: Recorder, now: Callable[[], float]
    ) -> None:
        self._database = database
        self._directories = directories
        self._audit = audit
        self._now = now

    # --- declared models -----------------------------------------------------------------------------------------

    def all(self, provider: str | None = None) -> list[CustomModel]:
        """Return the declared models, those of one provider or all.

        Raises:
            ValidationFailed: there is no such provider.
        """
        wanted = None if provider is None else self._provider(provider).id
        return [row for row in self._database.read(rows.load_all) if wanted in (None, row.provider)]

    def create(self, fields: Mapping[str, Any], origin: Origin) -> CustomModel:
        """Declare a model.

        Raises:
            ValidationFailed: the provider is unknown, or a value does not fit it.
            Conflict: it is declared already, or there are too many.
        """
        provider = self._provider(fields["provider"])
        now = self._now()
        draft = CustomModel(provider.id, _checked_id(fields["modelId"]), created_at=now, updated_at=now)
        made = _with(draft, fields, provider)

        def work(sql: Sql) -> None:
            if rows.get(sql, made.provider, made.model_id) is not None:
                raise Conflict("This model is declared already.", extras={"field": "modelId"})
            if rows.count(sql) >= MOST_MODELS:
                raise Conflict(f"There are {MOST_MODELS} declared models already.")
            rows.put(sql, made)

        self._database.write(work, bump=True)
        self._record("model.created", made.provider, made.model_id, origin, {"fields": sorted(fields)})
        return made

    def change(self, fields: Mapping[str, Any], origin: Origin) -> CustomModel:
        """Change the given fields of a declared model; null takes a value back.

        Raises:
            ValidationFailed: the provider is unknown, or a value does not fit it.
            NotFound: no such model is declared.
        """
        provider = self._provider(fields["provider"])
        now = self._now()

        def work(sql: Sql) -> CustomModel:
            old = rows.get(sql, provider.id, fields["modelId"])
            if old is None:
                raise _undeclared()
            made = _with(replace(old, updated_at=now), fields, provider)
            rows.put(sql, made)
            return made

        made = self._database.write(work, bump=True)
        changed = sorted(set(fields) - {"provider", "modelId"})
        self._record("model.updated", made.provider, made.model_id, origin, {"fields": changed})
        return made

    def delete(self, provider: str, model_id: str | None, origin: Origin) -> int:
        """Remove a declared model, or with no id all of a provider; return how many those were.

        Raises:
            ValidationFailed: there is no such provider.
            NotFound: no such model is declared.
        """
        provider_id = self._provider(provider).id
        removed = self._database.write(lambda sql: rows.delete(sql, provider_id, model_id), bump=True)
        if not removed and model_id is not None:
            raise _undeclared()
        self._record("model.deleted", provider_id, model_id, origin, {"removed": removed})
        return removed

    # --- hidden models -------------------------------------------------------------------------------------------

    def hide(self, provider: str, model_ids: Sequence[str] | None, is_hidden: bool, origin: Origin) -> int:
        """Hide models of a provider, or show them again; return for how many that was a change.

        Args:
            provider: its id, prefix or alias.
            model_ids: which; None for all that are on its list.
            is_hidden: whether nobody may use them.
            origin: who wants it.

        Raises:
            ValidationFailed: there is no such provider, or a model is not on its list.
        """
        provider_id = self._provider(provider).id
        listing = self._directory.listing(provider_id)
        listed = {**listing.models, **listing.hidden}
        unknown = next((one for one in model_ids or () if one not in listed), None)
        if unknown is not None:
            raise _invalid("modelIds", f"{unknown[:100]!r} is not on the list of this provider")
        now = self._now()

        def work(sql: Sql) -> int:
            known = {row.model_id: row for row in rows.load_overrides(sql) if row.provider == provider_id}
            chosen = listed if model_ids is None else model_ids
            plain = (known.get(one) or ModelOverride(provider_id, one, created_at=now) for one in chosen)
            changed = [replace(row, is_hidden=is_hidden, updated_at=now) for row in plain if row.is_hidden != is_hidden]
            rows.put_overrides(sql, changed)
            return len(changed)

        updated = self._database.write(work, bump=True)
        details = {"hidden": is_hidden, "count": updated, "models": list(model_ids or ())[:100]}
        self._record("model.hidden" if is_hidden else "model.shown", provider_id, None, origin, details)
        return updated

    # --- overrides -----------------------------------------------------------------------------------------------

    def overrides(self, provider: str | None = None) -> list[ModelOverride]:
        """Return what is said about models, those of one provider or all.

        Raises:
            ValidationFailed: there is no such provider.
        """
        wanted = None if provider is None else self._provider(provider).id
        return [row for row in self._database.read(rows.load_overrides) if wanted in (None, row.provider)]

    def override(self, fields: Mapping[str, Any], origin: Origin) -> ModelOverride:
        """Change what overrides everybody else about a model; null takes a part back.

        Raises:
            ValidationFailed: the model is not named as `prefix/model`, or a capability is unknown.
        """
        provider, model_id = self._named(fields["model"])
        now = self._now()

        def work(sql: Sql) -> ModelOverride:
            old = rows.get_override(sql, provider.id, model_id)
            made = old or ModelOverride(provider.id, model_id, created_at=now)
            values: dict[str, Any] = {column: fields[name] for name, column in _SIZES.items() if name in fields}
            if "capabilities" in fields:
                values |= _words(made, fields["capabilities"])
            made = replace(made, **values, updated_at=now)
            if old is None and not made.is_empty and len(rows.load_overrides(sql)) >= MOST_CHANGED:
                raise Conflict(f"There are {MOST_CHANGED} overrides already.")
            rows.put_overrides(sql, [made])
            return made

        made = self._database.write(work, bump=True)
        self._record("model.overridden", provider.id, model_id, origin, {"fields": sorted(set(fields) - {"model"})})
        return made

    def drop_override(self, model: str, origin: Origin) -> ModelOverride:
        """Take back what overrides everybody else about a model; a hidden one stays hidden.

        Raises:
            ValidationFailed: the model is not named as `prefix/model`.
            NotFound: nothing is said about it.
        """
        provider, model_id = self._named(model)
        now = self._now()

        def work(sql: Sql) -> ModelOverride:
            old = rows.get_override(sql, provider.id, model_id)
            if old is None or replace(old, is_hidden=False).is_empty:
                raise NotFound("Nothing overrides what is known about this model.")
            left = ModelOverride(
                provider.id, model_id, is_hidden=old.is_hidden, created_at=old.created_at, updated_at=now
            )
            rows.put_overrides(sql, [left])
            return left

        left = self._database.write(work, bump=True)
        self._record("model.overridden", provider.id, model_id, origin, {"dropped": True})
        return left

    # --- checks --------------------------------------------------------------------------------------------------

    @property
    def _directory(self) -> Directory:
        return self._directories.current

    def _provider(self, name: str) -> Provider:
        provider = self._directory.provider(name)
        if provider is None:
            raise _invalid("provider", "is not a provider or node")
        if provider.is_implicit:
            raise _invalid("provider", "is simulated: its models are what they are")
        return provider

    def _named(self, name: str) -> tuple[Provider, str]:
        prefix, slash, model_id = name.partition("/")
        provider = self._directory.provider(prefix) if slash else None
        if provider is None:
            raise _invalid("model", "must be the name of a model with its provider, such as groq/llama-3.3-70b")
        if provider.is_implicit:
            raise _invalid("model", "is simulated: it is what it is")
        return provider, _checked_id(model_id, "model")

    def _record(
        self, action: str, provider_id: str, model_id: str | None, origin: Origin, details: Mapping[str, Any]
    ) -> None:
        target = provider_id if model_id is None else f"{provider_id}/{model_id}"
        self._audit.record(action, target_kind="model", target_id=target, details=dict(details), **origin.facts())


def _with(model: CustomModel, fields: Mapping[str, Any], provider: Provider) -> CustomModel:
    values: dict[str, Any] = {column: fields[name] for name, column in _FIELDS.items() if name in fields}
    if values.get("kind", "") is None:
        values["kind"] = "chat"
    if "apiFormat" in fields:
        values["api_format"] = _checked_format(fields["apiFormat"], provider)
    said = {WORDS[name]: fields[name] for name in WORDS if name in fields}
    return replace(model, **values, **_words(model, said))


def _words(known: CustomModel | ModelOverride, said: Mapping[str, bool | None] | None) -> dict[str, Any]:
    """Return what a model has and lacks once these words have been said; None takes one back, no mapping all."""
    if said is None:
        return {"able": frozenset(), "unable": frozenset()}
    for word, value in said.items():
        if word not in CAPABILITIES:
            raise _invalid(f"capabilities.{word[:64]}", f"unknown; known are {', '.join(CAPABILITIES)}")
        if value is not None and not isinstance(value, bool):
            raise _invalid(f"capabilities.{word}", "must be true, false or null")
    return {
        "able": (known.able - said.keys()) | {word for word, value in said.items() if value is True},
        "unable": (known.unable - said.keys()) | {word for word, value in said.items() if value is False},
    }


def _checked_format(given: str | None, provider: Provider) -> str | None:
    if given is None:
        return None
    wanted = FORMATS.get(given) or WireFormat(given)
    if wanted not in provider.urls:
        spoken = ", ".join(name for name, key in FORMATS.items() if key in provider.urls)
        raise _invalid("apiFormat", f"is not spoken by {provider.name}; it speaks {spoken or 'none of them'}")
    return wanted.value


def _checked_id(model_id: str, field: str = "modelId") -> str:
    try:
        found = checked_name(model_id)
    except InvalidRequest as error:
        raise _invalid(field, error.message) from None
    if found != model_id or not 0 < len(model_id) <= MAX_MODEL_ID:
        raise _invalid(field, f"must be a model id of at most {MAX_MODEL_ID} characters, as the provider spells it")
    return model_id


def _undeclared() -> NotFound:
    return NotFound("You have declared no such model.")


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])

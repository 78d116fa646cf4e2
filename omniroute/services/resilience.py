"""Resilience as operators see it: the settings in force, what rests now, and how that is ended early."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute.errors import Conflict, NotFound, StorageError, ValidationFailed
from omniroute.gateway.directory import Directories
from omniroute.gateway.routing import SECTION, Routing
from omniroute.routing.marks import Key
from omniroute.routing.resilience import merged, problems, public
from omniroute.routing.standing import lockout_keys
from omniroute.services.access import Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.services.resilience_state import Limited, Place, ResilienceState, Resting, Tripped, state_of
from omniroute.settings import RESILIENCE_FIELDS, variables
from omniroute.storage.database import Database
from omniroute.storage.repositories import settings as stored_settings

_VARIABLES: Final = {path: variables()[field].name for path, field in RESILIENCE_FIELDS.items()}


@dataclass(frozen=True, slots=True)
class Scope:
    """What is meant, by any of provider, connection and model together; nothing given is everything."""

    provider: str | None = None
    connection_id: str | None = None
    model: str | None = None


class Resilience:
    """Reads and changes the settings, and looks at and ends what rests."""

    def __init__(
        self,
        *,
        database: Database,
        snapshots: Snapshots,
        audit: Recorder,
        routing: Routing,
        directories: Directories,
        fixed: Mapping[str, Any],
        now: Callable[[], float],
    ) -> None:
        """`fixed`: the settings that the environment decides, by path; `now` is epoch seconds."""
        self._database = database
        self._snapshots = snapshots
        self._audit = audit
        self._routing = routing
        self._directories = directories
        self._fixed = fixed
        self._now = now

    # --- settings ------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Return the settings in force in their public shape."""
        return public(self._routing.resilience.current)

    def change(self, fields: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
        """Change the given settings; a profile among them replaces everything that was chosen before.

        Raises:
            ValidationFailed: a setting is unknown, or out of its range.
            Conflict: `fixed_by_environment`, a variable decides.
        """
        refused = self._refused(fields)
        if refused:
            named = {path: _VARIABLES[path] for path in refused}
            raise Conflict(
                f"The environment decides this: {', '.join(f'{path} by {name}' for path, name in named.items())}.",
                code="fixed_by_environment",
                extras={"fixed": named},
            )
        old, now, by = self.settings(), self._now(), origin.actor.audit_name

        def work(sql: Sql) -> None:
            found = stored_settings.load_all(sql)
            stored = {name: value for (section, name), value in found.items() if section == SECTION}
            wrong = problems(fields, stored)
            if wrong:
                raise ValidationFailed([{"field": path[:100], "message": text} for path, text in wrong.items()])
            made = merged(stored, fields)
            for name in stored:
                if name not in made:
                    stored_settings.delete(sql, SECTION, name)
            for name, value in made.items():
                if stored.get(name) != value:
                    stored_settings.put(sql, SECTION, name, value, changed_by=by, now=now)

        self._database.write(work, bump=True)
        new = self.settings()
        before, after = dict(_leaves(old)), dict(_leaves(new))
        changed = {path: [before.get(path), value] for path, value in after.items() if before.get(path) != value}
        facts = origin.facts()
        self._audit.record("settings.changed", target_kind="settings", target_id=SECTION, details=changed, **facts)
        return new

    def _refused(self, fields: Mapping[str, Any]) -> list[str]:
        """Return what somebody wants otherwise than the environment has it."""
        return [path for path, value in _leaves(fields) if path in self._fixed and value != self._fixed[path]]

    def stored(self) -> dict[str, Any]:
        """Return what was chosen, without what a profile or a default gives."""
        settings = self._snapshots.current.settings
        return {name: value for (section, name), value in settings.items() if section == SECTION}

    def fixed(self) -> Mapping[str, str]:
        """Return the settings that the environment decides, by path, and their variables."""
        return {path: _VARIABLES[path] for path in self._fixed}

    # --- what rests ----------------------------------------------------------------------------------------------

    def state(self, scope: Scope = Scope()) -> ResilienceState:
        """Return what rests now, over all workers; the queues are those of this one.

        Raises:
            NotFound: there is no such provider or connection.
        """
        checked = self._checked(scope)
        self._routing.board.poll()
        rows = self._routing.board.state()
        whole = state_of(rows, self._places(), self._routing.gate.queues(), self._routing.resilience(), self._now())
        return _within(whole, checked)

    def reset(self, scope: Scope, origin: Origin) -> int:
        """End everything of a scope that rests; return how many marks there were.

        Raises:
            NotFound: there is no such provider or connection.
            StorageError: other workers cannot be told now.
        """
        keys = [mark.key for mark in self.state(scope).marks()]
        # With everything also goes what is over, but would make the next rest longer.
        others = [row.key for row in self._routing.board.state()] if scope == Scope() else []
        return self._clear(keys, others, scope, origin)

    def clear_lockouts(self, scope: Scope, origin: Origin) -> int:
        """End the lockouts of a scope alone; see :meth:`reset`."""
        return self._clear([lockout.key for lockout in self.state(scope).lockouts], [], scope, origin)

    def reset_breakers(self, origin: Origin) -> int:
        """Close the breakers of all providers; see :meth:`reset`."""
        return self._clear([one.key for one in self.state().breakers], [], Scope(), origin)

    def _clear(self, keys: Collection[Key], others: Collection[Key], scope: Scope, origin: Origin) -> int:
        counted = len(set(keys))
        wanted = dict.fromkeys((*keys, *others))
        if wanted and not self._routing.board.clear(wanted):
            raise StorageError("The reset holds in one worker; the others follow when the database answers.")
        kind, target = _target(scope)
        details: dict[str, Any] = {"reset": counted}
        if scope.model is not None:
            details["model"] = scope.model
        facts = origin.facts()
        self._audit.record("resilience.reset", target_kind=kind, target_id=target, details=details, **facts)
        return counted

    def _checked(self, scope: Scope) -> Scope:
        """Return a scope by its ids: a provider may be given by any of its names, a model with its prefix."""
        provider_id, model = None, scope.model
        if scope.provider is not None:
            provider = self._directories.current.provider(scope.provider)
            if provider is None:
                raise NotFound("There is no such provider or node.")
            provider_id = provider.id
            if model is not None:
                model = model.removeprefix(f"{provider.prefix}/")
        if scope.connection_id is not None and all(place.id != scope.connection_id for place in self._places()):
            raise NotFound("There is no such connection.")
        return Scope(provider_id, scope.connection_id, model)

    def _places(self) -> list[Place]:
        """Return the connections, and the providers that need none."""
        directory = self._directories.current
        found: dict[str, Place] = {}
        for connection in self._snapshots.current.connections:
            scope = f"connection:{connection.id}"
            found[connection.id] = Place(connection.id, connection.name, connection.provider, scope)
        for provider in directory.providers():
            for account in directory.accounts_of(provider.id):
                known = found.get(account.id)
                name = known.name if known is not None else provider.name
                scope = account.rest_scope or f"connection:{account.id}"
                found[account.id] = Place(account.id, name, provider.id, scope)
        return list(found.values())


def _within(state: ResilienceState, scope: Scope) -> ResilienceState:
    if scope == Scope():
        return state
    is_whole = scope.model is None
    return ResilienceState(
        breakers=[one for one in state.breakers if is_whole and _is_breaker_of(one, scope)],
        cooldowns=[one for one in state.cooldowns if is_whole and _is_of(one, scope)],
        dead=[one for one in state.dead if is_whole and _is_of(one, scope)],
        lockouts=[one for one in state.lockouts if _is_of(one, scope) and _locks(one, scope.model)],
        limits=[one for one in state.limits if is_whole and _is_of(one, scope)],
        queues=[one for one in state.queues if is_whole and scope.connection_id in one.name.split(":")[1:2]],
    )


def _is_breaker_of(one: Tripped, scope: Scope) -> bool:
    return scope.connection_id is None and one.provider == scope.provider


def _is_of(one: Resting | Limited, scope: Scope) -> bool:
    return scope.provider in (None, one.provider) and scope.connection_id in (None, one.connection_id)


def _locks(one: Resting, model: str | None) -> bool:
    """Say whether a lockout concerns a model: that of the model itself, or of a family that it belongs to."""
    return model is None or one.model == model or one.key in lockout_keys(one.connection_id, model)


def _target(scope: Scope) -> tuple[str, str | None]:
    if scope.connection_id is not None:
        return "connection", scope.connection_id
    if scope.provider is not None:
        return "provider", scope.provider
    return "resilience", None


def _leaves(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{at}.{name}" if at else str(name)
        if isinstance(value, Mapping):
            yield from _leaves(value, path)
        else:
            yield path, value

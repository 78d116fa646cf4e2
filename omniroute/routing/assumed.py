"""A view in which some are taken to fail: what a plan would be then, without anybody failing."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from omniroute.errors import ValidationFailed
from omniroute.routing.options import Option
from omniroute.routing.plan import Reason
from omniroute.routing.view import Binding, Breaker, Figures, Load, Parties, Rest, View

_ASSUMED: Final = "assumed"


def assuming(view: View, failing: Collection[str], options: Iterable[Option]) -> View:
    """Return a view in which some targets fail, named one by one, by their provider or by a connection.

    Raises:
        ValidationFailed: a name is none of a target, provider or connection of the options.
    """
    if not failing:
        return view
    options = list(options)
    pairs: set[tuple[str, str]] = set()
    providers: set[str] = set()
    for name in failing:
        found = [
            (option, account.id)
            for option in options
            for account in option.accounts
            if name in (option.name, option.provider, account.id)
        ]
        if not found:
            message = f"{name[:100]!r} is neither a target nor a provider or connection of this model"
            raise ValidationFailed([{"field": "assume.failing", "message": message}])
        pairs.update((account_id, option.model) for option, account_id in found)
        providers.update(option.provider for option, _account_id in found)
    return _Assumed(view, frozenset(pairs), frozenset(providers))


class _Assumed:
    """Answers as another view does, but for those that are taken to fail: these are locked out."""

    def __init__(self, view: View, pairs: frozenset[tuple[str, str]], providers: frozenset[str]) -> None:
        self._view = view
        self._pairs = pairs
        self._providers = providers

    def calm(self, parties: Parties) -> frozenset[str]:
        """See :class:`View`."""
        calm = self._view.calm(parties)
        return calm if self._providers.isdisjoint(calm) else calm - self._providers

    def lockout(self, account_id: str, model: str) -> Rest | None:
        """See :class:`View`."""
        if (account_id, model) in self._pairs:
            return Rest(Reason.LOCKED_OUT, kind=_ASSUMED)
        return self._view.lockout(account_id, model)

    def rest(self, account_id: str, rest_scope: str) -> Rest | None:
        """See :class:`View`."""
        return self._view.rest(account_id, rest_scope)

    def breaker(self, provider: str) -> Breaker:
        """See :class:`View`."""
        return self._view.breaker(provider)

    def load(self, account_id: str) -> Load:
        """See :class:`View`."""
        return self._view.load(account_id)

    def figures(self, option_name: str) -> Figures:
        """See :class:`View`."""
        return self._view.figures(option_name)

    def uses(self, scope: str, step_id: str, window_min: int) -> int:
        """See :class:`View`."""
        return self._view.uses(scope, step_id, window_min)

    def counter(self, scope: str, kind: str) -> Any:
        """See :class:`View`."""
        return self._view.counter(scope, kind)

    def binding(self, session: str, provider: str) -> Binding | None:
        """See :class:`View`."""
        return self._view.binding(session, provider)

    def last_good(self, scope: str, session: str) -> str | None:
        """See :class:`View`."""
        return self._view.last_good(scope, session)

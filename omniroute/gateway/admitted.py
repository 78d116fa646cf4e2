"""From a model name to the targets that a caller may use, for calls that are not routed: counting, stored answers."""

from __future__ import annotations

from collections.abc import Sequence

from omniroute.gateway.directory import Target
from omniroute.gateway.resolver import Resolver
from omniroute.services.access import Caller


def admitted_targets(resolver: Resolver, caller: Caller, model: str, provider: str | None) -> Sequence[Target]:
    """Return the targets of a model name that this caller's key allows, first choice first; never empty.

    `provider` is the only one that may serve it, where the path names one.

    Raises:
        ModelNotFound: there is no such model, or nothing that serves it.
        PermissionDenied: the key does not allow the model, or none of the connections.
    """
    resolved = resolver.resolve(model, provider=provider, caller=caller)
    permits = resolved.permits
    targets: list[Target] = []
    for option in resolved.options:
        targets += (
            option.handles[account.id] for account in option.accounts if permits is None or permits(option, account)
        )
    return targets

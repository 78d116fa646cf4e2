"""From a model name to the targets that a caller may use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omniroute.errors import ModelNotFound, PermissionDenied
from omniroute.gateway.directory import Target
from omniroute.services.access import Caller


def admitted_targets(caller: Caller, model: str, resolve: Callable[[str], Sequence[Target]]) -> Sequence[Target]:
    """Return the targets of a model name that this caller's key allows, first choice first; never empty.

    Raises:
        ModelNotFound: there is no such model, or nothing that serves it.
        PermissionDenied: the key does not allow the model, or none of the connections.
    """
    try:
        targets = resolve(model)
    except ModelNotFound:
        caller.check_model(model)
        raise
    first = targets[0]
    caller.check_model(model, f"{first.provider.prefix}/{first.model}")
    key = caller.key
    if key is not None and key.allowed_connections:
        targets = [target for target in targets if target.connection_id in key.allowed_connections]
        if not targets:
            raise PermissionDenied(
                "This API key may not use the connections of this provider.", code="model_not_allowed", param="model"
            )
    return targets

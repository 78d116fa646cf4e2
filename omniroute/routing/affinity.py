"""Where a session stays. The first choice is a rendezvous hash, so that all workers agree without talking; after that
a stored binding counts. Affinity is soft: what is excluded is passed over, and what serves instead is bound next.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from omniroute.routing.asked import Asked
from omniroute.routing.options import Block, Option


def favourite(session: str, names: Iterable[str]) -> str:
    """Return the name that a session is drawn to: the one whose hash with it is the highest.

    Each name's hash depends on nothing else, so that a name that goes moves only its own sessions, and one that comes
    takes an equal share from all others.

    Raises:
        ValueError: there are no names.
    """
    key = blake2b(session.encode(), digest_size=32).digest()
    return max(names, key=lambda name: (blake2b(name.encode(), digest_size=8, key=key).digest(), name))


def binding_session(option: Option, asked: Asked) -> str | None:
    """Return the session that may be bound at an option, None when none may.

    A key that the caller named binds anywhere. A derived one binds where the provider caches prompts: elsewhere staying
    gains nothing, and would only keep the strategy from spreading load.
    """
    features, rules = asked.features, asked.rules
    if features.session is None or rules.affinity_ttl_ms <= 0:
        return None
    if features.is_explicit_session or (option.has_prompt_cache and rules.has_cache_affinity):
        return features.session
    return None


def kept_target(block: Block, asked: Asked) -> str | None:
    """Return the name of the option that last served the session in a block, None where there is none to stay with."""
    session = asked.features.session
    if session is None or block.config.disable_session_stickiness:
        return None
    return asked.view.last_good(block.scope, session)

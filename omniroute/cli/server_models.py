"""What the active server can serve, as set-up commands need it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from omniroute.cli import Exit, Failure
from omniroute.cli.session import Session
from omniroute.clients.spec import ClientModel, Wanted

KEY_VARIABLE: Final = "OMNIROUTE_API_KEY"
MOST_LISTED: Final = 100
_SUGGESTED: Final = 3


def address_of(session: Session) -> str:
    """Return the base URL that tools on this machine reach the active server by."""
    target = session.target
    if not target.is_here:
        return target.base_url.rstrip("/")
    from omniroute.cli.running import address_of as local_address

    settings = session.local_settings()
    return local_address(settings).rstrip("/") + settings.base_path


def models_of(session: Session) -> list[ClientModel]:
    """Return what can be asked for: combos first, the default one at the head, then channels, then models."""
    combos = [row for row in session.api.rows("/api/combos", "combos") if row["isActive"]]
    combos.sort(key=lambda row: not row["isDefault"])
    found = [ClientModel(row["name"], row["name"], row.get("computedContextLength")) for row in combos]
    channels = session.api.get("/api/combos/auto")["channels"]
    found += [
        ClientModel(row["channel"], row["channel"], row.get("contextLength")) for row in channels if row["poolSize"]
    ]
    rows = session.api.rows("/api/models", "models", active=True, type="chat")
    return found + [_model(row) for row in rows]


def _model(row: dict[str, Any]) -> ClientModel:
    is_assumed = row.get("contextSource") == "default"
    return ClientModel(
        row["id"],
        row["name"],
        None if is_assumed else row.get("contextLength"),
        row.get("maxOutputTokens"),
        "image" in (row.get("inputModalities") or ()),
    )


def choose(models: Sequence[ClientModel], wanted: str | None, *, is_forced: bool = False) -> ClientModel:
    """Return the model of this name, or the one to begin with.

    Raises:
        Failure: the server does not have it, or has none at all.
    """
    if wanted is None:
        if not models:
            raise Failure("The server has no model yet. Connect an account: omniroute providers add", Exit.MISUSE)
        return models[0]
    for model in models:
        if model.id == wanted:
            return model
    if is_forced:
        return ClientModel(wanted, wanted)
    near = difflib.get_close_matches(wanted, [model.id for model in models], _SUGGESTED, 0.5)
    hint = f" Did you mean {', '.join(near)}?" if near else " 'omniroute models' lists them."
    raise Failure(f"The server has no model {wanted!r}.{hint} --force takes it all the same.", Exit.MISUSE)


def wanted_of(
    session: Session,
    *,
    model: str | None,
    only: Sequence[str] = (),
    key_variable: str = KEY_VARIABLE,
    is_forced: bool = False,
) -> Wanted:
    """Return what a tool is to be told of the active server.

    Raises:
        Failure: the server does not have the model, or nothing fits `only`.
    """
    if not key_variable.replace("_", "a").isalnum() or key_variable[0].isdigit():
        raise Failure(f"{key_variable!r} is no name of an environment variable.", Exit.MISUSE)
    models = models_of(session)
    chosen = choose(models, model, is_forced=is_forced)
    listed = [one for one in models if not only or any(fnmatchcase(one.id, pattern) for pattern in only)]
    if only and not listed:
        raise Failure(f"No model fits {', '.join(only)}.", Exit.MISUSE)
    if len(listed) > MOST_LISTED:
        left = len(listed) - MOST_LISTED
        session.notice(f"{left} models are left out of its list; choose some with --only, such as --only 'groq/*'.")
        listed = listed[:MOST_LISTED]
    if chosen.id not in {one.id for one in listed}:
        listed.insert(0, chosen)
    return Wanted(address_of(session), key_variable, chosen, tuple(listed))

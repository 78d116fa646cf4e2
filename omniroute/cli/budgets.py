"""`omniroute budget` and `omniroute limits`: what callers may spend and use."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.finding import find_one
from omniroute.cli.groups import AliasGroup
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session
from omniroute.cli.usd import PERIODS, USD, amount

_BUDGETS: Final = "/api/usage/budget"
_LIMITS: Final = "/api/usage/token-limits"
_RESERVED: Final = ("*", "local")
_BUDGET_COLUMNS: Final = {
    "keyName": "Key",
    "period": "Period",
    "limit": "Limit",
    "spent": "Spent",
    "remaining": "Remaining",
    "state": "State",
    "resetsAt": "Resets",
}
_LIMIT_COLUMNS: Final = {
    "id": "Id",
    "keyName": "Key",
    "scope": "Scope",
    "period": "Period",
    "tokenLimit": "Limit",
    "tokensUsed": "Used",
    "remaining": "Remaining",
    "enabled": "Enabled",
    "resetsAt": "Resets",
}
_MOST_TOKENS: Final = 10**15


# --- budgets ---------------------------------------------------------------------------------------------------------


@click.group("budget", cls=AliasGroup, aliases={"delete": "remove"})
def budget() -> None:
    """List, set and remove budgets: what a key, keyless callers, or all together may spend."""


@budget.command("list")
@click.option("--key", help="Only those of this key: its id, its name, local, or * for all together.")
@pass_session
def list_budgets(session: Session, key: str | None) -> None:
    """List the budgets, with what was spent of them and when they begin anew."""
    rows = session.api.get(_BUDGETS, keyId=_scope_id(session, key))["budgets"]
    if session.form is Form.TABLE:
        rows = [row | {name: amount(row[name]) for name in ("limit", "spent", "remaining")} for row in rows]
    session.print_rows("budgets", rows, _BUDGET_COLUMNS)


@budget.command("set")
@click.argument("key")
@click.argument("usd", type=USD)
@click.option(
    "--period", type=click.Choice(PERIODS), default="monthly", show_default=True, help="How often it begins anew."
)
@click.option("--warn", type=click.FloatRange(0, 1), help="Part of it at which a warning is given. Default: 0.8.")
@click.option("--reset-time", metavar="HH:MM", help="Time of day at which it begins anew. Default: 00:00.")
@click.option("--time-zone", metavar="ZONE", help="Zone of that time, such as Europe/Berlin. Default: UTC.")
@pass_session
def set_budget(
    session: Session,
    *,
    key: str,
    usd: Decimal,
    period: str,
    warn: float | None,
    reset_time: str | None,
    time_zone: str | None,
) -> None:
    """Let KEY spend at most USD in each period. KEY is an id, a name, local, or * for all callers together."""
    given = {"warningThreshold": warn, "resetTime": reset_time, "timeZone": time_zone}
    body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    body |= {"keyId": _scope_id(session, key), "period": period, "limit": float(usd)}
    found = session.api.send("POST", _BUDGETS, body)["budgets"]
    made = next(one for one in found if one["period"] == period)
    session.notice(f"The {period} budget of {made['keyName']} is {usd:f} USD.")
    if session.form is not Form.TABLE:
        session.print_fields(made, _BUDGET_COLUMNS)


@budget.command("remove")
@click.argument("key")
@click.option("--period", type=click.Choice(PERIODS), help="Only the budget of this period. Default: all of the key.")
@pass_session
def remove_budget(session: Session, key: str, period: str | None) -> None:
    """Remove the budgets of KEY: it may spend whatever it wants."""
    scope_id = _scope_id(session, key)
    session.confirm(f"Remove the {period} budget of {key}?" if period else f"Remove all budgets of {key}?")
    count = session.api.send("DELETE", _BUDGETS, keyId=scope_id, period=period)["removed"]
    session.notice(f"Removed {count} budget{'' if count == 1 else 's'} of {key}.")


# --- token limits ----------------------------------------------------------------------------------------------------


@click.group("limits", cls=AliasGroup, aliases={"delete": "remove"})
def limits() -> None:
    """List, set and remove token limits: how many tokens callers may use of a provider, a model, or in all."""


@limits.command("list")
@click.option("--key", help="Only those of this key: its id, its name, local, or * for all together.")
@click.option("--scope", metavar="SCOPE", help="Only those about global, provider:NAME or model:NAME.")
@click.option("--period", type=click.Choice(PERIODS), help="Only those of this period.")
@pass_session
def list_limits(session: Session, key: str | None, scope: str | None, period: str | None) -> None:
    """List the token limits, with what was used of them and when they begin anew."""
    rows = _limits(session, key, scope, period)
    if session.form in (Form.TABLE, Form.CSV):
        rows = [row | {"scope": _scope_text(row)} for row in rows]
    session.print_rows("limits", rows, _LIMIT_COLUMNS)


@limits.command("set")
@click.option("--key", required=True, help="Whose it is: a key's id or name, local, or * for all together.")
@click.option("--tokens", required=True, type=click.IntRange(0, _MOST_TOKENS), help="How many tokens, in and out.")
@click.option(
    "--scope",
    default="global",
    show_default=True,
    metavar="SCOPE",
    help="Which tokens count: global, provider:NAME or model:NAME.",
)
@click.option(
    "--period", type=click.Choice(PERIODS), default="daily", show_default=True, help="How often it begins anew."
)
@click.option("--enabled/--disabled", "enabled", default=None, help="Whether it is in force. Default: yes.")
@pass_session
def set_limit(session: Session, *, key: str, tokens: int, scope: str, period: str, enabled: bool | None) -> None:
    """Let a key use at most so many tokens in each period; a limit about the same is replaced."""
    body: dict[str, Any] = {**_parsed_scope(scope), "tokenLimit": tokens, "period": period}
    if enabled is not None:
        body["enabled"] = enabled
    made = session.api.send("POST", _LIMITS, {**body, "keyId": _scope_id(session, key)})["limit"]
    session.notice(f"{made['keyName']} may use {tokens} tokens {period} ({_scope_text(made)}); the id is {made['id']}.")
    if session.form is not Form.TABLE:
        session.print_fields({**made, "scope": _scope_text(made)} if session.form is Form.CSV else made, _LIMIT_COLUMNS)


@limits.command("remove")
@click.argument("limit_id", metavar="[ID]", required=False)
@click.option("--key", help="Instead of the id: those of this key, or local, or *.")
@click.option("--scope", metavar="SCOPE", help="With --key: only global, provider:NAME or model:NAME.")
@click.option("--period", type=click.Choice(PERIODS), help="With --key: only those of this period.")
@pass_session
def remove_limits(
    session: Session, *, limit_id: str | None, key: str | None, scope: str | None, period: str | None
) -> None:
    """Remove the token limit with this ID, or those of a key."""
    if (limit_id is None) == (key is None) or (key is None and (scope or period)):
        raise Failure("Give the id of a limit, or --key with --scope or --period as you like.", Exit.MISUSE)
    found = [one for one in _limits(session, key, scope, period) if limit_id in (None, one["id"])]
    if not found:
        raise Failure("There is no such token limit.", Exit.MISUSE)
    named = ", ".join(f"{one['id']} ({_scope_text(one)})" for one in found)
    session.confirm(f"Remove {named}?")
    for one in found:
        session.api.send("DELETE", _LIMITS, id=one["id"])
    session.notice(f"Removed {', '.join(one['id'] for one in found)}.")


def _limits(session: Session, key: str | None, scope: str | None, period: str | None) -> list[dict[str, Any]]:
    subject = {} if scope is None else _parsed_scope(scope)
    found = session.api.get(_LIMITS, keyId=_scope_id(session, key), period=period, **subject)
    rows: list[dict[str, Any]] = found["limits"]
    return rows


def _parsed_scope(text: str) -> dict[str, str]:
    kind, _, value = text.partition(":")
    if kind == "global" and not value:
        return {"scopeType": kind}
    if kind in ("provider", "model") and value:
        return {"scopeType": kind, "scopeValue": value}
    raise Failure(f"{text!r} is none of global, provider:NAME and model:NAME.", Exit.MISUSE)


def _scope_text(limit: Mapping[str, Any]) -> str:
    kind, value = limit["scopeType"], limit["scopeValue"]
    return str(kind) if value is None else f"{kind}:{value}"


def _scope_id(session: Session, wanted: str | None) -> str | None:
    """Return the id under which budgets and limits of a key are kept, which the command line names as people do."""
    if wanted is None or wanted in _RESERVED:
        return wanted
    return str(find_one(session.api.rows("/api/keys", "keys"), wanted, "API key")["id"])

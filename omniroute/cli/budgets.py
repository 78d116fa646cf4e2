"""`omniroute budget` and `omniroute limits`: what callers may spend and use, through the same services as the API."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.keys import confirm, find
from omniroute.cli.local import data_dir_option, open_services
from omniroute.cli.output import Form, iso_time, notice, output_options, print_document, print_rows
from omniroute.cli.usd import PERIODS, USD

if TYPE_CHECKING:
    from omniroute.container import Container
    from omniroute.services.token_limits import LimitState

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


@click.group("budget")
def budget() -> None:
    """List, set and remove budgets: what a key, keyless callers, or all together may spend."""


@budget.command("list")
@click.option("--key", help="Only those of this key: its id, its name, local, or * for all together.")
@data_dir_option
@output_options
def list_budgets(key: str | None, data_dir: str | None, form: Form) -> None:
    """List the budgets, with what was spent of them and when they begin anew."""
    from omniroute.services.budgets import document

    with open_services(data_dir) as services:
        scope_id = None if key is None else _scope(services, key)
        rows = [document(state, iso_time) for state in services.budgets.all(scope_id)]
    if form is Form.TABLE:
        rows = [row | {name: _amount(row[name]) for name in ("limit", "spent", "remaining")} for row in rows]
    print_rows(form, "budgets", rows, _BUDGET_COLUMNS)


@budget.command("set")
@click.argument("key")
@click.argument("usd", type=USD)
@click.option(
    "--period", type=click.Choice(PERIODS), default="monthly", show_default=True, help="How often it begins anew."
)
@click.option("--warn", type=click.FloatRange(0, 1), help="Part of it at which a warning is given. Default: 0.8.")
@click.option("--reset-time", metavar="HH:MM", help="Time of day at which it begins anew. Default: 00:00.")
@click.option("--time-zone", metavar="ZONE", help="Zone of that time, such as Europe/Berlin. Default: UTC.")
@data_dir_option
@output_options
def set_budget(
    *,
    key: str,
    usd: Decimal,
    period: str,
    warn: float | None,
    reset_time: str | None,
    time_zone: str | None,
    data_dir: str | None,
    form: Form,
) -> None:
    """Let KEY spend at most USD in each period. KEY is an id, a name, local, or * for all callers together."""
    from omniroute.services.budgets import document
    from omniroute.services.keys import SYSTEM

    given = {"warningThreshold": warn, "resetTime": reset_time, "timeZone": time_zone}
    fields = {name: value for name, value in given.items() if value is not None}
    with open_services(data_dir) as services:
        scope_id = _scope(services, key)
        services.budgets.set(scope_id, {period: usd}, fields, SYSTEM)
        state = next(one for one in services.budgets.all(scope_id) if one.budget.period == period)
    notice(f"The {period} budget of {state.name} is {usd:f} USD.")
    if form is not Form.TABLE:
        print_document(document(state, iso_time))


@budget.command("remove")
@click.argument("key")
@click.option("--period", type=click.Choice(PERIODS), help="Only the budget of this period. Default: all of the key.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@data_dir_option
def remove_budget(key: str, period: str | None, yes: bool, data_dir: str | None) -> None:
    """Remove the budgets of KEY: it may spend whatever it wants."""
    from omniroute.services.keys import SYSTEM

    with open_services(data_dir) as services:
        scope_id = _scope(services, key)
        if not yes:
            confirm(f"Remove the {period} budget of {key}?" if period else f"Remove all budgets of {key}?")
        count = services.budgets.remove(scope_id, period, SYSTEM)
    notice(f"Removed {count} budget{'' if count == 1 else 's'} of {key}.")


# --- token limits ----------------------------------------------------------------------------------------------------


@click.group("limits")
def limits() -> None:
    """List, set and remove token limits: how many tokens callers may use of a provider, a model, or in all."""


@limits.command("list")
@click.option("--key", help="Only those of this key: its id, its name, local, or * for all together.")
@data_dir_option
@output_options
def list_limits(key: str | None, data_dir: str | None, form: Form) -> None:
    """List the token limits, with what was used of them and when they begin anew."""
    from omniroute.services.token_limits import document

    with open_services(data_dir) as services:
        scope_id = None if key is None else _scope(services, key)
        states = services.token_limits.all(scope_id)
    rows = [document(state, iso_time) for state in states]
    if form in (Form.TABLE, Form.CSV):
        rows = [row | {"scope": _scope_text(state)} for row, state in zip(rows, states, strict=True)]
    print_rows(form, "limits", rows, _LIMIT_COLUMNS)


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
@data_dir_option
@output_options
def set_limit(
    *, key: str, tokens: int, scope: str, period: str, enabled: bool | None, data_dir: str | None, form: Form
) -> None:
    """Let a key use at most so many tokens in each period; a limit about the same is replaced."""
    from omniroute.services.keys import SYSTEM
    from omniroute.services.token_limits import document

    scope_type, scope_value = _parsed_scope(scope)
    fields: dict[str, Any] = {"scopeType": scope_type, "tokenLimit": tokens, "period": period}
    if scope_value is not None:
        fields["scopeValue"] = scope_value
    if enabled is not None:
        fields["enabled"] = enabled
    with open_services(data_dir) as services:
        made = services.token_limits.set({**fields, "keyId": _scope(services, key)}, SYSTEM)
    notice(f"{made.name} may use {tokens} tokens {period} ({_scope_text(made)}); the id is {made.limit.id}.")
    if form is not Form.TABLE:
        print_document(document(made, iso_time))


@limits.command("remove")
@click.argument("limit_id", metavar="[ID]", required=False)
@click.option("--key", help="Instead of the id: those of this key, or local, or *.")
@click.option("--scope", metavar="SCOPE", help="With --key: only global, provider:NAME or model:NAME.")
@click.option("--period", type=click.Choice(PERIODS), help="With --key: only those of this period.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@data_dir_option
def remove_limits(
    *,
    limit_id: str | None,
    key: str | None,
    scope: str | None,
    period: str | None,
    yes: bool,
    data_dir: str | None,
) -> None:
    """Remove the token limit with this ID, or those of a key."""
    from omniroute.services.keys import SYSTEM

    if (limit_id is None) == (key is None) or (key is None and (scope or period)):
        raise Failure("Give the id of a limit, or --key with --scope or --period as you like.", Exit.MISUSE)
    with open_services(data_dir) as services:
        wanted = None if scope is None else _about(services, scope)
        scope_id = None if key is None else _scope(services, key)
        found = [
            state
            for state in services.token_limits.all(scope_id)
            if limit_id in (None, state.limit.id)
            and period in (None, state.limit.period)
            and wanted in (None, (state.limit.scope_type, state.limit.scope_value))
        ]
        if not found:
            raise Failure("There is no such token limit.", Exit.MISUSE)
        if not yes:
            confirm(f"Remove {', '.join(f'{one.limit.id} ({_scope_text(one)})' for one in found)}?")
        for state in found:
            services.token_limits.remove(state.limit.id, SYSTEM)
    notice(f"Removed {', '.join(state.limit.id for state in found)}.")


def _parsed_scope(text: str) -> tuple[str, str | None]:
    kind, _, value = text.partition(":")
    if kind == "global" and not value:
        return kind, None
    if kind in ("provider", "model") and value:
        return kind, value
    raise Failure(f"{text!r} is none of global, provider:NAME and model:NAME.", Exit.MISUSE)


def _about(services: Container, text: str) -> tuple[str, str | None]:
    """Return a scope as limits keep it."""
    scope_type, value = _parsed_scope(text)
    return scope_type, services.token_limits.scope_value(scope_type, value)


def _scope_text(state: LimitState) -> str:
    limit = state.limit
    return limit.scope_type if limit.scope_value is None else f"{limit.scope_type}:{limit.scope_value}"


def _scope(services: Container, wanted: str) -> str:
    """Return the id under which budgets and limits of a key are kept, which the command line names as people do."""
    return wanted if wanted in _RESERVED else find(services.keys, wanted).id


def _amount(usd: float) -> str:
    """Return an amount with cents, and with more only if there is more."""
    text = f"{usd:.9f}".rstrip("0")
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.ljust(2, '0')}"

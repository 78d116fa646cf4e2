"""`omniroute keys`: the API keys of this installation, through the same service as the dashboard."""

from __future__ import annotations

import sys
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.local import data_dir_option, open_services
from omniroute.cli.output import Form, iso_time, notice, output_options, print_document, print_rows
from omniroute.cli.usd import PERIODS, USD

if TYPE_CHECKING:
    from omniroute.records import ApiKey
    from omniroute.services.keys import Keys

_DAY_S = 86_400
_COLUMNS = {
    "id": "Id",
    "name": "Name",
    "key": "Key",
    "scopes": "Scopes",
    "allowedModels": "Models",
    "status": "Status",
    "lastUsedAt": "Last used",
    "expiresAt": "Expires",
}


@click.group("keys")
def command() -> None:
    """Create, list and revoke API keys."""


@command.command("create")
@click.argument("name", default="default")
@click.option("--scope", "scopes", multiple=True, help="What the key opens; repeatable. Default: chat.")
@click.option("--models", multiple=True, metavar="GLOB", help="Models that the key may use; repeatable. Default: all.")
@click.option("--expires", type=click.IntRange(1, 3650), metavar="DAYS", help="Days until it ends. Default: never.")
@click.option("--rpm", type=click.IntRange(1, 10**9), metavar="N", help="Requests that it may send in any minute.")
@click.option("--budget", type=USD, help="What it may spend in each period.")
@click.option("--period", type=click.Choice(PERIODS), help="How often that begins anew. Default: monthly.")
@click.option("--no-log", is_flag=True, help="Requests with this key leave no row in the request log.")
@data_dir_option
@output_options
def create(
    *,
    name: str,
    scopes: tuple[str, ...],
    models: tuple[str, ...],
    expires: int | None,
    rpm: int | None,
    budget: Decimal | None,
    period: str | None,
    no_log: bool,
    data_dir: str | None,
    form: Form,
) -> None:
    """Create a key and print it, once and alone on stdout."""
    from omniroute.services.keys import SYSTEM

    fields: dict[str, Any] = {"name": name}
    if scopes:
        fields["scopes"] = list(scopes)
    if models:
        fields["allowedModels"] = list(models)
    if expires is not None:
        fields["expiresAt"] = time.time() + expires * _DAY_S
    if no_log:
        fields["noLog"] = True
    if rpm is not None:
        fields["rateLimits"] = [{"limit": rpm, "windowSeconds": 60}]
    if period is not None and budget is None:
        raise Failure("--period is about a budget: give --budget too.", Exit.MISUSE)
    with open_services(data_dir) as services:
        issued = services.keys.create(fields, SYSTEM)
        if budget is not None:
            services.budgets.set(issued.key.id, {period or "monthly": budget}, {}, SYSTEM)
    notice(f"API key {issued.key.id} ({issued.key.name}). It is shown this once:")
    if form is Form.TABLE:
        click.echo(issued.secret)
    else:
        print_document(row_of(issued.key) | {"key": issued.secret})


@command.command("list")
@data_dir_option
@output_options
def list_keys(data_dir: str | None, form: Form) -> None:
    """List the keys; of each only its ends are shown."""
    with open_services(data_dir) as services:
        rows = [row_of(key) for key in services.keys.usable()]
    print_rows(form, "keys", rows, _COLUMNS)


@command.command("revoke")
@click.argument("key")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@data_dir_option
def revoke(key: str, yes: bool, data_dir: str | None) -> None:
    """End a key at once. KEY is its id, or its name if no other key has it."""
    from omniroute.services.keys import SYSTEM

    with open_services(data_dir) as services:
        found = find(services.keys, key)
        if not yes:
            confirm(f"Revoke {found.id} ({found.name})? Programs that use it stop working.")
        services.keys.revoke(found.id, SYSTEM)
    notice(f"Revoked {found.id} ({found.name}).")


def find(keys: Keys, wanted: str) -> ApiKey:
    """Return the key with this id or name.

    Raises:
        Failure: None has it, or several do.
    """
    matches = [key for key in keys.usable() if wanted in (key.id, key.name)]
    if not matches:
        raise Failure(f"There is no API key with the id or name {wanted!r}.", Exit.MISUSE)
    if len(matches) > 1:
        ids = ", ".join(key.id for key in matches)
        raise Failure(f"Several API keys are named {wanted!r}: {ids}. Give the id.", Exit.MISUSE)
    return matches[0]


def confirm(question: str) -> None:
    """Ask before something is destroyed; without a terminal to ask at, decline.

    Raises:
        Failure: The answer is no, or nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise Failure(f"{question} Add --yes to confirm.", Exit.MISUSE)
    if not click.confirm(question, err=True):
        raise Failure("Nothing was changed.", Exit.MISUSE)


def row_of(key: ApiKey) -> dict[str, Any]:
    """Return a key with the field names of the HTTP API, without its secret."""
    from omniroute.services.keys import masked, state_of

    return {
        "id": key.id,
        "name": key.name,
        "key": masked(key),
        "scopes": sorted(key.scopes),
        "allowedModels": list(key.allowed_models),
        "status": state_of(key, time.time()),
        "rateLimits": [{"limit": rule.limit, "windowSeconds": rule.window_seconds} for rule in key.rate_limits],
        "noLog": key.no_log,
        "createdAt": iso_time(key.created_at),
        "lastUsedAt": iso_time(key.last_used_at),
        "expiresAt": iso_time(key.expires_at),
    }

"""`omniroute aliases`: other names for models, through the same service as the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from omniroute.cli.keys import confirm
from omniroute.cli.local import data_dir_option, open_services
from omniroute.cli.output import Form, iso_time, notice, output_options, print_document, print_rows

if TYPE_CHECKING:
    from omniroute.records import ModelAlias

_COLUMNS: Final = {
    "pattern": "Pattern",
    "target": "Target",
    "priority": "Priority",
    "enabled": "Enabled",
    "hits": "Hits",
}
_MOST_PRIORITY: Final = 1000


@click.group("aliases")
def command() -> None:
    """List, set and remove aliases: other names, or patterns of names, for models."""


@command.command("list")
@click.option("--search", help="Only those with this text in pattern or target.")
@data_dir_option
@output_options
def list_aliases(search: str | None, data_dir: str | None, form: Form) -> None:
    """List the aliases, the oldest first."""
    with open_services(data_dir) as services:
        rows = [row_of(alias) for alias in services.aliases.all()]
    if search is not None:
        wanted = search.casefold()
        rows = [row for row in rows if wanted in f"{row['pattern']}\n{row['target']}".casefold()]
    print_rows(form, "aliases", rows, _COLUMNS)


@command.command("set")
@click.argument("pattern")
@click.argument("target")
@click.option("--priority", type=click.IntRange(-_MOST_PRIORITY, _MOST_PRIORITY), help="The higher wins. Default: 0.")
@click.option("--enabled/--disabled", "enabled", default=None, help="Whether it is followed. Default: yes.")
@data_dir_option
@output_options
def put(
    *, pattern: str, target: str, priority: int | None, enabled: bool | None, data_dir: str | None, form: Form
) -> None:
    """Let PATTERN lead to TARGET; an alias with the same pattern is replaced."""
    from omniroute.services.keys import SYSTEM

    fields: dict[str, Any] = {"pattern": pattern, "target": target}
    if priority is not None:
        fields["priority"] = priority
    if enabled is not None:
        fields["enabled"] = enabled
    with open_services(data_dir) as services:
        made = services.aliases.put(fields, SYSTEM)
    notice(f"{made.pattern} leads to {made.target}.")
    if form is not Form.TABLE:
        print_document(row_of(made))


@command.command("remove")
@click.argument("pattern")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@data_dir_option
def remove(pattern: str, yes: bool, data_dir: str | None) -> None:
    """Remove the alias with this pattern."""
    from omniroute.services.keys import SYSTEM

    with open_services(data_dir) as services:
        if not yes:
            confirm(f"Remove the alias {pattern!r}?")
        gone = services.aliases.delete(pattern=pattern, alias_id=None, origin=SYSTEM)
    notice(f"Removed {gone.pattern}.")


def row_of(alias: ModelAlias) -> dict[str, Any]:
    """Return an alias with the field names of the HTTP API."""
    return {
        "id": alias.id,
        "pattern": alias.pattern,
        "target": alias.target,
        "priority": alias.priority,
        "enabled": alias.enabled,
        "hits": alias.hit_count,
        "createdAt": iso_time(alias.created_at),
        "updatedAt": iso_time(alias.updated_at),
    }

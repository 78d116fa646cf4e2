"""`omniroute env`: the settings in effect, and where each value came from."""

from __future__ import annotations

from typing import Any

import click

from omniroute.cli.local import tell_warnings
from omniroute.cli.session import Session, pass_session
from omniroute.secret import Secret
from omniroute.settings import Settings, Variable, shown_default, variables


@click.command("env")
@click.option("--all", "show_all", is_flag=True, help="Also settings that nothing sets.")
@pass_session
def command(session: Session, show_all: bool) -> None:
    """Show the settings in effect and where they come from; secrets are masked."""
    settings = session.local_settings("This list")
    tell_warnings(settings)
    rows = [
        {
            "name": variable.name,
            "value": shown(settings, field_name, variable),
            "source": settings.sources.get(field_name, "default"),
        }
        for field_name, variable in variables().items()
        if show_all or field_name in settings.sources
    ]
    session.print_rows("variables", rows, {"name": "Name", "value": "Value", "source": "Source"})


def shown(settings: Settings, field_name: str, variable: Variable) -> str:
    """Return a value as it would be written in a `.env` file, a secret as its mask."""
    value: Any = getattr(settings, field_name)
    if variable.kind.is_secret and value is not None:
        # A database URL keeps its scheme: which database it is matters, its password does not.
        return "set" if isinstance(value, Secret) else f"{str(value).partition('://')[0]}://…"
    match value:
        case None:
            return shown_default(field_name)
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(value)
        case _:
            return str(value)

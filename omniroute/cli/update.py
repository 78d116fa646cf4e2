"""`omniroute update`: is there a newer version? Installing it is left to whatever installed this one."""

from __future__ import annotations

from typing import Final

import click

from omniroute.cli.session import Session, pass_session

_LABELS: Final = {"version": "Version", "newest": "Newest known", "checkedAt": "Looked"}


@click.command("update")
@click.option("--check", is_flag=True, help="Only say; nothing is ever installed, with or without this.")
@pass_session
def command(session: Session, check: bool) -> None:  # noqa: ARG001 - the only thing that it does
    """Say which version runs and the newest that is known; nothing is installed."""
    session.print_fields(session.api.get("/api/system/version"), _LABELS)

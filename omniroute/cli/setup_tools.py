"""`omniroute setup-TOOL`: write what a tool on this machine needs to use the active server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from omniroute.cli import Exit, Failure, tool_files
from omniroute.cli.output import Form, print_document
from omniroute.cli.server_models import KEY_VARIABLE, wanted_of
from omniroute.cli.session import Session, pass_session
from omniroute.cli.tool_files import Change
from omniroute.clients.spec import Tool, Wanted
from omniroute.clients.tools import BY_ID


def command_for(tool: Tool) -> click.Command:
    """Return the command that sets a tool up."""

    @click.command(f"setup-{tool.id}", help=f"Set {tool.name} up to use the active server.")
    @click.option("--model", metavar="M", help="The model to begin with. Default: the default combo, or the first.")
    @click.option("--only", multiple=True, metavar="GLOB", help="Models that it may offer; repeatable. Default: all.")
    @click.option(
        "--api-key-env",
        default=KEY_VARIABLE,
        show_default=True,
        metavar="NAME",
        help="The environment variable with the API key; the key itself is never written.",
    )
    @click.option("--config-path", metavar="FILE", help="Its file, if it is not at the usual place.")
    @click.option("--dry-run", is_flag=True, help="Show what would change, and write nothing.")
    @click.option("--undo", is_flag=True, help="Put its files back as they were before the last set-up.")
    @click.option("--force", is_flag=True, help="Take a model that the server does not list.")
    @pass_session
    def command(
        session: Session,
        *,
        model: str | None,
        only: tuple[str, ...],
        api_key_env: str,
        config_path: str | None,
        dry_run: bool,
        undo: bool,
        force: bool,
    ) -> None:
        given = Path(config_path).expanduser() if config_path is not None else None
        if undo:
            _undo(session, tool, given)
            return
        wanted = wanted_of(session, model=model, only=only, key_variable=api_key_env, is_forced=force)
        changes = tool_files.changes_of(tool.edits(wanted), Path.home(), given)
        write(session, tool, changes, is_dry_run=dry_run)
        tell_steps(session, tool, wanted)

    return command


def write(session: Session, tool: Tool, changes: Sequence[Change], *, is_dry_run: bool) -> None:
    """Show what would change, have it confirmed, write it, and say where the old text is kept."""
    wanted = [change for change in changes if change.is_one]
    if session.form is not Form.TABLE:
        print_document(
            {"tool": tool.id, "changes": [_document(change) for change in wanted], "applied": not is_dry_run}
        )
    if not wanted:
        if changes:
            session.notice(f"{tool.name} is set up already.")
        return
    if session.form is Form.TABLE:
        for change in wanted:
            click.echo(change.difference(), nl=False)
    if is_dry_run:
        session.notice("Nothing was written.")
        return
    session.confirm(f"Write {', '.join(str(change.path) for change in wanted)}?")
    for change in wanted:
        kept = tool_files.apply(change)
        session.notice(f"Wrote {change.path}" + (f"; as it was: {kept}" if kept is not None else ""))


def _document(change: Change) -> dict[str, Any]:
    return {"path": str(change.path), "isNew": change.before is None, "text": change.after}


def tell_steps(session: Session, tool: Tool, wanted: Wanted) -> None:
    """Say what is left to do by hand."""
    if session.form is Form.TABLE:
        session.notice("\nThen:" if tool.edits(wanted) else "")
        for step in tool.steps(wanted):
            session.notice(f"  {step}")


def _undo(session: Session, tool: Tool, given: Path | None) -> None:
    from omniroute.clients.spec import ClientModel

    # Where files are does not depend on what stands in them.
    nothing = ClientModel("none", "none")
    edits = tool.edits(Wanted("http://127.0.0.1", KEY_VARIABLE, nothing, (nothing,)))
    done = 0
    for number, edit in enumerate(edits):
        path = given if given is not None and number == 0 else tool_files.path_of(edit, Path.home())
        if tool_files.undo(path):
            done += 1
            session.notice(f"Put {path} back as it was.")
    if not done:
        raise Failure(f"No earlier text of {tool.name}'s files is kept.", Exit.MISUSE)


COMMANDS = {tool_id: command_for(tool) for tool_id, tool in BY_ID.items()}


def __getattr__(name: str) -> click.Command:
    """Give the command of a tool by the tool's id, as the table of commands names it."""
    try:
        return COMMANDS[name.replace("_", "-")]
    except KeyError:
        raise AttributeError(name) from None

"""`omniroute completion`: the script that lets a shell complete our commands."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from omniroute.cli import Failure, group
from omniroute.cli.session import Session, pass_session

VARIABLE: Final = "_OMNIROUTE_COMPLETE"
PLACES: Final = {
    "bash": ".local/share/bash-completion/completions/omniroute",
    "zsh": ".zfunc/_omniroute",
    "fish": ".config/fish/completions/omniroute.fish",
}
"""Below the home directory: where each shell looks by itself, zsh once the line that is told here is in its file."""


@click.command("completion")
@click.argument("shell", type=click.Choice(tuple(PLACES)))
@click.option("--install", is_flag=True, help="Put the script where the shell looks for it.")
@pass_session
def command(session: Session, shell: str, install: bool) -> None:
    """Print the completion script of SHELL, or install it for this account."""
    kind = get_completion_class(shell)
    if kind is None:
        raise Failure(f"There is no completion for {shell}.")
    source = kind(group, {}, "omniroute", VARIABLE).source()
    if not install:
        click.echo(source)
        return
    target = Path.home() / PLACES[shell]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror}.") from error
    session.notice(f"Wrote {target}; it takes effect in new shells.")
    if shell == "zsh":
        session.notice("If it does not, add to ~/.zshrc: fpath=(~/.zfunc $fpath); autoload -Uz compinit; compinit")

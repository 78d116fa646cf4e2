"""`omniroute uninstall`: take back what this command has put on the machine, and the data only when told so."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from omniroute.cli import Exit, Failure, contexts, server_process
from omniroute.cli.completion import PLACES
from omniroute.cli.session import Session, pass_session


@click.command("uninstall")
@click.option("--full", is_flag=True, help="Erase the data directory and the saved contexts too.")
@pass_session
def command(session: Session, full: bool) -> None:
    """Stop the server and remove completion scripts; data stays and its place is told, unless --full is given."""
    settings = session.local_settings("Uninstalling")
    if full:
        _confirm_erasing(session, settings.data_dir)
    pid = server_process.running_pid(settings.runtime_dir)
    if pid is not None:
        server_process.stop(pid, 60.0)
        session.notice("The server has stopped.")
    for place in PLACES.values():
        script = Path.home() / place
        if script.is_file():
            script.unlink()
            session.notice(f"Removed {script}")
    if not full:
        session.notice(f"The data stays in {settings.data_dir}")
        session.notice("The program itself: pip uninstall omniroute, or remove its directory.")
        return
    shutil.rmtree(settings.data_dir, ignore_errors=False)
    config = contexts.file_path()
    for path in (config, config.with_name(config.name + ".lock")):
        path.unlink(missing_ok=True)
    session.notice(f"Erased {settings.data_dir} and {config}")


def _confirm_erasing(session: Session, data_dir: Path) -> None:
    """Have the path typed: what is erased here is every key, account and record.

    Raises:
        Failure: it was not, or nobody can be asked, or the directory does not look like ours.
    """
    if not (data_dir / "storage.sqlite").exists() and not (data_dir / "secrets").is_dir():
        raise Failure(f"{data_dir} does not hold data of OmniRoute, so it is not erased.", Exit.MISUSE)
    if session.is_confirmed:
        return
    if not sys.stdin.isatty():
        raise Failure(f"Everything in {data_dir} would be erased. Add --yes to confirm.", Exit.MISUSE)
    typed = click.prompt(f"Everything in {data_dir} will be erased. Type that path to confirm", err=True)
    if Path(typed) != data_dir:
        raise Failure("Nothing was changed.", Exit.MISUSE)

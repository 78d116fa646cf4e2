"""`omniroute stop` and `omniroute restart`: the server of this machine."""

from __future__ import annotations

import os
from typing import Final

import click

from omniroute.cli import Exit, Failure, server_process
from omniroute.cli.session import Session, pass_session

_TIMEOUT: Final = click.FloatRange(0, 86_400)
_timeout_option: Final = click.option(
    "--timeout",
    "patience_s",
    type=_TIMEOUT,
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for requests to end.",
)


@click.command("stop")
@_timeout_option
@pass_session
def stop(session: Session, patience_s: float) -> None:
    """Stop the server of this machine; requests in flight are finished first."""
    _stop(session, patience_s)
    session.notice("The server has stopped.")


@click.command("restart")
@_timeout_option
@pass_session
def restart(session: Session, patience_s: float) -> None:
    """Stop the server of this machine and start it in the background with the options it had."""
    from omniroute.cli.local import load_settings
    from omniroute.cli.server import ALLOCATOR, check_before_start, child_command, child_environment

    before = session.local_settings("Restarting")
    options = server_process.remembered_options(before.runtime_dir)
    if session.data_dir is not None:
        options["DATA_DIR"] = str(before.data_dir)
    settings = load_settings(options=options)
    _stop(session, patience_s)
    check_before_start(settings)
    environ = {**ALLOCATOR, **child_environment(os.environ, options)}
    log = server_process.start_in_background(settings, child_command(), environ, options)
    session.notice(f"The server answers at {settings.local_url} again. Its output goes to {log}")


def _stop(session: Session, patience_s: float) -> None:
    settings = session.local_settings("Stopping a server")
    pid = server_process.running_pid(settings.runtime_dir)
    if pid is None:
        raise Failure(f"No server of {settings.data_dir} is running.", Exit.NOT_RUNNING)
    server_process.stop(pid, patience_s)

"""`omniroute server`: check what can be checked before anything listens, then become gunicorn."""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from omniroute.cli import Exit, Failure, server_process
from omniroute.cli.local import load_settings, tell_warnings
from omniroute.cli.output import notice
from omniroute.cli.session import Session, pass_session
from omniroute.settings import Settings, variables

GUNICORN: Final = (
    "-m",
    "gunicorn",
    "-c",
    "python:omniroute.runtime.gunicorn_conf",
    "omniroute.runtime.wsgi:app",
)
"""What the server process runs; the options come from the settings, read there again from the same places."""
ALLOCATOR: Final = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "1048576"}
"""glibc: few arenas, and free memory goes back to the system. Bodies come and go by the hundred kilobytes, and a small
host needs what they leave."""


@click.command("server")
@click.option("--port", type=int, help="Port to listen on; 20128 unless set otherwise.")
@click.option("--host", help="Address to bind; 127.0.0.1 unless set otherwise.")
@click.option("--workers", type=int, help="Number of worker processes.")
@click.option("--daemon", is_flag=True, help="Start it in the background and return when it answers.")
@click.option("--log", "follows_log", is_flag=True, help="With --daemon: show its log until interrupted.")
@click.option("--open", "opens_page", is_flag=True, help="With --daemon: open the dashboard in the browser.")
@pass_session
def command(
    session: Session,
    *,
    port: int | None = None,
    host: str | None = None,
    workers: int | None = None,
    daemon: bool = False,
    follows_log: bool = False,
    opens_page: bool = False,
) -> None:
    """Check the configuration and start the server; it runs until it is interrupted."""
    session.refuse_remote("Starting a server")
    if (follows_log or opens_page) and not daemon:
        raise click.UsageError("--log and --open go with --daemon; without it the server has this terminal.")
    options = chosen_options(port=port, host=host, workers=workers, data_dir=session.data_dir)
    settings = load_settings(options=options)
    tell_warnings(settings)
    check_before_start(settings)
    if os.geteuid() == 0:
        notice("Note: the server runs as root; an account of its own is safer.")
    environ = {**ALLOCATOR, **child_environment(os.environ, options)}
    if not daemon:
        server_process.remember_options(settings.runtime_dir, options)
        become(child_command(), environ)
    log = server_process.start_in_background(settings, child_command(), environ, options)
    notice(f"The server answers at {settings.local_url}. Its output goes to {log}")
    if opens_page:
        click.launch(f"{settings.local_url}{settings.base_path}/dashboard")
    if follows_log:
        server_process.follow(log)


def chosen_options(*, port: int | None, host: str | None, workers: int | None, data_dir: str | None) -> dict[str, str]:
    """Return what the command line sets, by variable name."""
    given = {
        "OMNIROUTE_PORT": str(port) if port is not None else None,
        "OMNIROUTE_HOST": host,
        "WEB_CONCURRENCY": str(workers) if workers is not None else None,
        "DATA_DIR": str(Path(data_dir).absolute()) if data_dir is not None else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def check_before_start(settings: Settings) -> None:
    """Refuse what would only fail later, or would be dangerous.

    Raises:
        ConfigurationError: The configuration is unsafe for this bind address.
        Failure: The port is taken, or the data directory cannot be used.
    """
    from omniroute.services.first_start import refuse_unsafe_public_bind

    for warning in refuse_unsafe_public_bind(settings):
        notice(f"Warning: {warning}")
    make_data_dir(settings.data_dir)
    check_port_is_free(settings.host, settings.port)


def make_data_dir(path: Path) -> None:
    """Create the data directory for its owner alone."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"The data directory {path} cannot be made: {error.strerror}.") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise Failure(f"The data directory {path} is not writable for this account.")


def check_port_is_free(host: str, port: int) -> None:
    """Bind the address for a moment, the way the server will."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise Failure(f"{host} is no address of this machine: {error.strerror}.", Exit.MISUSE) from error
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise Failure(_bind_problem(host, port, error), _bind_exit(error)) from error


def _bind_problem(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"Port {port} on {host} is taken by another program, or this server runs already "
                "('omniroute status' tells). Choose another with --port."
            )
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine."
        case errno.EACCES:
            return f"Port {port} needs more rights than this account has. Choose one above 1023 with --port."
        case _:
            return f"Port {port} on {host} cannot be used: {error.strerror}."


def _bind_exit(error: OSError) -> Exit:
    return Exit.FAILED if error.errno == errno.EADDRINUSE else Exit.MISUSE


def child_command() -> list[str]:
    """Return the command line of the server process."""
    if importlib.util.find_spec("gunicorn") is None:
        raise Failure("gunicorn is not installed: install the package with its dependencies.")
    return [sys.executable, *GUNICORN]


def child_environment(environ: Mapping[str, str], options: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the server process: what this one has, with the options as variables.

    The other spellings of a variable that an option sets are left out, so that nobody is warned about a contradiction
    that the option was meant to be.
    """
    overruled = {
        name for variable in variables().values() if options.keys() & set(variable.names) for name in variable.names
    }
    return {name: value for name, value in environ.items() if name not in overruled} | dict(options)


def become(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Replace this process, so that signals and the exit code are the server's own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(arguments[0], list(arguments), dict(environ))  # noqa: S606 -- our own interpreter, no shell

"""The installation on this machine: its settings, and its services without a running server."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from omniroute.cli.output import notice
from omniroute.settings import Level, Settings

if TYPE_CHECKING:
    from omniroute.container import Container

F = TypeVar("F", bound=Callable[..., Any])

data_dir_option: Callable[[F], F] = click.option(
    "--data-dir", type=click.Path(file_okay=False), help="Data directory of the server, instead of DATA_DIR."
)


def load_settings(data_dir: str | None = None, options: Mapping[str, str] | None = None) -> Settings:
    """Read the settings that a server started here would have.

    Raises:
        ConfigurationError: They are not valid.
    """
    given = dict(options or {})
    if data_dir is not None:
        given["DATA_DIR"] = str(Path(data_dir).absolute())
    return Settings.load(os.environ, Path.cwd(), options=given)


def tell_warnings(settings: Settings) -> None:
    """Print what is questionable about the configuration."""
    for item in settings.notices:
        if item.level is Level.WARNING:
            notice(f"Warning: {item.text}")


@contextmanager
def open_services(data_dir: str | None = None, options: Mapping[str, str] | None = None) -> Iterator[Container]:
    """Give the services of this installation; a running server follows what is changed through them."""
    settings = load_settings(data_dir, options)
    tell_warnings(settings)
    from omniroute import create_app

    # Data alone belongs on stdout, and a first start announces its password.
    with redirect_stdout(sys.stderr):
        app = create_app(replace(settings, notices=(), app_log_level=quieter(settings.app_log_level)))
    with app.app_context():
        container: Container = app.extensions["omniroute"]
        try:
            yield container
        finally:
            container.transport.http.close()
            container.database.dispose()


def quieter(level: str) -> str:
    """Return the log level of a command: what a server notes at its start is no news to one who lists keys."""
    return "warning" if level == "info" else level

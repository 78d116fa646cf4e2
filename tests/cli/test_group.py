"""The command tree: what it costs to import, what it says, and how failures leave it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from flask import Flask

from omniroute import __version__, errors
from omniroute.cli import COMMANDS, Exit, exit_code_of, group
from tests.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("flask", "gevent", "sqlalchemy", "requests", "cryptography", "gunicorn", "omniroute.settings")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_version() -> None:
    done = python("-m", "omniroute", "--version")

    assert (done.returncode, done.stdout) == (0, f"omniroute, version {__version__}\n")


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_little_is_imported_for_it(argument: str) -> None:
    """What makes it answer at once: the part `cold` of the benchmark measures how fast."""
    program = (
        "import sys, omniroute.cli\n"
        "try:\n    omniroute.cli.main([sys.argv[1]])\nexcept SystemExit:\n    pass\n"
        "print([name for name in sys.argv[2:] if name in sys.modules], len(sys.modules) < 200, file=sys.stderr)"
    )
    done = python("-c", program, argument, *HEAVY)

    assert done.stderr == "[] True\n"


def test_the_help_names_each_command_with_its_aliases(run: Run) -> None:
    text = run("--help").output

    assert all(name in text for name in COMMANDS)
    assert "server (serve, start)" in text


def test_an_unknown_command_is_misuse(run: Run) -> None:
    result = run("serv")

    assert result.exit_code == Exit.MISUSE
    assert "No such command" in result.stderr


def test_options_of_the_server_belong_to_it(run: Run) -> None:
    result = run("--port", "1", "status")

    assert result.exit_code == Exit.MISUSE
    assert "--port and --host" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("x"), Exit.MISUSE),
        (errors.NotFound(), Exit.MISUSE),
        (errors.Conflict(), Exit.MISUSE),
        (errors.ValidationFailed([]), Exit.MISUSE),
        (errors.RequestTooLarge(), Exit.MISUSE),
        (errors.AuthenticationFailed(), Exit.NOT_ALLOWED),
        (errors.PermissionDenied(), Exit.NOT_ALLOWED),
        (errors.BudgetExceeded(), Exit.LIMITED),
        (errors.RateLimited(), Exit.LIMITED),
        (errors.UpstreamTimeout("total"), Exit.TIMED_OUT),
        (errors.StorageError(), Exit.FAILED),
        (errors.UpstreamUnreachable(), Exit.FAILED),
    ],
)
def test_an_error_decides_the_exit_code(error: errors.OmniRouteError, code: Exit) -> None:
    assert exit_code_of(error) is code


def raising(error: BaseException) -> click.Command:
    @click.command("raise")
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (errors.NotFound("Nothing there."), Exit.MISUSE, "Error: Nothing there.\n"),
        (errors.StorageError(), Exit.FAILED, "Error: The gateway's database is not available.\n"),
        (KeyboardInterrupt(), Exit.INTERRUPTED, "Interrupted.\n"),
        (click.Abort(), Exit.INTERRUPTED, "Interrupted.\n"),
    ],
)
def test_a_failure_is_a_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: Exit, text: str
) -> None:
    monkeypatch.setattr(type(group), "get_command", lambda *_: raising(error))

    result = CliRunner().invoke(group, ["raise"])

    assert (result.exit_code, result.stdout, result.stderr) == (code, "", text)


def test_flask_has_the_same_commands(home: Path) -> None:
    app = Flask("test")
    app.cli.add_command(group, "omniroute")
    runner = app.test_cli_runner()

    under_flask = runner.invoke(args=["omniroute", "env"])
    alone = CliRunner().invoke(group, ["env"])

    assert under_flask.exit_code == 0
    assert under_flask.output == alone.output
    assert runner.invoke(args=["omniroute", "status"]).exit_code == Exit.NOT_RUNNING

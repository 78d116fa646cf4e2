"""`omniroute launch` and `omniroute snippet`: start a tool with the active server, or say how to."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.output import Form, print_document
from omniroute.cli.server_models import KEY_VARIABLE, wanted_of
from omniroute.cli.session import Session, pass_session
from omniroute.clients.merge import merged
from omniroute.clients.spec import Tool, Wanted
from omniroute.clients.tools import BY_ID, LAUNCHED, TOOLS

_OPENCODE_VARIABLE: Final = "OPENCODE_CONFIG_CONTENT"


@click.command("launch", context_settings={"ignore_unknown_options": True})
@click.argument("tool", type=click.Choice(LAUNCHED))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--model", metavar="M", help="The model to begin with. Default: the default combo, or the first.")
@click.option("--profile", metavar="N", help="A profile of the tool, as `omniroute configure` writes them.")
@click.option("--key-env", default=KEY_VARIABLE, show_default=True, metavar="NAME", help="Variable with the API key.")
@pass_session
def command(
    session: Session, *, tool: str, arguments: tuple[str, ...], model: str | None, profile: str | None, key_env: str
) -> None:
    """Start TOOL so that it uses the active server; nothing is written. What stands behind `--` goes to the tool."""
    _launch(session, BY_ID[tool], arguments, model=model, profile=profile, key_env=key_env)


@click.command("launch-codex", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--model", metavar="M", help="The model to begin with. Default: the default combo, or the first.")
@click.option("--profile", metavar="N", help="A profile of Codex, as `omniroute configure codex` writes them.")
@click.option("--key-env", default=KEY_VARIABLE, show_default=True, metavar="NAME", help="Variable with the API key.")
@pass_session
def launch_codex(
    session: Session, *, arguments: tuple[str, ...], model: str | None, profile: str | None, key_env: str
) -> None:
    """Start Codex so that it uses the active server; the same as `omniroute launch codex`."""
    _launch(session, BY_ID["codex"], arguments, model=model, profile=profile, key_env=key_env)


def _launch(
    session: Session,
    tool: Tool,
    arguments: tuple[str, ...],
    *,
    model: str | None,
    profile: str | None,
    key_env: str,
) -> None:
    program = shutil.which(str(tool.program))
    if program is None:
        raise Failure(f"{tool.name} is not installed. Install it with: {tool.install}", Exit.MISUSE)
    session.server  # noqa: B018 - a tool needs a server that runs
    wanted = wanted_of(session, model=model, key_variable=key_env)
    environ = _environment(session, tool, wanted)
    own = _profile_arguments(tool, profile) if profile is not None else tool.arguments(wanted)
    session.notice(f"{tool.name} uses {wanted.base_url}, {profile or wanted.model.id}.")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(program, [str(tool.program), *own, *arguments], environ)  # noqa: S606 - a known program, no shell


def _profile_arguments(tool: Tool, profile: str) -> tuple[str, ...]:
    if tool.id != "codex":
        raise Failure(f"{tool.name} is started without profiles here.", Exit.MISUSE)
    return ("--profile", profile)


def _environment(session: Session, tool: Tool, wanted: Wanted) -> dict[str, str]:
    """Return the environment of the tool: ours, with the address and the key."""
    saved = session.target.context.api_key if session.target.context is not None else None
    key = session.api_key or os.environ.get(wanted.key_variable) or saved
    if key is None:
        if not session.target.is_here:
            raise Failure(f"Put an API key of the server into {wanted.key_variable} first.", Exit.NOT_ALLOWED)
        key = "local"  # programs want something in the place of a key; callers on the same machine need none
    variables = tool.environment(wanted)
    environ = dict(os.environ)
    for name, value in variables.items():
        environ[name] = key if value == f"${wanted.key_variable}" else value
    if tool.id == "opencode":
        (edit,) = tool.edits(wanted)
        environ[_OPENCODE_VARIABLE] = merged(None, edit)
    return environ


@click.command("snippet")
@click.argument("tool", type=click.Choice([tool.id for tool in TOOLS]))
@click.option("--model", metavar="M", help="The model to begin with. Default: the default combo, or the first.")
@click.option("--only", multiple=True, metavar="GLOB", help="Models that it may offer; repeatable. Default: all.")
@click.option(
    "--api-key-env", default=KEY_VARIABLE, show_default=True, metavar="NAME", help="Variable with the API key."
)
@pass_session
def snippet(session: Session, *, tool: str, model: str | None, only: tuple[str, ...], api_key_env: str) -> None:
    """Print what to write for TOOL by hand, and the steps after it."""
    found = BY_ID[tool]
    wanted = wanted_of(session, model=model, only=only, key_variable=api_key_env)
    files = [{"path": f"~/{edit.path}", "text": merged(None, edit)} for edit in found.edits(wanted)]
    steps = list(found.steps(wanted))
    if session.form is not Form.TABLE:
        print_document({"tool": tool, "name": found.name, "source": found.source, "files": files, "steps": steps})
        return
    for file in files:
        click.echo(f"# {file['path']}\n{file['text']}")
    for step in steps:
        click.echo(step)

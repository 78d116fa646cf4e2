"""`omniroute configure`: a profile for one model, beside whatever a tool does otherwise."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from omniroute.cli import Exit, Failure, tool_files
from omniroute.cli.server_models import KEY_VARIABLE, address_of, choose, models_of
from omniroute.cli.session import Session, pass_session
from omniroute.cli.setup_tools import write
from omniroute.clients.spec import ClientModel, Edit, Wanted
from omniroute.clients.tools import BY_ID, codex_profile_edits

TOOLS: Final = ("codex", "claude")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_SHOWN: Final = 30


@click.command("configure")
@click.argument("tool", type=click.Choice(TOOLS))
@click.option("--provider", metavar="P", help="The provider, by its prefix. Default: asked for.")
@click.option("--model", metavar="M", help="The model, with or without the prefix. Default: asked for.")
@click.option("--name", metavar="N", help="Name of the profile. Default: letters and digits of the model.")
@click.option("--home", metavar="DIR", type=click.Path(file_okay=False), help="Write below DIR instead of the home.")
@click.option(
    "--api-key-env", default=KEY_VARIABLE, show_default=True, metavar="NAME", help="Variable with the API key."
)
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@click.option("--force", is_flag=True, help="Take a model that the server does not list.")
@pass_session
def command(
    session: Session,
    *,
    tool: str,
    provider: str | None,
    model: str | None,
    name: str | None,
    home: str | None,
    api_key_env: str,
    dry_run: bool,
    force: bool,
) -> None:
    """Write a profile of TOOL for one model of the active server.

    The list of models comes from the server, the file is written on this machine. Without --provider and --model both
    are asked for.
    """
    models = models_of(session)
    chosen = _chosen(models, provider, model, is_forced=force)
    profile = name or default_name(chosen.id)
    if not _NAME.fullmatch(profile):
        raise Failure(f"{profile!r} cannot name a profile: use letters, digits, '-' and '_'.", Exit.MISUSE)
    wanted = Wanted(address_of(session), api_key_env, chosen, (chosen,))
    place = Path(home).expanduser() if home is not None else Path.home()
    changes = tool_files.changes_of(_edits(tool, wanted, profile), place)
    # A profile is a file of its own: there is nothing in it that could be lost.
    session.is_confirmed = True
    write(session, BY_ID[tool], changes, is_dry_run=dry_run)
    if not dry_run:
        _tell(session, tool, wanted, profile, changes[-1].path)


def default_name(model: str) -> str:
    """Return the name of a profile for a model: its id without prefix, letters and digits only."""
    return "".join(c for c in model.rpartition("/")[2] if c.isascii() and c.isalnum()) or "omniroute"


def _edits(tool: str, wanted: Wanted, profile: str) -> tuple[Edit, ...]:
    if tool == "codex":
        return codex_profile_edits(wanted, profile)
    (edit,) = BY_ID["claude"].edits(wanted)
    return (Edit(f".claude/profiles/{profile}/settings.json", edit.format, edit.members, variable=edit.variable),)


def _tell(session: Session, tool: str, wanted: Wanted, profile: str, path: Path) -> None:
    session.notice(f"Profile '{profile}' for {wanted.model.id}: {path}")
    session.notice(f"  export {wanted.key_variable}=…        # a key of `omniroute keys add`")
    if tool == "codex":
        click.echo(f"codex --profile {profile}")
    else:
        click.echo(f"claude --settings {path}")


def _chosen(models: Sequence[ClientModel], provider: str | None, model: str | None, *, is_forced: bool) -> ClientModel:
    """Return the model that options name, or that a person chooses."""
    if model is not None:
        full = model if provider is None or model.startswith(f"{provider}/") else f"{provider}/{model}"
        return choose(models, full, is_forced=is_forced)
    if not sys.stdin.isatty():
        raise Failure("Nobody can be asked here: add --model, or --provider and --model.", Exit.MISUSE)
    groups: dict[str, list[ClientModel]] = {}
    for one in models:
        prefix, slash, _rest = one.id.partition("/")
        groups.setdefault(prefix if slash else "combos", []).append(one)
    if not groups:
        return choose(models, None)
    if provider is None:
        provider = _pick("Provider", list(groups))
    if provider not in groups:
        raise Failure(f"Nothing of {provider!r} is connected. There are: {', '.join(groups)}.", Exit.MISUSE)
    wanted = _pick("Model", [one.id for one in groups[provider]])
    return choose(models, wanted)


def _pick(what: str, names: Sequence[str]) -> str:
    """Ask for one of a list, by number or name; anything else narrows the list down."""
    shown = list(names)
    while True:
        for number, name in enumerate(shown[:_SHOWN], 1):
            click.echo(f"  {number:>3}  {name}", err=True)
        if len(shown) > _SHOWN:
            click.echo(f"  … {len(shown) - _SHOWN} more; type a part of the name", err=True)
        typed = str(click.prompt(what, default="1", err=True)).strip()
        if typed in names:
            return typed
        if typed.isdecimal() and 1 <= int(typed) <= min(len(shown), _SHOWN):
            return shown[int(typed) - 1]
        narrowed = [name for name in names if typed.casefold() in name.casefold()]
        if len(narrowed) == 1:
            return narrowed[0]
        click.echo(f"Nothing fits {typed!r}." if not narrowed else f"{len(narrowed)} fit {typed!r}:", err=True)
        shown = narrowed or list(names)

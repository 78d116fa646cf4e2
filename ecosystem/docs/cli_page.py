"""Writes `cli.md` from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from omniroute.cli import COMMANDS, Exit, group
from omniroute.cli.groups import AliasGroup
from omniroute.cli.session import global_options

INTRODUCTION = """\
# Command line

<!-- Written by `make docs` from the commands; change their help texts, not this page. -->

`omniroute COMMAND`, `python -m omniroute COMMAND` and `flask omniroute COMMAND` are the same. In a clone, `make run`
puts the script at `.venv/bin/omniroute`; set `DATA_DIR=instance` (or write it to `.env`) to work with the data of
`make run`.

- Data goes to stdout, everything else (notices, prompts, progress) to stderr, so that pipes stay clean.
- A secret is printed once, alone on stdout. Secrets are read from standard input, a file, an environment variable or a
  prompt; one given as an argument works, with a warning about the history of the shell.
- What destroys something asks first. Without a terminal to ask at, it declines unless `--yes` is given.
- `-h`, `--help` works everywhere.

## Which server a command talks to

Commands use the management API, so they print the same for this machine and for a server elsewhere.

| Situation | What happens |
|---|---|
| the active context is a remote server, or `--base-url` is given | HTTP with the access token of that context |
| this machine, and its server runs | HTTP over loopback with the token that the server leaves for its own user |
| this machine, and no server runs | the same API inside the command, on the database; a server started later finds it |
| this machine, no server, and the command needs one | exit code 3 and how to start it |

Commands about the installation itself (`server`, `stop`, `restart`, `setup`, `doctor`, `reset-password`, `secrets`,
`migrate`, `env`, `backup`, `restore`, `uninstall`) refuse a remote context.

| Value | Where it comes from, the first that says something |
|---|---|
| server | `--base-url`, `--context`, `OMNIROUTE_BASE_URL`, `OMNIROUTE_CONTEXT`, the current context, this machine |
| credential | `--token` or `--api-key`, `OMNIROUTE_TOKEN` or `OMNIROUTE_API_KEY`, the context, the local token |
| settings of a server | option, environment, `DATA_DIR/.env`, `./.env`, stored setting, default |

Contexts are kept in `~/.omniroute/config.json` (or where `OMNIROUTE_CONFIG` says), readable by their owner only.
`default` is this machine and cannot be removed. A token goes to the server of its context and nowhere else; redirects
are not followed. Before a secret goes over plain http to an address that is neither on this machine nor in a private
network or Tailnet, the command asks.

Reads are tried up to three times more when the server is busy or the connection breaks; writes only when no connection
was made.
"""

EXIT_MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "failed; also: `doctor` found a failure, a test was negative",
    Exit.MISUSE: "misuse, refused input, or a configuration that is not valid or not safe",
    Exit.NOT_RUNNING: "the server is not running or not reachable",
    Exit.NOT_ALLOWED: "not logged in or not allowed; the message names the scope that is missing",
    Exit.LIMITED: "a budget or limit is used up; the message says when to try again",
    Exit.TIMED_OUT: "timed out",
    Exit.INTERRUPTED: "interrupted",
}


def render() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION, _options_everywhere(), _exit_codes(), _start()]
    context = click.Context(group, info_name="omniroute")
    for name, entry in COMMANDS.items():
        command = group.get_command(context, name)
        if command is None:
            raise LookupError(name)
        parts += _sections(command, f"omniroute {name}", entry.aliases)
    return "\n".join(parts).rstrip() + "\n"


def _options_everywhere() -> str:
    return "## Options of every command\n\nThey stand before or behind the command.\n\n" + _table(global_options())


def _exit_codes() -> str:
    rows = "".join(f"| {code.value} | {EXIT_MEANINGS[code]} |\n" for code in Exit)
    return f"## Exit codes\n\n| Code | Meaning |\n|---|---|\n{rows}"


def _start() -> str:
    return (
        "## `omniroute`\n\nWithout a command it starts the server, with `--port` and `--host` as below."
        " `--version` prints the version.\n"
    )


def _sections(command: click.Command, path: str, aliases: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the section of a command, then those of the commands in it."""
    arguments = "".join(f" {_argument(p)}" for p in command.params if isinstance(p, click.Argument))
    also = f" (also {', '.join(f'`{alias}`' for alias in aliases)})" if aliases else ""
    yield f"## `{path}{arguments}`{also}\n"
    yield f"{_help(command)}\n"
    own = [p for p in command.params if isinstance(p, click.Option) and not _is_global(p)]
    if own:
        yield _table(own)
    if isinstance(command, click.Group):
        spellings: dict[str, tuple[str, ...]] = {}
        if isinstance(command, AliasGroup):
            for other, name in command.aliases.items():
                spellings[name] = (*spellings.get(name, ()), other)
        for name in command.list_commands(click.Context(command)):
            yield from _sections(command.commands[name], f"{path} {name}", spellings.get(name, ()))


def _is_global(option: click.Option) -> bool:
    return not option.expose_value and any(set(option.opts) & set(other.opts) for other in global_options())


def _argument(argument: click.Argument) -> str:
    return argument.make_metavar(click.Context(click.Command("x")))


def _help(command: click.Command) -> str:
    text = (command.help or "").strip()
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _table(options: Any) -> str:
    rows = "".join(f"| {_spelling(option)} | {_meaning(option)} |\n" for option in options)
    return f"| Option | Meaning |\n|---|---|\n{rows}"


def _spelling(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag or option.count:
        return names
    if isinstance(option.type, click.Choice):
        choices = r"\|".join(str(choice) for choice in option.type.choices)
        return f"{names} `{choices}`"
    return f"{names} `{option.make_metavar(click.Context(click.Command('x')))}`"


def _meaning(option: click.Option) -> str:
    text = " ".join((option.help or "").split())
    if option.show_default and option.default is not None and not option.is_flag:
        text = f"{text} Default: {option.default}."
    return text.replace("|", "\\|")

"""The command line: one tree, reachable as `omniroute …` and as `flask omniroute …`.

Belongs here: reading options, asking, printing, exit codes. Must not be here: policy and SQL; a command calls a
service, or the running server.

Importing this package imports Click and nothing else of weight: each command lives in a module of its own that is
imported when it is called, so that `--version` and `--help` answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib import import_module
from typing import Any, Final

import click

from omniroute import __version__


class Exit(IntEnum):
    """What the exit code of a command says."""

    DONE = 0
    FAILED = 1
    MISUSE = 2
    NOT_RUNNING = 3
    NOT_ALLOWED = 4
    LIMITED = 5
    TIMED_OUT = 124
    INTERRUPTED = 130


class Failure(click.ClickException):
    """A failure that a command reports itself."""

    def __init__(self, message: str, exit_code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc] # Click reads it from the instance


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that is imported when it is needed: where it is, and its line in the help."""

    location: str
    help: str
    aliases: tuple[str, ...] = ()


TOOL_NAMES: Final = {
    "claude": "Claude Code",
    "codex": "Codex",
    "opencode": "OpenCode",
    "openclaw": "OpenClaw",
    "cline": "Cline",
    "continue": "Continue",
    "roo": "Roo Code",
    "cursor": "Cursor",
    "aider": "Aider",
    "goose": "Goose",
    "qwen": "Qwen Code",
    "gemini": "Gemini CLI",
    "crush": "Crush",
}
"""Tools that can be set up, by id; `omniroute.clients.tools` says how (a test compares)."""

COMMANDS: Final[dict[str, Entry]] = {
    "server": Entry(
        "omniroute.cli.server:command", "Check the configuration and start the server.", ("serve", "start")
    ),
    "stop": Entry(
        "omniroute.cli.server_life:stop", "Stop the server of this machine; requests in flight are finished first."
    ),
    "restart": Entry(
        "omniroute.cli.server_life:restart",
        "Stop the server of this machine and start it in the background with the options it had.",
    ),
    "status": Entry("omniroute.cli.status:command", "Say whether the server is running."),
    "setup": Entry(
        "omniroute.cli.setup:command", "Set up this installation: password, first account, first combo, first API key."
    ),
    "doctor": Entry("omniroute.cli.doctor:command", "Check this installation and say how to mend it."),
    "reset-password": Entry("omniroute.cli.setup_access:command", "Set a new dashboard password."),
    "connect": Entry("omniroute.cli.connect:command", "Log in to the server at HOST and use it from here on."),
    "contexts": Entry(
        "omniroute.cli.context_commands:command",
        "List, choose, add, rename and remove the servers that are known here.",
        ("context",),
    ),
    "whoami": Entry("omniroute.cli.connect:whoami", "Say who the server takes you for, and what you may do."),
    "tokens": Entry("omniroute.cli.tokens:command", "Create, list and revoke access tokens for management."),
    "providers": Entry("omniroute.cli.providers:command", "List, add, test and remove accounts at providers."),
    "nodes": Entry("omniroute.cli.nodes:command", "List, add, change and remove endpoints of your own."),
    "models": Entry("omniroute.cli.models:command", "List, add, hide and test models."),
    "keys": Entry("omniroute.cli.keys:command", "Create, list, change and remove API keys."),
    "aliases": Entry(
        "omniroute.cli.aliases:command",
        "List, set and remove aliases: other names, or patterns of names, for models.",
    ),
    "mappings": Entry(
        "omniroute.cli.mappings:command",
        "List, set and remove mappings: patterns of model names that lead to combos.",
    ),
    "chains": Entry(
        "omniroute.cli.chains:command",
        "List, set and remove fallback chains: what is tried when a request's own targets are exhausted.",
    ),
    "combos": Entry(
        "omniroute.cli.combos:command",
        "List, change and test combos: names for several models with an order.",
        ("combo",),
    ),
    "pricing": Entry("omniroute.cli.pricing:command", "List, set, import and reset prices of models."),
    "usage": Entry("omniroute.cli.usage:command", "Show what requests used, by model, provider, key, combo or day."),
    "cost": Entry("omniroute.cli.cost:command", "Show what requests cost, and compare it with what a provider bills."),
    "budget": Entry(
        "omniroute.cli.budgets:budget",
        "List, set and remove budgets: what a key, keyless callers, or all together may spend.",
    ),
    "limits": Entry(
        "omniroute.cli.budgets:limits",
        "List, set and remove token limits: how many tokens callers may use of a provider, a model, or in all.",
    ),
    "simulate": Entry(
        "omniroute.cli.routing:simulate", "Show who would be tried for a request, in which order; none is sent."
    ),
    "explain": Entry(
        "omniroute.cli.routing:explain",
        "Say in words how a request was routed: who was tried, who was left out, and why.",
    ),
    "replay": Entry(
        "omniroute.cli.routing:replay",
        "Replay recorded requests against another policy. Nothing is sent and nothing is changed.",
    ),
    "quota": Entry("omniroute.cli.quota:command", "Show what is left of the providers' quotas and credit."),
    "chat": Entry(
        "omniroute.cli.chat:command",
        "Ask a model PROMPT and print its answer; what it cost and who served it goes to stderr.",
    ),
    "translator": Entry(
        "omniroute.cli.translator:command",
        "Turn formats into one another, send a request with every stage shown, run the test bench.",
    ),
    "health": Entry("omniroute.cli.health:command", "Show how the server and its providers are."),
    "logs": Entry(
        "omniroute.cli.logs:command", "Show the server's log, or with --requests the requests that it served."
    ),
    "audit": Entry("omniroute.cli.audit:command", "Show, export and check the record of who changed what."),
    "resilience": Entry("omniroute.cli.resilience:command", "Show what rests and why, and end it early."),
    "sessions": Entry(
        "omniroute.cli.sessions:command",
        "List and end sticky sessions: conversations that stay at the connection that served them.",
    ),
    "config": Entry(
        "omniroute.cli.config:command", "Read and change settings, or export and apply the whole configuration."
    ),
    "backup": Entry(
        "omniroute.cli.backup:command", "Make, list and remove backups; without a command one is made now."
    ),
    "restore": Entry("omniroute.cli.backup:restore", "Put the data of a backup in the place of the present data."),
    "export": Entry("omniroute.cli.transfer:export", "Write the server's database to FILE."),
    "import": Entry(
        "omniroute.cli.transfer:import_file", "Replace the server's data by that of FILE, a `.sqlite` export."
    ),
    "secrets": Entry(
        "omniroute.cli.secrets:command", "Check and replace the encryption key of the installation on this machine."
    ),
    "configure": Entry(
        "omniroute.cli.configure:command", "Write a profile of TOOL for one model of the active server."
    ),
    "launch": Entry("omniroute.cli.launch:command", "Start TOOL so that it uses the active server."),
    "launch-codex": Entry("omniroute.cli.launch:launch_codex", "Start Codex so that it uses the active server."),
    "snippet": Entry("omniroute.cli.launch:snippet", "Print what to write for TOOL by hand, and the steps after it."),
    **{
        f"setup-{tool}": Entry(
            f"omniroute.cli.setup_tools:{tool.replace('-', '_')}", f"Set {name} up to use the active server."
        )
        for tool, name in TOOL_NAMES.items()
    },
    "completion": Entry(
        "omniroute.cli.completion:command", "Print the completion script of SHELL, or install it for this account."
    ),
    "open": Entry("omniroute.cli.open_page:command", "Open the dashboard of the active server in the browser."),
    "uninstall": Entry("omniroute.cli.uninstall:command", "Stop the server and remove completion scripts."),
    "migrate": Entry("omniroute.cli.migrate:command", "Bring the database to the schema of this version."),
    "env": Entry("omniroute.cli.environment:command", "Show the settings in effect and where they come from."),
    "sandbox": Entry("omniroute.cli.sandbox:command", "Run the simulated provider as a server of its own."),
}
_ALIASES: Final = {alias: name for name, entry in COMMANDS.items() for alias in entry.aliases}


class _LazyGroup(click.Group):
    """A group whose commands are imported on use and whose failures become exit codes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prepared: set[str] = set()
        self._has_global_options = False

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options of the group: its own, and those that every command takes."""
        from omniroute.cli.session import global_options

        if not self._has_global_options:
            self._has_global_options = True
            self.params.extend(global_options())
        return super().get_params(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(_ALIASES.get(cmd_name, cmd_name))
        if entry is None:
            return None
        module, _, attribute = entry.location.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        if entry.location not in self._prepared:
            from omniroute.cli.session import with_global_options

            self._prepared.add(entry.location)
            with_global_options(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name + (f" ({', '.join(entry.aliases)})" if entry.aliases else ""), entry.help)
                    for name, entry in COMMANDS.items()
                ]
            )

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what it raises is shown without a traceback and decides the exit code."""
        from omniroute.errors import OmniRouteError

        try:
            return super().invoke(ctx)
        except OmniRouteError as error:
            raise Failure(error.message, exit_code_of(error)) from error
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted.", err=True)
            ctx.exit(Exit.INTERRUPTED)


def exit_code_of(error: Any) -> Exit:
    """Return the exit code that says what kind of error it was."""
    from omniroute.errors import ConfigurationError

    if isinstance(error, ConfigurationError):
        return Exit.MISUSE
    match error.http_status:
        case 400 | 404 | 409 | 413 | 415 | 422:
            return Exit.MISUSE
        case 401 | 403:
            return Exit.NOT_ALLOWED
        case 402 | 429:
            return Exit.LIMITED
        case 504:
            return Exit.TIMED_OUT
        case _:
            return Exit.FAILED


@click.group(
    name="omniroute",
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="OmniRoute, a self-hosted AI gateway. Without a command it starts the server.",
)
@click.option("--port", type=int, help="Without a command: the port to listen on.")
@click.option("--host", help="Without a command: the address to bind.")
@click.version_option(__version__, prog_name="omniroute")
@click.pass_context
def group(ctx: click.Context, port: int | None, host: str | None) -> None:
    """Start the server unless a command is given."""
    if ctx.invoked_subcommand is None:
        from omniroute.cli.server import command

        ctx.invoke(command, port=port, host=host)
    elif port is not None or host is not None:
        raise click.UsageError("--port and --host stand after the command they belong to.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the console script."""
    group.main(args=list(arguments) if arguments is not None else sys.argv[1:], prog_name="omniroute")

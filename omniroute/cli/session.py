"""One run of the command line: what was asked for everywhere, which server is meant, how to answer.

A command gets it with `@pass_session` and talks through it:

    @command.command("list")
    @pass_session
    def list_notes(session: Session) -> None:
        '''List the notes.'''
        session.print_rows("notes", session.api.rows("/api/notes", "notes"), {"id": "Id", "text": "Text"})
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import click

from omniroute.cli import Exit, Failure, contexts, output
from omniroute.cli.client import Api, HttpTransport
from omniroute.cli.contexts import Context
from omniroute.cli.output import Form

if TYPE_CHECKING:
    from omniroute.settings import Settings

C = TypeVar("C", bound=click.Command)
P = ParamSpec("P")

_KEY: Final = "omniroute.session"
_TIMEOUT_S: Final = 30.0
_NEAR: Final = tuple(
    ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # Tailnets
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)


@dataclass(frozen=True, slots=True)
class Target:
    """The server that a command talks to.

    Attributes:
        context: the saved context it comes from; None for an address that was only given.
        is_here: whether it is the installation of this machine, found through its data directory.
    """

    base_url: str
    token: str | None
    context: Context | None
    is_here: bool

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.base_url if self.context is None else f"{self.base_url} (context {self.context.name})"


class Session:
    """What was asked for everywhere, and the server that is meant. Filled in by the options as they are parsed."""

    def __init__(self) -> None:
        self.context: str | None = None
        self.base_url: str | None = None
        self.token: str | None = None
        self.is_token_piped = False
        self.api_key: str | None = None
        self.form: Form = Form.TABLE
        self.is_quiet = False
        self.is_confirmed = False
        self.timeout_s: float | None = None
        self.is_verbose = False
        self.data_dir: str | None = None
        self._api: Api | None = None
        self._target: Target | None = None

    # --- which server ------------------------------------------------------------------------------------------------

    @property
    def target(self) -> Target:
        """The server that is meant: option, then environment, then the current context, then this machine."""
        if self._target is None:
            self._target = self._find_target()
        return self._target

    def _find_target(self) -> Target:
        given_url = self.base_url or (None if self.context else os.environ.get("OMNIROUTE_BASE_URL"))
        token = self._given_token()
        if given_url:
            url = contexts.url_of_host(given_url)
            every = contexts.load().by_name.values()
            known = next((one for one in every if contexts.origin_of(one.base_url) == contexts.origin_of(url)), None)
            # The token of a context goes to the server of that context alone.
            return Target(url, token or (known.token if known else None), None, is_here=False)
        name = self.context or os.environ.get("OMNIROUTE_CONTEXT")
        saved = contexts.load()
        chosen = saved.get(name or saved.current)
        if chosen.is_local:
            return Target(chosen.base_url, token, chosen, is_here=True)
        return Target(chosen.base_url, token or chosen.token, chosen, is_here=False)

    def _given_token(self) -> str | None:
        if self.is_token_piped:
            return sys.stdin.readline().strip() or None
        return self.token or os.environ.get("OMNIROUTE_TOKEN") or None

    @property
    def api(self) -> Api:
        """The management API of the server that is meant; of this machine also while no server runs.

        Raises:
            Failure: the server is not to be reached like this.
        """
        if self._api is None:
            self._api = self._here() if self.target.is_here else self._there()
        return self._api

    @property
    def server(self) -> Api:
        """The management API of a server that runs.

        Raises:
            Failure: none does, with exit code 3.
        """
        if self._api is None and self.target.is_here and self._running() is None:
            raise Failure("No server runs here. Start it with: omniroute server", Exit.NOT_RUNNING)
        return self.api

    def _here(self) -> Api:
        running = self._running()
        if running is not None:
            return running
        from omniroute.cli.in_process import InProcess

        transport = InProcess(self.data_dir)
        click.get_current_context().call_on_close(transport.close)
        return Api(transport, self._tell_exchange)

    def _running(self) -> Api | None:
        """Return the API of the server that runs on this machine, if one does."""
        from omniroute.cli.local import load_settings
        from omniroute.cli.running import announcement, ask
        from omniroute.services.first_start import CLI_TOKEN_HEADER, read_cli_token

        settings = load_settings(self.data_dir)
        said = announcement(settings.runtime_dir)
        if said is None or said.address is None or ask(said.address, "/healthz") is None:
            return None
        token = read_cli_token(settings.runtime_dir)
        headers = {CLI_TOKEN_HEADER: token} if token else {}
        if self.target.token is not None:
            headers = _bearer(self.target.token)
        return Api(self._http(said.address, headers, "The server on this machine", is_local=True), self._tell_exchange)

    def _there(self) -> Api:
        target = self.target
        if target.token is None:
            raise Failure(
                f"There is no token for {target.name}. Log in with: omniroute connect {target.base_url}",
                Exit.NOT_ALLOWED,
            )
        self.check_plain_http(target.base_url, is_accepted=_is_accepted(target.context))
        return Api(self._http(target.base_url, _bearer(target.token), target.name), self._tell_exchange)

    @property
    def inference(self) -> Api:
        """The inference routes of the server that is meant, with an API key: option, environment, context, or none.

        Raises:
            Failure: no server runs here.
        """
        target = self.target
        saved = target.context.api_key if target.context is not None else None
        key = self.api_key or os.environ.get("OMNIROUTE_API_KEY") or saved
        headers = _bearer(key) if key else {}
        if target.is_here:
            transport = self.server.transport
            assert isinstance(transport, HttpTransport)  # noqa: S101 - a server that runs is reached over HTTP
            return Api(self._http(transport.base_url, headers, transport.name, is_local=True), self._tell_exchange)
        if key is not None:
            self.check_plain_http(target.base_url, is_accepted=_is_accepted(target.context))
        return Api(self._http(target.base_url, headers, target.name), self._tell_exchange)

    def without_credential(self, base_url: str) -> Api:
        """Return the API of a server for what needs no credential, such as asking for one."""
        return Api(self._http(base_url, {}, base_url), self._tell_exchange)

    def with_token(self, base_url: str, token: str) -> Api:
        """Return the API of a server for a token that is not saved yet."""
        return Api(self._http(base_url, _bearer(token), base_url), self._tell_exchange)

    def _http(self, base_url: str, headers: Mapping[str, str], name: str, *, is_local: bool = False) -> HttpTransport:
        return HttpTransport(base_url, headers, timeout_s=self._timeout(), name=name, is_local=is_local)

    def _timeout(self) -> float:
        if self.timeout_s is not None:
            return self.timeout_s
        given = os.environ.get("OMNIROUTE_HTTP_TIMEOUT_MS", "")
        return int(given) / 1000 if given.isdecimal() and int(given) else _TIMEOUT_S

    def check_plain_http(self, base_url: str, *, is_accepted: bool = False) -> None:
        """Ask before a secret goes over plain http to an address that is not near.

        Raises:
            Failure: that is not wanted.
        """
        scheme, host, _port = contexts.origin_of(base_url)
        if scheme == "https" or is_accepted or is_near(host):
            return
        self.confirm(f"{base_url} is not encrypted: anybody on the way can read the credential. Send it all the same?")

    def refuse_remote(self, what: str = "This command") -> None:
        """Refuse to go on unless the installation on this machine is meant.

        Raises:
            Failure: a remote server is.
        """
        if not self.target.is_here:
            raise Failure(
                f"{what} works on the server's own machine only, and {self.target.name} is meant. "
                "Run it there, or add --context default for the installation on this machine.",
                Exit.MISUSE,
            )

    def local_settings(self, what: str = "This command") -> Settings:
        """Return the settings of the installation on this machine; see :meth:`refuse_remote`."""
        from omniroute.cli.local import load_settings

        self.refuse_remote(what)
        return load_settings(self.data_dir)

    # --- talking -----------------------------------------------------------------------------------------------------

    def notice(self, text: str) -> None:
        """Tell the person at the terminal something that is not data."""
        if not self.is_quiet:
            output.notice(text)

    def _tell_exchange(self, text: str) -> None:
        if self.is_verbose:
            output.notice(text)

    def print_rows(self, noun: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
        """Print a list in the form that was asked for; see :func:`output.print_rows`."""
        output.print_rows(self.form, noun, rows, columns)

    def print_fields(self, document: Mapping[str, Any], labels: Mapping[str, str]) -> None:
        """Print one thing: a line per label for people, the whole document for programs."""
        output.print_fields(self.form, document, labels)

    def print_secret(self, secret: str, document: Mapping[str, Any], told: str) -> None:
        """Print a secret, this once: alone on stdout, or as a member of its document."""
        output.notice(told)
        if self.form is Form.TABLE:
            click.echo(secret)
        else:
            output.print_document(document)

    def confirm(self, question: str) -> None:
        """Ask before something is destroyed or given away; without a terminal to ask at, decline.

        Raises:
            Failure: the answer is no, or nobody can be asked.
        """
        if self.is_confirmed:
            return
        if not sys.stdin.isatty():
            raise Failure(f"{question} Add --yes to confirm.", Exit.MISUSE)
        if not click.confirm(question, err=True):
            raise Failure("Nothing was changed.", Exit.MISUSE)

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[float, float | None], None]]:
        """Show how far long work has come, on a terminal; the callable takes what is done, and how much there is."""
        if self.is_quiet or not sys.stderr.isatty():
            yield lambda _done, _total: None
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def pass_session(command: Callable[Concatenate[Session, P], None]) -> Callable[P, None]:
    """Give a command the session as its first argument."""

    @wraps(command)
    def with_session(*args: P.args, **kwargs: P.kwargs) -> None:
        command(session_of(click.get_current_context()), *args, **kwargs)

    return with_session


def session_of(ctx: click.Context) -> Session:
    """Return the session of a run of the command line."""
    found: Session = ctx.meta.setdefault(_KEY, Session())
    return found


def read_secret(
    *,
    stdin: bool = False,
    file: str | None = None,
    variable: str | None = None,
    given: str | None = None,
    prompt: str | None = None,
    missing: str,
) -> str:
    """Return a secret from where the options say: standard input, a file, an argument, a variable, or a person.

    Raises:
        Failure: there is none and nobody can be asked; its text is `missing`.
    """
    if given is not None:
        output.notice("Warning: a secret on the command line stays in the history of the shell.")
        return given
    found = None
    if stdin:
        found = sys.stdin.readline().rstrip("\r\n")
    elif file is not None:
        found = _first_line(file)
    elif variable is not None and os.environ.get(variable):
        found = os.environ[variable]
    elif prompt is not None and sys.stdin.isatty():
        found = click.prompt(prompt, hide_input=True, err=True, prompt_suffix="")
    if not found:
        raise Failure(missing, Exit.MISUSE)
    return found


def _first_line(path: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{path} cannot be read.", Exit.MISUSE) from error
    return lines[0].strip() if lines else ""


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _is_accepted(context: Context | None) -> bool:
    return context is not None and context.members.get("insecureHttp") is True


def is_near(host: str) -> bool:
    """Tell whether a host is this machine, or in a private network or Tailnet, as far as its spelling says."""
    if host == "localhost" or host.endswith((".localhost", ".ts.net")):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in _NEAR if network.version == address.version)


# --- options that every command takes --------------------------------------------------------------------------------


def _setter(name: str, convert: Callable[[Any], Any] = lambda value: value) -> Callable[..., None]:
    def store(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            setattr(session_of(ctx), name, convert(value))

    return store


def _no_color(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.color = False
        os.environ["NO_COLOR"] = "1"


def _option(*names: str, to: str, convert: Callable[[Any], Any] = lambda value: value, **more: Any) -> click.Option:
    # A name of its own: a command may have an argument that is called the same.
    declared = [*names, f"everywhere_{names[-1].strip('-').replace('-', '_')}"]
    return click.Option(declared, expose_value=False, callback=_setter(to, convert), **more)


def global_options() -> tuple[click.Option, ...]:
    """Return the options that stand before or behind any command."""
    return (
        _option("--context", to="context", metavar="NAME", help="Use this saved server instead of the active one."),
        _option("--base-url", to="base_url", metavar="URL", help="Talk to this server, without a context."),
        _option("--token", to="token", metavar="TOKEN", help="Access token for this call."),
        _option("--token-stdin", to="is_token_piped", is_flag=True, help="Read the access token from standard input."),
        _option("--api-key", to="api_key", metavar="KEY", help="API key, for commands that call a model."),
        _option(
            *("-o", "--output"),
            to="form",
            convert=Form,
            type=click.Choice([form.value for form in Form]),
            help="How data is printed. Default: table.",
        ),
        _option("--json", to="form", convert=lambda _flag: Form.JSON, is_flag=True, help="The same as -o json."),
        _option("-q", "--quiet", to="is_quiet", is_flag=True, help="Print only data and errors."),
        _option("-y", "--yes", to="is_confirmed", is_flag=True, help="Confirm what destroys something."),
        _option(
            "--timeout",
            to="timeout_s",
            type=click.FloatRange(0.001, 86_400),
            metavar="SECONDS",
            help="Longest wait for an answer of the server. Default: 30.",
        ),
        click.Option(
            ["--no-color", "everywhere_no_color"],
            is_flag=True,
            expose_value=False,
            callback=_no_color,
            help="Print without colours.",
        ),
        _option("-v", "--verbose", to="is_verbose", is_flag=True, help="Tell request ids and times on stderr."),
        _option(
            "--data-dir",
            to="data_dir",
            type=click.Path(file_okay=False),
            help="Data directory of the installation on this machine, instead of DATA_DIR.",
        ),
    )


def with_global_options(command: C, shown: Sequence[str] = ("-o", "--json")) -> C:
    """Let a command, and all below it, take the options that stand everywhere; its help lists only `shown` of them."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            with_global_options(inner, shown)
        if not command.invoke_without_command:
            return command
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for option in global_options():
        if own.isdisjoint(option.opts):
            option.hidden = not set(shown) & set(option.opts)
            command.params.append(option)
    if command.epilog is None:
        command.epilog = "Options that every command takes, such as --context, --yes and --timeout: omniroute --help"
    return command


def open_or_stdin(path: str) -> IO[bytes]:
    """Open a file for reading, `-` being standard input.

    Raises:
        Failure: it cannot be read.
    """
    if path == "-":
        return sys.stdin.buffer
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}.", Exit.MISUSE) from error

"""Coding tools that can use the gateway: what each needs, whether it is on this host, and setting it up here."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

from gevent.pool import Pool

from omniroute.clients.merge import merged
from omniroute.clients.spec import ClientModel, Tool, Wanted
from omniroute.clients.tools import BY_ID, LAUNCHED, TOOLS
from omniroute.errors import Conflict, NotFound, PermissionDenied, ValidationFailed
from omniroute.providers.spec import ModelKind
from omniroute.services import client_files
from omniroute.services.audit import Recorder
from omniroute.services.client_files import CannotRead, CannotWrite, Change
from omniroute.services.combos import Combos
from omniroute.services.keys import Keys, Origin, masked
from omniroute.services.model_catalog import ModelCatalog
from omniroute.services.routing_settings import RoutingSettings

KEY_VARIABLE: Final = "OMNIROUTE_API_KEY"
SYSTEMS: Final = ("linux", "macos", "windows")
WINDOWS: Final = "windows"
MOST_LISTED: Final = 100
"""Models that a tool's own list may hold."""
_SUGGESTED: Final = 3
_TIMEOUT_S: Final = 5.0
_AT_ONCE: Final = 4
_LONGEST_VERSION: Final = 60
_EXPORT: Final = re.compile(r"export (\w+)=(\S+)(.*)", re.DOTALL)
_REFERENCE: Final = re.compile(r"\$(\w+)")
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "XDG_CONFIG_HOME")
"""Variables that a program is asked for its version with: the server's own hold secrets."""
_SAMPLE: Final = ClientModel("model", "model")


class ClientToolDocument(TypedDict):
    """A tool. `baseUrl` is the address that it takes; `files` says whether it can be set up by writing files."""

    id: str
    name: str
    program: str | None
    install: str
    source: str
    baseUrl: str
    files: list[str]
    launch: bool
    notes: list[str]


class SnippetFileDocument(TypedDict):
    """A file and what has to stand in it."""

    path: str
    format: str
    text: str


class SnippetDocument(TypedDict):
    """What a tool needs to use the gateway: files, variables, commands, and what is done by hand."""

    tool: str
    name: str
    model: str
    baseUrl: str
    keyVariable: str
    files: list[SnippetFileDocument]
    environment: dict[str, str]
    commands: list[str]
    note: str
    source: str


class DetectedToolDocument(TypedDict):
    """A tool as it is on this host."""

    id: str
    name: str
    installed: bool
    version: str | None
    configured: bool
    files: list[str]
    canUndo: bool


class WrittenFileDocument(TypedDict):
    """A file that was written, and where its text of before is kept; null where there was none."""

    path: str
    backup: str | None


class AppliedDocument(TypedDict):
    """What was written, or would be; `diff` is a unified diff of all files."""

    tool: str
    model: str
    applied: bool
    written: list[WrittenFileDocument]
    diff: str
    commands: list[str]
    note: str


class RestoredFilesDocument(TypedDict):
    """Files that are again as they were."""

    tool: str
    restored: list[str]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a snippet is wanted for.

    Attributes:
        base_url: of the gateway, where it is another than the server's own.
        key_id: row id of the API key that the note names.
        reveals: the key itself shall stand in it, if it can be shown again.
    """

    tool: str
    model: str | None = None
    key_id: str | None = None
    system: str = SYSTEMS[0]
    base_url: str | None = None
    reveals: bool = False


class ClientTools:
    """Says what tools need, and sets up those of this host's user."""

    def __init__(
        self,
        *,
        base_url: str,
        is_writing_allowed: bool,
        home: Callable[[], Path],
        environ: Mapping[str, str],
        combos: Combos,
        routing: RoutingSettings,
        catalog: ModelCatalog,
        keys: Keys,
        audit: Recorder,
    ) -> None:
        """`base_url` is the server's own; `home` and `environ` are those of its user."""
        self._base_url = base_url.rstrip("/")
        self._is_writing_allowed = is_writing_allowed
        self._home = home
        self._environ = environ
        self._combos = combos
        self._routing = routing
        self._catalog = catalog
        self._keys = keys
        self._audit = audit

    @property
    def is_writing_allowed(self) -> bool:
        """Whether files of tools may be written."""
        return self._is_writing_allowed

    # --- what tools need -----------------------------------------------------------------------------------------

    def all(self) -> list[ClientToolDocument]:
        """Return the tools."""
        wanted = Wanted(self._base_url, KEY_VARIABLE, _SAMPLE, (_SAMPLE,))
        return [_shown(tool, wanted) for tool in TOOLS]

    def snippet(self, asked: Asked, origin: Origin) -> SnippetDocument:
        """Return what a tool needs.

        Raises:
            NotFound: there is no such tool or key.
            ValidationFailed: there is no such model.
            PermissionDenied: the key shall be shown and may not be.
        """
        tool = _tool(asked.tool)
        wanted = self.wanted(asked.model, asked.base_url)
        secret = self._keys.reveal(asked.key_id, origin).reveal() if asked.key_id and asked.reveals else None
        is_windows = asked.system == WINDOWS
        environment = {name: _reference(value, is_windows) for name, value in tool.environment(wanted).items()}
        commands, notes = _steps(tool, wanted, is_windows)
        if secret is not None:
            environment[KEY_VARIABLE] = secret
            commands = [command.replace(f"{KEY_VARIABLE}=…", f"{KEY_VARIABLE}={secret}") for command in commands]
            commands = [
                command.replace(f"{KEY_VARIABLE} = '…'", f"{KEY_VARIABLE} = '{secret}'") for command in commands
            ]
        elif asked.key_id is not None:
            key = self._keys.get(asked.key_id)
            notes.append(f"{KEY_VARIABLE} is to hold the key {key.name!r}, {masked(key)}.")
        return {
            "tool": tool.id,
            "name": tool.name,
            "model": wanted.model.id,
            "baseUrl": wanted.base_url,
            "keyVariable": KEY_VARIABLE,
            "files": [
                {"path": _home_path(edit.path, is_windows), "format": edit.format, "text": merged(None, edit)}
                for edit in tool.edits(wanted)
            ],
            "environment": environment,
            "commands": commands,
            "note": "\n".join(notes),
            "source": tool.source,
        }

    def wanted(self, model: str | None, base_url: str | None = None) -> Wanted:
        """Return what a tool is to be told.

        Raises:
            ValidationFailed: there is no such model, or none at all.
        """
        models = list(self._models())
        chosen = _chosen(models, model)
        listed = models[:MOST_LISTED]
        if chosen not in listed:
            listed.insert(0, chosen)
        return Wanted((base_url or self._base_url).rstrip("/"), KEY_VARIABLE, chosen, tuple(listed))

    def _models(self) -> Iterator[ClientModel]:
        """Give what can be asked for: combos first, the default one at the head, then channels, then models."""
        combos = [combo for combo in self._combos.all() if combo.is_active]
        combos.sort(key=lambda combo: not combo.is_default)
        for combo in combos:
            yield ClientModel(combo.name, combo.name, self._combos.assess(combo).context_length)
        for channel in self._routing.channels():
            live = [step.option for step in channel.block.steps if step.option is not None and step.problem is None]
            if live:
                window = min((option.window for option in live if option.window is not None), default=None)
                yield ClientModel(channel.name, channel.name, window)
        for row in self._catalog.rows():
            if row.is_active and row.model.kind is ModelKind.CHAT:
                window_of, _ = self._catalog.figures(row)
                tokens = None if window_of.is_assumed else window_of.tokens
                name = row.model.name or row.model.id
                yield ClientModel(row.name, name, tokens, row.model.max_output, "image" in row.model.input)

    # --- this host -----------------------------------------------------------------------------------------------

    def detect(self) -> list[DetectedToolDocument]:
        """Look for each tool, its version, and whether its files name this server."""
        return list(Pool(_AT_ONCE).map(self._look, TOOLS))

    def _look(self, tool: Tool) -> DetectedToolDocument:
        home = self._home()
        program = None if tool.program is None else shutil.which(tool.program, path=self._environ.get("PATH"))
        paths = self._paths(tool)
        return {
            "id": tool.id,
            "name": tool.name,
            "installed": program is not None,
            "version": None if program is None else self._version(program, home),
            "configured": any(self._names_us(path) for path in paths),
            "files": [str(path) for path in paths],
            "canUndo": any(client_files.can_undo(path) for path in paths),
        }

    def _version(self, program: str, home: Path) -> str | None:
        environ = {name: self._environ[name] for name in _PASSED_ON if name in self._environ}
        try:
            process = subprocess.Popen(  # noqa: S603 -- one of the programs of the table, found by its name
                [program, "--version"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=home if home.is_dir() else None,
                env=environ,
                start_new_session=True,
            )
        except OSError:
            return None
        try:
            said, complained = process.communicate(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):  # what it has started holds its output open, and goes with it
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None
        lines = (said or complained).decode("utf-8", "replace").strip().splitlines()
        return lines[0][:_LONGEST_VERSION] if process.returncode == 0 and lines else None

    def _names_us(self, path: Path) -> bool:
        try:
            text = client_files.text_of(path) or ""
        except CannotRead:
            return False
        port = self._base_url.rpartition(":")[2].partition("/")[0]
        local = (f"http://{host}:{port}" for host in ("localhost", "127.0.0.1", "[::1]")) if port.isdecimal() else ()
        return any(address in text for address in (self._base_url, *local))

    def _paths(self, tool: Tool) -> list[Path]:
        # Where files are does not depend on what stands in them.
        edits = tool.edits(Wanted(self._base_url, KEY_VARIABLE, _SAMPLE, (_SAMPLE,)))
        return [client_files.path_of(edit, self._home(), self._environ) for edit in edits]

    # --- setting up ----------------------------------------------------------------------------------------------

    def apply(self, asked: Asked, origin: Origin, *, is_dry_run: bool = False) -> AppliedDocument:
        """Write what a tool of this host's user needs into its files, or show what would change.

        Raises:
            NotFound: there is no such tool or key.
            ValidationFailed: there is no such model, or the tool has no files.
            PermissionDenied: files may not be written.
            Conflict: a file cannot be read, merged or written; what was written before it is kept.
        """
        tool = _tool(asked.tool)
        snippet = self.snippet(asked, origin)
        edits = tool.edits(self.wanted(asked.model, asked.base_url))
        if not edits:
            raise ValidationFailed([{"field": "tool", "message": f"{tool.name} is set up in its own settings"}])
        if not is_dry_run:
            self._check_allowed()
        try:
            changes = client_files.changes_of(edits, self._home(), self._environ)
        except CannotRead as error:
            raise Conflict(str(error), code="file_unreadable") from error
        changes = [change for change in changes if change.is_one]
        written = [] if is_dry_run else self._written(tool, changes, origin)
        return {
            "tool": tool.id,
            "model": snippet["model"],
            "applied": not is_dry_run,
            "written": written,
            "diff": "".join(change.difference() for change in changes),
            "commands": snippet["commands"],
            "note": snippet["note"],
        }

    def _written(self, tool: Tool, changes: Sequence[Change], origin: Origin) -> list[WrittenFileDocument]:
        written: list[WrittenFileDocument] = []
        try:
            for change in changes:
                kept = client_files.apply(change)
                written.append({"path": str(change.path), "backup": None if kept is None else str(kept)})
        except CannotWrite as error:
            raise Conflict(str(error), code="file_not_writable") from error
        finally:
            if written:
                self._record(tool, "written", [one["path"] for one in written], origin)
        return written

    def undo(self, tool_id: str, origin: Origin) -> RestoredFilesDocument:
        """Put the files of a tool back as they were before the last set-up.

        Raises:
            NotFound: there is no such tool, or nothing is kept.
            PermissionDenied: files may not be written.
            Conflict: a file cannot be written.
        """
        tool = _tool(tool_id)
        self._check_allowed()
        try:
            restored = [str(path) for path in self._paths(tool) if client_files.undo(path)]
        except CannotWrite as error:
            raise Conflict(str(error), code="file_not_writable") from error
        if not restored:
            raise NotFound(f"No earlier text of {tool.name}'s files is kept.")
        self._record(tool, "restored", restored, origin)
        return {"tool": tool.id, "restored": restored}

    def _check_allowed(self) -> None:
        if not self._is_writing_allowed:
            raise PermissionDenied(
                "This server writes no files of other programs. CLI_ALLOW_CONFIG_WRITES=true lets it; "
                "'omniroute configure' and 'omniroute setup-…' do it on any machine.",
                code="config_writes_disabled",
            )

    def _record(self, tool: Tool, what: str, paths: Sequence[str], origin: Origin) -> None:
        self._audit.record(
            "client_files.changed",
            target_kind="tool",
            target_id=tool.id,
            details={what: list(paths)},
            **origin.facts(),
        )


def _tool(tool_id: str) -> Tool:
    tool = BY_ID.get(tool_id)
    if tool is None:
        raise NotFound("There is no tool with this id.")
    return tool


def _shown(tool: Tool, wanted: Wanted) -> ClientToolDocument:
    edits, environment = tool.edits(wanted), tool.environment(wanted)
    steps = tool.steps(wanted)
    texts = [*(merged(None, edit) for edit in edits), *environment.values(), *steps]
    commands, notes = _steps(tool, wanted, is_windows=False)
    del commands
    return {
        "id": tool.id,
        "name": tool.name,
        "program": tool.program,
        "install": tool.install,
        "source": tool.source,
        "baseUrl": wanted.v1 if any(wanted.v1 in text for text in texts) else wanted.base_url,
        "files": [f"~/{edit.path}" for edit in edits],
        "launch": tool.id in LAUNCHED,
        "notes": [note for note in notes if wanted.v1 not in note],
    }


def _steps(tool: Tool, wanted: Wanted, is_windows: bool) -> tuple[list[str], list[str]]:
    """Return the commands among the steps of a tool, and what is said in words."""
    commands: list[str] = []
    notes: list[str] = []
    for step in tool.steps(wanted):
        exported = _EXPORT.fullmatch(step)
        if exported is not None:
            name, value, comment = exported.groups()
            spelt = f"'{value}'" if value == "…" else _reference(value, is_windows)
            commands.append(f"$env:{name} = {spelt}{comment}" if is_windows else step)
        elif tool.program is not None and step.split(" ", 1)[0] == tool.program:
            commands.append(step)
        else:
            notes.append(step)
    return commands, notes


def _reference(value: str, is_windows: bool) -> str:
    return _REFERENCE.sub(r"$env:\1", value) if is_windows else value


def _home_path(path: str, is_windows: bool) -> str:
    return "%USERPROFILE%\\" + path.replace("/", "\\") if is_windows else f"~/{path}"


def _chosen(models: Sequence[ClientModel], wanted: str | None) -> ClientModel:
    if wanted is None:
        if not models:
            raise ValidationFailed([{"field": "model", "message": "there is none yet; connect an account first"}])
        return models[0]
    found = next((model for model in models if model.id == wanted), None)
    if found is None:
        near = difflib.get_close_matches(wanted, [model.id for model in models], _SUGGESTED, 0.5)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ValidationFailed([{"field": "model", "message": f"the server has no such model{hint}"}])
    return found

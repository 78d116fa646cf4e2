"""How the scripted agent picks among the tools of whatever program it works for, and fills in their arguments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from omniroute.providers.sandbox import schema
from omniroute.providers.sandbox.blocks import Call
from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.prompt import Part, Prompt, Tool
from omniroute.providers.sandbox.speech import call_key

_WHERE: Final = (
    re.compile(r"<cwd>\s*([^<\s][^<]*?)\s*</cwd>"),
    re.compile(
        r"(?:[Ww]orking directory|[Cc]urrent directory|[Cc]wd|PWD)(?: is)?:?\s*[`'\"]?((?:/|[A-Za-z]:\\)[^\s`'\"<]*)"
    ),
    re.compile(r"working in the (?:following )?director(?:y|ies):?\s*(?:-\s*)?[`'\"]?((?:/|[A-Za-z]:\\)[^\s`'\"<]*)"),
    re.compile(r"[Ww]orkspace [Dd]irector(?:y|ies):\**\s*(?:-\s*)?[`'\"]?((?:/|[A-Za-z]:\\)[^\s`'\"<]*)"),
)
_PATH_LINE: Final = re.compile(r"^\s*((?:/|[A-Za-z]:\\)[^\s:*?\"<>|]*)\s*$", re.MULTILINE)


class _Skill(StrEnum):
    SHELL = "shell"
    LIST = "list"
    READ = "read"
    SEARCH = "search"
    WRITE = "write"
    PATCH = "patch"
    EDITOR = "editor"


# Names of tools as today's programs have them, in lower case and without anything but letters.
_NAMES: Final[Mapping[_Skill, tuple[str, ...]]] = {
    _Skill.SHELL: (
        "bash",
        "shell",
        "execcommand",
        "shellcommand",
        "runshellcommand",
        "runterminalcmd",
        "runinterminal",
        "executecommand",
        "runcommand",
        "terminal",
        "containerexec",
        "localshell",
    ),
    _Skill.LIST: ("listdirectory", "listdir", "listfiles", "list", "ls", "readfolder"),
    _Skill.READ: ("readfile", "read", "view", "viewfile", "cat", "openfile"),
    _Skill.SEARCH: ("glob", "grep", "searchfiles", "findfiles", "searchfilecontent", "grepsearch", "search", "find"),
    _Skill.WRITE: ("writefile", "write", "createfile", "writetofile", "savefile", "filewrite"),
    _Skill.PATCH: ("applypatch",),
    _Skill.EDITOR: ("strreplacebasededittool", "strreplaceeditor", "texteditor"),
}
_COMMANDS: Final = ("command", "cmd", "script", "commandline", "input")
_PATHS: Final = (
    "filepath",
    "path",
    "filename",
    "absolutepath",
    "targetfile",
    "file",
    "dirpath",
    "directory",
    "dir",
    "directorypath",
    "folder",
)
_CONTENTS: Final = ("content", "contents", "filetext", "text", "filecontent", "newcontent", "body", "data", "code")
_PATTERNS: Final = ("pattern", "query", "regex", "glob")
_DANGEROUS: Final = ("delete", "remove", "kill", "write", "edit", "move", "send", "exec", "run", "create", "update")


class Workshop:
    """The tools of one request, sorted by what they are good for."""

    __slots__ = ("_content", "_directory", "_file", "_prompt", "_skilled")

    def __init__(self, prompt: Prompt, file: str, content: str) -> None:
        self._prompt = prompt
        self._file = file
        self._content = content
        self._directory = _directory(prompt)
        self._skilled: dict[_Skill, Tool] = {}
        offered = prompt.tools if prompt.chosen is None else tuple(t for t in prompt.tools if t.name == prompt.chosen)
        for skill, names in _NAMES.items():
            ranked = [(names.index(plain), tool) for tool in offered if (plain := _letters(tool.name)) in names]
            # A tool without a group counts before one of the same name in a group.
            ranked.sort(key=lambda found: (found[1].namespace is not None, found[0]))
            if ranked:
                self._skilled[skill] = ranked[0][1]

    def look(self) -> tuple[Call, ...]:
        """Return two calls that change nothing; none when no tool is fit for it."""
        here = self._directory or "."
        found: list[tuple[Tool, dict[str, Any]]] = []
        if (shell := self._skilled.get(_Skill.SHELL)) is not None:
            return self._calls((shell, self._shell(shell, "pwd")), (shell, self._shell(shell, "ls -a")))
        if (lister := self._skilled.get(_Skill.LIST)) is not None:
            found.append((lister, _filled(lister, {_PATHS: here})))
        if (searcher := self._skilled.get(_Skill.SEARCH)) is not None:
            found.append((searcher, _filled(searcher, {_PATTERNS: "*.md", _PATHS: here})))
        if (reader := self._skilled.get(_Skill.READ)) is not None:
            found.append((reader, _filled(reader, {_PATHS: self._path("README.md")})))
        if (editor := self._skilled.get(_Skill.EDITOR)) is not None:
            found.append((editor, {"command": "view", "path": here}))
        if not found:
            found = [
                (tool, _generated(tool))
                for tool in self._prompt.tools
                if tool.schema is not None and not _letters(tool.name).startswith(_DANGEROUS)
            ]
        if len(found) == 1:
            tool, arguments = found[0]
            found.append((tool, _varied(tool, arguments)))
        return self._calls(*found[:2])

    def write(self, attempt: int) -> tuple[Call, ...]:
        """Return one call that writes the file, by the `attempt`-th best tool; none when there is no such tool."""
        ways: list[tuple[Tool, dict[str, Any] | str]] = []
        if (patcher := self._skilled.get(_Skill.PATCH)) is not None:
            ways.append((patcher, self._patch(patcher)))
        if (writer := self._skilled.get(_Skill.WRITE)) is not None:
            ways.append((writer, _filled(writer, {_PATHS: self._path(self._file), _CONTENTS: self._content})))
        if (editor := self._skilled.get(_Skill.EDITOR)) is not None:
            created = {"command": "create", "path": self._path(self._file), "file_text": self._content}
            ways.append((editor, created))
        if (shell := self._skilled.get(_Skill.SHELL)) is not None:
            command = f"printf '%s\\n' {shlex.quote(self._content)} > {shlex.quote(self._path(self._file))}"
            ways.append((shell, self._shell(shell, command)))
        if not ways and not attempt:
            # A program with none of these tools gets a call of whatever it offers last.
            ways += [(tool, _generated(tool)) for tool in self._prompt.tools[-1:] if tool.schema is not None]
        return self._calls(ways[attempt]) if attempt < len(ways) else ()

    def _calls(self, *made: tuple[Tool, dict[str, Any] | str]) -> tuple[Call, ...]:
        calls: list[Call] = []
        for index, (tool, arguments) in enumerate(made):
            is_custom = isinstance(arguments, str)
            text = arguments if isinstance(arguments, str) else dump(arguments).decode()
            key = call_key(self._prompt, index)
            calls.append(Call(key, tool.name, text, is_custom=is_custom, namespace=tool.namespace))
        return tuple(calls)

    def _path(self, name: str) -> str:
        if self._directory is None or name.startswith("/") or name[1:3] == ":\\":
            return name
        return f"{self._directory.rstrip('/')}/{name}"

    def _shell(self, tool: Tool, command: str) -> dict[str, Any] | str:
        if tool.schema is None:
            return command
        properties = _properties(tool)
        name = next((n for n in properties if _letters(n) in _COMMANDS), "command")
        kind = properties.get(name, {}).get("type") if isinstance(properties.get(name), Mapping) else None
        kinds = kind if isinstance(kind, list) else [kind]
        value: Any = ["bash", "-lc", command] if "array" in kinds and "string" not in kinds else command
        return _completed(tool, {name: value})

    def _patch(self, tool: Tool) -> dict[str, Any] | str:
        text = f"*** Begin Patch\n*** Add File: {self._file}\n+{self._content}\n*** End Patch\n"
        if tool.schema is None:
            return text
        properties = _properties(tool)
        wanted = ("input", "patch", "patchtext", "diff")
        name = next((n for n in properties if _letters(n) in wanted), next(iter(properties), "input"))
        return _completed(tool, {name: text})


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalpha())


def _properties(tool: Tool) -> Mapping[str, Any]:
    found = tool.schema.get("properties") if isinstance(tool.schema, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _filled(tool: Tool, wanted: Mapping[tuple[str, ...], str]) -> dict[str, Any]:
    """Return arguments in which each wanted value goes to the property whose name fits it best."""
    properties = _properties(tool)
    chosen: dict[str, Any] = {}
    for names, value in wanted.items():
        fitting = sorted((names.index(_letters(n)), n) for n in properties if _letters(n) in names and n not in chosen)
        if fitting:
            chosen[fitting[0][1]] = value
    return _completed(tool, chosen)


def _completed(tool: Tool, chosen: dict[str, Any]) -> dict[str, Any]:
    """Add what the schema requires beyond the chosen arguments."""
    required = tool.schema.get("required") if isinstance(tool.schema, Mapping) else None
    missing = [n for n in required if isinstance(n, str) and n not in chosen] if isinstance(required, list) else []
    if not missing:
        return chosen
    made = schema.generate({"type": "object", **tool.schema, "required": missing})
    spoken = {n: "Look around and write the file" for n in missing if _letters(n) in ("description", "explanation")}
    return {**chosen, **{n: made[n] for n in missing if n in made}, **spoken}


def _generated(tool: Tool) -> dict[str, Any]:
    made = schema.generate({"type": "object", **(tool.schema or {})})
    return made if isinstance(made, dict) else {}


def _varied(tool: Tool, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return other arguments for the same tool where one of them is free text."""
    properties = _properties(tool)
    for name, value in arguments.items():
        described = properties.get(name)
        is_free = isinstance(described, Mapping) and not any(
            k in described for k in ("enum", "const", "pattern", "format")
        )
        if isinstance(value, str) and is_free:
            other = f"{value.rstrip('/')}/.." if value in (".", "/") or "/" in value else f"{value} 2"
            return {**arguments, name: other}
    return dict(arguments)


def _directory(prompt: Prompt) -> str | None:
    """Return the working directory: as the program's prompt tells it, or as a tool has."""
    for entry in prompt.entries:
        if entry.part in (Part.SYSTEM, Part.USER):
            for pattern in _WHERE:
                if (found := pattern.search(entry.text)) is not None:
                    return found[1].rstrip(".,;)") or None
    for entry in prompt.entries:
        if entry.part is Part.RESULT and (line := _PATH_LINE.search(entry.text)) is not None:
            return line[1]
    return None

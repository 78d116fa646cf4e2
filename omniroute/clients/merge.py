"""Put what a tool needs into the text of its file, and leave everything else in it as it is."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from omniroute.clients.spec import Edit, Format, OwnEntries

_INDENT: Final = re.compile(r"^([ \t]+)\S", re.MULTILINE)
_VARIABLE: Final = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=")


class CannotMerge(Exception):
    """A file cannot be read, or holds something else where an object should be.

    Attributes:
        line: where, if that is known; the first is 1.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


def merged(text: str | None, edit: Edit) -> str:
    """Return the text of a file with an edit in it; None stands for a file that does not exist.

    Raises:
        CannotMerge: the text cannot be read; nothing is guessed.
    """
    match edit.format:
        case Format.JSON:
            return _merged_json(text, edit)
        case Format.TOML:
            return _merged_toml(text, edit)
        case Format.YAML:
            return _merged_yaml(text, edit)
        case Format.ENV:
            return _merged_env(text, edit)
        case _:
            raise ValueError(edit.format)


def _merged_json(text: str | None, edit: Edit) -> str:
    found: Any = {}
    if text is not None and text.strip():
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            raise CannotMerge(_json_reason(text, error), error.lineno) from error
    before = json.dumps(found)
    _put(found, edit)
    if text is not None and json.dumps(found) == before:
        return text
    indent = _INDENT.search(text or "")
    return json.dumps(found, indent=indent[1] if indent else 2, ensure_ascii=False) + "\n"


def _json_reason(text: str, error: json.JSONDecodeError) -> str:
    line = text.splitlines()[error.lineno - 1] if text.splitlines() else ""
    if "//" in line or "/*" in line or error.msg.startswith(("Expecting property name", "Illegal trailing comma")):
        return "it has comments or trailing commas, which would be lost"
    return f"it is not valid JSON: {error.msg}"


def _merged_toml(text: str | None, edit: Edit) -> str:
    import tomlkit
    from tomlkit.exceptions import ParseError, TOMLKitError

    try:
        document = tomlkit.parse(text or "")
    except ParseError as error:
        raise CannotMerge(f"it is not valid TOML: {str(error).partition(' at line ')[0]}", error.line) from error
    try:
        _put(document, edit)
    except TOMLKitError as error:
        raise CannotMerge(f"it cannot be changed safely: {error}") from error
    return tomlkit.dumps(document)


def _merged_yaml(text: str | None, edit: Edit) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        found = yaml.load(text or "")
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else None
        raise CannotMerge(f"it is not valid YAML: {error.problem}", line) from error
    except YAMLError as error:
        raise CannotMerge(f"it is not valid YAML: {error}") from error
    if found is None:
        found = CommentedMap()
    before = io.StringIO()
    yaml.dump(found, before)
    _put(found, edit)
    after = io.StringIO()
    yaml.dump(found, after)
    # What only the writer would have changed is left as it was written.
    return text if text is not None and before.getvalue() == after.getvalue() else after.getvalue()


def _merged_env(text: str | None, edit: Edit) -> str:
    wanted = {name: f"{name}={value}" for name, value in edit.members.items()}
    lines = []
    for line in (text or "").splitlines():
        named = _VARIABLE.match(line)
        lines.append(wanted.pop(named[1], line) if named is not None else line)
    lines += wanted.values()
    return "".join(f"{line}\n" for line in lines)


def _put(document: Any, edit: Edit) -> None:
    if not isinstance(document, MutableMapping):
        raise CannotMerge("it does not hold an object")
    _merge(document, edit.members, (), frozenset(edit.replaced))
    for own in edit.lists:
        _replace_entries(document, own)


def _merge(
    target: MutableMapping[str, Any],
    members: Mapping[str, Any],
    path: tuple[str, ...],
    replaced: frozenset[tuple[str, ...]],
) -> None:
    for name, value in members.items():
        if not isinstance(value, Mapping) or (*path, name) in replaced:
            if name not in target or target[name] != value:
                target[name] = value
            continue
        inner = target.get(name)
        if inner is None:
            target[name] = dict(value)
        elif isinstance(inner, MutableMapping):
            _merge(inner, value, (*path, name), replaced)
        else:
            raise CannotMerge(f"{'.'.join((*path, name))} is not an object in it")


def _replace_entries(document: MutableMapping[str, Any], own: OwnEntries) -> None:
    holder: Any = document
    for name in own.path[:-1]:
        holder = holder.setdefault(name, {})
        if not isinstance(holder, MutableMapping):
            raise CannotMerge(f"{name} is not an object in it")
    entries = holder.setdefault(own.path[-1], [])
    if not isinstance(entries, list):
        raise CannotMerge(f"{'.'.join(own.path)} is not a list in it")
    ours = [entry for entry in entries if isinstance(entry, Mapping) and entry.get(own.member) == own.value]
    wanted = [dict(entry) for entry in own.entries]
    if [dict(entry) for entry in ours] == wanted:
        return
    for entry in ours:
        entries.remove(entry)
    entries.extend(wanted)

"""Files of other programs: shown as a difference, kept as they were, replaced in one step, put back again."""

from __future__ import annotations

import difflib
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from omniroute.clients.merge import CannotMerge, merged
from omniroute.clients.spec import Edit

_BEFORE: Final = ".before-omniroute"
_NONE: Final = ".none-before-omniroute"


class CannotRead(Exception):
    """A file cannot be read as text or merged; nothing was written."""


class CannotWrite(Exception):
    """A file cannot be written or put back."""


@dataclass(frozen=True, slots=True)
class Change:
    """A file with its text now (None: it does not exist) and as it is to be."""

    path: Path
    before: str | None
    after: str

    @property
    def is_one(self) -> bool:
        """Whether there is anything to change."""
        return self.before != self.after

    def difference(self) -> str:
        """Return it as a unified diff."""
        name = str(self.path)
        lines = difflib.unified_diff(
            (self.before or "").splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            name if self.before is not None else "/dev/null",
            name,
        )
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def path_of(edit: Edit, home: Path, environ: Mapping[str, str]) -> Path:
    """Return where the file of an edit is for the person whose home and environment these are."""
    first, _, rest = edit.path.partition("/")
    directory = environ.get(edit.variable, "") if edit.variable is not None else ""
    if directory and rest:
        return Path(directory).expanduser() / rest
    if first == ".config" and rest and environ.get("XDG_CONFIG_HOME"):
        return Path(environ["XDG_CONFIG_HOME"]) / rest
    return home / edit.path


def changes_of(
    edits: Sequence[Edit], home: Path, environ: Mapping[str, str], given: Path | None = None
) -> list[Change]:
    """Work out what files will hold; nothing is written.

    Args:
        edits: what is wanted.
        home: the directory that paths are below.
        environ: may name other directories.
        given: the first file, where the person names it.

    Raises:
        CannotRead: a file cannot be read or merged; its line is in the message.
    """
    found = []
    for number, edit in enumerate(edits):
        path = given if given is not None and number == 0 else path_of(edit, home, environ)
        before = text_of(path)
        try:
            found.append(Change(path, before, merged(before, edit)))
        except CannotMerge as error:
            where = f", line {error.line}" if error.line is not None else ""
            raise CannotRead(
                f"{path}{where}: {error.reason}. It was left as it is; 'omniroute snippet' prints what it needs."
            ) from error
    return found


def text_of(path: Path) -> str | None:
    """Return the text of a file; None when there is none.

    Raises:
        CannotRead: it is there and cannot be read as text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CannotRead(f"{path} cannot be read as text.") from error


def apply(change: Change) -> Path | None:
    """Write a file in one step, keeping its rights; return where its old text is kept, None for a new file.

    Raises:
        CannotWrite: the system refuses it.
    """
    target = change.path.resolve() if change.path.is_symlink() else change.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        kept = _keep(target, change.before)
        mode = stat.S_IMODE(target.stat().st_mode) if change.before is not None else 0o600
        _replace(target, change.after, mode)
    except OSError as error:
        raise CannotWrite(f"{target} cannot be written: {error.strerror}.") from error
    return kept


def _keep(target: Path, before: str | None) -> Path | None:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    suffix = _BEFORE if before is not None else _NONE
    kept = target.with_name(f"{target.name}.{moment}{suffix}")
    _replace(kept, before or "", 0o600)
    return kept if before is not None else None


def _replace(path: Path, text: str, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def can_undo(path: Path) -> bool:
    """Say whether an earlier text of a file is kept."""
    return bool(_kept(path.resolve() if path.is_symlink() else path))


def undo(path: Path) -> bool:
    """Put a file back as it was before the last change of ours; False if none is kept.

    Raises:
        CannotWrite: the system refuses it.
    """
    target = path.resolve() if path.is_symlink() else path
    kept = _kept(target)
    if not kept:
        return False
    last = kept[-1]
    try:
        if last.name.endswith(_NONE):
            target.unlink(missing_ok=True)
            last.unlink()
        else:
            mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600
            last.chmod(mode)
            last.replace(target)
    except OSError as error:
        raise CannotWrite(f"{target} cannot be put back: {error.strerror}.") from error
    return True


def _kept(target: Path) -> list[Path]:
    return sorted(file for file in target.parent.glob(f"{target.name}.*") if file.name.endswith((_BEFORE, _NONE)))

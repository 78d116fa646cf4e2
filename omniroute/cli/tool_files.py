"""Files of other programs on the machine of the person who runs this; see :mod:`omniroute.services.client_files`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from omniroute.cli import Exit, Failure
from omniroute.clients.spec import Edit
from omniroute.services import client_files
from omniroute.services.client_files import CannotRead, CannotWrite, Change

__all__ = ["Change", "apply", "changes_of", "path_of", "undo"]


def path_of(edit: Edit, home: Path) -> Path:
    """Return where the file of an edit is for the person who runs this."""
    return client_files.path_of(edit, home, os.environ)


def changes_of(edits: Sequence[Edit], home: Path, given: Path | None = None) -> list[Change]:
    """Work out what files will hold; nothing is written.

    Raises:
        Failure: a file cannot be read or merged; its line is in the message.
    """
    try:
        return client_files.changes_of(edits, home, os.environ, given)
    except CannotRead as error:
        raise Failure(str(error), Exit.MISUSE) from error


def apply(change: Change) -> Path | None:
    """Write a file in one step, keeping its rights; return where its old text is kept, None for a new file."""
    try:
        return client_files.apply(change)
    except CannotWrite as error:
        raise Failure(str(error)) from error


def undo(path: Path) -> bool:
    """Put a file back as it was before the last change of ours; False if none is kept."""
    try:
        return client_files.undo(path)
    except CannotWrite as error:
        raise Failure(str(error)) from error

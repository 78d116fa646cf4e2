"""What `doctor --fix` does: only what loses nothing and what a person would do in the same way."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from omniroute.cli.checks import Status, Subject, run_all
from omniroute.cli.session import Session

_OTHERS: Final = 0o077
_PRIVATE: Final = ("secrets", "backups", "runtime", "spool", "logs")


def mend(session: Session, subject: Subject) -> Iterator[str]:
    """Tighten rights, bring the schema up to date, make a first backup; yield what was done."""
    data_dir = subject.settings.data_dir
    if not data_dir.is_dir():
        return
    yield from _tightened(data_dir)
    findings = run_all(subject)
    if any(one.name == "database" and one.data.get("version", 0) < one.data.get("newest", 0) for one in findings):
        settings = subject.settings
        session.api.get("/api/init")  # opening the data brings it up to date, after a verified backup
        yield f"Migrated the database of {settings.data_dir}."
    if any(one.name == "backup" and one.status is Status.WARN for one in findings):
        made = session.api.send("PUT", "/api/db-backups")
        if made["created"]:
            yield f"Made the backup {made['backup']['id']}."


def _tightened(data_dir: Path) -> Iterator[str]:
    """Take the rights of others from the data directory and what is private in it."""
    paths = [data_dir, *data_dir.glob("storage.sqlite*")]
    for name in _PRIVATE:
        folder = data_dir / name
        paths += [folder, *folder.glob("*")] if folder.is_dir() else []
    for path in paths:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _OTHERS and not path.is_symlink():
            path.chmod(mode & ~_OTHERS)
            yield f"Closed {path} to other users."

"""`omniroute backup` and `omniroute restore`: copies of everything, and the way back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.groups import AliasGroup
from omniroute.cli.output import Form, print_rows
from omniroute.cli.session import Session, pass_session, read_secret

if TYPE_CHECKING:
    from omniroute.secret import Secret

_COLUMNS: Final = {
    "id": "Id",
    "createdAt": "Created",
    "sizeBytes": "Bytes",
    "reason": "Reason",
    "connectionCount": "Accounts",
    "verified": "Verified",
}
_COUNTS: Final = {
    "connectionCount": "Accounts",
    "nodeCount": "Endpoints",
    "comboCount": "Combos",
    "apiKeyCount": "API keys",
    "credentialsReadable": "Credentials that open",
    "credentialsUnreadable": "Credentials that do not",
    "safetyBackup": "What was there before",
}
_PATH: Final = "/api/db-backups"


@click.group("backup", cls=AliasGroup, invoke_without_command=True, no_args_is_help=False)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Make, list and remove backups; without a command one is made now."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(create)


@command.command("create")
@click.option("--out", metavar="FILE", help="Write a bundle for another machine to this file instead.")
@click.option("--name", metavar="N", help="The same, to N.tar.gz here.")
@click.option("--with-keys", is_flag=True, help="Put the encryption key into the bundle, wrapped with a passphrase.")
@click.option("--passphrase-file", metavar="FILE", help="Read that passphrase from the first line of a file.")
@pass_session
def create(
    session: Session,
    out: str | None = None,
    name: str | None = None,
    *,
    with_keys: bool = False,
    passphrase_file: str | None = None,
) -> None:
    """Make a verified backup now, or a bundle that another machine can restore."""
    session.refuse_remote("A backup")
    if name is not None and out is None:
        out = f"{name}.tar.gz"
    if out is None:
        if with_keys or passphrase_file:
            raise click.UsageError("--with-keys and --passphrase-file are about a bundle: add --out FILE.")
        _make(session)
        return
    if passphrase_file is not None and not with_keys:
        raise click.UsageError("--passphrase-file goes with --with-keys.")
    _bundle(session, Path(out), passphrase_file, with_keys=with_keys)


def _make(session: Session) -> None:
    with session.progress("Making a backup"):
        done = session.api.send("PUT", _PATH)
    if not done["created"]:
        session.notice("Nothing has changed since the newest backup, so none was made.")
        if session.form is not Form.TABLE:
            session.print_fields(done, {})
        return
    settings = session.local_settings()
    made = {**done["backup"], "path": str(settings.data_dir / "backups" / done["backup"]["filename"])}
    labels = {"path": "File", "sizeBytes": "Bytes", "verified": "Verified", "connectionCount": "Accounts"}
    session.print_fields(made, labels)


def _bundle(session: Session, target: Path, passphrase_file: str | None, *, with_keys: bool) -> None:
    from omniroute.cli.local import open_services
    from omniroute.secret import Secret
    from omniroute.services.keys import SYSTEM

    if target.exists():
        raise Failure(f"{target} exists; give another name.", Exit.MISUSE)
    passphrase = None
    if with_keys:
        text = read_secret(
            file=passphrase_file,
            prompt="Passphrase for the encryption key: ",
            missing="--with-keys needs a passphrase: add --passphrase-file FILE.",
        )
        passphrase = Secret(text)
    with open_services(session.data_dir) as services, session.progress("Writing the bundle"):
        key = services.encryption_keys.present() if with_keys else None
        if with_keys and key is None:
            raise Failure("The encryption key is missing here, so it cannot be put into the bundle.")
        made = services.exports.bundle(target.absolute(), SYSTEM, key=key, passphrase=passphrase)
    if not made.has_key:
        session.notice("Warning: credentials in it open only with the encryption key of this machine (--with-keys).")
    facts = {"path": str(made.path), "sizeBytes": made.size_bytes, "withKey": made.has_key}
    session.print_fields(facts, {"path": "File", "sizeBytes": "Bytes", "withKey": "With key"})


@command.command("list")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at most. Default: all.")
@pass_session
def list_backups(session: Session, limit: int | None) -> None:
    """List the backups, the newest first."""
    session.print_rows("backups", session.api.rows(_PATH, "backups", limit=limit), _COLUMNS)


@command.command("delete")
@click.argument("backup")
@pass_session
def delete(session: Session, backup: str) -> None:
    """Remove a backup. BACKUP is its id."""
    session.confirm(f"Remove the backup {backup}?")
    session.api.send("DELETE", f"{_PATH}/{backup}")
    session.notice(f"Removed {backup}.")


@command.command("schedule")
@click.argument("cron")
@pass_session
def schedule(session: Session, cron: str) -> None:
    """Make backups by themselves: CRON has five fields, such as '0 3 * * *', or is `off`."""
    policy = session.api.send("PATCH", _PATH, {"schedule": cron})["policy"]
    session.notice(f"The next one is made at {policy['nextRunAt']}." if policy["nextRunAt"] else "None is made now.")
    if session.form is not Form.TABLE:
        session.print_fields(policy, {})


@click.command("restore")
@click.argument("backup", required=False)
@click.option("--list", "lists", is_flag=True, help="List what can be restored.")
@click.option("--replace-access", is_flag=True, help="Take password, sessions and tokens from it as well.")
@click.option("--encryption-key-file", metavar="FILE", help="The key that its credentials were stored with.")
@click.option("--passphrase-file", metavar="FILE", help="What opens the key inside a bundle.")
@pass_session
def restore(
    session: Session,
    backup: str | None,
    *,
    lists: bool,
    replace_access: bool,
    encryption_key_file: str | None,
    passphrase_file: str | None,
) -> None:
    """Put the data of a backup in the place of the present data, which is backed up first.

    BACKUP is an id, a time, or a file: a `.sqlite` export or a bundle of `backup create --out`. Without it there is a
    list to choose from. Password, sessions, tokens and settings of security stay, unless --replace-access is given.
    """
    session.refuse_remote("Restoring")
    if lists:
        session.print_rows("backups", session.api.rows(_PATH, "backups"), _COLUMNS)
        return
    key = _read_key(encryption_key_file)
    if not _opens(session):
        _recover(session, backup, key)
        return
    wanted = backup or _choose(session)
    session.confirm(f"Replace the present data by that of {wanted}? It is backed up first.")
    if Path(wanted).is_file():
        done = _restore_file(session, Path(wanted), key, passphrase_file, replace_access=replace_access)
    else:
        body: dict[str, Any] = {"backupId": wanted}
        if key is not None:
            body["encryptionKey"] = key.reveal()
        if replace_access:
            body["replaceAccess"] = True
        with session.progress("Restoring"):
            done = session.api.send("POST", _PATH, body)
    _show(session, done)


def _opens(session: Session) -> bool:
    """Say whether the database can be used at all; asking is also what migrates it."""
    from omniroute.errors import ConfigurationError

    try:
        session.api.get("/api/init")
    except ConfigurationError as error:
        session.notice(error.message)
        return False
    return True


def _recover(session: Session, backup: str | None, key: Secret | None) -> None:
    """Put a backup in the place of a database that does not open, which stays beside it."""
    from omniroute.services.restore import recover

    settings = session.local_settings()
    folder = settings.data_dir / "backups"
    if backup is None:
        names = ", ".join(sorted((file.name for file in folder.glob("db_*")), reverse=True)[:5]) or "none"
        raise Failure(f"Say which backup to put in its place. The newest in {folder}: {names}.", Exit.MISUSE)
    source = Path(backup) if Path(backup).is_file() else folder / backup
    if not source.is_file():
        raise Failure(f"There is no backup {backup!r} in {folder}.", Exit.MISUSE)
    session.confirm(f"Put {source.name} in the place of the database that does not open? That one stays beside it.")
    done = recover(settings, source, encryption_key=key)
    if done.aside is not None:
        session.notice(f"The database that does not open: {done.aside}")
    counts = {
        "connectionCount": done.counts.connections,
        "nodeCount": done.counts.nodes,
        "comboCount": done.counts.combos,
        "apiKeyCount": done.counts.api_keys,
        "credentialsReadable": done.counts.credentials_readable,
        "credentialsUnreadable": done.counts.credentials_unreadable,
    }
    _show(session, {"restored": True, **counts, "safetyBackup": None})


def _choose(session: Session) -> str:
    rows = session.api.rows(_PATH, "backups")
    if not rows:
        raise Failure("There is no backup yet. Make one with: omniroute backup", Exit.MISUSE)
    if not sys.stdin.isatty():
        raise Failure("Say which backup to restore; 'omniroute restore --list' lists them.", Exit.MISUSE)
    numbered = [{"number": number, **row} for number, row in enumerate(rows, 1)]
    print_rows(Form.TABLE, "backups", numbered, {"number": "#", **_COLUMNS})
    number: int = click.prompt("Which one?", type=click.IntRange(1, len(rows)), default=1, err=True)
    return str(rows[number - 1]["id"])


def _read_key(path: str | None) -> Secret | None:
    from omniroute.secret import Secret

    if path is None:
        return None
    return Secret(read_secret(file=path, missing=f"{path} is empty."))


def _restore_file(
    session: Session, path: Path, key: Secret | None, passphrase_file: str | None, *, replace_access: bool
) -> Mapping[str, Any]:
    """Restore from a file through the services: what it may bring along is more than an upload may."""
    from omniroute.cli.local import open_services
    from omniroute.services.keys import SYSTEM

    with open_services(session.data_dir) as services, session.progress("Restoring"):
        imports = services.imports
        with imports.receiving() as directory:
            file, wrapped = _unpacked(path, directory, imports.most_bytes)
            if wrapped is not None and key is None:
                key = _unwrapped(wrapped, passphrase_file)
            done = imports.run(file, file.name, directory, SYSTEM, encryption_key=key, replace_access=replace_access)
    counts = done.counts
    return {
        "restored": True,
        "connectionCount": counts.connections,
        "nodeCount": counts.nodes,
        "comboCount": counts.combos,
        "apiKeyCount": counts.api_keys,
        "credentialsReadable": counts.credentials_readable,
        "credentialsUnreadable": counts.credentials_unreadable,
        "safetyBackup": {"id": done.safety.id} if done.safety is not None else None,
    }


def _unpacked(path: Path, directory: Path, most_bytes: int) -> tuple[Path, str | None]:
    """Return the database of a file, and the wrapped key beside it in a bundle."""
    from omniroute.services import archives

    if path.suffix not in (".gz", ".tgz"):
        return path, None
    inside = directory / "bundle"
    inside.mkdir(mode=0o700)
    found = archives.unpack(path, inside, most_bytes=most_bytes)
    return found.database, found.wrapped_key


def _unwrapped(wrapped: str, passphrase_file: str | None) -> Secret:
    from omniroute.secret import Secret
    from omniroute.services.encryption_keys import unwrap_key

    text = read_secret(
        file=passphrase_file,
        prompt="Passphrase of the key in the bundle: ",
        missing="The bundle holds a wrapped key: add --passphrase-file FILE.",
    )
    return Secret(unwrap_key(wrapped, Secret(text)).hex())


def _show(session: Session, done: Mapping[str, Any]) -> None:
    if session.form is not Form.TABLE:
        session.print_fields(done, {})
        return
    safety = done.get("safetyBackup") or {}
    session.print_fields({**done, "safetyBackup": safety.get("id")}, _COUNTS)
    unreadable = done.get("credentialsUnreadable") or 0
    if unreadable:
        session.notice(f"Warning: {unreadable} credentials do not open with the encryption key of this machine.")
    session.notice(f"Restored at {datetime.now().astimezone().isoformat(timespec='seconds')}.")

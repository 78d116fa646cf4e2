"""The servers that this person's command line knows: `~/.omniroute/config.json`, and which of them is meant.

    {"version": 1, "currentContext": "vps",
     "contexts": {"default": {"baseUrl": "http://127.0.0.1:20128"},
                  "vps": {"baseUrl": "https://omni.example.com", "accessToken": "oma_live_…", "scope": "write"}}}

The file holds tokens, so only its owner may read it, and it is replaced whole: who reads it sees the old one or the new
one. Members that this version does not know are kept.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from omniroute.cli import Exit, Failure
from omniroute.cli.output import notice

VERSION: Final = 1
LOCAL: Final = "default"
"""The context that always exists and means this machine."""
DEFAULT_PORT: Final = 20128
_LOCAL_URL: Final = f"http://127.0.0.1:{DEFAULT_PORT}"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_READABLE_BY_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_TOKEN: Final = "accessToken"  # noqa: S105 - the name of a member
_API_KEY: Final = "apiKey"
SECRETS: Final = (_TOKEN, _API_KEY)


@dataclass(frozen=True, slots=True)
class Context:
    """One saved server.

    Attributes:
        members: everything that the file says of it, members of other versions included.
    """

    name: str
    base_url: str
    token: str | None
    api_key: str | None
    members: Mapping[str, Any]

    @property
    def is_local(self) -> bool:
        """Whether it means the installation on this machine."""
        return self.name == LOCAL

    @property
    def scope(self) -> str | None:
        """What its token may do, as far as is known here."""
        found = self.members.get("scope")
        return found if isinstance(found, str) else None


class Contexts:
    """The contents of the file, and its changes."""

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self.path = path
        self._document = document

    @property
    def current(self) -> str:
        """The name of the context that is used unless something else is asked for."""
        found = self._document.get("currentContext")
        return found if isinstance(found, str) and found in self.by_name else LOCAL

    @property
    def by_name(self) -> dict[str, Context]:
        """The contexts by name, this machine first."""
        saved = self._document.get("contexts", {})
        return {name: _context(name, saved.get(name, {})) for name in dict.fromkeys((LOCAL, *saved))}

    def get(self, name: str) -> Context:
        """Return a context.

        Raises:
            Failure: there is none of this name.
        """
        found = self.by_name.get(name)
        if found is None:
            known = ", ".join(self.by_name)
            raise Failure(f"There is no context named {name!r}. There are: {known}.", Exit.MISUSE)
        return found


def file_path() -> Path:
    """Return where the contexts are kept."""
    given = os.environ.get("OMNIROUTE_CONFIG")
    return Path(given).expanduser() if given else Path.home() / ".omniroute" / "config.json"


def load(path: Path | None = None) -> Contexts:
    """Read the contexts; a file that others can read is closed to them first.

    Raises:
        Failure: the file cannot be read or is not such a document. It is left as it is.
    """
    path = path or file_path()
    try:
        mode = path.stat().st_mode
        if mode & _READABLE_BY_OTHERS:
            path.chmod(stat.S_IMODE(mode) & ~_READABLE_BY_OTHERS)
            notice(f"Warning: other users could read {path}, which holds tokens. It is closed to them now.")
        raw = path.read_bytes()
    except FileNotFoundError:
        return Contexts(path, {"version": VERSION, "currentContext": LOCAL, "contexts": {}})
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}.", Exit.MISUSE) from error
    return Contexts(path, _checked(path, raw))


def _checked(path: Path, raw: bytes) -> Mapping[str, Any]:
    try:
        document: Any = json.loads(raw)
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Failure(
            f"{path} is not valid JSON{where}. It was left as it is: mend it, or move it away and connect again.",
            Exit.MISUSE,
        ) from error
    contexts = document.get("contexts", {}) if isinstance(document, dict) else None
    if not isinstance(contexts, dict) or not all(isinstance(one, dict) for one in contexts.values()):
        raise Failure(f"{path} does not hold contexts. It was left as it is.", Exit.MISUSE)
    version = document.get("version", VERSION)
    if not isinstance(version, int) or version > VERSION:
        raise Failure(f"{path} was written by a newer version of this command (format {version}).", Exit.MISUSE)
    found: dict[str, Any] = document
    return found


def _context(name: str, members: Mapping[str, Any]) -> Context:
    def text_of(member: str) -> str | None:
        value = members.get(member)
        return value if isinstance(value, str) and value else None

    return Context(name, text_of("baseUrl") or _LOCAL_URL, text_of(_TOKEN), text_of(_API_KEY), members)


def change(edit: Callable[[dict[str, Any]], None], path: Path | None = None) -> Contexts:
    """Apply `edit` to the document while nobody else changes it, and write it, mode 0600.

    Raises:
        Failure: the file cannot be read or written; it is as before then.
    """
    path = path or file_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(path):
            document = json.loads(json.dumps(load(path)._document))  # noqa: SLF001 - a deep copy of plain JSON
            document.setdefault("version", VERSION)
            document.setdefault("contexts", {}).setdefault(LOCAL, {"baseUrl": _LOCAL_URL})
            edit(document)
            _replace(path, json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}.") from error
    return load(path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    # A file of its own: the one that is locked must not be the one that is replaced.
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # made with mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def save(name: str, members: Mapping[str, Any], *, is_current: bool = False) -> Contexts:
    """Add a context or update the members of one; None removes a member.

    Raises:
        Failure: the name is not one, or the file cannot be changed.
    """
    check_name(name)

    def edit(document: dict[str, Any]) -> None:
        context = document["contexts"].setdefault(name, {})
        context.update(members)
        for member in [member for member, value in context.items() if value is None]:
            del context[member]
        if is_current:
            document["currentContext"] = name

    return change(edit)


def check_name(name: str) -> None:
    """Refuse what cannot name a context.

    Raises:
        Failure: saying what can.
    """
    if not _NAME.fullmatch(name):
        raise Failure(f"{name!r} cannot name a context: use up to 64 letters, digits, '.', '_' and '-'.", Exit.MISUSE)


def url_of_host(host: str, port: int | None = None) -> str:
    """Return the base URL that is meant by a bare host, `HOST:PORT`, or a full URL.

    Raises:
        Failure: it is none of these.
    """
    text = host.strip()
    if "://" in text:
        text = text.rstrip("/")
        parts = _parts(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise Failure(f"{host!r} is not the address of a server.", Exit.MISUSE)
        if parts.username is not None or parts.password is not None:
            raise Failure("The address must not hold a user name or password.", Exit.MISUSE)
        return text if port is None else f"{parts.scheme}://{_bracketed(parts.hostname)}:{port}{parts.path}"
    is_bare_ipv6 = text.count(":") > 1 and not text.startswith("[")
    parts = _parts(f"http://[{text}]" if is_bare_ipv6 else f"http://{text}")
    if not parts.hostname or parts.path or parts.username is not None or not re.fullmatch(r"[\w.:-]+", parts.hostname):
        raise Failure(f"{host!r} is not the address of a server.", Exit.MISUSE)
    return f"http://{_bracketed(parts.hostname)}:{port or parts.port or DEFAULT_PORT}"


def _parts(url: str) -> Any:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise Failure(f"{url!r} is not the address of a server.", Exit.MISUSE) from None
    return parts


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL, for comparing."""
    parts = _parts(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

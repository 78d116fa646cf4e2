"""The application log: one line per event, as text or JSON, without secrets. Known to all rings.

Modules log through `logging.getLogger(__name__)`; this module decides where the lines go and what they look like. A
served request is not an event of this log: it is a row of the request log, and the hot path writes nothing at INFO.

Every line passes through :func:`redact` and :func:`escape_control_characters` after it has been put together, so that
neither an argument nor an exception text can bring a credential in, forge a second line or steer a terminal.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TextIO

from omniroute.settings import Settings

request_id: ContextVar[str | None] = ContextVar("omniroute_request_id", default=None)
"""Id of the request that the current greenlet serves. A greenlet that it spawns starts without one and passes
`extra={"request_id": …}` where it logs."""

_QUIET_LIBRARIES: Final = ("alembic", "apscheduler", "urllib3", "sqlalchemy.engine", "sqlalchemy.pool", "werkzeug")
_STANDARD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request_id", "taskName"}


def configure(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Send all logging to stderr and, if wanted, to the log file. Calling it again replaces what it set up before."""
    root = logging.getLogger()
    for own in [h for h in root.handlers if isinstance(h, _OwnStreamHandler | SharedRotatingFileHandler | LastLines)]:
        root.removeHandler(own)
        own.close()
    formatter = JsonFormatter() if settings.app_log_format == "json" else TextFormatter()
    handlers: list[logging.Handler] = [_OwnStreamHandler(stream)]
    refusal: str | None = None
    if settings.app_log_to_file:
        file_handler = SharedRotatingFileHandler(
            settings.log_file, max_bytes=settings.app_log_max_file_size, max_files=settings.app_log_max_files
        )
        try:
            file_handler.open()
        except OSError as error:
            refusal = error.strerror
        else:
            handlers.append(file_handler)
    if len(handlers) == 1:
        handlers.append(LastLines())
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    set_level(settings.app_log_level)
    if refusal is not None:
        logging.getLogger(__name__).warning("The log file cannot be written (%s); stderr has the log.", refusal)


def set_level(name: str) -> None:
    """Write lines of this level and above; libraries that talk much are held at warnings unless all is wanted."""
    level = logging.getLevelNamesMapping()[name.upper()]
    logging.getLogger().setLevel(level)
    for library in _QUIET_LIBRARIES:
        logging.getLogger(library).setLevel(level if level == logging.DEBUG else max(level, logging.WARNING))


def adopt(name: str) -> None:
    """Make a library's logger, which brought handlers of its own, write through ours."""
    logger = logging.getLogger(name)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True


# --- what must not be in a line -----------------------------------------------------------------------------------

_GONE: Final = "[redacted]"
_PATTERNS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), _GONE),
    (re.compile(r"\b(data:[\w.+-]+/[\w.+-]+(?:;[\w=.-]+)*;base64,)[A-Za-z0-9+/=_%-]+"), rf"\1{_GONE}"),
    (re.compile(r"\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=:-]{6,}", re.IGNORECASE), rf"\1{_GONE}"),
    # Ours, then the prefixes by which vendors mark theirs.
    (re.compile(r"\b(oma_live_|oms_live_)[A-Za-z0-9_-]+"), rf"\1{_GONE}"),
    (re.compile(r"\b(sk-|rk-|pk-lf-|xai-|gsk_|hf_|nvapi-|pplx-|r8_|tgp_v1_)[A-Za-z0-9_-]{8,}"), rf"\1{_GONE}"),
    (re.compile(r"\b(gh[opsur]_|github_pat_|glpat-|xox[abps]-)[A-Za-z0-9_-]{10,}"), rf"\1{_GONE}"),
    (re.compile(r"\b(AIza|ya29\.|AKIA|ASIA)[A-Za-z0-9._-]{12,}"), rf"\1{_GONE}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"), _GONE),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+@"), rf"\1{_GONE}@"),
    (
        re.compile(
            r"""(?ix) ( (?:\b|_) (?:api[-_]?key | access[-_]?token | refresh[-_]?token | client[-_]?secret | password
                | passwd | secret | token | authorization | (?:set-)?cookie ) ["']? \s* [:=] \s* ["']? )
                (?! \[redacted | (?:bearer|basic)\s ) [^\s"',;&}]{6,}"""
        ),
        rf"\1{_GONE}",
    ),
)


def redact(text: str) -> str:
    """Return `text` with everything taken out that looks like a credential or a body of data."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


_DANGEROUS: Final = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        0x061C,  # the bidirectional marks reorder what a terminal shows
        *range(0x200E, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
        *range(0xD800, 0xE000),  # lone surrogates cannot be written as UTF-8
    )
} | {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}


def escape_control_characters(text: str) -> str:
    """Return `text` on one line, with control characters and text-direction marks spelt out."""
    return text.translate(_DANGEROUS)


# --- form of a line -----------------------------------------------------------------------------------------------


def _timestamp(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _request_id(record: logging.LogRecord) -> str | None:
    given: str | None = getattr(record, "request_id", None)
    return given or request_id.get()


def _extras(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    for name, value in vars(record).items():
        if name not in _STANDARD_FIELDS and not name.startswith("_"):
            yield name, value


def _clean(text: str) -> str:
    return escape_control_characters(redact(text))


class _Formatter(logging.Formatter):
    def _traceback(self, record: logging.LogRecord) -> str | None:
        # Not kept in record.exc_text as the base class does: another handler would take the unredacted text over.
        parts = []
        if record.exc_info:
            parts.append(self.formatException(record.exc_info))
        if record.stack_info:
            parts.append(self.formatStack(record.stack_info))
        return redact("\n".join(parts)) if parts else None


class TextFormatter(_Formatter):
    """`time level logger [request] message name=value`, a traceback on indented lines below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        request = _request_id(record)
        pieces = [_timestamp(record), f"{record.levelname:<7}", record.name]
        if request:
            pieces.append(f"[{_clean(request)}]")
        pieces.append(_clean(record.getMessage()))
        # Redacted together with its name: what is called `token` gives its value away by that.
        pieces.extend(_clean(f"{name}={value}") for name, value in _extras(record))
        line = " ".join(pieces)
        traceback = self._traceback(record)
        if traceback:
            line += "".join(f"\n    | {escape_control_characters(part)}" for part in traceback.split("\n"))
        return line


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        entry: dict[str, Any] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _clean(record.getMessage()),
        }
        if request := _request_id(record):
            entry["requestId"] = _clean(request)
        for name, value in _extras(record):
            if isinstance(value, bool | int | float) or value is None:
                entry.setdefault(name, value)
            else:
                entry.setdefault(name, _clean(f"{name}={value}").removeprefix(f"{name}="))
        traceback = self._traceback(record)
        if traceback:
            entry["traceback"] = [escape_control_characters(part) for part in traceback.split("\n")]
        return json.dumps(entry, ensure_ascii=False)


# --- where lines go -----------------------------------------------------------------------------------------------


class _OwnStreamHandler(logging.Handler):
    """Writes to the given stream, or to whatever `sys.stderr` is at that moment."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            stream = self._stream or sys.stderr
            stream.write(self.format(record) + "\n")
            stream.flush()
        except Exception:  # noqa: BLE001 -- logging must never fail its caller
            self.handleError(record)


class LastLines(logging.Handler):
    """Keeps the last lines of this process, for those who want to see them where no file has them."""

    def __init__(self, most: int = 1000, longest: int = 4096) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=most)
        self._longest = longest
        self._number = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        try:
            self._lines.append(self.format(record)[: self._longest])
            self._number += 1
        except Exception:  # noqa: BLE001 -- logging must never fail its caller
            self.handleError(record)

    def after(self, number: int) -> tuple[list[str], int]:
        """Return the lines after the first so many that there have been, and how many there have been."""
        new = min(len(self._lines), max(0, self._number - number))
        return (list(self._lines)[-new:] if new else []), self._number


def last_lines() -> LastLines | None:
    """Return where this process keeps its last lines; None where a file has them."""
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, LastLines)), None)


class SharedRotatingFileHandler(logging.Handler):
    """A log file that several worker processes append to and that any of them may rotate.

    Each line is one `write` to a file opened for appending, so lines of different processes do not mix. Before writing,
    a process compares the file it holds with the one at the path, and opens the new one if another process has rotated.
    Rotation happens under a lock on a file beside the log and is decided again once the lock is held.
    """

    def __init__(self, path: Path, *, max_bytes: int, max_files: int) -> None:
        super().__init__()
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._descriptor: int | None = None

    def open(self) -> int:
        """Create or open the file, readable by its owner only, and return its descriptor.

        Raises:
            OSError: The directory or file cannot be made.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._descriptor = descriptor
        return descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Append one record; a failure to write is reported on stderr by the base class."""
        try:
            line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            descriptor = self._current_file()
            if os.fstat(descriptor).st_size + len(line) > self._max_bytes:
                descriptor = self._rotate(len(line))
            os.write(descriptor, line)
        except Exception:  # noqa: BLE001 -- logging must never fail its caller
            self.handleError(record)

    def close(self) -> None:
        """Close the file."""
        self.acquire()
        try:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
        finally:
            self.release()
        super().close()

    def _current_file(self) -> int:
        if self._descriptor is not None:
            held = os.fstat(self._descriptor)
            with contextlib.suppress(FileNotFoundError):
                at_path = self._path.stat()
                if (held.st_dev, held.st_ino) == (at_path.st_dev, at_path.st_ino):
                    return self._descriptor
            os.close(self._descriptor)
            self._descriptor = None
        return self.open()

    def _rotate(self, needed: int) -> int:
        lock_path = self._path.with_name(self._path.name + ".lock")
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            descriptor = self._current_file()
            size = os.fstat(descriptor).st_size
            if size == 0 or size + needed <= self._max_bytes:
                return descriptor
            self._shift()
            return self._current_file()
        finally:
            os.close(lock)

    def _shift(self) -> None:
        """Move `log` to `log.1`, `log.1` to `log.2` and so on; the oldest one is overwritten or removed."""
        if self._max_files == 1:
            self._path.unlink(missing_ok=True)
            return
        for number in range(self._max_files - 1, 0, -1):
            younger = self._path if number == 1 else self._numbered(number - 1)
            with contextlib.suppress(FileNotFoundError):
                younger.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

"""Files that arrive in multipart bodies: bounded while they are read, and written where the caller of this says."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from flask import Request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from omniroute.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType, ValidationFailed

OVERHEAD_BYTES: Final = 64 * 1024
"""What boundaries, headers and short fields may take beside the file."""
_MOST_PARTS: Final = 8
_MOST_HELD_BYTES: Final = 256 * 1024
_LONGEST_FIELD: Final = 4096
_CHUNK: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has arrived, and the fields beside it."""

    path: Path
    filename: str
    fields: Mapping[str, str]


class _TooLarge(Exception):
    """More comes than may."""


class _Bounded(io.FileIO):
    """A new file that takes so many bytes and no more."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        super().__init__(path, "x+", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC, 0o600))
        self._room = most_bytes

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        self._room -= size
        if self._room < 0:
            raise _TooLarge
        return super().write(data)


def receive(request: Request, target: Path, *, most_bytes: int, field: str, beside: Collection[str] = ()) -> Upload:
    """Read a multipart body with one file into `target`, which is new and private.

    Args:
        request: the request.
        target: where the file goes.
        most_bytes: the largest file.
        field: the name of the file's part.
        beside: names of text parts that may come with it.

    Raises:
        UnsupportedMediaType: the body is not multipart.
        RequestTooLarge: the file is larger; reading stops there.
        InvalidRequest: the body is malformed.
        ValidationFailed: the file is missing, or there are other parts.
    """
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("Send the file as multipart/form-data.")
    try:
        with ExitStack() as opened:
            form, files = _parsed(request, target, most_bytes, opened)
            _check_parts(form, files, field, beside)
            if not target.exists():  # the form had been read before
                copy = opened.enter_context(_Bounded(target, most_bytes))
                while chunk := files[field].stream.read(_CHUNK):
                    copy.write(chunk)
    except (RequestEntityTooLarge, _TooLarge):
        raise RequestTooLarge(f"The file is larger than {most_bytes} bytes.", code="too_large") from None
    except ValueError:
        raise InvalidRequest("The multipart body cannot be read.", code="invalid_multipart") from None
    return Upload(target, files[field].filename or "", form.to_dict())


_Parts = tuple[MultiDict[str, str], MultiDict[str, FileStorage]]


def _parsed(request: Request, target: Path, most_bytes: int, opened: ExitStack) -> _Parts:
    if "form" in vars(request):  # who checks a CSRF token looks there first
        return request.form, request.files

    def new_file(
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        del total_content_length, content_type, filename, content_length  # what is written is counted instead
        if target.exists():
            raise ValueError("a second file")
        return cast("IO[bytes]", opened.enter_context(_Bounded(target, most_bytes)))

    parser = FormDataParser(new_file, _MOST_HELD_BYTES, silent=False, max_form_parts=_MOST_PARTS)
    _, form, files = parser.parse(
        request.stream, request.mimetype, request.content_length, dict(request.mimetype_params)
    )
    return form, files


def _check_parts(
    form: MultiDict[str, str], files: MultiDict[str, FileStorage], field: str, beside: Collection[str]
) -> None:
    wrong = [(name, "unknown field") for name in form if name not in beside]
    wrong += [(name, "is too long") for name, value in form.items() if len(value) > _LONGEST_FIELD]
    wrong += [(name, "is given twice") for name in form if len(form.getlist(name)) > 1]
    wrong += [(name, "unknown file") for name in files if name != field]
    if len(files.getlist(field)) != 1:
        wrong.append((field, "is required, once"))
    if wrong:
        raise ValidationFailed([{"field": str(name)[:100], "message": message} for name, message in wrong[:20]])

"""What a provider's error body says, whatever its shape: codes, a sentence, a parameter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

_MAX_MESSAGE: Final = 1000
_MAX_READ: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer says about its failure, whatever the dialect."""

    codes: tuple[str, ...] = ()
    """Code, type and reasons in lower case, the most specific first."""
    code: str | None = None
    """The most specific of them as it was spelt."""
    message: str = ""
    param: str | None = None
    error: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of a provider behind the one that answered, in lower case."""
    is_html: bool = False
    is_readable: bool = True


def read_error(body: bytes, named: str = "") -> Said:
    """Find code, sentence and parameter in an error body of any known shape.

    `named` is what a header says the type of the error is.
    """
    said = _read(body, is_inner=False)
    name = named.partition(":")[0].strip()
    if not name:
        return said
    return replace(said, codes=(*said.codes, name.lower()), code=said.code or name)


def _read(body: bytes, *, is_inner: bool) -> Said:
    text = body[:_MAX_READ].strip()
    if not text:
        return Said(is_readable=False)
    if text[:1] == b"<":
        return Said(is_html=True, is_readable=False)
    try:
        document = msgspec.json.decode(text)
    except UnicodeDecodeError:  # some hosts write their own country's encoding; what is ASCII of it can still be read
        return _read(text.decode("utf-8", "replace").encode(), is_inner=is_inner)
    except (msgspec.DecodeError, RecursionError):
        sentence = text.decode("utf-8", "replace")
        return Said(message=sentence, is_readable=False)
    if isinstance(document, list):  # one vendor wraps its error into a list
        document = document[0] if document else None
    if not isinstance(document, dict):
        return Said(is_readable=False)
    said = _read_document(document)
    return said if is_inner else _with_inner(said)


def _with_inner(said: Said) -> Said:
    """Return what the provider behind a reseller said, where the reseller only repeats it.

    The sentence of the one that knows is what agents act on; the reseller's own codes come after it.
    """
    metadata = said.error.get("metadata")
    if not isinstance(metadata, dict):
        return said
    headers = metadata.get("headers")
    if isinstance(headers, dict):
        lower = {str(name).lower(): str(value) for name, value in headers.items()}
        said = replace(said, headers=lower)
    raw = metadata.get("raw")
    if not isinstance(raw, str) or not raw:
        return said
    inner = _read(raw.encode("utf-8", "replace"), is_inner=True)
    if inner.is_html or not inner.message:
        return said
    return replace(
        said,
        codes=(*inner.codes, *said.codes),
        code=inner.code or said.code,
        message=inner.message,
        param=inner.param or said.param,
        error={**said.error, **inner.error},
    )


def _read_document(document: Mapping[str, Any]) -> Said:
    error = _error_object(document)
    codes = [
        *_codes(error, "code", "error_code", "status_code", "reason"),
        *_reasons(error),
        *_codes(error, "status", "type", "__type", "error_type"),
    ]
    texts = _texts(error, "message", "error_msg", "status_msg", "msg", "detail", "error")
    message, param = (texts[0], None) if texts else _detail(error.get("detail"))
    return Said(
        codes=tuple(code.rpartition("#")[2].lower() for code in codes),
        code=next((code for code in codes if not code.isdigit()), codes[0] if codes else None),
        message=message,
        param=next(iter(_texts(error, "param")), None) or param or _violated(error),
        error=error if error is document else {**document, **error},
    )


def _error_object(document: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("error", "base_resp", "detail"):
        inner = document.get(name)
        if isinstance(inner, dict):
            return inner
    response = document.get("response")
    if isinstance(response, dict) and isinstance(response.get("error"), dict):
        return response["error"]  # type: ignore[no-any-return]
    errors = document.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return errors[0]
    return document


def _texts(error: Mapping[str, Any], *names: str) -> list[str]:
    return [value for name in names if isinstance(value := error.get(name), str) and value]


def _codes(error: Mapping[str, Any], *names: str) -> list[str]:
    found = (error.get(name) for name in names)
    return [str(value) for value in found if value and isinstance(value, str | int) and not isinstance(value, bool)]


def _reasons(error: Mapping[str, Any]) -> list[str]:
    inner = error.get("innererror")
    found = _codes(inner, "code") if isinstance(inner, dict) else []
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            found += _codes(detail, "reason")
    return found


def _detail(detail: Any) -> tuple[str, str | None]:
    """Read the list of faults that a common web framework answers with: the first sentence, and the path of it."""
    if not (isinstance(detail, list) and detail and isinstance(detail[0], dict)):
        return "", None
    place = detail[0].get("loc")
    path = [str(part) for part in place[1:]] if isinstance(place, list) else []
    return " ".join(_texts(detail[0], "msg")), ".".join(path) or None


def _violated(error: Mapping[str, Any]) -> str | None:
    """Return the field that a structured detail of the error names."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        violations = detail.get("fieldViolations") if isinstance(detail, dict) else None
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict) and (named := _texts(violation, "field")):
                return named[0]
    return None


_MAX_LINK: Final = 500


def link_in(error: Mapping[str, Any]) -> str | None:
    """Return where a structured detail of the error sends the account's owner."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        metadata, links = detail.get("metadata"), detail.get("links")
        found = [metadata.get("validation_url")] if isinstance(metadata, dict) else []
        if isinstance(links, list):
            found += [link.get("url") for link in links if isinstance(link, dict)]
        for url in found:
            if isinstance(url, str) and len(url) <= _MAX_LINK and _LINK.fullmatch(url):
                return url
    return None


_LINK: Final = re.compile(r"https://[!-~]+")
_PATH: Final = re.compile(r"([a-z][a-zA-Z0-9_]{1,40}(?:\.[a-zA-Z0-9_]{1,40}){0,8}): ")
_QUOTED_NAME: Final = re.compile(
    r"(?:parameter|argument|field|keyword|name|key)s?:? [\[\"'`]?(?P<after>[a-zA-Z_][a-zA-Z0-9_.]{1,60})"
    r"|[\"'`](?P<before>[a-zA-Z_][a-zA-Z0-9_.]{1,60})[\"'`]? (?:parameter|argument|field)",
    re.IGNORECASE,
)
_NO_NAMES: Final = frozenset({"is", "supplied", "must", "in", "for", "not", "was", "value", "are", "name"})


def named_in(message: str) -> str | None:
    """Return the parameter that a sentence names: in front of a colon, or in words."""
    path = _PATH.match(message)
    if path is not None:
        return path[1]
    for found in _QUOTED_NAME.finditer(message):
        name = found["after"] or found["before"]
        if name.lower() not in _NO_NAMES:
            return name
    return None


_SECRET: Final = re.compile(
    r"(?i:bearer|basic|key|token)[ :=]+[A-Za-z0-9._~+/=-]{12,}"
    r"|\b(?:sk|pk|rk|gsk|xai|hf|ghp|gho|r8|nvapi|pplx|AIza|ya29|eyJ)[-_.A-Za-z0-9*…]{12,}"
    r"|\b[A-Fa-f0-9]{32,}\b"
    # Which organisation or project of the vendor's is ours is nothing for callers.
    r"|\b(?:org|proj|team)[-_][A-Za-z0-9]{8,}\b|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"
)
_ADDRESS: Final = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,12}://[^\s'\"<>)\]]+|\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?::[0-9]{1,5})?\b", re.IGNORECASE
)
_BREAKS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")


def showable(message: str) -> str:
    """Return a provider's sentence as callers may see it: one line, no key, no address, at most 1,000 characters."""
    line = _BREAKS.sub(" ", message[: 4 * _MAX_MESSAGE]).strip()
    line = _ADDRESS.sub("…", _SECRET.sub("…", line))
    return line if len(line) <= _MAX_MESSAGE else line[: _MAX_MESSAGE - 1] + "…"
